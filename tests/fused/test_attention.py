"""Blocked attention against a dense softmax in longdouble: every size, mask and block."""

import tracemalloc

import tinygrad_notes as tn
from tests.fused.oracle import HEADS, KINDS, SCALES, computed, problem, share
from tests.ops.samples import sample
from tests.ops.test_registry import CHECKS
from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F
from tinygrad_notes.fused.attention import blocked_attention

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

SAMPLES = [sample(blocked_attention, case) for case in blocked_attention.cases]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", range(len(SAMPLES)))
def test_every_property_of_an_op(check, case):
    check(sample(blocked_attention, blocked_attention.cases[case]))


SIZES = st.integers(1, 13)


@settings(max_examples=150)
@given(
    T=SIZES, S=SIZES, block=st.tuples(SIZES, SIZES), heads=st.sampled_from(HEADS), causal=st.booleans(),
    window=st.none() | SIZES, offset=st.none() | st.integers(-5, 14), masks=st.booleans(), biases=st.booleans(), documents=st.booleans(),
    kind=st.sampled_from(KINDS), scale=st.sampled_from(SCALES), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_equals_the_dense_softmax(T, S, block, heads, causal, window, offset, masks, biases, documents, kind, scale, dtype, seed):
    """Each element of the output and of the gradients is within the bound of its rounding errors, for the kernel and for its twin."""
    options = {
        "causal": causal,
        "window": window,
        "offset": offset,
        "masks": masks,
        "biases": biases,
        "documents": documents,
        "scale": scale,
    }
    p = problem(np.random.default_rng(seed), T, S, heads, dtype, kind, **options)
    found = computed(p, block=block)
    assert all(a.dtype == dtype for a in found)
    assert max(share(p, found)) <= 1
    with tn.reference():
        assert max(share(p, computed(p))) <= 1


def test_with_reference_runs_the_dense_twin():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 2, 9, 4)) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, causal=True, block=(2, 4))
    with tn.reference():
        twin = F.scaled_dot_product_attention(q, k, v, causal=True, block=(2, 4))
    np.testing.assert_allclose(y, twin, rtol=1e-12, atol=1e-14)
    assert not np.array_equal(y, twin)  # another order of summation: it was another program


@pytest.mark.parametrize("twin", [False, True])
def test_nan_behind_a_mask_does_not_leak(twin):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 1, 6, 4)) for _ in range(3))

    def run(k, v):
        variables = [Tensor(x) for x in (q, k, v)]
        y = F.scaled_dot_product_attention(*variables, causal=True, block=(4, 4))
        return [y.value[..., :4, :], *[g[..., :4, :] for g in gradients(np.sum(y[..., :4, :] ** 2), variables)]], y.value

    clean, _ = run(k, v)
    for bad in (np.nan, np.inf):
        k2, v2 = k.copy(), v.copy()
        k2[..., 4, 0] = v2[..., 5, 1] = bad
        if twin:
            with tn.reference():
                found, whole = run(k2, v2)
        else:
            found, whole = run(k2, v2)
        for a, b in zip(found[:1], clean[:1]):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
        assert np.all(np.isnan(whole[..., 4:, :]))  # who may see it, feels it


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_nobody_may_see_has_no_gradient_and_spoils_none(twin, bad):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 2, 6, 4)) for _ in range(3))
    mask = np.ones((6, 6), bool)
    mask[:, [1, 4]] = False
    dy = rng.normal(size=q.shape)

    def run(k, v):
        variables = [Tensor(x) for x in (q, k, v)]
        y = F.scaled_dot_product_attention(*variables, mask=mask, block=(4, 2))
        return [y.value, *gradients(np.sum(y * dy), variables)]

    clean = run(k, v)
    k, v = k.copy(), v.copy()
    k[..., 1, 0] = v[..., 4, 1] = bad
    if twin:
        with tn.reference():
            found = run(k, v)
    else:
        found = run(k, v)
    for a, b in zip(found, clean):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert not np.any(found[2][..., [1, 4], :]) and not np.any(found[3][..., [1, 4], :])


def test_rows_without_keys_are_zero_with_zero_gradient():
    q, k, v = (Tensor(np.random.default_rng(0).normal(size=(1, 1, 4, 3))) for _ in range(3))
    mask = np.array([[True] * 4, [False] * 4, [True, False, True, False], [False] * 4])
    y = F.scaled_dot_product_attention(q, k, v, mask=mask, block=(3, 2))
    assert np.all(y.value[0, 0, [1, 3]] == 0)
    dq, dk = gradients(np.sum(y * y), [q, k])
    assert np.all(dq[0, 0, [1, 3]] == 0)
    assert np.all(np.isfinite(dk))


def test_memory_grows_with_the_length_not_with_its_square():
    def peak(T):
        rng = np.random.default_rng(0)
        variables = [Tensor(rng.normal(size=(1, 1, T, 8)).astype(np.float32)) for _ in range(3)]
        tracemalloc.start()
        gradients(np.sum(F.scaled_dot_product_attention(*variables, causal=True, block=(64, 64))), variables)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(64)
    assert peak(2048) < 2.5 * peak(1024)  # linear: 2; quadratic: 4


def test_blocks_that_no_query_may_see_are_not_computed(monkeypatch):
    from tinygrad_notes.fused import attention

    seen = []
    original = attention.scores
    monkeypatch.setattr(attention, "scores", lambda *args: seen.append(args[-2:]) or original(*args))

    def count(T, **options):
        seen.clear()
        x = np.random.default_rng(0).normal(size=(1, 1, T, 4))
        F.scaled_dot_product_attention(x, x, x, block=(8, 8), **options)
        return len(seen)

    assert count(64) == 64
    assert count(64, causal=True) == 36  # the lower triangle of 8 x 8 blocks
    assert count(64, causal=True, window=8) <= 2 * 8  # a band: two blocks for each of eight
    assert count(128, causal=True, window=8) <= 2 * 16  # linear in T
