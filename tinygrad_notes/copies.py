"""A copy of this process that computes beside it: two interpreters, so that neither waits for the other's lock.

fork makes the copy. It has the model, the functions and everything else as they are at that moment; what changes later it does
not see. Arrays go to it and come back in memory that both share, what describes them through pipes, as JSON.
"""

import builtins
import json
import math
import mmap
import multiprocessing
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from weakref import finalize

from tinygrad_notes import threads

import numpy as np

LINE = 64  # bytes of the cache that are read together: each array begins with one
LONGEST = 2**16  # bytes that a pipe holds
LOOK_FOR_ANSWER = 0.002  # seconds, before falling asleep: to be woken takes a tenth of that
LOOK_FOR_QUESTION = 0.0003  # seconds: an optimizer's step of a small model; that of a large one wants the core
Layout = Sequence[tuple[str, Sequence[int]]]  # dtype and shape of each array


def possible() -> bool:
    """Whether this process can be copied. macOS has fork, too, but its libraries do not survive it; a daemon, such as a worker
    of multiprocessing.Pool, may have no processes of its own."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def shared_array(size: int, dtype: Any) -> np.ndarray:
    """Zeros, one axis, in memory that copies of this process which are made later share with it."""
    dtype = np.dtype(dtype)
    return np.ndarray(size, dtype, mmap.mmap(-1, max(1, size * dtype.itemsize)))


def is_shared(array: np.ndarray) -> bool:
    """Whether the array lies in a shared_array."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def layout(arrays: Iterable[np.ndarray]) -> Layout:
    return [(a.dtype.str, a.shape) for a in arrays]


def room(layout: Layout) -> int:
    """The bytes that such arrays take, one after the other."""
    return sum(_lines(dtype, shape) for dtype, shape in layout)


def _lines(dtype: str, shape: Sequence[int]) -> int:
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // LINE) * LINE


def arrays_in(memory: np.ndarray, layout: Layout) -> list[np.ndarray]:
    """Views of `memory`, an array of bytes, as arrays of this layout."""
    found, start = [], 0
    for dtype, shape in layout:
        found.append(np.ndarray(shape, dtype, memory.data, start))
        start += _lines(dtype, shape)
    return found


def shared_arrays(layout: Layout) -> list[np.ndarray]:
    return arrays_in(shared_array(room(layout), np.uint8), layout)


class Copy:
    """A copy of this process, which answers questions: `answer(**question)` runs there, and both are what JSON can hold.

    It computes with one BLAS thread. It ends with this process, or when nobody holds this object any more. A question that was
    interrupted, or whose answer nobody waited for, is forgotten with the next one.
    """

    def __init__(self, answer: Callable[..., dict]):
        self.asked = 0
        questions, self.questions = os.pipe()
        self.answers, answers = os.pipe()
        theirs, ours = (questions, answers), (self.questions, self.answers)
        self.process = multiprocessing.get_context("fork").Process(target=_serve, args=(answer, *theirs, ours, os.getpid()), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns where other threads run: OpenBLAS stops its own around a fork, and `threads` forgets ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                self.process.start()
            except BaseException:
                _close(ours)
                raise
            finally:
                _close(theirs)
        self.arrived = _poll(self.answers)
        finalize(self, _end, self.process, ours, os.getpid())

    def ask(self, **question: Any) -> None:
        """Send a question; `wait` has the answer."""
        self.asked += 1
        with suppress(BrokenPipeError):  # if it has ended, `wait` says so
            os.write(self.questions, _line(self.asked, question))

    def wait(self) -> dict[str, Any]:
        """The answer. Raises what `answer` raised (a RuntimeError with its name if it is none of Python's own), and RuntimeError
        if the copy has ended."""
        number, found = 0, {}
        while number != self.asked:
            self._until_arrived()
            lines = _lines_of(self.answers)  # of which the last counts
            if not lines:
                self.process.join()
                code = self.process.exitcode
                raise RuntimeError(
                    f"the second process has ended, with exit code {code} (-9: killed, as happens where memory is used up); the next step makes another"
                )
            number, found = json.loads(lines[-1])
        if "error" in found:
            raise _as_raised(**found)
        return found

    def _until_arrived(self) -> None:
        """Ctrl-C is raised meanwhile."""
        if not _look(self.arrived, LOOK_FOR_ANSWER):
            self.arrived.poll()


def _look(arrived: Any, seconds: float) -> bool:
    """Whether something arrives in so many seconds, awake meanwhile."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if arrived.poll(0):
            return True
    return False


def _line(number: int, content: dict) -> bytes:
    """A message. The system writes up to PIPE_BUF bytes (4096) as a whole or not at all, so that Ctrl-C leaves no half of one behind."""
    line = json.dumps([number, content]).encode()
    if "error" in content and len(line) >= select.PIPE_BUF:
        line = json.dumps([number, content | {"message": content["message"][:200], "where": content["where"][-200:]}]).encode()
    return line + b"\n"


def _lines_of(end: int) -> list[bytes]:
    """The messages that have arrived, at least one; none if nobody can send any more."""
    found = part = os.read(end, LONGEST)
    while part and not found.endswith(b"\n"):  # only of one that fills the pipe
        part = os.read(end, LONGEST)
        found += part
    return found.splitlines() if part else []


def _poll(end: int) -> Any:
    """Of which `poll` tells whether there is something to read."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return poll


def _close(ends: Iterable[int]) -> None:
    for end in ends:
        os.close(end)


def _end(process: Any, ends: Iterable[int], owner: int) -> None:
    _close(ends)
    if os.getpid() == owner:  # a later copy inherits this object, but not the process
        process.kill()
        process.join()


def _serve(answer: Callable[..., dict], questions: int, answers: int, other_ends: Iterable[int], owner: int) -> None:
    """What a copy does until the other ends are closed."""
    _close(other_ends)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the first process, which then ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what the program does before it ends, such as saving, is done there
    threads.stay_single()
    with suppress(BrokenPipeError):  # nobody is there any more
        for number, question in _asked(questions, owner):
            try:
                found = answer(**question)
            except Exception as error:
                text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)  # a KeyError would be in quotes
                found = {"error": type(error).__name__, "message": text, "where": traceback.format_exc()}
            os.write(answers, _line(number, found))


def _asked(questions: int, owner: int) -> Iterator[list]:
    """(number, question), of several that have arrived the last, while the process that asks is there: another copy of it may keep the pipe open."""
    arrived = _poll(questions)
    while True:
        if not _look(arrived, LOOK_FOR_QUESTION):
            while not arrived.poll(1000):  # milliseconds
                if os.getppid() != owner:
                    return
        if not (lines := _lines_of(questions)):
            return
        yield json.loads(lines[-1])


def _as_raised(error: str, message: str, where: str) -> Exception:
    try:
        made = getattr(builtins, error)(message)
    except (AttributeError, TypeError):  # an exception of the user's own, or one that takes more than a message
        made = RuntimeError(f"{error}: {message}")
    made.add_note(f"In the second process:\n{where}")
    return made
