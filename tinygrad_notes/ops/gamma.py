"""scipy.special, first half: the error function, logistic and elementary functions, gamma, beta, and distributions.

The rules are those of NIST's Digital Library of Mathematical Functions (dlmf.nist.gov). Where a
function's derivative by a parameter is no known function, as for the shape of an incomplete
gamma function, a Tensor there raises. Loaded by special.py, when a Tensor first meets scipy.special.
"""

import math

from tinygrad_notes.binding import bind_ufunc
from tinygrad_notes.core import Variable
from tinygrad_notes.ops.elementwise import DEGREE, LN2, LN10, horner
from tinygrad_notes.registry import op

import numpy as np
import scipy.special as sp

ONE = [((3, 4),), ((),), ((0, 3),)]
PAIRS = [((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2, 3)), ((2, 3), 0.75), (0.75, (2, 3))]
POSITIVE, UNIT = (0.5, 3.0), (0.15, 0.85)
SQRT_PI, SQRT_2PI = math.sqrt(math.pi), math.sqrt(2 * math.pi)


def bind_order(op, args, kwargs):
    """Refuse a Tensor where there is no rule."""
    for i, (a, rule) in enumerate(zip(args, op.rules)):
        if rule is None and isinstance(a, Variable):
            raise TypeError(
                f"{op.label}: argument {i + 1} is a Tensor, but there the derivative is no known function; pass t.value as a constant"
            )
    return bind_ufunc(op, args, kwargs)


def bind_numbers(op, args, kwargs):
    """Plain numbers take the width of the arrays too: SciPy would make gammaln(2.0) float64, and float32 would be lost."""
    dtype = np.result_type(*(a.dtype for a in args if hasattr(a, "dtype")))
    return bind_order(op, [dtype.type(a) if type(a) in (int, float) else a for a in args], kwargs)


def one(ufunc, rule, domain=None):
    """A function of one number."""
    op(ufunc, rule, cases=ONE, domain=domain)


def more(ufunc, *rules, cases=PAIRS, domain=None, bind=bind_numbers, forward=None):
    """A function of several numbers, each with its rule or None."""
    op(ufunc, *rules, bind=bind, cases=cases, domain=domain, forward=forward)


def ratio(a, b):
    """a / b, which is 0 where both are."""
    return a / np.where((a == 0) & (b == 0), 1, b)


# --- the error function and the normal distribution -------------------------------------------

HALVES = [(-1) ** n * math.prod(range(1, 2 * n, 2)) / 2**n for n in range(15)]  # 1, -1/2, 3/4, -15/8 ...


def erfcx_slope(x, y):
    """2 x erfcx(x) - 2/sqrt(pi); for large x, where that cancels, its asymptotic series (DLMF 7.12.1)."""
    far = x > 10
    u = 1 / np.where(far, x * x, math.inf)
    return np.where(far, 2 / SQRT_PI * u * horner(u, HALVES[1:]), 2 * x * y - 2 / SQRT_PI)


def dawsn_slope(x, y):
    """1 - 2 x D(x); for large x, where that cancels, its asymptotic series (DLMF 7.12.1)."""
    far = np.abs(x) > 10
    u = 1 / np.where(far, x * x, math.inf)
    return np.where(far, u * horner(-u, HALVES[1:]), 1 - 2 * x * y)


def normal_density(x):
    return np.exp(-0.5 * x * x) / SQRT_2PI


