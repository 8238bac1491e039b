"""The walkthrough of masks in its quick form: what it says, what it draws, and what its functions and answers claim."""

from tests.walkthroughs.running import quick_run
from tinygrad_notes import functional as F

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/masks", tmp_path_factory.mktemp("masks"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "and with the causal one",
        "which of the 6 inputs",
        "sees [5 6 7] keys",
        "to the bit",
        "sequences continued by the rule",
        "effective rank",
        "hidden late and divided",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"masks.png", "leak.png", "rank.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/masks", tmp_path, "--no-plots").drawn


def test_its_formula_is_the_library_s(walkthrough):
    rng = np.random.default_rng(0)
    q, k, v = (5 * rng.normal(size=(2, 3, n, 4)) for n in (5, 9, 9))
    may = rng.random((2, 1, 5, 9)) < 0.5
    may[0, 0, 0] = False
    found = walkthrough.attention(q, k, v, may)
    np.testing.assert_allclose(found, F.scaled_dot_product_attention(q, k, v, mask=may), rtol=0, atol=1e-12)
    assert np.array_equal(found[0, :, 0], np.zeros((3, 4)))


def test_the_song_follows_its_rule(walkthrough):
    ids = walkthrough.song(2000)
    kept = np.mean(ids[:, 4:] == (ids[:, :-4] + 1) % walkthrough.V)
    assert kept == pytest.approx(1 - 7 * walkthrough.other, abs=0.01)
    ids = walkthrough.song(5, anew=0)
    assert np.array_equal(ids[:, 4:], (ids[:, :-4] + 1) % walkthrough.V)


def test_nobody_can_do_better_than_the_floor(walkthrough):
    """Who knows the rule, and how often it is broken, has the floor as the mean of the logarithms."""
    ids = walkthrough.song(4000)
    follows = ids[:, 4:] == (ids[:, :-4] + 1) % walkthrough.V
    surprise = -np.log(np.where(follows, 1 - 7 * walkthrough.other, walkthrough.other))
    assert (3 * np.log(walkthrough.V) + surprise.mean(axis=0).sum()) / 15 == pytest.approx(walkthrough.floor, rel=0.02)


def test_answer_1_large_hidden_scores_make_zero_by_zero(walkthrough):
    s, may = np.array([[0.0, 1.0, 801.0]]), np.array([[True, True, False]])
    p = walkthrough.weights(s, True) * may
    assert not p.any() and walkthrough.weights(s, may)[0, 0] == pytest.approx(1 / (1 + np.e))


def test_answer_2_texts_in_one_row(walkthrough):
    rng = np.random.default_rng(0)
    ids = np.repeat([0, 1, 2], (5, 3, 8))
    q, k, v = rng.normal(size=(3, 1, 16, 4))
    may = np.tri(16, dtype=bool) & (ids[:, None] == ids)
    found = walkthrough.attention(q, k, v, may)
    np.testing.assert_allclose(found, F.scaled_dot_product_attention(q, k, v, causal=True, documents=ids), rtol=0, atol=1e-12)
    alone = walkthrough.attention(q[:, 5:8], k[:, 5:8], v[:, 5:8], np.tri(3, dtype=bool))
    np.testing.assert_allclose(found[:, 5:8], alone, rtol=0, atol=1e-12)


def test_answer_3_the_rank_without_the_diagonal(walkthrough):
    q, k = 0.3 * np.random.default_rng(0).normal(size=(2, 64, 2))
    p = walkthrough.weights(walkthrough.scores(q, k), np.tri(64, k=-1, dtype=bool))
    assert np.linalg.matrix_rank(p) == 63 and not p[0].any()
