"""Optimizers, learning-rate schedules, clipping, accumulation and averages of weights.

For example:

    opt = AdamW(parameters(model), lr=3e-4, weight_decay=0.1, decay=lambda path, t: t.ndim >= 2)
    for step in range(steps):
        params = parameters(model)
        grads, norm = clip_by_global_norm(gradients(loss(model, batch), params), 1.0)
        opt.step(grads, lr=cosine(step, peak=3e-4, steps=steps, warmup=100))
"""

from tinygrad_notes.optim.averages import EMA, accumulate, average, clip_by_global_norm, global_norm
from tinygrad_notes.optim.optimizer import Optimizer
from tinygrad_notes.optim.rules import SGD, Adagrad, Adam, AdamW, Lion, RMSProp
from tinygrad_notes.optim.schedules import constant, cosine, inverse_square_root, linear, linear_warmup, one_cycle

__all__ = [
    "EMA",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "Optimizer",
    "RMSProp",
    "accumulate",
    "average",
    "clip_by_global_norm",
    "constant",
    "cosine",
    "global_norm",
    "inverse_square_root",
    "linear",
    "linear_warmup",
    "one_cycle",
]
