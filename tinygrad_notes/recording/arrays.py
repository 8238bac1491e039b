"""An ndarray whose uses are noted: NumPy hands each of its functions to us, by the same two protocols that serve the Tensor.

The calls are made on plain arrays, once while they are recorded and then again in the program. What they write becomes
memory of the program. Views are made once; only what computes is a call.
"""

import operator
from collections.abc import Callable
from functools import cache, wraps
from inspect import Parameter, signature
from typing import Any

from tinygrad_notes.recording.program import condition, get, put
from tinygrad_notes.recording.trees import address, arrays_in, map_arrays

import numpy as np


class Recorded(np.ndarray):
    """An array whose uses are noted while its recorder is open, and one like any other afterwards."""

    recorder: Any = None  # a Recorder
    number = False  # whether NumPy gives a number in its place, which += leaves as it is
    weak = False  # whether that is a number of Python's, which takes the dtype of what it meets

    def __array_finalize__(self, source):
        self.recorder = getattr(source, "recorder", None)

    def __array_ufunc__(self, ufunc, method, *inputs: Any, out: Any = None, **kwargs):
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, np.ndarray | np.generic) for x in inputs):
            return NotImplemented  # a Tensor, which will hand us its array
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        recorder = recorder_of((inputs, out, kwargs))
        if recorder is None:
            return function(*plain(inputs), **plain(kwargs), **({} if out is None else {"out": plain(out)}))
        strong = [x for x in inputs if not getattr(x, "weak", isinstance(x, int | float | complex) and not isinstance(x, np.generic))]
        args, kwargs = recorder.plain((inputs if not strong else [meeting(x, strong) for x in inputs], kwargs))
        if method == "at":
            function(recorder.own_memory(args[0]), *args[1:])
            return recorder.add(function, *args, writes=args[:1])
        if out is None:
            y = function(*args, **kwargs)
            out = tuple(map(recorder.made, y)) if isinstance(y, tuple) else (recorder.made(y),)
            for new in out:
                new.weak = not strong and ufunc in PYTHONS
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
        if function in BY_METHOD and args and isinstance(args[0], Recorded):
            return getattr(args[0], BY_METHOD[function])(*args[1:], **kwargs)
        args, kwargs = out_by_name(function, args, kwargs)
        came = args, kwargs
        args, kwargs = recorder.plain(came)
        if function in IN_PLACE:
            recorder.call(function, recorder.own_memory(args[0]), *args[1:], **kwargs)
            return recorder.add(function, *args, writes=args[:1], **kwargs)
        if kwargs.get("out") is not None:
            recorder.own_memory(kwargs["out"])
            recorder.call(function, *args, **kwargs)
            recorder.add(function, *args, writes=[kwargs["out"]], **kwargs)
            return came[1]["out"]
        y = recorder.call_of_unchanged(function, *args, **kwargs)
        if function in OF_ONE_NUMBER and y.dtype.kind not in "SU":  # the zero of texts is an empty one
            out = recorder.made(y)
            if (number := OF_ONE_NUMBER[function]) is not None:
                recorder.add(np.copyto, plain(out), number, "unsafe", writes=[out])
            return out
        if function in WITH_OUT and "dtype" not in kwargs:
            out = recorder.made(y)
            recorder.add(function, *args, out=plain(out), writes=[out], **kwargs)
            return out
        return recorder.result(y, function, args, kwargs, came)

    # --- indexing ---------------------------------------------------------------------------

    def __getitem__(self, index):
        recorder = recorder_of((self, index))
        if recorder is None:
            return plain(self)[plain(index)]
        x, place = recorder.plain((self, index))
        y = recorder.result(member(x, place), get, (x, place), {}, (self, index))
        return y if isinstance(x[place], np.ndarray) else y._copied(plain(y)[()])

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

    def __iter__(self):
        return map(self.__getitem__, range(len(self)))

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
        y = plain(self).astype(dtype, order, casting)
        return self._copied(y[()] if self.number else y) if copy or self.dtype != dtype else self

    def copy(self, order: Any = "C"):
        return self._copied(plain(self).copy(order))

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def view(self, *args, **kwargs):
        y = np.ndarray.view(self, *args, **kwargs)
        if type(y) is np.ndarray:
            return self[...]
        if not isinstance(y, Recorded) and recorder_of(self):
            raise not_recorded(f"an array becomes a {type(y).__name__}")
        return y

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

    def __hash__(self):
        return hash(self.item() if self.number else plain(self))

    def __round__(self, digits=None):
        return round(self.item(), digits)

    def __repr__(self):
        return repr(plain(self))

    def __str__(self):
        return str(plain(self))

    def __format__(self, spec):
        return format(plain(self), spec)


def plain(tree: Any) -> Any:
    """Recorded arrays as what they are beneath."""
    return map_arrays(lambda x: np.ndarray.view(x, np.ndarray) if isinstance(x, Recorded) else x, tree)


