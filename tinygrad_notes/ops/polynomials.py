"""Polynomials as NumPy's oldest functions have them: coefficients from the highest power down."""

import warnings

from tinygrad_notes.ops.indexing import arrays_of
from tinygrad_notes.ops.padding import pad_zero
from tinygrad_notes.registry import compose, plain

import numpy as np


def polyval(p, x):
    x = np.asarray(x) if isinstance(x, list | tuple) else x
    y = 0.0 if isinstance(x, int | float) else np.zeros_like(x)
    for coefficient in p:  # Horner's rule
        y = y * x + coefficient
    return y


def polyder(p, m=1):
    (p,) = arrays_of([p])
    if m < 0:
        raise ValueError(f"np.polyder: m={m}, expected 0 or more; np.polyint integrates")
    for _ in range(int(m)):
        p = p[:-1] * np.arange(len(p) - 1, 0, -1).astype(p.dtype)
    return p


def polyint(p, m=1, k=None):
    (p,), m = arrays_of([p]), int(m)
    if m < 0:
        raise ValueError(f"np.polyint: m={m}, expected 0 or more; np.polyder differentiates")
    constants = np.zeros(m, p.dtype) if k is None else np.atleast_1d(k)
    constants = np.broadcast_to(constants, m) if constants.size == 1 else constants
    if constants.size < m:
        raise ValueError(f"np.polyint: k has {constants.size} constants, expected 1 or {m}, one for each integration")
    for i in range(m):
        p = np.concatenate([p / np.arange(len(p), 0, -1).astype(p.dtype), constants[i : i + 1]])
    return p


def polyadd(a1, a2):
    a1, a2 = np.atleast_1d(a1, a2)
    n = max(len(a1), len(a2))
    if len(a1) == len(a2):
        return a1 + a2
    if a1.ndim > 1 or a2.ndim > 1:
        raise ValueError(f"np.polyadd, np.polysub: polynomials of shapes {a1.shape} and {a2.shape}, expected vectors, or equal lengths")
    return pad_zero(a1, [(n - len(a1), 0)]) + pad_zero(a2, [(n - len(a2), 0)])


def polymul(a1, a2):
    def trimmed(a):
        a = np.atleast_1d(a)
        cut = np.trim_zeros(a, "f")
        if len(cut) or not len(a):
            return cut if len(cut) else np.zeros(1, a.dtype)
        return a[-1:]  # the number 0, which may move

    return np.convolve(trimmed(a1), trimmed(a2))


def polydiv(u, v):
    """Long division: u = q v + r."""
    u, v = np.atleast_1d(u, v)
    u, v = u + 0 * v[0], v + 0 * u[0]
    m = len(u) - len(v) + 1
    quotient, r = [], u
    for k in range(m):
        q = r[k] / v[0]
        quotient.append(q)
        r = r - pad_zero(q * v, [(k, m - 1 - k)])
    r = r[min(max(m, 0), len(r) - 1) :]  # what the division made zero
    while len(r) > 1 and np.allclose(plain(r[0]), 0, rtol=1e-14):
        r = r[1:]
    return (np.stack(quotient) if quotient else np.zeros(1, u.dtype)), r


def characteristic_polynomial(a):
    """The coefficients of det(x - a), without eigenvalues, which may be complex (Faddeev and LeVerrier)."""
    identity = np.eye(len(a), dtype=a.dtype)
    coefficients, m = [np.ones((), a.dtype)], identity
    for k in range(1, len(a) + 1):
        product = a @ m
        coefficients.append(-np.trace(product) / k)
        m = product + coefficients[-1] * identity
    return np.stack(coefficients)


def poly(seq_of_zeros):
    zeros = np.atleast_1d(seq_of_zeros)
    if zeros.ndim == 2 and zeros.shape[0] == zeros.shape[1] > 0:
        return characteristic_polynomial(zeros)
    if zeros.ndim != 1:
        raise ValueError(f"np.poly: the array has shape {zeros.shape}, expected a sequence of zeros or a square matrix")
    a = np.ones(1, zeros.dtype)
    for i in range(len(zeros)):
        a = np.convolve(a, np.stack([np.ones((), zeros.dtype), -zeros[i]]))
    return a


def vander(x, N=None, increasing=False):
    (x,) = arrays_of([x])
    powers = [np.ones_like(x)]
    for _ in range((len(x) if N is None else N) - 1):
        powers.append(powers[-1] * x)
    powers = powers[: len(x) if N is None else N]
    return np.stack(powers if increasing else powers[::-1], -1) if powers else np.zeros((len(x), 0), x.dtype)


