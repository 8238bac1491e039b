"""Convolution over two axes: the same small weight matrix applied to the neighbourhood of every position.

x (N, C, H, W), w (O, C / groups, KH, KW), y (N, O, H', W'). The map is linear in x and in w, and its two
transposes are what the backward passes need:

    y = convolve(x, w)             every window of x times w
    x = spread(y, w)               the transpose in x: the "transposed convolution"
    w = correlate(x, y)            the transpose in w: which windows went with which outputs

Cutting out the windows (`unfold`) copies every number KH KW times, and copying is what takes the time. `beside` copies it
KW + 1 times: once to pad x and put its channels last, KW times to lay the pixels that a row of the kernel meets beside each
other. So one row of the kernel is one product of matrices:

    row h of x, padded:      . a b c d .           each letter a pixel, C numbers
    beside it:               .ab abc bcd cd.       KW pixels for each of the W' places: a matrix (W', KW C)
    y at row h:              the sum over i of  beside(row h + i)  times  w[:, :, i] as a matrix (KW C, O)

The rows of one example lie one after the other, so they are one matrix (H' W', KW C); where the stride in height is not 1,
`under` copies them once more. `spread` is a convolution with the kernel turned round where the stride is 1, the padding no wider
than the kernel reaches, and no row or column left over; otherwise it adds up windows (`fold`).
"""

from math import prod
from typing import Any, NamedTuple

from tinygrad_notes.fused.rows import sum_of_rows
from tinygrad_notes.fused.windows import fold, places
from tinygrad_notes.registry import fused
from tinygrad_notes.threads import share

import numpy as np

ROOM = 2**19  # numbers that `beside` gives for the examples that are worked on together: they stay in the cache


