"""Several hundred NumPy expressions as people write them, each on Tensors against the same on arrays.

Where test_registry.py goes through the table function by function, this file goes through spellings: positional,
keyword, method and operator forms, odd but legal arguments, and functions inside functions. A row is a lambda and,
for each of its arguments, a shape or a sampler `sampler(*shape)`; its source is its name. Each row is held to: the
value of NumPy; reverse and forward mode and second order against Richardson differences along random directions; the
same gradient when one argument alone is a Tensor; other memory layouts; float32 kept; arrays in, arrays out.
"""

import inspect
import math
import re
import subprocess
import sys
import zlib

from tests.ops.samples import draw
from tinygrad_notes import Tensor, at
from tinygrad_notes.binding import map_structure
from tinygrad_notes.check import derivative, floats, inner, pull, random_like
from tinygrad_notes.core import Variable
from tinygrad_notes.registry import plain
from tinygrad_notes.transforms import jvp

import numpy as np
import pytest
import scipy.special as sp

# --- where to sample --------------------------------------------------------------------------------


def between(low, high):
    return lambda *shape: ((low, high), shape)


def drawn(make):
    return lambda *shape: (lambda rng, shape: make(rng, shape), shape)


def well_conditioned(rng, shape):
    return rng.uniform(-0.5, 0.5, shape) + 2 * np.eye(*shape[-2:]) * np.linspace(0.7, 1.5, shape[-1])


def symmetric(rng, shape):
    x = well_conditioned(rng, shape)
    return (x + np.swapaxes(x, -1, -2)) / 2


def definite(rng, shape):
    x = well_conditioned(rng, shape)
    return x @ np.swapaxes(x, -1, -2) + 0.1 * np.eye(shape[-1])


def with_nan(rng, shape):
    x = rng.permutation(math.prod(shape)).reshape(shape) / math.prod(shape) + rng.uniform(0.5, 0.51, shape)
    x[..., 0] = np.where(np.arange(math.prod(shape[:-1])).reshape(shape[:-1]) % 2, x[..., 0], np.nan)
    return x


def increasing(rng, shape):
    return np.cumsum(rng.uniform(0.5, 1.0, shape), -1)


pos, unit, inside, big = between(0.5, 2.0), between(0.1, 0.9), between(-0.9, 0.9), between(1.2, 3.0)
well, sym, spd, nan, inc = map(drawn, (well_conditioned, symmetric, definite, with_nan, increasing))

M23 = np.array([[True, False, True], [False, True, True]])
I5 = np.array([3, 0, 4, 1, 1])
W4 = np.array([0.5, 1.0, 2.0, 1.5])
C23 = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def set_row(x, v):
    y = [*x]
    y[1] = v
    return np.stack(y)


# --- programs, as people write them ---------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def runge_kutta(f, y, h=0.1, n=3):
    for _ in range(n):
        k1 = f(y)
        k2 = f(y + h / 2 * k1)
        k3 = f(y + h / 2 * k2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(y + h * k3))
    return y


def gram_schmidt(a):
    q = []
    for v in a.T:
        for u in q:
            v = v - np.dot(u, v) * u
        q.append(v / np.linalg.norm(v))
    return np.column_stack(q)


def kalman(x, P, z):
    H = np.array([[1.0, 0.0]], x.dtype)
    K = P @ H.T @ np.linalg.inv(H @ P @ H.T + 0.5)
    return x + K @ (z - H @ x), (np.eye(2, dtype=x.dtype) - K @ H) @ P


def lstm(x, h, c, W):
    i, f, o, u = np.split(np.concatenate([x, h]) @ W, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
    return sigmoid(o) * np.tanh(c), c


def gaussian_process(x, y, width):
    K = np.exp(-0.5 * (x[:, None] - x[None, :]) ** 2 / width**2) + 0.5 * np.eye(len(x))
    L = np.linalg.cholesky(K)
    return 0.5 * y @ np.linalg.solve(L.T, np.linalg.solve(L, y)) + np.log(np.diag(L)).sum()


def viterbi(emissions, transitions):
    best = emissions[0]
    for row in emissions[1:]:
        best = np.max(best[:, None] + transitions, axis=0) + row
    return best.max()


def forward_algorithm(emissions, transitions):
    total = emissions[0]
    for row in emissions[1:]:
        total = np.logaddexp.reduce(total[:, None] + transitions, axis=0) + row
    return np.logaddexp.reduce(total)


def sinkhorn(cost):
    K = np.exp(-cost)
    u = np.ones(len(cost), cost.dtype)
    for _ in range(3):
        v = 1 / (K.T @ u)
        u = 1 / (K @ v)
    return (u[:, None] * K * v * cost).sum()


def bilinear(image, places):
    i, j = np.floor(places).astype(int).T
    f, g = places[:, 0] - i, places[:, 1] - j
    return image[i, j] * (1 - f) * (1 - g) + image[i + 1, j] * f * (1 - g) + image[i, j + 1] * (1 - f) * g + image[i + 1, j + 1] * f * g


def whiten(x):
    w, v = np.linalg.eigh(np.cov(x.T))
    return (x - x.mean(0)) @ v @ np.diag(1 / np.sqrt(w)) @ v.T


def smooth(x, a):
    out = [x[0]]
    for v in x[1:]:
        out.append(a * v + (1 - a) * out[-1])
    return np.stack(out)


def overlap(a, b):
    size = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return size / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - size)


def mean_by_group(x, groups, n):
    count = np.maximum(np.bincount(groups, minlength=n), 1)[:, None].astype(x.dtype)
    return at(np.zeros((n, x.shape[1]), x.dtype))[groups].add(x) / count


def black_scholes(s, v, k=1.1, t=0.5):
    d = (np.log(s / k) + 0.5 * v**2 * t) / (v * math.sqrt(t))
    return s * sp.ndtr(d) - k * sp.ndtr(d - v * math.sqrt(t))


