"""Linear maps, embeddings, one-hot vectors and dropout."""

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F

import numpy as np
import pytest

RNG = np.random.default_rng(4)


def test_linear():
    x, w, b = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=5)
    np.testing.assert_allclose(F.linear(x, w, b), np.einsum("...i,oi->...o", x, w) + b, rtol=1e-13)
    np.testing.assert_allclose(F.linear(x[0, 0], w), w @ x[0, 0], rtol=1e-13)
    y = F.linear(x.astype(np.float32), Tensor(w.astype(np.float32)), b.astype(np.float32))
    assert y.dtype == np.float32


def test_embedding_is_a_product_with_one_hot_vectors():
    ids, weight = np.array([[3, 0, 3], [1, 3, 3]]), Tensor(RNG.normal(size=(5, 4)))
    c = RNG.normal(size=(2, 3, 4))
    for dtype in (np.int64, np.int32, np.uint8):
        np.testing.assert_array_equal(F.embedding(ids.astype(dtype), weight).value, F.one_hot(ids, 5, np.float64) @ weight.value)
        g = gradients(np.sum(F.embedding(ids.astype(dtype), weight) * c), weight)
        expected = np.zeros((5, 4))
        np.add.at(expected, ids, c)
        np.testing.assert_allclose(g, expected, rtol=1e-14)
    assert F.embedding([0, 1], weight).shape == (2, 4)


def test_a_shared_embedding_adds_both_gradients():
    weight = Tensor(RNG.normal(size=(5, 4)))
    x = F.embedding(np.array([1, 2]), weight)
    logits = F.linear(x, weight)
    g = gradients(np.sum(logits), weight)
    w = weight.value
    np.testing.assert_allclose(g, w[[1, 2]].sum(0) + np.outer([0, 1, 1, 0, 0], w.sum(0)), rtol=1e-13)


def test_one_hot():
    assert F.one_hot([1, 0], 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert F.one_hot(2, 3).tolist() == [0, 0, 1] and F.one_hot(2, 3).dtype == np.float32
    assert F.one_hot(np.zeros((0, 2), int), 3).shape == (0, 2, 3)


def test_dropout():
    x = np.ones((200, 200), np.float32)
    y = F.dropout(x, 0.25, np.random.default_rng(0))
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(y == 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
    assert F.dropout(x, 0.25) is x and F.dropout(x, 0.0, np.random.default_rng(0)) is x
    assert not np.any(F.dropout(x, 1.0, np.random.default_rng(0)))
    t = Tensor(x)
    np.testing.assert_array_equal(gradients(np.sum(F.dropout(t, 0.25, np.random.default_rng(0))), t), y)


WEIGHT = np.ones((5, 4))
ERRORS = [
    (lambda: F.embedding(np.array([0, 7]), WEIGHT), IndexError, "embedding: id 7 is not in 0..4; ids (2,), 5 rows or classes"),
    (lambda: F.embedding(np.array([0, -1]), WEIGHT), IndexError, "embedding: id -1 is not in 0..4; ids (2,), 5 rows or classes"),
    (
        lambda: F.embedding(np.array([0.0]), WEIGHT),
        TypeError,
        "embedding: ids are float64 (1,), expected integers; convert with ids.astype(np.int64)",
    ),
    (lambda: F.one_hot([3], 3), IndexError, "one_hot: id 3 is not in 0..2; ids (1,), 3 rows or classes"),
    (
        lambda: F.linear(np.ones((2, 3)), WEIGHT),
        ValueError,
        "linear: x (2, 3) does not fit weight (5, 4); expected x (..., in) and weight (out, in)",
    ),
    (
        lambda: F.linear(np.ones((2, 4)), WEIGHT, np.ones(4)),
        ValueError,
        "linear: bias is (4,), expected (5,), one number for each output of weight (5, 4)",
    ),
    (
        lambda: F.dropout(WEIGHT, 0.5, 3),
        TypeError,
        "dropout: rng is int 3, expected a Generator: np.random.default_rng(3), or None for no dropout",
    ),
    (
        lambda: F.sample(WEIGHT, 3),
        TypeError,
        "sample: rng is int 3, expected a Generator: np.random.default_rng(3), or None for the most likely token",
    ),
    (lambda: F.dropout(WEIGHT, "a"), TypeError, "dropout: p is str a, expected a probability between 0 and 1"),
    (
        lambda: F.linear([[1.0], [1.0, 2.0]], WEIGHT),
        ValueError,
        "linear: lists of several lengths came, expected an array; pad them to one length",
    ),
    (lambda: F.dropout(WEIGHT, 1.5), ValueError, "dropout: p is 1.5, expected a probability between 0 and 1"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS)
def test_errors(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message
