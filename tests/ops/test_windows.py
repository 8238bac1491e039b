"""Running, sorted, padded, convolved, interpolated: values as NumPy's, gradients by algebra, kinks as promised."""

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.core import walk
from tinygrad_notes.ops.windows import decaying_sum

import numpy as np
import pytest


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def pull(f, x, g):
    t = Tensor(x)
    return walk({f(t).node: np.asarray(g)}, [t.node])[t.node]


def matrix_of(f, n):
    """The matrix of a linear function of n numbers."""
    zero = np.asarray(f(np.zeros(n)))
    return np.stack([np.asarray(f(row)) - zero for row in np.eye(n)], -1)


# --- linear functions: the gradient is the transposed matrix, and there is no second order -----------


PADS = [
    (mode, {"reflect_type": kind} if mode in ("reflect", "symmetric") else {})
    for mode in ("constant", "edge", "linear_ramp", "mean", "reflect", "symmetric", "wrap")
    for kind in ("even", "odd")
]
LINEAR = [
    np.cumsum,
    lambda x: np.add.accumulate(x),
    np.diff,
    lambda x: np.diff(x, 3),
    lambda x: np.diff(x, 2, prepend=[1.0, 2.0], append=3.0),
    lambda x: np.ediff1d(x, to_begin=[1.0], to_end=[2.0, 3.0]),
    np.gradient,
    lambda x: np.gradient(x, 0.5, edge_order=2),
    lambda x: np.gradient(x, np.array([0.0, 1.0, 1.5, 3.0, 3.5]), edge_order=2),
    np.trapezoid,
    lambda x: np.trapezoid(x, np.array([0.0, 1.0, 1.5, 3.0, 3.5])),
    lambda x: np.convolve(x, [1.0, 2.0, 5.0], "same"),
    lambda x: np.convolve([1.0, 2.0, 5.0], x, "valid"),
    lambda x: np.correlate([1.0, 2.0, 5.0, 7.0], x, "same"),
    lambda x: np.interp([0.5, 1.7, 9.0, -1.0], np.arange(5.0), x),
    lambda x: np.interp([0.5, 1.7, 9.0, -1.0], np.arange(5.0), x, period=5),
    lambda x: np.lib.stride_tricks.sliding_window_view(x, 3) * np.arange(9.0).reshape(3, 3),
    lambda x: np.bincount([0, 3, 3, 1, 0], x),
    lambda x: np.histogram([0.0, 1.0, 1.5, 3.0, 9.0], [0.0, 1.0, 3.0], weights=x)[0],
    lambda x: np.histogram2d([0.0, 1.0, 1.5, 3.0, 9.0], [0.0, 1.0, 0.5, 0.0, 1.0], 3, weights=x)[0],
    lambda x: np.histogramdd(np.array([[0.0, 1.0, 1.5, 3.0, 9.0], [0.0, 1.0, 0.5, 0.0, 1.0]]).T, 3, weights=x)[0],
    lambda x: np.polyder(x, 2),
    lambda x: np.polyint(x, 2, k=[1.0, 2.0]),
    lambda x: np.polyval(x, [0.5, 2.0]),
    lambda x: np.polyadd(x, [1.0, 2.0]),
    lambda x: np.polysub([1.0, 2.0], x),
    lambda x: np.polyfit(np.arange(5.0), x, 2),
    lambda x: np.apply_along_axis(np.cumsum, 0, x),
    *[lambda x, mode=mode, options=options: np.pad(x, (3, 7), mode, **options) for mode, options in PADS],
]


