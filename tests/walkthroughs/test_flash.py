"""The FlashAttention walkthrough in its quick form: what it says, what it draws, and its twenty lines put to the test."""

from tests.walkthroughs.running import quick_run

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/flash", tmp_path_factory.mktemp("flash"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "score of   m, as log of",
        "m_new = np.maximum(m, np.max(s, axis=1, keepdims=True))",
        "keys 6 to 7",
        "blocks against the plain formula",
        "o *= np.exp(m - shift)",
        "largest score",
        "without D the gradients are off",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"blocks.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/flash", tmp_path, "--no-plots").drawn


def exact(q, k, v, dO, may):
    """y, L and the gradients, all at once and in extended precision."""
    q, k, v, dO = (x.astype(np.longdouble) for x in (q, k, v, dO))
    scale = 1 / np.sqrt(np.longdouble(q.shape[1]))
    s = np.where(may, q @ k.T * scale, -np.inf)
    top = np.max(s, axis=1, keepdims=True)
    e = np.exp(s - np.where(top == -np.inf, 0, top))
    l = np.sum(e, axis=1, keepdims=True)
    p = e / np.where(l == 0, 1, l)
    dP = dO @ v.T
    dS = p * (dP - np.sum(p * dP, axis=1, keepdims=True)) * scale
    with np.errstate(divide="ignore"):
        return p @ v, np.where(l == 0, -np.inf, top + np.log(l)), dS @ k, dS.T @ q, p.T @ dO


@pytest.mark.parametrize("seed", range(60))
def test_the_twenty_lines_are_attention(walkthrough, seed):
    """Lengths and blocks of any size, masks that leave rows or whole blocks empty, scores in any order, large ones too."""
    rng = np.random.default_rng(seed)
    T, S, Br, Bc = rng.integers(1, 13, 4)
    q, k, v, dO = (rng.normal(size=shape) for shape in ((T, 4), (S, 4), (S, 5), (T, 5)))
    q = np.abs(q) * rng.choice([0.1, 1, 30])
    k = rng.choice([k, np.sort(k, axis=0), -np.sort(-k, axis=0)])
    may = rng.choice([0.2, 0.7, 1.1]) > rng.random((T, S))
    if rng.random() < 0.5:
        may &= np.tri(T, S, S - T, dtype=bool)
    given = None if may.all() else may
    truth = exact(q, k, v, dO, may)
    y, L = walkthrough.flash(q, k, v, (Br, Bc), given)
    found = (y, L, *walkthrough.flash_backward(dO, q, k, v, y, L, (Br, Bc), given))
    score = (1 + np.abs(q @ k.T).max()) * np.finfo(float).eps  # a score is known to so much, and so is the logarithm of a weight
    # Every result is a sum of at most 13 terms: a weight, times dO v^T (5 products), times a number of q or k.
    bound = score * 13 * 5 * max(1, np.abs(dO).max() * np.abs(v).max()) * max(1, np.abs(q).max(), np.abs(k).max())
    for a, b in zip(found, truth):
        seen = np.isfinite(b)
        assert np.array_equal(np.isfinite(a), seen)
        assert np.all(np.abs(a[seen] - b[seen]) <= bound)


def test_float32_stays_float32(walkthrough):
    q, k, v, dO = np.random.default_rng(0).normal(size=(4, 7, 4)).astype(np.float32)
    y, L = walkthrough.flash(q, k, v)
    assert {x.dtype for x in (y, L, *walkthrough.flash_backward(dO, q, k, v, y, L))} == {np.dtype(np.float32)}


def test_no_block_is_computed_that_nobody_may_see(walkthrough):
    visited = []
    q, k, v = np.random.default_rng(0).normal(size=(3, 9, 4))
    walkthrough.flash(q, k, v, (3, 3), np.tri(9, dtype=bool), watch=lambda i, j, m, l, o: visited.append((i.start, j.start)))
    assert visited == [(i, j) for i in (0, 3, 6) for j in (0, 3, 6) if j <= i]


def test_answer_1_two_parts_of_the_keys_can_be_put_together(walkthrough):
    rng = np.random.default_rng(0)
    s, v = 20 * rng.normal(size=(3, 8)), rng.normal(size=(8, 2))
    nothing = np.full((3, 1), -np.inf), np.zeros((3, 1)), np.zeros((3, 2))
    one, two = (walkthrough.fold(*nothing, s[:, part], v[part]) for part in (slice(0, 5), slice(5, 8)))
    whole = walkthrough.fold(*nothing, s, v)
    for a, b in ((one, two), (two, one)):
        m = np.maximum(a[0], b[0])
        for whole_x, x, y in zip(whole[1:], a[1:], b[1:]):
            np.testing.assert_allclose(np.exp(a[0] - m) * x + np.exp(b[0] - m) * y, whole_x, rtol=1e-13, atol=1e-15)
