"""Choosing between values: the larger or smaller, one of several by a condition, bounds."""

import math
from typing import Any

from tinygrad_notes.binding import Given, check_params
from tinygrad_notes.core import table
from tinygrad_notes.ops.elementwise import PAIRS
from tinygrad_notes.ops.indexing import arrays_of, scatter_add
from tinygrad_notes.registry import compose, op, plain

import numpy as np
from numpy._core.umath import clip as clip_ufunc  # pyright: ignore[reportAttributeAccessIssue]


def winner(g, y, a, b):
    """The gradient goes to the input that is the output; a tie shares evenly."""
    return np.where(a == y, np.where(a == b, 0.5 * g, g), 0)


for extreme in (np.maximum, np.minimum, np.fmax, np.fmin):
    op(extreme, winner, lambda g, y, a, b: winner(g, y, b, a), cases=PAIRS)


def bind_clip(op, args, kwargs):
    """np.clip(a, a_min, a_max), or with the bounds as min= and max=; None for no bound."""
    params = dict(zip(("a", "a_min", "a_max", "out"), args)) | kwargs

    def bound(*names):
        given = [v for name in names if (v := params.pop(name, np._NoValue)) is not np._NoValue]
        if len(given) > 1:
            raise ValueError(f"np.clip: {' and '.join(names)} are two names of one bound, and both came; pass one of them")
        return given[0] if given else None

    return [params.pop("a"), bound("a_min", "min"), bound("a_max", "max")], check_params(op, params)


def clip_by_x(g, y, x, low, high):
    """1 from bound to bound, both included."""
    return np.where((x >= (-math.inf if low is None else low)) & (x <= (math.inf if high is None else high)), g, 0)


def clip_by_low(g, y, x, low, high):
    return np.where((x < low) & (low <= (math.inf if high is None else high)), g, 0)


def clip_by_high(g, y, x, low, high):
    """np.clip is the smaller of `high` and all else, so that `high` also wins over a larger `low`."""
    return np.where((x > high) | ((-math.inf if low is None else low) > high), g, 0)


CLIPS = [((3, 4), -0.8, 0.8), ((3, 4), (4,), (3, 1)), ((), -0.5, ()), ((3, 4), (4,), 9.0), ((0, 3), (3,), 1.0), ((3, 4), (3, 4), (3, 4))]
CLIPS_BY_NAME = [((3, 4), {"a_min": -0.4, "a_max": None}), ((3, 4), None, 0.5), ((3, 4), (4,), None), ((3, 4), None, (3, 4))]
if hasattr(np, "cumulative_sum"):  # NumPy 2.1, which has the keywords min and max too
    CLIPS_BY_NAME += [((3, 4), {"min": 0.1}), ((3, 4), {"min": -0.4, "max": 0.4})]
op(np.clip, clip_by_x, clip_by_low, clip_by_high, bind=bind_clip, cases=CLIPS + CLIPS_BY_NAME)
op(clip_ufunc, clip_by_x, clip_by_low, clip_by_high, cases=CLIPS)  # what array.clip(low, high) calls

choose_between = op(
    np.where,
    None,
    lambda g, y, condition, a, b: np.where(condition, g, 0),
    lambda g, y, condition, a, b: np.where(condition, 0, g),
    bind=lambda op, args, kwargs: ((plain(args[0]), *args[1:]), kwargs),
    cases=[(np.eye(3, 4) > 0, (3, 4), (4,)), (np.array([True, False]), (3, 1), 0.5), (np.eye(2), 1.5, ()), (True, (2,), (2,))],
)
# With one argument np.where gives the places that are not zero.
table[np.where] = lambda condition, *ab: choose_between(condition, *ab) if ab else np.nonzero(condition.value)


def select(condlist, choicelist, default=0):
    """The first choice whose condition holds."""
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(
            f"np.select: {len(condlist)} conditions came with {len(choicelist)} choices; give one choice for each condition, at least one"
        )
    *choicelist, chosen = arrays_of([*choicelist, default])
    for condition, choice in zip(condlist[::-1], choicelist[::-1]):
        chosen = np.where(condition, choice, chosen)
    return chosen


CONDITIONS = [np.array([[True, False, False], [False, True, False]]), np.array([True, True, False])]
compose(
    np.select, select, cases=[(CONDITIONS, [(2, 3), (3,)]), (CONDITIONS, [(2, 3), 1.5], ()), (CONDITIONS, [(2, 1), ()], {"default": 0.5})]
)


def choose(a, choices, out=None, mode="raise"):
    """choices[a[i]][i]."""
    n, a = len(choices), np.asarray(a)
    if a.dtype.kind not in "biu":
        raise TypeError(f"np.choose: a is an array of {a.dtype}, expected integers, which say the choice")
    a = a % n if mode == "wrap" else np.clip(a, 0, n - 1) if mode == "clip" else a
    if a.size and (a.min() < 0 or a.max() >= n):
        raise ValueError(
            f"np.choose: a reaches from {a.min()} to {a.max()}, but there are {n} choices; pass mode='wrap' or mode='clip' to bring it into range"
        )
    chosen = choices[0]
    for k in range(n):  # the first too: a result has the shape of a and of all choices
        chosen = np.where(a == k, choices[k], chosen)
    return chosen


compose(
    np.choose,
    choose,
    cases=[
        (np.array([0, 2, 1]), [(3,), (2, 3), ()]),
        (np.array([[3], [-1]]), (2, 3), {"mode": "wrap"}),
        (np.array([-1, 5]), [(2,), (2,)], {"mode": "clip"}),
        (np.array([[0], [0]]), [(3,)]),
    ],
)


def piecewise(x, condlist, funclist, *args, **kwargs):
    """Each function sees only the elements of its condition; where several hold, the last one counts."""
    single = isinstance(condlist, bool | np.bool_) or (x.ndim > 0 and not isinstance(condlist[0], list | tuple | np.ndarray))
    conditions = np.asarray([condlist] if single else condlist, bool)
    if len(funclist) == len(conditions) + 1:
        conditions = np.concatenate([conditions, ~np.any(conditions, axis=0, keepdims=True)])
    if len(funclist) != len(conditions):
        raise ValueError(
            f"np.piecewise: {len(funclist)} functions came with {len(conditions)} conditions; give one for each, or one more for elsewhere"
        )
    y = np.zeros(x.shape, x.dtype)
    for condition, f in zip(conditions, funclist):
        value: Any = f
        if callable(f):
            part: Any = f(x[condition], *args, **kwargs) if np.any(condition) else np.zeros(0, x.dtype)
            value = scatter_add(np.broadcast_to(part, (int(np.count_nonzero(condition)),)), index=condition, shape=x.shape)
        y = np.where(condition, value, y)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


PIECES = [np.array([True, False, True, False]), np.array([False, False, True, True])]
compose(
    np.piecewise,
    piecewise,
    cases=[
        ((4,), PIECES, Given([np.square, lambda x, a=1.0: a * np.sin(x)])),
        ((4,), PIECES, Given([np.square, 1.5, lambda x: 2 * x])),
        ((4,), PIECES[0], Given([np.square, np.exp])),
        ((4,), PIECES, Given([lambda x, a: a * x, lambda x, a: x**a]), 3),
        ((2, 2), np.eye(2, dtype=bool)[None], Given([np.square, np.exp])),
        ((), np.array([True]), Given([np.square])),
    ],
)
