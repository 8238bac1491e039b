"""Causal attention by hand in blocks: the online softmax, with the blocks above the diagonal left out.

See tinygrad_notes/fused/attention.py for the equations; here without all that it can besides.
"""

import math

from benchmarks.by_hand.layers import row_max
from benchmarks.workloads import Prepared

import numpy as np


def blocks(n, size):
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def block_sizes(T):
    """(queries, keys), as measured."""
    return (256, 256) if T <= 512 else (256, 1024) if T <= 4096 else (512, 512)


def scores(q, k, i, j):
    """Of queries i, which are scaled already, and keys j; -inf where a key is later than its query."""
    s = q @ k.T
    if j.stop > i.start + 1:
        np.copyto(s, -np.inf, where=np.arange(i.start, i.stop)[:, None] < np.arange(j.start, j.stop))
    return s


def forward(q, k, v, scale, y):
    """One head, (T, hd): writes y, returns the logarithms of the rows' sums of exp(scores), (T, 1)."""
    T = len(q)
    rows, columns = block_sizes(T)
    L = np.empty((T, 1), q.dtype)
    ones = np.ones(columns, q.dtype)
    for i in blocks(T, rows):
        qi, o = q[i] * scale, np.zeros_like(y[i])
        m, l = np.full((len(qi), 1), -np.inf, q.dtype), np.zeros((len(qi), 1), q.dtype)
        for j in blocks(i.stop, columns):
            s = scores(qi, k[j], i, j)
            m_new = np.maximum(m, row_max(s)[:, None])
            s -= m_new
            w = np.exp(s, out=s)
            shrink = np.exp(m - m_new)
            l *= shrink
            l += (w @ ones[: w.shape[1]])[:, None]
            o *= shrink
            o += w @ v[j]
            m = m_new
        np.divide(o, l, out=y[i])
        L[i] = m + np.log(l)
    return L


def backward(dy, q, k, v, scale, y, L, dq, dk, dv):
    """One head: writes dq, and adds to dk and dv."""
    T = len(q)
    rows, columns = block_sizes(T)
    D = np.einsum("td,td->t", dy, y)[:, None]
    for i in blocks(T, rows):
        qi = q[i] * scale
        dqi = np.zeros_like(qi)
        for j in blocks(i.stop, columns):
            s = scores(qi, k[j], i, j)
            s -= L[i]
            w = np.exp(s, out=s)
            dv[j] += w.T @ dy[i]
            ds = dy[i] @ v[j].T
            ds -= D[i]
            ds *= w
            dqi += ds @ k[j]
            dk[j] += ds.T @ qi
        np.multiply(dqi, scale, out=dq[i])


def attention(params, batch, *, B, heads, width, T):
    q, k, v = (params[name].reshape(B * heads, T, width) for name in "qkv")
    dy = batch["dy"].reshape(q.shape)
    scale = 1 / math.sqrt(width)

    def step():
        y, dq, dk, dv = np.empty_like(q), np.empty_like(q), np.zeros_like(q), np.zeros_like(q)
        for n in range(B * heads):
            L = forward(q[n], k[n], v[n], scale, y[n])
            backward(dy[n], q[n], k[n], v[n], scale, y[n], L, dq[n], dk[n], dv[n])
        return y, {"q": dq, "k": dk, "v": dv}

    def outputs():
        y, gradients = step()
        return {"loss": np.asarray((y * dy).sum()), **{name: g.reshape(B, heads, T, width) for name, g in gradients.items()}}

    return Prepared(step, outputs, dict)
