"""`python -m tinygrad_notes`: what is in use, and three small measurements with and without it."""

import argparse
import json
import os
import subprocess
import sys
import time

from tinygrad_notes import Tensor, gradients, runtime

import numpy as np


def best_seconds(f, seconds: float = 0.3) -> float:
    """The shortest of many runs of f, after one run to warm up."""
    f()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def matmul_rate(n: int = 1024) -> float:
    """Billions of float32 operations a second in the product of two n x n matrices."""
    a, b = np.random.default_rng(0).random((2, n, n), np.float32)
    return 2 * n**3 / best_seconds(lambda: a @ b) / 1e9


def mlp_step() -> float:
    """Milliseconds of one step of gradient descent: 2-64-64-1 units, 64 examples."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 2), np.float32), rng.standard_normal((64, 1), np.float32)
    widths = [2, 64, 64, 1]
    weights = [Tensor(rng.standard_normal((n, m), np.float32) / np.float32(n)) for n, m in zip(widths, widths[1:])]

    def step():
        hidden = np.tanh(np.tanh(x @ weights[0]) @ weights[1])
        loss = np.mean((hidden @ weights[2] - y) ** 2)
        weights[:] = [Tensor(w.value - np.float32(0.01) * g) for w, g in zip(weights, gradients(loss, weights))]

    return best_seconds(step) * 1e3


def page_faults(steps: int = 10) -> float:
    """Page faults in a step that makes ten arrays of 8 MB and frees them, as a backward pass does."""
    import resource

    x = np.ones(2_000_000, np.float32)

    def faults_after(steps):
        for _ in range(steps):
            arrays = [x + i for i in range(10)]
            del arrays
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    return (-faults_after(3) + faults_after(steps)) / steps  # the first steps warm up


def measure() -> dict[str, float]:
    found = {"matrix product, GFLOP/s": matmul_rate(), "step of a small network, ms": mlp_step()}
    if sys.platform != "win32":
        found["page faults in a step, 80 MB"] = page_faults()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tinygrad_notes", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="only measure, as things are set here, and print JSON")
    if parser.parse_args().measure:
        print(json.dumps(measure()))
        return
    for name, value in runtime.report().items():
        print(f"{name:15} {value}")
    names = {"BLAS kernels": "OPENBLAS_CORETYPE", "BLAS threads": "OPENBLAS_THREAD_TIMEOUT"}
    ours = [names[what] for what, done in runtime.decisions.items() if what in names and done.startswith("set")]  # a user's own values stay
    plain = {k: v for k, v in os.environ.items() if k not in ours} | {"TINYGRAD_NOTES_MALLOC": "0", "TINYGRAD_NOTES_BLAS": "0"}
    command = [sys.executable, "-m", "tinygrad_notes", "--measure"]
    without = json.loads(subprocess.run(command, env=plain, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"\n{'measured now':30} {'as set':>10} {'without':>10}")
    for name, value in measure().items():
        print(f"{name:30} {value:10.4g} {without[name]:10.4g}")


if __name__ == "__main__":
    main()
