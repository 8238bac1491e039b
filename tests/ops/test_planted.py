"""Wrong rules as a reviewer would plant them: each is registered with one tame case, and no test of its own, and must be found.

Beside each stands the right rule, which must pass. What is wrong shows only for kept dimensions, only where an index
stands twice, only at second order, only in float32, ...
"""

import math

from tests.ops.test_variants import every_check
from tinygrad_notes import Tensor
from tinygrad_notes.fused import attention
from tinygrad_notes.registry import Fused, Op
from tinygrad_notes.transforms import stop_gradient

import numpy as np
import pytest


def value(x):
    return x.value if isinstance(x, Tensor) else x


def back(g, x, axis, keepdims):
    """A reduction's gradient with its axes back."""
    if axis is None:
        return np.reshape(g, (1,) * x.ndim)
    return g if keepdims else np.expand_dims(g, axis)


# --- functions and their right rules ---------------------------------------------------------------


def power_sum(x, axis=None, keepdims=False):
    return np.sum(x * x, axis=axis, keepdims=keepdims)


def power_sum_rule(g, y, x, *, axis=None, keepdims=False):
    return 2 * x * back(g, x, axis, keepdims)


def masked_sum(x, axis=None, where=True):
    return np.sum(x * x, axis=axis, where=where)


def masked_sum_rule(g, y, x, *, axis=None, where=True):
    return np.where(where, 2 * x * back(g, x, axis, False), 0)


def spread_of(x, axis=None, ddof=0):
    return np.var(x, axis=axis, ddof=ddof)


def spread_rule(g, y, x, *, axis=None, ddof=0):
    n = x.size if axis is None else math.prod(x.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))
    return back(g, x, axis, False) * 2 * (x - np.mean(x, axis=axis, keepdims=True)) / (n - ddof)


def take_rows(x, index):
    return x[index]


def take_rows_rule(g, y, x, index):
    seen = (np.arange(len(x))[:, None] == np.reshape(index % len(x), (1, -1))).astype(x.dtype)
    return np.reshape(seen @ np.reshape(g, (index.size, -1)), x.shape), None


def bell(x):
    return np.exp(-x * x / math.sqrt(2))


def bell_rule(g, y, x):
    return g * y * -2 * x / math.sqrt(2)


def hinge(x):
    return np.maximum(x, 0)


def hinge_rule(g, y, x):
    return g * (x > 0)


def length(x, axis=-1):
    return np.sqrt(np.sum(x * x, axis=axis))


def length_rule(g, y, x, *, axis=-1):
    y = np.expand_dims(y, axis)
    return np.expand_dims(g, axis) * x * (y != 0) / (y + (y == 0))


def scaled(a, b):
    return a * np.exp(b)


def by_a(g, y, a, b):
    return g * np.exp(b)


def by_b(g, y, a, b):
    return g * y


def softmax(x, axis=-1):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def softmax_rule(g, y, x, *, axis=-1):
    return y * (g - np.sum(g * y, axis=axis, keepdims=True))


def normed(x, eps=1e-5):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)


def normed_rule(g, y, x, *, eps=1e-5):
    r = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return r * (g - y * np.mean(g * y, axis=-1, keepdims=True))


def product(a, b):
    if min(a.ndim, b.ndim) < 2:
        raise ValueError("product: vectors came, expected matrices")
    return np.matmul(a, b)


def product_a(g, y, a, b):
    return np.matmul(g, np.swapaxes(b, -1, -2))


def product_b(g, y, a, b):
    return np.matmul(np.swapaxes(a, -1, -2), g)


def largest(x, axis=None):
    return np.max(x, axis=axis)


def largest_rule(g, y, x, *, axis=None):
    hit = x == back(y, x, axis, False)
    return back(g, x, axis, False) * hit / np.sum(hit, axis=axis, keepdims=True).astype(x.dtype)


def shifted(x, k=1):
    return np.roll(x, k, axis=-1) * x


def shifted_rule(g, y, x, *, k=1):
    return g * np.roll(x, k, axis=-1) + np.roll(g * x, -k, axis=-1)


def flat(x):
    return np.reshape(x, -1) ** 2


def flat_rule(g, y, x):
    return 2 * x * np.reshape(g, x.shape)


def wave(x):
    return np.sin(x), np.cos(x)


def wave_rule(g, y, x):
    return g[0] * np.cos(x) - g[1] * np.sin(x)


