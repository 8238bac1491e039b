"""Root-mean-square normalisation (Zhang and Sennrich, 2019) over the last axis, of C channels: layer_norm without the mean.

y = w x r,   r = 1 / sqrt(mean(x^2) + eps)

dx = r (w dy - x r^2 mean(w x dy))
dw = sum of x r dy over all rows
"""

from tinygrad_notes.fused.rows import as_rows, ones, sum_of_products
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, weight, *, eps):
    """x (..., C); weight (C,) or None -> y as x; saved is r (n, 1) for the n rows of x"""
    rows = as_rows(x)
    r = sum_of_products(rows, rows) / x.shape[-1]
    r += eps
    np.sqrt(r, out=r)
    np.reciprocal(r, out=r)
    y = rows * r
    if weight is not None:
        y *= weight
    return y.reshape(x.shape), r


def backward(dy, r, x, weight, *, needs, eps):
    """dy as y, r (n, 1) -> dx as x, dweight (C,); each None where `needs` is false"""
    rows, dy, C = as_rows(x), as_rows(dy), x.shape[-1]
    w = ones(C, x.dtype) if weight is None else weight
    dx = dweight = None
    xdy = rows * dy
    if needs[1]:
        dweight = np.matmul(r[:, 0], xdy)
    if needs[0]:
        along_x = np.matmul(xdy, w)[:, None]
        along_x *= r * r / C
        dx = dy * w
        dx -= np.multiply(rows, along_x, out=xdy)
        dx *= r
        dx = dx.reshape(x.shape)
    return dx, dweight


def reference(x, weight, *, eps):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis"""
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


rms_norm = fused(
    "rms_norm",
    forward,
    backward,
    reference,
    cases=[((3, 4), None, {"eps": 1e-6}), ((2, 3, 4), (4,), {"eps": 0.1}), ((4,), (4,), {"eps": 0.1})],
)
