"""HIPS autograd: plain NumPy programs under autograd.numpy, and AdamW by hand."""

from benchmarks import matmul, plain
from benchmarks.adamw import functional

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad


def about():
    from importlib.metadata import version

    return {"HIPS autograd": version("autograd"), "NumPy": np.__version__, "matrix product of 1024 x 1024": matmul.rate(np.asarray)}


def convolve(x, w):
    """The nine places of the kernel as nine products of matrices."""
    H, W = x.shape[2:]
    x = anp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), "constant")
    y = 0
    for a in range(3):
        for b in range(3):
            part = anp.reshape(x[:, :, a : a + H, b : b + W], (x.shape[0], x.shape[1], H * W))
            y = y + w[:, :, a, b] @ part
    return anp.reshape(y, (x.shape[0], -1, H, W))


def prepare(workload, params, batch):
    return functional(params, value_and_grad(lambda p: plain.loss(anp, workload, p, batch, convolve)), workload)
