"""The calls of NumPy that a computation makes, written down, to be made again without the Python around them.

recorder = Recorder()
with recorder:
    y = f(recorder.read(x))
program, (y,) = recorder.program([y])
x[...] = other
program.run()                         # y again, from the other x
"""

from tinygrad_notes.recording.arrays import Recorded, plain, whole
from tinygrad_notes.recording.draws import RecordedGenerator
from tinygrad_notes.recording.program import Diverged, Program, Source
from tinygrad_notes.recording.recorder import Recorder

__all__ = ["Diverged", "Program", "Recorded", "RecordedGenerator", "Recorder", "Source", "plain", "whole"]
