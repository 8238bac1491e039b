"""The checker is checked: wrong rules fail, each in the way it should; right ones never do."""

import linecache
import re
import sys

from tests.ops.samples import sample
from tests.ops.test_registry import CHECKS, check_float32, check_second_order, check_structure, check_vjp, check_zero
from tinygrad_notes import Tensor, check, core, gradients
from tinygrad_notes.check import GradientError, ShapeError, check_grads, derivative, mismatch, parse, read_comment
from tinygrad_notes.check.gradients import check_forward_mode
from tinygrad_notes.registry import Op

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

GENERATOR = np.random.default_rng(0)
PAIR, ONE = [((3, 3), (3, 3))], [((3, 4),)]


# --- rules, right and wrong --------------------------------------------------------------


def multiply(a, b):
    return a * b


def matmul(a, b):
    return a @ b


def double(x):
    return 2 * x


def sine(x):
    return np.sin(x)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def total(x):
    return x.sum(axis=0)


def split(x):
    return x[..., :1] * 2, x[..., 1:] * 3


def value(x):
    return x.value if isinstance(x, Tensor) else x


def in_place(g):
    """2 g, written over g where g is an array."""
    if isinstance(g, np.ndarray):
        g *= 2
        return g
    return 2 * g


def spoil(x):
    if isinstance(x, np.ndarray):
        x += 1
    return x


def swap(a):
    return np.swapaxes(a, -1, -2)


def softmax_rule(g, y, x):
    return y * (g - np.sum(g * y, axis=-1, keepdims=True))


RIGHT = {
    "multiply": (multiply, [lambda g, y, a, b: g * b, lambda g, y, a, b: g * a], [*PAIR, ((3, 4), (4,)), ((), (2, 3)), ((0, 3), (3,))]),
    "multiply, jointly": (multiply, [lambda g, y, a, b: (g * b, g * a)], [*PAIR, ((2, 1), (3,))]),
    "matmul": (matmul, [lambda g, y, a, b: g @ swap(b), lambda g, y, a, b: swap(a) @ g], [*PAIR, ((2, 3), (3, 4))]),
    "double": (double, [lambda g, y, x: 2 * g], [*ONE, ((),)]),
    "sine": (sine, [lambda g, y, x: g * np.cos(x)], ONE),
    "softmax": (softmax, [softmax_rule], ONE),
    "total": (total, [lambda g, y, x: np.broadcast_to(g, x.shape)], ONE),
    "split": (split, [lambda g, y, x: np.concatenate([2 * g[0], 3 * g[1]], axis=-1)], ONE),
}

g_times_b, g_times_a = RIGHT["multiply"][1]
# What is wrong: the function, its rules, the case, and the check that must notice it by itself.
WRONG = {
    "sign": (multiply, [lambda g, y, a, b: -g * b, g_times_a], PAIR, check_vjp),
    "factor 2": (multiply, [g_times_b, lambda g, y, a, b: 2 * g * a], PAIR, check_vjp),
    "1 + 1e-4": (multiply, [g_times_b, lambda g, y, a, b: (1 + 1e-4) * g * a], PAIR, check_vjp),
    "swapped parents": (multiply, [g_times_a, g_times_b], PAIR, check_vjp),
    "swapped parents, jointly": (multiply, [lambda g, y, a, b: (g * a, g * b)], PAIR, check_vjp),
    "dropped factor": (multiply, [lambda g, y, a, b: g, g_times_a], PAIR, check_vjp),
    "dropped transpose": (matmul, [lambda g, y, a, b: g @ b, lambda g, y, a, b: swap(a) @ g], PAIR, check_vjp),
    "zero": (softmax, [lambda g, y, x: 0 * g], ONE, check_vjp),
    "none": (multiply, [lambda g, y, a, b: (g * b, None)], PAIR, check_vjp),
    "dropped correction": (softmax, [lambda g, y, x: g * y], ONE, check_vjp),
    "absolute cotangent": (double, [lambda g, y, x: 2 * np.abs(g)], ONE, check_vjp),
    "averaged cotangent": (double, [lambda g, y, x: 2 * np.mean(g) + 0 * g], ONE, check_vjp),
    "ignored cotangent": (sine, [lambda g, y, x: np.cos(x)], ONE, check_zero),
    "mean for sum": (total, [lambda g, y, x: np.broadcast_to(g / x.shape[0], x.shape)], ONE, check_vjp),
    "output for input": (sine, [lambda g, y, x: g * np.cos(y)], ONE, check_vjp),
    "one output of two": (split, [lambda g, y, x: np.concatenate([2 * g[0], 0 * g[1]], axis=-1)], ONE, check_vjp),
    "reversed": (double, [lambda g, y, x: 2 * g[::-1]], ONE, check_vjp),
    "detached at second order": (sine, [lambda g, y, x: g * np.cos(value(x))], ONE, check_second_order),
    "array at second order": (double, [lambda g, y, x: 2 * value(g)], ONE, check_second_order),
    "mutates the cotangent": (double, [lambda g, y, x: in_place(g)], ONE, check_structure),
    "mutates an input": (sine, [lambda g, y, x: g * np.cos(spoil(x) - 1)], ONE, check_structure),
    "widens to float64": (double, [lambda g, y, x: g * np.float64(2)], ONE, check_float32),
    "returns an input": (sine, [lambda g, y, x: x], ONE, check_structure),
    "returns a view of an input": (sine, [lambda g, y, x: swap(swap(x))], ONE, check_structure),
    "returns the output": (sine, [lambda g, y, x: y], ONE, check_structure),
    "a gradient without a dimension": (total, [lambda g, y, x: np.sum(g)], ONE, check_vjp),
    "nan": (sine, [lambda g, y, x: g * np.cos(x) * np.float64("nan")], ONE, check_structure),
}


