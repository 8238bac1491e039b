"""Blocked attention against a dense softmax in longdouble: every size, mask and block."""

import itertools
import tracemalloc
from contextlib import nullcontext

import tinygrad_notes as tn
from tests.fused.oracle import HEADS, KINDS, SCALES, computed, drawn, problem, share, visible
from tests.ops.samples import sample
from tests.ops.test_registry import CHECKS
from tinygrad_notes import Tensor, gradients, threads
from tinygrad_notes import functional as F
from tinygrad_notes.fused import attention, masks
from tinygrad_notes.fused.attention import blocked_attention

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings


@pytest.fixture(autouse=True, scope="module")
def some_heads_at_a_time():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "LARGE", 0)  # the heads come in two parts, on two threads
        yield


SAMPLES = [sample(blocked_attention, case) for case in blocked_attention.cases]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", range(len(SAMPLES)))
def test_every_property_of_an_op(check, case):
    check(sample(blocked_attention, blocked_attention.cases[case]))


SIZES = st.integers(1, 13)


DRAWS = max(1, settings().max_examples // 100)  # one; ten in the nightly profile


@settings(max_examples=2 * settings().max_examples)
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
    check_both(problem(np.random.default_rng(seed), T, S, heads, dtype, kind, **options), block)


@pytest.mark.parametrize("seed", range(20 * DRAWS))
def test_equals_the_dense_softmax_of_any_combination(seed):
    """Hypothesis prefers what is small and simple; here every combination of sizes, masks and offsets is as likely as any other."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        check_both(*drawn(rng))


def check_both(p, block):
    found = computed(p, block=block)
    assert all(a.dtype == p.q.dtype for a in found)
    assert max(share(p, found)) <= 1
    with tn.reference():
        assert max(share(p, computed(p))) <= 1


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 70, "offset": 40}, {"biases": True}])
@pytest.mark.parametrize(("T", "S"), [(1, 300), (150, 70)])
def test_equals_the_dense_softmax_at_the_sizes_of_a_model(T, S, options):
    """Heads 64 wide, blocks as they are chosen by themselves and blocks of 64 with a last one that is not full."""
    p = problem(np.random.default_rng(0), T, S, (2, 1), np.float32, "normal", scale=0.125, width=64, **options)
    for block in ({}, {"block": (64, 64)}):
        assert max(share(p, computed(p, **block))) <= 1


def test_with_reference_runs_the_dense_twin():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 2, 9, 4)) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, causal=True, block=(2, 4))
    with tn.reference():
        twin = F.scaled_dot_product_attention(q, k, v, causal=True, block=(2, 4))
    np.testing.assert_allclose(y, twin, rtol=1e-12, atol=1e-14)
    assert not np.array_equal(y, twin)  # another order of summation: it was another program


HIDING = {
    "a mask": {"masks": True},
    "documents": {"documents": True},
    "causal": {"causal": True},
    "causal, the first query before the first key": {"causal": True, "offset": -3},
    "a window": {"window": 3},
    "a window far ahead": {"window": 3, "offset": 6},
    "a window far behind": {"window": 3, "offset": -6},
    "a causal window": {"causal": True, "window": 2},
    "all": {"masks": True, "documents": True, "causal": True, "window": 4},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("hiding", HIDING)
def test_whatever_hides_a_key_hides_what_stands_there(hiding, biases, dtype):
    """A key or value that is not finite makes NaN of the queries that may see it, and changes no other, in value or gradient."""
    rng = np.random.default_rng(0)
    p = problem(rng, 8, 8, (4, 2), dtype, "normal", biases=biases, **HIDING[hiding])
    for bad in (np.nan, np.inf, -np.inf):
        for j in range(8):
            k, v = p.k.copy(), p.v.copy()
            (k if j % 2 else v)[..., j, 1] = bad
            sees = np.broadcast_to(p.may, (2, 4, 8, 8))[..., j]  # (B, nh, T)
            blind = p._replace(dy=np.where(sees[..., None], 0, p.dy))  # the loss of those that do not see it
            y, dq, *_ = computed(blind._replace(k=k, v=v), block=(3, 3))
            clean, dq_clean, *_ = computed(blind, block=(3, 3))
            assert np.all(np.isnan(y[sees]))
            room = 64 * np.finfo(dtype).eps
            np.testing.assert_allclose(y[~sees], clean[~sees], rtol=room, atol=room)
            np.testing.assert_allclose(dq[~sees], dq_clean[~sees], rtol=room, atol=room)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 1, 2, 3])
def test_masks_of_places_are_what_they_say(causal, window):
    """`hides`, `keys` and `block` of every small mask against the definition, element by element; no block is masked for nothing."""
    for T, S, offset in itertools.product(range(1, 5), range(1, 5), range(-4, 6)):
        mask = masks.masked(T, S, causal=causal, window=window, offset=offset)
        may = visible(T, S, causal=causal, window=window, offset=offset)
        assert mask.hides(T, S) is not bool(may.all())
        for size in (1, 2, 3):
            for i in attention.blocks(T, size):
                first, last = mask.keys(i, S)
                assert 0 <= first <= last
                some = may[i].any(axis=0)
                assert not some[:first].any() and not some[last:].any()
                assert first == last or (some[first] and some[last - 1])
                for j in attention.blocks(S, size):
                    block = mask.block(slice(0, 1), i, j)
                    assert np.array_equal(np.broadcast_to(True if block is None else block, may[i, j].shape), may[i, j])
                    assert (block is None) is bool(may[i, j].all())


def test_masks_that_are_kept_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        masks.by_position(2, 2, 0, True, None)[0, 0] = False


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_finite_keys_are_no_reason_for_a_warning(dtype):
    """The quick look at k and v overflows; their elements are looked at then, and nothing is NaN."""
    most, x = float(np.finfo(dtype).max), np.ones((1, 1, 4, 2), dtype)
    for size in (dtype(most / 16), dtype(np.sqrt(most / x.size * 0.7))):  # each square overflows; the sum of both alone
        y = F.scaled_dot_product_attention(x / size, x * size, x * size, causal=True, block=(2, 2))
        np.testing.assert_allclose(y, x * size, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_calm_is_the_bound_of_cauchy_and_schwarz(sign, dtype):
    limit, size = 0.4 * np.log(np.finfo(dtype).max), np.array([[[[3.0, 4.0]]]], dtype)  # |q| = 5, |k| = 10
    for factor, expected in ((1 - 1e-5, True), (1 + 1e-5, False)):
        assert attention.calm(size, 2 * size, size, None, sign * limit / 50 * factor) == expected
        assert attention.calm(2 * size, size, size, None, sign * limit / 50 * factor) == expected
        values = (float(np.finfo(dtype).max) ** 0.4 / 5 * factor * size).astype(dtype)
        assert attention.calm(size, size, values, None, sign * 0.0) == expected
    assert not attention.calm(size, size, size, np.zeros(1, dtype), 0.0)
    assert not attention.calm(size * dtype(np.finfo(dtype).max / 8), size, size, None, 1.0)  # the square overflows, without a warning


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_values_beside_large_scores_do_not_overflow(dtype):
    """e^S v may be infinite where the mean of v is not: values as large as that need the maximum, though the scores do not."""
    score, size = 0.39 * np.log(np.finfo(dtype).max), np.finfo(dtype).max ** dtype(0.65)
    q, k, v = (Tensor(np.full((1, 4, 1), x, dtype)) for x in (score, 1, size))
    y = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    np.testing.assert_allclose(y.value, size, rtol=4 * score * np.finfo(dtype).eps)  # a score is known to score * eps, and so is e^S
    for g in gradients(np.sum(y), [q, k, v]):
        assert np.all(np.isfinite(g))
    assert attention.calm(q.value, k.value, k.value, None, 1.0) and not attention.calm(q.value, k.value, v.value, None, 1.0)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_any_axes_before_the_heads(batch):
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(*batch, 4, 5, 3)), rng.normal(size=(*batch, 2, 6, 3)), rng.normal(size=(*batch, 2, 6, 2))
    y = F.scaled_dot_product_attention(q, k, v, causal=True)
    for at in np.ndindex(*batch):
        np.testing.assert_allclose(y[at], F.scaled_dot_product_attention(q[at], k[at], v[at], causal=True), rtol=1e-12)


SMALL = st.integers(1, 4)
AXES = st.tuples(*[st.booleans()] * 4)


@given(B=st.integers(1, 2), heads=st.sampled_from([(1, 1), (2, 1), (4, 2)]), T=SMALL, S=SMALL, block=st.tuples(SMALL, SMALL),
       of_bias=AXES, of_mask=AXES, seed=st.integers(0, 99))  # fmt: skip
def test_biases_and_masks_that_broadcast_along_any_axes(B, heads, T, S, block, of_bias, of_mask, seed):
    rng = np.random.default_rng(seed)
    (nh, nkv), full = heads, (B, heads[0], T, S)
    bias, mask = (tuple(n if whole else 1 for n, whole in zip(full, axes)) for axes in (of_bias, of_mask))
    bias, mask = rng.normal(size=bias), rng.random(mask) < 0.7
    q, k, v = rng.normal(size=(B, nh, T, 3)), rng.normal(size=(B, nkv, S, 3)), rng.normal(size=(B, nkv, S, 2))
    dy = rng.normal(size=(B, nh, T, 2))

    def run():
        variables = [Tensor(x) for x in (q, k, v, bias)]
        y = F.scaled_dot_product_attention(*variables[:3], bias=variables[3], mask=mask, block=block)
        return [y.value, *gradients(np.sum(y * dy), variables)]

    with tn.reference():
        expected = run()
    for a, b in zip(run(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * (1 + np.max(np.abs(b))))


@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"mask": True}, {"bias": True}, {"window": 2}, {"scale": 0.3}, {"scale": 0.0}, {"causal": True, "offset": 3}],
    ids=lambda options: " ".join(options),
)
def test_the_weights_are_those_of_the_output(options):
    """weights @ v is the output, whatever hides or shifts the scores."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(2, 2, 6, 3)), rng.normal(size=(2, 2, 6, 2))
    given = {"mask": rng.random((5, 6)) < 0.7, "bias": rng.normal(size=(4, 5, 6))}
    options = {name: given.get(name, value) for name, value in options.items()}
    w = F.attention_weights(q, k, **options)
    np.testing.assert_allclose(w @ np.repeat(v, 2, axis=1), F.scaled_dot_product_attention(q, k, v, **options), rtol=0, atol=1e-14)
    assert F.attention_weights(q.astype(np.float32), k.astype(np.float32)).dtype == np.float32
    assert np.allclose(F.attention_weights(q, k, scale=0.0), 1 / 6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["k", "v"])
def test_what_is_not_finite_and_not_hidden_is_what_the_formula_gives(where, bad):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(1, 3, 2)) for name in "qkv"}
    arrays[where][0, 0, 0] = bad
    with np.errstate(invalid="ignore"):
        y = F.scaled_dot_product_attention(*arrays.values())
        with tn.reference():
            np.testing.assert_array_equal(np.isnan(y), np.isnan(F.scaled_dot_product_attention(*arrays.values())))


