"""Boxes and edges as SVG text.

Every text has its length written beside it (`textLength`), so that it fits its box in any font. The style is bound to the class of
this one drawing, since a notebook puts many into one page; colours follow the reader's setting, and without one they are light.
"""

from tinygrad_notes.drawing.contents import CONSTANT, LOSS, NOT_KEPT, RESULT, VARIABLE, Box
from tinygrad_notes.drawing.layout import layout

LETTER = 7.2  # the width of a letter in pixels: 0.6 of the font's size, as in most fonts of equal widths
LINE, PAD, MARGIN = 16, 10, 18
HINT = f"{NOT_KEPT}: draw the function, draw(lambda: ...)"
SWATCHES = {VARIABLE: "variable", CONSTANT: "constant", RESULT: "result", LOSS: "loss"}

LIGHT = """
.tn-graph .page {fill: #ffffff} .tn-graph .edge {stroke: #8793a0; stroke-width: 1.4; stroke-linecap: round; fill: none} .tn-graph .tip {fill: #8793a0}
.tn-graph text {font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2d3a; white-space: pre}
.tn-graph .title {font-weight: bold} .tn-graph .dim {fill: #5c6b78} .tn-graph .grad {fill: #a83f28}
.tn-graph rect {stroke-width: 1.4} .tn-graph .result {fill: #ffffff; stroke: #34495e} .tn-graph .variable {fill: #eaf4ea; stroke: #3a7d44}
.tn-graph .constant {fill: #f6f4ef; stroke: #a39b8b; stroke-dasharray: 5 4} .tn-graph .loss {fill: #fdf1ec; stroke: #b5472f; stroke-width: 2.2}
"""
DARK = """
.tn-graph .page {fill: #12181f} .tn-graph .edge {stroke: #6f7d8b} .tn-graph .tip {fill: #6f7d8b}
.tn-graph text {fill: #e4ebf2} .tn-graph .dim {fill: #9aa8b5} .tn-graph .grad {fill: #ffa48a}
.tn-graph .result {fill: #1b242e; stroke: #8fa0b0} .tn-graph .variable {fill: #17301f; stroke: #62b074}
.tn-graph .constant {fill: #24221d; stroke: #8b8474} .tn-graph .loss {fill: #361d16; stroke: #e57a5f}
"""


def svg_of(boxes: list[Box], edges: list[tuple[int, int]]) -> str:
    sizes = [size_of(box) for box in boxes]
    plan = layout(sizes, edges)
    legend, legend_width, legend_height = legend_of(boxes, plan.height + 2 * MARGIN)
    width, height = max(plan.width, legend_width) + 2 * MARGIN, plan.height + legend_height + 3 * MARGIN
    left = (width - plan.width) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tn-graph" role="img" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">',
        f"<title>A graph of {len(boxes)} nodes with their values and gradients</title>",
        f"<style>{LIGHT}@media (prefers-color-scheme: dark) {{{DARK}}}\n</style>",
        f'<rect class="page" width="{width:g}" height="{height:g}"/>',
        f'<g transform="translate({left:g} {MARGIN})">',
    ]
    done: set[tuple] = set()
    lines += [curve(path, done) for path in plan.paths]
    for box, corner, size in zip(boxes, plan.corners, sizes):
        lines += drawn(box, corner, size)
    return "\n".join([*lines, "</g>", *legend, "</svg>", ""])


def size_of(box: Box) -> tuple[float, float]:
    longest = max(len(f"{box.title}  {box.note}".rstrip()), len(box.shape), len(box.value), len(box.grad or ""))
    return longest * LETTER + 2 * PAD, (2 + bool(box.value) + bool(box.grad)) * LINE + 2 * PAD - 4


def drawn(box: Box, corner: tuple[float, float], size: tuple[float, float]) -> list[str]:
    (x, y), (w, h) = corner, size
    rest = [(box.shape, "dim"), (box.value, "number"), (box.grad, "grad")]
    texts = [written(box.title, "title", x + PAD, y + PAD + 9)]
    if box.note:
        texts.append(written(box.note, "dim", x + PAD + (len(box.title) + 2) * LETTER, y + PAD + 9))
    shown = [(text, kind) for text, kind in rest if text]
    texts += [written(text, kind, x + PAD, y + PAD + 9 + LINE * k) for k, (text, kind) in enumerate(shown, 1)]
    radius = 12 if box.kind == VARIABLE else 4
    return [
        '<g class="node">',
        f'<rect class="{box.kind}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius}"/>',
        *texts,
        "</g>",
    ]


def written(text: str, kind: str, x: float, y: float) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" textLength="{len(text) * LETTER:.1f}" lengthAdjust="spacingAndGlyphs">{escaped(text)}</text>'


def escaped(text: str) -> str:
    return text.translate({ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"})


def curve(path: list[tuple[float, float]], done: set[tuple]) -> str:
    """An edge with its arrowhead: straight down inside a row, an S between two rows; without what is `done`, drawn for another edge."""
    d = []
    for leg in zip(path, path[1:]):
        (x, y), (a, b) = leg
        if leg not in done:
            middle = (y + b) / 2
            d.append(f"M{x:.1f} {y:.1f}")
            d.append(f"V{b:.1f}" if a == x else f"C{x:.1f} {middle:.1f} {a:.1f} {middle:.1f} {a:.1f} {b:.1f}")
            done.add(leg)
    x, y = path[-1]
    return f'<path class="edge" d="{" ".join(d)}"/><path class="tip" d="M{x:.1f} {y:.1f}l-4 -8h8z"/>'


def legend_of(boxes: list[Box], y: float) -> tuple[list[str], float, float]:
    """A sample of each kind of box that occurs, and what to do about values that are missing; with its width and height."""
    lines, x, kinds = [], float(MARGIN), {box.kind for box in boxes}
    for kind, text in SWATCHES.items():
        if kind in kinds:
            lines.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="20" height="12" rx="{6 if kind == VARIABLE else 3}"/>')
            lines.append(written(text, "dim", x + 26, y + 10))
            x += 26 + len(text) * LETTER + 24
    width = x - MARGIN - 24
    if all(box.value != NOT_KEPT for box in boxes):
        return lines, width, LINE
    return [*lines, written(HINT, "dim", MARGIN, y + 10 + 1.5 * LINE)], max(width, len(HINT) * LETTER), 2.5 * LINE
