"""scipy.special, second half: Bessel and other functions of physics, elliptic integrals, polynomials; and what has no rule.

Loaded, with gamma.py, when a Tensor meets a function of scipy.special. The rules are those of
NIST's Digital Library of Mathematical Functions (dlmf.nist.gov).
"""

import math
from typing import Any

from tinygrad_notes.ops import distributions, elliptic  # noqa: F401  (importing registers)
from tinygrad_notes.ops.elementwise import DEGREE, horner
from tinygrad_notes.ops.gamma import POSITIVE, SQRT_PI, UNIT, Probe, bind_order, more, one
from tinygrad_notes.ops.methods import add_methods
from tinygrad_notes.registry import constant, op, refuse, registry

import numpy as np
import scipy.special as sp

# --- Bessel functions, of constant order (DLMF 10.6, 10.29) -------------------------------------

one(sp.j0, lambda g, y, x: -g * sp.j1(x))
one(sp.j1, lambda g, y, x: g * (0.5 * (sp.j0(x) - sp.jv(2, x))))
one(sp.y0, lambda g, y, x: -g * sp.y1(x), POSITIVE)
one(sp.y1, lambda g, y, x: g * (0.5 * (sp.y0(x) - sp.yv(2, x))), POSITIVE)
one(sp.i0, lambda g, y, x: g * sp.i1(x))
one(sp.i1, lambda g, y, x: g * (0.5 * (sp.i0(x) + sp.iv(2, x))))
one(sp.k0, lambda g, y, x: -g * sp.k1(x), POSITIVE)
one(sp.k1, lambda g, y, x: -g * (0.5 * (sp.k0(x) + sp.kv(2, x))), POSITIVE)
one(sp.i0e, lambda g, y, x: g * (sp.i1e(x) - np.sign(x) * y))
one(sp.i1e, lambda g, y, x: g * (0.5 * (sp.i0e(x) + sp.ive(2, x)) - np.sign(x) * y))
one(sp.k0e, lambda g, y, x: g * (y - sp.k1e(x)), POSITIVE)
one(sp.k1e, lambda g, y, x: g * (y - 0.5 * (sp.k0e(x) + sp.kve(2, x))), POSITIVE)

ORDERS = [(1.5, (2, 3)), (0, (3,)), (np.array([0.0, 2.0, 3.3]), (2, 3)), (1, ())]


def of_order(f, slope, cases=ORDERS):
    """A function of a constant order v and of x, its slope(v, x, y) made of its neighbours."""
    more(f, None, lambda g, y, v, x: g * slope(v, x, y), cases=cases, domain=POSITIVE)


for f in (sp.jv, sp.yv, sp.jve, sp.yve):  # of real x, jve is jv and yve is yv
    of_order(f, lambda v, x, y, f=f: 0.5 * (f(v - 1, x) - f(v + 1, x)))
WHOLE_ORDERS = [(2, (2, 3)), (0, (3,)), (np.array([0, 1, 3]), (2, 3)), (1, ())]
of_order(sp.yn, lambda v, x, y: 0.5 * (sp.yv(v - 1, x) - sp.yv(v + 1, x)), WHOLE_ORDERS)
of_order(sp.kn, lambda v, x, y: -0.5 * (sp.kv(v - 1, x) + sp.kv(v + 1, x)), WHOLE_ORDERS)
of_order(sp.iv, lambda v, x, y: 0.5 * (sp.iv(v - 1, x) + sp.iv(v + 1, x)))
of_order(sp.kv, lambda v, x, y: -0.5 * (sp.kv(v - 1, x) + sp.kv(v + 1, x)))
of_order(sp.ive, lambda v, x, y: 0.5 * (sp.ive(v - 1, x) + sp.ive(v + 1, x)) - np.sign(x) * y)
of_order(sp.kve, lambda v, x, y: y - 0.5 * (sp.kve(v - 1, x) + sp.kve(v + 1, x)))


def struve_term(v, x):
    return (0.5 * x) ** v * sp.rgamma(v + 1.5) / SQRT_PI