one(sp.erf, lambda g, y, x: g * (2 / SQRT_PI * np.exp(-x * x)))
one(sp.erfc, lambda g, y, x: g * (-2 / SQRT_PI * np.exp(-x * x)))
one(sp.erfi, lambda g, y, x: g * (2 / SQRT_PI * np.exp(x * x)))
one(sp.erfcx, lambda g, y, x: g * erfcx_slope(x, y))
one(sp.dawsn, lambda g, y, x: g * dawsn_slope(x, y))
one(sp.erfinv, lambda g, y, x: g * (SQRT_PI / 2 * np.exp(y * y)), (-0.8, 0.8))
one(sp.erfcinv, lambda g, y, x: g * (-SQRT_PI / 2 * np.exp(y * y)), (0.2, 1.8))
one(sp.ndtr, lambda g, y, x: g * normal_density(x))
one(sp.log_ndtr, lambda g, y, x: g * (math.sqrt(2 / math.pi) / sp.erfcx(x * -math.sqrt(0.5))))
one(sp.ndtri, lambda g, y, x: g / normal_density(y), UNIT)
one(sp.ndtri_exp, lambda g, y, x: g * (math.sqrt(math.pi / 2) * sp.erfcx(y * -math.sqrt(0.5))), (-3.0, -0.3))
more(
    sp.owens_t,
    lambda g, y, h, a: -0.5 * g * normal_density(h) * sp.erf(a * h * math.sqrt(0.5)),
    lambda g, y, h, a: g * np.exp(-0.5 * h * h * (1 + a * a)) / (math.tau * (1 + a * a)),
)
THREE = [((2, 3), (2, 3), (3,)), ((), (2, 1), (3,)), ((2, 3), 1.5, 0.6), (0.4, 1.5, (2,))]
more(
    sp.nrdtrimn,
    lambda g, y, p, sd, x: -g * sd / normal_density(sp.ndtri(p)),
    lambda g, y, p, sd, x: -g * sp.ndtri(p),
    lambda g, y, p, sd, x: g,
    cases=THREE,
    domain=[UNIT, POSITIVE, None],
)
more(
    sp.nrdtrisd,
    lambda g, y, mean, p, x: -g / sp.ndtri(p),
    lambda g, y, mean, p, x: -g * y / (sp.ndtri(p) * normal_density(sp.ndtri(p))),
    lambda g, y, mean, p, x: g / sp.ndtri(p),
    cases=[((2, 3), (2, 3), (3,)), (1.5, (2, 1), (3,)), ((2,), 0.7, 2.5), ((3,), (3,), (3,))],
    domain=[(0.1, 0.9), (0.6, 0.85), (1.0, 2.0)],
)

# --- logistic functions and entropies -------------------------------------------------------------

one(sp.expit, lambda g, y, x: g * (y * sp.expit(-x)))  # 1 - y would lose its digits for large x
one(sp.log_expit, lambda g, y, x: g * sp.expit(-x))
one(sp.logit, lambda g, y, x: g / (x * (1 - x)), UNIT)
one(sp.entr, lambda g, y, x: -g * (np.log(x) + 1), POSITIVE)
more(sp.rel_entr, lambda g, y, a, b: g * (np.log(a / b) + 1), lambda g, y, a, b: -g * ratio(a, b), domain=POSITIVE)
more(sp.kl_div, lambda g, y, a, b: g * np.log(a / b), lambda g, y, a, b: g * (1 - ratio(a, b)), domain=POSITIVE)
more(sp.xlogy, lambda g, y, a, b: sp.xlogy(g, b), lambda g, y, a, b: g * ratio(a, b), domain=POSITIVE)
more(sp.xlog1py, lambda g, y, a, b: sp.xlog1py(g, b), lambda g, y, a, b: g * ratio(a, 1 + b), domain=POSITIVE)
more(
    sp.huber,
    lambda g, y, delta, r: g * np.maximum(np.abs(r) - delta, 0),
    lambda g, y, delta, r: g * np.clip(r, -delta, delta),
    domain=[POSITIVE, None],
)


def pseudo_huber_root(delta, r):
    return np.sqrt(1 + np.square(r / delta))


more(
    sp.pseudo_huber,
    lambda g, y, delta, r: g * (delta * np.square(y / delta / delta) / pseudo_huber_root(delta, r)),
    lambda g, y, delta, r: g * (r / pseudo_huber_root(delta, r)),
    domain=[POSITIVE, None],
)

# --- elementary functions ------------------------------------------------------------------------------

EXPREL_SLOPE = [k / math.factorial(k + 1) for k in range(1, 22)]  # of (exp(x) - 1) / x = sum x^k / (k + 1)!


def exprel_slope(x):
    """The derivative of (exp(x) - 1) / x; near 0, where the difference cancels, its Taylor series."""
    near = np.abs(x) < 1
    return np.where(near, horner(np.where(near, x, 0), EXPREL_SLOPE), (np.exp(x) - sp.exprel(x)) / np.where(near, 1, x))


