"""AdamW by hand, over one flat buffer: for the engines that bring no optimizer of their own."""

import math

from benchmarks.workloads import ADAMW, Prepared

import numpy as np

CHUNK = 65_536  # elements updated at a time, so that all five arrays stay in the cache


class Flat:
    """Named arrays side by side in one buffer: `flat` is the whole, `views[name]` a part."""

    def __init__(self, arrays):
        self.flat = np.empty(sum(a.size for a in arrays.values()), np.float32)
        self.views, start = {}, 0
        for name, a in arrays.items():
            self.views[name] = self.flat[start : start + a.size].reshape(a.shape)
            self.views[name][...] = a
            start += a.size


class AdamW:
    """p: flat weights, changed in place by `step`, given flat gradients g (Loshchilov and Hutter, 2019)."""

    def __init__(self, p):
        self.p, self.t = p, 0
        self.m, self.v, self.scratch = np.zeros_like(p), np.zeros_like(p), np.empty(CHUNK, p.dtype)

    def step(self, g):
        lr, (beta1, beta2), eps, decay = ADAMW.values()
        self.t += 1
        bias1, root2 = 1 - beta1**self.t, math.sqrt(1 - beta2**self.t)
        for start in range(0, len(g), CHUNK):
            p, m, v, gi = (x[start : start + CHUNK] for x in (self.p, self.m, self.v, g))
            a = self.scratch[: len(p)]
            m *= beta1
            m += np.multiply(gi, 1 - beta1, out=a)
            v *= beta2
            np.multiply(gi, gi, out=a)
            a *= 1 - beta2
            v += a
            np.sqrt(v, out=a)
            a += root2 * eps
            np.divide(m, a, out=a)  # lr (m / bias1) / (sqrt(v) / root2 + eps), with the constants taken together
            a *= lr * root2 / bias1
            p *= 1 - lr * decay
            p -= a


def functional(params, loss_and_gradients, workload):
    """loss_and_gradients(dict of arrays) -> loss, dict of arrays: for the engines without an optimizer."""
    weights, grads = Flat(params), Flat(params)
    opt = AdamW(weights.flat)

    def outputs():
        loss, found = loss_and_gradients(weights.views)
        return {"loss": np.asarray(loss), **found}

    def step():
        _, found = loss_and_gradients(weights.views)
        for name, g in found.items():
            grads.views[name][...] = g
        opt.step(grads.flat)

    if not workload.trained:
        return Prepared(lambda: loss_and_gradients(weights.views), outputs, dict)
    return Prepared(step, outputs, lambda: weights.views)
