"""Norms, clipping and sums of gradients, and the moving average of weights. Nothing here changes its arguments."""

import math
from collections.abc import Iterable
from typing import Any

from tinygrad_notes.binding import map_structure
from tinygrad_notes.core import describe
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.optim.optimizer import fraction
from tinygrad_notes.tensor import Tensor
from tinygrad_notes.tree import leaves, match_state, snapshot, state_dict, write

import numpy as np


def global_norm(grads: Any) -> float:
    """The Euclidean norm of all arrays of a structure taken as one vector. Neither overflows nor underflows."""
    norms: list[float] = []
    map_structure(lambda g, path: norms.append(_norm(np.asarray(g).reshape(-1))), grads)
    return math.hypot(*norms)


def _norm(x: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        square = float(x.dot(x))
        if 1e-20 < square < math.inf:
            return math.sqrt(square)
        largest = float(np.max(np.abs(x), initial=0.0))  # squares too large or too small for the dtype: scale first
        if largest == 0 or not math.isfinite(largest):
            return largest
        scaled = x.astype(np.float64) / largest if x.dtype.itemsize < 8 else x / largest
        return largest * math.sqrt(scaled.dot(scaled))


def clip_by_global_norm(grads: Any, max_norm: float) -> tuple[Any, float]:
    """(grads scaled so that their global norm is at most max_norm, the norm before).

    Pascanu, Mikolov and Bengio 2013, algorithm 1. Gradients within the norm come back as they are,
    as do those whose norm is not finite: an optimizer refuses them by name.
    """
    try:
        fits = max_norm > 0
    except TypeError:
        raise TypeError(f"clip_by_global_norm: max_norm is {describe(max_norm)}, expected a number above 0") from None
    if not fits:
        raise ValueError(f"clip_by_global_norm: max_norm is {max_norm}, expected a number above 0")
    norm = global_norm(grads)
    if norm <= max_norm or not math.isfinite(norm):
        return grads, norm
    scale = max_norm / norm
    return map_structure(lambda g, path: g * scale, grads), norm


def accumulate(many: Iterable[Any]) -> Any:
    """The sum of gradient structures (arrays, lists, dicts), e.g. of micro-batches; takes an iterator, one at a time."""
    return _total(many, "accumulate")[0]


def average(many: Iterable[Any]) -> Any:
    """The mean of gradient structures: that of equal micro-batches is the gradient of the whole batch."""
    total, n = _total(many, "average")
    return map_structure(lambda g, path: g / n, total)


def _total(many: Iterable[Any], name: str) -> tuple[Any, int]:
    total, n = None, 0
    for grads in many:
        if n == 0:
            total = map_structure(lambda g, path: np.array(g), grads)
        else:
            found: dict[str, Any] = {}
            map_structure(lambda g, path, found=found: found.__setitem__(path, g), grads)
            map_structure(lambda t, path, found=found: _add(t, found.pop(path, None), path, name), total)
            if found:
                raise ValueError(f"{name}: structure {n} has {sorted(found)[:8]}, which the first one lacks; all must be alike")
        n += 1
    if n == 0:
        raise ValueError(f"{name}: got no gradients, expected one structure at least")
    return total, n


def _add(total: np.ndarray, g: Any, path: str, name: str) -> None:
    if g is None or g.shape != total.shape or g.dtype != total.dtype:
        raise ValueError(
            f"{name}: {path or 'the gradient'} is {describe(g)}, expected an array {total.shape} {total.dtype} as in the first structure"
        )
    total += g


class EMA:
    """An exponential moving average of weights: averages <- d averages + (1 - d) params after each step.

    Polyak and Juditsky 1992; d = min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ..., so that early
    averages are not held back by the initial weights (as in TensorFlow).

    model: a model, or a structure of Tensors such as `parameters(model)`. `averages` has the same
    structure without Tensors, in memory of its own: call it as you would call the model. Buffers are copied.
    """

    def __init__(self, model: Any, decay: float = 0.999):
        self.decay = fraction("EMA", "decay", decay)
        self.updates = 0
        self.averages = snapshot(model)

    def update(self, model: Any) -> None:
        """Take in the weights as they are now."""
        live, averages = dict(leaves(model)), dict(leaves(self.averages))
        if {path: x.shape for path, x in live.items()} != {path: x.shape for path, x in averages.items()}:
            raise ValueError(
                f"EMA: the model has other paths or shapes than the averages; give what EMA was made with: {sorted(averages)[:8]}"
            )
        pairs = {id(a): (live[path], a) for path, a in averages.items()}.values()  # a tied weight moves once
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with uninterrupted():
            self.updates += 1
            for new, a in pairs:
                if isinstance(new, Tensor):
                    a += (1 - keep) * (new.value - a)
                else:
                    a[...] = new

    def state_dict(self) -> dict[str, Any]:
        """Copies: {"updates": int, "averages": {path: array}}."""
        return {"updates": self.updates, "averages": state_dict(self.averages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. Checked first: on an error (ValueError) nothing has changed."""
        self.check_state(state)
        with uninterrupted():
            self.updates = state["updates"]
            write(match_state(self.averages, state["averages"]))

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise ValueError if `load_state_dict` would."""
        if set(state) != {"updates", "averages"} or type(state["updates"]) is not int or state["updates"] < 0:
            raise ValueError(f"EMA: the state has {sorted(state)}, expected 'averages' and 'updates', an int of at least 0")
        match_state(self.averages, state["averages"])