class Geometry(NamedTuple):
    """How the windows lie; pairs for height and width."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def count(self, name, space, kernel):
        """How many windows fit along each axis; ValueError in the name of the public function if none does."""
        return places(name, space, kernel, *self)

    def touches_once(self, kernel):
        """Whether every window is one pixel and every pixel one window: a product of matrices as it is."""
        return prod(kernel) == 1 and self.padding == (0, 0) and self.stride == (1, 1)


def beside(x, KW, W, geometry, groups):
    """x (n, C, H, width) -> (n, groups, H + 2 ph, W, KW C / groups): for each of W places in a padded row, the pixels that a kernel there meets."""
    (n, C, H, width), (ph, pw) = x.shape, geometry.padding
    C //= groups
    padded = np.empty((n, groups, H + 2 * ph, width + 2 * pw, C), x.dtype)
    padded[:, :, :ph] = padded[:, :, ph + H :] = 0  # the margin only: np.zeros would keep the other thread waiting
    padded[:, :, :, :pw] = padded[:, :, :, pw + width :] = 0
    padded[:, :, ph : ph + H, pw : pw + width] = x.reshape(n, groups, C, H, width).transpose(0, 1, 3, 4, 2)
    found = np.empty((n, groups, H + 2 * ph, W, KW, C), x.dtype)
    for j in range(KW):
        found[..., j, :] = padded[..., geometry.dilation[1] * j :: geometry.stride[1], :][..., :W, :]
    return found.reshape(n, groups, H + 2 * ph, W, KW * C)


def under(rows, KH, H, geometry):
    """The rows that each row of the kernel meets, from what `beside` gave for W places: KH matrices (n, groups, H W, KW C / groups)."""
    s, d = geometry.stride[0], geometry.dilation[0]
    n, groups, _, W, K = rows.shape
    return [rows[:, :, d * i : d * i + s * (H - 1) + 1 : s].reshape(n, groups, H * W, K) for i in range(KH)]


def kernel_rows(w, groups):
    """w (O, C / groups, KH, KW) as KH matrices (groups, KW C / groups, O / groups)."""
    O, C, KH, KW = w.shape
    return np.ascontiguousarray(w.reshape(groups, O // groups, C, KH, KW).transpose(3, 0, 4, 2, 1)).reshape(KH, groups, KW * C, O // groups)


def kernel_of(rows, shape, groups):
    """The inverse of kernel_rows: (KH, groups, KW C / groups, O / groups) as w of this shape"""
    O, C, KH, KW = shape
    return rows.reshape(KH, groups, KW, C, O // groups).transpose(1, 4, 3, 0, 2).reshape(shape)


# --- the three maps -------------------------------------------------------------------------------


def convolve(x, w, geometry, groups):
    """x (N, C, H, W), w (O, C / groups, KH, KW) -> (N, O, H', W')"""
    O, C, KH, KW = w.shape
    H, W = geometry.count("convolution", x.shape[2:], (KH, KW))
    y = np.empty((len(x), O, H, W), x.dtype)
    if geometry.touches_once((KH, KW)):

        def convolve_part(part):
            np.matmul(w.reshape(groups, -1, C), by_place(x[part], groups), out=by_place(y[part], groups))

    else:
        matrices = kernel_rows(w, groups)

        def convolve_part(part):
            rows = under(beside(x[part], KW, W, geometry, groups), KH, H, geometry)
            by_place(y[part], groups)[...] = times(rows, matrices).swapaxes(-1, -2)

    share(len(x), at_once(x, KW), convolve_part, w.size * len(x) * H * W)
    return y


def spread(y, w, space, geometry, groups):
    """y (N, O, H', W'), w (O, C / groups, KH, KW) -> (N, C, *space)"""
    O, C, *kernel = w.shape
    back = returning(w.shape, y.shape[2:], space, geometry)
    if back is not None:
        return convolve(y, turned(w, groups), back, groups)
    windows = np.matmul(w.reshape(groups, O // groups, -1).swapaxes(-1, -2), by_place(y, groups))
    return fold(windows.reshape(len(y), groups * C, *kernel, *y.shape[2:]), space=space, **geometry._asdict())


def correlate(x, y, kernel, geometry, groups):
    """x (N, C, H, W), y (N, O, H', W') -> (O, C / groups, *kernel); windows of x beyond those of y are left out"""
    (KH, KW), (_, O, H, W), C = kernel, y.shape, x.shape[1] // groups

    def correlate_part(part):
        if geometry.touches_once(kernel):
            rows = [by_place(x[part, :, :H, :W], groups).swapaxes(-1, -2)]
        else:
            rows = under(beside(x[part], KW, W, geometry, groups), KH, H, geometry)
        return against(rows, y[part], groups)

    sums = share(len(x), at_once(x, KW), correlate_part, O * C * KH * KW * len(x) * H * W)
    return kernel_of(sum(sums), (O, C, KH, KW), groups)


def spread_and_correlate(x, y, w, back, groups):
    """spread(y, w) and correlate(x, y), where the first is a convolution, of geometry `back`: what `beside` gives for y serves both."""
    O, C, KH, KW = w.shape
    H, W = x.shape[2:]
    dx, matrices = np.empty(x.shape, x.dtype), kernel_rows(turned(w, groups), groups)

    def both_of_part(part):
        rows = under(beside(y[part], KW, W, back, groups), KH, H, back)
        by_place(dx[part], groups)[...] = times(rows, matrices).swapaxes(-1, -2)
        return against(rows, x[part], groups)

    sums = share(len(x), at_once(y, KW), both_of_part, 2 * w.size * len(x) * H * W)
    return dx, turned(kernel_of(sum(sums), (groups * C, O // groups, KH, KW), groups), groups)


def times(rows, matrices):
    """The sum over the kernel's KH rows of (n, groups, places, K) times (groups, K, O / groups) -> (n, groups, places, O / groups)"""
    y = np.matmul(rows[0], matrices[0])
    for row, matrix in zip(rows[1:], matrices[1:]):
        y += np.matmul(row, matrix)
    return y


