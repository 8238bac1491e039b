"""How the functions here get their gradients: the rule stands above the mathematics.

    @differentiable(lambda g, y, x: g * (y > 0), cases=[((3, 4),)])
    def relu(x):
        return np.maximum(x, 0)

The function runs on plain arrays only; called with a Tensor, the engine hands it the array and
keeps what the rule reads. Rules run on arrays and on Tensors (see registry.op), so that second
and higher derivatives come from the same line.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tinygrad_notes.registry import op

P, R = ParamSpec("P"), TypeVar("R")


def differentiable(*rules: Callable | None, **spec) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function of arrays with the rules of its gradient; takes what registry.op takes."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        made = op(function, *rules, **spec)
        return wraps(function)(lambda *args, **kwargs: made(*args, **kwargs))

    return register