# fmt: off
EXPRESSIONS = [
    # --- arithmetic and operators
    (lambda x, y: x + y, (3, 4), (4,)),
    (lambda x: 1 - x, (3,)),
    (lambda x: 2.5 * x - x / 3 + 1, (2, 3)),
    (lambda x, y: x / y, (2, 3), pos(3)),
    (lambda x: 1 / x, pos(3)),
    (lambda x: x**2 + x**3 - x**0, (3,)),
    (lambda x: x**-1, pos(3)),
    (lambda x: x**0.5, pos(3)),
    (lambda x, y: x**y, pos(3), (2, 3)),
    (lambda x: 2**x, (3,)),
    (lambda x: 2.0**x + np.e**x, (3,)),
    (lambda x: np.float32(2) ** x, (3,)),
    (lambda x: x % 0.7, pos(3)),
    (lambda x: 3 % x, between(1.1, 1.4)(3)),
    (lambda x: divmod(x, 0.3)[1], between(0.65, 0.85)(3)),
    (lambda x: divmod(x, 0.3), between(0.65, 0.85)(3)),
    (lambda x: -x + +x - abs(x), (3,)),
    (lambda x: x + [1, 2, 3], (2, 3)),
    (lambda x: [1.0, 2.0, 3.0] * x, (3,)),
    (lambda x: (1.0, 2.0, 3.0) - x, (3,)),
    (lambda x: x * np.array([1, 0, 2]), (2, 3)),
    (lambda x: np.arange(3) / x, pos(3)),
    (lambda x: x * True + np.bool_(True) * x, (3,)),
    (lambda x: x * np.array([True, False, True]), (3,)),
    (lambda x: np.float64(2.0) * x, (3,)),
    (lambda x: np.int64(3) - x, (3,)),
    (lambda x: C23 * x, (3,)),
    (lambda x: x * x * x, ()),
    (lambda x, y: x * y, (2, 1, 3), (4, 1)),
    (lambda x, y: x - y, (0, 3), (3,)),
    (lambda x, y: x @ y, (2, 3), (3, 2)),
    (lambda x, y: x @ y, (3,), (3,)),
    (lambda x, y: x @ y, (5, 2, 3), (3,)),
    (lambda x, y: x @ y, (2,), (5, 2, 3)),
    (lambda x, y: x @ y, (4, 1, 2, 3), (5, 3, 2)),
    (lambda x, y: x @ y, (2, 0), (0, 3)),
    (lambda x: C23 @ x, (3, 2)),
    (lambda x: [[1.0, 2.0], [3.0, 4.0]] @ x, (2, 3)),
    (lambda x: sum(x), (3, 2)),
    (lambda x: sum(x[i] * i for i in range(len(x))), (3, 2)),
    (lambda x: max(x, key=float) if isinstance(x, np.ndarray) else max(x), (3,)),
    (lambda x: sorted(x)[1] * x, (3,)),
    (lambda x: x.T @ x, (3, 2)),
    (lambda x: np.multiply(x, 2) + np.subtract(1, x) + np.add(x, x), (3,)),
    (lambda x: np.divide(x, 2) + np.true_divide(3, x), pos(3)),
    (lambda x: np.power(x, 3) + np.power(x, [1, 2, 3]), (3,)),
    (lambda x: np.power(2, x) + np.float_power(x, 1.5), pos(3)),
    (lambda x: np.pow(x, 2), (3,)),
    (lambda x: np.negative(x) + np.positive(x) + np.reciprocal(x), pos(3)),
    (lambda x: np.square(x, dtype=x.dtype), (3,)),
    (lambda x: np.add(x, 1, dtype=np.float64), (3,)),
    (lambda x: np.matmul(x, x, dtype=np.float64), (2, 2)),
    (lambda x: np.exp(x, dtype=np.float64), (3,)),
    (lambda x: np.vecdot(x, x * 2), (2, 3)),
    (lambda x, y: np.vecdot(x, y, axis=0), (3, 2), (3, 2)),
    (lambda x, y: np.matvec(x, y), (2, 3), (4, 1, 3)),
    (lambda x, y: np.vecmat(x, y), (2,), (4, 2, 3)),
    # --- elementwise functions
    (lambda x: np.exp(x) + np.expm1(x) + np.exp2(x), (3,)),
    (lambda x: np.log(x) + np.log2(x) + np.log10(x) + np.log1p(x), pos(3)),
    (lambda x: np.sin(x) * np.cos(x) - np.tan(x / 4), (3,)),
    (lambda x: np.arcsin(x) + np.arccos(x) * np.arctan(x), inside(3)),
    (lambda x: np.asin(x) + np.acos(x) * np.atan(x) + np.asinh(x) + np.atanh(x), inside(3)),
    (lambda x: np.acosh(x) * np.arccosh(x), big(3)),
    (lambda x: np.sinh(x) + np.cosh(x) * np.tanh(x), (3,)),
    (lambda x: np.arcsinh(x) - np.arctanh(x / 3), (3,)),
    (lambda x: np.sqrt(x) + np.cbrt(x), pos(3)),
    (lambda x: np.abs(x) + np.fabs(x) + np.absolute(x) * x, (2, 3)),
    (lambda x: np.deg2rad(x) + np.rad2deg(x) + np.degrees(x) * np.radians(x), (3,)),
    (lambda x: np.sinc(x), (2, 3)),
    (lambda x: np.sinc(x * 0), (2,)),
    (lambda x: np.i0(x), (3,)),
    (lambda x, y: np.hypot(x, y), (2, 1), (3,)),
    (lambda x: np.hypot(x, 3) + np.hypot(4.0, x), (3,)),
    (lambda x, y: np.arctan2(x, y), (2, 1), (3,)),
    (lambda x, y: np.atan2(x, y), (3,), (3,)),
    (lambda x: np.arctan2(x, 1) + np.arctan2([1, -1, 2], x), (3,)),
    (lambda x, y: np.logaddexp(x, y) + np.logaddexp2(x, y), (2, 1), (3,)),
    (lambda x: np.logaddexp(0, x) - np.logaddexp(0, -x), (3,)),
    (lambda x, y: np.copysign(x, y), (3,), (2, 3)),
    (lambda x: np.copysign(x, -1), (3,)),
    (lambda x, y: np.fmod(x, y), big(3), between(0.8, 1.1)(3)),
    (lambda x, y: np.remainder(-x, y), between(2.1, 2.9)(3), between(0.85, 1.0)(3)),
    (lambda x, y: np.mod(x, y), between(2.1, 2.9)(2, 3), between(0.85, 1.0)(3)),
    (lambda x: np.fmod(x, 2) + np.fmod(-x, 2), between(0.2, 1.8)(3)),
    (lambda x: np.modf(x), between(1.1, 1.9)(3)),
    (lambda x: np.modf(-x)[0], between(1.1, 1.9)(3)),
    (lambda x: np.frexp(x), between(1.1, 1.9)(3)),
    (lambda x: np.ldexp(x, 3) + np.ldexp(x, [1, 2, 3]), (3,)),
    (lambda x: np.ldexp(*np.frexp(x)), between(1.1, 1.9)(3)),
    (lambda x, y: np.maximum(x, y) * np.minimum(x, y), (2, 3), (3,)),
    (lambda x: np.maximum(0, x) + np.minimum(x, 0.5), (2, 3)),
    (lambda x: np.fmax(x, 0.1) + np.fmin(0.1, x), nan(2, 3)),
    (lambda x: np.clip(x, -1, 1), (3, 4)),
    (lambda x: np.clip(x, None, 1) + x.clip(-0.5) + x.clip(max=0.5), (3, 4)),
    (lambda x: np.clip(a_max=1, a=x, a_min=-1), (3, 4)),
    (lambda x: x.clip(-0.5, 0.5) + x.clip(min=0), (3, 4)),
    (lambda x, low, high: np.clip(x, low, high), (3, 4), (4,), big(3, 1)),
    (lambda x: np.clip(C23, x, 2.0), (3,)),
    (lambda x: np.clip(0.3, x, 2.0), (3,)),
    (lambda x: np.nan_to_num(x) + np.nan_to_num(x, nan=2.0), nan(2, 3)),
    (lambda x: np.where(np.isnan(x), 0, x), nan(2, 3)),
    (lambda x: np.heaviside(x, 0.5) * x, (3,)),
    (lambda x: np.sign(x) * x, (3,)),
    (lambda x: x - np.floor(x) + np.ceil(x) * np.trunc(x) - np.rint(x), (3,)),
    (lambda x: np.round(x, 1) * x + x.round(2) * x + round(1.26, 1) * x, (3,)),
    (lambda x: x // 1 * x, (3,)),
    (lambda x: np.where(x > 0, x, 0.1 * x), (2, 3)),
    (lambda x: np.where(x > 0, x, np.expm1(x)), (2, 3)),
    (lambda x, y: np.where(M23, x, y), (2, 3), (3,)),
    (lambda x, y: np.where([True, False, True], x, y), (2, 1), ()),
    (lambda x: np.where(M23, x, np.inf)[M23], (2, 3)),
    (lambda x: np.where(M23, C23, x), ()),
    (lambda x, y: np.where(x > y, x, y), (2, 3), (3,)),
    (lambda x: (x > 0) * x + (x <= 0) * x**2, (2, 3)),
    (lambda x: np.select([x > 1, x > 0], [x**2, np.sin(x)], 3 * x), (2, 3)),
    (lambda x: np.select([x > 1, x > 0], [x**2, 0]), (2, 3)),
    (lambda x: np.select(condlist=[M23], choicelist=[x], default=-1), (2, 3)),
    (lambda x, y: np.choose([0, 1, 1], [x, y]), (3,), (3,)),
    (lambda x, y: np.choose([[0, 3], [-1, 1]], (x, y), mode="wrap"), (2,), (2, 2)),
    (lambda x: np.choose([2, 0, 1], x), (3, 3)),
    (lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda v: -v, lambda v: v**2]), (5,)),
    (lambda x: np.piecewise(x, [x < -1, x > 1], [-1, 1, lambda v: np.sin(v)]), (7,)),
    (lambda x: np.real(x) + np.conj(x) + x.real + x.conj() + np.real_if_close(x), (3,)),
    (lambda x: np.spacing(x) * x + np.nextafter(x, 10.0), (3,)),
    (lambda x: np.unwrap(x * 4), (5,)),
    (lambda x: np.unwrap(x * 4, axis=0, period=3.0), (4, 2)),
    (lambda x: np.emath.sqrt(x) + np.emath.log(x) * np.emath.power(x, 2), pos(3)),
    (lambda x: np.emath.logn(2, x) + np.emath.log2(x) + np.emath.log10(x), pos(3)),
    (lambda x: np.emath.arcsin(x) + np.emath.arccos(x) + np.emath.arctanh(x), inside(3)),
    # --- reductions
    (lambda x: np.sum(x) + x.sum(), (2, 3)),
    (lambda x: np.sum(x, 0), (2, 3)),
    (lambda x: np.sum(x, (0, -1), keepdims=True), (2, 3, 4)),
    (lambda x: x.sum(axis=(1, 0)), (2, 3, 4)),
    (lambda x: x.sum(-1, keepdims=True), (2, 3)),
    (lambda x: np.sum(x, axis=()), (2, 3)),
    (lambda x: np.sum(x, where=M23), (2, 3)),
    (lambda x: np.sum(x, where=[True, False, True], axis=1, initial=2.0), (2, 3)),
    (lambda x: np.sum(x, None, np.float64, None, True), (2, 3)),
    (lambda x: np.sum(keepdims=True, a=x, axis=0), (2, 3)),
    (lambda x: np.sum(x, dtype=np.float64), (2, 3)),
    (lambda x: x.sum(dtype=np.float64), (2, 3)),
    (lambda x: np.sum(x), ()),
    (lambda x: np.sum(x), (0, 3)),
    (lambda x: np.sum(x, axis=0), (0, 3)),
    (lambda x: np.sum(x, np.int64(1)), (2, 3)),
    (lambda x: np.mean(x), (2, 3)),
    (lambda x: x.mean(0), (2, 3)),
    (lambda x: x.mean((0, 2), keepdims=True), (2, 3, 4)),
    (lambda x: np.mean(x, axis=-1, where=M23), (2, 3)),
    (lambda x: np.var(x) + np.std(x), (2, 3)),
    (lambda x: np.var(x, 0, ddof=1) + x.std(axis=0, ddof=1), (3, 2)),
    (lambda x: np.std(x, axis=(0, 2), keepdims=True), (2, 3, 4)),
    (lambda x: x.var(-1, keepdims=True) + x.std(1, keepdims=True), (2, 3)),
    (lambda x: np.var(x, axis=1, where=M23), (2, 3)),
    (lambda x: np.var(x, mean=np.mean(x, axis=0, keepdims=True), axis=0), (3, 2)),
    (lambda x: np.std(x, correction=1), (5,)),
    (lambda x: np.prod(x), (2, 3)),
    (lambda x: np.prod(x, -1, keepdims=True), (2, 3)),
    (lambda x: x.prod(axis=0), (2, 3)),
    (lambda x: np.prod(x, (0, 2), initial=3), (2, 3, 2)),
    (lambda x: np.prod(x * [0, 1, 2]), (3,)),
    (lambda x: np.prod(x, where=M23, axis=0), (2, 3)),
    (lambda x: np.max(x) + np.min(x), (2, 3)),
    (lambda x: np.max(x, axis=0) - x.min(axis=0), (2, 3)),
    (lambda x: x.max((0, 1), keepdims=True), (2, 3, 2)),
    (lambda x: np.amax(x, 1) + np.amin(x, 1), (2, 3)),
    (lambda x: np.max(x, initial=0.5, axis=-1), (2, 3)),
    (lambda x: np.min(x, where=M23, initial=9, axis=0), (2, 3)),
    (lambda x: np.ptp(x) + np.ptp(x, axis=0), (3, 2)),
    (lambda x: np.ptp(x, -1, None, True), (3, 2)),
    (lambda x: np.average(x), (2, 3)),
    (lambda x, w: np.average(x, weights=w), pos(2, 3), pos(2, 3)),
    (lambda x, w: np.average(x, 1, w), pos(2, 3), pos(3)),
    (lambda x: np.average(x, axis=0, weights=[1, 3], returned=True), (2, 3)),
    (lambda x: np.average(x, axis=-1, returned=True), (2, 3)),
    (lambda w: np.average(C23, weights=w, axis=1), pos(2, 3)),
    (lambda x: np.median(x), (5,)),
    (lambda x: np.median(x), (2, 3)),
    (lambda x: np.median(x, axis=(0, 1), keepdims=True), (2, 3, 2)),
    (lambda x: np.median(x, 1) + np.median(x, axis=-1), (2, 4)),
    (lambda x: np.percentile(x, 30), (7,)),
    (lambda x: np.percentile(x, [25, 50, 75], axis=0), (5, 2)),
    (lambda x: np.percentile(x, q=[[10, 90]], axis=-1, keepdims=True), (2, 5)),
    (lambda x: np.quantile(x, 0.3, axis=1), (2, 5)),
    (lambda x: np.quantile(x, (0.25, 0.75)), (2, 3)),
    (lambda x: np.quantile(x, 0.5, method="nearest", keepdims=True), (4,)),
    (lambda x: np.quantile(x, np.array(0.4), axis=(0, 1)), (2, 3, 2)),
    (lambda x: np.quantile(x, 0.45, weights=W4, method="inverted_cdf"), (4,)),
    (lambda x: np.subtract(*np.percentile(x, [75, 25])), (7,)),
    *[(lambda x, m=m: np.percentile(x, 35, method=m), (8,)) for m in ("inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest")],
    *[(lambda x, m=m: np.nanquantile(x, [0.2, 0.8], axis=1, method=m), nan(3, 6)) for m in ("hazen", "weibull", "linear", "median_unbiased", "lower", "higher", "midpoint", "nearest")],
    (lambda x: np.nansum(x) + np.nanmean(x), nan(2, 3)),
    (lambda x: np.nansum(x, axis=0) + np.nanprod(x, axis=0), nan(3, 2)),
    (lambda x: np.nanmean(x, axis=1, keepdims=True) - x[:, 1:], nan(2, 4)),
    (lambda x: np.nanmax(x, axis=0) - np.nanmin(x, axis=0), nan(3, 2)),
    (lambda x: np.nanvar(x, axis=1, ddof=1) + np.nanstd(x, 1), nan(2, 4)),
    (lambda x: np.nanmedian(x, axis=1) + np.nanmedian(x), nan(2, 4)),
    (lambda x: np.nanpercentile(x, 40) + np.nanpercentile(x, 60, axis=-1), nan(2, 4)),
    (lambda x: np.nancumsum(x) * np.nancumprod(x), nan(2, 3)),
    (lambda x: np.nancumsum(x, axis=-1), nan(2, 3)),
    (lambda x: np.nan_to_num(x - np.nanmean(x)), nan(2, 3)),
    (lambda x: np.cumsum(x) + x.cumsum(), (2, 3)),
    (lambda x: np.cumsum(x, axis=0) + x.cumsum(-2), (2, 3)),
    (lambda x: np.cumprod(x, 1) + x.cumprod(axis=-1), (2, 3)),
    (lambda x: np.cumprod(x), (2, 3)),
    (lambda x: np.cumsum(x[::-1])[::-1], (4,)),
    (lambda x: np.cumulative_sum(x, include_initial=True) * 2, (4,)),
    (lambda x: np.cumulative_prod(x, axis=1, include_initial=True), (2, 3)),
    (lambda x: np.diff(x), (2, 4)),
    (lambda x: np.diff(x, 2, 0), (4, 2)),
    (lambda x: np.diff(x, n=2, axis=-1, prepend=0), (2, 4)),
    (lambda x, y: np.diff(x, prepend=y, append=[[1.0], [2.0]]), (2, 4), (2, 1)),
    (lambda x: np.ediff1d(x), (2, 3)),
    (lambda x: np.ediff1d(x, to_begin=0, to_end=[1, 2]), (4,)),
    (lambda x: np.gradient(x), (5,)),
    (lambda x: np.gradient(x, 0.5), (5,)),
    (lambda x: np.gradient(x), (3, 4)),
    (lambda x: np.gradient(x, axis=0), (3, 4)),
    (lambda x: np.gradient(x, 2.0, [0.0, 1.0, 3.0, 4.0]), (3, 4)),
    (lambda x: np.gradient(x, 1.0, edge_order=2, axis=-1), (3, 4)),
    (lambda y, x: np.gradient(y, x), (5,), inc(5)),
    (lambda y, x: np.gradient(y, x, edge_order=2), (5,), inc(5)),
    (lambda y: np.trapezoid(y), (2, 4)),
    (lambda y, x: np.trapezoid(y, x), (4,), inc(4)),
    (lambda y, x: np.trapezoid(y, x=x, axis=0), (4, 2), inc(4)),
    (lambda y: np.trapezoid(y, dx=0.5, axis=-2), (4, 2)),
    (lambda y, x: np.trapezoid(y, x, axis=1), (2, 4), (2, 4)),
    (lambda x, fp: np.interp(x, [0.0, 1.0, 2.0], fp), between(0.1, 1.9)(4), (3,)),
    (lambda x, xp, fp: np.interp(x, xp, fp), between(-1.0, 5.0)(5), inc(4), (4,)),
    (lambda x: np.interp(0.3, x, [1.0, 3.0, 2.0]), drawn(lambda rng, s: np.array([0.0, 0.5, 1.0]))(3)),
    (lambda x, fp: np.interp(x, [0.0, 1.0, 2.0], fp, left=-1, right=0), (4,), (3,)),
    (lambda x, fp: np.interp(x, [0, 90, 180], fp, period=360), (4,), (3,)),
    # --- ufunc methods
    (lambda x: np.add.reduce(x) + np.add.reduce(x, axis=0), (2, 3)),
    (lambda x: np.add.reduce(x, axis=(0, 1), keepdims=True), (2, 3)),
    (lambda x: np.multiply.reduce(x, 1), (2, 3)),
    (lambda x: np.minimum.reduce(x, axis=None), (2, 3)),
    (lambda x: np.add.accumulate(x, 1), (2, 3)),
    (lambda x: np.multiply.accumulate(x), (3, 2)),
    (lambda x: np.maximum.accumulate(x), (5,)),
    (lambda x: np.minimum.accumulate(x, axis=1), (2, 4)),
    (lambda x: np.subtract.reduce(x) + np.divide.reduce(x), pos(3)),
    (lambda x: np.subtract.accumulate(x, axis=-1), (2, 3)),
    (lambda x: np.logaddexp.reduce(x, axis=1), (2, 3)),
    (lambda x: np.logaddexp.reduce(x), (2, 3)),
    (lambda x: np.logaddexp.accumulate(x, axis=-1), (2, 3)),
    (lambda x: np.hypot.reduce(x), pos(3, 2)),
    (lambda x, y: np.add.outer(x, y) * np.multiply.outer(x, y), (2,), (3,)),
    (lambda x: np.subtract.outer(x, x), (2, 2)),
    (lambda x: np.maximum.outer(x, [0.1, 0.2]), (3,)),
    (lambda x: np.add.reduceat(x, [0, 2, 3]), (5,)),
    (lambda x: np.add.reduceat(x, [0, 1], axis=1), (2, 3)),
    (lambda x: np.power.outer(x, np.arange(3)), pos(2)),
    # --- shapes
    (lambda x: x.reshape(3, 2), (2, 3)),
    (lambda x: x.reshape((3, -1)), (2, 3)),
    (lambda x: x.reshape([6]), (2, 3)),
    (lambda x: x.reshape(-1, order="F"), (2, 3)),
    (lambda x: np.reshape(x, (3, 2), order="F"), (2, 3)),
    (lambda x: np.reshape(x, -1, "A"), (2, 3)),
    (lambda x: x.ravel() + x.flatten(), (2, 3)),
    (lambda x: x.flatten("F") + np.ravel(x, order="F"), (2, 3)),
    (lambda x: x.T + x.transpose(1, 0), (2, 3)),
    (lambda x: x.transpose((2, 0, 1)), (2, 3, 4)),
    (lambda x: x.transpose(-1, 0, 1).swapaxes(0, 1), (2, 3, 4)),
    (lambda x: x.transpose(None) + np.transpose(x), (2, 3, 4)),
    (lambda x: np.permute_dims(x, (1, 0)), (2, 3)),
    (lambda x: np.matrix_transpose(x) + x.mT, (2, 3, 4)),
    (lambda x: np.linalg.matrix_transpose(x), (2, 3, 4)),
    (lambda x: np.moveaxis(x, [0, 1], [-1, 0]), (2, 3, 4)),
    (lambda x: np.moveaxis(x, 0, -1).reshape(-1, 2)[::2], (2, 3, 4)),
    (lambda x: np.rollaxis(x, 2) + np.rollaxis(x, -1, 0), (2, 3, 4)),
    (lambda x: np.expand_dims(x, 0) + np.expand_dims(x, (0,)), (3,)),
    (lambda x: np.expand_dims(x, axis=(0, -1)), (3, 2)),
    (lambda x: np.squeeze(x) + x.squeeze((0, 2)), (1, 3, 1)),
    (lambda x: x.squeeze(axis=-1).squeeze(0), (1, 3, 1)),
    (lambda x: np.broadcast_to(x, (2, 3)), (3,)),
    (lambda x: np.broadcast_to(x, 4), ()),
    (lambda x, y: np.broadcast_arrays(x, y), (2, 1), (3,)),
    (lambda x, y: np.meshgrid(x, y), (2,), (3,)),
    (lambda x, y: np.meshgrid(x, y, [1.0, 2.0], indexing="ij", sparse=True), (2,), (3,)),
    (lambda x: np.hypot(*np.meshgrid(x, np.arange(3))), pos(2)),
    (lambda x: np.atleast_1d(x), ()),
    (lambda x, y: np.atleast_2d(x, y), (3,), ()),
    (lambda x: np.atleast_3d(x), (2, 3)),
    (lambda x: np.atleast_1d(x, 2.0), ()),
    (lambda x: np.tile(x, 2) + np.tile(x, (1, 2)), (2, 3)),
    (lambda x: np.tile(x, (2, 1, 3)), (3,)),
    (lambda x: np.tile(x, [2, 2]), (2, 3)),
    (lambda x: np.repeat(x, 2), (2, 3)),
    (lambda x: x.repeat(2, axis=0) + np.repeat(x, repeats=[1, 3], axis=0), (2, 3)),
    (lambda x: np.repeat(x, [2, 0, 1], axis=-1), (2, 3)),
    (lambda x: np.resize(x, (3, 3)), (2, 2)),
    (lambda x: np.flip(x) + np.flip(x, 0) + np.flipud(x) + np.fliplr(x), (2, 3)),
    (lambda x: np.flip(x, axis=(0, -1)), (2, 3, 2)),
    (lambda x: np.roll(x, 1) + np.roll(x, -1, 1) + np.roll(x, (1, 2), axis=(0, 1)), (2, 3)),
    (lambda x: np.rot90(x) + np.rot90(x, k=-1).copy(), (3, 3)),
    (lambda x: np.rot90(x, 2, (1, 2)), (2, 3, 2)),
    (lambda x, y: np.concatenate([x, y]), (2, 3), (1, 3)),
    (lambda x, y: np.concatenate((x, y), -1), (2, 3), (2, 1)),
    (lambda x, y: np.concatenate([x, y, C23], axis=None), (2, 3), (2,)),
    (lambda x: np.concatenate([x, [1.0, 2.0]]), (3,)),
    (lambda x: np.concat([x, x * 2], axis=1), (2, 3)),
    (lambda x: np.concatenate(x), (2, 3)),
    (lambda x, y: np.stack([x, y], axis=-1), (2, 3), (2, 3)),
    (lambda x: np.stack([x, C23], 1), (2, 3)),
    (lambda x: np.stack((x[0], x[1] * 2, 3.0)), (2,)),
    (lambda x, y: np.vstack([x, y]), (3,), (2, 3)),
    (lambda x, y: np.hstack((x, y)), (2, 3), (2, 1)),
    (lambda x: np.hstack([x, 1.0, [2.0]]), (3,)),
    (lambda x, y: np.dstack([x, y]), (2, 3), (2, 3)),
    (lambda x, y: np.column_stack([x, y]), (3,), (3, 2)),
    (lambda x: np.column_stack((np.ones(3), x, x**2)), (3,)),
    (lambda x, y: np.append(x, y), (2, 3), (2,)),
    (lambda x: np.append(x, [[1.0, 2.0, 3.0]], axis=0), (2, 3)),
    (lambda x: np.append(x, 1.0), (3,)),
    (lambda x, y: np.block([[x, np.zeros((2, 1))], [np.ones((1, 2)), y]]), (2, 2), (1, 1)),
    (lambda x: np.block([x, x * 2]), (3,)),
    (lambda x: np.split(x, 3), (6, 2)),
    (lambda x: np.split(x, [1, 4], axis=1)[1], (2, 6)),
    (lambda x: np.split(x, np.array([2, 3])), (5,)),
    (lambda x: [p * i for i, p in enumerate(np.split(x, 2, -1))], (2, 6)),
    (lambda x: np.array_split(x, 3), (5, 2)),
    (lambda x: np.array_split(x, 2, axis=1)[0], (2, 5)),
    (lambda x: np.hsplit(x, 2)[0] * np.vsplit(np.ones((2, 2)), 2)[0], (2, 4)),
    (lambda x: np.vsplit(x, [1])[1] + np.hsplit(x, [3])[0][1], (2, 3)),
    (lambda x: np.dsplit(x, 2), (2, 3, 4)),
    (lambda x: np.unstack(x) if hasattr(np, "unstack") else list(x), (3, 2)),
    (lambda x: np.unstack(x, axis=-1) if hasattr(np, "unstack") else tuple(np.moveaxis(x, -1, 0)), (3, 2)),
    (lambda x: np.insert(x, 1, 5.0), (3,)),
    (lambda x, v: np.insert(x, [0, 2], v), (4,), (2,)),
    (lambda x, v: np.insert(x, 1, v, axis=1), (2, 3), (2,)),
    (lambda x, v: np.insert(x, slice(0, 2), v, axis=0), (3, 2), (2,)),
    (lambda x: np.insert(x, -1, [1.0, 2.0, 3.0], axis=0), (2, 3)),
    (lambda x: np.delete(x, 1), (4,)),
    (lambda x: np.delete(x, [0, -1], axis=1), (2, 4)),
    (lambda x: np.delete(x, slice(None, None, 2), 0), (5, 2)),
    (lambda x: np.delete(x, [True, False, True]), (3,)),
    (lambda x: np.trim_zeros(np.concatenate([[0.0], x, [0.0, 0.0]])), (3,)),
    (lambda x: np.trim_zeros(x * [0, 1, 0], trim="f"), (3,)),
    (lambda x: np.diag(x) + np.diag(x, 0), (3,)),
    (lambda x: np.diag(x, k=-1), (2,)),
    (lambda x: np.diag(x, 1) + np.diagonal(x, 1) + x.diagonal(offset=1), (2, 3)),
    (lambda x: x.diagonal(0, 1, 2) + np.diagonal(x, axis1=-2, axis2=-1), (2, 3, 3)),
    (lambda x: np.linalg.diagonal(x, offset=1), (2, 3, 3)),
    (lambda x: np.diagflat(x, 1), (2, 2)),
    (lambda x: np.trace(x) + x.trace(), (3, 3)),
    (lambda x: np.trace(x, 1, 1, 2) + x.trace(offset=1, axis1=1, axis2=2), (2, 3, 3)),
    (lambda x: np.linalg.trace(x, offset=-1), (2, 3, 3)),
    (lambda x: np.tril(x) + np.triu(x, 1), (3, 3)),
    (lambda x: np.tril(x, k=-1) @ np.triu(x), (2, 3, 3)),
    (lambda x: np.vander(x) + np.vander(x, increasing=True), pos(3)),
    (lambda x: np.vander(x, 2), (3,)),
    (lambda x: np.linspace(x, 5.0, 4), ()),
    (lambda x, y: np.linspace(x, y, num=3, endpoint=False, axis=1), (2,), (2,)),
    (lambda x, y: np.linspace(x, y, 5, retstep=True), (), ()),
    (lambda x: np.logspace(0.0, x, 4) + np.logspace(x, 2, num=4, base=2), ()),
    (lambda x: np.geomspace(x, 8.0, 3), pos(2)),
    (lambda x: np.copy(x) + x.copy() + np.copy(x, order="K"), (2, 3)),
    (lambda x: x.astype(np.float64) + x.astype("float64") + x.astype(float), (2, 3)),
    (lambda x: np.astype(x, np.float64), (2, 3)),
    (lambda x: np.zeros_like(x) + np.ones_like(x) * x + np.full_like(x, 2.0), (2, 3)),
    (lambda x: np.fft.fftshift(x) + np.fft.ifftshift(x, axes=0), (4, 3)),
    (lambda x: np.lib.stride_tricks.sliding_window_view(x, 3) @ W4[:3], (6,)),
    (lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 2)).mean(axis=(-1, -2)), (4, 3)),
    (lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1)[:, ::2], (2, 5)),
    (lambda x: np.lib.stride_tricks.broadcast_to(x, (2, 3)) if hasattr(np.lib.stride_tricks, "broadcast_to") else np.broadcast_to(x, (2, 3)), (3,)),
    (lambda x: x.reshape(2, 2, 3).transpose(1, 0, 2).reshape(2, -1)[:, None, ::-1], (4, 3)),
    (lambda x: x[None].swapaxes(0, -1).squeeze().T.copy().ravel()[1:-1:2], (3, 4)),
    # --- indexing
    (lambda x: x[1] + x[-1], (3, 2)),
    (lambda x: x[np.int64(1), 0], (3, 2)),
    (lambda x: x[1:3, ::-1] * x[::2], (4, 3)),
    (lambda x: x[..., 0] + x[:, -1, None][:, 0], (2, 3)),
    (lambda x: x[None, :, np.newaxis, ..., 1], (2, 3)),
    (lambda x: x[[0, 2, 2]], (3, 2)),
    (lambda x: x[(0, 1)] + x[0][1], (2, 3)),
    (lambda x: x[[0, 1], [2, 0]], (2, 3)),
    (lambda x: x[:, [2, 0, 0]], (2, 3)),
    (lambda x: x[[[0, 1], [1, 1]], :, [2, 0]], (2, 2, 3)),
    (lambda x: x[0, :, [1, 2]], (2, 2, 3)),
    (lambda x: x[np.ix_([0, 2], [1, 0, 1])], (3, 2)),
    (lambda x: x[np.ix_([True, False, True], [1])], (3, 2)),
    (lambda x: x[x > 0], (3, 4)),
    (lambda x: x[M23], (2, 3)),
    (lambda x: x[M23[:, 0]], (2, 3)),
    (lambda x: x[:, M23[0]] + x[0, M23[1]], (2, 3)),
    (lambda x: x[np.array([True, False]), 1:], (2, 3)),
    (lambda x: x[[True, False, True]], (3,)),
    (lambda x: x[True] + x[None], (2, 3)),
    (lambda x: x[False], (2, 3)),
    (lambda x: x[...] + x[()], (2, 3)),
    (lambda x: x[()], ()),
    (lambda x: x[..., None], ()),
    (lambda x: x[np.array(1)], (3, 2)),
    (lambda x: x[np.array([], int)], (3, 2)),
    (lambda x: x[I5 % 3, ..., None], (3, 2)),
    (lambda x: x[np.argsort(x)], (5,)),
    (lambda x: x[np.argmax(x)] + x[x.argmin()], (5,)),
    (lambda x: x[np.nonzero(x > 0)], (2, 3)),
    (lambda x: x[np.where(x > 0)] + x[np.where(np.abs(x) > 9)].sum(), (2, 3)),
    (lambda x: x[np.arange(3), [0, 1, 1]], (3, 2)),
    (lambda x: x[np.diag_indices(2)] + x[np.tril_indices(2, -1)], (2, 2)),
    (lambda x: x[np.triu_indices_from(x, 1)], (3, 3)),
    (lambda x: x[np.unravel_index([1, 4], (2, 3))], (2, 3)),
    (lambda x: x[np.s_[::2, 1:]], (4, 3)),
    (lambda x: x[5:] + 1.0, (3, 2)),
    (lambda x: x[-100:100:3], (7,)),
    (lambda x: x[slice(None, None, -2)], (5, 2)),
    (lambda x: x[:, ::2][..., ::-1][1:], (3, 5)),
    (lambda x: [row.sum() for row in x], (3, 2)),
    (lambda x: np.stack([a * b for a, b in zip(x, x[::-1])]), (3, 2)),
    (lambda x: (lambda a, b: a * b)(*x), (2, 3)),
    (lambda x: np.take(x, [0, -1]) + np.take(x, 2), (2, 3)),
    (lambda x: np.take(x, [[0, 1], [2, 0]], axis=1) + x.take([0], axis=-1)[..., None], (2, 3)),
    (lambda x: np.take(x, [5, -7], mode="wrap") + np.take(x, [9, -9], mode="clip"), (2, 3)),
    (lambda x: np.take(indices=[1, 1], a=x, axis=0), (2, 3)),
    (lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1), (2, 4)),
    (lambda x: np.take_along_axis(x, np.argmax(x, axis=0, keepdims=True), 0), (3, 2)),
    (lambda x: np.take_along_axis(x, np.array([[0], [2]]), 1), (2, 3)),
    (lambda x: np.take_along_axis(x, np.array([1, 0, 3]), None), (2, 3)),
    (lambda x: np.take_along_axis(arr=x, indices=x.argsort(), axis=-1), (2, 3)),
    (lambda x: np.compress([False, True, True], x, axis=1), (2, 3)),
    (lambda x: x.compress([True, False], axis=0) + np.compress([0, 1, 1], x)[0], (2, 3)),
    (lambda x: np.extract(x > 0, x), (2, 3)),
    (lambda x, v: plain_at(x, v, "set", [0, 2]), (4, 2), (2,)),
    (lambda x, v: plain_at(x, v, "add", ([0, 0, 1], [1, 1, 2])), (2, 3), (3,)),
    (lambda x, v: plain_at(x, v, "multiply", (slice(None), 1)), (2, 3), (2,)),
    (lambda x, v: plain_at(x, v, "max", [1, 1]), (3, 2), (2, 2)),
    (lambda x, v: plain_at(x, v, "set", np.array([True, False, True])), (3,), (2,)),
    (lambda x, v: set_row(x, v), (3, 2), (2,)),
    # --- order
    (lambda x: np.sort(x) + np.sort(x, axis=0), (3, 3)),
    (lambda x: np.sort(x, axis=None), (2, 3)),
    (lambda x: np.sort(x)[::-1][:2], (5,)),
    (lambda x: -np.sort(-x, kind="mergesort"), (5,)),
    (lambda x: np.sort(x, -1, "stable")[..., -2:], (2, 4)),
    (lambda x: np.partition(x, 2), (5,)),
    (lambda x: np.partition(x, (1, 3), axis=0)[1], (5, 2)),
    (lambda x: np.partition(x, -2)[-2:].sum(), (5,)),
    (lambda x: x[np.argpartition(x, 2)[:2]].sum(), (5,)),
    (lambda x: x[np.lexsort((x,))], (5,)),
    (lambda x: np.unique(x), (2, 3)),
    (lambda x: np.unique(x, return_inverse=True), (4,)),
    (lambda x: np.union1d(x, [9.0]), (3,)),
    (lambda x: np.setdiff1d(x, [9.0]), (3,)),
    (lambda x: np.setxor1d(x, [9.0]), (3,)),
    (lambda x: np.bincount([0, 2, 2, 1], x), (4,)),
    (lambda x: np.bincount(np.array([0, 2, 2, 1]), weights=x, minlength=6), (4,)),
    (lambda w: np.histogram([0.5, 1.5, 1.7, 2.5], bins=3, range=(0, 3), weights=w), (4,)),
    (lambda w: np.histogram([0.5, 1.5, 1.7, 2.5], 3, weights=w, density=True)[0], pos(4)),
    # --- products
    (lambda x, y: np.dot(x, y), (3,), (3,)),
    (lambda x, y: np.dot(x, y), (2, 3), (3, 2)),
    (lambda x, y: np.dot(x, y), (2, 3), (4, 3, 2)),
    (lambda x, y: np.dot(x, y), (2, 2, 3), (3,)),
    (lambda x, y: np.dot(x, y), (), (2, 3)),
    (lambda x: np.dot(x, 3) + np.dot([1.0, 2.0], x), (2, 2)),
    (lambda x, y: np.vdot(x, y), (2, 3), (2, 3)),
    (lambda x, y: np.inner(x, y), (2, 3), (4, 3)),
    (lambda x, y: np.inner(x, y), (2, 3), (3,)),
    (lambda x, y: np.inner(x, y), (2, 3), ()),
    (lambda x, y: np.outer(x, y), (2, 2), (3,)),
    (lambda x: np.linalg.outer(x, [1.0, 2.0]), (3,)),
    (lambda x, y: np.kron(x, y), (2, 2), (1, 3)),
    (lambda x, y: np.kron(x, y), (2,), (2, 3)),
    (lambda x: np.kron(np.eye(2), x), (2, 3)),
    (lambda x, y: np.cross(x, y), (3,), (3,)),
    (lambda x, y: np.cross(x, y), (2, 3), (3,)),
    (lambda x, y: np.cross(x, y, axis=0), (3, 2), (3, 2)),
    (lambda x, y: np.linalg.cross(x, y), (4, 3), (4, 3)),
    (lambda x: np.cross([1, 0, 0], x, axisb=0), (3, 2)),
    (lambda x, y: np.tensordot(x, y), (2, 3, 4), (3, 4, 2)),
    (lambda x, y: np.tensordot(x, y, 1), (2, 3), (3, 2)),
    (lambda x, y: np.tensordot(x, y, axes=0), (2,), (3,)),
    (lambda x, y: np.tensordot(x, y, axes=([0, 2], [1, 0])), (2, 3, 4), (4, 2)),
    (lambda x, y: np.tensordot(x, y, (0, -1)), (2, 3), (3, 2)),
    (lambda x, y: np.tensordot(x, y, ((-1,), (0,))), (2, 3), (3, 2)),
    (lambda x, y: np.linalg.tensordot(x, y, axes=1), (2, 3), (3, 2)),
    (lambda x, y: np.linalg.vecdot(x, y, axis=0), (3, 2), (3, 2)),
    (lambda x, y: np.linalg.matmul(x, y), (2, 3), (3, 2)),
    (lambda x, y: np.linalg.multi_dot([x, y, C23]), (3, 2), (2, 2)),
    (lambda x, y: np.einsum("ij,jk->ik", x, y), (2, 3), (3, 2)),
    (lambda x, y: np.einsum("ij,kj", x, y), (2, 3), (4, 3)),
    (lambda x: np.einsum("ii->i", x) + np.einsum("ii", x), (3, 3)),
    (lambda x: np.einsum("ij->ji", x), (2, 3)),
    (lambda x: np.einsum("...ij->...", x), (2, 2, 3)),
    (lambda x: np.einsum("iij,jk->ik", x, np.ones((2, 3))), (3, 3, 2)),
    (lambda x, y: np.einsum("bhqd,bhkd->bhqk", x, y), (2, 2, 3, 2), (2, 2, 4, 2)),
    (lambda x, y: np.einsum("...qd,...kd->...qk", x, y, optimize=True), (2, 3, 2), (4, 2)),
    (lambda x, y, z: np.einsum("i,ij,j->", x, y, z), (2,), (2, 3), (3,)),
    (lambda x, y, z: np.einsum("bi,ijk,bk->bj", x, y, z, optimize="optimal"), (2, 2), (2, 3, 2), (2, 2)),
    (lambda x, y: np.einsum("i,i->i", x, y), (3,), (3,)),
    (lambda x, y: np.einsum("i,j->", x, y), (3,), (2,)),
    (lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [0, 2]), (2, 3), (3, 2)),
    (lambda x: np.einsum(x, [0, 0]), (3, 3)),
    (lambda x: np.einsum(x, [..., 0], [0, ...]), (2, 3, 4)),
    (lambda x: np.einsum("ij,ij->", x, x), (2, 3)),
    (lambda x: np.einsum("ij,j->i", x, [1, 2, 3]), (2, 3)),
    (lambda x: np.einsum("i,->i", x, 2.0), (3,)),
    (lambda x: np.einsum("iijj->ij", x), (2, 2, 3, 3)),
    (lambda x: np.einsum("ij,jk,kl,lm->im", x, x, x, x, optimize="greedy"), (2, 2)),
    (lambda x, y: np.einsum("a b , b c -> a c", x, y), (2, 3), (3, 2)),
    (lambda x: np.einsum("ji", x), (2, 3)),
    (lambda x: np.einsum("i...->...", x), (2, 3)),
    (lambda x, y: np.convolve(x, y), (5,), (3,)),
    (lambda x, y: np.convolve(x, y, "same") + np.convolve(y, x, mode="same"), (5,), (3,)),
    (lambda x, y: np.convolve(x, y, "valid"), (3,), (5,)),
    (lambda x: np.convolve(x, [1, -1]) + np.convolve([0.5, 0.5], x), (4,)),
    (lambda x: np.convolve(x, np.ones(3) / 3, mode="valid"), (6,)),
    (lambda x, y: np.correlate(x, y) + np.correlate(x, y, "valid"), (5,), (3,)),
    (lambda x, y: np.correlate(x, y, mode="full"), (3,), (5,)),
    (lambda x, y: np.correlate(x, y, "same"), (4,), (4,)),
    (lambda x, y: np.convolve(a=x, v=y), (3,), (2,)),
    # --- padding
    (lambda x: np.pad(x, 1), (2, 3)),
    (lambda x: np.pad(x, (1, 2)), (3,)),
    (lambda x: np.pad(x, ((1, 0), (2, 1))), (2, 3)),
    (lambda x: np.pad(x, [(0, 0), (1, 1)], "constant", constant_values=3), (2, 3)),
    (lambda x: np.pad(x, 1, constant_values=((1, 2), (3, 4))), (2, 3)),
    (lambda x: np.pad(x, ((1,), (2,)), mode="edge"), (2, 3)),
    (lambda x: np.pad(x, {-1: (1, 2)}, mode="edge") if np.lib.NumpyVersion(np.__version__) >= "2.2.0" else np.pad(x, ((0, 0), (1, 2)), "edge"), (2, 3)),
    (lambda x: np.pad(x, 2, "reflect"), (3, 4)),
    (lambda x: np.pad(x, 2, "reflect", reflect_type="odd"), (4,)),
    (lambda x: np.pad(x, 5, "reflect"), (3,)),
    (lambda x: np.pad(x, 2, "symmetric"), (2, 3)),
    (lambda x: np.pad(x, 2, mode="symmetric", reflect_type="odd"), (2, 3)),
    (lambda x: np.pad(x, (3, 1), mode="wrap"), (2, 3)),
    (lambda x: np.pad(x, 2, "linear_ramp", end_values=(1, -1)), (3,)),
    (lambda x: np.pad(x, 2, "maximum") + np.pad(x, 2, "minimum", stat_length=2), (2, 3)),
    (lambda x: np.pad(x, 2, "mean") + np.pad(x, 2, "median", stat_length=((1, 2), (2, 1))), (2, 3)),
    # --- linear algebra
    (lambda x: np.linalg.norm(x), (2, 3)),
    (lambda x: np.linalg.norm(x, axis=1), (2, 3)),
    (lambda x: np.linalg.norm(x, axis=-1, keepdims=True), (2, 3)),
    (lambda x: np.linalg.norm(x, ord=1) + np.linalg.norm(x, np.inf) + np.linalg.norm(x, -np.inf), (4,)),
    (lambda x: np.linalg.norm(x, 0) * x, (4,)),
    (lambda x: np.linalg.norm(x, 3) + np.linalg.norm(x, -2) + np.linalg.norm(x, 0.5), (4,)),
    (lambda x: np.linalg.norm(x, "fro") + np.linalg.norm(x, "nuc") + np.linalg.norm(x, 2) + np.linalg.norm(x, -2), well(3, 3)),
    (lambda x: np.linalg.norm(x, 1) + np.linalg.norm(x, -1) + np.linalg.norm(x, np.inf) + np.linalg.norm(x, -np.inf), (3, 2)),
    (lambda x: np.linalg.norm(x, 2, axis=(0, 2)), (2, 3, 4)),
    (lambda x: np.linalg.norm(x, axis=(1, 2), ord="fro", keepdims=True), (2, 3, 4)),
    (lambda x: np.linalg.norm(x, 4, 1) + np.linalg.norm(x, 1, (1,)), (2, 3)),
    (lambda x: np.linalg.norm(x - x[:, None], axis=-1)[0, 1:], (3, 2)),
    (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True), (3, 2)),
    (lambda x: np.linalg.vector_norm(x, ord=3, axis=(0, 1)) + np.linalg.vector_norm(x), (2, 3)),
    (lambda x: np.linalg.matrix_norm(x) + np.linalg.matrix_norm(x, ord="nuc"), (2, 3, 2)),
    (lambda a: np.linalg.inv(a), well(3, 3)),
    (lambda a: np.linalg.inv(a), well(2, 3, 3)),
    (lambda a: np.linalg.pinv(a), well(4, 2)),
    (lambda a: np.linalg.pinv(a, hermitian=True), sym(3, 3)),
    (lambda a: np.linalg.pinv(a, rcond=1e-8), well(2, 3, 2)),
    (lambda a: np.linalg.det(a), well(3, 3)),
    (lambda a: np.linalg.det(a), well(2, 3, 3)),
    (lambda a: np.linalg.slogdet(a), well(3, 3)),
    (lambda a: np.linalg.slogdet(a).logabsdet + np.linalg.slogdet(a)[1], well(2, 3, 3)),
    (lambda a: np.multiply(*np.linalg.slogdet(a)), well(3, 3)),
    (lambda a, b: np.linalg.solve(a, b), well(3, 3), (3,)),
    (lambda a, b: np.linalg.solve(a, b), well(2, 3, 3), (2, 3, 1)),
    (lambda a, b: np.linalg.solve(a, b), well(3, 3), (2, 3, 2)),
    (lambda b: np.linalg.solve([[2.0, 1.0], [0.5, 3.0]], b), (2, 2)),
    (lambda a: np.linalg.solve(a, [1.0, 2.0, 3.0]), well(3, 3)),
    (lambda a: np.linalg.solve(a.T, a), well(3, 3)),
    (lambda a, b: np.linalg.lstsq(a, b)[0], well(4, 2), (4,)),
    (lambda a, b: np.linalg.lstsq(a, b, rcond=None)[:2], well(4, 2), (4, 3)),
    (lambda a: np.linalg.cholesky(a @ a.T + np.eye(3)), well(3, 3)),
    (lambda a: np.linalg.cholesky((a + np.swapaxes(a, -1, -2)) / 2, upper=True), spd(2, 3, 3)),
    (lambda a: np.linalg.qr(a), well(3, 3)),
    (lambda a: np.linalg.qr(a).R, well(4, 2)),
    (lambda a: np.linalg.qr(a, mode="r"), well(4, 2)),
    (lambda a: np.linalg.qr(a, "reduced")[1], well(2, 3, 3)),
    (lambda a: np.linalg.svd(a)[1], well(3, 2)),
    (lambda a: np.linalg.svd(a, compute_uv=False), well(3, 2)),
    (lambda a: np.linalg.svd(a, full_matrices=False).S, well(2, 3, 2)),
    (lambda a: (lambda u, s, vh: (u * s**2) @ vh)(*np.linalg.svd(a, full_matrices=False)), well(3, 2)),
    (lambda a: (lambda u, s, vh: (u * np.sqrt(s)) @ vh)(*np.linalg.svd(a)), well(3, 3)),
    (lambda a: np.linalg.svd(a, False, False), well(3, 2)),
    (lambda a: np.linalg.svdvals(a), well(2, 3)),
    (lambda a: np.linalg.eigh(a @ a.T)[0], well(3, 3)),
    (lambda a: np.linalg.eigh((a + a.T) / 2).eigenvalues, sym(3, 3)),
    (lambda a: (lambda w, v: (v * np.exp(w)) @ v.T)(*np.linalg.eigh((a + a.T) / 2)), sym(3, 3)),
    (lambda a: np.linalg.eigvalsh(a), well(3, 3)),
    (lambda a: np.linalg.eigvalsh(a, UPLO="U"), well(2, 3, 3)),
    (lambda a: np.linalg.eigh(a, "U")[0] * 2, well(3, 3)),
    (lambda a: np.linalg.matrix_power(a, 3) + np.linalg.matrix_power(a, -2) + np.linalg.matrix_power(a, 0), well(3, 3)),
    (lambda a: np.linalg.cond(a) + np.linalg.cond(a, "fro") + np.linalg.cond(a, 1), well(3, 3)),
    (lambda a: np.linalg.cond(a, -2) + np.linalg.cond(a, p=2), well(2, 3, 3)),
    (lambda a: np.linalg.tensorinv(np.reshape(a, (2, 3, 6))), well(6, 6)),
    (lambda a, b: np.linalg.tensorsolve(np.reshape(a, (2, 3, 6)), b), well(6, 6), (2, 3)),
    (lambda a: np.linalg.matrix_rank(a) * a, well(3, 3)),
    (lambda x: np.cov(x), (3, 5)),
    (lambda x: np.cov(x, rowvar=False), (5, 2)),
    (lambda x, y: np.cov(x, y), (5,), (5,)),
    (lambda x: np.cov(x, bias=True) + np.cov(x, ddof=0) + np.cov(x.T, rowvar=0), (2, 4)),
    (lambda x: np.cov(x, fweights=[1, 2, 1, 1], aweights=W4), (2, 4)),
    (lambda x, w: np.cov(x, aweights=w), (2, 4), pos(4)),
    (lambda x: np.corrcoef(x), (3, 5)),
    (lambda x, y: np.corrcoef(x, y)[0, 1], (5,), (5,)),
    (lambda x: np.corrcoef(x, rowvar=False), (5, 2)),
    # --- polynomials
    (lambda p, x: np.polyval(p, x), (4,), (2, 3)),
    (lambda x: np.polyval([1, -2, 0.5], x), (3,)),
    (lambda p: np.polyval(p, 2.0) + np.polyval(p, [1.0, 2.0]), (3,)),
    (lambda p: np.polyder(p) + np.polyder(p, 1), (4,)),
    (lambda p: np.polyint(p) + np.polyint(p, k=2), (3,)),
    (lambda p: np.polyint(p, 2, [1, 2]) + np.polyder(p, m=2)[0], (3,)),
    (lambda p, q: np.polyadd(p, q) * np.polysub(p, q), (3,), (2,)),
    (lambda p, q: np.polymul(p, q) + np.polymul(p, [1, 2]), (3,), (2,)),
    (lambda p, q: np.polydiv(p, q), pos(4), pos(2)),
    (lambda x, y: np.polyfit(x, y, 1), inc(5), (5,)),
    (lambda y: np.polyfit([0, 1, 2, 3, 4], y, 2), (5,)),
    (lambda y, w: np.polyfit(np.arange(5.0), y, deg=1, w=w), (5,), pos(5)),
    (lambda r: np.poly(r), (3,)),
    # --- scipy.special
    (lambda x: sp.expit(x) + sp.log_expit(x) + sp.erf(x) - sp.erfc(x), (3,)),
    (lambda x: sp.logit(x) + sp.ndtri(x) + sp.erfinv(2 * x - 1) + sp.erfcinv(x), unit(3)),
    (lambda x: sp.gammaln(x) + sp.gamma(x) + sp.digamma(x) + sp.psi(x) + sp.rgamma(x), pos(3)),
    (lambda x, y: sp.beta(x, y) + sp.betaln(x, y), pos(2, 1), pos(3)),
    (lambda x: sp.xlogy(x, x) + sp.xlog1py(x, x) + sp.entr(x), pos(3)),
    (lambda x: sp.xlogy([0, 1, 2], x), pos(3)),
    (lambda x, y: sp.rel_entr(x, y) + sp.kl_div(x, y), pos(3), pos(3)),
    (lambda x: sp.huber(1.0, x) + sp.pseudo_huber(1.0, x), between(0.1, 0.9)(3)),
    (lambda x: sp.gammainc(2.0, x) + sp.gammaincc(1.5, x), pos(3)),
    (lambda x: sp.betainc(2.0, 3.0, x) + sp.betaincinv(2.0, 3.0, x), unit(3)),
    (lambda x: sp.gammaincinv(2.0, x) + sp.gammainccinv(2.0, x), unit(3)),
    (lambda x: sp.j0(x) + sp.j1(x) + sp.jv(2, x) + sp.jn(1, x), pos(3)),
    (lambda x: sp.i0(x) + sp.i1e(x) + sp.iv(1.5, x) + sp.k0(x) + sp.kv(1, x), pos(3)),
    (lambda x: sp.y0(x) + sp.y1(x) + sp.yn(2, x), pos(3)),
    (lambda x: sp.ndtr(x) + sp.log_ndtr(x) + sp.erfcx(x) + sp.dawsn(x), (3,)),
    (lambda x: sp.erfi(x), (3,)),
    (lambda x: sp.zeta(3.0, x), pos(3)),
    (lambda x: sp.ellipk(x) + sp.ellipe(x) + sp.ellipkm1(x), unit(3)),
    (lambda x: sp.expi(x) + sp.exp1(x) + sp.expn(2, x), pos(3)),
    (lambda x: sp.sici(x), pos(3)),
    (lambda x: sp.shichi(x)[0] + sp.fresnel(x)[1], pos(3)),
    (lambda x: sp.exprel(x) + sp.cosm1(x) + sp.log1p(x / 3) + sp.expm1(x) + sp.exp2(x) + sp.exp10(x), (3,)),
    (lambda x: sp.cbrt(x) + sp.radian(x, 1.0, 2.0), pos(3)),
    (lambda x: sp.sindg(x) + sp.cosdg(x) + sp.tandg(x) + sp.cotdg(x), pos(3)),
    (lambda x: sp.boxcox(x, 0.5) + sp.boxcox1p(x, 0.5) + sp.inv_boxcox(x, 0.5) + sp.inv_boxcox1p(x, 0.5), pos(3)),
    (lambda x, y: sp.boxcox(x, y) + sp.inv_boxcox(x, y), pos(3), pos(3)),
    (lambda x: sp.spence(x) + sp.poch(x, 2.0) + sp.binom(3.0, x), pos(3)),
    (lambda x: sp.hyp1f1(1.0, 2.0, x) + sp.hyp2f1(1.0, 2.0, 3.0, x) + sp.hyp0f1(1.0, x), unit(3)),
    (lambda x: sp.airy(x)[0] + sp.airy(x)[2], (3,)),
    (lambda x: sp.wrightomega(x), (3,)),
    (lambda x: sp.eval_legendre(3, x) + sp.eval_hermite(2, x) + sp.eval_chebyt(3, x) + sp.eval_laguerre(2, x), inside(3)),
    (lambda x: sp.owens_t(x, 0.5) + sp.owens_t(0.5, x), pos(3)),
    (lambda x: sp.stdtr(3.0, x) + sp.chdtr(3.0, x) + sp.fdtr(2.0, 3.0, x) + sp.gdtr(1.0, 2.0, x), pos(3)),
    (lambda x: sp.gammasgn(x) * x + sp.gammaln(np.abs(x)), pos(3)),
    (lambda x: sp.loggamma(x), big(3)),
    (lambda x: np.sum(sp.xlogy(softmax(x), softmax(x)), axis=-1), (2, 3)),
    # --- odd but legal
    (lambda x: np.add.reduce(x, 0, None, None, True) + np.add.reduce(x, where=M23), (2, 3)),
    (lambda x: np.maximum.reduce(x, initial=0, axis=None) + np.multiply.reduce(x, axis=(0, 1)), (2, 3)),
    (lambda x: np.hypot.reduce(x, axis=None) + np.hypot.reduce(x, axis=(0, -1), initial=2.0), pos(2, 3)),
    (lambda x: np.hypot.reduce(x, axis=1, keepdims=True, where=M23), pos(2, 3)),
    (lambda x: np.fmax.reduce(x, axis=(0, 1)) + np.fmin.reduce(x, -1, where=M23, initial=9.0), (2, 3)),
    (lambda x: np.logaddexp.reduce(x, where=M23, initial=0.5, axis=1), (2, 3)),
    (lambda x: np.logaddexp2.reduce(x, axis=None, where=M23), (2, 3)),
    (lambda x: np.multiply.reduceat(x, [0, 2, 1]), (5,)),
    (lambda x: np.maximum.reduceat(x, [0, 2], axis=1), (2, 5)),
    (lambda x: np.add.accumulate(x, -1, dtype=np.float64), (2, 3)),
    (lambda x: sp.xlogy.outer(x, x) + np.minimum.outer(x, x + 1), pos(3)),
    (lambda x: np.average(x, axis=[0]) + np.median(x, axis=[0]) + np.percentile(x, 30, axis=[0]), (5, 2)),
    (lambda x: np.average(x, (0, 2), np.arange(1.0, 7.0).reshape(2, 3)), (2, 4, 3)),
    (lambda x: np.prod(x, initial=None) + np.sum(x, initial=None), (2, 3)),
    (lambda x: np.nanvar(x, where=[[1], [0]]) + np.nansum(x, where=[[1], [0]]), (2, 3)),
    *([(lambda x: np.linalg.norm(x, 1) + np.linalg.norm(x, np.inf) + np.linalg.norm(x, 2), (0, 3))] if hasattr(np, "cumulative_sum") else []),  # NumPy 2.1
    (lambda x: np.cumprod(x, -1) + np.repeat(x, 2, 0) + np.take(x, [0, 0], 0), ()),
    (lambda x: np.select([x > 1, x > 0], [x, 2], x.mean()), (2, 3)),
    (lambda x: np.polyfit(np.arange(3), x, 1) + np.polyfit([0, 1, 2], x, deg=1, rcond=None), (3, 2)),
    (lambda x: np.gradient(x, 0.5, 0.25, axis=(1, 0)), (3, 4)),
    (lambda x: np.std(x, 0, None, None, 1) + np.var(x, -2, np.float64, None, 1, False), (3, 2)),
    (lambda x: np.quantile(x, 0.3, 0, None, False, method="hazen", keepdims=True), (5, 2)),
    (lambda x: np.cross(x[:, :3], x[:, 1:], axisa=-1, axisb=-1, axisc=0), (2, 4)),
    (lambda x: np.insert(x, [1, 1], [[7.0], [8.0]], axis=1) + np.insert(x, [0, 2], 9.0, axis=1), (2, 3)),
    (lambda x: np.insert(x, slice(1, 4, 2), [5, 6]), (5,)),
    (lambda x: np.apply_along_axis(np.convolve, 1, x, [1, -1]), (2, 3)),
    (lambda x: np.apply_along_axis(lambda r, k: r[:k], 0, x, k=2), (3, 2)),
    (lambda x: np.piecewise(x, [x > 1], [lambda v, a, b=1: a * v + b, 0], 2, b=3), (5,)),
    (lambda x: np.linspace(start=0, stop=x, num=3) + np.linspace(x, x * 2, 3, axis=0), (2,)),
    (lambda x: np.logspace(0, x, 2, base=x), big(2)),
    (lambda x: x[np.argmax(x, 0), np.arange(3)] + x[:, None][1, 0], (2, 3)),
    (lambda x: np.take_along_axis(x, np.argsort(x, 0)[::-1], 0), (3, 2)),
    (lambda x: np.polynomial.polynomial.polyval(x, [1, 2, 3]) + np.polynomial.chebyshev.chebval(x, [1, 2, 3]), (3,)),
    (lambda x: np.poly1d([1, 2, 3])(x) + sp.legendre(2)(x), (3,)),
    (lambda x: np.einsum("...->...", x) + np.einsum("ij,ij,ij->ij", x, x, x), (2, 3)),
    (lambda x: np.einsum("ij,kj->ik", x, x, optimize=["einsum_path", (0, 1)]), (2, 3)),
    (lambda x: np.linalg.lstsq(x.T, [1.0, 2.0, 3.0, 4.0], rcond=None)[1], well(2, 4)),
    (lambda x: np.corrcoef(x, x[:2] ** 2), (3, 6)),
    (lambda x: sp.stdtrit(3, x) + sp.chdtri(3, x) + sp.powm1(x, 2.0) + sp.agm(x, 1.0), unit(3)),
    (lambda x: sp.ellipj(x, 0.5)[0] + sp.ellipkinc(x, 0.5) + sp.ellipeinc(x, 0.5), unit(3)),
    (lambda x: sp.jvp(1, x) + sp.softplus(x), pos(3)),
    # --- several functions together
    (lambda x: softmax(x), (2, 3)),
    (lambda x: np.log(np.sum(np.exp(x - np.max(x, -1, keepdims=True)), -1)) + x.max(-1), (2, 3)),
    (lambda x: (x - x.mean(0)) / (x.std(0) + 1e-5), (4, 2)),
    (lambda x, w, b: np.tanh(x @ w + b).sum(), (4, 3), (3, 2), (2,)),
    (lambda x: -np.mean(np.log(softmax(x))[np.arange(3), [0, 1, 1]]), (3, 2)),
    (lambda x: np.sqrt(np.maximum(np.sum((x[:, None] - x[None]) ** 2, -1), 1e-12)), (3, 2)),
    (lambda x: np.exp(-0.5 * np.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1) / 2.0), (3, 2)),
    (lambda mu, L: -0.5 * mu @ np.linalg.solve(L @ L.T, mu) - np.log(np.diag(L)).sum(), (3,), well(3, 3)),
    (lambda x: np.apply_along_axis(lambda r: r * r.sum(), 1, x), (2, 3)),
    (lambda x: np.apply_along_axis(np.sum, 0, x), (2, 3)),
    (lambda x: np.apply_over_axes(np.sum, x, [0, 2]), (2, 3, 4)),
    (lambda x: np.outer(x, x)[np.triu_indices(3)].reshape(2, 3).T, (3,)),
    (lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), (2, 3)),
    (lambda x: np.polyval(np.polyfit(np.arange(4), x, 2), 1.5), (4,)),
    (lambda x: np.stack(np.gradient(np.pad(x, 1, mode="edge")), -1).sum(-1), (2, 3)),
    (lambda x: np.concatenate([np.sort(p) for p in np.array_split(x, 2)])[::-1].cumsum(), (5,)),
    (lambda x, k: np.einsum("hwij,ij->hw", np.lib.stride_tricks.sliding_window_view(x, (2, 2)), k), (3, 4), (2, 2)),
    (lambda x: x.reshape(2, 2, 2, 2).max(axis=(1, 3)), (4, 4)),
    (lambda x: np.linalg.norm(np.cross(x[1:] - x[0], x[:-1] - x[-1]), axis=-1), (4, 3)),
    (lambda x: np.prod(np.where(M23, x, 1), axis=1) ** (1 / 2), pos(2, 3)),
    # --- programs
    (lambda y: runge_kutta(lambda y: np.stack([y[0] * (1 - y[1]), y[1] * (y[0] - 1)]), y), pos(2)),
    (lambda a: gram_schmidt(a), well(3, 3)),
    (lambda x, P, z: kalman(x, P @ P.T + np.eye(2, dtype=P.dtype), z), (2,), (2, 2), (1,)),
    (lambda x, h, c, W: lstm(x, h, c, W), (2,), (3,), (3,), (5, 12)),
    (lambda x, y, width: gaussian_process(x, y, width), inc(4), (4,), pos()),
    (lambda e, t: viterbi(e, t), (4, 3), (3, 3)),
    (lambda e, t: forward_algorithm(e, t), (4, 3), (3, 3)),
    (lambda c: sinkhorn(c), pos(3, 3)),
    (lambda image, places: bilinear(image, places), (4, 4), between(0.1, 1.9)(3, 2)),
    (lambda x: whiten(x), (6, 2)),
    (lambda x, a: smooth(x, a), (4,), unit()),
    (lambda a, b: overlap(a + np.array([0, 0, 5.0, 5.0]), b + np.array([1, 1, 6.0, 6.0])), (4,), (4,)),
    (lambda x: mean_by_group(x, np.array([0, 2, 0, 2]), 3), (4, 2)),
    (lambda s, v: black_scholes(s, v), pos(3), unit()),
    (lambda x: (x - np.roll(x, 1)) @ np.correlate(x, x, mode="full")[len(x) - 1 :], (5,)),
    (lambda x, y: np.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)).min(axis=1), (3, 2), (2, 2)),
    (lambda x: np.clip(x, *np.quantile(x, [0.1, 0.9])), (8,)),
    (lambda x: np.median(np.abs(x - np.median(x))), (5,)),
    (lambda r: r ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))), unit()),
    # --- Tensors where NumPy wants a number
    (lambda x: x[None] + x * x, ()),
    (lambda x: np.stack([x, 2 * x])[None].sum() + x**2 * x, ()),
    (lambda x, q: np.quantile(x, q), (7,), unit(2)),
    (lambda x, q: np.percentile(x, 100 * q, axis=1, method="hazen", keepdims=True), (2, 6), unit()),
    (lambda x, q: np.nanquantile(x, q, axis=1), nan(2, 6), unit(2)),
    (lambda q: np.quantile(np.arange(7.0), q) + np.quantile([1.0, 4.0, 9.0], q), unit(3)),
    (lambda x, q: np.quantile(x, q, weights=W4, method="inverted_cdf") * q, (4,), unit()),
    (lambda x: np.histogram(x, 3), (5,)),
    (lambda x: np.histogram(x, bins=4, density=True), (6,)),
    (lambda x: np.histogram_bin_edges(x, "sturges"), (6,)),
    (lambda x, w: np.histogram(x, 3, weights=w, density=True), (6,), pos(6)),
    (lambda x: np.poly(x), (3, 3)),
    (lambda x: np.poly1d(x)(2.0) + np.poly1d(x).deriv()(1.0), (3,)),
    (lambda x, y: np.polyfit(x, y, 1, full=True)[:2], inc(5), (5,)),
    (lambda x, y: np.polyfit(x, y, 1, cov=True), inc(5), (5,)),
    (lambda x, y: np.polyfit(x, y, 1, w=[1, 2, 1, 2, 1], cov="unscaled")[1], inc(5), (5,)),
    (lambda a, b: np.matmul(a, b, axes=[(-2, -1), (-1, -2), (-1, -2)]), (2, 3), (4, 3)),
    (lambda a, b: np.vecdot(a, b, axes=[0, 0, ()]), (3, 2), (3, 2)) if hasattr(np, "vecdot") else (lambda x: x, (3,)),
    (lambda x: np.cov(x, bias=None) + np.cov(x, bias=True), (2, 4)),
    (lambda x: np.take(x, [True, False], axis=1) + np.take(x, True), (2, 3)),
    (lambda x: np.linalg.norm(x, np.float32(1.5)), (4,)),
    (lambda x: np.nan_to_num(x, nan=[0.5]), nan(2, 3)),
    (lambda x: np.cumulative_sum(x, axis=(1,)) if hasattr(np, "cumulative_sum") else x, (2, 3)),
    (lambda x: np.polyadd(x, x) - np.polysub(2 * x, x), (2, 3)),
    (lambda x: np.subtract.reduce(x, 0, np.float64) + np.hypot.accumulate(x, dtype=np.float64), (3, 2)),
    # --- indexing, mixed
    (lambda x: x[:, [0, 1, 1], [2, 0, 2]] + x[0, 0, 0], (2, 3, 4)),
    (lambda x: x[[0, 1], :, [1, 2]], (2, 3, 4)),
    (lambda x: x[np.ix_([True, False, True], [1])], (3, 2)),
    (lambda x: x[2:0:-1, ::-2] @ x[:2, :2], (3, 4)),
    (lambda x: np.stack([x[i] for i in np.ndindex(x.shape)]), (2, 3)),
    (lambda x: -np.log(softmax(x)[np.arange(2), [1, 2]]).mean(), (2, 3)),
    (lambda x, v: at(x)[[0, 0, 2]].set(v) + at(x)[[0, 0, 2]].add(v), (3,), (3,)),
    (lambda x, v: at(x)[[1, 1]].multiply(v) * at(x)[[1, 1]].max(v) + at(x)[[1, 1]].min(v), (3,), (2,)),
    (lambda x: at(x)[x > 0].set(0.0), (3, 4)),
    # --- scipy.special, rare ones
    (lambda m: sp.ellipkinc(0.7, m) + sp.ellipeinc(2.5, m), unit(3)),
    (lambda u, m: sp.ellipj(u, m)[:3], inside(3), unit(3)),
    (lambda x, y, z: sp.elliprf(x, y, z) + sp.elliprg(x, y, z) + sp.elliprj(x, y, z, 0.5), pos(2), pos(2), pos(2)),
    (lambda x: sp.elliprf(x, x, x) + sp.elliprd(x, x, x) + sp.elliprc(x, x), pos(3)),
    (lambda x, s, g: sp.voigt_profile(x, s, g), (3,), pos(), pos()),
    (lambda x, nc: sp.chndtr(x, 3, nc) + sp.nctdtr(4, nc, x) + sp.ncfdtr(2, 5, nc, x), pos(3), pos(3)),
    (lambda x: sp.kolmogorov(x) + sp.kolmogi(0.3 * x), pos(3)),
]
# fmt: on


