"""The smallest error that the suite notices: rules are made wrong by a factor 1 + eps, and eps is bisected."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import tinygrad_notes.functional
import tinygrad_notes.ops.special  # noqa: F401  (both register their ops)
from tests.ops.samples import sample
from tests.ops.test_registry import BY_KEYWORD, check_vjp
from tinygrad_notes.check import check_grads
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
        assert item.y_mask is not None and item.input_masks  # what the right rules read, found before a wrapper hides it
        new = tuple(scaled(rule, factor) if k == i else rule for k, rule in enumerate(item.rules))
    setattr(item, name, new)
    try:
        yield
    finally:
        setattr(item, name, old)


def checks(item: Any) -> list[Callable[[], None]]:
    """The checks by differences that test_registry.py runs on an op: one for each case, one for inputs that only have a keyword."""
    found = [partial(check_vjp, sample(item, case)) for case in item.cases]
    if getattr(item, "function", None) in BY_KEYWORD:
        f, *shapes = BY_KEYWORD[item.function]
        rng = np.random.default_rng(0)
        found.append(partial(check_grads, f, *(rng.uniform(-2, 2, shape) for shape in shapes)))
    return found


def notices(item: Any, i: int, eps: float, tried: list[Callable[[], None]]) -> bool:
    """Whether one of the checks fails while rule i is off by a factor 1 + eps."""
    with off_by(item, i, 1 + eps), np.errstate(all="ignore"):
        for check in tried:
            try:
                check()
            except AssertionError:
                return True
    return False


def finest(item: Any, i: int) -> int:
    """The largest k so that an error of 2^-k is noticed; -1 if not even a factor 2 is."""
    tried, low, high = checks(item), -1, FINEST + 1
    while high - low > 1:
        k = (low + high) // 2
        low, high = (k, high) if notices(item, i, 2.0**-k, tried) else (low, k)
    return low


def rules() -> list[tuple[Any, int]]:
    """Each rule of the registry, except those whose first order is an addition into a buffer."""
    found: list[tuple[Any, int]] = [(item, 0) for item in registry if isinstance(item, Fused)]
    for item in registry:
        if isinstance(item, Op) and item.into is None:
            found += [(item, i) for i, rule in enumerate(item.rules) if rule is not None]
    return found


def measure(n: int) -> list[tuple[float, str]]:
    """(smallest relative error noticed, rule) for n rules, evenly chosen in the order of the registry; the smallest first, 2 for none."""
    everything = rules()
    chosen = everything[:: max(1, len(everything) // n)]
    return sorted((2.0 ** -finest(item, i), f"{item.label}, input {i}" if isinstance(item, Op) else item.label) for item, i in chosen)
