"""The Transformer: one stack of attention reads a sequence, another writes its translation.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin (2017), "Attention Is All You
Need". The encoder lets every source token gather from all others, without recurrence, so that all
positions are computed at once. The decoder does the same with what is written so far, and in each
layer also looks into the encoder's output (the memory). It is trained on all target positions at
once: each is told the right tokens before it, and the causal mask hides those after.

    (1)  pos[p, 2i] = sin(p / 10000^(2i/C)),   pos[p, 2i+1] = cos(p / 10000^(2i/C))
    (2)  x0   = sqrt(C) W[ids] + pos               W (V, C) is shared by source, target and equation 7
    (3)  attn(x, m) = out_proj(concat_h softmax(q_h k_h^T / sqrt(hd)) v_h),   q = q_proj(x), k, v = k_proj(m), v_proj(m)
    (4)  ffn(x) = linear2(relu(linear1(x)))
    (5)  x <- norm1(x + attn(x, x))                encoder: post-norm, padding is masked
         x <- norm2(x + ffn(x))
    (6)  y <- norm1(y + attn(y, y))                decoder: causal
         y <- norm2(y + attn(y, x))                cross-attention: T queries meet S keys
         y <- norm3(y + ffn(y))
    (7)  logits = y W^T
    (8)  loss = - mean_bt sum_v p_v log softmax(logits_t)_v,   p = (1 - e) onehot(target_t) + e / V,  e = 0.1
    (9)  rate(s) = C^-0.5 min(s^-0.5, s warmup^-1.5)                     s = 1, 2, ...

B batch, S source length, T target length, C width, nh heads, hd = C / nh, F hidden width, V vocabulary, L layers.

Differs from the paper: the four projections of attention have biases, as in PyTorch's nn.Transformer. Dropout falls
where the paper says and nowhere else (PyTorch: also on the attention weights and inside ffn). The paper leaves
the initial weights open: here W ~ N(0, 1/C), so that equation 2 starts at unit variance, and the others are
Glorot's, as in the authors' program.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.language.search import beam_search
from tinygrad_notes import Tensor, frozen, optim
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Embedding, LayerNorm, Linear, Module, init
from tinygrad_notes.nn.cache import KVCache

import numpy as np


@dataclass(frozen=True)
class Config:
    vocabulary: int = 37000  # one for both languages; the paper's for English and German
    layers: int = 6  # of the encoder, and as many of the decoder
    heads: int = 8
    width: int = 512
    hidden: int = 2048
    dropout: float = 0.1  # on the embeddings and on each sublayer before it is added; off where no rng is passed
    label_smoothing: float = 0.1
    pad: int = 0  # fills up the shorter sequences of a batch, at their ends
    bos: int = 1  # the first input of the decoder
    eos: int = 2  # the last token of every target
    dtype: type = np.float32

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"Config: width {self.width} is not a multiple of heads {self.heads}; choose a width that the heads can share")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"Config: label_smoothing {self.label_smoothing} is not in [0, 1); the paper has 0.1")
        marks = {self.pad, self.bos, self.eos}
        if len(marks) < 3 or not 0 <= min(marks) <= max(marks) < self.vocabulary:
            raise ValueError(
                f"Config: pad {self.pad}, bos {self.bos}, eos {self.eos} must be three different ids below vocabulary {self.vocabulary}"
            )

    @staticmethod
    def tiny(**changes) -> "Config":
        return Config(**{"vocabulary": 11, "layers": 2, "heads": 2, "width": 12, "hidden": 20} | changes)

    @staticmethod
    def base(**changes) -> "Config":
        """63 million parameters; 27.3 BLEU from English to German, 38.1 to French (table 2)."""
        return Config(**changes)

    @staticmethod
    def big(**changes) -> "Config":
        """214 million parameters; 28.4 and, with dropout 0.1, 41.8 BLEU."""
        return Config(**{"heads": 16, "width": 1024, "hidden": 4096, "dropout": 0.3} | changes)


def sinusoids(T, C, start=0, dtype=np.float32):
    """Equation 1: the positions start, ..., start + T - 1, each a vector of C sines and cosines, (T, C).

    Each pair (sin, cos) is the hand of a clock, and going on by k turns it by a fixed angle: pos[p + k]
    is linear in pos[p]. Where C is odd, the last sine has no cosine.
    """
    p, i2 = np.arange(start, start + T), np.arange(0, C, 2)
    angle = p[:, None] / 10000 ** (i2 / C)  # (T, (C + 1) // 2)
    pos = np.empty((T, C), dtype)
    pos[:, 0::2] = np.sin(angle)
    pos[:, 1::2] = np.cos(angle[:, : C // 2])
    return pos


def linear(n_in, n_out, config, rng):
    layer = Linear(n_in, n_out, rng=rng, dtype=config.dtype)
    layer.weight = Tensor(init.xavier_uniform((n_out, n_in), rng, dtype=config.dtype))
    layer.bias = Tensor(init.zeros(n_out, dtype=config.dtype))
    return layer


class Attention(Module):
    """Equation 3. Keys and values come in ready, since those of the memory are the same for every target token."""

    def __init__(self, config, rng):
        C, self.heads = config.width, config.heads
        self.q_proj = linear(C, C, config, rng)
        self.k_proj = linear(C, C, config, rng)
        self.v_proj = linear(C, C, config, rng)
        self.out_proj = linear(C, C, config, rng)

    def split(self, x):
        B, T, C = x.shape
        nh = self.heads
        return np.swapaxes(x.reshape(B, T, nh, C // nh), 1, 2)  # (B, nh, T, C / nh)

    def keys_values(self, m):
        """What the queries will meet: m (B, S, C) -> k, v, each (B, nh, S, hd)."""
        return self.split(self.k_proj(m)), self.split(self.v_proj(m))

    def __call__(self, x, keys_values, *, mask=None, causal=False):
        """x (B, T, C), the queries; mask (B, 1, 1, S), True at keys that may be seen."""
        B, T, C = x.shape
        q, (k, v) = self.split(self.q_proj(x)), keys_values
        y = F.scaled_dot_product_attention(q, k, v, mask=mask, causal=causal)  # (B, nh, T, hd)
        y = np.swapaxes(y, 1, 2).reshape(B, T, C)  # (B, T, C)
        return self.out_proj(y)


class FeedForward(Module):
    """Equation 4."""

    def __init__(self, config, rng):
        self.linear1 = linear(config.width, config.hidden, config, rng)
        self.linear2 = linear(config.hidden, config.width, config, rng)

    def __call__(self, x):
        return self.linear2(F.relu(self.linear1(x)))


class EncoderLayer(Module):
    """Equation 5."""

    def __init__(self, config, rng):
        self.dropout = config.dropout
        self.self_attn = Attention(config, rng)
        self.ffn = FeedForward(config, rng)
        self.norm1, self.norm2 = (LayerNorm(config.width, dtype=config.dtype) for _ in range(2))

    def __call__(self, x, seen, rng=None):
        attn = self.self_attn(x, self.self_attn.keys_values(x), mask=seen)
        x = self.norm1(x + F.dropout(attn, self.dropout, rng))
        return self.norm2(x + F.dropout(self.ffn(x), self.dropout, rng))


class DecoderLayer(Module):
    """Equation 6."""

    def __init__(self, config, rng):
        self.dropout = config.dropout
        self.self_attn = Attention(config, rng)
        self.cross_attn = Attention(config, rng)
        self.ffn = FeedForward(config, rng)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(config.width, dtype=config.dtype) for _ in range(3))

    def look_back(self, y, cache=None, rng=None):
        """The first line of equation 6; with a cache, y continues what it holds."""
        keys_values = self.self_attn.keys_values(y)
        if cache is not None:
            keys_values = cache.extend(*keys_values)
        attn = self.self_attn(y, keys_values, causal=True)
        return self.norm1(y + F.dropout(attn, self.dropout, rng))

    def __call__(self, y, memory, seen, cache=None, rng=None):
        y = self.look_back(y, cache, rng)
        y = self.norm2(y + F.dropout(self.cross_attn(y, memory, mask=seen), self.dropout, rng))
        return self.norm3(y + F.dropout(self.ffn(y), self.dropout, rng))


class Memory(NamedTuple):
    """The source as the decoder meets it, computed once."""

    keys_values: list[tuple[Any, Any]]  # of each decoder layer's cross-attention, (B, nh, S, hd) both
    seen: np.ndarray  # (B, 1, 1, S) bool, False at padding

    def repeated(self, n):
        """Each source n times, side by side."""
        return Memory([tuple(np.repeat(x, n, axis=0) for x in pair) for pair in self.keys_values], np.repeat(self.seen, n, axis=0))


class Transformer(Module):
    """src (B, S), ids (B, T) int -> logits (B, T, V): position t sees all of src and ids[:, :t+1], and predicts the next id."""

    def __init__(self, config, rng):
        self.config = config
        self.embedding = Embedding(config.vocabulary, config.width, rng=rng, dtype=config.dtype)
        std = 1 / math.sqrt(config.width)
        self.embedding.weight = Tensor(init.normal((config.vocabulary, config.width), rng, std=std, dtype=config.dtype))
        self.encoder = [EncoderLayer(config, rng) for _ in range(config.layers)]
        self.decoder = [DecoderLayer(config, rng) for _ in range(config.layers)]

    def embed(self, name, ids, start=0, rng=None):
        """Equation 2; ids stand at the positions start, start + 1, ..."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or not ids.size:
            raise ValueError(f"Transformer: {name} has shape {ids.shape}, expected (B, length), neither 0; one sequence is {name}[None]")
        B, T = ids.shape
        C = self.config.width
        x = self.embedding(ids) * math.sqrt(C) + sinusoids(T, C, start, self.config.dtype)  # (B, T, C)
        return F.dropout(x, self.config.dropout, rng)

    def encode(self, src, rng=None):
        """src (B, S) int, padded at the end with config.pad -> the Memory."""
        x = self.embed("src", src, rng=rng)
        seen = (np.asarray(src) != self.config.pad)[:, None, None, :]  # (B, 1, 1, S)
        for layer in self.encoder:
            x = layer(x, seen, rng)
        return Memory([layer.cross_attn.keys_values(x) for layer in self.decoder], seen)

    def decode(self, ids, memory, cache=None, rng=None):
        """Logits (B, T, V); with a cache (see `empty_cache`), which is extended, ids (B, T) continue the sequences that it holds."""
        y = self.embed("ids", ids, 0 if cache is None else cache[0].length, rng)
        if len(y) != len(memory.seen):
            raise ValueError(f"Transformer: {len(y)} target sequences for {len(memory.seen)} source sequences; give one for each")
        for i, layer in enumerate(self.decoder):
            y = layer(y, memory.keys_values[i], memory.seen, None if cache is None else cache[i], rng)
        return F.linear(y, self.embedding.weight)  # (B, T, V)

    def __call__(self, src, ids, rng=None):
        return self.decode(ids, self.encode(src, rng), rng=rng)

    def empty_cache(self, B, longest):
        """Room for the keys and values of `longest` target positions in every layer."""
        c = self.config
        return [KVCache((B, c.heads, longest, c.width // c.heads), c.dtype) for _ in range(c.layers)]

    def follow(self, tokens, memory, cache):
        """Logits (B, V) of what follows tokens (B,), which are appended to the cache; never padding or BOS, which no target has."""
        logits = self.decode(tokens[:, None], memory, cache)[:, -1]  # (B, V)
        logits[:, [self.config.pad, self.config.bos]] = -np.inf
        return logits


def shifted(tgt, bos):
    """The decoder's input: BOS first, then the target without its last token, tgt (B, T) -> (B, T)."""
    B, T = tgt.shape
    return np.concatenate([np.full((B, 1), bos), tgt[:, :-1]], axis=1)  # (B, T)


def loss(model, src, tgt, rng=None):
    """Equation 8, in nats per target token. src (B, S), tgt (B, T) int; each row of tgt ends in EOS, then padding, which does not count."""
    c = model.config
    logits = model(src, shifted(tgt, c.bos), rng)
    return F.cross_entropy(logits, tgt, label_smoothing=c.label_smoothing, ignore_index=c.pad)


def rate(step, *, width, warmup=4000):
    """Equation 9, for Adam with betas (0.9, 0.98) and eps 1e-9; step 0 is the first."""
    return optim.inverse_square_root(step, peak=(width * warmup) ** -0.5, warmup=warmup)


def generate(model, src, *, longest=None, rng=None, temperature=1.0):
    """A translation of each row of src (B, S) int, token by token: the likeliest (rng None, "greedy"), or drawn.

    Returns ids (B, T), T <= longest (S + 50 unless given, as in the paper): each row ends in EOS, then padding,
    or is cut at `longest`.
    """
    model = frozen(model)
    c, B, memory = model.config, len(src), model.encode(src)
    longest = np.shape(src)[1] + 50 if longest is None else longest
    if longest < 1:
        raise ValueError(f"generate: longest is {longest}, expected at least 1")
    cache = model.empty_cache(B, longest)
    token, ended, tokens = np.full(B, c.bos), np.zeros(B, bool), []
    while len(tokens) < longest and not ended.all():
        drawn = F.sample(model.follow(token, memory, cache), rng, temperature=temperature)  # (B,)
        token = np.where(ended, c.pad, drawn)  # (B,)
        ended |= token == c.eos
        tokens.append(token)
    return np.stack(tokens, axis=1)


def translate(model, src, *, beams=4, alpha=0.6, longest=None):
    """The translation of each row of src (B, S) int that beam search finds, with the paper's settings.

    Returns ids (B, T), as `generate` does, and scores (B,); see search.py for these.
    """
    model = frozen(model)
    c, B, memory = model.config, len(src), model.encode(src).repeated(beams)
    longest = np.shape(src)[1] + 50 if longest is None else longest
    cache = model.empty_cache(B * beams, longest)

    def advance(rows, tokens):  # the memory stays as it is: an item's hypotheses share their source
        for layer in cache:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        return F.log_softmax(model.follow(tokens, memory, cache))

    return beam_search(advance, B, bos=c.bos, eos=c.eos, pad=c.pad, longest=longest, beams=beams, alpha=alpha)


def attention_maps(model, src, ids):
    """Where the decoder looks in the source: the weights of the cross-attention of every layer, (L, B, nh, T, S)."""
    model = frozen(model)
    memory, y = model.encode(src), model.embed("ids", ids)
    maps = []
    for layer, (k, v) in zip(model.decoder, memory.keys_values):
        q = layer.cross_attn.split(layer.cross_attn.q_proj(layer.look_back(y)))
        maps.append(F.attention_weights(q, k, mask=memory.seen))
        y = layer(y, (k, v), memory.seen)
    return np.stack(maps)


def published(state):
    """The arrays of a PyTorch nn.Transformer, {name: array}, under this model's names. The embedding is not among them.

    It keeps the three input projections of an attention in one matrix. It must have been made without the
    norms behind the last layers (custom_encoder, custom_decoder with norm=None), which the paper does not have.
    """
    renamed = {}
    for name, array in state.items():
        name = name.replace(".layers.", ".").replace("multihead_attn", "cross_attn").replace(".linear", ".ffn.linear")
        if ".in_proj_" in name:
            for part, rows in zip("qkv", np.split(array, 3)):
                renamed[name.replace(".in_proj_", f".{part}_proj.")] = rows
        else:
            renamed[name] = array
    return renamed
