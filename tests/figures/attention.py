"""How much of its error bound blocked attention uses, over random shapes, masks, blocks and logits as in tests/fused/test_attention.py."""

from tests.fused.test_attention import exact, visible
from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F

import numpy as np

HEADS = [(1, 1), (2, 1), (4, 2), (3, 3)]


def ratio(rng: np.random.Generator) -> float:
    """The largest error of the output and the gradients of one draw, relative to the bound that the test allows."""
    T, S = rng.integers(1, 14, 2)
    nh, nkv = HEADS[rng.integers(len(HEADS))]
    dtype = [np.float32, np.float64][rng.integers(2)]
    q, k, v, dy = (rng.normal(size=s).astype(dtype) for s in ((2, nh, T, 4), (2, nkv, S, 4), (2, nkv, S, 3), (2, nh, T, 3)))
    kind = rng.choice(["normal", "large", "ascending"])
    if kind == "large":
        q *= 300
    if kind == "ascending":
        k[...] = np.linspace(-20, 20, S, dtype=dtype)[:, None]
        q[...] = np.abs(q)
    seen = {
        "causal": bool(rng.integers(2)),
        "window": [None, int(rng.integers(1, 14))][rng.integers(2)],
        "offset": [None, int(rng.integers(-5, 15))][rng.integers(2)],
        "mask": [None, rng.random((2, 1, T, S)) < 0.6][rng.integers(2)],
        "documents": np.sort(rng.integers(0, 3, (2, S)), axis=-1) if T == S else None,
    }
    expected = exact(q, k, v, dy, None, visible(T, S, **seen), 0.5)
    variables = [Tensor(x) for x in (q, k, v)]
    block = tuple(map(int, rng.integers(1, 14, 2)))
    y = F.scaled_dot_product_attention(*variables, scale=0.5, block=block, **seen)
    found = [y.value, *gradients(np.sum(y * dy), variables)]
    score = np.where(visible(T, S, **seen), np.abs(q).astype(float) @ np.abs(np.repeat(k, nh // nkv, 1)).swapaxes(-1, -2), 0).max()
    unit = np.finfo(dtype).eps * (score + 16)
    reach = (1 + np.abs(v).max()) * (1 + np.abs(dy).max()) * (1 + max(np.abs(q).max(), np.abs(k).max())) * 40
    bounds = [4 * unit * (1 + np.abs(v).max()), *[4 * unit * reach] * 3]
    return max(float(np.abs(a - b).max() / bound) for a, b, bound in zip(found, expected, bounds))


def measure(draws: int) -> list[float]:
    rng = np.random.default_rng(0)
    return [ratio(rng) for _ in range(draws)]
