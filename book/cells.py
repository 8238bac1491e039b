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
    lines = source.splitlines()
    tree = ast.parse(source)
    inside = set()  # lines within a statement, where a comment is the code's own
    for statement in tree.body:
        inside.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    parts: list[Part] = []
    title, prose, code, start = "", [], [], 1

    def close():
        text = "\n".join(code).strip("\n")
        if title or prose or text:
            parts.append(Part(title, "\n".join(prose).strip("\n"), text, start))

    number = len(lines) if not any(line.startswith(MARK) for line in lines) else 0
    while number < len(lines) and not lines[number].startswith(MARK):
        number += 1  # the docstring
    while number < len(lines):
        line = lines[number]
        mark = line.startswith(MARK)
        if mark or (is_prose(line) and number + 1 not in inside and not lines[number - 1].strip()):
            close()
            title, prose, code, start = line[len(MARK) :].strip() if mark else "", [], [], number + 1
            number += mark
            while number < len(lines) and is_prose(lines[number]) and number + 1 not in inside:
                prose.append(lines[number][1:].removeprefix(" "))
                number += 1
        else:
            code.append(line)
            number += 1
    close()
    return parts


def is_prose(line: str) -> bool:
    return line.startswith("#") and not line.startswith(MARK) and not DIRECTIVES.match(line)
