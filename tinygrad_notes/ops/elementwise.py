"""Functions that act on each element by itself, with broadcasting."""

import math

from tinygrad_notes.binding import bind_ufunc
from tinygrad_notes.ops.indexing import arrays_of
from tinygrad_notes.registry import compose, constant, op, plain, refuse

import numpy as np

PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1), (3,)), ((), (2, 3)), ((2, 3), 0.75), (0.75, (2, 3)), ((0, 3), (3,))]
ONE = [((3, 4),), ((),), ((0, 3),)]
POSITIVE, INSIDE = (0.5, 2.0), (-0.9, 0.9)
LN2, LN10, DEGREE = math.log(2), math.log(10), math.pi / 180

# A rule that applies a function to a constant alone must keep float32: np.log(2.0) is a float64 scalar, and wins over
# float32 arrays, where the plain number 2.0 does not. Hence `y.dtype.type` and `b - (b != 0)` below.


def nonzero(x):
    """x with 1 in place of 0: a divisor for quotients whose numerator is 0 there."""
    return np.where(x == 0, 1, x)


# --- arithmetic -------------------------------------------------------------------------

op(np.add, lambda g, y, a, b: g, lambda g, y, a, b: g, cases=PAIRS)
op(np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: -g, cases=PAIRS)
op(np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a, cases=PAIRS)
op(np.divide, lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b, cases=PAIRS, domain=POSITIVE)
op(np.negative, lambda g, y, x: -g, cases=ONE)
for same in (np.positive, np.conjugate, np.real):
    op(same, lambda g, y, x: g, cases=ONE)
op(np.real_if_close, lambda g, y, x, *, tol=100: g, cases=[*ONE, ((3,), {"tol": 10})])
op(np.reciprocal, lambda g, y, x: -g * y * y, cases=ONE, domain=POSITIVE)
op(np.square, lambda g, y, x: g * (2 * x), cases=ONE)


def power_by_base(g, y, a, b):
    """b a^(b-1), which is 0 where b is 0, whatever a is."""
    return g * (b * a ** (b - (b != 0)))


def power_by_exponent(g, y, a, b):
    """y log(a), which is 0 where a is 0 and b positive."""
    return g * (y * np.log(np.where((a == 0) & (b > 0), y.dtype.type(1), a)))


POWERS = [*PAIRS, ((2, 3), 3), ((2, 3), 0), ((2, 3), -2), ((4,), np.array([0, 1, 2, 3]))]
for power in (np.power, np.float_power, np.emath.power):
    op(power, power_by_base, power_by_exponent, cases=POWERS, domain=POSITIVE)

WHOLE = {"cases": PAIRS[:4] + PAIRS[6:], "domain": [(2.1, 2.9), (0.8, 1.0)]}  # away from the jumps of a quotient's whole part
op(np.remainder, lambda g, y, a, b: g, lambda g, y, a, b: -g * np.floor_divide(a, b), **WHOLE)
op(np.fmod, lambda g, y, a, b: g, lambda g, y, a, b: -g * np.rint((a - y) / b), **WHOLE)
op(np.divmod, lambda g, y, a, b: g[1], lambda g, y, a, b: -g[1] * y[0], **WHOLE)
op(np.modf, lambda g, y, x: g[0], cases=ONE, domain=(1.1, 1.9))

# --- signs, and the parts of a number ------------------------------------------------------

for magnitude in (np.absolute, np.fabs):
    op(magnitude, lambda g, y, x: g * np.sign(x), cases=ONE)  # 0 at 0


def bind_first(op, args, kwargs):
    """The second input acts by its sign or order alone, so that its gradient is zero: a Tensor there is a constant."""
    return bind_ufunc(op, (args[0], *plain(args[1:])), kwargs)


op(np.copysign, lambda g, y, a, b: g * (np.sign(a) * np.sign(y)), None, bind=bind_first, cases=PAIRS[:5])
op(np.nextafter, lambda g, y, a, b: g, None, bind=bind_first, cases=PAIRS[:5])
op(np.ldexp, lambda g, y, x, i: np.ldexp(g, i), None, cases=[((3,), np.array([-1, 0, 3])), ((), 2), ((2, 1), np.array([1, 2]))])
op(np.frexp, lambda g, y, x: np.ldexp(g[0], -y[1]), cases=ONE, domain=(1.1, 1.9))

