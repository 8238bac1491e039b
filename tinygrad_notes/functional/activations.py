"""Nonlinearities: what a neuron does with its sum, and how scores become probabilities.

Each takes a Tensor or an array of floats of any shape and returns the same shape and dtype.
"""

import math

from tinygrad_notes.functional.define import differentiable, takes_lists
from tinygrad_notes.fused import kernels

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

ANY = [((3, 4),), ((),)]


# --- piecewise linear and exponential -----------------------------------------------------


@differentiable(lambda g, y, x: g * (y > 0), cases=ANY)
def relu(x):
    """max(x, 0), with gradient 0 at 0 (Nair and Hinton, 2010)."""
    return np.maximum(x, 0)


@differentiable(lambda g, y, x, *, slope=0.01: slope * g + (1 - slope) * g * (x > 0), cases=[*ANY, ((3, 4), {"slope": 0.2})])
def leaky_relu(x, slope=0.01):
    """x where x > 0, else slope * x; the gradient at 0 is the slope (Maas et al., 2013)."""
    return np.maximum(x, 0) + slope * np.minimum(x, 0)


@differentiable(
    lambda g, y, x, *, alpha=1.0: g * ((x > 0) + alpha * np.exp(np.minimum(x, 0)) * (x <= 0)),
    cases=[*ANY, ((3, 4), {"alpha": 0.5})],
)
def elu(x, alpha=1.0):
    """x where x > 0, else alpha * (e^x - 1) (Clevert et al., 2015)."""
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))


# --- the logistic family --------------------------------------------------------------------


@differentiable(lambda g, y, x: g * y * (1 - y), cases=ANY)
def sigmoid(x):
    """1 / (1 + e^-x), to full relative precision for negative x and without overflow."""
    with np.errstate(over="ignore"):  # e^-x = inf gives the right limit, 0
        return 1 / (1 + np.exp(-x))


@differentiable(lambda g, y, x: g * sigmoid(x), cases=ANY)
def softplus(x):
    """log(1 + e^x), stable for every x: the integral of the sigmoid, a smooth relu."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@takes_lists("x")
def log_sigmoid(x):
    """log(sigmoid(x)) = -softplus(-x), finite for every finite x."""
    return -softplus(-x)


@takes_lists("x")
def silu(x):
    """x * sigmoid(x): swish with beta = 1 (Elfwing et al., 2017; Ramachandran et al., 2017)."""
    return kernels.silu(x)


@takes_lists("x", "beta")
def swish(x, beta):
    """x * sigmoid(beta * x) (Ramachandran et al., 2017); beta a number, or learnable: any shape that broadcasts."""
    return x * sigmoid(beta * x)


# --- the Gaussian family --------------------------------------------------------------------


@differentiable(lambda g, y, x: g * np.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi)), cases=ANY)
def normal_cdf(x):
    """The probability that a standard normal variable is below x: erfc(-x / sqrt(2)) / 2, to full relative precision."""
    from scipy.special import erfc  # scipy.special takes a while to load, and not every program needs it

    return 0.5 * erfc(x * -math.sqrt(0.5))  # 1 + erf would keep no digits of a small probability


@takes_lists("x")
def gelu(x):
    """x * normal_cdf(x), exact (Hendrycks and Gimpel, 2016): BERT, ViT. See `gelu_tanh` for GPT-2's."""
    return kernels.gelu(x)


@takes_lists("x")
def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): within 5e-4 of `gelu` (Hendrycks and Gimpel, 2016); GPT-2's."""
    return kernels.gelu_tanh(x)


# --- gated linear units: half of the channels decides how much of the other half passes ------


def halves(name, x):
    """The two halves of the last axis: values and gates."""
    try:
        C = x.shape[-1]
    except IndexError:
        raise ValueError(f"{name}: x {x.shape} has no axis, expected (..., 2C): values, then gates") from None
    if C % 2:
        raise ValueError(f"{name}: the last axis of x {x.shape} has odd length {C}, expected an even one: values, then gates")
    return x[..., : C // 2], x[..., C // 2 :]


@takes_lists("x")
def glu(x):
    """a * sigmoid(b) for (..., 2C) -> (..., C), x = (a, b) (Dauphin et al., 2016)."""
    a, b = halves("glu", x)
    return a * sigmoid(b)


@takes_lists("x")
def swiglu(x):
    """a * silu(b) for (..., 2C) -> (..., C), x = (a, b) (Shazeer, 2020)."""
    halves("swiglu", x)
    return kernels.swiglu(x)


@takes_lists("x")
def geglu(x):
    """a * gelu(b) for (..., 2C) -> (..., C), x = (a, b) (Shazeer, 2020)."""
    a, b = halves("geglu", x)
    return a * gelu(b)


# --- scores to probabilities ------------------------------------------------------------------


def check_scores(name, x):
    if x.dtype.kind != "f" or x.ndim == 0:
        raise TypeError(f"{name}: x is {x.dtype} {x.shape}, expected floats with at least one axis; convert with x.astype(np.float32)")


SCORES = [((3, 4),), ((2, 3, 4), {"axis": 1}), ((2, 3, 4), {"axis": (0, -1)}), ((4,), {"axis": None})]


def along(kernel, x, axis):
    """A kernel for the last axis, along others: these are moved to the end, joined to one, and moved back."""
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    if axes == (x.ndim - 1,):
        return kernel(x)
    last = range(-len(axes), 0)
    moved = np.moveaxis(x, axes, last)
    others = moved.shape[: x.ndim - len(axes)]
    joined = moved.reshape(*others, math.prod(moved.shape[len(others) :]))
    return np.moveaxis(kernel(joined).reshape(moved.shape), last, axes)


@takes_lists("x")
def softmax(x, axis=-1):
    """e^x / sum(e^x) along an axis (or several, or None for all): positive, with sum 1.

    Entries of -inf are masked: they get probability 0, and an all -inf row is all zeros with zero gradient.
    """
    check_scores("softmax", x)
    return along(kernels.softmax, x, axis)


@takes_lists("x")
def log_softmax(x, axis=-1):
    """log(softmax(x)) along an axis without cancellation; -inf with zero gradient where x is -inf."""
    check_scores("log_softmax", x)
    return along(kernels.log_softmax, x, axis)


def logsumexp_rule(g, y, x, *, axis=-1, keepdims=False):
    if not keepdims:
        g = np.expand_dims(g, tuple(range(x.ndim)) if axis is None else axis)
    return g * softmax(x, axis=axis)  # exp(x - y) would have the rounding error of y, which is large for large x


@differentiable(logsumexp_rule, cases=[*SCORES, ((3, 4), {"keepdims": True}), ((3, 4), {"axis": 0, "keepdims": True})])
def logsumexp(x, axis=-1, keepdims=False):
    """log(sum(e^x)) along an axis (or several, or None for all): a smooth maximum, whose gradient is the softmax.

    -inf, with zero gradient, where all entries are -inf; inf where one is.
    """
    check_scores("logsumexp", x)
    limits = np.finfo(x.dtype)
    largest = np.clip(x.max(axis=axis, keepdims=True, initial=limits.min), None, limits.max)
    with np.errstate(divide="ignore"):  # log(0) = -inf is the value of an empty sum
        y = np.log(np.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
    return y if keepdims else np.squeeze(y, axis=axis)
