"""The figures of the walkthroughs on attention; drawn to files only."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np

BLUE, RED, GREY, GREEN = "#1f4e79", "#b5472f", "#8c8c8c", "#3a7d44"


def lines(path: Path, panels: list[dict]) -> None:
    """Panels side by side; each {"title", "x", "y": labels, "log": "x", "y" or "xy", "ticks" and "limits" if
    need be, and "lines": {name: (x, y, style, colour)}}."""
    figure, [axes] = canvas(len(panels), 1, 4.7 * len(panels), 3.8)
    for a, panel in zip(axes, panels):
        for name, (x, y, style, colour) in panel["lines"].items():
            a.plot(x, y, style, color=colour, label=name, linewidth=1.7, markersize=4)
        a.set(xlabel=panel["x"], ylabel=panel["y"])
        if "x" in panel.get("log", ""):
            a.set_xscale("log")
        if "y" in panel.get("log", ""):
            a.set_yscale("log")
        if "ticks" in panel:
            a.set_xticks(panel["ticks"], [f"{x:,}" for x in panel["ticks"]])
            a.minorticks_off()
        a.set(**panel.get("limits", {}))
        a.set_title(panel["title"], fontsize=10)
        a.legend(frameon=False, fontsize=8)
        a.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def maps(path: Path, panels: dict[str, np.ndarray], *, size: float = 2.5, rows: int = 1, xlabel="key", ylabel="query", faint=True) -> None:
    """For each title a matrix of weights in [0, 1], row by row; faint: draw the square root, which shows small weights too."""
    columns = -(-len(panels) // rows)
    tallest = max(len(w) / w.shape[1] for w in panels.values())
    figure, axes = canvas(columns, rows, size * columns + 0.3, (size * tallest + 0.15) * rows + 0.2 * bool(xlabel))
    for a in axes.flat[len(panels) :]:
        a.axis("off")
    for a, (title, weights) in zip(axes.flat, panels.items()):
        a.imshow(np.sqrt(weights) if faint else weights, cmap="Blues", vmin=0, vmax=1)
        a.set_title(title, fontsize=9)
        if xlabel:
            a.set_xlabel(xlabel, fontsize=8)
            a.set_ylabel(ylabel, fontsize=8)
        else:
            a.set(xticks=[], yticks=[])
        T, S = weights.shape
        if xlabel:
            a.set_xticks(range(0, S, 1 + S // 8))
            a.set_yticks(range(0, T, 1 + T // 8))
        if max(T, S) <= 16:
            a.set_xticks(np.arange(S + 1) - 0.5, minor=True)
            a.set_yticks(np.arange(T + 1) - 0.5, minor=True)
            a.grid(which="minor", color="#e4e4e4", linewidth=0.6)
        a.tick_params(which="both", length=0, labelsize=7)
    figure.savefig(path)


def block_by_block(path: Path, known: dict[str, np.ndarray], running: dict[int, list[float]], size: int) -> None:
    """known: for each title the weights (T, S) so far, NaN where no key has been seen; running: for each query its m after each block."""
    figure, [axes] = canvas(len(known) + 1, 1, 2.7 * len(known) + 3.1, 3.1)
    for a, (title, weights) in zip(axes, known.items()):
        T, S = weights.shape
        a.set_facecolor("#ececec")
        a.imshow(np.ma.masked_invalid(weights), cmap="Blues", vmin=0, vmax=1)
        for edge in range(size, max(T, S), size):
            a.axvline(edge - 0.5, color=RED, linewidth=1)
            a.axhline(edge - 0.5, color=RED, linewidth=1)
        a.set(xlabel="key", ylabel="query")
        a.set_title(title, fontsize=10)
        a.tick_params(length=0)
    last = axes[-1]
    for n, values in running.items():
        last.plot(range(1, len(values) + 1), values, "o-", color=BLUE, alpha=0.25 + 0.75 * (n == 0), linewidth=1.5, markersize=4)
    last.set(xlabel="blocks of keys seen", ylabel="running maximum m", xticks=range(1, len(known) + 1))
    last.set_title("m of each query (dark: query 0)", fontsize=10)
    last.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def noticed(path: Path, errors: dict[str, dict[str, float]], least: float) -> None:
    """errors: for each mistake (rows) its error in each test (columns); dark where it is more than `least`, or NaN."""
    tests = list(next(iter(errors.values())))
    table = np.array([[row[test] for test in tests] for row in errors.values()])
    figure, [[a]] = canvas(1, 1, 3.4 + 1.1 * len(tests), 0.6 + 0.36 * len(errors))
    seen = ~(table < least)
    a.imshow(seen, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for (i, j), error in np.ndenumerate(table):
        a.text(
            j, i, f"{error:.0e}" if seen[i, j] else "passes", ha="center", va="center", fontsize=8, color="white" if seen[i, j] else GREY
        )
    a.set_xticks(range(len(tests)), tests, fontsize=8)
    a.set_yticks(range(len(errors)), [name.replace("_", " ") for name in errors], fontsize=8)
    a.set_title("error of each mistake in each test", fontsize=10)
    a.tick_params(length=0)
    figure.savefig(path)
