"""scipy.special's elliptic integrals, in Carlson's and in Legendre's form, and the functions of Jacobi (DLMF 19, 22).

All derivatives come back to Carlson's R_D, which is computed here by his duplication theorem: NumPy
that runs on Tensors, smooth also where arguments meet. Loaded with special.py.
"""

import math

from tinygrad_notes.ops.gamma import PAIRS, POSITIVE, UNIT, more, one
from tinygrad_notes.ops.indexing import arrays_of
from tinygrad_notes.registry import compose, plain

import numpy as np
import scipy.special as sp

# --- Carlson's symmetric integrals ----------------------------------------------------------------
# B. C. Carlson, Numerical computation of real or complex elliptic integrals (1995): replace all arguments by
# (argument + lambda) / 4 until they are nearly equal, then sum a Taylor series of degree 5 in what differs.


def doublings(*arguments):
    """How often: each brings the arguments four times nearer, and the first term left out is of degree 8."""
    values = np.stack(np.broadcast_arrays(*map(plain, arguments)))
    largest, smallest = np.max(values, initial=1), np.min(values, initial=1, where=values > 0)
    return 5 + math.ceil(math.log(largest / smallest, 4)) if largest < math.inf else 5


def root_sum(x, y, z):
    x, y, z = np.sqrt(x), np.sqrt(y), np.sqrt(z)
    return x * y + y * z + z * x


def series(*deviations):
    """The Taylor series of R_J for five arguments 1 - d whose d sum to 0, by their symmetric functions E2 ... E5 (DLMF 19.36.2)."""
    e: list = [1, 0, 0, 0, 0, 0]
    for d in deviations:
        e = [1, *(e[k] + d * e[k - 1] for k in range(1, 6))]
    e2, e3, e4, e5 = e[2:]
    low = 1 - 3 / 14 * e2 + e3 / 6 + 9 / 88 * e2 * e2 - 3 / 22 * e4 - 9 / 52 * e2 * e3 + 3 / 26 * e5
    return low - e2 * e2 * e2 / 16 + 3 / 40 * e3 * e3 + 3 / 20 * e2 * e4 + 45 / 272 * e2 * e2 * e3 - 9 / 68 * (e3 * e4 + e2 * e5)


def rd(x, y, z):
    """R_D(x, y, z) = R_J(x, y, z, z)."""
    x, y, z = arrays_of([x, y, z])
    total, factor = 0 * (x + y + z), 1.0
    for _ in range(doublings(x, y, z)):
        step = root_sum(x, y, z)
        total = total + factor / (np.sqrt(z) * (z + step))
        factor /= 4
        x, y, z = (x + step) / 4, (y + step) / 4, (z + step) / 4
    mean = (x + y + 3 * z) / 5
    dx, dy = 1 - x / mean, 1 - y / mean
    dz = -(dx + dy) / 3
    return 3 * total + factor * series(dx, dy, dz, dz, dz) / (mean * np.sqrt(mean))


def rj(x, y, z, p):
    """R_J for p > 0; and for p < 0 its Cauchy principal value, by one with p > 0 (DLMF 19.20.14)."""
    x, y, z, p = arrays_of([x, y, z, p])
    x, y, z = np.sort(np.stack(np.broadcast_arrays(x, y, z)), axis=0)
    negative = plain(p) < 0
    q = np.where(negative, -p, 1)
    p = np.where(negative, (z * (x + y + q) - x * y) / (z + q), p)
    value = rj_of_positive(x, y, z, p)
    by_principal_value = (
        (p - z) * value - 3 * sp.elliprf(x, y, z) + 3 * np.sqrt(x * y * z / (x * y + p * q)) * sp.elliprc(x * y + p * q, p * q)
    )
    return np.where(negative, by_principal_value / (z + q), value)


def rj_of_positive(x, y, z, p):
    total, factor, delta = 0 * (x + y + z + p), 1.0, (p - x) * (p - y) * (p - z)
    for _ in range(doublings(x, y, z, p)):
        root = np.sqrt(p)
        d = (root + np.sqrt(x)) * (root + np.sqrt(y)) * (root + np.sqrt(z))
        total = total + factor / d * sp.elliprc(1 + 0 * d, 1 + factor**3 * delta / (d * d))
        step = root_sum(x, y, z)
        factor /= 4
        x, y, z, p = (x + step) / 4, (y + step) / 4, (z + step) / 4, (p + step) / 4
    mean = (x + y + z + 2 * p) / 5
    dx, dy, dz = 1 - x / mean, 1 - y / mean, 1 - z / mean
    dp = -(dx + dy + dz) / 2
    return 6 * total + factor * series(dx, dy, dz, dp, dp) / (mean * np.sqrt(mean))


def rc(x, y):
    """R_C(x, y) = R_F(x, y, y); for y < 0 its Cauchy principal value (DLMF 19.2.20)."""
    x, y = arrays_of([x, y])
    negative = plain(y) < 0
    scale = np.sqrt(np.where(negative, x, 1) / np.where(negative, x - y, 1))
    x, y = np.where(negative, x - y, x), np.abs(y)
    return scale * sp.elliprf(x, y, y)


def rg(x, y, z):
    """A sum of positive terms (DLMF 19.21.11)."""
    x, y, z = arrays_of([x, y, z])

    def term(x, y, z):
        zero = plain(x) == 0
        return np.where(zero, 0, x) * (y + z) * sp.elliprd(y, z, np.where(zero, 1, x))

    return (term(x, y, z) + term(y, z, x) + term(z, x, y)) / 6


