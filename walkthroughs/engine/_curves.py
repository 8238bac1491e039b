"""The figures of the walkthroughs of gradient checks and of optimizers."""

from pathlib import Path

from walkthroughs.pictures import canvas

import numpy as np

BLUE, RED, GREEN, GREY, GOLD, VIOLET = COLOURS = "#1f4e79", "#b5472f", "#3a7d44", "#8c8c8c", "#c8963e", "#6b4c8a"


def finish(axes, title, xlabel, ylabel, legend=True, **settings):
    """Title, labels, limits and scales of one panel."""
    axes.set(xlabel=xlabel, ylabel=ylabel, **settings)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def differences(path: Path, hs, measured, theory, eps, steps, columns, errors, bounds) -> None:
    """The U of the error, Richardson's columns, and true errors against their bounds."""
    figure, [[left, middle, right]] = canvas(3, 1, 14, 4.2)
    for (name, e), colour in zip(measured.items(), (GREEN, BLUE, GOLD, GREY)):
        left.loglog(hs, np.maximum(e, 1e-17), color=colour, linewidth=1.6, label=name)
    left.loglog(hs, theory, ":", color="black", linewidth=1.2, label="central, theory")
    for power, name in ((1 / 2, "eps^(1/2)"), (1 / 3, "eps^(1/3)")):
        left.axvline(eps**power, color="#c8c8c8", linewidth=1, zorder=0)
        left.text(eps**power, 1e2, f" {name}", fontsize=7, color=GREY, va="top")
    finish(left, "Smaller is not better", "step h", "error of the slope", ylim=(1e-17, 1e2))
    for (j, e), colour in zip(columns.items(), (BLUE, GREEN, GOLD, RED, VIOLET)):
        middle.loglog(
            steps, np.maximum(e, 1e-17), "o-", markersize=3, color=colour, linewidth=1.4, label=f"{j} extrapolations: h^{2 * j + 2}"
        )
    finish(middle, "Richardson's extrapolation", "smallest step h", "error of the slope")
    right.loglog(bounds, np.maximum(errors, 1e-30), ".", color=BLUE, markersize=3, alpha=0.6, label="one slope")
    ends = np.array([bounds.min(), bounds.max()])
    right.loglog(ends, ends, color=RED, linewidth=1.2, label="error = bound")
    finish(right, "A tolerance that nobody sets", "bound from the table", "true error", ylim=(bounds.min() / 1e5, None))
    figure.savefig(path)


def recipes(path: Path, share: dict, kinds: list[str], by_kind, worth: dict) -> None:
    """What each check notices; by kind of mistake (kinds, checks); and without an ingredient."""
    figure, [[left, middle, right]] = canvas(3, 1, 16, 4.6)
    names, at = list(share), np.arange(len(share))
    bars = left.barh(at, [100 * share[n] for n in names], 0.55, color=BLUE)
    left.bar_label(bars, [f"{100 * share[n]:.0f}" for n in names], padding=3, fontsize=8)
    left.set_yticks(at, names)
    finish(left, "Wrong rules that a check notices", "%", "", xlim=(0, 108), legend=False)
    middle.imshow(by_kind, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(by_kind):
        middle.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=6.5, color="white" if value > 0.6 else "black")
    middle.set_xticks(at, names, rotation=35, ha="right", fontsize=8)
    middle.set_yticks(range(len(kinds)), kinds, fontsize=8)
    middle.tick_params(length=0)
    middle.set_title("... by kind of mistake, %", fontsize=10)
    passing = [100 - 100 * w for w in worth.values()]
    bars = right.barh(range(len(worth)), passing, 0.55, color=RED)
    right.bar_label(bars, [f"{p:.1f}" for p in passing], padding=3, fontsize=8)
    right.set_yticks(range(len(worth)), list(worth), fontsize=8)
    right.invert_yaxis()
    finish(right, "Wrong rules that pass our suite without its ...", "%", "", legend=False, xlim=(0, 1.15 * max(passing)))
    figure.savefig(path)


def broken(path: Path, losses: dict) -> None:
    """The losses of networks whose gradients are right and wrong."""
    figure, [[axes]] = canvas(1, 1, 6.5, 4)
    for (name, loss), colour in zip(losses.items(), (BLUE, RED, GREY)):
        axes.plot(loss, color=colour, linewidth=1.6, label=name)
    finish(axes, "Three gradients, one of them right: all of them learn", "step", "loss, mean of 10 steps", ylim=(0, None))
    figure.savefig(path)


