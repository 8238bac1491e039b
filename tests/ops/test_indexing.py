"""Indexing: adding into places is its transpose, places named twice get both, and at(x) never changes x."""

import tracemalloc

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.core import walk
from tinygrad_notes.ops.indexing import at, scatter_add, turns

import numpy as np
import pytest

MASK = np.random.default_rng(5).random((3, 4)) > 0.5
INDEX = [
    1,
    -1,
    np.int64(2),
    slice(None, None, -2),
    slice(5, 5),
    None,
    Ellipsis,
    True,
    (0, 1),
    (Ellipsis, None, 0),
    (slice(1, None), None, slice(None, 2)),
    [0, 2, 0],
    [],
    [True, False, True],
    range(2),
    np.array(1),
    np.array([[0, -1], [2, 2]]),
    np.array([], int),
    np.uint8([2, 2, 0]),
    (slice(None), [1, 1, -1]),
    (Ellipsis, [[0, 0], [2, 0]]),
    ([0, 2, 0], [1, 1, 1]),
    ([[0], [2]], [1, 3]),
    ([0, 0], None, slice(1, 3)),
    ([0, 1, 0], slice(None)),
    (1, [0, 0, 2]),
    MASK,
    (MASK[:, 0], slice(None)),
    (slice(None), MASK[0]),
    (MASK[:, 1], 2),
    (slice(None), MASK[0], None),
    np.zeros((3, 4), bool),
    np.ix_([2, 0], [1, 1]),
]
CASES = [pytest.param(index, width, id=f"{index!r:.60}-{width}".replace("\n", "")) for index in INDEX for width in (4, 12)]


def normal(shape, seed=0, dtype=np.float64):
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def fitting(index, width):
    """An array that the index fits: (3, 4), or (3, 4, 3) to add whole rows."""
    return normal((3, 4) if width == 4 else (3, 4, 3))


def slow_transpose(v, index, shape):
    """scatter_add one number at a time."""
    total = np.zeros(shape)
    places = np.arange(total.size).reshape(shape)[index]
    for place, number in zip(np.ravel(places), np.ravel(v)):
        total.flat[place] += number
    return total


@pytest.mark.parametrize(("index", "width"), CASES)
def test_gradient_of_an_index(index, width):
    x = fitting(index, width)
    t = Tensor(x)
    y = t[index]
    np.testing.assert_array_equal(y.value, x[index])
    g = normal(y.shape, 1)
    expected = slow_transpose(g, index, x.shape)
    found = walk({y.node: g}, [t.node], retain=True)[t.node]
    np.testing.assert_allclose(found, expected, atol=1e-14, strict=True)
    higher = walk({y.node: Tensor(g)}, [t.node], higher=True)[t.node]  # by scatter_add instead of into a buffer
    np.testing.assert_allclose(higher.value, expected, atol=1e-14)
    narrow = Tensor(x.astype(np.float32))
    assert gradients(np.sum(narrow[index] * narrow[index]), narrow).dtype == np.float32


@pytest.mark.parametrize(("index", "width"), CASES)
def test_scatter_and_gather_are_adjoint(index, width):
    """<scatter(v), x> == <v, gather(x)>, and the gradient of scatter is gather."""
    x = fitting(index, width)
    v = normal(x[index].shape, 1)
    assert abs(np.vdot(scatter_add(v, index=index, shape=x.shape), x) - np.vdot(v, x[index])) < 1e-13
    t = Tensor(v)
    np.testing.assert_array_equal(gradients(np.sum(scatter_add(t, index=index, shape=x.shape) * x), t), x[index])


@pytest.mark.parametrize(("index", "width"), CASES)
def test_second_order(index, width):
    """f = sum(c x[index]^3): the gradient is S 3c x[index]^2 and its derivative along u is S 6c x[index] u[index]."""
    x = fitting(index, width)
    t, u, c = Tensor(x), normal(x.shape, 2), normal(x[index].shape, 3)
    y = t[index]
    g = gradients(np.sum(c * y * y * y), t, create_graph=True)
    np.testing.assert_allclose(g.value, slow_transpose(3 * c * x[index] ** 2, index, x.shape), atol=1e-13)
    found = gradients(np.sum(g * u), t)
    np.testing.assert_allclose(found, slow_transpose(6 * c * x[index] * u[index], index, x.shape), atol=1e-13)


