"""Random numbers in a recorded computation: drawn anew each time, from whichever Generator comes then."""

from collections.abc import Callable
from typing import Any

from tinygrad_notes.recording.arrays import not_recorded, plain
from tinygrad_notes.recording.program import draw_into

import numpy as np


class Source:
    """Where a program finds the Generator to draw from."""

    def __init__(self, rng: np.random.Generator | None):
        self.rng = rng


class RecordedGenerator(np.random.Generator):
    """A Generator whose draws are recorded: the program draws from the one that its source has by then."""

    def __init__(self, recorder: Any, source: Any):
        super().__init__(source.rng.bit_generator)
        self.recorder, self.source = recorder, source


def _drawn(name: str) -> Callable:
    def method(self, *args, **kwargs):
        if name in ("bytes", "shuffle", "spawn") or kwargs.get("out") is not None:
            raise not_recorded(f"rng.{name} fills an array that exists, or draws none")
        args, kwargs = self.recorder.plain((args, kwargs))
        out = self.recorder.made(getattr(np.random.Generator, name)(self, *args, **kwargs))
        self.recorder.add(draw_into, plain(out), self.source, name, args, kwargs, writes=[out])
        return out

    return method


for _name in dir(np.random.Generator):
    if not _name.startswith("_") and _name != "bit_generator":
        setattr(RecordedGenerator, _name, _drawn(_name))
