"""Builds the site: `python -m book` runs the walkthroughs that have no record, writes the pages, and checks the result.

python -m book                 every walkthrough in full, unless a recorded run of the same code is there (20 minutes)
python -m book --quick         a few steps each: for those who work on the site (two minutes)
python -m book --no-runs       only with the records that there are
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

from book import course, diffs, links, models, reference
from book.record import ROOT
from book.runs import make_runs, read_run
from book.tree import Tree

NEEDED = ("sphinx", "furo", "myst_parser", "latex2mathml", "matplotlib", "tqdm", "safetensors")
SOURCES, SITE = ROOT / "build" / "book", ROOT / "site"


def write_sources(walkthroughs, runs) -> Tree:
    tree = Tree(SOURCES)
    tree.shows |= {f"walkthroughs/{w.name}.py": course.page_of(w.name) for w in walkthroughs}
    tree.shows |= {file: file.removesuffix(".py") for file in models.model_files()}
    tree.shows |= {**reference.DOCUMENTS, "README.md": "index"}
    course.write_course(tree, walkthroughs, runs)
    models.write_models(tree, diffs.write_diffs(tree))
    reference.write_documents(tree)
    reference.write_api(tree)
    reference.write_home(tree, walkthroughs, runs)
    tree.write_plain()
    return tree


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m book", description="Builds site/ from the scripts, the models and the documents.")
    parser.add_argument("--quick", action="store_true", help="run the walkthroughs with --quick: the mechanics, not the results")
    parser.add_argument("--no-runs", action="store_true", help="run nothing: pages show the last recorded run, or none")
    parser.add_argument("--jobs", type=int, default=1, help="walkthroughs that run at the same time (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}, expected at least 1")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:  # told now, and not after twenty minutes
        print(f"book: {', '.join(missing)} missing, expected as installed; pip install tinygrad_notes[docs]", file=sys.stderr)
        return 2
    began = time.perf_counter()
    walkthroughs = course.read_course()
    failures = {} if options.no_runs else make_runs(walkthroughs, options.quick, options.jobs)
    for name, failure in failures.items():
        print(f"book: {name} failed:\n{failure}", file=sys.stderr)
    if failures:
        return 1
    runs = {w.name: run for w in walkthroughs if (run := read_run(w, options.quick))}
    write_sources(walkthroughs, runs)
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(Path(__file__).parent), str(SOURCES), str(SITE)]
    if subprocess.run([*command, "-d", str(ROOT / "build" / "doctrees")], cwd=ROOT, check=False).returncode:
        print("book: Sphinx warned, see above", file=sys.stderr)
        return 1
    broken = links.main(SITE)
    print(f"{SITE / 'index.html'}, in {time.perf_counter() - began:.0f} s")
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
