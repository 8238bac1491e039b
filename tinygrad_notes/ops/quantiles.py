"""Medians, quantiles and percentiles: of the elements that they lie between, and of the part that is asked for."""

from tinygrad_notes.binding import label, refuse_out
from tinygrad_notes.core import Variable, table
from tinygrad_notes.ops.contractions import as_array
from tinygrad_notes.ops.indexing import scatter_add
from tinygrad_notes.ops.reductions import AXES, rows
from tinygrad_notes.registry import op, plain

import numpy as np


def by_rank(g, y, x, *, axis, positions, weights=None):
    """Give g to the elements at the ranks `positions(n)` of each row of n numbers; a fraction shares it with the next.

    positions(n) has the shape of q; NaN does not count. Equal elements keep their order. With
    weights, the output is the first element of its value.
    """
    flat, back = rows(x, axis)
    if not flat.size:
        return back(flat * 0)
    (B, n), row = flat.shape, np.arange(flat.shape[0])[:, None]
    order = np.argsort(flat, axis=1, kind="stable")  # NaN comes last
    counts = np.sum(~np.isnan(flat), axis=1)
    sizes, which = np.unique(np.maximum(counts, 1), return_inverse=True)
    position = np.reshape([positions(np.arange(float(size))) for size in sizes], (len(sizes), -1))[which.ravel()]  # (B, Q)
    if weights is not None:
        ys = np.transpose(np.reshape(y, (-1, B)))
        position = np.argmax(flat[row, order][:, None, :] == ys[:, :, None], axis=2)
    low = np.floor(position).astype(int)
    fraction = position - low
    g = np.where(counts[:, None] > 0, np.transpose(np.reshape(g, (-1, B))), 0)

    def give(rank, share):
        return scatter_add(g * share.astype(g.dtype), index=(row, order[row, rank]), shape=(B, n))

    return back(give(low, 1 - fraction) + give(np.minimum(low + 1, n - 1), fraction))


def median_rule(g, y, x, *, axis=None, overwrite_input=False, keepdims=False):
    return by_rank(g, y, x, axis=axis, positions=np.median)


def keep_input(function):
    """overwrite_input= allows NumPy to reorder the array, which a Tensor does not."""
    return lambda *args, overwrite_input=False, **params: function(*args, **params)


# The rank of the quantile q of n numbers is n q + a + q (1 - a - b) - 1, counted from 0 (Hyndman and Fan, 1996): a, b.
LINES = {
    "interpolated_inverted_cdf": (0, 1),
    "hazen": (0.5, 0.5),
    "weibull": (0, 0),
    "linear": (1, 1),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}


def quantile_by_q(function, one, a, q, axis=None, out=None, overwrite_input=False, **params):
    """A quantile on its way between two elements, as q moves; `one` is the q of the largest, 1 or 100.

    At an element the slope is that of the piece to its right. The methods that jump have slope 0 in q.
    """
    if out is not None:
        raise refuse_out(label(function))
    if params.get("method", "linear") not in LINES:
        return function(a, plain(q), axis=axis, **params)
    expected = np.asarray(function(plain(a), plain(q), axis=axis, **params))  # its shape and its NaN, and NumPy's own errors
    first, last = LINES[params.get("method", "linear")]
    flat, _ = rows(as_array(a), axis)
    if not flat.size:
        return expected
    values, n = np.sort(flat, axis=1), np.sum(~np.isnan(flat), axis=1)  # NaN comes last
    part, count = np.reshape(q, (-1, 1)) / one, n.astype(q.dtype)
    rank = np.clip(count * part + first + part * (1 - first - last) - 1, 0, np.maximum(count - 1, 0))  # (Q, B)
    low = np.minimum(np.floor(rank).astype(int), np.maximum(n - 1, 0))
    row = np.arange(len(n))
    below, above = values[row, low], values[row, np.minimum(low + 1, np.maximum(n - 1, 0))]
    y = np.reshape(below + (above - below) * (rank - low.astype(q.dtype)), expected.shape)
    return np.where(np.isnan(expected), expected, y)


def quantile_rule(function):
    def rule(g, y, x, *, q, axis=None, overwrite_input=False, method="linear", keepdims=False, weights=None):
        return by_rank(g, y, x, axis=axis, positions=lambda ranks: function(ranks, q, method=method), weights=weights)

    return rule


def take_q(function, one):
    """Let q be a Tensor."""
    made = table[function]

    def call(*args, **kwargs):
        q = args[1] if len(args) > 1 else kwargs.get("q")
        if not isinstance(q, Variable):
            return made(*args, **kwargs)
        return quantile_by_q(function, one, **(dict(zip(made.names, args)) | kwargs))

    table[function] = call


METHODS = "inverted_cdf averaged_inverted_cdf closest_observation interpolated_inverted_cdf hazen weibull linear median_unbiased normal_unbiased lower higher midpoint nearest"
SOME = np.array([[0.1, 0.5], [0.0, 1.0]])
for median, quantile, percentile in ((np.median, np.quantile, np.percentile), (np.nanmedian, np.nanquantile, np.nanpercentile)):
    op(median, median_rule, forward=keep_input(median), cases=[*AXES, ((5,),)])
    cases = [
        ((3, 4), 0.3),
        ((3, 4), SOME, {"axis": 1}),
        ((2, 3, 4), SOME[0], {"axis": (0, -1), "keepdims": True}),
        ((), 0.5),
        ((5, 2), {"q": 0.7, "axis": -2}),
    ]
    cases += [((7,), 0.37, {"method": method}) for method in METHODS.split()]
    cases += [((5,), 0.6, {"weights": np.array([1.0, 2.0, 0.5, 1.0, 3.0]), "method": "inverted_cdf"})]
    cases += [((4, 2), (3,), {"axis": 0, "method": method}) for method in LINES]
    cases += [((3, 4), (2, 2), {"axis": (0, 1), "keepdims": True}), ((3,), ()), ((3, 4), (), {"axis": 1, "method": "lower"})]
    op(quantile, quantile_rule(quantile), forward=keep_input(quantile), cases=cases, domain=[None, (0.1, 0.9)])
    cases = [
        ((3, 4), 30),
        ((3, 4), 100 * SOME, {"axis": 1}),
        ((5,), 40.0, {"method": "hazen", "keepdims": True}),
        ((3, 4), (2,), {"axis": 1}),
    ]
    op(percentile, quantile_rule(percentile), forward=keep_input(percentile), cases=cases, domain=[None, (10.0, 90.0)])
    take_q(quantile, 1)
    take_q(percentile, 100)
