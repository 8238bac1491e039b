"""Functions of neighbours: running sums and products, differences, convolution, windows."""

from typing import Any

from tinygrad_notes.binding import Given
from tinygrad_notes.ops.indexing import EVERYTHING, along, arrays_of, scatter_add
from tinygrad_notes.registry import compose, op

import numpy as np

# --- running sums and products --------------------------------------------------------------

RUNNING = [((2, 3),), ((2, 5), {"axis": -1}), ((3, 2), {"axis": 0}), ((),), ((), {"axis": -1}), ((0, 3), {"axis": 0})]


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
    if axis is None or not x.ndim:
        return np.reshape(cumprod_rule(g, y, np.ravel(x), axis=0), x.shape)
    g, y, x = (np.moveaxis(v, axis, 0) for v in (g, y, x))
    before = np.concatenate([np.ones_like(y[:1]), y[:-1]])
    return np.moveaxis(before * decaying_sum(g, x[1:]), 0, axis)


op(np.cumprod, cumprod_rule, cases=RUNNING)


def cumulative(running, start):
    """np.cumulative_sum and np.cumulative_prod (NumPy 2.1) from the running function and the value before the first."""

    def function(x, /, *, axis: Any = None, dtype=None, out=None, include_initial=False):
        x = np.atleast_1d(x)
        if axis is None and x.ndim > 1:
            raise ValueError(f"np.cumulative_sum, np.cumulative_prod: axis is missing for an array with {x.ndim} dimensions")
        axis = -1 if axis is None else axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
        y = running(x, axis, dtype)
        return np.concatenate([start(np.take(y, [0], axis)), y], axis) if include_initial else y

    return function


CUMULATIVE = [((3,),), ((2, 3), {"axis": 1}), ((2, 3), {"axis": 0, "include_initial": True}), ((),)]
if hasattr(np, "cumulative_sum"):
    compose(np.cumulative_sum, cumulative(np.cumsum, np.zeros_like), cases=CUMULATIVE)
    compose(np.cumulative_prod, cumulative(np.cumprod, np.ones_like), cases=CUMULATIVE)

# --- differences, integrals, interpolation ----------------------------------------------------------


def diff(a, n=1, axis=-1, prepend=None, append=None):
    if n < 0:
        raise ValueError(f"np.diff: n={n}, expected 0 or more")
    parts = arrays_of([x for x in (prepend, a, append) if x is not None and x is not np._NoValue])
    shape = list(np.shape(a))
    shape[axis] = 1
    if n and len(parts) > 1:
        a = np.concatenate([x if x.ndim else np.broadcast_to(x, shape) for x in parts], axis)
    (a,) = arrays_of([a])
    for _ in range(n):
        a = a[along(a.ndim, axis, slice(1, None))] - a[along(a.ndim, axis, slice(-1))]
    return a


def ediff1d(ary, to_end=None, to_begin=None):
    ary = np.ravel(*arrays_of([ary]))
    ends = [None if x is None else np.ravel(*arrays_of([x])) for x in (to_begin, to_end)]
    parts = [x for x in (ends[0], np.diff(ary), ends[1]) if x is not None]
    return np.concatenate(parts, dtype=ary.dtype)


