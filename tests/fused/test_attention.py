"""Blocked attention against a dense softmax in longdouble: every size, mask and block."""

import tracemalloc

import tinygrad_notes as tn
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


def visible(T, S, *, causal=False, window=None, offset=None, mask=None, documents=None):
    """Which keys each query may see, element by element, as the docstring says."""
    offset = S - T if offset is None else offset
    may = np.ones((T, S), bool)
    for i in range(T):
        for j in range(S):
            p = offset + i
            may[i, j] = (not causal or j <= p) and (window is None or abs(p - j) < window)
    if documents is not None:
        may = may & (documents[..., None, :, None] == documents[..., None, None, :])
    return may if mask is None else may & mask


def exact(q, k, v, dy, bias, may, scale):
    """Output and gradients in longdouble, all scores at once: softmax and its derivative, written out."""
    q, k, v, dy = (x.astype(np.longdouble) for x in (q, k, v, dy))
    rep = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, rep, axis=-3), np.repeat(v, rep, axis=-3)
    s = np.where(may, q @ np.swapaxes(k, -1, -2) * scale + (0 if bias is None else bias), -np.inf)
    top = s.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis=-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    y = p @ v
    ds = p * (dy @ np.swapaxes(v, -1, -2) - (dy * y).sum(-1, keepdims=True))

    def group(x):
        return x.reshape(*x.shape[:-3], -1, rep, *x.shape[-2:]).sum(-3)

    return y, ds @ k * scale, group(np.swapaxes(ds, -1, -2) @ q) * scale, group(np.swapaxes(p, -1, -2) @ dy), ds


SIZES = st.integers(1, 13)


@settings(max_examples=150)
@given(
    T=SIZES, S=SIZES, block=st.tuples(SIZES, SIZES), heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]), causal=st.booleans(),
    window=st.none() | SIZES, offset=st.none() | st.integers(-5, 14), masks=st.booleans(), biases=st.booleans(), documents=st.booleans(),
    kind=st.sampled_from(["normal", "large", "ascending"]), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_equals_the_dense_softmax(T, S, block, heads, causal, window, offset, masks, biases, documents, kind, dtype, seed):
    rng = np.random.default_rng(seed)
    nh, nkv = heads
    q, k, v, dy = (rng.normal(size=s).astype(dtype) for s in ((2, nh, T, 4), (2, nkv, S, 4), (2, nkv, S, 3), (2, nh, T, 3)))
    if kind == "large":
        q *= 300  # logits that overflow an exponential
    if kind == "ascending":
        k[...] = np.linspace(-20, 20, S, dtype=dtype)[:, None]  # every block has a new maximum
        q[...] = np.abs(q)
    mask = rng.random((2, 1, T, S)) < 0.6 if masks else None
    bias = rng.normal(size=(nh, T, S)).astype(dtype) if biases else None
    ids = np.sort(rng.integers(0, 3, (2, S)), axis=-1) if documents and T == S else None
    may = visible(T, S, causal=causal, window=window, offset=offset, mask=mask, documents=ids)
    expected = exact(q, k, v, dy, bias, may, 0.5)

    variables = [Tensor(x) for x in (q, k, v)] + ([] if bias is None else [Tensor(bias)])
    options = {"causal": causal, "window": window, "offset": offset, "mask": mask, "scale": 0.5, "documents": ids, "block": block}
    y = F.scaled_dot_product_attention(*variables[:3], bias=variables[3] if biases else None, **options)
    found = [y.value, *gradients(np.sum(y * dy), variables)]
    # A score of size |s| is known to eps |s|, and so is the logarithm of a weight: a relative error that all else inherits.
    size = np.abs(np.where(may, np.abs(q).astype(float) @ np.abs(np.repeat(k, nh // nkv, 1)).swapaxes(-1, -2).astype(float), 0)).max()
    unit = np.finfo(dtype).eps * (size + 16)
    reach = [1 + np.abs(v).max(), *[(1 + np.abs(v).max()) * (1 + np.abs(dy).max()) * (1 + max(np.abs(q).max(), np.abs(k).max())) * 40] * 4]
    for a, b, r in zip(found, expected, reach):
        b = b.sum(axis=0) if a.shape != b.shape else b  # the bias is shared by the batch
        assert a.dtype == dtype
        assert np.all(np.abs(a - b) <= 4 * unit * r)


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
