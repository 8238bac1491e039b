"""CLIP: images and texts in one space, learned from which text came with which image.

Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger, Sutskever (2021), "Learning
Transferable Visual Models From Natural Language Supervision". One transformer reads the image, another the text, and
both end in a vector of length 1. In a batch of B pairs, each image has to find its text among B and each text its
image: 2 (B^2 - B) wrong pairs are pushed apart while B right ones are pulled together. A new task then needs no
training: describe its classes in words, and take the description that is nearest to the image.

    (1)  image = unit(W_i ln_post(encoder(ln_pre([cls; x_1 E; ...; x_N E] + pos)))[0])      x_n: patch n, as in ViT
    (2)  text  = unit(W_t ln_final(causal encoder(token[ids] + pos))[end])                  unit(v) = v / |v|
    (3)  block:  z' = z + attn(ln_1(z)),  z'' = z' + mlp(ln_2(z')),  mlp = fc2(quick_gelu(fc1(x)))
    (4)  quick_gelu(x) = x sigmoid(1.702 x)
    (5)  logits = s image text^T,  s = exp(t),  t learned, ln(1 / 0.07) at first, at most ln 100 after each step: see `clamp`
    (6)  loss  = (- mean_b log softmax(logits_b)[b] - mean_b log softmax(logits^T_b)[b]) / 2

B pairs, Cin channels, H W image, P patch, N patches, T text length, C width of an encoder, D width of the common space,
V vocabulary, K classes.

Differs from the paper: no half precision, no ResNet as image encoder. Text behind the end token is ignored: the encoder is causal, and the end token speaks for the text.
"""

import math
from dataclasses import dataclass, replace

from models.published import LARGEST, check_config, number, numbers, renamed
from tinygrad_notes import Tensor, frozen, load, stop_gradient
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Conv2d, Embedding, LayerNorm, Linear, Module, MultiHeadAttention, init

import numpy as np

LARGEST_SCALE = 100.0


def quick_gelu(x):
    """Equation 4, a gelu that is cheaper to compute: within 0.021 of the exact one."""
    return F.swish(x, 1.702)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}  # OpenAI's checkpoints have the first, most others the second


@dataclass(frozen=True)
class Encoder:
    """The sizes of one of the two transformers."""

    width: int
    layers: int
    heads: int
    hidden: int
    activation: str = "quick_gelu"
    eps: float = 1e-5

    def __post_init__(self):
        check_config(self)
        if self.width % self.heads:
            raise ValueError(
                f"Encoder: width {self.width} is not a multiple of heads {self.heads}; choose a width that the heads can share"
            )
        if self.activation not in list(ACTIVATIONS):  # a list, since a file may say anything
            raise ValueError(f"Encoder: activation, hidden_act in files, is {self.activation!r}, expected one of {', '.join(ACTIVATIONS)}")


