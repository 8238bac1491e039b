"""How much of its error bound blocked attention uses, over the problems that tests/fused/test_attention.py draws."""

from tests.fused.oracle import computed, drawn, share

import numpy as np


def ratio(rng: np.random.Generator) -> float:
    """The largest error of the output and the gradients of one draw, relative to the bound that the test allows."""
    p, block = drawn(rng)
    return max(share(p, computed(p, block=block)))


def measure(draws: int) -> list[float]:
    rng = np.random.default_rng(0)
    return [ratio(rng) for _ in range(draws)]
