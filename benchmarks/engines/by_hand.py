"""NumPy without an engine: forward and backward written out by hand (benchmarks/by_hand/), as fast as they get while readable.

This is the floor for anything built on NumPy. Weights and gradients are views of flat buffers,
gradients are written into their places, and arrays that are not needed any more are overwritten.
"""

import tinygrad_notes  # noqa: F401  (before NumPy: the same allocator and BLAS kernels as the engine has)
from benchmarks import matmul
from benchmarks.by_hand.attention import attention
from benchmarks.by_hand.convolution import conv
from benchmarks.by_hand.language import decode, language
from benchmarks.by_hand.layers import mlp
from benchmarks.workloads import Prepared

import numpy as np


def about():
    return {"NumPy": np.__version__, "matrix product of 1024 x 1024": matmul.rate(np.asarray)}


def prepare(workload, params, batch):
    return PREPARE[workload.model](params, batch, **workload.sizes)


def tape(params, batch, *, repeats, n):
    x0, a, b = params["x"], params["a"], params["b"]

    def step():
        x, saved = x0, []
        for _ in range(repeats):
            y = np.tanh(x * a + b)
            saved.append((x, y))
            x = y
        dx, da, db = np.ones(n, x.dtype), 0, 0
        for x_in, y in reversed(saved):
            du = dx * (1 - y * y)
            db = db + du
            da = da + du * x_in
            dx = du * a
        return x, (dx, da, db)

    def outputs():
        y, gradients = step()
        return {"loss": np.asarray(y.sum()), **dict(zip("xab", gradients))}

    return Prepared(step, outputs, dict)


PREPARE = {"mlp": mlp, "conv": conv, "gpt": language, "attention": attention, "tape": tape, "decode": decode}
