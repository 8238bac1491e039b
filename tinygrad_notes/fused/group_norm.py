"""Group normalisation (Wu and He, 2018), and with the SiLU that follows it in a U-Net.

x (N, C, *space): in each example, C / G neighbouring channels and all positions are one row, of M numbers.

    z = (x - mean x) r,   r = 1 / sqrt(var x + eps)       in each row
    a = w z + b                                           w, b: one number for each channel
    y = a, or a sigmoid(a)

    da = dy, or dy (s + y (1 - s)),  s = sigmoid(a)
    dw = sum of z da,   db = sum of da                    over examples and positions
    dz = w da,   dx = r (dz - mean dz - z mean(z dz))     as in layer_norm

The backward pass needs only c = x - mean x, not z = c r.
"""

from math import prod

from tinygrad_notes.fused.rows import sum_of_products, sum_of_rows
from tinygrad_notes.fused.silu import sigmoid_into, slope_times
from tinygrad_notes.registry import fused
from tinygrad_notes.threads import share

import numpy as np

ROOM = 2**17  # numbers of x that are worked on together
FORWARD, BACKWARD = 140, 190  # what one number costs, in multiply-adds of a matrix product


def forward(x, weight, bias, *, groups, eps, silu):
    """x (N, C, *space); weight, bias (C,) or None -> y as x; saved are mean and r, each (N, groups, 1), and s and y, (N, groups, M).

    s = sigmoid(a), or None without silu, as is then the y that is saved.
    """
    N, C, positions = x.shape[0], x.shape[1], prod(x.shape[2:])
    M = C // groups * positions
    rows, y = x.reshape(N, groups, M), np.empty((N, groups, M), x.dtype)
    mean, r = np.empty((N, groups, 1), x.dtype), np.empty((N, groups, 1), x.dtype)
    s = np.empty_like(y) if silu else None

    def fill(n):
        np.divide(sum_of_rows(rows[n].reshape(-1, M)).reshape(-1, groups, 1), M, out=mean[n])  # as one matrix, in one product
        a, scale = np.subtract(rows[n], mean[n], out=y[n]), r[n]  # views of what is to be filled
        np.divide(sum_of_products(a, a), M, out=scale)
        scale += eps
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        channels = by_channel(a, positions)
        channels *= (scale if weight is None else scale * weight.reshape(groups, -1))[..., None]
        if bias is not None:
            channels += bias.reshape(groups, -1, 1)
        if s is not None:
            a *= sigmoid_into(s[n], a)

    share(N, ROOM // (C * positions), fill, x.size * FORWARD)
    return y.reshape(x.shape), (mean, r, s, y if silu else None)


def by_channel(rows, positions):
    """rows (n, G, M) as (n, G, C / G, positions), a view"""
    return rows.reshape(*rows.shape[:2], -1, positions)


def backward(dy, saved, x, weight, bias, *, needs, groups, eps, silu):
    """dy as y -> dx as x, dweight (C,), dbias (C,); each None where `needs` is false"""
    (mean, r, s, y), (N, C), positions = saved, x.shape[:2], prod(x.shape[2:])
    M, K = C // groups * positions, C // groups
    rows, dy = x.reshape(N, groups, M), dy.reshape(N, groups, M)
    w = np.ones((groups, K), x.dtype) if weight is None else weight.reshape(groups, K)
    dx = np.empty((N, groups, K, positions), x.dtype) if needs[0] else None
    sums, zsums = np.empty((N, groups, K), x.dtype), np.empty((N, groups, K), x.dtype)  # of da and of z da, over positions

    def fill(n):
        c = by_channel(np.subtract(rows[n], mean[n]), positions)
        da = dy[n] if s is None else slope_times(dy[n], s[n], y[n], out=np.empty_like(dy[n]))
        da = by_channel(da, positions)
        sums[n], zsums[n] = sum_of_rows(da)[..., 0], np.vecdot(c, da) * r[n]
        if dx is not None:
            mean_dz, mean_zdz = ((v[n] * w).sum(axis=-1, keepdims=True) / M for v in (sums, zsums))
            np.multiply(da, (r[n] * w)[..., None], out=dx[n])
            dx[n] -= (r[n] * mean_dz)[..., None]
            c *= (r[n] * r[n] * mean_zdz)[..., None]
            dx[n] -= c

    share(N, ROOM // (C * positions), fill, x.size * BACKWARD)
    dw, db = (v.sum(axis=0).reshape(C) if needed else None for v, needed in ((zsums, needs[1]), (sums, needs[2])))
    return dx if dx is None else dx.reshape(x.shape), dw, db


def reference(x, weight, bias, *, groups, eps, silu):
    """(x - mean) / sqrt(var + eps) in each row, * weight + bias for each channel; with silu, that times its sigmoid"""
    rows = x.reshape(x.shape[0], groups, prod(x.shape[1:]) // groups)
    centred = rows - np.mean(rows, axis=-1, keepdims=True)
    a = (centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)).reshape(x.shape)
    column = (-1, *(1 for _ in x.shape[2:]))
    a = a if weight is None else a * weight.reshape(column)
    a = a if bias is None else a + bias.reshape(column)
    return a * np.exp(-np.logaddexp(0, -a)) if silu else a


group_norm = fused(
    "group_norm",
    forward,
    backward,
    reference,
    cases=[
        ((2, 4, 3), None, None, {"groups": 2, "eps": 1e-5, "silu": False}),
        ((2, 4, 2, 3), (4,), (4,), {"groups": 2, "eps": 0.1, "silu": True}),
        ((3, 4), (4,), (4,), {"groups": 1, "eps": 0.1, "silu": False}),
        ((2, 3, 2), None, (3,), {"groups": 3, "eps": 0.1, "silu": True}),
        ((2, 4, 3), (4,), None, {"groups": 2, "eps": 0.1, "silu": True}),
    ],
)
