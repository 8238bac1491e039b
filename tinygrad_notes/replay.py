"""A training step without the Python in it: recorded once, then only its calls of NumPy are made again.

Small models spend most of their time between the calls of NumPy: on Tensors, nodes, the walk, shapes and arguments, all of
which come out the same in every step. What PyTorch does by CUDA graphs, and JAX by compiling, takes a few lines on arrays:
run the step once on arrays that write down what happens to them (see recording/), and repeat what is written.
"""

import copy
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygrad_notes import core, threads
from tinygrad_notes.binding import check_value, describe, map_leaves
from tinygrad_notes.core import gradients
from tinygrad_notes.functional.define import no_generator
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.optim.inbox import Inbox
from tinygrad_notes.optim.optimizer import Optimizer
from tinygrad_notes.recording import Diverged, RecordedGenerator, Recorder, Source
from tinygrad_notes.registry import using_reference
from tinygrad_notes.tensor import Tensor

import numpy as np

WAYS = 4  # recordings of one step, for the ways that Python may take through it
SHAPES = 16  # of batches, whose recordings are kept


def replay(loss: Callable, params: Any, optimizer: Any = None, *, unused: str = "zeros", check: bool = True) -> Callable:
    """A step of training that repeats the calls of NumPy which an earlier one made.

        step = replay(lambda ids, targets, rng=None: gpt.loss(model, ids, targets, rng), params, optimizer)
        value = step(ids, targets, rng=rng, lr=1e-3)     # forward, backward, and optimizer.step(gradients, lr)

        step = replay(loss, params)
        value, grads = step(ids, targets, rng=rng)       # forward and backward

    loss(*batch) or loss(*batch, rng=rng) -> one number, here a float; params, unused: as for `gradients`; optimizer: one of these params,
    whose gradients need no other treatment (to clip them, use the second form). The first call with arrays of these shapes and dtypes runs
    the loss as it stands, the second one records it, later ones repeat the calls. Numbers, texts and None in a batch count as shapes: a number
    that is another one in each step belongs into an array. The last 16 shapes are kept, with all memory of their steps.

    Repeated is what NumPy's functions and operators compute from the batch, the params and draws of rng. Where an array decides which way
    Python goes (`if mask.any():`), and it goes another way now, the step is recorded again, for up to four ways; a fifth runs as it stands. So
    does everything inside reference() and while something of `check` watches. Python is not repeated: settings, counters and arrays
    from elsewhere are those of the recording, and what shall change belongs into the batch. Nor are statistics kept, threads used for parts of the
    loss, or NumPy's warnings given, after the first two calls. Kernels run on one thread, with BLAS on all: for steps below some ten milliseconds
    (docs/performance.md).

    Raises TypeError in its second call for what cannot be repeated: a number read out of an array (float, int, item), or a change of an
    array from outside. ValueError if a step differs from the loss as it stands, in value or gradients. Compared are the recorded step, its
    repetitions 1, 2, 4, 8 and so on, and the first with another value for a member of the batch. In between nobody sees `table[i]` of an array
    from outside (write np.take(table, i, axis=0)), such an array that is filled (`running[...] = x`), or what reads memory without NumPy
    (memoryview, str). check=False spares the comparisons, for a loss that has passed them.
    """
    leaves = checked("replay", loss, params)
    inbox = None if optimizer is None else inbox_of(optimizer, leaves)

    def tape(batch, rng):
        value = loss(*batch, **({} if rng is None else {"rng": rng}))
        grads = gradients(value, params, unused=unused)
        return Taped(value.value, grads)

    repeated = Repeated(tape, leaves, check, None if inbox is None else inbox.places)
    one_at_a_time = threading.Lock()

    def step(*batch, rng: np.random.Generator | None = None, lr: float | None = None, **others):
        """As described for `replay`."""
        if others:
            raise TypeError(f"replay: {', '.join(others)} came by name; pass the batch by position: step(x, y, rng=rng, lr=lr)")
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise no_generator("replay", rng, ", or None")
        if lr is not None and optimizer is None:
            raise TypeError("replay: lr is for an optimizer, and there is none; pass replay(loss, params, optimizer)")
        batch = tuple([as_array(x) if isinstance(x, list | np.generic | np.memmap) else x for x in batch])
        with one_at_a_time:
            value, grads, _, again = repeated.run(batch, rng)
            number = float(value.item())
            if inbox is None:
                return number, map_leaves(np.ndarray.copy, grads) if again else grads  # the next step writes where these lie
            if again:
                inbox.step(lr)
            else:
                inbox.optimizer.step(grads, lr)
            return number

    return step


