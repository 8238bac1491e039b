"""LoRA: a trained model learns a new task by a change of low rank in some of its weights.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen (2021), "LoRA: Low-Rank Adaptation of Large Language Models". The
weights of the model stay as they are; beside some of its linear maps stand two thin matrices whose product is what the
new task changes. They are a small part of the model's size, so that one model serves many tasks, each with an adapter of
its own. After training the product is added into the weights, and the model costs what it cost before.

    (1)  h   = W0 x + dW x = W0 x + (alpha / r) B A x       W0 (out, in) constant, A (r, in) and B (out, r) trained
    (2)  A ~ N(0, 1 / in),  B = 0                           so dW = 0 at the start, and training begins at the old model
    (3)  dL/dB = (alpha / r) g (A x)^T,  dL/dA = (alpha / r) B^T g x^T      for g = dL/dh: at the start only B moves
    (4)  W   = W0 + (alpha / r) B A                         merged; rank(W - W0) <= r, so this is not full fine-tuning
    (5)  W0  = W  - (alpha / r) B A                         unmerged

    adapter = lora.adapter(model, lora.Config(r=4), rng)    {path: A, B}, a small model of its own
    adapted = lora.attach(model, adapter)                   the model with the adapter beside its weights, which are constants here
    grads = tn.gradients(gpt.loss(adapted, x, y), tn.parameters(adapter))
    plain = lora.merge(model, adapter)                      equation 4: the same class, the same names as before

`attach` copies nothing and changes nothing: it is a view, like `frozen`. So to switch adapters is to attach another one,
several attached at once are added up, and a dict of adapters gives them names. tn.state_dict(adapter) is all that one task
has to save; `restore` makes an adapter of it.

r rank, in and out the widths of a linear map, x (..., in).

Differs from the paper: A's spread is 1 / sqrt(in), which the paper leaves open, so that A x is as large as x.
"""

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral

from tinygrad_notes import Tensor, frozen, snapshot, unfreeze
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Linear, Module, init

import numpy as np

PARTS = ("q", "k", "v")  # of a linear map whose rows are those of three, as GPT's c_attn
QUERIES_AND_VALUES = ("*c_attn:q", "*c_attn:v", "*q_proj", "*v_proj", "*query", "*value")


@dataclass(frozen=True)
class Config:
    r: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = QUERIES_AND_VALUES  # patterns of paths, * for any characters; ":q" for the q rows of a fused map
    bias: bool = False  # whether the biases of the same linear maps are trained too

    def __post_init__(self):
        whole = isinstance(self.r, Integral) and not isinstance(self.r, bool)
        if not (whole and self.r >= 1 and 0 < self.alpha < math.inf):
            raise ValueError(f"Config: r is {self.r} and alpha {self.alpha}, expected an int of at least 1 and a finite number above 0")
        parts = {target.partition(":")[2] for target in self.targets}
        if isinstance(self.targets, str) or not parts <= {"", *PARTS}:
            raise ValueError(
                f"Config: targets are {self.targets!r}, expected a tuple of patterns, each with :q, :k, :v or nothing after it"
            )

    @staticmethod
    def tiny(**changes) -> "Config":
        return Config(**{"r": 2, "alpha": 3.0} | changes)

    @staticmethod
    def gpt2() -> "Config":
        """The paper's for GPT-2 medium and large (its table 11)."""
        return Config(r=4, alpha=32.0)

    @staticmethod
    def roberta() -> "Config":
        """The paper's for RoBERTa base (its table 9)."""
        return Config(r=8, alpha=8.0)


class LowRank(Module):
    """(alpha / r) B A of equation 1, with equation 2's start."""

    def __init__(self, A, B, scale, bias=None):
        self.A, self.B = A, B  # (r, in), (out, r)
        self.scale = scale  # (), alpha / r: an array, so that it is saved with A and B
        self.bias = bias  # (out,), what is added to the bias, or None

    def __call__(self, x):
        y = self.scale * F.linear(F.linear(x, self.A), self.B)  # (..., out)
        return y if self.bias is None else y + self.bias

    def weight(self):
        return self.scale * (self.B @ self.A)


class Adapted(Module):
    """Equation 1 in the place of a Linear: x (..., in) -> (..., out). `weight` and `bias` are the merged ones."""

    def __init__(self, linear, changes, dropout=0.0, rng=None):
        self.linear = linear
        self.changes = changes  # [{part: LowRank}], one dict for each adapter
        self.dropout, self._rng = dropout, rng

    def __call__(self, x):
        y = self.linear(x)
        for part, change in self.parts():
            y = y + placed(change(F.dropout(x, self.dropout, self._rng)), part)
        return y

    def parts(self):
        return [pair for one in self.changes for pair in one.items()]

    def dW(self):
        """All changes of the weight, (out, in)."""
        return sum(placed(change.weight().T, part).T for part, change in self.parts())

    def db(self):
        """All changes of the bias, (out,), or 0 where no bias is trained."""
        return sum(placed(change.bias, part) for part, change in self.parts() if change.bias is not None)

    @property
    def weight(self):
        return self.linear.weight + self.dW()

    @property
    def bias(self):
        return None if self.linear.bias is None else self.linear.bias + self.db()


def placed(y, part):
    """y (..., out / 3) among zeros (..., out) where the rows of `part` are; y itself if it is for all rows."""
    if not part:
        return y
    n, i = y.shape[-1], PARTS.index(part)
    return np.pad(y, [(0, 0)] * (y.ndim - 1) + [(i * n, (2 - i) * n)])


