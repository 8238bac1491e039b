"""What the functions here have in common: how they get their gradients, and what arguments they take.

    @differentiable(lambda g, y, x: g * (y > 0), cases=[((3, 4),)])
    def relu(x):
        return np.maximum(x, 0)

The rule stands above the mathematics. The function runs on plain arrays only; called with a Tensor, the engine
hands it the array and keeps what the rule reads. Rules run on arrays and on Tensors (see registry.op), so that
second and higher derivatives come from the same line.

    @takes_lists("x")
    def log_sigmoid(x):
        return -softplus(-x)

A function that is written with others takes Tensors and arrays as it stands; above it are named the arguments that
may be lists and numbers too, as for NumPy's functions.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Real
from typing import Any, TypeVar

from tinygrad_notes.core import describe
from tinygrad_notes.registry import op

import numpy as np

F = TypeVar("F", bound=Callable)


def differentiable(*rules: Callable | None, **spec: Any) -> Callable[[F], F]:
    """Register a function of arrays with the rules of its gradient; takes what registry.op takes."""

    def register(function: F) -> F:
        made = op(function, *rules, **spec)
        return with_second_try(function, made, made.arguments)

    return register


def takes_lists(*arrays: str) -> Callable[[F], F]:
    """The function, whose arguments of these names may also be lists, tuples and numbers."""
    return lambda function: with_second_try(function, function, arrays)


def with_second_try(function: F, run: Callable, arrays: Sequence[str]) -> F:
    """`run` under the name of `function`. Its arguments are looked at only when it fails, so that arrays and Tensors do not pay for lists."""

    @wraps(function)
    def call(*args, **kwargs):
        try:
            return run(*args, **kwargs)
        except (AttributeError, TypeError, ValueError) as error:
            again = converted(function, arrays, error, args, kwargs)
            if again is None:
                raise
        return run(*again.args, **again.kwargs)

    made: Any = call
    return made


def converted(function: Callable, arrays: Sequence[str], error: Exception, args: tuple, kwargs: dict) -> inspect.BoundArguments | None:
    """The call that failed, with its lists and numbers as arrays; None if there are none, so that the error goes on."""
    name = function.__name__
    if str(error).startswith(f"{name}: "):
        return None  # the function itself has said what is wrong
    signature = inspect.signature(function)
    try:
        again = signature.bind(*args, **kwargs)
    except TypeError:
        return None  # Python has said which argument is missing, or one too many
    given = again.arguments
    check_numbers(name, signature, given)
    found = {label: given.get(label) for label in arrays}
    lists = {label: x for label, x in found.items() if not hasattr(x, "shape") and (x is not None or label == arrays[0])}
    given.update({label: as_array(name, x) for label, x in lists.items()})
    return again if lists else None


def check_numbers(name: str, signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """TypeError unless each argument such as eps=1e-5, or scale: float | None = None, is a number."""
    for label, x in given.items():
        parameter = signature.parameters[label]
        wanted = isinstance(parameter.default, float) or parameter.annotation in (float, float | None, int | None)
        if wanted and x is not parameter.default and not isinstance(x, Real) and not hasattr(x, "shape"):
            raise no_number(name, label, x) from None


def as_array(name: str, x: Any) -> np.ndarray:
    """TypeError for what holds no numbers, ValueError for lists of several lengths."""
    try:
        made = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name}: lists of several lengths came, expected an array; pad them to one length") from None
    if made.dtype.kind not in "fiub":
        raise TypeError(f"{name}: {describe(x)} came, expected an array of numbers or a Tensor") from None
    return made


def check_integer(name: str, label: str, value: Any) -> None:
    """TypeError unless value is an integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name}: {label}={shown(value)}, expected an integer")


def check_flag(name: str, label: str, value: Any) -> None:
    """TypeError unless value is True or False: as a condition, any text would pass for True, also "no"."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: {label}={shown(value)}, expected True or False")


def check_eps(name: str, eps: Any) -> None:
    """ValueError unless eps is finite and at least 0."""
    try:
        fits = 0 <= eps < math.inf
    except (TypeError, ValueError):  # ValueError: for an array of several numbers
        raise no_number(name, "eps", eps) from None
    if not fits:
        raise ValueError(
            f"{name}: eps is {eps}, expected a finite number of at least 0, such as 1e-5: it keeps a division from one by zero"
        )


def no_number(name: str, label: str, x: Any) -> TypeError:
    """The error for a setting that is something else."""
    return TypeError(f"{name}: {label} is {describe(x)}, expected a number")


def shown(x: Any) -> str:
    """The repr of x in one line."""
    return " ".join(repr(x).split())[:80]


def no_generator(name: str, rng: Any, otherwise: str = "") -> TypeError:
    """The error for something that draws no numbers."""
    seed = rng if isinstance(rng, int) else 0
    return TypeError(f"{name}: rng is {describe(rng)}, expected a Generator: np.random.default_rng({seed}){otherwise}")
