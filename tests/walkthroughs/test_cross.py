"""The walkthrough of two sequences in its quick form: what it says, what it draws, and what its answers claim."""

import tinygrad_notes as tn
from tests.walkthroughs.running import quick_run
from tinygrad_notes import functional as F
from tinygrad_notes import nn

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/cross", tmp_path_factory.mktemp("cross"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "weights of 2 queries",
        "9 queries, 5 keys: output (2, 9, 8)",
        "cannot reshape array of size 144 into shape (2,5,2,4)",
        "mask (4, 4) does not broadcast",
        "which of 5 decoder inputs",
        "9 source tokens or 13 with padding, 5 target tokens: the same logits",
        "bytes of keys and values",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"felt.png", "shared.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/cross", tmp_path, "--no-plots").drawn


def test_answer_2_causal_between_two_lengths():
    q, k, v = (np.random.default_rng(0).normal(size=(1, n, 4)) for n in (5, 9, 9))
    may = np.arange(9) <= 4 + np.arange(5)[:, None]
    found = F.scaled_dot_product_attention(q, k, v, causal=True)
    np.testing.assert_allclose(found, F.scaled_dot_product_attention(q, k, v, mask=may), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("C", "nh"), [(8, 2), (64, 8)])
def test_answer_3_parameters_of_shared_key_heads(C, nh):
    many, one = (tn.count(nn.MultiHeadAttention(C, nh, kv_heads=kv, rng=np.random.default_rng(0))) for kv in (nh, 1))
    assert many - one == 2 * (C + 1) * (C - C // nh)