def plain_at(x, v, name, index):
    """at(x)[index].name(v); for arrays as NumPy does it, in place."""
    if isinstance(x, Variable) or isinstance(v, Variable):
        return getattr(at(x)[index], name)(v)
    y = x.copy()
    if name == "set":
        y[index] = v
    else:
        {"add": np.add, "multiply": np.multiply, "max": np.maximum}[name].at(y, index, v)
    return y


def source(row) -> str:
    """The text of a row's expression."""
    function = row[0]
    line = inspect.getsource(function).strip().splitlines()[0]
    text = re.sub(r"^[^(]*\(lambda[^:]*: ", "", line)
    suffix = f" {function.__defaults__[0]}" if function.__defaults__ else ""
    return re.sub(r"\s+", " ", text)[:90].rstrip(" ,)") + suffix


class Given:
    """A row at a seeded point."""

    def __init__(self, row):
        self.f, *specs = row
        rng = np.random.default_rng(zlib.crc32(source(row).encode()))
        domains, shapes = zip(*(spec if not all(type(n) is int for n in spec) else (None, spec) for spec in specs))
        self.xs, self.h = draw(list(domains), shapes, rng)
        self.rng = rng

    def at(self, xs):
        """The float members of the result, each an array or a Tensor."""
        return floats(self.f(*xs))


