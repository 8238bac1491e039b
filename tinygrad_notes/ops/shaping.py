"""Functions that move elements without changing them: shapes, the order of axes, diagonals, turning."""

import math
import operator
from typing import Any

from tinygrad_notes.binding import Given
from tinygrad_notes.core import Variable, table
from tinygrad_notes.ops.indexing import arrays_of, scatter_add
from tinygrad_notes.registry import call_plain, compose, constant, op, plain

import numpy as np

# --- shapes -----------------------------------------------------------------------------


def reading_order(x, order):
    """What order="A" means for x: Fortran's where x lies so in memory, else C's."""
    return order if order != "A" else "F" if plain(x).flags.fnc else "C"


def bind_reshape(op, args, kwargs):
    """np.reshape(a, shape, order): NumPy 2.0 calls the shape newshape. A copy makes no difference to values."""
    given = dict(zip(("a", "shape", "order", "copy"), args)) | {"shape" if k == "newshape" else k: v for k, v in kwargs.items()}
    x = given["a"]
    return (x,), {"shape": given["shape"], "layout": reading_order(x, given.get("order", "C"))}


op(
    np.reshape,
    lambda g, y, x, *, shape, layout: g.reshape(x.shape, order=layout),
    forward=lambda x, *, shape, layout: np.asarray(x).reshape(shape, order=layout),
    bind=bind_reshape,
    cases=[
        ((3, 4), Given((2, 6))),
        ((3, 4), -1),
        ((3, 4), Given((4, -1)), "F"),
        ((3, 4), -1, {"order": "A"}),
        ((), Given((1, 1))),
        ((0, 3), -1),
    ],
)


def ravel(a, order: Any = "C"):
    if order == "K":  # as it lies in memory: the axis with the longest stride comes first
        strides = plain(a).strides
        a, order = np.transpose(a, sorted(range(a.ndim), key=lambda i: -abs(strides[i]))), "C"
    return np.reshape(a, -1, order)


compose(np.ravel, ravel, cases=[((3, 4),), ((3, 4), "F"), ((3, 4), {"order": "A"}), ((2, 3, 4), {"order": "K"}), ((),)])
op(
    np.expand_dims,
    lambda g, y, x, *, axis: np.reshape(g, x.shape),
    cases=[((3, 4), {"axis": 1}), ((3,), {"axis": (0, -1)}), ((), {"axis": 0})],
)
op(
    np.squeeze,
    lambda g, y, x, *, axis=None: np.reshape(g, x.shape),
    cases=[((3, 1, 4, 1),), ((3, 1, 1), {"axis": -1}), ((1, 3, 1), {"axis": (0, 2)})],
)
op(
    np.broadcast_to,
    lambda g, y, x, *, shape: g,  # the walk sums back
    cases=[((3, 1), {"shape": (2, 3, 4)}), ((3, 4), {"shape": (3, 4)}), ((), {"shape": (2, 3)}), ((3,), {"shape": (0, 3)})],
)
op(np.copy, lambda g, y, x: g, cases=[((3, 4),), ((3, 4), {"order": "F"})])


def astype(x, *, dtype, copy=True, order="K", casting="unsafe", subok=True):
    return x.astype(dtype, order, casting, subok, copy)


# Not NumPy's function but the method, and np.astype where NumPy has it. The walk casts gradients back.
table["astype"] = op(astype, lambda g, y, x, *, copy=True: g, cases=[((3, 4), {"dtype": np.float64})])
compose(np.astype, lambda x, dtype, /, *, copy=True, device=None: x.astype(dtype, copy=copy), cases=[((3, 4), np.float64)])

# --- the order of axes --------------------------------------------------------------------


def transpose_rule(g, y, x, *, axes=None):
    axes = (axes,) if isinstance(axes, int) else axes
    return g.transpose(None if axes is None else sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))  # back where they were


op(
    np.transpose,
    transpose_rule,
    cases=[((2, 3, 4),), ((2, 3, 4), {"axes": (1, 2, 0)}), ((2, 3, 4), {"axes": (-1, 0, 1)}), ((2,), {"axes": 0}), ((),)],
)
op(np.swapaxes, lambda g, y, x, *, axis1, axis2: np.swapaxes(g, axis1, axis2), cases=[((2, 3, 4), {"axis1": 0, "axis2": -1})])
op(
    np.moveaxis,
    lambda g, y, x, *, source, destination: np.moveaxis(g, destination, source),
    cases=[((2, 3, 4), 0, -1), ((2, 3, 4), {"source": (0, 1), "destination": (-1, 0)})],
)


