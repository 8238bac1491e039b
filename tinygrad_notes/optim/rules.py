"""The update rules. t counts steps from 1, g is the gradient, p the parameter; divisions and roots are elementwise.

Each formula is PyTorch's: `tests/parity` holds them equal over many steps.
"""

import math

from tinygrad_notes.optim.optimizer import Optimizer

import numpy as np


def _with_decay(p, g, decay, out):
    """g + decay * p: the gradient of the loss with the penalty decay/2 |p|^2 (L2 regularisation)."""
    if not decay:
        return g
    np.multiply(p, decay, out=out)
    out += g
    return out


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins and Monro 1951) with heavy-ball or Nesterov momentum.

        m <- momentum m + g
        p <- p - lr m                         (Nesterov: p - lr (g + momentum m))

    as in Sutskever, Martens, Dahl and Hinton 2013, with the learning rate outside m. Weight decay is
    added to the gradient: g + weight_decay p.
    """

    def __init__(self, params, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0, decay=None):
        self.momentum, self.nesterov = momentum, nesterov
        self.moments = ("m",) if momentum else ()
        super().__init__(params, lr=lr, weight_decay=weight_decay, decay=decay)
        self._fraction("momentum", momentum)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov=True needs a momentum above 0, e.g. momentum=0.9")

    def update(self, p, g, lr, decay, moments, scratch):
        a, b = scratch
        g = _with_decay(p, g, decay, out=a)
        if self.momentum:
            (m,) = moments
            m *= self.momentum
            m += g
            if self.nesterov:
                np.multiply(m, self.momentum, out=b)
                b += g
                g = b
            else:
                g = m
        np.multiply(g, lr, out=b)
        p -= b


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1).

        m <- beta1 m + (1 - beta1) g          mean of the gradients
        v <- beta2 v + (1 - beta2) g^2        mean of their squares
        p <- p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Weight decay is added to the gradient (L2); see AdamW for the decoupled one.
    """

    moments = ("m", "v")

    def __init__(self, params, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decay=None):
        super().__init__(params, lr=lr, weight_decay=weight_decay, decay=decay)
        self.beta1, self.beta2 = self._betas(betas)
        self.eps = self._at_least_zero("eps", eps)

    def update(self, p, g, lr, decay, moments, scratch):
        a, b = scratch
        m, v = moments
        g = _with_decay(p, g, decay, out=a)
        m *= self.beta1
        np.multiply(g, 1 - self.beta1, out=b)
        m += b
        v *= self.beta2
        np.multiply(g, g, out=b)
        b *= 1 - self.beta2
        v += b
        # lr m / bias1 / (sqrt(v) / root2 + eps) = (lr root2 / bias1) m / (sqrt(v) + root2 eps): one pass fewer
        bias1, root2 = 1 - self.beta1**self.steps, math.sqrt(1 - self.beta2**self.steps)
        np.sqrt(v, out=b)
        b += root2 * self.eps
        np.divide(m, b, out=b)
        b *= lr * root2 / bias1
        p -= b


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

        p <- p - lr weight_decay p            before Adam's update, which does not see the decay

    weight_decay is 0.01 and applies to all parameters by default, as in PyTorch; `decay` chooses.
    """

    def __init__(self, params, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decay=None):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decay=decay)

    def update(self, p, g, lr, decay, moments, scratch):
        if decay:
            p *= 1 - lr * decay
        super().update(p, g, lr, 0.0, moments, scratch)


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011): each step is divided by the root of the sum of all squares so far.

    s <- s + g^2
    p <- p - lr g / (sqrt(s) + eps)
    """

    moments = ("s",)

    def __init__(self, params, *, lr, eps=1e-10, weight_decay=0.0, decay=None):
        super().__init__(params, lr=lr, weight_decay=weight_decay, decay=decay)
        self.eps = self._at_least_zero("eps", eps)

    def update(self, p, g, lr, decay, moments, scratch):
        a, b = scratch
        (s,) = moments
        g = _with_decay(p, g, decay, out=a)
        np.multiply(g, g, out=b)
        s += b
        np.sqrt(s, out=b)
        b += self.eps
        np.divide(g, b, out=b)
        b *= lr
        p -= b


class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton 2012, lecture 6.5); centred as in Graves 2013, equations 38 to 45.

    v <- alpha v + (1 - alpha) g^2
    a <- alpha a + (1 - alpha) g          (centered: v - a^2, the variance, takes the place of v)
    u <- momentum u + g / (sqrt(v) + eps)
    p <- p - lr u
    """

    def __init__(self, params, *, lr, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0, decay=None):
        self.momentum, self.centered = momentum, centered
        self.moments = ("v", *(["a"] if centered else []), *(["u"] if momentum else []))
        super().__init__(params, lr=lr, weight_decay=weight_decay, decay=decay)
        self.alpha, self.eps = self._fraction("alpha", alpha), self._at_least_zero("eps", eps)
        self._fraction("momentum", momentum)

    def update(self, p, g, lr, decay, moments, scratch):
        a, b = scratch
        v, *others = moments
        g = _with_decay(p, g, decay, out=a)
        v *= self.alpha
        np.multiply(g, g, out=b)
        b *= 1 - self.alpha
        v += b
        if self.centered:
            mean = others[0]
            mean *= self.alpha
            np.multiply(g, 1 - self.alpha, out=b)
            mean += b
            np.multiply(mean, mean, out=b)
            np.subtract(v, b, out=b)
            np.maximum(b, 0, out=b)  # rounding may leave a variance just below zero
            np.sqrt(b, out=b)
        else:
            np.sqrt(v, out=b)
        b += self.eps
        np.divide(g, b, out=b)
        if self.momentum:
            u = others[-1]
            u *= self.momentum
            u += b
            np.multiply(u, lr, out=b)
        else:
            b *= lr
        p -= b


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2): the sign of a mean of gradients, so every step has the length lr.

        p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p)
        m <- beta2 m + (1 - beta2) g

    The paper uses a learning rate 3 to 10 times smaller, and a decay as much larger, than for AdamW.
    """

    moments = ("m",)

    def __init__(self, params, *, lr, betas=(0.9, 0.99), weight_decay=0.0, decay=None):
        super().__init__(params, lr=lr, weight_decay=weight_decay, decay=decay)
        self.beta1, self.beta2 = self._betas(betas)

    def update(self, p, g, lr, decay, moments, scratch):
        a, b = scratch
        (m,) = moments
        if decay:
            p *= 1 - lr * decay
        np.multiply(m, self.beta1, out=a)
        np.multiply(g, 1 - self.beta1, out=b)
        a += b
        np.sign(a, out=a)
        a *= lr
        p -= a
        m *= self.beta2
        np.multiply(g, 1 - self.beta2, out=b)
        m += b
