"""The smallest error that the suite notices: rules are made wrong by a factor 1 + eps, and eps is bisected."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tinygrad_notes.functional  # noqa: F401  (registers its ops)
import tinygrad_notes.ops.special  # noqa: F401
from tests.ops.samples import sample
from tests.ops.test_registry import check_vjp
from tinygrad_notes.registry import Fused, Op, registry

import numpy as np

FINEST = 52  # 2^-52 is the relative distance of float64 numbers


def scaled(rule: Callable, factor: float) -> Callable:
    """The rule, or the backward pass of a kernel, with all gradients multiplied."""

    def wrong(*args, **kwargs):
        g = rule(*args, **kwargs)
        return [None if d is None else d * factor for d in g] if isinstance(g, list | tuple) else g * factor

    return wrong


@contextmanager
def off_by(item: Any, i: int, factor: float) -> Iterator[None]:
    """Inside, rule i of an op is wrong."""
    if isinstance(item, Fused):
        name, old, new = "backward", item.backward, scaled(item.backward, factor)
    else:
        name, old = "rules", item.rules
        new = tuple(scaled(rule, factor) if k == i else rule for k, rule in enumerate(item.rules))
    setattr(item, name, new)
    try:
        yield
    finally:
        setattr(item, name, old)


def notices(samples: list, item: Any, i: int, eps: float) -> bool:
    """Whether the check by differences fails for one of the cases."""
    with off_by(item, i, 1 + eps), np.errstate(all="ignore"):
        for s in samples:
            try:
                check_vjp(s)
            except AssertionError:
                return True
    return False


def finest(item: Any, i: int) -> int:
    """The largest k so that an error of 2^-k is noticed; 0 if none is."""
    samples = [sample(item, case) for case in item.cases]
    low, high = 0, FINEST + 1
    while high - low > 1:
        k = (low + high) // 2
        low, high = (k, high) if notices(samples, item, i, 2.0**-k) else (low, k)
    return low


def rules() -> list[tuple[Any, int]]:
    """Each rule of the registry, except those whose first order is an addition into a buffer."""
    found: list[tuple[Any, int]] = [(item, 0) for item in registry if isinstance(item, Fused)]
    for item in registry:
        if isinstance(item, Op) and item.into is None:
            found += [(item, i) for i, rule in enumerate(item.rules) if rule is not None]
    return found


def measure(n: int) -> list[tuple[float, str]]:
    """(smallest relative error noticed, rule) for n rules, evenly chosen in the order of the registry; the smallest error first."""
    everything = rules()
    chosen = everything[:: max(1, len(everything) // n)]
    return sorted((2.0 ** -finest(item, i), f"{item.label}, input {i}" if isinstance(item, Op) else item.label) for item, i in chosen)