def gradient(f, *varargs, axis=None, edge_order=1):
    """Central differences inside, one-sided ones at the ends, exact for polynomials of degree 2 (1 at edge_order=1 ends).

    For unequal steps a to the left and b to the right, of the three points, the weights are
    -b/(a(a+b)), (b-a)/(ab), a/(b(a+b)) (the derivative of the parabola through them).
    """
    (f,) = arrays_of([f])
    f = f if f.dtype.kind == "f" else f.astype(np.float64)
    axes = tuple(range(f.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, f.ndim)
    if edge_order not in (1, 2):
        raise ValueError(f"np.gradient: edge_order={edge_order}, expected 1 or 2")
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError(f"np.gradient: {len(varargs)} spacings for {len(axes)} axes, expected none, one, or one for each axis")
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    results = tuple(np.moveaxis(gradient_first(np.moveaxis(f, i, 0), dx, edge_order), 0, i) for i, dx in zip(axes, spacings))
    return results[0] if len(axes) == 1 else results


def gradient_first(f, dx, edge_order):
    """np.gradient along the first axis; dx is a step or the coordinates of the points."""
    n = len(f)
    if n < edge_order + 1:
        raise ValueError(f"np.gradient: {n} points along an axis, expected at least {edge_order + 1} for edge_order={edge_order}")
    (dx,) = arrays_of([dx])
    if dx.ndim and dx.shape != (n,):
        raise ValueError(f"np.gradient: coordinates of shape {dx.shape} for an axis of {n} points; give a step, or one coordinate a point")
    steps = np.diff(dx) if dx.ndim else np.broadcast_to(dx, n - 1)
    steps = steps if steps.dtype == f.dtype else steps.astype(f.dtype)
    steps = np.reshape(steps, (-1,) + (1,) * (f.ndim - 1))
    slopes = (f[1:] - f[:-1]) / steps
    a, b = steps[:-1], steps[1:]
    inner = (b * slopes[:-1] + a * slopes[1:]) / (a + b)
    if edge_order == 1:
        return np.concatenate([slopes[:1], inner, slopes[-1:]])
    # The parabola's slope is linear: its middle between two points is the slope of their line.
    return np.concatenate([2 * slopes[:1] - inner[:1], inner, 2 * slopes[-1:] - inner[-1:]])


def trapezoid(y, x=None, dx=1.0, axis=-1):
    (y,) = arrays_of([y])
    if x is not None:
        (x,) = arrays_of([x])
        dx = np.reshape(np.diff(x), (-1,) + (1,) * (y.ndim - 1 - axis % y.ndim)) if x.ndim == 1 else np.diff(x, axis=axis)
    return np.sum(dx * (y[along(y.ndim, axis, slice(1, None))] + y[along(y.ndim, axis, slice(-1))]) / 2, axis)


compose(
    np.diff,
    diff,
    cases=[
        ((5,),),
        ((2, 5), 2),
        ((4, 2), {"axis": 0}),
        ((2, 3), {"prepend": 0.5, "append": np.ones((2, 2))}),
        ((3,), 1, -1, (2,), ()),
        ((3,), 0),
    ],
)
compose(np.ediff1d, ediff1d, cases=[((5,),), ((2, 3), {"to_end": [1.0, 2.0], "to_begin": 0.5}), ((3,), (2,), ())])
UNEVEN = np.array([0.0, 1.0, 1.5, 3.0])
compose(
    np.gradient,
    gradient,
    cases=[
        ((5,),),
        ((3, 4),),
        ((3, 4), 2.0),
        ((3, 4), 2.0, 0.5, {"edge_order": 2}),
        ((4, 2), UNEVEN, {"axis": 0, "edge_order": 2}),
        ((2, 4), UNEVEN, {"axis": -1}),
        ((3, 4), 2.0, UNEVEN, {"axis": (0, 1)}),
        ((2,),),
    ],
)
compose(
    np.trapezoid,
    trapezoid,
    cases=[
        ((5,),),
        ((5,), (5,)),
        ((2, 5), {"dx": 0.5}),
        ((3, 2), {"axis": 0, "x": np.array([0.0, 1.0, 3.0])}),
        ((2, 3), (2, 3)),
        ((3, 2), (3, 2), {"axis": 0}),
    ],
)


def interp(x, xp, fp, left=None, right=None, period=None):
    """Straight lines between the points (xp, fp); at a point, the gradient is that of the piece to its right."""
    x, xp, fp = arrays_of([x, xp, fp])
    if period is not None:
        x, xp = x % abs(period), xp % abs(period)
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - abs(period), xp, xp[:1] + abs(period)])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    i = np.clip(np.searchsorted(xp, x, "right") - 1, 0, max(len(xp) - 2, 0))
    j = np.minimum(i + 1, len(xp) - 1)
    width = np.where(i == j, 1, xp[j] - xp[i])
    y = fp[i] + (x - xp[i]) / width * (fp[j] - fp[i])
    if period is None:
        y = np.where(x < xp[0], fp[0] if left is None else left, y)
        y = np.where(x > xp[-1], fp[-1] if right is None else right, y)
    return y


def rising(rng, shape):
    return np.cumsum(rng.uniform(0.5, 1.0, shape))


