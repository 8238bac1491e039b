"""This engine, as a user would write it: the layers of tinygrad_notes.nn, and models/language/gpt.py for the GPTs."""

from functools import partial

import tinygrad_notes  # noqa: F401  (before NumPy, which benchmarks.plain imports)
from benchmarks import matmul, plain
from benchmarks.workloads import ADAMW, GROUPS, Prepared
from models.language import gpt
from tinygrad_notes import Tensor, frozen, gradients, load, parameters, runtime, vjp
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Conv2d, GroupNorm, Linear, Sequential
from tinygrad_notes.optim import AdamW

import numpy as np


def about():
    return {**runtime.report(), "matrix product of 1024 x 1024": matmul.rate(np.asarray)}


def prepare(workload, params, batch):
    return PREPARE[workload.model](params, batch, **workload.sizes)


def rng():
    return np.random.default_rng(0)  # for initial weights, which `load` replaces


def whole(loss, params):
    """The gradients of a batch by one tape; what data_parallel does by two (ours_threads.py)."""

    def step(*batch):
        value = loss(*batch)
        return value.value, gradients(value, params, unused="raise")

    return step


def training(model, params, loss, batch, gradients_by=whole, step_by=None):
    """loss(*batch) -> Tensor, of the model with these weights."""
    trained = parameters(model)
    outputs_of = gradients_by(loss, trained)
    load(model, params)
    opt = AdamW(trained, **ADAMW)
    step_of = step_by and step_by(loss, trained, opt)

    def step():
        if step_of:
            step_of(*batch)
        else:
            _, grads = outputs_of(*batch)
            opt.step(grads)

    def outputs():
        value, grads = outputs_of(*batch)
        return {"loss": np.asarray(value), **grads}

    return Prepared(step, outputs, lambda: {name: t.value for name, t in trained.items()})


def mlp(params, batch, *, widths, activation, B, **how):
    layers = []
    for n, m in zip(widths, widths[1:]):
        layers += [Linear(n, m, rng=rng()), {"tanh": np.tanh, "silu": F.silu}[activation]]
    model = Sequential(*layers[:-1])
    return training(model, params, lambda x, y: F.mse(model(x), y), (batch["x"], batch["y"]), **how)


def as_it_is(x):
    return x  # in the place of the SiLU, which is part of the norm's kernel here


def conv(params, batch, *, blocks, channels, side, B, **how):
    layers = []
    for _ in range(blocks):
        layers += [Conv2d(channels, channels, 3, padding=1, rng=rng()), GroupNorm(GROUPS, channels, silu=True), as_it_is]
    model = Sequential(*layers)
    return training(model, params, lambda x, y: F.mse(model(x), y), (batch["x"], batch["y"]), **how)


def language(params, batch, *, vocabulary, layers, heads, width, T, B, **how):
    model = gpt.GPT(gpt.Config(vocabulary, T, layers, heads, width), rng())
    return training(model, params, lambda ids, targets: gpt.loss(model, ids, targets), (batch["ids"], batch["targets"]), **how)


def attention(params, batch, **sizes):
    attend = partial(F.scaled_dot_product_attention, causal=True)

    def step():
        y, pull = vjp(attend, *params.values())
        return y, pull(batch["dy"])

    def outputs():
        y, grads = step()
        return {"loss": (y * batch["dy"]).sum(), **dict(zip(params, grads))}

    return Prepared(step, outputs, dict)


def tape(params, batch, *, repeats, n, gradients_by=whole, step_by=None):
    p = {name: Tensor(x) for name, x in params.items()}
    step = gradients_by(lambda: plain.tape(np, p, repeats=repeats, n=n), p)

    def outputs():
        value, grads = step()
        return {"loss": np.asarray(value), **grads}

    return Prepared(step, outputs, dict)


def decode(params, batch, *, vocabulary, layers, heads, width, T, B, new, context):
    model = gpt.GPT(gpt.Config(vocabulary, context, layers, heads, width), rng())
    load(model, params)

    def outputs():
        logits, _ = frozen(model)(batch["ids"], model.empty_cache(B))
        return {"logits": logits[:, -1], "ids": step()}

    def step():
        return gpt.generate(model, batch["ids"], new)

    return Prepared(step, outputs, dict)


PREPARE = {"mlp": mlp, "conv": conv, "gpt": language, "attention": attention, "tape": tape, "decode": decode}
