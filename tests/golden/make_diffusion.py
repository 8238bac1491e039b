"""Writes diffusion.json, the diffusers library's results for tests/models/diffusion/settings.py: python -m tests.golden.make_diffusion

Needs the packages of the extra "parity". float64, rounded to 12 digits.
"""

import hashlib
import json
from pathlib import Path

import tests.models.diffusion.settings as settings

DIGITS = 12
FILE = Path(__file__).with_name("diffusion.json")


def script_hash():
    """Of the two files that determine the results."""
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in (__file__, settings.__file__))).hexdigest()[:16]


def main():
    import diffusers
    import torch

    head = {
        "diffusers": diffusers.__version__,
        "torch": torch.__version__,
        "scripts": script_hash(),
        "seed": "none: the inputs are sines, see tests/models/diffusion/settings.py",
        "eps": 10.0 ** (1 - DIGITS),
    }
    lines = []
    for setting in settings.SETTINGS:
        times, results = setting.theirs(diffusers, torch)
        record = {"steps": [[float(f"{v:.{DIGITS}g}") for v in y.ravel()] for y in results]}
        if setting.kind != "DDPM":
            record["times"] = times
        lines.append(f"{json.dumps(setting.name)}: {json.dumps(record, separators=(',', ':'))}")
    FILE.write_text(json.dumps(head)[:-1] + ', "results": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
