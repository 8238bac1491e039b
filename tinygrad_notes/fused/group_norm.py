"""Group normalisation (Wu and He, 2018), and with the SiLU that follows it in a U-Net.

x (N, C, *space): in each example, C / G neighbouring channels and all positions are one row, of M numbers.

    z = (x - mean x) r,   r = 1 / sqrt(var x + eps)       in each row
    a = w z + b                                           w, b: one number for each channel
    y = a, or a sigmoid(a)

    da = dy, or dy s (1 + a (1 - s)),  s = sigmoid(a)
    dw = sum of z da,   db = sum of da                    over examples and positions
    dz = w da,   dx = r (dz - mean dz - z mean(z dz))     as in layer_norm
"""

from math import prod

from tinygrad_notes.fused.rows import sum_of_rows
from tinygrad_notes.fused.silu import sigmoid_into, silu_backward
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, weight, bias, *, groups, eps, silu):
    """x (N, C, *space); weight, bias (C,) or None -> y, (mean, r, s): one mean and r for each group, s (N, C, positions) or None without silu"""
    N, C, positions = x.shape[0], x.shape[1], prod(x.shape[2:])
    M = C // groups * positions
    rows = x.reshape(N * groups, M)
    mean = sum_of_rows(rows) / M
    z = rows - mean
    r = sum_of_rows(z * z) / M
    r += eps
    np.sqrt(r, out=r)
    np.reciprocal(r, out=r)
    z *= r
    a = affine(z.reshape(N, C, positions), weight, bias, out=z.reshape(N, C, positions))
    s = None
    if silu:
        s = sigmoid_into(np.empty_like(a), a)
        a *= s
    return a.reshape(x.shape), (mean, r, s)


def affine(z, weight, bias, out):
    """w z + b, for z (N, C, positions)"""
    np.multiply(z, 1 if weight is None else weight[:, None], out=out)
    if bias is not None:
        out += bias[:, None]
    return out


def backward(dy, saved, x, weight, bias, *, needs, groups, eps, silu):
    (mean, r, s), (N, C), positions = saved, x.shape[:2], prod(x.shape[2:])
    M = C // groups * positions
    z = x.reshape(N * groups, M) - mean
    z *= r
    by_channel = z.reshape(N, C, positions)
    da = dy.reshape(N, C, positions)
    zda = np.empty(da.shape, da.dtype)
    if silu:
        a = affine(by_channel, weight, bias, out=zda)
        da = silu_backward(da, s, a)
    np.multiply(by_channel, da, out=zda)
    sums, zsums = sum_of_rows(da)[..., 0], sum_of_rows(zda)[..., 0]  # (N, C): over positions
    dx = None
    if needs[0]:
        w = np.ones(C, x.dtype) if weight is None else weight
        along_all, along_z = ((v * w).reshape(N * groups, -1).sum(axis=1, keepdims=True) / M for v in (sums, zsums))
        dx = np.multiply(da, w[:, None], order="C")  # whatever order dy has: `rows` must be a view
        rows = dx.reshape(z.shape)
        rows -= along_all
        rows -= np.multiply(z, along_z, out=zda.reshape(z.shape))
        rows *= r
        dx = dx.reshape(x.shape)
    return dx, zsums.sum(axis=0) if needs[1] else None, sums.sum(axis=0) if needs[2] else None


def reference(x, weight, bias, *, groups, eps, silu):
    """(x - mean) / sqrt(var + eps) over groups of channels and all positions, * weight + bias for each channel; then a * sigmoid(a)"""
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