def rollaxis(a, axis, start=0):
    """Move an axis to stand before the one that is at `start`."""
    axis, start = np.lib.array_utils.normalize_axis_index(axis, a.ndim), start + a.ndim if start < 0 else start
    return np.moveaxis(a, axis, start - 1 if axis < start else start)


compose(
    np.rollaxis,
    rollaxis,
    cases=[((2, 3, 4), 2), ((2, 3, 4), 0, 2), ((2, 3, 4), 0, 3), ((2, 3, 4), {"axis": -1, "start": -2})],
)
compose(np.matrix_transpose, lambda x, /: np.swapaxes(x, -1, -2), cases=[((3, 4),), ((2, 3, 4),)])

# --- at least so many dimensions ------------------------------------------------------------


def at_least(extend):
    def function(*arys):
        made = tuple(extend(x) for x in arrays_of(arys))
        return made[0] if len(made) == 1 else made

    return function


DIMENSIONS = [((),), ((3,),), ((2, 3),), ((2, 3, 4),), ((3,), ())]
compose(np.atleast_1d, at_least(lambda x: x if x.ndim else np.reshape(x, 1)), cases=DIMENSIONS)
compose(np.atleast_2d, at_least(lambda x: x if x.ndim > 1 else np.reshape(x, (1, -1))), cases=DIMENSIONS)
compose(
    np.atleast_3d, at_least(lambda x: x if x.ndim > 2 else np.reshape(x, (*x.shape, 1) if x.ndim > 1 else (1, -1, 1))), cases=DIMENSIONS
)


def broadcast_arrays(*args, subok=False):
    xs = arrays_of(args)
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return tuple(np.broadcast_to(x, shape) for x in xs)


def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise ValueError(f"np.meshgrid: indexing={indexing!r}, expected 'xy' or 'ij'")
    xs = arrays_of(xi)
    order = list(range(len(xs)))
    if indexing == "xy":
        order[:2] = order[:2][::-1]
    grids = tuple(np.reshape(x, (1,) * i + (-1,) + (1,) * (len(xs) - 1 - i)) for x, i in zip(xs, order))
    return grids if sparse else broadcast_arrays(*grids)


compose(np.broadcast_arrays, broadcast_arrays, cases=[((3, 1), (4,)), ((3,), (), (2, 1))])
compose(
    np.meshgrid, meshgrid, cases=[((2,), (3,)), ((2,), (3,), {"indexing": "ij"}), ((2,), (3,), (4,), {"sparse": True}), ((2,), ()), ((3,),)]
)

# --- diagonals and triangles --------------------------------------------------------------------


def diagonal(a, offset=0, axis1=0, axis2=1):
    a = np.moveaxis(a, (axis1, axis2), (0, 1))
    length = max(0, min(a.shape[0] + min(offset, 0), a.shape[1] - max(offset, 0)))
    along = np.arange(length)
    return np.moveaxis(a[along + max(-offset, 0), along + max(offset, 0)], 0, -1)


def diag(v, k=0):
    if v.ndim != 1:
        if v.ndim != 2:
            raise ValueError(f"np.diag: the input has {v.ndim} dimensions, expected 1 or 2; see np.diagonal")
        return np.diagonal(v, k)
    along, n = np.arange(v.size), v.size + abs(k)
    return scatter_add(v, index=(along + max(-k, 0), along + max(k, 0)), shape=(n, n))


compose(
    np.diagonal, diagonal, cases=[((3, 3),), ((3, 4), 1), ((4, 3), {"offset": -2}), ((2, 3, 4), {"axis1": -1, "axis2": 1}), ((2, 2), 5)]
)
compose(np.diag, diag, cases=[((3,),), ((3,), {"k": -1}), ((3, 4), 1), ((0,), 1)])
compose(np.diagflat, lambda v, k=0: np.diag(np.ravel(v), k), cases=[((2, 2),), ((2,), {"k": 1})])
TRIANGLES = [((3, 4),), ((3, 4), 1), ((2, 3, 3), {"k": -1}), ((3,),)]
op(np.tril, lambda g, y, m, *, k=0: np.tril(g, k), cases=TRIANGLES)  # a row stands for all rows: the walk sums back
op(np.triu, lambda g, y, m, *, k=0: np.triu(g, k), cases=TRIANGLES)

