"""A mutant, how it is tried, and the table of what became of all."""

import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from tinygrad_notes import threads

LIMIT = 40  # seconds of this process; a mutant that never ends is killed too


@dataclass
class Mutant:
    """One wrong change. Inside `install()` the code is wrong; after it, right again."""

    family: str
    item: Any  # what is mutated: an op, a function; of a rule that several ops share, the first of them
    mutator: str
    where: str
    install: Callable[[], AbstractContextManager]
    shared: tuple = ()  # all ops that a change of one source changes
    seen: set[str] = field(default_factory=set)  # "ran" and "changed", where the mutant tells what it did

    @property
    def applies(self) -> bool:
        """Not if it ran and there never was anything to change: no second axis to transpose, no float32 to widen."""
        return self.seen != {"ran"}

    @property
    def label(self) -> str:
        return getattr(self.item, "label", None) or self.item.__qualname__

    def __str__(self) -> str:
        file = getattr(self.item, "__module__", "").rpartition(".")[2] if isinstance(self.item, FunctionType) else ""
        return f"{self.family}: {file and file + '.'}{self.label}: {self.mutator}: {self.where}"


class Endless(BaseException):
    """A mutant took longer than LIMIT."""


def killed_by(mutant: Mutant, kill: Callable[[], Any]) -> str | None:
    """What `kill` raised while the mutant was installed, or None: it survived."""

    def stop(*_):
        raise Endless

    interrupt = signal.getsignal(signal.SIGINT)  # a mutant may leave another handler behind
    alarm = hasattr(signal, "SIGPROF")
    previous = signal.signal(signal.SIGPROF, stop) if alarm else None
    if alarm:
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        with mutant.install():
            kill()
    except (Exception, Endless) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
    finally:
        signal.signal(signal.SIGINT, interrupt)
        if alarm:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)
    return None


def killed_apart(mutant: Mutant, kill: Callable[[], Any]) -> str | None:
    """killed_by in a copy of this process: a mutant may write outside of its memory, or wait for ever."""
    if not hasattr(os, "fork"):
        return killed_by(mutant, kill)
    threads._worker.cache_clear()  # the copy has one thread only
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            why = killed_by(mutant, kill)
            os.write(write, (why or "survived").encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], 10 * LIMIT)  # the machine may be busy
        said = os.read(read, 4096).decode(errors="replace") if ready else ""
    finally:
        os.close(read)
        if not said_in_time(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return None if said == "survived" else said or "the process died, or never ended"


def said_in_time(child: int) -> bool:
    """Whether the process ended by itself, after what it had to say."""
    for _ in range(100):
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.01)
    return False


def table(killed: Counter, total: Counter) -> str:
    """killed / total by family and mutator, as text."""
    rows = [f"{'family':<10} {'mutator':<38} {'killed':>7} {'total':>7}"]
    for family in sorted({family for family, _ in total}):
        for key in sorted(key for key in total if key[0] == family):
            rows.append(f"{key[0]:<10} {key[1]:<38} {killed[key]:>7} {total[key]:>7}")
        mine = [key for key in total if key[0] == family]
        rows.append(f"{family:<10} {'all':<38} {sum(killed[k] for k in mine):>7} {sum(total[k] for k in mine):>7}")
    rows.append(f"{'all':<49} {sum(killed.values()):>7} {sum(total.values()):>7}")
    return "\n".join(rows)