of_order(sp.struve, lambda v, x, y: 0.5 * (sp.struve(v - 1, x) - sp.struve(v + 1, x) + struve_term(v, x)))
of_order(sp.modstruve, lambda v, x, y: 0.5 * (sp.modstruve(v - 1, x) + sp.modstruve(v + 1, x) + struve_term(v, x)))


SHAPES = [(1.5, (2, 3)), (np.array([0.7, 2.0, 3.3]), (2, 3)), (2, ())]
more(sp.hyp0f1, None, lambda g, y, v, x: g * (sp.hyp0f1(v + 1, x) / v), cases=SHAPES)
TWO_SHAPES = [(1.5, 0.8, (2, 3)), (np.array([0.7, 2.0, 3.3]), 1.2, (2, 3)), (2, 3, ())]
more(sp.hyp1f1, None, None, lambda g, y, a, b, x: g * (a / b * sp.hyp1f1(a + 1, b + 1, x)), cases=TWO_SHAPES)
more(sp.hyperu, None, None, lambda g, y, a, b, x: g * (-a * sp.hyperu(a + 1, b + 1, x)), cases=TWO_SHAPES, domain=POSITIVE)
more(sp.wright_bessel, None, None, lambda g, y, a, b, x: g * sp.wright_bessel(a, a + b, x), cases=TWO_SHAPES, domain=POSITIVE)
if hasattr(sp, "log_wright_bessel"):  # new in SciPy 1.14
    more(
        sp.log_wright_bessel,
        None,
        None,
        lambda g, y, a, b, x: g * np.exp(sp.log_wright_bessel(a, a + b, x) - y),
        cases=TWO_SHAPES,
        domain=POSITIVE,
    )
more(
    sp.hyp2f1,
    None,
    None,
    None,
    lambda g, y, a, b, c, x: g * (a * b / c * sp.hyp2f1(a + 1, b + 1, c + 1, x)),
    cases=[(1.5, 0.8, 2.2, (2, 3)), (np.array([0.7, 2.0, 3.3]), 1.2, 4.0, (2, 3)), (1, 2, 4, ())],
    domain=(-0.8, 0.7),
)

# --- solutions of y'' = q(x) y, given with their slopes (DLMF 9, 12) -------------------------------


def pairs(q):
    """The rule of (y, y') for each pair of outputs, where y'' = q y."""
    return lambda g, y, x: sum(g[i] * y[i + 1] + g[i + 1] * (q(x) * y[i]) for i in range(0, len(y), 2))


one(sp.airy, pairs(lambda x: x))


def airye_rule(g, y, x):
    """airy times exp(z) for Ai and exp(-z) for Bi, z = 2/3 x^(3/2)."""
    return pairs(lambda x: x)(g, y, x) + np.sqrt(x) * (g[0] * y[0] + g[1] * y[1] - g[2] * y[2] - g[3] * y[3])


one(sp.airye, airye_rule, POSITIVE)
more(sp.pbdv, None, lambda g, y, v, x: pairs(lambda x: 0.25 * x * x - v - 0.5)(g, y, x), cases=SHAPES)
more(sp.pbvv, None, lambda g, y, v, x: pairs(lambda x: 0.25 * x * x - v - 0.5)(g, y, x), cases=SHAPES[:1], domain=POSITIVE)
more(sp.pbwa, None, lambda g, y, a, x: pairs(lambda x: a - 0.25 * x * x)(g, y, x), cases=SHAPES)

one(sp.ber, lambda g, y, x: g * sp.berp(x))
one(sp.bei, lambda g, y, x: g * sp.beip(x))
one(sp.ker, lambda g, y, x: g * sp.kerp(x), POSITIVE)
one(sp.kei, lambda g, y, x: g * sp.keip(x), POSITIVE)
one(sp.berp, lambda g, y, x: -g * (sp.bei(x) + y / (x + (x == 0))))  # at 0, y = -x^3 / 16
one(sp.beip, lambda g, y, x: g * (sp.ber(x) - np.where(x == 0, 0.5, y / (x + (x == 0)))))  # at 0, y = x / 2
one(sp.kerp, lambda g, y, x: -g * (sp.kei(x) + y / x), POSITIVE)
one(sp.keip, lambda g, y, x: g * (sp.ker(x) - y / x), POSITIVE)


# In float32 SciPy 1.17 gives NaN for these functions, or never returns.


