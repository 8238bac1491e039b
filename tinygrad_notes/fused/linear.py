"""A linear map: every row of x times a matrix.

    y = x W^T + b        dx = dy W,   dW = dy^T x,   db = the sum of dy over its rows

The rows of all leading axes are one matrix, so that each product is one call of BLAS: NumPy would take
the product of an N-D array with a matrix piece by piece.
"""

from tinygrad_notes.fused.rows import as_rows, sum_of_columns
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, weight, bias):
    """x (..., in), weight (out, in), bias (out,) or None -> y (..., out); nothing is saved"""
    y = np.matmul(as_rows(x), weight.T)
    if bias is not None:
        y += bias
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight)), None


def backward(dy, saved, x, weight, bias, *, needs):
    """dy (..., out) -> dx (..., in), dweight (out, in), dbias (out,); each None where `needs` is false"""
    dx = dweight = dbias = None
    dy = as_rows(dy)
    if needs[0]:
        dx = np.matmul(dy, weight)
        dx = dx if x.ndim == 2 else dx.reshape(x.shape)
    if needs[1]:
        dweight = np.matmul(dy.T, as_rows(x))
    if needs[2]:
        dbias = sum_of_columns(dy)
    return dx, dweight, dbias


def reference(x, weight, bias):
    """x @ weight.T + bias"""
    y = x @ weight.T
    return y if bias is None else y + bias


linear = fused(
    "linear",
    forward,
    backward,
    reference,
    cases=[((3, 4), (2, 4), (2,)), ((2, 3, 4), (5, 4), (5,)), ((4,), (2, 4), None), ((0, 4), (2, 4), (2,))],
)
