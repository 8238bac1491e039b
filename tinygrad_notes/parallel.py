"""A batch in two halves, each with a tape of its own on a thread of its own (see threads.py).

It pays for steps above some ten milliseconds; docs/performance.md has the numbers.
"""

import math
from collections.abc import Callable
from typing import Any

from tinygrad_notes import threads
from tinygrad_notes.binding import describe, map_structure
from tinygrad_notes.core import gradients
from tinygrad_notes.functional.losses import divisors
from tinygrad_notes.transforms import stop_gradient

import numpy as np


def data_parallel(loss: Callable, params: Any, *, unused: str = "zeros") -> Callable:
    """The function of a batch that returns (loss as a float, gradients), each half of the batch on a thread of its own.

        step = data_parallel(lambda ids, targets, rng=None: gpt.loss(model, ids, targets, rng), params)
        value, grads = step(ids, targets, rng=rng)

    loss(*arrays) or loss(*arrays, rng=rng) -> one number, a mean over the examples of the batch; the arrays are cut
    along their first axis. The halves are weighted by the number of targets that their means divide by, so that ignored
    targets count for nothing; a loss that takes no mean of ours is weighted by its number of examples. rng: each half gets a
    Generator of its own, seeded from it. params, unused: as for `gradients`.

    Raises ValueError in its first call if the halves do not add up to the whole: a loss that couples the examples of a batch
    (contrastive losses, batch normalisation) cannot be cut. That call also runs the loss of the whole batch, without rng.
    Needs threadpoolctl, which keeps BLAS to one thread for each half.
    """
    if isinstance(reason := threads.blas_pools(), str):
        raise ImportError(f"data_parallel needs one BLAS thread for each half; {reason}")
    checked = False

    def half(arrays, kwargs):
        token = divisors.set([])
        try:
            value = loss(*arrays, **kwargs)
            if np.size(value) != 1 or not hasattr(value, "item"):
                raise TypeError(f"data_parallel: the loss returned {describe(value)}, expected a Tensor with one number")
            return value, divisors.get()
        finally:
            divisors.reset(token)

    def step(*batch, rng: np.random.Generator | None = None):
        nonlocal checked
        n = _examples(batch)
        cut = (n + 1) // 2
        parts = [tuple(a[:cut] for a in batch), tuple(a[cut:] for a in batch)] if n > 1 else [batch]
        noise = (
            [{}] * len(parts) if rng is None else [{"rng": np.random.default_rng(seed)} for seed in rng.integers(2**63, size=len(parts))]
        )
        if n == 1:
            value, _ = half(batch, noise[0])
            return value.item(), gradients(value, params, unused=unused)
        if not checked:
            _check(half, batch, parts)
            checked = True

        def run(i):
            value, means = half(parts[i], noise[i])
            return value.item(), means, gradients(value, params, unused=unused)

        (a, a_means, grads), (b, b_means, others) = threads.both(lambda: run(0), lambda: run(1))
        share = _share(a_means, b_means, cut, n)
        flat: list = []
        map_structure(lambda g, _: flat.append(g), others)
        rest = iter(flat)

        def add(g, _):
            g *= share
            h = next(rest)
            h *= 1 - share
            g += h
            return g

        return share * a + (1 - share) * b, map_structure(add, grads)

    return step


def _examples(batch: tuple) -> int:
    lengths = {len(a) if np.ndim(a) else 0 for a in batch}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"data_parallel: the batch is {', '.join(describe(a) for a in batch) or 'empty'}; expected arrays with one common first axis, the examples"
        )
    return lengths.pop()


def _share(a: list[float], b: list[float], cut: int, n: int) -> float:
    """The weight of the first half: the part that it has of what the means divide by."""
    if not a and not b:
        return cut / n
    if not all(x + y for x, y in zip(a, b)):
        raise ValueError("data_parallel: no target of the batch counts, so there is no mean; skip this batch")
    shares = [x / (x + y) for x, y in zip(a, b)]
    if len(a) != len(b) or max(shares) - min(shares) > 1e-12:
        raise ValueError(
            f"data_parallel: the loss takes means over {a} and {b} elements in its halves, which no single weight fits; use one mean, or one tape"
        )
    return shares[0]


def _check(half: Callable, batch: tuple, parts: list) -> None:
    """Compare the halves with the whole."""
    whole, _ = half(batch, {})
    (a, a_means), (b, b_means) = (half(part, {}) for part in parts)
    whole, a, b = (stop_gradient(x) for x in (whole, a, b))
    share = _share(a_means, b_means, len(parts[0][0]), len(batch[0]))
    together = float(share * a + (1 - share) * b)
    if not math.isclose(together, float(whole), rel_tol=2e-5 if np.asarray(whole).dtype.itemsize < 8 else 1e-9, abs_tol=1e-6):
        raise ValueError(
            f"data_parallel: the loss of the batch is {float(whole):.6g}, but its halves give {together:.6g}: it couples the examples, or is no mean over them; use one tape"
        )
