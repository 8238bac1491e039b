"""`python -m benchmarks.kernels [name ...]`: each kernel beside its twin and PyTorch, microseconds of forward and backward.

A kernel is called through the public function that users call. Its twin is what that function runs
inside `with tn.reference()`. All are given the same arrays and the same gradient of the result.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes import optim

import numpy as np

try:
    import torch
    import torch.nn.functional as TF
except ImportError:  # its column stays empty
    torch = TF = None

ROUNDS, TURN = 15, 0.02  # turns of each, seconds of a turn
PAUSE = 0.03  # seconds before a turn: PyTorch's threads stay awake for a while, on the cores that ours need


@dataclass
class Kernel:
    """f(*arrays) and the same in PyTorch; all arrays are differentiated. ids: integers that both get first."""

    name: str
    f: Callable
    theirs: Callable | None
    shapes: list[tuple[int, ...]]
    ids: np.ndarray | None = None

    @property
    def shape(self) -> str:
        return "x".join(map(str, self.shapes[0]))


def cases(small: bool) -> list[Kernel]:
    rng = np.random.default_rng(0)
    n, C, V = (12, 16, 11) if small else (768, 128, 65)
    N, side, T, hd = (2, 5, 20, 8) if small else (32, 16, 1024, 64)
    ids = rng.integers(V, size=n)
    wide = [(n, 4 * C)]
    image = (N, 32, side, side)
    return [
        Kernel("linear", F.linear, TF and TF.linear, [(n, C), (4 * C, C), (4 * C,)]),
        Kernel("layer_norm", F.layer_norm, TF and (lambda x, w, b: TF.layer_norm(x, w.shape, w, b)), [(n, C), (C,), (C,)]),
        Kernel("rms_norm", F.rms_norm, TF and (lambda x, w: TF.rms_norm(x, w.shape, w, 1e-6)), [(n, C), (C,)]),
        Kernel(
            "group_norm, silu",
            lambda x, w, b: F.silu(F.group_norm(x, 8, w, b)),
            TF and (lambda x, w, b: TF.silu(TF.group_norm(x, 8, w, b))),
            [image, (32,), (32,)],
        ),
        Kernel("softmax", F.softmax, TF and partial(TF.softmax, dim=-1), [(4 * n, C // 2)]),
        Kernel("log_softmax", F.log_softmax, TF and partial(TF.log_softmax, dim=-1), [(4 * n, C // 2)]),
        Kernel("cross_entropy", lambda t, x: F.cross_entropy(x, t), TF and (lambda t, x: TF.cross_entropy(x, t)), [(n, V)], ids),
        Kernel("gelu", F.gelu, TF and TF.gelu, wide),
        Kernel("gelu_tanh", F.gelu_tanh, TF and partial(TF.gelu, approximate="tanh"), wide),
        Kernel("silu", F.silu, TF and TF.silu, wide),
        Kernel("swiglu", F.swiglu, TF and (lambda x: torch.mul(x.chunk(2, -1)[0], TF.silu(x.chunk(2, -1)[1]))), wide),
        Kernel("embedding", F.embedding, TF and TF.embedding, [(V, C)], ids),
        Kernel(
            "conv2d 3x3", partial(F.conv2d, padding=1), TF and partial(TF.conv2d, padding=1), [image, (32, 32, 3, 3), (32,)]
        ),
        Kernel(
            "attention, causal",
            partial(F.scaled_dot_product_attention, causal=True),
            TF and partial(TF.scaled_dot_product_attention, is_causal=True),
            [(1, 4, T, hd)] * 3,
        ),
    ]  # fmt: skip


def ours(kernel: Kernel, arrays, dy, twin: bool) -> Callable[[], Any]:
    f = kernel.f if kernel.ids is None else partial(kernel.f, kernel.ids)

    def run():
        with tn.reference() if twin else nullcontext():
            y, pull = tn.vjp(f, *arrays)
            return y, pull(dy)

    return run


def theirs(kernel: Kernel, arrays, dy) -> Callable[[], Any]:
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    f = kernel.theirs if kernel.ids is None else partial(kernel.theirs, torch.tensor(kernel.ids))
    dy = torch.tensor(dy)

    def run():
        y = f(*tensors)
        return y.detach().numpy(), [g.numpy() for g in torch.autograd.grad(y, tensors, dy)]

    return run


def candidates(kernel: Kernel) -> dict[str, Callable[[], Any]]:
    """The kernel, its twin and PyTorch, ready to run: each returns the value and the gradients."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in kernel.shapes]
    y = kernel.f(*arrays) if kernel.ids is None else kernel.f(kernel.ids, *arrays)
    dy = rng.standard_normal(np.shape(y), np.float32)
    found = {"kernel": ours(kernel, arrays, dy, twin=False), "twin": ours(kernel, arrays, dy, twin=True)}
    return found | ({"torch": theirs(kernel, arrays, dy)} if kernel.theirs else {})


def adamw(n: int) -> dict[str, Callable[[], Any]]:
    """A step of AdamW, which has no twin."""
    values, g = np.random.default_rng(0).standard_normal((2, n), np.float32)
    mine = optim.AdamW({"w": tn.Tensor(values)}, lr=1e-3)
    found = {"kernel": lambda: mine.step({"w": g})}
    if torch:
        w = torch.tensor(values, requires_grad=True)
        w.grad = torch.tensor(g)
        found["torch"] = torch.optim.AdamW([w], lr=1e-3).step
    return found


def measure(runs: dict[str, Callable[[], Any]], rounds: int, turn: float) -> dict[str, float]:
    """Median microseconds of each, the runs taking turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE if turn else 0)
            run()
            n, start = 0, time.perf_counter()
            while n == 0 or time.perf_counter() - start < turn:
                run()
                n += 1
            times[name].append((time.perf_counter() - start) / n)
    return {name: statistics.median(t) * 1e6 for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("names", nargs="*", help="kernels whose names begin so")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds, turn = (1, 0.0) if args.quick else (ROUNDS, TURN)
    runs = {(kernel.name, kernel.shape): partial(candidates, kernel) for kernel in cases(args.quick)}
    runs["AdamW", "1M"] = partial(adamw, 1000 if args.quick else 1_000_000)
    rows = []
    for (name, shape), prepare in runs.items():
        if args.names and not name.startswith(tuple(args.names)):
            continue
        rows.append({"name": name, "shape": shape, **measure(prepare(), rounds, turn)})
        if not args.json:
            line = "  ".join(f"{what} {rows[-1][what]:9.1f}" for what in ("kernel", "twin", "torch") if what in rows[-1])
            print(f"{name:18} {shape:14} us: {line}", flush=True)
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