def linears(model):
    """{path: (layer, [(place, key), ...])} of the linear maps of a model, adapted or not: place[key] is the layer, wherever it stands."""
    found, paths = {}, {}

    def walk(place, path):
        for key, x in place.items() if isinstance(place, dict) else enumerate(place):
            here = f"{path}.{key}" if path else str(key)
            if str(key).startswith("_"):
                continue
            if isinstance(x, Linear | Adapted):
                first = paths.setdefault(id(x), here)
                found.setdefault(first, (x, []))[1].append((place, key))
            elif isinstance(x, Module | dict | list):
                walk(vars(x) if isinstance(x, Module) else x, here)

    walk(vars(model) if isinstance(model, Module) else model, "")
    return found


def adapter(model, config, rng) -> dict[str, LowRank]:
    """A new adapter for those linear maps of the model that match `config.targets`: {path or path:part: LowRank}; its dW is 0.

    ValueError where a target matches none; of the default ones, which are those of several models, one has to.
    """
    found, layers, idle = {}, linears(model), set(config.targets)
    for path, (layer, _) in layers.items():
        for target in config.targets:
            pattern, _, part = target.partition(":")
            if fnmatchcase(path, pattern):
                found[f"{path}:{part}" if part else path] = low_rank(path, layer, part, config, rng)
                idle.discard(target)
    if not found or (idle and config.targets != QUERIES_AND_VALUES):
        raise ValueError(f"lora: no linear map matches {', '.join(sorted(idle))}; the model has {', '.join(layers) or 'none'}")
    return found


def low_rank(path, layer, part, config, rng):
    n_out, n_in = layer.weight.shape
    if part and n_out % len(PARTS):
        raise ValueError(f"lora: {path} has {n_out} rows, which are not those of q, k and v; give its target without :{part}")
    if config.bias and layer.bias is None:
        raise ValueError(f"lora: {path} has no bias to train; use Config(bias=False), or other targets")
    n_out, dtype = n_out // len(PARTS) if part else n_out, layer.weight.dtype
    A = init.normal((config.r, n_in), rng, std=1 / math.sqrt(n_in), dtype=dtype)
    bias = Tensor(init.zeros(n_out, dtype)) if config.bias else None
    return LowRank(Tensor(A), Tensor(init.zeros((n_out, config.r), dtype)), np.array(config.alpha / config.r, dtype), bias)


def restore(state) -> dict[str, LowRank]:
    """The adapter whose tn.state_dict was saved: {name: array}."""
    parts = {}
    for name, array in state.items():
        path, _, leaf = name.rpartition(".")
        parts.setdefault(path, {})[leaf] = array if leaf == "scale" else Tensor(array)
    for path, leaves in parts.items():
        if not {"A", "B", "scale"} <= leaves.keys() <= {"A", "B", "scale", "bias"}:
            raise ValueError(
                f"lora: the state has {sorted(leaves)} for {path!r}, expected A, B, scale and perhaps bias; give it the state_dict of an adapter"
            )
    return {path: LowRank(**leaves) for path, leaves in parts.items()}


def changes_of(model, adapters):
    """(layer, its places, [{part: LowRank} of each adapter]) for each linear map that an adapter changes."""
    unused = {key for one in adapters for key in one}
    found = []
    for path, (layer, places) in linears(model).items():
        names = {part: f"{path}:{part}" if part else path for part in ("", *PARTS)}
        changes = [{part: one[name] for part, name in names.items() if name in one} for one in adapters]
        for part, change in ((part, change) for one in changes for part, change in one.items()):
            unused.discard(names[part])
            shape = (change.B.shape[0] * (len(PARTS) if part else 1), change.A.shape[1])
            if shape != layer.weight.shape:
                raise ValueError(
                    f"lora: the adapter for {path} is {shape}, but the weight {layer.weight.shape}; use the model it was made for"
                )
        if any(changes):
            found.append((layer, places, [one for one in changes if one]))
    if unused or not found:
        missing = ", ".join(sorted(unused)) or "no adapter at all"
        raise ValueError(f"lora: the model has no linear map for {missing}; use the model that the adapter was made for")
    return found


def attach(model, *adapters, dropout=0.0, rng=None):
    """The model with adapters beside its weights, which it sees as constants. It shares the memory of both; the model stays as it is.

    tn.parameters(attached) are those of these adapters. dropout: on the adapters' inputs, where an rng is given; for inference
    attach without one. A model that is adapted already may be given: its adapters are constants then.
    """
    attached = frozen(model)
    for layer, places, changes in changes_of(attached, adapters):
        adapted = Adapted(layer, changes, dropout, rng)
        for place, key in places:
            place[key] = adapted
    return attached


def merge(model, *adapters):
    """Equation 4: a plain model with memory of its own, in which these adapters are part of the weights, to be run, saved or trained.

    Whatever was a parameter of the model, frozen since or not, is one again.
    """
    return added(model, adapters, +1)


def unmerge(model, *adapters):
    """Equation 5: the model before `merge`, up to rounding. (What was merged is a copy, so W0 itself is still there, bit for bit.)"""
    return added(model, adapters, -1)


def added(model, adapters, sign):
    plain = snapshot(model)
    for layer, _, changes in changes_of(plain, frozen(list(adapters))):
        if isinstance(layer, Adapted):
            raise ValueError("lora: the model to merge into is adapted already; give the plain model, and all adapters at once")
        change = Adapted(layer, changes)
        layer.weight = Tensor(layer.weight + sign * change.dW())
        if layer.bias is not None:
            layer.bias = Tensor(layer.bias + sign * change.db())
    unfreeze(plain)
    return plain
