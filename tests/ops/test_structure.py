"""Elementwise functions and reductions where structure is drawn: shapes that broadcast, layouts, widths, kinds of values.

The cases of test_registry.py are few and tame; here Hypothesis chooses what they do not: dimensions of zero, four axes, memory
that is strided, reversed, repeated or read-only, ties, signed zeros, numbers whose squares almost overflow, edges of domains.
What must hold everywhere is checked: the value is NumPy's, nothing is written to, a gradient has its input's shape and width
and owns its memory, it is finite or a wider float shows why it cannot be, and it agrees with the gradient in that wider float.
"""

import warnings

from tests.ops.samples import LOW_HIGH, plain_function, spread
from tinygrad_notes.binding import spelling
from tinygrad_notes.check import array_of, floats, largest, pull
from tinygrad_notes.registry import Op, registry
from tinygrad_notes.tensor import Tensor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

WIDE = np.longdouble  # where it is no wider than float64, the comparisons with it hold trivially
TAME = ("normal", "ties", "integers")
KINDS = (*TAME, "zeros", "large", "edge")
LAYOUTS = ("C", "F", "strided", "reversed", "repeated")


def values(kind, shape, dtype, domain, rng):
    """An array of a kind of values; "normal" and "ties" lie in the domain, the others anywhere."""
    low, high = domain or LOW_HIGH
    info = np.finfo(dtype)
    if kind == "normal":
        x = spread(rng, low, high, [int(np.prod(shape))])[0][0].reshape(shape)
    elif kind == "ties":
        x = rng.choice([0.75 * low + 0.25 * high, 0.4 * low + 0.6 * high], shape)
    elif kind == "integers":
        x = rng.integers(-4, 5, shape)
    elif kind == "zeros":
        x = rng.choice([0.0, -0.0, 1.0], shape)
    elif kind == "large":
        x = rng.choice([-1.0, 1.0], shape) * 10.0 ** (rng.choice([-1, 1], shape) * (150 if dtype == np.float64 else 18))
    else:
        edges = [-1.0, -1.0 + info.epsneg, 0.0, info.tiny, 1.0 - info.epsneg, 1.0, 1.0 + info.eps, low, high]
        x = rng.choice(np.array(edges, dtype), shape)
    return np.asarray(x, dtype)


def laid_out(x, layout):
    """The values of x in another layout of memory; "repeated" repeats the first row along an axis of stride 0. Read-only."""
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "strided" and x.ndim:
        buffer = np.full([2 * n for n in x.shape], np.nan, x.dtype)
        buffer[tuple(slice(1, None, 2) for _ in x.shape)] = x
        x = buffer[tuple(slice(1, None, 2) for _ in x.shape)]
    elif layout == "reversed" and x.ndim:
        backward = tuple(slice(None, None, -1) for _ in x.shape)
        x = x[backward].copy()[backward]
    elif layout == "repeated" and x.ndim:
        x = np.broadcast_to(x[:1].copy(), x.shape)
    x.flags.writeable = False
    return x


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def gradients_at(f, inputs, varied, gs=None, seed=0):
    """The float outputs of f, random cotangents for them unless given, and the gradients by the varied inputs."""
    mixed = [Tensor(x) if i in varied else x for i, x in enumerate(inputs)]
    outputs = floats(f(*mixed))
    if gs is None:  # whole numbers: sums of ties and of broadcast axes are exact
        rng = np.random.default_rng(seed)
        gs = [np.asarray(rng.choice([-3, -2, -1, 1, 2, 3], y.shape), y.dtype) for y in outputs]
        for g in gs:
            g.flags.writeable = False
    return outputs, gs, pull([mixed[i] for i in varied], outputs, gs)