def members(tree):
    found = []
    map_structure(lambda v, _: found.append(v), tree)
    return found


def kinds(tree):
    """What an output is made of: the types of its lists and tuples."""
    return (type(tree), [kinds(v) for v in tree]) if isinstance(tree, list | tuple) else None


def arrays(tree):
    return [np.asarray(plain(v)) for v in members(tree)]


def variables(xs):
    return [Tensor(x) for x in xs]


def check_value(given):
    expected, y = given.f(*given.xs), given.f(*variables(given.xs))
    assert kinds(expected) == kinds(y), f"NumPy gives {kinds(expected)}, Tensors {kinds(y)}"
    assert not any(isinstance(v, Variable) for v in members(expected)), "arrays in, Tensors out"
    assert any(isinstance(v, Variable) for v in members(y)), "no Tensor comes out"
    for e, v in zip(members(expected), members(y), strict=True):
        value = np.asarray(plain(v))
        assert np.shape(e) == value.shape and np.asarray(e).dtype == value.dtype, (
            f"{np.shape(e)} {value.shape} {np.asarray(e).dtype} {value.dtype}"
        )
        np.testing.assert_allclose(value, e, rtol=1e-10, atol=1e-12)


def check_first_order(given):
    """Reverse and forward mode against differences along a random direction."""
    xs, us = variables(given.xs), random_like(given.xs, given.rng)
    ys = given.at(xs)
    gs = random_like(ys, given.rng)
    gradients = pull(xs, ys, gs, retain=True)
    for x, g in zip(xs, gradients):
        assert type(g) is np.ndarray and g.shape == x.shape and g.dtype == x.dtype
    agree(
        inner(gradients, us),
        lambda t: inner(gs, given.at(moved(given.xs, us, t))),
        given.h,
        inner(map(np.abs, gs), [np.abs(np.nan_to_num(plain(y))) for y in ys]),
    )
    tangents = jvp(lambda *xs: tuple(given.at(xs)), tuple(given.xs), tuple(us))[1]
    np.testing.assert_allclose(inner(gs, tangents), inner(gradients, us), rtol=1e-8, atol=1e-10)


