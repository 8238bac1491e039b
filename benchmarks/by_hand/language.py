"""GPT-2 by hand: a training step, and writing with a cache of keys and values."""

import math

from benchmarks.by_hand.layers import (
    cross_entropy,
    embedding_gradient,
    gelu,
    gelu_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
    row_max,
    training,
)
from benchmarks.workloads import Prepared

import numpy as np


def heads_of(qkv, B, T, nh):
    """(B T, 3 C) -> q, k, v: (B, nh, T, hd)"""
    return qkv.reshape(B, T, 3, nh, -1).transpose(2, 0, 3, 1, 4)


def attention(q, k, v, hidden):
    """All scores at once: (B, nh, T, S). hidden: where a query may not attend, or None."""
    w = np.matmul(q * (1 / math.sqrt(q.shape[-1])), k.swapaxes(-1, -2))
    if hidden is not None:
        np.copyto(w, -np.inf, where=hidden)
    w -= row_max(w).reshape(*w.shape[:-1], 1)
    np.exp(w, out=w)
    w /= (w @ np.ones(w.shape[-1], w.dtype))[..., None]
    return w @ v, w


def attention_backward(dy, q, k, v, w):
    scale = 1 / math.sqrt(q.shape[-1])
    dw = dy @ v.swapaxes(-1, -2)
    dv = w.swapaxes(-1, -2) @ dy
    dw -= np.einsum("bhts,bhts->bht", dw, w)[..., None]
    dw *= w
    dw *= scale
    return dw @ k, dw.swapaxes(-1, -2) @ q, dv


def block(p, h, x, B, nh, hidden, cache=None):
    """x (B T, C) -> x, and what the backward pass needs. cache: from k and v to those of all positions."""
    n, C = x.shape
    T = n // B
    a, ln_1 = layer_norm(p, h + "ln_1", x)
    q, k, v = heads_of(linear(p, h + "attn.c_attn", a), B, T, nh)
    if cache is not None:
        k, v = cache(k, v)
    y, w = attention(q, k, v, hidden)
    y = y.transpose(0, 2, 1, 3).reshape(n, C)
    x = x + linear(p, h + "attn.c_proj", y)
    b, ln_2 = layer_norm(p, h + "ln_2", x)
    f, act = gelu(linear(p, h + "mlp.c_fc", b))
    x = x + linear(p, h + "mlp.c_proj", f)
    return x, (a, ln_1, q, k, v, w, y, b, ln_2, f, act)


def block_backward(p, d, h, dx, B, nh, saved):
    a, ln_1, q, k, v, w, y, b, ln_2, f, act = saved
    n, C = dx.shape
    df = linear_backward(p, d, h + "mlp.c_proj", dx, f)
    db = linear_backward(p, d, h + "mlp.c_fc", gelu_backward(df, act), b)
    dx = dx + layer_norm_backward(p, d, h + "ln_2", db, ln_2)
    dy = linear_backward(p, d, h + "attn.c_proj", dx, y)
    dqkv = np.empty((n, 3 * C), dx.dtype)
    for part, g in zip(heads_of(dqkv, B, n // B, nh), attention_backward(heads_first(dy, B, nh), q, k, v, w)):
        part[...] = g
    da = linear_backward(p, d, h + "attn.c_attn", dqkv, a)
    dx += layer_norm_backward(p, d, h + "ln_1", da, ln_1)
    return dx


def heads_first(x, B, nh):
    """(B T, C) -> (B, nh, T, hd)"""
    return x.reshape(B, len(x) // B, nh, -1).transpose(0, 2, 1, 3)


def language(params, batch, *, vocabulary, layers, heads, width, T, B):
    ids, targets = batch["ids"].reshape(-1), batch["targets"].reshape(-1)
    hidden = np.triu(np.ones((T, T), bool), 1)

    def loss_and_gradients(p, d):
        x = p["wte.weight"][ids]
        x.reshape(B, T, width)[...] += p["wpe.weight"]
        saved = []
        for i in range(layers):
            x, s = block(p, f"h.{i}.", x, B, heads, hidden)
            saved.append(s)
        x, ln_f = layer_norm(p, "ln_f", x)
        loss, dlogits = cross_entropy(x @ p["wte.weight"].T, targets)
        dx = layer_norm_backward(p, d, "ln_f", dlogits @ p["wte.weight"], ln_f)
        for i in reversed(range(layers)):
            dx = block_backward(p, d, f"h.{i}.", dx, B, heads, saved[i])
        embedding_gradient(dx, ids, out=d["wte.weight"])
        d["wte.weight"] += dlogits.T @ x  # the tied head
        np.sum(dx.reshape(B, T, width), axis=0, out=d["wpe.weight"])
        return loss

    return training(params, loss_and_gradients)


def decode(params, batch, *, vocabulary, layers, heads, width, T, B, new, context):
    p = params
    hidden = np.triu(np.ones((T, T), bool), 1)

    def forward(ids, past, keys, values):
        """ids (B, t) -> logits (B, V) of the last one. keys, values: (L, B, nh, context, hd)"""
        t = ids.shape[1]
        x = (p["wte.weight"][ids] + p["wpe.weight"][past : past + t]).reshape(B * t, width)
        for i in range(layers):

            def cache(k, v, i=i):
                keys[i, :, :, past : past + t], values[i, :, :, past : past + t] = k, v
                return keys[i, :, :, : past + t], values[i, :, :, : past + t]

            x, _ = block(p, f"h.{i}.", x, B, heads, hidden if t > 1 else None, cache)
        x, _ = layer_norm(p, "ln_f", x.reshape(B, t, width)[:, -1])
        return x @ p["wte.weight"].T

    def empty():
        return np.empty((2, layers, B, heads, context, width // heads), np.float32)

    def step():
        ids, cache = batch["ids"], empty()
        logits = forward(ids, 0, *cache)
        for i in range(T, T + new):
            ids = np.concatenate([ids, logits.argmax(-1)[:, None]], 1)
            logits = forward(ids[:, -1:], i, *cache)
        return ids

    return Prepared(step, lambda: {"logits": forward(batch["ids"], 0, *empty()), "ids": step()}, dict)
