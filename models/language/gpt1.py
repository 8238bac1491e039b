"""GPT-1: a decoder-only transformer, pre-trained to predict the next token, then fine-tuned to a task.

Radford, Narasimhan, Salimans, Sutskever (2018), "Improving Language Understanding by Generative Pre-Training". Each token
is embedded and told its position; a stack of blocks lets every position gather from those before it (attention) and
then think by itself (MLP), and each step is normalised after it is added. A new linear layer on the last token then
learns the task, while the old head goes on predicting the text.

    (1)  x0    = wte[ids] + wpe[0..T-1]                     token and position embeddings, learned
    (2)  x'    = ln_1(x + attn(x))                          post-norm: GPT-2 moved the norms inside, and added one at the end
         x''   = ln_2(x' + mlp(x'))
    (3)  attn  = c_proj(concat_h softmax(q_h k_h^T / sqrt(hd) + causal) v_h),   q, k, v = c_attn(x)
    (4)  mlp   = c_proj(gelu(c_fc(x)))                      gelu in its tanh form
    (5)  logits = x wte^T                                   the head is tied to the embedding
    (6)  loss  = - mean_bt log softmax(logits_t)[ids_{t+1}]                     the paper's L1
    (7)  task  = - mean_b log softmax(score(x_last))[label]                     its L2, x_last at the extract token
    (8)  fine-tuning minimises L3 = L2 + lambda L1 on the same text, lambda = 0.5

B batch, T time, S past and present time, C channels, nh heads, hd = C / nh, V vocabulary, L layers, K classes.

Differs from the paper: L1 is a mean over tokens, as in its published code, while its equation is a sum (with it lambda
would be T times as large); no dropout unless Config.dropout is set (the paper: 0.1) and an rng is passed, and none on
the attention weights; the paper's start, delimiter and extract tokens are ids of the vocabulary like any other;
weights are stored (out, in), transposed with respect to the published checkpoint (see `published`).
"""

from dataclasses import dataclass

from models.published import (
    ALIASES,
    check_config,
    check_supported,
    classes,
    dropouts,
    labelled,
    numbers,
    renamed,
    unaliased,
    without_copies,
)
from tinygrad_notes import Tensor, frozen
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Embedding, LayerNorm, Linear, Module, init
from tinygrad_notes.nn.cache import KVCache

import numpy as np


@dataclass(frozen=True)
class Config:
    vocabulary: int = 40478
    context: int = 512  # the longest sequence: positions are learned
    layers: int = 12
    heads: int = 12
    width: int = 768
    classes: int = 2  # of the head for classification
    labels: tuple[str, ...] = ()  # the names of the classes; (): none
    dropout: float = 0.0  # on embeddings, attention and MLP outputs; off where no rng is passed
    embedding_dropout: float | None = None  # on embeddings; None: as the others
    eps: float = 1e-5  # of the layer norms
    std: float = 0.02  # of the initial weights; small models learn faster from 1 / sqrt(width)
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
    def gpt1() -> "Config":
        return Config()

    @staticmethod
    def from_published(published: dict) -> "Config":
        """From the content of a config.json by Hugging Face. ValueError where it says something that this model does not do."""
        published = unaliased(published, ALIASES)
        check_supported(published, SUPPORTED, "GPT-1")
        return Config(**numbers(published, SIZES), **dropouts(published), **classes(published, Config.classes))

    def to_published(self) -> dict:
        """The inverse: the content of config.json."""
        known = {key: values[0] for key, values in SUPPORTED.items()} | {key: getattr(self, ours) for key, ours in SIZES.items()}
        dropout = {"resid_pdrop": self.dropout, "embd_pdrop": self.dropout_of_embeddings, "attn_pdrop": 0.0}
        return known | dropout | labelled(self)

    @property
    def dropout_of_embeddings(self) -> float:
        return self.dropout if self.embedding_dropout is None else self.embedding_dropout


SIZES = {"vocab_size": "vocabulary", "n_positions": "context", "n_layer": "layers", "n_head": "heads", "n_embd": "width"}
SIZES |= {"layer_norm_epsilon": "eps", "initializer_range": "std"}
SUPPORTED = {"model_type": ("openai-gpt",), "afn": ("gelu",), "tie_word_embeddings": (True,)}


def linear(n_in, n_out, config, rng):
    """Weights from N(0, std^2) and zero biases, GPT-1's start."""
    layer = Linear(n_in, n_out, rng=rng, dtype=config.dtype)
    layer.weight = Tensor(init.normal((n_out, n_in), rng, std=config.std, dtype=config.dtype))
    layer.bias = Tensor(init.zeros(n_out, dtype=config.dtype))
    return layer


def embedding(n, config, rng):
    layer = Embedding(n, config.width, rng=rng, dtype=config.dtype)
    layer.weight = Tensor(init.normal((n, config.width), rng, std=config.std, dtype=config.dtype))
    return layer


