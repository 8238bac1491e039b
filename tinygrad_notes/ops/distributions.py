"""scipy.special's distributions whose densities need more than a power and an exponential: noncentral, Kolmogorov's, Voigt's.

A distribution function has its density as slope, its inverse one over the density. By a noncentrality, too, the
slope is a known function; by a number of degrees of freedom it is none, and a Tensor there raises. Loaded with special.py.
"""

import math

from tinygrad_notes.ops.gamma import POSITIVE, SQRT_2PI, SQRT_PI, UNIT, more, one
from tinygrad_notes.ops.indexing import arrays_of
from tinygrad_notes.registry import compose, op

import numpy as np
import scipy.special as sp

# --- noncentral chi square: k degrees of freedom, noncentrality nc (DLMF 10.25.2) -----------------


def chndtr_density(x, k, nc):
    """exp(-(x + nc) / 2) (x / 2)^(k/2 - 1) / 2 0F1(k/2; nc x / 4) / Gamma(k/2); for large nc x, by a Bessel function that is scaled."""
    near = x * nc < 1
    half = 0.5 * k
    product = np.where(near, x * nc, 0)
    by_series = np.exp(-0.5 * (x + nc)) * (0.5 * x) ** (half - 1) * sp.hyp0f1(half, 0.25 * product) * sp.rgamma(half)
    far_x, far_nc = np.where(near, 1, x), np.where(near, 1, nc)
    distance = np.square(np.sqrt(far_x) - np.sqrt(far_nc))
    by_bessel = (far_x / far_nc) ** (0.5 * half - 0.5) * np.exp(-0.5 * distance) * sp.ive(half - 1, np.sqrt(far_x * far_nc))
    return 0.5 * np.where(near, by_series, by_bessel)


def chndtr_by_nc(x, k, nc):
    """Minus the density with two degrees of freedom more."""
    return -chndtr_density(x, k + 2, nc)


MIXED = [((2, 3), 1.5, (2, 3)), ((2,), np.array([0.7, 4.0]), 0.8), (2.0, 3.0, ()), ((2, 1), 2, (3,))]
more(
    sp.chndtr,
    lambda g, y, x, k, nc: g * chndtr_density(x, k, nc),
    None,
    lambda g, y, x, k, nc: g * chndtr_by_nc(x, k, nc),
    cases=[*MIXED, ((3,), 2.5, 0.0)],
    domain=POSITIVE,
)
more(
    sp.chndtrix,
    lambda g, y, p, k, nc: g / chndtr_density(y, k, nc),
    None,
    lambda g, y, p, k, nc: -g * chndtr_by_nc(y, k, nc) / chndtr_density(y, k, nc),
    cases=MIXED[:2],
    domain=[UNIT, POSITIVE],
)
more(
    sp.chndtrinc,
    lambda g, y, x, k, p: -g * chndtr_density(x, k, y) / chndtr_by_nc(x, k, y),
    None,
    lambda g, y, x, k, p: g / chndtr_by_nc(x, k, y),
    cases=[((2, 3), 1.5, (2, 3)), ((2, 1), np.array([1.5, 2.0]), (2,))],
    domain=[(5.0, 7.0), (0.2, 0.5)],
)

# --- noncentral F: n and d degrees of freedom; f through the share of a beta distribution, u = n f / (n f + d) ----------


def noncentral_beta(a, b, u, nc, k):
    """u^(a+k-1) (1 - u)^(b-1+k) exp(-nc / 2) 1F1(a + b; a + k; nc u / 2) / B(a, b), by Kummer's transformation (DLMF 13.2.39)."""
    logarithm = (a + (k - 1)) * np.log(u) + (b - 1 + k) * np.log1p(-u) - sp.betaln(a, b) - 0.5 * nc * (1 - u)
    return np.exp(logarithm) * sp.hyp1f1(k - b, a + k, -0.5 * nc * u)


def ncfdtr_by_f(n, d, nc, f):
    u = n * f / (n * f + d)
    return noncentral_beta(0.5 * n, 0.5 * d, u, nc, 0) * u * (1 - u) / f