def test_heads_that_add_into_one_bias_stay_on_one_thread(monkeypatch):
    sizes = []
    monkeypatch.setattr(attention, "share", lambda n, most, work, size: sizes.append(size) or [work(slice(0, n))])
    rng = np.random.default_rng(0)
    for lead, shared in (((1,), True), ((4,), False)):
        q, k, v = (Tensor(rng.normal(size=(4, 1, 5, 3))) for _ in range(3))
        bias = Tensor(rng.normal(size=(*lead, 1, 5, 5)))
        sizes.clear()
        gradients(np.sum(F.scaled_dot_product_attention(q, k, v, bias=bias)), [q, bias])
        assert (sizes[-1] == 0) is shared


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


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_values_that_nobody_may_see_may_be_as_large_as_they_like(twin, size):
    """dP = dO v^T is infinite there; with scores of some units, where the kernel is calm, and with scores of some hundreds."""
    rng = np.random.default_rng(0)
    q, k, v, dy = rng.normal(size=(4, 1, 2, 6, 4)).astype(np.float32)
    mask = np.ones((6, 6), bool)
    mask[:, 4] = False

    def run(v):
        variables = [Tensor(x) for x in (q * size, k * size, v)]
        with tn.reference() if twin else nullcontext():
            y = F.scaled_dot_product_attention(*variables, mask=mask, block=(4, 3))
            return [y.value, *gradients(np.sum(y * dy), variables)]

    clean = run(v)
    large = v.copy()
    large[..., 4, :] = np.sign(dy[..., 0, :]) * np.finfo(np.float32).max
    with np.errstate(over="ignore", invalid="ignore"):  # the product says so
        found = run(large)
    for a, b in zip(found, clean):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * np.finfo(np.float32).eps * np.abs(b).max())  # scores of some units, known to eps


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
    seen = []
    original = attention.scores
    monkeypatch.setattr(attention, "scores", lambda *args, **how: seen.append(args) or original(*args, **how))

    def count(T, **options):
        seen.clear()
        x = np.random.default_rng(0).normal(size=(1, 1, T, 4))
        F.scaled_dot_product_attention(x, x, x, block=(8, 8), **options)
        return len(seen)

    assert count(64) == 64
    assert count(64, causal=True) == 36  # the lower triangle of 8 x 8 blocks
    assert count(64, causal=True, window=8) <= 2 * 8  # a band: two blocks for each of eight
    assert count(128, causal=True, window=8) <= 2 * 16  # linear in T
