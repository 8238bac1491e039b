"""The walkthrough of mistakes in FlashAttention in its quick form: what it says, what it draws, and what its answers claim."""

from tests.walkthroughs.running import quick_run
from walkthroughs.attention._twenty_lines import dense, flash

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/flash_mistakes", tmp_path_factory.mktemp("flash_mistakes"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "without the rescale 16.8",
        "of 64 rows 64 are NaN without a maximum",
        "without rescale of o",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"noticed.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/flash_mistakes", tmp_path, "--no-plots").drawn


def test_answer_2_one_test_notices_all(walkthrough):
    for test in walkthrough.tests:
        all_of_them = all(walkthrough.noticed(walkthrough.errors[name][test]) for name in walkthrough.mistakes)
        assert all_of_them == (test == "blind rows")


def one_maximum_for_all_rows(m, l, o, s, v):
    m_new = np.maximum(m, np.max(s))
    shift = np.where(m_new == -np.inf, 0, m_new)
    keep, p = np.exp(m - shift), np.exp(s - shift)
    return m_new, keep * l + np.sum(p, axis=1, keepdims=True), keep * o + p @ v


def test_answer_4_one_maximum_for_all_rows(walkthrough):
    for T, S, slope, size, causal in walkthrough.tests.values():
        q, k, v = walkthrough.example(T, S, slope)
        truth = dense(q, k, v, walkthrough.mask_of(q, k, causal))
        assert not walkthrough.noticed(np.abs(walkthrough.folding(one_maximum_for_all_rows)(q, k, v, size, causal) - truth).max())
    q, k = np.array([[0.0, 1.0], [0.0, 1600.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    y, _ = flash(q, k, np.array([[1.0], [3.0]]), (2, 1), fold=one_maximum_for_all_rows)
    assert y == pytest.approx(np.array([[0.0], [2.0]])), "of the first row nothing is left: l = 0, which the guard makes zero"
    assert dense(q, k, np.array([[1.0], [3.0]])) == pytest.approx(np.array([[2.0], [2.0]]))
