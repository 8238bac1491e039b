"""Functions that collapse axes: sums, products, extremes, moments."""

import math
from typing import Any

from tinygrad_notes.binding import Given, check_params
from tinygrad_notes.core import Variable, table
from tinygrad_notes.ops import methods  # noqa: F401  (importing registers)
from tinygrad_notes.ops.elementwise import nonzero
from tinygrad_notes.registry import compose, constant, op

import numpy as np

AXES = [
    ((3, 4),),
    ((2, 3, 4), {"axis": 1}),
    ((2, 3, 4), {"axis": (0, -1)}),
    ((3, 4), {"axis": 0, "keepdims": True}),
    ((3, 4), {"keepdims": True}),
    ((),),
]
MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, True, False]])
WHERE = [((3, 4), {"where": MASK}), ((3, 4), {"axis": 1, "where": MASK}), ((2, 3, 4), {"axis": (0, 2), "where": MASK, "keepdims": True})]
EMPTY = [((0, 3),), ((0, 3), {"axis": 0}), ((3, 4), {"axis": ()}), ((), {"axis": -1})]


def restore(g, ndim, axis, keepdims):
    """The gradient g of a reduction with its reduced axes back, so that it broadcasts against the input."""
    if axis is None or not ndim:
        return np.reshape(g, (1,) * ndim)
    return g if keepdims else np.expand_dims(g, axis)


def count(shape, axis, where, dtype, less=0, least=0):
    """How many elements make each output, minus `less`: a plain number, or an array where `where` makes them differ."""
    if where is True:
        axes = range(len(shape)) if axis is None or not shape else axis if isinstance(axis, tuple) else (axis,)
        return max(math.prod(shape[i] for i in axes) - less, least)
    return np.maximum(np.sum(np.broadcast_to(where, shape), axis=axis, keepdims=True, dtype=dtype) - less, least)


def begin_with_tensors(function, join, neutral):
    """Let function(..., initial=t) begin with a Tensor t: joined to what `function` gives, which begins with `neutral`."""
    made = table[function]

    def call(*args, **kwargs):
        start: Any = kwargs.get("initial") if len(args) < 5 else dict(zip(made.names, args)).get("initial")
        if not isinstance(start, Variable):
            return made(*args, **kwargs)
        initial: Any = start
        if initial.ndim:
            raise ValueError(f"{made.label}: initial has shape {initial.shape}, expected one number")
        y = made(**(dict(zip(made.names, args)) | kwargs | {"initial": neutral}))
        return join(y, initial if initial.dtype == y.dtype else initial.astype(y.dtype))

    table[function] = call


# --- sums, means, products ------------------------------------------------------------------


def sum_rule(g, y, x, *, axis=None, keepdims=False, initial=0, where=True):
    g = restore(g, x.ndim, axis, keepdims)
    return np.broadcast_to(g if where is True else np.where(where, g, 0), x.shape)


def mean_rule(g, y, x, *, axis=None, keepdims=False, where=True):
    g = restore(g, x.ndim, axis, keepdims) / count(x.shape, axis, where, g.dtype, least=1)
    return np.broadcast_to(g if where is True else np.where(where, g, 0), x.shape)


def product_of_others(x):
    """y[i] = the product of all x[j] but x[i], along the last axis: no division, so that zeros are exact.

    The first half is multiplied with the second; what the pairs' others are (by recursion), times
    the partner, are the element's others. About 6 n multiplications in log2(n) rounds.
    """
    n = x.shape[-1]
    if n < 2:
        return np.ones(x.shape, x.dtype)
    half = n // 2
    a, b, odd = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    others = product_of_others(np.concatenate([a * b, odd], -1))
    return np.concatenate([others[..., :half] * b, others[..., :half] * a, others[..., half:]], -1)


def rows(x, axis):
    """x as (B, n): the axes that stay, flat, and the reduced axes, flat; and the way back."""
    reduced = [*range(x.ndim)] if axis is None or not x.ndim else [*np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)]
    stay = [i for i in range(x.ndim) if i not in reduced]
    moved = np.transpose(x, stay + reduced)
    flat = np.reshape(moved, [math.prod(x.shape[i] for i in group) for group in (stay, reduced)])
    return flat, lambda v: np.transpose(np.reshape(v, moved.shape), np.argsort(stay + reduced))


def prod_rule(g, y, x, *, axis=None, keepdims=False, initial=1, where=True):
    flat, back = rows(x if where is True else np.where(where, x, 1), axis)
    g = (1 if initial is None else initial) * restore(g, x.ndim, axis, keepdims) * back(product_of_others(flat))
    return g if where is True else np.where(where, g, 0)


