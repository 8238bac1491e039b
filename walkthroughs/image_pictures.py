"""The figures of the walkthroughs on images; drawn to files only."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np


def _bare(axes):
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def seen(path: Path, images: np.ndarray, maps: np.ndarray, titles: list[str]) -> None:
    """Images (n, H, W) above, and below the same with how much of each patch reached the answer: maps (n, rows, columns)."""
    n = len(images)
    figure, axes = canvas(n, 2, 1.35 * n, 3.1)
    enlarge = np.ones((images.shape[1] // maps.shape[1], images.shape[2] // maps.shape[2]))
    for i in range(n):
        axes[0][i].imshow(images[i], cmap="gray_r")
        axes[0][i].set_title(titles[i], fontsize=9)
        axes[1][i].imshow(images[i], cmap="gray_r")
        axes[1][i].imshow(np.kron(maps[i] / maps[i].max(), enlarge), cmap="Oranges", vmin=0, vmax=1, alpha=0.75)
        _bare(axes[0][i])
        _bare(axes[1][i])
    figure.savefig(path)


def similarities(path: Path, maps: np.ndarray) -> None:
    """maps (rows, columns, rows, columns): for each place, a small picture of how much more alike its position and every other became."""
    rows, columns = maps.shape[:2]
    figure, axes = canvas(columns, rows, 1.25 * columns, 1.25 * rows + 0.5)
    for r in range(rows):
        for c in range(columns):
            axes[r][c].imshow(maps[r, c], cmap="RdBu_r", vmin=-0.4, vmax=0.4)
            axes[r][c].plot(c, r, "k.", markersize=3)
            _bare(axes[r][c])
    figure.suptitle("how training changed the cosine of each\nposition (dot) with the others: red +0.4, blue -0.4", fontsize=9)
    figure.savefig(path)


def bars(path: Path, groups: dict[str, dict[str, float]], title: str) -> None:
    """Percentages, {group: {name: share}}, as bars side by side."""
    figure, [[axes]] = canvas(1, 1, 2.2 + 1.1 * len(groups), 3.4)
    names = list(next(iter(groups.values())))
    for k, (name, color) in enumerate(zip(names, ("#1f4e79", "#b5472f", "#8c8c8c", "#3a7d44"))):
        x = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * 0.8 / len(names)
        heights = [100 * group[name] for group in groups.values()]
        bar = axes.bar(x, heights, 0.74 / len(names), color=color, label=name)
        axes.bar_label(bar, fmt="%.1f", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), groups, fontsize=8)
    axes.set(ylim=(0, 112), ylabel="% right", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path)


def grid(path: Path, images: np.ndarray, rows: list[str], columns: list[str], marked: set[tuple[int, int]]) -> None:
    """Images (rows, columns, H, W) with names at the sides; the marked ones have a red frame."""
    R, C = images.shape[:2]
    figure, axes = canvas(C, R, 0.78 * C + 0.8, 0.8 * R + 0.3)
    for r in range(R):
        for c in range(C):
            axes[r][c].imshow(images[r, c], cmap="gray_r", vmin=-1, vmax=1)
            axes[r][c].set_xticks([])
            axes[r][c].set_yticks([])
            for side in axes[r][c].spines.values():
                side.set(color="#b5472f" if (r, c) in marked else "#cccccc", linewidth=2.5 if (r, c) in marked else 0.5)
            if r == 0:
                axes[r][c].set_title(columns[c], fontsize=8)
        axes[r][0].set_ylabel(rows[r], fontsize=8, rotation=0, ha="right", va="center")
    figure.savefig(path)


def matrix(path: Path, values: np.ndarray, rows: list[str], columns: list[str], title: str) -> None:
    """A matrix (rows, columns) of cosines as a picture with names at the sides."""
    figure, [[axes]] = canvas(1, 1, 6.2, 5.6)
    shown = axes.imshow(values, cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=60, ha="right")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title(title, fontsize=10)
    figure.colorbar(shown, shrink=0.8)
    figure.savefig(path)
