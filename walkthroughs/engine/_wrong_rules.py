"""27 functions in plain NumPy with their gradient rules, and some 470 wrong ones: what walkthroughs/engine/gradcheck.py tries checks on.

A rule is `(g, y, *inputs) -> gradients`, a tuple with one for each input. Beside each function stand the mistakes that only this function
invites; the others, which any rule may make, are below.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class Op(NamedTuple):
    f: Callable
    rule: Callable
    shapes: tuple
    wrong: tuple[Callable, ...] = ()  # rules with a slip
    wrong_at_edge: tuple[Callable, ...] = ()  # rules that are right everywhere else
    edge: tuple | None = None  # a point on the kink, and the gradient that is promised there for g = 1
    low: float = -2.0  # inputs are drawn from [low, 2]
    analytic: bool = True  # f runs on complex numbers, so that the complex step may be used


# --- what the rules share ------------------------------------------------------------------------


def like(g, x):
    """g summed over the axes along which x was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - x.ndim)))
    return g.sum(axis=tuple(i for i, n in enumerate(x.shape) if n == 1 and g.shape[i] != 1), keepdims=True)


def col(x):
    return x[:, None]


def over_rows(x):
    return x.mean(axis=1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def logsumexp(x):
    m = x.real.max(axis=1)
    return np.log(np.exp(x - col(m)).sum(axis=1)) + m


def shares(x, y):
    """Where each row has its maximum y; ties share evenly."""
    hit = (x == col(y)).astype(x.dtype)
    return hit / hit.sum(axis=1, keepdims=True)


def normalised(x, eps=1e-5, center=True):
    """(x, without its mean if centred, over s; s), where s is the root of the mean of squares."""
    x = x - over_rows(x) if center else x
    s = np.sqrt(over_rows(x * x) + x.real.dtype.type(eps))
    return x / s, s


def norm_rule(mean=True, along=True, eps=1e-5, center=True):
    """(g - mean(g) - y mean(g y)) / s, or what is left of it."""

    def rule(g, y, x):
        s = normalised(x, eps, center)[1]
        d = g - over_rows(g) if mean else g
        return ((d - y * over_rows(g * y) if along else d) / s,)

    return rule


ROWS = np.array([0, 2, 2, 1])  # row 2 is taken twice


def rows_set(g, y, x):
    d = np.zeros_like(x)
    d[ROWS] = g
    return (d,)


M, S, B = ((3, 4),), ((3, 3), (3, 3)), ((3, 4), (4,))
OPS = {
    "add": Op(lambda a, b: a + b, lambda g, y, a, b: (g, like(g, b)), B, (lambda g, y, a, b: (g, g[0]),)),
    "subtract": Op(lambda a, b: a - b, lambda g, y, a, b: (g, like(-g, b)), B, (lambda g, y, a, b: (g, like(g, b)),)),
    "multiply": Op(
        lambda a, b: a * b,
        lambda g, y, a, b: (g * b, like(g * a, b)),
        ((3, 4), (3, 1)),
        (lambda g, y, a, b: (g, like(g * a, b)), lambda g, y, a, b: (g * a, like(g * b, b))),
    ),
    "divide": Op(
        lambda a, b: a / b,
        lambda g, y, a, b: (g / b, like(-g * a / (b * b), b)),
        B,
        (lambda g, y, a, b: (g / b, like(-g * a / b, b)), lambda g, y, a, b: (g / b, like(g * a / (b * b), b))),
        low=0.5,
    ),
    "cube": Op(lambda x: x * x * x, lambda g, y, x: (3 * g * x * x,), M, (lambda g, y, x: (3 * g * y,), lambda g, y, x: (g * x * x,))),
    "exp": Op(np.exp, lambda g, y, x: (g * y,), M, (lambda g, y, x: (g * x,),)),
    "log": Op(np.log, lambda g, y, x: (g / x,), M, (lambda g, y, x: (g / y,),), low=0.5),
    "sqrt": Op(np.sqrt, lambda g, y, x: (g / (2 * y),), M, (lambda g, y, x: (g / y,), lambda g, y, x: (g / (2 * x),)), low=0.5),
    "sin": Op(np.sin, lambda g, y, x: (g * np.cos(x),), M, (lambda g, y, x: (-g * np.cos(x),), lambda g, y, x: (g * y,))),
    "tanh": Op(np.tanh, lambda g, y, x: (g * (1 - y * y),), M, (lambda g, y, x: (g * (1 - x * x),), lambda g, y, x: (g * (1 - y),))),
    "sigmoid": Op(lambda x: 1 / (1 + np.exp(-x)), lambda g, y, x: (g * y * (1 - y),), M, (lambda g, y, x: (g * y,),)),
    "abs": Op(
        np.abs,
        lambda g, y, x: (g * np.sign(x),),
        M,
        (lambda g, y, x: (g * x,),),
        (lambda g, y, x: (np.where(x >= 0, g, -g),),),
        ([[0.0, 1.0]], [[0.0, 1.0]]),
        analytic=False,
    ),
    "relu": Op(
        lambda x: np.maximum(x, 0),
        lambda g, y, x: (g * (x > 0),),
        M,
        (lambda g, y, x: (g * 1,), lambda g, y, x: (g * (x < 0),)),
        (lambda g, y, x: (g * (x >= 0),),),
        ([[0.0, 1.0]], [[0.0, 1.0]]),
        analytic=False,
    ),
    "sum": Op(lambda x: x.sum(axis=1), lambda g, y, x: (col(g) + 0 * x,), M, (lambda g, y, x: (col(g) / x.shape[1] + 0 * x,),)),
    "mean": Op(lambda x: x.mean(axis=0), lambda g, y, x: (g / len(x) + 0 * x,), M, (lambda g, y, x: (g + 0 * x,),)),
    "max": Op(
        lambda x: x.max(axis=1),
        lambda g, y, x: (col(g) * shares(x, y),),
        M,
        (lambda g, y, x: (col(g) * (x < col(y)),),),
        (
            lambda g, y, x: (col(g) * (x == col(y)),),  # each of a tie has all
            lambda g, y, x: (col(g) * (np.arange(x.shape[1]) == col(x.argmax(axis=1))),),  # the first has it
        ),
        ([[2.0, 2.0, 1.0]], [[0.5, 0.5, 0.0]]),
        analytic=False,
    ),
    "var": Op(
        lambda x: ((x - over_rows(x)) ** 2).mean(axis=1),
        lambda g, y, x: (2 * col(g) * (x - over_rows(x)) / x.shape[1],),
        M,
        (lambda g, y, x: (2 * col(g) * x / x.shape[1],), lambda g, y, x: (2 * col(g) * (x - over_rows(x)) / (x.shape[1] - 1),)),
    ),
    "cumsum": Op(
        lambda x: np.cumsum(x, axis=1),
        lambda g, y, x: (np.cumsum(g[:, ::-1], axis=1)[:, ::-1],),
        M,
        (lambda g, y, x: (np.cumsum(g, axis=1),),),
    ),
    "matmul": Op(
        lambda a, b: a @ b,
        lambda g, y, a, b: (g @ b.T, a.T @ g),
        S,
        (lambda g, y, a, b: (g @ b, a.T @ g), lambda g, y, a, b: (g @ b.T, a @ g)),
    ),
    "transpose": Op(lambda x: x.T, lambda g, y, x: (g.T,), S[:1], (lambda g, y, x: (g,),)),
    "take rows": Op(lambda x: x[ROWS], lambda g, y, x: ((col(np.arange(len(x))) == ROWS).astype(g.dtype) @ g,), M, (rows_set,)),
    "concatenate": Op(
        lambda a, b: np.concatenate([a, b]), lambda g, y, a, b: (g[:3], g[3:]), (*M, *M), (lambda g, y, a, b: (g[3:], g[:3]),)
    ),
    "softmax": Op(
        softmax,
        lambda g, y, x: (y * (g - (g * y).sum(axis=1, keepdims=True)),),
        M,
        (lambda g, y, x: (y * g,), lambda g, y, x: (y * (1 - y) * g,)),
    ),
    "log_softmax": Op(
        lambda x: x - col(logsumexp(x)),
        lambda g, y, x: (g - np.exp(y) * g.sum(axis=1, keepdims=True),),
        M,
        (lambda g, y, x: (g,), lambda g, y, x: (g - np.exp(y) * g,)),
    ),
    "logsumexp": Op(logsumexp, lambda g, y, x: (col(g) * np.exp(x - col(y)),), M, (lambda g, y, x: (col(g) * np.exp(x),),)),
    "layer norm": Op(
        lambda x: normalised(x)[0],
        norm_rule(),
        M,
        (norm_rule(mean=False), norm_rule(along=False), norm_rule(mean=False, along=False), norm_rule(eps=1e-3)),
    ),
    "rms norm": Op(lambda x: normalised(x, center=False)[0], norm_rule(False, center=False), M, (norm_rule(False, False, center=False),)),
}

# --- what may be wrong with any rule -----------------------------------------------------------------


def written_into(d, x):
    """The gradient, left in the memory of the input."""
    if d.shape == x.shape:
        x[...] = d
        return x
    return d


GRADIENT = {
    "sign": lambda d, x: -d,
    "x 2": lambda d, x: 2 * d,
    "x 1.0001": lambda d, x: d * (1 + 1e-4),
    "zeros": lambda d, x: 0 * d,
    "absolute": lambda d, x: np.abs(d),
    "transposed": lambda d, x: d.T.reshape(d.shape),
    "other axis": lambda d, x: np.roll(d, 1, axis=0),
    "mean for sum": lambda d, x: d / d.size,
    "float64 for float32": lambda d, x: d.astype(np.float64),
    "input overwritten": written_into,
}
COTANGENT = {"g ignored": np.ones_like, "g averaged": lambda g: 0 * g + g.mean(), "|g|": np.abs}


def spoiled(rule: Callable, i: int, change: Callable) -> Callable:
    """The rule with a change of the gradient of input i."""

    def wrong(g, y, *xs):
        gradients = list(rule(g, y, *xs))
        gradients[i] = change(gradients[i], xs[i])
        return tuple(gradients)

    return wrong


def overwriting(rule: Callable) -> Callable:
    """The rule, which changes its cotangent afterwards."""

    def wrong(g, y, *xs):
        gradients = tuple(d.copy() for d in rule(g, y, *xs))
        g *= 2
        return gradients

    return wrong


def draw(op: Op, rng: np.random.Generator, dtype=np.float64) -> list[np.ndarray]:
    """Inputs from [low, 2]; where there are kinks, even steps in a random order, so that no two are equal and none is near 0."""
    if op.analytic:
        return [rng.uniform(op.low, 2, shape).astype(dtype) for shape in op.shapes]
    return [rng.permutation(np.linspace(-2, 2, np.prod(shape))).reshape(shape).astype(dtype) for shape in op.shapes]


def differs(op: Op, rule: Callable) -> bool:
    """Whether a rule can be told from the right one: by its values, its dtype, or what its arguments are afterwards."""

    def outcome(rule, xs, g):
        xs, g = [x.copy() for x in xs], g.copy()
        return [*(d.copy() for d in rule(g, op.f(*xs), *xs)), *xs, g]

    rng = np.random.default_rng(0)
    places = [(xs, rng.normal(size=op.f(*xs).shape).astype(xs[0].dtype)) for xs in (draw(op, rng), draw(op, rng, np.float32))]
    if op.edge:
        at = np.array(op.edge[0])
        places.append(([at], np.ones_like(op.f(at))))
    pairs = [(a, b) for xs, g in places for a, b in zip(outcome(op.rule, xs, g), outcome(rule, xs, g))]
    return any(a.dtype != b.dtype or not np.allclose(a, b, rtol=1e-6, atol=0) for a, b in pairs)


def wrong_rules(op: Op) -> Iterator[tuple[str, Callable]]:
    """(kind of mistake, rule) for each wrong rule of an op that can be told from the right one."""
    for kind, change in GRADIENT.items():
        yield from ((kind, wrong) for i in range(len(op.shapes)) if differs(op, wrong := spoiled(op.rule, i, change)))
    for kind, change in COTANGENT.items():
        wrong = lambda g, y, *xs, change=change: op.rule(change(g), y, *xs)
        if differs(op, wrong):
            yield kind, wrong
    yield "g overwritten", overwriting(op.rule)
    yield from (("a slip of its own", wrong) for wrong in op.wrong)
    yield from (("at a tie or kink", wrong) for wrong in op.wrong_at_edge)