def check_drawn(item, f, inputs, varied, kinds, seed):
    """What holds for any input of f, a call of `item`; returns the cotangents and the gradients, or None where NumPy refuses the call."""
    exactly = isinstance(item, Op) and item.forward is item.function  # else a body or forward of our own
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty mean, an all-nan slice
        before = [x.copy(order="K") for x in inputs]
        try:
            expected = floats(f(*inputs))
        except ZeroDivisionError:  # np.average of nothing stumbles over its own bookkeeping
            return None
        except (ValueError, IndexError) as error:
            with pytest.raises(type(error)):
                f(*(Tensor(x) if i in varied else x for i, x in enumerate(inputs)))
            return None
        outputs, gs, gradients = gradients_at(f, inputs, varied, seed=seed)
        g_before = [g.copy() for g in gs]
        exact = gradients_at(f, [x.astype(WIDE) if x.dtype.kind == "f" else x for x in inputs], varied, gs)[2]
        zero = gradients_at(f, inputs, varied, [0 * g for g in gs])[2]

        assert len(outputs) == len(expected)
        for y, e in zip(outputs, expected):
            np.testing.assert_allclose(array_of(y), e, rtol=0 if exactly else 16 * np.finfo(e.dtype).eps)
            assert y.dtype == e.dtype, f"the value is {y.dtype}, NumPy's {e.dtype}"
        for x, original in [*zip(inputs, before), *zip(gs, g_before)]:
            assert same_bits(x, original), "an input or a cotangent was changed"
        finite = all(np.all(np.isfinite(array_of(y))) for y in outputs)
        scale = largest(*gs)
        for i, g, wide, nothing in zip(varied, gradients, exact, zero):
            x = inputs[i]
            assert type(g) is np.ndarray and g.shape == x.shape and g.dtype == x.dtype, f"gradient {i}: {g.shape} {g.dtype}"
            assert g.flags.writeable and not any(np.shares_memory(g, a) for a in [*inputs, *gs]), f"gradient {i} shares memory"
            good = np.isfinite(g)
            if not finite:
                continue
            if all(y.size <= x.size for y in outputs):  # else inf - inf may have been summed over broadcast axes
                assert not np.any(np.isnan(g)), f"gradient {i} is nan where the value is finite: {g}"
                assert not np.any(~good & (np.abs(wide) < np.finfo(x.dtype).max)), f"gradient {i} is {g}, but a wider float gives {wide}"
            assert not np.any(nothing[good]), f"gradient {i} of a zero cotangent is not zero"
            constant = item.name.endswith("std") and np.any(array_of(outputs[0]) < 1e-3 * largest(x))
            if set(kinds) <= set(TAME) and not constant:  # of equal numbers the deviation is rounding, and its slope anything
                error, room = largest((g - wide)[good]), 500 * np.finfo(x.dtype).eps * (scale + largest(wide[good]))
                assert error <= room, f"gradient {i} is off by {error:.3g}, tolerance {room:.3g}"
    return gs, gradients