# --- exponentials and logarithms -----------------------------------------------------------

op(np.exp, lambda g, y, x: g * y, cases=ONE)
op(np.exp2, lambda g, y, x: g * (LN2 * y), cases=ONE)
op(np.expm1, lambda g, y, x: g * np.exp(x), cases=ONE)
for log, log2, log10 in ((np.log, np.log2, np.log10), (np.emath.log, np.emath.log2, np.emath.log10)):
    op(log, lambda g, y, x: g / x, cases=ONE, domain=POSITIVE)
    op(log2, lambda g, y, x: g / (LN2 * x), cases=ONE, domain=POSITIVE)
    op(log10, lambda g, y, x: g / (LN10 * x), cases=ONE, domain=POSITIVE)
compose(np.emath.logn, lambda n, x: np.emath.log(x) / np.emath.log(n), cases=PAIRS[:4], domain=[(1.5, 2.0), POSITIVE])
op(np.log1p, lambda g, y, x: g / (1 + x), cases=ONE, domain=(-0.5, 2.0))


def log_of_whole(y):
    """y, or 0 where y is the logarithm of 0: then exp(a - y), the share of exp(a) in a sum exp(y), is 0 and not NaN."""
    return np.where(y == -np.inf, 0, y)


def log_odds(y, a, b):
    """b - a, where exp(a) / (exp(a) + exp(b)) = 1 / (1 + exp(b - a)): y is rounded, a - y keeps no digits of it for large a and b."""
    return np.maximum(b, np.finfo(y.dtype).min) - a  # inf where both are -inf: exp(a) has no share in nothing


def logaddexp_rule(g, y, a, b):
    return g * np.exp(-np.logaddexp(0, log_odds(y, a, b)))


def logaddexp2_rule(g, y, a, b):
    return g * np.exp2(-np.logaddexp2(0, log_odds(y, a, b)))


op(np.logaddexp, logaddexp_rule, lambda g, y, a, b: logaddexp_rule(g, y, b, a), cases=PAIRS)
op(np.logaddexp2, logaddexp2_rule, lambda g, y, a, b: logaddexp2_rule(g, y, b, a), cases=PAIRS)

# --- roots, and lengths ----------------------------------------------------------------------

op(np.sqrt, lambda g, y, x: 0.5 * g / y, cases=ONE, domain=POSITIVE)
op(np.emath.sqrt, lambda g, y, x: 0.5 * g / y, cases=ONE, domain=POSITIVE)
op(np.cbrt, lambda g, y, x: g / (3 * y * y), cases=ONE)
op(np.hypot, lambda g, y, a, b: g * (a / nonzero(y)), lambda g, y, a, b: g * (b / nonzero(y)), cases=PAIRS)  # 0 at the origin

# --- trigonometry ------------------------------------------------------------------------------

op(np.sin, lambda g, y, x: g * np.cos(x), cases=ONE)
op(np.cos, lambda g, y, x: -g * np.sin(x), cases=ONE)
op(np.tan, lambda g, y, x: g * (1 + y * y), cases=ONE, domain=(-1.0, 1.0))
for arcsin in (np.arcsin, np.emath.arcsin):
    op(arcsin, lambda g, y, x: g / np.sqrt((1 - x) * (1 + x)), cases=ONE, domain=INSIDE)
for arccos in (np.arccos, np.emath.arccos):
    op(arccos, lambda g, y, x: -g / np.sqrt((1 - x) * (1 + x)), cases=ONE, domain=INSIDE)
op(np.arctan, lambda g, y, x: g / (1 + x * x), cases=ONE)


def arctan2_by_first(g, y, a, b):
    """b / (a^2 + b^2), and 0 at the origin; no square can overflow."""
    r = nonzero(np.hypot(a, b))
    return g * (b / r / r)


op(np.arctan2, arctan2_by_first, lambda g, y, a, b: -arctan2_by_first(g, y, b, a), cases=PAIRS)
for radians in (np.deg2rad, np.radians):
    op(radians, lambda g, y, x: g * DEGREE, cases=ONE)
