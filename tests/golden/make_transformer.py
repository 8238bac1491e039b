"""Writes transformer.json, what PyTorch's nn.Transformer makes of the weights below: python -m tests.golden.make_transformer

Needs the PyTorch version named in pyproject.toml (extra "parity"). float64, rounded to 9 digits. Without PyTorch
this file still says how the weights are made.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

DIGITS = 9
FILE = Path(__file__).with_name("transformer.json")
SIZES = {"layers": 2, "heads": 2, "width": 6, "hidden": 10}
SRC = np.array([[3, 9, 4, 4, 7], [8, 5, 6, 0, 0]])  # 0 is padding
IDS = np.array([[1, 5, 6, 10, 3, 7], [1, 9, 8, 3, 0, 0]])
VOCABULARY = 11


def sines(shape, number):
    """An array that every machine makes alike, without a generator: no random numbers, so no seed."""
    n = np.arange(int(np.prod(shape)))
    return np.sin(1 + 0.7 * number + n * (1.37 + 0.11 * number)).reshape(shape)


def weights(shapes):
    """{name: shape} -> {name: array}: norms around 1, everything else around 0."""
    return {
        name: ("norm" in name and name.endswith("weight")) + 0.5 * sines(shape, i) for i, (name, shape) in enumerate(sorted(shapes.items()))
    }


def cotangent(shape):
    return np.cos(0.3 + 0.9 * np.arange(int(np.prod(shape)))).reshape(shape)


def nn_transformer(torch, dtype, *, layers, heads, width, hidden):
    """nn.Transformer as the paper has it: post-norm, ReLU, no norm behind the last layer, no dropout."""
    options = {"dropout": 0.0, "batch_first": True, "dtype": dtype}
    encoder = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(width, heads, hidden, **options), layers, enable_nested_tensor=False
    )
    decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(width, heads, hidden, **options), layers)
    return torch.nn.Transformer(width, heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True, dtype=dtype)


def load(torch, twin):
    """Put `weights` into the nn.Transformer; returns these and the embedding's."""
    made = weights({name: tuple(p.shape) for name, p in twin.named_parameters()})
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in made.items()})
    return made | {"embedding.weight": sines((VOCABULARY, twin.d_model), 99)}


def run(torch, twin, embedding, src, ids):
    """Logits of the whole model: embedding scaled by sqrt(C), the paper's positions, the tied softmax weights."""
    C = embedding.shape[1]

    def embed(x):
        p, i = (torch.arange(n, dtype=torch.float64) for n in (x.shape[1], C))
        angle = p[:, None] / 10000 ** ((i - i % 2) / C)
        return embedding[x] * C**0.5 + torch.where(i % 2 == 0, angle.sin(), angle.cos()).to(embedding.dtype)

    src, ids = torch.from_numpy(src), torch.from_numpy(ids)
    future = torch.triu(torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool), 1)  # True where PyTorch must not look
    y = twin(embed(src), embed(ids), tgt_mask=future, src_key_padding_mask=src == 0, memory_key_padding_mask=src == 0)
    return y @ embedding.T


def results():
    """{"logits": ..., and the gradient of each weight for the cotangent above}, float64."""
    import torch

    twin = nn_transformer(torch, torch.float64, **SIZES)
    embedding = torch.from_numpy(load(torch, twin)["embedding.weight"]).requires_grad_()
    logits = run(torch, twin, embedding, SRC, IDS)
    named = {"embedding.weight": embedding, **dict(twin.named_parameters())}
    found = torch.autograd.grad(logits, list(named.values()), torch.from_numpy(cotangent(tuple(logits.shape))))
    return {"logits": logits.detach().numpy(), **{name: g.numpy() for name, g in zip(named, found)}}


def script_hash():
    return hashlib.sha256(Path(__file__).read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


if __name__ == "__main__":
    import torch

    head = {"torch": torch.__version__, "script": script_hash(), "seed": None, "eps": 10.0 ** (1 - DIGITS)}
    rounded = {
        name: np.array([float(f"{v:.{DIGITS}g}") for v in x.ravel()]).reshape(x.shape).tolist() for name, x in sorted(results().items())
    }
    lines = [f"{json.dumps(name)}: {json.dumps(x, separators=(',', ':'))}" for name, x in rounded.items()]
    FILE.write_text(json.dumps(head)[:-1] + ', "results": {\n' + ",\n".join(lines) + "\n}}\n")
