"""np.pad in every mode that has values."""

from typing import Any

from tinygrad_notes.core import Variable
from tinygrad_notes.ops.indexing import along, arrays_of, scatter_add
from tinygrad_notes.registry import compose

import numpy as np


def pairs(value, ndim):
    """np.pad's numbers, spelled as one, (before, after), a pair for each axis or {axis: pair}: a pair for each axis."""
    if isinstance(value, dict):
        return [pairs(value.get(i, value.get(i - ndim, 0)), 1)[0] for i in range(ndim)]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        value = [value]
    if all(np.ndim(v) == 0 for v in value):
        value = [value]
    members = [(v[0], v[-1]) for v in value if 1 <= len(v) <= 2]
    if len(members) != len(value) or len(members) not in (1, ndim):
        raise ValueError(f"np.pad: {value} does not give a number or a pair to each of {ndim} axes")
    return members * ndim if len(members) == 1 else members


def pad_zero(x, widths):
    places = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
    return scatter_add(x, index=places, shape=tuple(before + n + after for (before, after), n in zip(widths, x.shape)))


def constant_edges(x, axis, before, after, *, constant_values):
    return [
        np.broadcast_to(c, (*x.shape[:axis], n, *x.shape[axis + 1 :])).astype(x.dtype) for c, n in zip(constant_values, (before, after))
    ]


def ramp_edges(x, axis, before, after, *, end_values):
    """From the edge, in equal steps, to the end value."""
    first, last = x[along(x.ndim, axis, slice(1))], x[along(x.ndim, axis, slice(-1, None))]
    rise = [np.arange(n, dtype=x.dtype).reshape((-1,) + (1,) * (x.ndim - 1 - axis)) / max(n, 1) for n in (before, after)]
    left = end_values[0] + (first - end_values[0]) * rise[0]
    right = end_values[1] + (last - end_values[1]) * rise[1]
    return [left.astype(x.dtype), np.flip(right.astype(x.dtype), axis)]


def statistic_edges(statistic):
    """Edges filled with a statistic of the stat_length elements next to them."""

    def edges(x, axis, before, after, *, stat_length):
        n = x.shape[axis]
        lengths = [n if length is None else min(length, n) for length in stat_length]
        if 0 in lengths and statistic in (np.max, np.min):
            raise ValueError(f"np.pad: stat_length=0 has no {statistic.__name__}")
        parts = [x[along(x.ndim, axis, slice(lengths[0]))], x[along(x.ndim, axis, slice(n - lengths[1], None))]]
        values = [statistic(part, axis=axis, keepdims=True) for part in parts]
        return [np.broadcast_to(v, (*x.shape[:axis], count, *x.shape[axis + 1 :])) for v, count in zip(values, (before, after))]

    return edges


JOINED = {  # mode: what makes its edges, its keyword, the keyword's default
    "constant": (constant_edges, "constant_values", 0),
    "linear_ramp": (ramp_edges, "end_values", 0),
    "maximum": (statistic_edges(np.max), "stat_length", None),
    "mean": (statistic_edges(np.mean), "stat_length", None),
    "median": (statistic_edges(np.median), "stat_length", None),
    "minimum": (statistic_edges(np.min), "stat_length", None),
}
TAKEN = ("edge", "reflect", "symmetric", "wrap")  # each new element is one of the old


def pad(array, pad_width, mode: Any = "constant", **kwargs):
    (x,) = arrays_of([array])
    if not isinstance(pad_width, dict) and np.asarray(pad_width).dtype.kind not in "iu":
        raise TypeError(f"np.pad: pad_width={pad_width}, expected integers")
    widths = pairs(pad_width, x.ndim)
    if any(width < 0 for pair in widths for width in pair):
        raise ValueError(f"np.pad: pad_width={pad_width} is negative; cut with an index: x[1:-1]")
    allowed = {JOINED[mode][1]} if mode in JOINED else {"reflect_type"} if mode in ("reflect", "symmetric") else set()
    if mode not in JOINED and mode not in TAKEN:
        raise TypeError(
            f"np.pad: mode={mode!r} has no gradient: 'empty' has no values and a function would write in place; use {[*JOINED, *TAKEN]}"
        )
    if set(kwargs) - allowed:
        raise ValueError(f"np.pad: mode={mode!r} does not take {sorted(set(kwargs) - allowed)}, expected {sorted(allowed)}")
    if mode in JOINED:
        edges, keyword, default = JOINED[mode]
        value = kwargs.get(keyword, default)
        if mode == "constant" and np.ndim(value) == 0 and not isinstance(value, Variable) and value == 0:
            return pad_zero(x, widths)
        for axis, ((before, after), pair) in enumerate(zip(widths, pairs(value, x.ndim))):
            if before or after:
                left, right = edges(x, axis, before, after, **{keyword: pair})
                x = np.concatenate([left, x, right], axis)
        return x
    odd = kwargs.get("reflect_type") == "odd"
    for axis, width in enumerate(widths):
        if any(width):
            x = pad_odd(x, axis, width, mode) if odd else np.take(x, np.pad(np.arange(x.shape[axis]), width, mode), axis)
    return x


def pad_odd(x, axis, width, mode):
    """Odd reflection mixes elements: the matrix that does it is what np.pad makes of the identity."""
    mixing = np.pad(np.eye(x.shape[axis], dtype=x.dtype), (width, (0, 0)), mode, reflect_type="odd")
    return np.moveaxis(np.tensordot(mixing, x, (1, axis)), 0, axis)


FEW, MANY = np.array([[1, 2], [0, 1]]), np.array([[5, 7], [3, 4]])
compose(
    np.pad,
    pad,
    cases=[
        ((2, 3), 1),
        ((3,), [2, 1]),
        ((), 0),
        ((2, 3), FEW, "constant", {"constant_values": 2.5}),
        ((2, 3), FEW, {"constant_values": np.array([[1.0, 2.0], [3.0, 4.0]])}),
    ]
    + [((2, 3), FEW, mode) for mode in (*JOINED, *TAKEN)]
    + [((2, 3), MANY, mode) for mode in (*JOINED, *TAKEN)]
    + [((2, 3), width, mode, {"reflect_type": "odd"}) for width in (FEW, MANY) for mode in ("reflect", "symmetric")]
    + [((3, 4), FEW, mode, {"stat_length": np.array([[1, 2], [3, 9]])}) for mode in ("maximum", "mean", "median", "minimum")]
    + [((2, 3), FEW, "linear_ramp", {"end_values": np.array([1.0, -2.0])})],
)
