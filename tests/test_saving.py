"""saving: exact arrays, atomic files, and every fault that a checkpoint promises to survive."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

from tests.saving_faults import CALLS, STEPS, Run
from tinygrad_notes import Tensor, gradients, tree
from tinygrad_notes.optim import SGD, AdamW
from tinygrad_notes.saving import CheckpointError, load_arrays, load_checkpoint, load_metadata, save_arrays, save_checkpoint

import numpy as np
import pytest

library = pytest.importorskip("safetensors.numpy", reason="saving needs safetensors: pip install tinygrad_notes[weights]")
posix = pytest.mark.skipif(os.name != "posix", reason="kill -9, file limits and syncing folders are POSIX's")
ROOT = Path(__file__).parents[1]


def exact(a, b):
    """Equal shapes, dtypes and bits (NaN's payload and the sign of zero too)."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_names_come_in_the_order_of_the_header(tmp_path):
    """Not in the library's, which is another one in each run."""
    arrays = {f"{i:02}": np.zeros(i % 3, [np.float32, np.float64][i % 2]) for i in range(40)}
    save_arrays(tmp_path / "a", arrays)
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(load_arrays(tmp_path / "a")) == [name for name in header if name != "__metadata__"]


def test_equal_input_gives_equal_bytes_in_whatever_order_it_comes(tmp_path):
    """The library writes metadata in the order of a hash table, which is another one each time."""
    arrays = {"w": BASE, 'é\x7f"\\\n': np.arange(3), "m": np.ones(5, bool)}
    texts = {"b": "\u2028\x00\t", "a": "1", "é": "", "c": "3"}
    for i in range(5):
        save_arrays(
            tmp_path / str(i), dict(reversed(arrays.items())) if i % 2 else arrays, dict(reversed(texts.items())) if i % 2 else texts
        )
    assert len({(tmp_path / str(i)).read_bytes() for i in range(5)}) == 1
    assert (tmp_path / "0").read_bytes()[8:].startswith(b'{"__metadata__":{"a":"1","b":')
    assert load_metadata(tmp_path / "0") == texts and exact(load_arrays(tmp_path / "0")["w"], BASE)
    by_library = library.load((tmp_path / "0").read_bytes())
    assert by_library.keys() == arrays.keys() and all(exact(by_library[name], arrays[name]) for name in arrays)


def write(path, header, data=b"", length=None):
    """A file with any header, also an impossible one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# --- arrays -----------------------------------------------------------------------------

BASE = np.arange(24, dtype=np.float32).reshape(4, 6) - 3
LAYOUTS = {
    "C": BASE,
    "Fortran": np.asfortranarray(BASE),
    "transposed": BASE.T,
    "strided": BASE[::2, 1::3],
    "reversed": BASE[::-1, ::-1],
    "repeated": np.broadcast_to(np.float32(7), (3, 2)),
    "three axes, swapped": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "big-endian": BASE.astype(">f4"),
    "big-endian, Fortran": np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
    "0-d": np.array(3.5),
    "0-d, big-endian": np.array(3.5, ">f8"),
    "a scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "empty in the middle": np.zeros((2, 0, 3), np.int64),
    "one byte, which leaves the rest unaligned": np.array([1], np.uint8),
    "NaN, infinities, -0, subnormal": np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    "NaN with a payload": np.array([0x7FC12345, 0xFF800001], np.uint32).view(np.float32),
    "half": np.array([1.5, 65504, 6e-8], np.float16),
    "bool": np.array([[True], [False]]),
    "read-only": np.frombuffer(b"12345678", np.float64),
    **{f"{d} at its ends": np.array([np.iinfo(d).min, np.iinfo(d).max], d) for d in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
}


def test_every_layout_and_dtype_comes_back_exactly(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, LAYOUTS)
    loaded, theirs = load_arrays(str(path)), library.load_file(path)
    assert loaded.keys() == theirs.keys() == LAYOUTS.keys()
    for name, array in LAYOUTS.items():
        expected = np.asarray(array, array.dtype.newbyteorder("="), order="C")
        assert exact(loaded[name], expected) and exact(theirs[name], expected), name
        assert loaded[name].flags.writeable and loaded[name].dtype.isnative


def test_tied_arrays_and_odd_names(tmp_path):
    names = ["", "a.b.0", "ä/ß \n\"'\\", "名前", "__metadata", "data_offsets", "x" * 1000]
    arrays = dict.fromkeys(names, BASE)
    save_arrays(tmp_path / "a", arrays, {"who": "tést", "": ""})
    loaded = load_arrays(tmp_path / "a")
    assert loaded.keys() == arrays.keys() and all(exact(x, BASE) for x in loaded.values())
    loaded["a.b.0"] += 1
    assert exact(loaded["名前"], BASE)
    assert load_metadata(tmp_path / "a") == {"who": "tést", "": ""}


def test_nothing_at_all(tmp_path):
    save_arrays(tmp_path / "a", {})
    assert load_arrays(tmp_path / "a") == {} and load_metadata(tmp_path / "a") == {}


def test_a_models_state_through_a_file(tmp_path):
    run, other = Run(), Run(seed=7)
    save_arrays(tmp_path / "a", tree.state_dict(run.model))
    tree.load(other.model, load_arrays(tmp_path / "a"))
    assert all(exact(x, tree.state_dict(other.model)[path]) for path, x in tree.state_dict(run.model).items())


@pytest.mark.parametrize(
    "arrays, metadata, message",
    [
        ({"w": np.zeros(2, np.complex128)}, {}, r"w is ndarray \(2,\) complex128, expected an array of bool"),
        ({"w": np.zeros(2, np.longdouble)}, {}, "w is ndarray"),
        ({"w": np.array(["a"])}, {}, "w is ndarray"),
        ({"w": np.array([None])}, {}, "w is ndarray"),
        ({"w": [1.0, 2.0]}, {}, "w is list"),
        ({"w": Tensor(BASE)}, {}, "w is Tensor"),
        ({3: BASE}, {}, "the name 3 cannot be used"),
        ({"__metadata__": BASE}, {}, "the name '__metadata__' cannot be used"),
        ({}, {"a": 1}, "metadata 'a': 1; expected text"),
        ({}, {"tinygrad_notes.sha256": "0"}, "expected text to text, other names than"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_file_is_touched(tmp_path, arrays, metadata, message):
    if "w" in arrays and getattr(arrays["w"], "dtype", None) == np.float64:
        pytest.skip("longdouble is double on this platform")
    with pytest.raises(TypeError, match=message):
        save_arrays(tmp_path / "a", arrays, metadata)
    assert not list(tmp_path.iterdir())


def test_files_of_other_libraries(tmp_path):
    library.save_file({"w": BASE, "n": np.arange(3)}, tmp_path / "plain")
    library.save_file({"w": BASE}, tmp_path / "described", metadata={"format": "pt"})
    assert exact(load_arrays(tmp_path / "plain")["w"], BASE) and load_arrays(tmp_path / "plain")["n"].tolist() == [0, 1, 2]
    assert exact(load_arrays(tmp_path / "described")["w"], BASE) and load_metadata(tmp_path / "described") == {"format": "pt"}


def test_bfloat16_is_widened_exactly(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, np.inf, -0.0, np.nan, 1e-40], np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    path = write(tmp_path / "a", {"w": entry("BF16", (7,), (0, 14))}, bits.tobytes())
    loaded = load_arrays(path)["w"]
    assert loaded.dtype == np.float32 and np.array_equal(loaded.view(np.uint32) >> 16, bits) and not np.any(loaded.view(np.uint32) & 0xFFFF)
    assert np.array_equal(loaded[:5], values[:5])


def test_a_missing_library_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(
        ImportError, match=r"^saving needs safetensors, which is not installed; run pip install \"tinygrad_notes\[weights\]\"$"
    ):
        save_arrays(tmp_path / "a", {"w": BASE})
    assert not list(tmp_path.iterdir())


# --- damaged and hostile files ------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.safetensors"
    save_arrays(path, {"w": BASE[:1, :2], "n": np.array(3, np.int8)}, {"k": "v"})
    return path


def test_cut_at_every_byte(small):
    whole = small.read_bytes()
    for n in reversed(range(len(whole))):
        os.truncate(small, n)
        with pytest.raises(CheckpointError):
            load_arrays(small)
    small.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="its arrays end at byte"):
        load_arrays(small)


def test_every_single_bit_is_guarded(small):
    with open(small, "r+b", buffering=0) as file:
        for i, byte in enumerate(small.read_bytes()):
            for bit in range(8):
                file.seek(i)
                file.write(bytes([byte ^ 1 << bit]))
                with pytest.raises(CheckpointError):
                    load_arrays(small)
            file.seek(i)
            file.write(bytes([byte]))
    load_arrays(small)


def test_a_damaged_checkpoint_changes_nothing(tmp_path):
    run = Run()
    run.train(2)
    run.save(tmp_path / "a")
    whole, victim = (tmp_path / "a").read_bytes(), Run(seed=3)
    before = victim.everything()
    for i in np.linspace(0, len(whole) - 1, 60).astype(int):
        for content in (whole[:i], whole[:i] + bytes([whole[i] ^ 16]) + whole[i + 1 :]):
            (tmp_path / "a").write_bytes(content)
            with pytest.raises(CheckpointError):
                victim.load(tmp_path / "a")
    assert victim.everything() == before


BIG = 2**62
U8 = b'{"dtype":"U8","shape":[8],"data_offsets":[0,8]}'  # an entry for all the data of these files
HOSTILE = {
    "no header": (b"", None),
    "a length of 2^64 - 1": (b"{}", 2**64 - 1),
    "a length of 2^63": (b"{}", 2**63),
    "a length beyond the file": (b"{}", 3),
    "a length of 0": (b"", 0),
    "not JSON": (b"{]", None),
    "not UTF-8": (b'{"\xff":' + U8 + b"}", None),
    "UTF-16": (('{"a":' + U8.decode() + "}").encode("utf-16"), None),
    "an array": (b"[]", None),
    "a number": (b"7", None),
    "a duplicate name": (b'{"a":' + U8 + b',"a":' + U8 + b"}", None),
    "a duplicate key": (b'{"a":{"dtype":"I8",' + U8[1:] + b"}", None),
    "two metadata": (b'{"__metadata__":{},"__metadata__":{},"a":' + U8 + b"}", None),
    "nested lists": (b"[" * 200_000, None),
    "nested objects": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, None),
    "half a character": (b'{"\\ud800":' + U8 + b"}", None),
    "an infinite shape": (b'{"a":{"dtype":"U8","shape":[Infinity],"data_offsets":[0,1]}}', None),
    "a number of 5000 digits": (b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', None),
    "metadata that are not text": ({"__metadata__": {"a": 1}, "a": entry()}, None),
    "metadata that are a list": ({"__metadata__": [], "a": entry()}, None),
    "an entry that is a list": ({"a": []}, None),
    "an entry without offsets": ({"a": {"dtype": "U8", "shape": [8]}}, None),
    "an entry with more": ({"a": entry() | {"x": 1}}, None),
    "an unknown dtype": ({"a": entry("F33")}, None),
    "a dtype of 8 bits": ({"a": entry("F8_E4M3", (8,))}, None),
    "a dtype that is a list": ({"a": entry(["F32"])}, None),
    "a dtype of NumPy's": ({"a": entry("O")}, None),
    "a negative offset": ({"a": entry(offsets=(-8, 0))}, None),
    "reversed offsets": ({"a": entry(offsets=(8, 0))}, None),
    "three offsets": ({"a": entry(offsets=(0, 8, 16))}, None),
    "offsets in text": ({"a": entry(offsets=("0", "8"))}, None),
    "offsets beyond the file": ({"a": entry(shape=(BIG // 4,), offsets=(0, BIG))}, None),
    "offsets of 2^64": ({"a": entry(shape=(2,), offsets=(2**64, 2**64 + 8))}, None),
    "a negative size": ({"a": entry(shape=(-2,))}, None),
    "two negative sizes": ({"a": entry(shape=(-1, -2))}, None),
    "a size that is true": ({"a": entry(shape=(True, 2))}, None),
    "a size that is 2.0": ({"a": entry(shape=(2.0,))}, None),
    "a shape that is a number": ({"a": {"dtype": "U8", "shape": 8, "data_offsets": [0, 8]}}, None),
    "a shape too small": ({"a": entry(shape=(1,))}, None),
    "a shape too large": ({"a": entry(shape=(3,))}, None),
    "a shape that overflows to 8 bytes": ({"a": entry(shape=(2**63 - 1, 2**63 - 1, 2))}, None),
    "a shape whose bytes are 2^64 + 8": ({"a": entry("U8", (2**32, 2**32 + 1), (0, 8))}, None),
    "empty but immense": ({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0)), "b": entry()}, None),
    "65 axes": ({"a": entry(shape=(1,) * 64 + (2,))}, None),
    "a gap at the start": ({"a": entry(shape=(1,), offsets=(4, 8))}, None),
    "a gap at the end": ({"a": entry(shape=(1,), offsets=(0, 4))}, None),
    "a gap in the middle": ({"a": entry("U8", (2,), (0, 2)), "b": entry("U8", (4,), (4, 8))}, None),
    "overlap": ({"a": entry("U8", (6,), (0, 6)), "b": entry("U8", (6,), (2, 8))}, None),
    "the same place twice": ({"a": entry(), "b": entry()}, None),
    "one within the other": ({"a": entry(), "b": entry("U8", (2,), (2, 4))}, None),
    "our format without a checksum": ({"__metadata__": {"tinygrad_notes.format": "1"}, "a": entry()}, None),
    "a checksum without our format": ({"__metadata__": {"tinygrad_notes.sha256": "0" * 64}, "a": entry()}, None),
    "a later format": ({"__metadata__": {"tinygrad_notes.format": "2", "tinygrad_notes.sha256": "0"}, "a": entry()}, None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, monkeypatch, case):
    """By our own reading of the header: the library never sees the file."""
    monkeypatch.setattr("safetensors.deserialize", lambda content: pytest.fail("the library was called"))
    header, length = HOSTILE[case]
    path = write(tmp_path / "a", header, b"12345678", length)
    with pytest.raises(CheckpointError, match="^" + str(path).replace("\\", "\\\\")) as error:
        load_arrays(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", ["a length of 2^63", "offsets beyond the file", "a shape that overflows to 8 bytes", "empty but immense"])
def test_what_a_header_claims_is_not_allocated(tmp_path, case):
    header, length = HOSTILE[case]
    path = write(tmp_path / "a", header, b"12345678", length)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_a_file_of_a_later_format_is_refused_though_its_checksum_is_right(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_notes.saving.arrays.VERSION", "2")
    save_arrays(tmp_path / "a", {"w": BASE})
    assert exact(load_arrays(tmp_path / "a")["w"], BASE)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="of another version"):
        load_arrays(tmp_path / "a")


def test_the_hostile_files_are_hostile_for_one_reason(tmp_path):
    """The entry that they are made from is a good one."""
    assert load_arrays(write(tmp_path / "a", {"a": entry()}, b"12345678"))["a"].tobytes() == b"12345678"
    assert load_arrays(write(tmp_path / "a", b'{"a":' + U8 + b"}", b"12345678"))["a"].tobytes() == b"12345678"


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_arrays(tmp_path)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        save_arrays(tmp_path, {"w": BASE})
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_arrays(tmp_path / "no folder" / "a", {"w": BASE})
    assert not list(tmp_path.iterdir())


# --- writing ----------------------------------------------------------------------------


def trace(monkeypatch, act):
    """Let act(number, name, call, args) stand before every system call of a save."""
    calls = []
    for name in CALLS:
        call = getattr(os, name)

        def wrapped(*args, name=name, call=call):
            calls.append((name, *args))
            return act(len(calls), name, call, args)

        monkeypatch.setattr(os, name, wrapped)
    return calls


@posix
def test_the_order_of_a_save_survives_a_power_cut(tmp_path, monkeypatch):
    """Contents on the disk before the name points to them, and the name on the disk before save returns."""
    save_arrays(tmp_path / "a", {"w": BASE})
    calls = trace(monkeypatch, lambda number, name, call, args: call(*args))
    save_arrays(tmp_path / "a", {"w": BASE})
    monkeypatch.undo()
    assert [call[0] for call in calls] == ["open", "write", "write", "fsync", "close", "replace", "open", "fsync", "close"]
    temporary, target = calls[5][1:]
    assert calls[0][1] == temporary and os.path.dirname(temporary) == os.path.dirname(target) == calls[6][1] == os.path.realpath(tmp_path)
    assert calls[3][1] == calls[2][1] == calls[1][1] and calls[0][2] & os.O_EXCL


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.EFBIG])
def test_an_error_of_any_call_leaves_the_old_file_or_the_new(tmp_path, monkeypatch, code):
    path = tmp_path / "a"
    k, failed = 0, True
    while failed:
        k += 1
        save_arrays(path, {"w": BASE})

        def act(number, name, call, args, k=k):
            if number == k:
                if name == "close":
                    call(*args)
                raise OSError(code, os.strerror(code))
            return call(*args)

        trace(monkeypatch, act)
        try:
            save_arrays(path, {"w": BASE + 1})
            failed = False
        except CheckpointError as error:
            assert os.strerror(code) in str(error) and str(path) in str(error) and isinstance(error.__cause__, OSError)
            new_file = "was written" in str(error)
        finally:
            monkeypatch.undo()
        assert exact(load_arrays(path)["w"], BASE + 1 if not failed or new_file else BASE)
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert k == (10 if os.name == "posix" else 7)


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(tmp_path, monkeypatch):
    save_arrays(tmp_path / "a", {"w": BASE})
    before, real = (tmp_path / "a").read_bytes(), os.open

    def full(path, flags, *mode):
        if flags & os.O_CREAT:
            os.close(real(path, flags, *mode))
            return real("/dev/full", os.O_WRONLY)
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        save_arrays(tmp_path / "a", {"w": BASE + 1})
    assert (tmp_path / "a").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a"]


def faults(mode, folder):
    done = subprocess.run(
        [sys.executable, "-m", "tests.saving_faults", mode, str(folder)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@posix
def test_a_limit_on_file_sizes(tmp_path):
    for tried in faults("limit", tmp_path):
        assert tried["code"] == 0 and tried["intact"] and tried["files"] == ["run.safetensors"], tried


@posix
def test_kill_9_at_every_call(tmp_path):
    """Whenever the process dies, the path holds the whole old checkpoint or the whole new one."""
    tried = faults("kill", tmp_path)
    assert all(t["found"] in ("old", "new") and t["code"] in (0, -signal.SIGKILL) for t in tried), tried
    for when in ("before", "within", "after"):
        found = [t["found"] for t in tried if t["when"] == when]
        assert len(found) > 10 and found == sorted(found, reverse=True) and {"old", "new"} == set(found), found
        codes = [t["code"] for t in tried if t["when"] == when]
        assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]


@pytest.mark.parametrize("at", ["open", "write", "fsync", "replace"])
def test_ctrl_c_while_saving(tmp_path, monkeypatch, at):
    save_arrays(tmp_path / "a", {"w": BASE})

    def act(number, name, call, args):
        if name == at:
            signal.raise_signal(signal.SIGINT)
        return call(*args)

    trace(monkeypatch, act)
    with pytest.raises(KeyboardInterrupt):
        save_arrays(tmp_path / "a", {"w": BASE + 1})
    monkeypatch.undo()
    assert exact(load_arrays(tmp_path / "a")["w"], BASE) and [p.name for p in tmp_path.iterdir()] == ["a"]


@posix
def test_a_link_is_written_through_and_a_new_file_is_as_readable_as_any(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    save_arrays(tmp_path / "link", {"w": BASE})
    save_arrays(tmp_path / "link", {"w": BASE + 1})
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "link").is_symlink() and exact(load_arrays(tmp_path / "real" / "a")["w"], BASE + 1)
    assert stat.S_IMODE((tmp_path / "real" / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


# --- checkpoints ------------------------------------------------------------------------


def test_a_run_resumes_at_every_step_bit_for_bit(tmp_path):
    straight = Run()
    for step in range(STEPS):
        straight.save(tmp_path / str(step))
        straight.train(step + 1)
    for step in range(STEPS):
        resumed = Run(seed=99)
        resumed.load(tmp_path / str(step))
        assert resumed.step == step
        resumed.train(STEPS)
        assert resumed.everything() == straight.everything(), step
    assert len(set(straight.losses)) == STEPS


def test_saving_changes_nothing(tmp_path):
    run, silent = Run(), Run()
    for step in range(4):
        run.train(step)
        run.save(tmp_path / "a")
    silent.train(3)
    assert run.everything() == silent.everything()


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_every_kind_of_generator(tmp_path, kind):
    rng, other = (np.random.Generator(kind(seed)) for seed in (1, 2))
    rng.random(3, dtype=np.float32)
    rng.normal(size=5)
    save_checkpoint(tmp_path / "a", step=0, model={}, rng=rng)
    load_checkpoint(tmp_path / "a", rng=other)
    assert np.array_equal(rng.integers(0, 9, 5, dtype=np.uint32), other.integers(0, 9, 5, dtype=np.uint32))
    assert np.array_equal(rng.random(2000), other.random(2000))


def test_extra_comes_back_exactly(tmp_path):
    extra = {"losses": [0.1, 1e-300, float("inf"), np.float32(0.1), np.float64(1) / 3], "text": "ä\n", "n": 2**80, "none": [None, True, {}]}
    save_checkpoint(tmp_path / "a", step=np.int64(7), model={}, extra=extra)
    step, found = load_checkpoint(tmp_path / "a")
    assert step == 7 and found == extra and type(step) is int
    save_checkpoint(tmp_path / "b", step=7, model={}, extra={"seen": (1, (2.0, "x")), "loss": float("nan")})
    (seen, loss) = load_checkpoint(tmp_path / "b").extra.values()
    assert seen == [1, [2.0, "x"]] and loss != loss, "tuples come back as lists, and a loss may be NaN"
    save_checkpoint(tmp_path / "a", step=1, model={})
    assert load_checkpoint(tmp_path / "a").extra is None


@pytest.mark.parametrize(
    "extra, where",
    [
        ({"a": [object()]}, r"extra\.a\.0 is object"),
        ({1: 2}, "extra is dict"),
        ({"a": {(1, 2): 3}}, r"extra\.a is dict"),
        (1j, "extra is complex"),
        ({"t": Tensor(BASE)}, r"extra\.t is Tensor"),
    ],
)
def test_extra_that_would_not_come_back_is_refused(tmp_path, extra, where):
    with pytest.raises(TypeError, match=where):
        save_checkpoint(tmp_path / "a", step=0, model={}, extra=extra)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", [1.5, "3", None, np.float64(2)])
def test_a_step_is_a_whole_number(tmp_path, step):
    with pytest.raises(TypeError, match=r"^save_checkpoint: step is .*, expected an integer: how many steps are done$"):
        save_checkpoint(tmp_path / "a", step=step, model={})
    assert not list(tmp_path.iterdir())


def misfit_model(run):
    run.model.b = Tensor(np.zeros(6, np.float32))


def misfit_dtype(run):
    run.model.mean = np.zeros(3)


def misfit_missing(run):
    run.model.more = Tensor(np.zeros(1, np.float32))


def misfit_optimizer(run):
    run.optimizer = SGD(parameters_of(run), lr=0.1, momentum=0.9)


def misfit_plain_optimizer(run):
    run.optimizer = SGD(parameters_of(run), lr=0.1)


def misfit_parameters(run):
    run.optimizer = AdamW({"w": run.model.w}, lr=0.1)


def misfit_ema(run):
    run.ema = run.optimizer


def misfit_rng(run):
    run.rng["dropout"] = np.random.Generator(np.random.SFC64(0))


def misfit_rngs(run):
    del run.rng["shuffle"]


def misfit_rng_name(run):
    run.rng["other"] = run.rng.pop("shuffle")


def parameters_of(run):
    return tree.parameters(run.model)


@pytest.mark.parametrize(
    "change, message",
    [
        (misfit_model, r"b has shape \(5,\), expected \(6,\)"),
        (misfit_dtype, "mean has dtype float32, expected float64"),
        (misfit_missing, "missing: more"),
        (misfit_optimizer, "the optimizer has no optimizer.0.v"),
        (misfit_plain_optimizer, "the optimizer has no optimizer.0.m"),
        (misfit_parameters, "the optimizer has no optimizer.0.m.b"),
        (misfit_ema, "the checkpoint has no optimizer.1.steps"),
        (misfit_rng, "state must be for a"),
        (misfit_rngs, r"the checkpoint has \['rng.shuffle'\], but no such generator"),
        (misfit_rng_name, "the checkpoint has no rng.other"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path, change, message):
    run, victim = Run(), Run(seed=4)
    run.train(3)
    run.save(tmp_path / "a")
    victim.train(1)
    change(victim)
    before = victim.everything()
    with pytest.raises(CheckpointError, match=message) as error:
        victim.load(tmp_path / "a")
    assert "\n" not in str(error.value) and victim.everything() == before


def test_moments_of_another_shape_leave_the_model_as_it_was(tmp_path):
    """The names fit, and the model does; the optimizer alone does not."""
    run, victim = Run(), Run(seed=4)
    run.train(3)
    run.save(tmp_path / "a")
    wider = {path: Tensor(np.zeros((*t.shape, 2), np.float32)) for path, t in parameters_of(victim).items()}
    victim.optimizer = AdamW(wider, lr=0.1)
    before = victim.everything()
    with pytest.raises(CheckpointError, match=r"the state's m of w is ndarray \(3, 5\) float32, expected an array \(3, 5, 2\)"):
        victim.load(tmp_path / "a")
    assert victim.everything() == before


def test_parts_of_a_checkpoint(tmp_path):
    run, other = Run(), Run(seed=5)
    run.train(2)
    run.save(tmp_path / "a")
    others = other.optimizer.state_dict()
    assert load_checkpoint(tmp_path / "a", model=other.model).step == 2
    assert exact(other.model.w.value, run.model.w.value) and other.optimizer.state_dict()["steps"] == others["steps"] == 0
    save_checkpoint(tmp_path / "b", step=2, model=run.model)
    with pytest.raises(CheckpointError, match=r"the checkpoint has no optimizer\.steps; it was made with another optimizer"):
        load_checkpoint(tmp_path / "b", model=other.model, optimizer=other.optimizer)
    with pytest.raises(CheckpointError, match="the checkpoint has no rng, only no generator"):
        load_checkpoint(tmp_path / "b", rng=np.random.default_rng(0))
    save_arrays(tmp_path / "c", tree.state_dict(run.model))
    with pytest.raises(CheckpointError, match="is a file of arrays, not a checkpoint"):
        load_checkpoint(tmp_path / "c", model=other.model)


def test_models_in_a_dict_as_for_a_gan(tmp_path):
    models = {"g": Run(1).model, "d": Run(2).model}
    optimizers = {name: AdamW(tree.parameters(model), lr=0.1) for name, model in models.items()}
    save_checkpoint(tmp_path / "a", step=0, model=models, optimizer=optimizers)
    others = {"g": Run(3).model, "d": Run(4).model}
    load_checkpoint(tmp_path / "a", model=others, optimizer={name: AdamW(tree.parameters(model), lr=0.1) for name, model in others.items()})
    assert all(exact(x, tree.state_dict(others)[path]) for path, x in tree.state_dict(models).items())


def test_a_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    run = Run()
    run.train(3)
    run.save(tmp_path / "a")
    good = run.everything()
    params = tree.parameters(run.model)
    poisoned = gradients((run.model(np.full((4, 3), np.nan, np.float32), run.rng["dropout"]) ** 2).mean(), params)
    before = run.optimizer.state_dict()
    with pytest.raises(FloatingPointError, match="AdamW: the gradient of w"):
        run.optimizer.step(poisoned)
    assert run.optimizer.state_dict()["steps"] == before["steps"] and all(np.isfinite(t.value).all() for t in params.values())
    run.load(tmp_path / "a")
    assert run.everything() == good


def test_ctrl_c_while_a_checkpoint_is_taken_over(tmp_path, monkeypatch):
    """Model, optimizer and generators move together: all old or all new."""
    run, victim = Run(), Run(seed=6)
    run.train(3)
    run.save(tmp_path / "a")
    real = AdamW.load_state_dict

    def interrupted(self, state):
        signal.raise_signal(signal.SIGINT)
        real(self, state)

    monkeypatch.setattr(AdamW, "load_state_dict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        victim.load(tmp_path / "a")
    victim.step, victim.cursor, victim.order, victim.losses = run.step, run.cursor, run.order, run.losses
    assert victim.everything() == run.everything()
