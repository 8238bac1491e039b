"""Function transforms: nested, structured, and with Tensors from outside."""

import functools
import weakref

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.transforms import (
    captured,
    checkpoint,
    custom_vjp,
    generators_in,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    tensors,
    value_and_grad,
    vjp,
)

import numpy as np
import pytest


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def cubic(x):
    return np.sum(x * x * x)


X = np.array([1.0, 2.0, -1.5])
V = np.array([0.3, -1.0, 0.7])


def test_arrays_in_arrays_out():
    g = grad(cubic)(X)
    assert type(g) is np.ndarray
    close(g, 3 * X * X)
    y, g = value_and_grad(cubic)(X)
    assert not isinstance(y, Tensor)
    close(y, np.sum(X**3))
    assert grad(lambda x: x * x)(3.0) == 6.0


def test_no_perturbation_confusion():
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0) == 6.0
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(3.0) == 1.0
    assert grad(lambda x: grad(lambda y: x * y * y)(2.0))(5.0) == 4.0


def test_several_arguments_structures_and_aux():
    def f(p, scale, *, shift):
        return np.sum(p["a"] * p["b"][0]) * scale + shift, {"aux": p["a"] * 2}

    p = {"a": X, "b": (V,)}
    (y, aux), (gp, gs) = value_and_grad(f, (0, 1), has_aux=True)(p, 2.0, shift=1.0)
    close(y, 2 * X @ V + 1)
    assert type(aux["aux"]) is np.ndarray
    close(gp["a"], 2 * V)
    close(gp["b"][0], 2 * X)
    close(gs, X @ V)
    g, aux = grad(f, has_aux=True)(p, 2.0, shift=1.0)
    close(g["a"], 2 * V)


def test_results_depend_on_tensors_from_outside():
    w = Tensor(np.ones(3))
    g = grad(lambda x: np.sum(w * x * x))(X)
    assert isinstance(g, Tensor)
    close(gradients(np.sum(g * V), w), 2 * X * V)  # a gradient penalty reaches the weights
    y, pull = vjp(lambda x: w * x, X)
    close(gradients(np.sum(pull(V)[0]), w), V)


def test_jvp_hvp_jacobian_hessian():
    def f(x):
        return np.stack([x[0] * x[1], np.sum(x * x)])

    J = np.array([[X[1], X[0], 0], 2 * X])
    close(jacobian(f)(X), J)
    y, dy = jvp(f, X, V)
    close(dy, J @ V)
    close(y, [X[0] * X[1], np.sum(X * X)])
    close(hessian(cubic)(X), np.diag(6 * X))
    close(hvp(cubic, X, V), 6 * X * V)
    _, (d, e) = jvp(lambda a, b: (a * b, [a]), (X, V), (V, X))[0], jvp(lambda a, b: (a * b, [a]), (X, V), (V, X))[1]
    close(d, V * V + X * X)
    close(e[0], V)
    a, b = hvp(lambda a, b: np.sum(a * a * b), (X, V), (V, X))
    close(a, 2 * V * V + 2 * X * X)
    close(b, 2 * X * V)


def test_forward_over_reverse_over_forward():
    close(jvp(grad(cubic), X, V)[1], 6 * X * V)
    third = jvp(lambda x: jvp(grad(cubic), x, V)[1], X, V)[1]
    close(third, 6 * V * V)


def test_functions_that_ignore_their_argument():
    assert grad(lambda x: 1.0)(2.0) == 0.0
    close(jacobian(lambda x: X)(V), np.zeros((3, 3)))
    close(jvp(lambda x: X, V, V)[1], np.zeros(3))
    close(vjp(lambda x: np.sum(X) + 0 * np.sum(x), V)[1](1.0)[0], np.zeros(3))


@pytest.mark.parametrize("argnums", [(0, 0), (0, -2), (), 2, -3, "a", 1.5, (0, None), (1, 2), [0, 0], None])
@pytest.mark.parametrize("transform", [grad, value_and_grad, jacobian, hessian])
def test_arguments_are_chosen_by_different_integers_within_range(transform, argnums):
    with pytest.raises(
        TypeError,
        match=rf"^{transform.__name__}: argnums=.*but 2 positional arguments came; expected different integers from -2 up to, but not including, 2; [^\n]*$",
    ):
        transform(lambda x, y: np.sum(x * y), argnums)(X, V)


@pytest.mark.parametrize("transform", [jacobian, hessian])
def test_several_arguments_at_once_have_no_jacobian(transform):
    with pytest.raises(TypeError, match=rf"^{transform.__name__}: argnums=\(0, 1\), but 2 positional arguments came"):
        transform(lambda x, y: np.sum(x * y), (0, 1))(X, V)


