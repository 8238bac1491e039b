"""numpy.linalg on stacks of matrices: norms, determinants, solutions, decompositions; covariance.

What the rules promise:
- cholesky, eigh and whatever says hermitian=True read one triangle of their argument, so the
  gradient is zero in the other: exactly what differences of the NumPy function give. Gradients
  of what a symmetric matrix was made from (A = B @ B.T) do not depend on this choice.
- Singular vectors, eigenvectors and the columns of Q are defined up to signs, and further
  columns (full_matrices, mode="complete") up to a rotation. The gradient of a loss that does
  not see these choices is exact, at all orders.
- Where singular values or eigenvalues coincide to rounding, 1 / (their difference) counts as 0,
  so that nothing is infinite. Gradients of losses that treat all the values alike (sums of
  powers, the nuclear norm) are still exact; the vectors have no derivative there. The second
  derivatives of eigh are then incomplete, those of the nuclear norm are not.
- The gradient of a norm where it is zero is zero.

Sources: M. Giles, An extended collection of matrix derivative results for forward and reverse
mode AD (2008); J. Townsend, Differentiating the singular value decomposition (2016);
S. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions (2010);
G. Golub and V. Pereyra, The differentiation of pseudo-inverses (1973).
"""

import math
import operator
from functools import cache

from tinygrad_notes.ops.products import as_array
from tinygrad_notes.registry import compose, constant, op, refuse

import numpy as np

# --- what the rules share ---------------------------------------------------------------------


def mT(x):
    return np.swapaxes(x, -1, -2)


def half_triangle(x):
    """The mask of a lower triangle that counts its diagonal half, so that m + m.T is all ones."""
    n = x.shape[-1]
    return np.tri(n, dtype=x.dtype) - np.eye(n, dtype=x.dtype) / 2


def fold(s, UPLO="L"):
    """The gradient for the triangle that was read, given the gradient s for the whole symmetric matrix."""
    mask = half_triangle(s)
    return (s + mT(s)) * (mask if UPLO.upper() == "L" else mT(mask))


def mirror(a):
    """The symmetric matrix with the lower triangle of a."""
    half = a * half_triangle(a)
    return half + mT(half)


def inverse(x, scale):
    """1 / x, but 0 where x vanishes beside numbers as large as scale (..., n)."""
    limit = np.max(np.abs(scale), axis=-1, initial=0) * (scale.shape[-1] * float(np.finfo(x.dtype).eps))
    vanishes = np.abs(x) <= np.reshape(limit, limit.shape + (1,) * (x.ndim - limit.ndim))
    return ~vanishes / (x + vanishes)


def differences(w):
    """w_j - w_i at [..., i, j]"""
    return w[..., None, :] - w[..., None]


def diagonal_matrix(x):
    return x[..., None] * np.eye(x.shape[-1], dtype=x.dtype)


def first_columns(g, q, k):
    """The first k columns of an orthogonal q, and their gradient. A loss can only depend on the space that the others span."""
    if q.shape[-1] == k:
        return g, q
    first, others = q[..., :k], q[..., k:]
    return g[..., :k] - others @ (mT(g[..., k:]) @ first), first


def orthogonal(rng, *shape):
    """For tests: orthonormal columns, drawn evenly, so that determinants of both signs come."""
    q, r = np.linalg.qr(rng.normal(size=shape))
    return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def well_conditioned(rng, shape):
    """For tests: singular values near 1, 2, 3 ..., apart from each other and from 0."""
    *batch, m, n = shape
    k = min(m, n)
    values = 1 + np.arange(k) + rng.uniform(-0.2, 0.2, (*batch, k))
    return orthogonal(rng, *batch, m, k) * values[..., None, :] @ mT(orthogonal(rng, *batch, n, k))


def positive_definite(rng, shape):
    """For tests: symmetric, eigenvalues near 1, 2, 3 ..."""
    q = orthogonal(rng, *shape)
    return q * (1 + np.arange(shape[-1]) + rng.uniform(-0.2, 0.2, shape[:-1]))[..., None, :] @ mT(q)


def symmetric(rng, shape):
    """For tests: symmetric, eigenvalues near -1, 2, -3, 4 ..."""
    q = orthogonal(rng, *shape)
    signs = (-1.0) ** np.arange(1, shape[-1] + 1)
    return q * (signs * (1 + np.arange(shape[-1]) + rng.uniform(-0.2, 0.2, shape[:-1])))[..., None, :] @ mT(q)


