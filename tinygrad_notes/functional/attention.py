"""Attention: every query takes a weighted mean of the values, by how well their keys fit it."""

import math

from tinygrad_notes.functional.activations import softmax

import numpy as np

NAME = "scaled_dot_product_attention"


def allowed(name, Tq, Tk, *, causal=False, window=None, offset=None):
    """Which of Tk keys each of Tq queries may see, (Tq, Tk) bool, or None for all.

    Query i stands at position offset + i among the keys. causal: no key after it. window: only keys
    less than `window` positions away, itself counted.
    """
    if window is not None and window < 1:
        raise ValueError(f"{name}: window={window}, expected at least 1: a query's own key counts")
    if not causal and window is None:
        return None
    position = np.arange(Tq)[:, None] + (Tk - Tq if offset is None else offset)
    behind = position - np.arange(Tk)
    may = np.ones((Tq, Tk), bool) if not causal else behind >= 0
    return may if window is None else may & (np.abs(behind) < window)


def check_attention(name, q, k, v, mask, bias):
    if min(q.ndim, k.ndim, v.ndim) < 3:
        raise ValueError(f"{name}: q {q.shape}, k {k.shape}, v {v.shape}; expected (..., heads, T, width)")
    *batch, nh, Tq, hd = q.shape
    nkv, Tk = k.shape[-3:-1]
    if k.shape[-1] != hd:
        raise ValueError(f"{name}: heads of q are {hd} wide and those of k {k.shape[-1]}; q {q.shape}, k {k.shape}")
    if v.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"{name}: k {k.shape} and v {v.shape} must agree in all but the last axis")
    if k.shape[:-3] != (*batch,):
        raise ValueError(f"{name}: q {q.shape} and k {k.shape} must agree in the axes before the heads")
    if nh % nkv:
        raise ValueError(f"{name}: {nkv} key heads cannot be shared evenly by {nh} query heads; q {q.shape}, k {k.shape}")
    scores = (*batch, nh, Tq, Tk)
    for label, x in (("mask", mask), ("bias", bias)):
        if x is not None and (x.ndim > len(scores) or any(n not in (1, m) for n, m in zip(x.shape[::-1], scores[::-1]))):
            raise ValueError(f"{name}: {label} {x.shape} does not broadcast to the scores {scores}")
    if mask is not None and mask.dtype != bool:
        raise TypeError(
            f"{name}: mask is {mask.dtype} {mask.shape}, expected bool, True where a query may attend; what shall be added to the scores goes into bias="
        )


def weights(name, q, k, causal, mask, bias, window, scale, offset):
    """softmax(q k^T * scale + bias), masked, as (..., nkv, nh / nkv * Tq, Tk): the queries of a shared key head stand in one matrix."""
    *batch, nh, Tq, hd = q.shape
    nkv, Tk = k.shape[-3:-1]
    q = q * (1 / math.sqrt(hd) if scale is None else scale)
    s = np.matmul(q.reshape(*batch, nkv, nh // nkv * Tq, hd), np.swapaxes(k, -1, -2)).reshape(*batch, nh, Tq, Tk)
    if bias is not None:
        s = s + bias
    may = allowed(name, Tq, Tk, causal=causal, window=window, offset=offset)
    if mask is not None:
        may = mask if may is None else may & mask
    if may is not None:
        s = s + np.where(may, 0, -np.inf).astype(q.dtype)
    return softmax(s)


def scaled_dot_product_attention(q, k, v, *, causal=False, mask=None, bias=None, window=None, scale=None, offset=None):
    """softmax(q k^T / sqrt(hd) + bias) v over the keys that each query may attend (Vaswani et al., 2017).

    q (..., nh, Tq, hd); k (..., nkv, Tk, hd) and v (..., nkv, Tk, vd), where nkv divides nh and each
    key head serves nh / nkv neighbouring query heads (Ainslie et al., 2023) -> (..., nh, Tq, vd).
    causal: a query sees no later key; window: only keys less than `window` positions away, itself
    counted; offset: the position of the first query among the keys, Tk - Tq unless given.
    mask: bool, True where a query may attend; bias: added to the scores, with a gradient; both
    broadcast to (..., nh, Tq, Tk). scale: in place of 1 / sqrt(hd).
    A query that may attend to no key gets zeros.
    """
    check_attention(NAME, q, k, v, mask, bias)
    *batch, nh, Tq, _ = q.shape
    nkv, Tk, vd = v.shape[-3:]
    p = weights(NAME, q, k, causal, mask, bias, window, scale, offset)
    return np.matmul(p.reshape(*batch, nkv, nh // nkv * Tq, Tk), v).reshape(*batch, nh, Tq, vd)


def attention_weights(q, k, *, causal=False, mask=None, bias=None, window=None, scale=None, offset=None):
    """The weights of `scaled_dot_product_attention`, (..., nh, Tq, Tk), for pictures: rows sum to 1, or to 0 if nothing may be attended."""
    check_attention("attention_weights", q, k, k, mask, bias)
    return weights("attention_weights", q, k, causal, mask, bias, window, scale, offset)
