"""Attention in blocks, by the online softmax: the T x T matrix of scores never exists.

Dao, Fu, Ermon, Rudra, Ré (2022), "FlashAttention: Fast and Memory-Efficient Exact Attention with
IO-Awareness"; loop order of Dao (2023), "FlashAttention-2". For a block of queries the keys come by
block after block, and three running values per query suffice:

    S = q k^T * scale + bias                       scores of this block, masked ones -inf
    m' = max(m, rowmax S)                          running maximum
    P = exp(S - m')
    l' = e^(m - m') l + rowsum P                   running sum          (forward)
    o' = e^(m - m') o + P v                        running output
    at the end  y = o / l,   L = m + log l         L is all that the backward pass needs

    P = exp(S - L)                                 computed again, block by block
    dv += P^T dy;   dP = dy v^T;   D = rowsum(dy * y)
    dS = P * (dP - D)                              (backward)
    dq += dS k * scale;   dk += dS^T q * scale;   dbias += dS

The sum l is one more column of o, from the product of P with a column of ones beside v; in the same way a
column beside q holds -L, and one beside dy holds -D, so that S - L and dP - D come out of their products.

Where no score can be large, by |q k| <= |q| |k|, e^S cannot overflow: then m stays 0, and the running maximum
and the rescale are left out ("calm").

Where the scores are few, and each query meets all its keys in one block, P is kept, with l in the place of L. To compute it
again saves memory, of which short sequences need little.

N batch and key heads together, R query heads that share a key head, T queries, S keys, hd and vd widths of q, k and of v.
`dense` is the same function in a few lines of NumPy.
"""

import math
from collections.abc import Iterator
from typing import Any

from tinygrad_notes.fused.masks import Mask, cut, masked
from tinygrad_notes.fused.rows import sum_of_products, sum_of_rows
from tinygrad_notes.registry import fused
from tinygrad_notes.threads import share
from tinygrad_notes.transforms import stop_gradient

import numpy as np

FEW = 8  # up to so many queries, copying the keys does not pay: see `columns`
NARROW = 32  # heads of so few numbers: a product of vectors for each row costs more than a pass over all and one product
KEPT = 2**21  # scores, 8 MB in float32: see `keeps`
FORWARD, BACKWARD = 250, 300  # what one score costs beside the products of matrices, in multiply-adds


def blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def most(R: int, T: int, S: int, size: tuple[int, int]) -> int:
    """So many heads at once that a block of scores (about a megabyte) stays in the cache."""
    return 2**18 // max(1, R * min(T, size[0]) * min(S, size[1]))


def products_of_rows(x, y):
    """sum_of_products, for heads: (..., d) -> (..., 1)"""
    return sum_of_rows(x * y) if x.shape[-1] <= NARROW else sum_of_products(x, y)