def singular(rng, shape):
    """For tests: matrices without inverse, the last row being the sum of the others."""
    x = rng.normal(size=shape)
    x[..., -1, :] = x[..., :-1, :].sum(-2)
    return x


SQUARES = [((3, 3),), ((2, 3, 3),), ((1, 1),)]
TALL_AND_WIDE = [((3, 3),), ((4, 3),), ((2, 4),), ((2, 3, 2),)]

# --- inverse and linear equations -----------------------------------------------------------------


def solve_rule(g, y, a, b):
    if b.ndim == 1:
        g, y = g[..., None], y[..., None]
    db = np.linalg.solve(mT(a), g)
    return -db @ mT(y), db[..., 0] if b.ndim == 1 else db


op(np.linalg.inv, lambda g, y, a: -mT(y) @ g @ mT(y), cases=SQUARES, domain=well_conditioned)
op(
    np.linalg.solve,
    solve_rule,
    cases=[((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (2, 3, 2)), ((3, 3), (2, 3, 2)), ((2, 1, 3, 3), (4, 3, 1))],
    domain=[well_conditioned, (-2.0, 2.0)],
)


def tensorinv(a, ind=2):
    if ind <= 0:
        raise ValueError(f"tensorinv: ind is {ind}, expected a positive number of axes; a {np.shape(a)}")
    rows, columns = a.shape[:ind], a.shape[ind:]
    return np.reshape(np.linalg.inv(np.reshape(a, (math.prod(rows), math.prod(columns)))), columns + rows)


def tensorsolve(a, b, axes=None):
    if axes is not None:
        axes = [i % a.ndim for i in axes]
        a = np.transpose(a, [i for i in range(a.ndim) if i not in axes] + axes)
    shape = a.shape[b.ndim :]
    return np.reshape(np.linalg.solve(np.reshape(a, (b.size, math.prod(shape))), np.reshape(b, -1)), shape)


def tensor_of_matrix(rng, shape):
    """For tests: an array that is a well-conditioned matrix when its axes are split into two equal halves of elements."""
    n = math.isqrt(math.prod(shape))
    return well_conditioned(rng, (n, n)).reshape(shape)


compose(np.linalg.tensorinv, tensorinv, cases=[((2, 3, 6),), ((6, 2, 3), {"ind": 1})], domain=tensor_of_matrix)
compose(
    np.linalg.tensorsolve,
    tensorsolve,
    cases=[((2, 3, 6), (2, 3)), ((2, 3, 3, 2), (2, 3)), ((6, 2, 3), (2, 3), {"axes": (0,)})],
    domain=[tensor_of_matrix, (-2.0, 2.0)],
)


def pinv_rule(g, y, a, *, rcond=None, hermitian=False, rtol=None):
    """Golub and Pereyra's formula; the rank is taken for constant."""
    if hermitian:
        a = mirror(a)
    gT, yT = mT(g), mT(y)
    da = (gT - a @ (y @ gT)) @ (y @ yT) + (yT @ y) @ (gT - (gT @ y) @ a) - yT @ g @ yT
    return fold(da) if hermitian else da


op(np.linalg.pinv, pinv_rule, cases=[*TALL_AND_WIDE, ((3, 2), {"rcond": 1e-10}), ((2, 3), {"rtol": 1e-10})], domain=well_conditioned)


def lstsq(a, b, rcond=None):
    """(x, residuals, rank, singular values) of min |a x - b|, x being pinv(a) @ b; the rank has no gradient."""
    a, b = as_array(a), as_array(b)
    if rcond is None:
        rcond = float(np.finfo(np.result_type(a.dtype, b.dtype)).eps) * max(a.shape)
    x = np.linalg.pinv(a, rcond) @ b
    s = np.linalg.svdvals(a)
    rank = np.int32(np.sum(s > rcond * np.max(s, initial=0)))
    m, n = a.shape
    residuals = np.sum(np.reshape(np.square(b - a @ x), (m, -1)), axis=0) if m > n == rank else np.ravel(x)[:0]
    return x, residuals, rank, s


compose(
    np.linalg.lstsq,
    lstsq,
    cases=[((4, 2), (4,)), ((4, 2), (4, 3)), ((3, 3), (3,)), ((2, 4), (2, 2)), ((4, 2), (4,), {"rcond": 1e-10})],
    domain=[well_conditioned, (-2.0, 2.0)],
)

# --- determinants -----------------------------------------------------------------------------------


def signed_svd(a):
    """(sign, u, s, vh) with det(a) = sign * prod(s)."""
    u, s, vh = np.linalg.svd(a)
    return np.sign(np.linalg.det(u) * np.linalg.det(vh))[..., None, None], u, s, vh


def products_without(s, left_out):
    """Products of the s that are not left out: s (..., n), left_out (n, ..., n) of bool."""
    s = np.reshape(s, s.shape[:-1] + (1,) * (left_out.ndim - 1) + s.shape[-1:])
    return np.prod(s * ~left_out + left_out, axis=-1)


def cofactors(a):
    """The gradient of the determinant: det(a) inv(a).T, but from singular values, so that a may have no inverse."""
    sign, u, s, vh = signed_svd(a)
    return sign * u * products_without(s, np.eye(s.shape[-1], dtype=bool))[..., None, :] @ vh


def cofactors_rule(g, y, a):
    sign, u, s, vh = signed_svd(a)
    one = np.eye(s.shape[-1], dtype=bool)
    pairs = products_without(s, one[:, None] | one)  # at [i, j]: without s_i and s_j; [i, i] cancels below
    g = mT(u) @ g @ mT(vh)
    on_diagonal = pairs @ np.einsum("...ii->...i", g)[..., None]
    return sign * u @ (on_diagonal * one - pairs * mT(g)) @ vh


cofactors = op(cofactors, cofactors_rule, cases=SQUARES, domain=well_conditioned)
op(np.linalg.det, lambda g, y, a: g[..., None, None] * cofactors(a), cases=[*SQUARES, ((2, 2, 2, 2),)], domain=well_conditioned)
op(
    np.linalg.slogdet,  # the sign is constant
    lambda g, y, a: g[1][..., None, None] * mT(np.linalg.inv(a)),
    cases=SQUARES,
    domain=well_conditioned,
)

# --- decompositions -----------------------------------------------------------------------------------


def cholesky_rule(g, y, a, *, upper=False):
    if upper:
        return mT(cholesky_rule(mT(g), mT(y), a))
    mask, y_inverse = half_triangle(y), np.linalg.inv(y)
    return fold(mT(y_inverse) @ (mT(y) @ g * mask) @ y_inverse)


op(np.linalg.cholesky, cholesky_rule, cases=[*SQUARES, ((3, 3), {"upper": True})], domain=positive_definite)


def eigh_rule(g, y, a, *, UPLO="L"):
    (gw, gv), (w, v) = g, y
    s = v @ (diagonal_matrix(gw) + inverse(differences(w), w) * (mT(v) @ gv)) @ mT(v)
    return fold(s, UPLO)


op(np.linalg.eigh, eigh_rule, cases=[*SQUARES, ((3, 3), {"UPLO": "U"}), ((2, 3, 3), "L")], domain=symmetric)
compose(np.linalg.eigvalsh, lambda a, UPLO: Any = "L": np.linalg.eigh(a, UPLO)[0], cases=[*SQUARES, ((3, 3), {"UPLO": "U"})], domain=symmetric)


def svd_factors(a, *, full_matrices):
    return np.linalg.svd(a, full_matrices)


def svd_rule(g, y, a, *, full_matrices):
    """Sums and differences of singular values apart, so that only what is undefined is divided by a difference."""
    (gu, gs, gvh), (u, s, vh) = g, y
    k = s.shape[-1]
    (gu, u), (gv, v) = first_columns(gu, u, k), first_columns(mT(gvh), mT(vh), k)
    of_u, of_v = mT(u) @ gu, mT(v) @ gv
    p, q = of_u - mT(of_u), of_v - mT(of_v)
    middle = (inverse(differences(s), s) * (p + q) + inverse(s[..., None] + s[..., None, :], s) * (p - q)) / 2
    da = u @ (middle + diagonal_matrix(gs)) @ mT(v)
    if a.shape[-2] > k:
        da = da + (gu - u @ of_u) * inverse(s, s)[..., None, :] @ mT(v)
    if a.shape[-1] > k:
        da = da + u @ mT((gv - v @ of_v) * inverse(s, s)[..., None, :])
    return da


svd_factors = op(
    svd_factors,
    svd_rule,
    cases=[(*case, {"full_matrices": False}) for case in TALL_AND_WIDE]
    + [((3, 3), {"full_matrices": True}), ((4, 3), {"full_matrices": True}), ((2, 3), {"full_matrices": True})],
    domain=well_conditioned,
)


def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    if not compute_uv:
        return svd_factors(mirror(a) if hermitian else a, full_matrices=False)[1]
    if not hermitian:
        return svd_factors(a, full_matrices=full_matrices)
    w, v = np.linalg.eigh(a)
    order = np.flip(np.argsort(np.abs(w), axis=-1), axis=-1)
    w, u = np.take_along_axis(w, order, axis=-1), np.take_along_axis(v, order[..., None, :], axis=-1)
    return SVDResult(u, np.abs(w), mT(u * np.sign(w)[..., None, :]))


SVDResult = type(np.linalg.svd(np.eye(1)))
compose(
    np.linalg.svd,
    svd,
    cases=[((3, 3),), ((3, 2),), ((4, 2), False), ((2, 4), {"full_matrices": False}), ((2, 4, 3), {"compute_uv": False})],
    domain=well_conditioned,
)
compose(np.linalg.svdvals, lambda x, /: svd_factors(x, full_matrices=False)[1], cases=TALL_AND_WIDE, domain=well_conditioned)


def qr_factors(a, *, mode):
    return np.linalg.qr(a, mode)


def qr_rule(g, y, a, *, mode):
    """Walter and Lehmann; where a is wide, a = (b, c) with b = q r and c = q (q.T c)."""
    (gq, gr), (q, r) = g, y
    k = min(a.shape[-2:])
    gq, q = first_columns(gq, q, k)
    gr, r = gr[..., :k, :], r[..., :k, :]
    if a.shape[-1] > k:
        gq = gq + (q @ r[..., k:]) @ mT(gr[..., k:])
    m = r[..., :k] @ mT(gr[..., :k]) - mT(gq) @ q
    lower = m * half_triangle(m)
    db = mT(np.linalg.solve(r[..., :k], mT(gq + q @ (lower + mT(lower)))))
    return np.concatenate([db, q @ gr[..., k:]], axis=-1) if a.shape[-1] > k else db


qr_factors = op(
    qr_factors,
    qr_rule,
    cases=[(*case, {"mode": "reduced"}) for case in TALL_AND_WIDE] + [((3, 2), {"mode": "complete"}), ((2, 4), {"mode": "complete"})],
    domain=well_conditioned,
)


def qr(a, mode="reduced"):
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(
            f"qr: mode is {mode!r}, expected 'reduced', 'complete' or 'r'; 'raw' is LAPACK's own format and has no gradient rule"
        )
    return qr_factors(a, mode="reduced")[1] if mode == "r" else qr_factors(a, mode=mode)


compose(
    np.linalg.qr,
    qr,
    cases=[((3, 3),), ((4, 3), "reduced"), ((2, 4),), ((3, 2), {"mode": "complete"}), ((2, 4, 3), {"mode": "r"})],
    domain=well_conditioned,
)
refuse(
    "the eigenvalues of a general matrix are complex, and Tensors are real; np.linalg.eigh and eigvalsh take symmetric matrices",
    np.linalg.eig,
    np.linalg.eigvals,
)

# --- powers and chains ------------------------------------------------------------------------------------


def matrix_power(a, n):
    n = operator.index(n)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError(f"matrix_power: a has shape {a.shape}, expected square matrices in the last two axes")
    if n == 0:  # a constant
        return np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    if n < 0:
        a, n = np.linalg.inv(a), -n
    result = None
    while n:
        n, odd = divmod(n, 2)
        if odd:
            result = a if result is None else result @ a
        a = a @ a if n else a
    return result


def multi_dot(arrays):
    """The product of matrices in the order that multiplies least; the first and the last may be vectors."""
    arrays = list(arrays)
    if len(arrays) < 2:
        raise ValueError(f"multi_dot: {len(arrays)} arrays came, expected two or more")
    rows = [1 if x.ndim == 1 else x.shape[0] for x in arrays[:1]] + [x.shape[0] for x in arrays[1:]]
    lengths = [*rows, 1 if arrays[-1].ndim == 1 else arrays[-1].shape[1]]

    @cache
    def cheapest(i, j):
        """(multiplications, where to split) of the product of arrays i to j - 1."""
        if j - i == 1:
            return 0, i
        return min((cheapest(i, k)[0] + cheapest(k, j)[0] + lengths[i] * lengths[k] * lengths[j], k) for k in range(i + 1, j))

    def multiply(i, j):
        k = cheapest(i, j)[1]
        return arrays[i] if j - i == 1 else multiply(i, k) @ multiply(k, j)

    return multiply(0, len(arrays))


compose(np.linalg.matrix_power, matrix_power, cases=[((3, 3), n) for n in (1, 2, 3, 5, -1, -3)] + [((2, 3, 3), 3)], domain=well_conditioned)
compose(
    np.linalg.multi_dot,
    multi_dot,
    cases=[([(2, 3), (3, 4)],), ([(2, 3), (3, 4), (4, 2), (2, 3)],), ([(3,), (3, 4), (4,)],), ([(3,), (3, 4), (4, 2)],)],
)
constant(np.linalg.matrix_rank)

# --- norms ------------------------------------------------------------------------------------------------


def euclidean(x, *, axis):
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=True))


