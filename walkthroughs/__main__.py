"""`python -m walkthroughs` lists the course; `python -m walkthroughs language/gpt [--quick]` runs one of its scripts.

Arguments after the name are the script's own. A script's docstring begins with its title and may
have a line `RUNNING TIME: ...`, which the list shows.
"""

import ast
import runpy
import sys
from pathlib import Path

import tinygrad_notes  # noqa: F401  (before a script imports NumPy)

HERE = Path(__file__).parent
FAMILIES = "engine attention language vision multimodal adaptation diffusion".split()
WITHIN = (
    "autograd differences gradcheck optimizers schedules depth "
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


def main(arguments: list[str]) -> int:
    found = scripts()
    if not arguments or arguments[0] in ("-h", "--help", "--names"):
        for name, path in found.items():
            print(name if arguments == ["--names"] else f"{name:24} {describe(path)}")
        return 0
    name = arguments[0].removesuffix(".py")
    if name not in found:
        print(f"walkthroughs: there is no {arguments[0]!r}; choose one of {', '.join(found)}", file=sys.stderr)
        return 2
    sys.argv = [str(found[name]), *arguments[1:]]
    runpy.run_path(str(found[name]), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
