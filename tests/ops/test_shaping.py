"""Functions that move elements: what is undone gives back the gradient, whatever the spelling of the call."""

import operator

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.core import table, walk

import numpy as np
import pytest


def random(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def pull(f, x, g):
    """The gradient of <g, f(x)>."""
    t = Tensor(x)
    return walk({f(t).node: g}, [t.node])[t.node]


# f, what undoes it, the shape of x: the gradient of the second after the first is the cotangent itself.
INVERSES = [
    (np.flip, np.flip, (3, 4)),
    (np.fliplr, np.fliplr, (3, 4)),
    (np.flipud, np.flipud, (3, 4)),
    (np.rot90, lambda x: np.rot90(x, 3), (3, 4)),
    (lambda x: np.roll(x, (1, -2), (0, 1)), lambda x: np.roll(x, (-1, 2), (0, 1)), (3, 4)),
    (np.transpose, np.transpose, (2, 3, 4)),
    (lambda x: np.transpose(x, (2, 0, 1)), lambda x: np.transpose(x, (1, 2, 0)), (2, 3, 4)),
    (lambda x: np.rollaxis(x, 2), lambda x: np.rollaxis(x, 0, 3), (2, 3, 4)),
    (lambda x: np.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, -1, 0), (2, 3, 4)),
    (np.matrix_transpose, np.matrix_transpose, (2, 3, 4)),
    (lambda x: np.reshape(x, (4, 3), order="F"), lambda x: np.reshape(x, (3, 4), order="F"), (3, 4)),
    (lambda x: np.ravel(x, "F"), lambda x: np.reshape(x, (3, 4), order="F"), (3, 4)),
    (lambda x: np.expand_dims(x, (0, 2)), np.squeeze, (3, 4)),
    (lambda x: np.split(x, [1, 3], 1), lambda parts: np.concatenate(parts, 1), (3, 4)),
    (lambda x: np.array_split(x, 3, 1), np.hstack, (3, 4)),
    (lambda x: np.vsplit(x, 2), np.vstack, (4, 3)),
    (lambda x: np.dsplit(x, 2), np.dstack, (1, 2, 4)),
    (list, np.stack, (3, 4)),
    (lambda x: [np.insert(x, 1, np.zeros(4), axis=0)], lambda x: np.delete(x[0], 1, axis=0), (3, 4)),
    (lambda x: np.repeat(x, 3, 1), lambda x: x[:, ::3], (3, 4)),
    (lambda x: np.tile(x, (2, 2)), lambda x: x[:3, -4:], (3, 4)),
    (lambda x: np.append(x, np.ones((1, 4), "f"), 0), lambda x: x[:-1], (3, 4)),
    (lambda x: np.diag(x, -1), lambda x: np.diag(x, -1), (4,)),
    (lambda x: np.pad(x, 2), lambda x: np.trim_zeros(x), (4,)),
    (lambda x: np.resize(x, (2, 3, 4)), lambda x: np.take(x, [1], 0)[0], (3, 4)),
    (lambda x: np.meshgrid(x, np.ones(3)), lambda grids: grids[0][2], (4,)),
    (lambda x: np.block([[np.zeros((2, 2), "f"), x], [np.ones((1, 6), "f")]]), lambda x: x[:2, 2:], (2, 4)),
    (np.fft.fftshift, np.fft.ifftshift, (3, 4)),
    (lambda x: np.tril(x) + np.triu(x, 1), lambda x: x, (3, 4)),
]
if hasattr(np, "unstack"):
    INVERSES.append((lambda x: np.unstack(x, axis=1), lambda parts: np.stack(parts, 1), (3, 4)))


