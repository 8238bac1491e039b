"""Noise that keeps a model from relying on any one unit."""

from tinygrad_notes.core import describe
from tinygrad_notes.functional.define import no_generator, takes_lists
from tinygrad_notes.fused import kernels

import numpy as np


def check_probability(name, p):
    try:
        fits = 0 <= p <= 1
    except (TypeError, ValueError):
        raise TypeError(f"{name}: p is {describe(p)}, expected a probability between 0 and 1") from None
    if not fits:
        raise ValueError(f"{name}: p is {p}, expected a probability between 0 and 1")


@takes_lists("x")
def dropout(x, p, rng=None):
    """Each element becomes 0 with probability p; the others are divided by 1 - p, so that the mean stays.

    rng: a numpy Generator, or None for no dropout: inference (Srivastava et al., 2014).
    """
    check_probability("dropout", p)
    if rng is None or p == 0:
        return x
    try:
        kept = rng.random(x.shape, np.float32) >= p
    except (AttributeError, TypeError):
        if not isinstance(rng, np.random.Generator):
            raise no_generator("dropout", rng, ", or None for no dropout") from None
        raise
    return kernels.dropout(x, kept=kept, scale=1 / (1 - p) if p < 1 else 0.0)
