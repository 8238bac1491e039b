"""Decompositions of stacks of matrices: cholesky, eigh, svd, qr.

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

Sources: M. Giles, An extended collection of matrix derivative results for forward and reverse
mode AD (2008); J. Townsend, Differentiating the singular value decomposition (2016);
S. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions (2010).
"""

from typing import Any

from tinygrad_notes.registry import compose, op, refuse

import numpy as np

# --- what the rules share ------------------------------------------------------------------------


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


SQUARES = [((3, 3),), ((2, 3, 3),), ((1, 1),)]
TALL_AND_WIDE = [((3, 3),), ((4, 3),), ((2, 4),), ((2, 3, 2),), ((1, 2, 3),)]

# --- decompositions ------------------------------------------------------------------------------


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


def eigvalsh(a, UPLO: Any = "L"):
    return np.linalg.eigh(a, UPLO)[0]


compose(np.linalg.eigvalsh, eigvalsh, cases=[*SQUARES, ((3, 3), {"UPLO": "U"})], domain=symmetric)


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
