"""Normalisation layers; see functional/norms.py for the equations."""

from typing import ClassVar

from tinygrad_notes.core import rerunning
from tinygrad_notes.functional.convolution import check_groups
from tinygrad_notes.functional.define import check_eps
from tinygrad_notes.functional.norms import batch_norm, check_momentum, group_norm, layer_norm, rms_norm
from tinygrad_notes.nn import init
from tinygrad_notes.nn.module import Module
from tinygrad_notes.tensor import Tensor

import numpy as np


class LayerNorm(Module):
    """Over the last axis: x (..., C) -> (..., C)."""

    def __init__(self, width, *, eps=1e-5, bias=True, dtype=np.float32):
        init.check_sizes("LayerNorm", width=width)
        check_eps("LayerNorm", eps)
        self.eps = eps
        self.weight = Tensor(init.ones(width, dtype))  # (C,)
        self.bias = Tensor(init.zeros(width, dtype)) if bias else None  # (C,)

    def __call__(self, x):
        return layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """Over the last axis, without mean and bias: x (..., C) -> (..., C)."""

    def __init__(self, width, *, eps=1e-6, dtype=np.float32):
        init.check_sizes("RMSNorm", width=width)
        check_eps("RMSNorm", eps)
        self.eps = eps
        self.weight = Tensor(init.ones(width, dtype))  # (C,)

    def __call__(self, x):
        return rms_norm(x, self.weight, self.eps)


class GroupNorm(Module):
    """Over groups of channels and all positions of a sample: x (N, C, ...). silu: followed by the SiLU, in the same kernel."""

    def __init__(self, groups, channels, *, eps=1e-5, silu=False, dtype=np.float32):
        init.check_sizes("GroupNorm", channels=channels)
        check_groups("GroupNorm", groups)
        if channels % groups:
            raise ValueError(f"GroupNorm: {channels} channels do not divide into {groups} groups; choose a divisor")
        check_eps("GroupNorm", eps)
        self.groups, self.eps, self.silu = groups, eps, silu
        self.weight = Tensor(init.ones(channels, dtype))  # (C,)
        self.bias = Tensor(init.zeros(channels, dtype))  # (C,)

    def __call__(self, x):
        return group_norm(x, self.groups, self.weight, self.bias, self.eps, silu=self.silu)


class BatchNorm(Module):
    """Over the batch and all positions. train=True uses this batch's statistics and updates the running
    ones in place (once, also where `checkpoint` runs the layer again); train=False uses the running ones."""

    shapes: ClassVar[dict[int, str]] = {}  # the ranks of x that are taken

    def __init__(self, channels, *, eps=1e-5, momentum=0.1, dtype=np.float32):
        init.check_sizes(type(self).__name__, channels=channels)
        check_eps(type(self).__name__, eps)
        check_momentum(type(self).__name__, momentum)
        self.eps, self.momentum = eps, momentum
        self.weight = Tensor(init.ones(channels, dtype))  # (C,)
        self.bias = Tensor(init.zeros(channels, dtype))  # (C,)
        self.running_mean = init.zeros(channels, dtype)  # (C,)
        self.running_var = init.ones(channels, dtype)  # (C,)
        self.num_batches_tracked = np.zeros((), np.int64)

    def __call__(self, x, *, train):
        if x.ndim not in self.shapes:
            raise ValueError(f"{type(self).__name__}: x is {x.shape}, expected {' or '.join(self.shapes.values())}")
        y, mean, var = batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            train=train,
            momentum=self.momentum,
            eps=self.eps,
        )
        if train and not rerunning.get():
            np.copyto(self.running_mean, mean)  # `replay` refuses this; an assignment x[...] = y asks nobody
            np.copyto(self.running_var, var)
            self.num_batches_tracked += 1
        return y


class BatchNorm1d(BatchNorm):
    shapes: ClassVar = {2: "(N, C)", 3: "(N, C, T)"}


class BatchNorm2d(BatchNorm):
    shapes: ClassVar = {4: "(N, C, H, W)"}
