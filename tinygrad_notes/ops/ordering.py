"""Functions of order: sorted, distinct, counted."""

import math
from typing import Any

from tinygrad_notes.binding import Given
from tinygrad_notes.core import Variable
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


def weighted_counts(positions, edges, weights):
    """Sums of the weights in each cell of a grid: positions (n, D), edges a list of D arrays."""
    (weights,) = arrays_of([weights])
    weights = np.ravel(weights)
    shape = tuple(len(e) - 1 for e in edges)
    cells = [
        np.where(p == e[-1], len(e) - 2, np.searchsorted(e, p, "right") - 1) for p, e in zip(positions.T, edges)
    ]  # the last cell is closed
    inside = np.all([(cell >= 0) & (cell < n) for cell, n in zip(cells, shape)], axis=0)
    flat = np.ravel_multi_index([cell[inside] for cell in cells], shape)
    return np.reshape(np.bincount(flat, weights[np.flatnonzero(inside)], math.prod(shape)), shape)


def as_density(counts, edges):
    """Counts divided by their sum and by the size of their cell."""
    density = counts / np.sum(counts)
    for i, e in enumerate(edges):
        density = density / np.reshape(np.diff(e), (-1,) + (1,) * (len(edges) - 1 - i))
    return density


def bin_edges(a: Any, bins: Any = 10, range=None, weights=None):
    """Equal steps from the smallest element to the largest, with which they move, unless the caller says where they are."""
    edges = np.histogram_bin_edges(plain(a), plain(bins), range, plain(weights))
    if isinstance(bins, Variable):
        return bins
    if plain(a) is a or not np.size(a) or range is not None or np.ndim(bins):
        return edges
    low, high = np.min(a), np.max(a)
    apart = 0.5 * float(low.item() == high.item())
    return np.linspace(low - apart, high + apart, len(edges)).astype(edges.dtype)


def histogram(a, bins=10, range=None, density=None, weights: Any = None):
    """Counts are constants; sums of weights, densities, and edges that come from the data have gradients."""
    edges = bin_edges(a, bins, range, weights)
    if isinstance(weights, Variable):
        counts = weighted_counts(np.reshape(plain(a), (-1, 1)), plain([edges]), weights)
    else:
        counts, _ = np.histogram(plain(a), plain(bins), range, None, weights)
    return as_density(counts, [edges]) if density else counts, edges


def histogramdd(sample: Any, bins: Any = 10, range=None, density=None, weights: Any = None):
    counts, edges = np.histogramdd(plain(sample), plain(bins), range, None, plain(weights))
    if hasattr(sample, "ndim"):
        sample = np.transpose(sample) if sample.ndim == 2 else np.atleast_2d(sample)
    bins = [bins] * len(edges) if np.ndim(bins) == 0 else bins
    range = [None] * len(edges) if range is None else range
    edges = [bin_edges(x, b, r) for x, b, r in zip(sample, bins, range)]
    if isinstance(weights, Variable):
        counts = weighted_counts(np.stack([plain(x) for x in sample], -1), plain(edges), weights)
    return as_density(counts, edges) if density else counts, edges


def histogram2d(x, y, bins: Any = 10, range=None, density=None, weights: Any = None):
    if np.ndim(bins) and len(bins) not in (1, 2):
        bins = [bins, bins]
    counts, (x_edges, y_edges) = histogramdd([x, y], bins, range, density, weights)
    return counts, x_edges, y_edges


compose(np.bincount, bincount, cases=[(np.array([0, 2, 2, 5]), (4,)), (np.array([1, 0]), (2,), {"minlength": 4})])
SAMPLE = np.array([0.0, 0.4, 1.0, 1.7, 3.0, 2.9, -5.0])
compose(np.histogram_bin_edges, bin_edges, cases=[((5,),), ((2, 3), 4), ((6,), "sturges")])
WEIGHED = [(SAMPLE, 4, Given((0, 3)), False, (7,)), (SAMPLE, [0.0, 1.0, 4.0], None, True, (7,))]
compose(np.histogram, histogram, cases=[*WEIGHED, ((6,), 3), ((6,), 3, None, True)], domain=(0.5, 2.0))
compose(
    np.histogram2d,
    histogram2d,
    cases=[(SAMPLE, SAMPLE[::-1], 3, None, True, (7,)), ((5,), (5,), Given([2, 3]), None, True)],
    domain=(0.5, 2.0),
)
compose(
    np.histogramdd,
    histogramdd,
    cases=[((5, 2), 3), ((5, 3), Given([2, 1, 3]), None, True), (SAMPLE[:, None], 3, None, True, (7,))],
    domain=(0.5, 2.0),
)
