"""The home page, the documents of docs/, and the pages of the API."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import tinygrad_notes as tn
from book.cells import Walkthrough
from book.course import cards
from book.record import ROOT
from book.runs import Run
from book.tree import Tree

DOCUMENTS = {  # file -> page
    "docs/coming-from-pytorch.md": "coming-from-pytorch",
    "docs/ops.md": "ops",
    "docs/limits.md": "limits",
    "docs/design.md": "design",
    "docs/verification.md": "verification",
    "docs/performance.md": "performance",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
}
USEFUL = "functional nn nn.init nn.cache optim saving text data images check tree parallel threads runtime registry".split()
ENGINE = "binding core fused ops tensor transforms".split()  # behind the package's own page, or behind ops.md


def write_documents(tree: Tree):
    for file, page in DOCUMENTS.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        tree.write(page, tree.linked(text, page, origin=str(Path(file).parent)))


def write_home(tree: Tree, course: list[Walkthrough], runs: dict[str, Run]):
    """README's beginning, then the course; the rest of README is the page that tells how to start."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    home, _, start = readme.partition("\n## Start\n")
    tree.write("start", tree.linked("# Start\n" + drop_section(start, "Licence"), "start"))
    menus = {
        "Begin": ["Start <start>", "From PyTorch <coming-from-pytorch>", "Design <design>"],
        "Read": ["The course <walkthroughs/index>", "The models <models/index>", "Edits <diffs/index>"],
        "Look up": ["API <api/index>", "Ops <ops>", "Limits <limits>", "Verification <verification>", "Performance <performance>"],
        "Join in": ["Contributing <contributing>", "Changelog <changelog>"],
    }
    toctrees = "\n\n".join(
        "```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(entries) + "\n```" for caption, entries in menus.items()
    )
    tree.write(
        "index",
        tree.linked(home, "index")
        + "\n\n[Start here](start.md) to install and run it; [coming from PyTorch](coming-from-pytorch.md) has a table of idioms; "
        "[design](design.md) says why it is as it is.\n\n## The course\n\n" + cards(course, runs, "index") + f"\n\n{toctrees}\n",
    )


def drop_section(text: str, title: str) -> str:
    return re.sub(rf"\n## {title}\n.*?(?=\n## |\Z)", "\n", text, flags=re.S)


def api_modules() -> list[str]:
    """The package, the modules that people use, in this order, and any other that is not the engine's."""
    found = {path.stem for path in (ROOT / "tinygrad_notes").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    others = sorted(name for name in found - {*USEFUL, *ENGINE} if not name.startswith("_"))
    return ["tinygrad_notes", *(f"tinygrad_notes.{name}" for name in [*USEFUL, *others])]


def exported_above(module: ModuleType) -> list[str]:
    """What the package itself offers too; it stands on the package's page."""
    return [] if module is tn else [name for name in tn.__all__ if getattr(module, name, None) is getattr(tn, name)]


def write_api(tree: Tree):
    tree.plain.update(path.relative_to(ROOT).as_posix() for path in (ROOT / "tinygrad_notes").rglob("*.py"))  # what [source] leads to
    rows, entries = [], []
    for name in api_modules():
        module = importlib.import_module(name)
        twice = exported_above(module)
        title = f"``{name}``"
        directive = f".. automodule:: {name}\n   :members:\n   :member-order: bysource\n"
        directive += f"   :exclude-members: {', '.join(twice)}\n" if twice else ""
        tree.write(f"api/{name}", f"{title}\n{'=' * len(title)}\n\n{directive}", suffix=".rst")
        rows.append(f"| [`{name}`]({name}.rst) | {(module.__doc__ or '').partition(chr(10))[0]} |")
        entries.append(f"{name.removeprefix('tinygrad_notes.')} <{name}>")
    tree.write(
        "api/index",
        "# The API\n\nFrom the docstrings. NumPy's functions themselves are in [Ops](../ops.md): they are the language, and a Tensor goes in the "
        "place of an array.\n\n| module | |\n|---|---|\n"
        + "\n".join(rows)
        + "\n\n```{toctree}\n:hidden:\n\n"
        + "\n".join(entries)
        + "\n```\n",
    )
