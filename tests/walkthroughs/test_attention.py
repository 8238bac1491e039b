"""The attention walkthrough in its quick form: what it says, what it draws, and what its functions and answers claim."""

import tinygrad_notes as tn
from tests.walkthroughs.running import quick_run
from tinygrad_notes import functional as F

import numpy as np
import pytest
from scipy.optimize import linprog


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/attention", tmp_path_factory.mktemp("attention"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "weights of 3 queries",
        "largest p",
        "2 head(s)",
        "not transposed",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"scale.png", "heads.png", "feels.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/attention", tmp_path, "--no-plots").drawn


@pytest.mark.parametrize(("T", "S"), [(1, 1), (5, 9), (9, 5)])
def test_its_formula_is_the_library_s(walkthrough, T, S):
    rng = np.random.default_rng(0)
    q, k, v = (5 * rng.normal(size=(2, 3, n, 4)) for n in (T, S, S))
    may = rng.random((2, 1, T, S)) < 0.5
    may[0, 0, 0] = False
    found = walkthrough.attention(q, k, v, may)
    np.testing.assert_allclose(found, F.scaled_dot_product_attention(q, k, v, mask=may), rtol=0, atol=1e-12)
    assert np.array_equal(found[0, :, 0], np.zeros((3, 4)))
    w = walkthrough.weights(q, k, may)
    assert np.all(w[~np.broadcast_to(may, w.shape)] == 0)


def test_the_layer_does_not_care_for_the_order_of_what_it_reads(walkthrough):
    """What the walkthrough's mistake, heads cut without the transposition, fails."""
    rng, order = np.random.default_rng(0), [3, 0, 8, 1, 7, 2, 6, 4, 5]
    y, memory = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 9, 8))
    for layer, same in ((walkthrough.ours, True), (walkthrough.scrambled, False)):
        a, b = layer(y, memory, memory).value, layer(y, memory[:, order], memory[:, order]).value
        assert np.allclose(a, b, rtol=0, atol=1e-12) == same


def test_float32_stays_float32(walkthrough):
    ids = np.arange(12)[None] % 10
    model = walkthrough.readers[1]
    loss = F.cross_entropy(model(ids, np.tri(12, dtype=bool)), ids)
    assert {loss.dtype, *(g.dtype for g in tn.gradients(loss, tn.parameters(model)).values())} == {np.dtype(np.float32)}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_answer_1_no_linear_map_reads_both_tokens_out_of_one_mean(p):
    """Three tokens: is there a matrix that finds a in p u_a + (1-p) u_b, for all nine pairs, and one that finds b?"""

    def readable(wanted):
        lines = []
        for a in range(3):
            for b in range(3):
                right = (a, b)[wanted]
                for other in {0, 1, 2} - {right}:  # p (M[right, a] - M[other, a]) + (1 - p) (M[right, b] - M[other, b]) >= 1
                    line = np.zeros((3, 3))
                    for token, weight in ((a, p), (b, 1 - p)):
                        line[right, token] += weight
                        line[other, token] -= weight
                    lines.append(-line.ravel())
        return linprog(np.zeros(9), A_ub=np.array(lines), b_ub=-np.ones(len(lines)), bounds=(None, None)).status == 0

    assert [readable(0), readable(1)] == [p > 0.5, p < 0.5]


def test_answer_4_the_scrambled_layer_feels_what_comes_later(walkthrough):
    feels, later = walkthrough.feels, ~np.tri(6, dtype=bool)
    assert not feels["heads"][later].any() and feels["not transposed"][later].any()
