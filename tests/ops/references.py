"""Exact references: what functions and their gradients should be, in arithmetic of a hundred digits.

Each entry of REFERENCES names a function of ours, the same function by its definition on mpmath numbers (with so many
digits cancellation does no harm, so the definition needs no care), where it is sampled, and how many ULP its value and its
gradient may be off in float32 and float64. Gradients come from differences of the definition with a step of 1e-30, so
they share nothing with our rules. mpmath stands in for longdouble everywhere: it is wider, and the same on all platforms.

A ULP is the distance from the exact result to the next float. Where a formula gives up digits that a caller cannot see,
`floor` says so: a result smaller than that is measured in the ULP of the floor, and `note` says why. Results of several
inputs (softmax, norms) are measured in the ULP of the largest term of their row. A bound of None is NumPy's business.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tinygrad_notes import functional as F

import mpmath
import numpy as np

DIGITS, STEP = 100, 30  # digits of the arithmetic; the step is 10^-STEP of the point
mp = mpmath.MPContext()  # a context of our own: its precision is nobody else's
mp.dps = DIGITS


@dataclass(frozen=True)
class Reference:
    call: Callable  # ours, on arrays and Tensors
    exact: Callable  # the definition: on numbers where `elementwise`, else on object arrays of numbers
    draw: Callable  # rng -> the float64 arrays of a call with many points; if not elementwise, a list of calls
    bounds: tuple[float | None, float | None]  # ULP of the value, ULP of the gradient
    floor: tuple[float, float] = (0.0, 0.0)
    elementwise: bool = True
    note: str = ""


# --- where to sample ---------------------------------------------------------------------------

POINTS = 48


def reals(large, near=(), low=-math.inf, high=math.inf, least=-8):
    """Points of either sign: uniform up to `large`, of every magnitude from 10^least, and close to the points `near`; inside (low, high)."""

    def draw(rng):
        uniform = rng.uniform(max(-large, low), min(large, high), POINTS)
        magnitudes = rng.choice([-1.0, 1.0], POINTS) * 10 ** rng.uniform(least, math.log10(large), POINTS)
        close = [p + rng.choice([-1.0, 1.0], 12) * 10.0 ** -rng.uniform(1, 6, 12) for p in near]
        x = np.concatenate([uniform, magnitudes, *close])
        return x[(x > low) & (x < high) & (x != 0)]

    return draw


def points(*draws):
    """One array for each input, all of the length of the shortest, in random order."""

    def draw(rng):
        arrays = [rng.permutation(d(rng)) for d in draws]
        n = min(map(len, arrays))
        return [a[:n] for a in arrays]

    return draw


def line(*args, **kwargs):
    return points(reals(*args, **kwargs))


def close_pairs(large, apart=4.0):
    """Two inputs near each other, small or large: what depends on their difference alone must not depend on their size."""

    def draw(rng):
        a = reals(large)(rng)
        return [a, a + rng.uniform(-apart, apart, a.shape)]

    return draw


POSITIVE = {"low": 0.0, "least": -30}


def rows(*shapes, kinds=("normal",), low=None):
    """At least six calls, each with arrays of these shapes: the first of one of the `kinds` in turn, the others normal."""

    def draw(rng):
        return [one(kind, rng) for kind in kinds * (-(-6 // len(kinds)))]

    def one(kind, rng):
        arrays = [rng.normal(size=s) for s in shapes]
        first = arrays[0]
        if kind == "large":
            first = first * 30
        if kind == "small":
            first = first * 1e-6
        if kind == "shifted":
            first = first + 100
        if kind == "far":
            first = first + 1e4
        if kind == "decided":  # one score wins by far
            first = first + 15 * (np.arange(first.shape[-1]) == 1)
        if kind == "close":  # nearly equal members
            first = 1 + first * 1e-3
        arrays[0] = first if low is None else low + np.abs(first)
        return arrays

    return draw


# --- definitions -------------------------------------------------------------------------------

EXP, LOG, SQRT, POWER = (np.frompyfunc(f, n, 1) for f, n in ((mp.exp, 1), (mp.log, 1), (mp.sqrt, 1), (mp.power, 2)))
HALF = mp.mpf(1) / 2


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def normal_cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def gelu_tanh(x):
    return x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))


def softmax(x):
    e = EXP(x)
    return e / e.sum(axis=-1, keepdims=True)


def standardised(x, eps):
    d = x - x.sum(axis=-1, keepdims=True) / x.shape[-1]
    return d / SQRT((d * d).sum(axis=-1, keepdims=True) / x.shape[-1] + mp.mpf(eps))


def length(x):
    return SQRT((x * x).sum(axis=-1, keepdims=True))


TARGETS = np.array([1])
P = np.array([0.1, 0.25, 0.0, 0.65])
XP = np.array([-1.5, -0.25, 0.5, 2.0])


def cross_entropy(x, smoothing=0.0):
    log_p = LOG(softmax(x))
    e = mp.mpf(smoothing)
    return -(1 - e) * log_p[0, 1] - e / x.shape[-1] * log_p.sum()


def interp(x, fp):
    xp = [mp.mpf(v) for v in XP]

    def at(v):
        if v <= xp[0] or v >= xp[-1]:
            return fp[0] if v <= xp[0] else fp[-1]
        i = max(i for i in range(len(xp)) if xp[i] <= v)
        return fp[i] + (fp[i + 1] - fp[i]) * (v - xp[i]) / (xp[i + 1] - xp[i])

    return np.array([at(v) for v in x], object)


def quantile(x, q):
    ordered, at = sorted(x), mp.mpf(q) * (len(x) - 1)
    i = int(at)
    return np.array(ordered[i] + (ordered[i + 1] - ordered[i]) * (at - i), object)


def attention(q, k, v, causal):
    s = np.matmul(q, np.swapaxes(k, -1, -2)) * mp.mpf(0.5)
    e = EXP(s)
    if causal:
        e = e * np.tril(np.ones(s.shape[-2:], int), s.shape[-1] - s.shape[-2])
    return np.matmul(e / e.sum(axis=-1, keepdims=True), v)


def corrcoef(x):
    d = x - x.sum(axis=-1, keepdims=True) / x.shape[-1]
    c = np.matmul(d, d.T)
    r = SQRT(np.diagonal(c))
    return c / r[:, None] / r


def blocked(causal):
    return lambda *qkv: F.scaled_dot_product_attention(*(x[None] for x in qkv), causal=causal, scale=0.5, block=(2, 3))[0]


# --- the table ---------------------------------------------------------------------------------


def rule(call, exact, draw, gradient, **rest):
    """A NumPy ufunc: its value is NumPy's, its rule is ours."""
    return Reference(call, exact, draw, (None, gradient), **rest)


