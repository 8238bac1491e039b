"""A walkthrough as its reader meets it: a title, an introduction, and cells of prose and code.

A cell begins with a line `# %% Its title`. Comments that stand by themselves at the left margin, below such a line or below
a blank one, are prose, in Markdown; everything else is code. So a cell is a series of parts, each some prose with the code
that follows it.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

MARK = "# %%"
DIRECTIVES = re.compile(r"#\s*(fmt:|noqa|ruff:|type:|pyright:|mypy:)")  # comments for tools, not for readers


@dataclass(frozen=True)
class Part:
    title: str  # of the cell, "" for all its parts but the first
    prose: str
    code: str
    line: int  # where the part begins in the script, from 1


@dataclass(frozen=True)
class Walkthrough:
    name: str  # language/gpt
    title: str
    time: str  # what stands behind RUNNING TIME:
    introduction: str
    parts: tuple[Part, ...]


def read_walkthrough(name: str, path: Path) -> Walkthrough:
    source = path.read_text(encoding="utf-8")
    title, time, introduction = introduce(ast.get_docstring(ast.parse(source)) or name)
    return Walkthrough(name, title, time, introduction, tuple(parts_of(source)))


def introduce(docstring: str) -> tuple[str, str, str]:
    """(title without its full stop, running time, the rest) of a script's docstring."""
    title, _, rest = docstring.partition("\n")
    times = [line.partition(":")[2].strip() for line in rest.splitlines() if line.lower().startswith("running time:")]
    rest = "\n".join(line for line in rest.splitlines() if not line.lower().startswith("running time:"))
    return title.strip().removesuffix("."), " ".join(times), rest.strip("\n")


def parts_of(source: str) -> list[Part]:
    """What stands below the docstring, cut where a cell begins, and where prose stands between the code of a cell."""
    lines = source.splitlines()
    inside = {n for statement in ast.parse(source).body for n in range(statement.lineno - 1, statement.end_lineno or 0)}
    marked = [n not in inside and line.startswith(MARK) for n, line in enumerate(lines)]
    prose = [n not in inside and is_prose(line) for n, line in enumerate(lines)]
    first = marked.index(True) if True in marked else len(lines)
    begins = [n for n in range(first, len(lines)) if marked[n] or (prose[n] and not lines[n - 1].strip())]
    parts = []
    for begin, end in zip(begins, [*begins[1:], len(lines)]):
        title = lines[begin].removeprefix(MARK).strip() if marked[begin] else ""
        text = begin + marked[begin]
        code = next((n for n in range(text, end) if not prose[n]), end)
        comment = "\n".join(line[1:].removeprefix(" ") for line in lines[text:code])
        parts.append(Part(title, comment.strip("\n"), "\n".join(lines[code:end]).strip("\n"), begin + 1))
    return parts


def is_prose(line: str) -> bool:
    return line.startswith("#") and not line.startswith(MARK) and not DIRECTIVES.match(line)
