"""`python -m benchmarks.parts [W3 ...]`: where the time of a step of this engine goes, in milliseconds.

Every kernel, every op's function and its rules, and the optimizer's step are timed while the step runs. What is left of a step
that nobody watches is the engine: Tensors and nodes, the walk, layers and the checks of their arguments, and the backward
pass of indexing, which the walk does by itself.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tinygrad_notes  # noqa: F401  (before NumPy)
from benchmarks.engines import ours
from benchmarks.workloads import WORKLOADS, Workload, chosen, make
from tinygrad_notes.optim.optimizer import Optimizer
from tinygrad_notes.registry import Fused, Op, registry

PARTS = ("matrix products", "attention", "other kernels", "functions of NumPy", "optimizer", "engine")
PRODUCTS = ("linear", "convolution", "transposed_convolution")
ABSENT = object()
SECONDS = 4.0  # of steps, for each workload


def part_of(kernel: Fused) -> str:
    if kernel.name in PRODUCTS:
        return "matrix products"
    return "attention" if "attention" in kernel.name else "other kernels"


@contextmanager
def watched(spent: Counter) -> Iterator[None]:
    """Adds the seconds of each part to `spent` while the block lasts. Parts do not contain each other."""
    changed: list[tuple[Any, str, Any]] = []

    def watch(owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start

        changed.append((owner, name, vars(owner).get(name, ABSENT)))
        setattr(owner, name, timed)

    for item in registry:
        if isinstance(item, Fused):
            watch(item, "forward", part_of(item))
            watch(item, "backward", part_of(item))
        elif isinstance(item, Op):
            watch(item, "forward", "functions of NumPy")
            watch(item, "pull", "functions of NumPy")
    watch(Optimizer, "step", "optimizer")
    try:
        yield
    finally:
        for owner, name, before in changed:
            delattr(owner, name) if before is ABSENT else setattr(owner, name, before)


def measure(step: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Milliseconds of each part of a step, medians; they make up the median of steps that nobody watches."""
    step()
    wholes = list(repeated(lambda: None, step, seconds / 2))
    spent: Counter = Counter()
    with watched(spent):
        steps = [Counter(spent) for _ in repeated(spent.clear, step, seconds / 2)]
    found = {part: statistics.median(s[part] for s in steps) * 1e3 for part in PARTS[:-1]}
    return found | {"engine": max(0.0, statistics.median(wholes) * 1e3 - sum(found.values()))}


def repeated(before: Callable[[], Any], step: Callable[[], Any], seconds: float) -> Iterator[float]:
    """The seconds of one step after another, at least three."""
    n, begin = 0, time.perf_counter()
    while n < 3 or time.perf_counter() - begin < seconds:
        before()
        start = time.perf_counter()
        step()
        yield time.perf_counter() - start
        n += 1


def of(workload: Workload, seconds: float) -> dict[str, float]:
    return measure(ours.prepare(workload, *make(workload)).step, seconds)


def main(arguments: list[str]) -> int:
    trained = [w.key for w in WORKLOADS if w.trained]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(trained)}; all if none is given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    if unknown := sorted(set(args.names) - set(trained)):
        print(f"parts: there is no {', '.join(unknown)} that is trained; choose from {', '.join(trained)}", file=sys.stderr)
        return 2
    found = {}
    for w in chosen(args.names or trained):
        found[w.key] = of(w.shrunk(), 0.0) if args.quick else of(w, SECONDS)
        if not args.json:
            shown = "  ".join(f"{part} {ms:.3f}" for part, ms in found[w.key].items())
            print(f"{w.key}: {shown}  together {sum(found[w.key].values()):.3f} ms", flush=True)
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
