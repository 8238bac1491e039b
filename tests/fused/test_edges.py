"""Kernels and their twins where numbers are large, masked, not finite or narrow."""

import contextlib
import os
import subprocess
import sys
from contextlib import nullcontext

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes.fused import embedding as embedding_file
from tinygrad_notes.fused import kernels, windows

import numpy as np
import pytest

FAR = np.array([-800.0, -95, -12, -1, 0, 1, 12, 95, 800])
SIGMOIDS = {
    "silu": lambda x: F.silu(x),
    "gelu": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu_tanh(x),
    "swiglu": lambda x: F.swiglu(np.stack([x, x], axis=-1)),
    "group_norm": lambda x: F.group_norm(x.reshape(1, 3, 3), 1, np.ones(3, x.dtype), np.array([-800, 0, 800], x.dtype), silu=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SIGMOIDS)
def test_saturated_units_have_derivatives_of_every_order(name, dtype):
    f, x = SIGMOIDS[name], FAR.astype(dtype)
    y, tangent = tn.jvp(f, x, np.ones_like(x))  # forward mode goes through the twin
    curvature = tn.hvp(lambda x: np.sum(f(x) ** 2), x, np.ones_like(x))
    for found in (y, tangent, curvature):
        assert np.all(np.isfinite(found)) and found.dtype == dtype
    with tn.reference():
        twin = f(x)
    np.testing.assert_allclose(y, twin, rtol=100 * np.finfo(dtype).eps, atol=1e-30)


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e30])
def test_a_row_that_does_not_count_may_hold_anything(bad, smoothing, twin):
    x = np.array([[bad, bad, bad], [1.0, 2, 3]])
    t = tn.Tensor(x)

    def loss(x, targets):
        return F.cross_entropy(x, targets, label_smoothing=smoothing)

    if twin:
        with tn.reference():
            value = loss(t, np.array([-100, 1]))
            g = tn.gradients(value, t)
    else:
        value = loss(t, np.array([-100, 1]))
        g = tn.gradients(value, t)
    alone = tn.Tensor(x[1:])
    expected = loss(alone, np.array([1]))
    assert value.item() == pytest.approx(expected.item(), rel=1e-14)
    np.testing.assert_array_equal(g[0], 0)
    np.testing.assert_allclose(g[1:], tn.gradients(expected, alone), rtol=1e-13)


def test_a_masked_class_has_no_gradient():
    x = np.array([[0.0, -np.inf, 1.0], [-np.inf, 2.0, 1.0]])
    found = []
    for twin in (False, True):
        t = tn.Tensor(x)
        if twin:
            with tn.reference():
                found.append(tn.gradients(F.cross_entropy(t, np.array([2, 1])), t))
        else:
            found.append(tn.gradients(F.cross_entropy(t, np.array([2, 1])), t))
    assert found[0][0, 1] == found[0][1, 0] == 0
    np.testing.assert_allclose(*found, rtol=1e-14)


