"""Watchers of a running graph: guard, anomaly, dtypes, count, and the rules' own manners."""

import linecache
import os
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tinygrad_notes import core
from tinygrad_notes.check.numerical import GradientError, array_of
from tinygrad_notes.core import Leaf, Node

import numpy as np


class Watcher:
    """A context in which every op and every rule that runs is seen; watchers nest."""

    def __enter__(self):
        self.outer, core.observer = core.observer, self
        return self

    def __exit__(self, *exc) -> None:
        core.observer = self.outer

    def forward(self, node: Node, inputs: Sequence[Any], y: Any) -> None:
        """The engine calls this after each op."""
        self.ran(node, inputs, y)
        if self.outer is not None:
            self.outer.forward(node, inputs, y)

    def backward(self, node: Node, i: int, g: Any) -> None:
        """The engine calls this for each gradient that a rule gave."""
        self.pulled(node, i, g)
        if self.outer is not None:
            self.outer.backward(node, i, g)

    def ran(self, node: Node, inputs: Sequence[Any], y: Any) -> None:
        """After an op: `inputs` are arrays or constants, `y` is an array or several."""

    def pulled(self, node: Node, i: int, g: Any) -> None:
        """After a rule gave g, the gradient of input i, not yet summed over broadcast axes nor cast."""


class Remembering(Watcher):
    """A watcher that keeps something about the latest nodes."""

    LIMIT = 1_000_000

    def __init__(self):
        self.notes: dict[int, Any] = {}  # by the order of the node: to hold the node would hold its arrays

    def note(self, node: Node, what: Any) -> None:
        self.notes[node.order] = what
        if len(self.notes) > self.LIMIT:
            del self.notes[next(iter(self.notes))]


def arrays_in(x: Any) -> list[np.ndarray]:
    """The arrays in nested tuples, lists and dicts."""
    if isinstance(x, np.ndarray):
        return [x]
    members = x.values() if isinstance(x, dict) else x if isinstance(x, tuple | list) else ()
    return [a for member in members for a in arrays_in(member)]


OUTSIDE = tuple(os.path.dirname(os.path.abspath(str(m.__file__))) + os.sep for m in (core, np))