@dataclass(frozen=True)
class Config:
    """ViT-B/32 unless said otherwise."""

    vision: Encoder = Encoder(768, 12, 12, 3072)
    text: Encoder = Encoder(512, 12, 8, 2048)
    image: int = 224  # pixels, height and width
    patch: int = 32
    channels: int = 3
    vocabulary: int = 49408
    context: int = 77  # the longest text, with its start and end tokens
    end: int | None = None  # the end token; None: the highest id in a text, as in the paper's code
    space: int = 512  # D
    dtype: type = np.float32

    def __post_init__(self):
        if not (isinstance(self.image, int) and isinstance(self.patch, int)):
            raise ValueError(f"Config: image is {self.image} and patch {self.patch}, expected a number each: CLIP's images are square")
        check_config(self)
        if self.image % self.patch:
            raise ValueError(
                f"Config: image {self.image} does not divide into patches of {self.patch}; resize the image or change the patch"
            )

    @staticmethod
    def tiny(**changes) -> "Config":
        sizes = {"image": 8, "patch": 4, "channels": 1, "vocabulary": 11, "context": 6, "space": 7}
        return Config(**{"vision": Encoder(12, 2, 2, 20), "text": Encoder(8, 2, 2, 16)} | sizes | changes)

    @staticmethod
    def base_32() -> "Config":
        return Config()

    @staticmethod
    def base_16() -> "Config":
        return Config(patch=16)

    @staticmethod
    def large_14(image: int = 224) -> "Config":
        return Config(Encoder(1024, 24, 16, 4096), Encoder(768, 12, 12, 3072), image, patch=14, space=768)

    @staticmethod
    def from_published(config: dict) -> "Config":
        """The configuration of a published CLIPModel, given its config.json as a dict."""
        found = config.get("model_type"), *(config.get("architectures") or ["CLIPModel"])
        if found != ("clip", "CLIPModel"):
            raise ValueError(f"CLIP: config.json says {found}, expected ('clip', 'CLIPModel'); use the model it names")
        # Old files have a second copy of each part, which counts.
        vision, text = (config.get(f"{part}_config_dict") or config.get(f"{part}_config") or {} for part in ("vision", "text"))
        if not (isinstance(vision, dict) and isinstance(text, dict)):
            raise ValueError("CLIP: config.json has a text_config or vision_config that is no object; use the file as published")
        end = number("eos_token_id", text.get("eos_token_id", 49407), 0, LARGEST)
        found = numbers(vision, IMAGE_SIZES) | numbers(text, TEXT_SIZES) | numbers(config, {"projection_dim": "space"})
        return Config(
            vision=encoder_of(vision, Config().vision),  # what a file leaves out is as in ViT-B/32
            text=encoder_of(text, Config().text),
            end=None if end == 2 else end,  # 2 was a mistake in the files of OpenAI's models: those take the highest id
            **found,
        )

    def to_published(self) -> dict:
        """The config.json of this configuration, as a dict; the inverse of `from_published`."""
        if self.end == 2:
            raise ValueError("CLIP: end is 2, which published files write for the highest id of a text; renumber the tokens")
        space = {"projection_dim": self.space}
        vision = {theirs: getattr(self, ours) for theirs, ours in IMAGE_SIZES.items()}
        end = {"eos_token_id": 2 if self.end is None else self.end}
        text = end | {theirs: getattr(self, ours) for theirs, ours in TEXT_SIZES.items()}
        return {
            "model_type": "clip",
            "architectures": ["CLIPModel"],
            "vision_config": {"model_type": "clip_vision_model", **published_sizes(self.vision), **vision, **space},
            "text_config": {"model_type": "clip_text_model", **published_sizes(self.text), **text, **space},
            **space,
        }


IMAGE_SIZES = {"image_size": "image", "patch_size": "patch", "num_channels": "channels"}
TEXT_SIZES = {"vocab_size": "vocabulary", "max_position_embeddings": "context"}
SIZES = {"hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads"}
SIZES |= {"intermediate_size": "hidden", "layer_norm_eps": "eps"}


def encoder_of(part, default):
    """The vision or text part of config.json as an Encoder; what it leaves out is as in `default`."""
    return replace(default, **numbers(part, SIZES), activation=part.get("hidden_act", default.activation))


def published_sizes(encoder):
    return {theirs: getattr(encoder, ours) for theirs, ours in SIZES.items()} | {"hidden_act": encoder.activation}


def draw(layer, std, rng):
    """Give a layer weights from N(0, std^2) and, where it has one, a zero bias."""
    weight, bias = layer.weight, getattr(layer, "bias", None)
    layer.weight = Tensor(init.normal(weight.shape, rng, std=std, dtype=weight.dtype))
    if bias is not None:
        layer.bias = Tensor(init.zeros(bias.shape, bias.dtype))
    return layer


class MLP(Module):
    """mlp of equation 3."""

    def __init__(self, sizes, rng, dtype):
        C, hidden, residual = sizes.width, sizes.hidden, 1 / math.sqrt(2 * sizes.layers)
        self.activation = ACTIVATIONS[sizes.activation]
        self.fc1 = draw(Linear(C, hidden, rng=rng, dtype=dtype), 1 / math.sqrt(2 * C), rng)
        self.fc2 = draw(Linear(hidden, C, rng=rng, dtype=dtype), residual / math.sqrt(C), rng)

    def __call__(self, x):
        return self.fc2(self.activation(self.fc1(x)))


