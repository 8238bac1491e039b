"""Every registered op, composition and kernel, with each of its cases, through every property a gradient has.

The checks are plain functions of a `Sample`, so that the tests of the checker can hand them
ops that are wrong. Cotangents are random: with ones, the true gradients of softmax and of
every norm are zero, and a rule that returns zeros would pass.
"""

import math

import numpy as np
import pytest

from tests.ops.samples import Sample, all_cases, floats, sample
from tinygrad_notes import core
from tinygrad_notes.check import EPS, derivative, differences
from tinygrad_notes.core import FREED, walk
from tinygrad_notes.registry import Op
from tinygrad_notes.tensor import Tensor

EPS32 = float(np.finfo(np.float32).eps)


# --- a call and its gradients ----------------------------------------------------------------


class Recorder:
    """An observer that keeps what the rules return, before the engine sums and casts it."""

    def __init__(self):
        self.raw = []

    def forward(self, node, inputs, y):
        pass

    def backward(self, node, i, g):
        self.raw.append((node, i, g))

    def __enter__(self):
        core.observer = self
        return self

    def __exit__(self, *exc):
        core.observer = None


def tensors(s: Sample, inputs):
    """The varied inputs as Tensors, and all inputs with those among them."""
    mixed = [Tensor(x) if i in s.varied else x for i, x in enumerate(inputs)]
    return [mixed[i] for i in s.varied], mixed


def cotangents(s: Sample, outputs):
    rng = s.rng()
    return [rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in outputs]


def pull(variables, outputs, gs, higher=False, retain=False):
    """The gradients of sum(<g, y>): arrays, or Tensors when `higher`; zeros where nothing depends."""
    seeds = {}
    for y, g in zip(outputs, gs):
        if isinstance(y, Tensor):
            seeds[y.node] = g + seeds[y.node] if y.node in seeds else g
    found = walk(seeds, [v.node for v in variables], higher, retain)
    zeros = (lambda v: Tensor(np.zeros_like(v.value))) if higher else (lambda v: np.zeros_like(v.value))
    return [found[v.node] if v.node in found else zeros(v) for v in variables]


def vjp(s: Sample, inputs, gs=None):
    """The outputs and the gradients at `inputs`, for random cotangents unless given."""
    variables, mixed = tensors(s, inputs)
    outputs = floats(s.call(mixed))
    gs = cotangents(s, outputs) if gs is None else gs
    return outputs, gs, pull(variables, outputs, [np.asarray(g, y.dtype) for g, y in zip(gs, outputs)])


def array_of(y):
    return y.value if isinstance(y, Tensor) else np.asarray(y)


def largest(*arrays) -> float:
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def assert_close(what, got, expected, tolerance):
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    error = largest(np.asarray(got, np.float64) - expected)
    assert error <= tolerance, f"{what}: off by {error:.3g}, tolerance {tolerance:.3g}"


# --- (a) the value ---------------------------------------------------------------------------


def check_value(s: Sample):
    """With Tensors the function gives what it gives with arrays: kind, values, dtypes."""
    with np.errstate(all="ignore"):
        _, mixed = tensors(s, s.inputs)
        y, expected = s.call(mixed), s.plain(s.inputs)
    assert s.varied, f"{s.item.name}: no input of this case has a gradient; a tuple of ints is a random array"
    assert floats(expected), f"{s.item.name}: no output of this case is a float array"
    several = isinstance(expected, tuple | list)
    if several:
        assert type(y) is type(expected) and len(y) == len(expected), f"{type(y)} for {type(expected)}"
    for mine, theirs in zip(y, expected) if several else [(y, expected)]:
        assert isinstance(theirs, np.ndarray | np.generic) and isinstance(mine, Tensor | np.ndarray | np.generic)
        value = array_of(mine)
        assert value.dtype == theirs.dtype, f"dtype {value.dtype}, NumPy gives {theirs.dtype}"
        if isinstance(s.item, Op) or value.dtype.kind != "f":
            np.testing.assert_array_equal(value, theirs, strict=True)
        else:  # a composition or a kernel gets there by another way
            assert_close("value", value, theirs, 256 * EPS * (1 + largest(theirs)))


# --- (b) the gradient ------------------------------------------------------------------------


