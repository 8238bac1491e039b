"""What the walkthrough of replay counts, measures and prints of the calls that a step makes."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tinygrad_notes as tn
from tinygrad_notes import threads
from tinygrad_notes.recording import Program, Recorder
from tinygrad_notes.recording.program import Call
from tinygrad_notes.recording.trees import root_of, roots_in

import numpy as np


class Step(NamedTuple):
    """The calls of a loss and its gradients, written down."""

    program: Program
    calls: list[Call]  # of the program, with the arrays where they were before they were packed
    turn: int  # how many of them are the forward pass
    own: dict[int, np.ndarray]  # the memory that they write, by id
    stays: set[int]  # what of it are results

    def lives(self) -> list[tuple[int, int, int, int]]:
        """(first call, last call, bytes, id) of every array that is neither input, result nor constant."""
        first, last, written = {}, {}, set()
        for now, call in enumerate(self.calls):
            written.update(call.written)
            for root in roots_in((call.args, call.kwargs)) & self.own.keys() - self.stays:
                first.setdefault(root, now)
                last[root] = now
        return [(first[root], last[root], self.own[root].nbytes, root) for root in first if root in written]


def written_down(loss: Callable, params: dict, batch: tuple) -> Step:
    """loss(*batch) and its gradients, computed with params and batch lent as arrays whose uses are noted."""
    tn.gradients(loss(*batch), params)  # what is kept for later steps is made in the first, and belongs to no recorder
    recorder, leaves = Recorder(), list(params.values())
    values = [t.value for t in leaves]
    with threads.alone(), recorder:
        for t, value in zip(leaves, values):
            t.value = recorder.read(value)
        value = loss(*map(recorder.read, batch))
        forward = {id(call) for call in recorder.calls}
        results = [value.value, *tn.gradients(value, params).values()]
    for t, value in zip(leaves, values):
        t.value = value
    calls, own = recorder.repeated(), recorder.own  # which the recorder gives away with the program
    program, results = recorder.program(results, [None] * len(results))
    return Step(program, calls, sum(id(call) in forward for call in calls), own, {id(root_of(x)) for x in results})


def instructions(f) -> int:
    """How many of its instructions the Python interpreter runs in f(), as a debugger sees them go by."""
    return monitored(f, sys.monitoring) if hasattr(sys, "monitoring") else traced(f)


def monitored(f, monitoring) -> int:
    """From Python 3.12 on, where tracing misses some."""
    n, tool, instruction = 0, monitoring.PROFILER_ID, monitoring.events.INSTRUCTION

    def count(code, offset):
        nonlocal n
        n += 1

    monitoring.use_tool_id(tool, "instructions")
    try:
        monitoring.register_callback(tool, instruction, count)
        monitoring.set_events(tool, instruction)
        f()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, instruction, None)
        monitoring.free_tool_id(tool)
    return n


def traced(f) -> int:
    n = 0

    def watch(frame, event, arg):
        nonlocal n
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        n += event == "opcode"
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        f()
    finally:
        sys.settrace(before)
    return n


def microseconds(*functions, rounds: int, n: int = 20) -> np.ndarray:
    """The time of each: the median of some rounds, in which all take their turns. (By the wall's clock, for Windows sees processor time in steps of 16 ms.)"""
    measured = np.empty((rounds, len(functions)))
    for times in measured:
        for i, f in enumerate(functions):
            start = time.perf_counter()
            for _ in range(n):
                f()
            times[i] = (time.perf_counter() - start) / n * 1e6
    return np.median(measured, axis=0)


def table(calls: list, **names: np.ndarray) -> None:
    """Prints calls (function, args, keywords), with these names for the arrays that have one, and a0, a1, ... for the others."""
    known = {id(root_of(x)): name for name, x in names.items()}

    def name(x):
        if not isinstance(x, np.ndarray) or x.ndim == 0:
            return str(x)
        own = known.setdefault(id(root_of(x)), f"a{len(known) - len(names)}")
        return own if x.flags.c_contiguous else f"{own}.T"

    for i, (function, args, keywords) in enumerate(calls):
        out = keywords["out"]
        settings = [f"{key}={value}" for key, value in keywords.items() if key not in ("out", "where") and value not in (None, False)]
        what = function.__name__ if isinstance(function, np.ufunc) else f"{function.__self__.__name__}.{function.__name__}"
        print(f"    {i:2}  {what:11} {', '.join([*map(name, args), *settings]):20} -> {'L' if out.ndim == 0 else name(out)}")


def published(workload: str) -> dict[str, float]:
    """A row of docs/performance.md: for an engine's column, the time of a step divided by PyTorch's."""
    lines = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    header = next(row for row in rows if "workload" in row)
    row = next(row for row in rows[rows.index(header) :] if row[1] == workload)
    cells = {engine: cell.strip("*~").partition("<br>")[0] for engine, cell in zip(header[4:], row[4:])}
    return {engine: float(cell) for engine, cell in cells.items() if cell.replace(".", "").isdigit()}