def test_an_argument_by_name_cannot_be_differentiated():
    for transform in (grad, jacobian, hessian):
        with pytest.raises(
            TypeError,
            match=rf"^{transform.__name__}: argnums=0, but 0 positional arguments came; .*; pass what is differentiated by position$",
        ):
            transform(cubic)(x=X)


def test_arguments_are_counted_from_the_end_too():
    def f(x, y):
        return np.sum(x * y * y)

    close(grad(f, -1)(X, V), 2 * X * V)
    gy, gx = grad(f, (np.int64(-1), 0))(X, V)
    close(gx, V * V)
    close(gy, 2 * X * V)
    close(jacobian(f, -2)(X, V), V * V)
    close(hessian(f, -1)(X, V), np.diag(2 * X))


CALLS = {  # transforms of functions that return one number
    "grad": lambda f, x: grad(f)(x),
    "value_and_grad": lambda f, x: value_and_grad(f)(x),
    "hessian": lambda f, x: hessian(f)(x),
    "hvp": lambda f, x: hvp(f, x, x),
}


@pytest.mark.parametrize("x", [3, np.arange(3), None, "a", [1.0, 2], {"a": True}], ids=str)
def test_what_has_no_gradient_is_refused_by_the_transform_that_was_called(x):
    """3 for 3.0 is the first mistake that everybody makes."""
    calls = CALLS | {"jacobian": lambda f, x: jacobian(f)(x), "vjp": vjp, "jvp": lambda f, x: jvp(f, x, x)}
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"^{name}: [^\n]* has no gradient, expected floating-point numbers, such as 3\.0 or [^\n]*$"):
            call(lambda x: 1.0, x)


@pytest.mark.parametrize("transform", [grad, value_and_grad])
@pytest.mark.parametrize("wrong", [3.0, Tensor(3.0), (), (3.0,), (3.0, 1, 2), None, {"a": 1}], ids=str)
def test_with_has_aux_a_function_returns_two_things(transform, wrong):
    with pytest.raises(
        TypeError, match=rf"^{transform.__name__}: the function returned .*, expected \(number, anything\), as has_aux=True says$"
    ):
        transform(lambda x: wrong, has_aux=True)(X)


def test_hvp_speaks_of_its_own_vectors():
    with pytest.raises(ValueError, match=r"^hvp: a vector has shape \(2,\), expected \(3,\), the shape of its array$"):
        hvp(cubic, X, np.ones(2))
    with pytest.raises(ValueError, match=r"^hvp: 2 vectors came for 1 arrays; give the same structure$"):
        hvp(cubic, X, (V, V))


@pytest.mark.parametrize("wrong", [None, "a", np.array("a"), np.array([None])], ids=str)
def test_a_result_that_is_no_number_is_refused(wrong):
    calls = [
        ("jacobian", lambda f: jacobian(f)(X)),
        ("jvp", lambda f: jvp(f, X, V)),
        ("vjp", lambda f: vjp(f, X)),
        ("jvp", lambda f: jvp(lambda x: {"a": x, "b": [f(x)]}, X, V)),
    ]
    for name, call in calls:
        with pytest.raises(TypeError, match=rf"^{name}: the function returned [^\n]*, expected a number, an array of numbers or a Tensor$"):
            call(lambda x: wrong)
    for name, call in CALLS.items():
        with pytest.raises(ValueError, match=rf"^{name}: the function returned .*, expected one number; use vjp or jacobian for more$"):
            call(lambda x: wrong, X)
    for transform in (grad, value_and_grad):
        with pytest.raises(ValueError, match=rf"^{transform.__name__}: the function returned .*, expected one number; use vjp or jacobian"):
            transform(lambda x: (wrong, None), has_aux=True)(X)


def test_what_does_not_depend_on_the_argument_has_the_gradient_zero():
    close(grad(lambda x: 3.0)(X), 0 * X)
    y, dy = jvp(lambda x: {"a": 3.0, "b": (x, np.ones(2))}, X, V)
    close(dy["a"], 0)
    close(dy["b"][0], V)
    close(dy["b"][1], np.zeros(2))
    assert y["a"] == 3.0


