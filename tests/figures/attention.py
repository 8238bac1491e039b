"""How much of its error bound blocked attention uses, over random shapes, masks, blocks and logits as in tests/fused/test_attention.py."""

from tests.fused.oracle import HEADS, KINDS, SCALES, computed, problem, share

import numpy as np


def ratio(rng: np.random.Generator) -> float:
    """The largest error of the output and the gradients of one draw, relative to the bound that the test allows."""
    T, S, *block = map(int, rng.integers(1, 14, 4))
    options = {
        "causal": bool(rng.integers(2)),
        "window": [None, int(rng.integers(1, 14))][rng.integers(2)],
        "offset": [None, int(rng.integers(-5, 15))][rng.integers(2)],
        **{name: bool(rng.integers(2)) for name in ("masks", "biases", "documents")},
        "scale": SCALES[rng.integers(len(SCALES))],
    }
    dtype, kind = [np.float32, np.float64][rng.integers(2)], KINDS[rng.integers(len(KINDS))]
    p = problem(rng, T, S, HEADS[rng.integers(len(HEADS))], dtype, kind, **options)
    return max(share(p, computed(p, block=tuple(block))))


def measure(draws: int) -> list[float]:
    rng = np.random.default_rng(0)
    return [ratio(rng) for _ in range(draws)]
