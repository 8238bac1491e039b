"""Elementwise functions at the places that random inputs avoid: kinks, ties, edges, NaN; and what stays constant."""

import math

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.core import table
from tinygrad_notes.registry import constants, registry

import mpmath
import numpy as np
import pytest

EPS = np.finfo(np.float64).eps
INF, NAN = math.inf, math.nan


def slopes(f, *xs, order=1):
    """The derivatives of f by each of its arguments, elementwise, of the given order by the last of them."""
    ts = [Tensor(np.asarray(x, np.float64)) for x in xs]
    y = f(*ts)
    for _ in range(order - 1):
        y = gradients(np.sum(y), ts[-1], create_graph=True)
    found = [gradients(np.sum(y), t, retain_graph=True).tolist() for t in ts]
    return found[0] if len(found) == 1 else found


# --- kinks and ties ---------------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.maximum, np.minimum, np.fmax, np.fmin])
def test_ties_share_evenly_and_winners_take_all(f):
    first = 1.0 if f in (np.maximum, np.fmax) else 0.0
    assert slopes(f, [2.0, 1.0, INF, 1.0, 0.0], [1.0, 1.0, INF, 3.0, -0.0]) == [
        [first, 0.5, 0.5, 1 - first, 0.5],
        [1 - first, 0.5, 0.5, first, 0.5],
    ]


def test_fmax_and_fmin_leave_out_nan():
    for f in (np.fmax, np.fmin):
        assert slopes(f, [NAN, 1.0], [2.0, NAN]) == [[0.0, 1.0], [1.0, 0.0]]


def test_a_zero_share_of_an_infinite_cotangent_is_zero():
    a, b = Tensor(np.array([0.0])), Tensor(np.array([1.0]))
    with np.errstate(divide="ignore"):
        assert gradients(np.sum(np.sqrt(np.minimum(a, b))), [a, b])[1].tolist() == [0.0]


def test_kinks_of_absolute_values_and_lengths():
    for f in (np.absolute, np.fabs, abs):
        assert slopes(f, [-2.0, 0.0, -0.0, 3.0]) == [-1.0, 0.0, 0.0, 1.0]
    assert slopes(np.hypot, [0.0, 3.0], [0.0, 4.0]) == [[0.0, 0.6], [0.0, 0.8]]
    assert slopes(np.arctan2, [0.0, 0.0], [0.0, 2.0]) == [[0.0, 0.5], [-0.0, -0.0]]
    assert slopes(np.copysign, [2.0, 0.0, -2.0], [-1.0, -1.0, -0.0])[0] == [-1.0, 0.0, 1.0]
    assert slopes(lambda b: np.copysign(3.0, b) * b, [2.0, -2.0]) == [3.0, -3.0]


def test_far_out_nothing_overflows():
    big = 1e200
    assert slopes(np.hypot, big, big) == pytest.approx([math.sqrt(0.5)] * 2)
    assert slopes(np.arctan2, big, big) == pytest.approx([0.5 / big, -0.5 / big])
    assert slopes(np.arcsinh, big) == pytest.approx(1 / big)


