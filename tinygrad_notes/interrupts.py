"""Ctrl-C, kept waiting while something is written in place."""

import signal
import threading
from functools import cache
from typing import Any

# The C function, where it is to be had: to make its result an enum, signal.signal takes ten times as long.
set_handler: Any = getattr(signal, "_signal", signal).signal


@cache
def _python_handles_ctrl_c() -> bool:
    """Whether Python set the handler of Ctrl-C: only such a one can be put back. A program that embeds Python may have its own."""
    return signal.getsignal(signal.SIGINT) is not None


class uninterrupted:
    """Ctrl-C waits until the block ends, so that what is written in place is written wholly or not at all.

    Only the main thread receives Ctrl-C in Python, so in other threads there is nothing to do.
    """

    def __enter__(self) -> None:
        self.pending: list[int] = []
        self.previous: Any = None
        if threading.current_thread() is threading.main_thread() and _python_handles_ctrl_c():
            self.previous = set_handler(signal.SIGINT, lambda number, frame: self.pending.append(number))

    def __exit__(self, *error: Any) -> None:
        if self.previous is not None:
            set_handler(signal.SIGINT, self.previous)
            if self.pending:
                signal.raise_signal(signal.SIGINT)