def recorder_of(tree: Any) -> Any:
    """The Recorder that notes what happens to the arrays of these arguments, or None."""
    for x in arrays_in(tree):
        if isinstance(x, Recorded) and x.recorder is not None and x.recorder.notes(x):
            return x.recorder
    return None


def meeting(x: Any, strong: list) -> Any:
    """x, and a number of Python's with the dtype that it has among these."""
    if not getattr(x, "weak", False):
        return x
    return x.astype(np.result_type(*plain(strong), x.dtype.type(0).item()))


@cache
def names_of(function: Callable) -> list[str]:
    """Of the parameters that can be given by their place."""
    try:
        return [name for name, p in signature(function).parameters.items() if p.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    except ValueError:  # NumPy does not tell
        return []


def out_by_name(function: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments, with `out` and those after it given by name."""
    names = names_of(function)
    if "out" not in names or len(args) <= (i := names.index("out")):
        return args, kwargs
    return args[:i], kwargs | dict(zip(names[i:], args[i:]))


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
        """By NumPy's function of the same name, which is noted."""
        return getattr(np, name)(self, *args, **kwargs)

    return method


def _reduced(ufunc: Any, takes_dtype: bool) -> Callable:
    def with_dtype(self, axis=None, dtype=None, out=None, keepdims=False, *args, **kwargs):
        return ufunc.reduce(self, axis, dtype, out, keepdims, *args, **kwargs)

    return with_dtype if takes_dtype else lambda self, axis=None, *args, **kwargs: with_dtype(self, axis, None, *args, **kwargs)


def _number(name: str) -> Callable:
    def method(self, *args, **kwargs):
        """As an ndarray's, of numbers that never vary; TypeError for others."""
        if (recorder := recorder_of(self)) and recorder.varies(self):
            raise not_recorded(
                "a number is read out of an array (float, int, item or tolist; for a log there is the float that the step returns)"
            )
        return getattr(plain(self), name)(*args, **kwargs)

    return method


def _changing(name: str) -> Callable:
    function = getattr(np.ndarray, name)

    def method(self, *args, **kwargs):
        """As an ndarray's, and noted."""
        recorder = recorder_of((self, args, kwargs))
        if recorder is None:
            return function(plain(self), *plain(args), **plain(kwargs))
        x, args, kwargs = recorder.plain((self, args, kwargs))
        function(recorder.own_memory(x), *args, **kwargs)
        return recorder.add(function, x, *args, writes=[x], **kwargs)

    return method


def _rebinding(name: str) -> Callable:
    """x += y, where x may be a number."""

    def method(self, other):
        return getattr(operator, name)(self, other) if self.number else getattr(np.ndarray, f"__i{name.strip('_')}__")(self, other)

    return method


def _refused(name: str) -> Callable:
    def method(self, *args, **kwargs):
        """As an ndarray's; TypeError while it is recorded, for what it changes would not be noted."""
        if recorder_of(self):
            raise not_recorded(f"an array is used by its {name}")
        return getattr(plain(self), name)(*args, **kwargs)

    return method


FUNCTIONS = "argmax argmin argpartition argsort choose clip compress cumprod cumsum diagonal dot mean nonzero repeat round searchsorted std take trace var"
REDUCTIONS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "all": np.logical_and, "any": np.logical_or}
NUMBERS = "__float__ __int__ __index__ __complex__ item tolist tobytes"
CHANGES = "sort partition put"
REFUSED = "resize byteswap setfield"
OPERATORS = "add sub mul truediv floordiv mod pow matmul lshift rshift and_ or_ xor"
for _name in FUNCTIONS.split():
    setattr(Recorded, _name, _by_function(_name))
for _name, _ufunc in REDUCTIONS.items():
    setattr(Recorded, _name, _reduced(_ufunc, _name in ("sum", "prod")))
for _name in NUMBERS.split():
    setattr(Recorded, _name, _number(_name))
for _name in CHANGES.split():
    setattr(Recorded, _name, _changing(_name))
for _name in REFUSED.split():
    setattr(Recorded, _name, _refused(_name))
for _name in OPERATORS.split():
    setattr(Recorded, f"__i{_name.strip('_')}__", _rebinding(_name))
Recorded.flat = property(lambda self: _refused("flat")(self), lambda self, value: _refused("flat")(self))  # type: ignore[assignment]

BY_METHOD = {getattr(np, name): name for name in (*REDUCTIONS, "reshape", "ravel", "copy")}
OF_ONE_NUMBER = {np.empty_like: None, np.zeros_like: 0, np.ones_like: 1}  # of any numbers, those that are there by chance
WITH_OUT = {np.concatenate, np.stack, np.take, np.cumsum, np.cumprod, np.argmax, np.argmin, np.dot}
PYTHONS = {np.add, np.subtract, np.multiply, np.divide, np.floor_divide, np.remainder, np.power, np.negative, np.positive, np.absolute}
IN_PLACE = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}
