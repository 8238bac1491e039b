"""Convolution: the same small weight matrix applied to the neighbourhood of every position.

A convolution is linear in x and in w, so its two gradients are linear too, and the gradients of
these are again among the three:

    y = convolve(x, w)             every window of x times w
    x = spread(y, w)               the transpose in x: the "transposed convolution"
    w = correlate(x, y)            the transpose in w: which windows went with which outputs

Each is one matrix product with the windows (`unfold`), or summed back over them (`fold`), in any
number of space axes. x (N, C, *space), w (O, C / groups, *kernel), y (N, O, *places).
"""

import math
from itertools import product

from tinygrad_notes.functional.define import differentiable

import numpy as np

# --- windows ------------------------------------------------------------------------------------


def places(name, space, kernel, stride, padding, dilation):
    """How many windows fit along each axis."""
    count = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(space, kernel, stride, padding, dilation))
    if min(count, default=1) < 1:
        raise ValueError(
            f"{name}: a kernel {kernel} with dilation {dilation} is larger than x {tuple(space)} padded by {padding}; pad more or use a smaller kernel"
        )
    return count


def offsets(kernel, count, stride, dilation):
    """For each member of the kernel: its index, and where in the padded x it lies in all the windows."""
    for at in product(*map(range, kernel)):
        where = (slice(a * d, a * d + s * (n - 1) + 1, s) for a, n, s, d in zip(at, count, stride, dilation))
        yield at, (slice(None), slice(None), *where)


def inner(space, padding):
    return (slice(None), slice(None), *(slice(p, p + n) for n, p in zip(space, padding)))


def pad_space(x, padding, fill=0.0):
    if not any(padding):
        return x
    padded = np.full((*x.shape[:2], *(n + 2 * p for n, p in zip(x.shape[2:], padding))), fill, x.dtype)
    padded[inner(x.shape[2:], padding)] = x
    return padded


def unfold_rule(g, y, x, *, kernel, stride, padding, dilation, fill=0.0):
    return fold(g, space=x.shape[2:], stride=stride, padding=padding, dilation=dilation)


def fold_rule(g, y, windows, *, space, stride, padding, dilation):
    kernel = windows.shape[2 : 2 + len(space)]
    return unfold(g, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


GEOMETRY = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}


@differentiable(
    unfold_rule,
    cases=[
        ((2, 3, 5, 6), {"kernel": (3, 2), **GEOMETRY}),
        ((1, 2, 5), {"kernel": (2,), "stride": (1,), "padding": (0,), "dilation": (1,)}),
    ],
)
def unfold(x, *, kernel, stride, padding, dilation, fill=0.0):
    """Every window of x (N, C, *space), padded with `fill` -> (N, C, *kernel, *places). Geometry: a tuple, one number per axis."""
    count = places("unfold", x.shape[2:], kernel, stride, padding, dilation)
    windows = np.empty((*x.shape[:2], *kernel, *count), x.dtype)
    x = pad_space(x, padding, fill)
    for at, where in offsets(kernel, count, stride, dilation):
        windows[(slice(None), slice(None), *at)] = x[where]
    return windows


@differentiable(fold_rule, cases=[((2, 3, 3, 2, 3, 4), {"space": (5, 6), **GEOMETRY})])
def fold(windows, *, space, stride, padding, dilation):
    """The transpose of `unfold`: windows (N, C, *kernel, *places) added up where they overlap -> (N, C, *space)."""
    kernel, count = windows.shape[2 : 2 + len(space)], windows.shape[2 + len(space) :]
    x = np.zeros((*windows.shape[:2], *(n + 2 * p for n, p in zip(space, padding))), windows.dtype)
    for at, where in offsets(kernel, count, stride, dilation):
        x[where] += windows[(slice(None), slice(None), *at)]
    return np.ascontiguousarray(x[inner(space, padding)])


# --- the three products -----------------------------------------------------------------------------