def test_embedding_rows_named_many_times():
    """Rows named 1000 times, wide and narrow, by positive and negative numbers."""
    rows = np.random.default_rng(0).integers(-7, 7, (40, 25))
    for width in (1, 3, 16):
        table, g = Tensor(normal((7, width))), normal((40, 25, width), 1)
        y = table[rows]
        expected = (np.eye(7)[rows].reshape(-1, 7).T) @ g.reshape(-1, width)
        np.testing.assert_allclose(walk({y.node: g}, [table.node])[table.node], expected, atol=1e-12)


def test_a_loop_over_rows_makes_one_buffer():
    """The gradient of T reads of x[t] needs memory for one x, not for T of them."""
    t = Tensor(normal((400, 500)))
    loss = sum(np.sum(t[i]) for i in range(400))
    tracemalloc.start()
    try:
        gradients(loss, t)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * t.nbytes


def test_index_and_other_uses_add_up():
    t = Tensor(normal((3,)))
    np.testing.assert_array_equal(gradients(t[0] + 2 * t[0] + np.sum(3 * t) + t[[0, 0]][1], t), [7, 3, 3])


@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take_is_the_index_it_means(mode, axis):
    x = normal((3, 4))
    indices = np.array([[2, 0], [-1, 2]]) if mode == "raise" else np.array([[-9, 0], [7, 2]])
    t = Tensor(x)
    y = np.take(t, indices, axis, mode=mode)
    np.testing.assert_array_equal(y.value, np.take(x, indices, axis, mode=mode))
    g = normal(y.shape, 1)
    expected = slow_transpose(g, np.take(np.arange(12).reshape(3, 4), indices, axis, mode=mode), (12,)).reshape(3, 4)
    np.testing.assert_allclose(walk({y.node: g}, [t.node])[t.node], expected, atol=1e-15)


def test_what_is_no_index_raises():
    t = Tensor(normal((3, 4)))
    with pytest.raises(IndexError):
        t[7]
    with pytest.raises(IndexError):
        t[0.5]
    with pytest.raises(ValueError, match="dimensions"):
        np.take_along_axis(t, np.array([0]), 1)
    with pytest.raises(TypeError, match=r"np\.where"):
        t[0] = 1.0


# --- at(x)[index] ------------------------------------------------------------------------------


