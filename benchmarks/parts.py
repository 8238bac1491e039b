"""`python -m benchmarks.parts [W3 ...]`: where the time of a step of this engine goes, in milliseconds.

Every kernel, every op's function and rules, and the optimizer's step are timed while the step runs;
what is left is the engine: Tensors and nodes, the walk, layers and the checks of their arguments.
"""

import argparse
import json
import statistics
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

PARTS = ("matrix products", "attention", "other kernels", "NumPy's functions", "optimizer", "engine")
PRODUCTS = ("linear", "convolution", "transposed_convolution")
SECONDS = 2.0  # of steps, for each workload


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

        changed.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, timed)

    for item in registry:
        if isinstance(item, Fused):
            watch(item, "forward", part_of(item))
            watch(item, "backward", part_of(item))
        elif isinstance(item, Op):
            watch(item, "forward", "NumPy's functions")
            watch(item, "pull", "NumPy's functions")
    watch(Optimizer, "step", "optimizer")
    try:
        yield
    finally:
        for owner, name, before in changed:
            setattr(owner, name, before) if before is not None else delattr(owner, name)


def measure(step: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Median milliseconds of each part."""
    step()
    steps: list[dict[str, float]] = []
    begin = time.perf_counter()
    while len(steps) < 3 or time.perf_counter() - begin < seconds:
        spent: Counter = Counter()
        with watched(spent):
            start = time.perf_counter()
            step()
            whole = time.perf_counter() - start
        spent["engine"] = whole - sum(spent.values())
        steps.append(spent)
    return {part: statistics.median(s[part] for s in steps) * 1e3 for part in PARTS}


def of(workload: Workload, seconds: float) -> dict[str, float]:
    return measure(ours.prepare(workload, *make(workload)).step, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads; all that are trained if none is given")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {}
    for w in [w for w in (chosen(args.names) if args.names else WORKLOADS) if w.trained]:
        found[w.key] = of(w.shrunk(), 0.0) if args.quick else of(w, SECONDS)
        if not args.json:
            print(
                f"{w.key:4}",
                "  ".join(f"{part} {ms:.3f}" for part, ms in found[w.key].items()),
                f"  ms in all {sum(found[w.key].values()):.3f}",
            )
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
