"""Calls in their order, packed into as little memory as they need at any time."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from tinygrad_notes.recording.trees import address, map_arrays, root_of, roots_in

import numpy as np

ALIGNMENT = 64  # bytes: a line of the cache


class Diverged(Exception):
    """Python would go another way now than when the calls were recorded."""


class Call(NamedTuple):
    """function(*args, **kwargs), which writes into some of its arrays."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    written: tuple[int, ...]  # the ids of the memory that it writes


class Program:
    """What a recorder has noted, ready to run."""

    def __init__(self, calls: Iterable[Call], memory: int):
        self.calls = [(partial(c.function, **c.kwargs) if c.kwargs else c.function, c.args) for c in calls]
        self.memory = memory  # bytes, for all that lies between the inputs and the results

    def run(self) -> None:
        """Diverged: by then, nothing but the program's own memory was written, and generators have drawn."""
        with np.errstate(all="ignore"):  # where a kernel has switched warnings off is not recorded
            for function, args in self.calls:
                function(*args)


def assemble(calls: Sequence[Call], own: dict[int, np.ndarray], kept: dict[int, np.ndarray | None]) -> Program:
    """The program of these calls. own: the memory that they write, by id; kept: what of it stays, where it is (None) or in that array's place."""
    memory: dict[int, tuple[np.ndarray, int]] = {}  # for an id, what takes its place, and where it begins there
    for root, place in kept.items():
        if place is not None:
            memory[root] = place.reshape(-1).view(np.uint8), 0
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for time, call in enumerate(calls):
        for root in (roots_in((call.args, call.kwargs)) & own.keys()) - kept.keys():
            first.setdefault(root, time)
            last[root] = time
    constant = first.keys() - {root for call in calls for root in call.written}
    begins, size = pack([(first[root], last[root], own[root].nbytes, root) for root in first.keys() - constant])
    arena = np.empty(size + ALIGNMENT, np.uint8)
    arena = arena[-address(arena) % ALIGNMENT :]
    memory |= {root: (arena, begin) for root, begin in begins.items()}

    def moved(x):
        root = root_of(x)
        if id(root) not in memory:
            return x
        where, begin = memory[id(root)]
        return np.ndarray(x.shape, x.dtype, where, begin + address(x) - address(root), x.strides)

    return Program([c._replace(args=map_arrays(moved, c.args), kwargs=map_arrays(moved, c.kwargs)) for c in calls], size)


def pack(needs: Iterable[tuple[int, int, int, int]]) -> tuple[dict[int, int], int]:
    """Where each piece of memory begins, and the bytes of all. needs: (first, last, bytes, key); what is needed at the same time does not overlap."""
    begins: dict[int, int] = {}
    size = 0
    live: list[tuple[int, int, int]] = []  # (start, stop, last) of what is needed still, in the order of places
    for first, last, nbytes, key in sorted(needs):
        live = [piece for piece in live if piece[2] >= first]
        start = 0
        for begin, stop, _ in live:
            if begin - start >= nbytes:
                break
            start = stop
        stop = start + nbytes + -nbytes % ALIGNMENT
        live = sorted([*live, (start, stop, last)])
        begins[key] = start
        size = max(size, stop)
    return begins, size


# --- calls that are no functions of NumPy -----------------------------------------------------


def copy_result(out: np.ndarray, function: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
    """For what makes its result itself."""
    copy_into(out, function(*args, **kwargs))


def copy_members(outs: Sequence[np.ndarray], function: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
    for out, y in zip(outs, function(*args, **kwargs), strict=True):
        copy_into(out, y)


def copy_into(out: np.ndarray, y: Any) -> None:
    if np.shape(y) != out.shape:  # x[mask] is as long as the mask has members
        raise Diverged
    np.copyto(out, y)


class Source:
    """Where the program's random numbers come from: another Generator in each run."""

    def __init__(self, rng: np.random.Generator | None):
        self.rng: Any = rng


def draw_into(out: np.ndarray, source: Source, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
    copy_into(out, getattr(source.rng, name)(*args, **kwargs))


def draw_in_place(source: Source, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
    getattr(source.rng, name)(*args, **kwargs)


class State:
    """The state of a Generator at some place of the program."""

    value: Any = None


def save_state(source: Source, state: State) -> None:
    state.value = source.rng.bit_generator.state


def restore_state(source: Source, state: State) -> None:
    source.rng.bit_generator.state = state.value


OF_GENERATORS = {draw_into, draw_in_place, save_state, restore_state}


def condition(x: np.ndarray, was: bool) -> None:
    if bool(x) is not was:
        raise Diverged


def pick(function: Callable, i: int, *args: Any, **kwargs: Any) -> Any:
    """One member of what a function returns."""
    return function(*args, **kwargs)[i]


def get(x: np.ndarray, index: Any) -> Any:
    return x[index]


def put(x: np.ndarray, index: Any, new: Any) -> None:
    x[index] = new