def in_double(f):
    """f computed in float64, its results in the dtype of the arguments."""

    def forward(*args):
        dtype = np.result_type(*args)
        y: Any = f(*(np.asarray(a, np.float64) for a in args))
        return tuple(v.astype(dtype) for v in y) if isinstance(y, tuple) else y.astype(dtype)

    return forward


# Mathieu's functions, of constant order m and parameter q (DLMF 28.2, 28.20): the angle in degrees, the other variable a plain number


def mathieu(f, characteristic, angular):
    unit = DEGREE if angular else 1.0
    characteristic = in_double(characteristic)

    def rule(g, y, m, q, x):
        curvature = 2 * q * np.cos(2 * unit * x) - characteristic(m, q) if angular else characteristic(m, q) - 2 * q * np.cosh(2 * x)
        return unit * (g[0] * y[1] + g[1] * (curvature * y[0]))

    cases = [(1.0, 0.5, (2, 3)), (np.array([1.0, 2.0, 3.0]), 2.0, (3,)), (2, 1, ())]
    more(f, None, None, rule, forward=in_double(f), cases=cases, domain=(10.0, 80.0) if angular else (0.2, 0.9))


mathieu(sp.mathieu_cem, sp.mathieu_a, True)
mathieu(sp.mathieu_sem, sp.mathieu_b, True)
for f in (sp.mathieu_modcem1, sp.mathieu_modcem2):
    mathieu(f, sp.mathieu_a, False)
for f in (sp.mathieu_modsem1, sp.mathieu_modsem2):
    mathieu(f, sp.mathieu_b, False)

# Spheroidal wave functions, of constant m, n and c (DLMF 30.2): with z = x, and z = i x for the radial oblate ones,
# (1 - z^2) y'' = 2 z y' + (m^2 / (1 - z^2) + s z^2 - cv) y by z, where s is c^2, and -c^2 for oblate ones.


def spheroidal(f, with_cv, characteristic, sign, domain, imaginary=False):
    i2 = -1.0 if imaginary else 1.0
    characteristic = in_double(characteristic)

    def rule(g, y, m, n, c, cv, x):
        square = i2 * x * x
        curvature = (2 * x * y[1] + (m * m / (1 - square) + sign * c * c * square - cv) * y[0]) / (1 - square)
        return g[0] * y[1] + g[1] * (i2 * curvature)

    cases = [(1.0, 2.0, 2.0, (2, 3)), (0, 3, 0.7, ()), (np.array([0.0, 2.0]), 2.0, 3.0, (2,))]

    def by_x(g, y, m, n, c, x):
        return rule(g, y, m, n, c, characteristic(m, n, c), x)

    more(f, None, None, None, by_x, forward=in_double(f), cases=cases, domain=domain)
    cases = [(*given, characteristic(*given), x) for *given, x in cases]
    more(with_cv, None, None, None, None, rule, forward=in_double(with_cv), cases=cases, domain=domain)


spheroidal(sp.pro_ang1, sp.pro_ang1_cv, sp.pro_cv, 1, (-0.8, 0.8))
spheroidal(sp.obl_ang1, sp.obl_ang1_cv, sp.obl_cv, -1, (-0.8, 0.8))
spheroidal(sp.pro_rad1, sp.pro_rad1_cv, sp.pro_cv, 1, (1.2, 2.0))
spheroidal(sp.obl_rad1, sp.obl_rad1_cv, sp.obl_cv, -1, (0.2, 0.9), imaginary=True)

# --- integrals -----------------------------------------------------------------------------------------

one(sp.expi, lambda g, y, x: g * (np.exp(x) / x), POSITIVE)
one(sp.exp1, lambda g, y, x: -g * (np.exp(-x) / x), POSITIVE)


def expn_slope(n, x, y):
    """-E_(n-1)(x), for n = 0 by recurrence (DLMF 8.19.12)."""
    return np.where(n > 0, -sp.expn(n - (n > 0), x), (-np.exp(-x) - y) / np.where(n > 0, 1, x))