def check_second_order(given):
    us, vs = random_like(given.xs, given.rng), random_like(given.xs, given.rng)
    gs = random_like(given.at(given.xs), given.rng)

    def slope(xs, higher=False):
        xs = variables(xs)
        return xs, inner(pull(xs, given.at(xs), gs, higher), us)

    xs, y = slope(given.xs, higher=True)
    gradients = pull(xs, [y], [1.0])
    agree(inner(gradients, vs), lambda t: slope(moved(given.xs, vs, t))[1], given.h, abs(plain(y)))


def check_each_alone(given):
    """With one argument a Tensor and the others arrays, the gradient of that one is the same."""
    xs = variables(given.xs)
    ys = given.at(xs)
    gs = random_like(ys, given.rng)
    together = pull(xs, ys, gs)
    for i, expected in enumerate(together):
        mixed = [Tensor(x) if i == j else x for j, x in enumerate(given.xs)]
        ys = given.at(mixed)
        np.testing.assert_allclose(pull([mixed[i]], ys, gs)[0], expected, rtol=1e-9, atol=1e-12)


def check_layout(given):
    """Arrays that are not contiguous have the same gradients."""
    xs = variables(given.xs)
    ys = given.at(xs)
    gs = random_like(ys, given.rng)
    expected = pull(xs, ys, gs)
    strided = []
    for x in given.xs:
        room = np.full([2 * n for n in x.shape[::-1]], np.nan)
        view = room[(..., *(slice(1, None, 2) for _ in x.shape))].T
        view[...] = x
        strided.append(view)
    xs = variables(strided)
    ys = given.at(xs)
    for g, e in zip(pull(xs, ys, [np.array(g, order="F") for g in gs]), expected):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-12)