class Attention(Module):
    """Equation 3: causal multi-head self-attention."""

    def __init__(self, config, rng):
        C, self.heads = config.width, config.heads
        self.c_attn = linear(C, 3 * C, config, rng)
        self.c_proj = linear(C, C, config, rng)

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
        C = config.width
        self.c_fc = linear(C, 4 * C, config, rng)
        self.c_proj = linear(4 * C, C, config, rng)

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
        x = self.ln_1(x + F.dropout(self.attn(x, cache), self.dropout, rng))
        return self.ln_2(x + F.dropout(self.mlp(x), self.dropout, rng))


class GPT(Module):
    """ids (B, T) int -> logits (B, T, V): position t sees ids[:, :t+1] and predicts ids[:, t+1]."""

    published_as = "OpenAIGPTLMHeadModel"

    def __init__(self, config, rng):
        self.config = config
        self.wte = embedding(config.vocabulary, config, rng)
        self.wpe = embedding(config.context, config, rng)
        self.h = [Block(config, rng) for _ in range(config.layers)]

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

    def hidden(self, ids, cache=None, rng=None):
        """ids (B, T) -> x (B, T, C), what the last block says of each position."""
        x = F.dropout(self.embed(ids, 0 if cache is None else cache[0].length), self.config.dropout_of_embeddings, rng)
        for i, block in enumerate(self.h):
            x = block(x, None if cache is None else cache[i], rng)
        return x

    def __call__(self, ids, cache=None, rng=None):
        """With a cache (see `empty_cache`), ids continue the sequence that it holds; returns (logits, cache)."""
        logits = F.linear(self.hidden(ids, cache, rng), self.wte.weight)  # (B, T, V)
        return logits if cache is None else (logits, cache)

    def empty_cache(self, B):
        """Keys and values of every layer, to be passed in and returned: work per token grows as T, not T^2."""
        c = self.config
        return [KVCache((B, c.heads, c.context, c.width // c.heads), c.dtype) for _ in range(c.layers)]


class Classifier(GPT):
    """A GPT with the one new layer of equation 7, without a bias. Start it from a trained one with `tn.load`."""

    published_as = "OpenAIGPTForSequenceClassification"

    def __init__(self, config, rng):
        super().__init__(config, rng)
        self.score = Linear(config.width, config.classes, bias=False, rng=rng, dtype=config.dtype)
        self.score.weight = Tensor(init.normal((config.classes, config.width), rng, std=config.std, dtype=config.dtype))

    def classify(self, ids, last, rng=None):
        """ids (B, T) and the place of each extract token, last (B,); padding behind it -> scores (B, K), logits (B, T, V)."""
        ids, last = np.asarray(ids), np.asarray(last)
        if last.shape != ids.shape[:1] or last.min() < 0 or last.max() >= ids.shape[1]:
            raise ValueError(f"classify: last is {last}, expected {len(ids)} places below {ids.shape[1]}, one for each row of the ids")
        x = self.hidden(ids, rng=rng)
        extract = F.dropout(x[np.arange(len(ids)), last], self.config.dropout, rng)  # (B, C)
        scores = self.score(extract)  # (B, K)
        return scores, F.linear(x, self.wte.weight)


def loss(model, ids, targets, rng=None):
    """Equation 6: mean cross-entropy in nats per token. ids, targets: (B, T) int."""
    return F.cross_entropy(model(ids, rng=rng), targets)


def fine_tuning_loss(model, ids, last, labels, weight=0.5, rng=None):
    """Equation 8 of a Classifier, in nats. labels (B,) int below K; weight: the paper's lambda. Padding counts nowhere."""
    ids = np.asarray(ids)
    B, T = ids.shape
    scores, logits = model.classify(ids, last, rng)
    task = F.cross_entropy(scores, labels)
    if not weight:
        return task
    targets = np.where(np.arange(1, T) <= np.reshape(last, (B, 1)), ids[:, 1:], -100)  # (B, T-1)
    return task + weight * F.cross_entropy(logits[:, :-1], targets)


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
        q, k, _ = block.attn.split(block.attn.c_attn(x))
        maps.append(F.attention_weights(q, k, causal=True))
        x = block(x)
    return np.stack(maps)


def published(state):
    """A published GPT-1 checkpoint's arrays, {name: array}, under this model's names and shapes.

    The published linear maps ("Conv1D") are stored (in, out), the buffers `attn.bias` are causal
    masks, and the tied head may stand a second time as `lm_head.weight`, which must be equal.
    """

    def rename(name):
        name = name.removeprefix("transformer.").replace("tokens_embed", "wte").replace("positions_embed", "wpe")
        return None if name.endswith((".attn.bias", ".attn.masked_bias", "position_ids")) else name

    first = [f"{prefix}{name}.weight" for prefix in ("transformer.", "") for name in ("tokens_embed", "wte")]
    state = without_copies(state, [("lm_head.weight", first)])
    return {name: transposed(name, array) for name, array in renamed(state, rename).items()}


def to_published(state):
    """The inverse: this model's state_dict under the published names and shapes."""
    theirs = {}
    for name, array in state.items():
        new = name.replace("wte", "tokens_embed").replace("wpe", "positions_embed")
        theirs[new if name.startswith("score.") else "transformer." + new] = transposed(name, array)
    return theirs


def transposed(name, array):
    return array.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else array
