"""The figures of the walkthrough of the Transformer."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np

GREY, BLUE, RED, GREEN = "#b9c4cf", "#1f4e79", "#b5472f", "#3a7d44"


def learning(path: Path, losses: list[float], floor: float, curve: list[tuple[int, float]], rates: list[float]) -> None:
    """The loss of each step above its floor, the share of right answers (step, share), and below them the learning rate."""
    from matplotlib.figure import Figure  # needs no display

    figure = Figure(figsize=(7.5, 5.6), layout="constrained", dpi=130)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot(losses, color=GREY, linewidth=0.7, label="loss, each step")
    mean = np.convolve(losses, np.full(20, 1 / 20), "valid")
    axes.plot(np.arange(len(mean)) + 10, mean, color=BLUE, linewidth=1.8, label="mean of 20 steps")
    axes.axhline(floor, color="#8c8c8c", linestyle="--", linewidth=1.3, label=f"the smoothing's share, {floor:.2f}")
    axes.set(ylabel="loss (nats per token)", ylim=(0, max(losses)))
    shares = axes.twinx()
    shares.plot(*zip(*curve), color=GREEN, marker="o", markersize=3, label="exactly right")
    shares.set(ylim=(0, 1.02), ylabel="share of 200 unseen dates")
    shares.spines[["top"]].set_visible(False)
    handles, labels = (a + b for a, b in zip(axes.get_legend_handles_labels(), shares.get_legend_handles_labels()))
    axes.legend(handles, labels, frameon=False, loc="center right")
    below.plot(rates, color=RED, linewidth=1.8)
    below.set(xlabel="step", ylabel="learning rate", xlim=(0, len(rates)), ylim=(0, None))
    for a in (axes, below):
        a.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def cross_attention(path: Path, maps: np.ndarray, words: list[str], answer: list[str]) -> None:
    """One picture for each head of each layer: maps (L, nh, T, S), row t is where the decoder looks when it writes answer[t]."""
    L, nh = maps.shape[:2]
    figure, axes = canvas(nh, L, 3.1 * nh, 3.9 * L)
    for layer, head in np.ndindex(L, nh):
        a = axes[layer][head]
        a.imshow(maps[layer, head], cmap="Blues", vmin=0, vmax=1)
        a.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=11)
        a.set_xticks(range(len(words)), words, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        a.set_yticks(range(len(answer)), answer, fontsize=9, fontfamily="monospace")
        a.tick_params(length=0, pad=2)
    figure.savefig(path)
