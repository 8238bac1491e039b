"""Who notes the calls, and makes the program of them.

What happens beside NumPy is not seen. Where an array decides which way Python takes, `if mask.any():`, the program has a condition in
that place, and ends with Diverged where it no longer holds.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.recording.arrays import Recorded, not_recorded, plain
from tinygrad_notes.recording.makers import MAKERS
from tinygrad_notes.recording.program import Call, Program, assemble, copy_members, copy_result, draw_into, pick
from tinygrad_notes.recording.trees import arrays_in, map_arrays, root_of, roots_in

import numpy as np

_one_at_a_time = threading.Lock()  # while one records, the functions of NumPy that make arrays are replaced in the whole process
_recording: int | None = None  # the thread that does


class Recorder:
    """While it is entered, it notes the calls of arrays that come from what it was asked to read."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.own: dict[int, np.ndarray] = {}  # the memory that the program writes, by id
        self.inputs: dict[int, np.ndarray] = {}  # the memory that it reads, and that others change
        self.varying: set[int] = set()  # of both, what holds other numbers in another run
        self.open = False

    def __enter__(self) -> "Recorder":
        global _recording
        self.thread = threading.get_ident()
        if _recording == self.thread:
            raise not_recorded("a replay is recorded within another one")
        with uninterrupted():
            _one_at_a_time.acquire()
            _recording, self.open = self.thread, True
            self.replaced = {name: getattr(np, name) for name in MAKERS}
            for name, maker in MAKERS.items():
                setattr(np, name, maker(self, self.replaced[name]))
        return self

    def __exit__(self, *error: object) -> None:
        global _recording
        with uninterrupted():
            for name, function in self.replaced.items():
                setattr(np, name, function)
            _recording, self.open = None, False
            _one_at_a_time.release()

    def read(self, x: np.ndarray) -> Recorded:
        """x, as an array whose uses are recorded. It stays where it is: the program reads what it holds by then."""
        root = root_of(x)
        self.inputs[id(root)] = root
        self.varying.add(id(root))
        return self.recorded(x)

    def recorded(self, x: np.ndarray) -> Recorded:
        view = x.view(Recorded)
        view.recorder = self
        return view

    def made(self, y: Any) -> Recorded:
        """A new array of the program's own that holds y."""
        y = np.asanyarray(y)
        if y.dtype.hasobject:
            raise not_recorded("an array of Python objects is made")
        new: Any = np.ndarray.copy(self.recorded(y), "K")
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
        if function is draw_into or not self.varying.isdisjoint(roots_in((args, kwargs))):
            self.varying.update(written)

    def varies(self, x: np.ndarray) -> bool:
        """Whether it may hold other numbers in another run."""
        return id(root_of(self.plain(x))) in self.varying

    def call(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """function(*args, **kwargs) of plain arrays, which will be called as a whole: what happens in it is not noted."""
        thread, self.thread = self.thread, 0
        try:
            return function(*args, **kwargs)
        finally:
            self.thread = thread

    def is_known(self, root: int) -> bool:
        return root in self.own or root in self.inputs

    def own_memory(self, x: np.ndarray) -> np.ndarray:
        """x, if the program may write it: what lies outside it may not, so that a run can be left half way."""
        if id(root_of(x)) not in self.own:
            raise not_recorded(f"an array {x.shape} {x.dtype} from outside is changed")
        return x

    def plain(self, tree: Any) -> Any:
        """Recorded arrays as plain ones; TypeError for those of which nobody knows how they came about."""

        def known(x):
            if not isinstance(x, Recorded):
                return x
            if x.recorder is self and not self.is_known(id(root_of(x))):  # one of an earlier recording is a constant
                raise not_recorded(f"an array {x.shape} {x.dtype} came from a method of ndarray that is not recorded")
            return x.view(np.ndarray)

        return map_arrays(known, tree)

    def result(self, y: Any, function: Callable, args: tuple, kwargs: dict[str, Any], came: Any) -> Any:
        """y = function(*args, **kwargs), which becomes a call unless y is a view, or no array. came: the arguments before they were plain."""
        if isinstance(y, list | tuple) and any(isinstance(m, list | tuple) for m in y):
            return type(y)(self.result(m, partial(pick, function, i), args, kwargs, came) for i, m in enumerate(y))
        if isinstance(y, list | tuple) and y and isinstance(y[0], np.ndarray | np.generic):
            if self.are_views(y, came):
                members: list[Any] = [self.recorded(np.asarray(m)) for m in y]
            else:
                members = [self.made(m) for m in y]
                self.add(copy_members, plain(members), function, args, kwargs, writes=members)
            return type(y)(*members) if hasattr(y, "_fields") else type(y)(members)
        if not isinstance(y, np.ndarray | np.generic):
            return y  # a shape, a dtype, a number of axes
        if self.are_views([y], came):
            return self.recorded(np.asarray(y))
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
            elif root in self.own and root not in kept and (x.nbytes, x.strides) == (self.own[root].nbytes, place.strides):
                kept[root] = place  # is written there at once
            else:  # shares its memory with another result, or never varies
                self.add(np.copyto, place, x)
            if place is not None:
                np.copyto(place, x)
            where.append(x if place is None else place)
        return assemble(self.repeated(), self.own, kept), where

    def repeated(self) -> list[Call]:
        """The calls that have to be made again: not those that fill an array with what it holds already, because nothing that varies goes into it."""
        writers = Counter(root for call in self.calls for root in call.written)
        return [
            call
            for call in self.calls
            if not self.varying.isdisjoint(roots_in((call.args, call.kwargs))) or any(writers[root] > 1 for root in call.written)
        ]
