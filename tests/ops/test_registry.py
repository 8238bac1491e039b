"""Every registered op, composition and kernel, with each of its cases, through every property a gradient has.

The checks are plain functions of a `Sample`, so that the tests of the checker can hand them
ops that are wrong. Cotangents are random: with ones, the true gradients of softmax and of
every norm are zero, and a rule that returns zeros would pass.
"""

from tests.ops.samples import Sample, all_cases, fill, sample
from tinygrad_notes.check import (
    EPS,
    EPS32,
    Rules,
    Watcher,
    array_of,
    arrays_in,
    check_grads,
    derivative,
    differences,
    floats,
    inner,
    judge,
    largest,
    pull,
    random_like,
)
from tinygrad_notes.core import FREED, PICK, walk
from tinygrad_notes.registry import Op, registry
from tinygrad_notes.tensor import Tensor

import numpy as np
import pytest
from hypothesis import settings

FEW = 16  # roundings of a value that is computed in another order, relative to the largest

# --- a call and its gradients ----------------------------------------------------------------


def tensors(s: Sample, inputs):
    """The varied inputs as Tensors, and all inputs with those among them."""
    mixed = [Tensor(x) if i in s.varied else x for i, x in enumerate(inputs)]
    return [mixed[i] for i in s.varied], mixed


def cotangents(s: Sample, outputs):
    return random_like(outputs, np.random.default_rng(s.seed + 1))


def vjp(s: Sample, inputs, gs=None):
    """The outputs and the gradients at `inputs`, for random cotangents unless given."""
    variables, mixed = tensors(s, inputs)
    outputs = floats(s.call(mixed))
    gs = cotangents(s, outputs) if gs is None else gs
    return outputs, gs, pull(variables, outputs, gs)


def weigh(gs, outputs) -> float:
    """sum |g y|: how large the terms of <g, y> are."""
    return inner([np.abs(g) for g in gs], [np.abs(array_of(y)) for y in outputs])


def assert_close(what, got, expected, tolerance):
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    error = largest(np.asarray(got, np.float64) - expected)
    assert error <= tolerance, f"{what}: off by {error:.3g}, tolerance {tolerance:.3g}"


# --- (a) the value ---------------------------------------------------------------------------


def check_value(s: Sample):
    """With Tensors the function gives what it gives with arrays: structure, kinds, values, dtypes."""
    with np.errstate(all="ignore"):
        _, mixed = tensors(s, s.inputs)
        y, expected = s.call(mixed), s.plain(s.inputs)
    assert s.varied, f"{s.item.name}: no input of this case has a gradient; a tuple of ints is a random array"
    assert floats(expected), f"{s.item.name}: no output of this case is a float array"
    assert_same_value(y, expected, exact=isinstance(s.item, Op) and s.item.forward is s.item.function and made_by(s.item, y))


def made_by(op, y):
    """Whether y comes out of this op, rather than of a composition that stands in for it (np.sum with a Tensor as initial=)."""
    (first, *_) = floats(y)
    node = first.node.parents[0] if first.node.op is PICK else first.node
    return node.op is op


def assert_same_value(mine, theirs, exact):
    """Bit by bit where NumPy's function itself ran; within rounding where a forward of our own, a composition or a kernel did."""
    if isinstance(theirs, tuple | list):
        assert type(mine) is type(theirs) and len(mine) == len(theirs), f"{type(mine)} for {type(theirs)}"
        for m, t in zip(mine, theirs):
            assert_same_value(m, t, exact)
        return
    assert isinstance(theirs, np.ndarray | np.generic) and isinstance(mine, Tensor | np.ndarray | np.generic)
    value = array_of(mine)
    assert value.dtype == theirs.dtype, f"dtype {value.dtype}, NumPy gives {theirs.dtype}"
    if exact or value.dtype.kind != "f":
        np.testing.assert_array_equal(value, theirs, strict=True)
    else:
        assert_close("value", value, theirs, FEW * EPS * (1 + largest(theirs)))


# --- (b) the gradient ------------------------------------------------------------------------


def check_vjp(s: Sample):
    """Every element of every gradient, for random cotangents, against differences and their bound."""
    inputs = [np.array(x, np.float64) for x in s.inputs]
    outputs, gs, gradients = vjp(s, [x.copy() for x in inputs])

    def phi():
        return float(inner(gs, floats(s.plain(inputs))))

    for i, gradient in zip(s.varied, gradients):
        with np.errstate(all="ignore"):
            slopes, bounds = differences(phi, inputs[i], s.h, weigh(gs, outputs))
        judge(f"{s.item.label} input {i}", inputs[i].shape, gradient, slopes, bounds)


# --- (c) structure ---------------------------------------------------------------------------


