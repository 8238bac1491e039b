"""The promise in a few lines, checked in a few seconds: `make smoke`."""

from tinygrad_notes import Tensor, gradients

import numpy as np
import pytest


def mean_squared_error(x, y, weights):
    """A network of two layers, written for arrays."""
    a, b = weights
    return np.mean((np.tanh(x @ a) @ b - y) ** 2)


def test_a_numpy_program_has_gradients():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    arrays = [rng.normal(size=(3, 4)), rng.normal(size=(4, 2))]
    weights = [Tensor(w) for w in arrays]
    loss = mean_squared_error(x, y, weights)
    assert loss.item() == pytest.approx(mean_squared_error(x, y, arrays), rel=1e-15)
    for i, g in enumerate(gradients(loss, weights)):
        direction = rng.normal(size=arrays[i].shape)
        h = 1e-5
        ahead, behind = ([w + s * h * direction if i == j else w for j, w in enumerate(arrays)] for s in (1, -1))
        slope = (mean_squared_error(x, y, ahead) - mean_squared_error(x, y, behind)) / (2 * h)
        assert np.vdot(g, direction) == pytest.approx(slope, rel=1e-7)


def test_arrays_in_arrays_out():
    weights = [np.ones((3, 4)), np.ones((4, 2))]
    assert not isinstance(mean_squared_error(np.ones((5, 3)), 0.0, weights), Tensor)


def test_training_lowers_the_loss():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 2)).astype(np.float32)
    y = (x[:, :1] * x[:, 1:] > 0).astype(np.float32)
    weights = [Tensor(rng.normal(size=shape).astype(np.float32)) for shape in ((2, 16), (16, 1))]
    losses = []
    for _ in range(300):
        loss = mean_squared_error(x, y, weights)
        losses.append(loss.item())
        weights = [Tensor(w.value - np.float32(0.05) * g) for w, g in zip(weights, gradients(loss, weights))]
    assert losses[-1] < 0.5 * losses[0]
    assert all(w.dtype == np.float32 for w in weights)


def test_second_order():
    x = Tensor(np.array([0.5, 1.0, 2.0]))
    (first,) = gradients(np.sum(np.exp(2 * x)), [x], create_graph=True)
    (second,) = gradients(np.sum(first), [x])
    np.testing.assert_allclose(second, 4 * np.exp(2 * x.value), rtol=1e-14)


def test_what_would_lose_a_gradient_is_refused():
    t = Tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"np\.stack"):
        np.array([t, t])
    with pytest.raises(TypeError, match="in place"):
        t[0] = 1.0
    with pytest.raises(TypeError, match=r"t\.item\(\)"):
        float(t)
