"""Plain NumPy programs that know nothing of Tensors, run on Tensors: value, gradient, Hessian-vector product.

The programs take and return arrays and call NumPy in the ways that people do. Nothing in
them was changed for the engine. Each is checked by central differences, Richardson-extrapolated.
"""

from tinygrad_notes import Tensor
from tinygrad_notes.transforms import hvp, value_and_grad

import numpy as np
import pytest

# --- a transformer over dicts of arrays -----------------------------------------------------


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def norm(x, gain, bias, eps=1e-5):
    return gain * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + bias


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def heads(x, n):
    return np.hstack([softmax(q @ k.T / np.sqrt(q.shape[-1]) + (np.tri(len(q)) - 1) * 1e10) @ v
                      for q, k, v in zip(*[np.split(part, n, axis=-1) for part in np.split(x, 3, axis=-1)])])  # fmt: skip


def transformer(ids, p, n=2):
    x = p["wte"][ids] + p["wpe"][range(len(ids))]
    for b in p["blocks"]:
        x = x + heads(norm(x, **b["ln1"]) @ b["qkv"], n) @ b["out"]
        x = x + gelu(norm(x, **b["ln2"]) @ b["up"]) @ b["down"]
    return norm(x, **p["ln"]) @ p["wte"].T


def transformer_loss(p):
    ids = [3, 1, 4, 1, 5, 2]
    logits = transformer(ids[:-1], p)
    logits = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    return -np.mean(logits[np.arange(5), ids[1:]])


def transformer_arguments(rng):
    C, V = 4, 7
    ln = lambda: {"gain": 1 + 0.1 * rng.normal(size=C), "bias": 0.1 * rng.normal(size=C)}
    shapes = {"qkv": (C, 3 * C), "out": (C, C), "up": (C, 2 * C), "down": (2 * C, C)}
    blocks = [{k: 0.5 * rng.normal(size=s) for k, s in shapes.items()} | {"ln1": ln(), "ln2": ln()} for _ in range(2)]
    return {"wte": rng.normal(size=(V, C)), "wpe": rng.normal(size=(5, C)), "blocks": blocks, "ln": ln()}


# --- a Kalman filter -------------------------------------------------------------------------


def kalman_nll(p):
    """Negative log-likelihood of observations under a linear-Gaussian model whose noises are learned."""
    dt = 0.1
    A = np.eye(2) + dt * p["drift"]
    H = np.array([[1.0, 0.0]])
    Q, R = np.diag(np.exp(p["log_q"])), np.exp(p["log_r"]) * np.eye(1)
    x, P, nll = np.zeros(2), np.eye(2), 0.0
    for z in np.sin(np.arange(6.0))[:, None]:
        x, P = A @ x, A @ P @ A.T + Q
        innovation, S = z - H @ x, H @ P @ H.T + R
        K = P @ H.T @ np.linalg.inv(S)
        nll += 0.5 * (innovation @ np.linalg.solve(S, innovation) + np.log(np.linalg.det(2 * np.pi * S)))
        x, P = x + K @ innovation, (np.eye(2) - K @ H) @ P
    return nll


def kalman_arguments(rng):
    return {"drift": rng.normal(size=(2, 2)), "log_q": rng.normal(size=2) - 2, "log_r": -1.0 + rng.normal(size=())}


# --- a fourth-order Runge-Kutta integrator ------------------------------------------------------


def lotka_volterra(state, rates):
    prey, predator = state
    a, b, c, d = rates
    return np.stack([a * prey - b * prey * predator, c * prey * predator - d * predator])


def rk4(f, y, h, n, *args):
    path = [y]
    for _ in range(n):
        k1 = f(y, *args)
        k2 = f(y + h / 2 * k1, *args)
        k3 = f(y + h / 2 * k2, *args)
        k4 = f(y + h * k3, *args)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(y)
    return np.array(path) if isinstance(y, np.ndarray) else np.stack(path)


def orbit_loss(p):
    path = rk4(lotka_volterra, p["start"], 0.05, 12, p["rates"])
    return np.sum((path - 1.0) ** 2) + np.linalg.norm(path[-1]) + np.max(path[:, 0])