def in_place(x, index, how, v):
    """What NumPy does when it may write."""
    y = x.copy()
    if how == "set":
        y[index] = v
    else:
        {"add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum}[how].at(y, index, v)
    return y


HOW = ["set", "add", "multiply", "max", "min"]
AT = [1, slice(None, None, 2), [1, 1, 2], ([0, 2, 0], [1, 1, 1]), (slice(None), [0, 0, 3, 0]), MASK, (2, 3), [], None]
AT_CASES = [pytest.param(index, how, id=f"{how}-{index!r:.40}".replace("\n", "")) for index in AT for how in HOW]


def differences(f, x, h=1e-5):
    slopes = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        slopes[i] = (f(x + step) - f(x - step)) / (2 * h)
    return slopes


@pytest.mark.parametrize(("index", "how"), AT_CASES)
@pytest.mark.parametrize("kind", ["both", "x", "v", "neither"])
def test_at(index, how, kind):
    x = normal((3, 4))
    v = normal(x[index].shape, 1)
    kept, c = x.copy(), normal((3, 4), 2)

    def f(x, v):
        return getattr(at(x)[index], how)(v)

    def phi(x, v):
        return np.sum(c * in_place(x, index, how, v))

    a = Tensor(x) if kind in ("both", "x") else x
    b = Tensor(v) if kind in ("both", "v") else v
    y = f(a, b)
    assert type(y) is (np.ndarray if kind == "neither" else Tensor)
    value = y.value if kind != "neither" else y
    np.testing.assert_allclose(value, in_place(x, index, how, v), rtol=1e-15, atol=1e-15)
    if type(a) is Tensor:
        np.testing.assert_allclose(gradients(np.sum(c * f(a, b)), a), differences(lambda x: phi(x, v), x), atol=1e-8)
    if type(b) is Tensor:
        np.testing.assert_allclose(gradients(np.sum(c * f(a, b)), b), differences(lambda v: phi(x, v), v), atol=1e-8)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(("index", "how"), AT_CASES)
def test_at_second_order(index, how):
    x = normal((3, 4))
    v, c = normal(x[index].shape, 1), normal((3, 4), 2)
    us = normal(x.shape, 3), normal(v.shape, 4)

    def first(x, v, create_graph=False):
        pair = [Tensor(x), Tensor(v)]
        y = getattr(at(pair[0])[index], how)(pair[1])
        return pair, gradients(np.sum(c * y * y), pair, create_graph=create_graph)

    pair, gs = first(x, v, create_graph=True)
    found = gradients(sum(np.sum(g * u) for g, u in zip(gs, us)), pair)
    h = 1e-5
    up, down = first(x + h * us[0], v + h * us[1])[1], first(x - h * us[0], v - h * us[1])[1]
    for second, a, b in zip(found, up, down):
        np.testing.assert_allclose(second, (a - b) / (2 * h), atol=1e-7)


def test_at_gives_the_gradient_to_the_winner():
    x, v = Tensor(np.zeros(4)), Tensor(np.array([1.0, 2.0, 3.0]))
    c = np.array([1.0, 10.0, 100.0, 1000.0])
    gx, gv = gradients(np.sum(c * at(x)[[1, 1, 2]].set(v)), [x, v])
    np.testing.assert_array_equal(gx, [1, 0, 0, 1000])
    np.testing.assert_array_equal(gv, [0, 10, 100])  # the last of two wins
    tied = Tensor(np.full(4, 2.0))
    gx, gv = gradients(np.sum(c * at(tied)[[1, 1, 2]].max(np.array([2.0, 2.0, 1.0]) + 0 * v)), [tied, v])
    np.testing.assert_allclose(gx, [1, 10 / 3, 100, 1000])  # three are equal: a third each
    zero = Tensor(np.zeros(3))
    gx, gv = gradients(np.sum(at(Tensor(np.ones(2)))[[0, 0, 1]].multiply(zero)), [zero, zero])
    np.testing.assert_array_equal(gx, [0, 0, 1])


def test_at_keeps_the_dtype_of_x():
    x = Tensor(normal((3,), dtype=np.float32))
    for how in HOW:
        for v in (2.0, np.float64(2), normal((), 1), Tensor(normal(()))):
            y = getattr(at(x)[1], how)(v)
            assert y.dtype == np.float32
            assert gradients(np.sum(y), x).dtype == np.float32
    counts = at(np.zeros(3, int))[[0, 0, 2]].add(1)
    np.testing.assert_array_equal(counts, [2, 0, 1], strict=True)
    with pytest.raises(TypeError, match="cannot hold"):
        at(np.zeros(3, int))[0].set(x[0])
    with pytest.raises(ValueError):
        at(x)[:2].set(np.ones(3))


def test_at_gets_and_shows():
    x = Tensor(normal((3,)))
    assert at(x)[1].get().value == x.value[1]
    assert "at(" in repr(at(x)) and "[1]" in repr(at(x)[1])
    assert at([1.0, 2.0])[0].set(5).tolist() == [5, 2]


def test_turns_name_no_place_twice():
    numbers = np.array([3, 1, 3, 3, 0, 1])
    groups = turns(numbers)
    assert sorted(np.concatenate(groups)) == list(range(6))
    assert [sorted(numbers[group]) for group in groups] == [[0, 1, 3], [1, 3], [3]]


@pytest.mark.parametrize("index", [None, Ellipsis, (), (None, None), True, np.array(True)], ids=repr)
@pytest.mark.parametrize("first", [True, False], ids=["indexed first", "indexed last"])
def test_a_number_that_is_indexed_and_used_elsewhere(index, first):
    """Sums of 0-d arrays are NumPy scalars, into which indexing cannot add its gradient."""
    x = Tensor(np.array(3.0))
    part = x[index] if first else None
    square = x * x
    part = x[index] if part is None else part
    loss = np.sum(part * part) + square + x * 2
    assert gradients(loss, x) == 2 * 3.0 + 2 * 3.0 + 2
