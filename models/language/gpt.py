"""GPT-2: a decoder-only transformer that predicts the next token.

Radford, Wu, Child, Luan, Amodei, Sutskever (2019), "Language Models are Unsupervised Multitask
Learners". Each token is embedded and told its position; a stack of blocks lets every position
gather from those before it (attention) and then think by itself (MLP); the same embedding matrix
reads the answer out. Trained to predict every next token of a text at once.

    (1)  x0    = wte[ids] + wpe[0..T-1]                     token and position embeddings, learned
    (2)  x'    = x + attn(ln_1(x))                          pre-norm: the residual stream stays clean
         x''   = x' + mlp(ln_2(x'))
    (3)  attn  = c_proj(concat_h softmax(q_h k_h^T / sqrt(hd) + causal) v_h),   q, k, v = c_attn(x)
    (4)  mlp   = c_proj(gelu(c_fc(x)))                      gelu in its tanh form
    (5)  logits = ln_f(x) wte^T                             the head is tied to the embedding
    (6)  loss  = - mean_bt log softmax(logits_t)[ids_{t+1}]

B batch, T time, S past and present time, C channels, nh heads, hd = C / nh, V vocabulary, L layers.

Differs from the paper: no dropout unless Config.dropout is set (the released configuration: 0.1) and an rng is
passed, and none on the attention weights;
weights are stored (out, in), transposed with respect to the published checkpoint (see `published`).
"""

import math
from dataclasses import dataclass

from models.published import ALIASES, check_config, check_supported, dropouts, numbers, renamed, unaliased, without_copies
from tinygrad_notes import Tensor, frozen
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Embedding, LayerNorm, Linear, Module, init
from tinygrad_notes.nn.cache import KVCache

import numpy as np


@dataclass(frozen=True)
class Config:
    vocabulary: int = 50257
    context: int = 1024  # the longest sequence: positions are learned
    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int | None = None  # F, of the MLP; None: 4 C
    dropout: float = 0.0  # on embeddings, attention and MLP outputs; off where no rng is passed
    embedding_dropout: float | None = None  # on embeddings; None: as the others
    eps: float = 1e-5  # of the layer norms
    dtype: type = np.float32

    def __post_init__(self):
        check_config(self)
        if self.width % self.heads:
            raise ValueError(f"Config: width {self.width} is not a multiple of heads {self.heads}; choose a width that the heads can share")

    @staticmethod
    def tiny(**changes) -> "Config":
        return Config(**{"vocabulary": 11, "context": 8, "layers": 2, "heads": 2, "width": 12} | changes)

    @staticmethod
    def nanogpt_cpu(vocabulary: int) -> "Config":
        """Karpathy's nanoGPT for a laptop: 0.8 million parameters."""
        return Config(vocabulary, context=64, layers=4, heads=4, width=128)

    @staticmethod
    def gpt2() -> "Config":
        return Config()

    @staticmethod
    def gpt2_medium() -> "Config":
        return Config(layers=24, heads=16, width=1024)

    @staticmethod
    def gpt2_large() -> "Config":
        return Config(layers=36, heads=20, width=1280)

    @staticmethod
    def gpt2_xl() -> "Config":
        return Config(layers=48, heads=25, width=1600)

    @staticmethod
    def from_published(published: dict) -> "Config":
        """From the content of a published config.json. ValueError where it says something that this model does not do."""
        published = unaliased(published, ALIASES)
        check_supported(published, SUPPORTED, "GPT-2")
        return Config(**numbers(published, SIZES, optional=("n_inner",)), **dropouts(published))

    def to_published(self) -> dict:
        """The inverse: the content of config.json."""
        known = {key: values[0] for key, values in SUPPORTED.items()} | {key: getattr(self, ours) for key, ours in SIZES.items()}
        return known | {"resid_pdrop": self.dropout, "embd_pdrop": self.dropout_of_embeddings, "attn_pdrop": 0.0}

    @property
    def dropout_of_embeddings(self) -> float:
        return self.dropout if self.embedding_dropout is None else self.embedding_dropout


SIZES = {  # of config.json, and here
    "vocab_size": "vocabulary",
    "n_positions": "context",
    "n_layer": "layers",
    "n_head": "heads",
    "n_embd": "width",
    "n_inner": "hidden",
    "layer_norm_epsilon": "eps",
}
SUPPORTED = {  # the values that this model can follow; the first is the default
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}


def linear(n_in, n_out, config, rng, std=0.02):
    """Weights from N(0, std^2) and zero biases, GPT-2's start; smaller for residual projections."""
    layer = Linear(n_in, n_out, rng=rng, dtype=config.dtype)
    layer.weight = Tensor(init.normal((n_out, n_in), rng, std=std, dtype=config.dtype))
    layer.bias = Tensor(init.zeros(n_out, dtype=config.dtype))
    return layer


def embedding(n, config, rng):
    layer = Embedding(n, config.width, rng=rng, dtype=config.dtype)
    layer.weight = Tensor(init.normal((n, config.width), rng, std=0.02, dtype=config.dtype))
    return layer


