"""Softmax and its logarithm along the last axis.

    y = e^z / sum(e^z)        dx = y (dy - sum(y dy))        z = x - max x
    y = z - log sum(e^z)      dx = dy - e^y sum(dy)

An entry of -inf is masked: probability 0. A row of -inf alone gives zeros (the logarithm: -inf) and zero gradient.
"""

from tinygrad_notes.fused.rows import as_rows, max_of_rows, sum_of_products, sum_of_rows
from tinygrad_notes.registry import fused
from tinygrad_notes.transforms import stop_gradient

import numpy as np


def shifted(x):
    """The rows of x (n, C) minus their largest member; where all are -inf, they stay -inf."""
    return x - np.maximum(max_of_rows(x), np.finfo(x.dtype).min)


def forward(x):
    """x (..., C) -> y as x; saved is y as rows (n, C)"""
    y = shifted(as_rows(x))
    np.exp(y, out=y)
    y /= np.maximum(sum_of_rows(y), 1)  # the sum is at least e^0 = 1, or 0 where all are masked
    return y.reshape(x.shape), y


def backward(dy, y, x, *, needs):
    """dy as x, y (n, C) -> dx as x"""
    dy = as_rows(dy)
    dx = dy - sum_of_products(dy, y)
    dx *= y
    return (dx.reshape(x.shape),)


def reference(x):
    """exp(x) / sum(exp(x)) along the last axis"""
    e = np.exp(x - largest(x))
    return e / sum_or_one(e)


def largest(x):
    """The largest member of each row, a constant: any shift gives the same probabilities. Finite, so that -inf stays -inf."""
    x = stop_gradient(x)
    return np.max(x, axis=-1, keepdims=True, initial=np.finfo(x.dtype).min)


def sum_or_one(e):
    """The sum of each row, 1 where all is masked. (maximum(sum, 1) would share the gradient where the sum is 1.)"""
    total = np.sum(e, axis=-1, keepdims=True)
    return np.where(total == 0, 1, total)


CASES = [((3, 1),), ((3, 4),), ((2, 3, 4),), ((4,),)]
softmax = fused("softmax", forward, backward, reference, cases=CASES)


def log_forward(x):
    """x (..., C) -> y as x; saved is y as rows (n, C)"""
    y = shifted(as_rows(x))
    y -= np.log(np.maximum(sum_of_rows(np.exp(y)), 1))
    return y.reshape(x.shape), y


def log_backward(dy, y, x, *, needs):
    """dy as x, y (n, C) -> dx as x"""
    dy = as_rows(dy)
    dx = np.exp(y)
    dx *= sum_of_rows(dy)
    np.subtract(dy, dx, out=dx)
    masked = np.isneginf(y)
    if masked.any():
        dx[masked] = 0
    return (dx.reshape(x.shape),)


def log_reference(x):
    """x - log(sum(exp(x))) along the last axis"""
    masked = np.isneginf(stop_gradient(x))
    x = np.where(masked, -np.inf, x)  # a constant there: no gradient
    y = x - largest(x)
    return y - np.log(sum_or_one(np.exp(y)))


log_softmax = fused("log_softmax", log_forward, log_backward, log_reference, cases=CASES)
