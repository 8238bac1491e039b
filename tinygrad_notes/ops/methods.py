"""The methods of ufuncs: np.add.reduce, np.multiply.accumulate, np.add.reduceat, np.subtract.outer and the like."""

import itertools
from functools import partial, reduce

from tinygrad_notes.binding import label
from tinygrad_notes.core import table
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
for ufunc, function in ((np.add, np.sum), (np.multiply, np.prod), (np.maximum, np.max), (np.minimum, np.min)):
    method(ufunc, "reduce", lambda x, axis=0, function=function, **params: function(x, axis=axis, **params), FIRST_AXIS)
for ufunc, function in ((np.add, np.cumsum), (np.multiply, np.cumprod)):
    method(
        ufunc,
        "accumulate",
        lambda x, axis=0, function=function, **params: function(x, axis=axis, **params),
        [((3, 4),), ((2, 3, 4), {"axis": -1})],
    )


def logaddexp_reduce(x, axis=0, keepdims=False):
    """log(sum(exp(x))), of -inf alone -inf with gradient 0; the largest is taken out, so that no exponential overflows."""
    top = log_of_whole(np.max(plain(x), axis=axis, keepdims=True, initial=-np.inf))
    total = np.sum(np.exp(x - top), axis=axis, keepdims=keepdims)
    top = np.reshape(top, total.shape)
    return np.where(total == 0, -np.inf, np.log(nonzero(total)) + top)


method(np.logaddexp, "reduce", logaddexp_reduce, FIRST_AXIS[:4])


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
    lambda x, indices, axis=0: add_reduceat(x, indices=np.asarray(indices), axis=axis),
    [((6,), np.array([0, 2, 5])), ((2, 5), [1, 3], 1)],
)


def accumulate(ufunc, x, axis=0):
    """y[0] = x[0], then y[i] = ufunc(y[i - 1], x[i]): one call each."""
    return np.stack(list(itertools.accumulate(np.moveaxis(x, axis, 0), ufunc)), axis)


def fold(ufunc, x, axis=0, keepdims=False):
    """The last of `accumulate`."""
    last = reduce(ufunc, np.moveaxis(x, axis, 0))
    return np.expand_dims(last, axis) if keepdims else last


def outer(ufunc, a, b, **params):
    """ufunc(a[i], b[j]) for all i and j."""
    return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b, **params)


def add_methods(ufunc):
    """What a differentiable ufunc's methods do, where nothing better was registered above."""
    if (ufunc.nin, ufunc.nout, ufunc.signature) == (2, 1, None):
        for name, body in (("outer", outer), ("reduce", fold), ("accumulate", accumulate)):
            table.setdefault((ufunc, name), partial(body, ufunc))


for ufunc in [item.function for item in registry if isinstance(item.function, np.ufunc)]:
    add_methods(ufunc)
for ufunc in [function for function in constants if isinstance(function, np.ufunc)]:
    for name in ("reduce", "accumulate", "reduceat", "outer"):
        table[ufunc, name] = partial(call_plain, getattr(ufunc, name))