INDEX = np.array([0, 2, 1])
RIGHT = {
    power_sum: ([power_sum_rule], [((3, 4),)], None),
    masked_sum: ([masked_sum_rule], [((3, 4),)], None),
    spread_of: ([spread_rule], [((3, 4),)], None),
    take_rows: ([take_rows_rule], [((4, 2), INDEX)], None),
    bell: ([bell_rule], [((3, 4),)], None),
    hinge: ([hinge_rule], [((3, 4),)], None),
    length: ([length_rule], [((3, 4),)], None),
    scaled: ([by_a, by_b], [((3, 4), (3, 4))], None),
    softmax: ([softmax_rule], [((3, 4),)], None),
    normed: ([normed_rule], [((3, 4),)], None),
    product: ([product_a, product_b], [((3, 4), (4, 2))], None),
    largest: ([largest_rule], [((3, 4),)], None),
    shifted: ([shifted_rule], [((3, 4),)], None),
    flat: ([flat_rule], [((3, 4),)], None),
    wave: ([wave_rule], [((3, 4),)], None),
}

# --- the same, wrong --------------------------------------------------------------------------------


class Kept:
    """A rule that keeps its result from call to call."""

    def __init__(self):
        self.seen = {}

    def __call__(self, g, y, x):
        if isinstance(g, np.ndarray):
            return self.seen.setdefault(x.shape, g * y * -2 * x / math.sqrt(2))
        return bell_rule(g, y, x)


kept = Kept()


def doubled_at(g, y, x, index):
    seen = (np.arange(len(x))[:, None] == np.reshape(index, (1, -1))).astype(x.dtype)
    return np.reshape(seen @ np.reshape(g, (index.size, -1)), x.shape) / np.maximum(seen.sum(1), 1)[:, None], None


def last_wins(g, y, x, index):
    if isinstance(g, Tensor):
        return take_rows_rule(g, y, x, index)
    d = np.zeros(x.shape, x.dtype)
    d[index] = g
    return d, None


def writes_g(g, y, x):
    if isinstance(g, np.ndarray) and g.flags.writeable:
        g *= y * -2 * x / math.sqrt(2)
        return g
    return bell_rule(g, y, x)