@pytest.mark.parametrize("f", LINEAR)
def test_gradient_of_a_linear_function_is_its_transpose(f):
    x = normal(5) + 0.1  # no leading zero
    t = Tensor(x)
    y = f(t)
    np.testing.assert_allclose(y.value, f(x), rtol=1e-13, atol=1e-13)
    g = normal(*y.shape, seed=1)
    matrix = matrix_of(f, 5)
    np.testing.assert_allclose(walk({y.node: g}, [t.node])[t.node], np.tensordot(g, matrix, g.ndim), rtol=1e-11, atol=1e-12)
    v = Tensor(g)
    first = walk({f(t).node: v}, [t.node], higher=True)[t.node]
    u = normal(5, seed=2)
    by_v, by_x = gradients(np.sum(first * u), [v, t])
    np.testing.assert_allclose(by_v, matrix @ u, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(by_x, np.zeros(5))


@pytest.mark.parametrize("f", LINEAR)
def test_float32_stays(f):
    t = Tensor(normal(5, dtype=np.float32))
    y = f(t)
    assert gradients(np.sum(y * y), t).dtype == np.float32


@pytest.mark.parametrize(
    "f",
    [
        np.cumsum,
        np.cumprod,
        np.nancumsum,
        np.nancumprod,
        np.sort,
        np.diff,
        np.ediff1d,
        np.gradient,
        np.trapezoid,
        lambda x: np.convolve(x, x),
        lambda x: np.interp(x, np.arange(3, dtype="f"), x[:3]),
        lambda x: np.pad(x, 2, "linear_ramp"),
        lambda x: np.pad(x, 2, "mean", stat_length=2),
        lambda x: np.pad(x, 2, "reflect", reflect_type="odd"),
        lambda x: np.bincount([0, 0, 1, 1, 2], x),
        lambda x: np.polyval(x, x),
        lambda x: np.polyval([1.0, 2.0], x),
        lambda x: np.polyval(x, 0.5),
        lambda x: np.diff(x, prepend=1.0),
        lambda x: np.append(x, 1.0),
        lambda x: np.polydiv(x, x[:2])[0],
        np.poly,
        np.polyder,
        np.polyint,
        np.vander,
        lambda x: np.polyfit(x, x * x, 1),
        lambda x: np.linspace(x, 2 * x, 4),
        lambda x: np.geomspace(abs(x), 2.0, 4),
    ],
)
def test_float32_gives_float32(f):
    assert f(Tensor(normal(5, dtype=np.float32))).dtype == np.float32


# --- products: exact with zeros, to every order --------------------------------------------------------


def product_gradient(x, g):
    """d<g, cumprod(x)>/dx_i = sum over j >= i of g_j times the other factors up to j."""
    return np.array([sum(g[j] * np.prod(np.delete(x[: j + 1], i)) for j in range(i, len(x))) for i in range(len(x))])


@pytest.mark.parametrize("zeros", [[], [0], [2], [5], [1, 3], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("f", [np.cumprod, np.nancumprod, np.multiply.accumulate])
def test_cumprod_is_exact_with_zeros(zeros, f):
    x, g, u = normal(6), normal(6, seed=1), normal(6, seed=2)
    x[zeros] = 0
    np.testing.assert_allclose(pull(f, x, g), product_gradient(x, g), rtol=1e-12)
    t = Tensor(x)
    first = gradients(np.sum(g * f(t)), t, create_graph=True)
    second = gradients(np.sum(first * u), t)
    h = 1e-4  # the gradient is a polynomial: differences of it are exact to h^4 after one extrapolation
    slope = [(product_gradient(x + s * u, g) - product_gradient(x - s * u, g)) / (2 * s) for s in (h, 2 * h)]
    np.testing.assert_allclose(second, (4 * slope[0] - slope[1]) / 3, atol=1e-8)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 13])
def test_decaying_sum_is_the_recurrence(n):
    g, a = normal(n), normal(max(n - 1, 0), seed=1)
    expected = g.copy()
    for i in range(n - 2, -1, -1):
        expected[i] += a[i] * expected[i + 1]
    np.testing.assert_allclose(decaying_sum(g, a), expected, rtol=1e-12)


def test_nan_counts_as_nothing():
    x = np.array([1.0, np.nan, 3.0])
    np.testing.assert_array_equal(pull(np.nancumsum, x, [1.0, 10.0, 100.0]), [111, 0, 100])
    np.testing.assert_array_equal(pull(np.nancumprod, x, [1.0, 10.0, 100.0]), [311, 0, 100])
    np.testing.assert_array_equal(np.nancumprod(Tensor(x)).value, [1, 1, 3])


# --- order: the gradient follows each element -----------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("f", [np.sort, lambda x, axis: np.partition(x, 1, axis), lambda x, axis: np.sort(x, axis, kind="stable")])
def test_sorting_moves_the_gradient_with_the_element(f, axis):
    x = np.random.default_rng(3).permutation(20).reshape(4, 5) * 1.0
    weight = normal(20)
    y = f(x, axis)
    g = weight[y.astype(int)]  # what each element shall receive, wherever it stands
    np.testing.assert_array_equal(pull(lambda t: f(t, axis), x, g), weight[x.astype(int)])


def test_equal_elements_keep_their_order():
    x = np.array([2.0, 1.0, 2.0, 1.0, 2.0])
    g = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    expected = np.empty(5)
    expected[np.argsort(x, kind="stable")] = g
    for f in (np.sort, lambda t: np.sort(t, stable=True), lambda t: np.sort(t, kind="heapsort")):
        np.testing.assert_array_equal(pull(f, x, g), expected)
    many = np.zeros(1000)
    np.testing.assert_array_equal(pull(np.sort, many, np.arange(1000.0)), np.arange(1000.0))


def test_partition_of_equal_elements_loses_no_gradient():
    x = np.array([2.0, 1.0, 2.0, 1.0, 2.0, 0.0])
    found = pull(lambda t: np.partition(t, 3), x, np.arange(6.0))
    assert sorted(found) == list(range(6))
    y = np.partition(x, 3)
    for value in np.unique(x):
        assert found[x == value].sum() == np.arange(6.0)[y == value].sum()


def test_unique_gives_the_gradient_to_the_first():
    x = np.array([3.0, 1.0, 3.0, 1.0])
    np.testing.assert_array_equal(pull(np.unique, x, [5.0, 7.0]), [7, 5, 0, 0])
    t = Tensor(x)
    result = np.unique_all(t)
    assert type(result.values) is Tensor and type(result.counts) is np.ndarray
    np.testing.assert_array_equal(np.unique(t, return_counts=True)[1], [2, 2])
    np.testing.assert_array_equal(pull(lambda t: np.union1d(t, np.array([1.0, 9.0])), x, [1.0, 2.0, 4.0]), [2, 1, 0, 0])
    np.testing.assert_array_equal(pull(lambda t: np.setdiff1d(t, [1.0]), x, [4.0]), [4, 0, 0, 0])
    np.testing.assert_array_equal(pull(lambda t: np.setxor1d(t, np.array([1.0, 9.0])), x, [1.0, 2.0]), [1, 0, 0, 0])


@pytest.mark.parametrize(
    "f",
    [
        np.argsort,
        lambda t: np.argpartition(t, 2),
        lambda t: np.lexsort((t, t)),
        lambda t: np.searchsorted(np.array([0.0]), t),
        lambda t: np.digitize(t, [0.0]),
        lambda t: np.histogram(t)[0],
        lambda t: np.isin(t, [0.0]),
        np.argwhere,
        np.flatnonzero,
    ],
)
def test_places_are_constants(f):
    x = normal(5)
    y = f(Tensor(x))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, f(x))


