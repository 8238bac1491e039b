"""Every kernel equals its twin at the sizes of a small model, where the pieces that it works on are as large as they are.

tests/fused/test_kernels.py draws sizes below 8 and makes the pieces as small; here nothing is set, and each kernel
has more than one piece, the last one not full.
"""

import tinygrad_notes as tn
from tests.fused.test_kernels import EPS, narrow, value_and_gradients
from tinygrad_notes.fused import kernels
from tinygrad_notes.fused.convolution import Geometry

import numpy as np
import pytest

RNG = np.random.default_rng(0)
PLAIN, STRIDED = Geometry((1, 1), (1, 1), (1, 1)), Geometry((2, 2), (1, 1), (1, 1))
SIZES = {
    "linear": [([(3, 97, 160), (130, 160), (130,)], {})],
    "layer_norm": [([(5, 111, 260), (260,), (260,)], {"eps": 1e-5})],
    "rms_norm": [([(5, 111, 260), (260,)], {"eps": 1e-5})],
    "group_norm": [([(3, 24, 45, 46), (24,), (24,)], {"groups": 8, "eps": 1e-5, "silu": silu}) for silu in (False, True)],
    "silu": [([(3, 50_001)], {})],
    "gelu": [([(3, 50_001)], {})],
    "gelu_tanh": [([(3, 50_001)], {})],
    "squared_error": [([(3, 50_001), (3, 50_001)], {})],
    "swiglu": [([(301, 1026)], {})],
    "softmax": [([(3, 101, 501)], {})],
    "log_softmax": [([(3, 101, 501)], {})],
    "cross_entropy": [([(301, 501)], {"targets": RNG.integers(0, 501, 301), "weights": RNG.random(301), "divisor": 150.0})],
    "embedding": [([(701, 65)], {"ids": RNG.integers(0, 701, (40, 51))})],
    "dropout": [([(3, 50_001)], {"kept": RNG.random((3, 50_001)) < 0.9, "scale": 1 / 0.9})],
    "convolution": [
        ([(5, 32, 23, 25), (34, 32, 3, 3), (34,)], {"geometry": PLAIN, "groups": 1}),
        ([(5, 32, 23, 25), (34, 16, 3, 3), (34,)], {"geometry": STRIDED, "groups": 2}),
    ],
    "transposed_convolution": [([(5, 32, 12, 13), (32, 18, 3, 3), (18,)], {"space": (23, 25), "geometry": STRIDED, "groups": 1})],
}


def test_every_kernel_has_sizes():
    assert {*SIZES, "blocked_attention"} == set(kernels.__all__)  # which has tests of its own


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, rows in SIZES.items() for i in range(len(rows))])
def test_kernel_equals_its_twin_at_the_sizes_of_a_model(name, i):
    kernel, (shapes, params) = getattr(kernels, name), SIZES[name][i]
    rng = np.random.default_rng(1)
    inputs = [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    wide = [x.astype(np.float64) for x in inputs]
    with tn.reference():
        g = rng.uniform(-1, 1, kernel(*inputs, **params).shape).astype(np.float32)
        expected = value_and_gradients(kernel, wide, {k: narrow(v, np.float64) for k, v in params.items()}, g.astype(np.float64))
    found = value_and_gradients(kernel, inputs, {k: narrow(v, np.float32) for k, v in params.items()}, g)
    for mine, twin in zip(found, expected, strict=True):
        assert mine.shape == twin.shape and mine.dtype == np.float32
        # Each element is a sum of at most 3,000 terms below 1, rounded at random: some fifty roundings of the largest partial sum.
        np.testing.assert_allclose(mine, twin, rtol=0, atol=100 * EPS[np.float32] * (1 + np.max(np.abs(twin))))


def test_a_squared_error_of_many_numbers_keeps_the_small_ones():
    x = np.zeros((7, 2**17), np.float32)  # pieces, whose sums are added up in float64: float32 would lose six ones beside 2^24
    x[:, 0] = [2**12, 1, 1, 1, 1, 1, 1]
    assert kernels.squared_error(x, np.zeros_like(x)) * x.size == 2**24 + 6
