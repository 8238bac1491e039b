"""Calls that mean the same here and in PyTorch: for tests/parity, and for the golden results.

A setting has a name, the shapes of its float inputs, and two functions of these inputs: ours and
PyTorch's. Inputs come from sines, so that every machine makes the same ones without a generator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinygrad_notes import functional as F

import numpy as np


@dataclass(frozen=True)
class Setting:
    name: str
    shapes: tuple[tuple[int, ...], ...]
    ours: Callable
    theirs: Callable  # (torch, *inputs)
    positive: tuple[int, ...] = ()  # inputs that must lie in (0, 1)

    def inputs(self) -> list[np.ndarray]:
        made = []
        for i, shape in enumerate(self.shapes):
            n = np.arange(int(np.prod(shape)))
            x = 1.5 * np.sin(1 + 0.7 * i + n * (1.37 + 0.11 * i))
            made.append((0.5 + 0.3 * x if i in self.positive else x).reshape(shape))
        return made

    def cotangent(self, shape) -> np.ndarray:
        return np.cos(0.3 + 0.9 * np.arange(int(np.prod(shape)))).reshape(shape)


IDS = np.array([[0, 2, 0], [2, 4, 1]])
TARGETS = np.array([3, 0, -100, 1])
CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25, 1.5])
MASK = np.array([[True, False, True, True, False], [True, True, True, False, True], [False, True, False, False, True]])
STATISTICS = np.array([0.1, -0.3, 0.5, 0.2]), np.array([0.5, 1.0, 2.0, 1.5])


def theirs(name: str, **options: Any) -> Callable:
    """torch.nn.functional.<name> on the inputs; arrays among the options become torch tensors."""

    def call(torch, *inputs):
        converted = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return getattr(torch.nn.functional, name)(*inputs, **converted)

    return call


def unary(name: str, ours: Callable, their_name: str | None = None, **options: Any) -> Setting:
    return Setting(name, ((3, 5),), ours, theirs(their_name or name, **options))


def convolutions():
    for name, options in [
        ("plain", {}),
        ("strided", {"stride": 2, "padding": 1}),
        ("dilated", {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
        ("grouped", {"groups": 2, "padding": 1}),
        ("depthwise", {"groups": 4, "padding": 1, "stride": 2}),
    ]:
        g = options.get("groups", 1)
        shapes = ((2, 4, 5, 6), (4, 4 // g, 3, 2), (4,))
        yield Setting(f"conv2d {name}", shapes, lambda *a, o=options: F.conv2d(*a, **o), theirs("conv2d", **options))
    for name, options in [
        ("plain", {}),
        ("strided", {"stride": 2, "padding": 1, "output_padding": 1}),
        ("grouped", {"groups": 2, "stride": (3, 1), "dilation": (1, 2)}),
    ]:
        shapes = ((1, 4, 3, 4), (4, 2, 3, 2), (2 * options.get("groups", 1),))
        yield Setting(
            f"conv_transpose2d {name}", shapes, lambda *a, o=options: F.conv_transpose2d(*a, **o), theirs("conv_transpose2d", **options)
        )
    options = {"stride": 2, "padding": 3, "dilation": 2, "groups": 2}
    yield Setting("conv1d", ((2, 4, 7), (6, 2, 3), (6,)), lambda *a: F.conv1d(*a, **options), theirs("conv1d", **options))


def losses():
    for name, options in [
        ("plain", {}),
        ("smoothed", {"label_smoothing": 0.2}),
        ("weighted", {"weight": CLASS_WEIGHTS}),
        ("smoothed and weighted", {"label_smoothing": 0.2, "weight": CLASS_WEIGHTS}),
        ("summed", {"label_smoothing": 0.2, "weight": CLASS_WEIGHTS, "reduction": "sum"}),
        ("each", {"ignore_index": 3, "reduction": "none"}),
    ]:
        targets = np.abs(TARGETS) % 7 if "ignore_index" in options else TARGETS
        yield Setting(
            f"cross_entropy {name}",
            ((4, 5),),
            lambda x, t=targets, o=options: F.cross_entropy(x, t, **o),
            theirs("cross_entropy", target=targets, **options),
        )
    yield Setting(
        "nll",
        ((4, 5),),
        lambda x: F.nll(F.log_softmax(x), TARGETS, weight=CLASS_WEIGHTS),
        lambda torch, x: theirs("nll_loss", target=TARGETS, weight=CLASS_WEIGHTS)(torch, x.log_softmax(-1)),
    )
    pair = ((3, 5), (3, 5))
    for reduction in ("mean", "sum", "none"):
        yield Setting(f"mse {reduction}", pair, lambda x, t, r=reduction: F.mse(x, t, r), theirs("mse_loss", reduction=reduction))
    yield Setting("l1", pair, F.l1, theirs("l1_loss"))
    yield Setting("huber", pair, lambda x, t: F.huber(x, t, 0.7), theirs("huber_loss", delta=0.7))
    yield Setting("bce", pair, F.binary_cross_entropy_with_logits, theirs("binary_cross_entropy_with_logits"), (1,))
    yield Setting(
        "bce weighted",
        pair,
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, CLASS_WEIGHTS.astype(x.dtype), CLASS_WEIGHTS[::-1].astype(x.dtype), "sum"),
        theirs("binary_cross_entropy_with_logits", weight=CLASS_WEIGHTS, pos_weight=CLASS_WEIGHTS[::-1].copy(), reduction="sum"),
        (1,),
    )
    for reduction in ("sum", "batchmean", "none"):  # PyTorch warns of "mean"
        yield Setting(f"kl_div {reduction}", pair, lambda x, t, r=reduction: F.kl_div(x, t, r), theirs("kl_div", reduction=reduction), (1,))
    yield Setting("cosine_similarity", pair, F.cosine_similarity, theirs("cosine_similarity", dim=-1))
    yield Setting("normalize", ((3, 5),), lambda x: F.normalize(x, axis=0), theirs("normalize", dim=0))


def norms():
    yield Setting("layer_norm", ((2, 3, 4), (4,), (4,)), F.layer_norm, lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (4,), w, b))
    yield Setting(
        "rms_norm",
        ((2, 3, 4), (4,)),
        lambda x, w: F.rms_norm(x, w, 0.01),
        lambda torch, x, w: torch.nn.functional.rms_norm(x, (4,), w, 0.01),
    )
    yield Setting(
        "group_norm",
        ((2, 4, 3, 2), (4,), (4,)),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda torch, x, w, b: torch.nn.functional.group_norm(x, 2, w, b),
    )
    for train in (True, False):

        def batch_norm(torch, x, w, b, train=train):
            mean, var = (torch.from_numpy(s.copy()) for s in STATISTICS)
            return torch.nn.functional.batch_norm(x, mean, var, w, b, training=train)

        yield Setting(
            f"batch_norm train={train}",
            ((2, 4, 3, 2), (4,), (4,)),
            lambda x, w, b, t=train: F.batch_norm(x, w, b, *(s.astype(x.dtype) for s in STATISTICS), train=t)[0],
            batch_norm,
        )


def attentions():
    qkv = ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 6))
    name = "scaled_dot_product_attention"
    yield Setting("attention", qkv, F.scaled_dot_product_attention, theirs(name))
    square = ((2, 2, 4, 3),) * 3
    yield Setting(
        "attention causal",
        square,
        lambda *a: F.scaled_dot_product_attention(*a, causal=True, scale=0.4),
        theirs(name, is_causal=True, scale=0.4),
    )
    yield Setting("attention masked", qkv, lambda *a: F.scaled_dot_product_attention(*a, mask=MASK), theirs(name, attn_mask=MASK))
    yield Setting(
        "attention biased",
        (*qkv, (2, 3, 5)),
        lambda q, k, v, b: F.scaled_dot_product_attention(q, k, v, bias=b),
        lambda torch, q, k, v, b: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=b[None]),
    )
    yield Setting(
        "attention grouped", ((1, 4, 3, 2), (1, 2, 5, 2), (1, 2, 5, 2)), F.scaled_dot_product_attention, theirs(name, enable_gqa=True)
    )


def images():
    for mode, antialias in [("nearest", False), ("bilinear", False), ("bicubic", False), ("bilinear", True), ("bicubic", True)]:
        options = {"mode": mode} if mode == "nearest" else {"mode": mode, "antialias": antialias, "align_corners": False}
        for size in ((3, 4), (7, 9)):
            yield Setting(
                f"interpolate {mode}{' antialiased' * antialias} {size}",
                ((1, 2, 6, 7),),
                lambda x, s=size, m=mode, a=antialias: F.interpolate(x, s, m, a),
                theirs("interpolate", size=size, **options),
            )
    for size, stride, padding in [(2, None, 0), (3, 2, 1), (3, 1, 1)]:
        for name in ("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"):
            yield Setting(
                f"{name} {size} {stride} {padding}",
                ((1, 2, 6, 7)[: 3 + name.endswith("2d")],),
                lambda x, n=name, o=(size, stride, padding): getattr(F, n)(x, *o),
                theirs(name, kernel_size=size, stride=stride, padding=padding),
            )


SETTINGS = [
    unary("relu", F.relu),
    unary("leaky_relu", lambda x: F.leaky_relu(x, 0.2), negative_slope=0.2),
    unary("elu", lambda x: F.elu(x, 0.7), alpha=0.7),
    unary("sigmoid", F.sigmoid),
    unary("softplus", F.softplus),
    unary("log_sigmoid", F.log_sigmoid, "logsigmoid"),
    unary("silu", F.silu),
    unary("gelu", F.gelu),
    unary("gelu_tanh", F.gelu_tanh, "gelu", approximate="tanh"),
    unary("softmax", F.softmax, dim=-1),
    unary("log_softmax", lambda x: F.log_softmax(x, 0), dim=0),
    Setting("logsumexp", ((3, 5),), lambda x: F.logsumexp(x, (0, 1)), lambda torch, x: torch.logsumexp(x, (0, 1))),
    Setting("glu", ((3, 6),), F.glu, theirs("glu")),
    Setting("linear", ((2, 3, 4), (5, 4), (5,)), F.linear, theirs("linear")),
    Setting(
        "embedding", ((5, 4),), lambda w: F.embedding(IDS, w), lambda torch, w: torch.nn.functional.embedding(torch.from_numpy(IDS), w)
    ),
    *norms(),
    *losses(),
    *attentions(),
    *convolutions(),
    *images(),
]
