"""What importing the package loads, what it needs, and what it says when an extra is missing."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import tinygrad_notes
from walkthroughs import __main__ as launcher

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(code):
    """What a fresh Python prints, as JSON, with warnings as errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def test_importing_loads_numpy_and_the_standard_library_only():
    code = """
import json, sys
before = set(sys.modules)
import tinygrad_notes
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(roots - set(sys.stdlib_module_names))))
"""
    # (a compiled extension of NumPy may register modules of its own, named after its compiler)
    assert [name for name in run(code) if "cython" not in name.lower()] == ["numpy", "tinygrad_notes"]


def test_importing_studies_no_op():
    """What takes time to find out about hundreds of ops (their rules' code, NumPy's signatures) waits until one is used."""
    code = "from tinygrad_notes.registry import registry; print(sum(bool({'names', 'y_mask'} & vars(x).keys()) for x in registry))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


def test_importing_is_silent_and_starts_no_thread():
    code = "import json, threading, tinygrad_notes; print(json.dumps(threading.active_count()))"
    assert run(code) == 1


def test_all_names_exist():
    assert len(set(tinygrad_notes.__all__)) == len(tinygrad_notes.__all__)
    for name in tinygrad_notes.__all__:
        assert getattr(tinygrad_notes, name) is not None


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", tinygrad_notes.__version__)
    assert "version" in PROJECT["dynamic"]


def test_declares_types():
    assert (ROOT / "tinygrad_notes" / "py.typed").exists()


def test_every_package_folder_has_an_init():
    """The build finds packages by it: a folder without one would be missing from a wheel."""
    folders = {path.parent for path in (ROOT / "tinygrad_notes").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


# --- extras ----------------------------------------------------------------------------------


def extras():
    """Each package that an extra installs -> the names of these extras."""
    found = {}
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in requirements:
            found.setdefault(re.split(r"[<>=\[]", requirement)[0], set()).add(extra)
    return found


def foreign_imports(path):
    """(node, root name, the ancestors of the node) for each import of what is not always there."""
    always = {"numpy", "scipy", "tinygrad_notes", *sys.stdlib_module_names}

    def visit(node, above):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            for root in {name.partition(".")[0] for name in names} - always:
                yield node, root, above
        for child in ast.iter_child_nodes(node):
            yield from visit(child, [*above, node])

    return visit(ast.parse(path.read_text(encoding="utf-8")), [])


@pytest.mark.parametrize("path", sorted((ROOT / "tinygrad_notes").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_missing_extra_is_told_with_the_command_that_installs_it(path):
    for node, root, above in foreign_imports(path):
        assert root in extras(), f"line {node.lineno}: {root} is in no extra of pyproject.toml"
        guards = [n for n in above if isinstance(n, ast.Try)]
        assert guards, f"line {node.lineno}: import {root} inside try:, with a sentence that names the extra"
        sentences = [n.value for handler in guards[-1].handlers for n in ast.walk(handler) if isinstance(n, ast.Constant)]
        commands = [f"pip install tinygrad_notes[{extra}]" for extra in sorted(extras()[root])]
        told = [command for s in sentences for command in commands if command in str(s).replace('"', "")]
        assert told, f"line {node.lineno}: say {' or '.join(commands)}"


def test_runtime_needs_nothing_but_numpy_and_scipy():
    assert {re.split(r"[<>=]", requirement)[0] for requirement in PROJECT["dependencies"]} == {"numpy", "scipy"}


# --- the launcher of the walkthroughs ----------------------------------------------------------


def launch(*args):
    command = [sys.executable, "-W", "error", "-m", "walkthroughs", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=os.environ | {"MPLBACKEND": "Agg"})


def test_walkthroughs_are_listed():
    listed = launch()
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert sorted(names) == sorted(
        p.relative_to(ROOT / "walkthroughs").with_suffix("").as_posix() for p in (ROOT / "walkthroughs").glob("*/[a-z]*.py")
    )
    families = "engine attention language vision multimodal adaptation diffusion".split()
    assert [name for name in names if name.partition("/")[0] in families] == sorted(
        names, key=lambda n: families.index(n.partition("/")[0])
    )


def test_an_unknown_walkthrough_is_refused_in_one_line():
    refused = launch("language/no-such-thing", "--quick")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "language/no-such-thing" in refused.stderr


@pytest.fixture
def course(monkeypatch, tmp_path):
    """A course of three scripts."""
    for name, body in {"language/gpt": "print(sys.argv[1:])", "language/bert": "", "vision/vit": "raise KeyboardInterrupt"}.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""Title of {name}."""\nimport sys\n{body}\n', encoding="utf-8")
    monkeypatch.setattr(launcher, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["walkthroughs"])


@pytest.mark.parametrize(
    "name",
    ["language/gpt", "language/gpt.py", "walkthroughs/language/gpt.py", "./walkthroughs/language/gpt.py", "walkthroughs\\language\\gpt.py"],
)
def test_a_walkthrough_may_be_named_by_its_path(course, capsys, name):
    assert launcher.main([name, "--quick"]) == 0
    assert capsys.readouterr().out == "['--quick']\n"


@pytest.mark.parametrize("name", ["language", "language/", "walkthroughs/language/"])
def test_a_family_alone_is_listed(course, capsys, name):
    assert launcher.main([name]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["language/bert", "Title", "of", "language/bert."],
        ["language/gpt", "Title", "of", "language/gpt."],
    ]


@pytest.mark.parametrize("name", ["language/gtp", "gpt", "lanuage/gpt.py"])
def test_a_near_name_is_suggested(course, capsys, name):
    assert launcher.main([name]) == 2
    assert capsys.readouterr().err == f"walkthroughs: there is no {name!r}; did you mean language/gpt? Without a name, all are listed\n"


def test_where_no_name_is_near_all_are_told(course, capsys):
    assert launcher.main(["zzz"]) == 2
    assert capsys.readouterr().err == "walkthroughs: there is no 'zzz'; choose one of language/bert, language/gpt, vision/vit\n"


def test_ctrl_c_stops_a_walkthrough_without_a_traceback(course, capsys):
    assert launcher.main(["vision/vit"]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


# --- the documents -----------------------------------------------------------------------------

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLES = [
    (path, i, code)
    for path in DOCUMENTS
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("code", [pytest.param(code, id=f"{path.name}-{i}") for path, i, code in EXAMPLES if "\nimport" in code])
def test_examples_run(code):
    """Every block of Python that imports something is a program."""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, timeout=120, env=os.environ | {"MPLBACKEND": "Agg"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(path):
    """`tinygrad_notes/ops/` or `runtime.py` in a document is a file of the project, or one that it makes."""
    made = {line.removeprefix("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()}
    named = re.findall(r"`((?:[a-z_]+/)+|[a-z_/]+\.(?:py|md))`", path.read_text(encoding="utf-8"))
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "tinygrad_notes" / name).exists()]
    assert not {*missing} - made