@pytest.mark.parametrize("targets", [[2, 1], [1, 0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_masked_class_has_no_gradient_even_where_the_loss_is_infinite(smoothing, targets):
    """As the target, or where smoothing gives it a share: what was masked does not move, and the others stay finite."""
    t = tn.Tensor(np.array([[0.0, -np.inf, 1.0], [-np.inf, 2.0, 1.0]]))
    g = tn.gradients(F.cross_entropy(t, np.array(targets), label_smoothing=smoothing), t)
    assert g[0, 1] == g[1, 0] == 0 and np.all(np.isfinite(g))


def test_a_class_that_weighs_nothing_still_smooths():
    """The target's own term is 0 then; the shares of the other classes are not, and have gradients."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(4, 3)), np.array([0.0, 1.0, 2.0])
    found = []
    for twin in (False, True):
        t = tn.Tensor(x)
        with tn.reference() if twin else contextlib.nullcontext():
            found.append(tn.gradients(F.cross_entropy(t, np.array([0, 0, 1, 2]), weight=weight, label_smoothing=0.3), t))
    assert np.all(np.abs(found[1][:2]).max(axis=1) > 1e-3)
    np.testing.assert_allclose(*found, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 0), (0, 3)])
def test_padded_space_is_that_of_numpy(padding):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    expected = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=-np.inf)
    np.testing.assert_array_equal(windows.pad_space(x, padding, -np.inf), expected)


def test_half_precision_goes_to_the_twins():
    """In float16 a kernel's sums would overflow where the twin's do not."""
    x = (np.arange(1000) % 7 * 20).astype(np.float16)
    y = F.rms_norm(x)
    assert (y.dtype == np.float16 and np.abs(y).max() > 0.5) or not np.all(np.isfinite(np.mean(x * x)))
    assert F.mse(np.full(1000, 10, np.float16), np.zeros(1000, np.float16)) == 100


@pytest.mark.parametrize("small", [0, 10**6])
def test_a_row_of_infinities_stays_in_its_row(small, monkeypatch):
    monkeypatch.setattr(embedding_file, "SMALL", small)  # the sparse product, and the dense one
    W = tn.Tensor(np.ones((3, 2)))
    g = tn.gradients(np.sum(F.embedding(np.array([0, 1, 2]), W) * np.array([[1.0], [np.inf], [1.0]])), W)
    np.testing.assert_array_equal(g, [[1, 1], [np.inf, np.inf], [1, 1]])


def test_a_long_mean_keeps_its_digits():
    x = np.random.default_rng(0).random(2_000_000).astype(np.float32)
    exact = np.mean(x.astype(np.float64) ** 2)
    assert abs(F.mse(x, np.zeros_like(x)) / exact - 1) < 1e-6


def test_a_tensor_as_a_setting_is_refused():
    x = tn.Tensor(np.ones((1, 1, 3, 2)))
    with pytest.raises(TypeError, match=r"scale is Tensor .* pass q \* scale"):
        F.scaled_dot_product_attention(x, x, x, scale=tn.Tensor(1.0))
    with pytest.raises(TypeError, match="rms_norm: only its arrays have gradients"):
        kernels.rms_norm(x, None, eps=tn.Tensor(1.0))


def test_settings_that_cannot_be_are_told():
    x = tn.Tensor(np.ones((1, 2, 3, 2)))
    for block in (16, (0, 2), (1, 2, 3)):
        with pytest.raises(ValueError, match="expected two numbers of at least 1"):
            F.scaled_dot_product_attention(x, x, x, block=block)
    with pytest.raises(ValueError, match="2 channels do not divide into 0 groups"):
        F.group_norm(x, 0)
    with pytest.raises(ValueError, match=r"mse: x \(1, 2, 3, 2\) and target \(\) differ in shape"):
        F.mse(x, 1.0)


def test_norms_of_large_float16_numbers():
    x = np.array([[400, -300, 100, 0], [6e4, 5e4, -6e4, 1]], np.float16)
    for norm in (F.layer_norm, F.rms_norm, lambda x: F.group_norm(x, 1), lambda x: F.group_norm(x, 2, silu=True)):
        t = tn.Tensor(x)
        y = norm(t)
        assert y.dtype == np.float16 and tn.gradients(np.sum(y * y), t).dtype == np.float16
        np.testing.assert_allclose(y.value, norm(x.astype(np.float32)), rtol=2e-3, atol=1e-3)


def test_gelu_keeps_float16():
    t = tn.Tensor(np.linspace(-3, 3, 7, dtype=np.float16))
    assert F.gelu(t.value).dtype == F.gelu(t).dtype == np.float16
    np.testing.assert_allclose(F.gelu(t.value), F.gelu(t.value.astype(np.float32)), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("twin", [False, True])
def test_hidden_values_may_be_as_large_as_numbers_are(twin):
    rng = np.random.default_rng(0)
    q, k, v = (tn.Tensor(rng.normal(size=(1, 4, 4)).astype(np.float32)) for _ in range(3))
    v.value[:, 3] = 1e38
    with np.errstate(over="ignore", invalid="ignore"), tn.reference() if twin else nullcontext():
        y = F.scaled_dot_product_attention(q, k, v, mask=np.array([True, True, True, False]))
        found = tn.gradients(np.sum(10 * y), [q, k, v])
    assert all(np.isfinite(g).all() for g in found)
    assert not found[2][:, 3].any()


CHILD = """
import os
import tinygrad_notes as tn
from tinygrad_notes import functional as F, threads
import numpy as np
threads.LARGE, threads.cores = 0, lambda: 2
x, w = np.ones((8, 2, 9, 9)), np.ones((2, 2, 3, 3))
from tinygrad_notes.fused import convolution
convolution.ROOM = 100
first = F.conv2d(x, w)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(F.conv2d(x, w), first) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork is how POSIX systems copy a process; Windows has none")
def test_a_forked_child_has_threads_of_its_own():
    env = os.environ | {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # from Python 3.12 on, forking with threads warns: that is the test
    assert subprocess.run([sys.executable, "-c", CHILD], timeout=120, env=env).returncode == 0


@pytest.mark.parametrize(
    ("stride", "dilation", "padding", "kernel", "extra"), [(3, 1, 0, 1, 2), (3, 1, 1, 2, 1), (1, 2, 0, 1, 1), (2, 3, 0, 2, 2)]
)
def test_what_no_pixel_painted_does_not_reach_the_weights(stride, dilation, padding, kernel, extra):
    """Rows and columns of output padding: a NaN of their cotangent times no pixel at all is nothing."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 2, 3, 2)), rng.normal(size=(2, 1, kernel, kernel))

    def f(x, w):
        return F.conv_transpose2d(x, w, stride=stride, dilation=dilation, padding=padding, output_padding=extra)

    painted = f(np.ones_like(x), np.ones_like(w)) != 0
    dy = rng.normal(size=painted.shape)
    assert not painted.all()
    a, b = tn.Tensor(x), tn.Tensor(w)
    expected = tn.gradients(np.sum(f(a, b) * np.where(painted, dy, 0)), [a, b])
    found = tn.gradients(np.sum(f(a, b) * np.where(painted, dy, np.nan)), [a, b])
    for g, e in zip(found, expected):
        np.testing.assert_allclose(g, e, rtol=1e-12)