def polyfit(x, y, deg, rcond=None, full=False, w=None, cov=False):
    """The coefficients of the least-squares polynomial; its columns are scaled to one length, as NumPy's are.

    full=True adds what np.linalg.lstsq gives besides, cov=True the covariance of the coefficients.
    """
    x, y = (v if v.dtype.kind == "f" else v.astype(np.float64) for v in arrays_of([x, y]))
    deg = int(deg)
    if deg < 0:
        raise ValueError(f"np.polyfit: deg={deg}, expected 0 or more")
    columns = np.vander(x, deg + 1)
    if w is not None:
        (w,) = arrays_of([w])
        if w.shape != x.shape:
            raise TypeError(f"np.polyfit: w {w.shape} and x {x.shape} differ in shape; give one weight for each point")
        columns, y = columns * w[:, None], y * (w[:, None] if y.ndim == 2 else w)
    lengths = np.sqrt(np.sum(columns * columns, axis=0))
    if rcond is None:
        rcond = len(x) * np.finfo(x.dtype).eps
    scaled = columns / lengths
    coefficients, residuals, rank, s = np.linalg.lstsq(scaled, y, rcond)
    coefficients = coefficients / (lengths[:, None] if y.ndim == 2 else lengths)
    if rank != deg + 1 and not full:
        warnings.warn("Polyfit may be poorly conditioned", np.exceptions.RankWarning, stacklevel=2)
    if full:
        return coefficients, residuals, rank, s, rcond
    if not cov:
        return coefficients
    if cov != "unscaled" and len(x) <= deg + 1:
        raise ValueError(
            f"np.polyfit: {len(x)} points for {deg + 1} coefficients, expected more points to scale the covariance; or pass cov='unscaled'"
        )
    covariance = np.linalg.inv(scaled.T @ scaled) / np.outer(lengths, lengths)
    scale = 1 if cov == "unscaled" else residuals / (len(x) - deg - 1)
    return coefficients, covariance[:, :, None] * scale if y.ndim == 2 else covariance * scale


compose(np.polyval, polyval, cases=[((4,), (2, 3)), ([1.0, 2.0], ()), ((1,), (3,))])
compose(np.polyder, polyder, cases=[((4,),), ((4,), 2), ((4,), {"m": 0})])
compose(np.polyint, polyint, cases=[((3,),), ((3,), 2, 1.5), ((3,), 2, (2,)), ((3,), {"m": 1, "k": [0.5]})])
compose(np.polyadd, polyadd, cases=[((3,), (2,)), ((2,), (4,)), ((), (2,)), ((2, 3), (2, 3))])
compose(np.polysub, lambda a1, a2: polyadd(a1, -np.atleast_1d(a2)), cases=[((3,), (2,)), ((2,), (4,))])
compose(np.polymul, polymul, cases=[((3,), (2,)), (np.array([0.0, 0.0, 2.0, 1.0]), (2,))])
compose(np.polydiv, polydiv, cases=[((5,), (3,)), ((3,), (3,)), ((2,), (3,)), ((3,), (1,))], domain=(0.5, 2.0))
compose(np.poly, poly, cases=[((3,),), ((1,),), ((3, 3),), ((1, 1),)])
compose(
    np.polyfit,
    polyfit,
    cases=[((5,), (5,), 2), ((4,), (4, 2), 1), ((5,), (5,), 1, {"w": np.array([1.0, 2.0, 1.0, 0.5, 1.0])}), (np.arange(4), (4,), 2)]
    + [
        ((5,), (5,), 1, {"cov": True}),
        ((5,), (5, 2), 1, {"cov": True}),
        ((5,), (5,), 1, {"cov": "unscaled"}),
        ((5,), (5,), 1, {"full": True}),
    ],
)
compose(np.vander, vander, cases=[((3,),), ((3,), 2), ((3,), {"N": 4, "increasing": True}), ((3,), 1)])

# --- numpy.polynomial's two functions that ask for a rule (NumPy 2.4): coefficients from the lowest power up ---


def horner(c, x):
    """c[0] + c[1] x + c[2] x^2 + ..."""
    y = c[-1] + 0 * x
    for i in range(len(c) - 2, -1, -1):
        y = c[i] + y * x
    return y


def polyval2d(x, y, c):
    x, y, c = arrays_of([x, y, c])
    c = np.reshape(c, (*c.shape, *(1,) * max(x.ndim, y.ndim)))
    return horner(horner(c, x), y)


def polyvalnd(pts, c):
    *pts, c = arrays_of([*pts, c])
    c = np.reshape(c, (*c.shape, *(1,) * max(p.ndim for p in pts)))
    for p in pts:
        c = horner(c, p)
    return c


def polygrid2d(x, y, c):
    x, y = arrays_of([x, y])
    return polyval2d(np.reshape(x, (*x.shape, *(1,) * y.ndim)), y, c)


if isinstance(np.polynomial.polynomial.polyval2d, type(np.concatenate)):
    compose(np.polynomial.polynomial.polyval2d, polyval2d, cases=[((3,), (3,), (2, 3)), ((2, 2), (2, 2), (2, 2, 3)), ((), (), (1, 2))])
    if of_many := getattr(np.polynomial.polynomial, "polyvalnd", None):  # NumPy 2.5
        compose(of_many, polyvalnd, cases=[([(3,), (3,)], (2, 3)), ([(2,), (2,), (2,)], (2, 1, 3))])
    compose(np.polynomial.polynomial.polygrid2d, polygrid2d, cases=[((3,), (2,), (2, 3)), ((2,), (2, 2), (2, 2, 3))])
