"""ViT: an image is a sentence of 16 x 16 words.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly, Uszkoreit,
Houlsby (2020), "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale". An image is cut into
patches, each patch is mapped linearly to a vector, and a learned vector tells where it stands. A plain transformer
encoder reads them together with a token of its own, [CLS], whose last state stands for the image. Nothing but the
cutting knows that the image has two dimensions; what a CNN is built with, a ViT has to learn.

    (1)  z      = [cls; x_1 E; ...; x_N E] + pos            x_i the P x P x Cin numbers of patch i, N = HW / P^2
    (2)  z'     = z + MSA(LN(z))                            pre-norm, every token sees every token
    (3)  z''    = z' + MLP(LN(z'))                          MLP(x) = gelu(x W1 + b1) W2 + b2, gelu exact
    (4)  y      = LN(z)[0]                                  the state of [CLS]
    (5)  logits = y W_head + b_head                         in pre-training from tanh(y W + b), the "pooler", instead of y
    (6)  loss   = - mean_b log softmax(logits_b)[label_b]

B batch, H W image, P patch, Cin channels, N patches, C width, F hidden width, nh heads, hd = C / nh, L layers.

Differs from the paper: no dropout unless Config.dropout is set (the paper: 0.1 on ImageNet) and an rng is passed, and
none on the attention weights; q, k, v, out start as nn.MultiHeadAttention has them, smaller than in the paper's code
(at width 768, std 0.026 for q, k, v and 0.021 for out, against Xavier's 0.036).
"""

from dataclasses import dataclass, replace

from models.published import LARGEST, check_config, classes, labelled, number, numbers, renamed
from tinygrad_notes import Tensor, frozen
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Conv2d, LayerNorm, Linear, Module, MultiHeadAttention, init
from tinygrad_notes.nn.attention import split

import numpy as np


def pair(size) -> tuple[int, int]:
    """A number stands for height and width alike."""
    return (size, size) if isinstance(size, int) else tuple(size)


