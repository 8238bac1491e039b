"""The mean of squared differences: one product of a vector with itself.

d = x - target,   y = d.d / n        dx = 2 d dy / n,   dtarget = -dx
"""

from functools import partial, reduce

from tinygrad_notes.fused.rows import chunks
from tinygrad_notes.registry import fused

import numpy as np


def forward(x, target):
    """x and target of one shape -> y (); saved is d"""
    d = x - target
    flat = d.reshape(-1)
    first, *rest = (flat[c].dot(flat[c]) for c in chunks(d.size))  # one long sum in float32 would lose digits
    total = reduce(partial(np.add, dtype=np.float64), rest, first)
    return np.asarray(total / d.size, d.dtype), d


def backward(dy, d, x, target, *, needs):
    """dy (), d -> dx as x, dtarget; dtarget None where `needs` is false"""
    dx = d * (dy * (2 / d.size))
    return dx, -dx if needs[1] else None


def reference(x, target):
    """mean((x - target)^2)"""
    return np.mean(np.square(x - target))


squared_error = fused("squared_error", forward, backward, reference, cases=[((3, 4), (3, 4)), ((), ())])