euclidean = op(
    euclidean,
    lambda g, y, x, *, axis: g * x * ((y != 0) / (y + (y == 0))),
    cases=[((3, 4), {"axis": (0, 1)}), ((3, 4), {"axis": (-1,)}), ((2, 3, 4), {"axis": (0, 2)})],
)


def power_norm(x, *, ord, axis):
    return np.sum(np.abs(x) ** ord, axis=axis, keepdims=True) ** (1 / ord)


def power_norm_rule(g, y, x, *, ord, axis):
    zero = x == 0
    ratio = np.abs(x) / (y + (y == 0)) + zero  # 1 for an element 0, which sign(x) takes out: no 0 ** -1
    return g * (np.sign(x) * (y != 0)) * ratio ** (ord - 1)


power_norm = op(
    power_norm,
    power_norm_rule,
    cases=[((3, 4), {"ord": p, "axis": (-1,)}) for p in (3, 1.5, 0.5, -1, -2.5)] + [((2, 3), {"ord": 3, "axis": (0, 1)})],
)


def norm_along(x, ord, axis):
    """A norm of vectors over the axes, which stay with length 1."""
    if ord is None or ord == 2:
        return euclidean(x, axis=axis)
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), axis=axis, keepdims=True)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord is {ord!r}, expected a number for vectors")
    if abs(ord) == math.inf:
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axis, keepdims=True)
    return np.sum(np.abs(x), axis=axis, keepdims=True) if ord == 1 else power_norm(x, ord=ord, axis=axis)