of_order(sp.expn, expn_slope, [(2, (2, 3)), (0, (3,)), (np.array([0, 1, 3]), (2, 3)), (1, ())])
one(sp.sici, lambda g, y, x: g[0] * np.sinc(x / math.pi) + g[1] * (np.cos(x) / x), POSITIVE)
one(sp.shichi, lambda g, y, x: g[0] * (0.5 * (sp.exprel(x) + sp.exprel(-x))) + g[1] * (np.cosh(x) / x), POSITIVE)
one(sp.fresnel, lambda g, y, x: g[0] * np.sin(math.pi / 2 * x * x) + g[1] * np.cos(math.pi / 2 * x * x))


def itairy_rule(g, y, x):
    """SciPy's integrals themselves are right to six digits only where |x| is about 1 to 9."""
    forward, backward = sp.airy(x), sp.airy(-x)
    return g[0] * forward[0] + g[1] * forward[2] + g[2] * backward[0] + g[3] * backward[2]


one(sp.itairy, itairy_rule, (0.01, 0.06))
one(sp.itj0y0, lambda g, y, x: g[0] * sp.j0(x) + g[1] * sp.y0(x), POSITIVE)
one(sp.iti0k0, lambda g, y, x: g[0] * sp.i0(x) + g[1] * sp.k0(x), POSITIVE)
one(sp.it2j0y0, lambda g, y, x: (g[0] * (1 - sp.j0(x)) - g[1] * sp.y0(x)) / x, POSITIVE)
one(sp.it2i0k0, lambda g, y, x: (g[0] * (sp.i0(x) - 1) - g[1] * sp.k0(x)) / x, POSITIVE)
one(sp.itstruve0, lambda g, y, x: g * sp.struve(x.dtype.type(0), x), POSITIVE)
one(sp.it2struve0, lambda g, y, x: -g * np.where(x == 0, 2 / np.pi, sp.struve(x.dtype.type(0), x) / (x + (x == 0))))
one(sp.itmodstruve0, lambda g, y, x: g * sp.modstruve(x.dtype.type(0), x), POSITIVE)

SPENCE_SLOPE = [(-1) ** (k + 1) / (k + 1) for k in range(24)]  # log(1 + u) / -u = -1 + u/2 - u^2/3 ...


def spence_rule(g, y, x):
    """log(x) / (1 - x); near 1, where the quotient and its slopes cancel, the Taylor series."""
    near = np.abs(x - 1) < 0.2
    return g * np.where(near, horner(np.where(near, x - 1, 0), SPENCE_SLOPE), np.log(x) / np.where(near, 1, 1 - x))


one(sp.spence, spence_rule, POSITIVE)

# --- orthogonal polynomials, of constant whole degree n >= 0 (DLMF 18.9) -----------------------------------
# Of degree 0 they are constants, of slope 0: there is no polynomial of degree -1 for the formula to use.

DEGREES = [(3, (2, 3)), (0, (3,)), (np.array([0, 1, 4]), (2, 3)), (1, ())]


def polynomial(f, slope, parameters=(), domain=(-0.9, 0.9)):
    """f(n, *parameters, x) of whole degree n, with slope(n, m, *parameters, x), where m = n - 1, or 0 where n is 0."""
    rule = {
        0: lambda g, y, n, x: g * ((n > 0) * slope(n, n - (n > 0), x)),
        1: lambda g, y, n, a, x: g * ((n > 0) * slope(n, n - (n > 0), a, x)),
        2: lambda g, y, n, a, b, x: g * ((n > 0) * slope(n, n - (n > 0), a, b, x)),
    }[len(parameters)]
    cases = [(n, *parameters, x) for n, x in DEGREES]
    op(f, *[None] * (1 + len(parameters)), rule, bind=bind_order, cases=cases, domain=domain)


