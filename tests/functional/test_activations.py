"""Activations and the softmax family: against mpmath, at their edges, and by their laws."""

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F
from tinygrad_notes.core import walk

import mpmath
import numpy as np
import pytest

POINTS = [-40.0, -12.5, -5.0, -1.5, -0.3, -1e-3, 0.0, 1e-3, 0.7, 2.0, 6.5, 25.0]


def gelu_tanh_exactly(x):
    return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))


EXACT = {
    F.sigmoid: lambda x: 1 / (1 + mpmath.exp(-x)),
    F.softplus: lambda x: mpmath.log1p(mpmath.exp(x)),
    F.log_sigmoid: lambda x: -mpmath.log1p(mpmath.exp(-x)),
    F.silu: lambda x: x / (1 + mpmath.exp(-x)),
    F.elu: lambda x: x if x > 0 else mpmath.expm1(x),
    F.leaky_relu: lambda x: x if x > 0 else x / 100,
    F.relu: lambda x: max(x, 0),
    F.normal_cdf: mpmath.ncdf,
    F.gelu: lambda x: x * mpmath.ncdf(x),
    F.gelu_tanh: gelu_tanh_exactly,
}
# These are differences of numbers near 1 for negative x: their error is absolute.
ABSOLUTE = {F.normal_cdf, F.gelu, F.gelu_tanh}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", EXACT, ids=lambda f: f.__name__)
def test_value_is_exact_to_rounding(f, dtype):
    with mpmath.workdps(50):
        x = np.array(POINTS, dtype)
        expected = np.array([float(EXACT[f](mpmath.mpf(float(v)))) for v in x])
    error = np.abs(f(x) - expected)
    eps = np.finfo(dtype).eps
    scale = np.maximum(1, np.abs(x)) if f in ABSOLUTE else np.abs(expected)
    assert np.all(error <= 4 * eps * scale * (1 + np.abs(x) * (f in (F.sigmoid, F.silu)))), error / eps


@pytest.mark.parametrize("f", [*EXACT, F.softmax, F.log_softmax], ids=lambda f: f.__name__)
def test_huge_inputs_are_finite(f):
    for dtype, huge in ((np.float64, 1e300), (np.float32, 1e38)):
        x = Tensor(np.array([-huge, -1000, 1000, huge], dtype))
        if f is F.gelu_tanh or f is F.gelu or f is F.normal_cdf:  # their x^2 overflows first
            x = Tensor(np.array([-1e4, -1000, 1000, 1e4], dtype))
        y = f(x)
        assert np.all(np.isfinite(y.value))
        if f not in (F.softmax, F.log_softmax):
            assert np.all(np.isfinite(gradients(np.sum(y), x)))


def test_kinks():
    zero = Tensor(np.zeros(3))
    assert gradients(np.sum(F.relu(zero)), zero).tolist() == [0, 0, 0]
    assert gradients(np.sum(np.maximum(zero, 0)), zero).tolist() == [0.5, 0.5, 0.5]  # another function, another choice
    assert gradients(np.sum(F.leaky_relu(zero, 0.25)), zero).tolist() == [0.25, 0.25, 0.25]
    assert gradients(np.sum(F.elu(zero, 0.5)), zero).tolist() == [0.5, 0.5, 0.5]


def test_gelu_tanh_is_near_gelu():
    x = np.linspace(-8, 8, 4001)
    assert 4e-4 < np.max(np.abs(F.gelu(x) - F.gelu_tanh(x))) < 5e-4


def test_swish_has_a_learnable_beta():
    x = np.linspace(-2, 2, 5)
    np.testing.assert_array_equal(F.swish(x, 1.0), F.silu(x))
    beta = Tensor(np.float64(0.7))
    s = F.sigmoid(0.7 * x)
    assert gradients(np.sum(F.swish(x, beta)), beta) == pytest.approx(np.sum(x * x * s * (1 - s)), rel=1e-14)


def test_gated_units_take_values_first():
    a, b = np.array([2.0, 3.0]), np.array([-1.0, 0.5])
    x = np.concatenate([a, b])
    np.testing.assert_allclose(F.glu(x), a / (1 + np.exp(-b)), rtol=1e-15)
    np.testing.assert_allclose(F.swiglu(x), a * b / (1 + np.exp(-b)), rtol=1e-15)
    np.testing.assert_array_equal(F.geglu(x), a * F.gelu(b))
    with pytest.raises(ValueError, match=r"glu: the last axis of x \(3,\) has odd length 3"):
        F.glu(x[:3])


