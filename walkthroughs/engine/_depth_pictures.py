"""The figures of the walkthrough of depth."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np

BLUE, RED, GREY, GREEN = "#1f4e79", "#b5472f", "#8c8c8c", "#3a7d44"


def profiles(path: Path, lines: dict[str, tuple[list[float], str]], title: str) -> None:
    """Gradient norm by layer, one line for each name: (norms, style). What keeps a way past the layers is green, the rest red."""
    figure, [[axes]] = canvas(1, 1, 7.2, 4.0)
    for name, (norms, style) in lines.items():
        colour = GREEN if name.startswith(("with residuals", "pre-norm")) else RED
        axes.semilogy(np.arange(1, len(norms) + 1), norms, style, color=colour, linewidth=1.8, label=name)
    axes.set(xlabel="layer", ylabel="norm of the gradient of its weights", title=title, xlim=(1, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def training(path: Path, runs: dict[str, list[float]], level: float, title: str) -> None:
    """Losses, a running mean of 10 steps, with the loss of knowing nothing across."""
    figure, [[axes]] = canvas(1, 1, 7.2, 4.2)
    for (name, losses), colour in zip(runs.items(), (GREEN, RED, BLUE, "#c58b1b")):
        n = max(1, min(10, len(losses) // 2))
        mean = np.convolve(losses, np.full(n, 1 / n), "valid")
        axes.plot(np.arange(len(mean)) + n / 2, mean, color=colour, linewidth=1.8, label=name)
    axes.axhline(level, color=GREY, linestyle="--", linewidth=1.3, label="knowing nothing")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title, xlim=(0, None), ylim=(0, 1.6 * level))
    axes.legend(frameon=False, loc="upper right", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
