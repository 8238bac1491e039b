"""Group normalisation (Wu and He, 2018), and with the SiLU that follows it in a U-Net.

x (N, C, *space): in each example, C / G neighbouring channels and all positions are one row, of M numbers.

    z = (x - mean x) r,   r = 1 / sqrt(var x + eps)       in each row
    a = w z + b                                           w, b: one number for each channel
    y = a, or a sigmoid(a)

    da = dy, or dy s (1 + a (1 - s)),  s = sigmoid(a)
    dw = sum of z da,   db = sum of da                    over examples and positions
    dz = w da,   dx = r (dz - mean dz - z mean(z dz))     as in layer_norm

The backward pass needs only c = x - mean x, not z = c r.
"""

from math import prod

from tinygrad_notes.fused.rows import sum_of_products, sum_of_rows
from tinygrad_notes.fused.silu import sigmoid_into, silu_backward
from tinygrad_notes.registry import fused
from tinygrad_notes.threads import share

import numpy as np

ROOM = 2**17  # numbers of x that are worked on together
FORWARD, BACKWARD = 140, 190  # what one number costs, in multiply-adds of a matrix product


def forward(x, weight, bias, *, groups, eps, silu):
    """x (N, C, *space); weight, bias (C,) or None -> y as x; saved are mean and r, each (N, groups, 1), and s (N, C, positions).

    s = sigmoid(a), or None without silu.
    """
    N, C, positions = x.shape[0], x.shape[1], prod(x.shape[2:])
    M = C // groups * positions
    x3, y = x.reshape(N, C, positions), np.empty((N, C, positions), x.dtype)
    mean, r = np.empty((N, groups, 1), x.dtype), np.empty((N, groups, 1), x.dtype)
    s = np.empty_like(y) if silu else None

    def fill(n):
        rows, centre, scale = x3[n].reshape(-1, M), mean[n].reshape(-1, 1), r[n].reshape(-1, 1)  # views, the last two to be filled
        np.divide(sum_of_rows(rows), M, out=centre)
        z = np.subtract(rows, centre, out=y[n].reshape(rows.shape))
        np.divide(sum_of_products(z, z), M, out=scale)
        scale += eps
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        a = affine(y[n], by_channel(r[n], C) if weight is None else by_channel(r[n], C) * weight[:, None], bias, out=y[n])
        if s is not None:
            a *= sigmoid_into(s[n], a)

    share(N, ROOM // (C * positions), fill, x.size * FORWARD)
    return y.reshape(x.shape), (mean, r, s)


def by_channel(v, C):
    """v (n, G, 1), a number for each group, as (n, C, 1)"""
    return np.repeat(v, C // v.shape[1], axis=1)


def affine(z, gain, bias, out):
    """out = gain z + bias, for z (n, C, positions), gain (n, C, 1), bias (C,) or None; out may be z"""
    np.multiply(z, gain, out=out)
    if bias is not None:
        out += bias[:, None]
    return out


def backward(dy, saved, x, weight, bias, *, needs, groups, eps, silu):
    """dy as y -> dx as x, dweight (C,), dbias (C,); each None where `needs` is false"""
    (mean, r, s), (N, C), positions = saved, x.shape[:2], prod(x.shape[2:])
    M = C // groups * positions
    x, dy, shape = x.reshape(N, C, positions), dy.reshape(N, C, positions), x.shape
    w = np.ones(C, x.dtype) if weight is None else weight
    dx = np.empty((N, C, positions), x.dtype) if needs[0] else None
    sums, zsums = np.empty((N, C), x.dtype), np.empty((N, C), x.dtype)  # of da and of z da, over positions

    def fill(n):
        c = np.subtract(x[n].reshape(-1, M), mean[n].reshape(-1, 1)).reshape(x[n].shape)
        da, rw = dy[n], by_channel(r[n], C) * w[:, None]
        if s is not None:
            a = affine(c, rw, bias, out=np.empty_like(c))
            da = silu_backward(da, s[n], a)
        sums[n], zsums[n] = sum_of_rows(da)[..., 0], np.vecdot(c, da) * by_channel(r[n], C)[..., 0]
        if dx is not None:
            mean_dz, mean_zdz = ((v[n] * w).reshape(-1, groups, C // groups).sum(axis=-1, keepdims=True) / M for v in (sums, zsums))
            np.multiply(da, rw, out=dx[n])
            dx[n] -= by_channel(r[n] * mean_dz, C)
            c *= by_channel(r[n] * r[n] * mean_zdz, C)
            dx[n] -= c

    share(N, ROOM // (C * positions), fill, x.size * BACKWARD)
    return dx if dx is None else dx.reshape(shape), zsums.sum(axis=0) if needs[1] else None, sums.sum(axis=0) if needs[2] else None


def reference(x, weight, bias, *, groups, eps, silu):
    """(x - mean) / sqrt(var + eps) in each row, * weight + bias for each channel; with silu, that times its sigmoid"""
    rows = x.reshape(x.shape[0], groups, -1)
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