class Attention(Module):
    """Equation 3: causal multi-head self-attention."""

    def __init__(self, config, rng):
        C, self.heads = config.width, config.heads
        self.c_attn = linear(C, 3 * C, config, rng)
        self.c_proj = linear(C, C, config, rng, std=0.02 / math.sqrt(2 * config.layers))

    def split(self, x):
        """(B, T, 3C) -> q, k, v, each (B, nh, T, hd)"""
        B, T, C3 = x.shape
        nh = self.heads
        qkv = np.transpose(x.reshape(B, T, 3, nh, C3 // (3 * nh)), (2, 0, 3, 1, 4))  # (3, B, nh, T, hd)
        return qkv[0], qkv[1], qkv[2]

    def __call__(self, x, cache=None):
        B, T, C = x.shape
        q, k, v = self.split(self.c_attn(x))
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, nh, S, hd)
        y = F.scaled_dot_product_attention(q, k, v, causal=True)  # (B, nh, T, hd)
        y = np.transpose(y, (0, 2, 1, 3)).reshape(B, T, C)  # (B, T, C)
        return self.c_proj(y)


class MLP(Module):
    """Equation 4."""

    def __init__(self, config, rng):
        C, F = config.width, config.hidden or 4 * config.width
        self.c_fc = linear(C, F, config, rng)
        self.c_proj = linear(F, C, config, rng, std=0.02 / math.sqrt(2 * config.layers))

    def __call__(self, x):
        return self.c_proj(F.gelu_tanh(self.c_fc(x)))


class Block(Module):
    """Equation 2."""

    def __init__(self, config, rng):
        self.dropout = config.dropout
        self.ln_1 = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.attn = Attention(config, rng)
        self.ln_2 = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.mlp = MLP(config, rng)

    def __call__(self, x, cache=None, rng=None):
        x = x + F.dropout(self.attn(self.ln_1(x), cache), self.dropout, rng)
        return x + F.dropout(self.mlp(self.ln_2(x)), self.dropout, rng)


class GPT(Module):
    """ids (B, T) int -> logits (B, T, V): position t sees ids[:, :t+1] and predicts ids[:, t+1]."""

    published_as = "GPT2LMHeadModel"

    def __init__(self, config, rng):
        self.config = config
        self.wte = embedding(config.vocabulary, config, rng)
        self.wpe = embedding(config.context, config, rng)
        self.h = [Block(config, rng) for _ in range(config.layers)]
        self.ln_f = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)

    def embed(self, ids, past=0):
        """Equation 1: ids (B, T) at the positions past, past + 1, ... -> (B, T, C)."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or not ids.size:
            raise ValueError(f"GPT: ids have shape {ids.shape}, expected (B, T), neither of them 0; one sequence is ids[None]")
        B, T = ids.shape
        if past + T > self.config.context:
            raise ValueError(
                f"GPT: {past + T} positions, but the context is {self.config.context}; crop the ids: ids[:, -{self.config.context}:]"
            )
        return self.wte(ids) + self.wpe(np.arange(past, past + T))  # (B, T, C)

    def __call__(self, ids, cache=None, rng=None):
        """With a cache (see `empty_cache`), ids continue the sequence that it holds; returns (logits, cache)."""
        x = F.dropout(self.embed(ids, 0 if cache is None else cache[0].length), self.config.dropout_of_embeddings, rng)
        for i, block in enumerate(self.h):
            x = block(x, None if cache is None else cache[i], rng)
        logits = F.linear(self.ln_f(x), self.wte.weight)  # (B, T, V)
        return logits if cache is None else (logits, cache)

    def empty_cache(self, B):
        """Keys and values of every layer, to be passed in and returned: work per token grows as T, not T^2."""
        c = self.config
        return [KVCache((B, c.heads, c.context, c.width // c.heads), c.dtype) for _ in range(c.layers)]


def loss(model, ids, targets, rng=None):
    """Equation 6: mean cross-entropy in nats per token. ids, targets: (B, T) int."""
    return F.cross_entropy(model(ids, rng=rng), targets)


def generate(model, ids, n, *, rng=None, temperature=1.0, top_k=None, top_p=None):
    """Append n tokens to ids (B, T) int, each drawn from the model (greedily where rng is None).

    Past the context the oldest tokens are forgotten: the last half is read again into a new cache.
    """
    model = frozen(model)
    context = model.config.context
    ids = np.asarray(ids)
    if ids.ndim != 2 or n < 0:
        raise ValueError(f"generate: ids have shape {ids.shape} and n is {n}, expected (B, T) and at least 0; one sequence is ids[None]")
    new, cache = ids[:, -context:], model.empty_cache(len(ids))
    for _ in range(n):
        if cache[0].length + new.shape[1] > context:
            new, cache = ids[:, -max(1, context // 2) :], model.empty_cache(len(ids))
        logits, cache = model(new, cache)
        new = F.sample(logits[:, -1], rng, temperature=temperature, top_k=top_k, top_p=top_p)[:, None]  # (B, 1)
        ids = np.concatenate([ids, new], axis=1)
    return ids


def attention_maps(model, ids):
    """Where each head looks: softmax(q k^T / sqrt(hd) + causal) of every layer, (L, B, nh, T, T)."""
    model = frozen(model)
    x, maps = model.embed(ids), []
    for block in model.h:
        q, k, _ = block.attn.split(block.attn.c_attn(block.ln_1(x)))
        maps.append(F.attention_weights(q, k, causal=True))
        x = block(x)
    return np.stack(maps)


def published(state):
    """A published GPT-2 checkpoint's arrays, {name: array}, under this model's names and shapes.

    The published linear maps ("Conv1D") are stored (in, out), the buffers `attn.bias` are causal
    masks, and the tied head may stand a second time as `lm_head.weight`, which must be equal.
    """

    def rename(name):
        name = name.removeprefix("transformer.")
        return None if name.endswith((".attn.bias", ".attn.masked_bias")) else name

    state = without_copies(state, [("lm_head.weight", ("transformer.wte.weight", "wte.weight"))])
    return {name: transposed(name, array) for name, array in renamed(state, rename).items()}


def to_published(state):
    """The inverse: this model's arrays under the published names and shapes."""
    return {f"transformer.{name}": transposed(name, array) for name, array in state.items()}


def transposed(name, array):
    return array.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else array