def check_float32(given):
    """Where NumPy keeps float32, so do the values and the gradients of both orders; else the gradients still do."""
    narrow = [x.astype(np.float32) for x in given.xs]
    expected = given.f(*narrow)
    xs = variables(narrow)
    y = given.f(*xs)
    for e, v in zip(members(expected), members(y), strict=True):
        e, v = np.asarray(e), np.asarray(plain(v)) if not isinstance(v, Variable) else v
        assert v.dtype == e.dtype or v.dtype == np.float32, f"float32 became {v.dtype}, NumPy has {e.dtype}"
    wide = variables(given.xs)
    gs = random_like(floats(y), given.rng)
    g32 = pull(xs, floats(y), gs, higher=True)
    g64 = pull(wide, given.at(wide), gs, higher=True)
    assert all(g.dtype == np.float32 for g in g32)
    scale = max(np.max(np.abs(plain(g)), initial=1.0) for g in g64)
    for a, b in zip(g32, g64):
        np.testing.assert_allclose(plain(a), plain(b), rtol=1e-3, atol=1e-4 * scale)
    us = random_like(given.xs, given.rng)
    h32 = pull(xs, [inner(g32, [u.astype(np.float32) for u in us])], [1.0])
    h64 = pull(wide, [inner(g64, us)], [1.0])
    assert all(h.dtype == np.float32 for h in h32)
    scale = max(np.max(np.abs(h), initial=1.0) for h in h64)
    for a, b in zip(h32, h64):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3 * scale)


