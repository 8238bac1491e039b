"""Functions of neighbours and of order: cumulative, sorted, padded, convolved, interpolated."""

import numpy as np

from tinygrad_notes.ops.indexing import scatter_add
from tinygrad_notes.registry import compose, op

# --- running sums and products --------------------------------------------------------------

RUNNING = [((2, 3),), ((2, 5), {"axis": -1}), ((3, 2), {"axis": 0}), ((),), ((0, 3), {"axis": 0})]


def sum_from_here(g, axis):
    """y_i = g_i + g_(i+1) + ...: the transpose of a running sum."""
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)


def cumsum_rule(g, y, x, *, axis=None):
    return np.reshape(sum_from_here(g, 0 if axis is None else axis), x.shape)


op(np.cumsum, cumsum_rule, cases=RUNNING)


def decaying_sum(g, a):
    """G_i = g_i + a_i G_(i+1) along the first axis, by doubling: log2(n) steps that every order can differentiate.

    After the step s, g_i holds the first 2s terms of G_i and a_i the product of 2s factors
    (Hillis and Steele, Data parallel algorithms, 1986). len(a) == len(g) - 1.
    """
    s = 1
    while s < len(g):
        g = np.concatenate([g[:-s] + a * g[s:], g[-s:]])
        a = a[:-s] * a[s:]
        s *= 2
    return g


def cumprod_rule(g, y, x, *, axis=None):
    """dL/dx_i = (x_0 ... x_(i-1)) (g_i + x_(i+1) (g_(i+1) + ...)): no division, so zeros are exact."""
    if axis is None:
        return np.reshape(cumprod_rule(g, y, np.ravel(x), axis=0), x.shape)
    g, y, x = (np.moveaxis(v, axis, 0) for v in (g, y, x))
    before = np.concatenate([np.ones_like(y[:1]), y[:-1]])
    return np.moveaxis(before * decaying_sum(g, x[1:]), 0, axis)


op(np.cumprod, cumprod_rule, cases=RUNNING)

# --- order ------------------------------------------------------------------------------------


def sort_rule(g, y, x, *, axis=-1, kind=None, stable=None):
    """Each gradient goes where its element came from; equal elements keep their order."""
    if axis is None:
        return np.reshape(sort_rule(g, y, np.ravel(x)), x.shape)
    came_from = np.argsort(x, axis, kind="stable")
    return np.take_along_axis(g, np.argsort(came_from, axis), axis)


op(np.sort, sort_rule, cases=[((3, 4),), ((3, 4), {"axis": 0}), ((3, 4), {"axis": None}), ((5,), {"kind": "stable"}), ((5,), {"stable": True}), ((0,),)])

# --- padding ------------------------------------------------------------------------------------


def pad_constant(x, widths, values):
    """x with (before, after) constant values along each axis."""
    zeros = scatter_add(x, index=tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape)), shape=tuple(a + n + b for (a, b), n in zip(widths, x.shape)))
    return zeros if not np.any(values) else zeros + np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=values)


def pad(array, pad_width, mode="constant", **kwargs):
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    if mode == "constant":
        return pad_constant(array, widths, kwargs.get("constant_values", 0))
    raise TypeError(f"np.pad: mode={mode!r} has no gradient rule")


compose(np.pad, pad, cases=[((2, 3), 1), ((3,), 2)])
