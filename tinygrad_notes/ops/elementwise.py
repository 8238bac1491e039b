"""Functions that act on each element by itself, with broadcasting."""

import math

import numpy as np

from tinygrad_notes.registry import compose, constant, op

PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1), (3,)), ((), (2, 3))]
ONE = [((3, 4),), ((),)]
LN2, LN10 = math.log(2), math.log(10)

# --- arithmetic -------------------------------------------------------------------------

op(np.add, lambda g, y, a, b: g, lambda g, y, a, b: g, cases=PAIRS)
op(np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: -g, cases=PAIRS)
op(np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a, cases=PAIRS)
op(np.divide, lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b, cases=PAIRS, domain=(0.5, 2.0))
op(np.negative, lambda g, y, x: -g, cases=ONE)
op(np.positive, lambda g, y, x: g, cases=ONE)
op(np.reciprocal, lambda g, y, x: -g * y * y, cases=ONE, domain=(0.5, 2.0))
op(np.square, lambda g, y, x: g * (2 * x), cases=ONE)

# --- exponentials, roots, trigonometry ---------------------------------------------------

op(np.exp, lambda g, y, x: g * y, cases=ONE)
op(np.log, lambda g, y, x: g / x, cases=ONE, domain=(0.5, 2.0))
op(np.sqrt, lambda g, y, x: 0.5 * g / y, cases=ONE, domain=(0.5, 2.0))
op(np.sin, lambda g, y, x: g * np.cos(x), cases=ONE)
op(np.cos, lambda g, y, x: -g * np.sin(x), cases=ONE)
op(np.tanh, lambda g, y, x: g * (1 - y * y), cases=ONE)

# --- comparisons, selection --------------------------------------------------------------

op(
    np.maximum,
    lambda g, y, a, b: g * ((a > b) + 0.5 * (a == b)).astype(g.dtype),  # a tie shares evenly
    lambda g, y, a, b: g * ((b > a) + 0.5 * (a == b)).astype(g.dtype),
    cases=PAIRS,
)
constant(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
constant(np.isnan, np.isfinite, np.isinf, np.sign, np.floor, np.ceil, np.rint, np.trunc)