EXAMPLES = settings(max_examples=max(1, settings().max_examples // 10))
SIDES = st.sampled_from([0, 1, 1, 2])  # the smallest side of a shape: left to itself, Hypothesis draws mostly arrays without elements

# --- elementwise functions ---------------------------------------------------------------------

ELEMENTWISE = [x for x in registry if isinstance(getattr(x, "function", None), np.ufunc) and x.function.signature is None]
ELEMENTWISE = [x for x in ELEMENTWISE if isinstance(x, Op) and getattr(np, x.function.__name__, None) is x.function]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.label)
@EXAMPLES
@given(data=st.data())
def test_elementwise(op, data):
    arity = op.arity
    domains = list(op.domain) if isinstance(op.domain, list) else [op.domain] * arity
    shapes = data.draw(
        mutually_broadcastable_shapes(num_shapes=arity, max_dims=4, min_side=min(1, data.draw(SIDES)), max_side=3)
    ).input_shapes
    dtype = data.draw(st.sampled_from([np.float64, np.float32]))
    layouts = [data.draw(st.sampled_from(LAYOUTS)) for _ in range(arity)]
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        kinds = [kind, *(rng.choice([kind, *KINDS]) for _ in range(arity - 1))]
        inputs = [laid_out(values(k, s, dtype, d, rng), layout) for k, s, d, layout in zip(kinds, shapes, domains, layouts)]
        if op.function is np.ldexp:
            inputs[1] = np.clip(inputs[1], -4, 4).astype(int)
        varied = [i for i in range(arity) if op.joint or op.rules[i] is not None]
        if op.function in (np.power, np.float_power) and np.any(inputs[0] < 0):
            varied = [0]  # a power of a negative number has no derivative by its exponent: nan
        check_drawn(op, op.function, inputs, varied, kinds, seed)


@pytest.mark.parametrize("function", [np.maximum, np.minimum, np.fmax, np.fmin], ids=lambda f: f.__name__)
@EXAMPLES
@given(data=st.data())
def test_shares_of_a_tie_sum_to_the_cotangent(function, data):
    shape = data.draw(st.lists(st.integers(0, 3), max_size=4).map(tuple))
    kinds = [data.draw(st.sampled_from(("ties", "zeros", "integers"))) for _ in range(2)]
    seed = data.draw(st.integers(0, 2**32 - 1))
    a, b = (values(kind, shape, np.float64, None, np.random.default_rng([seed, i])) for i, kind in enumerate(kinds))
    _, (g,), (ga, gb) = gradients_at(function, [a, b], [0, 1], seed=seed)
    np.testing.assert_array_equal(ga + gb, g)
    np.testing.assert_array_equal(ga[a == b], g[a == b] / 2)
    chosen = function(a, b)
    assert not np.any(ga[a != chosen]) and not np.any(gb[b != chosen])


# --- reductions --------------------------------------------------------------------------------


def takes_axis(item):
    function = getattr(item, "function", None)
    return callable(function) and not isinstance(function, np.ufunc) and {"axis", "keepdims"} <= set(spelling(function)[0])


REDUCTIONS = [x for x in registry if takes_axis(x) and x.label.startswith("np.")]
MORE = {"quantile": (0.3,), "nanquantile": (0.75,), "percentile": (30.0,), "nanpercentile": (50.0,)}
# f(x + c) = f(x) + k c, so that the gradients of f by the elements of x sum to k.
SHIFTS = dict.fromkeys("mean max amax min amin median quantile percentile average".split(), 1.0) | dict.fromkeys("var std ptp".split(), 0.0)
EXTREMES = {np.max, np.amax, np.min, np.amin, np.nanmax, np.nanmin}


@pytest.mark.parametrize("item", REDUCTIONS, ids=lambda item: item.label)
@EXAMPLES
@given(data=st.data())
def test_reduction(item, data):
    function, name = plain_function(item), item.function.__name__
    shape = data.draw(st.lists(st.integers(data.draw(SIDES), 3), max_size=4).map(tuple))
    n = len(shape)
    axis = data.draw(st.sampled_from([None, *range(-n, n), *((i, j) for i in range(n) for j in range(-n, i - n)), tuple(range(n)) or None]))
    keepdims = data.draw(st.booleans())
    dtype = data.draw(st.sampled_from([np.float64, np.float32]))
    layout = data.draw(st.sampled_from(LAYOUTS))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    domain = item.domain if isinstance(item.domain, tuple) else None

    def f(x):
        return function(x, *MORE.get(name, ()), axis=axis, keepdims=keepdims)

    for kind in TAME if name.endswith("prod") else KINDS:  # a product of others may overflow on the way
        x = laid_out(values(kind, shape, dtype, domain, rng), layout)
        found = check_drawn(item, f, [x], [0], [kind], seed)
        if found is not None and x.size and kind in TAME:
            check_sums(item, x, axis, *found)


def check_sums(item, x, axis, gs, gradients):
    """What the gradients of one row of elements sum to, and that they lie on the extremes alone."""
    name, (g,), (gradient,) = item.function.__name__, gs, gradients
    every = tuple(range(x.ndim)) if axis is None else axis
    g = g.reshape(np.sum(x, axis=every, keepdims=True).shape)
    if name in SHIFTS and np.all(np.isfinite(gradient)):
        room = 64 * np.finfo(x.dtype).eps * (largest(g) + x.size * largest(gradient))
        sums = np.sum(gradient, axis=every, keepdims=True)
        if name == "std":  # of equal numbers it is rounding, see above
            sums = np.where(np.std(x, axis=every, keepdims=True) < 1e-3 * largest(x), 0, sums)
        assert largest(sums - SHIFTS[name] * g) <= room
    if item.function in EXTREMES:
        chosen = x == item.function(x, axis=every, keepdims=True)
        np.testing.assert_allclose(gradient, chosen * g / np.sum(chosen, axis=every, keepdims=True), rtol=4 * np.finfo(x.dtype).eps)
