"""Measuring: load, compare, then rounds in which every engine takes its turn; and memory in fresh processes.

Times of two engines are compared within a round only, since a machine's speed drifts: a result is
the median, with its quartiles, of the rounds' ratios to the baseline.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import compare
from benchmarks.engines import BASELINE, REFERENCE, Engine
from benchmarks.processes import Worker, WorkerError
from benchmarks.workloads import Workload, make

import numpy as np

PAUSE = 0.03  # before a turn: the threads of the one before may still be waiting for work, awake
SLOW = 2.5  # seconds: a step that takes longer, and SLOWER times as long as the baseline's, is taken once, not in rounds
SLOWER = 3.0
LEAST = 7  # rounds, of which any three may be disturbed
LONGEST = 300.0  # seconds for a check

Say = Callable[[str], None]


def write(workload: Workload, path: Path) -> dict[str, np.ndarray]:
    """The workload's arrays, in a file for the workers."""
    weights, batch = make(workload)
    named = {**{f"weight {k}": x for k, x in weights.items()}, **{f"batch {k}": x for k, x in batch.items()}}
    np.savez(path, **named)
    return named


class Bench:
    """One worker an engine, for as long as the `with` lasts; one that dies is left out from then on."""

    def __init__(self, engines: list[Engine], folder: Path, threads: int, say: Say, turn: float = 0.15):
        """turn: seconds that a turn takes at least, by as many steps as that needs."""
        self.folder, self.threads, self.say, self.turn_seconds = folder, threads, say, turn
        self.engines = {engine.key: engine for engine in engines}
        self.workers: dict[str, Worker] = {}
        for engine in engines:
            self.start(engine)

    def start(self, engine: Engine) -> None:
        try:
            self.workers[engine.key] = Worker(engine, str(self.folder), self.threads)
        except WorkerError as error:
            self.say(str(error))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for worker in self.workers.values():
            worker.close()

    def about(self) -> dict[str, dict[str, str]]:
        """What each engine says of itself."""
        found = {}
        for key, worker in list(self.workers.items()):
            try:
                found[key] = worker.ask("about")["about"]
            except WorkerError as error:
                self.failed(key, error)
        return found

    def failed(self, key: str, error: WorkerError) -> dict[str, str]:
        """Says what happened; a process that has ended is started anew for the next workload."""
        self.say(str(error))
        if not self.workers[key].alive():
            self.workers.pop(key).close()
            self.start(self.engines[key])
        return {"why": str(error).removeprefix(f"{key}: ")}

    # --- one workload ---------------------------------------------------------------------------

    def measure(self, workload: Workload, rounds: int, seconds: float, only: list[str] | None = None) -> dict[str, dict[str, Any]]:
        """{engine: {"ratio": [first quartile, median, third], "seconds": of a step, "rounds": how many}, or {"why": it was not timed}}."""
        data = self.folder / f"{workload.key}.npz"
        initial = write(workload, data)
        cells: dict[str, dict[str, Any]] = {}
        once: dict[str, float] = {}
        reference = None
        for key in [k for k in self.workers if only is None or k in only]:
            why = self.engines[key].refuses(workload)
            if why is not None:
                cells[key] = {"why": why}
                continue
            try:
                seconds_of_one, found = self.check(key, workload, data)
            except WorkerError as error:
                cells[key] = self.failed(key, error)
                continue
            reference = found if key == REFERENCE else reference
            wrong = compare.differences(reference, found, initial) if reference else ["there is nothing to compare it with"]
            if wrong:
                self.say(f"{key}: {workload.key} is not timed: {wrong[0]}")
                cells[key] = {"why": wrong[0]}
            else:
                once[key] = seconds_of_one
        data.unlink()
        cells |= self.rounds(once, rounds, seconds)
        for key, worker in list(self.workers.items()):
            try:
                worker.ask("unload")
            except WorkerError as error:
                self.failed(key, error)
        return cells

    def check(self, key: str, workload: Workload, data: Path) -> tuple[float, dict[str, np.ndarray]]:
        """The seconds of one step, and what there is to compare."""
        result = self.folder / f"{key}.npz"
        self.workers[key].ask("load", workload=asdict(workload), data=str(data), timeout=LONGEST)
        seconds = self.workers[key].ask("check", file=str(result), steps=3 if workload.trained else 1, timeout=LONGEST)["seconds"]
        with np.load(result) as arrays:
            found = dict(arrays)
        result.unlink()
        return seconds, found

    def rounds(self, once: dict[str, float], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
        """once: the seconds of one step of each engine. As many rounds as the seconds allow, at most `rounds`."""
        steps = {
            key: max(1, round(self.turn_seconds / max(t, 1e-5)))
            for key, t in once.items()
            if t <= max(SLOW, SLOWER * once.get(BASELINE, 0.0))
        }
        turns = sum(n * once[key] + PAUSE for key, n in steps.items())
        rounds = max(min(LEAST, rounds), min(rounds, int(seconds / max(turns, 1e-5))))
        times: dict[str, list[float]] = {key: [] for key in steps}
        cells = {}
        for r in range(rounds):
            order = list(times)
            first = r % max(1, len(order))
            for key in order[first:] + order[:first]:
                try:
                    times[key].append(self.turn(key, steps[key], warm=once[key] < self.turn_seconds))
                except WorkerError as error:
                    cells[key] = self.failed(key, error)
                    del times[key]
        baseline = times.get(BASELINE)
        for key in once:
            if key in times:
                cells[key] = {"seconds": statistics.median(times[key]), "rounds": rounds, **ratios(times[key], baseline)}
            elif key not in cells:
                cells[key] = {"seconds": once[key], "rounds": 0, **ratios([once[key]], [statistics.median(baseline)] if baseline else None)}
        return cells

    def turn(self, key: str, steps: int, warm: bool) -> float:
        """Seconds of a step, the mean of several after one that warms up."""
        time.sleep(PAUSE)
        if warm:
            self.workers[key].ask("steps", n=1 + steps // 20)
        return self.workers[key].ask("steps", n=steps)["seconds"] / steps


def ratios(times: list[float], baseline: list[float] | None) -> dict[str, Any]:
    """The quartiles of the rounds' ratios."""
    if baseline is None:
        return {"ratio": None}
    return {"ratio": [float(x) for x in np.quantile([t / b for t, b in zip(times, baseline)], (0.25, 0.5, 0.75))]}


def memory(workload: Workload, engines: list[Engine], folder: Path, threads: int) -> dict[str, int | str]:
    """{engine: bytes, or why not}: what two steps take beside weights and batch, each in a fresh process, two processes at a time."""
    data = folder / f"{workload.key}.npz"
    write(workload, data)

    def measured(engine: Engine) -> int | str:
        try:
            with Worker(engine, str(folder), threads) as worker:
                return worker.ask("memory", workload=asdict(workload), data=str(data), timeout=300)["bytes"]
        except WorkerError as error:
            return str(error).removeprefix(f"{engine.key}: ")

    able = [engine for engine in engines if engine.refuses(workload) is None]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip((engine.key for engine in able), pool.map(measured, able)))
    data.unlink()
    return found
