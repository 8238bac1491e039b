"""The attention walkthrough in its quick form: what it says, what it draws, and what its functions and answers claim."""

import contextlib
import io
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import tinygrad_notes as tn
from tinygrad_notes import functional as F

import numpy as np
import pytest
from scipy.optimize import linprog

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "attention" / "attention.py"


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    """The script's own names after a quick run, what it printed and where it drew."""
    out, printed = tmp_path_factory.mktemp("attention"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["attention", "--quick", "--out", str(out)])
        names = runpy.run_path(str(SCRIPT), run_name="__main__")
    return SimpleNamespace(**names, printed=printed.getvalue(), drawn={path.name for path in out.iterdir()})


def test_it_runs_and_draws(walkthrough):
    for words in (
        "weights of 3 queries",
        "largest p",
        "2 head(s)",
        "which of the 6 inputs",
        "sequences continued without a mistake",
        "5 queries, 9 keys: weights (2, 2, 5, 9)",
        "cannot reshape array of size 144 into shape (2,5,2,4)",
        "which of 5 decoder inputs",
        "9 source tokens or 13 with padding, 5 target tokens: the same logits",
        "bytes of keys and values",
        "nine heads against a 3 x 3 convolution",
        "effective rank",
        "not transposed",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"scale.png", "heads.png", "masks.png", "leak.png", "convolution.png", "rank.png"}


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


def test_answer_5_a_ring_of_zeros_makes_the_heads_a_convolution_with_zeros_around(walkthrough):
    H, W = walkthrough.H, walkthrough.W
    ring = np.stack(np.meshgrid(np.arange(-1, H + 1), np.arange(-1, W + 1), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    off = ring - walkthrough.places[:, None] - walkthrough.shifts[:, None, None]
    p = F.softmax(-50 * np.sum(off**2, axis=-1))
    values = np.pad(walkthrough.image, ((0, 0), (1, 1), (1, 1))).reshape(3, -1)
    found = np.einsum("och,hij,cj->oi", walkthrough.mix, p, values).reshape(2, H, W)
    assert np.array_equal(found, walkthrough.convolved)
