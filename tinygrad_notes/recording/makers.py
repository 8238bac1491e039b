"""Functions that NumPy hands to nobody, because they make arrays of nothing or of lists, or do not look at an index.

They are replaced while calls are recorded. Each function here takes the recorder and NumPy's function, and returns what stands in
its place, which for other threads does what it did.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from tinygrad_notes.recording.arrays import Recorded, plain, recorder_of

import numpy as np


def _empty(recorder: Any, function: Callable) -> Callable:
    @wraps(function)
    def empty(*args, **kwargs):
        y = function(*args, **kwargs)
        return recorder.made(y) if recorder.notes_here() and not isinstance(y, Recorded) else y

    return empty


def _filled(recorder: Any, function: Callable) -> Callable:
    @wraps(function)
    def filled(*args, **kwargs):
        if not recorder.notes_here():
            return function(*args, **kwargs)
        args, kwargs = recorder.plain((args, kwargs))
        out = recorder.made(function(*args, **kwargs))
        value = {"zeros": 0, "ones": 1}.get(function.__name__)
        if value is None:
            value = args[1] if len(args) > 1 else kwargs["fill_value"]
        recorder.add(np.copyto, plain(out), value, "unsafe", writes=[out])
        return out

    return filled


def _constant(recorder: Any, function: Callable) -> Callable:
    """For arrays that hold the same in each run, until something is written into them."""

    @wraps(function)
    def constant(*args, **kwargs):
        y = function(*args, **kwargs)
        if not recorder.notes_here() or y.dtype.hasobject or isinstance(y, Recorded):
            return y
        out = recorder.made(y)
        y.flags.writeable = False  # nobody else has it
        recorder.add(np.copyto, plain(out), y, writes=[out])
        return out

    return constant


def _of_list(recorder: Any, function: Callable) -> Callable:
    """np.array and its like: of a Recorded array they give one, also of a list of such."""
    constant = _constant(recorder, function) if function.__name__ == "array" else function

    @wraps(function)
    def of_list(x, dtype=None, *args, **kwargs):
        if recorder_of([x]) is not recorder:
            return constant(x, *(() if dtype is None else (dtype,)), *args, **kwargs)
        if not isinstance(x, Recorded):
            values = recorder.plain(x)
            return recorder.result(function(values, dtype, *args, **kwargs), function, (values, dtype, *args), kwargs, [x])
        order = (
            {"asfortranarray": "F", "ascontiguousarray": "C"}.get(function.__name__) or (args[0] if args else kwargs.get("order")) or "K"
        )
        copy = kwargs.get("copy", function.__name__ == "array") or x.number
        dtype = x.dtype if dtype is None else dtype
        y = function(plain(x), dtype, *args, **kwargs)
        if copy or dtype != x.dtype or y.strides != x.strides:
            x = x.astype(dtype, order)
            x.number = x.weak = False
        return x.reshape(y.shape)

    return of_list


def _dispatched(recorder: Any, function: Callable) -> Callable:
    """NumPy hands these on only if their first argument asks for it."""

    @wraps(function)
    def dispatched(x, *args, **kwargs):
        if type(x) is np.ndarray and recorder_of((args, kwargs)) is recorder:
            x = recorder.read(x)
        return function(x, *args, **kwargs)

    return dispatched


REPLACED: dict[str, Callable] = {
    "empty_like": _empty, "zeros_like": _constant, "ones_like": _constant,
    "empty": _empty, "zeros": _filled, "ones": _filled, "full": _filled,
    "arange": _constant, "eye": _constant, "identity": _constant, "linspace": _constant,
    "array": _of_list, "asarray": _of_list, "asanyarray": _of_list, "ascontiguousarray": _of_list, "asfortranarray": _of_list,
    "take": _dispatched, "repeat": _dispatched, "roll": _dispatched, "full_like": _dispatched,
}  # fmt: skip
