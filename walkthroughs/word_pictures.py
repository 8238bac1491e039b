"""Figures for texts made of words: training losses with levels, attention between words, accuracies of several draws."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np

COLORS = ("#1f4e79", "#b5472f", "#3a7d44", "#8c8c8c")


def losses(path: Path, curves: dict[str, list[float]], levels: dict[str, float], unit: str) -> None:
    """One curve for each training, a running mean of its losses, with named levels across."""
    figure, [[axes]] = canvas(1, 1, 7.5, 4.2)
    for (name, values), color in zip(curves.items(), COLORS):
        width = max(1, len(values) // 50)
        axes.plot(values, color=color, linewidth=0.6, alpha=0.25)
        axes.plot(
            np.arange(len(values) - width + 1) + width / 2, np.convolve(values, np.full(width, 1 / width), "valid"), color=color, label=name
        )
    for (name, level), color in zip(levels.items(), COLORS[::-1]):
        axes.axhline(level, color=color, linestyle="--", linewidth=1.2, label=f"{name}: {level:.2f}")
    axes.set(xlabel="step", ylabel=unit, xlim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def heads(path: Path, maps: np.ndarray, words: list[str]) -> None:
    """One picture for each head of each layer: maps (L, nh, T, T), row t is where word t looks."""
    L, nh = maps.shape[:2]
    figure, axes = canvas(nh, L, 3.1 * nh, 3.3 * L)
    for layer, head in np.ndindex(L, nh):
        a = axes[layer][head]
        a.imshow(np.sqrt(maps[layer, head]), cmap="Blues", vmin=0, vmax=1)  # the root shows faint weights too
        a.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=10)
        a.set_xticks(range(len(words)), words, rotation=90, fontsize=7)
        a.set_yticks(range(len(words)), words, fontsize=7)
        a.tick_params(length=0, pad=2)
    figure.savefig(path)


def draws(path: Path, results: dict[str, list[float]], chance: float, title: str) -> None:
    """Accuracies: a bar for the mean of each kind of training, a dot for each draw of the labels."""
    figure, [[axes]] = canvas(1, 1, 6.4, 4.2)
    for i, (values, color) in enumerate(zip(results.values(), COLORS)):
        axes.bar(i, np.mean(values), width=0.6, color=color, alpha=0.35)
        axes.plot(i + np.linspace(-0.12, 0.12, len(values)), values, "o", color=color, markersize=5)
        axes.annotate(f"{np.mean(values):.0%}", (i + 0.33, np.mean(values)), va="center", fontsize=10)
    axes.axhline(chance, color=COLORS[-1], linestyle="--", linewidth=1.2)
    axes.annotate(
        "guessing", (len(results) - 0.12, chance), xytext=(0, 3), textcoords="offset points", ha="right", fontsize=9, color=COLORS[-1]
    )
    axes.set_xticks(range(len(results)), list(results))
    axes.set(ylabel="accuracy on held-out passages", ylim=(0, 1), xlim=(-0.5, len(results) - 0.1), title=title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