one(sp.exprel, lambda g, y, x: g * exprel_slope(x))
one(sp.exp2, lambda g, y, x: g * (LN2 * y))
one(sp.exp10, lambda g, y, x: g * (LN10 * y))
one(sp.expm1, lambda g, y, x: g * np.exp(x))
one(sp.log1p, lambda g, y, x: g / (1 + x), POSITIVE)
one(sp.cbrt, lambda g, y, x: g / (3 * y * y))
one(sp.cosm1, lambda g, y, x: -g * np.sin(x))
one(sp.sindg, lambda g, y, x: g * (DEGREE * sp.cosdg(x)))
one(sp.cosdg, lambda g, y, x: g * (-DEGREE * sp.sindg(x)))
one(sp.tandg, lambda g, y, x: g * (DEGREE * (1 + y * y)))
one(sp.cotdg, lambda g, y, x: g * (-DEGREE * (1 + y * y)), (20.0, 90.0))
more(
    sp.radian,
    lambda g, y, d, m, s: g * DEGREE,
    lambda g, y, d, m, s: g * (DEGREE / 60),
    lambda g, y, d, m, s: g * (DEGREE / 3600),
    cases=THREE,
)
more(sp.powm1, lambda g, y, a, b: g * (b * a ** (b - (b != 0))), lambda g, y, a, b: sp.xlogy(g * a**b, a), domain=POSITIVE)
one(sp.wrightomega, lambda g, y, x: g * (y / (1 + y)))


def boxcox_by_power(log, power):
    """d/dp of (x^p - 1) / p, given log(x)."""
    return log * log * exprel_slope(power * log)


more(sp.boxcox, lambda g, y, x, p: g * x ** (p - 1), lambda g, y, x, p: g * boxcox_by_power(np.log(x), p), domain=POSITIVE)
more(sp.boxcox1p, lambda g, y, x, p: g * (1 + x) ** (p - 1), lambda g, y, x, p: g * boxcox_by_power(np.log1p(x), p), domain=POSITIVE)
more(
    sp.inv_boxcox,
    lambda g, y, x, p: g * y ** (1 - p),
    lambda g, y, x, p: -g * y ** (1 - p) * boxcox_by_power(np.log(y), p),
    domain=POSITIVE,
)
more(
    sp.inv_boxcox1p,
    lambda g, y, x, p: g * (1 + y) ** (1 - p),
    lambda g, y, x, p: -g * (1 + y) ** (1 - p) * boxcox_by_power(np.log1p(y), p),
    domain=POSITIVE,
)

# --- gamma, beta, zeta -----------------------------------------------------------------------------------


class Probe:
    """Tells which ufunc a Python function of SciPy ends in."""

    def __array_ufunc__(self, ufunc, *args, **kwargs):
        return ufunc


zeta = sp.zeta(2.0, Probe())  # sp.zeta(s, q) calls this ufunc: the sum of (q + k)^-s
op(
    zeta,
    None,
    lambda g, y, s, q: g * (-s * zeta(s + 1, q)),
    bind=bind_numbers,
    cases=[(2.0, (3, 4)), (3.0, ()), (np.array([2.0, 4.0]), (2,))],
    domain=POSITIVE,
)
one(sp.digamma, lambda g, y, x: g * zeta(x.dtype.type(2), x), POSITIVE)
one(sp.gamma, lambda g, y, x: g * (y * sp.digamma(x)), POSITIVE)
one(sp.gammaln, lambda g, y, x: g * sp.digamma(x), POSITIVE)
one(sp.loggamma, lambda g, y, x: g * sp.digamma(x), POSITIVE)


def rgamma_slope(x, y):
    """-digamma(x) / gamma(x); left of 1/2, where digamma has poles and the product has none, by reflection (DLMF 5.5.3)."""
    left = x < 0.5
    mirrored = 1 - np.where(left, x, 0.5)
    reflected = sp.gamma(mirrored) * (np.cos(math.pi * x) - np.sin(math.pi * x) / math.pi * sp.digamma(mirrored))
    return np.where(left, reflected, -y * sp.digamma(np.where(left, 1, x)))


