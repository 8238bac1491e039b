"""A batch in two halves, each with a tape of its own, at the same time: on two threads (see threads.py), or in two
processes (see copies.py).

It pays for steps above some ten milliseconds; docs/performance.md has the numbers.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinygrad_notes import copies, core, threads, tree
from tinygrad_notes.binding import check_value, describe, map_leaves
from tinygrad_notes.core import Leaf, gradients
from tinygrad_notes.functional.define import no_generator
from tinygrad_notes.functional.losses import divisors
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.registry import using_reference
from tinygrad_notes.replay import Repeated, Tape, Taped, checked, members
from tinygrad_notes.tensor import Tensor
from tinygrad_notes.transforms import stop_gradient

import numpy as np


def data_parallel(
    loss: Callable, params: Any, *, unused: str = "zeros", processes: bool = False, replay: bool = False, check: bool = True
) -> Callable:
    """The function of a batch that returns (loss as a float, gradients), each half of the batch on a thread of its own.

        step = data_parallel(lambda ids, targets, rng=None: gpt.loss(model, ids, targets, rng), params)
        value, grads = step(ids, targets, rng=rng)

    loss(*arrays) or loss(*arrays, rng=rng) -> one number, a mean over the examples of the batch; the arrays are cut
    along their first axis. The halves are weighted by the number of targets that their means divide by, so that ignored
    targets count for nothing; a loss that takes no mean of ours is weighted by its number of examples. rng: each half gets a
    Generator of its own, seeded from it. params, unused: as for `gradients`.

    processes: the second half in a process of its own, because two threads wait for each other whenever both run Python. The process
    is a copy of this one (fork; on Linux and not in a daemon, elsewhere threads do the work), made in the first call, and again for a
    larger batch or after a step that was stopped. It sees the batch, whose lists become arrays, and the values of params, but nothing else
    that changes later, such as weights that are not in params, and what it changes is not seen here: a loss that depends on the number of
    the step or keeps statistics needs threads. Call data_parallel before weights are loaded and before the optimizer is made: then both
    processes use the same memory for the weights, otherwise they are copied in every step. A process that you fork later has this
    memory, too: what it trains is trained here. In such a process, inside reference() and while something of `check` watches, the halves
    come one after the other.

    replay, with processes: each process repeats the calls of NumPy that it made for its half of the second batch of each shape, see `replay`
    for what that asks of the loss, and for the TypeError and ValueError that it raises; its comparisons, in each process with the loss as
    it is there, are made unless check=False. A new process records anew: show the largest batch first. Where the halves come one after the
    other, or on threads, they run as they stand.

    Raises ValueError in its first call if the halves do not add up to the whole, in value or gradients: a loss that couples the
    examples of a batch (contrastive losses, batch normalisation) cannot be cut. For that, this call also runs the whole batch, without rng;
    FloatingPointError if what it finds there is not finite. check=False spares it: a loss so near zero that it is mostly rounding
    would be refused, too. RuntimeError in a step in which the second process ends; the next step makes another.
    Needs threadpoolctl, which keeps BLAS to one thread for each half.
    """
    if isinstance(reason := threads.blas_pools(), str):
        raise ImportError(f"data_parallel needs one BLAS thread for each half; {reason}")
    leaves = checked("data_parallel", loss, params)
    if replay and not processes:
        raise ValueError("data_parallel: replay=True came without processes=True; two threads have one interpreter, so pass both")
    compared = not check

    def half(arrays, rng):
        means: list[Any] = []
        token = divisors.set(means)
        try:
            value = loss(*arrays, **({} if rng is None else {"rng": rng}))
            if np.size(value) != 1 or not hasattr(value, "item"):
                raise TypeError(f"data_parallel: the loss returned {describe(value)}, expected a Tensor with one number")
            return value, means
        finally:
            divisors.reset(token)

    def tape(arrays, rng):
        value, means = half(arrays, rng)
        grads = gradients(value, params, unused=unused)
        return Taped(value.value, grads, means)

    pair = InProcess(tape, leaves, replay, check) if processes and copies.possible() else OnThread(tape)

    def step(*batch, rng: np.random.Generator | None = None, **others):
        nonlocal compared
        if others:
            raise TypeError(
                f"data_parallel: {', '.join(others)} came by name; pass the batch by position, step(x, y, rng=rng), and what the optimizer needs to its step"
            )
        if not isinstance(rng, np.random.Generator | None):
            raise no_generator("data_parallel", rng, ", or None")
        n = _examples(batch)
        if isinstance(pair, InProcess):
            batch = tuple(_plain(a) for a in batch)
        cut = (n + 1) // 2
        parts = [tuple(a[:cut] for a in batch), tuple(a[cut:] for a in batch)] if n > 1 else [batch]
        seeds = [None, None] if rng is None else rng.integers(2**63, size=len(parts)).tolist()
        if n == 1:
            only = tape(batch, generator(seeds[0]))
            _share(only.means, [0.0] * len(only.means), 1, 1)  # raises if nothing counts
            return float(only.loss.item()), only.grads
        if not compared:
            _check(half, params, batch, parts, rng)
            compared = True

        def together(first: Taped, second: Taped):
            share = _share(first.means, second.means, cut, n)
            rest = iter(members(second.grads))

            def add(g):
                # In place, but where the next step writes: `gradients` gives arrays that nobody else has.
                mixed = np.multiply(g, share, out=np.empty_like(g) if first.again else g)
                mixed += next(rest) * (1 - share)
                return mixed

            return share * float(first.loss.item()) + (1 - share) * float(second.loss.item()), map_leaves(add, first.grads)

        return pair.beside(parts, seeds, together)

    return step


class OnThread:
    """Both halves at the same time, the second on a thread. together takes what the tape gives of each."""

    def __init__(self, tape: Tape):
        self.tape = tape

    def beside(self, parts: list[tuple], seeds: Sequence[int | None], together: Callable) -> tuple:
        return together(*threads.both(*[partial(self.tape, part, generator(seed)) for part, seed in zip(parts, seeds, strict=True)]))


class InProcess:
    """Both halves at the same time, the second in a copy of this process."""

    def __init__(self, tape: Tape, params: list[Tensor], replay: bool, check: bool):
        self.tape, self.params, self.owner = tape, params, os.getpid()
        self.replay, self.check = replay, check
        self.first = Repeated(tape, self.params, check).run if replay else tape
        self.leaves = [t for t in self.params if isinstance(t.node, Leaf)]
        # Where nothing else holds the weights yet, both processes shall use the same memory: then nothing is copied in a step.
        tree.own(self.leaves, copies.shared_array)
        self.copy: Any = None
        self.room = -1  # the bytes of a second half that the copy takes: there is none yet

    def beside(self, parts: list[tuple], seeds: Sequence[int | None], together: Callable) -> tuple:
        with threads.one_blas_thread() as two:
            if not (two and self.alike()):
                return together(*[self.tape(part, generator(seed)) for part, seed in zip(parts, seeds, strict=True)])
            layout = copies.layout(parts[1])
            if copies.room(layout) > self.room or any(t.value is not memory for t, memory in self.shared):
                self.start(copies.room(layout))
            for t in self.apart:
                check_value("data_parallel: a parameter", t)
            copy_all([t.value for t in self.apart], self.weights)
            copy_all(parts[1], copies.arrays_in(self.batch, layout))
            room, self.room = self.room, -1  # whatever stops this step may leave the copy at work, or ended: the next step makes another
            self.copy.ask(layout=layout, seed=seeds[1])
            first = self.first(parts[0], generator(seeds[0]))
            answer = self.copy.wait()
            self.room = room
            # Here, where no other thread may ask the copy, for its next gradients will lie where these are.
            return together(first, Taped(np.array(answer["loss"]), self.gradients, answer["means"]))

    def alike(self) -> bool:
        """Whether a copy would do what this process does: it knows nothing of what watches this step, or of a reference() around it.
        And the memory of this object belongs to the process that made it, not to one that was forked from that."""
        return self.owner == os.getpid() and core.observer is None and not using_reference.get()

    def start(self, room: int) -> None:
        """Make the copy, for second halves of batches that take so many bytes."""
        for t in self.params:
            check_value("data_parallel: a parameter", t)
        with uninterrupted():
            self.room, self.copy = -1, None
            self.apart = [t for t in self.leaves if not copies.is_shared(t.value)]
            self.shared = [(t, t.value) for t in self.leaves if copies.is_shared(t.value)]
            self.weights = copies.shared_arrays(copies.layout(t.value for t in self.apart))
            self.gradients = places = copies.shared_arrays(copies.layout(t.value for t in self.params))
            self.batch = copies.shared_array(room, np.uint8)
            self.second = Repeated(self.tape, self.params, self.check, lambda grads: places).run if self.replay else self.tape
            self.copy = copies.Copy(self.answer)
            self.room = room

    def answer(self, layout: copies.Layout, seed: int | None) -> dict[str, Any]:
        """In the copy: weights and batch are there, gradients go into the shared memory, all else is returned."""
        copy_all(self.weights, [t.value for t in self.apart])
        taped = self.second(copies.arrays_in(self.batch, layout), generator(seed))
        if not taped.again:
            copy_all(members(taped.grads), self.gradients)
        return {"loss": float(taped.loss.item()), "means": [float(n) for n in taped.means]}


def generator(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


def _plain(a: Any) -> np.ndarray:
    """As an array. TypeError for what is not made of numbers or letters only, and cannot lie in shared memory."""
    if isinstance(a, Tensor):
        raise TypeError(f"data_parallel: the batch has {describe(a)}, expected an array; pass its t.value")
    try:
        array = np.asarray(a)
    except ValueError:  # lists of several lengths
        array = np.empty(0, object)
    if array.dtype.kind in "OVT" or isinstance(a, np.ma.MaskedArray):
        raise TypeError(f"data_parallel: {describe(a)} came, expected an array of numbers or strings; without processes=True anything goes")
    return array


def copy_all(arrays: Sequence[np.ndarray], to: Sequence[np.ndarray]) -> None:
    for a, b in zip(arrays, to):
        np.copyto(b, a, casting="no")


def _examples(batch: tuple) -> int:
    lengths = {len(a) if isinstance(a, list | tuple) or np.ndim(a) else 0 for a in batch}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"data_parallel: the batch is {', '.join(describe(a) for a in batch) or 'empty'}; expected arrays with one common first axis, the examples"
        )
    return lengths.pop()


def _share(a: Sequence, b: Sequence, cut: int, n: int) -> float:
    """The weight of the first half: the part that it has of what the means divide by."""
    a, b = list(map(float, a)), list(map(float, b))
    if not a and not b:
        return cut / n
    if not all(x + y for x, y in zip(a, b)):
        raise ValueError("data_parallel: no target of the batch counts, so there is no mean; skip this batch")
    shares = [x / (x + y) for x, y in zip(a, b)]
    if len(a) != len(b) or max(shares) - min(shares) > 1e-12:
        raise ValueError(
            f"data_parallel: the loss takes means over {a} and {b} elements in its halves, which no single weight fits; use one mean, or one tape"
        )
    return shares[0]


def _check(half: Callable, params: Any, batch: tuple, parts: list, rng: np.random.Generator | None) -> None:
    """Compare the halves with the whole: the values, and the gradients, which tell more where a last layer starts at zero."""
    try:
        runs = [half(arrays, None) for arrays in (batch, *parts)]
    except Exception as error:
        if rng is not None:
            error.add_note(
                "data_parallel: its first call runs the loss without rng, to compare it with its halves; pass check=False for a loss that needs one"
            )
        raise
    share = _share(runs[1][1], runs[2][1], len(parts[0][0]), len(batch[0]))
    whole, a, b = (_flat(value, params) for value, _ in runs)
    for i, x in enumerate((*whole, *a, *b)):
        if not np.isfinite(x).all():
            what = f"is {x.item():.6g}" if i % len(whole) == 0 else "has a gradient that is not finite"
            raise FloatingPointError(
                f"data_parallel: the loss of the first batch {what}, so its halves cannot be compared; check.anomaly() names the op that made it"
            )
    together = [share * x + (1 - share) * y for x, y in zip(a, b)]
    tolerance = 1e-3 if min(x.dtype.itemsize for x in whole) < 8 else 5e-8
    steepest = max((_largest(x) for run in (whole[1:], a[1:], b[1:]) for x in run), default=0.0)
    for i, (x, y) in enumerate(zip(whole, together)):
        size = max(_largest(x), _largest(a[i]), _largest(b[i]), 0.1 * steepest if i else 0.0)  # a gradient of zero is one of rounding noise
        if not _largest(x - y) <= tolerance * size:
            what = f"is {x.item():.6g}, but its halves give {y.item():.6g}" if i == 0 else "has other gradients than its halves together"
            raise ValueError(
                f"data_parallel: the loss of the batch {what}: it couples the examples, or is no mean over them; use one tape, or check=False if only rounding is left"
            )


def _flat(value: Any, params: Any) -> list[np.ndarray]:
    """A loss and its gradients, as arrays."""
    return [np.asarray(stop_gradient(value)), *members(gradients(value, params))]


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0.0))
