"""`python -m walkthroughs` lists the course; `python -m walkthroughs language/gpt [--quick]` runs one of its scripts;
`python -m walkthroughs language` lists one family.

Arguments after the name are the script's own. A script's docstring begins with its title and may
have a line `RUNNING TIME: ...`, which the list shows.
"""

import ast
import runpy
import sys
from difflib import get_close_matches
from pathlib import Path

import tinygrad_notes  # noqa: F401  (before a script imports NumPy)

HERE = Path(__file__).parent
FAMILIES = "engine attention language vision multimodal adaptation diffusion".split()
WITHIN = (
    "autograd replay differences gradcheck optimizers schedules depth "
    "attention masks cross convolution flash flash_costs flash_mistakes "
    "transformer gpt1 bert gpt vit clip lora lora_text ddpm ddim"
).split()


def in_course(name: str) -> tuple:
    """Sorts names like language/gpt in the order of the course; whatever is not in the lists above comes last in its family, or last of all."""
    family, _, script = name.partition("/")
    places = [words.index(word) if word in words else len(words) for words, word in ((FAMILIES, family), (WITHIN, script))]
    return places[0], family, places[1], script


def scripts() -> dict[str, Path]:
    """language/gpt -> its file, in the order of the course; files that begin with _ are not walkthroughs."""
    found = {path.relative_to(HERE).with_suffix("").as_posix(): path for path in HERE.glob("*/[a-z]*.py")}
    return {name: found[name] for name in sorted(found, key=in_course)}


def describe(path: Path) -> str:
    """The title of a script and its running time."""
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines() or [""]
    times = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("running time:")]
    return " ".join([lines[0], *(f"[{time}]" for time in times)])


def named(asked: str) -> str:
    """language/gpt for language/gpt.py, walkthroughs/language/gpt.py and ./walkthroughs/language/gpt.py, as the Tab key completes them."""
    path = asked.replace("\\", "/").removeprefix("./").removeprefix("walkthroughs/")
    return path.removesuffix(".py").rstrip("/")


def advice(name: str, found: dict[str, Path]) -> str:
    """The script that may have been meant, by its whole name or by its last part; all of them where none is near."""
    whole = {written: script for script in found for written in (script, script.partition("/")[2])}
    for near in get_close_matches(name, whole, n=1):
        return f"did you mean {whole[near]}? Without a name, all are listed"
    return f"choose one of {', '.join(found)}"


def run(path: Path, arguments: list[str]) -> int:
    """The exit status of a script: 130, as of every program that Ctrl-C stops, without a traceback."""
    sys.argv = [str(path), *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


def main(arguments: list[str]) -> int:
    found = scripts()
    asked = arguments[0] if arguments else "--help"
    name = named(asked)
    if name in found:
        return run(found[name], arguments[1:])
    family = {script: path for script, path in found.items() if script.startswith(f"{name}/")}
    if not family and asked not in ("-h", "--help", "--names"):
        print(f"walkthroughs: there is no {asked!r}; {advice(name, found)}", file=sys.stderr)
        return 2
    for script, path in (family or found).items():
        print(script if arguments == ["--names"] else f"{script:24} {describe(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
