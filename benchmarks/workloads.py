"""What is measured: seven trainings, attention, a bare tape and text generation, with their weights and batches.

Every engine gets the same arrays. Weights are named and shaped as in PyTorch: (out, in), and for a
Sequential by position ("0.weight"). A workload is a training step (forward, backward, AdamW) unless
its model says otherwise:

    mlp         mean squared error of linear layers with an activation between them
    gpt         models/language/gpt.py: cross-entropy of the next token
    conv        mean squared error of (conv 3x3, GroupNorm, SiLU) several times
    attention   causal; forward and backward only, dL/dy given
    tape        many operations on 32 floats, forward and backward: what recording costs
    decode      GPT-2 writes `new` tokens after a prompt, greedily, with a cache of keys and values
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

ADAMW = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}  # PyTorch's defaults; all parameters decay
EPS = 1e-5  # of all norms
GROUPS = 8  # of the group norm


@dataclass(frozen=True)
class Workload:
    key: str
    title: str
    model: str
    sizes: dict[str, Any]
    target: float | None = None  # time / PyTorch's time, on the class of machine named in docs/performance.md
    stretch: float | None = None
    small: dict[str, Any] = field(default_factory=dict, repr=False)  # sizes for tests and --quick

    @property
    def trained(self) -> bool:
        """Whether a step changes weights."""
        return self.model in ("mlp", "gpt", "conv")

    def shrunk(self) -> "Workload":
        """The same computation in a few milliseconds."""
        return replace(self, sizes=self.sizes | self.small)


class Prepared(NamedTuple):
    """A workload in one engine, ready to run."""

    step: Callable[[], Any]  # what is timed
    outputs: Callable[[], dict[str, Any]]  # what is compared: the loss and its gradients by name, or logits and ids
    parameters: Callable[[], dict[str, Any]]  # the weights as they are now, to compare them after some steps


def mlp(key, title, widths, activation, B, target, stretch):
    return Workload(key, title, "mlp", {"widths": widths, "activation": activation, "B": B}, target, stretch, {"B": 5})


def gpt(key, title, layers, heads, width, T, B, target=None, stretch=None, vocabulary=65):
    sizes = {"vocabulary": vocabulary, "layers": layers, "heads": heads, "width": width, "T": T, "B": B}
    small = {"vocabulary": 11, "layers": 2, "width": 4 * heads, "T": 7, "B": 3}
    return Workload(key, title, "gpt", sizes, target, stretch, small)


def attention(key, T, target=None, stretch=None):
    sizes = {"B": 1, "heads": 4, "width": 64, "T": T}
    return Workload(key, f"causal attention, 4 heads of 64, T {T}", "attention", sizes, target, stretch, {"width": 8, "T": 67})


WORKLOADS = [
    mlp("W1", "MLP 2-64-64-1, batch 64", [2, 64, 64, 1], "tanh", 64, 0.20, 0.12),
    gpt("W2", "char-GPT: 2 layers, 2 heads, d 32, T 32, batch 8", 2, 2, 32, 32, 8, 0.50, 0.35),
    gpt("W3", "nanoGPT for a CPU: 4 layers, 4 heads, d 128, T 64, batch 12", 4, 4, 128, 64, 12, 0.65, 0.45),
    gpt("W4", "GPT: 6 layers, 6 heads, d 384, T 256, batch 4", 6, 6, 384, 256, 4, 0.60, 0.40),
    mlp("W5", "DDPM denoiser 34-128-128-128-2, batch 256", [34, 128, 128, 128, 2], "silu", 256, 0.50, 0.30),
    Workload(
        "W6",
        "4 x (conv 3x3 of 32 channels on 16x16, GroupNorm, SiLU), batch 32",
        "conv",
        {"blocks": 4, "channels": 32, "side": 16, "B": 32},
        1.0,
        0.9,
        {"blocks": 2, "channels": 16, "side": 5, "B": 3},
    ),
    attention("W7-512", 512, 0.55, 0.45),
    attention("W7-2048", 2048, 0.65, 0.45),
    attention("W7-8192", 8192, 0.60, 0.45),
    Workload("tape", "300 operations on 32 floats, forward and backward", "tape", {"repeats": 100, "n": 32}, small={"repeats": 3}),
    Workload(
        "decode",
        "GPT-2 124M writes 128 tokens after a prompt of 64, batch 1",
        "decode",
        {"vocabulary": 50257, "layers": 12, "heads": 12, "width": 768, "T": 64, "B": 1, "new": 128, "context": 1024},
        1 / 0.9,  # 0.9 of PyTorch's tokens a second
        None,
        {"vocabulary": 11, "layers": 2, "heads": 2, "width": 8, "T": 5, "new": 6, "context": 16},
    ),
]
TAPE_OPERATIONS = 3  # in one repeat
TAPE_TARGET = 2.1  # microseconds for one operation, forward and backward


def chosen(keys: list[str] | None) -> list[Workload]:
    """The workloads of these keys, all if None; "W7" stands for W7-512, W7-2048 and W7-8192."""
    if keys is None:
        return WORKLOADS
    for key in keys:
        if not any(w.key == key or w.key.startswith(key + "-") for w in WORKLOADS):
            raise ValueError(f"benchmarks: there is no workload {key!r}; choose from {', '.join(w.key for w in WORKLOADS)}")
    return [w for w in WORKLOADS if w.key in keys or w.key.partition("-")[0] in keys]


# --- weights and batches --------------------------------------------------------------------------

Arrays = dict[str, np.ndarray]


def make(workload: Workload, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The initial weights and the batch, by name: float32 and int64."""
    return MAKERS[workload.model](np.random.default_rng(seed), **workload.sizes)


