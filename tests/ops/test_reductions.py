"""Reductions at ties, zeros, NaN and nothing at all; quantiles by every method; the methods of ufuncs."""

import math
from functools import partial

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.core import table
from tinygrad_notes.ops.quantiles import METHODS
from tinygrad_notes.ops.reductions import product_of_others
from tinygrad_notes.registry import constants, registry

import numpy as np
import pytest

INF, NAN = math.inf, math.nan


def slope(f, x, g=None):
    """The gradient of sum(g * f(x)) at x."""
    t = Tensor(np.asarray(x))
    y = f(t)
    return gradients(np.sum(y if g is None else y * g), t)


# --- sums and products ------------------------------------------------------------------------


def test_the_gradient_of_a_sum_is_a_view():
    g, x = np.ones(3), np.ones((1000, 3))
    assert Tensor(x).sum(0).node.op.rules[0](g, None, x, axis=0).strides == (0, 8)
    assert Tensor(x).sum(0).node.saved[0] is not x  # only the shape is kept
    assert table[np.mean].rules[0](g, None, x, axis=0).strides == (0, 8)
    assert Tensor(x).mean(0).node.saved[0] is not x


def test_products_are_exact_with_zeros():
    assert slope(np.prod, [2.0, 3.0, 4.0]).tolist() == [12.0, 8.0, 6.0]
    assert slope(np.prod, [2.0, 0.0, 4.0]).tolist() == [0.0, 8.0, 0.0]
    assert slope(np.prod, [0.0, 3.0, 0.0]).tolist() == [0.0, 0.0, 0.0]
    assert slope(np.prod, [1e-200, 1e-200, 1e200, 1e200]).tolist() == pytest.approx([1e200, 1e200, 1e-200, 1e-200])


def test_second_derivatives_of_a_product_with_zeros():
    x = Tensor(np.array([0.0, 3.0, 0.0, 5.0]))
    first = gradients(np.prod(x), x, create_graph=True)
    rows = [gradients(first[i], x, retain_graph=True).tolist() for i in range(4)]
    expected = np.zeros((4, 4))
    expected[0, 2] = expected[2, 0] = 15.0
    assert rows == expected.tolist()


@pytest.mark.parametrize("n", range(9))
def test_product_of_others_of_any_length(n):
    x = np.random.default_rng(n).uniform(0.5, 2, (2, n))
    np.testing.assert_allclose(product_of_others(x), np.prod(x, 1, keepdims=True) / x, rtol=1e-14)


def test_where_hides_what_is_not_finite():
    x, keep = np.array([1.0, NAN, INF, 4.0]), np.array([True, False, False, True])
    assert slope(lambda t: np.sum(t, where=keep), x).tolist() == [1, 0, 0, 1]
    assert slope(lambda t: np.mean(t, where=keep), x).tolist() == [0.5, 0, 0, 0.5]
    assert slope(lambda t: np.prod(t, where=keep), x).tolist() == [4, 0, 0, 1]
    assert slope(lambda t: np.var(t, where=keep), x).tolist() == [-1.5, 0, 0, 1.5]
    assert slope(lambda t: np.max(t, where=keep, initial=0), x).tolist() == [0, 0, 0, 1]


def test_nothing_to_reduce():
    for f in (np.sum, np.prod, np.nansum, np.nanprod):
        assert slope(f, np.zeros((0, 3))).shape == (0, 3)
        assert slope(partial(f, axis=0), np.zeros((0, 3))).shape == (0, 3)
    assert slope(lambda t: np.max(t, initial=1.0), np.zeros(0)).shape == (0,)


def test_a_tensor_to_begin_with():
    x, t = Tensor(np.array([1.0, 2.0, 2.0])), Tensor(np.array(2.0))
    for f, by_x, by_t in ((np.sum, [1, 1, 1], 1), (np.prod, [8, 4, 4], 4), (np.max, [0, 0.25, 0.25], 0.5), (np.min, [1, 0, 0], 0)):
        gx, gt = gradients(f(x, initial=t), [x, t])
        assert gx.tolist() == by_x and gt == by_t
        assert f(Tensor(np.zeros(0)), initial=t).item() == 2
    with pytest.raises(ValueError, match=r"np\.sum: initial has shape \(3,\), expected one number"):
        np.sum(x, initial=x)
    with pytest.raises(TypeError, match=r"np\.sum: out= would overwrite"):
        np.sum(Tensor(np.ones(3)), out=np.zeros(()))


# --- extremes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.max, np.amax, np.min, np.amin, np.nanmax, np.nanmin])
def test_ties_share_evenly(f):
    x = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 5.0, 5.0, 2.0]])
    top = 5.0 if f in (np.max, np.amax, np.nanmax) else 2.0
    g = np.array([[3.0], [-8.0]])
    expected = [[0.75] * 4, np.where(x[1] == top, -4.0, 0.0).tolist()]
    assert slope(lambda t: f(t, axis=1, keepdims=True), x, g).tolist() == expected


