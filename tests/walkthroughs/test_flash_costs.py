"""The walkthrough of what FlashAttention saves in its quick form: what it says, what it draws, and what its answers claim."""

from tests.walkthroughs.running import quick_run

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/flash_costs", tmp_path_factory.mktemp("flash_costs"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "14 numbers at a time, 9 times",
        "peak memory",
        "227 numbers, are 908 bytes",
        "32,768 scores at once, of 1,048,576",
        "forward and backward, one head of 64",
        "causal, window of 64",
        "queries outside",
        "by the blocks' size",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"cost.png", "skipped.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/flash_costs", tmp_path, "--no-plots").drawn


def test_answer_1_bytes_of_a_position_in_a_head_of_64(walkthrough):
    less, more = (walkthrough.peak(walkthrough.forward_backward, *walkthrough.inputs(T, 64), block=(64, 64)) for T in (256, 512))
    assert (more - less) / 256 == pytest.approx(4 * (7 * 64 + 3), rel=0.02)


def test_answer_4_a_fifth_is_hidden_again(walkthrough):
    last = walkthrough.rule(256, True, 64)[-16:]  # the last block of queries
    computed = np.sum(last.reshape(16, 16, 16).any((0, 2))) * 16 * 16
    assert 1 - last.sum() / computed == pytest.approx(1 / 5)
