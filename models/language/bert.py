"""BERT: a transformer encoder that learns a language by filling in blanks.

Devlin, Chang, Lee, Toutanova (2018), "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding". Every position sees the whole text, left and right; so that there is something to predict, 15 % of the
tokens are hidden, and a second task asks whether two passages follow each other. Trained so on plain text, it
becomes a classifier, tagger or matcher with one new layer and little labelled data.

    (1)  x0     = LN(word[ids] + position[0..T-1] + segment[segments])       three learned tables
    (2)  x'     = LN(x + attn(x))                                            post-norm, as in the 2017 transformer
         x''    = LN(x' + outer(gelu(inner(x'))))                            gelu exact: x Phi(x)
    (3)  attn   = out_proj(concat_h softmax(q_h k_h^T / sqrt(hd)) v_h)       no causal mask; padding is never attended
    (4)  pooled = tanh(pooler(x[CLS]))
    (5)  mlm    = LN(gelu(transform(x))) word^T + bias                       the decoder is tied to the word table
    (6)  nsp    = next(pooled)                                               class 0: B follows A, class 1: B is random
    (7)  loss   = mean over hidden tokens of -log softmax(mlm)[token] + mean over pairs of -log softmax(nsp)[is random]

An input is [CLS] A [SEP] B [SEP] [PAD]..., segment 0 up to the first [SEP], then 1.
B batch, T time, C channels, nh heads, hd = C / nh, F hidden width, L layers, V vocabulary, N hidden tokens, K classes.

Differs from the paper: no dropout unless Config.dropout is set (the paper: 0.1) and an rng is passed, and none on the
attention weights. Each token is hidden with probability 15 %, where the authors' code hides 15 % of each sequence,
rounded. A and B share the length evenly, where the authors draw where A ends and make every tenth pair short.
"""

from dataclasses import dataclass

from models.published import check_config, check_supported, classes, labelled, numbers, renamed, without_copies
from tinygrad_notes import Tensor, frozen
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Embedding, LayerNorm, Linear, Module, init

import numpy as np

IGNORED = -100  # the target of a token that is not to be predicted


@dataclass(frozen=True)
class Config:
    vocabulary: int = 30522
    context: int = 512  # the longest sequence: positions are learned
    segments: int = 2
    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int = 3072
    classes: int = 2  # of the head for classification
    labels: tuple[str, ...] = ()  # the names of the classes; (): none
    dropout: float = 0.0  # on embeddings, attention and MLP outputs, pooled; off where no rng is passed
    eps: float = 1e-12  # of the layer norms
    std: float = 0.02  # of the initial weights; small models learn faster from 1 / sqrt(width)
    dtype: type = np.float32

    def __post_init__(self):
        check_config(self)
        if self.width % self.heads:
            raise ValueError(f"Config: width {self.width} is not a multiple of heads {self.heads}; choose a width that the heads can share")

    @staticmethod
    def tiny(**changes) -> "Config":
        return Config(**{"vocabulary": 13, "context": 10, "layers": 2, "heads": 2, "width": 12, "hidden": 20, "classes": 3} | changes)

    @staticmethod
    def bert_tiny(**changes) -> "Config":
        """The smallest of Turc et al. (2019), "Well-Read Students Learn Better"."""
        return Config(**{"layers": 2, "heads": 2, "width": 128, "hidden": 512} | changes)

    @staticmethod
    def base() -> "Config":
        return Config()

    @staticmethod
    def large() -> "Config":
        return Config(layers=24, heads=16, width=1024, hidden=4096)

    @staticmethod
    def from_published(published: dict) -> "Config":
        """From the content of a config.json by Hugging Face. ValueError where it says something that this model does not do."""
        check_supported(published, SUPPORTED, "BERT")
        return Config(**{"dropout": 0.1} | numbers(published, SIZES) | classes(published, Config.classes))

    def to_published(self) -> dict:
        """The inverse: the content of config.json."""
        known = {key: values[0] for key, values in SUPPORTED.items()} | {key: getattr(self, ours) for key, ours in SIZES.items()}
        return known | {"attention_probs_dropout_prob": 0.0, **labelled(self)}