def moved(xs, us, t):
    return [x + t * u for x, u in zip(xs, us)]


def agree(gradient, phi, h, weight):
    slope, bound = derivative(lambda t: float(phi(t)), h, max(float(weight), abs(float(gradient)), 1e-3), 0.0)
    assert math.isfinite(bound), f"differences find no derivative; the gradient says {gradient}"
    assert abs(gradient - slope) <= bound + 1e-9 * abs(slope), f"the gradient says {gradient}, differences {slope} +- {bound}"


CHECKS = [check_value, check_first_order, check_second_order, check_each_alone, check_layout, check_float32]


@pytest.mark.parametrize("row", EXPRESSIONS, ids=source)
def test_expression(row):
    try:
        row[0](*Given(row).xs)
    except AttributeError as error:
        pytest.skip(f"older than this function: {error}")
    for check in CHECKS:
        check(Given(row))


# --- what has no gradient: plain arrays, equal to NumPy's ----------------------------------------------

CONSTANTS = [
    (lambda x: x > 0,), (lambda x: x <= [0.0, 1.0, -1.0],), (lambda x: x == x[0],), (lambda x: x != 1,), (lambda x: x // 1,), (lambda x: 2 // x,),
    (lambda x: np.argmax(x, axis=1),), (lambda x: x.argmin(0),), (lambda x: np.argmax(x, 1, keepdims=True),), (lambda x: np.nanargmax(x),),
    (lambda x: np.argsort(x, axis=None),), (lambda x: x.argsort(0),), (lambda x: np.argpartition(x, 1, -1),), (lambda x: np.lexsort(x),),
    (lambda x: np.round(x, 1),), (lambda x: x.round(decimals=2),), (lambda x: np.floor(x) + np.ceil(x) + np.rint(x) + np.trunc(x),),
    (lambda x: np.sign(x),), (lambda x: np.signbit(x),), (lambda x: np.copysign(2.0, x),), (lambda x: np.spacing(x),), (lambda x: np.floor_divide(x, 0.3),),
    (lambda x: np.isnan(x) | np.isinf(x) | ~np.isfinite(x),), (lambda x: np.isclose(x, 0.1, atol=1),), (lambda x: np.allclose(x, x + 1e-12),),
    (lambda x: np.array_equal(x, x),), (lambda x: np.logical_and(x > 0, x),), (lambda x: np.any(x > 1, axis=0),), (lambda x: np.all(x, keepdims=True),),
    (lambda x: x.any(0),), (lambda x: np.count_nonzero(x > 0, axis=1),), (lambda x: np.nonzero(x > 0),), (lambda x: np.where(x),), (lambda x: np.argwhere(x > 0),),
    (lambda x: np.flatnonzero(x),), (lambda x: np.searchsorted([-1.0, 0.0, 1.0], x),), (lambda x: np.digitize(x, [0.0]),),
    (lambda x: np.histogram(x, bins=[-2, 0, 2], density=True)[0],), (lambda x: np.isin(x, [1.0]),), (lambda x: np.shape(x),), (lambda x: np.size(x, 1),),
    (lambda x: np.ndim(x),), (lambda x: len(x),), (lambda x: np.zeros_like(x, shape=(2,)),), (lambda x: np.ones_like(x, dtype=int),), (lambda x: np.full_like(x, 3),),
    (lambda x: np.result_type(x, np.float32),), (lambda x: np.linalg.matrix_rank(x),), (lambda x: np.angle(x),), (lambda x: np.imag(x),),
    (lambda x: np.unravel_index(np.argmax(x), x.shape),), (lambda x: np.triu_indices_from(x[:, :2]),), (lambda x: np.greater.outer(x, [0.0]),),
    (lambda x: np.equal(x, x).sum(),), (lambda x: np.iscomplexobj(x),), (lambda x: C23[x > 0],), (lambda x: np.unique(x, return_counts=True)[1],),
    (lambda x: np.frexp(x)[1],), (lambda x: np.modf(x)[1].shape,), (lambda x: np.array2string(x, precision=2),),
]  # fmt: skip


@pytest.mark.parametrize("row", CONSTANTS, ids=range(len(CONSTANTS)))
def test_constant(row):
    x = Given((row[0], (2, 3))).xs[0]
    expected, y = row[0](x), row[0](Tensor(x))
    assert not any(isinstance(v, Variable) for v in members(y))
    assert kinds(expected) == kinds(y)
    for e, v in zip(members(expected), members(y), strict=True):
        np.testing.assert_array_equal(v, e)
        assert np.asarray(v).dtype == np.asarray(e).dtype


# --- what raises, each with its reason ------------------------------------------------------------------

T, A = Tensor(np.array([[0.5, 1.5, -1.0], [2.0, -0.5, 1.0]])), C23
REFUSED = {
    "np.array([t, t])": (lambda: np.array([T, T]), "np.stack"),
    "np.sum([t, t])": (lambda: np.sum([T, T]), "np.stack"),
    "np.exp([t])": (lambda: np.exp([T]), "np.stack"),
    "np.maximum.reduce([t, t])": (lambda: np.maximum.reduce([T, T]), "np.stack"),
    "np.full": (lambda: np.full((2, 3), T), "plain array"),
    "np.r_": (lambda: np.r_[T, T], "np.concatenate"),
    "a.dot(t)": (lambda: A.dot(T.T), "plain array"),
    "a += t": (lambda: A.copy().__iadd__(T), "out="),
    "a[0] = t": (lambda: A.copy().__setitem__(0, T[0]), "np.stack"),
    "t[0] = a": (lambda: T.__setitem__(0, A[0]), r"at\(t\)"),
    "np.exp out=": (lambda: np.exp(T, out=A.copy()), "out="),
    "np.sum out=": (lambda: np.sum(T, out=np.zeros(())), "out="),
    "np.exp where=": (lambda: np.exp(T, where=M23), "where="),
    "np.add.at": (lambda: np.add.at(A.copy(), 0, T[0]), r"at\(x\)"),
    "np.bincount(t)": (lambda: np.bincount(T[0]), "safe"),
    "np.pad empty": (lambda: np.pad(T, 1, "empty"), "'empty'"),
    "np.fft.rfft": (lambda: np.fft.rfft(T), "complex"),
    "np.linalg.eig": (lambda: np.linalg.eig(T[:, :2]), "complex"),
    "np.roots": (lambda: np.roots(T[0]), "complex"),
    "np.emath.sqrt(-1)": (lambda: np.emath.sqrt(T), "complex"),
    "np.gcd": (lambda: np.gcd(T, T), "integers"),
    "np.vectorize": (lambda: np.vectorize(abs)(T), "plain array"),
    "np.put": (lambda: np.put(A.copy(), 0, T[0]), "in place"),
    "sp.jv of order t": (lambda: sp.jv(T, 1.0), "argument 1"),
    "sp.logsumexp": (lambda: sp.logsumexp(T), "plain array"),
    "float": (lambda: float(T[0, 0]), r"t\.item"),
    "math.exp": (lambda: math.exp(T[0, 0]), "np.f"),
    "np.random": (lambda: np.random.default_rng(0).normal(T), "reparameterise"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, reason = REFUSED[name]
    with pytest.raises(TypeError, match=reason) as error:
        call()
    assert "\n" not in str(error.value)


# --- what NumPy rejects is no answer here -----------------------------------------------------------------

WRONG = [
    (lambda x: np.take(x, [0], axis=2),), (lambda x: np.take(x, [0], axis=-3),), (lambda x: np.compress([True], x, axis=5),), (lambda x: np.insert(x, 0, 1.0, axis=2),),
    (lambda x: np.gradient(x, axis=3),), (lambda x: np.gradient(x, axis=(0, 0)),), (lambda x: np.vecdot(x, x[:, :1]),), (lambda x: np.linalg.vecdot(x, x[:, :1]),),
    (lambda x: np.vsplit(x[0], 1),), (lambda x: np.split(x, 4, 1),), (lambda x: np.reshape(x, (4, -1)),), (lambda x: np.concatenate([x, x[:, :1]]),),
    (lambda x: np.sum(x, axis=2),), (lambda x: np.mean(x, axis=(0, 0)),), (lambda x: np.delete(x, 7, 0),), (lambda x: x[5],), (lambda x: x[:, :, 0],),
    (lambda x: np.linalg.inv(x),), (lambda x: np.linalg.cholesky(x[:, :2]),), (lambda x: np.linalg.norm(x, "bad"),), (lambda x: x @ x,), (lambda x: np.dot(x, x),),
    (lambda x: np.einsum("ij,jk", x, x),), (lambda x: np.einsum("ijk", x),), (lambda x: np.pad(x, -1),), (lambda x: np.pad(x, 1, "bad"),), (lambda x: np.quantile(x, 1.5),),
    (lambda x: np.percentile(x, 30, method="bad"),), (lambda x: np.median(x, axis=4),), (lambda x: np.convolve(x, x),), (lambda x: np.diff(x, -1),), (lambda x: np.squeeze(x, 0),),
    (lambda x: np.average(x, weights=[1.0, 2.0]),), (lambda x: np.choose([0, 5], [x[0], x[1]]),), (lambda x: np.stack([x, x[0]]),), (lambda x: np.moveaxis(x, 0, 5),),
    (lambda x: np.take_along_axis(x, np.zeros((2, 1), int), 5),), (lambda x: np.take_along_axis(x, np.zeros((2, 1), int), None),), (lambda x: np.compress([[True], [False]], x),),
    (lambda x: np.take(x, [0], axis=0.0),), (lambda x: np.choose([0.0, 1.0, 0.0], [x[0], x[1]]),),
    (lambda x: np.resize(x, -2),), (lambda x: np.rollaxis(x, 4),), (lambda x: np.cross(x, x, axis=(1,)),), (lambda x: np.linspace(x, 1.0, 4.0),), (lambda x: np.linspace(x, 1.0, -4),),
    (lambda x: np.pad(x, 1.5),), (lambda x: np.polyder(x[0], -1),), (lambda x: np.polyfit(x[0], x[1], 1, w=[1.0]),), (lambda x: np.polyadd(x, x[:1]),), (lambda x: getattr(np, "cumulative_sum", np.median)(x, axis=(0, 1, 2)),),
    (lambda x: np.trace(x[0]),), (lambda x: np.diag(x[None]),), (lambda x: np.polyfit(x[0], x[1, :2], 1),), (lambda x: np.tensordot(x, x, 1),),
]  # fmt: skip


@pytest.mark.parametrize("row", WRONG, ids=range(len(WRONG)))
def test_what_numpy_rejects_raises(row):
    x = Given((row[0], (2, 3))).xs[0]
    with np.errstate(all="ignore"):
        for argument in (x, Tensor(x)):
            with pytest.raises((ValueError, TypeError, IndexError, np.linalg.LinAlgError)):
                row[0](argument)


def test_special_functions_load_after_kernels():
    """The rules of scipy.special are loaded late, when kernels may stand in the registry."""
    program = "import numpy as np, tinygrad_notes as tn, tinygrad_notes.functional, scipy.special; scipy.special.erf(tn.Tensor(np.ones(2)))"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
