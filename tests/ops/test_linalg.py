"""numpy.linalg where its registered cases do not reach: repeated values, singular matrices, zeros, choices of signs and triangles.

Losses of vectors are invariant to what is not defined: signs, and rotations of a basis.
"""

import math

from tinygrad_notes import Tensor, core, gradients
from tinygrad_notes.check import derivative
from tinygrad_notes.ops.decompositions import orthogonal, positive_definite, symmetric, well_conditioned

import numpy as np
import pytest

RNG = np.random.default_rng


def gradient(f, x):
    """The gradient of a number f(x) as an array."""
    t = Tensor(x)
    return gradients(f(t), t)


def along(f, u):
    """x -> <gradient of f at x, u>, as an array for arrays."""

    def slope(x):
        t = Tensor(x)
        return np.sum(gradients(f(t), t, create_graph=True).value * u)

    return slope


def hessian_times(f, x, u):
    t = Tensor(x)
    return gradients(np.sum(gradients(f(t), t, create_graph=True) * u), t)


def check(f, x, *, first=True, second=True, seed=0):
    """First and second derivatives of f along random directions, against differences."""
    rng = RNG(seed)
    u, v = rng.normal(size=(2, *np.shape(x)))
    if first:
        slope, bound = derivative(lambda t: float(f(x + t * u)), 1 / 64)
        np.testing.assert_allclose(np.sum(gradient(f, x) * u), slope, rtol=1e-9, atol=bound + 1e-11)
    if second:
        slope, bound = derivative(lambda t: float(along(f, v)(x + t * u)), 1 / 64)
        np.testing.assert_allclose(np.sum(hessian_times(f, x, v) * u), slope, rtol=1e-8, atol=bound + 1e-10)


# --- norms -----------------------------------------------------------------------------------------

