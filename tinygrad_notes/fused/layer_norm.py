"""Layer normalisation (Ba, Kiros and Hinton, 2016) over the last axis, of C channels.

    z = (x - mean x) r,   r = 1 / sqrt(var x + eps)          y = w z + b

    dz = w dy
    dx = r (dz - mean dz - z mean(z dz))      mean and r move with x as well: what moves all of z, or along z, has no effect
    dw = sum of z dy,   db = sum of dy        over all rows

Every mean is a product with a vector: mean dz = dy @ w / C, and mean(z dz) = (z dy) @ w / C. The backward pass needs only
c = x - mean x, not z = c r: r, one number for each row, goes into the vectors.
"""

from tinygrad_notes.fused.rows import as_rows, ones, sum_of_columns, sum_of_products, sum_of_rows
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, weight, bias, *, eps):
    """x (..., C); weight, bias (C,) or None -> y as x; saved are (mean, r), each (n, 1) for the n rows of x"""
    rows, C = as_rows(x), x.shape[-1]
    mean = sum_of_rows(rows) / C
    z = rows - mean
    r = sum_of_products(z, z) / C
    r += eps
    np.sqrt(r, out=r)
    np.reciprocal(r, out=r)
    z *= r
    if weight is not None:
        z *= weight
    if bias is not None:
        z += bias
    return z.reshape(x.shape), (mean, r)


def backward(dy, saved, x, weight, bias, *, needs, eps):
    """dy as y -> dx as x, dweight (C,), dbias (C,); each None where `needs` is false"""
    mean, r = saved
    dy, C = as_rows(dy), x.shape[-1]
    c = as_rows(x) - mean
    w = ones(C, x.dtype) if weight is None else weight
    dx = dweight = dbias = None
    cdy = c * dy
    if needs[1]:
        dweight = np.matmul(r[:, 0], cdy)
    if needs[2]:
        dbias = sum_of_columns(dy)
    if needs[0]:
        mean_dz, mean_cdz = (np.matmul(v, w)[:, None] / C for v in (dy, cdy))
        dx = dy * w
        dx -= mean_dz
        dx -= np.multiply(c, r * r * mean_cdz, out=cdy)
        dx *= r
        dx = dx.reshape(x.shape)
    return dx, dweight, dbias


def reference(x, weight, bias, *, eps):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis"""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


CASES = [((3, 4), None, None), ((3, 4), (4,), None), ((2, 3, 4), (4,), (4,)), ((4,), None, (4,))]
layer_norm = fused("layer_norm", forward, backward, reference, cases=[(*case, {"eps": eps}) for case in CASES for eps in (1e-5, 0.1)])