def norm_of_matrices(x, ord):
    """A norm over the last two axes, which stay with length 1."""
    if ord in (None, "fro", "f"):
        return euclidean(x, axis=(-2, -1))
    if ord in (1, -1, math.inf, -math.inf):
        summed, chosen = (-2, -1) if abs(ord) == 1 else (-1, -2)
        return (np.max if ord > 0 else np.min)(np.sum(np.abs(x), axis=summed, keepdims=True), axis=chosen, keepdims=True)
    if ord not in ("nuc", 2, -2):
        raise ValueError(f"norm: ord is {ord!r}, expected None, 'fro', 'nuc', 1, -1, 2, -2, inf or -inf for matrices")
    s = np.linalg.svdvals(x)
    s = s * (inverse(s, s) != 0)  # a singular value that vanishes has no gradient, as |x| has none at 0
    return (np.sum if ord == "nuc" else np.max if ord == 2 else np.min)(s, axis=-1, keepdims=True)[..., None]


def norm(x, ord=None, axis=None, keepdims=False):
    if axis is None:
        axes = tuple(range(x.ndim))
        if ord is not None and x.ndim not in (1, 2):
            raise ValueError(f"norm: x has {x.ndim} dimensions, expected 1 or 2 when ord={ord!r} comes without axis; x {x.shape}")
    else:
        axes = np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
        if len(axes) not in (1, 2):
            raise ValueError(f"norm: axis is {axis}, expected one axis or a pair; x {x.shape}")
    if len(axes) == 2 and ord is not None:
        y = norm_of_matrices(np.moveaxis(x, axes, (-2, -1)), ord)
    else:
        y = norm_along(x, ord, axes)
    return np.reshape(y, [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes])


