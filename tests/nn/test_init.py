"""Initialisers: moments, bounds and orthogonality, with tolerances from the number of draws."""

import math

from tinygrad_notes.nn import init

import numpy as np
import pytest

SHAPE = (80, 60, 3)  # fan-in 180, fan-out 240
N = math.prod(SHAPE)


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("draw", "std"),
    [
        (lambda: init.normal(SHAPE, rng(), std=0.3), 0.3),
        (lambda: init.uniform(SHAPE, rng(), low=-1.0, high=1.0), math.sqrt(1 / 3)),
        (lambda: init.xavier_uniform(SHAPE, rng(), gain=2.0), 2 * math.sqrt(2 / 420)),
        (lambda: init.xavier_normal(SHAPE, rng()), math.sqrt(2 / 420)),
        (lambda: init.kaiming_uniform(SHAPE, rng()), math.sqrt(2 / 180)),
        (lambda: init.kaiming_normal(SHAPE, rng(), mode="fan_out", slope=0.5), math.sqrt(2 / 240 / 1.25)),
        (lambda: init.trunc_normal(SHAPE, rng()), math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))),
        (lambda: init.default(SHAPE, 80, rng())[0], math.sqrt(1 / 3 / 180)),
    ],
)
def test_moments(draw, std):
    x = draw()
    assert x.shape == SHAPE and x.dtype == np.float32
    assert abs(x.mean()) < 5 * std / math.sqrt(N)
    assert abs(x.std() / std - 1) < 5 / math.sqrt(2 * N)


@pytest.mark.parametrize("rng", [3, None, np.random])
@pytest.mark.parametrize("draw", [init.normal, init.uniform, init.trunc_normal, init.orthogonal, init.xavier_uniform, init.kaiming_normal])
def test_a_seed_is_no_generator(draw, rng):
    """Nor is np.random, whose numbers depend on whoever drew before."""
    with pytest.raises(TypeError, match=r"^init: rng is .*, expected a Generator: np\.random\.default_rng\([03]\)$"):
        draw((4, 4), rng)


def test_bounds():
    assert np.abs(init.xavier_uniform(SHAPE, rng())).max() <= math.sqrt(6 / 420)
    x = init.trunc_normal(SHAPE, rng(), mean=1.0, std=2.0, low=0.5, high=4.0)
    assert 0.5 <= x.min() < 0.51 and 3.99 < x.max() <= 4.0
    weight, bias = init.default((4, 25), 4, rng(), dtype=np.float64)
    assert bias.shape == (4,) and weight.dtype == bias.dtype == np.float64 and np.abs(np.append(weight, bias)).max() <= 0.2
    assert init.default((4, 25), 4, rng(), bias=False)[1] is None


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (4, 2, 3, 3)])
def test_orthogonal(shape):
    w = init.orthogonal(shape, rng(), gain=3.0, dtype=np.float64).reshape(shape[0], -1)
    w = w if len(w) <= w.shape[1] else w.T
    np.testing.assert_allclose(w @ w.T, 9 * np.eye(len(w)), atol=1e-13)


def test_constants():
    assert init.zeros(3).tolist() == [0, 0, 0] and init.ones((2,), np.float64).dtype == np.float64
