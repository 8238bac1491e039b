"""Work on several threads at once, each with one BLAS thread: NumPy leaves the interpreter to others while it computes.

Two threads that each run whole pieces of a job keep two cores busier than one thread whose matrix products use
both, because all that is not a product then has two cores as well. BLAS has to be told, by threadpoolctl (the extra
"fast"); without it, where BLAS has one thread already, and inside a piece that has a thread of its own, everything runs one
after the other. Two threads, on any machine: more cores serve only what is left to BLAS, the linear maps.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any

LARGE = 2**26  # multiply-adds: below some 0.6 ms of work, waking a thread costs more than it brings

_one_at_a_time = threading.Lock()  # the number of BLAS threads belongs to the process
_inside: ContextVar[bool] = ContextVar("inside", default=False)
_held: list[tuple[Any, int]] = []  # while BLAS is held to one thread: its libraries, and how many each had


@cache
def blas_pools() -> Any:
    """threadpoolctl's view of the BLAS libraries that are loaded; without it, a sentence that says how to get it."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return 'threadpoolctl is missing: pip install "tinygrad_notes[fast]"'
    return ThreadpoolController()


def _blas() -> list:
    """Each BLAS library: NumPy and SciPy have one of their own."""
    return [library for library in blas_pools().lib_controllers if library.user_api == "blas"]


@cache
def _worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "tinygrad_notes")


def _forget() -> None:
    """In a child process: the threads of its parent are not there; a lock that one of them held would stay shut, and BLAS held to one thread."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()
    _give_back()
    _worker.cache_clear()
    _inside.set(False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _loadavg() -> int:
    """An open file: the system writes it anew for whoever reads."""
    return os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)


def _running() -> int:
    """How many threads of the whole system run, or could, at this moment, this one among them."""
    return int(os.pread(_loadavg(), 64, 0).split()[3].partition(b"/")[0])


def _halves() -> tuple[set[int], set[int]] | None:
    """The cores that this thread may use, in two halves; None where the system does not tell, or others want them too."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    mine = sorted(os.sched_getaffinity(0))
    with suppress(OSError):
        if _running() <= len(mine):
            return set(mine[: len(mine) // 2]), set(mine[len(mine) // 2 :])
    return None


def _keep_to(cores: set[int]) -> None:
    """Keep this thread to some cores, where the system lets it: a container may forbid it, and nothing depends on it but time."""
    with suppress(OSError):
        os.sched_setaffinity(0, cores)


@contextmanager
def one_blas_thread():
    """Yields whether there is a second core to be had, with BLAS held to one thread if so."""
    if _inside.get() or cores() < 2 or not _one_at_a_time.acquire(blocking=False):
        yield False
        return
    token = _inside.set(True)
    try:
        _give_back()  # what a Ctrl-C kept from it the last time
        if two := _blas_is_threaded():
            _hold()
        try:
            yield two
        finally:
            _give_back()
    finally:
        _inside.reset(token)
        _one_at_a_time.release()


@contextmanager
def alone():
    """Inside, everything runs one after the other, and BLAS as it is."""
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


def _hold() -> None:
    """BLAS to one thread. What it had is known before it is changed, so that a Ctrl-C in between loses nothing."""
    global _held
    _held = [(library, library.num_threads) for library in _blas()]
    for library, _ in _held:
        library.set_num_threads(1)


def _give_back() -> None:
    global _held
    for library, threads in _held:
        library.set_num_threads(threads)
    _held = []


def stay_single() -> None:
    """From now on one thread, for BLAS too: this process is one of two that share the cores."""
    _inside.set(True)
    for library in _blas():
        library.set_num_threads(1)


def _blas_is_threaded() -> bool:
    """Whether BLAS can be told, and may use more than one thread: whoever allows it one (OPENBLAS_NUM_THREADS=1) wants no second one from us."""
    return not isinstance(blas_pools(), str) and any(library.num_threads > 1 for library in _blas())


def both(first: Callable, second: Callable) -> tuple[Any, Any]:
    """(first(), second()), at the same time where that is possible. The second sees a copy of the caller's context.

    Each has half of the cores to itself. Left alone, a system may well run both threads on one core, since they wake
    each other whenever one leaves the interpreter: a step then takes half as long again. On a busy machine they are free
    to run wherever there is room.
    """
    with one_blas_thread() as two:
        if not two:
            return first(), second()
        halves = _halves()
        try:
            pending = _worker().submit(copy_context().run, _in_half, halves, 1, second)
        except RuntimeError:  # the interpreter is ending, and starts no thread any more
            return first(), second()
        try:
            mine = _in_half(halves, 0, first)
        finally:
            _wait(pending)  # whatever happened here
        return mine, pending.result()


def _wait(pending: Future) -> None:
    """Until it is done: a Ctrl-C meanwhile is raised after that."""
    try:
        pending.exception()
    except BaseException:
        _wait(pending)
        raise


def _in_half(halves: tuple[set[int], set[int]] | None, i: int, work: Callable) -> Any:
    if not halves:
        return work()
    _keep_to(halves[i])
    try:
        return work()
    finally:
        _keep_to(halves[0] | halves[1])


def share(n: int, most: int, work: Callable[[slice], Any], size: int) -> list:
    """for_each with slices that cover 0..n-1, of at most `most`; where two threads share them, an even number."""
    if size < LARGE and 0 < n <= most:  # most of all calls are small
        return [work(slice(0, n))]
    count = -(-n // max(1, most))
    if size >= LARGE and n > 1:
        count += count % 2
    bounds = [n * i // count for i in range(count + 1)] if count else []
    return for_each([slice(a, b) for a, b in zip(bounds, bounds[1:]) if a < b], work, size)


def for_each(parts: Sequence, work: Callable, size: int) -> list:
    """[work(part) for part in parts], on two threads where `size`, the multiply-adds of all of them, is large."""
    parts = list(parts)
    if len(parts) < 2 or size < LARGE:
        return [work(part) for part in parts]
    results: list = [None] * len(parts)
    queue = iter(range(len(parts)))  # whoever is free takes the next one; next() is atomic under the interpreter's lock

    def take() -> None:
        for i in queue:
            results[i] = work(parts[i])

    both(take, take)
    return results