# --- convolution: a product of polynomials ------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (1, 4), (5, 4), (4, 5), (5, 3), (6, 6)])
@pytest.mark.parametrize("f", [np.convolve, np.correlate])
def test_convolution_is_bilinear(f, n, m, mode):
    """<g, f(a, v)> is linear in each: Euler gives <df/da, a> == <df/dv, v> == <g, y>, and the mixed second order equals it."""
    a, v = Tensor(normal(n)), Tensor(normal(m, seed=1))
    y = f(a, v, mode)
    np.testing.assert_allclose(y.value, f(a.value, v.value, mode), atol=1e-14)
    g = normal(*y.shape, seed=2)
    total = np.sum(g * y.value)
    ga, gv = gradients(np.sum(g * y), [a, v], create_graph=True)
    np.testing.assert_allclose([np.sum(ga.value * a.value), np.sum(gv.value * v.value)], total)
    np.testing.assert_allclose(np.sum(gradients(np.sum(ga * a.value), v) * v.value), total)
    for i in range(n):
        one = np.eye(n)[i]
        np.testing.assert_allclose(ga.value[i], np.sum(g * f(one, v.value, mode)), atol=1e-14)
    for i in range(m):
        one = np.eye(m)[i]
        np.testing.assert_allclose(gv.value[i], np.sum(g * f(a.value, one, mode)), atol=1e-14)


