"""Convolution layers; see functional/convolution.py for the equations."""

from tinygrad_notes.functional.convolution import check_groups, conv1d, conv2d, conv_transpose2d, each_axis
from tinygrad_notes.nn import init
from tinygrad_notes.nn.basic import variable
from tinygrad_notes.nn.module import Module
from tinygrad_notes.tensor import Tensor

import numpy as np


def check_layer(name, groups, rng, **channels):
    init.check_sizes(name, **channels)
    init.check_rng(name, rng)
    check_groups(name, groups)
    for label, n in channels.items():
        if n % groups:
            raise ValueError(f"{name}: {n} {label} do not divide into {groups} groups; choose a divisor")


class Conv1d(Module):
    """x (N, C, T) -> (N, O, T')."""

    def __init__(self, inputs, outputs, kernel, *, stride=1, padding=0, dilation=1, groups=1, bias=True, rng, dtype=np.float32):
        check_layer("Conv1d", groups, rng, inputs=inputs, outputs=outputs)
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = (outputs, inputs // groups, *each_axis("Conv1d", "kernel", kernel, 1, 1))
        weight, b = init.default(shape, outputs, rng, bias=bias, dtype=dtype)
        self.weight = Tensor(weight)  # (O, C / groups, K)
        self.bias = variable(b)  # (O,) or None

    def __call__(self, x):
        return conv1d(x, self.weight, self.bias, **self.geometry)


class Conv2d(Module):
    """x (N, C, H, W) -> (N, O, H', W'); kernel, stride, padding and dilation are numbers or pairs."""

    def __init__(self, inputs, outputs, kernel, *, stride=1, padding=0, dilation=1, groups=1, bias=True, rng, dtype=np.float32):
        check_layer("Conv2d", groups, rng, inputs=inputs, outputs=outputs)
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = (outputs, inputs // groups, *each_axis("Conv2d", "kernel", kernel, 2, 1))
        weight, b = init.default(shape, outputs, rng, bias=bias, dtype=dtype)
        self.weight = Tensor(weight)  # (O, C / groups, KH, KW)
        self.bias = variable(b)  # (O,) or None

    def __call__(self, x):
        return conv2d(x, self.weight, self.bias, **self.geometry)


class ConvTranspose2d(Module):
    """x (N, C, H, W) -> (N, O, H', W'), larger by the stride."""

    def __init__(
        self, inputs, outputs, kernel, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1, bias=True, rng, dtype=np.float32
    ):
        check_layer("ConvTranspose2d", groups, rng, inputs=inputs, outputs=outputs)
        self.geometry = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation, "groups": groups}
        shape = (inputs, outputs // groups, *each_axis("ConvTranspose2d", "kernel", kernel, 2, 1))
        weight, b = init.default(shape, outputs, rng, bias=bias, dtype=dtype)
        self.weight = Tensor(weight)  # (C, O / groups, KH, KW)
        self.bias = variable(b)  # (O,) or None

    def __call__(self, x):
        return conv_transpose2d(x, self.weight, self.bias, **self.geometry)
