"""NumPy's functions that make arrays of nothing, or of lists, or do not look at an index: it hands them to nobody, so that they are replaced while calls are recorded.

Each takes the recorder and the function, and returns what stands in its place. For other threads it is the function.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from tinygrad_notes.recording.arrays import Recorded, call_function, plain, recorder_of

import numpy as np


def _empty(recorder: Any, function: Callable) -> Callable:
    @wraps(function)
    def empty(*args, **kwargs):
        y = function(*args, **kwargs)
        return recorder.made(y) if threading.get_ident() == recorder.thread else y

    return empty


def _filled(recorder: Any, function: Callable) -> Callable:
    @wraps(function)
    def filled(*args, **kwargs):
        if threading.get_ident() != recorder.thread:
            return function(*args, **kwargs)
        args, kwargs = recorder.plain((args, kwargs))
        out = recorder.made(function(*args, **kwargs))
        value = {"zeros": 0, "ones": 1}.get(function.__name__)
        if value is None:
            value = args[1] if len(args) > 1 else kwargs["fill_value"]
        recorder.add(np.copyto, plain(out), value, "unsafe", writes=[out])
        return out

    return filled


def _copied(recorder: Any, function: Callable) -> Callable:
    """np.array, also of lists of Recorded arrays."""

    @wraps(function)
    def copied(*args, **kwargs):
        if recorder_of(args[:1]) is not recorder:
            return function(*args, **kwargs)
        values, kwargs = recorder.plain((args, kwargs))
        return recorder.result(np.ndarray.copy(function(*values, **kwargs)), function, values, kwargs, args)

    return copied


def _as_array(recorder: Any, function: Callable) -> Callable:
    """np.asarray and its like, of which a Recorded array comes out as one."""
    copied = _copied(recorder, function)

    @wraps(function)
    def as_array(*args, **kwargs):
        x: Any = args[0] if args else None
        if not isinstance(x, Recorded):
            return copied(*args, **kwargs)
        dtype = args[1] if len(args) > 1 else kwargs.get("dtype")
        x = x if dtype is None else x.astype(dtype, copy=False)
        return x if function.__name__ != "ascontiguousarray" or x.flags.c_contiguous else x.copy()

    return as_array


def _taken(recorder: Any, function: Callable) -> Callable:
    """np.take of a table from outside, by an index that is Recorded."""

    @wraps(function)
    def take(*args, **kwargs):
        if recorder_of((args, kwargs)) is not recorder or not isinstance(args[0], np.ndarray):
            return function(*args, **kwargs)
        return call_function(recorder, function, args, kwargs)

    return take


MAKERS: dict[str, Callable] = {
    "empty": _empty, "zeros": _filled, "ones": _filled, "full": _filled,
    "array": _copied, "asarray": _as_array, "asanyarray": _as_array, "ascontiguousarray": _as_array, "take": _taken,
}  # fmt: skip