def normal(rng, *shape, std=1.0, mean=0.0):
    return rng.standard_normal(shape, np.float32) * np.float32(std) + np.float32(mean)


def make_mlp(rng, widths, activation, B):
    params = {}
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        params[f"{2 * i}.weight"] = normal(rng, m, n, std=1 / math.sqrt(n))  # the odd places are the activations'
        params[f"{2 * i}.bias"] = normal(rng, m, std=0.1)
    return params, {"x": normal(rng, B, widths[0]), "y": normal(rng, B, widths[-1])}


def gpt_weights(rng, vocabulary, layers, width, context):
    """GPT-2's, with biases and gains that are not all 0 and 1, so that a comparison sees them."""
    C = width
    params = {"wte.weight": normal(rng, vocabulary, C, std=0.02), "wpe.weight": normal(rng, context, C, std=0.02)}

    def norm(name):
        params[name + ".weight"], params[name + ".bias"] = normal(rng, C, std=0.1, mean=1.0), normal(rng, C, std=0.1)

    def linear(name, n, m):
        params[name + ".weight"], params[name + ".bias"] = normal(rng, m, n, std=0.02), normal(rng, m, std=0.02)

    for i in range(layers):
        norm(f"h.{i}.ln_1")
        linear(f"h.{i}.attn.c_attn", C, 3 * C)
        linear(f"h.{i}.attn.c_proj", C, C)
        norm(f"h.{i}.ln_2")
        linear(f"h.{i}.mlp.c_fc", C, 4 * C)
        linear(f"h.{i}.mlp.c_proj", 4 * C, C)
    norm("ln_f")
    return params


def make_gpt(rng, vocabulary, layers, heads, width, T, B):
    ids = rng.integers(vocabulary, size=(B, T + 1))
    return gpt_weights(rng, vocabulary, layers, width, context=T), {"ids": ids[:, :-1].copy(), "targets": ids[:, 1:].copy()}


def make_decode(rng, vocabulary, layers, heads, width, T, B, new, context):
    return gpt_weights(rng, vocabulary, layers, width, context), {"ids": rng.integers(vocabulary, size=(B, T))}


def make_conv(rng, blocks, channels, side, B):
    params = {}
    for i in range(0, 3 * blocks, 3):  # conv, norm, activation
        params[f"{i}.weight"] = normal(rng, channels, channels, 3, 3, std=1 / math.sqrt(9 * channels))
        params[f"{i}.bias"] = normal(rng, channels, std=0.1)
        params[f"{i + 1}.weight"], params[f"{i + 1}.bias"] = normal(rng, channels, std=0.1, mean=1.0), normal(rng, channels, std=0.1)
    shape = (B, channels, side, side)
    return params, {"x": normal(rng, *shape), "y": normal(rng, *shape)}


def make_attention(rng, B, heads, width, T):
    q, k = (normal(rng, B, heads, T, width) for _ in range(2))
    v, dy = (normal(rng, B, heads, T, width, mean=1.0) for _ in range(2))  # so that the sum of y * dy, which is compared, does not cancel
    return {"q": q, "k": k, "v": v}, {"dy": dy}


def make_tape(rng, repeats, n):
    return {name: normal(rng, n, std=0.5) for name in "xab"}, {}


MAKERS = {"mlp": make_mlp, "gpt": make_gpt, "decode": make_decode, "conv": make_conv, "attention": make_attention, "tape": make_tape}


# --- what a plain program needs besides -------------------------------------------------------------


def causal(T: int) -> np.ndarray:
    """(T, T), to be added to scores: 0 where a query (row) may attend, -1e30 where not."""
    return np.triu(np.full((T, T), -1e30, np.float32), 1)


def one_hot(targets, V):
    """(...) -> (..., V)"""
    return (targets[..., None] == np.arange(V)).astype(np.float32)
