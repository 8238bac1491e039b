"""Products of matrices, and numpy.linalg."""

import numpy as np

from tinygrad_notes.registry import op


def matmul_rule_a(g, y, a, b):
    if a.ndim == 1:
        return np.matmul(b, g[..., None])[..., 0] if b.ndim > 1 else g * b
    if b.ndim == 1:
        return g[..., None] * b
    return np.matmul(g, np.swapaxes(b, -1, -2))


def matmul_rule_b(g, y, a, b):
    if b.ndim == 1:
        return np.sum(g[..., None] * a, axis=tuple(range(a.ndim - 1))) if a.ndim > 1 else g * a
    if a.ndim == 1:
        return a[:, None] * g[..., None, :]
    return np.matmul(np.swapaxes(a, -1, -2), g)


op(
    np.matmul,
    matmul_rule_a,
    matmul_rule_b,
    cases=[((3, 4), (4, 2)), ((4,), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((2, 1, 3, 4), (5, 4, 2))],
)