TRIPLES = [((2, 3), (2, 3), (3,)), ((), (2, 1), (3,)), ((2, 3), 1.5, 0.6), (0.4, 1.5, (2,)), (np.array([1.0, 2.0]), 1.0, (2,))]
compose(sp.elliprd, rd, cases=TRIPLES, domain=POSITIVE)
more(
    sp.elliprf,
    lambda g, y, a, b, c: -g / 6 * sp.elliprd(b, c, a),
    lambda g, y, a, b, c: -g / 6 * sp.elliprd(a, c, b),
    lambda g, y, a, b, c: -g / 6 * sp.elliprd(a, b, c),
    cases=TRIPLES,
    domain=POSITIVE,
)
compose(sp.elliprc, rc, cases=[*PAIRS, ((3,), np.array([-0.5, 1.0, -2.0]))], domain=POSITIVE)
compose(sp.elliprg, rg, cases=TRIPLES, domain=POSITIVE)
compose(
    sp.elliprj, rj, cases=[((2, 3), (2, 3), (3,), ()), ((2,), 1.5, 0.6, (2,)), (0.5, (2,), (2,), np.array([-0.5, -2.0]))], domain=POSITIVE
)

# --- Legendre's integrals ----------------------------------------------------------------------------


def ellipk_slope(m):
    """As a hypergeometric series, smooth at m = 0 (DLMF 19.5.1, 15.5.1)."""
    a, b = m.dtype.type(1.5), m.dtype.type(2)
    return math.pi / 8 * sp.hyp2f1(a, a, b, m)


def ellipe_slope(m):
    a, b, c = m.dtype.type(0.5), m.dtype.type(1.5), m.dtype.type(2)
    return -math.pi / 8 * sp.hyp2f1(a, b, c, m)


def ellipkm1_rule(g, y, p):
    """-K'(1 - p); for small p, which 1 - p would lose, by E and K."""
    small = p < 0.5
    q = np.where(small, p, 0.5)
    return g * np.where(small, (y - sp.ellipe(1 - q) / q) / (2 * (1 - q)), -ellipk_slope(1 - np.where(small, 0.5, p)))


one(sp.ellipk, lambda g, y, m: g * ellipk_slope(m), (-0.8, 0.8))
one(sp.ellipe, lambda g, y, m: g * ellipe_slope(m), (-0.8, 0.8))
one(sp.ellipkm1, ellipkm1_rule, (0.1, 1.5))


def half_turns(phi):
    """How many, and what is left of the angle: between -pi/2 and pi/2 the integrals are Carlson's (DLMF 19.25)."""
    n = np.round(plain(phi) / math.pi)
    return n, phi - n * math.pi


def ellipkinc_by_m(phi, m):
    """dF/dm = 1/2 of the integral of sin^2 / (1 - m sin^2)^(3/2)."""
    n, phi = half_turns(phi)
    s, c = np.sin(phi), np.cos(phi)
    return s * s * s / 6 * sp.elliprd(c * c, 1 + 0 * s, 1 - m * s * s) + 2 * n * ellipk_slope(np.where(n == 0, 0, m))


def ellipeinc_by_m(phi, m):
    """dE/dm = -1/2 of the integral of sin^2 / (1 - m sin^2)^(1/2)."""
    n, phi = half_turns(phi)
    s, c = np.sin(phi), np.cos(phi)
    return -s * s * s / 6 * sp.elliprd(c * c, 1 - m * s * s, 1 + 0 * s) + 2 * n * ellipe_slope(np.where(n == 0, 0, m))


ANGLES = [((2, 3), 0.4), ((3,), np.array([-0.5, 0.0, 0.7])), ((), 0.5), (0.7, (3,)), ((2, 1), (3,)), (np.array([-4.0, 2.0, 8.0]), (3,))]
INCOMPLETE = {"cases": ANGLES, "domain": (-0.9, 0.9)}
more(
    sp.ellipkinc,
    lambda g, y, phi, m: g / np.sqrt(1 - m * np.square(np.sin(phi))),
    lambda g, y, phi, m: g * ellipkinc_by_m(phi, m),
    **INCOMPLETE,
)
more(
    sp.ellipeinc,
    lambda g, y, phi, m: g * np.sqrt(1 - m * np.square(np.sin(phi))),
    lambda g, y, phi, m: g * ellipeinc_by_m(phi, m),
    **INCOMPLETE,
)

# --- the functions of Jacobi: sn, cn and dn of the angle phi that makes ellipkinc(phi, m) = u --------------------


def ellipj_by_angle(g, y, m):
    sn, cn, dn, _ = y
    return g[0] * cn - g[1] * sn - g[2] * (m * sn * cn / dn) + g[3]


def ellipj_by_m(g, y, u, m):
    """With u fixed, phi moves by -dn dF/dm; dn depends on m besides."""
    sn, _, dn, phi = y
    return -ellipj_by_angle(g, y, m) * dn * ellipkinc_by_m(phi, m) - g[2] * (sn * sn / (2 * dn))


more(
    sp.ellipj,
    lambda g, y, u, m: ellipj_by_angle(g, y, m) * y[2],
    ellipj_by_m,
    cases=[((2, 3), 0.4), ((3,), np.array([0.1, 0.0, 0.7])), (0.7, (3,)), ((2, 1), (3,))],
    domain=UNIT,
)


def agm_by_first(g, y, a, b):
    """The derivative of pi/4 (a + b) / K(m), m = ((a - b) / (a + b))^2 (DLMF 19.8.5)."""
    s = a + b
    m = np.square((a - b) / s)
    return g * (y / s - y / sp.ellipk(m) * ellipk_slope(m) * (4 * b * (a - b) / (s * s * s)))


more(sp.agm, agm_by_first, lambda g, y, a, b: agm_by_first(g, y, b, a), domain=POSITIVE)