one(sp.rgamma, lambda g, y, x: g * rgamma_slope(x, y))
psi = sp.digamma
more(sp.poch, lambda g, y, z, m: g * (y * (psi(z + m) - psi(z))), lambda g, y, z, m: g * (y * psi(z + m)), domain=POSITIVE)
more(sp.beta, lambda g, y, a, b: g * (y * (psi(a) - psi(a + b))), lambda g, y, a, b: g * (y * (psi(b) - psi(a + b))), domain=POSITIVE)
more(sp.betaln, lambda g, y, a, b: g * (psi(a) - psi(a + b)), lambda g, y, a, b: g * (psi(b) - psi(a + b)), domain=POSITIVE)
more(
    sp.binom,
    lambda g, y, n, k: g * (y * (psi(n + 1) - psi(n - k + 1))),
    lambda g, y, n, k: g * (y * (psi(n - k + 1) - psi(k + 1))),
    cases=[*PAIRS[:3], ((2, 3), 0.75), (2.5, (2, 3))],
    domain=[(2.5, 4.0), (0.2, 2.0)],
)

# --- distributions: by their variable, not by their shape --------------------------------------------------


def gamma_density(a, x):
    return np.exp(sp.xlogy(a - 1, x) - x - sp.gammaln(a))


def beta_density(a, b, x):
    return np.exp(sp.xlogy(a - 1, x) + sp.xlog1py(b - 1, -x) - sp.betaln(a, b))


SHAPED = [(2.5, (2, 3)), (np.array([0.7, 3.0]), (2,)), (np.array([[1.0], [2.0]]), (3,)), (2, ())]
SHAPED2 = [(2.5, 1.5, (2, 3)), (np.array([1.0, 3.0]), 2.0, (2,)), (2, np.array([[1.0], [2.0]]), (3,)), (2, 3, ())]
more(sp.gammainc, None, lambda g, y, a, x: g * gamma_density(a, x), cases=SHAPED, domain=POSITIVE)
more(sp.gammaincc, None, lambda g, y, a, x: -g * gamma_density(a, x), cases=SHAPED, domain=POSITIVE)
more(sp.gammaincinv, None, lambda g, y, a, p: g / gamma_density(a, y), cases=SHAPED, domain=UNIT)
more(sp.gammainccinv, None, lambda g, y, a, p: -g / gamma_density(a, y), cases=SHAPED, domain=UNIT)
more(sp.betainc, None, None, lambda g, y, a, b, x: g * beta_density(a, b, x), cases=SHAPED2, domain=UNIT)
more(sp.betaincc, None, None, lambda g, y, a, b, x: -g * beta_density(a, b, x), cases=SHAPED2, domain=UNIT)
more(sp.betaincinv, None, None, lambda g, y, a, b, p: g / beta_density(a, b, y), cases=SHAPED2, domain=UNIT)
more(sp.betainccinv, None, None, lambda g, y, a, b, p: -g / beta_density(a, b, y), cases=SHAPED2, domain=UNIT)
more(sp.chdtr, None, lambda g, y, v, x: 0.5 * g * gamma_density(0.5 * v, 0.5 * x), cases=SHAPED, domain=POSITIVE)
more(sp.chdtrc, None, lambda g, y, v, x: -0.5 * g * gamma_density(0.5 * v, 0.5 * x), cases=SHAPED, domain=POSITIVE)
more(sp.chdtri, None, lambda g, y, v, p: -2 * g / gamma_density(0.5 * v, 0.5 * y), cases=SHAPED, domain=UNIT)


def t_density(df, t):
    return np.exp(-0.5 * (df + 1) * np.log1p(t * t / df) - sp.betaln(0.5 * df, 0 * df + 0.5)) / np.sqrt(df)


def f_density(a, b, x):
    u = a * x / (a * x + b)
    return beta_density(0.5 * a, 0.5 * b, u) * (a * b / np.square(a * x + b))