def test_polynomials_keep_their_identities():
    u, v = Tensor(normal(5)), Tensor(np.array([2.0, 1.0, -1.0]))
    q, r = np.polydiv(u, v)
    np.testing.assert_allclose(np.polyadd(np.polymul(q, v), r).value, u.value)
    c = normal(5, seed=1)
    gu, gv = gradients(np.sum(c * np.polyadd(np.polymul(q, v), r)), [u, v])  # q v + r == u
    np.testing.assert_allclose(gu, c, atol=1e-12)
    np.testing.assert_allclose(gv, 0, atol=1e-12)
    zeros = Tensor(np.array([1.0, -2.0, 0.5]))
    np.testing.assert_allclose(np.polyval(np.poly(zeros), zeros).value, 0, atol=1e-14)
    p = np.poly(zeros)
    expected = -np.polyval(np.polyder(p.value), zeros.value)  # dp(x)/dz_i at x = z_i, by the product rule
    np.testing.assert_allclose([gradients(np.polyval(np.poly(zeros), zeros.value[i]), zeros)[i] for i in range(3)], expected)
    np.testing.assert_allclose(np.polyder(np.polyint(u, 2), 2).value, u.value)


# --- interpolation, differences ------------------------------------------------------------------------------


def test_interp_takes_the_piece_to_the_right_of_a_point():
    xp, fp = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 8.0])
    np.testing.assert_array_equal(
        pull(lambda x: np.interp(x, xp, fp), np.array([0.0, 1.0, 0.5, 3.0, -1.0, 9.0]), np.ones(6)), [2, 3, 2, 3, 0, 0]
    )
    left = Tensor(np.array(5.0))
    assert gradients(np.sum(np.interp(Tensor(np.array([-1.0, 0.5])), xp, fp, left=left)), left) == 1
    single = Tensor(np.array([4.0]))
    np.testing.assert_array_equal(gradients(np.sum(np.interp(np.array([1.0, 2.0]), np.array([1.0]), single)), single), [2])


def test_interp_by_the_places_of_its_points():
    """Between xp0 and xp1, dy/dxp0 = -(1 - t) s and dy/dxp1 = -t s, with slope s."""
    xp = Tensor(np.array([0.0, 2.0, 3.0]))
    np.testing.assert_allclose(gradients(np.interp(Tensor(np.array(0.5)), xp, np.array([0.0, 4.0, 5.0])), xp), [-1.5, -0.5, 0])


def test_gradient_is_exact_for_parabolas():
    x = Tensor(np.array([0.0, 0.3, 1.0, 1.2, 2.0]))
    slope = np.gradient(x * x, x, edge_order=2)
    np.testing.assert_allclose(slope.value, 2 * x.value, atol=1e-14)
    c = normal(5)
    np.testing.assert_allclose(gradients(np.sum(c * slope), x), 2 * c, atol=1e-12)  # of coordinates and values together
    rows, columns = np.gradient(Tensor(normal(3, 4)), 2.0, np.arange(4.0))
    assert rows.shape == columns.shape == (3, 4)


