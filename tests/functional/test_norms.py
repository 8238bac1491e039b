"""Norms: values from their definitions, the laws they are made for, running statistics."""

import math

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F

import numpy as np
import pytest

RNG = np.random.default_rng(0)


def standardised(x, axes, eps):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


def test_values_by_definition():
    x = RNG.normal(size=(3, 6, 4, 5))
    w, b = RNG.normal(size=5), RNG.normal(size=5)
    np.testing.assert_allclose(F.layer_norm(x, w, b), standardised(x, -1, 1e-5) * w + b, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(F.rms_norm(x, w), x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * w, rtol=1e-13)
    w, b = RNG.normal(size=(2, 6))
    grouped = np.concatenate([standardised(x[:, i : i + 2], (1, 2, 3), 1e-5) for i in (0, 2, 4)], axis=1)
    np.testing.assert_allclose(F.group_norm(x, 3, w, b), grouped * w[:, None, None] + b[:, None, None], rtol=1e-12, atol=1e-13)
    y, _, _ = F.batch_norm(x, w, b, np.zeros(6), np.ones(6), train=True)
    np.testing.assert_allclose(y, standardised(x, (0, 2, 3), 1e-5) * w[:, None, None] + b[:, None, None], rtol=1e-12, atol=1e-13)
    mean, var = RNG.normal(size=6), RNG.uniform(0.5, 2, 6)
    y, _, _ = F.batch_norm(x, w, b, mean, var, train=False)
    column = np.s_[:, None, None]
    np.testing.assert_allclose(y, (x - mean[column]) / np.sqrt(var[column] + 1e-5) * w[column] + b[column], rtol=1e-12, atol=1e-13)


def test_layer_norm_ignores_scale_and_shift_and_rms_norm_only_scale():
    x = RNG.normal(size=(4, 8))
    np.testing.assert_allclose(F.layer_norm(3 * x + 5, eps=0), F.layer_norm(x, eps=0), rtol=1e-12)
    np.testing.assert_allclose(F.rms_norm(3 * x, eps=0), F.rms_norm(x, eps=0), rtol=1e-14)
    assert np.max(np.abs(F.rms_norm(x + 1, eps=0) - F.rms_norm(x, eps=0))) > 0.1
    np.testing.assert_array_equal(F.group_norm(x, 1, eps=0.1), F.layer_norm(x, eps=0.1))


def test_float32_far_from_zero():
    """Two passes: the variance does not cancel where the mean is large."""
    x = (1000 + RNG.normal(size=(4, 64))).astype(np.float32)
    np.testing.assert_allclose(F.layer_norm(x), F.layer_norm(x.astype(np.float64)), atol=2e-3)


def test_constant_rows_become_the_bias():
    b = np.array([1.0, 2.0, 3.0])
    x = Tensor(np.full((2, 3), 7.0))
    y = F.layer_norm(x, np.ones(3), b)
    np.testing.assert_array_equal(y.value, [b, b])
    assert np.all(np.isfinite(gradients(np.sum(y * np.array([1.0, 2.0, 4.0])), x)))
    np.testing.assert_array_equal(F.rms_norm(np.zeros((2, 3))), np.zeros((2, 3)))


def test_batch_of_one_gives_the_bias():
    b = np.array([1.0, 2.0, 3.0])
    y, mean, var = F.batch_norm(np.array([[4.0, 5.0, 6.0]]), np.ones(3), b, np.zeros(3), np.ones(3), train=True)
    np.testing.assert_array_equal(y, [b])
    np.testing.assert_allclose(mean, [0.4, 0.5, 0.6])
    np.testing.assert_allclose(var, 0.9)


def test_running_statistics():
    x = RNG.normal(2.0, 3.0, size=(5, 3, 4))
    mean, var = RNG.normal(size=3), RNG.uniform(1, 2, 3)
    before = mean.copy(), var.copy()
    for given in (x, Tensor(x)):
        _, new_mean, new_var = F.batch_norm(given, None, None, mean, var, train=True, momentum=0.25)
        assert type(new_mean) is np.ndarray and type(new_var) is np.ndarray
        np.testing.assert_allclose(new_mean, 0.75 * mean + 0.25 * x.mean((0, 2)), rtol=1e-14)
        np.testing.assert_allclose(new_var, 0.75 * var + 0.25 * x.var((0, 2), ddof=1), rtol=1e-14)
    np.testing.assert_array_equal((mean, var), before)
    _, same_mean, same_var = F.batch_norm(x, None, None, mean, var, train=False)
    assert same_mean is mean and same_var is var
    *_, new_mean, new_var = F.batch_norm(x.astype(np.float32), None, None, mean.astype(np.float32), var.astype(np.float32), train=True)
    assert new_mean.dtype == new_var.dtype == np.float32


ERRORS = [
    (lambda: F.layer_norm(np.ones((2, 3)), np.ones(4)), "layer_norm: x (2, 3) has 3 channels but weight is (4,); expected (3,)"),
    (lambda: F.layer_norm(np.ones((2, 3)), None, np.ones(4)), "layer_norm: x (2, 3) has 3 channels but bias is (4,); expected (3,)"),
    (lambda: F.rms_norm(np.ones((2, 3)), np.ones(4)), "rms_norm: x (2, 3) has 3 channels but weight is (4,); expected (3,)"),
    (lambda: F.group_norm(np.ones((2, 3)), 2), "group_norm: 3 channels do not divide into 2 groups; x (2, 3)"),
    (lambda: F.group_norm(np.ones(3), 1), "group_norm: x (3,) has no channel axis; expected (N, C, ...)"),
    (
        lambda: F.batch_norm(np.ones((2, 3)), None, None, np.ones(2), np.ones(3), train=True),
        "batch_norm: x (2, 3) has 3 channels but running_mean is (2,); expected (3,)",
    ),
    (lambda: F.layer_norm(1.0), "layer_norm: x () has no axis to normalise over; expected (..., C)"),
    (lambda: F.rms_norm(np.ones(())), "rms_norm: x () has no axis to normalise over; expected (..., C)"),
    *(
        (
            lambda m=m: normed("batch_norm", momentum=m),
            f"batch_norm: momentum is {m}, expected a number from 0 to 1: how far the running statistics move",
        )
        for m in (-0.1, 2, math.nan)
    ),
]


def normed(name, train=True, **options):
    x = Tensor(np.ones((4, 2)))
    if name == "batch_norm":
        return F.batch_norm(x, None, None, np.ones(2), np.ones(2), train=train, **options)
    return F.group_norm(x, 1, **options) if name == "group_norm" else getattr(F, name)(x, **options)


NORMS = ["layer_norm", "rms_norm", "group_norm", "batch_norm", "normalize"]


@pytest.mark.parametrize("eps", [-1, -1e-5, math.nan, math.inf, np.float32(-1)], ids=repr)
@pytest.mark.parametrize("name", NORMS)
def test_eps_is_finite_and_not_negative(name, eps):
    for options in ({"train": True}, {"train": False}) if name == "batch_norm" else ({},):
        with pytest.raises(ValueError, match=rf"^{name}: eps is {eps}, expected a finite number of at least 0, such as 1e-5: [^\n]*$"):
            normed(name, eps=eps, **options)


@pytest.mark.parametrize("name", NORMS)
def test_eps_may_be_zero_or_numpys_but_is_one_number(name):
    x = np.arange(1.0, 9).reshape(4, 2)
    assert np.isfinite(F.layer_norm(x, eps=0)).all() and F.rms_norm(x, eps=np.float32(1e-5)).shape == x.shape
    for eps in (np.ones(2), [1e-5]):
        with pytest.raises(TypeError, match=rf"^{name}: eps is [^\n]*, expected a number$"):
            normed(name, eps=eps)


@pytest.mark.parametrize("flag", ["yes", 1, 0, None], ids=repr)
def test_a_flag_is_true_or_false(flag):
    with pytest.raises(TypeError, match=f"^batch_norm: train={flag!r}, expected True or False$"):
        normed("batch_norm", train=flag)
    with pytest.raises(TypeError, match=f"^group_norm: silu={flag!r}, expected True or False$"):
        normed("group_norm", silu=flag)


@pytest.mark.parametrize("groups", ["a", 1.0])
def test_groups_are_whole_numbers(groups):
    with pytest.raises(TypeError, match=f"^group_norm: groups={groups!r}, expected an integer$"):
        F.group_norm(np.ones((2, 4)), groups)


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("silu", [False, True])
def test_group_norm_of_no_examples(silu):
    x = Tensor(np.zeros((0, 4, 3)))
    y = F.group_norm(x, 2, silu=silu)
    assert y.shape == gradients(np.sum(y), x).shape == (0, 4, 3)