compose(
    np.interp,
    interp,
    cases=[((5,), (4,), (4,)), ((2, 3), (4,), (4,), {"left": -1.0, "right": 2.0}), ((5,), (4,), (4,), {"period": 5.0}), ((), (4,), (4,))],
    domain=[(0.0, 5.0), rising, None],
)

# --- convolution ------------------------------------------------------------------------------------


def full_convolution(a, v):
    """y_k = sum_i a_i v_(k-i), for every k where the two overlap."""
    return np.convolve(a, v, "full")


def inner_correlation(a, v):
    """y_k = sum_i a_(k+i) v_i, for every k where v lies inside a; len(a) >= len(v)."""
    return np.correlate(a, v, "valid")


# The two are each other's transposes, so they are enough for every mode and order.
full_convolution = op(
    full_convolution,
    lambda g, y, a, v: inner_correlation(g, v),
    lambda g, y, a, v: inner_correlation(g, a),
    cases=[((5,), (3,)), ((2,), (4,)), ((1,), (1,))],
)
inner_correlation = op(
    inner_correlation,
    lambda g, y, a, v: full_convolution(g, v),
    lambda g, y, a, v: inner_correlation(a, g),
    cases=[((5,), (3,)), ((3,), (3,))],
)


def convolve(a, v, mode="full"):
    a, v = np.atleast_1d(a, v)
    if len(v) > len(a):
        a, v = v, a
    if mode == "valid":
        return inner_correlation(a, np.flip(v))
    if mode not in ("full", "same"):
        raise ValueError(f"np.convolve: mode={mode!r}, expected 'full', 'same' or 'valid'")
    y = full_convolution(a, v)
    first = (len(v) - 1) // 2
    return y if mode == "full" else y[first : first + len(a)]


def correlate(a, v, mode="valid"):
    a, v = np.atleast_1d(a, v)
    if len(a) < len(v):
        return np.flip(correlate(v, a, mode))
    return inner_correlation(a, v) if mode == "valid" else convolve(a, np.flip(v), mode)


CONVOLUTIONS = [((n,), (m,), {"mode": mode}) for n, m in ((5, 4), (5, 3), (3, 5), (4, 5)) for mode in ("full", "same", "valid")]
compose(np.convolve, convolve, cases=[*CONVOLUTIONS, ((5,), (3,)), ((), (3,))])
compose(np.correlate, correlate, cases=[*CONVOLUTIONS, ((5,), (3,))])


def sliding_offsets(shape, window_shape, axis):
    """For each place in the window: its index in the window, and what the window sees from it, as an index of x."""
    sizes = tuple(np.atleast_1d(window_shape).tolist())
    axes = range(len(shape)) if axis is None else [i % len(shape) for i in np.atleast_1d(axis).tolist()]
    for place in np.ndindex(sizes):
        index = [EVERYTHING] * len(shape)
        for i, size, start in zip(axes, sizes, place):  # an axis named twice is cut twice
            begin = (index[i].start or 0) + start
            end = (index[i].stop or shape[i]) - (size - 1) + start
            index[i] = slice(begin, end)
        yield (Ellipsis, *place), tuple(index)


def sliding_rule(g, y, x, *, window_shape, axis=None, writeable=False):
    parts = [scatter_add(g[place], index=index, shape=x.shape) for place, index in sliding_offsets(x.shape, window_shape, axis)]
    return sum(parts) if parts else np.broadcast_to(np.sum(g), x.shape)  # a window of no width sees nothing: g is empty


def sliding_into(buffer, g, *, window_shape, axis=None, subok=False, writeable=False):
    for place, index in sliding_offsets(buffer.shape, window_shape, axis):
        buffer[index] += g[place]


op(
    np.lib.stride_tricks.sliding_window_view,
    sliding_rule,
    into=sliding_into,
    forward=lambda x, *, window_shape, axis=None, subok=False, writeable=False: np.lib.stride_tricks.sliding_window_view(
        x, window_shape, axis
    ),
    cases=[
        ((5,), 3),
        ((5,), 3, {"writeable": True}),  # which a Tensor never is
        ((4, 5), Given((2, 3))),
        ((4, 5), {"window_shape": 2, "axis": 0}),
        ((4, 3), {"window_shape": (2, 2), "axis": (1, 0)}),
        ((4, 3), {"window_shape": 0, "axis": 1}),
    ],
)