for degrees in (np.rad2deg, np.degrees):
    op(degrees, lambda g, y, x: g / DEGREE, cases=ONE)

op(np.sinh, lambda g, y, x: g * np.cosh(x), cases=ONE)
op(np.cosh, lambda g, y, x: g * np.sinh(x), cases=ONE)
op(np.tanh, lambda g, y, x: g * (1 - y * y), cases=ONE)
op(np.arcsinh, lambda g, y, x: g / np.hypot(1, x), cases=ONE)
op(np.arccosh, lambda g, y, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)), cases=ONE, domain=(1.2, 3.0))
for arctanh in (np.arctanh, np.emath.arctanh):
    op(arctanh, lambda g, y, x: g / ((1 - x) * (1 + x)), cases=ONE, domain=INSIDE)

# --- two functions with a name and a series ------------------------------------------------------


def horner(x, coefficients):
    """c0 + c1 x + c2 x^2 + ..."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


SINC_SLOPE = [(-1) ** k * 2 * k * math.pi ** (2 * k) / math.factorial(2 * k + 1) for k in range(1, 12)]


def sinc_rule(g, y, x):
    """(cos(pi x) - sinc(x)) / x; near 0, where the difference cancels, its Taylor series."""
    near = np.abs(x) < 0.3
    return g * np.where(near, x * horner(x * x, SINC_SLOPE), (np.cos(math.pi * x) - y) / np.where(near, 1, x))


op(np.sinc, sinc_rule, cases=ONE)

QUARTER = [math.cos(math.pi * (k + 0.5) / 128) for k in range(64)]


def i0_rule(g, y, x):
    """The Bessel function I1(x), the mean of c sinh(c x) over c = cos(angle).

    The trapezoidal rule with 256 angles, a quarter of which are enough by symmetry: its error
    falls geometrically (Trefethen and Weideman, 2014), below rounding for all x whose I0 is finite.
    """
    return g * (sum(c * np.sinh(c * x) for c in QUARTER) / len(QUARTER))


op(np.i0, i0_rule, cases=ONE)

# --- steps ---------------------------------------------------------------------------------------------

step = op(
    np.heaviside,
    None,
    lambda g, y, x, at_zero: np.where(x == 0, g, 0),
    bind=lambda op, args, kwargs: bind_ufunc(op, (plain(args[0]), *args[1:]), kwargs),
    cases=[(np.array([-1.0, 0.0, 2.0]), (3,)), (np.zeros((2, 1)), (3,)), (0.0, ())],
)


def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """x with numbers in place of NaN and the infinities: a new Tensor whatever `copy` says."""
    top = float(np.finfo(x.dtype).max)
    posinf, neginf = top if posinf is None else posinf, -top if neginf is None else neginf
    for places, v in ((np.isnan(x), nan), (np.isposinf(x), posinf), (np.isneginf(x), neginf)):
        x = np.where(places, v if isinstance(v, float | int) else arrays_of([v])[0].astype(x.dtype), x)
    return x


compose(np.nan_to_num, nan_to_num, cases=[*ONE, ((3,), {"nan": 1.0, "posinf": 2.0, "neginf": -2.0}), ((3, 4), True, (), (4,))])


def unwrap_rule(g, y, p, *, discont=None, axis=-1, period=math.tau):
    return g  # what it adds are whole periods


op(np.unwrap, unwrap_rule, cases=[((5,),), ((2, 5), {"axis": 0}), ((5,), {"period": 1.0}), ((5,), {"discont": 4.0})])

constant(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
constant(np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
constant(np.sign, np.signbit, np.spacing, np.floor_divide, np.floor, np.ceil, np.rint, np.trunc, np.fix, np.round, np.around)
constant(np.isnan, np.isfinite, np.isinf, np.isposinf, np.isneginf, np.isreal, np.iscomplex, np.isrealobj, np.iscomplexobj)
constant(np.isclose, np.allclose, np.array_equal, np.array_equiv, np.imag, np.angle)

INTEGERS = [np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift, np.gcd, np.lcm, np.bitwise_count]
refuse("it takes integers, and a Tensor is made of real numbers", *INTEGERS)
