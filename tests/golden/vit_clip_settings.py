"""The ViTs and CLIPs whose results transformers has given: their configurations, and weights and inputs that need no random numbers."""

import dataclasses

import tinygrad_notes as tn
from models.multimodal import clip
from models.vision import vit

import numpy as np

VIT = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 12, "intermediate_size": 20}
TEXT = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16, "vocab_size": 23}
VISION = {"num_hidden_layers": 1, "num_attention_heads": 3, "hidden_size": 12, "intermediate_size": 20, "image_size": 12, "patch_size": 4}
SETTINGS = {  # name: the class and its configuration
    "vit": ("ViTForImageClassification", VIT | {"image_size": 12, "patch_size": 4, "num_labels": 5}),
    "vit, oblong, no bias": (
        "ViTForImageClassification",
        VIT | {"image_size": [4, 6], "patch_size": [2, 3], "num_channels": 1, "qkv_bias": False, "num_attention_heads": 3},
    ),
    "vit, pooler": ("ViTModel", VIT | {"image_size": 8, "patch_size": 4, "pooler_output_size": 7, "num_hidden_layers": 1}),
    "clip": (
        "CLIPModel",
        {"text_config": TEXT | {"max_position_embeddings": 9, "eos_token_id": 22}, "vision_config": VISION, "projection_dim": 6},
    ),
    "clip, highest id, gelu": (
        "CLIPModel",
        {
            "text_config": TEXT | {"max_position_embeddings": 6, "eos_token_id": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-3},
            "vision_config": VISION | {"hidden_act": "gelu", "num_channels": 1, "image_size": 8},
            "projection_dim": 10,
        },
    ),
}
IDS = np.array([[20, 3, 8, 22, 0, 0], [20, 17, 22, 0, 0, 0], [20, 5, 9, 1, 14, 22]])  # 22 ends a text and is the highest id
LABELS = np.array([0, 1, 1])


def waves(name, shape):
    """The array of this name: sines of each element's number, small in weights, around 1 in the weights of norms."""
    n = int(np.prod(shape))
    wave = np.sin(1.3 * np.arange(n) + sum(map(ord, name)) % 97).reshape(shape)
    if "norm" in name or "layrnorm" in name:
        return wave * 0.3 + name.endswith("weight")
    return wave if len(shape) < 2 else wave * (2 / np.sqrt(shape[-1]))


def images(config):
    return waves("images", (3, config.channels, *vit.pair(config.image))) * 3


def ours(config, arrays, dtype):
    """Our model of a published configuration (a dict) and arrays: (output, loss, {published name: gradient})."""
    module, model_type = (clip, clip.CLIP) if config["model_type"] == "clip" else (vit, vit.ViT)
    config = dataclasses.replace(module.Config.from_published(config), dtype=dtype)
    model = model_type(config, np.random.default_rng(0))
    tn.load(model, {name: array.astype(dtype) for name, array in module.published(arrays).items()})
    x = images(config).astype(dtype)
    if module is clip:
        output, loss = model(x, IDS), clip.loss(model, x, IDS)
    else:
        output = model(x)
        loss = vit.loss(model, x, LABELS) if config.classes else np.sum(output * waves("output", output.shape).astype(dtype))
    return output.value, loss.item(), module.to_published(tn.gradients(loss, tn.parameters(model), unused="raise"))


def summary(name, gradient):
    """Two numbers that a wrong gradient would change: its product with sines, and its length."""
    return [float(np.sum(gradient * np.cos(np.arange(gradient.size)).reshape(gradient.shape))), float(np.linalg.norm(gradient))]