def check_vjp(s: Sample):
    """Every element of every gradient, for random cotangents, against differences and their bound."""
    inputs = [np.array(x, np.float64) for x in s.inputs]
    outputs, gs, gradients = vjp(s, [x.copy() for x in inputs])
    weight = sum(float(np.sum(np.abs(g * array_of(y)))) for g, y in zip(gs, outputs))

    def phi():
        return sum(float(np.sum(g * y)) for g, y in zip(gs, floats(s.plain(inputs))))

    for i, gradient in zip(s.varied, gradients):
        slopes, bounds = differences(phi, inputs[i], s.h, weight)
        assert np.all(np.isfinite(bounds)), f"input {i}: no derivative near this point (a kink, an edge?): set domain="
        wrong = ~(np.abs(gradient - slopes) <= bounds)
        if wrong.any():
            at = tuple(map(int, np.argwhere(wrong)[0]))
            pytest.fail(f"input {i}{list(at)}: the rule gives {gradient[at]:.12g}, differences give {slopes[at]:.12g} +- {bounds[at]:.2g} ({wrong.sum()} of {wrong.size} elements wrong)")


# --- (c) structure ---------------------------------------------------------------------------


def lock(x):
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    elif isinstance(x, tuple | list):
        for member in x:
            lock(member)


def arrays_in(x):
    if isinstance(x, np.ndarray):
        return [x]
    return [a for member in x for a in arrays_in(member)] if isinstance(x, tuple | list) else []


def nodes_above(outputs):
    stack, seen = [y.node for y in outputs if isinstance(y, Tensor)], set()
    while stack:
        node = stack.pop()
        if node not in seen and node.parents is not FREED:
            seen.add(node)
            stack += [p for p in node.parents if p is not None]
    return seen


def check_structure(s: Sample):
    """Shapes, dtypes, finite; what the rules read stays as it is; every gradient owns its memory."""
    inputs = [x.copy() for x in s.inputs]
    lock(inputs)
    variables, mixed = tensors(s, inputs)
    outputs = floats(s.call(mixed))
    gs = [np.asarray(g, y.dtype) for g, y in zip(cotangents(s, outputs), outputs)]
    lock(gs)
    kept = {node: arrays_in((node.saved, node.y)) for node in nodes_above(outputs)}
    kept = {node: arrays for node, arrays in kept.items() if arrays}
    copies = {node: [a.copy() for a in arrays] for node, arrays in kept.items()}
    lock(list(kept.values()))
    values, g_copies = [array_of(y).copy() for y in outputs], [g.copy() for g in gs]
    with Recorder() as recorder:
        gradients = pull(variables, outputs, gs, retain=True)
        again = pull(variables, outputs, gs)
    for x, original in zip(inputs, s.inputs):
        np.testing.assert_array_equal(x, original, err_msg="an input was changed")
    for g, original in zip(gs, g_copies):
        np.testing.assert_array_equal(g, original, err_msg="the cotangent was changed")
    for y, original in zip(outputs, values):
        np.testing.assert_array_equal(array_of(y), original, err_msg="the output was changed")
    for node in kept:
        for a, original in zip(kept[node], copies[node]):
            np.testing.assert_array_equal(a, original, err_msg="a saved array was changed")
    for node, i, raw in recorder.raw:
        parent = node.parents[i] if node.parents is not FREED else None
        widths = {d for d in (parent and parent.dtype, *np.atleast_1d(node.dtype)) if d is not None}
        assert parent is None or raw.dtype in widths, f"{node.op.name}: the rule of input {i} gives {raw.dtype}, expected {widths}"
        for a in arrays_in((kept.get(node, []), inputs, [array_of(y) for y in outputs])):
            shared = isinstance(raw, np.ndarray) and np.may_share_memory(raw, a) and np.shares_memory(raw, a)
            assert not shared, f"{node.op.name}: the rule of input {i} returns an input, the output, or a view of it"
    for i, gradient, second in zip(s.varied, gradients, again):
        assert type(gradient) is np.ndarray and gradient.shape == inputs[i].shape, f"gradient {i} has shape {gradient.shape}"
        assert gradient.dtype == inputs[i].dtype, f"gradient {i} is {gradient.dtype}"
        assert np.all(np.isfinite(gradient)), f"gradient {i} is not finite"
        np.testing.assert_array_equal(gradient, second, err_msg="a second walk gives another gradient")
    owned = [*gradients, *again]
    others = [*inputs, *gs, *(array_of(y) for y in outputs)]
    for i, a in enumerate(owned):
        for b in owned[i + 1 :] + others:
            assert not (np.may_share_memory(a, b) and np.shares_memory(a, b)), "a gradient shares memory with another array"


