"""Indexing, and its opposite: adding into places."""

import operator

import numpy as np

from tinygrad_notes.core import table
from tinygrad_notes.registry import op


def add_into(buffer, v, *, index):
    """buffer[index] += v, where a place that is named twice gets both."""
    parts = index if isinstance(index, tuple) else (index,)
    if all(i is None or i is Ellipsis or isinstance(i, int | slice | np.integer) for i in parts):
        buffer[index] += v  # a basic index names no place twice
    else:
        np.add.at(buffer, index, v)


def scatter_add(v, *, index, shape):
    """Zeros of `shape` with v added at `index`: what indexing is the transpose of."""
    buffer = np.zeros(shape, v.dtype)
    add_into(buffer, v, index=index)
    return buffer


scatter_add = op(
    scatter_add,
    lambda g, y, v, *, index, shape: g[index],
    cases=[((2, 3), {"index": np.array([1, 1]), "shape": (4, 3)})],
)

op(
    operator.getitem,
    lambda g, y, x, *, index: scatter_add(g, index=index, shape=x.shape),
    forward=lambda x, *, index: x[index],
    into=add_into,
    bind=lambda op, args, kwargs: (args[:1], {"index": args[1]}),
    cases=[((3, 4), 1), ((3, 4), np.array([0, 2, 0]))],
)


def astype(x, *, dtype):
    return x.astype(dtype)


table["astype"] = op(astype, lambda g, y, x: g, cases=[((3, 4), {"dtype": np.float64})])  # the walk casts back
