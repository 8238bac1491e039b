"""From logits to tokens."""

import math

from tinygrad_notes.functional.activations import softmax
from tinygrad_notes.functional.define import check_integer, no_generator, takes_lists

import numpy as np


@takes_lists("logits")
def sample(logits, rng: np.random.Generator | None, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None):
    """One token per row of logits (B, V): ids (B,) int64. With rng=None the most likely one (greedy).

    temperature divides the logits. top_k keeps the k most likely tokens (Fan et al. 2018); top_p then
    keeps the fewest most likely ones whose probabilities reach p (Holtzman et al. 2019, "nucleus").
    A logit of -inf excludes its token. Raises ValueError for logits of which none is the largest: nan, inf, or a row of -inf.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"sample: temperature is {temperature}, expected a number above 0; for the most likely token pass rng=None")
    if top_k is not None:
        if top_k < 1:
            raise ValueError(f"sample: top_k is {top_k}, expected at least 1, or None for all tokens")
        check_integer("sample", "top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"sample: top_p is {top_p}, expected 0 < top_p <= 1, or None for all tokens")
    largest = np.max(logits, axis=-1, keepdims=True)  # (B, 1)
    if not np.isfinite(largest).all():
        row = int(np.argmin(np.isfinite(largest)))
        raise ValueError(
            f"sample: the largest logit of row {row} is {largest.flat[row]}, expected a finite number; look for nan in the model"
        )
    if rng is None:
        return np.argmax(logits, axis=-1)
    with np.errstate(over="ignore"):  # the largest is 0 at any temperature, and the others may well be -inf
        p = softmax((np.asarray(logits, np.float64) - largest) / temperature)  # (B, V)
    if top_k is not None or top_p is not None:
        order = np.argsort(-p, axis=-1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=-1)  # most likely first
        if top_k is not None:
            ranked[:, top_k:] = 0
        if top_p is not None:
            ranked /= ranked.sum(axis=-1, keepdims=True)
            ranked[np.cumsum(ranked, axis=-1) - ranked >= top_p] = 0  # those before it reach p already
        np.put_along_axis(p, order, ranked, axis=-1)
    cumulative = np.cumsum(p, axis=-1)
    try:
        draw = rng.random((len(p), 1)) * cumulative[:, -1:]
    except (AttributeError, TypeError):
        raise no_generator("sample", rng, ", or None for the most likely token") from None
    return np.argmax(cumulative > draw, axis=-1)
