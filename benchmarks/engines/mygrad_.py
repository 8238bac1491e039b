"""MyGrad: plain NumPy programs under mygrad, and AdamW by hand."""

from benchmarks import matmul, plain
from benchmarks.adamw import functional

import mygrad as mg
import numpy as np
from mygrad.nnet.layers import conv_nd


def about():
    return {"MyGrad": mg.__version__, "NumPy": np.__version__, "matrix product of 1024 x 1024": matmul.rate(np.asarray)}


def convolve(x, w):
    return conv_nd(x, w, stride=1, padding=1)


def prepare(workload, params, batch):
    def loss_and_gradients(arrays):
        p = {name: mg.tensor(a, copy=False) for name, a in arrays.items()}
        loss = plain.loss(mg, workload, p, batch, convolve)
        loss.backward()
        return loss.item(), {name: t.grad for name, t in p.items()}

    return functional(params, loss_and_gradients, workload)
