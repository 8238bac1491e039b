"""How time and memory grow: attention with T, a training step with parameters and with the batch; exponents and a drawing."""

from pathlib import Path
from typing import Any

from benchmarks.run import Bench, Say, memory
from benchmarks.workloads import Workload, attention, gpt, make

import numpy as np

ENGINES = ["ours", "torch", "torch-best"]
SECONDS = 3.0  # for the rounds of one point
STYLE = {
    "ours": ("tinygrad_notes", "#1f6feb", "o"),
    "torch": ("PyTorch eager", "#d1582b", "s"),
    "torch-best": ("PyTorch, best", "#8c8c8c", "^"),
}


def attentions() -> dict[int, Workload]:
    return {T: attention(f"T{T}", T) for T in (256, 512, 1024, 2048, 4096, 8192)}


def widths() -> dict[int, Workload]:
    """By the number of parameters: nanoGPT's CPU config, narrower and wider."""
    found = [gpt(f"d{d}", f"4 layers, d {d}, T 64, batch 12", 4, 4, d, 64, 12) for d in (32, 64, 128, 256, 512)]
    return {sum(a.size for a in make(w)[0].values()): w for w in found}


def batches() -> dict[int, Workload]:
    return {B: gpt(f"B{B}", f"4 layers, d 128, T 64, batch {B}", 4, 4, 128, 64, B) for B in (1, 2, 4, 8, 16, 32, 64)}


SERIES = {
    "attention": ("tokens T", "causal attention, forward and backward", attentions),
    "parameters": ("parameters", "training step of a GPT (T 64, batch 12)", widths),
    "batch": ("batch", "training step of a GPT (0.8 M parameters, T 64)", batches),
}
Points = dict[str, dict[int, float]]  # engine -> x -> seconds or bytes


def measure(bench: Bench, folder: Path, threads: int, quick: bool, say: Say) -> dict[str, Points]:
    """{"attention": seconds, "attention memory": bytes, ...}"""
    found = {}
    for name, (_, _, workloads) in SERIES.items():
        seconds: Points = {}
        for x, workload in sizes(workloads(), quick).items():
            for engine, cell in bench.measure(workload, 2 if quick else 7, 0.1 if quick else SECONDS, ENGINES).items():
                if "seconds" in cell:
                    seconds.setdefault(engine, {})[x] = cell["seconds"]
        found[name] = seconds
        say(f"scaling with {name}: " + exponents(seconds))
    peaks: Points = {}
    engines = [engine for key, engine in bench.engines.items() if key in ENGINES[:2] and key in bench.workers]
    for x, workload in sizes(attentions(), quick).items():
        for engine, n in memory(workload, engines, folder, threads).items():
            if isinstance(n, int):
                peaks.setdefault(engine, {})[x] = n
    return found | {"attention memory": peaks}


def sizes(workloads: dict[int, Workload], quick: bool) -> dict[int, Workload]:
    return {x: w.shrunk() for x, w in list(workloads.items())[:2]} if quick else workloads


def exponent(points: dict[Any, float]) -> float:
    """a of y = c x^a, by least squares in log x and log y, over the larger half of the x: below it fixed costs rule."""
    xs = sorted(points, key=float)
    upper = xs[len(xs) // 2 :] if len(xs) > 3 else xs
    slope, _ = np.polyfit(np.log([float(x) for x in upper]), np.log([max(points[x], 1e-12) for x in upper]), 1)
    return float(slope)


def exponents(series: Points) -> str:
    return ", ".join(f"{engine} {exponent(points):.2f}" for engine, points in series.items() if len(points) > 1)


def short(x: float) -> str:
    """51,296 -> 51 k"""
    return f"{x:.0f}" if x < 10_000 else f"{x / 1e3:.0f} k" if x < 1e6 else f"{x / 1e6:.1f} M"


def draw(found: dict[str, Points], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    panels = [(name, label, title, "milliseconds", 1e3) for name, (label, title, _) in SERIES.items()]
    panels.insert(1, ("attention memory", "tokens T", "causal attention: memory beside q, k, v", "MB", 1e-6))
    for ax, (name, label, title, unit, scale) in zip(axes.flat, panels):
        for engine, points in found.get(name, {}).items():
            title_of, colour, marker = STYLE[engine]
            xs = sorted(points, key=float)
            growth = f", grows as x^{exponent(points):.2f}" if len(points) > 1 else ""
            ax.plot([float(x) for x in xs], [points[x] * scale for x in xs], marker=marker, color=colour, label=title_of + growth)
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel=unit, title=title)
        at = sorted({float(x) for points in found.get(name, {}).values() for x in points})
        ax.set_xticks(at, [short(x) for x in at])
        ax.set_xticks([], minor=True)
        ax.grid(True, which="major", color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        if ax.lines:
            ax.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
