"""Convolution over two axes: the same small weight matrix applied to the neighbourhood of every position.

x (N, C, H, W), w (O, C / groups, KH, KW), y (N, O, H', W'). The map is linear in x and in w, and its two
transposes are what the backward passes need:

    y = convolve(x, w)             every window of x times w
    x = spread(y, w)               the transpose in x: the "transposed convolution"
    w = correlate(x, y)            the transpose in w: which windows went with which outputs

In general the windows are cut out (`unfold`), and one matrix product does the rest. Where the stride is 1
that copies every number KH KW times, and copying is what takes the time. `Rows` copies it KW times only:

    x padded, its rows joined end to end:     . . . . . a b c d . e f g h . ...
    the same, shifted by 0..KW-1 columns      one below the other: KW C channels
    row i of the kernel                       a product with all of these, from position i (W + padding) on

The products also meet windows that run from the end of one row into the next one: they end up in columns that
are cut off.
"""

from math import prod
from typing import Any, NamedTuple

from tinygrad_notes.fused.rows import chunks
from tinygrad_notes.fused.windows import fold, places, unfold
from tinygrad_notes.registry import fused
from tinygrad_notes.threads import for_each

import numpy as np

ROOM = 2**17  # numbers in the shifted rows of the examples that are worked on together: they stay in the cache