# --- padding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, (1, 2), ((1, 2),), [[1, 2], [0, 3]], ((1,), (2,)), np.array([2, 1]), (2,)])
@pytest.mark.parametrize("values", [0, 2.0, (1.0, 2.0), ((1.0, 2.0), (3.0, 4.0)), ((5.0,), (6.0,))])
def test_pad_in_every_spelling(width, values):
    x = normal(2, 3)
    y = np.pad(Tensor(x), width, constant_values=values)
    np.testing.assert_array_equal(y.value, np.pad(x, width, constant_values=values))


def test_pad_with_tensors_and_by_axis():
    x, edge = Tensor(normal(2, 3)), Tensor(np.array(7.0))
    y = np.pad(x, ((1, 0), (0, 2)), constant_values=edge)
    np.testing.assert_array_equal(y.value, np.pad(x.value, ((1, 0), (0, 2)), constant_values=7.0))
    assert gradients(np.sum(y), edge) == 3 + 2 * 3
    ramp = np.pad(x[0], (0, 4), "linear_ramp", end_values=edge)
    np.testing.assert_allclose(gradients(np.sum(ramp), edge), 0.25 + 0.5 + 0.75 + 1)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda t: np.pad(t, 1, "empty"), TypeError, "empty"),
        (lambda t: np.pad(t, 1, lambda *a: None), TypeError, "in place"),
        (lambda t: np.pad(t, -1), ValueError, "negative"),
        (lambda t: np.pad(t, [1, 2, 3]), ValueError, "pair"),
        (lambda t: np.pad(t, 1, stat_length=2), ValueError, "stat_length"),
        (lambda t: np.convolve(t, t, "half"), ValueError, "half"),
        (lambda t: np.diff(t, -1), ValueError, "n=-1"),
        (lambda t: np.gradient(t[:1]), ValueError, "points"),
        (lambda t: np.polyint(t, 3, k=[1.0, 2.0]), ValueError, "constants"),
        (lambda t: np.poly(np.reshape(t, (1, 4))), ValueError, "square"),
        (lambda t: np.polyfit(t, t, 3, cov=True), ValueError, "more points"),
        (lambda t: np.add.accumulate(t, out=np.empty(4)), TypeError, "out="),
    ],
)
def test_what_cannot_be_raises(call, error, text):
    with pytest.raises(error, match=text):
        call(Tensor(normal(4)))


# --- windows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "axis"), [((2, 2), None), (3, 1), ((2, 3), (1, 0)), ((2, 2), (0, 0))])
def test_every_window_adds_to_what_it_saw(window, axis):
    x = normal(4, 5)
    positions = np.lib.stride_tricks.sliding_window_view(np.arange(20).reshape(4, 5), window, axis)
    g = normal(*positions.shape, seed=1)
    expected = np.bincount(positions.ravel(), g.ravel(), 20).reshape(4, 5)
    t = Tensor(x)
    y = np.lib.stride_tricks.sliding_window_view(t, window, axis)
    np.testing.assert_array_equal(y.value, x.ravel()[positions])
    np.testing.assert_allclose(walk({y.node: g}, [t.node], retain=True)[t.node], expected)
    np.testing.assert_allclose(walk({y.node: Tensor(g)}, [t.node], higher=True)[t.node].value, expected)


def test_functions_along_axes():
    x = Tensor(normal(3, 4))
    y = np.apply_along_axis(lambda row, power: np.sum(row**power), 1, x, power=2)
    np.testing.assert_allclose(gradients(np.sum(y), x), 2 * x.value)
    assert np.apply_over_axes(np.sum, x, [0, 1]).shape == (1, 1)
    with pytest.raises(ValueError, match="nothing"):
        np.apply_along_axis(np.sum, 1, x[:0])