def ncfdtr_by_nc(n, d, nc, f):
    return -noncentral_beta(0.5 * n, 0.5 * d, n * f / (n * f + d), nc, 1) / n


FREEDOMS = [(3.0, 5.0, (2, 3), (2, 3)), (np.array([1.5, 4.0]), 7.0, (2,), 0.8), (2, 6, 0.5, ()), (2, 6, (), 0.5)]
more(
    sp.ncfdtr,
    None,
    None,
    lambda g, y, n, d, nc, f: g * ncfdtr_by_nc(n, d, nc, f),
    lambda g, y, n, d, nc, f: g * ncfdtr_by_f(n, d, nc, f),
    cases=FREEDOMS,
    domain=POSITIVE,
)
more(
    sp.ncfdtri,
    None,
    None,
    lambda g, y, n, d, nc, p: -g * ncfdtr_by_nc(n, d, nc, y) / ncfdtr_by_f(n, d, nc, y),
    lambda g, y, n, d, nc, p: g / ncfdtr_by_f(n, d, nc, y),
    cases=FREEDOMS[:2],
    domain=[POSITIVE, UNIT],
)

# --- noncentral t: with s^2 of a chi square distribution of v degrees of freedom, P(t) is the mean of ndtr(t s / sqrt(v) - nc) ---


FAR = 12.0  # from here on D_-a is computed without its power of e, which overflows at 53 and float32 at 19


def cylinder(a, z):
    """Weber's D_-a(z) as a pair (m, p), so that D_-a(z) = m exp(p z^2) (DLMF 12.7.12-14 and Kummer's transformation)."""
    near, half = np.abs(z) < FAR, 0.5 * a
    right, left = np.where(z >= FAR, z, FAR), np.where(z <= -FAR, -z, FAR)
    above = sp.hyperu(half, 0.5, 0.5 * right * right)
    even = sp.hyp1f1(0.5 - half, 0.5, -0.5 * left * left) * np.exp(-sp.gammaln(half + 0.5))
    odd = sp.hyp1f1(1 - half, 1.5, -0.5 * left * left) * left * np.exp(-sp.gammaln(half))
    apart = np.exp(-half * math.log(2)) * np.where(z > 0, above, math.sqrt(math.pi) * (even + math.sqrt(2) * odd))
    together = sp.pbdv(-a, np.where(near, z, 0).astype(np.float64))[0].astype(z.dtype)  # SciPy's in float32 is nan from 4 on
    return np.where(near, together, apart), np.where(near, 0, -0.25 * np.sign(z))


def mean_of_powers(v, nc, t, k):
    """The mean of s^k density(t s / sqrt(v) - nc): the integral of a parabolic cylinder function (DLMF 12.5.1)."""
    m, p = cylinder(v + k, -nc * t / np.sqrt(v + t * t))
    scale = sp.gammaln(v + k) - sp.gammaln(0.5 * v) + (1 - 0.5 * v) * math.log(2)
    logarithm = scale - 0.5 * nc * nc * (v + (0.5 - 2 * p) * t * t) / (v + t * t) - 0.5 * (v + k) * np.log1p(t * t / v)
    return np.exp(logarithm) / SQRT_2PI * m


def nctdtr_by_nc(v, nc, t):
    return -mean_of_powers(v, nc, t, 0)


def nctdtr_by_t(v, nc, t):
    return mean_of_powers(v, nc, t, 1) / np.sqrt(v)


more(
    sp.nctdtr,
    None,
    lambda g, y, v, nc, t: g * nctdtr_by_nc(v, nc, t),
    lambda g, y, v, nc, t: g * nctdtr_by_t(v, nc, t),
    cases=[(3.0, (2, 3), (2, 3)), (np.array([1.5, 4.0]), (2,), 0.8), (6, 0.5, ())],
)
more(
    sp.nctdtrit,
    None,
    lambda g, y, v, nc, p: -g * nctdtr_by_nc(v, nc, y) / nctdtr_by_t(v, nc, y),
    lambda g, y, v, nc, p: g / nctdtr_by_t(v, nc, y),
    cases=[(3.0, (2, 3), (2, 3)), (np.array([1.5, 4.0]), 0.3, (2,))],
    domain=UNIT,
)

