"""A walkthrough as a notebook that runs anywhere: its first cell finds the checkout, or prints the commands that get it."""

import json
import subprocess

from book.cells import Walkthrough
from book.record import ROOT
from book.tree import markdown

FIND = '''\
# This notebook runs in a checkout of tinygrad_notes: the first of these folders that holds one.
import os
import sys
import time
from pathlib import Path

here = Path.cwd().resolve()
places = [place for folder in (here, *here.parents) for place in (folder, folder / "tinygrad_notes")]
checkouts = [p for p in places if (p / "walkthroughs" / "{name}.py").is_file() and (p / "tinygrad_notes" / "core.py").is_file()]
if not checkouts:
    raise SystemExit("""There is no checkout of tinygrad_notes here. These commands get one, beside this notebook:
    git clone {address} tinygrad_notes
    cd tinygrad_notes
    python -m venv .venv
    .venv/bin/python -m pip install -e ".[walkthroughs,fast]" jupyterlab
    .venv/bin/jupyter lab ..""")
os.chdir(checkouts[0])
sys.path.insert(0, str(checkouts[0]))
sys.argv = [{name!r}]  # the script's options go here, behind its name: "--quick" takes a few steps only
__doc__, __file__ = {title!r}, str(checkouts[0] / "walkthroughs" / "{name}.py")  # as in the script


def _show_pictures(folder=Path("out"), since=[time.time()]):  # it needs no name that the cells below might use for their own
    """The pictures that were drawn since the last call."""
    from IPython.display import SVG, Image, display

    new = [path for path in folder.rglob("*.[ps][nv]g") if path.stat().st_mtime > since[0]]
    for path in sorted(new, key=lambda path: path.stat().st_mtime):
        display(Image(path) if path.suffix == ".png" else SVG(path))
        since[0] = path.stat().st_mtime
'''


def address() -> str:
    """Where the project can be cloned from: what this checkout says, if that is a public address."""
    try:
        asked = subprocess.run(["git", "config", "remote.origin.url"], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "THE-ADDRESS-OF-THE-REPOSITORY"
    return asked.stdout.strip() if asked.stdout.startswith("https://") else "THE-ADDRESS-OF-THE-REPOSITORY"


def first_cell(walkthrough: Walkthrough) -> str:
    return FIND.format(name=walkthrough.name, title=walkthrough.title, address=address()).strip()


def notebook(walkthrough: Walkthrough, drawing: set[int]) -> str:
    """The notebook's JSON. drawing: the parts that draw pictures, which are then shown."""
    texts = [("markdown", f"# {walkthrough.title}\n\n{markdown(walkthrough.introduction)}"), ("code", first_cell(walkthrough))]
    for number, part in enumerate(walkthrough.parts):
        heading = [f"## {part.title}"] if part.title else []
        if heading or part.prose:
            texts.append(("markdown", "\n\n".join([*heading, *([markdown(part.prose)] if part.prose else [])])))
        if part.code:
            texts.append(("code", part.code))
        if number in drawing:
            texts.append(("code", "_show_pictures()"))
    return json.dumps(
        {
            "cells": [cell(kind, text, number) for number, (kind, text) in enumerate(texts)],
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
        ensure_ascii=False,
    )


def cell(kind: str, text: str, number: int) -> dict:
    common = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
    return common | ({"execution_count": None, "outputs": []} if kind == "code" else {})
