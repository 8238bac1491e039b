"""An ndarray whose uses are noted: NumPy hands each of its functions to us, by the same two protocols that serve the Tensor.

The calls are made on plain arrays, once while they are recorded and then again in the program. What they write becomes
memory of the program. Views are made once; only what computes is a call.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from tinygrad_notes.recording.program import condition, get, put
from tinygrad_notes.recording.trees import address, arrays_in, map_arrays

import numpy as np


class Recorded(np.ndarray):
    """An array whose uses are noted while its recorder is open, and one like any other afterwards."""

    recorder: Any = None  # a Recorder

    def __array_finalize__(self, source):
        self.recorder = getattr(source, "recorder", None)

    def __array_ufunc__(self, ufunc, method, *inputs: Any, out: Any = None, **kwargs):
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, np.ndarray | np.generic) for x in inputs):
            return NotImplemented  # a Tensor, which will hand us its array
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        recorder = recorder_of((inputs, out, kwargs))
        if recorder is None:
            return function(*plain(inputs), **plain(kwargs), **({} if out is None else {"out": plain(out)}))
        args, kwargs = recorder.plain((inputs, kwargs))
        if method == "at":
            function(recorder.own_memory(args[0]), *args[1:])
            return recorder.add(function, *args, writes=args[:1])
        if out is None:
            y = function(*args, **kwargs)
            out = tuple(map(recorder.made, y)) if isinstance(y, tuple) else (recorder.made(y),)
        else:
            function(*args, out=tuple(map(recorder.own_memory, plain(out))), **kwargs)
        outs = plain(out)
        if method == "__call__" and not kwargs and ufunc not in (np.maximum, np.minimum):  # NumPy is going to take these by name only
            recorder.add(function, *args, *outs, writes=outs)  # by position it costs less
        else:
            recorder.add(function, *args, out=outs if len(outs) > 1 else outs[0], writes=outs, **kwargs)
        return out if len(out) > 1 else out[0]

    def __array_function__(self, function, types, args, kwargs):
        if not all(issubclass(t, np.ndarray) for t in types):
            return NotImplemented
        recorder = recorder_of((args, kwargs))
        if recorder is None:
            return function(*plain(args), **plain(kwargs))
        return call_function(recorder, function, args, kwargs)

    # --- indexing ---------------------------------------------------------------------------

    def __getitem__(self, index):
        recorder = recorder_of((self, index))
        if recorder is None:
            return plain(self)[plain(index)]
        x, place = recorder.plain((self, index))
        return recorder.result(member(x, place), get, (x, place), {}, (self, index))

    def __setitem__(self, index, value):
        recorder = recorder_of((self, index, value))
        if recorder is None:
            plain(self)[plain(index)] = plain(value)
            return
        x, place, new = recorder.plain((self, index, value))
        recorder.own_memory(x)[place] = new
        to = member(x, place)
        if not recorder.are_views([to], (self, index)) or np.ndim(new) > to.ndim:
            recorder.add(put, x, place, new, writes=[x])
        elif not (isinstance(new, np.ndarray) and (address(new), new.shape, new.strides) == (address(to), to.shape, to.strides)):
            recorder.add(np.copyto, to, new, "unsafe", writes=[to])  # and of x[i] += 1, which puts back what is there, nothing

    def __contains__(self, x):
        return bool((self == x).any())

    # --- methods ----------------------------------------------------------------------------

    def reshape(self, *shape, order: Any = "C", **kwargs):
        if shape and isinstance(shape[-1], str):  # np.reshape(x, shape, "C")
            *shape, order = shape
        return self._in_order(order, lambda x: x.reshape(*shape, order=order, **kwargs))

    def ravel(self, order: Any = "C"):
        return self._in_order(order, lambda x: x.ravel(order))

    def flatten(self, order: Any = "C"):
        return self.ravel(order).copy()

    def _in_order(self, order, of):
        """A view, or a copy where there can be none."""
        recorder = recorder_of(self)
        if recorder is None:
            return of(plain(self))
        x = recorder.plain(self)
        y = of(x)
        if order != "C" or recorder.are_views([y], self):
            return recorder.result(y, of, (x,), {}, self)
        out = recorder.made(y)
        recorder.add(np.copyto, plain(out).reshape(x.shape), x, writes=[out])
        return out

    def astype(self, dtype, order: Any = "K", casting: Any = "unsafe", subok=True, copy=True):
        return self._copied(plain(self).astype(dtype, order, casting)) if copy or self.dtype != dtype else self

    def copy(self, order: Any = "C"):
        return self._copied(plain(self).copy(order))

    def _copied(self, y):
        recorder = recorder_of(self)
        if recorder is None:
            return y
        out = recorder.made(y)
        recorder.add(np.copyto, plain(out), recorder.plain(self), "unsafe", writes=[out])
        return out

    def fill(self, value):
        self[...] = value

    # --- what Python makes of arrays ----------------------------------------------------------

    def __bool__(self):
        value = bool(plain(self))
        if (recorder := recorder_of(self)) and recorder.varies(self):
            recorder.add(condition, recorder.plain(self), value)
        return value

    def __repr__(self):
        return repr(plain(self))

    def __str__(self):
        return str(plain(self))

    def __format__(self, spec):
        return format(plain(self), spec)


def call_function(recorder: Any, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A function of NumPy of Recorded arrays, noted."""
    if function in BY_METHOD and args and isinstance(args[0], Recorded):
        return getattr(args[0], BY_METHOD[function])(*args[1:], **kwargs)
    came = args, kwargs
    args, kwargs = recorder.plain(came)
    if function in IN_PLACE:
        recorder.call(function, recorder.own_memory(args[0]), *args[1:], **kwargs)
        return recorder.add(function, *args, writes=args[:1], **kwargs)
    if kwargs.get("out") is not None:
        recorder.call(function, *args, **kwargs)
        recorder.add(function, *args, writes=[recorder.own_memory(kwargs["out"])], **kwargs)
        return came[1]["out"]
    y = recorder.call(function, *args, **kwargs)
    if function is np.empty_like:
        return recorder.made(y)
    if function in WITH_OUT and "dtype" not in kwargs:
        out = recorder.made(y)
        recorder.add(function, *args, out=plain(out), writes=[out], **kwargs)
        return out
    return recorder.result(y, function, args, kwargs, came)