def checked(name: str, loss: Any, params: Any) -> list[Tensor]:
    """The Tensors in params."""
    if not callable(loss):
        raise TypeError(f"{name}: loss is {describe(loss)}, expected a function of the batch, such as lambda x, y: F.mse(model(x), y)")
    found = members(params)
    for t in found:
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: params has {describe(t)}, expected Tensors; for those of a model pass tn.parameters(model)")
    return found


def inbox_of(optimizer: Any, leaves: list) -> Inbox:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"replay: optimizer is {describe(optimizer)}, expected one of tinygrad_notes.optim")
    if type(optimizer).step is not Optimizer.step:
        raise TypeError(
            f"replay: {type(optimizer).__name__} has a step of its own, which would be passed over; use replay(loss, params), and call it"
        )
    if [id(t) for t in optimizer.leaves.values()] != [id(t) for t in leaves]:
        raise ValueError("replay: the optimizer has other params than these, or in another order; give both the same ones")
    return Inbox(optimizer)


def as_array(x: Any) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(
            f"replay: the batch has {describe(x)} with members of several lengths; make them equally long, and an array"
        ) from None


def shape_of(x: Any) -> Any:
    """What a recording depends on, of a member of a batch."""
    if type(x) is np.ndarray and not x.dtype.hasobject:
        return x.shape, x.dtype
    if isinstance(x, np.random.Generator):
        raise TypeError("replay: a Generator came as a member of the batch; pass it as rng=")
    if not isinstance(x, str | int | float | None):
        raise TypeError(
            f"replay: the batch has {describe(x)}, expected arrays, numbers, texts or None; pass the members of a structure one by one"
        )
    return type(x), repr(x)  # 0.0 is not -0.0, and nan is nan


class Taped(NamedTuple):
    """What a tape gives."""

    loss: np.ndarray  # one number
    grads: Any
    means: Sequence = ()  # of the loss, what each divides by
    again: bool = False  # whether the next run writes into these arrays


Tape = Callable[[Sequence, np.random.Generator | None], Taped]
Places = Callable[[Any], Sequence[np.ndarray | None]]  # for gradients, where each shall lie


class Repeated:
    """A tape, recorded for each shape of batch in the second run, and then repeated. One run at a time."""

    def __init__(self, tape: Tape, leaves: list, check: bool, places: Places | None = None):
        self.tape, self.leaves, self.check, self.places = tape, leaves, check, places
        self.steps: dict[Any, Step] = {}

    def run(self, batch: Sequence, rng: np.random.Generator | None) -> Taped:
        """tape(batch, rng), or its repetition."""
        if core.observer is not None or using_reference.get():
            return self.tape(batch, rng)
        key = (rng is None, *map(shape_of, batch))
        if key not in self.steps:
            result = self.tape(batch, rng)
            if len(self.steps) == SHAPES:
                del self.steps[next(iter(self.steps))]  # the one that was used longest ago
            self.steps[key] = Step(self)
            return result
        self.steps[key] = self.steps.pop(key)
        recording = self.steps[key].run(batch, rng)
        return self.tape(batch, rng) if recording is None else recording.result


