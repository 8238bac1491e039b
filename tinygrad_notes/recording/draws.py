"""Random numbers in a recorded computation: drawn anew each time, from whichever Generator comes then."""

from collections.abc import Callable
from typing import Any

from tinygrad_notes.recording.arrays import not_recorded, plain
from tinygrad_notes.recording.program import Source, State, draw_in_place, draw_into, restore_state, save_state

import numpy as np


class RecordedGenerator(np.random.Generator):
    """A Generator whose draws are recorded: the program draws from the Generator that lies in `source` by then."""

    def __init__(self, recorder: Any, source: Source):
        super().__init__(source.rng.bit_generator)
        self.recorder, self.source = recorder, source

    @property
    def bit_generator(self):
        return RecordedState(self.recorder, self.source)

    def __reduce__(self):
        raise not_recorded("a Generator is copied")


class RecordedState:
    """What a Generator's bit_generator is asked for: its state, to draw the same numbers again."""

    def __init__(self, recorder: Any, source: Source):
        self.recorder, self.source = recorder, source

    @property
    def state(self):
        state = State()
        save_state(self.source, state)
        self.recorder.add(save_state, self.source, state)
        return state

    @state.setter
    def state(self, state):
        if not isinstance(state, State):
            raise not_recorded("a Generator gets a state from outside")
        restore_state(self.source, state)
        self.recorder.add(restore_state, self.source, state)

    def __getattr__(self, name):
        raise not_recorded(f"a Generator's bit_generator is asked for its {name}")


def _drawn(name: str) -> Callable:
    def method(self, *args, **kwargs):
        """As a Generator's, and noted; TypeError for bytes, spawned generators and lists."""
        recorder, came = self.recorder, kwargs
        args, kwargs = recorder.plain((args, kwargs))
        changed = args[0] if name == "shuffle" else kwargs.get("out")
        if name in ("bytes", "spawn") or not isinstance(changed, np.ndarray | None):
            raise not_recorded(f"rng.{name} gives or changes what is no array")
        if changed is not None:
            recorder.own_memory(changed)
            draw_in_place(self.source, name, args, kwargs)
            recorder.add(draw_in_place, self.source, name, args, kwargs, writes=[changed])
            return came.get("out")
        out = recorder.made(getattr(self.source.rng, name)(*args, **kwargs))
        recorder.add(draw_into, plain(out), self.source, name, args, kwargs, writes=[out])
        return out

    return method


for _name in dir(np.random.Generator):
    if not _name.startswith("_") and _name != "bit_generator":
        setattr(RecordedGenerator, _name, _drawn(_name))