def made(function, rules, cases, *_):
    return Op(function, rules, cases=cases)


@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_pass(name):
    op = made(*RIGHT[name])
    for case in op.cases:
        s = sample(op, case)
        for check_property in CHECKS:
            check_property(s)
        check_grads(op, *s.inputs)
        check_grads(op, *(x.astype(np.float32) for x in s.inputs))


@pytest.mark.parametrize("name", WRONG)
def test_the_suite_notices_wrong_rules(name):
    op, noticing = made(*WRONG[name]), WRONG[name][3]
    with pytest.raises((AssertionError, ValueError, TypeError, AttributeError)), np.errstate(all="ignore"):
        noticing(sample(op, op.cases[0]))


@pytest.mark.parametrize("name", WRONG)
def test_check_grads_notices_wrong_rules(name):
    op = made(*WRONG[name])
    with pytest.raises(GradientError):
        check_grads(op, *(x.astype(np.float32) for x in sample(op, op.cases[0]).inputs))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sign", "argument 0[0, 0]: the gradient is"),
        ("sign", "the sign is wrong"),
        ("factor 2", "argument 1[0, 0]"),
        ("factor 2", "(ratio 2; 9 of 9 elements wrong); twice too large"),
        ("1 + 1e-4", "ratio 1.0001"),
        ("1 + 1e-4", "a constant factor 1.0001"),
        ("zero", "zero: the value is detached somewhere"),
        ("absolute cotangent", "right but for some signs"),
        ("mean for sum", "a constant factor 1/3: mean for sum"),
        ("dropped correction", "a missing term (softmax, norms)"),
        ("one output of two", "zero"),
        ("mutates the cotangent", "changes its cotangent g (3, 4) in place"),
        ("mutates an input", "changes argument 0 (3, 4) in place"),
        ("widens to float64", "the rule of input 0 gives float64, expected float32"),
        ("returns an input", "returns an input, the output, or a view of one"),
        ("detached at second order", "order 2, argument 0"),
        ("nan", "nan"),
    ],
)
def test_messages_help(name, words):
    op = made(*WRONG[name])
    dtype = np.float32 if name == "widens to float64" else np.float64
    with pytest.raises(GradientError) as caught:
        check_grads(op, *(x.astype(dtype) for x in sample(op, op.cases[0]).inputs))
    if words != "zero" or name == "zero":
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transposed_gradient_is_called_so():
    wrong = Op(sine, [lambda g, y, x: np.swapaxes(g * np.cos(x), 0, 1)], cases=ONE)
    with pytest.raises(GradientError, match="it is transposed"):
        check_grads(wrong, np.random.default_rng(0).normal(size=(3, 3)))


def test_an_op_without_cases_and_a_case_without_gradient_fail():
    with pytest.raises(AssertionError, match="no input of this case has a gradient"):
        CHECKS[0](sample(Op(double, [lambda g, y, x: 2 * g], cases=[(2.0,)]), (2.0,)))


