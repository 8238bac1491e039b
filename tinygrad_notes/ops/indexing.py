"""Indexing, and its opposite: adding into places."""

import operator
from collections.abc import Iterable
from typing import Any

from tinygrad_notes.core import Variable
from tinygrad_notes.registry import compose, op

import numpy as np

EVERYTHING = slice(None)
WIDE = 8  # rows of at least so many numbers are summed group by group, narrower ones one number at a time


def arrays_of(sequence: Iterable) -> list[Any]:
    """The members of a sequence, lists and numbers made arrays; a plain number takes the dtype of the others, as in arithmetic."""
    members: list[Any] = [x if isinstance(x, Variable | int | float) else np.asarray(x) for x in sequence]
    dtypes = [x.dtype for x in members if not isinstance(x, int | float)]
    return [np.asarray(x, np.result_type(x, *dtypes)) if isinstance(x, int | float) else x for x in members]


def along(ndim, axis, part):
    """The index that takes `part` of one axis and all of the others."""
    return (EVERYTHING,) * np.lib.array_utils.normalize_axis_index(axis, ndim) + (part,)


def add_into(buffer, v, *, index):
    """buffer[index] += v, where a place that is named twice gets both."""
    if not repeats(index):
        buffer[index] += v
    elif not isinstance(index, tuple) and buffer[:1].size >= WIDE:
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
    axis, indices = np.lib.array_utils.normalize_axis_index(axis, len(shape)), np.asarray(indices)
    indices = indices.astype(int) if indices.dtype.kind == "b" else indices
    if mode == "wrap":
        indices = indices % shape[axis]
    elif mode == "clip":
        indices = np.clip(indices, 0, shape[axis] - 1)
    return indices if axis == 0 else along(len(shape), axis, indices)


def take(a, indices, axis=None, out=None, mode="raise"):
    if axis is None or not a.ndim:
        a, axis = np.ravel(a), axis or 0
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
        ((), 0, {"axis": -1}),
    ],
)


def along_axis(shape, indices, axis):
    """The index that np.take_along_axis means: every other axis counts up."""
    axis = np.lib.array_utils.normalize_axis_index(axis, len(shape))
    counting = np.ogrid[tuple(slice(n) for n in shape)]
    return tuple(indices if i == axis else c for i, c in enumerate(counting))


def take_along_axis(arr, indices, axis=-1):
    if axis is None and np.ndim(indices) == 1:
        return np.ravel(arr)[indices]
    if axis is None or np.ndim(indices) != arr.ndim:
        raise ValueError(f"np.take_along_axis: indices have {np.ndim(indices)} dimensions, expected as many as the array's {arr.ndim}")
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


# --- changing places without changing the array -------------------------------------------


def at(x):
    """A changed copy of x: `at(x)[index].set(v)` is what x[index] = v would make of it (JAX's form).

    x: an array or Tensor, which stays as it is; v: an array, number or Tensor that broadcasts
    to x[index].shape. The methods are set, add, multiply, max, min, and get, which is x[index].
    The result has the shape and dtype of x. Where the index names a place twice, set takes the
    last, as NumPy does, and the others take each; the gradient goes only to what was taken.
    """
    return Places(x if isinstance(x, Variable) else np.asarray(x))


class Places:
    """x, waiting for an index: see `at`."""

    def __init__(self, x):
        self.x = x

    def __getitem__(self, index):
        return Chosen(self.x, index)

    def __repr__(self) -> str:
        return f"at({self.x!r})"


class Chosen:
    """x at an index: what `at(x)[index]` is, before it is told what to do there."""

    def __init__(self, x, index):
        self.x, self.index, self.shape = x, index, x.shape

    def __repr__(self) -> str:
        return f"at({self.x!r})[{self.index!r}]"

    def numbers(self):
        """The place of each chosen element in x laid flat."""
        return np.arange(self.x.size).reshape(self.shape)[self.index]

    def values(self, v, shape):
        """v with one number for each chosen element, in the dtype of x."""
        (v,) = arrays_of([v])
        if self.x.dtype.kind != "f" and v.dtype.kind == "f":
            raise TypeError(
                f"at: x is an array of {self.x.dtype} and v of {v.dtype}, which x cannot hold; convert x to float first: x.astype(np.float32)"
            )
        return np.broadcast_to(v if v.dtype == self.x.dtype else v.astype(self.x.dtype), shape)

    def get(self):
        return self.x[self.index]

    def set(self, v):
        numbers = self.numbers()
        v = self.values(v, numbers.shape)
        order = np.arange(numbers.size).reshape(numbers.shape)
        last = np.full(self.x.size, -1)
        last[numbers] = order
        taken = np.where(last[numbers] == order, v, 0)
        return np.where((last >= 0).reshape(self.shape), scatter_add(taken, index=self.index, shape=self.shape), self.x)

    def add(self, v):
        return self.x + scatter_add(self.values(v, self.numbers().shape), index=self.index, shape=self.shape)

    def multiply(self, v):
        numbers = self.numbers()
        v = np.reshape(self.values(v, numbers.shape), -1)
        y = np.reshape(self.x, -1)
        for turn in turns(numbers.ravel()):  # in each turn, no place is named twice
            there = numbers.ravel()[turn]
            other = np.ones(y.shape, y.dtype)
            other[there] = 0
            y = y * (other + scatter_add(v[turn], index=there, shape=y.shape))
        return np.reshape(y, self.shape)

    def max(self, v):
        return maximum_at(self.x, self.values(v, self.numbers().shape), index=self.index)

    def min(self, v):
        return -maximum_at(-self.x, -self.values(v, self.numbers().shape), index=self.index)


def turns(numbers):
    """Positions of `numbers` in groups, at least one: the k-th has those where a number occurs for the k-th time."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    occurrence = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return [order[occurrence == k] for k in range(occurrence.max(initial=0) + 1)]


def maximum_at(x, v, *, index):
    y = x.copy()
    np.maximum.at(y, index, v)
    return y


def maximum_at_rule(g, y, x, v, *, index):
    """All that are equal to the maximum share its gradient evenly."""
    x_wins, v_wins = (x == y).astype(g.dtype), (v == y[index]).astype(g.dtype)
    share = g / (x_wins + scatter_add(v_wins, index=index, shape=x.shape))
    return share * x_wins, share[index] * v_wins


maximum_at = op(
    maximum_at,
    maximum_at_rule,
    cases=[((4, 2), (3, 2), {"index": np.array([1, 1, 3])}), ((3, 4), (3,), {"index": (EVERYTHING, 2)})],
)