@dataclass(frozen=True)
class Config:
    image: int | tuple[int, int] = 224  # pixels, or (height, width)
    patch: int | tuple[int, int] = 16
    channels: int = 3
    layers: int = 12
    heads: int = 12
    width: int = 768
    hidden: int = 3072
    classes: int = 1000  # 0: no head, the model returns what represents the image
    labels: tuple[str, ...] = ()  # the names of the classes; (): none
    pooler: int = 0  # the width of the tanh layer before the head, which pre-training has; 0: none
    qkv_bias: bool = True
    position_std: float = 0.02  # of the positions at the start
    eps: float = 1e-6  # of the norms; the published configurations say 1e-12
    dropout: float = 0.0  # on tokens, attention and MLP outputs; off where no rng is passed
    dtype: type = np.float32

    def __post_init__(self):
        object.__setattr__(self, "image", pair(self.image))
        object.__setattr__(self, "patch", pair(self.patch))
        check_config(self)
        if self.width % self.heads:
            raise ValueError(f"Config: width {self.width} is not a multiple of heads {self.heads}; choose a width that the heads can share")
        if any(n % p for n, p in zip(self.image, self.patch)):
            raise ValueError(
                f"Config: image {self.image} does not divide into patches of {self.patch}; resize the image or change the patch"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """How many patches stand below and beside each other."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @staticmethod
    def tiny(**changes) -> "Config":
        return Config(**{"image": 8, "patch": 4, "channels": 1, "layers": 2, "heads": 2, "width": 12, "hidden": 24, "classes": 5} | changes)

    @staticmethod
    def digits(patch: int = 2) -> "Config":
        """For 8 x 8 images of ten digits: 86,000 parameters. Positions start as large as patches, so that few steps suffice to use them."""
        return Config(image=8, patch=patch, channels=1, layers=3, heads=4, width=48, hidden=192, classes=10, position_std=0.5)

    @staticmethod
    def base_16() -> "Config":
        return Config()

    @staticmethod
    def large_16() -> "Config":
        return Config(layers=24, heads=16, width=1024, hidden=4096)

    @staticmethod
    def huge_14() -> "Config":
        return Config(patch=14, layers=32, heads=16, width=1280, hidden=5120)

    @staticmethod
    def from_published(config: dict) -> "Config":
        """The configuration of a published ViTModel or ViTForImageClassification, given its config.json as a dict."""
        kinds = {"ViTModel", "ViTForImageClassification"}
        kind = (config.get("architectures") or ["ViTForImageClassification" if config.get("id2label") else "ViTModel"])[0]
        found = {"model_type": config.get("model_type"), "architectures": kind}
        if found["model_type"] != "vit" or kind not in kinds:
            raise ValueError(f"ViT: config.json says {found}, expected model_type 'vit' and one of {sorted(kinds)}; use the model it names")
        for name, value in (("hidden_act", "gelu"), ("pooler_act", "tanh")):
            if config.get(name, value) != value:
                raise ValueError(
                    f"ViT: config.json has {name} {config[name]!r}, expected {value!r}, the only one here; use another checkpoint"
                )
        qkv_bias = config.get("qkv_bias", True)
        if type(qkv_bias) is not bool:
            raise ValueError(f"ViT: config.json has qkv_bias {qkv_bias!r}, expected true or false; use the file as published")
        found = {"qkv_bias": qkv_bias, "eps": 1e-12} | numbers(config, SIZES)  # what a file leaves out is as in ViT-B/16, but for this
        for key, ours in (("image_size", "image"), ("patch_size", "patch")):
            given = config.get(key, getattr(Config, ours))
            sides = given if isinstance(given, list) and len(given) == 2 else [given, given]
            found[ours] = tuple(number(key, side, 1, LARGEST) for side in sides)
        if kind == "ViTForImageClassification":
            return Config(**found, **classes(config, 2))
        pooler = numbers(config, {"pooler_output_size": "pooler"}, optional=("pooler_output_size",))
        return Config(**{"classes": 0, "pooler": found.get("width", Config.width)} | found | pooler)

    def to_published(self) -> dict:
        """The config.json of this configuration, as a dict; the inverse of `from_published`."""
        if self.pooler and self.classes:
            raise ValueError(f"ViT: pooler {self.pooler} and classes {self.classes} are not published together; set one of them to 0")
        kind = {"architectures": ["ViTForImageClassification"], **labelled(self)}
        if not self.classes:
            kind = {"architectures": ["ViTModel"], "pooler_output_size": self.pooler or None}
        return {
            "model_type": "vit",
            **kind,
            **{theirs: getattr(self, ours) for theirs, ours in SIZES.items()},
            "image_size": side_of(self.image),
            "patch_size": side_of(self.patch),
            "qkv_bias": self.qkv_bias,
            "hidden_act": "gelu",
        }


SIZES = {"num_channels": "channels", "num_hidden_layers": "layers", "num_attention_heads": "heads", "hidden_size": "width"}
SIZES |= {"intermediate_size": "hidden", "layer_norm_eps": "eps", "hidden_dropout_prob": "dropout"}


def side_of(image):
    """(height, width) as config.json has it: one number for a square."""
    return image[0] if image[0] == image[1] else list(image)


def linear(n_in, n_out, config, rng):
    """Xavier weights and zero biases, as in the paper's code."""
    layer = Linear(n_in, n_out, rng=rng, dtype=config.dtype)
    layer.weight = Tensor(init.xavier_uniform((n_out, n_in), rng, dtype=config.dtype))
    layer.bias = Tensor(init.zeros(n_out, config.dtype))
    return layer


def attention(config, rng):
    """MSA of equation 2: softmax(q k^T / sqrt(hd)) v for each head, heads side by side, and a linear map; see nn/attention.py."""
    layer = MultiHeadAttention(config.width, config.heads, rng=rng, dtype=config.dtype)
    if not config.qkv_bias:
        layer.q_proj.bias = layer.k_proj.bias = layer.v_proj.bias = None
    return layer


class MLP(Module):
    """MLP of equation 3."""

    def __init__(self, config, rng):
        self.fc1 = linear(config.width, config.hidden, config, rng)
        self.fc2 = linear(config.hidden, config.width, config, rng)

    def __call__(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(Module):
    """Equations 2 and 3."""

    def __init__(self, config, rng):
        self.dropout = config.dropout
        self.ln_1 = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.attn = attention(config, rng)
        self.ln_2 = LayerNorm(config.width, eps=config.eps, dtype=config.dtype)
        self.mlp = MLP(config, rng)

    def __call__(self, z, rng=None):
        z = z + F.dropout(self.attn(self.ln_1(z)), self.dropout, rng)
        return z + F.dropout(self.mlp(self.ln_2(z)), self.dropout, rng)


class ViT(Module):
    """images (B, Cin, H, W) floats -> logits (B, classes), or (B, C) without a head."""

    def __init__(self, config, rng):
        c = self.config = config
        tokens = 1 + c.grid[0] * c.grid[1]
        self.patch = Conv2d(c.channels, c.width, c.patch, stride=c.patch, rng=rng, dtype=c.dtype)  # E: one linear map for every patch
        self.patch.bias = Tensor(init.zeros(c.width, c.dtype))
        self.cls = Tensor(init.zeros(c.width, c.dtype))  # (C,)
        self.pos = Tensor(init.normal((tokens, c.width), rng, std=c.position_std, dtype=c.dtype))  # (1+N, C)
        self.blocks = [Block(c, rng) for _ in range(c.layers)]
        self.ln = LayerNorm(c.width, eps=c.eps, dtype=c.dtype)
        self.pooler = linear(c.width, c.pooler, c, rng) if c.pooler else None
        self.head = linear(c.pooler or c.width, c.classes, c, rng) if c.classes else None
        if self.head is not None:
            self.head.weight = Tensor(init.zeros((c.classes, c.pooler or c.width), c.dtype))  # every class is equally likely at first

    def embed(self, images):
        """Equation 1: images (B, Cin, H, W) -> tokens (B, 1+N, C), [CLS] first, then the patches row by row."""
        expected = (self.config.channels, *self.config.image)
        images = images if hasattr(images, "dtype") else np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype.kind != "f" or not len(images):
            raise ValueError(
                f"ViT: images are {images.dtype} {images.shape}, expected floats (B, {', '.join(map(str, expected))}), B at least 1; tinygrad_notes.images makes them"
            )
        B, C = len(images), self.config.width
        x = self.patch(images)  # (B, C, H/P, W/P)
        x = np.swapaxes(x.reshape(B, C, -1), 1, 2)  # (B, N, C)
        cls = np.broadcast_to(self.cls, (B, 1, C))  # (B, 1, C)
        return np.concatenate([cls, x], axis=1) + self.pos  # (B, 1+N, C)

    def features(self, images, rng=None):
        """The last state of every token, normalised: (B, 1+N, C)."""
        z = F.dropout(self.embed(images), self.config.dropout, rng)
        for block in self.blocks:
            z = block(z, rng)
        return self.ln(z)

    def __call__(self, images, rng=None):
        y = self.features(images, rng)[:, 0]  # (B, C)
        if self.pooler is not None:
            y = np.tanh(self.pooler(y))
        return y if self.head is None else self.head(y)


def loss(model, images, labels, rng=None):
    """Equation 6: mean cross-entropy in nats. images (B, Cin, H, W), labels (B,) int."""
    return F.cross_entropy(model(images, rng), labels)


def classify(model, images):
    """The probability of each class, (B, classes)."""
    return F.softmax(frozen(model)(images))


def attention_maps(model, images):
    """Where each head looks: softmax(q k^T / sqrt(hd)) of every layer, (L, B, nh, 1+N, 1+N); token 0 is [CLS]."""
    model = frozen(model)
    z, maps = model.embed(images), []
    for block in model.blocks:
        x, nh = block.ln_1(z), block.attn.heads
        maps.append(F.attention_weights(split(block.attn.q_proj(x), nh), split(block.attn.k_proj(x), nh)))
        z = block(z)
    return np.stack(maps)


def rollout(maps):
    """How much of each token reaches each token through all layers, (B, 1+N, 1+N), from `attention_maps`.

    Abnar and Zuidema (2020), with which the paper draws its figure 6: heads are averaged, half of a token stays where it is (the
    residual), and layers are multiplied.
    """
    flow = np.eye(maps.shape[-1], dtype=maps.dtype)
    for layer in maps.mean(axis=2):  # (B, 1+N, 1+N)
        flow = (0.5 * layer + 0.5 * np.eye(len(flow[-1]), dtype=maps.dtype)) @ flow
    return flow


def resize_positions(pos, grid, new_grid):
    """Positions pos (1+N, C) for a grid (rows, columns) of patches as positions for `new_grid`, to read larger images (section 3.2).

    The position of [CLS] stays; the others are an image of C channels, which is resized (bicubic).
    """
    tokens, C = pos.shape
    if tokens != 1 + grid[0] * grid[1]:
        raise ValueError(f"resize_positions: pos has {tokens} rows, expected {1 + grid[0] * grid[1]}: [CLS] and a grid {tuple(grid)}")
    image = np.transpose(pos[1:].reshape(1, *grid, C), (0, 3, 1, 2))  # (1, C, rows, columns)
    image = F.interpolate(image, new_grid, "bicubic")
    return np.concatenate([pos[:1], np.transpose(image, (0, 2, 3, 1)).reshape(-1, C)])


# What is called otherwise in published checkpoints; the second name of attention's maps is that of newer files.
NAMES = {
    "patch.": ("embeddings.patch_embeddings.projection.",),
    "cls": ("embeddings.cls_token",),
    "pos": ("embeddings.position_embeddings",),
    "blocks.": ("encoder.layer.", "layers."),
    "ln.": ("layernorm.",),
    "pooler.": ("pooler.dense.",),
    "head.": ("classifier.",),
}
BLOCK_NAMES = {
    "ln_1.": ("layernorm_before.",),
    "attn.q_proj.": ("attention.attention.query.", "attention.q_proj."),
    "attn.k_proj.": ("attention.attention.key.", "attention.k_proj."),
    "attn.v_proj.": ("attention.attention.value.", "attention.v_proj."),
    "attn.out_proj.": ("attention.output.dense.", "attention.o_proj."),
    "ln_2.": ("layernorm_after.",),
    "mlp.fc1.": ("intermediate.dense.", "mlp.fc1."),
    "mlp.fc2.": ("output.dense.", "mlp.fc2."),
}


def rename(name, names):
    """`name` with the prefix that stands in {prefix: new prefix} replaced."""
    for prefix, new in names.items():
        if name.startswith(prefix):
            return new + name.removeprefix(prefix)
    return name


def published(state):
    """A published ViT checkpoint's arrays, {name: array}, under this model's names and shapes."""
    theirs, inner = ({old: new for new, olds in table.items() for old in olds} for table in (NAMES, BLOCK_NAMES))

    def new(name):
        name = rename(name.removeprefix("vit."), theirs)
        if not name.startswith("blocks."):
            return name
        _, i, rest = name.split(".", 2)
        return f"blocks.{i}.{rename(rest, inner)}"

    arrays = renamed(state, new)
    for name, axes in (("cls", 2), ("pos", 1)):
        if name in arrays:  # published with axes of one before those that count
            array = arrays[name]
            if array.ndim != 3 or array.shape[:axes] != (1,) * axes:
                raise ValueError(f"{name} has shape {array.shape}, expected {'(1, 1, C)' if name == 'cls' else '(1, N, C)'}")
            arrays[name] = array.reshape(array.shape[axes:])
    return arrays


def fitted(config, state):
    """The configuration without the pooler, if there is none among the arrays: config.json does not say whether a ViTModel has one."""
    return config if any(name.startswith("pooler.") for name in state) else replace(config, pooler=0)


def to_published(state):
    """The inverse of `published`: this model's arrays under the names and shapes of ViTForImageClassification, or ViTModel without a head."""
    ours, inner = ({new: olds[0] for new, olds in table.items()} for table in (NAMES, BLOCK_NAMES))
    published_names = {}
    for name, array in state.items():
        if name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            name = f"blocks.{i}.{rename(rest, inner)}"
        if name in ("cls", "pos"):
            array = array.reshape(1, -1, array.shape[-1])
        name = rename(name, ours)
        published_names[name if "head.weight" not in state or name.startswith("classifier.") else "vit." + name] = array
    return published_names