def check_zero(s: Sample):
    """No cotangent, no gradient."""
    outputs, _, _ = vjp(s, s.inputs)
    for gradient in vjp(s, s.inputs, [np.zeros(y.shape) for y in outputs])[2]:
        assert not np.any(gradient), "a zero cotangent gives a gradient that is not zero"


def check_float32(s: Sample):
    """float32 in: float32 out, float32 from each rule, and near to the float64 results at the same point."""
    narrow = s.cast(np.float32)
    wide = narrow.cast(np.float64)
    with np.errstate(all="ignore"):
        expected = floats(narrow.plain(narrow.inputs))
    outputs, gs, exact = vjp(wide, wide.inputs)
    variables, mixed = tensors(narrow, narrow.inputs)
    mine = floats(narrow.call(mixed))
    for y, e, w in zip(mine, expected, outputs):
        assert y.dtype in (np.float32, e.dtype), f"float32 inputs give {y.dtype}, NumPy gives {e.dtype}"
        assert_close("float32 value", array_of(y), array_of(w), 500 * EPS32 * (1 + largest(array_of(w))))
    gs32 = [np.asarray(g, y.dtype) for g, y in zip(gs, mine)]
    with Recorder() as recorder:
        gradients = pull(variables, mine, gs32, retain=True)
    stays_narrow = all(y.dtype == np.float32 for y in mine)
    for node, i, raw in recorder.raw:
        widths = {np.dtype(np.float32)} if stays_narrow else {node.parents[i].dtype, *np.atleast_1d(node.dtype)}
        assert raw.dtype in widths, f"{node.op.name}: with float32 inputs the rule of input {i} gives {raw.dtype}"
    scale = largest(*gs)
    for i, g32, g64 in zip(s.varied, gradients, exact):
        assert g32.dtype == np.float32, f"gradient {i} of a float32 input is {g32.dtype}"
        assert_close(f"float32 gradient {i}", g32, g64, 500 * EPS32 * (scale + largest(g64)))