def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    y = norm_along(x, ord, axes)
    return y if keepdims else np.squeeze(y, axis=axes)


def cond(x, p=None):
    if p not in (None, 2, -2):
        return np.linalg.norm(x, p, axis=(-2, -1)) * np.linalg.norm(np.linalg.inv(x), p, axis=(-2, -1))
    s = np.linalg.svdvals(x)
    with np.errstate(all="ignore"):  # a singular matrix: inf
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


INF = math.inf
compose(
    np.linalg.norm,
    norm,
    cases=[((4,),), ((3, 4),), ((2, 3, 2),), ((),), ((2, 3, 2), {"keepdims": True})]
    + [((4,), p) for p in (1, 2, 3, -1, -2, 1.5, INF, -INF)]
    + [((3, 2), p) for p in ("fro", "nuc", 1, -1, 2, -2, INF, -INF)]
    + [
        ((2, 3, 4), {"axis": axis, "ord": p, "keepdims": kept})
        for axis, p, kept in (
            (1, None, False),
            (-1, 3, True),
            ((0, -1), None, False),
            ((-1, 0), 1, True),
            ((2, 1), "nuc", False),
            ((1, 2), 2, True),
        )
    ],
)
compose(
    np.linalg.vector_norm,
    vector_norm,
    cases=[
        ((4,),),
        ((3, 4),),
        ((2, 3, 4), {"axis": (0, 2), "ord": 3}),
        ((2, 3), {"axis": 1, "keepdims": True, "ord": INF}),
        ((2, 3), {"ord": 1}),
    ],
)
compose(
    np.linalg.matrix_norm,
    lambda x, /, *, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims),
    cases=[((3, 4),), ((2, 3, 4), {"ord": "nuc", "keepdims": True}), ((2, 3, 2), {"ord": 2}), ((2, 3), {"ord": 1})],
)
compose(
    np.linalg.cond,
    cond,
    cases=[((3, 3),), ((3, 2),), ((2, 3, 3), -2), ((3, 3), "fro"), ((3, 3), 1), ((2, 2, 2), {"p": INF})],
    domain=well_conditioned,
)

