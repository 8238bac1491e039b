"""Convolution, pooling and resizing: against loops over every output, and by their laws."""

from functools import partial
from itertools import product

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F
from tinygrad_notes.functional.resize import resampling

import numpy as np
import pytest

RNG = np.random.default_rng(2)


def conv2d_loop(x, w, b, stride, padding, dilation, groups):
    """The definition, one output at a time."""
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    (N, _, H, W), (O, C, KH, KW) = x.shape, w.shape
    height, width = ((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip((H, W), (KH, KW), stride, dilation))
    y = np.empty((N, O, height, width))
    for n, o, i, j in product(range(N), range(O), range(height), range(width)):
        first = o // (O // groups) * C
        rows = i * stride[0] + dilation[0] * np.arange(KH)
        columns = j * stride[1] + dilation[1] * np.arange(KW)
        y[n, o, i, j] = b[o] + np.sum(w[o] * x[n, first : first + C][:, rows][:, :, columns])
    return y


GEOMETRIES = [
    ((3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 2), (2, 1), (0, 2), (1, 2), 1),
    ((1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((1, 1), (2, 2), (0, 0), (1, 1), 2),
    ((2, 3), (3, 2), (2, 1), (2, 1), 2),
    ((3, 3), (1, 1), (1, 1), (1, 1), 4),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), GEOMETRIES)
def test_conv2d_is_its_definition(kernel, stride, padding, dilation, groups, dtype):
    x = RNG.normal(size=(2, 4, 6, 7)).astype(dtype)
    w = RNG.normal(size=(8, 4 // groups, *kernel)).astype(dtype)
    b = RNG.normal(size=8).astype(dtype)
    y = F.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    assert y.dtype == dtype
    expected = conv2d_loop(x.astype(float), w.astype(float), b, stride, padding, dilation, groups)
    np.testing.assert_allclose(y, expected, rtol=0, atol=64 * np.finfo(dtype).eps * np.max(np.abs(expected)))


def test_conv1d_is_a_conv2d_of_height_one():
    x, w, b = RNG.normal(size=(2, 4, 9)), RNG.normal(size=(6, 2, 3)), RNG.normal(size=6)
    y = F.conv2d(x[:, :, None], w[:, :, None], b, stride=(1, 2), padding=(0, 2), dilation=(1, 2), groups=2)
    np.testing.assert_allclose(F.conv1d(x, w, b, stride=2, padding=2, dilation=2, groups=2), y[:, :, 0], rtol=1e-13)


def test_convolution_is_an_einsum_over_windows():
    x, w = RNG.normal(size=(2, 3, 5, 6)), RNG.normal(size=(4, 3, 2, 3))
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))
    np.testing.assert_allclose(F.conv2d(x, w), np.einsum("nchwij,ocij->nohw", windows, w), rtol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "groups"), GEOMETRIES)
def test_conv_transpose2d_is_the_transpose(kernel, stride, padding, dilation, groups):
    """<conv(x), v> = <x, conv_transpose(v)> for every x and v."""
    x, w = RNG.normal(size=(2, 4, 6, 7)), RNG.normal(size=(8, 4 // groups, *kernel))
    y = F.conv2d(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)
    v = RNG.normal(size=y.shape)
    smallest = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in zip(y.shape[2:], kernel, stride, padding, dilation)]
    extra = tuple(n - m for n, m in zip(x.shape[2:], smallest))
    back = F.conv_transpose2d(v, w, stride=stride, padding=padding, dilation=dilation, groups=groups, output_padding=extra)
    assert back.shape == x.shape
    assert np.sum(y * v) == pytest.approx(np.sum(x * back), rel=1e-12)


def test_conv_transpose2d_paints_the_kernel():
    x = np.zeros((1, 1, 2, 2))
    x[0, 0, 0, 1] = 2
    w = RNG.normal(size=(1, 1, 2, 2))
    y = F.conv_transpose2d(x, w, np.array([5.0]), stride=2)
    expected = np.full((4, 4), 5.0)
    expected[:2, 2:] += 2 * w[0, 0]
    np.testing.assert_array_equal(y[0, 0], expected)


def test_convolution_laws():
    x, w = RNG.normal(size=(2, 3, 6, 6)), RNG.normal(size=(4, 3, 3, 3))
    shifted = np.roll(x, 1, axis=3)
    np.testing.assert_allclose(F.conv2d(shifted, w)[..., 1:], F.conv2d(x, w)[..., :-1], rtol=1e-12)  # equivariance
    np.testing.assert_allclose(F.conv2d(x, w[:, :, :1, :1]), np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]), rtol=1e-12)
    halves = [F.conv2d(x[:, i : i + 1], w[i : i + 1, :1]) for i in range(3)]
    np.testing.assert_allclose(F.conv2d(x, w[:3, :1], groups=3), np.concatenate(halves, axis=1), rtol=1e-12)
    assert F.conv2d(x[:0], w).shape == (0, 4, 4, 4)


