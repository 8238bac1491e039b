"""Docstrings of this project as reStructuredText, which autodoc reads: `name` is code, and what is indented is preformatted."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CODE = re.compile(r"(?<![`:\w])`([^`]+)`(?![`_])")
OUTSIDE = re.compile(r"(``[^`]+``)")
SPECIAL = re.compile(r"([\\*|_])")


def restructured(lines: list[str]) -> list[str]:
    """A paragraph that is indented is a literal block; in the others `x` becomes ``x``, and no character means anything else."""
    out: list[str] = []
    for block in paragraphs(lines):
        if block[0].startswith(" "):
            out += ["::", "", *block, ""]
            continue
        kept = [line for line in block if not line.startswith("  ")]
        if len(kept) < len(block):  # text with lines set in: formulas, as they stand
            out += ["::", "", *("    " + line for line in block), ""]
        else:
            out += [*(plain(line) for line in block), ""]
    return out


def paragraphs(lines: list[str]) -> list[list[str]]:
    """Runs of lines between blank ones; literal paragraphs that follow each other are one."""
    found: list[list[str]] = []
    fresh = True
    for line in lines:
        if not line.strip():
            fresh = True
        elif fresh:
            found.append([line])
            fresh = False
        else:
            found[-1].append(line)
    joined: list[list[str]] = []
    for block in found:
        if joined and block[0].startswith(" ") and joined[-1][0].startswith(" "):
            joined[-1] += ["", *block]
        else:
            joined.append(block)
    return joined


def plain(line: str) -> str:
    pieces = OUTSIDE.split(CODE.sub(r"``\1``", line))
    return "".join(piece if piece.startswith("``") else SPECIAL.sub(r"\\\1", piece) for piece in pieces)


def process(app: "Sphinx", what: str, name: str, obj, options, lines: list[str]):
    lines[:] = [] if lines and lines[0].startswith("Alias for field number") else restructured(lines)  # the first: not ours


def setup(app: "Sphinx"):
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