# --- covariance -----------------------------------------------------------------------------------------------


def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """Covariance of variables in rows (columns with rowvar=False); float32 stays float32, where np.cov of arrays computes in float64."""
    x = as_variables(m, rowvar)
    if y is not None:
        x = np.concatenate([x, as_variables(y, rowvar)], axis=0)
    if dtype is not None:
        x = x.astype(dtype)
    if ddof is None:
        ddof = 0 if bias else 1
    n = x.shape[1]
    if fweights is None and aweights is None:
        x = x - np.mean(x, axis=1, keepdims=True)
        return np.squeeze(x @ mT(x) / max(n - ddof, 0))
    frequency = np.ones(n, x.dtype) if fweights is None else np.asarray(fweights).astype(x.dtype)
    reliability = np.ones(n, x.dtype) if aweights is None else as_array(aweights).astype(x.dtype)
    w = frequency * reliability
    total = np.sum(w)
    factor = total - ddof * (np.sum(w * reliability) / total)
    x = x - (x @ w / total)[:, None]
    return np.squeeze((x * w) @ mT(x) / factor)


def as_variables(x, rowvar):
    x = as_array(x)
    if x.ndim > 2:
        raise ValueError(f"cov: the array has {x.ndim} dimensions, expected 1 or 2; {x.shape}")
    return mT(x) if x.ndim == 2 and not rowvar else np.reshape(x, (1, -1)) if x.ndim < 2 else x


def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.diagonal(c))
    return np.clip(c / deviation[:, None] / deviation, -1, 1)


WEIGHTS = {"fweights": np.array([1, 2, 1, 3])}
compose(
    np.cov,
    cov,
    cases=[
        ((3, 4),),
        ((4,),),
        ((3, 4), (2, 4)),
        ((4,), (4,)),
        ((4, 2), {"rowvar": False}),
        ((2, 4), {"bias": True}),
        ((2, 4), {"ddof": 2}),
        ((2, 4), WEIGHTS),
    ]
    + [
        ((2, 4), {"aweights": np.array([0.5, 1.0, 2.0, 1.5])}),
        ((2, 4), WEIGHTS | {"aweights": np.array([0.5, 1.0, 2.0, 1.5]), "ddof": 0}),
        ((4, 2), (4,), {"rowvar": False, "ddof": 0}),
    ],
)
compose(np.corrcoef, corrcoef, cases=[((3, 5),), ((5,), (5,)), ((5, 2), {"rowvar": False}), ((2, 5), (5,))])