def all_finite(x):
    """Whether no number of x is infinite or NaN. False, too, for numbers so large that their squares are infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.vdot(x, x)))  # a sum of squares is finite only if all are: one quick pass


def bad_rows(*arrays):
    """Which rows of k or v (N, 1, S, .) hold a number that is not finite, (N, 1, 1, S), or None.

    Behind a mask may stand anything, also NaN, and 0 * NaN would let it through: such rows become zero. A query that may
    see one gets NaN scores instead (see `scores`).
    """
    if all(map(all_finite, arrays)):
        return None
    bad = ~np.logical_and.reduce([np.isfinite(x).all(axis=-1) for x in arrays])
    return bad[:, :, None] if bad.any() else None


def without(bad, k, v):
    """k and v with these rows set to zero."""
    return (k, v) if bad is None else tuple(np.where(np.swapaxes(bad, -1, -2), 0, x) for x in (k, v))


def calm(q, k, v, bias, scale):
    """Whether no score, by Cauchy and Schwarz, can come near the range of exp, so that a maximum need not be subtracted. All is finite then."""
    if bias is not None:
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # of nothing times infinity no bound is known: NaN is not below it
        bound = abs(scale) * np.sqrt(products_of_rows(q, q).max() * products_of_rows(k, k).max())
        values = np.sqrt(np.vdot(v, v))  # of all together: far from any limit, and quicker than the largest
    largest = float(np.finfo(q.dtype).max)  # e^S and v may each use up .4 of its digits, so that the sums have room for many keys
    return bool(bound < 0.4 * math.log(largest)) and bool(values < largest**0.4)


def with_column(x, column):
    """x (..., d) and one more column."""
    wider = np.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    wider[..., :-1] = x
    wider[..., -1:] = column
    return wider


def columns(x, T):
    """x (..., S, d) as (..., d, S), to stand on the right of a product of T rows."""
    turned = np.swapaxes(x, -1, -2)
    # If BLAS has to turn it, it takes a tenth longer, and twice as long for short sequences.
    return np.ascontiguousarray(turned) if T > FEW else turned


def columns_and_ones(x):
    """columns(x), and a row of ones below: (..., S, d) -> (..., d + 1, S)"""
    *N, S, d = x.shape
    taller = np.empty((*N, d + 1, S), x.dtype)
    taller[..., :-1, :] = np.swapaxes(x, -1, -2)
    taller[..., -1, :] = 1
    return taller


def over_queries(x):
    """The sum over the R query heads that share a key head."""
    return x if x.shape[1] == 1 else x.sum(axis=1, keepdims=True)


def keeps(N, R, T, S, size) -> bool:
    """Whether the forward pass keeps P for the backward pass."""
    return N * R * T * S <= KEPT and size[1] >= S


def scores(q, kT, bias, bad, n, i, j, out=None):
    """S of one block, (n, R, i, j). q is scaled."""
    s = np.matmul(q, kT[n, :, :, j], out=out)
    if bias is not None:
        s += cut(bias, n, i, j)
    if bad is not None:
        np.copyto(s, np.nan, where=bad[n, :, :, j])
    return s


def hide(s, may):
    """-inf in place of the scores that may not be seen: e^S is 0."""
    if may is not None:
        np.copyto(s, -np.inf, where=~may)


def erase(p, may):
    """The same for P = e^S of calm scores, which is finite: a product with 0 and 1 takes a third of the time."""
    if may is not None:
        p *= may.astype(p.dtype)


def grouped(q, k, v):
    """Query heads beside those that share their key head: q (..., nh, T, hd), k and v (..., nkv, S, .) -> (N, R, T, hd), (N, 1, S, .)."""
    *batch, nkv, S, _ = k.shape
    N = math.prod(batch) * nkv
    R = q.shape[-3] // nkv
    return q.reshape(N, R, *q.shape[-2:]), k.reshape(N, 1, *k.shape[-2:]), v.reshape(N, 1, *v.shape[-2:])


def forward(q, k, v, bias, *, mask: Mask, scale: float, size: tuple[int, int]):
    """q (..., nh, T, hd), k (..., nkv, S, hd), v (..., nkv, S, vd), bias that broadcasts to (N, R, T, S) or None
    -> y (..., nh, T, vd); saved are y as (N, R, T, vd), L (N, R, T, 1), None (or l, and P times l (N, R, T, S), see `keeps`),
    `bad_rows` and whether the scores were calm."""
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = grouped(q, k, v)
    (N, R, T, _), S, vd = q.shape, k.shape[2], v.shape[-1]
    no_maximum = T > 1 and calm(q, k, v, bias, scale)  # for a single query the maximum costs less than the bound
    bad = None
    if mask.hides(T, S) and not no_maximum:
        bad = bad_rows(k, v)
        k, v = without(bad, k, v)
    kT, v1 = columns(k, T), with_column(v, 1)
    far = np.finfo(q.dtype).max / 4  # as L of a row without keys: P = exp(S - L) is zero (infinity would meet zeros in a product)
    y = np.empty((N, R, T, vd), q.dtype)
    L = np.empty((N, R, T, 1), q.dtype)
    P = np.empty((N, R, T, S), q.dtype) if keeps(N, R, T, S, size) else None  # not divided by l yet

    def some_heads(n):
        for i in blocks(T, size[0]):
            qi = q[n, :, i] * scale
            m = np.full((*qi.shape[:-1], 1), 0 if no_maximum else -np.inf, q.dtype)
            o = np.zeros((*qi.shape[:-1], vd + 1), q.dtype)  # the last column is l
            for j, may in mask.blocks(n, i, S, size[1]):
                s = scores(qi, kT, bias, bad, n, i, j, out=None if P is None else P[n, :, i, j])
                if not no_maximum:
                    hide(s, may)
                    m_new = np.maximum(m, s.max(axis=-1, keepdims=True))
                    shift = np.where(m_new == -np.inf, 0, m_new)  # a row that has seen nothing yet stays zero, not NaN
                    s -= shift
                    o *= np.exp(m - shift)
                    m = m_new
                p = np.exp(s, out=s)
                if no_maximum:
                    erase(p, may)
                o += np.matmul(p, v1[n, :, j])
            l = o[..., -1:]
            if not l.all():  # rows without keys: zeros
                m, l = np.where(l == 0, far, m), np.where(l == 0, 1, l)
            np.divide(o[..., :-1], l, out=y[n, :, i])
            L[n, :, i] = m + np.log(l) if P is None else l

    share(N, most(R, T, S, size), some_heads, N * R * T * S * (q.shape[-1] + vd + FORWARD))
    return y.reshape(shape), (y, L, P, bad, no_maximum)


def backward(dy, saved, q, k, v, bias, *, needs, mask: Mask, scale: float, size: tuple[int, int]):
    """dy as y -> dq, dk, dv, dbias, each as what it belongs to; dbias None where `needs` is false"""
    found = [np.zeros(x.shape, x.dtype) for x in (q, k, v)]
    dq, dk, dv = grouped(*found)  # views of these
    q, k, v = grouped(q, k, v)
    (y, L, P, bad, no_maximum), (N, R, T, _), S = saved, q.shape, k.shape[2]
    dy = dy.reshape(y.shape)
    k, v = without(bad, k, v)
    k1T, v1T = columns_and_ones(k) if P is None else None, columns_and_ones(v)
    dbias = np.zeros(bias.shape, bias.dtype) if needs[3] else None

    def some_heads(n):
        for i in blocks(T, size[0]):
            D = products_of_rows(dy[n, :, i], y[n, :, i])
            dy1, qi = with_column(dy[n, :, i], -D), q[n, :, i] * scale
            dyi, q1 = dy1[..., :-1], with_column(qi, -L[n, :, i]) if P is None else None
            for j, may in mask.blocks(n, i, S, size[1]):
                if P is None:
                    s = scores(q1, k1T, bias, bad, n, i, j)  # S - L
                    if not no_maximum:
                        hide(s, may)
                    p = np.exp(s, out=s)
                    if no_maximum:
                        erase(p, may)
                else:
                    p = P[n, :, i, j] / L[n, :, i]  # L is l here
                dv[n, :, j] += over_queries(np.matmul(np.swapaxes(p, -1, -2), dyi))
                ds = np.matmul(dy1, v1T[n, :, :, j])  # dP - D
                if may is not None and not all_finite(ds):
                    np.copyto(ds, 0, where=~may)  # the values that are hidden may be so large that dP is infinite: P is 0 there
                ds *= p
                dq[n, :, i] += np.matmul(ds, k[n, :, j])
                dk[n, :, j] += over_queries(np.matmul(np.swapaxes(ds, -1, -2), qi))
                if dbias is not None:
                    part = cut(dbias, n, i, j)  # a view: summed over the axes along which the bias is repeated
                    part += ds.sum(axis=tuple(a for a in range(4) if part.shape[a] != ds.shape[a]), keepdims=True)

    shared = dbias is not None and len(dbias) == 1  # heads that add into the same numbers cannot do so at the same time
    work = 0 if shared else N * R * T * S * (5 * dy.shape[-1] + BACKWARD)
    share(N, most(R, T, S, size), some_heads, work)
    dq *= scale
    return *found, dbias


def dense(q, k, v, bias, *, mask: Mask, scale: float, size: Any = None):
    """The transparent twin, for arrays as in `forward`: all scores at once. Softmax over the keys that each query may see; zeros where there are none."""
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = grouped(q, k, v)
    (N, _, T, _), S = q.shape, k.shape[2]
    bad = bad_rows(stop_gradient(k), stop_gradient(v)) if mask.hides(T, S) else None
    k, v = without(bad, k, v)
    s = np.matmul(q * scale, np.swapaxes(k, -1, -2))
    if bias is not None:
        s = s + bias
    if bad is not None:
        s = np.where(bad, np.nan, s)
    may = mask.block(slice(0, N), slice(0, T), slice(0, S)) if T and S else None
    may = np.ones(s.shape, bool) if may is None else np.broadcast_to(may, s.shape)
    top = np.max(stop_gradient(s), axis=-1, keepdims=True, where=may, initial=-np.inf)  # any shift gives the same weights
    s = np.where(may, s, top) - np.where(np.isneginf(top), 0, top)
    e = np.where(may, np.exp(s), 0)
    total = np.sum(e, axis=-1, keepdims=True)
    weights = np.where(may, e / np.where(total == 0, 1, total), 0)  # once more: an infinite gradient of what is hidden ends here
    return np.matmul(weights, v).reshape(shape)


def _case(T, S, *, N=2, R=2, bias=None, size=(2, 3), **mask):
    return ((N, R, T, 3), (N, 1, S, 3), (N, 1, S, 2), bias, {"mask": masked(T, S, **mask), "scale": 0.6, "size": size})


CASES = [
    _case(5, 7, bias=(1, 2, 5, 7)),
    _case(7, 7, causal=True),
    _case(4, 9, causal=True, window=3, bias=(2, 1, 1, 9)),
    _case(6, 6, window=2, documents=(np.array([[0, 0, 0, 1, 1, 2]]), np.array([[0, 0, 0, 1, 1, 2]]))),
    _case(5, 4, causal=True),  # the first query stands before the first key: a row without keys
    _case(3, 4, given=np.array([[True, False, True, False], [False] * 4, [True] * 4])[None, None]),
    _case(5, 5, causal=True, size=(2, 5)),  # P is kept
    _case(5, 4, causal=True, window=3, bias=(2, 1, 5, 4), size=(3, 8)),
]
blocked_attention = fused("blocked_attention", forward, backward, dense, cases=CASES)