STARTS = [
    ((3, 4), {"axis": 1, "initial": 1.5}),
    ((2, 3), {"initial": 2, "keepdims": True}),
    ((3, 4), {"axis": 0, "initial": 0.5, "where": MASK}),
    ((2, 3), {"initial": 1.5, "where": False}),
]
BEGUN = [((3, 4), 0, None, None, False, ()), ((2, 3), None, None, None, True, (), MASK[:2, :3])]  # initial by position
op(np.sum, sum_rule, cases=AXES + WHERE + EMPTY + STARTS + BEGUN)
op(np.mean, mean_rule, cases=AXES + WHERE + EMPTY[2:3])
op(np.prod, prod_rule, cases=AXES + WHERE + EMPTY + STARTS + BEGUN + [((7,),), ((2, 3), {"initial": None}), ((1, 3), {"axis": 0})])
begin_with_tensors(np.sum, np.add, 0)
begin_with_tensors(np.prod, np.multiply, 1)

# --- extremes ---------------------------------------------------------------------------------


def extreme_rule(g, y, x, *, axis=None, keepdims=False, initial=None, where=True):
    """The gradient goes to the elements that equal the extreme and is shared evenly by them (and by an equal `initial`)."""
    hit = (x == restore(y, x.ndim, axis, keepdims)) & where
    hits = np.sum(hit, axis=axis, keepdims=keepdims) + (y == initial)
    return restore((g / np.maximum(hits, 1)).astype(g.dtype), x.ndim, axis, keepdims) * hit


BOUNDED = [
    ((3, 4), {"axis": 0, "initial": 0.0}),
    ((3, 4), {"axis": 1, "where": MASK, "initial": -0.1}),
    ((3, 4), {"where": MASK, "initial": 5.0}),
]
BOUNDED += [
    ((3, 4), {"axis": 0, "initial": -5.0, "where": MASK}),
    ((3, 4), 0, None, False, ()),
    ((2, 3), None, None, True, (), MASK[:2, :3]),
]
for extreme in (np.max, np.amax, np.min, np.amin, np.nanmax, np.nanmin):
    op(extreme, extreme_rule, cases=AXES + EMPTY[2:] + BOUNDED)
for greatest, join in ((np.max, np.maximum), (np.amax, np.maximum), (np.nanmax, np.fmax)):
    begin_with_tensors(greatest, join, -math.inf)
for least, join in ((np.min, np.minimum), (np.amin, np.minimum), (np.nanmin, np.fmin)):
    begin_with_tensors(least, join, math.inf)

compose(
    np.ptp,
    lambda a, axis=None, out=None, keepdims=False: np.max(a, axis, keepdims=keepdims) - np.min(a, axis, keepdims=keepdims),
    cases=AXES,
)

# --- moments ------------------------------------------------------------------------------------


def bind_moment(op, args, kwargs):
    """np.var and np.std: beside the array, its mean= is an input."""
    params = dict(zip(op.names, args)) | kwargs
    mean = params.pop("mean", np._NoValue)
    return (params.pop("a"), None if mean is np._NoValue else mean), check_params(op, params)


def moment(function):
    return lambda a, mean=None, **params: function(a, **params) if mean is None else function(a, mean=mean, **params)


def deviation(x, mean, axis, where):
    """x minus its mean, 0 where x does not count."""
    d = x - (np.mean(x, axis=axis, keepdims=True, where=where) if mean is None else mean)
    return d if where is True else np.where(where, d, 0)


def var_rule(g, y, x, mean, *, axis=None, ddof=0, correction=0, keepdims=False, where=True):
    scale = 2 * restore(g, x.ndim, axis, keepdims) / count(x.shape, axis, where, g.dtype, less=ddof + correction)
    return scale * deviation(x, mean, axis, where)


def std_rule(g, y, x, mean, **params):
    """A deviation of 0 is a minimum, with a kink: its gradient is 0, as that of a norm."""
    return var_rule(0.5 * g / nonzero(y), y, x, mean, **params)


def by_mean(rule):
    return lambda g, y, x, mean, **params: -rule(g, y, x, mean, **params)  # the walk sums it