# --- turning ----------------------------------------------------------------------------------

op(np.flip, lambda g, y, x, *, axis=None: np.flip(g, axis), cases=[((2, 3),), ((2, 3), {"axis": -1}), ((2, 3, 4), {"axis": (0, 2)}), ((),)])
compose(np.flipud, lambda m: np.flip(m, 0), cases=[((2, 3),)])
compose(np.fliplr, lambda m: np.flip(m, 1), cases=[((2, 3),)])
op(
    np.roll,
    lambda g, y, x, *, shift, axis=None: np.roll(g, np.negative(shift), axis),
    cases=[
        ((2, 3), 2),
        ((2, 3), {"shift": -1, "axis": -1}),
        ((2, 3), {"shift": (1, 2), "axis": (0, 1)}),
        ((2, 3), {"shift": 1, "axis": (0, 1)}),
    ],
)
op(
    np.rot90,
    lambda g, y, m, *, k=1, axes=(0, 1): np.rot90(g, -k, axes),
    cases=[((2, 3),), ((2, 3), 2), ((2, 3, 4), {"k": -1, "axes": (2, 0)})],
)


def shift_halves(x, axes, up):
    """Roll by half the length, rounded down or up: the zero frequency to the middle, or back."""
    axes = range(x.ndim) if axes is None else np.atleast_1d(axes).tolist()
    return np.roll(x, [(-(n // 2) if up else n // 2) for n in (x.shape[i] for i in axes)], tuple(axes))


compose(np.fft.fftshift, lambda x, axes=None: shift_halves(x, axes, 0), cases=[((5,),), ((3, 4), 1), ((3, 4), {"axes": (0, -1)})])
compose(np.fft.ifftshift, lambda x, axes=None: shift_halves(x, axes, 1), cases=[((5,),), ((3, 4), {"axes": [0]})])

# --- evenly spaced ------------------------------------------------------------------------------


def fractions(num, endpoint, like):
    """0, 1/n, 2/n, ... up to 1, which is left out unless `endpoint`; along a new first axis of `like`."""
    if operator.index(num) < 0:
        raise ValueError(f"{num} numbers in equal steps, expected 0 or more")
    steps = max(num - 1 if endpoint else num, 1)
    return (np.arange(num) / steps).astype(like.dtype).reshape((-1,) + (1,) * like.ndim)


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, *, device=None):
    start, stop = arrays_of([start, stop])
    f = fractions(num, endpoint, stop - start)
    y = np.moveaxis((1 - f) * start + f * stop, 0, axis)  # exact at both ends
    y = y if dtype is None else y.astype(dtype)
    return (y, (stop - start) / (num - bool(endpoint) or math.nan)) if retstep else y


def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    if np.ndim(base):
        start, stop, base = np.broadcast_arrays(start, stop, base)
        base = np.expand_dims(base, axis)
    y = np.power(base, linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else y.astype(dtype)


def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    start, stop = arrays_of([start, stop])
    y = np.moveaxis(start * np.power(stop / start, fractions(num, endpoint, stop - start)), 0, axis)
    return y if dtype is None else y.astype(dtype)


compose(
    np.linspace,
    linspace,
    cases=[((), (), 5), ((2,), (2,), {"num": 4, "endpoint": False, "axis": -1}), ((2, 1), (3,), 3), ((), (), 3, True, True), ((), (), 1)],
)
compose(np.logspace, logspace, cases=[((), (), 4), ((2,), (2,), {"num": 3, "base": 2.0}), ((), (), 3, False, (2,))], domain=(0.5, 2.0))
compose(np.geomspace, geomspace, cases=[((), (), 4), ((2,), (2,), {"num": 3, "endpoint": False, "axis": 1})], domain=(0.5, 2.0))

# --- constants ----------------------------------------------------------------------------------

constant(np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.empty_like, np.full_like)


def full_like(a, fill_value, *args, **kwargs):
    if isinstance(fill_value, Variable):
        raise TypeError("np.full_like: the fill value is a Tensor and would lose its gradient; write np.broadcast_to(t, a.shape)")
    return call_plain(np.full_like, a, fill_value, *args, **kwargs)


table[np.full_like] = full_like