def lock(x):
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    elif isinstance(x, tuple | list):
        for member in x:
            lock(member)


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
    gs = cotangents(s, outputs)
    lock(gs)
    kept = {node: arrays_in((node.saved, node.y)) for node in nodes_above(outputs)}
    kept = {node: arrays for node, arrays in kept.items() if arrays}
    copies = {node: [a.copy() for a in arrays] for node, arrays in kept.items()}
    lock(list(kept.values()))
    values, g_copies = [array_of(y).copy() for y in outputs], [g.copy() for g in gs]
    with Rules():  # what each rule returns, before the engine sums and casts it
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
    with Rules(np.dtype(np.float32) if all(y.dtype == np.float32 for y in mine) else None):
        on_tensors = pull(variables, mine, [Tensor(g.astype(y.dtype)) for g, y in zip(gs, mine)], higher=True, retain=True)
        gradients = pull(variables, mine, gs)
    scale = largest(*gs)
    for i, g32, of_tensors, g64 in zip(s.varied, gradients, on_tensors, exact):
        assert g32.dtype == of_tensors.dtype == np.float32, (
            f"gradient {i} of a float32 input is {g32.dtype}, with create_graph {of_tensors.dtype}"
        )
        assert_close(f"float32 gradient {i} with create_graph", of_tensors.value, g64, 500 * EPS32 * (scale + largest(g64)))
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
        weight = weigh(gs, plain)
        same = all(largest(array_of(y) - p) <= 256 * EPS * (1 + largest(p)) for y, p in zip(outputs, plain))
        if same:
            for i, a, b in zip(s.varied, gradients, expected):
                assert_close(f"{layout.__name__}: gradient {i}", a, b, 256 * EPS * (weight + largest(b) + largest(*gs)))
        else:
            check_moved(s, layout, gs, gradients, weight)


def check_moved(s: Sample, layout, gs, gradients, weight):
    """Where the value depends on the layout (order="A", order="K"): the gradient along one direction, by differences."""
    rng = np.random.default_rng(s.seed + 3)
    directions = [u if i in s.varied else 0 * u for i, u in enumerate(random_like(s.inputs, rng))]

    def phi(t):
        steps = [layout(x + t * u) if x.ndim else x + t * u for x, u in zip(s.inputs, directions)]
        return float(inner(gs, floats(s.plain(steps))))

    slope, bound = derivative(phi, s.h / 2, weight, largest(*s.inputs))
    got = float(inner(gradients, [directions[i] for i in s.varied]))
    assert abs(got - slope) <= bound, f"{layout.__name__}: the gradient is {got}, differences give {slope} +- {bound:.2g}"


# --- (d) second order ------------------------------------------------------------------------


def by(scalar, variables):
    """The gradients of one number."""
    return pull(variables, [scalar], [1.0], retain=True)


def bent(y, slope):
    """A nonlinear function of an output, and its derivative."""
    return y + slope * y * y / 2, 1 + slope * y