def add(x, b):
    return x + b


@pytest.mark.parametrize(
    ("function", "rules", "words"),
    [
        # what learners write
        (add, [lambda g, y, x, b: (g, g[0])], "argument 1[0]: ", ),
        (add, [lambda g, y, x, b: (g, g[0])], "a missing sum over a broadcast axis"),
        (add, [lambda g, y, x, b: (g, np.sum(g) + 0 * b)], "a sum or a mean over too many axes"),
        (add, [lambda g, y, x, b: (g, np.mean(g, 0))], "a constant factor 1/3: mean for sum, or a count"),
        (add, [lambda g, y, x, b: (g, -np.sum(g, 0))], "the sign is wrong"),
        (sine, [lambda g, y, x: (g * np.cos(x),)], "a rule of one input returns its gradient alone, not (g,)"),
        (softmax, [lambda g, y, x: g * y * (1 - y)], "a missing term (softmax, norms)"),
        (lambda x: x * x, [lambda g, y, x: g * x], "a factor 2 is lost, as in d(x*x)"),
        (lambda x: np.maximum(x, 0), [lambda g, y, x: g], "only some elements"),
    ],
)  # fmt: skip
def test_a_learners_mistake_is_named(function, rules, words):
    x = np.random.default_rng(3).normal(size=(3, 4))
    with pytest.raises(GradientError, match=re.escape(words)):
        check_grads(Op(function, rules, cases=ONE), *([x, x[0]] if function is add else [x]))


# --- check_grads -------------------------------------------------------------------------


def test_nested_arguments_and_where_they_are_wrong():
    broken = Op(double, [lambda g, y, x: 3 * g], cases=ONE)

    def f(p, scale, *, power=2):
        return {"loss": np.sum((p["layers"][1] @ p["w"]) ** power) * scale, "n": 3}

    rng = np.random.default_rng(1)
    p = {"w": rng.normal(size=(3, 2)), "layers": [None, rng.normal(size=(2, 3))]}
    check_grads(f, p, 1.5)
    p["w"] = rng.normal(size=(3, 2))
    with pytest.raises(GradientError, match=re.escape("argument 0.w[0, 0]: ")):
        check_grads(lambda p: np.sum(p["layers"][1] @ broken(p["w"])), p)


def test_large_arguments_go_along_directions():
    x = np.random.default_rng(2).normal(size=(40, 50))
    check_grads(lambda x: np.tanh(x), x)
    with pytest.raises(GradientError, match="argument 0 along a random direction"):
        check_grads(Op(sine, [lambda g, y, x: g * np.cos(x) * (1 + 1e-4)], cases=ONE), x)


def test_third_order():
    x = np.array([0.3, -0.7, 1.1])
    check_grads(lambda x: np.sin(x) * np.exp(x), x, order=3)

    cosine = Op(lambda x: np.cos(x), [lambda g, y, x: -g * np.sin(value(x))], cases=ONE)  # no gradient of its gradient
    wrong = Op(sine, [lambda g, y, x: g * cosine(x)], cases=ONE)
    check_grads(wrong, x, order=2)
    with pytest.raises(GradientError, match="order 3, argument 0"):
        check_grads(wrong, x, order=3)


@pytest.mark.parametrize(
    ("f", "x", "words"),
    [
        (lambda x: x.value * 2, np.ones(3), "its result was detached"),
        (lambda x: np.where(x.value > 1.0, x, 1.0), np.array([1.0, 2.0]), "the point is on a kink"),
        (lambda x: np.log(x), np.array([1.0, -2.0]), "not finite at this point"),
        (lambda x: x * np.float64(2), np.ones(3, np.float32), "give an output of float64"),
        (lambda x: x * GENERATOR.normal(), np.ones(3), "make its np.random.Generator inside f"),
        (lambda x: x * np.sign(x.value + 1e-9 - 0.5) * x.value, np.full(3, 0.3), "half of it"),
    ],
)
def test_functions_that_cannot_be_right(f, x, words):
    with pytest.raises(GradientError, match=re.escape(words)):
        check_grads(f, x)


def test_a_function_that_changes_its_argument():
    def f(x):
        x.value[0] = 1.0
        return x * 2

    with pytest.raises(GradientError, match=re.escape("changes argument 0 (3,) in place")):
        check_grads(f, np.zeros(3))