def paths(path: Path, heights: dict, walks: dict) -> None:
    """Paths of optimizers on contours, one row for each place; heights: place -> f(x, y), walks: (place, rule) -> (steps, 2)."""
    names = list(dict.fromkeys(name for _, name in walks))
    figure, axes = canvas(len(names), len(heights), 2.6 * len(names), 2.6 * len(heights))
    for row, (place, height) in zip(axes, heights.items()):
        ends = np.concatenate([w[:1] for (where, _), w in walks.items() if where == place])
        (left, right), (low, high) = ((-2.8, 1.6), (-2.1, 1.6)) if place == "valley" else ((-1.6, 1.6), (-0.6, 1.7))
        x, y = np.meshgrid(np.linspace(left, right, 120), np.linspace(low, high, 120))
        z = height(x, y)
        for a, name in zip(row, names):
            a.contour(x, y, z, levels=z.max() * 2.0 ** np.arange(-14, 0), colors="#d0d7de", linewidths=0.7)
            a.plot(*walks[place, name].T, ".-", color=BLUE, markersize=2.5, linewidth=0.9)
            a.plot(*ends[0], "o", color=RED, markersize=4)
            a.plot(*((0, 0) if place == "valley" else (1, 1)), "+", color="black", markersize=8)
            a.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()), xticks=[], yticks=[])
            a.set_title(f"{name}, {place}: {len(walks[place, name]) - 1} steps", fontsize=8)
            a.spines[:].set_color("#d0d0d0")
    figure.savefig(path)


def steps(path: Path, ks, table: dict, turned: dict, uncorrected, corrected) -> None:
    """Steps against the condition number: theory, and valleys that are turned; Adam's steps without bias correction."""
    figure, [[left, middle, right]] = canvas(3, 1, 15, 4)
    for name, colour in (("SGD", GREY), ("momentum", BLUE), ("Nesterov", GREEN)):
        left.loglog(ks, table[name], "o", color=colour, label=name)
        if f"{name}, theory" in table:
            left.loglog(ks, table[f"{name}, theory"], "-", color=colour, linewidth=1.2, label=f"{name}, theory")
    finish(left, "Steps to a millionth of the distance", "condition number k", "steps")
    for (name, how), row in turned.items():
        colour = {"Adam": BLUE, "RMSProp": GREEN, "Adagrad": GOLD}[name]
        middle.loglog(ks[: len(row)], row, "o--" if how.startswith("along") else "o-", color=colour, label=f"{name}, {how}")
    finish(middle, "To a thousandth: Adam is tied to the axes", "condition number k", "steps", legend=False)
    middle.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.12))
    n = np.arange(1, len(corrected) + 1)
    right.semilogx(n, uncorrected, color=RED, label="without bias correction")
    right.semilogx(n, corrected, color=BLUE, label="with it")
    finish(right, "Adam, the gradient is always 1", "step", "length of the step / lr", ylim=(0, None))
    figure.savefig(path)


def schedules(path: Path, ts, rates: dict, strides: dict, spike: int) -> None:
    """Learning rates; the steps after one wild gradient."""
    figure, [[left, right]] = canvas(2, 1, 10, 4)
    for (name, lr), colour in zip(rates.items(), COLOURS):
        left.plot(ts, lr, color=colour, linewidth=1.5, label=name)
    finish(left, "Schedules", "step", "learning rate, of the peak", ylim=(0, 1.05))
    for (name, lengths), colour in zip(strides.items(), (GREY, GREEN, GOLD, RED, BLUE)):
        style = "--" if "clipped" in name else "-"
        right.semilogy(np.arange(len(lengths)) - spike, lengths, style, color=colour, linewidth=1.5, label=name)
    finish(right, "One gradient of 1,000 among ones", "steps after it", "length of the step / lr", xlim=(-500, None))
    figure.savefig(path)


def rates(path: Path, scenes: dict, ways: list[str], right: dict) -> None:
    """Test images read rightly against the learning rate, one panel a network, one line for each way to train it."""
    figure, [row] = canvas(len(scenes), 1, 5 * len(scenes), 3.8)
    for axes, (scene, lrs) in zip(row, scenes.items()):
        for way, colour in zip(ways, (GREY, GOLD, GREEN, BLUE)):
            axes.semilogx(lrs, [100 * right[scene, way, lr] for lr in lrs], "o-", color=colour, linewidth=1.6, markersize=4, label=way)
        axes.set_xticks(lrs, [f"{lr:g}" for lr in lrs])
        axes.minorticks_off()
        finish(axes, scene, "learning rate", "test images read rightly, %", ylim=(0, 100))
    figure.savefig(path)
