"""The U-Net of DDPM: from a noisy image and the time, the noise that is in the image.

Ho, Jain, Abbeel (2020), "Denoising Diffusion Probabilistic Models", appendix B, after Ronneberger et al. (2015). Residual
blocks work on the image at several resolutions, ever coarser on the way down and finer on the way up, and self-attention
joins distant places where the image is small. The way up sees, by skip connections, what the way down knew before it threw
resolution away. Every block is told the time, since how much noise there is decides what is to be done.

    (1)  emb  = linear_2(silu(linear_1(sinusoid(t)))) + class_embedding[y]      the second term where there are classes
    (2)  h    = conv1(silu(norm1(x))) + time_emb_proj(silu(emb))                a residual block; norms are GroupNorm
         x'   = shortcut(x) + conv2(dropout(silu(norm2(h))))
    (3)  x'   = x + to_out(softmax(q k^T / sqrt(C)) v),    q, k, v of norm(x)   one head over all H W places
    (4)  down: each level's blocks, then a convolution of stride 2              every result is kept as a skip
         up:   each level's blocks on concat(h, skip), then twice the size and a convolution
    (5)  eps  = conv_out(silu(conv_norm_out(h)))                                starts at 0, as do conv2 and to_out

B batch, C channels, H W image, E = 4 width: the embedding, S skip channels.

Differs from the paper: classes are optional (Ho and Salimans, 2022, "Classifier-Free Diffusion Guidance": one more row of
class_embedding means "no class"); the sinusoids are computed in double precision.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from tinygrad_notes import Tensor
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Conv2d, Embedding, GroupNorm, Linear, Module, init

import numpy as np


@dataclass(frozen=True)
class Config:
    channels: int = 3  # of the image
    size: int = 32  # height and width of the image
    width: int = 128  # channels at full resolution
    multiples: tuple[int, ...] = (1, 2, 2, 2)  # channels at each level, in widths
    blocks: int = 2  # residual blocks at each level
    attention: tuple[int, ...] = (16,)  # the sizes at which there is self-attention
    groups: int = 32  # of each norm
    dropout: float = 0.0  # in residual blocks; off where no rng is passed
    classes: int = 0
    dtype: type = np.float32

    def __post_init__(self):
        smallest = 2 ** (len(self.multiples) - 1)
        if self.size % smallest:
            raise ValueError(f"Config: size {self.size} cannot be halved {len(self.multiples) - 1} times; choose a multiple of {smallest}")
        if self.width % 2 or self.width < 4 or self.width % self.groups:
            raise ValueError(f"Config: width is {self.width}, expected an even number from 4 on and a multiple of groups, {self.groups}")
        if self.blocks < 1 or self.classes < 0:
            raise ValueError(
                f"Config: blocks {self.blocks}, classes {self.classes}; expected at least one block and no fewer than 0 classes"
            )
        sizes = [self.size >> level for level in range(len(self.multiples))]
        if not set(self.attention) <= set(sizes):
            raise ValueError(f"Config: attention at {self.attention}, expected some of the sizes of the levels, {sizes}")

    @staticmethod
    def tiny(**changes) -> "Config":
        small = {"channels": 1, "size": 4, "width": 4, "multiples": (1, 2), "blocks": 1, "attention": (2,), "groups": 2}
        return Config(**small | changes)

    @staticmethod
    def digits(classes: int = 0) -> "Config":
        """For images of 8 x 8."""
        return Config(channels=1, size=8, width=16, multiples=(1, 2), blocks=1, attention=(4,), groups=8, classes=classes)

    @staticmethod
    def cifar10() -> "Config":
        """35.7 million parameters."""
        return Config(dropout=0.1)

    @staticmethod
    def lsun256() -> "Config":
        """LSUN and CelebA-HQ at 256 x 256: 114 million parameters."""
        return Config(size=256, multiples=(1, 1, 2, 2, 4, 4))


def sinusoid(t, width, dtype=np.float32):
    """The time as sines, then cosines, of angles t 10000^(-i / (n - 1)), i = 0 ... n - 1, n = width / 2. t (B,) -> (B, width)."""
    n = width // 2
    angles = np.multiply.outer(t, np.exp(-math.log(10000) / (n - 1) * np.arange(n)))  # (B, n)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(dtype)  # (B, 2n)


def zeroed(layer):
    """The layer with weight and bias 0: a residual block that ends in it starts as the identity."""
    layer.weight, layer.bias = (Tensor(init.zeros(x.shape, x.dtype)) for x in (layer.weight, layer.bias))
    return layer


def conv3x3(inputs, outputs, config, rng, **options):
    return Conv2d(inputs, outputs, 3, **{"padding": 1} | options, rng=rng, dtype=config.dtype)


def norm(channels, config):
    return GroupNorm(config.groups, channels, eps=1e-6, dtype=config.dtype)


class ResBlock(Module):
    """Equation 2: x (B, C, H, W), emb (B, E) -> (B, outputs, H, W)."""

    def __init__(self, inputs, outputs, config, rng):
        self.dropout = config.dropout
        self.norm1 = norm(inputs, config)
        self.conv1 = conv3x3(inputs, outputs, config, rng)
        self.time_emb_proj = Linear(4 * config.width, outputs, rng=rng, dtype=config.dtype)
        self.norm2 = norm(outputs, config)
        self.conv2 = zeroed(conv3x3(outputs, outputs, config, rng))
        self.conv_shortcut = None if inputs == outputs else Conv2d(inputs, outputs, 1, rng=rng, dtype=config.dtype)

    def __call__(self, x, emb, rng=None):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(emb))[:, :, None, None]  # the time moves whole channels
        h = self.conv2(F.dropout(F.silu(self.norm2(h)), self.dropout, rng))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(Module):
    """Equation 3."""

    def __init__(self, channels, config, rng):
        C = channels
        self.group_norm = norm(C, config)
        self.to_q, self.to_k, self.to_v, self.to_out = (Linear(C, C, rng=rng, dtype=config.dtype) for _ in range(4))
        zeroed(self.to_out)

    def __call__(self, x):
        B, C, H, W = x.shape
        h = np.swapaxes(self.group_norm(x).reshape(B, C, H * W), 1, 2)  # (B, H*W, C)
        q, k, v = (to(h)[:, None] for to in (self.to_q, self.to_k, self.to_v))  # (B, 1, H*W, C)
        h = self.to_out(F.scaled_dot_product_attention(q, k, v)[:, 0])  # (B, H*W, C)
        return x + np.swapaxes(h, 1, 2).reshape(B, C, H, W)


class Level(Module):
    """Residual blocks of one resolution, each followed by attention where the resolution has it."""

    def __init__(self, inputs, outputs, attend, config, rng):
        """inputs: the channels that come to each block."""
        self.resnets = [ResBlock(n, outputs, config, rng) for n in inputs]
        self.attentions = [Attention(outputs, config, rng) if attend else None for _ in inputs]

    def block(self, i, x, emb, rng):
        x = self.resnets[i](x, emb, rng)
        return x if self.attentions[i] is None else self.attentions[i](x)


class Down(Level):
    """Equation 4, down: x and every intermediate result, as skips."""

    def __init__(self, inputs, outputs, attend, last, config, rng):
        super().__init__([inputs] + [outputs] * (config.blocks - 1), outputs, attend, config, rng)
        self.downsample = None if last else conv3x3(outputs, outputs, config, rng, stride=2, padding=0)

    def __call__(self, x, emb, rng):
        skips = []
        for i in range(len(self.resnets)):
            x = self.block(i, x, emb, rng)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1))))  # padded below and on the right only, as published
            skips.append(x)
        return x, skips


class Up(Level):
    """Equation 4, up: takes its skips from the end of the list."""

    def __init__(self, inputs, skips, outputs, attend, last, config, rng):
        before = [inputs] + [outputs] * config.blocks
        super().__init__([n + s for n, s in zip(before, skips)], outputs, attend, config, rng)
        self.upsample = None if last else conv3x3(outputs, outputs, config, rng)

    def __call__(self, x, emb, skips, rng):
        for i in range(len(self.resnets)):
            x = self.block(i, np.concatenate([x, skips.pop()], axis=1), emb, rng)  # (B, C+S, H, W) inside
        return x if self.upsample is None else self.upsample(np.repeat(np.repeat(x, 2, axis=2), 2, axis=3))


class Middle(Level):
    """At the smallest resolution: a residual block, attention, a residual block."""

    def __init__(self, channels, config, rng):
        super().__init__([channels, channels], channels, False, config, rng)
        self.attentions[0] = Attention(channels, config, rng)

    def __call__(self, x, emb, rng):
        return self.block(1, self.block(0, x, emb, rng), emb, rng)


class UNet(Module):
    """x (B, C, H, W), t (B,) times, y (B,) classes or None -> the noise in x, (B, C, H, W)."""

    def __init__(self, config, rng):
        c, E = config, 4 * config.width
        self.config = c
        widths = [c.width * m for m in c.multiples]
        attends = [(c.size >> level) in c.attention for level in range(len(widths))]
        self.linear_1 = Linear(c.width, E, rng=rng, dtype=c.dtype)
        self.linear_2 = Linear(E, E, rng=rng, dtype=c.dtype)
        self.class_embedding = Embedding(c.classes + 1, E, rng=rng, dtype=c.dtype) if c.classes else None
        self.conv_in = conv3x3(c.channels, c.width, c, rng)
        self.down, skips = [], [c.width]  # the channels of each skip
        for level, (before, width) in enumerate(pairwise([c.width, *widths])):
            last = level == len(widths) - 1
            self.down.append(Down(before, width, attends[level], last, c, rng))
            skips += [width] * (c.blocks if last else c.blocks + 1)
        self.middle = Middle(widths[-1], c, rng)
        self.up, before = [], widths[-1]
        for level in reversed(range(len(widths))):
            taken = [skips.pop() for _ in range(c.blocks + 1)]
            self.up.append(Up(before, taken, widths[level], attends[level], level == 0, c, rng))
            before = widths[level]
        self.conv_norm_out = norm(c.width, c)
        self.conv_out = zeroed(conv3x3(c.width, c.channels, c, rng))

    def embed(self, t, y):
        """Equation 1: (B, E)."""
        emb = self.linear_2(F.silu(self.linear_1(sinusoid(t, self.config.width, self.config.dtype))))
        if self.class_embedding is None:
            return emb
        none = np.full(len(t), self.config.classes)
        return emb + self.class_embedding(none if y is None else y)

    def __call__(self, x, t, y=None, rng=None):
        """A class of `Config.classes`, or y=None, means no class. rng: for dropout."""
        x = x if hasattr(x, "dtype") else np.asarray(x)
        check_input(self.config, x, t, y)
        B, C, H, W = x.shape
        emb = self.embed(t, y)  # (B, 4*width)
        h = self.conv_in(x)
        skips = [h]
        for level in self.down:
            h, kept = level(h, emb, rng)
            skips += kept
        h = self.middle(h, emb, rng)
        for level in self.up:
            h = level(h, emb, skips, rng)
        return self.conv_out(F.silu(self.conv_norm_out(h)))  # (B, C, H, W)


def check_input(config, x, t, y):
    expected = (config.channels, config.size, config.size)
    if x.ndim != 4 or x.shape[1:] != expected or not len(x) or x.dtype.kind != "f":
        raise ValueError(f"UNet: x has shape {x.shape} and {x.dtype}, expected (B, {', '.join(map(str, expected))}) floats, B at least 1")
    if np.shape(t) != (len(x),):
        raise ValueError(f"UNet: t has shape {np.shape(t)}, expected ({len(x)},), a time for each image; the same for all is np.full(B, t)")
    if y is not None and (not config.classes or np.shape(y) != (len(x),)):
        raise ValueError(f"UNet: y has shape {np.shape(y)}, expected ({len(x)},) and a Config with classes; it has {config.classes}")


def published(state):
    """The arrays of a published U-Net (`UNet2DModel` of the diffusers library, such as google/ddpm-cifar10-32), under our names.

    Its times begin at 0 where the paper's, and ours, begin at 1: sample with `lambda x, t: model(x, t - 1)`.
    """
    names = {
        "time_embedding.": "",
        "down_blocks.": "down.",
        "up_blocks.": "up.",
        "mid_block.": "middle.",
        "downsamplers.0.conv.": "downsample.",
        "upsamplers.0.conv.": "upsample.",
        "to_out.0.": "to_out.",
        "query.": "to_q.",  # as older files have it
        "key.": "to_k.",
        "value.": "to_v.",
        "proj_attn.": "to_out.",
    }
    renamed = {}
    for name, array in state.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        renamed[name] = array
    return renamed
