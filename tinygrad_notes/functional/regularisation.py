"""Noise that keeps a model from relying on any one unit."""

from tinygrad_notes.core import describe
from tinygrad_notes.functional.define import no_generator, takes_lists
from tinygrad_notes.fused import kernels

import numpy as np


@takes_lists("x")
def dropout(x, p, rng=None):
    """Each element becomes 0 with probability p; the others are divided by 1 - p, so that the mean stays.

    rng: a numpy Generator, or None for no dropout: inference (Srivastava et al., 2014).
    """
    try:
        if not 0 <= p <= 1:
            raise ValueError(f"dropout: p is {p}, expected a probability between 0 and 1")
        if rng is None or p == 0:
            return x
        kept = rng.random(x.shape, np.float32) >= p
    except (AttributeError, TypeError):
        if not isinstance(p, float | int | np.number):
            raise TypeError(f"dropout: p is {describe(p)}, expected a probability between 0 and 1") from None
        if not isinstance(rng, np.random.Generator):
            raise no_generator("dropout", rng, ", or None for no dropout") from None
        raise
    return kernels.dropout(x, kept=kept, scale=1 / (1 - p) if p < 1 else 0.0)
