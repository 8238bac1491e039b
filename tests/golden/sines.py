"""Weights and inputs without random numbers: what two libraries can both make, to be compared."""

import hashlib
from pathlib import Path

import numpy as np

DIGITS = 9


def sines(shapes, size=0.3):
    """An array for each name: size * sin(of a number for each element); norms' weights, which are near 1 in trained models, 1 more."""
    made, start = {}, 0.0
    for name, shape in sorted(shapes.items()):
        n = int(np.prod(shape))
        array = size * np.sin(start + 1.7 * np.arange(n) + 0.01 * np.arange(n) ** 2).reshape(shape)
        made[name] = array + 1 if name.endswith(("LayerNorm.weight", "ln_1.weight", "ln_2.weight")) else array
        start += 1.0
    return made


def summary(gradients):
    """Of each gradient its length and its product with an array of sines: two numbers that a wrong term changes."""
    along = sines({name: g.shape for name, g in gradients.items()}, 1.0)
    return {name: rounded([np.sqrt((g * g).sum()), (g * along[name]).sum()]) for name, g in sorted(gradients.items())}


def rounded(array):
    return np.array([float(f"{x:.{DIGITS}g}") for x in np.ravel(array)]).reshape(np.shape(array)).tolist()


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