def check_second_order(s: Sample):
    """The gradient of L = <v, bent(y(x))> has gradients itself: against differences, symmetric, linear in v, forward = reverse.

    L is not linear in y: the cotangent that reaches each output depends on x, through that output, as in every real loss.
    """
    rng = np.random.default_rng(s.seed + 2)
    variables, mixed = tensors(s, s.inputs)
    outputs = floats(s.call(mixed))
    vs = [Tensor(g) for g in cotangents(s, outputs)]
    slopes = [u / (1 + largest(array_of(y))) for u, y in zip(random_like(outputs, rng), outputs)]
    loss = inner(vs, [bent(y, c)[0] for y, c in zip(outputs, slopes)])
    found = walk({loss.node: np.ones(())}, [x.node for x in variables], higher=True)
    assert all(isinstance(g, Tensor) for g in found.values()), "a gradient of Tensors is a plain array: the rule does not pass Tensors on"
    first = [found[x.node] if x.node in found else np.zeros(x.shape) for x in variables]

    def first_order(inputs, weights):
        """The gradients of <weights, bent(y)> at other inputs, by a walk of first order."""
        variables, mixed = tensors(s, inputs)
        ys = floats(s.call(mixed))
        return pull(variables, ys, [w * bent(array_of(y), c)[1] for w, y, c in zip(weights, ys, slopes)])

    gs = [v.value for v in vs]
    plain_first = first_order(s.inputs, gs)
    scale = weigh(gs, outputs) + largest(*gs)
    for i, a, b in zip(s.varied, first, plain_first):
        assert_close(f"gradient {i} with create_graph", array_of(a), b, 512 * EPS * (largest(b) + scale))

    # By x, against differences of the first-order gradient.
    us, ws = random_like(plain_first, rng), random_like(plain_first, rng)
    along_u, along_w = inner(first, us), inner(first, ws)
    by_u = by(along_u, variables)

    def phi(t):
        inputs = list(s.inputs)
        for i, w in zip(s.varied, ws):
            inputs[i] = inputs[i] + t * w
        return float(inner(us, first_order(inputs, gs)))

    weight = weigh(us, plain_first) + largest(*gs)
    with np.errstate(all="ignore"):
        slope, bound = derivative(phi, s.h / 2, weight, max(1.0, largest(*s.inputs)))  # the directions reach 1.5
    got = float(inner(by_u, ws))
    bound += 64 * EPS * weigh(by_u, ws)
    judge(f"{s.item.label} second order, a random direction", (), got, np.asarray(slope), np.asarray(bound))

    # The Hessian of L is symmetric.
    mirrored = float(inner(by(along_w, variables), us))
    assert abs(got - mirrored) <= bound + 1e4 * EPS * (weight + abs(got)), f"the Hessian is not symmetric: {got:.12g} and {mirrored:.12g}"

    # Linear in v; and forward mode, J u as the derivative of v^T J u by v, equals reverse.
    more = random_like(gs, rng)
    other_first = first_order(s.inputs, more)
    combined = first_order(s.inputs, [2 * g - 3 * m for g, m in zip(gs, more)])
    scale += weigh(more, outputs) + largest(*more)
    for i, a, b, c in zip(s.varied, combined, plain_first, other_first):
        assert_close(f"gradient {i} of 2 g - 3 m, by linearity", a, 2 * b - 3 * c, 2e3 * EPS * (largest(b, c) + scale))
    tangent = by(along_u, vs)
    forward, reverse = float(inner(tangent, more)), float(inner(other_first, us))
    assert abs(forward - reverse) <= 1e3 * EPS * (weigh(tangent, more) + weight + scale), (
        f"forward mode gives {forward:.12g}, reverse {reverse:.12g}"
    )


DRAWS = max(1, settings().max_examples // 100)  # one; ten in the nightly profile (tests/conftest.py)
CHECKS = [check_value, check_vjp, check_structure, check_zero, check_float32, check_layouts, check_second_order]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("item", "case"), [pytest.param(item, case, id=name) for item, case, name in all_cases()])
def test_op(item, case, check):
    assert case is not None, f"{item.name} is registered without cases"
    for again in range(DRAWS):
        check(sample(item, case, again))


class Exercised(Watcher):
    """Which rules of one op gave a gradient."""

    def __init__(self, op):
        self.op, self.inputs = op, set()

    def pulled(self, node, i, g):
        if node.op is self.op:
            self.inputs.add(i)


def with_mean(function):
    return lambda x, mean: function(x, axis=0, mean=mean)


# Inputs that NumPy takes by keyword only, so that a case has no place for them.
BY_KEYWORD = {f: (with_mean(f), (3, 4), (1, 4)) for f in (np.var, np.std, np.nanvar, np.nanstd)}


@pytest.mark.parametrize("item", [x for x in registry if isinstance(x, Op) and not x.joint and not x.into], ids=lambda item: item.label)
def test_every_rule_has_a_case(item):
    with Exercised(item) as seen, np.errstate(all="ignore"):
        for case in item.cases:
            s = sample(item, case)
            vjp(s, s.inputs)
        if item.function in BY_KEYWORD:
            f, *shapes = BY_KEYWORD[item.function]
            rng = np.random.default_rng(0)
            check_grads(f, *(rng.uniform(-2, 2, shape) for shape in shapes))
    missing = {i for i, rule in enumerate(item.rules) if rule is not None} - seen.inputs
    assert not missing, f"{item.label}: no case gives a Tensor to input {sorted(missing)}, so its rule is never tried: add one"


def test_a_tensor_in_any_place_of_a_call_ends():
    """Where NumPy wants an index, an axis or a mask, a Tensor gives a value or an error, never an endless loop between NumPy and us."""
    for item, case, name in all_cases():
        s = sample(item, case)
        args = fill(s.template, s.inputs)
        places = [*enumerate(args), *s.kwargs.items()]
        for place, value in places:
            try:
                t = Tensor(np.asarray(value, float))
            except (TypeError, ValueError):  # a word, a slice, a function, a ragged list
                continue
            positional = [t if i == place else a for i, a in enumerate(args)]
            try:
                s.calls(*positional, **{k: t if k == place else v for k, v in s.kwargs.items()})
            except RecursionError:
                pytest.fail(f"{name}: a Tensor as argument {place!r} never ends")
            except Exception:  # an index that is no whole number, or what no rule knows: it says so
                continue
