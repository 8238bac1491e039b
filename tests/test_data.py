"""The embedded data, splits, windows, toy tasks and the resumable cursor."""

import gzip
import hashlib
import json
import math
import sys
import types
from importlib import resources

from tinygrad_notes import data

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

SAMPLERS = [data.gaussian_ring, data.two_moons, data.checkerboard, data.swiss_roll]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def one_line(caught) -> bool:
    return "\n" not in str(caught.value) and "expected" in str(caught.value) and ";" in str(caught.value)


# --- text -----------------------------------------------------------------------------------


def test_manual():
    text = data.manual()
    assert 300_000 < len(text) < 2_000_000
    assert text.startswith('The "assert" statement\n') and "for_stmt" in text
    if sys.version_info[:2] == (3, 11):
        assert abs(len(text) - 465_048) < 5_000


def test_manual_is_in_the_order_of_names(monkeypatch):
    module = types.ModuleType("pydoc_data.topics")
    module.topics = {"b": "second\n", "a": "first\n"}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    assert data.manual() == "first\n\nsecond\n"


@pytest.mark.parametrize("module", [None, types.ModuleType("pydoc_data.topics")])
def test_manual_on_a_python_without_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    with pytest.raises(RuntimeError, match="this Python has no pydoc_data") as caught:
        data.manual()
    assert one_line(caught)


def test_read_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("naïve\r\n猫".encode())
    assert data.read_text(path) == data.read_text(str(path), context=6) == "naïve\n猫"


@pytest.mark.parametrize(
    ("content", "context", "error", "message"),
    [
        (None, 1, FileNotFoundError, "does not exist"),
        (b"", 1, ValueError, "is empty"),
        (b"caf\xe9 au lait", 1, ValueError, "not UTF-8 .byte 0xe9 at 3"),
        (b"twelve bytes", 12, ValueError, "12 characters, expected more than the context of 12"),
    ],
)
def test_read_text_errors(tmp_path, content, context, error, message):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        data.read_text(path, context)
    assert one_line(caught)


def test_read_text_of_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder") as caught:
        data.read_text(tmp_path)
    assert one_line(caught)


def test_split():
    assert data.split("abcdefghij") == ("abcdefghi", "j")
    train, held_out = data.split(np.arange(8), 0.25)
    assert train.tolist() == [0, 1, 2, 3, 4, 5] and held_out.tolist() == [6, 7]
    for text, share in (("ab", 0.0), ("ab", 1.0), ("", 0.5), ("ab", 0.9)):
        with pytest.raises(ValueError, match="split: held_out is") as caught:
            data.split(text, share)
        assert one_line(caught)


def test_batches_are_windows():
    ids = np.arange(100, 120)
    stream = data.batches(ids, 64, 5, rng())
    x, y = next(stream)
    assert x.shape == y.shape == (64, 5) and x.dtype == np.int64
    assert (y == x + 1).all() and (np.diff(x, axis=1) == 1).all()
    starts = np.concatenate([next(stream)[0][:, 0] for _ in range(20)])
    assert set(starts.tolist()) == set(range(100, 115))  # the last window ends at the last id


def test_batches_resume_from_the_state_of_the_rng():
    ids, generator = np.arange(50), rng(3)
    stream = data.batches(ids, 4, 6, generator)
    next(stream)
    state = generator.bit_generator.state
    expected = [next(stream)[0] for _ in range(3)]
    again = rng(9)
    again.bit_generator.state = state
    for x, (got, _) in zip(expected, data.batches(ids, 4, 6, again)):
        assert np.array_equal(x, got)


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 20))
def test_windows_cover_each_position_once(n, batch, context):
    ids = np.arange(n) * 7
    if n <= context:
        with pytest.raises(ValueError, match="windows: ids have shape") as caught:
            data.windows(ids, batch, context)
        assert one_line(caught)
        return
    pairs = list(data.windows(ids, batch, context))
    assert all(x.shape == y.shape and x.shape[0] <= batch and x.shape[1] <= context for x, y in pairs)
    assert np.concatenate([y.ravel() for _, y in pairs]).tolist() == ids[1:].tolist()
    assert np.concatenate([x.ravel() for x, _ in pairs]).tolist() == ids[:-1].tolist()
    assert sum(x.shape != (batch, context) for x, _ in pairs) <= 2


