"""JAX: the whole step compiled ahead by XLA, weights and AdamW's state given away to be overwritten."""

from functools import partial

from benchmarks import matmul, plain
from benchmarks.workloads import ADAMW, Prepared

import jax
import jax.numpy as jnp
import numpy as np


def about():
    return {
        "JAX": jax.__version__,
        "XLA's devices": ", ".join(map(str, jax.devices())),
        "matrix product of 1024 x 1024": matmul.rate(jnp.asarray, jax.block_until_ready),
    }


def convolve(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")


def adamw(p, g, m, v, t):
    lr, (beta1, beta2), eps, decay = ADAMW.values()
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    update = m / (1 - beta1**t) / (jnp.sqrt(v / (1 - beta2**t)) + eps)
    return p - lr * decay * p - lr * update, m, v


def prepare(workload, params, batch):
    on_device = partial(jax.tree.map, jnp.array)  # copies
    params, batch = on_device(params), on_device(batch)
    if workload.model == "decode":
        return decode(params, batch, **workload.sizes)
    loss_and_gradients = jax.value_and_grad(lambda p, batch: plain.loss(jnp, workload, p, batch, convolve))
    compiled = jax.jit(loss_and_gradients).lower(params, batch).compile()

    def outputs():
        loss, grads = compiled(params, batch)
        return {"loss": np.asarray(loss), **jax.tree.map(np.asarray, grads)}

    if not workload.trained:
        return Prepared(lambda: jax.block_until_ready(compiled(params, batch)), outputs, dict)

    @partial(jax.jit, donate_argnums=0)
    def update(state, batch):
        params, m, v, t = state
        t = t + 1
        _, grads = loss_and_gradients(params, batch)
        new = {name: adamw(params[name], grads[name], m[name], v[name], t) for name in params}
        return *({name: x[i] for name, x in new.items()} for i in range(3)), t

    state = (on_device(params), jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32))
    whole_step = update.lower(state, batch).compile()

    def step():
        nonlocal state
        state = jax.block_until_ready(whole_step(state, batch))

    return Prepared(step, outputs, lambda: jax.tree.map(np.asarray, state[0]))


def decode(params, batch, *, vocabulary, layers, heads, width, T, B, new, context):
    """The cache has a fixed length, so that the step for one token is compiled once."""
    shape = (layers, B, heads, context, width // heads)

    @partial(jax.jit, donate_argnums=(2, 3))
    def forward(params, ids, keys, values, past):
        T = ids.shape[1]
        at = past + jnp.arange(T)
        mask = jnp.where(jnp.arange(context) <= at[:, None], 0.0, -1e30)
        x = params["wte.weight"][ids] + params["wpe.weight"][at]
        for i in range(layers):

            def cache(k, v, i=i):
                nonlocal keys, values
                keys = jax.lax.dynamic_update_slice(keys, k[None], (i, 0, 0, past, 0))
                values = jax.lax.dynamic_update_slice(values, v[None], (i, 0, 0, past, 0))
                return keys[i], values[i]

            x = plain.block(jnp, params, f"h.{i}.", x, heads, mask, cache)
        logits = plain.layer_norm(jnp, params, "ln_f", x[:, -1]) @ params["wte.weight"].T
        return logits, keys, values, past + T

    def prompt():
        return forward(params, batch["ids"], jnp.zeros(shape), jnp.zeros(shape), 0)

    def step():
        ids = [batch["ids"]]
        logits, *cache = prompt()
        for _ in range(new):
            ids.append(jnp.argmax(logits, -1, keepdims=True))
            logits, *cache = forward(params, ids[-1], *cache)
        return jax.block_until_ready(jnp.concatenate(ids, 1))

    return Prepared(step, lambda: {"logits": np.asarray(prompt()[0]), "ids": np.asarray(step())}, dict)
