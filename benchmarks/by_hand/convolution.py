"""Convolutions by hand: channels last inside, since then a product of matrices reads its rows in order."""

from benchmarks.by_hand.layers import column_sums, mse, silu, silu_backward, training
from benchmarks.workloads import EPS, GROUPS

import numpy as np


def beside(x):
    """(N, H, W, C) -> (N, H + 2, W, 3 C): zeros around x, and with each pixel its two neighbours in the row."""
    N, H, W, C = x.shape
    padded = np.zeros((N, H + 2, W + 2, C), x.dtype)
    padded[:, 1:-1, 1:-1] = x
    three = np.empty((N, H + 2, W, 3, C), x.dtype)
    for b in range(3):
        three[:, :, :, b] = padded[:, :, b : b + W]
    return three.reshape(N, H + 2, W, 3 * C)


def convolve(rows, w):
    """rows from `beside`, w (3, 3 C, O): one product for each row of the kernel -> (N, H, W, O)"""
    N, H2, W, C3 = rows.shape
    parts = (rows[:, a : a + H2 - 2].reshape(N, -1, C3) @ w[a] for a in range(3))
    y = next(parts)
    for part in parts:
        y += part
    return y.reshape(N, H2 - 2, W, -1)


def kernel_rows(w):
    """(O, C, 3, 3) -> (3, 3 C, O)"""
    return w.transpose(2, 3, 1, 0).reshape(3, -1, len(w))


def convolve_backward(dy, rows, w, dw, db):
    N, H, W, O = dy.shape
    column_sums(dy.reshape(-1, O), out=db)
    for a in range(3):
        part = (rows[:, a : a + H].reshape(N, H * W, -1).swapaxes(1, 2) @ dy.reshape(N, H * W, O)).sum(0)  # (3 C, O)
        dw[:, :, a] = part.reshape(3, -1, O).transpose(2, 1, 0)
    turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)  # dx is a convolution of dy with the kernel turned round
    return convolve(beside(dy), kernel_rows(turned))


def group_norm(p, name, x):
    """x (N, H, W, C) is overwritten."""
    N, H, W, C = x.shape
    x = x.reshape(N, H * W, C)
    x -= spread_groups(np.ones(H * W, x.dtype) @ x, H * W)
    r = spread_groups(np.einsum("npc,npc->nc", x, x), H * W)
    r += EPS
    r **= -0.5
    x *= r
    y = x * p[name + ".weight"]
    y += p[name + ".bias"]
    return y.reshape(N, H, W, C), (x, r)


def spread_groups(sums, n):
    """Sums over n pixels, (N, C) -> the mean of each group, given to each of its channels: (N, 1, C)"""
    N, C = sums.shape
    means = sums.reshape(N, GROUPS, -1).sum(-1) / (n * C // GROUPS)
    return means.repeat(C // GROUPS, axis=1)[:, None]


def group_norm_backward(p, d, name, dy, saved):
    z, r = saved
    N, n, C = z.shape
    dy = dy.reshape(z.shape)
    per_sample, along = np.ones(n, dy.dtype) @ dy, np.einsum("npc,npc->nc", dy, z)
    np.sum(per_sample, axis=0, out=d[name + ".bias"])
    np.sum(along, axis=0, out=d[name + ".weight"])
    w = p[name + ".weight"]
    dz = dy * w
    dz -= spread_groups(per_sample * w, n)
    dz -= z * spread_groups(along * w, n)
    dz *= r
    return dz


def conv(params, batch, *, blocks, channels, side, B):
    def loss_and_gradients(p, d):
        x, saved = batch["x"].transpose(0, 2, 3, 1), []  # channels last inside
        for i in range(0, 3 * blocks, 3):
            rows = beside(x)
            y = convolve(rows, kernel_rows(p[f"{i}.weight"]))
            y += p[f"{i}.bias"]
            y, norm = group_norm(p, f"{i + 1}", y)
            x, act = silu(y)
            saved.append((i, rows, norm, act))
        loss, dx = mse(x, batch["y"].transpose(0, 2, 3, 1))
        for i, rows, norm, act in reversed(saved):
            dy = group_norm_backward(p, d, f"{i + 1}", silu_backward(dx, act), norm)
            dx = convolve_backward(dy.reshape(x.shape), rows, p[f"{i}.weight"], d[f"{i}.weight"], d[f"{i}.bias"])
        return loss

    return training(params, loss_and_gradients)
