"""numpy.linalg on stacks of matrices: inverses, equations, determinants, powers, chains.

Source of the pseudo-inverse: G. Golub and V. Pereyra, The differentiation of pseudo-inverses
and nonlinear least squares problems whose variables separate (1973).
"""

import math
import operator
from functools import cache

from tinygrad_notes.ops.contractions import as_array
from tinygrad_notes.ops.decompositions import SQUARES, TALL_AND_WIDE, fold, mirror, mT, well_conditioned
from tinygrad_notes.registry import compose, constant, op

import numpy as np

# --- inverse and linear equations ----------------------------------------------------------------


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
    """Golub and Pereyra's formula, for a whose rank stays, and what comes on top where rcond leaves out singular values that are not zero."""
    if hermitian:
        a = mirror(a)
    gT, yT = mT(g), mT(y)
    da = (gT - a @ (y @ gT)) @ (y @ yT) + (yT @ y) @ (gT - (gT @ y) @ a) - yT @ g @ yT
    cut = rtol if rcond is None else rcond
    if cut is not None:  # by itself, NumPy leaves out rounding noise only
        da = da + of_left_out(gT, a, cut)
    return fold(da) if hermitian else da


def of_left_out(gT, a, cut):
    """The part of the gradient that is due to singular values s_j which are left out, and turn against those that are kept, s_i.

    The pseudo-inverse is V f(S) U^T, f(s_i) = 1 / s_i, f(s_j) = 0. By the divided differences of f, with E = U^T da V, its transpose changes
    in the basis of U and V by (s_i^2 E_ij + s_i s_j E_ji) / (s_i^2 (s_i^2 - s_j^2)) at ij, and with ij and ji exchanged at ji. Golub and
    Pereyra's terms are those of s_j = 0, E_ij / s_i^2; here is the rest.
    """
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    kept = s > np.asarray(cut)[..., None] * np.max(s, axis=-1, keepdims=True, initial=0)
    if not np.any(~kept & (s > 100 * np.finfo(s.dtype).eps * np.max(s, initial=0))):
        return 0.0
    pairs = kept[..., :, None] & ~kept[..., None, :]
    i, j = s[..., :, None], s[..., None, :]
    c = pairs / np.where(pairs, i * i * (i * i - j * j), 1)
    straight, crossed = c * j * j, c * i * j
    h = mT(u) @ gT @ mT(vh)
    return u @ ((straight + mT(straight)) * h + (crossed + mT(crossed)) * mT(h)) @ vh


op(
    np.linalg.pinv,
    pinv_rule,
    cases=[*TALL_AND_WIDE, ((3, 2), {"rcond": 1e-10}), ((2, 3), {"rtol": 1e-10}), ((4, 3), {"rcond": 0.5})],
    domain=well_conditioned,
)


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

# --- determinants --------------------------------------------------------------------------------


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

# --- powers and chains ---------------------------------------------------------------------------


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
    for i, x in enumerate(arrays):
        if x.ndim != 2 and not (x.ndim == 1 and i in (0, len(arrays) - 1)):
            raise np.linalg.LinAlgError(f"multi_dot: array {i} is {x.shape}, expected a matrix; only the first and the last may be vectors")
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
