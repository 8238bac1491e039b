"""The walkthrough of schedules, decay and clipping in its quick form: it runs, draws, and its laws and answers hold."""

import tinygrad_notes as tn
from tests.walkthroughs.running import quick_run
from tinygrad_notes import optim

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("engine/schedules", tmp_path_factory.mktemp("schedules"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "AdamW, decay 0.1       0.9512",
        "Adam with L2 0.1       0.5368",
        "learning rate at step",
        "half as long again",
        "not scaled, clipped",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"schedules.png", "rates.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("engine/schedules", tmp_path, "--no-plots").drawn


def test_a_wild_gradient_puts_adam_to_sleep(walkthrough):
    strides, at = walkthrough.strides, walkthrough.AT
    assert np.all(strides["Adam, clipped"] == pytest.approx(1))
    # n steps after the spike v, corrected, is 1 and what is left of 0.001 (1000^2 - 1); m has forgotten it
    n = np.arange(300, len(strides["Adam"]) - at)
    v = 1 + 0.001 * (1000**2 - 1) * 0.999**n / (1 - 0.999 ** (at + 1 + n))
    assert strides["Adam"][at + 300 :] == pytest.approx(1 / np.sqrt(v), rel=1e-6)
    assert np.flatnonzero(strides["Adam"][at:] < 0.5)[-1] == n[v > 4][-1]


def test_spoilt_batches_are_spoilt(walkthrough):
    names = walkthrough
    x = np.ones((2, 64), np.float32)
    assert names.unscaled(names.STEPS // 2, x).max() == 255 and names.unscaled(0, x) is x
    assert names.unscaled(names.STEPS // 2, x).dtype == np.float32


def test_answer_2_a_shorter_memory_wakes_sooner(walkthrough):
    lengths = walkthrough.stride(lambda leaf, lr: optim.Adam(leaf, lr=lr, betas=(0.9, 0.95)), walkthrough.wild)
    assert 180 < np.flatnonzero(lengths[walkthrough.AT :] < 0.5)[-1] < 200


@pytest.mark.parametrize(("decay", "rate"), [(0.5, lambda t: 1e-3), (1.0, lambda t: optim.cosine(t, peak=1e-3, steps=2000))])
def test_answer_3_what_a_run_leaves(decay, rate):
    p = tn.Tensor(np.ones(1))
    optimizer = optim.AdamW(p, lr=1e-3, weight_decay=decay)
    for t in range(2000):
        optimizer.step(np.zeros(1), lr=rate(t))
    assert p.value.item() == pytest.approx(1 / np.e, rel=2e-3)


def test_answer_4_a_factor_cancels_in_adam():
    ends = []
    for factor in (1, 1e-3):
        p, rng = tn.Tensor(np.zeros(5)), np.random.default_rng(0)
        optimizer = optim.Adam(p, lr=0.01)
        for _ in range(100):
            optimizer.step(factor * rng.normal(size=5))
        ends.append(p.value.copy())
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
