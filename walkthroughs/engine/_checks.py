"""How seven projects check a gradient, and how this one does, in a few lines each: what walkthroughs/engine/gradcheck.py compares.

Written anew from what the projects' sources and documentation say. A check is `(op, rule, xs, rng) -> whether the rule passes`: op.f is
the function, op.rule its right rule, `rule` the suspect, xs the point, float64.
"""

import tinygrad_notes as tn
from tinygrad_notes import check

import numpy as np


def central_each(f, xs, g, h):
    """d<g, f> by each element, differences with a fixed step."""
    slopes = [np.zeros_like(x) for x in xs]
    for x, slope in zip(xs, slopes):
        for k in np.ndindex(x.shape):
            old = x[k]
            x[k] = old + h
            up = np.sum(g * f(*xs))
            x[k] = old - h
            slope[k] = (up - np.sum(g * f(*xs))) / (2 * h)
            x[k] = old
    return slopes


def along(f, xs, us, h):
    return (f(*(x + h * u for x, u in zip(xs, us))) - f(*(x - h * u for x, u in zip(xs, us)))) / (2 * h)


def close(gradients, slopes, rtol, atol):
    return all(d.shape == s.shape and np.allclose(d, s, rtol, atol) for d, s in zip(gradients, slopes))


def minitorch(op, rule, xs, rng):
    g = np.ones_like(op.f(*xs))
    gradients = rule(g.copy(), op.f(*xs), *xs)
    chosen = [tuple(rng.integers(x.shape)) for x in xs]
    slopes = central_each(op.f, xs, g, 1e-6)
    return all(np.allclose(d[k], s[k], 1e-2, 1e-2) for d, s, k in zip(gradients, slopes, chosen))


def dezero(op, rule, xs, rng):
    g = np.ones_like(op.f(*xs))
    slopes = central_each(op.f, xs, g, 1e-4)
    return close(rule(g, op.f(*xs), *xs), slopes, 1e-4, 1e-5)


def tinygrad(op, rule, xs, rng):
    xs = [x.astype(np.float32) for x in xs]
    y = op.f(*xs)
    g = 2 * (y + 1) / np.float32(y.size)
    right, gradients = op.rule(g.copy(), y, *xs), rule(g.copy(), y, *xs)  # the right rule stands for PyTorch
    return close(gradients, right, 1e-3, 1e-4) and all(d.dtype == np.float32 for d in gradients)


def pytorch(op, rule, xs, rng):
    y = op.f(*xs)
    basis = np.eye(y.size).reshape(-1, *y.shape)
    numerical = [central_each(op.f, xs, g, 1e-6) for g in basis]
    first, second = ([rule(g.copy(), op.f(*xs), *xs) for g in basis] for _ in range(2))
    again = all(np.array_equal(d, e) for a, b in zip(first, second) for d, e in zip(a, b))
    return again and all(close(a, n, 1e-3, 1e-5) for a, n in zip(first, numerical))


def jax(op, rule, xs, rng):
    y = op.f(*xs)
    us, g = [rng.normal(size=x.shape) for x in xs], rng.normal(size=y.shape)
    expected = np.sum(g * along(op.f, xs, us, 1e-4))
    return np.allclose(sum(np.sum(u * d) for u, d in zip(us, rule(g, y, *xs))), expected, 1e-5, 1e-5)


def autograd(op, rule, xs, rng):
    y, passes = op.f(*xs), True
    for i, x in enumerate(xs):  # one argument at a time
        u, g = rng.normal(size=x.shape), rng.normal(size=y.shape)
        d = rule(g, y, *xs)[i]
        one = lambda z, i=i: op.f(*xs[:i], z, *xs[i + 1 :])
        a, b = np.sum(u * d), np.sum(g * along(one, [x], [u], 0.5e-6))
        passes &= d.shape == x.shape and d.dtype == x.dtype and bool(abs(a - b) < 1e-6 or abs(a - b) / abs(a + b) < 1e-6)
    return passes


def complex_each(f, xs, g, h=1e-20):
    slopes = [np.zeros_like(x) for x in xs]
    for i, (x, slope) in enumerate(zip(xs, slopes)):
        for k in np.ndindex(x.shape):
            z = x.astype(complex)
            z[k] += 1j * h
            slope[k] = np.sum(g * f(*xs[:i], z, *xs[i + 1 :])).imag / h
    return slopes


def mygrad(op, rule, xs, rng):
    y = op.f(*xs)
    g, before = rng.uniform(-10, 10, y.shape), [x.copy() for x in xs]
    given = g.copy()
    gradients = rule(given, y, *xs)
    slopes = complex_each(op.f, before, g) if op.analytic else central_each(op.f, before, g, 1e-8)
    same = np.array_equal(g, given) and all(np.array_equal(x, b) for x, b in zip(xs, before))
    return same and close(gradients, slopes, *((1e-8, 1e-8) if op.analytic else (1e-4, 1e-4)))


def check_grads(op, rule, xs, rng):
    """Our own, in one call."""
    joined = (lambda g, y, a: rule(g, y, a)[0]) if len(xs) == 1 else lambda g, y, a, b: rule(g, y, a, b)
    try:
        check.check_grads(tn.custom_vjp(op.f, joined), *(x.astype(np.float32) for x in xs), order=1, rng=rng)
    except check.GradientError:
        return False
    return True


def suite(op, rule, xs, rng, *, cotangent=True, widths=True, step=True, memory=True, edges=True):
    """Our recipe spelled out, so that each ingredient can be left out."""
    y = op.f(*xs)
    g = rng.normal(size=y.shape) if cotangent else np.ones_like(y)
    if memory:  # whoever writes to them raises
        for a in (g, y, *xs):
            a.flags.writeable = False
    try:
        gradients = rule(g, y, *xs)
    except ValueError:
        return False
    xs = [x.copy() for x in xs]
    if step:
        weight = float(np.sum(np.abs(g * y)))
        pairs = [check.differences(lambda: float(np.sum(g * op.f(*xs))), x, 1 / 16, weight) for x in xs]
        passes = all(np.all(np.abs(d - slope) <= bound) for d, (slope, bound) in zip(gradients, pairs))
    else:
        passes = close(gradients, central_each(op.f, xs, g, 1e-6), 1e-3, 1e-5)
    if widths:
        narrow = [x.astype(np.float32) for x in xs]
        passes &= all(d.dtype == np.float32 for d in rule(g.astype(np.float32), op.f(*narrow), *narrow))
    if edges and op.edge:
        at = np.array(op.edge[0])
        passes &= np.array_equal(rule(np.ones_like(op.f(at)), op.f(at), at)[0], op.edge[1])
    return bool(passes)