def test_very_many_ties():
    for dtype in (np.float16, np.float32, np.float64):
        g = slope(np.max, np.zeros(70_000, dtype))
        assert g.dtype == dtype
        np.testing.assert_allclose(g, dtype(1 / 70_000), rtol=2 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny / 100)


def test_an_equal_initial_takes_its_share():
    assert slope(lambda t: np.max(t, initial=2.0), [2.0, 2.0, 1.0]).tolist() == pytest.approx([1 / 3, 1 / 3, 0])
    assert slope(lambda t: np.max(t, initial=3.0), [2.0, 2.0, 1.0]).tolist() == [0, 0, 0]


def test_extremes_of_nan_and_infinity():
    assert slope(np.max, [NAN, 1.0]).tolist() == [0, 0]  # the value is NaN: nothing there has a slope
    assert slope(np.nanmax, [NAN, 1.0, INF, INF]).tolist() == [0, 0, 0.5, 0.5]
    assert slope(np.ptp, [3.0, 1.0, 3.0]).tolist() == [0.5, -1, 0.5]


# --- moments ------------------------------------------------------------------------------------


def test_a_deviation_of_zero_has_slope_zero():
    assert slope(np.std, [2.0, 2.0, 2.0]).tolist() == [0, 0, 0]
    x = np.array([[2.0, 2.0], [1.0, 3.0]])
    assert slope(lambda t: np.std(t, axis=1), x).tolist() == [[0, 0], [-0.5, 0.5]]


def test_a_mean_that_is_given_and_depends_on_x():
    """np.var(x, mean=np.mean(x)) and np.var(x) are the same function."""
    x = np.random.default_rng(0).normal(size=(3, 4))
    for f in (np.var, np.std):
        given = slope(lambda t, f=f: f(t, axis=1, ddof=1, mean=np.mean(t, axis=1, keepdims=True)), x)
        np.testing.assert_allclose(given, slope(partial(f, axis=1, ddof=1), x), atol=1e-15)
    mean = Tensor(np.array([[0.5]]))
    assert gradients(np.var(np.array([[1.0, 2.0]]), mean=mean), mean).tolist() == [[-2.0]]


def test_average_complains_as_numpy_does():
    t = Tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match="name the axis"):
        np.average(t, weights=np.ones(3))
    with pytest.raises(ValueError, match="do not fit axis 0"):
        np.average(t, 0, np.ones(3))
    with pytest.raises(ZeroDivisionError, match="sum to zero"):
        np.average(t, 1, np.zeros(3))
    w = Tensor(np.array([1.0, 3.0]))
    y, total = np.average(np.array([2.0, 6.0]), weights=w, returned=True)
    assert (y.item(), total.item()) == (5.0, 4.0)
    assert gradients(y, w).tolist() == [-0.75, 0.25]


