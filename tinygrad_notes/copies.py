"""A copy of this process that computes beside it: two interpreters, so that neither waits for the other's lock.

fork makes the copy. It has the model, the functions and everything else as they are at that moment; what changes later it does
not see. Arrays go to it and come back in memory that both share, what describes them through a pipe, as JSON.
"""

import builtins
import json
import math
import mmap
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tinygrad_notes import threads
from tinygrad_notes.tree import uninterrupted

import numpy as np

ALIGNMENT = 64  # bytes: a line of the cache
Layout = Sequence[tuple[str, Sequence[int]]]  # dtype and shape of each array


def possible() -> bool:
    """Whether a process of this system can be copied. macOS has fork, but its libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def layout(arrays: Iterable[np.ndarray]) -> Layout:
    return [(a.dtype.str, a.shape) for a in arrays]


def room(layout: Layout) -> int:
    """The bytes that these arrays take, one after the other."""
    return sum(_padded(dtype, shape) for dtype, shape in layout)


def _padded(dtype: str, shape: Sequence[int]) -> int:
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT


def shared_memory(size: int) -> mmap.mmap:
    """Zeros. Copies that are made after it see the same memory."""
    return mmap.mmap(-1, max(1, size))


def arrays_in(memory: mmap.mmap, layout: Layout) -> list[np.ndarray]:
    """The arrays of this layout, which begin where `memory` does."""
    found, start = [], 0
    for dtype, shape in layout:
        found.append(np.ndarray(shape, dtype, memory, start))
        start += _padded(dtype, shape)
    return found


class Copy:
    """A copy of this process, which answers questions: `answer(**question)` runs there, and both are what JSON can hold.

    It computes with one BLAS thread. It ends with this process, or when nobody holds this object any more.
    """

    def __init__(self, answer: Callable[..., dict]):
        fork = multiprocessing.get_context("fork")
        self.connection, theirs = fork.Pipe()
        self.asked = 0
        self.process = fork.Process(target=_serve, args=(answer, theirs, self.connection), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns where other threads run: OpenBLAS stops its own around a fork, and `threads` forgets ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def ask(self, **question: Any) -> None:
        """Send a question. `wait` has the answer; if nobody waits, the next question takes its place."""
        self.asked += 1
        with uninterrupted(), suppress(OSError):  # if it has ended, `wait` says so
            self.connection.send_bytes(json.dumps([self.asked, question]).encode())

    def wait(self) -> dict[str, Any]:
        """The answer. Raises what `answer` raised, and RuntimeError if the copy has ended."""
        number, found = 0, {}
        while number != self.asked:
            self.connection.poll(None)  # until there is an answer, or Ctrl-C
            try:
                with uninterrupted():
                    number, found = json.loads(self.connection.recv_bytes())
            except (EOFError, OSError):
                self.process.join()
                raise RuntimeError(
                    f"the second process has ended, with exit code {self.process.exitcode}; -9 means that the memory was used up"
                ) from None
        if "error" in found:
            raise _as_raised(**found)
        return found


def _serve(answer: Callable[..., dict], connection: Connection, other_end: Connection) -> None:
    """What a copy does until the other end is closed."""
    other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the first process, which then ends this one
    threads.stay_single()
    while True:
        try:
            number, question = json.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            found = answer(**question)
        except Exception as error:
            found = {"error": type(error).__name__, "message": str(error), "where": traceback.format_exc()}
        connection.send_bytes(json.dumps([number, found]).encode())


def _as_raised(error: str, message: str, where: str) -> Exception:
    try:
        made = getattr(builtins, error)(message)
    except (AttributeError, TypeError):  # an exception of the user's own, or one that takes more than a message
        made = RuntimeError(f"{error}: {message}")
    made.add_note(f"In the second process:\n{where}")
    return made