class Step:
    """The recordings of a tape for batches of one shape."""

    def __init__(self, of: Repeated):
        self.of = of
        self.recordings: list[Recording] = []  # the one that was right last stands first

    def run(self, batch: Sequence, rng: np.random.Generator | None) -> "Recording | None":
        """The recording that holds the loss and gradients of this batch; None if Python goes a way that none was made for, and there are enough."""
        if self.recordings and not self.recordings[0].in_place(self.of.leaves):
            self.recordings.clear()
        state = rng.bit_generator.state if rng is not None and self.recordings else None
        for i, recording in enumerate(self.recordings):
            due = self.of.check and recording.is_due(batch)
            other = copy.deepcopy(rng) if due else None  # draws the same numbers
            try:
                recording.run(batch, rng)
            except Diverged:
                if rng is not None and state is not None:
                    rng.bit_generator.state = state
                continue
            recording.repetitions += 1
            if due:
                self.compare(recording, other)
                recording.compared(batch)
            if i:
                self.recordings.insert(0, self.recordings.pop(i))
            return recording
        if len(self.recordings) == WAYS:
            return None
        other = copy.deepcopy(rng)
        self.recordings.insert(0, Recording(self.of, batch, rng))
        if self.of.check:
            self.compare(self.recordings[0], other)
        return self.recordings[0]

    def compare(self, recording: "Recording", rng: np.random.Generator | None) -> None:
        """ValueError if a step differs by more than rounding from the tape: the calls are the same, but BLAS may add up in another order elsewhere in memory."""
        found, expected = ([t.loss, *members(t.grads)] for t in (recording.result, self.of.tape(recording.batch, rng)))
        sizes = [np.max(np.abs(y), initial=0.0, where=np.isfinite(y)) for y in expected]
        # A value or gradient near zero is one of rounding noise, of the size that rounded params bring.
        floors = [1e-2 * sum(size * np.max(np.abs(p), initial=0.0) for size, p in zip(sizes[1:], recording.memory))]
        floors += [1e-3 * max(sizes[1:], default=0.0)] * (len(sizes) - 1)
        tolerance = 1e-9 if min(y.dtype.itemsize for y in expected) >= 8 else 1e-4
        for i, (x, y, size) in enumerate(zip(found, expected, map(max, sizes, floors))):
            finite = np.isfinite(y)
            same = np.array_equal(x[~finite], y[~finite], equal_nan=True)
            if not (same and np.max(np.abs(x[finite] - y[finite]), initial=0.0) <= tolerance * size):
                self.recordings.clear()
                what = (
                    "has other gradients than the loss as it stands"
                    if i
                    else f"gives {x.item():.6g}, but the loss as it stands {y.item():.6g}"
                )
                raise ValueError(
                    f"replay: the repeated step {what}: something besides NumPy's functions of the batch and the params goes into it, such as a counter (make it a member of the batch) or table[i], i from the batch (write np.take(table, i, axis=0))"
                )


class Recording:
    """A step's calls, and where they read and write."""

    def __init__(self, of: Repeated, batch: Sequence, rng: np.random.Generator | None):
        for t in of.leaves:
            check_value("replay: a parameter", t)
        self.batch = [x.copy("K") if isinstance(x, np.ndarray) else x for x in batch]
        self.source = Source(rng)
        recorder = Recorder()
        # In this order: while another thread records, these values are not its own ones, and Ctrl-C is not kept waiting.
        with threads.alone(), recorder, uninterrupted():
            self.memory = [t.value for t in of.leaves]
            try:
                for t, value in zip(of.leaves, self.memory):
                    t.value = recorder.read(value, shared=True)
                inputs = [recorder.read(x) if isinstance(x, np.ndarray) else x for x in self.batch]
                taped = of.tape(inputs, None if rng is None else RecordedGenerator(recorder, self.source))
            finally:
                for t, memory in zip(of.leaves, self.memory):
                    t.value = memory
        grads, means = members(taped.grads), [n for n in taped.means if isinstance(n, np.ndarray)]
        places = [None] * len(grads) if of.places is None else of.places(taped.grads)
        self.program, found = recorder.program([taped.loss, *grads, *means], [None, *places, *[None] * len(means)])
        rest = iter(found)
        loss, grads = next(rest), map_leaves(lambda g: next(rest), taped.grads)
        self.result = Taped(loss, grads, [next(rest) if isinstance(n, np.ndarray) else n for n in taped.means], again=True)
        self.unseen = {i: x.tobytes() for i, x in enumerate(self.batch) if isinstance(x, np.ndarray)}  # members that had no other value yet
        self.repetitions = 0

    def in_place(self, leaves: list) -> bool:
        """Whether the params are the arrays that the calls read."""
        return all(map(operator.is_, [t.value for t in leaves], self.memory))

    def is_due(self, batch: Sequence) -> bool:
        """Whether the next repetition shall be compared: the first, second, fourth, eighth and so on, and one with something new in its batch."""
        n = self.repetitions + 1
        return n & (n - 1) == 0 or bool(self.new(batch))

    def compared(self, batch: Sequence) -> None:
        for i in self.new(batch):
            del self.unseen[i]

    def new(self, batch: Sequence) -> list[int]:
        """Which members have another value than in the recorded step, and had not in any step that was compared."""
        return [i for i, old in self.unseen.items() if batch[i].tobytes() != old]

    def run(self, batch: Sequence, rng: np.random.Generator | None) -> None:
        for mine, x in zip(self.batch, batch):
            if isinstance(x, np.ndarray):
                np.copyto(mine, x)
        self.source.rng = rng
        self.program.run()


def members(structure: Any) -> list:
    found: list = []
    map_leaves(found.append, structure)
    return found
