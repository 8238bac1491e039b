"""Pooling: one number for each window."""

import math

from tinygrad_notes.functional.convolution import each_axis
from tinygrad_notes.functional.define import differentiable, takes_lists
from tinygrad_notes.fused import windows as arrays
from tinygrad_notes.fused.windows import offsets, pad_space, places

import numpy as np

GEOMETRY = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}


def unfold_rule(g, y, x, *, kernel, stride, padding, dilation, fill=0.0):
    return fold(g, space=x.shape[2:], stride=stride, padding=padding, dilation=dilation)


def fold_rule(g, y, windows, *, space, stride, padding, dilation):
    kernel = windows.shape[2 : 2 + len(space)]
    return unfold(g, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


UNFOLDED = [
    ((2, 3, 5, 6), {"kernel": (3, 2), **GEOMETRY}),
    ((1, 2, 5), {"kernel": (2,), "stride": (1,), "padding": (0,), "dilation": (1,)}),
]
unfold = differentiable(unfold_rule, cases=UNFOLDED)(arrays.unfold)
fold = differentiable(fold_rule, cases=[((2, 3, 3, 2, 3, 4), {"space": (5, 6), **GEOMETRY})])(arrays.fold)


def windows_of(kernel):
    """The axes of the kernel among those that `unfold` returns."""
    return tuple(range(2, 2 + len(kernel)))


def ones(kernel):
    """The dilation of windows whose members lie side by side."""
    return (1,) * len(kernel)


def max_pool_rule(g, y, x, *, kernel, stride, padding):
    windows = unfold(x, kernel=kernel, stride=stride, padding=padding, dilation=ones(kernel), fill=-np.inf)
    largest = windows == np.expand_dims(y, windows_of(kernel))
    shares = g / np.maximum(largest.sum(axis=windows_of(kernel)), 1).astype(g.dtype)  # no member equals a nan
    return fold(
        np.expand_dims(shares, windows_of(kernel)) * largest, space=x.shape[2:], stride=stride, padding=padding, dilation=ones(kernel)
    )


CASES = [
    ((1, 2, 5, 4), {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 1)}),
    ((2, 2, 6), {"kernel": (2,), "stride": (2,), "padding": (0,)}),
]


@differentiable(max_pool_rule, cases=CASES)
def max_pool(x, *, kernel, stride, padding):
    """x (N, C, *space) -> (N, C, *places); kernel, stride and padding are tuples with one number for each space axis."""
    count = places("max_pool", x.shape[2:], kernel, stride, padding, ones(kernel))
    x = pad_space(x, padding, -np.inf)
    y = np.full((*x.shape[:2], *count), -np.inf, x.dtype)
    for _, where in offsets(kernel, count, stride, ones(kernel)):
        np.maximum(y, x[where], out=y)
    return y


def average_pool_rule(g, y, x, *, kernel, stride, padding):
    shares = np.expand_dims(g * (1 / math.prod(kernel)), windows_of(kernel))
    shares = np.broadcast_to(shares, (*g.shape[:2], *kernel, *g.shape[2:]))
    return fold(shares, space=x.shape[2:], stride=stride, padding=padding, dilation=ones(kernel))


@differentiable(average_pool_rule, cases=CASES)
def average_pool(x, *, kernel, stride, padding):
    """x (N, C, *space) -> (N, C, *places); kernel, stride and padding are tuples with one number for each space axis."""
    count = places("avg_pool", x.shape[2:], kernel, stride, padding, ones(kernel))
    x = pad_space(x, padding)
    y = np.zeros((*x.shape[:2], *count), x.dtype)
    for _, where in offsets(kernel, count, stride, ones(kernel)):
        y += x[where]
    y *= 1 / math.prod(kernel)
    return y


def pool(name, op, axes, x, size, stride, padding):
    """op over x with `axes` space axes, after the checks that all the functions below have in common."""
    if x.ndim != axes + 2 or x.dtype.kind != "f":
        raise ValueError(f"{name}: x is {x.dtype} {x.shape}, expected floats {('(N, C, T)', '(N, C, H, W)')[axes - 1]}")
    kernel = each_axis(name, "size", size, axes, 1)
    padding = each_axis(name, "padding", padding, axes, 0)
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"{name}: padding={padding} is more than half of the window {kernel}, so that a window could hold padding only")
    stride = kernel if stride is None else each_axis(name, "stride", stride, axes, 1)
    places(name, x.shape[2:], kernel, stride, padding, ones(kernel))
    return op(x, kernel=kernel, stride=stride, padding=padding)


@takes_lists("x")
def max_pool1d(x, size, stride=None, padding=0):
    """The largest of every window of `size`: x (N, C, T) -> (N, C, T'), T' = (T + 2 padding - size) // stride + 1.

    x: floats; the result has their dtype. size, stride: integers of at least 1, stride `size` unless given; padding: from 0 to
    half of the size, counted as -inf. Equal largest members share the gradient evenly.
    Raises ValueError for an x of another kind or number of axes, for a size, stride or padding outside these, and where no
    window fits; TypeError for an x that holds no numbers.
    """
    return pool("max_pool1d", max_pool, 1, x, size, stride, padding)


@takes_lists("x")
def max_pool2d(x, size, stride=None, padding=0):
    """As `max_pool1d`, over two axes: x (N, C, H, W) -> (N, C, H', W').

    size, stride and padding: a number, or a pair for height and width. The same errors.
    """
    return pool("max_pool2d", max_pool, 2, x, size, stride, padding)


@takes_lists("x")
def avg_pool1d(x, size, stride=None, padding=0):
    """The mean of every window of `size`, padding counted as zeros: x (N, C, T) -> (N, C, T').

    T', the arguments, the dtype and the errors are as for `max_pool1d`.
    """
    return pool("avg_pool1d", average_pool, 1, x, size, stride, padding)


@takes_lists("x")
def avg_pool2d(x, size, stride=None, padding=0):
    """As `avg_pool1d`, over two axes: x (N, C, H, W) -> (N, C, H', W').

    size, stride and padding: a number, or a pair for height and width. The same errors.
    """
    return pool("avg_pool2d", average_pool, 2, x, size, stride, padding)