def plain(tree: Any) -> Any:
    """Recorded arrays as what they are beneath."""
    return map_arrays(lambda x: x.view(np.ndarray) if isinstance(x, Recorded) else x, tree)


def recorder_of(tree: Any) -> Any:
    """The Recorder that notes what happens to the arrays of these arguments, or None."""
    for x in arrays_in(tree):
        if isinstance(x, Recorded) and x.recorder is not None and x.recorder.open:
            return x.recorder
    return None


def member(x: np.ndarray, index: Any) -> np.ndarray:
    """x[index], and in the place of a number an array without dimensions."""
    y = x[index]
    return y if isinstance(y, np.ndarray) else x[(*index, ...) if isinstance(index, tuple) else (index, ...)]


def not_recorded(what: str) -> TypeError:
    return TypeError(f"replay: {what}, which cannot be repeated; compute it outside and pass it in the batch, or use the loss as it is")


def whole(function: Callable) -> Callable:
    """Decorates a function of arrays that computes beside NumPy, in SciPy's C code: recorded as one call."""

    @wraps(function)
    def call(*args):
        recorder = recorder_of(args)
        if recorder is None:
            return function(*args)
        values = recorder.plain(args)
        return recorder.result(recorder.call(function, *values), function, values, {}, args)

    return call


# --- the other methods of ndarray -----------------------------------------------------------------


def _by_function(name: str) -> Callable:
    def method(self, *args, **kwargs):
        return getattr(np, name)(self, *args, **kwargs)

    return method


def _reduced(ufunc: Any, takes_dtype: bool) -> Callable:
    def with_dtype(self, axis=None, dtype=None, out=None, keepdims=False, *args, **kwargs):
        return ufunc.reduce(self, axis, dtype, out, keepdims, *args, **kwargs)

    return with_dtype if takes_dtype else lambda self, axis=None, *args, **kwargs: with_dtype(self, axis, None, *args, **kwargs)


def _number(name: str) -> Callable:
    def method(self, *args, **kwargs):
        if (recorder := recorder_of(self)) and recorder.varies(self):
            raise not_recorded("a number is read out of an array (float, int, item or tolist)")
        return getattr(plain(self), name)(*args, **kwargs)

    return method


def _refused(name: str) -> Callable:
    def method(self, *args, **kwargs):
        if recorder_of(self):
            raise not_recorded(f"an array is used by its {name}")
        return getattr(plain(self), name)(*args, **kwargs)

    return method


FUNCTIONS = (
    "argmax argmin argpartition argsort clip compress cumprod cumsum diagonal dot mean nonzero repeat round searchsorted std take trace var"
)
REDUCTIONS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "all": np.logical_and, "any": np.logical_or}
NUMBERS = "__float__ __int__ __index__ __complex__ item tolist tobytes"
CHANGES = "sort partition put resize byteswap setfield"
for _name in FUNCTIONS.split():
    setattr(Recorded, _name, _by_function(_name))
for _name, _ufunc in REDUCTIONS.items():
    setattr(Recorded, _name, _reduced(_ufunc, _name in ("sum", "prod")))
for _name in NUMBERS.split():
    setattr(Recorded, _name, _number(_name))
for _name in CHANGES.split():
    setattr(Recorded, _name, _refused(_name))
Recorded.flat = property(lambda self: _refused("flat")(self), lambda self, value: _refused("flat")(self))  # type: ignore[assignment]

BY_METHOD = {getattr(np, name): name for name in (*REDUCTIONS, "reshape", "ravel", "copy")}
WITH_OUT = {np.concatenate, np.stack, np.take, np.cumsum, np.cumprod, np.argmax, np.argmin, np.dot}
IN_PLACE = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}
