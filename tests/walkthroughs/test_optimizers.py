"""The walkthrough of optimizers in its quick form: it runs, draws, and its handwritten rules are those of the papers."""

import math

from tests.walkthroughs.running import quick_run

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("engine/optimizers", tmp_path_factory.mktemp("optimizers"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "the first step",
        "SGD, theory",
        "length of Adam's steps",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"paths.png", "steps.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("engine/optimizers", tmp_path, "--no-plots").drawn


def test_errors_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"^error: --out .*file cannot be a folder: .*; name another one$"):
        quick_run("engine/optimizers", tmp_path / "file")


def test_two_steps_of_adam_by_hand(walkthrough):
    """g = 1 and then 3, b1 = 0.9, b2 = 0.999: m = 0.39 of 0.19, v = 0.009999 of 0.001999."""
    adam, s = walkthrough.adam, {}
    p = adam(np.zeros(1), np.ones(1), s, 1, 0.1)
    assert p == pytest.approx(-0.1)
    p = adam(p, np.full(1, 3.0), s, 2, 0.1)
    assert p == pytest.approx(-0.1 - 0.1 * (0.39 / 0.19) / math.sqrt(0.009999 / 0.001999))


def test_sgd_has_its_rate_in_the_valley(walkthrough):
    """With lr = 2 / (1 + k) each step leaves (k - 1) / (k + 1) of the distance, however the valley lies."""
    names = walkthrough
    for k, angle in ((10, 0.0), (100, 0.7)):
        H = names.valley(k, angle)
        assert np.allclose(np.linalg.eigvalsh(H), [1, k])
        path = names.run(lambda p, g, s, t, k=k: p - 2 / (1 + k) * g, lambda p, H=H: H @ p, np.linalg.eigh(H)[1] @ [1.0, 1.0], 20)
        assert np.allclose(np.linalg.norm(path, axis=1), math.sqrt(2) * ((k - 1) / (k + 1)) ** np.arange(21))


def test_momentum_needs_the_root_of_the_steps(walkthrough):
    table = walkthrough.table
    assert table["SGD"][1] / table["SGD"][0] == pytest.approx(10, rel=0.05)
    assert table["momentum"][1] / table["momentum"][0] == pytest.approx(math.sqrt(10), rel=0.2)
