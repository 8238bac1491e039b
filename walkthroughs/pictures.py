"""The figures of the walkthrough of GPT, and a canvas for the others. Figures are drawn to files only."""

from pathlib import Path

import numpy as np


def canvas(columns: int, rows: int, width: float, height: float):
    """A figure of width x height inches, and its axes (rows, columns)."""
    from matplotlib.figure import Figure  # needs no display

    figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
    return figure, figure.subplots(rows, columns, squeeze=False)


def loss_curve(path: Path, losses: list[float], levels: dict[str, float]) -> None:
    """Training loss (nats) in bits per character, each step and a running mean, with named levels (bits) across."""
    figure, [[axes]] = canvas(1, 1, 7.5, 4.2)
    _draw_losses(axes, losses, levels)
    figure.savefig(path)


def attention(path: Path, maps: np.ndarray, text: str) -> None:
    """One picture for each head of each layer: maps (L, nh, T, T), row t is where position t looks."""
    L, nh = maps.shape[:2]
    figure, axes = canvas(nh, L, 2.9 * nh, 3.1 * L)
    for layer in range(L):
        for head in range(nh):
            _draw_head(axes[layer][head], maps, layer, head, text)
    figure.savefig(path)


def summary(path: Path, losses: list[float], levels: dict[str, float], maps: np.ndarray, text: str, heads: list[tuple[int, int]]) -> None:
    """The loss curve beside a few heads, (layer, head) each, in one picture."""
    figure, [axes] = canvas(1 + len(heads), 1, 4.9 * (1 + len(heads)), 4.6)
    _draw_losses(axes[0], losses, levels)
    for a, (layer, head) in zip(axes[1:], heads):
        _draw_head(a, maps, layer, head, text, size=7)
    figure.savefig(path)


def _draw_losses(axes, losses, levels):
    bits = np.array(losses) / np.log(2)
    width = max(1, len(bits) // 50)
    mean = np.convolve(bits, np.full(width, 1 / width), mode="valid")
    axes.plot(bits, color="#b9c4cf", linewidth=0.7, label="training loss, each step")
    axes.plot(np.arange(len(mean)) + width / 2, mean, color="#1f4e79", linewidth=1.8, label=f"mean of {width} steps")
    for (name, level), color in zip(levels.items(), ("#8c8c8c", "#b5472f", "#3a7d44")):
        axes.axhline(level, color=color, linestyle="--", linewidth=1.3, label=f"{name}: {level:.3f}")
    axes.set(xlabel="step", ylabel="bits per character", ylim=(min(1.0, bits.min()), bits.max() + 0.2), xlim=(0, len(bits)))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_head(axes, maps, layer, head, text, size=5):
    letters = [c if c.isprintable() and c != " " else "·" for c in text]
    axes.imshow(np.sqrt(maps[layer, head]), cmap="Blues", vmin=0, vmax=1)  # the root shows faint weights too
    axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=size + 4)
    axes.set_xticks(range(len(letters)), letters, fontsize=size, fontfamily="monospace")
    axes.set_yticks(range(len(letters)), letters, fontsize=size, fontfamily="monospace")
    axes.tick_params(length=0, pad=1)