VECTOR_ORDERS = [None, 1, 2, 3, 1.5, 0.5, math.inf, -math.inf, -1, -2]
MATRIX_ORDERS = [None, "fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf]


@pytest.mark.filterwarnings("ignore:divide by zero")  # NumPy's, for negative orders of zeros
@pytest.mark.parametrize("order", VECTOR_ORDERS)
def test_the_gradient_of_a_norm_at_zero_is_zero(order):
    def f(x):
        return np.linalg.norm(x, order)

    assert not gradient(f, np.zeros(3)).any()
    assert not hessian_times(f, np.zeros(3), np.array([1.0, 2.0, 3.0])).any()
    x = np.array([[0.0, 0.0], [3.0, -4.0]])  # one zero row beside another
    g = gradient(lambda x: np.sum(np.linalg.norm(x, order, axis=1)), x)
    np.testing.assert_array_equal(g, [[0, 0], gradient(f, x[1])])


@pytest.mark.parametrize("order", MATRIX_ORDERS)
def test_the_gradient_of_a_matrix_norm_at_zero_is_zero(order):
    def f(x):
        return np.linalg.norm(x, order)

    assert not gradient(f, np.zeros((3, 2))).any()
    assert not hessian_times(f, np.zeros((3, 2)), np.arange(6.0).reshape(3, 2)).any()


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("order", [-1, -2, -math.inf])
def test_a_negative_order_sees_only_the_zero(order):
    x = np.array([0.0, 1.0, -2.0])
    assert np.linalg.norm(Tensor(x), order).item() == 0
    assert not gradient(lambda x: np.linalg.norm(x, order), x).any()


@pytest.mark.parametrize("order", [None, 1, 2, 3, 4.5, math.inf])
def test_an_element_zero_in_a_norm(order):
    x = np.array([0.0, 1.0, -2.0])
    check(lambda x: np.linalg.norm(x, order), x, first=order != 1, second=order not in (1,))
    assert gradient(lambda x: np.linalg.norm(x, order), x)[0] == 0


@pytest.mark.parametrize("order", VECTOR_ORDERS)
def test_norms_are_homogeneous(order):
    """Euler: <gradient, x> = norm, and the Hessian takes x to zero."""
    x = RNG(1).normal(size=5)

    def f(x):
        return np.linalg.norm(x, order)

    np.testing.assert_allclose(gradient(f, x) @ x, f(x), rtol=1e-13)
    np.testing.assert_allclose(hessian_times(f, x, x), 0, atol=1e-12)


@pytest.mark.parametrize("order", MATRIX_ORDERS)
@pytest.mark.parametrize("axis", [(0, 1), (1, 0), (-1, 0), (2, -2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_matrix_norms_along_pairs_of_axes(order, axis, keepdims):
    x = RNG(2).normal(size=(2, 3, 4))
    y = np.linalg.norm(Tensor(x), order, axis, keepdims)
    expected = np.linalg.norm(x, order, axis, keepdims)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.value, expected, rtol=1e-13)


def test_norm_zero_counts_and_is_constant():
    y = np.linalg.norm(Tensor(np.array([[1.0, 0.0], [2.0, 3.0]], np.float32)), 0, axis=1)
    assert isinstance(y, np.ndarray) and y.dtype == np.float32
    np.testing.assert_array_equal(y, [1, 2])


def test_norm_refuses_what_numpy_refuses():
    x = np.ones((2, 2, 2))
    for arguments in [
        {"ord": 2},
        {"ord": "fro", "axis": 0},
        {"ord": 3, "axis": (0, 1)},
        {"axis": (0, 1, 2)},
        {"axis": (0, 0)},
        {"axis": 5},
        {"ord": "max", "axis": (0, 1)},
    ]:
        for wrap in (np.array, Tensor):
            with pytest.raises(ValueError):
                np.linalg.norm(wrap(x), **arguments)


def test_nuclear_norm_of_an_orthogonal_matrix():
    """All singular values coincide: the gradient is the matrix itself, and the second derivative is exact too."""
    q = orthogonal(RNG(3), 3, 3)
    np.testing.assert_allclose(gradient(lambda x: np.linalg.norm(x, "nuc"), q), q, rtol=1e-13, atol=1e-13)
    check(lambda x: np.linalg.norm(x, "nuc"), q)
    check(lambda x: np.linalg.norm(x, "nuc"), np.vstack([q, np.zeros((1, 3))]))


def test_singular_values_of_rank_one_have_a_finite_gradient():
    x = np.outer([1.0, 2.0, 2.0], [3.0, 4.0])
    np.testing.assert_allclose(gradient(lambda x: np.linalg.norm(x, "nuc"), x), x / 15, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient(lambda x: np.linalg.norm(x, 2), x), x / 15, rtol=1e-12, atol=1e-14)
    assert np.isfinite(hessian_times(lambda x: np.linalg.norm(x, 2), x, np.ones((3, 2)))).all()


def test_the_spectral_norm_shares_among_equal_singular_values():
    np.testing.assert_allclose(np.trace(gradient(lambda x: np.linalg.norm(x, 2), np.eye(4))), 1, rtol=1e-14)


# --- determinants ----------------------------------------------------------------------------------------


def minors(x):
    """Cofactors by their definition."""
    n = len(x)
    keep = [[j for j in range(n) if j != i] for i in range(n)]
    return np.array([[(-1) ** (i + j) * np.linalg.det(x[np.ix_(keep[i], keep[j])]) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("rank", ["full", "one less", "two less", "zero"])
def test_the_gradient_of_a_determinant_is_its_cofactors(n, rank):
    rng = RNG(n)
    lost = {"full": 0, "one less": 1, "two less": 2, "zero": n}[rank]
    x = rng.normal(size=(n, max(n - lost, 0))) @ rng.normal(size=(max(n - lost, 0), n))
    np.testing.assert_allclose(gradient(np.linalg.det, x), minors(x), rtol=1e-11, atol=1e-12)
    check(np.linalg.det, x)


def test_determinants_of_a_stack_that_holds_a_singular_matrix():
    x = RNG(4).normal(size=(3, 2, 3, 3))
    x[1, 0, 2] = x[1, 0, 0] + x[1, 0, 1]
    w = RNG(6).normal(size=(3, 2))
    g = gradient(lambda x: np.sum(np.linalg.det(x) * w), x)
    np.testing.assert_allclose(g, [[w[i, j] * minors(x[i, j]) for j in range(2)] for i in range(3)], rtol=1e-10, atol=1e-11)


def test_slogdet():
    x = RNG(7).normal(size=(3, 3))
    x *= -np.sign(np.linalg.det(x))  # a negative determinant
    t = Tensor(x)
    result = np.linalg.slogdet(t)
    assert result.sign.item() == -1 and type(result).__name__ == "SlogdetResult"
    np.testing.assert_allclose(gradients(result.logabsdet, t), np.linalg.inv(x).T, rtol=1e-12)
    assert not gradient(lambda x: np.linalg.slogdet(x).sign, x).any()
    with pytest.raises(np.linalg.LinAlgError):
        gradient(lambda x: np.linalg.slogdet(x)[1], np.ones((2, 2)))


def test_empty_matrices():
    x = np.empty((2, 0, 0))
    for f in (np.linalg.det, np.linalg.inv, np.linalg.cholesky, np.linalg.eigvalsh, np.linalg.svdvals, np.linalg.pinv):
        assert gradient(lambda x, f=f: np.sum(f(x)), x).shape == (2, 0, 0)


# --- which triangle, which sign ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lower", "upper"), [("cholesky", {}, {"upper": True}), ("eigvalsh", {}, {"UPLO": "U"}), ("eigh", {"UPLO": "L"}, {"UPLO": "u"})]
)
def test_the_gradient_is_in_the_triangle_that_was_read(name, lower, upper):
    x = positive_definite(RNG(8), (2, 3, 3))

    def loss(x, arguments):
        y = getattr(np.linalg, name)(x, **arguments)
        return np.sum((y[0] if name == "eigh" else y) ** 3)

    below, above = (gradient(lambda x, a=a: loss(x, a), x) for a in (lower, upper))
    assert not np.triu(below, 1).any() and not np.tril(above, -1).any()
    np.testing.assert_allclose(below, np.swapaxes(above, -1, -2), rtol=1e-10, atol=1e-12)
    other = x + np.triu(np.full((3, 3), 7.0), 1)  # the triangle that is not read may hold anything
    np.testing.assert_array_equal(below, gradient(lambda x: loss(x, lower), other))


@pytest.mark.parametrize(
    "f",
    [
        lambda a: np.sum(np.linalg.cholesky(a) * np.arange(9.0).reshape(3, 3)),
        lambda a: np.sum(np.linalg.eigh(a)[1][:, 0] ** 4),
        lambda a: np.sum(np.linalg.eigvalsh(a, "U") * np.array([1.0, -2.0, 3.0])),
        lambda a: np.sum(np.linalg.pinv(a, hermitian=True) ** 2),
        lambda a: np.sum(np.linalg.svd(a, hermitian=True)[1] ** 3),
        lambda a: np.sum(np.linalg.svd(a, hermitian=True, compute_uv=False) ** 3),
        lambda a: np.sum(np.abs(np.linalg.svd(a, hermitian=True)[0][:, 0] * np.linalg.svd(a, hermitian=True)[2][0])),
    ],
)
def test_functions_of_a_symmetric_matrix_made_from_another(f):
    b = well_conditioned(RNG(9), (3, 3))
    check(lambda b: f(b @ np.swapaxes(b, 0, 1)), b)


def test_hermitian_keywords_give_numpys_values():
    x = symmetric(RNG(10), (2, 3, 3))
    for mine, theirs in zip(np.linalg.svd(Tensor(x), hermitian=True), np.linalg.svd(x, hermitian=True)):
        np.testing.assert_allclose(mine.value, theirs, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(np.linalg.pinv(Tensor(x), hermitian=True).value, np.linalg.pinv(x, hermitian=True))


def test_pinv_of_a_hermitian_matrix_reads_its_lower_triangle():
    x = symmetric(RNG(10), (3, 3))

    def f(x):
        return np.sum(np.linalg.pinv(x, hermitian=True) * np.arange(9.0).reshape(3, 3))

    g = gradient(f, x)
    assert not np.triu(g, 1).any()
    np.testing.assert_allclose(g, gradient(f, x + np.triu(np.ones((3, 3)), 1)), rtol=1e-10, atol=1e-12)
    check(f, x + np.triu(np.ones((3, 3)), 1))


@pytest.mark.parametrize("shape", [(5, 2), (2, 5), (5, 3)])
def test_full_svd_and_complete_qr_know_the_space_that_the_other_columns_span(shape):
    """Two or more further columns are defined up to a rotation; the projector onto them is defined."""
    rng = RNG(11)
    x = well_conditioned(rng, shape)
    w = rng.normal(size=(max(shape), max(shape)))
    k = min(shape)

    def of_svd(x):
        u, _, vh = np.linalg.svd(x)
        rest = u[:, k:] if shape[0] > k else np.swapaxes(vh, 0, 1)[:, k:]
        return np.sum(rest @ np.swapaxes(rest, 0, 1) * w)

    def of_qr(x):
        q = np.linalg.qr(x if shape[0] > k else np.swapaxes(x, 0, 1), mode="complete")[0]
        return np.sum(q[:, k:] @ np.swapaxes(q[:, k:], 0, 1) * w) + np.sum(q[:, :k] ** 3)

    check(of_svd, x)
    check(of_qr, x)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_a_decomposition_multiplied_again_is_the_identity(shape):
    """The Jacobian of x -> u s v is the identity, that of x -> v w v.T too, and the Hessian is zero."""
    rng = RNG(12)
    x, w = well_conditioned(rng, shape), rng.normal(size=shape)

    def svd(x):
        u, s, vh = np.linalg.svd(x, full_matrices=False)
        return np.sum(u * s @ vh * w)

    def qr(x):
        q, r = np.linalg.qr(x)
        return np.sum(q @ r * w)

    def eigh(x):  # (1 + x x.T)^-1 (x + x x.T x) = x
        values, v = np.linalg.eigh(x @ np.swapaxes(x, 0, 1))
        return np.sum(np.linalg.solve(v * values @ np.swapaxes(v, 0, 1) + np.eye(shape[0]), x + x @ (np.swapaxes(x, 0, 1) @ x)) * w)

    for f in (svd, qr, eigh):
        np.testing.assert_allclose(gradient(f, x), w, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(hessian_times(f, x, rng.normal(size=shape)), 0, atol=1e-10)


def test_sums_of_powers_at_repeated_values():
    """sum(w^2) = sum(s^2) = sum(x^2), whose gradient is 2 x; distinct or not."""
    q = orthogonal(RNG(13), 3, 3)
    for values in ([1.0, 1.0, 1.0], [2.0, 2.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]):
        x = q * values @ q.T
        x = (x + x.T) / 2
        np.testing.assert_allclose(gradient(lambda x: np.sum(np.linalg.svdvals(x) ** 2), x), 2 * x, atol=1e-13)
        g = gradient(lambda x: np.sum(np.linalg.eigh(x)[0] ** 2), x)
        np.testing.assert_allclose((g + g.T) / 2, 2 * x, atol=1e-13)
        assert np.isfinite(hessian_times(lambda x: np.sum(np.linalg.eigh(x)[0] ** 2), x, np.ones((3, 3)))).all()
        assert np.isfinite(gradient(lambda x: np.sum(np.linalg.eigh(x)[1]), x)).all()


# --- equations ---------------------------------------------------------------------------------------------


def test_solve_reads_right_hand_sides_as_numpy_2_does():
    """A vector only if b has one dimension; else a stack of matrices."""
    rng = RNG(14)
    a = well_conditioned(rng, (3, 3, 3))
    for b in (rng.normal(size=3), rng.normal(size=(3, 3)), rng.normal(size=(2, 1, 3, 2))):
        x, y = Tensor(a), Tensor(b)
        solution = np.linalg.solve(x, y)
        np.testing.assert_array_equal(solution.value, np.linalg.solve(a, b))
        g = rng.normal(size=solution.shape)
        da, db = gradients(np.sum(solution * g), [x, y])
        # With A X = B: <gB, B> = <g, X>, since X is linear in B, and X scales with A to the power -1.
        np.testing.assert_allclose(np.sum(db * b), np.sum(g * solution.value), rtol=1e-12)
        np.testing.assert_allclose(np.sum(da * a), -np.sum(g * solution.value), rtol=1e-12)


def test_errors_are_numpys():
    ones = np.ones((2, 2))
    calls = [
        lambda t: np.linalg.inv(t(ones)),
        lambda t: np.linalg.solve(t(ones), np.ones(2)),
        lambda t: np.linalg.cholesky(t(-ones)),
        lambda t: np.linalg.det(t(np.ones((2, 3)))),
        lambda t: np.linalg.inv(t(np.ones(3))),
        lambda t: np.linalg.matrix_power(t(np.ones((2, 3))), 1),
        lambda t: np.linalg.matrix_power(t(ones), -1),
        lambda t: np.linalg.eigvalsh(t(np.ones((2, 3)))),
        lambda t: np.linalg.tensorinv(t(np.ones((2, 3)))),
    ]
    for call in calls:
        for wrap in (np.array, Tensor):
            with pytest.raises(np.linalg.LinAlgError):
                call(wrap)
    for wrap in (np.array, Tensor):
        with pytest.raises(TypeError):
            np.linalg.matrix_power(wrap(ones), 0.5)


def test_what_has_no_gradient_says_why():
    x = Tensor(np.eye(2))
    for f in (np.linalg.eig, np.linalg.eigvals):
        with pytest.raises(TypeError, match=r"complex.*eigh"):
            f(x)
    with pytest.raises(ValueError, match="'raw' is LAPACK's own format"):
        np.linalg.qr(x, mode="raw")
    assert np.linalg.matrix_rank(x) == 2


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3)])
def test_pinv_of_a_matrix_whose_rank_stays(shape):
    """x = b c has rank 2 wherever b and c move, so that the formula for a constant rank holds."""
    rng = RNG(15)
    b, c = rng.normal(size=(shape[0], 2)), rng.normal(size=(2, shape[1]))
    w = rng.normal(size=shape[::-1])
    check(lambda b: np.sum(np.linalg.pinv(b @ c, rcond=1e-8) * w), b)
    check(lambda c: np.sum(np.linalg.pinv(b @ c, rcond=1e-8) * w), c)


@pytest.mark.parametrize(
    ("shape", "values"), [((4, 4), (3, 2, 0.5, 0.2)), ((5, 3), (3, 0.8, 0.3)), ((2, 4), (2, 0.1)), ((4, 3), (2, 1, 0))]
)
def test_singular_values_that_are_left_out_turn_against_those_that_stay(shape, values):
    """rcond cuts off values that are not zero: their directions move when the matrix does."""
    rng = RNG(21)
    m, n = shape
    u, vh = orthogonal(rng, m, m), orthogonal(rng, n, n)
    a = u[:, : len(values)] * values @ vh[: len(values)]
    w, b = rng.normal(size=(n, m)), rng.normal(size=(m, 2))
    for f in (
        lambda x: np.sum(np.linalg.pinv(x, rcond=0.3) * w),
        lambda x: np.sum(np.linalg.pinv(np.stack([x, 2 * x]), rtol=0.3) * w),
        lambda x: np.sum(np.linalg.lstsq(x, b, rcond=0.3)[0] * w[:, :2]),
    ):
        check(f, a, second=0 not in values)  # zeros that are repeated have no second derivative
    check(lambda x: np.sum(np.linalg.pinv(x @ x.T, rcond=0.1, hermitian=True) * (w.T @ w)), a, second=m == n)


def test_lstsq():
    rng = RNG(16)
    a, b = rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    for m, right in ((5, b), (5, b[:, 0]), (2, b[:2]), (1, b[:1])):
        mine, theirs = np.linalg.lstsq(Tensor(a[:m]), Tensor(right)), np.linalg.lstsq(a[:m], right)
        for x, y in zip(mine, theirs):
            assert np.shape(x) == np.shape(y)
            np.testing.assert_allclose(x.value if isinstance(x, Tensor) else x, y, rtol=1e-11, atol=1e-12)
        assert isinstance(mine[2], np.integer)
    # At the minimum the residual does not change with x: its gradient in b is 2 (b - a x), in a -2 (b - a x) x.T.
    x, r = np.linalg.lstsq(a, b)[0], b - a @ np.linalg.lstsq(a, b)[0]
    ta, tb = Tensor(a), Tensor(b)
    ga, gb = gradients(np.sum(np.linalg.lstsq(ta, tb)[1]), [ta, tb])
    np.testing.assert_allclose(gb, 2 * r, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ga, -2 * r @ x.T, rtol=1e-10, atol=1e-12)


# --- powers, chains, condition numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-2, -1, 1, 2, 3, 7])
def test_matrix_power(n):
    x = well_conditioned(RNG(17), (2, 2, 2))
    np.testing.assert_allclose(np.linalg.matrix_power(Tensor(x), n).value, np.linalg.matrix_power(x, n), rtol=1e-11, atol=1e-13)
    check(lambda x: np.sum(np.linalg.matrix_power(x, n) * np.arange(8.0).reshape(2, 2, 2)), x)


def test_the_power_zero_is_constant():
    y = np.linalg.matrix_power(Tensor(np.ones((2, 3, 3), np.float32)), 0)
    np.testing.assert_array_equal(y, np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3)), strict=True)


def cheapest(lengths):
    """The fewest multiplications of a chain, over all orders."""
    k, ends = range(1, len(lengths) - 1), (lengths[0], lengths[-1])
    return min((cheapest(lengths[: i + 1]) + cheapest(lengths[i:]) + ends[0] * lengths[i] * ends[1] for i in k), default=0)


@pytest.mark.parametrize("seed", range(8))
def test_multi_dot_takes_the_cheapest_order(seed):
    lengths = RNG(seed).integers(1, 12, 6).tolist()
    arrays = [Tensor(np.ones(s)) for s in zip(lengths, lengths[1:])]

    class Count:
        multiplications = 0

        def forward(self, node, inputs, y):
            self.multiplications += y.size * inputs[0].shape[-1]

    core.observer = count = Count()
    try:
        y = np.linalg.multi_dot(arrays)
    finally:
        core.observer = None
    assert y.value[0, 0] == math.prod(lengths[1:-1])
    assert count.multiplications == cheapest(lengths)


def test_multi_dot_needs_two():
    with pytest.raises(ValueError, match="two or more"):
        np.linalg.multi_dot([Tensor(np.eye(2))])


@pytest.mark.parametrize("p", [None, 2, -2, 1, -1, math.inf, -math.inf, "fro", "nuc"])
def test_condition_numbers_do_not_change_with_the_scale(p):
    x = well_conditioned(RNG(18), (2, 3, 3))
    np.testing.assert_allclose(np.linalg.cond(Tensor(x), p).value, np.linalg.cond(x, p), rtol=1e-11)
    g = gradient(lambda x: np.sum(np.linalg.cond(x, p)), x)
    np.testing.assert_allclose(np.sum(g * x, axis=(1, 2)), 0, atol=1e-11)
    assert np.abs(g).max() > 1e-3


# --- covariance ---------------------------------------------------------------------------------------------------

WEIGHTED = [
    {},
    {"rowvar": False},
    {"bias": True},
    {"ddof": 0},
    {"fweights": np.array([1, 2, 3, 1])},
    {"aweights": np.array([0.5, 1.0, 0.2, 2.0])},
    {"fweights": [1, 2, 3, 1], "aweights": [0.5, 1.0, 0.2, 2.0], "ddof": 2},
    {"dtype": np.float32},
]


@pytest.mark.parametrize("keywords", WEIGHTED)
def test_cov(keywords):
    rng = RNG(19)
    x, y = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    for arguments in ((x,), (x, y), (x, y[0])) if keywords.get("rowvar", True) else ((x,), (x, y)):
        expected = np.cov(*arguments, **keywords)
        got = np.cov(*map(Tensor, arguments), **keywords)
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(
            got.value, expected, rtol=1e-4 if "dtype" in keywords else 1e-12, atol=1e-6 if "dtype" in keywords else 1e-14
        )
    if "dtype" not in keywords:
        check(lambda x: np.sum(np.cov(x, y, **keywords) * np.arange(64.0).reshape(8, 8)), x)


def test_cov_is_differentiable_in_its_weights():
    x = RNG(20).normal(size=(2, 4))
    check(lambda w: np.sum(np.cov(x, aweights=w) * np.array([[1.0, 2.0], [3.0, 4.0]])), np.array([0.5, 1.0, 0.7, 2.0]))


def test_corrcoef():
    rng = RNG(21)
    x, y = rng.normal(size=(3, 6)), rng.normal(size=(2, 6))
    np.testing.assert_allclose(np.corrcoef(Tensor(x), y).value, np.corrcoef(x, y), rtol=1e-13)
    np.testing.assert_allclose(np.corrcoef(Tensor(x[0])).value, 1)
    check(lambda x: np.sum(np.corrcoef(x, y) * np.arange(25.0).reshape(5, 5)), x)
    np.testing.assert_allclose(gradient(lambda x: np.trace(np.corrcoef(x)), x), 0, atol=1e-14)  # ones, whatever x is


# --- float32 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        np.linalg.inv,
        np.linalg.det,
        np.linalg.pinv,
        np.linalg.cholesky,
        np.linalg.eigvalsh,
        np.linalg.svdvals,
        np.cov,
        np.corrcoef,
        np.linalg.cond,
        lambda x: np.linalg.slogdet(x)[1],
        lambda x: np.linalg.eigh(x)[1] ** 2,
        lambda x: np.linalg.svd(x)[0] ** 2,
        lambda x: np.linalg.qr(x)[0],
        lambda x: np.linalg.solve(x, x[0]),
        lambda x: np.linalg.lstsq(x[:, :2], x)[1],
        lambda x: np.linalg.matrix_power(x, -3),
        *(lambda x, p=p: np.linalg.norm(x[0], p) for p in VECTOR_ORDERS),
        *(lambda x, p=p: np.linalg.norm(x, p) for p in MATRIX_ORDERS),
    ],
)
def test_float32_stays_at_every_order(f):
    x = Tensor(positive_definite(RNG(22), (3, 3)).astype(np.float32))
    y = f(x)
    first = gradients(np.sum(y * y), x, create_graph=True)
    second = gradients(np.sum(first * first), x)
    assert y.dtype == first.dtype == second.dtype == np.float32
    assert np.isfinite(second).all()
