"""The figures of the two diffusion walkthroughs."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np

BLUE, RED, GREY, GREEN = "#1f4e79", "#b5472f", "#8c8c8c", "#3a7d44"


def scatter(path: Path, rows: list[dict[str, np.ndarray]], reach: float = 1.8) -> None:
    """One row of panels for each dict: title -> points (n, 2)."""
    columns = max(map(len, rows))
    figure, axes = canvas(columns, len(rows), 2.3 * columns, 2.45 * len(rows))
    for line, panels in zip(axes, rows):
        for a in line[len(panels) :]:
            a.axis("off")
        for a, (title, points) in zip(line, panels.items()):
            a.scatter(*points.T, s=2, color=BLUE, alpha=0.5, linewidths=0)
            a.set_title(title, fontsize=9)
            a.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
            a.spines[:].set_color("#d0d0d0")
    figure.savefig(path)


def images(path: Path, panels: dict[str, np.ndarray], columns: int = 10, across: int = 3) -> None:
    """For each title a sheet of images (n, H, W) in [0, 1], `columns` in a row; `across` sheets side by side."""
    lines = max(-(-len(x) // columns) for x in panels.values())
    across = min(across, len(panels))
    rows = -(-len(panels) // across)
    figure, axes = canvas(across, rows, 0.36 * columns * across, (0.36 * lines + 0.35) * rows)
    for a in axes.flat:
        a.axis("off")
    for a, (title, x) in zip(axes.flat, panels.items()):
        n, H, W = x.shape
        sheet = np.ones((lines * (H + 2), columns * (W + 2)))  # one pixel of paper around each image
        for i, image in enumerate(x):
            top, left = i // columns * (H + 2) + 1, i % columns * (W + 2) + 1
            sheet[top : top + H, left : left + W] = 1 - np.clip(image, 0, 1)  # ink on paper
        a.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        a.set_title(title, fontsize=9)
    figure.savefig(path)


def curves(path: Path, panels: list[dict]) -> None:
    """Panels side by side; each {"title", "x label", "y label", "log": "", "x", "y" or "xy", "lines": {name: (x, y) or (x, y, style)}}."""
    figure, [axes] = canvas(len(panels), 1, 4.6 * len(panels), 3.6)
    colours = (BLUE, RED, GREEN, GREY)
    for a, panel in zip(axes, panels):
        for (name, (x, y, *style)), colour in zip(panel["lines"].items(), colours):
            a.plot(x, y, *style or ["-"], color=colour, label=name, linewidth=1.6, markersize=4)
        a.set(xlabel=panel["x label"], ylabel=panel["y label"])
        a.set_title(panel["title"], fontsize=10)
        if "x" in panel.get("log", ""):
            a.set_xscale("log")
        if "y" in panel.get("log", ""):
            a.set_yscale("log")
        a.legend(frameon=False, fontsize=8)
        a.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
