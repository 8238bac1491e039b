"""The methods of ufuncs: np.add.reduce, np.multiply.accumulate, np.add.reduceat, np.subtract.outer and the like."""

import itertools
import math
from functools import partial
from typing import Any

from tinygrad_notes.binding import label, refuse_out
from tinygrad_notes.core import table
from tinygrad_notes.ops import selection  # noqa: F401  (its ufuncs have methods too)
from tinygrad_notes.ops.elementwise import log_of_whole, nonzero
from tinygrad_notes.ops.indexing import scatter_add
from tinygrad_notes.registry import call_plain, compose, constants, op, plain, registry

import numpy as np

MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, True, False]])


def method(ufunc, name, body, cases, domain=None):
    """Register `body` for ufunc.<name>, which NumPy hands to us as the pair (ufunc, name)."""
    compose(getattr(ufunc, name), body, cases=cases, domain=domain)
    made = table[ufunc, name] = table.pop(getattr(ufunc, name))
    made.label = f"{label(ufunc)}.{name}"


FIRST_AXIS = [
    ((3, 4),),
    ((2, 3, 4), {"axis": -1}),
    ((2, 3, 4), {"axis": (0, 2), "keepdims": True}),
    ((3, 4), {"axis": None}),
    ((3, 4), {"where": MASK, "initial": 0.5}),
]


def reduce_with(function):
    """ufunc.reduce by NumPy's function of it. A Tensor as mask is no mask: NumPy says so."""
    return lambda x, axis=0, where=True, **params: function(x, axis=axis, where=plain(where), **params)


for ufunc, function in ((np.add, np.sum), (np.multiply, np.prod), (np.maximum, np.max), (np.minimum, np.min)):
    method(ufunc, "reduce", reduce_with(function), FIRST_AXIS)
for ufunc, function in ((np.add, np.cumsum), (np.multiply, np.cumprod)):
    method(
        ufunc,
        "accumulate",
        lambda x, axis=0, function=function, **params: function(x, axis=axis, **params),
        [((3, 4),), ((2, 3, 4), {"axis": -1})],
    )


def logaddexp_reduce(x, axis=0, dtype=None, keepdims=False, initial=-np.inf, where=True):
    """log(sum(exp(x))), of -inf alone -inf with gradient 0; the largest is taken out, so that no exponential overflows."""
    x = x if dtype is None else x.astype(dtype)
    x = x if where is True else np.where(where, x, -np.inf)
    top = log_of_whole(np.max(plain(x), axis=axis, keepdims=True, initial=-np.inf))
    total = np.sum(np.exp(x - top), axis=axis, keepdims=keepdims)
    top = np.reshape(top, total.shape)
    y = np.where(total == 0, -np.inf, np.log(nonzero(total)) + top)
    return y if initial is None or initial == -np.inf else np.logaddexp(y, initial)


method(np.logaddexp, "reduce", logaddexp_reduce, FIRST_AXIS)


def reduceat_rule(g, y, x, *, indices, axis=0):
    """Each element gets the gradients of the sums that it is in."""
    stops = np.append(indices[1:], x.shape[axis])
    lengths = np.where(stops > indices, stops - indices, 1)  # a stop before its start: the start alone
    which = np.repeat(np.arange(len(lengths)), lengths)
    member = np.arange(len(which)) + np.repeat(indices - np.cumsum(lengths) + lengths, lengths)
    front = (slice(None),) * (axis % x.ndim)
    return scatter_add(g[(*front, which)], index=(*front, member), shape=x.shape)


def add_reduceat(x, indices, axis=0):
    return np.add.reduceat(x, indices, axis)


add_reduceat = op(
    add_reduceat, reduceat_rule, cases=[((6,), {"indices": np.array([0, 2, 2, 5, 1])}), ((2, 5), {"indices": np.array([1, 3]), "axis": -1})]
)
method(
    np.add,
    "reduceat",
    lambda x, indices, axis=0, dtype=None: add_reduceat(x if dtype is None else x.astype(dtype), indices=np.asarray(indices), axis=axis),
    [((6,), np.array([0, 2, 5])), ((2, 5), [1, 3], 1)],
)


def accumulate(ufunc, x, axis=0):
    """y[0] = x[0], then y[i] = ufunc(y[i - 1], x[i]): one call each."""
    return np.stack(list(itertools.accumulate(np.moveaxis(x, axis, 0), ufunc)), axis)


def reduce(ufunc, x, axis=0, keepdims=False, initial=None, where=True):
    """ufunc of `initial` (if any) and of each element in turn, left out where `where` does not hold."""
    axes = np.lib.array_utils.normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    front = tuple(range(len(axes)))
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)

    def terms(v):
        return np.reshape(np.moveaxis(v, axes, front), (math.prod(x.shape[i] for i in axes), *shape))

    start = ufunc.identity if initial is None and (where is not True or not x.size) else initial
    if start is None and (where is not True or not x.size):
        raise ValueError(
            f"np.{ufunc.__name__}.reduce: nothing to begin with (x {x.shape}), and this function has no neutral element; pass initial="
        )
    kept = itertools.repeat(True) if where is True else terms(np.broadcast_to(where, x.shape))
    y: Any = (
        None
        if start is None
        else np.broadcast_to(np.asarray(start, x.dtype) if isinstance(start, float | int) else start.astype(x.dtype), shape)
    )
    for term, keep in zip(terms(x), kept):
        y = term if y is None else ufunc(y, term) if keep is True else np.where(keep, ufunc(y, term), y)
    return np.expand_dims(y, axes) if keepdims else y


def reduceat(ufunc, x, indices, axis=0):
    """For each index, ufunc.reduce from there up to the next index, or the element alone where that is not larger."""
    x, n = np.moveaxis(x, axis, 0), x.shape[axis]
    pieces = [x[i : max(i + 1, j)] for i, j in itertools.pairwise([*np.asarray(indices).tolist(), n])]
    return np.stack([ufunc.reduce(piece, axis=0) for piece in pieces], axis)


def outer(ufunc, a, b, **params):
    """ufunc(a[i], b[j]) for all i and j."""
    return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b, **params)


def storing(body):
    """`body` with NumPy's dtype=, in which it computes; out= is refused."""

    def call(ufunc, x, *args, dtype=None, out=None, **params):
        if out is not None:
            raise refuse_out(f"np.{ufunc.__name__}.{body.__name__}")
        return body(ufunc, x if dtype is None else x.astype(dtype), *args, **params)

    return call


def add_methods(ufunc):
    """What a differentiable ufunc's methods do, where nothing better was registered above."""
    if (ufunc.nin, ufunc.nout, ufunc.signature) == (2, 1, None):
        for name, body in (
            ("outer", outer),
            ("reduce", storing(reduce)),
            ("accumulate", storing(accumulate)),
            ("reduceat", storing(reduceat)),
        ):
            table.setdefault((ufunc, name), partial(body, ufunc))


for ufunc in [item.function for item in registry if isinstance(item.function, np.ufunc)]:
    add_methods(ufunc)
for ufunc in [function for function in constants if isinstance(function, np.ufunc)]:
    for name in ("reduce", "accumulate", "reduceat", "outer"):
        table[ufunc, name] = partial(call_plain, getattr(ufunc, name))
