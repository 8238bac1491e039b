"""A page for each model: its docstring, the paper's symbols beside the variables, where each equation is computed, and the code."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from book.course import family_title, label, test_of
from book.record import ROOT
from book.tree import Tree, code, markdown
from walkthroughs.__main__ import scripts

SYMBOLS = Path(__file__).parent / "symbols"
MENTION = re.compile(r"[Ee]quations? (\d+)(?:(?:,? (to|and) | ?, ?)(\d+))?")


@dataclass(frozen=True)
class Block:
    """A stretch of a file: a class or function with what stands above it, or the statements before the first."""

    name: str  # "" for statements
    text: str
    line: int


def model_files() -> list[str]:
    """models/<family>/<system>.py, in the order of the course, where a family's other files come last."""
    found = [f"models/{name}.py" for name in scripts() if (ROOT / "models" / f"{name}.py").exists()]
    rest = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "models").glob("*/[a-z]*.py"))
    families = list(dict.fromkeys(Path(file).parent.name for file in [*found, *rest]))
    return sorted([*found, *(file for file in rest if file not in found)], key=lambda file: families.index(Path(file).parent.name))


def blocks_of(source: str) -> list[Block]:
    """The file below its docstring, cut before each class and function at the top level, comments and decorators with them."""
    lines = source.splitlines()
    tree = ast.parse(source)
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    begins = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            while first > 1 and lines[first - 2].startswith("#"):
                first -= 1
            begins.append((first, node.name))
    start = body[0].lineno if body else len(lines)
    cuts = [(start, ""), *begins, (len(lines) + 1, "")] if not begins or start < begins[0][0] else [*begins, (len(lines) + 1, "")]
    blocks = []
    for (first, name), (end, _) in zip(cuts, cuts[1:]):
        blocks.append(Block(name, "\n".join(lines[first - 1 : end - 1]).strip("\n"), first))
    return blocks


def equations_in(text: str) -> set[int]:
    """The numbers that some text names: equation 3, equations 1 to 3, equations 2 and 3."""
    found: set[int] = set()
    for first, to, last in MENTION.findall(text):
        found.update(range(int(first), int(last) + 1) if to == "to" else {int(first), int(last or first)})
    return found


def equations_of(source: str) -> dict[int, list[str]]:
    """Equation -> the classes, functions and methods (Class.method) whose docstrings or comments say that they compute it."""
    places: dict[int, list[str]] = {}
    lines = source.splitlines()

    def visit(node, path: str):
        methods = [child for child in node.body if isinstance(node, ast.ClassDef) and isinstance(child, ast.FunctionDef)]
        own = set(range(node.lineno, node.end_lineno + 1)) - {n for m in methods for n in range(m.lineno, m.end_lineno + 1)}
        for equation in equations_in("\n".join(lines[n - 1] for n in sorted(own))):
            places.setdefault(equation, []).append(path)
        for method in methods:
            visit(method, f"{path}.{method.name}")

    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            visit(node, node.name)
    return dict(sorted(places.items()))


def anchor(file: str, name: str) -> str:
    return f"{file.removesuffix('.py').replace('/', '-')}-{name}".lower().replace("_", "-")


def write_models(tree: Tree, diffs: dict[str, list[tuple[str, str]]]):
    """diffs: file -> the (title, page) of the comparisons that it is part of."""
    files = model_files()
    for file in files:
        write_model(tree, file, diffs.get(file, []))
    lines, family = [], ""
    for file in files:
        name = file.removeprefix("models/").removesuffix(".py")
        if family_title(name) != family:
            family = family_title(name)
            lines.append(f"\n## {family}\n")
        title = (ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or "").partition("\n")[0].removesuffix(".")
        lines.append(f"- [{title}]({name}.md)")
    entries = "\n".join(
        f"{label(file.removeprefix('models/').removesuffix('.py'))} <{file.removeprefix('models/').removesuffix('.py')}>" for file in files
    )
    tree.write(
        "models/index",
        "# The models\n\nOne file a system, which reads from top to bottom like its paper: the idea, numbered equations in the symbols of the "
        "code, then the code.\n" + "\n".join(lines) + f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n",
    )


def write_model(tree: Tree, file: str, diffs: list[tuple[str, str]]):
    page = file.removesuffix(".py")
    source = (ROOT / file).read_text(encoding="utf-8")
    title, _, rest = (ast.get_docstring(ast.parse(source)) or page).partition("\n")
    blocks = blocks_of(source)
    body = [f"# {markdown(title.removesuffix('.'))}", facts(tree, file, page, diffs), markdown(tree.linked(rest.strip("\n"), page))]
    symbols = SYMBOLS / Path(file).relative_to("models").with_suffix(".md")
    if symbols.exists():
        body += ["## The paper's symbols and these variables", tree.linked(symbols.read_text(encoding="utf-8"), page)]
    table = equation_table(file, source)
    if table:
        body += ["## Where each equation is computed", table]
    body.append("## The code")
    for block in blocks:
        if block.name:
            body += [f"({anchor(file, block.name)})=", f"### {block.name}"]
        body.append(code(block.text, "python", first=block.line, numbers=True))
    tree.write(page, "\n\n".join(body))


def facts(tree: Tree, file: str, page: str, diffs: list[tuple[str, str]]) -> str:
    name = file.removeprefix("models/").removesuffix(".py")
    links = [f"`{file}`"]
    if (ROOT / "walkthroughs" / f"{name}.py").exists():
        links.append(tree.link("its walkthrough", f"walkthroughs/{name}.py", page))
    if test_of(file):
        links.append(tree.link("its tests", test_of(file), page))
    links += [f"[{title}](../../{target}.md)" for title, target in diffs]
    return "```{container} facts\n" + " · ".join(links) + "\n```"


def equation_table(file: str, source: str) -> str:
    rows = []
    for equation, places in equations_of(source).items():
        links = [f"[`{place}`](#{anchor(file, place.partition('.')[0])})" for place in places]
        rows.append(f"| ({equation}) | {', '.join(links)} |")
    return "\n".join(["| equation | computed in |", "|---|---|", *rows]) if rows else ""
