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
from typing import Any, TypeVar

from tinygrad_notes.registry import op

F = TypeVar("F", bound=Callable)


def differentiable(*rules: Callable | None, **spec: Any) -> Callable[[F], F]:
    """Register a function of arrays with the rules of its gradient; takes what registry.op takes."""

    def register(function: F) -> F:
        made = op(function, *rules, **spec)
        call: Any = wraps(function)(lambda *args, **kwargs: made(*args, **kwargs))
        return call

    return register
