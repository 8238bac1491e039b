"""The walkthrough of replay in its quick form: it runs, draws, and its counts and answers hold."""

import operator

import tinygrad_notes as tn
from tests.walkthroughs.running import quick_run
from tinygrad_notes.recording import Recorder
from tinygrad_notes.replay import replay
from walkthroughs.engine._replay_calls import instructions, written_down

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("engine/replay", tmp_path_factory.mktemp("replay"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "calls of NumPy, ",
        "0  matmul      x, w                 -> a0",
        "7  matmul      x.T, a6              -> a7",
        "9  subtract    w, a8                -> w",
        "ValueError: replay: the repeated step gives",
        "TypeError: replay: a number is read out of an array",
        "of 40 steps",
        "docs/performance.md, of another machine: ",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"memory.png", "times.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("engine/replay", tmp_path, "--no-plots").drawn


def test_lives_by_hand():
    """The memory that the picture shows, of a step whose needs can be counted: an exponential is read again on the way back, its argument is not."""
    w, x = {"w": tn.Tensor(np.ones((4, 4)))}, np.ones((4, 4))

    def loss(x):
        return np.sum(np.exp(x @ w["w"]) * 2.0)

    step = written_down(loss, w, (x,))
    lives = sorted((first, last, nbytes) for first, last, nbytes, _ in step.lives())
    names = [call.function.__name__ for call in step.calls]
    assert [names.index(name) for name in ("matmul", "exp")] == [0, 1]
    assert (0, 1, 128) in lives  # x @ w, until its exponential is there
    (last,) = (last for first, last, _ in lives if first == 1)
    assert last >= step.turn  # the exponential, until the backward pass
    assert type(w["w"].value) is np.ndarray  # was lent only


def test_instructions_are_counted():
    def loop(n):
        for _ in range(n):
            pass

    once, twice, thrice = (instructions(lambda n=n: loop(n)) for n in (100, 200, 300))
    assert 100 <= twice - once == thrice - twice


def test_answer_1_items_that_are_set(walkthrough):
    names = walkthrough

    class Setting(names.Noted):
        def __setitem__(self, index, value):
            index, value = (np.asarray(v) if isinstance(v, np.ndarray) else v for v in (index, value))
            names.notes.append((operator.setitem, [np.asarray(self), index, value], {}))
            np.asarray(self)[index] = value

    def f(x):
        h = (x * 1.0).view(Setting)
        h[h < 0] = 0
        h[1] += 1
        return np.sum(h)

    x = np.array([[1.0, -2.0], [3.0, 4.0]])
    first, calls = names.noted(f, x)
    for other in (-x, x - 2.5):
        x[...] = other
        names.repeat(calls)
        assert float(first) == np.sum(np.maximum(x, 0)) + 2


def test_answer_3_two_places():
    arrays = [np.ones((3, 3)) for _ in range(4)]
    recorder = Recorder()
    with recorder:
        x, a, b, c = map(recorder.read, arrays)
        y = x @ a @ b @ c
    program, _ = recorder.program([y], [None])
    assert program.memory == 256


def test_answer_5_a_flag_in_the_batch():
    t = tn.Tensor(np.ones(3))
    step = replay(lambda x, flag: np.sum(t * x) * (2.0 if flag else 1.0), t)
    for i in range(12):
        value, _ = step(np.ones(3), i % 4 == 0)
        assert value == (6 if i % 4 == 0 else 3)
