"""The figures of the walkthrough of replay."""

from pathlib import Path

from walkthroughs.engine._curves import BLUE, GOLD, GREEN, GREY, RED, finish
from walkthroughs.pictures import canvas


def memory(path: Path, of: dict) -> None:
    """For each model, arrays in time: every one in a place of its own, and packed. of: name -> (needs, begins, bytes, calls of the forward pass)."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    figure, axes = canvas(2, len(of), 12, 4.0 * len(of))
    for (left, right), (name, (needs, begins, size, turn)) in zip(axes, of.items()):
        calls, total = 1 + max(last for _, last, _, _ in needs), sum(nbytes for _, _, nbytes, _ in needs)
        own, place = {}, 0
        for _, _, nbytes, key in sorted(needs):
            own[key] = place
            place += nbytes
        passes = {"forward": (BLUE, [n for n in needs if n[0] < turn]), "backward": (GOLD, [n for n in needs if n[0] >= turn])}
        for panel, places in ((left, own), (right, begins)):
            for which, (colour, arrays) in passes.items():
                pieces = [Rectangle((first, places[key] / 1024), last - first + 1, nbytes / 1024) for first, last, nbytes, key in arrays]
                panel.add_collection(PatchCollection(pieces, facecolor=colour, edgecolor="white", linewidth=0.3))
                panel.plot([], [], "s", color=colour, label=f"written in the {which} pass")
            panel.axvline(turn, color=GREY, linewidth=1, linestyle=":")
            panel.set(xlim=(0, calls), ylim=(0, 1.02 * total / 1024))
        right.axhline(size / 1024, color=RED, linewidth=1)
        right.text(0.01 * calls, size / 1024, f"packed: {size / 1024:,.0f} KiB", color=RED, fontsize=9, va="bottom")
        finish(left, f"{name}: {len(needs)} arrays, each in a place of its own: {total / 1024:,.0f} KiB", "call of NumPy", "place, KiB")
        finish(right, f"{name}: a place is given away when its array has been read last", "call of NumPy", "place, KiB", legend=False)
        left.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path)


def times(path: Path, widths: list[int], measured) -> None:
    """Time of a step by width. measured (widths, 3): on the tape, replayed, only its calls; in microseconds."""
    figure, [[left, right]] = canvas(2, 1, 11, 4)
    for column, (name, colour) in enumerate({"on the tape": BLUE, "replayed": GOLD, "its calls, without AdamW": GREEN}.items()):
        left.loglog(widths, measured[:, column], "o-", markersize=4, color=colour, linewidth=1.6, label=name)
    right.semilogx(widths, measured[:, 0] / measured[:, 1], "o-", markersize=4, color=GOLD, linewidth=1.6)
    right.axhline(1, color=GREY, linewidth=1, linestyle=":")
    for panel in (left, right):
        panel.set_xticks(widths, widths)
        panel.minorticks_off()
    finish(left, "A step of the MLP, 64 examples", "width", "time, microseconds")
    finish(right, "What replay saves, it saves once for each call", "width", "time on the tape / replayed", legend=False, ylim=(0, None))
    figure.savefig(path)