SIZES = {"vocab_size": "vocabulary", "max_position_embeddings": "context", "type_vocab_size": "segments", "hidden_size": "width"}
SIZES |= {"num_hidden_layers": "layers", "num_attention_heads": "heads", "intermediate_size": "hidden"}
SIZES |= {"hidden_dropout_prob": "dropout", "layer_norm_eps": "eps", "initializer_range": "std"}
SUPPORTED = {"model_type": ("bert",), "hidden_act": ("gelu",), "position_embedding_type": ("absolute",), "is_decoder": (False,)}
SUPPORTED |= {"add_cross_attention": (False,), "tie_word_embeddings": (True,)}


def normal(shape, config, rng):
    """BERT's start: N(0, std^2) cut off at two standard deviations."""
    return Tensor(init.trunc_normal(shape, rng, std=config.std, low=-2 * config.std, high=2 * config.std, dtype=config.dtype))


def linear(n_in, n_out, config, rng):
    layer = Linear(n_in, n_out, rng=rng, dtype=config.dtype)
    layer.weight, layer.bias = normal((n_out, n_in), config, rng), Tensor(init.zeros(n_out, config.dtype))
    return layer


def embedding(n, config, rng):
    table = Embedding(n, config.width, rng=rng, dtype=config.dtype)
    table.weight = normal((n, config.width), config, rng)
    return table