def user_line() -> tuple[str, int]:
    """File and line of the innermost frame outside tinygrad_notes and NumPy."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(OUTSIDE) or frame.f_code.co_filename.startswith("<__array_function__")
    ):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def show(line: tuple[str, int] | None) -> str:
    """A line as an error shows it: file, number, text."""
    if line is None:
        return "a line outside this context"
    return f"{line[0]}:{line[1]}: {linecache.getline(*line).strip()}"


def shapes_of(inputs: Sequence[Any]) -> str:
    return ", ".join(f"{x.shape} {x.dtype}" if isinstance(x, np.ndarray | np.generic) else repr(x)[:30] for x in inputs)


class Rules(Watcher):
    """GradientError when a rule returns an input, the output or a view of one; or a wrong type or shape, or another width than `width`.

    width: the dtype that every gradient must have; None: that of its input or of the output.
    """

    def __init__(self, width: np.dtype | None = None):
        self.width = width

    def pulled(self, node, i, g):
        parent = node.parents[i]
        if not isinstance(g, np.ndarray | np.generic | core.Variable):
            raise GradientError(
                f"{node.op.label}: the rule of input {i} gives a {type(g).__name__}, expected an array {parent.shape}; a rule of one input returns its gradient alone, not (g,)"
            )
        expected = {self.width} if self.width else {np.dtype(d) for d in (parent.dtype, *np.atleast_1d(np.asarray(node.dtype, object)))}
        if g.ndim < len(parent.shape) or any(n not in (1, m) for n, m in zip(parent.shape[::-1], g.shape[::-1])):
            raise GradientError(
                f"{node.op.label}: the rule of input {i} gives a gradient {g.shape}, the input is {parent.shape}; a rule may leave the sum over broadcast axes to the engine, nothing else"
            )
        if g.dtype not in expected:
            raise GradientError(
                f"{node.op.label}: the rule of input {i} gives {g.dtype}, expected {' or '.join(sorted(map(str, expected)))}; look for np.sqrt(number), np.arange, np.ones or a mask without a dtype"
            )
        for a in arrays_in((node.saved, node.y, node.params)):
            if isinstance(g, np.ndarray) and np.may_share_memory(g, a) and np.shares_memory(g, a):
                raise GradientError(
                    f"{node.op.label}: the rule of input {i} returns an input, the output, or a view of one; what the engine adds to a gradient would change it"
                )


class Sizes(Watcher):
    """`total`: the absolute sum of what a walk starts from and of all that its rules give, before anything cancels."""

    def __init__(self, seeds: Sequence[Any]):
        self.total = sum(float(np.sum(np.abs(g))) for g in seeds)

    def pulled(self, node, i, g):
        self.total += float(np.sum(np.abs(array_of(g))))


class Guard(Remembering):
    def ran(self, node, inputs, y):
        self.note(node, (user_line(), digests(node)))

    def pulled(self, node, i, g):
        line, before = self.notes.get(node.order, (None, None))
        for which, (a, b) in enumerate(zip(before or (), digests(node))):
            if a != b:
                array = arrays_in((node.saved, node.y, node.params))[which]
                raise RuntimeError(
                    f"guard: an array that {node.op.label} kept for its gradient, {array.shape} {array.dtype}, was changed before the backward pass was through; "
                    f"the op ran at {show(line)}; write to a copy, or after gradients()"
                )


def digests(node: Node) -> list[int]:
    return [zlib.crc32(a.tobytes()) for a in arrays_in((node.saved, node.y, node.params))]


def guard() -> Watcher:
    """Inside, RuntimeError when an array that a gradient needs changes between forward and backward.

    Names the op and the line of yours that ran it. It compares checksums of what each node kept.
    """
    return Guard()


class Anomaly(Remembering):
    def ran(self, node, inputs, y):
        line = user_line()
        self.note(node, line)
        for a in arrays_in((y,)):
            if a.dtype.kind == "f" and not np.all(np.isfinite(a)) and not self.let_through(a, node, inputs):
                raise FloatingPointError(
                    f"anomaly: {node.op.label} gives {first_bad(a)}; inputs {shapes_of(inputs)}{self.blame(inputs)}; at {show(line)}"
                )

    @staticmethod
    def let_through(a, node, inputs):
        """Infinities from a constant, such as a mask, or from what came from one; but no leaf may have any."""
        sources = [x for x, p in zip(inputs, node.parents) if not isinstance(p, Leaf) and isinstance(x, np.ndarray | np.generic | float)]
        return not np.any(np.isnan(a)) and any(np.any(np.isinf(x)) for x in sources)

    @staticmethod
    def blame(inputs):
        bad = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f" and not np.all(np.isfinite(x))]
        return f" (input {bad[0]} was not finite already)" if bad else ""

    def pulled(self, node, i, g):
        a = array_of(g)
        if not np.all(np.isfinite(a)):
            line = self.notes.get(node.order)
            raise FloatingPointError(
                f"anomaly: the gradient of {node.op.label} by input {i} is {first_bad(a)}; output {node.shape} {node.dtype}; the op ran at {show(line)}"
            )


def first_bad(a: np.ndarray) -> str:
    bad = ~np.isfinite(a)
    at = tuple(map(int, np.argwhere(bad)[0]))
    return f"{a[at]} at {list(at)} ({int(bad.sum())} of {a.size} not finite)" if at else f"{a[at]}"


def anomaly() -> Watcher:
    """Inside, FloatingPointError at the first value or gradient that is nan or infinite.

    Names the op, the shapes and the line of yours that ran it; for a gradient, the line of the
    forward op. Infinities that come from a constant (a mask of -inf) are let through, nan never.
    """
    return Anomaly()


class Widths(Watcher):
    def ran(self, node, inputs, y):
        widths = {x.dtype: x for x in arrays_in(list(inputs)) + [x for x in inputs if isinstance(x, np.generic)] if x.dtype.kind == "f"}
        advice = "make the constant float32 once (np.asarray(c, x.dtype)), and use math.sqrt, not np.sqrt, for numbers"
        if len(widths) > 1:
            raise TypeError(
                f"dtypes: {node.op.label} mixes {' and '.join(sorted(map(str, widths)))}; inputs {shapes_of(inputs)}; at {show(user_line())}; {advice}"
            )
        for a in arrays_in((y,)):
            if a.dtype.kind == "f" and widths and a.itemsize > max(d.itemsize for d in widths) and "dtype" not in node.params:
                raise TypeError(f"dtypes: {node.op.label} gives {a.dtype} of inputs {shapes_of(inputs)}; at {show(user_line())}; {advice}")

    def pulled(self, node, i, g):
        around = [node.parents[i].dtype, *np.atleast_1d(np.asarray(node.dtype, object))]
        if g.dtype.itemsize > max(np.dtype(d).itemsize for d in around):
            raise TypeError(
                f"dtypes: the rule of {node.op.label} for input {i} gives {g.dtype}, the input is {node.parents[i].dtype}; an array in the rule is made without a dtype"
            )


def dtypes() -> Watcher:
    """Inside, TypeError at the first op that mixes float32 and float64 arrays, or whose result or gradient is wider than its inputs.

    A conversion that says so (astype, dtype=) is let through; Python numbers have no width.
    """
    return Widths()


class Count(Watcher):
    """`ops`: how often each op ran; `rules`: how many gradients its rules gave; `nodes`: how many nodes were made."""

    def __init__(self):
        self.ops: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()

    @property
    def nodes(self) -> int:
        return self.ops.total()

    def ran(self, node, inputs, y):
        self.ops[node.op.label] += 1

    def pulled(self, node, i, g):
        self.rules[node.op.label] += 1


def count() -> Count:
    """`with check.count() as counts:` counts what runs inside.

    counts.ops: how often each op ran; counts.rules: how many gradients its rules gave; counts.nodes: how many nodes were made.
    """
    return Count()