def test_without_floats_there_is_nothing_to_check():
    with pytest.raises(TypeError, match="no argument holds a float array"):
        check_grads(lambda n: n, 3)


def test_kinks_nearby_and_edges_of_the_domain_are_no_alarm():
    check_grads(lambda x: np.maximum(x, 0.0) * x, np.array([1e-3, -1e-3, 0.5]))
    check_grads(lambda x: np.log(x), np.array([1e-3, 0.1, 300.0]))
    check_grads(lambda x: np.sqrt(x) * 1e-9, np.array([1e-6, 2e-6]))
    check_grads(lambda x: np.exp(x * 1e-6), np.array([1e6, -1e6]))


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.sampled_from([((2, 3), (3,)), ((), (2, 1)), ((1, 3), (2, 1)), ((0, 2), (2,)), ((3,), (3,))]),
    f=st.sampled_from(
        [lambda a, b: np.tanh(a) * b, lambda a, b: np.sum(a * a * b, axis=-1) if a.ndim else a * b, lambda a, b: a / (2 + np.sin(b))]
    ),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_right_functions_raise_no_alarm(seed, shapes, f, scale):
    rng = np.random.default_rng(seed)
    check_grads(f, *(scale * rng.normal(size=s) for s in shapes), rng=rng)


def centred(x):
    """One number less its mean, which is itself: all of it cancels, in the value and in the gradient."""
    return (x - np.mean(x, axis=0, keepdims=True)) / np.mean(x * x, axis=0, keepdims=True) ** 0.5


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    f=st.sampled_from([softmax, lambda x: np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True), centred, lambda x: x**1.5 / x / x**0.5]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_a_gradient_of_zero_that_is_only_rounded_is_no_alarm(seed, f, scale):
    """Forward mode may say 0 and reverse mode 1e-16, as large as what it is rounded from is."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2, (1, 1))
    check_grads(lambda x: scale * f(x), x, rng=rng)
    check_forward_mode(lambda xs: [np.sum(scale * f(xs[0]))], [x], rng)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("beside", [lambda x: 0.0, lambda x: np.sum(softmax(x[:, :1]))], ids=["alone", "beside what cancels"])
def test_a_small_fault_of_forward_mode_is_noticed(scale, beside):
    """A rule that is right on arrays, and on Tensors holds one part in a million of its cotangent for a constant."""

    def doubled(fault):
        op = Op(double, [lambda g, y, x: 2 * ((1 - fault) * g + fault * value(g))], cases=ONE)
        return lambda xs: [scale * np.sum(np.sin(op(xs[0]))) + beside(xs[0])]

    x = np.random.default_rng(1).normal(size=(3, 4))
    check_forward_mode(doubled(0.0), [x], np.random.default_rng(2))
    with pytest.raises(GradientError, match="forward mode gives"):
        check_forward_mode(doubled(1e-6), [x], np.random.default_rng(2))


@pytest.mark.parametrize(("phi", "exact"), [(np.sin, 1.0), (np.exp, 1.0), (lambda t: t**3 + 2 * t, 2.0), (lambda t: 1 / (1 + t), -1.0)])
def test_the_bound_holds_and_is_sharp(phi, exact):
    slope, bound = derivative(phi, 1 / 16)
    assert abs(slope - exact) <= bound <= 1e-9


def test_no_derivative_has_no_bound():
    assert derivative(lambda t: abs(t) ** 0.5 * np.sign(t), 1 / 16)[1] == np.inf
    assert derivative(lambda t: float(t > 0), 1 / 16)[1] == np.inf


# --- watchers ----------------------------------------------------------------------------


def message(exception, context, f):
    """The message of what f raises inside the context; the observer is gone afterwards."""
    with pytest.raises(exception) as caught, context:
        f()
    assert core.observer is None and "\n" not in str(caught.value)
    return str(caught.value)


def here(code):
    """`file:line: code` of a line of this file that contains `code`, once and before this call."""
    found = [i for i, line in enumerate(linecache.getlines(__file__), 1) if line.strip() == code]
    assert len(found) == 1
    return f"{__file__}:{found[0]}: {code}"


def test_guard():
    x, a = Tensor(np.ones(3)), np.arange(1.0, 4.0)

    def program(change):
        y = x * a  # kept for the gradient
        y = np.exp(y * 0.1)
        change()
        return gradients(y.sum(), x)

    with check.guard():
        np.testing.assert_allclose(program(lambda: None), 0.1 * a * np.exp(0.1 * a))

    def change():
        a[0] = 5.0

    text = message(RuntimeError, check.guard(), lambda: program(change))
    assert "an array that np.multiply kept for its gradient, (3,) float64, was changed" in text
    assert here("y = x * a  # kept for the gradient") in text


def test_guard_sees_outputs_and_rules_that_write():
    x = Tensor(np.ones(3))

    def write_to_output():
        y = np.exp(x)
        y.value[1] = 0.0
        return gradients(y.sum(), x)

    assert "an array that np.exp kept" in message(RuntimeError, check.guard(), write_to_output)
    writes = Op(sine, [lambda g, y, x: g * np.cos(spoil(x))], cases=ONE)
    assert "an array that sine kept" in message(RuntimeError, check.guard(), lambda: gradients(writes(x).sum(), x))


def test_guard_lets_an_update_after_the_gradients_pass():
    x = Tensor(np.ones(3))
    with check.guard():
        for _ in range(3):
            x.value[...] -= 0.1 * gradients(np.sum(x * x), x)
            x.node.touch()


def test_anomaly_of_a_value():
    x = Tensor(np.array([[1.0, -1.0], [2.0, 3.0]]))

    def program():
        y = x * 2
        z = np.log(y)  # of a negative number
        return z + 1

    with np.errstate(all="ignore"):
        text = message(FloatingPointError, check.anomaly(), program)
    assert (
        text
        == f"anomaly: np.log gives nan at [0, 1] (1 of 4 not finite); inputs (2, 2) float64; at {here('z = np.log(y)  # of a negative number')}"
    )


def test_anomaly_of_a_gradient():
    x = Tensor(np.array([4.0, 0.0]))

    def program():
        y = np.sqrt(x)  # infinite slope at 0
        return gradients(np.sum(y * 2), x)

    with np.errstate(all="ignore"):
        text = message(FloatingPointError, check.anomaly(), program)
    assert text.startswith(
        "anomaly: the gradient of np.sqrt by input 0 is inf at [1] (1 of 2 not finite); output (2,) float64; the op ran at "
    )
    assert text.endswith(here("y = np.sqrt(x)  # infinite slope at 0"))


def test_anomaly_names_the_users_line_below_methods_operators_and_compositions():
    def operator():
        return Tensor(np.zeros(2)) / np.zeros(2)  # by an operator

    def method():
        return Tensor(np.array([1e308, 1e308])).sum()  # by a method

    def composition():
        return np.linalg.norm(Tensor(np.array([np.nan, 1.0])))  # by a composition

    with np.errstate(all="ignore"):
        for f, line in [
            (operator, "return Tensor(np.zeros(2)) / np.zeros(2)  # by an operator"),
            (method, "return Tensor(np.array([1e308, 1e308])).sum()  # by a method"),
            (composition, "return np.linalg.norm(Tensor(np.array([np.nan, 1.0])))  # by a composition"),
        ]:
            assert here(line) in message(FloatingPointError, check.anomaly(), f)


def test_anomaly_passes_finite_programs_and_masks():
    x = Tensor(np.array([1.0, 2.0, 3.0]))
    with check.anomaly():
        y = np.exp(x + np.array([0.0, -np.inf, 0.0]))
        g = gradients(np.sum(y), x)
    np.testing.assert_allclose(g, [np.exp(1), 0, np.exp(3)])
    text = message(FloatingPointError, check.anomaly(), lambda: Tensor(np.array([1.0, np.inf])) * 2)
    assert "(input 0 was not finite already)" in text


def test_anomaly_in_a_multiple_output():
    def program():
        return np.modf(Tensor(np.array([1.5, np.nan])))

    assert "np.modf gives nan" in message(FloatingPointError, check.anomaly(), program)


def test_dtypes():
    x = Tensor(np.ones((2, 3), np.float32))

    def mixes():
        y = x * 2.0 + np.ones(3, np.float32)
        return y * np.sqrt(2 / np.pi)  # a float64 number

    text = message(TypeError, check.dtypes(), mixes)
    assert text.startswith("dtypes: np.multiply mixes float32 and float64; inputs (2, 3) float32, () float64; at ")
    assert here("return y * np.sqrt(2 / np.pi)  # a float64 number") in text
    with check.dtypes():
        g = gradients(np.sum(np.tanh(x * 2.0 + np.ones(3, np.float32))), x)
        assert g.dtype == np.float32
        assert x.astype(np.float64).dtype == np.float64  # says so
        assert (Tensor(np.ones(3)) * np.ones(3)).dtype == np.float64


def test_dtypes_of_outputs_and_rules():
    x = Tensor(np.ones(3, np.float32))
    widens = Op(lambda x: x * np.ones(3), [lambda g, y, x: g], cases=ONE)
    assert "gives float64 of inputs (3,) float32" in message(TypeError, check.dtypes(), lambda: widens(x))
    leaks = Op(double, [lambda g, y, x: g * np.full(3, 2.0)], cases=ONE)
    text = message(TypeError, check.dtypes(), lambda: gradients(leaks(x).sum(), x))
    assert "the rule of double for input 0 gives float64, the input is float32" in text


def test_count():
    x, w = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 2)))

    def program(n):
        y = x
        for _ in range(n):
            y = np.tanh(y @ w) @ np.ones((2, 3))
        return gradients(np.sum(y), [x, w])

    with check.count() as once:
        program(1)
    with check.count() as often:
        program(5)
    assert once.ops == {"np.matmul": 2, "np.tanh": 1, "np.sum": 1} and once.nodes == 4
    assert once.rules == {"np.matmul": 3, "np.tanh": 1, "np.sum": 1}
    assert often.nodes == 5 * 3 + 1 and often.rules["np.matmul"] == 15


def test_watchers_nest():
    x = Tensor(np.ones(3))
    with check.count() as outer, check.guard(), check.anomaly(), check.dtypes():
        with check.count() as inside:
            y = x * 2
        gradients(y.sum(), x)
    assert inside.nodes == 1 and outer.nodes == 2 and outer.rules.total() == 2
    assert core.observer is None


# --- shape comments ----------------------------------------------------------------------


def attention(q, k, *, name="no shape"):
    B, T, C = q.shape
    scores = q @ np.swapaxes(k, -1, -2)  # (B, T, S)
    both = np.concatenate([q, q, q], axis=-1)  # (B, T, 3C) with a word of prose (and more)
    left, right = np.split(
        both,
        [C],
        axis=-1,
    )  # (B, T, C), (B, T, 2*C)
    pair = left, left  # prose, (no shape)
    left, middle = left + 1, left.mean()  # (B, T, C), ()
    for row in scores[0]:  # (S,)
        assert row.ndim == 1
    if B > 100:
        left = left[0]  # (T, C)
    text = "# (1, 2, 3)"
    left += 1  # (..., C)
    assert text and pair and middle
    return left[:, 0]  # (B, C)


class Layer:
    def __init__(self, n):
        self.w = np.ones((n, n + 1))  # (n, n+1)
        self.bias = None  # (n,)

    def __call__(
        self,
        x,  # (B, n)
        lengths=None,  # (B,)
    ):
        def inner(v):
            return v.T  # (m, B)

        return inner(x @ self.w)  # (m, B)

    @property
    def size(self):
        size = self.w.reshape(-1)  # (N,)
        return size.size


def test_shape_comments_hold():
    q, k = np.ones((2, 3, 4)), Tensor(np.ones((2, 5, 4)))
    with check.shapes(attention) as seen:
        attention(q, k)
    assert len(seen.unreached) == 1 and seen.unreached[0].endswith(": (T, C)")
    with check.shapes(attention, Layer) as seen:
        attention(Tensor(np.ones((101, 1, 4)))[:2], k[:, :2])
        layer = Layer(3)
        layer(np.ones((5, 3)))
        layer(np.ones((6, 3)), np.ones(6))  # letters are bound anew
        assert layer.size == 12
    assert [u.rsplit(": ")[-1] for u in seen.unreached] == ["(T, C)", "(n,)"]  # None has no shape
    assert sys.gettrace() is seen.outer


def test_shape_comments_of_a_module():
    seen = check.shapes(sys.modules[__name__])
    assert sum("test_check.py" in u for u in seen.unreached) == len(seen.unreached) >= 14
    with pytest.raises(ValueError, match="no shape comment"):
        check.shapes(double)


def wrong_assignment(x):
    B, T = x.shape
    y = x.T  # (B, T)
    return y


def wrong_product(x):
    D = x.shape[-1]
    y = np.concatenate([x, x])  # (B, D)
    z = y[:, 1:]  # (2B, 4*D-1) twice as many
    return z, D


def wrong_letter(x):
    a = x[0]  # (N,)
    b = x[:, 0]  # (N,)
    return a, b


def wrong_dimensions(x):
    return x.sum(0)  # (..., B, T)


def wrong_parameter(
    x,
    y,  # (B, B)
):
    return x + y


def wrong_member(x):
    a, b = x, x[0]  # (B, T), (B,)
    return a, b


@pytest.mark.parametrize(
    ("f", "arguments", "words"),
    [
        (wrong_assignment, [(2, 3)], "`y = x.T`: the comment says (B, T), the shape is (3, 2), 3 where B is 2"),
        (wrong_product, [(2, 3)], "`z = y[:, 1:]`: the comment says (2B, 4*D-1), the shape is (4, 2), 4 where 2*B is 8 (B = 4)"),
        (wrong_letter, [(2, 3)], "`b = x[:, 0]`: the comment says (N,), the shape is (2,), 2 where N is 3"),
        (wrong_dimensions, [(2, 3)], "`return x.sum(0)`: the comment says (..., B, T), the shape is (3,), 1 dimensions for 2"),
        (wrong_parameter, [(3,), (2, 3)], "`y,`: the comment says (B, B), the shape is (2, 3), 3 where B is 2"),
        (wrong_member, [(2, 3)], "the comment says (B, T), (B,), the shape is (3,), 3 where B is 2"),
    ],
)
def test_shape_comments_that_lie(f, arguments, words):
    before = sys.gettrace()
    with pytest.raises(ShapeError) as caught, check.shapes(f):
        f(*(Tensor(np.ones(s)) for s in arguments))
    assert re.match(rf"{re.escape(__file__)}:\d+: ", str(caught.value)) and words in str(caught.value)
    assert sys.gettrace() is before
    f(*(np.ones(s) for s in arguments))  # outside, comments are comments


def catches(x):
    try:
        y = np.ones(3)
        y = x.nothing  # (B, T)
    except AttributeError:
        y = x + 1
    return y  # (B,)


def test_a_statement_that_raised_is_not_checked():
    with check.shapes(catches) as seen:
        catches(np.ones(4))
    assert len(seen.unreached) == 1


def test_a_lying_line_inside_other_calls():
    with pytest.raises(ShapeError), check.shapes(wrong_assignment):
        sorted([1], key=lambda _: wrong_assignment(np.ones((2, 3))).size)


@pytest.mark.parametrize(
    "comment",
    [
        "# prose",
        "# (see above)",
        "# (B)",
        "# (eq. 3), (4)",
        "# (B, T",
        "# (B, T*)",
        "# (B, 2**T)",
        "# (f(x), 3)",
        "# (a b, c)",
        "# x (B, T)",
        "",
    ],
)
def test_comments_that_are_no_shapes(comment):
    assert read_comment(comment) == ("", [])


@pytest.mark.parametrize(
    ("dimension", "number"),
    [("3C", 12), ("3*C", 12), ("(C+2)*3", 18), ("C//3", 1), ("C/2-1", 1), ("2(C)", None), ("hd_1", 7), ("10", 10), ("C-1-1", 2)],
)
def test_the_parser_of_dimensions(dimension, number):
    if number is None:
        with pytest.raises(ValueError, match=re.escape(dimension)):
            parse(dimension)
    else:
        assert check.evaluate(parse(dimension), {"C": 4, "hd_1": 7}.get) == number


@given(st.lists(st.integers(0, 4), max_size=4), st.lists(st.integers(0, 4), max_size=4))
def test_literal_shapes_match_exactly_themselves(shape, actual):
    text = "(" + "".join(f"{n}, " for n in shape) + ")"
    spelled, (parsed,) = read_comment(f"# {text} and prose")
    assert spelled == text
    assert (mismatch(parsed, tuple(actual), {}, {}) == "") == (shape == actual)
    letters: dict[str, int] = {}
    assert mismatch(["...", *"abcd"[: len(shape)]], (7, *shape), {}, letters) == ""
    assert letters == dict(zip("abcd", shape))
