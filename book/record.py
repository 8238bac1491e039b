"""Runs a walkthrough as `python -m walkthroughs` does, and records what it prints and draws, and where.

    python -m book.record language/gpt RECORD.json [the script's own arguments]

The script is run unchanged. For each piece of output the record has the line of the script, at the top level, that was
running: for what is printed, the writer that stands in for sys.stdout looks at the stack; for pictures, an audit hook does,
which Python calls whenever a file is opened, whatever library draws it. What goes to stderr (progress bars) passes.
"""

import ast
import hashlib
import json
import os
import platform
import runpy
import sys
import time
import traceback
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import tinygrad_notes  # noqa: F401  (before the script imports NumPy)

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (".png", ".svg")
SOURCES = ("tinygrad_notes", "models", "walkthroughs")


class Recorder:
    """Stands in for sys.stdout, and listens to the files that are opened."""

    def __init__(self, script: Path, stream):
        self.script, self.stream, self.line = str(script), stream, 1
        self.printed: list[list] = []  # [line, text]
        self.pictures: dict[str, int] = {}  # path -> line
        self.data: set[Path] = set()  # files of this project that were read, other than Python's

    def here(self) -> int:
        """The line of the script's top level that is running; in another thread, the last one known."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == self.script:
                self.line = frame.f_lineno
                break
            frame = frame.f_back
        return self.line

    def write(self, text: str) -> int:
        line = self.here()
        if self.printed and self.printed[-1][0] == line:
            self.printed[-1][1] += text
        else:
            self.printed.append([line, text])
        self.stream.write(text)
        return len(text)

    def flush(self):
        self.stream.flush()

    def listen(self, event: str, arguments: tuple):
        if event != "open":
            return
        path, mode, flags = arguments
        writes = any(c in mode for c in "wxa+") if isinstance(mode, str) else bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))
        if not isinstance(path, str | bytes | os.PathLike):
            return
        place = Path(os.path.abspath(os.fsdecode(path)))
        if writes and place.suffix in PICTURES:
            self.pictures.setdefault(str(place), self.here())
        elif not writes and place.is_relative_to(ROOT / "tinygrad_notes") and place.suffix not in (".py", ".pyc"):
            self.data.add(place)

    def __getattr__(self, name):
        return getattr(self.stream, name)


def fingerprint(path: Path) -> str:
    """Of what a file does: of Python, its syntax tree without docstrings, so that a better sentence is no reason to run all again."""
    return fingerprint_of(path.read_bytes(), path.suffix == ".py")


@cache
def fingerprint_of(content: bytes, is_python: bool) -> str:
    if is_python:
        tree = ast.parse(content)
        for node in ast.walk(tree):
            documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if documented and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        content = ast.dump(tree).encode()
    return hashlib.sha256(content).hexdigest()


def sources() -> dict[Path, str]:
    """All files of this project that a run may use, and their fingerprints."""
    return {
        path: fingerprint(path) for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"
    }


def ours(script: Path, data: set[Path], before: dict[Path, str]) -> dict[str, str]:
    """The files of this project that the run has used, and their fingerprints from before it: an edit meanwhile is not what ran."""
    loaded = {Path(m.__file__).resolve() for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
    used = {
        script.resolve(),
        *data,
        *(p for p in loaded if p.suffix == ".py" and any(p.is_relative_to(ROOT / folder) for folder in SOURCES)),
    }
    return {p.relative_to(ROOT).as_posix(): before.get(p, "") for p in sorted(used) if p.is_relative_to(ROOT)}


def record(script: Path, arguments: list[str]) -> dict:
    before = sources()
    recorder = Recorder(script, sys.stdout)
    sys.stdout, sys.argv = recorder, [str(script), *arguments]
    sys.addaudithook(recorder.listen)
    began, wall = time.process_time(), time.perf_counter()
    failure = ""
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        failure = "" if end.code in (None, 0) else str(end.code)
    except BaseException:
        failure = traceback.format_exc()
    used, wall = time.process_time() - began, time.perf_counter() - wall
    sys.stdout = recorder.stream
    return {
        "arguments": arguments,
        "failure": failure,
        "printed": recorder.printed,
        "pictures": [[line, path] for path, line in recorder.pictures.items() if os.path.exists(path)],
        "seconds": round(wall, 1),
        "processor_seconds": round(used, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "numpy": sys.modules["numpy"].__version__,
        "files": ours(script, recorder.data, before),
    }


def main(arguments: list[str]) -> int:
    name, out, *rest = arguments
    result = record(ROOT / "walkthroughs" / f"{name}.py", rest)
    Path(out).write_text(json.dumps(result, indent=1), encoding="utf-8")
    if result["failure"]:
        print(result["failure"], file=sys.stderr)
    return 1 if result["failure"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
