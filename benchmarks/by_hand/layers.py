"""Layers by hand, x is (n, C): each `..._backward` takes dy, the gradient of y, and what its forward pass returned beside y."""

import math

from benchmarks.adamw import AdamW, Flat
from benchmarks.workloads import EPS, Prepared

import numpy as np
from scipy.sparse import csr_array


def training(params, loss_and_gradients):
    """loss_and_gradients(p, d) -> loss; writes the gradients of p[name] into d[name]."""
    weights, grads = Flat(params), Flat(params)
    p, d = weights.views, grads.views
    opt = AdamW(weights.flat)

    def step():
        loss_and_gradients(p, d)
        opt.step(grads.flat)

    def outputs():
        loss = loss_and_gradients(p, d)
        return {"loss": np.asarray(loss), **{name: g.copy() for name, g in d.items()}}

    return Prepared(step, outputs, lambda: p)


def column_sums(x, out=None):
    return np.matmul(np.ones(len(x), x.dtype), x, out=out)  # a product is faster than a sum over rows


def row_means(x):
    return (x @ np.full(x.shape[-1], 1 / x.shape[-1], x.dtype))[..., None]


def row_max(x):
    x = x.reshape(-1, x.shape[-1])
    return x[np.arange(len(x)), x.argmax(-1)]  # faster than maximum.reduce over short rows


def linear(p, name, x):
    y = x @ p[name + ".weight"].T
    y += p[name + ".bias"]
    return y


def linear_backward(p, d, name, dy, x):
    np.matmul(dy.T, x, out=d[name + ".weight"])
    column_sums(dy, out=d[name + ".bias"])
    return dy @ p[name + ".weight"]


def mse(x, y):
    """The loss, and its gradient with respect to x."""
    d = x - y
    loss = d.reshape(-1) @ d.reshape(-1) / d.size
    d *= 2 / d.size
    return loss, d


def sigmoid(x):
    s = np.multiply(x, 0.5)  # (1 + tanh(x / 2)) / 2: one call of a fast function
    np.tanh(s, out=s)
    s += 1
    s *= 0.5
    return s


def silu(x):
    s = sigmoid(x)
    return x * s, (x, s)


def silu_backward(dy, saved):
    x, s = saved
    ds = x * (1 - s)  # s + x s (1 - s) = s (1 + x (1 - s))
    ds += 1
    ds *= s
    ds *= dy
    return ds


def tanh(x):
    y = np.tanh(x, out=x)
    return y, y


def tanh_backward(dy, y):
    dx = y * y
    np.subtract(1, dx, out=dx)
    dx *= dy
    return dx


def layer_norm(p, name, x):
    z = x - row_means(x)
    r = np.einsum("nc,nc->n", z, z)[:, None]  # 1 / standard deviation, in steps
    r /= x.shape[-1]
    r += EPS
    np.sqrt(r, out=r)
    np.divide(1, r, out=r)
    z *= r
    y = z * p[name + ".weight"]
    y += p[name + ".bias"]
    return y, (z, r)


def layer_norm_backward(p, d, name, dy, saved):
    z, r = saved
    column_sums(dy, out=d[name + ".bias"])
    np.einsum("nc,nc->c", dy, z, out=d[name + ".weight"])
    dz = dy * p[name + ".weight"]
    along = np.einsum("nc,nc->n", dz, z)[:, None] / z.shape[-1]
    dz -= row_means(dz)
    dz -= z * along
    dz *= r
    return dz


C0, C1 = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715


def gelu(x):
    """x (1 + tanh(C0 x + C1 x^3)) / 2"""
    t = x * x
    t *= C1
    t += C0
    t *= x
    np.tanh(t, out=t)
    y = t + 1
    y *= x
    y *= 0.5
    return y, (x, t)


def gelu_backward(dy, saved):
    x, t = saved
    slope = x * x
    slope *= 3 * C1
    slope += C0
    slope *= x  # x d(argument of tanh)/dx
    dt = t * t
    np.subtract(1, dt, out=dt)
    slope *= dt
    slope += t
    slope += 1
    slope *= 0.5
    slope *= dy
    return slope


def embedding_gradient(dx, ids, out):
    """Adds the rows of dx (n, C) into rows ids (n,) of zeros, as the product with a sparse matrix of ones."""
    n, V = len(ids), len(out)
    out[...] = csr_array((np.ones(n, dx.dtype), ids, np.arange(n + 1)), shape=(n, V)).T @ dx


def cross_entropy(logits, targets):
    """The mean loss, and its gradient in the place of the logits (n, V)."""
    n = len(logits)
    logits -= row_max(logits)[:, None]
    right = logits[np.arange(n), targets].sum()
    p = np.exp(logits, out=logits)
    total = p.sum(-1)
    loss = (np.log(total).sum() - right) / n
    p /= (total * n)[:, None]
    p[np.arange(n), targets] -= 1 / n
    return loss, p


# --- a workload ---------------------------------------------------------------------------------------


def mlp(params, batch, *, widths, activation, B):
    f, f_backward = {"tanh": (tanh, tanh_backward), "silu": (silu, silu_backward)}[activation]
    names = [f"{2 * i}" for i in range(len(widths) - 1)]

    def loss_and_gradients(p, d):
        x, saved = batch["x"], []
        for name in names[:-1]:
            y, act = f(linear(p, name, x))
            saved.append((name, x, act))
            x = y
        loss, dx = mse(linear(p, names[-1], x), batch["y"])
        dx = linear_backward(p, d, names[-1], dx, x)
        for name, x, act in reversed(saved):
            dx = linear_backward(p, d, name, f_backward(dx, act), x)
        return loss

    return training(params, loss_and_gradients)
