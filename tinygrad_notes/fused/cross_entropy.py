"""Cross-entropy from logits: the surprise -log p at the right class, p = softmax(x), for each row of x.

    z = x - max x,   l = sum(e^z),   p = e^z / l
    loss = w (log l - z[target]) + c sum(smooth (log l - z))
    dx = (p - onehot(target)) w dloss + (p sum(smooth) - smooth) c dloss

w: the weight of the row; c: whether it counts (label smoothing spreads smooth over all classes; see
functional/losses.py for both). Beside x only max x and l are kept: the probabilities are computed again.
"""

from tinygrad_notes.fused.rows import max_of_rows, sum_of_rows
from tinygrad_notes.fused.softmax import log_softmax
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, *, targets, weights, counted=None, smooth=None):
    """x (n, C), targets (n,) int, weights (n,), counted (n,), smooth (C,) -> losses (n,), (max x, l), each (n, 1)"""
    largest = max_of_rows(x)
    z = x - largest
    l = sum_of_rows(np.exp(z))
    log_l = np.log(l)[:, 0]  # log l + max x would round away the digits of a small loss
    losses = weights * (log_l - z[np.arange(len(x)), targets])
    if smooth is not None:
        losses += counted * (log_l * smooth.sum() - z @ smooth)
    return losses, (largest, l)


def backward(dlosses, saved, x, *, needs, targets, weights, counted=None, smooth=None):
    largest, l = saved
    dx = x - largest
    np.exp(dx, out=dx)
    right = dlosses * weights
    if smooth is None:
        dx *= right[:, None] / l
    else:
        spread = dlosses * counted
        dx *= (right + spread * smooth.sum())[:, None] / l
        dx -= np.multiply.outer(spread, smooth)
    dx[np.arange(len(x)), targets] -= right
    return (dx,)


def reference(x, *, targets, weights, counted=None, smooth=None):
    """-weights * log_softmax(x)[target] - counted * (log_softmax(x) @ smooth)"""
    log_p = log_softmax.reference(x)
    losses = -weights * log_p[np.arange(len(x)), targets]
    return losses if smooth is None else losses - counted * (log_p @ smooth)


ROWS = {"targets": np.array([0, 3, 3]), "weights": np.array([0.5, 0.0, 2.0])}
SMOOTH = {"counted": np.array([1.0, 0.0, 1.0]), "smooth": np.array([0.1, 0.2, 0.0, 0.3])}
cross_entropy = fused("cross_entropy", forward, backward, reference, cases=[((3, 4), ROWS), ((3, 4), ROWS | SMOOTH)])
