"""Functions of order: sorted, distinct, counted."""

import math
from typing import Any

from tinygrad_notes.binding import Given
from tinygrad_notes.core import Variable, table
from tinygrad_notes.ops.indexing import arrays_of
from tinygrad_notes.registry import compose, constant, op, plain, refuse

import numpy as np

# --- order ------------------------------------------------------------------------------------


def follow(g, y, x, axis):
    """y has the elements of x along the axis in another order: each gradient goes where its element came from.

    Sorted, x and y are the same, so the k-th of y is the k-th of x; equal elements keep their order.
    """
    by_rank = np.take_along_axis(g, np.argsort(y, axis, kind="stable"), axis)
    rank = np.argsort(np.argsort(x, axis, kind="stable"), axis)
    return np.take_along_axis(by_rank, rank, axis)


def sort_rule(g, y, x, *, axis=-1, kind=None, stable=None):
    return np.reshape(follow(g, y, np.ravel(x), 0), x.shape) if axis is None else follow(g, y, x, axis)


def partition_rule(g, y, a, *, kth, axis=-1, kind=None):
    return np.reshape(follow(g, y, np.ravel(a), 0), a.shape) if axis is None else follow(g, y, a, axis)


SORTS = [((3, 4),), ((3, 4), {"axis": 0}), ((3, 4), {"axis": None}), ((0,),)]
op(np.sort, sort_rule, cases=[*SORTS, ((5,), {"kind": "stable"}), ((5,), {"stable": True})])
op(np.partition, partition_rule, cases=[((3, 4), 1), ((4, 3), [0, 2], {"axis": 0}), ((3, 4), 5, {"axis": None})])
constant(np.argsort, np.argpartition, np.lexsort, np.searchsorted, np.digitize)


def unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, **kwargs):
    """The distinct elements: each is the first of its equals, and the gradient goes there."""
    _, first, *others = np.unique(plain(ar), True, return_inverse, return_counts, axis, **kwargs)
    values = np.take(ar, first, axis)
    if return_index:
        others = [first, *others]
    return (values, *others) if others else values


def distinct(function):
    """np.unique_values and its kin, which give a plain array or a named tuple with `values`."""

    def body(x, /):
        values = np.ravel(x)[np.unique(plain(x), return_index=True, equal_nan=False)[1]]
        result = function(plain(x))
        return result._replace(values=values) if hasattr(result, "_replace") else values

    return body


def setdiff1d(ar1, ar2, assume_unique=False):
    values = np.ravel(ar1) if assume_unique else np.unique(ar1)
    return values[np.isin(plain(values), plain(ar2), invert=True)]


def setxor1d(ar1, ar2, assume_unique=False):
    both = [np.ravel(x) if assume_unique else np.unique(x) for x in (ar1, ar2)]
    values = np.sort(np.concatenate(both))
    new = np.concatenate([[True], plain(values[1:] != values[:-1]), [True]])
    return values[new[1:] & new[:-1]]


compose(
    np.unique,
    unique,
    cases=[((5,),), ((2, 3),), ((3, 2), {"axis": 0}), ((4,), {"return_index": True, "return_inverse": True, "return_counts": True})],
)
for function in (np.unique_all, np.unique_counts, np.unique_inverse, np.unique_values):
    compose(function, distinct(function), cases=[((2, 3),)])
compose(np.union1d, lambda ar1, ar2: np.unique(np.concatenate([np.ravel(ar1), np.ravel(ar2)])), cases=[((3,), (2, 2))])
compose(np.setdiff1d, setdiff1d, cases=[((4,), (3,)), ((4,), (2,), {"assume_unique": True})])
compose(np.setxor1d, setxor1d, cases=[((4,), (3,)), ((4,), (3,), {"assume_unique": True})])
constant(np.isin)
refuse("a number that stands in both inputs has no one place for its gradient; write a[np.isin(a, b)]", np.intersect1d)

