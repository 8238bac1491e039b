"""Initial weights, by their names. Each returns an array of the given shape.

A weight is (out, in) or (out, in, *kernel): its fan-in is in * members of the kernel, its fan-out
out * members of the kernel.
"""

import math

from tinygrad_notes.functional.define import check_integer, no_generator

import numpy as np


def check_rng(name, rng):
    """TypeError for what is no generator of its own: a seed, or np.random, from which everybody draws."""
    if not hasattr(rng, "uniform") or rng is np.random:
        raise no_generator(name, rng)


def generator(rng):
    check_rng("init", rng)
    return rng


def check_sizes(layer, **sizes):
    """TypeError or ValueError unless each size is an integer of at least 1."""
    for label, n in sizes.items():
        check_integer(layer, label, n)
        if n < 1:
            raise ValueError(f"{layer}: {label}={n}, expected at least 1")


def zeros(shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def ones(shape, dtype=np.float32):
    return np.ones(shape, dtype)


def normal(shape, rng, *, mean=0.0, std=1.0, dtype=np.float32):
    """Draws from N(mean, std^2)."""
    return generator(rng).normal(mean, std, shape).astype(dtype)


def uniform(shape, rng, *, low=0.0, high=1.0, dtype=np.float32):
    """Draws from [low, high)."""
    return generator(rng).uniform(low, high, shape).astype(dtype)


def trunc_normal(shape, rng, *, mean=0.0, std=1.0, low=-2.0, high=2.0, dtype=np.float32):
    """Draws from N(mean, std^2) among those between low and high (not counted in standard deviations)."""
    from scipy.special import ndtr, ndtri

    p = generator(rng).uniform(ndtr((low - mean) / std), ndtr((high - mean) / std), shape)
    return np.clip(mean + std * ndtri(p), low, high).astype(dtype)


def fans(shape):
    """(fan-in, fan-out) of a weight."""
    if len(shape) < 2:
        raise ValueError(f"init: shape {shape} has no fan-in and fan-out; expected (out, in) or (out, in, *kernel)")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def xavier_uniform(shape, rng, *, gain=1.0, dtype=np.float32):
    """Uniform with standard deviation gain * sqrt(2 / (fan_in + fan_out)): signals and gradients keep their size (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return uniform(shape, rng, low=-bound, high=bound, dtype=dtype)


def xavier_normal(shape, rng, *, gain=1.0, dtype=np.float32):
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return normal(shape, rng, std=gain * math.sqrt(2 / sum(fans(shape))), dtype=dtype)


def kaiming_std(shape, slope, mode):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode={mode!r}, expected 'fan_in' or 'fan_out'")
    return math.sqrt(2 / ((1 + slope * slope) * fans(shape)[mode == "fan_out"]))


def kaiming_uniform(shape, rng, *, slope=0.0, mode="fan_in", dtype=np.float32):
    """Uniform with standard deviation sqrt(2 / (1 + slope^2) / fan): keeps signals their size through relu (He et al., 2015).

    slope: of the leaky relu that follows. mode: "fan_in" keeps the signals, "fan_out" the gradients.
    """
    bound = math.sqrt(3) * kaiming_std(shape, slope, mode)
    return uniform(shape, rng, low=-bound, high=bound, dtype=dtype)


def kaiming_normal(shape, rng, *, slope=0.0, mode="fan_in", dtype=np.float32):
    """Normal with standard deviation sqrt(2 / (1 + slope^2) / fan); see `kaiming_uniform`."""
    return normal(shape, rng, std=kaiming_std(shape, slope, mode), dtype=dtype)


def orthogonal(shape, rng, *, gain=1.0, dtype=np.float32):
    """gain times a random matrix (out, in * kernel) with orthonormal rows, or columns if there are more rows (Saxe et al., 2013)."""
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(generator(rng).normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1, 1)  # so that every orthogonal matrix is equally likely
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


def default(shape, outputs, rng, *, bias=True, dtype=np.float32):
    """PyTorch's choice for linear maps and convolutions: weight and bias uniform within 1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fans(shape)[0])
    weight = uniform(shape, rng, low=-bound, high=bound, dtype=dtype)
    return weight, uniform((outputs,), rng, low=-bound, high=bound, dtype=dtype) if bias else None