def orbit_arguments(rng):
    return {"start": 1 + rng.random(2), "rates": 0.5 + rng.random(4)}


# --- a Gaussian process ---------------------------------------------------------------------------


def gp_nll(p):
    x = np.linspace(0, 1, 7)
    y = np.cos(5 * x)
    distance = (x[:, None] - x[None, :]) / np.exp(p["log_length"])
    K = np.exp(2 * p["log_scale"]) * np.exp(-0.5 * distance**2) + np.exp(2 * p["log_noise"]) * np.eye(7)
    L = np.linalg.cholesky(K)
    a = np.linalg.solve(L.T, np.linalg.solve(L, y - p["mean"]))
    sign, logdet = np.linalg.slogdet(K)
    return 0.5 * (y - p["mean"]) @ a + np.log(np.diagonal(L)).sum() + 3.5 * np.log(2 * np.pi) + 0.1 * sign * logdet


def gp_arguments(rng):
    return {"log_length": -1.0, "log_scale": 0.2 * rng.normal(), "log_noise": -1.0, "mean": rng.normal()}


# --- the check ---------------------------------------------------------------------------------------

PROGRAMS = [
    (transformer_loss, transformer_arguments),
    (kalman_nll, kalman_arguments),
    (orbit_loss, orbit_arguments),
    (gp_nll, gp_arguments),
]


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for v in tree.values() for leaf in leaves(v)]
    return [leaf for v in tree for leaf in leaves(v)] if isinstance(tree, list) else [np.asarray(tree)]


def combine(f, *trees):
    if isinstance(trees[0], dict):
        return {k: combine(f, *[t[k] for t in trees]) for k in trees[0]}
    if isinstance(trees[0], list):
        return [combine(f, *members) for members in zip(*trees)]
    return f(*trees)


def inner(a, b):
    return sum(np.sum(x * y) for x, y in zip(leaves(a), leaves(b)))


def slope(f, h=2.0**-5, levels=4):
    """f'(0) by central differences, extrapolated to h = 0, with the table's own error bound."""
    rows = [[(f(h / 2**k) - f(-h / 2**k)) / (2 * h / 2**k)] for k in range(levels)]
    for k in range(1, levels):
        for j in range(1, k + 1):
            rows[k].append(rows[k][j - 1] + (rows[k][j - 1] - rows[k - 1][j - 1]) / (4**j - 1))
    best = rows[-1][-1]
    return best, 8 * abs(best - rows[-2][-1]) + 1e-11 * (1 + abs(f(0.0)) + abs(best)) * 2**levels


@pytest.mark.parametrize(("program", "arguments"), PROGRAMS, ids=[f.__name__ for f, _ in PROGRAMS])
def test_value_gradient_and_hessian_vector_product(program, arguments):
    rng = np.random.default_rng(3)
    p = arguments(rng)
    value, g = value_and_grad(program)(p)
    np.testing.assert_allclose(value, program(p), rtol=1e-12)
    assert all(type(leaf) is np.ndarray for leaf in leaves(g))
    tangent = hvp(program, p, direction := combine(lambda x: rng.normal(size=np.shape(x)), p))
    for _ in range(5):
        v = combine(lambda x: rng.normal(size=np.shape(x)), p)
        numeric, bound = slope(lambda t, v=v: program(combine(lambda x, d: x + t * d, p, v)))
        assert abs(numeric - inner(g, v)) < bound
        moved = lambda t, v=v: inner(value_and_grad(program)(combine(lambda x, d: x + t * d, p, direction))[1], v)
        numeric, bound = slope(moved)
        assert abs(numeric - inner(tangent, v)) < bound


def test_the_transformer_keeps_float32():
    p = combine(lambda x: Tensor(x.astype(np.float32)), transformer_arguments(np.random.default_rng(0)))
    from tinygrad_notes import gradients

    g = gradients(transformer_loss(p), p)
    assert {leaf.dtype for leaf in leaves(g)} == {np.dtype(np.float32)}