more(sp.stdtr, None, lambda g, y, df, t: g * t_density(df, t), cases=SHAPED)
more(sp.stdtrit, None, lambda g, y, df, p: g / t_density(df, y), cases=SHAPED, domain=UNIT)
more(sp.fdtr, None, None, lambda g, y, a, b, x: g * f_density(a, b, x), cases=SHAPED2, domain=POSITIVE)
more(sp.fdtrc, None, None, lambda g, y, a, b, x: -g * f_density(a, b, x), cases=SHAPED2, domain=POSITIVE)
more(sp.fdtri, None, None, lambda g, y, a, b, p: g / f_density(a, b, y), cases=SHAPED2, domain=UNIT)

RATED = [((2, 3), 1.5, (2, 3)), ((2, 1), np.array([1.0, 2.0, 3.0]), (3,)), (2.0, 3.0, ()), ((), 2.0, 0.7)]
more(
    sp.gdtr,
    lambda g, y, a, b, x: g * x * gamma_density(b, a * x),
    None,
    lambda g, y, a, b, x: g * a * gamma_density(b, a * x),
    cases=RATED,
    domain=POSITIVE,
)
more(
    sp.gdtrc,
    lambda g, y, a, b, x: -g * x * gamma_density(b, a * x),
    None,
    lambda g, y, a, b, x: -g * a * gamma_density(b, a * x),
    cases=RATED,
    domain=POSITIVE,
)
more(
    sp.gdtrix,
    lambda g, y, a, b, p: -g * y / a,
    None,
    lambda g, y, a, b, p: g / (a * gamma_density(b, a * y)),
    cases=RATED,
    domain=[POSITIVE, UNIT],
)
more(
    sp.gdtria,
    lambda g, y, p, b, x: g / (x * gamma_density(b, x * y)),
    None,
    lambda g, y, p, b, x: -g * y / x,
    cases=[((2, 3), 1.5, (2, 3)), (0.4, 2.0, ())],
    domain=[UNIT, POSITIVE],
)

COUNTED = [(2.0, (2, 3)), (np.array([0.0, 3.0]), (2,)), (1.0, ())]
more(sp.pdtr, None, lambda g, y, k, m: -g * gamma_density(np.floor(k) + 1, m), cases=COUNTED, domain=POSITIVE)
more(sp.pdtrc, None, lambda g, y, k, m: g * gamma_density(np.floor(k) + 1, m), cases=COUNTED, domain=POSITIVE)
more(sp.pdtri, None, lambda g, y, k, p: -g / gamma_density(k + 1, y), cases=COUNTED, domain=UNIT)


def binomial_slope(k, n, p):
    """Of the sum of the first k + 1 of n terms, by the probability p: minus n times a probability of k successes in n - 1."""
    k = np.floor(k)
    return -beta_density(np.asarray(n - k, p.dtype), np.asarray(k + 1, p.dtype), 1 - p)


WHOLE = {
    "bind": bind_order,
    "cases": [(1, np.int64(4), (2, 3)), (np.array([0.0, 2.0, 3.0]), np.int64(4), (3,)), (2.0, np.int64(5), ())],
    "domain": UNIT,
}
more(sp.bdtr, None, None, lambda g, y, k, n, p: g * binomial_slope(k, n, p), **WHOLE)
more(sp.bdtrc, None, None, lambda g, y, k, n, p: -g * binomial_slope(k, n, p), **WHOLE)
more(sp.bdtri, None, None, lambda g, y, k, n, p: g / binomial_slope(k, n, y), **WHOLE)
TRIES = [(1.0, 4.0, (2, 3)), (np.array([0.0, 2.0, 3.0]), 4.0, (3,)), (2, 5, ())]
more(sp.nbdtr, None, None, lambda g, y, k, n, p: g * beta_density(n, k + 1, p), cases=TRIES, domain=UNIT)
more(sp.nbdtrc, None, None, lambda g, y, k, n, p: -g * beta_density(n, k + 1, p), cases=TRIES, domain=UNIT)
more(sp.nbdtri, None, None, lambda g, y, k, n, p: g / beta_density(n, k + 1, y), cases=TRIES, domain=UNIT)
more(
    sp.tklmbda,
    lambda g, y, x, shape: g / (y ** (shape - 1) + (1 - y) ** (shape - 1)),
    None,
    cases=[((2, 3), 0.5), ((3,), np.array([0.3, 1.2, 0.8]))],
    domain=(-0.8, 0.8),
)