# --- Kolmogorov's and Smirnov's distributions of the largest difference ----------------------------


def kolmogorov_slope(x):
    """Of two series for it, the one that converges fast: in exp(-2 x^2), or for small x in exp(-(pi / x)^2 / 8)."""
    near = x < 0.8
    u, v = np.where(near & (x > 0.03), x, 1), np.where(near, 1, x)  # below 0.03 all digits are those of 0
    by_large = sum((-1) ** k * 8 * k * k * v * np.exp(-2 * k * k * v * v) for k in range(1, 9))
    by_small = 0 * x
    for k in (1, 3, 5, 7):
        c = (k * math.pi) ** 2 / (8 * u * u)
        by_small = by_small + SQRT_2PI / (u * u) * (1 - 2 * c) * np.exp(-c)
    return np.where(near, np.where(x > 0.03, by_small, 0), by_large)


one(sp.kolmogorov, lambda g, y, x: g * kolmogorov_slope(x), (0.3, 2.0))
one(sp.kolmogi, lambda g, y, p: g / kolmogorov_slope(y), UNIT)


def smirnov_slope(n, x):
    """The slope of x times the sum over k of binom(n, k) a^(k-1) b^(n-k), where a = x + k/n and b = 1 - a > 0."""
    total = 0 * x
    for k in range(int(np.max(n, initial=0)) + 1):
        inside = x + k / n < 1
        a = np.where(inside, x + (k / n).astype(x.dtype), 0.5)
        b, left = 1 - a, np.where(inside, n - k, 0).astype(x.dtype)
        weight = np.where(inside, sp.binom(n, k), 0).astype(x.dtype)
        total = total + weight * a ** (k - 1.0) * b**left * (1 + x * ((k - 1) / a - left / b))
    return total


SIZES = [(5.0, (2, 3)), (np.array([1.0, 4.0, 7.0]), (2, 3)), (3, ())]
more(sp.smirnov, None, lambda g, y, n, x: g * smirnov_slope(np.asarray(n), x), cases=SIZES, domain=(0.36, 0.49))
more(sp.smirnovi, None, lambda g, y, n, p: g / smirnov_slope(np.asarray(n), y), cases=SIZES, domain=(0.1, 0.3))

# --- Voigt's profile: the real part of w(z) = exp(-z^2) erfc(-i z), with w' = -2 z w + 2 i / sqrt(pi) (DLMF 7.10.2) -------


def faddeeva(x, y):
    w = sp.wofz(x + 1j * y)
    return w.real, w.imag


def faddeeva_slope(w, x, y):
    """The real and the imaginary part of w'(x + i y)."""
    return -2 * (x * w[0] - y * w[1]), -2 * (x * w[1] + y * w[0]) + 2 / SQRT_PI


def faddeeva_by_x(g, w, x, y):
    real, imaginary = faddeeva_slope(w, x, y)
    return g[0] * real + g[1] * imaginary


def faddeeva_by_y(g, w, x, y):
    real, imaginary = faddeeva_slope(w, x, y)
    return g[1] * real - g[0] * imaginary


faddeeva = op(faddeeva, faddeeva_by_x, faddeeva_by_y, cases=[((2, 3), (2, 3)), ((2, 1), (3,)), ((), ())], domain=(0.2, 2.0))


def voigt_profile(x, sigma, gamma):
    """The density of a normal number, of deviation sigma, plus one of Cauchy's distribution, of half width gamma."""
    x, sigma, gamma = arrays_of([x, sigma, gamma])
    sharp = sigma == 0
    width = np.where(sharp, 1, sigma) * math.sqrt(2)
    smooth = faddeeva(x / width, gamma / width)[0] / (SQRT_PI * width)
    distance = np.where(sharp, x * x + gamma * gamma, 1)
    return np.where(sharp, gamma / (math.pi * distance), smooth)


compose(
    sp.voigt_profile,
    voigt_profile,
    cases=[((2, 3), (2, 3), (3,)), ((2, 1), 0.8, (3,)), (0.5, (2,), 1.5), ((3,), 0.0, (3,))],
    domain=(0.5, 2.0),
)