def test_errors():
    with pytest.raises(ValueError, match=r"expected one number; use vjp or jacobian"):
        grad(lambda x: x * 2)(X)
    with pytest.raises(ValueError, match=r"a vector has shape \(2,\), expected \(3,\)"):
        vjp(lambda x: x * 2, X)[1](np.ones(2))
    with pytest.raises(
        TypeError,
        match=r"^grad: ndarray \(3,\) int64 has no gradient, expected floating-point numbers, such as 3.0 or x.astype\(np.float32\)$",
    ):
        grad(cubic)(np.arange(3))


def test_stop_gradient_takes_both():
    x = Tensor(X)
    assert type(stop_gradient(x)) is np.ndarray
    assert stop_gradient(X) is X
    close(gradients(np.sum(x * stop_gradient(x)), x), X)


def test_custom_vjp():
    rounded = custom_vjp(np.round, lambda g, y, x: g)  # straight through
    close(grad(lambda x: np.sum(rounded(x) * x))(X), np.round(X) + X)
    scaled = custom_vjp(lambda a, b: a * b, lambda g, y, a, b: (g * b * 10, None))
    ga, gb = grad(lambda a, b: np.sum(scaled(a, b)), (0, 1))(X, V)
    close(ga, 10 * V)
    close(gb, np.zeros(3))
    close(hessian(lambda x: np.sum(custom_vjp(lambda x: x**3, lambda g, y, x: 3 * g * x * x)(x)))(X), np.diag(6 * X))


# --- checkpoint ---------------------------------------------------------------------------------


def block(x, w):
    return np.tanh(x * w) * w


def test_checkpoint_gives_the_same_gradients_with_captured_and_tied_weights():
    w, x = Tensor(V), Tensor(X)

    def twice(x):
        return block(block(x, w), w)

    expected = gradients(np.sum(twice(x) * X), [x, w])
    found = gradients(np.sum(checkpoint(twice)(x) * X), [x, w])
    for e, f in zip(expected, found):
        assert np.array_equal(e, f)


def test_checkpoint_keeps_no_inner_arrays():
    inner = []

    def f(x):
        h = np.exp(x)
        inner.append(weakref.ref(h))
        inner.append(weakref.ref(h.value))
        return np.sin(h)

    y = checkpoint(f)(Tensor(X))
    assert [r() for r in inner] == [None, None]
    del y


def test_checkpoint_replays_every_generator():
    rng = np.random.default_rng(0)

    class Layer:
        def __init__(self):
            self.parts = [np.random.default_rng(1)]

        def __call__(self, x):
            return x * self.parts[0].normal(size=3)

    layer, bound = Layer(), functools.partial(lambda r, x: x * r.normal(size=3), np.random.default_rng(2))
    for f in (lambda x: x * rng.normal(size=3), layer, layer.__call__, bound, lambda x: layer(x)):
        x = Tensor(X)
        y = checkpoint(f)(x)
        factor = y.value / X
        following = rng.bit_generator.state
        close(gradients(np.sum(y), x), factor)
        assert rng.bit_generator.state == following  # the replay leaves no trace
    assert len(generators_in(layer, bound, lambda: rng)) == 3


def test_checkpoint_higher_orders_nesting_and_structures():
    w = Tensor(V)

    def f(x):
        return np.sum(checkpoint(lambda z: block(checkpoint(lambda u: u * u)(z), w))(x))

    def plain(x):
        return np.sum(block(x * x, w))

    close(hessian(f)(X).value, hessian(plain)(X).value)
    close(jvp(f, X, V)[1].value, jvp(plain, X, V)[1].value)
    close(hvp(f, X, V).value, hvp(plain, X, V).value)
    out = checkpoint(lambda x: {"a": x * 2, "b": [x * x, 3]})(Tensor(X))
    assert out["b"][1] == 3
    x = Tensor(X)
    out = checkpoint(lambda x: {"a": x * 2, "b": [x * x, x]})(x)
    close(gradients(np.sum(out["a"] * V) + np.sum(out["b"][0]) + np.sum(out["b"][1]), x), 2 * V + 2 * X + 1)


def test_checkpoint_of_arrays_is_the_function_and_a_stale_one_raises():
    assert type(checkpoint(lambda x: x * 2)(X)) is np.ndarray
    w = Tensor(V, name="w")
    loss = np.sum(checkpoint(lambda x: x * w)(X))
    w.node.touch()
    with pytest.raises(RuntimeError, match="stale graph: w"):
        gradients(loss, w)


def test_captured_finds_what_a_function_took_from_outside():
    from tinygrad_notes.core import tick

    a, b = Tensor(X), Tensor(V)
    h = a * 2
    since = tick()
    y = h * b + h
    assert captured(tensors([y]), since) == [b.node, h.node]