@pytest.mark.parametrize(("there", "back", "shape"), INVERSES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_undone_gives_the_identity(there, back, shape, dtype):
    x, g = random(*shape, dtype=dtype), random(*shape, seed=1, dtype=dtype)
    t = Tensor(x)
    y = back(there(t))
    np.testing.assert_array_equal(y.value, x, strict=True)
    np.testing.assert_array_equal(walk({y.node: g}, [t.node])[t.node], g, strict=True)


@pytest.mark.parametrize(("there", "back", "shape"), INVERSES)
def test_moves_are_linear_at_second_order(there, back, shape):
    """The gradient of |x|^2 through a move and back is 2x, and its gradient along u is 2u."""
    t, u = Tensor(random(*shape)), random(*shape, seed=1)
    (g,) = gradients(np.sum(np.square(back(there(t)))), [t], create_graph=True)
    np.testing.assert_allclose(g.value, 2 * t.value)
    np.testing.assert_allclose(gradients(np.sum(g * u), t), 2 * u)


# A linear f(x) and f's transpose applied to v: <v, f(x)> == <f'(v), x>.
TRANSPOSES = [
    (lambda x: np.roll(x, 2), lambda v: np.roll(v, -2), (5,)),
    (np.rot90, lambda v: np.rot90(v, -1), (2, 3)),
    (lambda x: np.triu(x, 1), lambda v: np.triu(v, 1), (3, 3)),
    (lambda x: np.broadcast_to(x, (5, 3, 4)), lambda v: v.sum((0, 2), keepdims=True)[0], (3, 1)),
    (lambda x: np.repeat(x, [2, 0, 3]), lambda v: np.array([v[:2].sum(), 0, v[2:].sum()]), (3,)),
    (lambda x: np.tile(x, 3), lambda v: v.reshape(3, 4).sum(0), (4,)),
    (lambda x: np.resize(x, 7), lambda v: np.array([v[0] + v[3] + v[6], v[1] + v[4], v[2] + v[5]]), (3,)),
    (lambda x: np.compress([True, False, True], x, 0), lambda v: np.stack([v[0], 0 * v[0], v[1]]), (3, 2)),
    (lambda x: np.extract(np.eye(3) > 0, x), np.diag, (3, 3)),
    (lambda x: np.diagonal(x, 1), lambda v: np.diag(v, 1), (4, 4)),
    (np.diagflat, lambda v: np.diagonal(v).reshape(2, 2), (2, 2)),
    (lambda x: np.delete(x, [0, 2]), lambda v: np.array([0, v[0], 0, v[1]]), (4,)),
    (lambda x: np.array_split(x, 3)[1], lambda v: np.concatenate([np.zeros(3), v, np.zeros(2)]), (7,)),
    (lambda x: np.split(x, [3, 1])[2], lambda v: np.concatenate([[0], v]), (4,)),
    (lambda x: np.concatenate(np.split(x, [3, 1])), lambda v: np.concatenate([v[:3], [0]]) + np.concatenate([[0], v[3:]]), (4,)),
    (lambda x: np.concatenate([x, x], axis=None), lambda v: (v[:4] + v[4:]).reshape(2, 2), (2, 2)),
    (lambda x: np.linspace(x[0], x[1], 3), lambda v: np.array([v[0] + v[1] / 2, v[1] / 2 + v[2]]), (2,)),
]


@pytest.mark.parametrize(("f", "transposed", "shape"), TRANSPOSES)
def test_gradient_is_the_transpose(f, transposed, shape):
    x = random(*shape)
    v = random(*f(x).shape, seed=1)
    np.testing.assert_allclose(pull(f, x, v), transposed(v), atol=1e-15)


# --- the spellings of a call ------------------------------------------------------------------


def test_reshape_in_every_spelling():
    t, want = Tensor(random(3, 4)), (2, 6)
    spellings = [
        np.reshape(t, want),
        t.reshape(want),
        t.reshape(2, 6),
        t.reshape(2, -1),
        table[np.reshape](t, newshape=want),
        table[np.reshape](a=t, shape=want),
    ]
    for y in spellings:
        np.testing.assert_array_equal(y.value, t.value.reshape(want))


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda x: x[:, ::-1], lambda x: x.swapaxes(0, 1)])
@pytest.mark.parametrize("order", ["C", "F", "A", "K"])
def test_orders_read_the_memory_as_numpy_does(layout, order):
    x = layout(random(2, 3, 4))
    t = Tensor(x)
    y = np.ravel(t, order)
    np.testing.assert_array_equal(y.value, np.ravel(x, order))
    g = random(24, seed=1)
    expected = np.empty(24)
    expected[np.ravel(positions_like(x), order)] = g
    np.testing.assert_array_equal(walk({y.node: g}, [t.node])[t.node], expected.reshape(x.shape))