class Block(Module):
    """Equation 3. Residual maps start smaller the more layers there are, as in GPT-2."""

    def __init__(self, sizes, rng, dtype):
        C, residual = sizes.width, 1 / math.sqrt(2 * sizes.layers)
        self.ln_1 = LayerNorm(C, eps=sizes.eps, dtype=dtype)
        self.attn = MultiHeadAttention(C, sizes.heads, rng=rng, dtype=dtype)
        for layer in (self.attn.q_proj, self.attn.k_proj, self.attn.v_proj):
            draw(layer, 1 / math.sqrt(C), rng)
        draw(self.attn.out_proj, residual / math.sqrt(C), rng)
        self.ln_2 = LayerNorm(C, eps=sizes.eps, dtype=dtype)
        self.mlp = MLP(sizes, rng, dtype)

    def __call__(self, z, causal):
        z = z + self.attn(self.ln_1(z), causal=causal)
        return z + self.mlp(self.ln_2(z))


class ImageEncoder(Module):
    """Equation 1 up to W_i: images (B, Cin, H, W) -> (B, C)."""

    def __init__(self, config, rng):
        self.shape = (config.channels, config.image, config.image)
        C, P, dtype = config.vision.width, config.patch, config.dtype
        N, std = (config.image // P) ** 2, 1 / math.sqrt(C)
        self.patch = draw(Conv2d(config.channels, C, P, stride=P, bias=False, rng=rng, dtype=dtype), 0.02, rng)  # E
        self.cls = Tensor(init.normal((C,), rng, std=std, dtype=dtype))  # (C,)
        self.pos = Tensor(init.normal((1 + N, C), rng, std=std, dtype=dtype))  # (1+N, C)
        self.ln_pre = LayerNorm(C, eps=config.vision.eps, dtype=dtype)
        self.blocks = [Block(config.vision, rng, dtype) for _ in range(config.vision.layers)]
        self.ln_post = LayerNorm(C, eps=config.vision.eps, dtype=dtype)

    def __call__(self, images):
        images = images if hasattr(images, "dtype") else np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.shape or images.dtype.kind != "f" or not len(images):
            raise ValueError(
                f"CLIP: images are {images.dtype} {images.shape}, expected floats (B, {', '.join(map(str, self.shape))}), B at least 1; tinygrad_notes.images makes them"
            )
        B, C = len(images), len(self.cls)
        x = self.patch(images).reshape(B, C, -1)  # (B, C, N)
        cls = np.broadcast_to(self.cls, (B, 1, C))  # (B, 1, C)
        z = self.ln_pre(np.concatenate([cls, np.swapaxes(x, 1, 2)], axis=1) + self.pos)  # (B, 1+N, C)
        for block in self.blocks:
            z = block(z, causal=False)
        return self.ln_post(z[:, 0])  # (B, C)


class TextEncoder(Module):
    """Equation 2 up to W_t: ids (B, T) int -> (B, C)."""

    def __init__(self, config, rng):
        self.end, C, dtype = config.end, config.text.width, config.dtype
        self.tokens = draw(Embedding(config.vocabulary, C, rng=rng, dtype=dtype), 0.02, rng)
        self.pos = Tensor(init.normal((config.context, C), rng, std=0.01, dtype=dtype))  # (context, C)
        self.blocks = [Block(config.text, rng, dtype) for _ in range(config.text.layers)]
        self.ln_final = LayerNorm(C, eps=config.text.eps, dtype=dtype)

    def __call__(self, ids):
        ids = np.asarray(ids)
        if ids.ndim != 2 or not ids.size:
            raise ValueError(f"CLIP: ids have shape {ids.shape}, expected (B, T), neither of them 0; one text is ids[None]")
        B, T = ids.shape
        if len(self.pos) < T:
            raise ValueError(f"CLIP: texts have {T} tokens, but the context is {len(self.pos)}; shorten them, and keep the end token")
        z = self.tokens(ids) + self.pos[:T]  # (B, T, C)
        for block in self.blocks:
            z = block(z, causal=True)
        return self.ln_final(z[np.arange(B), self.ends(ids)])  # (B, C)

    def ends(self, ids):
        """Where each text ends, (B,): at its first end token."""
        if self.end is None:
            return np.argmax(ids, axis=1)
        found = ids == self.end
        if self.end < len(self.tokens.weight) and not found.any(axis=1).all():
            raise ValueError(f"CLIP: text {found.any(axis=1).argmin()} has no end token {self.end}, which stands for the whole; append it")
        return np.argmax(found, axis=1)  # at 0 where the vocabulary cannot hold the end token: so the published model does


class CLIP(Module):
    """images (B, Cin, H, W) floats, ids (K, T) int -> logits (B, K): how well each text fits each image."""

    def __init__(self, config, rng):
        c = self.config = config
        self.image = ImageEncoder(c, rng)
        self.text = TextEncoder(c, rng)
        self.image_projection = draw(
            Linear(c.vision.width, c.space, bias=False, rng=rng, dtype=c.dtype), 1 / math.sqrt(c.vision.width), rng
        )
        self.text_projection = draw(Linear(c.text.width, c.space, bias=False, rng=rng, dtype=c.dtype), 1 / math.sqrt(c.text.width), rng)
        self.logit_scale = Tensor(np.array(math.log(1 / 0.07), c.dtype))  # ()

    def encode_images(self, images):
        """images (B, Cin, H, W) -> vectors of length 1, (B, D)"""
        return F.normalize(self.image_projection(self.image(images)))

    def encode_texts(self, ids):
        """ids (B, T) -> vectors of length 1, (B, D)"""
        return F.normalize(self.text_projection(self.text(ids)))

    def scale(self):
        """s of equation 5."""
        return np.exp(self.logit_scale)

    def __call__(self, images, ids):
        return self.scale() * (self.encode_images(images) @ self.encode_texts(ids).T)


def loss(model, images, ids):
    """Equation 6, in nats, for pairs images (B, Cin, H, W), ids (B, T): ln B where the model knows nothing."""
    logits = model(images, ids)  # (B, B)
    pairs = np.arange(len(ids))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def clamp(model):
    """t <- min(t, ln 100), in place; for after each step of the optimizer. The gradient at the limit is whole, so t can come back."""
    t = {"t": model.logit_scale}
    load(t, {"t": np.asarray(np.minimum(stop_gradient(t["t"]), t["t"].dtype.type(math.log(LARGEST_SCALE))))})


def class_vectors(model, ids):
    """Prompt ensembling: prompts (K, M, T), M descriptions of each of K classes -> (K, D), their mean direction (section 3.1.4).

    The mean is taken of vectors, not of probabilities: however many prompts there are, a class costs one product.
    """
    K, M, T = np.shape(ids)
    vectors = frozen(model).encode_texts(np.reshape(ids, (K * M, T))).reshape(K, M, -1)  # (K, M, D)
    return F.normalize(vectors.mean(axis=1))


def classify(model, images, vectors):
    """Zero-shot: the probability of each class, (B, K), given `class_vectors` (K, D)."""
    model = frozen(model)
    return F.softmax(model.scale() * (model.encode_images(images) @ vectors.T))


# Our names and those of published checkpoints, by prefix, the longer ones first.
NAMES = {
    "image.patch.": "vision_model.embeddings.patch_embedding.",
    "image.cls": "vision_model.embeddings.class_embedding",
    "image.pos": "vision_model.embeddings.position_embedding.weight",
    "image.ln_pre.": "vision_model.pre_layrnorm.",  # spelled so
    "image.ln_post.": "vision_model.post_layernorm.",
    "image.blocks.": "vision_model.encoder.layers.",
    "text.tokens.": "text_model.embeddings.token_embedding.",
    "text.pos": "text_model.embeddings.position_embedding.weight",
    "text.blocks.": "text_model.encoder.layers.",
    "text.ln_final.": "text_model.final_layer_norm.",
    "image_projection.": "visual_projection.",
}
INNER = {".ln_1.": ".layer_norm1.", ".ln_2.": ".layer_norm2.", ".attn.": ".self_attn."}


def rename(name, outer, inner):
    """`name` with the prefix and the parts replaced that stand in {old: new}."""
    prefix = next((old for old in outer if name.startswith(old)), None)
    if prefix is not None:
        name = outer[prefix] + name.removeprefix(prefix)
    for old, new in inner.items():
        name = name.replace(old, new)
    return name


def published(state):
    """A published CLIPModel checkpoint's arrays, {name: array}, under this model's names. Tables of position numbers are left out."""
    outer, inner = ({theirs: ours for ours, theirs in table.items()} for table in (NAMES, INNER))
    return renamed(state, lambda name: None if name.endswith("position_ids") else rename(name, outer, inner))


def to_published(state):
    """The inverse of `published`: this model's arrays under CLIPModel's names."""
    return {rename(name, NAMES, INNER): array for name, array in state.items()}
