"""How fast an engine multiplies matrices, which tells the kernels that its BLAS runs."""

import time

import numpy as np


def rate(array, finish=lambda result: result, n: int = 1024) -> str:
    """array: from NumPy's arrays to the engine's; finish: waits for a result."""
    a = array(np.random.default_rng(0).standard_normal((n, n), np.float32))
    times = []
    for _ in range(12):
        start = time.perf_counter()
        finish(a @ a)
        times.append(time.perf_counter() - start)
    return f"{2 * n**3 / min(times) / 1e9:.0f} GFLOP/s"