def test_clip_is_one_at_its_bounds():
    assert slopes(lambda x: np.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert slopes(np.clip, [-2.0, -1.0, 0.0, 1.0, 2.0], -1.0, 1.0) == [[0.0, 1.0, 1.0, 1.0, 0.0], 1.0, 1.0]
    assert slopes(np.clip, [0.0, 2.0, 5.0], 3.0, 1.0) == [[0.0, 0.0, 0.0], 0.0, 3.0]  # where the bounds cross, the upper one counts


def test_clip_in_every_spelling():
    x, low = np.array([-2.0, 0.5, 2.0]), np.array([-1.0, 1.0, 1.0])
    t = Tensor(x)
    for y in (
        np.clip(t, low, None),
        np.clip(t, min=low) if hasattr(np, "cumulative_sum") else t.clip(low),  # NumPy 2.1 has these keywords
        np.clip(a=t, a_min=low, a_max=None),
        t.clip(low),
        t.clip(min=low),
        x.clip(Tensor(low)),
        np.clip(x, Tensor(low), 9),
    ):
        assert y.value.tolist() == [-1.0, 1.0, 2.0]
    assert x.clip(Tensor(low), 1.5).value.tolist() == [-1.0, 1.0, 1.5]
    with pytest.raises(ValueError, match=r"a_min and min are two names of one bound"):
        np.clip(t, 0, 1, min=0)
    with pytest.raises(TypeError, match="out= would overwrite"):
        np.clip(t, 0, 1, x)


def test_power_at_zero_and_below():
    by_base = [0.0, 1.0, 0.0, 0.0, 12.0, -0.25]
    assert slopes(lambda a: a ** np.array([0.0, 1.0, 2.0, 3.0, 3.0, -1.0]), [0.0, 0.0, 0.0, 0.0, -2.0, -2.0]) == by_base
    assert slopes(lambda b: np.array([0.0, 0.0, 1.0, math.e]) ** b, [0.5, 2.0, 3.0, 1.0]) == pytest.approx([0.0, 0.0, 0.0, math.e])
    assert slopes(np.power, 0.0, 2.0) == [0.0, 0.0]
    assert slopes(lambda x: x**2, [0.0, -3.0], order=2) == [2.0, 2.0]
    assert slopes(lambda x: x**3, [0.0, -3.0], order=3) == [6.0, 6.0]
    assert slopes(lambda x: x**0, [0.0, -3.0], order=2) == [0.0, 0.0]


def test_a_constant_exponent_asks_for_no_logarithm():
    assert slopes(lambda x: x**3, [-1.0]) == [3.0]  # warnings are errors here: log(-1) would warn
    t = Tensor(np.array([-1.0, 2.0]))
    assert (t**2).node.op is table[np.square]


def test_roots_at_zero():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert slopes(np.sqrt, 0.0) == INF
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert slopes(np.cbrt, 0.0) == INF


def test_sinc_is_smooth_at_zero():
    assert slopes(np.sinc, [0.0, 1e-9]) == pytest.approx([0.0, -(math.pi**2) * 1e-9 / 3])
    assert slopes(np.sinc, 0.0, order=2) == pytest.approx(-(math.pi**2) / 3)
    assert slopes(np.sinc, 0.0, order=4) == pytest.approx(math.pi**4 / 5)
    x = np.concatenate([np.linspace(-3, 3, 61), [0.29999, 0.30001]])
    exact = [float(mpmath.diff(mpmath.sincpi, v)) for v in x]
    np.testing.assert_allclose(slopes(np.sinc, x), exact, atol=40 * EPS, rtol=0)


def test_i0_has_the_slope_i1_wherever_it_is_finite():
    x = np.array([-700.0, -3.0, -1e-3, 0.0, 1e-8, 0.5, 8.0, 50.0, 300.0, 700.0])
    np.testing.assert_allclose(slopes(np.i0, x), [float(mpmath.besseli(1, v)) for v in x], rtol=2e-13)
    assert slopes(np.i0, 0.0, order=2) == pytest.approx(0.5)


def test_logaddexp_of_nothing():
    a = [-INF, -INF, 0.0, 800.0]
    assert slopes(np.logaddexp, a, [-INF, 0.0, 0.0, -800.0]) == [[0.0, 0.0, 0.5, 1.0], [0.0, 1.0, 0.5, 0.0]]
    assert slopes(np.logaddexp2, a[:3], [-INF, 0.0, 0.0]) == [[0.0, 0.0, 0.5], [0.0, 1.0, 0.5]]


# --- steps and their parts ------------------------------------------------------------------------


def test_quotients_with_a_rest():
    a, b = [7.0, -7.0, 7.0], [3.0, 3.0, -3.0]
    assert slopes(np.remainder, a, b) == [[1.0] * 3, [-2.0, 3.0, 3.0]]
    assert slopes(np.fmod, a, b) == [[1.0] * 3, [-2.0, 2.0, 2.0]]
    assert slopes(np.fmod, 6.0, 0.1)[1] == -np.rint((6.0 - math.fmod(6.0, 0.1)) / 0.1)
    assert slopes(lambda a, b: np.divmod(a, b)[1], a, b) == slopes(np.remainder, a, b) == slopes(lambda a, b: a % b, a, b)
    assert slopes(lambda a, b: np.divmod(a, b)[0], a, b) == [[0.0] * 3] * 2
    assert type(Tensor(7.0) // 2) is not Tensor


def test_parts_of_a_number():
    x = np.array([-5.0, 0.3, 12.0])
    for f in (np.modf, np.frexp):
        for mine, theirs in zip(f(Tensor(x)), f(x)):
            np.testing.assert_array_equal(getattr(mine, "value", mine), theirs)
    assert slopes(lambda t: np.modf(t)[0], x) == [1.0] * 3
    assert slopes(lambda t: np.modf(t)[1], x) == [0.0] * 3
    assert slopes(lambda t: np.frexp(t)[0], x) == (2.0 ** -np.frexp(x)[1]).tolist()
    assert slopes(lambda t: np.ldexp(t, [1, 2, 3]), x) == [2.0, 4.0, 8.0]


def test_heaviside():
    assert type(np.heaviside(Tensor(np.array([-1.0, 0.0])), 0.5)) is np.ndarray
    assert slopes(lambda h: np.heaviside(np.array([-1.0, 0.0, 1.0]), h), 0.3) == 1.0
    assert slopes(np.heaviside, [-1.0, 0.0, 1.0], 0.3) == [[0.0] * 3, 1.0]


def test_nan_to_num_changes_nothing_in_place():
    x = np.array([NAN, INF, -INF, 2.0])
    t = Tensor(x)
    y = np.nan_to_num(t, copy=False, nan=1.0, posinf=5.0)
    assert np.isnan(x[0]) and y.value.tolist() == [1.0, 5.0, -np.finfo(np.float64).max, 2.0]
    assert gradients(np.sum(y), t).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_constants_are_plain_arrays():
    t = Tensor(np.array([-1.5, 0.5]))
    for f in (
        np.sign,
        np.floor,
        np.ceil,
        np.rint,
        np.trunc,
        np.round,
        np.around,
        np.signbit,
        np.spacing,
        np.isnan,
        np.imag,
        np.angle,
        np.logical_not,
    ):
        assert f in constants
        y = f(t)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, f(t.value))
    for f in (np.greater, np.less_equal, np.equal, np.not_equal, np.floor_divide, np.logical_and, np.isclose):
        np.testing.assert_array_equal(f(t, 0.5), f(t.value, 0.5))
        np.testing.assert_array_equal(f(0.5, t), f(0.5, t.value))
    assert np.round(t, 0).tolist() == t.round().tolist() == [-2.0, 0.0]
    assert np.allclose(t, t) and not np.array_equal(t, 1)


def test_integers_only():
    with pytest.raises(TypeError, match=r"np\.gcd does not take a Tensor: it takes integers"):
        np.gcd(Tensor(4.0), 2)


def test_complex_results_raise():
    with pytest.raises(TypeError, match=r"the result is complex"):
        np.emath.sqrt(Tensor(-1.0))
    assert slopes(np.emath.sqrt, 4.0) == 0.25


# --- choosing ---------------------------------------------------------------------------------------


def test_where_in_its_forms():
    t = Tensor(np.array([-1.0, 0.0, 2.0]))
    assert [i.tolist() for i in np.where(t)] == [[0, 2]]
    assert slopes(lambda t: np.where(t > 0, t * t, 0), t.value) == [0.0, 0.0, 4.0]
    assert type(np.where(t, 1.0, 2.0)) is np.ndarray  # a condition alone has no gradient
    y = np.where(np.array([True, False]), Tensor(np.float32(1)), 0)
    assert y.dtype == np.float32 and y.shape == (2,)


def test_the_nan_trap_of_where_and_its_recipe():
    x = np.array([0.0, 4.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        trapped = slopes(lambda t: np.where(t > 0, np.sqrt(t), 0), x)
    assert math.isnan(trapped[0])  # 0 * inf
    assert slopes(lambda t: np.where(t > 0, np.sqrt(np.where(t > 0, t, 1)), 0), x) == [0.0, 0.25]


def test_piecewise_computes_each_function_where_it_holds():
    x = np.array([-4.0, 4.0, 0.0])
    assert slopes(lambda t: np.piecewise(t, [x > 0, x < 0], [np.sqrt, np.negative, 3.0]), x) == [
        -1.0,
        0.25,
        0.0,
    ]  # no warning from sqrt(-4)
    scalar = Tensor(2.0)
    assert gradients(np.piecewise(scalar, scalar > 0, [np.square, np.exp]), scalar) == 4.0
    with pytest.raises(ValueError, match=r"3 functions came with 1 conditions"):
        np.piecewise(Tensor(x), [x > 0], [1, 2, 3])


def test_select_and_choose_refuse_what_does_not_fit():
    t = Tensor(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"np\.select: 1 conditions came with 2 choices"):
        np.select([np.array([True, False])], [t, t])
    with pytest.raises(ValueError, match=r"np\.choose: a reaches from 0 to 2, but there are 2 choices"):
        np.choose(np.array([0, 2]), [t, t])


def test_unwrap_is_the_identity_up_to_whole_periods():
    x = np.array([0.0, 3.0, -3.0, 0.5])
    np.testing.assert_array_equal(np.unwrap(Tensor(x)).value, np.unwrap(x))
    assert slopes(np.unwrap, x) == [1.0] * 4


# --- all of them --------------------------------------------------------------------------------------


def elementwise():
    return [
        item
        for item in registry
        if isinstance(getattr(item, "function", None), np.ufunc) and item.function.signature is None and item.function in vars(np).values()
    ]


@pytest.mark.parametrize("item", elementwise(), ids=lambda item: item.name)
def test_float32_stays_float32(item):
    """With arrays, and with a plain number in each other place: value, gradient and second gradient."""
    f, n = item.function, item.function.nin
    domain = item.domain[0] if isinstance(item.domain, list) else item.domain or (0.4, 0.9)
    x = np.linspace(*domain, 5, dtype=np.float32)[1:4]
    if f in (np.float_power, np.ldexp):
        return  # float64 by definition; and an exponent that is an integer
    for place in range(n):
        t = Tensor(x)
        args = [t if i == place else 0.7 for i in range(n)]
        y = f(*args)
        for member in y if isinstance(y, tuple) else [y]:
            if not isinstance(member, Tensor):
                assert getattr(member, "dtype", None) != np.float64
                continue
            assert member.dtype == np.float32
            g = gradients(np.sum(member), t, create_graph=True)
            assert g.dtype == np.float32
            assert gradients(np.sum(g * g), t, retain_graph=True).dtype == np.float32


@pytest.mark.parametrize("name", "exp log sqrt sin cos tanh arcsinh log1p expm1 exp2 cbrt arctan arcsin log2 log10 tan cosh".split())
def test_slopes_against_mpmath(name):
    exact = {
        "arcsinh": mpmath.asinh,
        "arctan": mpmath.atan,
        "arcsin": mpmath.asin,
        "exp2": lambda x: mpmath.power(2, x),
        "log2": lambda x: mpmath.log(x, 2),
    }
    f = exact.get(name) or getattr(mpmath, name)
    x = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(slopes(getattr(np, name), x), [float(mpmath.diff(f, v)) for v in x], rtol=8 * EPS)
