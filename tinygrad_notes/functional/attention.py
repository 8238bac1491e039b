"""Attention: every query takes a weighted mean of the values, by how well their keys fit it."""

import math

from tinygrad_notes.core import describe
from tinygrad_notes.functional.define import check_flag, check_integer, takes_lists
from tinygrad_notes.fused.kernels import blocked_attention
from tinygrad_notes.fused.masks import masked

import numpy as np

NAME = "scaled_dot_product_attention"


def check_window(name, window):
    if window is None:
        return
    check_integer(name, "window", window)
    if window < 1:
        raise ValueError(f"{name}: window={window}, expected at least 1: a query's own key counts")


def check_scale(name, scale):
    """ValueError unless the scale is finite."""
    try:
        finite = math.isfinite(scale)
    except TypeError:
        learned = "; if it is learned, pass q * scale, and scale=1.0" if hasattr(scale, "shape") else ""
        raise TypeError(f"{name}: scale is {describe(scale)}, expected a number{learned}") from None
    if not finite:
        raise ValueError(f"{name}: scale is {scale}, expected a finite number, or None for 1 / sqrt(hd)")


def check_attention(name, q, k, v, mask, bias, causal, window, scale, offset):
    if min(q.ndim, k.ndim, v.ndim) < 3:
        values = f", v {v.shape}" if name == NAME else ""
        raise ValueError(f"{name}: q {q.shape}, k {k.shape}{values}; expected (..., heads, T, width)")
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
    if causal.__class__ is not bool:
        check_flag(name, "causal", causal)
    check_window(name, window)
    if scale is not None:
        check_scale(name, scale)
    if offset is not None:
        check_integer(name, "offset", offset)


def spread(x, q, k):
    """A mask or bias that broadcasts to (..., nh, Tq, Tk) as one that broadcasts to the groups, (N|1, R|1, Tq|1, Tk|1)."""
    if x is None:
        return None
    *batch, nh, _, _ = q.shape
    nkv = k.shape[-3]
    x = x.reshape((1,) * (q.ndim - x.ndim) + x.shape)
    if all(n == 1 for n in x.shape[:-2]):
        return x.reshape(1, 1, *x.shape[-2:])
    return np.broadcast_to(x, (*batch, nh, *x.shape[-2:])).reshape(-1, nh // nkv, *x.shape[-2:])


@takes_lists("q", "k", "v", "mask", "bias")
def scaled_dot_product_attention(
    q, k, v, *, causal=False, mask=None, bias=None, window=None, scale: float | None = None, offset=None, documents=None, block=None
):
    """softmax(q k^T / sqrt(hd) + bias) v over the keys that each query may attend (Vaswani et al., 2017).

    q (..., nh, Tq, hd); k (..., nkv, Tk, hd) and v (..., nkv, Tk, vd), where nkv divides nh and each
    key head serves nh / nkv neighbouring query heads (Ainslie et al., 2023) -> (..., nh, Tq, vd).
    causal: a query sees no later key; window: only keys less than `window` positions away, itself
    counted; offset: the position of the first query among the keys, Tk - Tq unless given.
    mask: bool, True where a query may attend; bias: added to the scores, with a gradient; both
    broadcast to (..., nh, Tq, Tk). documents: integers (..., T), where Tq = Tk = T: a query sees only keys of
    the same number. scale: in place of 1 / sqrt(hd). A query that may attend to no key gets zeros.
    What is hidden by mask, causal, window or documents may hold anything, also NaN; a bias of -inf hides only what is finite.

    Computed block by block (see fused/attention.py), so that memory grows with T and not with its
    square; block: the numbers of queries and of keys in a block, chosen by length unless given.
    """
    check_attention(NAME, q, k, v, mask, bias, causal, window, scale, offset)
    if block is not None and (np.shape(block) != (2,) or min(block) < 1):
        raise ValueError(f"{NAME}: block={block!r}, expected two numbers of at least 1: how many queries, and how many keys")
    *batch, nh, Tq, hd = q.shape
    nkv, Tk, _ = v.shape[-3:]
    ids = None if documents is None else per_group(NAME, documents, batch, nkv, Tq, Tk)
    return blocked_attention(
        q,
        k,
        v,
        spread(bias, q, k),
        mask=masked(Tq, Tk, causal=causal, window=window, offset=offset, given=spread(mask, q, k), documents=ids),
        scale=1 / math.sqrt(hd) if scale is None else scale,
        size=block or block_size(Tk),
    )


def block_size(Tk):
    """Measured: a smaller block of queries sees fewer keys that are hidden from it, a larger one makes faster products."""
    return (128, 512) if Tk <= 256 else (192, 512) if Tk <= 512 else (256, 256) if Tk <= 4096 else (512, 512)


def per_group(name, documents, batch, nkv, Tq, Tk):
    documents = np.asarray(documents)
    if documents.dtype.kind not in "iu":
        raise TypeError(f"{name}: documents are {documents.dtype} {documents.shape}, expected integers: a number for each key")
    if Tq != Tk or documents.shape != (*batch, Tk):
        raise ValueError(f"{name}: documents {documents.shape}, expected {(*batch, Tk)} with as many queries as keys, {Tq} and {Tk} came")
    ids = np.repeat(documents.reshape(-1, Tk), nkv, axis=0)  # the key heads of an example lie side by side
    return ids, ids


@takes_lists("q", "k", "mask", "bias")
def attention_weights(q, k, *, causal=False, mask=None, bias=None, window=None, scale: float | None = None, offset=None):
    """The weights of `scaled_dot_product_attention`, (..., nh, Tq, Tk), for pictures: rows sum to 1, or to 0 if nothing may be attended."""
    check_attention("attention_weights", q, k, k, mask, bias, causal, window, scale, offset)
    identity = np.eye(k.shape[-2], dtype=k.dtype)  # as values, one unit vector for each key: the output is the weights
    v = np.broadcast_to(identity, (*k.shape[:-1], k.shape[-2]))
    return scaled_dot_product_attention(q, k, v, causal=causal, mask=mask, bias=bias, window=window, scale=scale, offset=offset)