# --- quantiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.split())
def test_every_method_is_linear_in_the_sorted_numbers(method):
    """A quantile is homogeneous of degree one, so that <x, gradient> is its value."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 6):
        for q in (0.0, 0.2, 0.5, 0.73, 1.0):
            x = rng.normal(size=n)
            g = slope(lambda t, q=q: np.quantile(t, q, method=method), x)
            assert np.dot(g, x) == pytest.approx(np.quantile(x, q, method=method), abs=1e-14)
            assert g.sum() == pytest.approx(1) and g.min() >= 0 and np.count_nonzero(g) <= 2


def test_medians_follow_the_stable_order():
    assert slope(np.median, [1.0, 1.0, 1.0]).tolist() == [0, 1, 0]
    assert slope(np.median, [7.0, 1.0, 1.0, 0.0]).tolist() == [0, 0.5, 0.5, 0]
    assert slope(np.nanmedian, [NAN, 4.0, 2.0, NAN, 3.0]).tolist() == [0, 0, 0, 0, 1]


def test_rows_with_different_numbers_of_nan():
    x = np.array([[1.0, NAN, 3.0, 2.0], [NAN, NAN, NAN, 5.0], [4.0, 3.0, 2.0, 1.0]])
    g = slope(lambda t: np.nanquantile(t, 0.5, axis=1), x)
    assert g.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0.5, 0.5, 0]]
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        assert slope(lambda t: np.nanmedian(t, axis=1, keepdims=True), np.full((2, 3), NAN)).tolist() == [[0] * 3] * 2


def test_a_tensor_as_q():
    x = np.array([3.0, 1.0, 7.0])
    for q, expected in ((0.0, 4.0), (0.3, 4.0), (0.5, 8.0), (0.8, 8.0)):  # at an element, the piece to the right
        assert slope(partial(np.quantile, x), q) == pytest.approx(expected)
        assert slope(partial(np.percentile, x), 100 * q) == pytest.approx(expected / 100)
    assert not isinstance(np.quantile(x, Tensor(0.3), method="higher"), Tensor)  # a step: slope 0, a constant
    row = np.array([[3.0, NAN, 7.0], [NAN, NAN, NAN]])
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        y = np.nanquantile(row, Tensor(0.25), axis=1)
    np.testing.assert_array_equal(y.value, [4.0, NAN])
    assert np.isnan(np.quantile(row, Tensor(0.25), axis=1).value).all()
    with pytest.raises(ValueError, match="range"):
        np.quantile(x, Tensor(1.5))


# --- NaN as a missing value -----------------------------------------------------------------------


def test_nan_functions_leave_out_nan():
    x = np.array([[1.0, NAN, 3.0], [2.0, 5.0, NAN]])
    full = np.array([[1.0, 3.0], [2.0, 5.0]])
    names = [
        (np.nansum, np.sum),
        (np.nanmean, np.mean),
        (np.nanprod, np.prod),
        (np.nanvar, np.var),
        (np.nanstd, np.std),
        (np.nanmax, np.max),
        (np.nanmedian, np.median),
    ]
    for mine, theirs in names:
        g = slope(partial(mine, axis=1), x, np.array([2.0, -3.0]))
        assert np.all(g[np.isnan(x)] == 0)
        np.testing.assert_allclose(g[~np.isnan(x)], slope(partial(theirs, axis=1), full, np.array([2.0, -3.0])).ravel())
    assert slope(np.nancumsum, x[0]).tolist() == [3, 0, 1]
    assert slope(np.nancumprod, x[0]).tolist() == [1 + 1 + 3, 0, 1]


def test_constants():
    t = Tensor(np.array([[1.0, 0.0], [3.0, 2.0]]))
    for f in (np.all, np.any, np.count_nonzero, np.argmax, np.argmin, np.nanargmax, np.nanargmin):
        assert f in constants
        np.testing.assert_array_equal(f(t, axis=1), f(t.value, axis=1))


# --- the methods of ufuncs ----------------------------------------------------------------------------


def binary():
    found = [
        item
        for item in registry
        if isinstance(getattr(item, "function", None), np.ufunc) and (item.function, "outer") in table and item.function.nin == 2
    ]
    return [item for item in found if item.function in vars(np).values()]


@pytest.mark.parametrize("item", binary(), ids=lambda item: item.name)
def test_outer_accumulate_and_reduce(item):
    ufunc, rng = item.function, np.random.default_rng(1)
    b = rng.uniform(0.5, 0.9, 3) if ufunc is not np.ldexp else np.arange(3)
    a, x = rng.uniform(1.2, 1.9, (2, 2)), rng.uniform(1.1, 1.9, (3, 2))

    def check(f, x):
        y, g = f(Tensor(x)), rng.normal(size=f(x).shape)
        np.testing.assert_allclose(y.value, f(x), rtol=1e-15)
        h, u = 1e-6, rng.normal(size=x.shape)
        numeric = np.sum(g * (f(x + h * u) - f(x - h * u))) / (2 * h)
        assert np.sum(u * slope(f, x, g)) == pytest.approx(numeric, rel=1e-6, abs=1e-7)

    if ufunc is not np.heaviside:
        check(lambda a: ufunc.outer(a, b), a)
    if ufunc not in (np.ldexp, np.copysign, np.nextafter, np.heaviside):
        check(lambda b: ufunc.outer(a, b), b)
    if None not in item.rules:
        check(ufunc.accumulate, x)
        check(lambda x: ufunc.accumulate(x, axis=-1), x)
        check(ufunc.reduce, x)
        if ufunc not in (np.fmax, np.fmin, np.logaddexp):
            check(lambda x: ufunc.reduce(x, axis=1, keepdims=True), x)


def test_reduce_has_the_first_axis_as_its_default():
    t = Tensor(np.ones((2, 3)))
    assert np.add.reduce(t).shape == (3,) and np.multiply.reduce(t, axis=None).shape == ()
    assert slope(np.add.reduce, np.ones((2, 3))).shape == (2, 3)


def test_logaddexp_reduce_is_stable():
    x = np.array([[1000.0, 1000.0, -INF], [-INF, -INF, -INF]])
    y = np.logaddexp.reduce(Tensor(x), axis=1)
    assert y.value.tolist() == [1000 + math.log(2), -INF]
    assert slope(lambda t: np.logaddexp.reduce(t, axis=1)[:1], x).tolist() == [[0.5, 0.5, 0], [0, 0, 0]]
    assert slope(lambda t: np.where([1, 0], np.logaddexp.reduce(t, axis=1), 0), x).tolist() == [[0.5, 0.5, 0], [0, 0, 0]]


def test_reduceat_counts_overlapping_groups():
    assert slope(lambda t: np.add.reduceat(t, [0, 3, 1]), np.ones(5), np.array([1.0, 10.0, 100.0])).tolist() == [1, 101, 101, 110, 100]


def test_methods_of_constants_are_plain():
    t = Tensor(np.array([1.0, 0.0]))
    assert np.greater.outer(t, np.zeros(1)).tolist() == [[True], [False]]
    assert not np.logical_and.reduce(t) and np.logical_or.reduce(t)
    with pytest.raises(TypeError, match=r"add\.at"):
        np.add.at(np.zeros(2), [0], t)