WRONG = {
    "keepdims forgotten": (power_sum, [lambda g, y, x, *, axis=None, keepdims=False: 2 * x * (g if axis is None else np.expand_dims(g, axis) if not keepdims else g * 2)]),
    "no axis is the last axis": (power_sum, [lambda g, y, x, *, axis=None, keepdims=False: power_sum_rule(g, y, x, axis=axis, keepdims=keepdims) * (2 if axis in (-1, 1) else 1)]),
    "several axes": (power_sum, [lambda g, y, x, *, axis=None, keepdims=False: power_sum_rule(g, y, x, axis=axis, keepdims=keepdims) * (0.5 if isinstance(axis, tuple) and len(axis) > 1 else 1)]),
    "where ignored": (masked_sum, [lambda g, y, x, *, axis=None, where=True: 2 * x * back(g, x, axis, False)]),
    "where turned round": (masked_sum, [lambda g, y, x, *, axis=None, where=True: np.where(where if where is True else ~np.asarray(where), 2 * x * back(g, x, axis, False), 0)]),
    "ddof forgotten": (spread_of, [lambda g, y, x, *, axis=None, ddof=0: spread_rule(g, y, x, axis=axis)]),
    "an index twice counts once": (take_rows, [doubled_at]),
    "the last of equal indices wins": (take_rows, [last_wins]),
    "float64 by np.sqrt": (bell, [lambda g, y, x: g * y * -2 * x / np.sqrt(2)]),
    "float64 for one element only": (bell, [lambda g, y, x: bell_rule(g, y, x) * (np.float64(1) if x.size == 1 else 1)]),
    "writes over its cotangent": (bell, [writes_g]),
    "kept from the first call": (bell, [lambda g, y, x: kept(g, y, x)]),
    "second order through .value": (bell, [lambda g, y, x: g * value(y) * -2 * x / math.sqrt(2)]),
    "second order through x.value only": (bell, [lambda g, y, x: g * y * -2 * value(x) / math.sqrt(2)]),
    "nothing for an empty array": (bell, [lambda g, y, x: bell_rule(g, y, x) if x.size else np.zeros((1,), x.dtype)]),
    "no dimension": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1 if x.ndim else 2)]),
    "large sizes": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1 if x.size <= 16 else 2)]),
    "a kink": (hinge, [lambda g, y, x: g * x / np.abs(x) * (x >= 0)]),
    "a kink counted twice": (hinge, [lambda g, y, x: g * ((x > 0) + 2.0 * (x == 0)).astype(x.dtype)]),
    "nan at the origin": (length, [lambda g, y, x, *, axis=-1: np.expand_dims(g, axis) * x / np.expand_dims(y, axis)]),
    "returns an input": (scaled, [by_a, lambda g, y, a, b: g * y if np.any(g != 1) else y]),
    "a view of the output": (scaled, [lambda g, y, a, b: g * np.exp(b), lambda g, y, a, b: y[...] if isinstance(g, np.ndarray) and g.strides == (0,) * g.ndim else g * y]),
    "broadcast inputs": (scaled, [lambda g, y, a, b: g * np.exp(b) / (1 if a.shape == b.shape else 2), by_b]),
    "a number for a matrix": (scaled, [by_a, lambda g, y, a, b: g * y if b.ndim else np.mean(g * y)]),
    "only both together": (scaled, [by_a, lambda g, y, a, b: g * y, ], {"reads": ["y"]}),
    "sum of softmax over the last axis": (softmax, [lambda g, y, x, *, axis=-1: y * (g - np.sum(g * y, axis=-1, keepdims=True))]),
    "softmax of one": (softmax, [lambda g, y, x, *, axis=-1: g if x.shape and x.shape[axis] == 1 else softmax_rule(g, y, x, axis=axis)]),
    "eps of the default": (normed, [lambda g, y, x, *, eps=1e-5: normed_rule(g, y, x)]),
    "eps outside of the root": (normed, [lambda g, y, x, *, eps=1e-5: (lambda r: r * (g - y * np.mean(g * y, axis=-1, keepdims=True)))(1 / (np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) + eps))]),
    "square matrices only": (product, [lambda g, y, a, b: np.matmul(g, b) if b.shape[-1] == b.shape[-2] else product_a(g, y, a, b), product_b]),
    "stacks of matrices": (product, [product_a, lambda g, y, a, b: product_b(g, y, a, b) if a.ndim == 2 else np.matmul(np.swapaxes(a, -1, -2), g)[::-1]]),
    "ties counted double": (largest, [lambda g, y, x, *, axis=None: back(g, x, axis, False) * (x == back(y, x, axis, False))]),
    "the wrong way round": (shifted, [lambda g, y, x, *, k=1: g * np.roll(x, k, axis=-1) + np.roll(g * x, -1, axis=-1)]),
    "the last axis but one": (power_sum, [lambda g, y, x, *, axis=None, keepdims=False: power_sum_rule(g, y, x, axis=axis, keepdims=keepdims) * (1.01 if axis == -2 else 1)]),
    "the middle axis of three": (power_sum, [lambda g, y, x, *, axis=None, keepdims=False: power_sum_rule(g, y, x, axis=axis, keepdims=keepdims) * (1.01 if axis == 1 and x.ndim == 3 else 1)]),
    "four axes": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1.01 if x.ndim == 4 else 1)]),
    "forty elements": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1.01 if x.size > 40 else 1)]),
    "numbers above 50": (hinge, [lambda g, y, x: hinge_rule(g, y, x) * np.where(x > 50, 1.01, 1).astype(x.dtype)]),
    "numbers below a thousandth": (hinge, [lambda g, y, x: hinge_rule(g, y, x) * np.where(x < 1e-3, 1.01, 1).astype(x.dtype)]),
    "a single number below zero": (hinge, [lambda g, y, x: hinge_rule(g, y, x) + (g * 0.5 * (x < 0) if x.size == 1 else 0 * g)]),
    "one row, repeated": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1.01 if x.size > 1 and 0 in value(x).strides else 1)]),
    "a cotangent that repeats one row": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1.01 if g.ndim == 2 and len(g) > 1 and value(g).strides[0] == 0 < value(g).strides[1] else 1)]),
    "float32 with create_graph": (bell, [lambda g, y, x: bell_rule(g, y, x) * (1.01 if isinstance(g, Tensor) and g.dtype == np.float32 else 1)]),
    "one output alone": (wave, [lambda g, y, x: wave_rule(g, y, x) * (1 if np.any(value(g[1]) != 0) else 1.01)]),
    "equal numbers in both inputs": (scaled, [by_a, lambda g, y, a, b: g * y * (np.where(value(a) == value(b), 1.01, 1).astype(y.dtype) if a.shape == b.shape else 1)]),
    "the memory's order": (flat, [lambda g, y, x: 2 * x * (np.reshape(g, x.shape) if isinstance(x, Tensor) or not x.flags.f_contiguous else np.reshape(g, x.shape, order="F"))]),
    "a contiguous cotangent": (bell, [lambda g, y, x: bell_rule(g, y, x) if isinstance(g, Tensor) or g.flags.c_contiguous or g.flags.f_contiguous else 2 * bell_rule(g, y, x)]),
}  # fmt: skip


# --- kernels ------------------------------------------------------------------------------------------


def forward(x, *, axis=-1):
    y = softmax(x, axis)
    return y, y


