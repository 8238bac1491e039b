"""What tests/golden/make_pretrained.py computes and the tests compare: folders, inputs, texts."""

from pathlib import Path

import numpy as np

FOLDERS = {  # name: (changes of the configuration, dtype, the largest shard)
    "gpt2": ({}, "float32", "5GB"),
    "gpt2_sharded_bfloat16": ({"n_inner": 20, "layer_norm_epsilon": 1e-3, "n_layer": 3, "n_head": 2}, "bfloat16", "4KB"),
    "gpt2_float16": ({"n_embd": 8, "n_head": 1, "n_layer": 1}, "float16", "5GB"),
}
IDS = [[3, 1, 4, 1, 5, 9, 2, 6, 5], [16, 7, 1, 8, 2, 8, 1, 0, 2]]
TEXTS = [
    "the weights of a published model are read as they are, and the published tokeniser gives the same ids",
    "It's 2024; naïve café — 猫は猫 🐈‍⬛ don't WE'LL x²+y³=½  \t\n\n   if (a<b) {\r\n\u00a0\u3000}",
    "<|endoftext|>one<|endoftext|> two <|endoftext|",
    "",
]


def folder_of(name: str) -> Path:
    return Path(__file__).with_name("pretrained") / name


def weights_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Fixed numbers to multiply a gradient with, so that one number tells of all of it."""
    n = int(np.prod(shape))
    return np.sin(np.arange(n) * 1.7 + len(name)).reshape(tuple(shape))
