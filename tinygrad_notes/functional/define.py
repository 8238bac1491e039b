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

from tinygrad_notes.core import describe
from tinygrad_notes.registry import op

import numpy as np

F = TypeVar("F", bound=Callable)


def differentiable(*rules: Callable | None, **spec: Any) -> Callable[[F], F]:
    """Register a function of arrays with the rules of its gradient; takes what registry.op takes."""

    def register(function: F) -> F:
        made = op(function, *rules, **spec)
        call: Any = wraps(function)(lambda *args, **kwargs: made(*args, **kwargs))
        return call

    return register


def as_arrays(name: str, *given: Any) -> Any:
    """What was given, its lists and numbers as arrays, as NumPy's functions take them: for a second try, after an error.

    With nothing to convert, that error goes on. TypeError for what holds no numbers.
    """
    if all(a is None or hasattr(a, "shape") for a in given[1:]) and hasattr(given[0], "shape"):
        raise  # the error that is being handled
    try:
        made: list[Any] = [a if (i and a is None) or hasattr(a, "shape") else np.asarray(a) for i, a in enumerate(given)]
    except ValueError:
        raise ValueError(f"{name}: lists of several lengths came, expected an array; pad them to one length") from None
    for a, was in zip(made, given):
        if a is not was and a.dtype.kind not in "fiub":
            raise TypeError(f"{name}: {describe(was)} came, expected an array of numbers or a Tensor") from None
    return made


def check_integer(name: str, label: str, value: Any) -> None:
    """TypeError unless value is an integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name}: {label}={value!r}, expected an integer")


def no_generator(name: str, rng: Any, otherwise: str = "") -> TypeError:
    """The error for something that draws no numbers."""
    seed = rng if isinstance(rng, int) else 0
    return TypeError(f"{name}: rng is {describe(rng)}, expected a Generator: np.random.default_rng({seed}){otherwise}")
