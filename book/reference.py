"""The home page, the documents of docs/, and the pages of the API."""

import importlib
import re
from pathlib import Path

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
API = {  # module -> what it is for
    "tinygrad_notes": "Tensors, gradients, functions of functions, and the parameters of a model",
    "tinygrad_notes.functional": "activations, norms, losses, attention, convolutions",
    "tinygrad_notes.nn": "layers",
    "tinygrad_notes.nn.init": "random weights to start from",
    "tinygrad_notes.nn.cache": "keys and values of what was read",
    "tinygrad_notes.optim": "optimizers, schedules, clipping, averages",
    "tinygrad_notes.saving": "checkpoints and published models",
    "tinygrad_notes.text": "tokenizers and n-grams",
    "tinygrad_notes.data": "small data sets and batches",
    "tinygrad_notes.images": "preprocessing of images",
    "tinygrad_notes.check": "tools to test gradients and to find what went wrong",
    "tinygrad_notes.tree": "walks over models: what the functions for parameters are made of",
    "tinygrad_notes.parallel": "half-batches on two threads",
    "tinygrad_notes.threads": "large kernels on two threads",
    "tinygrad_notes.runtime": "the settings that the import makes",
    "tinygrad_notes.registry": "to give a function of yours a gradient",
}


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
        "[design](design.md) says why it is as it is.\n\n## The course\n\n"
        + cards(tree, course, runs, "index")
        + f"\n\n{toctrees}\n",
    )


def drop_section(text: str, title: str) -> str:
    return re.sub(rf"\n## {title}\n.*?(?=\n## |\Z)", "\n", text, flags=re.S)


def exported_above(module: str) -> list[str]:
    """What the package itself offers too; it stands on the package's page."""
    found = importlib.import_module(module)
    return [] if found is tn else [name for name in tn.__all__ if getattr(found, name, None) is getattr(tn, name)]


def write_api(tree: Tree):
    tree.plain.update(path.relative_to(ROOT).as_posix() for path in (ROOT / "tinygrad_notes").rglob("*.py"))  # what [source] leads to
    for module in API:
        title = f"``{module}``"
        twice = exported_above(module)
        directive = f".. automodule:: {module}\n   :members:\n   :member-order: bysource\n   :show-inheritance:\n"
        directive += f"   :exclude-members: {', '.join(twice)}\n" if twice else ""
        tree.write(f"api/{module}", f"{title}\n{'=' * len(title)}\n\n{directive}", suffix=".rst")
    rows = "\n".join(f"| [`{module}`]({module}.rst) | {what} |" for module, what in API.items())
    entries = "\n".join(module.removeprefix("tinygrad_notes.") + f" <{module}>" for module in API)
    tree.write(
        "api/index",
        "# The API\n\nFrom the docstrings. NumPy's functions themselves are in [Ops](../ops.md): they are the language, and a Tensor goes in the place of an "
        f"array.\n\n| module | what it holds |\n|---|---|\n{rows}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n",
    )
