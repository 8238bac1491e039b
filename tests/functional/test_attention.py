"""Attention: against a loop over queries, masks of every kind, shared heads."""

import math

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F
from tinygrad_notes.core import walk

import numpy as np
import pytest

RNG = np.random.default_rng(3)


def attention_loop(q, k, v, may, bias, scale):
    """One query at a time, over the keys that it may attend; (B, nh, Tq, Tk) masks and biases."""
    B, nh, Tq, hd = q.shape
    shared = nh // k.shape[1]
    y = np.zeros((B, nh, Tq, v.shape[-1]))
    for b in range(B):
        for h in range(nh):
            for i in range(Tq):
                keys = np.flatnonzero(may[b, h, i])
                scores = [math.fsum(q[b, h, i] * k[b, h // shared, j]) * scale + bias[b, h, i, j] for j in keys]
                top = max(scores, default=0)
                e = [math.exp(s - top) for s in scores]
                for j, w in zip(keys, e):
                    y[b, h, i] += w / math.fsum(e) * v[b, h // shared, j]
    return y


B, NH, NKV, TQ, TK, HD, VD = 2, 4, 2, 5, 7, 3, 6
I, J = np.arange(TQ)[:, None], np.arange(TK)
SOME = RNG.random((B, 1, TQ, TK)) < 0.6
SOME[0, 0, 1] = False  # a query that may attend to nothing
SETTINGS = [
    ({}, np.True_),
    ({"causal": True}, I + TK - TQ >= J),
    ({"causal": True, "offset": 0}, I >= J),
    ({"causal": True, "offset": -2}, I - 2 >= J),  # the first two queries see nothing
    ({"mask": SOME}, SOME),
    ({"mask": SOME, "causal": True}, SOME & (I + TK - TQ >= J)),
    ({"window": 2, "causal": True}, (I + 2 >= J) & (I + 2 - J < 2)),
    ({"window": 3}, np.abs(I + 2 - J) < 3),
    ({"window": 1, "offset": 1}, I + 1 == J),
    ({"mask": J < 4, "scale": 2.0}, J < 4),
]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("options", "may"), SETTINGS, ids=lambda x: " ".join(x) if isinstance(x, dict) else "")
def test_attention_is_its_definition(options, may, dtype, biased):
    q, k = RNG.normal(size=(B, NH, TQ, HD)).astype(dtype), RNG.normal(size=(B, NKV, TK, HD)).astype(dtype)
    v, bias = RNG.normal(size=(B, NKV, TK, VD)).astype(dtype), RNG.normal(size=(NH, 1, TK)).astype(dtype)
    y = F.scaled_dot_product_attention(q, k, v, bias=bias if biased else None, **options)
    shape = (B, NH, TQ, TK)
    zeros = np.zeros(shape)
    scale = options.get("scale", 1 / math.sqrt(HD))
    expected = attention_loop(*(x.astype(float) for x in (q, k, v)), np.broadcast_to(may, shape), bias + zeros if biased else zeros, scale)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=64 * np.finfo(dtype).eps * np.max(np.abs(v)))
    p = F.attention_weights(q, k, bias=bias if biased else None, **options)
    np.testing.assert_allclose(np.sum(p, -1), np.broadcast_to(may, shape).any(-1), atol=8 * np.finfo(dtype).eps)
    assert np.all(p[~np.broadcast_to(may, shape)] == 0)


def test_shared_heads_equal_repeated_heads():
    q, k, v = RNG.normal(size=(2, 6, 4, 3)), RNG.normal(size=(2, 2, 5, 3)), RNG.normal(size=(2, 2, 5, 4))
    repeated = [np.repeat(x, 3, axis=1) for x in (k, v)]
    np.testing.assert_allclose(
        F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, *repeated), rtol=1e-12, atol=1e-14
    )
    one = F.scaled_dot_product_attention(q[0], k[0], v[0], causal=True)  # no batch axis
    np.testing.assert_array_equal(one, F.scaled_dot_product_attention(q, k, v, causal=True)[0])


def test_no_gradient_reaches_the_future_or_a_masked_key():
    q, k, v = (Tensor(RNG.normal(size=(1, 2, 5, 3))) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, causal=True)
    for g in gradients(np.sum(y[:, :, 2]), [k, v]):
        assert np.all(g[:, :, 3:] == 0) and np.all(np.abs(g[:, :, :3]).sum(-1) > 0)
    mask = np.array([False, True, True, True, True])
    for g in gradients(np.sum(np.square(F.scaled_dot_product_attention(q, k, v, mask=mask))), [k, v]):
        assert np.all(g[:, :, 0] == 0)


def test_fully_masked_queries_have_zero_gradients():
    q, k, v = (Tensor(RNG.normal(size=(1, 1, 3, 2))) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, mask=np.zeros((3, 3), bool))
    found = walk({y.node: np.ones(y.shape)}, [t.node for t in (q, k, v)])
    assert np.all(y.value == 0) and all(np.all(g == 0) for g in found.values())


def test_bias_gradient_is_that_of_the_scores():
    """d/d(bias) where the values are the identity: the rows of the softmax's Jacobian."""
    q, k = RNG.normal(size=(1, 1, 2, 3)), RNG.normal(size=(1, 1, 4, 3))
    bias = Tensor(np.zeros((2, 4)))
    y = F.scaled_dot_product_attention(q, k, np.eye(4)[None, None], bias=bias)
    p = F.attention_weights(q, k)[0, 0]
    g = gradients(y[0, 0, 1, 2], bias)
    np.testing.assert_allclose(g, [[0] * 4, p[1, 2] * ((np.arange(4) == 2) - p[1])], rtol=1e-13)


def test_queries_one_by_one_equal_all_at_once():
    """As with a cache of keys: the default offset puts the last query at the last key."""
    q, k, v = (RNG.normal(size=(2, 2, 6, 4)) for _ in range(3))
    for window in (None, 3):
        whole = F.scaled_dot_product_attention(q, k, v, causal=True, window=window)
        for t in range(6):
            one = F.scaled_dot_product_attention(q[:, :, t : t + 1], k[:, :, : t + 1], v[:, :, : t + 1], causal=True, window=window)
            np.testing.assert_allclose(one[:, :, 0], whole[:, :, t], rtol=0, atol=1e-14)  # means of values of size 1


def test_large_scores():
    q = k = 300 * RNG.normal(size=(1, 1, 6, 4)).astype(np.float32)
    v = RNG.normal(size=(1, 1, 6, 4)).astype(np.float32)
    assert np.all(np.isfinite(F.scaled_dot_product_attention(q, k, v, causal=True)))


def test_documents_may_be_lists():
    q = RNG.normal(size=(2, 2, 5, 4))
    ids = [[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]]
    expected = F.scaled_dot_product_attention(q, q, q, documents=np.array(ids))
    np.testing.assert_array_equal(F.scaled_dot_product_attention(q, q, q, documents=ids), expected)


Q, K = np.ones((2, 4, 5, 8)), np.ones((2, 3, 7, 8))
NAME = "scaled_dot_product_attention"
ERRORS = [
    ((Q, K, K), {}, ValueError, f"{NAME}: 3 key heads cannot be shared evenly by 4 query heads; q (2, 4, 5, 8), k (2, 3, 7, 8)"),
    ((Q, Q[..., :3], Q), {}, ValueError, f"{NAME}: heads of q are 8 wide and those of k 3; q (2, 4, 5, 8), k (2, 4, 5, 3)"),
    ((Q, Q, Q[:, :, 1:]), {}, ValueError, f"{NAME}: k (2, 4, 5, 8) and v (2, 4, 4, 8) must agree in all but the last axis"),
    ((Q, Q[:1], Q[:1]), {}, ValueError, f"{NAME}: q (2, 4, 5, 8) and k (1, 4, 5, 8) must agree in the axes before the heads"),
    ((Q[0, 0],) * 3, {}, ValueError, f"{NAME}: q (5, 8), k (5, 8), v (5, 8); expected (..., heads, T, width)"),
    ((Q,) * 3, {"mask": np.ones((5, 6), bool)}, ValueError, f"{NAME}: mask (5, 6) does not broadcast to the scores (2, 4, 5, 5)"),
    ((Q,) * 3, {"bias": np.ones((3, 5, 5))}, ValueError, f"{NAME}: bias (3, 5, 5) does not broadcast to the scores (2, 4, 5, 5)"),
    (
        (Q,) * 3,
        {"mask": np.ones((5, 5))},
        TypeError,
        f"{NAME}: mask is float64 (5, 5), expected bool, True where a query may attend; what shall be added to the scores goes into bias=",
    ),
    ((Q,) * 3, {"window": 1.5}, TypeError, f"{NAME}: window=1.5, expected an integer"),
    ((Q,) * 3, {"offset": 0.5}, TypeError, f"{NAME}: offset=0.5, expected an integer"),
    (
        (Q,) * 3,
        {"documents": np.zeros((2, 5))},
        TypeError,
        f"{NAME}: documents are float64 (2, 5), expected integers: a number for each key",
    ),
    (
        (Q,) * 3,
        {"documents": [[0, 0], [0, 1]]},
        ValueError,
        f"{NAME}: documents (2, 2), expected (2, 5) with as many queries as keys, 5 and 5 came",
    ),
    ((Q,) * 3, {"window": 0}, ValueError, f"{NAME}: window=0, expected at least 1: a query's own key counts"),
    *(((Q,) * 3, {"causal": c}, TypeError, f"{NAME}: causal={c!r}, expected True or False") for c in ("yes", 1, 0, None, [True])),
    ((Q,) * 3, {"causal": np.ones((2, 2))}, TypeError, f"{NAME}: causal=array([[1., 1.], [1., 1.]]), expected True or False"),
    *(
        ((Q,) * 3, {"scale": s}, ValueError, f"{NAME}: scale is {s}, expected a finite number, or None for 1 / sqrt(hd)")
        for s in (math.nan, math.inf, -np.inf)
    ),
    (
        (Q,) * 3,
        {"scale": Tensor(0.5)},
        TypeError,
        f"{NAME}: scale is Tensor () float64, expected a number; if it is learned, pass q * scale, and scale=1.0",
    ),
]


@pytest.mark.parametrize(("args", "options", "kind", "message"), ERRORS)
def test_errors(args, options, kind, message):
    with pytest.raises(kind) as error:
        F.scaled_dot_product_attention(*args, **options)
    assert str(error.value) == message


@pytest.mark.parametrize(("args", "options", "kind", "message"), [e for e in ERRORS if "documents" not in e[1] and " and v (" not in e[3]])
def test_attention_weights_speaks_of_itself(args, options, kind, message):
    """Of everything that both refuse; the weights have no v and no documents."""
    q, k, v = args
    with pytest.raises(kind) as error:
        F.attention_weights(q, k, **options)
    assert str(error.value) == message.replace(NAME, "attention_weights").replace(f", v {v.shape};", ";")


def test_a_flag_may_be_numpys_and_a_scale_any_finite_number():
    for causal in (True, False):
        np.testing.assert_array_equal(
            F.scaled_dot_product_attention(Q, Q, Q, causal=np.bool_(causal)), F.scaled_dot_product_attention(Q, Q, Q, causal=causal)
        )
    for scale in (0, -2, np.float32(0.5), np.array(0.5)):
        np.testing.assert_array_equal(
            F.scaled_dot_product_attention(Q, Q, Q, scale=scale), F.scaled_dot_product_attention(Q, Q, Q, scale=float(scale))
        )
