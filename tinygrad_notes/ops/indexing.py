"""Indexing, and its opposite: adding into places."""

import operator

import numpy as np

from tinygrad_notes.registry import compose, op

EVERYTHING = slice(None)
WIDE = 8  # rows of at least so many numbers are summed group by group, narrower ones one number at a time


def add_into(buffer, v, *, index):
    """buffer[index] += v, where a place that is named twice gets both."""
    if not repeats(index):
        buffer[index] += v
    elif isinstance(index, np.ndarray | list) and buffer[:1].size >= WIDE:
        add_rows(buffer, v.reshape(-1, *buffer.shape[1:]), np.asarray(index).ravel() % len(buffer))
    else:
        np.add.at(buffer, index, v)


def repeats(index):
    """Whether an index may name a place twice: only arrays of integers can."""
    for part in index if isinstance(index, tuple) else (index,):
        if not (part is None or part is Ellipsis or isinstance(part, int | slice | np.integer)):
            part = np.asarray(part)
            if part.ndim and part.dtype.kind != "b":
                return True
    return False


def add_rows(buffer, v, rows):
    """buffer[rows[i]] += v[i] for each i: sort the rows and sum each group, several times faster than np.add.at."""
    if not len(rows):
        return
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    first = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    buffer[rows[first]] += np.add.reduceat(v[order], first, axis=0)


def scatter_add(v, *, index, shape):
    """Zeros of `shape` with v added at `index`: what indexing is the transpose of."""
    buffer = np.zeros(shape, v.dtype)
    add_into(buffer, v, index=index)
    return buffer


scatter_add = op(
    scatter_add,
    lambda g, y, v, *, index, shape: g[index],
    cases=[
        ((2, 3), {"index": np.array([1, 1]), "shape": (4, 3)}),
        ((3, 2), {"index": (EVERYTHING, np.array([1, 1])), "shape": (3, 4)}),
        ((2, 2), {"index": (slice(0, 2), slice(1, 3)), "shape": (3, 4)}),
        ((), {"index": (1, 2), "shape": (3, 4)}),
    ],
)

MASK = np.array([[True, False, True, False], [False, False, True, True], [True, True, False, False]])
op(
    operator.getitem,
    lambda g, y, x, *, index: scatter_add(g, index=index, shape=x.shape),
    forward=lambda x, *, index: x[index],
    into=add_into,
    bind=lambda op, args, kwargs: (args[:1], {"index": args[1]}),
    cases=[
        ((3, 4), 1),
        ((3, 4), -1),
        ((3, 4), slice(None, None, -2)),
        ((3, 4), None),
        ((3, 4), Ellipsis),
        ((3, 4), np.array([0, 2, 0])),
        ((3, 4), np.array([[0, -1], [2, 2]])),
        ((3, 9), np.array([[0, -1], [2, 2]])),
        ((3, 4), MASK),
        ((3, 4), np.array([True, False, True])),
        ((3, 4), np.zeros((3, 4), bool)),
    ],
)


# --- NumPy's functions that take by position ----------------------------------------------


def take_index(shape, indices, axis, mode):
    """The index that np.take's arguments mean."""
    indices = np.asarray(indices)
    if mode == "wrap":
        indices = indices % shape[axis]
    elif mode == "clip":
        indices = np.clip(indices, 0, shape[axis] - 1)
    return indices if axis == 0 else (EVERYTHING,) * (axis % len(shape)) + (indices,)


def take(a, indices, axis=None, out=None, mode="raise"):
    if axis is None:
        a, axis = np.ravel(a), 0
    return a[take_index(a.shape, indices, axis, mode)]


compose(
    np.take,
    take,
    cases=[
        ((3, 4), np.array([0, 5, 5, -1])),
        ((3, 4), np.array([[0, 1], [2, 2]]), {"axis": 0}),
        ((3, 4), np.array([1, -1]), {"axis": -1}),
        ((3, 4), np.array([-7, 9]), {"axis": 1, "mode": "wrap"}),
        ((3, 4), np.array([-7, 9]), {"axis": 1, "mode": "clip"}),
        ((3, 4), 2, {"axis": 1}),
    ],
)


def along_axis(shape, indices, axis):
    """The index that np.take_along_axis means: every other axis counts up."""
    counting = np.ogrid[tuple(slice(n) for n in shape)]
    return tuple(indices if i == axis % len(shape) else c for i, c in enumerate(counting))


def take_along_axis(arr, indices, axis=-1):
    if axis is None:
        return np.ravel(arr)[indices]
    return arr[along_axis(arr.shape, indices, axis)]


compose(
    np.take_along_axis,
    take_along_axis,
    cases=[
        ((3, 4), np.array([[0, 0], [1, 3], [-1, 2]]), {"axis": 1}),
        ((3, 4), np.array([[0, 2, 1, 0]]), {"axis": 0}),
        ((3, 4), np.array([0, 5, 5]), {"axis": None}),
        ((2, 3, 4), np.array([[[0], [1], [0]]]), {"axis": -1}),
    ],
)