SPREADS = [((3, 4), {"ddof": 1}), ((3, 4), {"axis": 0, "correction": 1}), ((3, 4), {"axis": 1, "ddof": 1, "where": MASK})]
OWN_MEAN = [((3, 4), {"axis": 0, "mean": np.full((1, 4), 0.1)}), ((3, 4), {"mean": np.full((1, 1), 0.1), "ddof": 1})]
SPREADS += AXES[:-1] + WHERE + EMPTY[2:3] + OWN_MEAN
for function, rule in ((np.var, var_rule), (np.std, std_rule)):
    op(function, rule, by_mean(rule), forward=moment(function), bind=bind_moment, cases=[*SPREADS, ((),)] if rule is var_rule else SPREADS)


def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    """sum(weights * a) / sum(weights); weights have the shape of a, or of its axes `axis`."""
    axis = axis if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, np.ndim(a))
    if weights is None:
        y = np.mean(a, axis, keepdims=keepdims)
        return (y, np.full(y.shape, np.size(a) / y.size, y.dtype)) if returned else y
    shape = np.shape(a)
    if np.shape(weights) != shape:
        if axis is None:
            raise TypeError(f"np.average: weights {np.shape(weights)} and a {shape} differ in shape; name the axis of the weights")
        if np.shape(weights) != tuple(shape[i] for i in axis):
            raise ValueError(
                f"np.average: weights {np.shape(weights)} do not fit axis {axis if len(axis) > 1 else axis[0]} of a {shape}; give one weight for each place along it"  # pyright: ignore[reportGeneralTypeIssues]
            )
        weights = np.reshape(np.transpose(weights, np.argsort(axis)), [n if i in axis else 1 for i, n in enumerate(shape)])
    total = np.sum(weights, axis, keepdims=keepdims)
    if np.any(total == 0):
        raise ZeroDivisionError(f"np.average: the weights sum to zero along axis {axis}; leave such rows out")
    y = np.sum(np.multiply(a, weights), axis, keepdims=keepdims) / total
    return (y, np.broadcast_to(total, y.shape).astype(y.dtype)) if returned else y


WEIGHED = [
    ((2, 3), {"weights": np.array([[1.0, 2.0, 0.5], [0.5, 1.0, 3.0]])}),
    ((2, 3), 1, np.array([1.0, 2.0, 0.5])),
    ((2, 3), -1, (3,), {"returned": True}),
]
WEIGHED += [
    ((2, 3, 4), Given((2, 0)), (4, 2)),
    ((2, 3), 0, (2, 3), {"keepdims": True}),
    ((2, 3), 1, {"returned": True}),
    ((2, 3), None, (2, 3), True),
]
compose(np.average, average, cases=[((2, 3),), ((2, 3), {"axis": 0, "keepdims": True}), *WEIGHED], domain=(0.5, 2.0))

# --- NaN as a missing value ---------------------------------------------------------------------------


def without_nan(rule):
    """The rule of a function that leaves out NaN, from the rule of the one that does not."""
    return lambda g, y, x, *, where=True, **params: rule(g, y, x, where=np.asarray(where, bool) & ~np.isnan(x), **params)


def moment_without_nan(rule):
    return lambda g, y, x, mean, *, where=True, **params: rule(g, y, x, mean, where=np.asarray(where, bool) & ~np.isnan(x), **params)


op(np.nansum, without_nan(sum_rule), cases=AXES + WHERE + EMPTY + STARTS + BEGUN)
op(np.nanprod, without_nan(prod_rule), cases=AXES + WHERE + EMPTY + STARTS + BEGUN)
begin_with_tensors(np.nansum, np.add, 0)
begin_with_tensors(np.nanprod, np.multiply, 1)
op(np.nanmean, without_nan(mean_rule), cases=AXES + WHERE + EMPTY[2:3])
for function, rule in ((np.nanvar, var_rule), (np.nanstd, std_rule)):
    over_x, over_mean = moment_without_nan(rule), moment_without_nan(by_mean(rule))
    op(function, over_x, over_mean, forward=moment(function), bind=bind_moment, cases=SPREADS)
compose(
    np.nancumsum,
    lambda a, axis=None, dtype=None: np.cumsum(np.where(np.isnan(a), 0, a), axis, dtype),
    cases=[((2, 3),), ((2, 3), {"axis": 1})],
)
compose(
    np.nancumprod,
    lambda a, axis=None, dtype=None: np.cumprod(np.where(np.isnan(a), 1, a), axis, dtype),
    cases=[((2, 3),), ((2, 3), {"axis": 1})],
)

constant(np.all, np.any, np.count_nonzero, np.argmax, np.argmin, np.nanargmax, np.nanargmin)