def positions_like(x):
    """0, 1, 2, ... in the shape and with the strides of x, some of which may be negative."""
    forward = tuple(slice(None, None, -1) if stride < 0 else slice(None) for stride in x.strides)
    positions = np.empty_like(x[forward], dtype=np.int64)[forward]
    assert positions.strides == x.strides
    positions[...] = np.arange(x.size).reshape(x.shape)
    return positions


def test_join_takes_lists_numbers_and_tensors():
    t = Tensor(random(2))
    y = np.concatenate([t, [1.0, 2.0], np.ones(1)])
    assert y.shape == (5,)
    np.testing.assert_array_equal(gradients(np.sum(y * np.arange(5.0)), t), [0, 1])
    matrix = Tensor(random(3, 4))
    np.testing.assert_array_equal(np.concatenate(matrix).value, matrix.value.ravel())  # its rows
    assert np.concatenate([t, t], dtype=np.float32).dtype == np.float32
    assert gradients(np.sum(np.stack([t, t], dtype=np.float32)), t).dtype == np.float64


def test_views_of_one_tensor_add_up():
    t = Tensor(random(3))
    np.testing.assert_array_equal(gradients(np.sum(np.stack([t, t, 2 * t])), t), [4, 4, 4])
    a, b = np.broadcast_arrays(t, np.ones((2, 3)))
    assert b.shape == (2, 3) and not isinstance(b, Tensor)
    np.testing.assert_array_equal(gradients(np.sum(a), t), [2, 2, 2])


def test_unused_parts_of_a_split_are_zero():
    t = Tensor(random(6))
    np.testing.assert_array_equal(gradients(np.sum(np.split(t, 3)[1]), t), [0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_astype_casts_the_gradient_back(dtype):
    t = Tensor(random(3, dtype=dtype))
    for y in (t.astype(np.float64), np.astype(t, np.float64), t.astype(np.float32, copy=False)):
        assert gradients(np.sum(y), t).dtype == dtype
    assert type(t.astype(int)) is np.ndarray


# --- what raises ---------------------------------------------------------------------------------


def test_constants_keep_no_gradient():
    t = Tensor(random(2, 3))
    for made in (np.zeros_like(t), np.ones_like(t), np.full_like(t, 2.0), np.empty_like(t, shape=(4,))):
        assert type(made) is np.ndarray and made.dtype == t.dtype
    with pytest.raises(TypeError, match=r"np\.broadcast_to"):
        np.full_like(t, t[0, 0])


RAISES = [
    (lambda t: np.concatenate([t, t], out=np.empty((4, 3))), TypeError, "out="),
    (lambda t: np.split(t, 2, axis=1), ValueError, "equal division"),
    (lambda t: np.reshape(t, (5, 5)), ValueError, "reshape"),
    (lambda t: np.block([t, [t]]), ValueError, "depth"),
    (lambda t: np.meshgrid(t[0], indexing="yx"), ValueError, "indexing"),
    (lambda t: np.diag(t[None]), ValueError, "dimensions"),
    (lambda t: np.repeat(np.ones(3), t), TypeError, None),
]


@pytest.mark.parametrize(("call", "error", "text"), RAISES)
def test_what_cannot_be_raises(call, error, text):
    with pytest.raises(error, match=text):
        call(Tensor(random(2, 3)))


def test_a_loop_over_rows_sums():
    t = Tensor(random(50, 2))
    total = sum((i * row for i, row in enumerate(t)), start=0.0)
    np.testing.assert_array_equal(gradients(np.sum(total), t), np.repeat(np.arange(50.0)[:, None], 2, 1))
    assert operator.getitem(t, 3).shape == (2,)