def backward(g, y, x, *, needs, axis=-1):
    return (y * (g - np.sum(g * y, axis=axis, keepdims=True)),)


def overflowing(x, *, axis=-1):
    e = np.exp(x)
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, y


def twin(x, *, axis=-1):
    e = np.exp(x - stop_gradient(np.max(x, axis=axis, keepdims=True)))
    return e / np.sum(e, axis=axis, keepdims=True)


def wrong_attention(where):
    """Blocked attention whose gradient of k is wrong by a factor for some calls."""

    def backward(dy, saved, q, k, v, bias, *, needs, mask, scale, size):
        dq, dk, dv, dbias = attention.backward(dy, saved, q, k, v, bias, needs=needs, mask=mask, scale=scale, size=size)
        return dq, dk * (1.001 if where(q, k, bias, mask, needs) else 1), dv, dbias

    return attention.forward, backward, attention.dense, attention.blocked_attention.cases


ONE = [((3, 4),)]
KERNELS = {
    "no shift: it overflows": (overflowing, backward, twin, ONE),
    "a value off by 1e-6": (lambda x, *, axis=-1: (forward(x, axis=axis)[0] * (1 + 1e-6), forward(x, axis=axis)[1]), backward, twin, ONE),
    "always the last axis": (forward, lambda g, y, x, *, needs, axis=-1: backward(g, y, x, needs=needs), twin, ONE),
    "one column": (forward, lambda g, y, x, *, needs, axis=-1: (backward(g, y, x, needs=needs, axis=axis)[0] + g * (y == 1),), twin, ONE),
    "an odd last axis": (forward, lambda g, y, x, *, needs, axis=-1: (backward(g, y, x, needs=needs, axis=axis)[0] * (1 - 1e-6 * (x.shape[-1:] in ((3,), (5,)))),), twin, ONE),
    "float64 inside": (lambda x, *, axis=-1: (forward(x, axis=axis)[0].astype(x.dtype), forward(x.astype(np.float64), axis=axis)[1]), backward, twin, ONE),
    "a value where numbers are equal": (lambda x, *, axis=-1: (forward(x, axis=axis)[0] * (1 + 1e-6 * (np.unique(x).size < x.size)), forward(x, axis=axis)[1]), backward, twin, ONE),
    "it writes over what it saved": (forward, lambda g, y, x, *, needs, axis=-1: (np.multiply(y, g - np.sum(g * y, axis=axis, keepdims=True), out=y),), twin, ONE),
    "a twin that cannot be differentiated": (forward, backward, lambda x, *, axis=-1: twin(stop_gradient(x), axis=axis) + 0 * x, ONE),
    "a twin of another function": (forward, backward, lambda x, *, axis=-1: twin(x * (1 + 1e-9), axis=axis), ONE),
    "only with a window": wrong_attention(lambda q, k, bias, mask, needs: mask.window is not None),
    "only with documents": wrong_attention(lambda q, k, bias, mask, needs: mask.documents is not None),
    "only with a bias": wrong_attention(lambda q, k, bias, mask, needs: bias is not None),
    "only for grouped heads": wrong_attention(lambda q, k, bias, mask, needs: q.shape[1] > 1),
    "only for one head": wrong_attention(lambda q, k, bias, mask, needs: q.shape[0] == 1),
    "only for more queries than keys": wrong_attention(lambda q, k, bias, mask, needs: q.shape[2] > k.shape[2]),
    "only where no gradient of q is wanted": wrong_attention(lambda q, k, bias, mask, needs: not needs[0]),
}  # fmt: skip


def kernel(name, forward, backward, reference, cases):
    return Fused(name, forward, backward, reference, cases, None)


def test_right_kernels_pass():
    every_check(kernel("softmax", forward, backward, twin, ONE))


@pytest.mark.parametrize("name", KERNELS)
def test_planted_kernels_are_found(name):
    with np.errstate(all="ignore"):
        try:
            every_check(kernel("planted", *KERNELS[name]))
        except Exception:
            return
    pytest.fail(f"{name}: no check notices")


# --- all of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", RIGHT, ids=lambda f: f.__name__)
def test_right_rules_pass(function):
    rules, cases, domain = RIGHT[function]
    every_check(Op(function, rules, cases=cases, domain=domain))


@pytest.mark.parametrize("name", WRONG)
def test_planted_rules_are_found(name):
    function, rules, *options = WRONG[name]
    _, cases, domain = RIGHT[function]
    op = Op(function, rules, cases=cases, domain=domain, **(options[0] if options else {}))
    with np.errstate(all="ignore"):
        try:
            every_check(op)
        except Exception:
            return
    pytest.fail(f"{name}: no check notices")