X, W, B = np.ones((8, 3, 32, 32)), np.ones((16, 4, 3, 3)), np.ones(3)
ERRORS = [
    (lambda: F.conv2d(X, W), "conv2d: x has 3 channels but w expects 4; x (8, 3, 32, 32), w (16, 4, 3, 3)"),
    (lambda: F.conv2d(X, W, groups=2), "conv2d: x has 3 channels but w expects 8; x (8, 3, 32, 32), w (16, 4, 3, 3), groups=2"),
    (lambda: F.conv2d(X[0], W), "conv2d: x (3, 32, 32) and w (16, 4, 3, 3); expected x (N, C, H, W) and w (O, C, KH, KW)"),
    (lambda: F.conv1d(X, W), "conv1d: x (8, 3, 32, 32) and w (16, 4, 3, 3); expected x (N, C, T) and w (O, C, K)"),
    (
        lambda: F.conv2d(X, W[:, :3], B),
        "conv2d: bias is (3,), expected (16,), one number for each output channel of w (16, 3, 3, 3)",
    ),
    (lambda: F.conv2d(X, W[:, :3], stride=0), "conv2d: stride=0, expected an integer of at least 1, or 2 of them"),
    (lambda: F.conv2d(X, W[:, :3], padding=(1, 1, 1)), "conv2d: padding=(1, 1, 1), expected an integer of at least 0, or 2 of them"),
    (
        lambda: F.conv2d(X[..., :2], W[:, :3]),
        "conv2d: a kernel (3, 3) with dilation (1, 1) is larger than x (32, 2) padded by (0, 0); pad more or use a smaller kernel",
    ),
    *(
        (call, f"{name}: groups={groups}, expected at least 1: as many parts of the channels, which do not mix")
        for groups in (0, -1)
        for name, call in (
            ("conv2d", partial(F.conv2d, X, W, groups=groups)),
            ("conv1d", partial(F.conv1d, X[:, :, 0], W[:, :, 0], groups=groups)),
            ("conv_transpose2d", partial(F.conv_transpose2d, X, W[:3], groups=groups)),
        )
    ),
    (lambda: F.conv2d(X, W[:, :1], groups=3), "conv2d: 16 output channels do not divide into 3 groups; w (16, 1, 3, 3)"),
    (
        lambda: F.conv_transpose2d(X, W),
        "conv_transpose2d: x has 3 channels but w expects 16 in 1 groups; x (8, 3, 32, 32), w (16, 4, 3, 3) (C, O / groups, KH, KW)",
    ),
    (
        lambda: F.conv_transpose2d(X, W[:3], stride=2, output_padding=2),
        "conv_transpose2d: output_padding=2 must be smaller than the stride or the dilation; stride=2, dilation=1",
    ),
    (lambda: F.max_pool2d(X[0], 2), "max_pool2d: x is float64 (3, 32, 32), expected floats (N, C, H, W)"),
    (
        lambda: F.max_pool2d(X, 2, padding=2),
        "max_pool2d: padding=(2, 2) is more than half of the window (2, 2), so that a window could hold padding only",
    ),
    (
        lambda: F.avg_pool1d(X[0], 40),
        "avg_pool1d: a kernel (40,) with dilation (1,) is larger than x (32,) padded by (0,); pad more or use a smaller kernel",
    ),
    (lambda: F.interpolate(X, 4, "cubic"), "interpolate: mode='cubic', expected 'nearest', 'bilinear' or 'bicubic'"),
    (lambda: F.interpolate(X[0], 4), "interpolate: x is float64 (3, 32, 32), expected floats (N, C, H, W), not empty"),
    (
        lambda: F.interpolate(X, 4, "nearest", True),
        "interpolate: antialias=True has no meaning with mode='nearest'; use 'bilinear' or 'bicubic'",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("groups", ["a", 1.0, None, True])
def test_groups_are_whole_numbers(groups):
    for name, x in (("conv1d", np.ones((2, 2, 2))), ("conv2d", np.ones((2, 2, 2, 2))), ("conv_transpose2d", np.ones((2, 2, 2, 2)))):
        with pytest.raises(TypeError) as error:
            getattr(F, name)(x, x, groups=groups)
        assert str(error.value) == f"{name}: groups={groups!r}, expected an integer"


# --- pooling --------------------------------------------------------------------------------------


def pool_loop(x, size, stride, padding, reduce, fill):
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)], constant_values=fill)
    height, width = ((n - size) // stride + 1 for n in x.shape[2:])
    y = np.empty((*x.shape[:2], height, width))
    for i, j in product(range(height), range(width)):
        y[:, :, i, j] = reduce(x[:, :, i * stride : i * stride + size, j * stride : j * stride + size], axis=(2, 3))
    return y


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_pooling_is_its_definition(size, stride, padding):
    x = RNG.normal(size=(2, 3, 7, 8)) - 1
    np.testing.assert_array_equal(F.max_pool2d(x, size, stride, padding), pool_loop(x, size, stride, padding, np.max, -np.inf))
    np.testing.assert_allclose(F.avg_pool2d(x, size, stride, padding), pool_loop(x, size, stride, padding, np.mean, 0), rtol=1e-13)
    line = x[:, :, 0]
    across = {"stride": (1, stride), "padding": (0, padding)}
    np.testing.assert_array_equal(F.max_pool1d(line, size, stride, padding), F.max_pool2d(line[:, :, None], (1, size), **across)[:, :, 0])
    np.testing.assert_array_equal(F.avg_pool1d(line, size, stride, padding), F.avg_pool2d(line[:, :, None], (1, size), **across)[:, :, 0])


def test_equal_maxima_share_the_gradient():
    x = Tensor(np.array([[[1.0, 1.0, 0.0, 2.0, 3.0, 3.0]]]))
    g = gradients(np.sum(F.max_pool1d(x, 3) * np.array([6.0, 10.0])), x)
    assert g.tolist() == [[[3, 3, 0, 0, 5, 5]]]
    zeros = Tensor(np.zeros((1, 1, 2, 2)))  # as after a relu; the padding takes no part
    assert gradients(np.sum(F.max_pool2d(zeros, 2, 1, 1)), zeros).tolist() == [[[[2.25] * 2] * 2]]


# --- resizing ----------------------------------------------------------------------------------------

MODES = [("nearest", False), ("bilinear", False), ("bicubic", False), ("bilinear", True), ("bicubic", True)]


@pytest.mark.parametrize(("mode", "antialias"), MODES)
def test_resizing_laws(mode, antialias):
    x = RNG.normal(size=(2, 3, 6, 5))
    np.testing.assert_allclose(F.interpolate(x, (6, 5), mode, antialias), x, atol=1e-15)  # the same size: the same image
    np.testing.assert_allclose(F.interpolate(np.full((1, 1, 6, 5), 3.0), (4, 11), mode, antialias), 3.0, rtol=1e-14)
    both = F.interpolate(x, (9, 4), mode, antialias)
    np.testing.assert_allclose(F.interpolate(F.interpolate(x, (9, 5), mode, antialias), (9, 4), mode, antialias), both, atol=1e-14)
    if mode != "nearest":
        flipped = F.interpolate(x[..., ::-1], (9, 4), mode, antialias)
        np.testing.assert_allclose(flipped, both[..., ::-1], atol=1e-14)


def test_known_resizings():
    line = np.arange(4.0).reshape(1, 1, 1, 4)
    assert F.interpolate(line, (1, 8), "nearest").ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert F.interpolate(line, (1, 8)).ravel().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert F.interpolate(line, (1, 2), "bilinear").ravel().tolist() == [0.5, 2.5]
    # Half the size, antialiased: a triangle of weights 1, 3, 3, 1, cut and renormalised at the border.
    np.testing.assert_allclose(resampling(8, 4, "bilinear", True, np.dtype(float))[1] * 8, [0, 1, 3, 3, 1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(resampling(8, 4, "bilinear", True, np.dtype(float))[0] * 7, [3, 3, 1, 0, 0, 0, 0, 0], atol=1e-15)
    # A quarter of the way between pixels, Keys' kernel with a = -3/4.
    np.testing.assert_allclose(
        resampling(8, 16, "bicubic", False, np.dtype(float))[5, 1:5], [-27 / 256, 225 / 256, 67 / 256, -9 / 256], atol=1e-15
    )


def test_resampling_matrices_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        resampling(4, 2, "nearest", False, np.dtype(float))[0] = 1
