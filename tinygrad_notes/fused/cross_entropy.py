"""Cross-entropy from logits: the surprise -log p at the right class, p = softmax(x), for each row of x.

    z = x - max x,   l = sum(e^z),   p = e^z / l
    loss = w (log l - z[target]) + c sum(smooth (log l - z))
    dx = (p - onehot(target)) w dloss + (p sum(smooth) - smooth) c dloss

w: the weight of the row; c: 1 if it counts, else 0 (label smoothing spreads `smooth` over all classes; see functional/losses.py
for both). With a divisor, the result is the sum of all rows divided by it: a mean. Beside x only max x and l are kept: the
backward pass computes the probabilities again.
"""

from tinygrad_notes.fused.rows import as_rows, max_of_rows, sum_of_rows
from tinygrad_notes.fused.softmax import log_softmax
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, *, targets, weights, counted=None, smooth=None, divisor=None):
    """x (..., C) of n rows, targets (n,) int, weights (n,) and, for label smoothing, counted (n,) and smooth (C,)
    -> losses (n,), or with a divisor one number (); saved are (max x, l), each (n, 1)
    """
    x = as_rows(x)
    largest = np.maximum(max_of_rows(x), np.finfo(x.dtype).min)  # finite, also where all is masked
    z = x - largest
    l = np.maximum(sum_of_rows(np.exp(z)), 1)  # at least e^0, or 0 where all is masked
    log_l = np.log(l)[:, 0]  # log l + max x would round away the digits of a small loss
    losses = weighed(weights, log_l - z[np.arange(len(x)), targets])
    if smooth is not None:
        losses += weighed(counted, log_l * smooth.sum() - z @ smooth)
    return losses if divisor is None else np.asarray(losses.sum() / divisor, x.dtype), (largest, l)


def weighed(weights, losses):
    """weights * losses, 0 where the weight is: a row that does not count may hold anything."""
    return np.multiply(weights, losses, out=np.zeros_like(losses), where=weights != 0)


def backward(dlosses, saved, x, *, needs, targets, weights, counted=None, smooth=None, divisor=None):
    """dlosses (n,), or () with a divisor -> dx as x"""
    largest, l = saved
    dx = as_rows(x) - largest
    if divisor is not None:
        dlosses = dlosses / divisor
    np.exp(dx, out=dx)
    right = dlosses * weights
    silent = right == 0
    if smooth is None:
        dx *= right[:, None] / l
    else:
        spread = dlosses * counted
        silent &= spread == 0
        dx *= (right + spread * smooth.sum())[:, None] / l
        dx -= np.multiply.outer(spread, smooth)
    rows = np.arange(len(dx))
    dx[rows, targets] -= right * (as_rows(x)[rows, targets] > -np.inf)
    if smooth is not None:
        dx[np.isneginf(as_rows(x))] = 0  # what is masked has no gradient
    if silent.any():
        dx[silent] = 0
    return (dx.reshape(x.shape),)


def reference(x, *, targets, weights, counted=None, smooth=None, divisor=None):
    """-weights * log_softmax(x)[target] - counted * (log_softmax(x) @ smooth), row by row; or the sum of these / divisor"""
    x = x.reshape(len(targets), x.shape[-1])
    heard = weights != 0 if counted is None else (weights != 0) | (counted != 0)
    log_p = log_softmax.reference(np.where(heard[:, None], x, 0))  # a row that does not count may hold anything
    losses = np.where(weights != 0, -weights * log_p[np.arange(len(targets)), targets], 0)
    if smooth is not None:
        losses = losses - np.where(counted != 0, counted * (log_p @ smooth), 0)
    return losses if divisor is None else losses.sum() / divisor


ROWS = {"targets": np.array([0, 3, 3]), "weights": np.array([0.5, 0.0, 2.0])}
SMOOTH = {"counted": np.array([1.0, 0.0, 1.0]), "smooth": np.array([0.1, 0.2, 0.0, 0.3])}
cross_entropy = fused(
    "cross_entropy",
    forward,
    backward,
    reference,
    cases=[((3, 4), ROWS), ((3, 4), ROWS | SMOOTH), ((3, 1, 4), ROWS | SMOOTH | {"divisor": 1.5})],
)
