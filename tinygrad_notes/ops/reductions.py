"""Functions that collapse axes: sums, products, extremes, moments."""

import numpy as np

from tinygrad_notes.registry import op

AXES = [((3, 4),), ((2, 3, 4), {"axis": 1}), ((2, 3, 4), {"axis": (0, -1)}), ((3, 4), {"axis": 0, "keepdims": True}), ((),)]


def restore(g, ndim, axis, keepdims):
    """The gradient g of a reduction with its reduced axes back, so that it broadcasts against the input."""
    if axis is None:
        return np.reshape(g, (1,) * ndim)
    return g if keepdims else np.expand_dims(g, axis)


def sum_rule(g, y, x, *, axis=None, keepdims=False):
    return np.broadcast_to(restore(g, x.ndim, axis, keepdims), x.shape)


op(np.sum, sum_rule, cases=AXES)
