"""Losses: from their definitions written as loops, at extremes, and what they refuse."""

import math

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F
from tinygrad_notes.functional.losses import divisors

import numpy as np
import pytest

RNG = np.random.default_rng(1)


def cross_entropy_loop(x, targets, weight, smoothing, ignore_index):
    """Each loss and each weight, one number at a time."""
    C = len(x[0])
    losses, weights = [], []
    for row, t in zip(x, targets):
        lse = math.log(math.fsum(math.exp(v) for v in row))
        log_p = [v - lse for v in row]
        w = [1.0] * C if weight is None else weight
        if t == ignore_index:
            losses.append(0.0)
            weights.append(0.0)
        else:
            losses.append(-(1 - smoothing) * w[t] * log_p[t] - smoothing / C * math.fsum(a * b for a, b in zip(w, log_p)))
            weights.append(w[t])
    return np.array(losses), np.array(weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 2.0, 1.0, 0.25, 3.0])])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_cross_entropy_is_its_definition(smoothing, weight, ignore_index):
    x = RNG.normal(size=(6, 5)) * 3
    targets = np.array([0, 4, 2, 2, 1, 3])
    options = {"weight": weight, "label_smoothing": smoothing, "ignore_index": ignore_index}
    losses, weights = cross_entropy_loop(x, targets, weight, smoothing, ignore_index)
    np.testing.assert_allclose(F.cross_entropy(x, targets, **options, reduction="none"), losses, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(F.cross_entropy(x, targets, **options, reduction="sum"), losses.sum(), rtol=1e-13)
    np.testing.assert_allclose(F.cross_entropy(x, targets, **options), losses.sum() / weights.sum(), rtol=1e-13)
    in_two = F.cross_entropy(x.reshape(2, 3, 5), targets.reshape(2, 3), **options, reduction="none")
    np.testing.assert_array_equal(in_two.ravel(), F.cross_entropy(x, targets, **options, reduction="none"))


def test_cross_entropy_gradient_is_probability_minus_target():
    x, targets = Tensor(RNG.normal(size=(4, 3))), np.array([2, 0, 1, 1])
    g = gradients(F.cross_entropy(x, targets), x)
    np.testing.assert_allclose(g, (F.softmax(x.value) - np.eye(3)[targets]) / 4, rtol=1e-14)
    np.testing.assert_allclose(g.sum(-1), 0, atol=1e-16)


def test_ignored_targets_have_no_influence():
    x = RNG.normal(size=(3, 4))
    targets = np.array([1, -100, 3])
    t = Tensor(x)
    for smoothing in (0.0, 0.2):
        g = gradients(F.cross_entropy(t, targets, label_smoothing=smoothing), t)
        assert np.all(g[1] == 0)
        kept = F.cross_entropy(x[[0, 2]], targets[[0, 2]], label_smoothing=smoothing)
        np.testing.assert_allclose(F.cross_entropy(x, targets, label_smoothing=smoothing), kept, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype):
    x = Tensor(np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 1.0]], dtype))
    y = F.cross_entropy(x, np.array([2, 1]), reduction="none")
    np.testing.assert_allclose(y.value, [2e4, math.log(1 + math.e)], rtol=1e-6)
    g = gradients(np.sum(y), x)
    assert g.dtype == dtype
    np.testing.assert_allclose(g, [[1, 0, -1], [0, -1 + 1 / (1 + math.e), math.e / (1 + math.e)]], rtol=1e-6)
    b = F.binary_cross_entropy_with_logits(np.array([1e4, -1e4, 1e4], dtype), np.array([1, 1, 0], dtype), reduction="none")
    np.testing.assert_allclose(b, [0, 1e4, 1e4])


def test_nll_of_log_softmax_is_cross_entropy():
    x, targets, weight = RNG.normal(size=(2, 3, 4)), np.array([[0, 3, -100], [1, 1, 2]]), np.array([1.0, 2.0, 0.5, 0.1])
    for reduction in ("mean", "sum", "none"):
        a = F.cross_entropy(x, targets, weight=weight, reduction=reduction)
        np.testing.assert_allclose(F.nll(F.log_softmax(x), targets, weight=weight, reduction=reduction), a, rtol=1e-14)


def test_regression_losses():
    x, t = np.array([1.0, -2.0, 0.25, 3.0]), np.array([0.0, 1.0, 0.0, 3.0])
    assert F.mse(x, t) == (1 + 9 + 0.0625) / 4
    assert F.l1(x, t, "sum") == 1 + 3 + 0.25
    assert F.huber(x, t, 0.5, "none").tolist() == [0.5 * (1 - 0.25), 0.5 * (3 - 0.25), 0.25**2 / 2, 0]
    equal = Tensor(t)
    assert gradients(F.l1(equal, t), equal).tolist() == [0] * 4
    at_the_joint = Tensor(np.array([0.5, -0.5]))
    np.testing.assert_allclose(gradients(F.huber(at_the_joint, np.zeros(2), 0.5, "sum"), at_the_joint), [0.5, -0.5], rtol=1e-15)


