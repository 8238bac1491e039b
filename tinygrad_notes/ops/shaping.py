"""Functions that move elements without changing them: reshape, transpose, join, split, repeat."""

import numpy as np

from tinygrad_notes.binding import bind_sequence
from tinygrad_notes.registry import constant, op

op(np.reshape, lambda g, y, x, *, shape=None, **_: np.reshape(g, x.shape), cases=[((3, 4), {"shape": (2, 6)}), ((3, 4), {"shape": -1})])
op(np.broadcast_to, lambda g, y, x, *, shape: g, cases=[((3, 1), {"shape": (2, 3, 4)})])  # the walk sums back
op(np.expand_dims, lambda g, y, x, *, axis: np.reshape(g, x.shape), cases=[((3, 4), {"axis": 1}), ((3,), {"axis": (0, -1)})])


def transpose_rule(g, y, x, *, axes=None):
    return np.transpose(g, None if axes is None else np.argsort([a % x.ndim for a in axes]))


op(np.transpose, transpose_rule, cases=[((2, 3, 4),), ((2, 3, 4), {"axes": (1, 2, 0)}), ((2, 3, 4), {"axes": (-1, 0, 1)})])
op(np.swapaxes, lambda g, y, x, *, axis1, axis2: np.swapaxes(g, axis1, axis2), cases=[((2, 3, 4), {"axis1": 0, "axis2": -1})])


def concatenate_rule(g, y, *xs, axis=0):
    if axis is None:
        return [np.reshape(part, x.shape) for part, x in zip(np.split(g, np.cumsum([x.size for x in xs])[:-1]), xs)]
    return np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis)


op(
    np.concatenate,
    concatenate_rule,
    bind=bind_sequence,
    forward=lambda *xs, **params: np.concatenate(xs, **params),
    reads=(),
    cases=[([(2, 3), (4, 3)],), ([(2, 3), (2, 1)], {"axis": -1})],
)
constant(np.shape, np.ndim, np.size)
