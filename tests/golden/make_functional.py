"""Writes functional.json, PyTorch's results for tests/functional/settings.py: python -m tests.golden.make_functional

Needs the PyTorch version named in pyproject.toml (extra "parity"). float64, rounded to 9 digits.
"""

import json
from pathlib import Path

from tests.functional.settings import SETTINGS

import numpy as np
import torch

DIGITS = 9


def results_of(setting):
    """The value and the gradient of each input, as nested lists."""
    inputs = [torch.from_numpy(x).requires_grad_() for x in setting.inputs()]
    y = setting.theirs(torch, *inputs)
    gradients = torch.autograd.grad(y, inputs, torch.from_numpy(setting.cotangent(tuple(y.shape))))
    return [np.array([float(f"{v:.{DIGITS}g}") for v in r.detach().numpy().ravel()]).reshape(r.shape).tolist() for r in (y, *gradients)]


if __name__ == "__main__":
    head = {
        "torch": torch.__version__,
        "inputs": "sines of each element's number, see tests/functional/settings.py; no random numbers, so no seed",
        "eps": 10.0 ** (1 - DIGITS),
    }
    lines = [f"{json.dumps(s.name)}: {json.dumps(results_of(s), separators=(',', ':'))}" for s in SETTINGS]
    text = json.dumps(head)[:-1] + ', "results": {\n' + ",\n".join(lines) + "\n}}\n"
    Path(__file__).with_name("functional.json").write_text(text)