@pytest.mark.parametrize(
    ("ids", "batch", "context"), [(np.arange(5), 1, 5), (np.arange(5), 0, 2), (np.arange(5), 1, 0), (np.zeros((3, 3)), 1, 1)]
)
def test_batches_refuse_at_once(ids, batch, context):
    with pytest.raises(ValueError, match="batches: ids have shape") as caught:
        data.batches(ids, batch, context, rng())
    assert one_line(caught)


# --- digits -----------------------------------------------------------------------------------


def test_digits_are_the_published_numbers():
    folder = resources.files("tinygrad_notes").joinpath("assets")
    packed, readme = folder.joinpath("digits.gz").read_bytes(), folder.joinpath("README.md").read_text("utf-8")
    for content in (packed, gzip.decompress(packed)):
        assert hashlib.sha256(content).hexdigest() in readme
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_digits():
    images, labels = data.digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float32 and labels.shape == (1797,) and labels.dtype == np.int64
    assert images.min() == 0 and images.max() == 1 and np.array_equal(images * 16, np.round(images * 16))
    assert (images * 16).sum() == 561_718
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images[0] * 16).astype(int)[:2].tolist() == [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    images[:] = 0  # the caller's own copy
    assert data.digits()[0].max() == 1


def test_digits_split_at_a_form():
    train, train_labels, test, test_labels = data.digits_split()
    images, labels = data.digits()
    assert np.array_equal(np.concatenate([train, test]), images) and np.array_equal(np.concatenate([train_labels, test_labels]), labels)
    assert len(test) == 382 and np.array_equal(test_labels[:60], labels[:60])  # every form has the digits in the same order
    distance = ((test[:, None] - train[None]) ** 2).sum((2, 3))
    assert round(100 * float((train_labels[distance.argmin(1)] == test_labels).mean()), 1) == 95.8


# --- points -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sampler):
    points, labels = sampler(500, rng(1))
    assert points.shape == (500, 2) and points.dtype == np.float32 and labels.shape == (500,)
    assert labels.dtype == (np.float32 if sampler is data.swiss_roll else np.int64)
    again, same = sampler(500, rng(1))
    assert np.array_equal(points, again) and np.array_equal(labels, same)
    assert not np.array_equal(points, sampler(500, rng(2))[0])
    assert sampler(0, rng())[0].shape == (0, 2)


def test_gaussian_ring():
    points, mode = data.gaussian_ring(8000, rng(), modes=5, radius=3.0, std=0.2)
    assert set(mode.tolist()) == set(range(5))
    for k in range(5):
        own = points[mode == k]
        centre = [3 * math.cos(2 * math.pi * k / 5), 3 * math.sin(2 * math.pi * k / 5)]
        assert abs(own.mean(0) - centre).max() < 0.03 and abs(own.std(0) - 0.2).max() < 0.02


def test_two_moons():
    points, moon = data.two_moons(2000, rng(), noise=0.0)
    for k, centre, sign in ((0, (0, 0), 1), (1, (1, 0.5), -1)):
        arm = points[moon == k] - np.array(centre, np.float32)
        assert np.allclose(np.hypot(arm[:, 0], arm[:, 1]), 1, atol=1e-5) and (sign * arm[:, 1] > -1e-6).all()
        assert arm[:, 0].min() < -0.99 and arm[:, 0].max() > 0.99
    noisy = data.two_moons(2000, rng(), noise=0.3)[0]
    assert abs((noisy - points).std() - 0.3) < 0.02  # the same draws, then the noise


def test_checkerboard():
    points, square = data.checkerboard(4000, rng(), squares=4)
    column, row = np.floor(points.T + 2).astype(int)
    assert ((column + row) % 2 == 0).all() and np.array_equal(square, column + 4 * row)
    assert len(set(square.tolist())) == 8 and abs(points).max() <= 2
    inside = points + 2 - np.floor(points + 2)
    assert abs(inside.mean(0) - 0.5).max() < 0.02


def test_swiss_roll():
    points, place = data.swiss_roll(3000, rng(), noise=0.0)
    radius = np.hypot(points[:, 0], points[:, 1])
    assert np.allclose(radius, 2 * (1 + 2 * place) / 3, atol=1e-5)
    angle = np.arctan2(points[:, 1], points[:, 0]) - 1.5 * math.pi * (1 + 2 * place)
    assert np.allclose(np.cos(angle), 1, atol=1e-4)
    assert place.min() < 0.01 and place.max() > 0.99


# --- sequences ------------------------------------------------------------------------------------


def test_sequence_tasks():
    for task, rule in ((data.copy_task, lambda row: row), (data.reverse_task, lambda row: row[::-1]), (data.sort_task, sorted)):
        x, y = task(200, 7, 5, rng())
        assert x.shape == y.shape == (200, 7) and x.dtype == y.dtype == np.int64
        assert set(x.ravel().tolist()) == set(range(5))
        assert y.tolist() == [list(rule(row)) for row in x.tolist()]
        assert not np.shares_memory(x, y)


@pytest.mark.parametrize("width", [1, 2, 5, 18])
def test_addition_task(width):
    x, y = data.addition_task(300, width, rng())
    assert x.shape == (300, 2 * width + 2) and y.shape == (300, width + 1) and x.dtype == y.dtype == np.int64
    carries = 0
    for question, answer in zip(x, y):
        text = "".join(data.ADDITION_SYMBOLS[i] for i in question)
        a, b = text.removesuffix("=").split("+")
        assert len(a) == len(b) == width
        assert "".join(data.ADDITION_SYMBOLS[i] for i in answer) == str(int(a) + int(b)).zfill(width + 1)
        carries += int(answer[0])
    assert 0 < carries < 300


def test_addition_task_errors():
    for width in (0, 19):
        with pytest.raises(ValueError, match=f"width is {width}") as caught:
            data.addition_task(1, width, rng())
        assert one_line(caught)


# --- epochs ---------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 25))
def test_each_epoch_holds_every_index_once(n, batch):
    cursor = data.minibatches(n, batch, rng())
    for epoch in range(3):
        seen = []
        while len(seen) < n:
            index = next(cursor)
            assert cursor.epoch == epoch and len(index) == min(batch, n - len(seen))
            seen += index.tolist()
            assert cursor.position == len(seen)
        assert sorted(seen) == list(range(n))


def test_epochs_are_shuffled_anew():
    cursor = data.minibatches(100, 100, rng())
    first, second = next(cursor), next(cursor)
    assert not np.array_equal(first, np.arange(100)) and not np.array_equal(first, second)


BIT_GENERATORS = [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("kind", BIT_GENERATORS)
@pytest.mark.parametrize("steps", range(9))
def test_resume_at_every_step(kind, steps):
    """Stopped after any number of steps and restored through JSON, the batches and all other draws are the same."""
    generator = np.random.Generator(kind(5))
    cursor = data.minibatches(10, 3, generator)
    for _ in range(steps):
        next(cursor)
        generator.normal()  # the training shares the generator
    state = json.loads(json.dumps(cursor.state()))
    expected = [(next(cursor).tolist(), generator.normal(), cursor.epoch, cursor.position) for _ in range(10)]

    other = np.random.Generator(kind(77))
    resumed = data.minibatches(10, 3, other)
    resumed.restore(state)
    assert resumed.state() == state
    assert [(next(resumed).tolist(), other.normal(), resumed.epoch, resumed.position) for _ in range(10)] == expected


def test_cursor_errors():
    with pytest.raises(ValueError, match="n is 0 and batch 3") as caught:
        data.minibatches(0, 3, rng())
    assert one_line(caught)
    cursor = data.minibatches(10, 3, rng())
    with pytest.raises(ValueError, match="state is of 10 examples but there are 11") as caught:
        data.minibatches(11, 3, rng()).restore(cursor.state())
    assert one_line(caught)


@pytest.mark.parametrize("bad", [3, None, np.random], ids=["seed", "None", "module"])
def test_rng_is_a_generator(bad):
    calls = {
        "batches": lambda: data.batches(np.arange(9), 2, 3, bad),
        "gaussian_ring": lambda: data.gaussian_ring(4, bad),
        "two_moons": lambda: data.two_moons(4, bad),
        "checkerboard": lambda: data.checkerboard(4, bad),
        "swiss_roll": lambda: data.swiss_roll(4, bad),
        "copy_task": lambda: data.copy_task(4, 3, 2, bad),
        "reverse_task": lambda: data.reverse_task(4, 3, 2, bad),
        "sort_task": lambda: data.sort_task(4, 3, 2, bad),
        "addition_task": lambda: data.addition_task(4, 3, bad),
        "minibatches": lambda: data.minibatches(4, 3, bad),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"{name}: rng is [^\n]*, expected a Generator: np\.random\.default_rng\([03]\)$"):
            call()