def columns(x, kernel, groups, geometry):
    """The windows of x as matrices, (N, groups, C / groups * members of the kernel, places), and their places."""
    count = places("convolution", x.shape[2:], kernel, **geometry)
    one = math.prod(kernel) == 1 and not any(geometry["padding"]) and set(geometry["stride"]) == {1}
    windows = x if one else unfold(x, kernel=kernel, **geometry)
    return windows.reshape(len(x), groups, x.shape[1] // groups * math.prod(kernel), math.prod(count)), count


def matrices(w, groups):
    """w as (groups, O / groups, C / groups * members of the kernel)."""
    return w.reshape(groups, w.shape[0] // groups, math.prod(w.shape[1:]))


def rows_of_places(y, groups):
    """y as (N, groups, O / groups, places)."""
    return y.reshape(len(y), groups, y.shape[1] // groups, math.prod(y.shape[2:]))


PLAIN = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
ODD = {**GEOMETRY, "groups": 2}
LINE = {"stride": (2,), "padding": (1,), "dilation": (1,), "groups": 1}


def space_axes(x):
    return (0, *range(2, x.ndim))


def convolve_rule_x(g, y, x, w, bias, *, groups, **geometry):
    return spread(g, w, space=x.shape[2:], groups=groups, **geometry)


def correlate_rule_x(g, y, x, v, *, kernel, groups, **geometry):
    return spread(v, g, space=x.shape[2:], groups=groups, **geometry)


def correlate_rule_v(g, y, x, v, *, kernel, groups, **geometry):
    return convolve(x, g, None, groups=groups, **geometry)


@differentiable(
    convolve_rule_x,
    lambda g, y, x, w, bias, *, groups, **geometry: correlate(x, g, kernel=w.shape[2:], groups=groups, **geometry),
    lambda g, y, x, w, bias, *, groups, **geometry: g.sum(axis=space_axes(g)),
    cases=[
        ((2, 2, 4, 3), (3, 2, 3, 3), (3,), PLAIN),
        ((1, 4, 5, 6), (6, 2, 3, 2), None, ODD),
        ((2, 3, 5), (4, 3, 3), (4,), LINE),
        ((2, 3, 2, 2), (2, 3, 1, 1), None, PLAIN | {"padding": (0, 0)}),
    ],
)
def convolve(x, w, bias, *, stride, padding, dilation, groups):
    x, count = columns(x, w.shape[2:], groups, {"stride": stride, "padding": padding, "dilation": dilation})
    y = np.matmul(matrices(w, groups), x).reshape(len(x), len(w), *count)
    if bias is not None:
        y += bias.reshape(-1, *(1 for _ in count))
    return y


@differentiable(
    lambda g, y, v, w, *, space, groups, **geometry: convolve(g, w, None, groups=groups, **geometry),
    lambda g, y, v, w, *, space, groups, **geometry: correlate(g, v, kernel=w.shape[2:], groups=groups, **geometry),
    cases=[
        ((2, 3, 4, 3), (3, 2, 3, 3), PLAIN | {"space": (4, 3)}),
        ((1, 6, 3, 4), (6, 2, 3, 2), ODD | {"space": (5, 6)}),
        ((2, 4, 3), (4, 3, 3), LINE | {"space": (6,)}),
    ],
)
def spread(v, w, *, space, stride, padding, dilation, groups):
    """v (N, O, *places), w (O, C / groups, *kernel) -> (N, C, *space)"""
    windows = np.matmul(np.swapaxes(matrices(w, groups), -1, -2), rows_of_places(v, groups))
    windows = windows.reshape(len(v), groups * w.shape[1], *w.shape[2:], *v.shape[2:])
    return fold(windows, space=space, stride=stride, padding=padding, dilation=dilation)


@differentiable(
    correlate_rule_x,
    correlate_rule_v,
    cases=[
        ((2, 2, 4, 3), (2, 3, 4, 3), PLAIN | {"kernel": (3, 3)}),
        ((1, 4, 5, 6), (1, 6, 3, 4), ODD | {"kernel": (3, 2)}),
        ((2, 3, 5), (2, 4, 3), LINE | {"kernel": (3,)}),
    ],
)
def correlate(x, v, *, kernel, stride, padding, dilation, groups):
    """x (N, C, *space), v (N, O, *places) -> (O, C / groups, *kernel)"""
    C = x.shape[1]
    x, _ = columns(x, kernel, groups, {"stride": stride, "padding": padding, "dilation": dilation})
    w = np.matmul(rows_of_places(v, groups), np.swapaxes(x, -1, -2)).sum(axis=0)
    return w.reshape(v.shape[1], C // groups, *kernel)


# --- the public functions ---------------------------------------------------------------------------


def each_axis(name, label, value, axes, least):
    """A number, or one for each space axis, as a tuple."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or min(values) < least:
        raise ValueError(f"{name}: {label}={value!r}, expected an integer of at least {least}, or {axes} of them")
    return values


def geometry_of(name, axes, stride, padding, dilation):
    return {
        "stride": each_axis(name, "stride", stride, axes, 1),
        "padding": each_axis(name, "padding", padding, axes, 0),
        "dilation": each_axis(name, "dilation", dilation, axes, 1),
    }


def check_dimensions(name, x, w, axes):
    if x.ndim != axes + 2 or w.ndim != axes + 2:
        space = "(N, C, T) and w (O, C, K)" if axes == 1 else "(N, C, H, W) and w (O, C, KH, KW)"
        raise ValueError(f"{name}: x {x.shape} and w {w.shape}; expected x {space}")


def check_bias(name, bias, w, O):
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"{name}: bias is {bias.shape}, expected ({O},), one number for each output channel of w {w.shape}")


def convolve_checked(name, axes, x, w, bias, stride, padding, dilation, groups):
    check_dimensions(name, x, w, axes)
    O, C = w.shape[0], w.shape[1] * groups
    if x.shape[1] != C:
        raise ValueError(
            f"{name}: x has {x.shape[1]} channels but w expects {C}; x {x.shape}, w {w.shape}"
            + (f", groups={groups}" if groups > 1 else "")
        )
    if O % groups:
        raise ValueError(f"{name}: {O} output channels do not divide into {groups} groups; w {w.shape}")
    check_bias(name, bias, w, O)
    geometry = geometry_of(name, axes, stride, padding, dilation)
    places(name, x.shape[2:], w.shape[2:], **geometry)
    return convolve(x, w, bias, groups=groups, **geometry)


def conv1d(x, w, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """y[n, o, t] = bias[o] + sum over c, i of w[o, c, i] x[n, c, stride t + dilation i - padding].

    x (N, C, T), w (O, C / groups, K), bias (O,) or None -> (N, O, T'), with
    T' = (T + 2 padding - dilation (K - 1) - 1) // stride + 1. groups: channels and outputs are cut
    into as many parts that do not mix (groups=C: "depthwise").
    """
    return convolve_checked("conv1d", 1, x, w, bias, stride, padding, dilation, groups)


def conv2d(x, w, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """As `conv1d`, over two axes: x (N, C, H, W), w (O, C / groups, KH, KW) -> (N, O, H', W').

    stride, padding and dilation: a number, or a pair for height and width.
    """
    return convolve_checked("conv2d", 2, x, w, bias, stride, padding, dilation, groups)


def conv_transpose2d(x, w, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """The transpose of conv2d as a linear map: every pixel of x paints w, scaled by it; upsamples by the stride.

    x (N, C, H, W), w (C, O / groups, KH, KW), bias (O,) or None -> (N, O, H', W'), with
    H' = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
    output_padding, below the stride or the dilation, adds rows and columns at the end.
    """
    name = "conv_transpose2d"
    check_dimensions(name, x, w, 2)
    C, O = w.shape[0], w.shape[1] * groups
    if x.shape[1] != C or C % groups:
        raise ValueError(
            f"{name}: x has {x.shape[1]} channels but w expects {C} in {groups} groups; x {x.shape}, w {w.shape} (C, O / groups, KH, KW)"
        )
    check_bias(name, bias, w, O)
    geometry = geometry_of(name, 2, stride, padding, dilation)
    extra = each_axis(name, "output_padding", output_padding, 2, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, geometry["stride"], geometry["dilation"])):
        raise ValueError(
            f"{name}: output_padding={output_padding!r} must be smaller than the stride or the dilation; stride={stride!r}, dilation={dilation!r}"
        )
    space = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in zip(x.shape[2:], w.shape[2:], *geometry.values(), extra)
    )
    if min(space) < 1:
        raise ValueError(f"{name}: the output would be {space}; x {x.shape}, w {w.shape}, padding={padding!r} takes away too much")
    y = spread(x, w, space=space, groups=groups, **geometry)
    return y if bias is None else y + bias.reshape(-1, 1, 1)