# --- softmax ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_softmax_family_against_mpmath(dtype):
    x = np.array([[1.0, -2.0, 0.5], [300.0, -300.0, 299.0], [-1e4, -1e4, -1e4 - 3]], dtype)
    with mpmath.workdps(50):
        sums = [mpmath.fsum(mpmath.exp(mpmath.mpf(float(v))) for v in row) for row in x]
        p = np.array([[float(mpmath.exp(mpmath.mpf(float(v))) / s) for v in row] for row, s in zip(x, sums)])
        log_p = np.array([[float(mpmath.mpf(float(v)) - mpmath.log(s)) for v in row] for row, s in zip(x, sums)])
        lse = np.array([float(mpmath.log(s)) for s in sums])
    eps = np.finfo(dtype).eps
    assert np.all(np.abs(F.softmax(x) - p) <= 4 * eps * p + np.finfo(dtype).tiny)
    assert np.all(np.abs(F.log_softmax(x) - log_p) <= 4 * eps * (1 + np.abs(log_p)))
    assert np.all(np.abs(F.logsumexp(x) - lse) <= 4 * eps * np.abs(lse))


def test_softmax_laws():
    x = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(F.softmax(x + 100), F.softmax(x), rtol=1e-12)
    np.testing.assert_allclose(F.softmax(x).sum(-1), 1, rtol=1e-15)
    np.testing.assert_allclose(F.softmax(x.T, axis=0).T, F.softmax(x), rtol=1e-15)
    np.testing.assert_allclose(np.exp(F.log_softmax(x)), F.softmax(x), rtol=1e-14)
    t = Tensor(x)
    np.testing.assert_allclose(gradients(np.sum(F.logsumexp(t)), t), F.softmax(x), rtol=1e-14)
    np.testing.assert_allclose(gradients(np.sum(F.softmax(t)), t), 0, atol=4e-16)


def test_fully_masked_rows():
    """Probabilities 0, log-probabilities and log-sum-exp -inf, and no gradient: never nan."""
    x = np.array([[-np.inf, -np.inf, -np.inf], [-np.inf, 1.0, 2.0]])
    c = np.array([[1.0, -2.0, 3.0], [0.5, 1.5, -1.0]])
    assert F.softmax(x)[0].tolist() == [0, 0, 0]
    assert F.log_softmax(x)[0].tolist() == [-np.inf] * 3
    assert F.logsumexp(x)[0] == -np.inf
    for f in (F.softmax, F.log_softmax, lambda t: F.logsumexp(t, keepdims=True) * np.ones(3)):
        t = Tensor(x)
        g = walk({f(t).node: c}, [t.node])[t.node]  # a gradient that reaches the masked places themselves
        assert np.all(g[0] == 0) and g[1, 0] == 0
        np.testing.assert_allclose(g[1, 1:], expected_without_mask(f, x[1, 1:], c[1, 1:], c[1, 0]), rtol=1e-14)


def expected_without_mask(f, x, c, c_masked):
    """The gradient of the same row without its masked member."""
    p = np.exp(x) / np.exp(x).sum()
    if f is F.softmax:
        return p * (c - np.sum(c * p))
    if f is F.log_softmax:
        return c - p * (c.sum() + c_masked)
    return p * (c.sum() + c_masked)


def test_logsumexp_of_infinity():
    assert F.logsumexp(np.array([1.0, np.inf])) == np.inf
    assert F.logsumexp(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=None).shape == ()
    assert F.logsumexp(np.zeros((2, 3, 4)), axis=(0, -1)).shape == (3,)


def test_empty_rows():
    assert F.softmax(np.zeros((2, 0))).shape == (2, 0)
    assert F.logsumexp(np.zeros((2, 0))).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("f", [F.softmax, F.log_softmax, F.logsumexp])
def test_scores_must_be_floats(f):
    with pytest.raises(TypeError, match=rf"{f.__name__}: x is int64 \(3,\), expected floats"):
        f(np.arange(3))