polynomial(sp.eval_legendre, lambda n, m, x: sp.eval_gegenbauer(m, 1.5, x))
polynomial(sp.eval_sh_legendre, lambda n, m, x: 2 * sp.eval_gegenbauer(m, 1.5, 2 * x - 1), domain=UNIT)
polynomial(sp.eval_chebyt, lambda n, m, x: n * sp.eval_chebyu(m, x))
polynomial(sp.eval_chebyu, lambda n, m, x: 2 * sp.eval_gegenbauer(m, 2.0, x))
polynomial(sp.eval_chebyc, lambda n, m, x: n * sp.eval_chebyu(m, 0.5 * x))
polynomial(sp.eval_chebys, lambda n, m, x: sp.eval_gegenbauer(m, 2.0, 0.5 * x))
polynomial(sp.eval_sh_chebyt, lambda n, m, x: 2 * n * sp.eval_chebyu(m, 2 * x - 1), domain=UNIT)
polynomial(sp.eval_sh_chebyu, lambda n, m, x: 4 * sp.eval_gegenbauer(m, 2.0, 2 * x - 1), domain=UNIT)
polynomial(sp.eval_hermite, lambda n, m, x: 2 * n * sp.eval_hermite(m, x))
polynomial(sp.eval_hermitenorm, lambda n, m, x: n * sp.eval_hermitenorm(m, x))
polynomial(sp.eval_laguerre, lambda n, m, x: -sp.eval_genlaguerre(m, 1.0, x))
polynomial(sp.eval_genlaguerre, lambda n, m, a, x: -sp.eval_genlaguerre(m, a + 1, x), (0.5,))
polynomial(sp.eval_gegenbauer, lambda n, m, a, x: 2 * a * sp.eval_gegenbauer(m, a + 1, x), (0.7,))
polynomial(sp.eval_jacobi, lambda n, m, a, b, x: 0.5 * (n + a + b + 1) * sp.eval_jacobi(m, a + 1, b + 1, x), (0.7, 0.3))
polynomial(
    sp.eval_sh_jacobi,
    lambda n, m, p, q, x: (n + p) / sp.binom(2 * n + p - 1, n) * sp.eval_jacobi(m, p - q + 1, q, 2 * x - 1),
    (1.5, 0.7),
    UNIT,
)


def lpmv_rule(g, y, m, v, x):
    """The associated Legendre function (DLMF 14.10.5)."""
    return g * ((v * x * y - (v + m) * sp.lpmv(m, v - 1, x)) / (x * x - 1))


more(sp.lpmv, None, None, lpmv_rule, cases=[(1, 2, (2, 3)), (0, 3, (3,)), (2, 2.5, ())], domain=(-0.8, 0.8))

# --- what has no rule ----------------------------------------------------------------------------------------

constant(sp.gammasgn, sp.round)


def named(names):
    """Those of these functions that this SciPy has."""
    return [getattr(sp, name) for name in names.split() if hasattr(sp, name)]


refuse(
    "its result is complex, and Tensors are real; of x > 0, lambertw(x) is wrightomega(log(x))",
    *named("hankel1 hankel1e hankel2 hankel2e wofz kelvin modfresnelm modfresnelp"),
    *(named("sph_harm") if hasattr(sp, "sph_harm") else ()),  # until SciPy 1.16
    sp.lambertw(1.0, 0, Probe()),  # pyright: ignore[reportArgumentType]
)
refuse("its derivative has no closed form", *named("zetac"), sp.zeta(Probe()))
refuse(
    "it is an inverse by a shape parameter, whose derivative has no closed form",
    *named(
        "bdtrik bdtrin btdtria btdtrib chdtriv chndtridf fdtridfd gdtrib nbdtrik nbdtrin ncfdtridfd ncfdtridfn nctdtridf pdtrik stdtridf"
    ),
)
refuse(
    "its slope needs the eigenvalue and the coefficients of a Lame function, which SciPy does not give",
    sp.ellip_harm(1, 2, 1, 1, Probe()),  # pyright: ignore[reportArgumentType]
)
refuse("SciPy searches for it and stops after six to nine digits, too few for a slope", *named("ncfdtrinc nctdtrinc"))
refuse(
    "it is a characteristic value of a differential equation, whose derivatives are integrals with no closed form",
    *named("mathieu_a mathieu_b pro_cv obl_cv"),
)
refuse("what SciPy gives for it is not the integral that defines it", *named("besselpoly"))
refuse(
    "what SciPy gives for it does not solve its differential equation, from which its slope would come",
    *named("pro_rad2 pro_rad2_cv obl_rad2 obl_rad2_cv"),
)

for function in [getattr(item, "function", None) for item in registry]:  # a kernel has none
    if isinstance(function, np.ufunc) and function in vars(sp).values():
        add_methods(function)
