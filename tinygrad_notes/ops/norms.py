"""Norms of vectors and matrices, and condition numbers.

The gradient of a norm where it is zero is zero, and so is that of |x| at 0; both at all orders.
"""

import math
from typing import Any

from tinygrad_notes.ops.decompositions import inverse, well_conditioned
from tinygrad_notes.registry import compose, op

import numpy as np


def euclidean(x, *, axis):
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=True))


euclidean = op(
    euclidean,
    lambda g, y, x, *, axis: g * x * ((y != 0) / (y + (y == 0))),
    cases=[((3, 4), {"axis": (0, 1)}), ((3, 4), {"axis": (-1,)}), ((2, 3, 4), {"axis": (0, 2)})],
)


def power_norm(x, *, ord, axis):
    return np.sum(np.abs(x) ** ord, axis=axis, keepdims=True) ** (1 / ord)


def power_norm_rule(g, y, x, *, ord, axis):
    zero = x == 0
    ratio = np.abs(x) / (y + (y == 0)) + zero  # 1 for an element 0, which sign(x) takes out: no 0 ** -1
    return g * (np.sign(x) * (y != 0)) * ratio ** (ord - 1)


power_norm = op(
    power_norm,
    power_norm_rule,
    cases=[((3, 4), {"ord": p, "axis": (-1,)}) for p in (3, 1.5, 0.5, -1, -2.5)] + [((2, 3), {"ord": 3, "axis": (0, 1)})],
)


def largest(x, axis, keepdims=True):
    """The maximum of what is not negative: of nothing, 0."""
    start: Any = None if x.size else 0
    return np.max(x, axis=axis, keepdims=keepdims, initial=start)


def norm_along(x, ord, axis):
    """A norm of vectors over the axes, which stay with length 1."""
    if ord is None or ord == 2:
        return euclidean(x, axis=axis)
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), axis=axis, keepdims=True)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord is {ord!r}, expected a number for vectors")
    if abs(ord) == math.inf:
        return largest(np.abs(x), axis) if ord > 0 else np.min(np.abs(x), axis=axis, keepdims=True)
    return np.sum(np.abs(x), axis=axis, keepdims=True) if ord == 1 else power_norm(x, ord=float(ord), axis=axis)


def norm_of_matrices(x, ord):
    """A norm over the last two axes, which stay with length 1."""
    if ord in (None, "fro", "f"):
        return euclidean(x, axis=(-2, -1))
    if ord in (1, -1, math.inf, -math.inf):
        summed, chosen = (-2, -1) if abs(ord) == 1 else (-1, -2)
        sums = np.sum(np.abs(x), axis=summed, keepdims=True)
        return largest(sums, chosen) if ord > 0 else np.min(sums, axis=chosen, keepdims=True)
    if ord not in ("nuc", 2, -2):
        raise ValueError(f"norm: ord is {ord!r}, expected None, 'fro', 'nuc', 1, -1, 2, -2, inf or -inf for matrices")
    s = np.linalg.svdvals(x)
    s = s * (inverse(s, s) != 0)  # a singular value that vanishes has no gradient, as |x| has none at 0
    return (np.sum if ord == "nuc" else largest if ord == 2 else np.min)(s, axis=-1, keepdims=True)[..., None]


def norm(x, ord=None, axis=None, keepdims=False):
    if axis is None:
        axes = tuple(range(x.ndim))
        if ord is not None and x.ndim not in (1, 2):
            raise ValueError(f"norm: x has {x.ndim} dimensions, expected 1 or 2 when ord={ord!r} comes without axis; x {x.shape}")
    else:
        axes = np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
        if len(axes) not in (1, 2):
            raise ValueError(f"norm: axis is {axis}, expected one axis or a pair; x {x.shape}")
    if len(axes) == 2 and ord is not None:
        y = norm_of_matrices(np.moveaxis(x, axes, (-2, -1)), ord)
    else:
        y = norm_along(x, ord, axes)
    return np.reshape(y, [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes])


def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    y = norm_along(x, ord, axes)
    return y if keepdims else np.squeeze(y, axis=axes)


def cond(x, p=None):
    if p not in (None, 2, -2):
        return np.linalg.norm(x, p, axis=(-2, -1)) * np.linalg.norm(np.linalg.inv(x), p, axis=(-2, -1))
    s = np.linalg.svdvals(x)
    with np.errstate(all="ignore"):  # a singular matrix: inf
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


INF = math.inf
compose(
    np.linalg.norm,
    norm,
    cases=[((4,),), ((3, 4),), ((2, 3, 2),), ((),), ((2, 3, 2), {"keepdims": True})]
    + [((4,), p) for p in (1, 2, 3, -1, -2, 1.5, INF, -INF)]
    + [((3, 2), p) for p in ("fro", "nuc", 1, -1, 2, -2, INF, -INF)]
    + [
        ((2, 3, 4), {"axis": axis, "ord": p, "keepdims": kept})
        for axis, p, kept in (
            (1, None, False),
            (-1, 3, True),
            ((0, -1), None, False),
            ((-1, 0), 1, True),
            ((2, 1), "nuc", False),
            ((1, 2), 2, True),
        )
    ],
)
compose(
    np.linalg.vector_norm,
    vector_norm,
    cases=[
        ((4,),),
        ((3, 4),),
        ((2, 3, 4), {"axis": (0, 2), "ord": 3}),
        ((2, 3), {"axis": 1, "keepdims": True, "ord": INF}),
        ((2, 3), {"ord": 1}),
    ],
)
compose(
    np.linalg.matrix_norm,
    lambda x, /, *, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims),
    cases=[((3, 4),), ((2, 3, 4), {"ord": "nuc", "keepdims": True}), ((2, 3, 2), {"ord": 2}), ((2, 3), {"ord": 1})],
)
compose(
    np.linalg.cond,
    cond,
    cases=[((3, 3),), ((3, 2),), ((2, 3, 3), -2), ((3, 3), "fro"), ((3, 3), 1), ((2, 2, 2), {"p": INF})],
    domain=well_conditioned,
)
