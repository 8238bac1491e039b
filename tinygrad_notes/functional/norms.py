"""Normalisation: give activations mean 0 and size 1, then let the model scale and shift them.

Those over one example at a time are kernels (fused/); `batch_norm` is an operation with its rule.
"""

from tinygrad_notes.functional.define import check_eps, check_flag, check_integer, differentiable, no_number, takes_lists
from tinygrad_notes.fused import kernels
from tinygrad_notes.transforms import stop_gradient

import numpy as np


def mean(x, axes):
    """The mean over several axes, kept with length 1."""
    total = x.sum(axis=axes, keepdims=True)
    return total * (total.size / x.size)


def standardise_rule(g, y, x, weight, bias, *, axes, eps):
    centred = x - mean(x, axes)
    r = 1 / np.sqrt(mean(centred * centred, axes) + eps)  # one over the standard deviation
    z = centred * r
    gz = g if weight is None else g * weight
    # mean and r depend on x as well: what moves all of z together, or along z, has no effect.
    gx = r * (gz - mean(gz, axes) - z * mean(gz * z, axes))
    return gx, None if weight is None else g * z, g


AFFINE = {"axes": (-1,), "eps": 1e-5}


@differentiable(
    standardise_rule,
    cases=[
        ((3, 4), None, None, AFFINE),
        ((3, 4), (4,), None, AFFINE),
        ((2, 3, 4), (4,), (4,), AFFINE),
        ((2, 3, 4), (3, 1), (3, 1), {"axes": (0, 2), "eps": 0.1}),
    ],
)
def standardise(x, weight, bias, *, axes, eps):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and variance (divided by n) over the axes."""
    centred = x - mean(x, axes)
    y = centred * (1 / np.sqrt(mean(centred * centred, axes) + eps))
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y


def channels(name, x):
    if x.ndim < 2:
        raise ValueError(f"{name}: x {x.shape} has no channel axis; expected (N, C, ...)")
    return x.shape[1]


def no_axis(name):
    return ValueError(f"{name}: x () has no axis to normalise over; expected (..., C)")


def check_affine(name, x, C, **vectors):
    """Weights and biases have one number per channel."""
    for label, v in vectors.items():
        if v is not None and v.shape != (C,):
            raise ValueError(f"{name}: x {x.shape} has {C} channels but {label} is {v.shape}; expected ({C},)")


def check_momentum(name, momentum):
    try:
        fits = 0 <= momentum <= 1
    except (TypeError, ValueError):
        raise no_number(name, "momentum", momentum) from None
    if not fits:
        raise ValueError(f"{name}: momentum is {momentum}, expected a number from 0 to 1: how far the running statistics move")


def in_float32(norm, *arrays, **settings):
    """A norm of float16 numbers, whose squares would overflow from 256 on; the result is float16 again."""
    return norm(*(a if a is None else a.astype(np.float32) for a in arrays), **settings).astype(np.float16)


@takes_lists("x", "weight", "bias")
def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al., 2016).

    x (..., C); weight, bias (C,) or None. The same for every a > 0 and c: layer_norm(a x + c), as eps goes to 0.
    """
    try:
        C = x.shape[-1]
    except IndexError:
        raise no_axis("layer_norm") from None
    check_affine("layer_norm", x, C, weight=weight, bias=bias)
    check_eps("layer_norm", eps)
    if x.dtype == np.float16:
        return in_float32(layer_norm, x, weight, bias, eps=eps)
    return kernels.layer_norm(x, weight, bias, eps=eps)


@takes_lists("x", "weight")
def rms_norm(x, weight=None, eps=1e-6):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, 2019): LLaMA, T5.

    x (..., C); weight (C,) or None.
    """
    try:
        C = x.shape[-1]
    except IndexError:
        raise no_axis("rms_norm") from None
    check_affine("rms_norm", x, C, weight=weight)
    check_eps("rms_norm", eps)
    if x.dtype == np.float16:
        return in_float32(rms_norm, x, weight, eps=eps)
    return kernels.rms_norm(x, weight, eps=eps)


@takes_lists("x", "weight", "bias", "running_mean", "running_var")
def batch_norm(x, weight, bias, running_mean, running_var, *, train, momentum=0.1, eps=1e-5):
    """Standardise each channel over the batch and all positions (Ioffe and Szegedy, 2015).

    x (N, C, ...); weight, bias (C,) or None; running_mean, running_var (C,) arrays.
    train=True uses the statistics of this batch and moves the running ones by `momentum` towards
    them (the running variance is the unbiased one); train=False uses the running ones.
    Returns (y, running_mean, running_var); the running statistics given are left as they are.
    """
    C = channels("batch_norm", x)
    check_affine("batch_norm", x, C, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    check_flag("batch_norm", "train", train)
    check_eps("batch_norm", eps)
    check_momentum("batch_norm", momentum)
    column = (C, *(1 for _ in x.shape[2:]))
    weight = None if weight is None else weight.reshape(column)
    bias = None if bias is None else bias.reshape(column)
    if not train:
        scale = 1 / np.sqrt(running_var.reshape(column) + eps)
        y = (x - running_mean.reshape(column)) * (scale if weight is None else scale * weight)
        return y if bias is None else y + bias, running_mean, running_var
    axes = (0, *range(2, x.ndim))
    n = x.size // C
    batch = stop_gradient(x)
    new_mean = running_mean + momentum * (batch.mean(axis=axes) - running_mean)
    new_var = running_var + momentum * (batch.var(axis=axes) * (n / max(n - 1, 1)) - running_var)
    return standardise(x, weight, bias, axes=axes, eps=eps), new_mean, new_var


@takes_lists("x", "weight", "bias")
def group_norm(x, groups, weight=None, bias=None, eps=1e-5, *, silu=False):
    """Standardise each sample over groups of neighbouring channels and all positions (Wu and He, 2018).

    x (N, C, ...) with C a multiple of `groups`; weight, bias (C,) or None. groups=1 normalises a
    sample as a whole, groups=C each channel by itself ("instance norm"). silu: the SiLU of the result,
    in the same kernel, as the blocks of a U-Net have it.
    """
    C = channels("group_norm", x)
    check_affine("group_norm", x, C, weight=weight, bias=bias)
    check_eps("group_norm", eps)
    if silu.__class__ is not bool:
        check_flag("group_norm", "silu", silu)
    if type(groups) is not int:
        check_integer("group_norm", "groups", groups)
    if groups < 1 or C % groups:
        raise ValueError(f"group_norm: {C} channels do not divide into {groups} groups; x {x.shape}")
    if x.dtype == np.float16:
        return in_float32(lambda x, w, b: group_norm(x, groups, w, b, eps, silu=silu), x, weight, bias)
    return kernels.group_norm(x, weight, bias, groups=groups, eps=eps, silu=silu)
