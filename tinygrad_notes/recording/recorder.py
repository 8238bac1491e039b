"""Who notes the calls, and makes the program of them.

What happens beside NumPy is not seen. Where an array decides which way Python takes, `if mask.any():`, the program has a condition in
that place, and ends with Diverged where it no longer holds.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.recording.arrays import Recorded, not_recorded, plain
from tinygrad_notes.recording.makers import REPLACED
from tinygrad_notes.recording.program import OF_GENERATORS, Call, Program, assemble, copy_members, copy_result, pick
from tinygrad_notes.recording.trees import arrays_in, map_arrays, root_of, roots_in

import numpy as np

OF_NUMBERS = {np.allclose, np.array_equal, np.array_equiv, np.count_nonzero}  # which give Python's numbers for what arrays hold

PATIENCE = 60  # seconds to wait for another recording, which takes milliseconds: longer, and it waits for this one

_one_at_a_time = threading.Lock()  # while one records, some functions of NumPy are replaced in the whole process
_current: Any = None  # the Recorder that is entered


def _forget() -> None:
    """In a child process: nobody records, even if a thread of its parent did."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()
    if _current is not None:
        _current.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Recorder:
    """While it is entered, it notes the calls of arrays that come from what it was asked to read."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.own: dict[int, np.ndarray] = {}  # the memory that the program writes, by id
        self.inputs: dict[int, np.ndarray] = {}  # the memory that it reads, and that others change
        self.varying: set[int] = set()  # of both, what holds other numbers in another run
        self.shared: set[int] = set()  # of the inputs, what other threads use at the same time
        self.thread: int | None = None  # the one that is listened to, while this is entered
        self.whole = False  # in a call that is noted as one
        self.replaced: dict[str, Callable] = {}  # functions of NumPy, meanwhile

    def __enter__(self) -> "Recorder":
        global _current
        thread = threading.get_ident()
        if (_current is not None and _current.thread == thread) or not _one_at_a_time.acquire(timeout=PATIENCE):
            raise not_recorded("a replay is recorded within another one")
        with uninterrupted():
            self.thread, _current = thread, self
            self.replaced = {name: getattr(np, name) for name in REPLACED}
            for name, stands_in in REPLACED.items():
                setattr(np, name, stands_in(self, self.replaced[name]))
        return self

    def __exit__(self, *error: object) -> None:
        with uninterrupted():
            self.restore()
            _one_at_a_time.release()

    def restore(self) -> None:
        """NumPy is itself again, and nothing more is noted."""
        global _current
        for name, function in self.replaced.items():
            setattr(np, name, function)
        self.thread = _current = None

    def read(self, x: np.ndarray, *, shared: bool = False) -> Recorded:
        """x, as an array whose uses are recorded. It stays where it is: the program reads what it holds by then. shared: other threads use it, too."""
        root = root_of(x)
        self.inputs[id(root)] = root
        self.varying.add(id(root))
        if shared:
            self.shared.add(id(root))
        return self.recorded(x)

    def notes_here(self) -> bool:
        """Whether the code that runs now is recorded."""
        return self.thread == threading.get_ident() and not self.whole

    def notes(self, x: Recorded) -> bool:
        """Whether what happens to x now is recorded; TypeError if it should be, but cannot."""
        if self.thread is None:
            return False
        if self.notes_here():
            return True
        if self.thread == threading.get_ident():
            raise not_recorded("a function that is given to NumPy uses arrays of the loss beside its arguments")
        if id(root_of(x)) not in self.shared:
            raise not_recorded("another thread computes a part of the loss")
        return False

    def recorded(self, x: np.ndarray) -> Recorded:
        view = x.view(Recorded)
        view.recorder = self
        return view

    def made(self, y: Any) -> Recorded:
        """A new array of the program's own that holds y."""
        array = np.asanyarray(y)
        if array.dtype.hasobject:
            raise not_recorded("an array of Python objects is made")
        new: Any = np.ndarray.copy(self.recorded(array), "K")
        new.number = not isinstance(y, np.ndarray)
        new.weak = new.number and not isinstance(y, np.generic)
        self.own[id(new)] = new
        return new

    def add(self, function: Callable, *args: Any, writes: Sequence[np.ndarray] = (), **kwargs: Any) -> None:
        """Note a call of plain arrays."""
        written = tuple(id(root_of(x)) for x in writes)
        self.calls.append(Call(function, args, kwargs, written))
        for x in map(root_of, arrays_in((args, kwargs))):
            if id(x) not in self.own and x.flags.writeable:  # somebody may change it
                self.inputs[id(x)] = x
                self.varying.add(id(x))
        if function in OF_GENERATORS or not self.varying.isdisjoint(roots_in((args, kwargs))):
            self.varying.update(written)

    def varies(self, x: np.ndarray) -> bool:
        """Whether it may hold other numbers in another run."""
        return id(root_of(self.plain(x))) in self.varying

    def call(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """function(*args, **kwargs) of plain arrays, which will be called as a whole: what happens in it is not noted."""
        whole, self.whole = self.whole, True
        try:
            return function(*args, **kwargs)
        finally:
            self.whole = whole

    def call_of_unchanged(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """The same; TypeError if the function would change its arguments."""
        args, kwargs = map_arrays(read_only, (args, kwargs))
        try:
            return self.call(function, *args, **kwargs)
        except ValueError as error:
            if "read-only" in str(error):
                raise not_recorded(f"{getattr(function, '__name__', function)} changes an array in place") from error
            raise

    def is_known(self, root: int) -> bool:
        return root in self.own or root in self.inputs

    def own_memory(self, x: np.ndarray) -> np.ndarray:
        """x, if the program may write it: what lies outside it may not, so that a run can be left half way."""
        if id(root_of(x)) not in self.own:
            raise not_recorded(
                f"an array {x.shape} {x.dtype} from outside is changed, such as running statistics, or one that NumPy did not make here"
            )
        return x

    def plain(self, tree: Any) -> Any:
        """Recorded arrays as plain ones; TypeError for those of which nobody knows how they came about."""

        def known(x):
            if not isinstance(x, Recorded):
                return x
            if x.recorder is self and not self.is_known(id(root_of(x))):
                raise not_recorded(f"an array {x.shape} {x.dtype} came from a method of ndarray that is not recorded")
            return plain(x)

        return map_arrays(known, tree)

    def result(self, y: Any, function: Callable, args: tuple, kwargs: dict[str, Any], came: Any) -> Any:
        """y = function(*args, **kwargs), which becomes a call unless y is a view, or no array. came: the arguments before they were plain."""
        if isinstance(y, list | tuple) and any(isinstance(m, list | tuple) for m in y):
            return type(y)(self.result(m, partial(pick, function, i), args, kwargs, came) for i, m in enumerate(y))
        if isinstance(y, list | tuple) and y and isinstance(y[0], np.ndarray | np.generic):
            if self.are_views(y, came):
                members: Any = [self.recorded(writable(m)) for m in y]
            else:
                members = [self.made(m) for m in y]
                self.add(copy_members, plain(members), function, args, kwargs, writes=members)
            return type(y)(*members) if hasattr(y, "_fields") else type(y)(members)
        if not isinstance(y, np.ndarray | np.generic) and function not in OF_NUMBERS:
            return y  # a shape, a dtype, a number of axes
        if self.are_views([y], came):
            return self.recorded(writable(y))
        out = self.made(y)
        self.add(copy_result, plain(out), function, args, kwargs, writes=[out])
        return out

    def are_views(self, members: Sequence[Any], came: Any) -> bool:
        """Whether these look at the arrays that came, at all of them: where one chooses the place, as an index does, it is another place next time."""
        roots = {id(root_of(m)) if isinstance(m, np.ndarray) else 0 for m in members}
        return all(map(self.is_known, roots)) and roots >= roots_in([x for x in arrays_in(came) if isinstance(x, Recorded)])

    # --- the program ------------------------------------------------------------------------

    def program(self, results: Sequence[np.ndarray], places: Sequence[np.ndarray | None]) -> tuple[Program, list[np.ndarray]]:
        """The calls, and the arrays in which the results are now and will be: the places, where they are given, of the shapes and dtypes of the results."""
        kept: dict[int, np.ndarray | None] = {}
        where = []
        for x, place in zip(plain(list(results)), places, strict=True):
            root = id(root_of(x))
            if place is None:
                kept.setdefault(root, None)
            elif (
                root in self.varying & self.own.keys()
                and root not in kept
                and (x.nbytes, x.strides) == (self.own[root].nbytes, place.strides)
            ):
                kept[root] = place  # is written there at once
            else:  # shares its memory with another result, or never varies
                self.add(np.copyto, place, x)
            if place is not None:
                np.copyto(place, x)
            where.append(x if place is None else place)
        program = assemble(self.repeated(), self.own, kept)
        self.calls, self.own, self.inputs = [], {}, {}  # the arrays of the recording, in whose place the program has packed memory
        return program, where

    def repeated(self) -> list[Call]:
        """The calls that have to be made again: not those that fill an array with what it holds already, because nothing that varies goes into it."""
        writers = Counter(root for call in self.calls for root in call.written)
        return [
            call
            for call in self.calls
            if call.function in OF_GENERATORS
            or not self.varying.isdisjoint(roots_in((call.args, call.kwargs)))
            or any(writers[root] > 1 for root in call.written)
        ]


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.view()
    x.flags.writeable = False
    return x


def writable(x: Any) -> np.ndarray:
    """A view, of which it is known whose memory it writes."""
    with suppress(ValueError):  # of as_strided, which stays as NumPy gives it
        x.flags.writeable = root_of(x).flags.writeable
    return x
