"""Dropout (Srivastava et al., 2014) with a given mask: each element is kept, and scaled, or dropped.

    y = x kept scale        dx = dy kept scale

The mask is drawn outside, so that the same one serves again in a second run (a checkpoint's, or the twin's).
"""

from tinygrad_notes.registry import fused

import numpy as np


def forward(x, *, kept, scale):
    """x, kept (bool) of the same shape, scale a number -> y as x; nothing is saved"""
    y = x * kept
    y *= scale
    return y, None


def backward(dy, saved, x, *, needs, kept, scale):
    """dy -> dx: the same map, since it is its own transpose"""
    return (forward(dy, kept=kept, scale=scale)[0],)


def reference(x, *, kept, scale):
    """x * kept * scale"""
    return x * kept * scale


MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
dropout = fused("dropout", forward, backward, reference, cases=[((3, 4), {"kept": MASK, "scale": 1.25})])
