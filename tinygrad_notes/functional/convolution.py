"""Convolution: the same small weight matrix applied to the neighbourhood of every position.

Along one axis it is the convolution of an image one pixel high. See fused/convolution.py for how it is computed.
"""

from typing import Any

from tinygrad_notes.functional.define import check_integer, shown, takes_lists
from tinygrad_notes.fused.convolution import Geometry, convolution, transposed_convolution

import numpy as np


def each_axis(name, label, value: Any, axes, least):
    """A number, or one for each space axis, as a tuple."""
    if value.__class__ is int and value >= least:
        return (value,) * axes
    values = (value,) * axes if np.ndim(value) == 0 else tuple(value)
    if len(values) != axes or not all(isinstance(v, int | np.integer) and v >= least for v in values):
        raise ValueError(f"{name}: {label}={shown(value)}, expected an integer of at least {least}, or {axes} of them")
    return values


def geometry_of(name, axes, stride, padding, dilation):
    """The geometry over two axes; the first of a single one is trivial."""
    stride = each_axis(name, "stride", stride, axes, 1)
    padding = each_axis(name, "padding", padding, axes, 0)
    dilation = each_axis(name, "dilation", dilation, axes, 1)
    return Geometry(stride, padding, dilation) if axes == 2 else Geometry((1, *stride), (0, *padding), (1, *dilation))


def check_dimensions(name, x, w, axes):
    if x.ndim != axes + 2 or w.ndim != axes + 2:
        space = "(N, C, T) and w (O, C, K)" if axes == 1 else "(N, C, H, W) and w (O, C, KH, KW)"
        raise ValueError(f"{name}: x {x.shape} and w {w.shape}; expected x {space}")


def check_bias(name, bias, w, O):
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"{name}: bias is {bias.shape}, expected ({O},), one number for each output channel of w {w.shape}")


def check_groups(name, groups):
    if type(groups) is not int:
        check_integer(name, "groups", groups)
    if groups < 1:
        raise ValueError(f"{name}: groups={groups}, expected at least 1: as many parts of the channels, which do not mix")


def convolve_checked(name, axes, x, w, bias, stride, padding, dilation, groups):
    check_dimensions(name, x, w, axes)
    O = w.shape[0]
    check_bias(name, bias, w, O)
    check_groups(name, groups)
    C = w.shape[1] * groups
    if x.shape[1] != C:
        raise ValueError(
            f"{name}: x has {x.shape[1]} channels but w expects {C}; x {x.shape}, w {w.shape}"
            + (f", groups={groups}" if groups > 1 else "")
        )
    if O % groups:
        raise ValueError(f"{name}: {O} output channels do not divide into {groups} groups; w {w.shape}")
    geometry = geometry_of(name, axes, stride, padding, dilation)
    if axes == 1:
        x, w = x[:, :, None], w[:, :, None]
    geometry.count(name, x.shape[2:], w.shape[2:])
    y = convolution(x, w, bias, geometry=geometry, groups=groups)
    return y[:, :, 0] if axes == 1 else y


@takes_lists("x", "w", "bias")
def conv1d(x, w, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """y[n, o, t] = bias[o] + sum over c, i of w[o, c, i] x[n, c, stride t + dilation i - padding].

    x (N, C, T), w (O, C / groups, K), bias (O,) or None -> (N, O, T'), with
    T' = (T + 2 padding - dilation (K - 1) - 1) // stride + 1. groups: channels and outputs are cut
    into as many parts that do not mix (groups=C: "depthwise").
    """
    return convolve_checked("conv1d", 1, x, w, bias, stride, padding, dilation, groups)


@takes_lists("x", "w", "bias")
def conv2d(x, w, bias=None, *, stride=1, padding=0, dilation=1, groups=1):
    """As `conv1d`, over two axes: x (N, C, H, W), w (O, C / groups, KH, KW) -> (N, O, H', W').

    stride, padding and dilation: a number, or a pair for height and width.
    """
    return convolve_checked("conv2d", 2, x, w, bias, stride, padding, dilation, groups)


@takes_lists("x", "w", "bias")
def conv_transpose2d(x, w, bias=None, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """The transpose of conv2d as a linear map: every pixel of x paints w, scaled by it; upsamples by the stride.

    x (N, C, H, W), w (C, O / groups, KH, KW), bias (O,) or None -> (N, O, H', W'), with
    H' = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
    output_padding, below the stride or the dilation, adds rows and columns at the end.
    """
    name = "conv_transpose2d"
    check_groups(name, groups)
    check_dimensions(name, x, w, 2)
    C, O = w.shape[0], w.shape[1] * groups
    check_bias(name, bias, w, O)
    if x.shape[1] != C or C % groups:
        raise ValueError(
            f"{name}: x has {x.shape[1]} channels but w expects {C} in {groups} groups; x {x.shape}, w {w.shape} (C, O / groups, KH, KW)"
        )
    geometry = geometry_of(name, 2, stride, padding, dilation)
    extra = each_axis(name, "output_padding", output_padding, 2, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, geometry.stride, geometry.dilation)):
        raise ValueError(
            f"{name}: output_padding={output_padding!r} must be smaller than the stride or the dilation; stride={stride!r}, dilation={dilation!r}"
        )
    space = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in zip(x.shape[2:], w.shape[2:], *geometry, extra))
    if min(space) < 1:
        raise ValueError(f"{name}: the output would be {space}; x {x.shape}, w {w.shape}, padding={padding!r} takes away too much")
    return transposed_convolution(x, w, bias, space=space, geometry=geometry, groups=groups)
