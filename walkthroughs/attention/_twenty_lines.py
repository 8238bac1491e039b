"""FlashAttention in twenty lines of NumPy, which the walkthroughs of it derive, count and break; and the plain formula beside it.

Equations (1) to (3) of walkthroughs/attention/flash.py: for the scores s and the values v of one more block,

    m' = max(m, max s),   l' = e^(m - m') l + sum e^(s - m'),   o' = e^(m - m') o + e^(s - m') v;   at the end y = o / l.

q (T, d), k (S, d), v (S, vd), may (T, S) bool or None: one head. Dao et al. (2022), with the loop over queries outside as in Dao (2023).
"""

import math

from tinygrad_notes import functional as F

import numpy as np


def fold(m, l, o, s, v):
    """Equations 1 to 3 for a block: scores s (Br, Bc), values v (Bc, vd); m, l (Br, 1), o (Br, vd) of what has been seen."""
    m_new = np.maximum(m, np.max(s, axis=1, keepdims=True))
    shift = np.where(m_new == -np.inf, 0, m_new)  # a row that has seen nothing yet: e^(-inf - 0) = 0, and not NaN
    keep, p = np.exp(m - shift), np.exp(s - shift)
    return m_new, keep * l + np.sum(p, axis=1, keepdims=True), keep * o + p @ v


def scores(q, k, i, j, may):
    s = q[i] @ k[j].T / math.sqrt(q.shape[1])
    return s if may is None else np.where(may[i, j], s, -np.inf)


def flash(q, k, v, size=(3, 3), may=None, fold=fold, watch=None):
    """q (T, d), k (S, d), v (S, vd), may (T, S) bool or None -> y (T, vd) and L (T, 1), the log of each row's sum of e^s."""
    y, L = np.empty((len(q), v.shape[1]), q.dtype), np.empty((len(q), 1), q.dtype)
    for i in blocks(len(q), size[0]):
        n = i.stop - i.start
        m, l, o = np.full((n, 1), -np.inf, q.dtype), np.zeros((n, 1), q.dtype), np.zeros((n, v.shape[1]), q.dtype)
        for j in blocks(len(k), size[1]):
            if may is not None and not may[i, j].any():
                continue  # a block that nobody may see is never computed
            m, l, o = fold(m, l, o, scores(q, k, i, j, may), v[j])
            if watch:
                watch(i, j, m, l, o)
        some = l > 0
        y[i], L[i] = o / np.where(some, l, 1), np.where(some, m + np.log(np.where(some, l, 1)), -np.inf)
    return y, L


def blocks(n, size):
    """0 .. n in slices; the last one may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def dense(q, k, v, may=True):
    """The plain formula; runs on Tensors, so that the engine differentiates it."""
    return F.softmax(np.where(may, q @ k.T / math.sqrt(q.shape[1]), -np.inf)) @ v
