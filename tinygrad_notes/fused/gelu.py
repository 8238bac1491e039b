"""GELU (Hendrycks and Gimpel, 2016): x times the probability that a standard normal variable is below x.

    exact:   y = x Phi(x)                                dx = dy (Phi(x) + x phi(x))
    tanh:    y = x s,  s = (1 + tanh u) / 2 = sigmoid(2 u),  u = sqrt(2/pi) (x + 0.044715 x^3)
             dx = dy s (1 + 2 x u' (1 - s))

In float32 the exact form has its own Phi, because scipy's erfc takes ten times as long:

    Phi(-a) = phi(a) t (c1 + c2 t + ... + c8 t^7),   t = 1 / (1 + 0.3 a),   a = |x| <= 13.5

The c are a minimax fit of Mills' ratio, Phi(-a) / phi(a), with a relative error of 1.3e-7, one unit in the last place of float32:
the tail keeps its digits (docs/verification.md has the error of gelu against mpmath, in ULP). float64 takes scipy's erfc.
"""

import math

from tinygrad_notes.fused.rows import in_chunks
from tinygrad_notes.fused.silu import sigmoid_of_negative
from tinygrad_notes.registry import fused

import numpy as np

DENSITY = 1 / math.sqrt(2 * math.pi)  # phi(0)
MILLS = [0.299858891, 0.30279658, 0.249754165, 0.324531133, -0.13885173, 0.521896505, -0.396739061, 0.0900674940]  # c1 ... c8


def phi_into(out, x):
    """out = phi(x), the density e^(-x^2 / 2) / sqrt(2 pi)."""
    np.multiply(x, x, out=out)
    out *= -0.5
    np.exp(out, out=out)
    out *= DENSITY
    return out


def cumulative_into(out, x):
    """out = Phi(x): by the fit for float32, by scipy's erfc for wider types."""
    if x.dtype != np.float32:
        from scipy.special import erfc  # scipy.special takes a while to load, and not every program needs it

        np.multiply(x, -math.sqrt(0.5), out=out)
        erfc(out, out=out)
        out *= 0.5
        return out
    t = np.abs(x)
    t *= 0.3
    t += 1
    np.divide(1, t, out=t)
    ratio = np.full_like(t, MILLS[-1])
    for c in MILLS[-2::-1]:
        ratio *= t
        ratio += c
    ratio *= t
    phi_into(out, x)
    out *= ratio  # Phi(-|x|)
    np.subtract(x > 0, out, out=out)  # 1 - Phi(-x) or, where x <= 0, -Phi(x): no digit of a small tail is lost
    return np.abs(out, out=out)


def forward(x):
    """x of any shape -> y as x; saved is Phi(x), flat"""
    flat = x.reshape(-1)
    y, cumulative = np.empty_like(flat), np.empty_like(flat)

    def fill(c):
        np.multiply(flat[c], cumulative_into(cumulative[c], flat[c]), out=y[c])

    in_chunks(fill, flat.size, 250)
    return y.reshape(x.shape), cumulative


def backward(dy, cumulative, x, *, needs):
    """dy as y, Phi(x) flat -> dx as x"""
    flat, dy = x.reshape(-1), dy.reshape(-1)
    dx = np.empty_like(flat)

    def fill(c):
        slope = phi_into(dx[c], flat[c])
        slope *= flat[c]
        slope += cumulative[c]
        slope *= dy[c]

    in_chunks(fill, flat.size, 90)
    return (dx.reshape(x.shape),)


def reference(x):
    """x * erfc(-x / sqrt(2)) / 2"""
    from scipy.special import erfc

    y = x * (0.5 * erfc(x * -math.sqrt(0.5)))
    return y.astype(np.float16) if getattr(x, "dtype", None) == np.float16 else y  # SciPy widens float16


gelu = fused("gelu", forward, backward, reference, cases=[((3, 4),), ((),)])

SLOPE, CUBIC = math.sqrt(2 / math.pi), 0.044715


def tanh_forward(x):
    """x of any shape -> y as x; saved is s, flat"""
    flat = x.reshape(-1)
    y, s = np.empty_like(flat), np.empty_like(flat)

    def fill(c):
        minus_2u = np.multiply(flat[c], flat[c], out=s[c])
        minus_2u *= -2 * SLOPE * CUBIC
        minus_2u -= 2 * SLOPE
        minus_2u *= flat[c]
        np.multiply(flat[c], sigmoid_of_negative(minus_2u), out=y[c])

    in_chunks(fill, flat.size, 110)
    return y.reshape(x.shape), s


def tanh_backward(dy, s, x, *, needs):
    """dy as y, s flat -> dx as x"""
    flat, dy = x.reshape(-1), dy.reshape(-1)
    dx = np.empty_like(flat)

    def fill(c):
        slope = np.multiply(flat[c], flat[c], out=dx[c])
        slope *= 6 * SLOPE * CUBIC
        slope += 2 * SLOPE  # 2 u'
        slope *= flat[c]
        slope *= 1 - s[c]
        slope += 1
        slope *= s[c]
        slope *= dy[c]

    in_chunks(fill, flat.size, 80)
    return (dx.reshape(x.shape),)


def tanh_reference(x):
    """x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, as x * sigmoid(2 u): 1 + tanh u would cancel for negative u"""
    return x * np.exp(-np.logaddexp(0, -2 * SLOPE * (x + CUBIC * (x * x * x))))


gelu_tanh = fused("gelu_tanh", tanh_forward, tanh_backward, tanh_reference, cases=[((3, 4),), ((),)])