# --- counting -----------------------------------------------------------------------------------


def weighted_bincount(weights, *, x, minlength):
    return np.bincount(x, weights, minlength).astype(weights.dtype)


weighted_bincount = op(
    weighted_bincount,
    lambda g, y, weights, *, x, minlength: g[x],
    cases=[((4,), {"x": np.array([0, 2, 2, 5]), "minlength": 0})],
)


def bincount(x, /, weights=None, minlength=0):
    """Counts of integers are constants; sums of weights have gradients."""
    if weights is None:
        return np.bincount(plain(x), None, minlength)
    return weighted_bincount(*arrays_of([weights]), x=np.asarray(x), minlength=minlength)


def weighted_counts(positions, edges, weights, density):
    """Sums of the weights in each cell of a grid: positions (n, D), edges a list of D arrays."""
    (weights,) = arrays_of([weights])
    weights = np.ravel(weights)
    shape = tuple(len(e) - 1 for e in edges)
    cells = [
        np.where(p == e[-1], len(e) - 2, np.searchsorted(e, p, "right") - 1) for p, e in zip(positions.T, edges)
    ]  # the last cell is closed
    inside = np.all([(cell >= 0) & (cell < n) for cell, n in zip(cells, shape)], axis=0)
    flat = np.ravel_multi_index([cell[inside] for cell in cells], shape)
    counts = np.reshape(np.bincount(flat, weights[np.flatnonzero(inside)], math.prod(shape)), shape)
    if density:
        for i, e in enumerate(edges):
            counts = counts / np.diff(e).reshape((-1,) + (1,) * (len(edges) - 1 - i))
        counts = counts / np.sum(weights[np.flatnonzero(inside)])
    return counts


def histogram(a, bins=10, range=None, density=None, weights: Any = None):
    """Counts are constants; sums of weights have gradients."""
    a = np.asarray(plain(a))
    if not isinstance(weights, Variable):
        return np.histogram(a, plain(bins), range, density, weights)
    edges = np.histogram_bin_edges(a, plain(bins), range)
    return weighted_counts(np.reshape(a, (-1, 1)), [edges], weights, density), edges


def histogramdd(sample: Any, bins=10, range=None, density=None, weights: Any = None):
    sample = plain(sample)
    counts, edges = np.histogramdd(sample, plain(bins), range, density, plain(weights))
    if isinstance(weights, Variable):
        positions = sample if isinstance(sample, np.ndarray) and sample.ndim == 2 else np.transpose(np.atleast_2d(sample))
        counts = weighted_counts(positions, edges, weights, density)
    return counts, edges


def histogram2d(x, y, bins=10, range=None, density=None, weights: Any = None):
    counts, x_edges, y_edges = np.histogram2d(plain(x), plain(y), plain(bins), range, density, plain(weights))
    if isinstance(weights, Variable):
        counts = weighted_counts(np.stack([plain(x), plain(y)], -1), [x_edges, y_edges], weights, density)
    return counts, x_edges, y_edges


compose(np.bincount, bincount, cases=[(np.array([0, 2, 2, 5]), (4,)), (np.array([1, 0]), (2,), {"minlength": 4})])
SAMPLE = np.array([0.0, 0.4, 1.0, 1.7, 3.0, 2.9, -5.0])
compose(
    np.histogram, histogram, cases=[(SAMPLE, 4, Given((0, 3)), False, (7,)), (SAMPLE, [0.0, 1.0, 4.0], None, True, (7,))], domain=(0.5, 2.0)
)
compose(np.histogram2d, histogram2d, cases=[(SAMPLE, SAMPLE[::-1], 3, None, True, (7,))], domain=(0.5, 2.0))
constant(np.histogramdd)
refuse("its edges move with the smallest and the largest value; write np.linspace(np.min(x), np.max(x), bins + 1)", np.histogram_bin_edges)
table[np.histogramdd] = histogramdd  # its edges are a list in a tuple