def test_binary_cross_entropy_by_definition():
    x, t = RNG.normal(size=(3, 4)), RNG.uniform(size=(3, 4))
    weight, positive = RNG.uniform(size=4), np.array([0.5, 1.0, 2.0, 4.0])
    s = 1 / (1 + np.exp(-x))
    expected = -weight * (positive * t * np.log(s) + (1 - t) * np.log(1 - s))
    np.testing.assert_allclose(F.binary_cross_entropy_with_logits(x, t, weight, positive, "none"), expected, rtol=1e-12)
    np.testing.assert_allclose(F.binary_cross_entropy_with_logits(x, t), np.mean(-t * np.log(s) - (1 - t) * np.log(1 - s)), rtol=1e-13)


def test_kl_div():
    p, q = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]])
    assert F.kl_div(np.log(q), p, "batchmean") == pytest.approx(0.5 * math.log(2) / 2, rel=1e-14)
    assert F.kl_div(np.log(q), p) == pytest.approx(0.5 * math.log(2) / 6, rel=1e-14)
    log_q = Tensor(np.log(q))
    np.testing.assert_allclose(gradients(F.kl_div(log_q, p, "sum"), log_q), -p, rtol=1e-15)
    assert np.all(np.isfinite(gradients(F.kl_div(np.log(q), (t := Tensor(p)), "sum"), t)))


def test_directions():
    x = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(np.linalg.norm(F.normalize(x), axis=-1), 1, rtol=1e-15)
    np.testing.assert_allclose(F.normalize(1e-9 * x), F.normalize(x), rtol=1e-14)  # small, but far above eps
    np.testing.assert_allclose(F.normalize(1e-15 * x), 1e-3 * x, rtol=1e-14)  # below eps
    zero = Tensor(np.zeros((1, 4)))
    assert F.normalize(zero.value).tolist() == [[0] * 4]
    assert np.all(np.isfinite(gradients(np.sum(F.cosine_similarity(zero, x)), zero)))
    assert F.cosine_similarity(x, 2 * x) == pytest.approx(np.ones(3))
    assert F.cosine_similarity(np.array([1.0, 0.0]), np.array([-3.0, 3.0])) == pytest.approx(-math.sqrt(0.5))


X = np.ones((2, 3))
ERRORS = [
    (lambda: F.mse(X, np.ones(3)), ValueError, "mse: x (2, 3) and target (3,) differ in shape; reshape one, or broadcast it on purpose"),
    (lambda: F.mse(X, X, "max"), ValueError, "mse: reduction='max', expected 'mean', 'sum' or 'none'"),
    (
        lambda: F.cross_entropy(X, np.ones(2)),
        TypeError,
        "cross_entropy: targets are float64 (2,), expected integers below 3; for soft targets write -(p * log_softmax(x)).sum(-1)",
    ),
    (
        lambda: F.cross_entropy(X, np.array([0, 3])),
        IndexError,
        "cross_entropy: target 3 is not in 0..2, the classes of x (2, 3); mark what shall not count with ignore_index=-100",
    ),
    (
        lambda: F.nll(X, np.array([0, -1])),
        IndexError,
        "nll: target -1 is not in 0..2, the classes of x (2, 3); mark what shall not count with ignore_index=-100",
    ),
    (
        lambda: F.cross_entropy(X, np.array([0, 1, 2])),
        ValueError,
        "cross_entropy: x (2, 3) needs targets of shape (2,), got (3,); classes stand on the last axis",
    ),
    (
        lambda: F.cross_entropy(X, np.array([0, 1]), weight=np.ones(2)),
        ValueError,
        "cross_entropy: weight is (2,), expected (3,), one number for each class of x (2, 3)",
    ),
    (
        lambda: F.cross_entropy(X, np.array([-100, -100])),
        ValueError,
        "cross_entropy: all 2 targets are ignored or weigh 0, so there is no mean; skip this batch, or use reduction='sum'",
    ),
    (
        lambda: F.cross_entropy(np.ones((2, 3), int), np.array([0, 1])),
        TypeError,
        "cross_entropy: x is int64 (2, 3), expected floats (..., C); convert with x.astype(np.float32)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS)
def test_errors(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("loss", [F.mse, F.l1, F.huber, F.binary_cross_entropy_with_logits, F.kl_div])
def test_nothing_has_no_mean(loss):
    for empty in (np.zeros((0, 3)), Tensor(np.zeros((0, 3))), []):
        with pytest.raises(ValueError) as error:
            loss(empty, np.zeros(np.shape(empty)))
        assert str(error.value) == f"{loss.__name__}: x is empty, so there is no mean; skip this batch, or use reduction='sum'"
        assert loss(empty, np.zeros(np.shape(empty)), reduction="sum") == 0


def test_a_divergence_of_no_examples_has_no_mean_over_the_batch():
    with pytest.raises(ValueError, match="kl_div: x is empty, so there is no mean"):
        F.kl_div(np.zeros((0, 3)), np.zeros((0, 3)), "batchmean")


def test_half_a_batch_may_be_empty():
    """As in data_parallel, where the other half has the whole weight."""
    token = divisors.set([])
    try:
        assert [loss(np.zeros(0), np.zeros(0)) for loss in (F.mse, F.l1, F.huber)] == [0, 0, 0]
        assert divisors.get() == [0, 0, 0]
    finally:
        divisors.reset(token)


@pytest.mark.parametrize("delta", [-1, 0, float("nan")])
def test_the_delta_of_huber_is_above_zero(delta):
    with pytest.raises(ValueError, match=rf"^huber: delta is {delta}, expected a number above 0$"):
        F.huber(X, X, delta)
    with pytest.raises(TypeError, match=r"^huber: delta is str a, expected a number$"):
        F.huber(X, X, "a")