class Geometry(NamedTuple):
    """How the windows lie; pairs for height and width."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def count(self, name, space, kernel):
        """How many windows fit along each axis; ValueError in the name of the public function if none does."""
        return places(name, space, kernel, *self)

    def windows(self, x, kernel):
        return unfold(x, kernel=kernel, **self._asdict())


class Rows:
    """The shifted rows of x (N, C, H, W) for a kernel (KH, KW) and stride 1, a few examples at a time (`parts`)."""

    def __init__(self, x, kernel, padding, dilation, groups):
        N, C, H, W = x.shape
        (self.KH, KW), (dh, dw) = kernel, dilation
        self.width = W + 2 * padding[1]  # of a padded row
        self.height = H + 2 * padding[0]
        self.places = self.height - dh * (self.KH - 1), self.width - dw * (KW - 1)
        length = self.height * self.width
        self.shape = (groups, KW * C // groups, length)
        self.shifts = [j * dw for j in range(KW)]
        self.x, self.padding, self.step, self.groups = x, padding, dh * self.width, groups
        self.parts = list(chunks(N, max(1, ROOM // (KW * C * length))))
        self.work = N * KW * self.KH * C * self.places[0] * self.width  # multiply-adds for each output channel of a group

    def of(self, part):
        """For a slice of the examples: one matrix (n, groups, KW C / groups, H' (W + padding)) for each row of the kernel."""
        x, length = self.x[part], self.shape[-1]
        (n, C, H, W), (ph, pw) = x.shape, self.padding
        padded = np.zeros((n, C, length + self.shifts[-1]), x.dtype)
        padded[:, :, :length].reshape(n, C, self.height, self.width)[:, :, ph : ph + H, pw : pw + W] = x
        rows = np.empty((n, self.groups, len(self.shifts), C // self.groups, length), x.dtype)
        by_group = padded.reshape(n, self.groups, C // self.groups, -1)
        for j, shift in enumerate(self.shifts):
            rows[:, :, j] = by_group[..., shift : shift + length]
        rows = rows.reshape(n, *self.shape)
        span = self.places[0] * self.width
        return [rows[..., i * self.step : i * self.step + span] for i in range(self.KH)]


def kernel_rows(w, groups):
    """w (O, C / groups, KH, KW) as KH matrices (groups, O / groups, KW C / groups)."""
    O, C, KH, KW = w.shape
    return np.ascontiguousarray(w.reshape(groups, O // groups, C, KH, KW).transpose(3, 0, 1, 4, 2)).reshape(KH, groups, O // groups, KW * C)


# --- the three maps -------------------------------------------------------------------------------


def convolve(x, w, geometry, groups):
    if geometry.stride == (1, 1) and w.shape[2:] != (1, 1):
        return convolve_rows(x, w, geometry.padding, geometry.dilation, groups)
    windows, count = columns(x, w.shape[2:], geometry, groups)
    return np.matmul(matrices(w, groups), windows).reshape(len(x), len(w), *count)


def convolve_rows(x, w, padding, dilation, groups):
    rows = Rows(x, w.shape[2:], padding, dilation, groups)
    O, (H, W) = len(w), rows.places
    y = np.empty((len(x), O, H, W), x.dtype)
    matrices = kernel_rows(w, groups)

    def fill(part):
        first, *others = rows.of(part)
        wide = np.matmul(matrices[0], first)
        for matrix, shifted in zip(matrices[1:], others):
            wide += np.matmul(matrix, shifted)
        y[part] = wide.reshape(-1, O, H, rows.width)[..., :W]

    for_each(rows.parts, fill, rows.work * O // groups)
    return y


def spread(y, w, space, geometry, groups):
    """y (N, O, H', W') -> (N, C, *space)"""
    O, C, *kernel = w.shape
    padding = tuple(d * (k - 1) - p for d, k, p in zip(geometry.dilation, kernel, geometry.padding))
    if geometry.stride == (1, 1) and kernel != [1, 1] and min(padding) >= 0 and geometry.count("spread", space, kernel) == y.shape[2:]:
        turned = w.reshape(groups, O // groups, C, *kernel)[..., ::-1, ::-1].swapaxes(1, 2).reshape(groups * C, O // groups, *kernel)
        return convolve_rows(y, turned, padding, geometry.dilation, groups)
    windows = np.matmul(matrices(w, groups).swapaxes(-1, -2), by_place(y, groups))
    return fold(windows.reshape(len(y), groups * C, *kernel, *y.shape[2:]), space=space, **geometry._asdict())


def correlate(x, y, kernel, geometry, groups):
    """x (N, C, H, W), y (N, O, H', W') -> (O, C / groups, *kernel)"""
    O, C = y.shape[1], x.shape[1] // groups
    if geometry.stride == (1, 1) and kernel != (1, 1):
        return correlate_rows(x, y, kernel, geometry.padding, geometry.dilation, groups)
    windows, _ = columns(x, kernel, geometry, groups)
    return np.matmul(by_place(y, groups), windows.swapaxes(-1, -2)).sum(axis=0).reshape(O, C, *kernel)


def correlate_rows(x, y, kernel, padding, dilation, groups):
    O, C, (KH, KW) = y.shape[1], x.shape[1] // groups, kernel
    rows = Rows(x, kernel, padding, dilation, groups)
    H, W = rows.places

    def of(part):
        wide = np.zeros((part.stop - part.start, O, H, rows.width), x.dtype)  # zero in the columns that are cut off
        wide[..., :W] = y[part]
        turned = wide.reshape(-1, groups, O // groups, H * rows.width).swapaxes(-1, -2)
        # BLAS is half as fast again with the longer side first.
        return np.stack([np.matmul(shifted, turned).sum(axis=0) for shifted in rows.of(part)])

    w: Any = sum(for_each(rows.parts, of, rows.work * O // groups))
    return w.reshape(KH, groups, KW, C, O // groups).transpose(1, 4, 3, 0, 2).reshape(O, C, KH, KW)


def columns(x, kernel, geometry, groups):
    """The windows of x as matrices (N, groups, C / groups * KH KW, places), and how many there are along each axis."""
    count = geometry.count("convolution", x.shape[2:], kernel)
    as_it_is = prod(kernel) == 1 and geometry.padding == (0, 0) and geometry.stride == (1, 1)
    windows = x if as_it_is else geometry.windows(x, kernel)
    return windows.reshape(len(x), groups, x.shape[1] // groups * prod(kernel), prod(count)), count


def matrices(w, groups):
    """w as (groups, O / groups, C / groups * KH KW)"""
    return w.reshape(groups, w.shape[0] // groups, prod(w.shape[1:]))


def by_place(y, groups):
    """y as (N, groups, O / groups, places)"""
    return y.reshape(len(y), groups, y.shape[1] // groups, prod(y.shape[2:]))


# --- the kernels ------------------------------------------------------------------------------------


def forward(x, w, bias, *, geometry, groups):
    y = convolve(x, w, geometry, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y, None


def backward(dy, saved, x, w, bias, *, needs, geometry, groups):
    return (
        spread(dy, w, x.shape[2:], geometry, groups) if needs[0] else None,
        correlate(x, dy, w.shape[2:], geometry, groups) if needs[1] else None,
        dy.sum(axis=(0, 2, 3)) if needs[2] else None,
    )


def reference(x, w, bias, *, geometry, groups):
    """y[n, o, h, w] = bias[o] + the sum over c, i, j of w[o, c, i, j] times the window of x at (h, w)"""
    (sh, sw), (ph, pw), (dh, dw) = geometry
    O, C, KH, KW = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (dh * (KH - 1) + 1, dw * (KW - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]  # (N, groups C, H', W', KH, KW)
    windows = windows.reshape(len(x), groups, C, *windows.shape[2:])
    y = np.einsum("ngchwij,gocij->ngohw", windows, w.reshape(groups, O // groups, C, KH, KW))
    y = y.reshape(len(x), O, *y.shape[3:])
    return y if bias is None else y + bias[:, None, None]


PLAIN = Geometry(stride=(1, 1), padding=(1, 1), dilation=(1, 1))
ODD = Geometry(stride=(2, 1), padding=(1, 0), dilation=(1, 2))

convolution = fused(
    "convolution",
    forward,
    backward,
    reference,
    cases=[
        ((2, 2, 4, 3), (3, 2, 3, 3), (3,), {"geometry": PLAIN, "groups": 1}),
        ((1, 4, 5, 6), (6, 2, 3, 2), None, {"geometry": ODD, "groups": 2}),
        ((2, 4, 4, 5), (4, 2, 2, 3), (4,), {"geometry": ODD._replace(stride=(1, 1)), "groups": 2}),
        (
            (2, 1, 2, 3),
            (2, 1, 2, 1),
            None,
            {"geometry": PLAIN._replace(padding=(2, 2)), "groups": 1},
        ),  # more padding than the kernel reaches
        ((2, 3, 2, 2), (2, 3, 1, 1), None, {"geometry": PLAIN._replace(padding=(0, 0)), "groups": 1}),
    ],
)


def transposed_forward(x, w, bias, *, space, geometry, groups):
    y = spread(x, w, space, geometry, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y, None


def transposed_backward(dy, saved, x, w, bias, *, needs, space, geometry, groups):
    H, W = x.shape[2:]
    more = [n - m for n, m in zip(geometry.count("transposed convolution", space, w.shape[2:]), (H, W))]
    if any(more):  # rows and columns at the end, "output padding", may hold windows that no pixel of x has painted
        x = np.pad(x, ((0, 0), (0, 0), (0, more[0]), (0, more[1])))
    return (
        convolve(dy, w, geometry, groups)[:, :, :H, :W] if needs[0] else None,
        correlate(dy, x, w.shape[2:], geometry, groups) if needs[1] else None,
        dy.sum(axis=(0, 2, 3)) if needs[2] else None,
    )


def transposed_reference(x, w, bias, *, space, geometry, groups):
    """Every pixel of x (N, C, H, W) paints w (C, O / groups, KH, KW), scaled by it, into the output: windows overlap and add up"""
    (sh, sw), (ph, pw), (dh, dw) = geometry
    (N, C, H, W), (_, O, KH, KW) = x.shape, w.shape
    painted = np.einsum("ngchw,gcoij->ngoijhw", x.reshape(N, groups, C // groups, H, W), w.reshape(groups, C // groups, O, KH, KW))
    painted = painted.reshape(N, groups * O, KH, KW, H, W)
    y: Any = 0
    for i in range(KH):
        for j in range(KW):
            rows, columns = np.zeros((space[0] + 2 * ph, H), w.dtype), np.zeros((W, space[1] + 2 * pw), w.dtype)
            rows[i * dh + sh * np.arange(H), np.arange(H)] = 1  # row h of x goes to row sh h + dh i of the padded output
            columns[np.arange(W), j * dw + sw * np.arange(W)] = 1
            y = y + rows @ painted[:, :, i, j] @ columns
    y = y[:, :, ph : ph + space[0], pw : pw + space[1]]
    return y if bias is None else y + bias[:, None, None]


transposed_convolution = fused(
    "transposed_convolution",
    transposed_forward,
    transposed_backward,
    transposed_reference,
    cases=[
        ((2, 3, 4, 3), (3, 2, 3, 3), (2,), {"space": (4, 3), "geometry": PLAIN, "groups": 1}),
        ((1, 6, 3, 4), (6, 2, 3, 2), (4,), {"space": (5, 6), "geometry": ODD, "groups": 2}),
        ((2, 2, 3, 2), (2, 1, 2, 2), None, {"space": (6, 4), "geometry": Geometry((2, 2), (0, 0), (1, 1)), "groups": 1}),
    ],
)