def against(rows, y, groups):
    """The transpose of `times` in its matrices: KH rows (n, groups, places, K), y (n, O, H', W') -> (KH, groups, K, O / groups)"""
    dy = by_place(y, groups).swapaxes(-1, -2)
    return np.stack([np.matmul(row.swapaxes(-1, -2), dy).sum(axis=0) for row in rows])


def turned(w, groups):
    """The kernel of the way back, turned round: (O, C / groups, KH, KW) -> (C, O / groups, KH, KW)"""
    O, C, *kernel = w.shape
    return w.reshape(groups, O // groups, C, *kernel)[..., ::-1, ::-1].swapaxes(1, 2).reshape(groups * C, O // groups, *kernel)


def returning(kernel_shape, count, space, geometry):
    """The geometry of the convolution that goes back to `space` from `count`, (H', W'), or None where there is none and `fold` has to."""
    kernel = kernel_shape[2:]
    padding = tuple(d * (k - 1) - p for d, k, p in zip(geometry.dilation, kernel, geometry.padding))
    if geometry.stride == (1, 1) and min(padding) >= 0 and geometry.count("spread", space, kernel) == count:
        return geometry._replace(padding=padding)
    return None


def at_once(x, KW):
    """How many examples to work on together, so that what `beside` gives for them stays in the cache."""
    return ROOM // (x[0].size * KW)


def over_places(dy):
    """The sum over examples and places: dy (N, O, H', W') -> (O,)"""
    return sum_of_rows(dy.reshape(*dy.shape[:2], -1))[..., 0].sum(axis=0)


def by_place(y, groups):
    """y (N, O, H', W') as (N, groups, O / groups, places)"""
    return y.reshape(len(y), groups, y.shape[1] // groups, prod(y.shape[2:]))


# --- the kernels ------------------------------------------------------------------------------------


def forward(x, w, bias, *, geometry, groups):
    """x (N, C, H, W), w (O, C / groups, KH, KW), bias (O,) or None -> y (N, O, H', W'); nothing is saved"""
    y = convolve(x, w, geometry, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y, None


def backward(dy, saved, x, w, bias, *, needs, geometry, groups):
    """dy as y -> dx as x, dw as w, dbias (O,); each None where `needs` is false"""
    dbias = over_places(dy) if needs[2] else None
    back = returning(w.shape, dy.shape[2:], x.shape[2:], geometry)
    if needs[0] and needs[1] and back is not None and not geometry.touches_once(w.shape[2:]):
        return *spread_and_correlate(x, dy, w, back, groups), dbias
    return (
        spread(dy, w, x.shape[2:], geometry, groups) if needs[0] else None,
        correlate(x, dy, w.shape[2:], geometry, groups) if needs[1] else None,
        dbias,
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
        # more padding than the kernel reaches
        ((2, 1, 2, 3), (2, 1, 2, 1), None, {"geometry": PLAIN._replace(padding=(2, 2)), "groups": 1}),
        ((2, 3, 2, 2), (2, 3, 1, 1), None, {"geometry": PLAIN._replace(padding=(0, 0)), "groups": 1}),
    ],
)


def transposed_forward(x, w, bias, *, space, geometry, groups):
    """x (N, C, H, W), w (C, O / groups, KH, KW), bias (O,) or None -> y (N, O, *space); nothing is saved"""
    y = spread(x, w, space, geometry, groups)
    if bias is not None:
        y += bias[:, None, None]
    return y, None


def transposed_backward(dy, saved, x, w, bias, *, needs, space, geometry, groups):
    """dy as y -> dx as x, dw as w, dbias (O,); each None where `needs` is false"""
    H, W = x.shape[2:]
    return (
        # Rows and columns at the end, "output padding", may hold windows that no pixel of x has painted.
        convolve(dy, w, geometry, groups)[:, :, :H, :W] if needs[0] else None,
        correlate(dy, x, w.shape[2:], geometry, groups) if needs[1] else None,
        over_places(dy) if needs[2] else None,
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