def own(call, exact, draw, value, gradient, **rest):
    """A function of one element that we compute ourselves."""
    return Reference(call, exact, draw, (value, gradient), **rest)


def row(call, exact, draw, value, gradient, **rest):
    """A function of many inputs."""
    return Reference(call, exact, draw, (value, gradient), elementwise=False, **rest)


SATURATED = (
    "The rule reads the output y, and 1 - y keeps no digits where y rounds to 1: the gradient is right to the ULP of its largest value"
)
DECIDED = "Where one score wins by far, e^0 + a small rest rounds to 1: right to the ULP of 1"
CENTRED = "The mean is rounded, and with it all differences from it: up to 2 |mean| / deviation ULP (some thousand in the samples), as if the input had been rounded"
SQUARED = "The argument of the exponential, about x^2, has rounding errors, which the result inherits: up to 2 x^2 ULP (288 in the samples); a slope near its zero, where two terms cancel, loses as much"
POWERS = "The exponent b - 1 is rounded, which a^(b-1) multiplies by log(a): up to 18 |b| ULP in the samples"
SUMMED = "In the ULP of 1, the size of the terms, where their sum cancels"
LOGITS = "A score of size |s| is rounded, and its exponential inherits |s| ULP (hundreds in the samples); in the ULP of 1 where one score wins by far"
LIMIT = "In the ULP of 1 where one score wins by far and the slopes vanish"
SCORES = ("normal", "large", "shifted", "far", "decided", "close")
SPREAD = ("normal", "small", "shifted", "close")