def strided(x):
    """x, as every second element of something larger."""
    buffer = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    view = buffer[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_view(x):
    backward = tuple(slice(None, None, -1) for _ in x.shape)
    return x[backward].copy()[backward]


LAYOUTS = (np.asfortranarray, strided, reversed_view)


def check_layouts(s: Sample):
    """Fortran order, strides and reversed axes change neither the value nor the gradient."""
    outputs, gs, expected = vjp(s, s.inputs)
    for layout in LAYOUTS if any(x.ndim and x.size > 1 for x in s.inputs) else ():
        inputs = [layout(x) if x.ndim else x for x in s.inputs]
        moved, _, gradients = vjp(s, inputs, gs)
        plain = floats(s.plain(inputs))
        for y, p in zip(moved, plain):
            assert_close(f"{layout.__name__}: value", array_of(y), p, 256 * EPS * (1 + largest(p)))
        weight = sum(float(np.sum(np.abs(g * p))) for g, p in zip(gs, plain))
        same = all(largest(array_of(y) - p) <= 256 * EPS * (1 + largest(p)) for y, p in zip(outputs, plain))
        if same:
            for i, a, b in zip(s.varied, gradients, expected):
                assert_close(f"{layout.__name__}: gradient {i}", a, b, 256 * EPS * (weight + largest(b) + largest(*gs)))
        else:  # order="A" and order="K" read the layout: compare with differences, along one direction

            def phi(t):
                steps = [layout(x + t * u) if x.ndim else x + t * u for x, u in zip(s.inputs, directions)]
                return sum(float(np.sum(g * y)) for g, y in zip(gs, floats(s.plain(steps))))

            directions = [np.zeros(x.shape) for x in s.inputs]
            for i in s.varied:
                directions[i] = s.rng().uniform(-1, 1, s.inputs[i].shape)
            slope, bound = derivative(phi, s.h, weight, largest(*s.inputs))
            got = sum(float(np.sum(a * directions[i])) for i, a in zip(s.varied, gradients))
            assert abs(got - slope) <= bound, f"{layout.__name__}: gradient {got}, differences {slope}"


# --- (d) second order ------------------------------------------------------------------------


def inner(us, vs):
    """sum(<u, v>) over the members of both, as a Tensor if there is one."""
    total = 0.0
    for u, v in zip(us, vs):
        total = total + np.sum(u * v)
    return total


def directions_like(arrays, rng):
    return [rng.uniform(0.5, 1.0, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in arrays]


def grads(scalar, variables):
    """Gradients of a Tensor, or zeros of what depends on nothing."""
    return pull(variables, [scalar], [np.ones(())], retain=True) if isinstance(scalar, Tensor) else [np.zeros(v.shape) for v in variables]


def check_second_order(s: Sample):
    """The gradient (x, v) -> v^T J(x) has gradients itself: against differences, linear, symmetric, and forward = reverse."""
    rng = np.random.default_rng(s.seed + 2)
    variables, mixed = tensors(s, s.inputs)
    outputs = floats(s.call(mixed))
    gs = cotangents(s, outputs)
    vs = [Tensor(g) for g in gs]
    first = pull(variables, outputs, vs, higher=True)
    plain_first = vjp(s, s.inputs, gs)[2]
    for i, a, b in zip(s.varied, first, plain_first):
        assert isinstance(a, Tensor), f"gradient {i} is a plain array at second order: the rule does not pass Tensors on"
        assert_close(f"gradient {i} with create_graph", a.value, b, 256 * EPS * (largest(b) + largest(*gs)))
    us, ws = directions_like(plain_first, rng), directions_like(plain_first, rng)
    along_u = inner(first, us)
    by_x, by_v = grads(along_u, variables), grads(along_u, vs)

    # Against differences of the first-order gradient, as a function of x and of v.
    def phi(t):
        inputs = list(s.inputs)
        for i, w in zip(s.varied, ws):
            inputs[i] = inputs[i] + t * w
        return float(sum(np.sum(u * g) for u, g in zip(us, vjp(s, inputs, gs)[2])))

    weight = float(sum(np.sum(np.abs(u * g)) for u, g in zip(us, plain_first))) + largest(*gs)
    with np.errstate(all="ignore"):
        slope, bound = derivative(phi, s.h, weight, max(1.0, largest(*s.inputs)))
    assert math.isfinite(bound), "the gradient has no derivative near this point (a kink, an edge?): set domain="
    got = float(sum(np.sum(h * w) for h, w in zip(by_x, ws)))
    bound += 64 * EPS * float(sum(np.sum(np.abs(h * w)) for h, w in zip(by_x, ws)))
    assert abs(got - slope) <= bound, f"second order by x: {got:.12g}, differences of the gradient give {slope:.12g} +- {bound:.2g}"

    # The Hessian of <c, y> is symmetric.
    along_w = inner(first, ws)
    mirrored = float(sum(np.sum(h * u) for h, u in zip(grads(along_w, variables), us)))
    assert abs(got - mirrored) <= bound + 1e4 * EPS * (weight + abs(got)), f"the Hessian is not symmetric: {got:.12g} and {mirrored:.12g}"

    # Linear in v; and forward mode, J u as the derivative of v^T J u by v, equals reverse.
    more = directions_like(gs, rng)
    other_first = vjp(s, s.inputs, more)[2]
    combined = vjp(s, s.inputs, [2 * g - 3 * m for g, m in zip(gs, more)])[2]
    for i, a, b, c in zip(s.varied, combined, plain_first, other_first):
        assert_close(f"gradient {i} is not linear in the cotangent", a, 2 * b - 3 * c, 1e3 * EPS * (largest(b, c) + largest(*gs)))
    forward = float(sum(np.sum(j * m) for j, m in zip(by_v, more)))
    reverse = float(sum(np.sum(c * u) for c, u in zip(other_first, us)))
    scale = float(sum(np.sum(np.abs(j * m)) for j, m in zip(by_v, more))) + weight
    assert abs(forward - reverse) <= 1e3 * EPS * scale, f"forward mode gives {forward:.12g}, reverse {reverse:.12g}"


CHECKS = [check_value, check_vjp, check_structure, check_zero, check_float32, check_layouts, check_second_order]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("item", "case"), [pytest.param(item, case, id=name) for item, case, name in all_cases()])
def test_op(item, case, check):
    assert case is not None, f"{item.name} is registered without cases"
    check(sample(item, case))