class Attention(Module):
    """Equation 3: every position attends to every other that is not padding."""

    def __init__(self, config, rng):
        C, self.heads = config.width, config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (linear(C, C, config, rng) for _ in range(4))

    def split(self, x):
        """(B, T, C) -> q, k, v, each (B, nh, T, hd)"""
        B, T, C = x.shape
        nh = self.heads
        return [np.swapaxes(part(x).reshape(B, T, nh, C // nh), 1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)]

    def __call__(self, x, mask):
        B, T, C = x.shape
        q, k, v = self.split(x)
        y = F.scaled_dot_product_attention(q, k, v, mask=mask)  # (B, nh, T, hd)
        return self.out_proj(np.swapaxes(y, 1, 2).reshape(B, T, C))  # (B, T, C)


class Layer(Module):
    """Equation 2."""

    def __init__(self, config, rng):
        self.dropout = config.dropout
        self.attention = Attention(config, rng)
        self.norm_1 = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.inner = linear(config.width, config.hidden, config, rng)
        self.outer = linear(config.hidden, config.width, config, rng)
        self.norm_2 = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)

    def __call__(self, x, mask=None, rng=None):
        x = self.norm_1(x + F.dropout(self.attention(x, mask), self.dropout, rng))
        h = F.gelu(self.inner(x))  # (B, T, F)
        return self.norm_2(x + F.dropout(self.outer(h), self.dropout, rng))


class BERT(Module):
    """ids (B, T) int -> x (B, T, C), one vector for each token, and pooled (B, C), one for the whole."""

    published_as = "BertModel"

    def __init__(self, config, rng):
        self.config = config
        self.word = embedding(config.vocabulary, config, rng)
        self.position = embedding(config.context, config, rng)
        self.segment = embedding(config.segments, config, rng)
        self.norm = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.layers = [Layer(config, rng) for _ in range(config.layers)]
        self.pooler = linear(config.width, config.width, config, rng)

    def embed(self, ids, segments=None):
        """Equation 1. segments (B, T) int, all 0 unless given."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or not ids.size:
            raise ValueError(f"BERT: ids have shape {ids.shape}, expected (B, T), neither of them 0; one sequence is ids[None]")
        B, T = ids.shape
        if self.config.context < T:
            raise ValueError(f"BERT: {T} positions, but the context is {self.config.context}; crop the ids: ids[:, :{self.config.context}]")
        segments = np.zeros_like(ids) if segments is None else np.asarray(segments)
        if segments.shape != (B, T):
            raise ValueError(f"BERT: segments have shape {segments.shape}, expected that of the ids, {(B, T)}; see `pack`")
        return self.norm(self.word(ids) + self.position(np.arange(T)) + self.segment(segments))  # (B, T, C)

    def __call__(self, ids, segments=None, mask=None, rng=None):
        """mask (B, T) bool: False where a token is padding, which nothing attends to."""
        x = F.dropout(self.embed(ids, segments), self.config.dropout, rng)
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape != x.shape[:2] or mask.dtype != bool:
                raise ValueError(f"BERT: mask is {mask.dtype} {mask.shape}, expected bool {x.shape[:2]}; write ids != pad")
            mask = mask[:, None, None, :]  # (B, 1, 1, T)
        for layer in self.layers:
            x = layer(x, mask, rng)
        return x, np.tanh(self.pooler(x[:, 0]))


class MaskedLM(Module):
    """Equation 5: vectors (..., C) and the word table (V, C) -> logits (..., V)."""

    def __init__(self, config, rng):
        self.transform = linear(config.width, config.width, config, rng)
        self.norm = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.bias = Tensor(init.zeros(config.vocabulary, config.dtype))

    def __call__(self, x, word):
        return F.linear(self.norm(F.gelu(self.transform(x))), word, self.bias)


class PreTraining(Module):
    """ids (B, T) int -> mlm (B, T, V), nsp (B, 2)."""

    published_as = "BertForPreTraining"

    def __init__(self, config, rng):
        self.config = config
        self.bert = BERT(config, rng)
        self.mlm = MaskedLM(config, rng)
        self.next = linear(config.width, 2, config, rng)  # equation 6

    def __call__(self, ids, segments=None, mask=None, rng=None):
        x, pooled = self.bert(ids, segments, mask, rng)
        return self.mlm(x, self.bert.word.weight), self.next(pooled)


class Classifier(Module):
    """ids (B, T) int -> logits (B, K): one new layer on the pooled vector. Start from `classifier.bert = pretrained.bert`."""

    published_as = "BertForSequenceClassification"

    def __init__(self, config, rng):
        self.config = config
        self.bert = BERT(config, rng)
        self.classifier = linear(config.width, config.classes, config, rng)

    def __call__(self, ids, segments=None, mask=None, rng=None):
        _, pooled = self.bert(ids, segments, mask, rng)
        return self.classifier(F.dropout(pooled, self.config.dropout, rng))


def loss(model, ids, segments, mask, targets, is_random, rng=None):
    """Equation 7, in nats. targets (B, T) int from `mask_tokens`, is_random (B,) int from `sentence_pairs`."""
    x, pooled = model.bert(ids, segments, mask, rng)
    hidden = np.flatnonzero(targets != IGNORED)  # only these go through the head, which costs more than the encoder
    if not len(hidden):
        raise ValueError(f"loss: none of the {targets.size} tokens is hidden, so there is nothing to predict; mask again, or more of them")
    mlm = model.mlm(x.reshape(-1, x.shape[-1])[hidden], model.bert.word.weight)  # (N, V)
    return F.cross_entropy(mlm, targets.reshape(-1)[hidden]) + F.cross_entropy(model.next(pooled), is_random)


def classification_loss(model, ids, segments, mask, labels, rng=None):
    """Fine-tuning: mean cross-entropy in nats. labels (B,) int below K."""
    return F.cross_entropy(model(ids, segments, mask, rng), labels)


def pack(first, second, length, special):
    """Lists of arrays of ids (second: or None) -> ids, segments, mask (B, length): [CLS] a [SEP] b [SEP] [PAD]... special: ids by name."""
    cls, sep = [special["[CLS]"]], [special["[SEP]"]]
    ids = np.full((len(first), length), special["[PAD]"])
    segments, mask = np.zeros_like(ids), np.zeros(ids.shape, bool)
    for i, a in enumerate(first):
        a = np.concatenate([cls, a, sep])
        b = a[:0] if second is None else np.concatenate([second[i], sep])
        n = len(a) + len(b)
        if n > length:
            raise ValueError(f"pack: example {i} has {n} tokens with [CLS] and [SEP], expected at most {length}; cut it, or make more room")
        ids[i, :n], segments[i, len(a) : n], mask[i, :n] = np.concatenate([a, b]), 1, True
    return ids, segments, mask


def sentence_pairs(documents, batch, length, special, rng):
    """Section 3.1, task 2 -> ids, segments, mask (batch, length) and is_random (batch,) int: 1 with probability a half.

    documents: lists of sentences, arrays of ids (n,); two documents or more, each of two sentences or more. A ends where
    a sentence does; B is what follows, or begins with a sentence of another document.
    """
    if length < 5:
        raise ValueError(f"sentence_pairs: length is {length}, expected at least 5, for [CLS] a [SEP] b [SEP]")
    shortest = min(map(len, documents), default=0)
    if len(documents) < 2 or shortest < 2:
        raise ValueError(f"sentence_pairs: {len(documents)} documents, the shortest of {shortest} sentences; expected at least 2 of 2 each")
    ends = np.cumsum([len(document) - 1 for document in documents])  # every border between two sentences is as likely
    first, second, room = [], [], length - 3
    is_random = rng.integers(2, size=batch)
    for random in is_random:
        border = rng.integers(ends[-1])
        d = np.searchsorted(ends, border, side="right")
        cut = len(documents[d]) - (ends[d] - border)
        first.append(np.concatenate(documents[d][:cut])[-(room // 2) :])
        if random:
            d = (d + rng.integers(1, len(documents))) % len(documents)
            cut = rng.integers(len(documents[d]))
        second.append(np.concatenate(documents[d][cut:])[: room - len(first[-1])])
    return *pack(first, second, length, special), is_random


def mask_tokens(ids, special, vocabulary, rng, share=0.15):
    """Section 3.1, task 1: ids (B, T) -> what the model is shown, and the targets, IGNORED but for the hidden tokens.

    Each token is hidden with probability `share`; of those, 80 % become [MASK], 10 % any token, and 10 % stay, so that
    no vector can rely on its token being right. [PAD], [CLS] and [SEP] are never hidden.
    """
    hidden = (rng.random(ids.shape) < share) & ~np.isin(ids, [special[name] for name in ("[PAD]", "[CLS]", "[SEP]")])
    fate, anything = rng.random(ids.shape), rng.integers(vocabulary, size=ids.shape)
    shown = np.where(fate < 0.8, special["[MASK]"], np.where(fate < 0.9, anything, ids))
    return np.where(hidden, shown, ids), np.where(hidden, ids, IGNORED)


def fill(model, ids, blank, segments=None, mask=None):
    """ids (B, T) with each token that is `blank`, the id of [MASK], replaced by the most likely one."""
    return np.where(ids == blank, frozen(model)(ids, segments, mask)[0].argmax(-1), ids)


def attention_maps(bert, ids, segments=None):
    """Where each head looks, in full sequences: softmax(q k^T / sqrt(hd)) of every layer, (L, B, nh, T, T)."""
    bert = frozen(bert)
    x, maps = bert.embed(ids, segments), []
    for layer in bert.layers:
        maps.append(F.attention_weights(*layer.attention.split(x)[:2]))
        x = layer(x)
    return np.stack(maps)


# This model's names, and the published ones.
NAMES = {"word": "embeddings.word_embeddings", "position": "embeddings.position_embeddings"}
NAMES |= {"segment": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm"}
NAMES |= {f"attention.{ours}_proj": f"attention.self.{theirs}" for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value"))}
NAMES |= {"attention.out_proj": "attention.output.dense", "norm_1": "attention.output.LayerNorm"}
NAMES |= {"inner": "intermediate.dense", "outer": "output.dense", "norm_2": "output.LayerNorm", "pooler": "pooler.dense"}
NAMES |= {"mlm.transform": "cls.predictions.transform.dense", "mlm.norm": "cls.predictions.transform.LayerNorm"}
NAMES |= {"mlm": "cls.predictions", "next": "cls.seq_relationship"}
PART = "bert."  # what BERT's names begin with in PreTraining and Classifier, of which it is a part


def rename(name, names):
    """The longest module's path that `name` ends with, but for its last part, by another; what stands before it stays."""
    path, _, leaf = name.rpartition(".")
    old = max((key for key in names if f".{path}".endswith(f".{key}")), key=len, default="")
    return f"{path.removesuffix(old)}{names.get(old, '')}.{leaf}".removeprefix(".")


def published(state):
    """A published checkpoint's arrays, {name: array}, under the names of BERT, PreTraining or Classifier, whichever it holds."""
    words = ("bert.embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight")
    copies = [("cls.predictions.decoder.weight", words), ("cls.predictions.decoder.bias", ("cls.predictions.bias",))]

    def new(name):
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias").replace("encoder.layer.", "layers.")
        return (
            None
            if name.endswith(("embeddings.position_ids", "embeddings.token_type_ids"))
            else rename(name, {theirs: ours for ours, theirs in NAMES.items()})
        )

    return renamed(without_copies(state, copies), new)


def to_published(state):
    """The inverse: this model's state_dict under the published names."""
    return {rename(name, NAMES).replace("layers.", "encoder.layer."): array for name, array in state.items()}