REFERENCES: dict[str, Reference] = {
    # NumPy's elementwise functions: the rules
    "np.multiply": rule(np.multiply, lambda a, b: a * b, points(reals(1e6), reals(1e6)), 0.5),
    "np.divide": rule(np.divide, lambda a, b: a / b, points(reals(1e6), reals(1e6, least=-3)), 3),
    "np.reciprocal": rule(np.reciprocal, lambda x: 1 / x, line(1e6), 4),
    "np.square": rule(np.square, lambda x: x * x, line(1e6), 0.5),
    "np.power": rule(np.power, lambda a, b: a**b, points(reals(20, near=(1,), low=0.0), reals(12)), 96, note=POWERS),
    "np.exp": rule(np.exp, mp.exp, line(80), 4),
    "np.exp2": rule(np.exp2, lambda x: mp.mpf(2) ** x, line(120), 3),
    "np.expm1": rule(np.expm1, mp.expm1, line(80), 4),
    "np.log": rule(np.log, mp.log, line(1e30, near=(1,), **POSITIVE), 0.5),
    "np.log2": rule(np.log2, lambda x: mp.log(x) / mp.log(2), line(1e30, near=(1,), **POSITIVE), 2),
    "np.log10": rule(np.log10, lambda x: mp.log(x) / mp.log(10), line(1e30, near=(1,), **POSITIVE), 3),
    "np.log1p": rule(np.log1p, mp.log1p, line(1e6, near=(-1, 0), low=-1.0), 2),
    "np.logaddexp": rule(np.logaddexp, lambda a, b: mp.log(mp.exp(a) + mp.exp(b)), close_pairs(3e4), 6),
    "np.logaddexp2": rule(np.logaddexp2, lambda a, b: mp.log(mp.mpf(2) ** a + mp.mpf(2) ** b) / mp.log(2), close_pairs(3e4), 6),
    "np.sqrt": rule(np.sqrt, mp.sqrt, line(1e30, **POSITIVE), 2),
    "np.cbrt": rule(np.cbrt, mp.cbrt, line(1e18, low=0.0, least=-18), 8),
    "np.hypot": rule(np.hypot, mp.hypot, points(reals(1e15), reals(1e15)), 3),
    "np.sin": rule(np.sin, mp.sin, line(1e4, near=(math.pi / 2, math.pi)), 3),
    "np.cos": rule(np.cos, mp.cos, line(1e4, near=(math.pi / 2, math.pi)), 3),
    "np.tan": rule(np.tan, mp.tan, line(100, near=(math.pi / 2, math.pi)), 6),
    "np.arcsin": rule(np.arcsin, mp.asin, line(1, near=(-1, 1), low=-1, high=1), 2),
    "np.arccos": rule(np.arccos, mp.acos, line(1, near=(-1, 1), low=-1, high=1), 2),
    "np.arctan": rule(np.arctan, mp.atan, line(1e15), 3),
    "np.arctan2": rule(np.arctan2, mp.atan2, points(reals(1e15), reals(1e15)), 4),
    "np.sinh": rule(np.sinh, mp.sinh, line(80), 4),
    "np.cosh": rule(np.cosh, mp.cosh, line(80), 2),
    "np.tanh": rule(np.tanh, mp.tanh, line(40, near=(0,)), 3, floor=(0, 1), note=SATURATED),
    "np.arcsinh": rule(np.arcsinh, mp.asinh, line(1e15), 2),
    "np.arccosh": rule(np.arccosh, mp.acosh, line(1e15, near=(1,), low=1.0, least=0), 4),
    "np.arctanh": rule(np.arctanh, mp.atanh, line(1, near=(-1, 1), low=-1, high=1), 3),
    "np.deg2rad": rule(np.deg2rad, mp.radians, line(1e6), 1),
    "np.rad2deg": rule(np.rad2deg, mp.degrees, line(1e6), 1),
    "np.sinc": rule(
        np.sinc,
        lambda x: mp.sinpi(x) / (mp.pi * x),
        line(4, near=(0.3,)),
        8,
        floor=(0, 1),
        note="In the ULP of 1 near the zeros of the slope, where it is a difference",
    ),
    "np.i0": rule(np.i0, lambda x: mp.besseli(0, x), line(80, near=(8,)), 48),
    # Activations
    "relu": own(F.relu, lambda x: max(x, mp.zero), line(1e6), 0.5, 0.5),
    "leaky_relu": own(F.leaky_relu, lambda x: x if x > 0 else x / 100, line(1e6), 1.5, 1.5),
    "elu": own(F.elu, lambda x: x if x > 0 else mp.expm1(x), line(80), 3, 3),
    "sigmoid": own(F.sigmoid, sigmoid, line(80), 4, 1.5, floor=(0, 1), note=SATURATED),
    "softplus": own(F.softplus, lambda x: mp.log1p(mp.exp(x)), line(80), 3, 4),
    "log_sigmoid": own(F.log_sigmoid, lambda x: -mp.log1p(mp.exp(-x)), line(80), 2, 6),
    "silu": own(F.silu, lambda x: x * sigmoid(x), line(80), 3, 48),
    "swish": own(F.swish, lambda x, b: x * sigmoid(b * x), points(reals(8), reals(3)), 12, 48, floor=(0, 1), note=SATURATED),
    "normal_cdf": own(F.normal_cdf, normal_cdf, line(12), 288, 96, note=SQUARED),
    "gelu": own(F.gelu, lambda x: x * normal_cdf(x), line(12), 288, 288, note=SQUARED),
    "gelu_tanh": own(F.gelu_tanh, gelu_tanh, line(9), 128, 192, note=SQUARED),
    # Scores to probabilities
    "softmax": row(F.softmax, softmax, rows((6,), kinds=SCORES), 6, 3, floor=(0, 1), note=LIMIT),
    "log_softmax": row(F.log_softmax, lambda x: LOG(softmax(x)), rows((6,), kinds=SCORES), 2, 3),
    "logsumexp": row(F.logsumexp, lambda x: LOG(EXP(x).sum(axis=-1)), rows((6,), kinds=SCORES), 3, 4),
    # Losses
    "cross_entropy": row(
        lambda x: F.cross_entropy(x, TARGETS), cross_entropy, rows((1, 6), kinds=SCORES), 3, 3, floor=(1, 1), note=DECIDED
    ),
    "cross_entropy, smoothed": row(
        lambda x: F.cross_entropy(x, TARGETS, label_smoothing=0.125), lambda x: cross_entropy(x, 0.125), rows((1, 6), kinds=SCORES), 3, 32
    ),
    "binary_cross_entropy_with_logits": own(
        lambda x: F.binary_cross_entropy_with_logits(x, 0 * x + 1, reduction="none"), lambda x: mp.log1p(mp.exp(-x)), line(80), 2, 6
    ),
    "huber": own(
        lambda x: F.huber(x, np.zeros(x.shape, x.dtype), reduction="none"),
        lambda x: x * x / 2 if abs(x) <= 1 else abs(x) - HALF,
        line(1e6, near=(1, -1)),
        0.5,
        0.5,
    ),
    "kl_div": row(
        lambda x: F.kl_div(x, P.astype(x.dtype), reduction="none"),
        lambda x: np.array([p and mp.mpf(p) * (mp.log(mp.mpf(p)) - v) for p, v in zip(P, x)], object),
        rows((4,)),
        4,
        1.5,
    ),
    # Norms
    "layer_norm": row(F.layer_norm, lambda x: standardised(x, 1e-5), rows((6,), kinds=SPREAD), 2048, 128, note=CENTRED),
    "layer_norm, weight and bias": row(
        F.layer_norm, lambda x, w, b: standardised(x, 1e-5) * w + b, rows((6,), (6,), (6,), kinds=("normal", "small")), 6, 4
    ),
    "rms_norm": row(
        F.rms_norm, lambda x, w: x / SQRT((x * x).sum() / 6 + mp.mpf(1e-6)) * w, rows((6,), (6,), kinds=(*SPREAD, "large")), 3, 6
    ),
    "normalize": row(F.normalize, lambda x: x / length(x), rows((6,), kinds=(*SPREAD, "large")), 4, 4),
    "cosine_similarity": row(
        F.cosine_similarity,
        lambda a, b: (a * b).sum(axis=-1) / (length(a) * length(b))[0],
        rows((6,), (6,), kinds=("normal", "large")),
        4,
        6,
        floor=(1, 0),
        note=SUMMED,
    ),
    "np.linalg.norm": row(np.linalg.norm, lambda x: SQRT((x * x).sum()), rows((6,), kinds=(*SPREAD, "large")), 1.5, 4),
    "np.linalg.norm, ord 3": row(
        lambda x: np.linalg.norm(x, 3), lambda x: POWER((abs(x) ** 3).sum(), mp.mpf(1) / 3), rows((6,), kinds=(*SPREAD, "large")), 12, 24
    ),
    # Reductions and compositions
    "np.prod": row(np.prod, np.prod, rows((6,), kinds=("normal", "small", "large", "close")), 3, 4),
    "np.cumprod": row(np.cumprod, np.cumprod, rows((6,), kinds=("normal", "close")), 3, 2),
    "np.var": row(np.var, lambda x: ((x - x.sum() / 6) ** 2).sum() / 6, rows((6,), kinds=("normal", "small", "large")), 4, 3),
    "np.std": row(np.std, lambda x: SQRT(((x - x.sum() / 6) ** 2).sum() / 6), rows((6,), kinds=SPREAD), 1.5, 2048, note=CENTRED),
    "np.average": row(
        lambda x, w: np.average(x, weights=w * w + 1),
        lambda x, w: (x * (w * w + 1)).sum() / (w * w + 1).sum(),
        rows((6,), (6,)),
        2,
        4,
        floor=(1, 0),
        note=SUMMED,
    ),
    "np.corrcoef": row(np.corrcoef, corrcoef, rows((2, 6), kinds=("normal", "small", "large")), 1.5, 6),
    "np.quantile": row(lambda x: np.quantile(x, 0.3), lambda x: quantile(x, 0.3), rows((6,), kinds=SPREAD), None, 1.5),
    "np.interp": row(lambda x, fp: np.interp(x, XP.astype(x.dtype), fp), interp, rows((6,), (4,)), 4, 3),
    "np.logspace": row(
        lambda a, b: np.logspace(a, b, 4),
        lambda a, b: np.array([mp.mpf(10) ** (a + (b - a) * i / 3) for i in range(4)], object),
        rows((), ()),
        3,
        6,
    ),
    "np.geomspace": row(
        lambda a, b: np.geomspace(a, b * b + 1, 4),
        lambda a, b: np.array([a ** (mp.mpf(3 - i) / 3) * (b * b + 1) ** (mp.mpf(i) / 3) for i in range(4)], object),
        rows((), (), low=0.1),
        2,
        12,
    ),
    "np.polyval": row(np.polyval, lambda p, x: sum(c * x ** (3 - i) for i, c in enumerate(p)), rows((4,), (3,)), 3, 3),
    "np.trapezoid": row(
        np.trapezoid,
        lambda y, x: ((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / 2,
        rows((6,), (6,)),
        4,
        3,
        floor=(1, 0),
        note=SUMMED,
    ),
    # Attention
    "attention in blocks": row(
        blocked(False),
        lambda q, k, v: attention(q, k, v, False),
        rows((4, 3), (5, 3), (5, 2), kinds=("normal", "large")),
        12,
        128,
        floor=(0, 1),
        note=LOGITS,
    ),
    "attention in blocks, causal": row(blocked(True), lambda q, k, v: attention(q, k, v, True), rows((4, 3), (5, 3), (5, 2)), 6, 12),
}


# --- measuring ---------------------------------------------------------------------------------


def exact_numbers(x):
    """An array of floats as an object array of exact numbers."""
    out = np.empty(np.shape(x), object)
    out[...] = np.frompyfunc(lambda v: mp.mpf(float(v)), 1, 1)(x) if out.ndim else mp.mpf(float(x))
    return out


def unit(size, dtype):
    """The ULP of numbers as large as `size`: the distance to the next float."""
    return float(np.spacing(dtype(min(abs(float(size)), float(np.finfo(dtype).max) / 2))))


def off(got, exact, size):
    """How many ULP of `size` a float is off, 0 where the exact result overflows and so does the float."""
    if not math.isfinite(got):
        return 0.0 if abs(exact) > float(np.finfo(got.dtype).max) else math.inf
    return float(abs(mp.mpf(float(got)) - exact) / unit(size, got.dtype.type))


def slope(f, x):
    """f'(x) by a central difference, with digits to spare also for tiny x."""
    tiny = max(0, -int(mp.log10(abs(x)))) if x else 0
    with mp.workdps(DIGITS + 2 * tiny):
        h = (abs(x) or mp.one) * mp.mpf(10) ** -STEP
        return (f(x + h) - f(x - h)) / (2 * h)


def jacobian(f, inputs, k):
    """The derivative of the flat output of f by each element of inputs[k], (outputs, inputs)."""
    flat = inputs[k].reshape(-1)
    columns = []
    for i in range(flat.size):

        def along(v, i=i):
            moved = flat.copy()
            moved[i] = v
            y = f(*inputs[:k], moved.reshape(inputs[k].shape), *inputs[k + 1 :])
            return np.asarray(y, object).reshape(-1)

        columns.append(slope(along, flat[i]))
    return np.stack(columns, axis=1)


def measure(reference, dtype, seed=0):
    """The largest error of the value and of the gradients, in ULP, and the inputs and exact results where they occur."""
    from tinygrad_notes import Tensor
    from tinygrad_notes.check import pull

    rng = np.random.default_rng(seed)
    worst = [(0.0, None), (0.0, None)]

    def note(which, error, *where):
        if not error <= worst[which][0]:
            worst[which] = (error, where)

    drawn = reference.draw(rng)
    for call in [drawn] if reference.elementwise else drawn:
        inputs = [np.asarray(x, dtype) for x in call]
        variables = [Tensor(x) for x in inputs]
        with np.errstate(all="ignore"):
            y = reference.call(*variables)
            g = np.asarray(rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape), dtype)
            gradients = pull(variables, [y], [g])
        numbers = [exact_numbers(x) for x in inputs]
        if reference.elementwise:
            for i, (value, cotangent) in enumerate(zip(y.value, g)):
                at = [x[i] for x in numbers]
                e = reference.exact(*at)
                note(0, off(value, e, max(abs(e), reference.floor[0])), [x[i] for x in inputs], value, e)
                for k, gradient in enumerate(gradients):
                    e = mp.mpf(float(cotangent)) * slope(lambda v, at=at, k=k: reference.exact(*at[:k], v, *at[k + 1 :]), at[k])
                    note(1, off(gradient[i], e, max(abs(e), reference.floor[1])), k, [x[i] for x in inputs], gradient[i], e)
            continue
        exact = np.asarray(reference.exact(*numbers), object).reshape(-1)
        size = max(*(abs(e) for e in exact), mp.mpf(reference.floor[0]))
        for value, e in zip(np.ravel(y.value), exact):
            note(0, off(value, e, size), inputs, value, e)
        cotangents = exact_numbers(g).reshape(-1, 1)
        for k, gradient in enumerate(gradients):
            terms = jacobian(reference.exact, numbers, k) * cotangents
            size = max(*(abs(terms).sum(axis=0)), mp.mpf(reference.floor[1]))
            for value, e in zip(np.ravel(gradient), terms.sum(axis=0)):
                note(1, off(value, e, size), k, inputs, value, e)
    return worst
