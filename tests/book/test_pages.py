"""What the pages of the site are made of: links, models, edits, docstrings, notebooks; and the check of what was built."""

import ast
import json
import re
import shutil
import subprocess
import sys

from book import __main__ as program
from book import course, diffs, links, models, reference
from book.cells import Walkthrough, parts_of
from book.docstrings import restructured
from book.notebook import notebook
from book.record import ROOT
from book.runs import Run
from book.tree import Tree, code, markdown, relative

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = '''"""A title.

What it shows.
"""

# %% Settings
from walkthroughs.options import options_of, parser_for

options = options_of(parser_for("language/tiny", __doc__))

# %% Draw
# Prose.
(options.out / "a.png").write_bytes(b"x")
print("drawn", options.quick, __doc__, __file__.replace("\\\\", "/")[-30:])
Path = time = os = sys = None  # a script may use any name
'''

# --- links between pages -------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    found = Tree(tmp_path / "pages")
    found.shows |= {"models/language/gpt.py": "models/language/gpt", "docs/ops.md": "ops"}
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](ops.md) and [b](ops.md#the-share)", "[a](../ops.md) and [b](../ops.md#the-share)"),
        ("[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("[a](#below)", "[a](#below)"),
        ("see models/language/gpt.py for it", "see [`models/language/gpt.py`](../models/language/gpt.md) for it"),
        ("(models/language/gpt.py)", "([`models/language/gpt.py`](../models/language/gpt.md))"),
        ("`models/language/gpt.py`", "[`models/language/gpt.py`](../models/language/gpt.md)"),
        ("[x](../models/language/gpt.py)", "[x](../models/language/gpt.md)"),
        ("`models/language/none.py`", "`models/language/none.py`"),
        ("`tinygrad_notes/core.py`", "[`tinygrad_notes/core.py`](../source/tinygrad_notes/core.py.md)"),
        ("```\nmodels/language/gpt.py\n```", "```\nmodels/language/gpt.py\n```"),
        ("    models/language/gpt.py", "    models/language/gpt.py"),
        ("[a folder](../models)", "a folder"),
    ],
)
def test_links_follow_the_files(tree, text, expected):
    assert tree.linked(text, "pages/here", origin="docs") == expected


def test_pictures_come_along(tree):
    text = tree.linked("![A graph](engine.svg)", "design", origin="docs")
    assert text == '<a class="picture" href="pictures/engine.svg"><img src="pictures/engine.svg" alt="A graph"></a>'
    assert tree.extra("pictures/engine.svg").read_bytes() == (ROOT / "docs/engine.svg").read_bytes()


def test_a_file_without_a_page_gets_one(tree):
    tree.linked("tinygrad_notes/runtime.py", "start")
    tree.write_plain()
    page = (tree.folder / "source/tinygrad_notes/runtime.py.md").read_text(encoding="utf-8")
    assert 'id="L1"' in page and "allocator" in page


def test_a_fence_is_longer_than_those_inside():
    assert code("```\nx\n```", "text").startswith("````{code-block} text\n")
    assert relative("a/b.md", "a/c/d") == "../b.md"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("% of it\n+ more\n100 %", "\\% of it\n\\+ more\n100 %"),
        ("x_t, `x_t` and $x_t$", "x\\_t, `x_t` and $x_t$"),
        ("``a_b``, `c\nd_e` f_g", "``a_b``, `c\nd_e` f\\_g"),
        ("a*b, x**2, 2 * 3, *yes*, **very**", "a\\*b, x\\*\\*2, 2 * 3, *yes*, **very**"),
        ("<s> the <e>, a < b <- c", "\\<s> the \\<e>, a < b <- c"),
        ("a_b\n\n    x_t\n\nc_d\n```\ne_f\n```\ng_h", "a\\_b\n\n    x_t\n\nc\\_d\n```\ne_f\n```\ng\\_h"),
        ("[a_b](c_d.md) costs $5 or 6$", "[a\\_b](c_d.md) costs $5 or 6$"),
    ],
)
def test_prose_of_comments_means_what_it_says(text, expected):
    assert markdown(text) == expected


# --- models ---------------------------------------------------------------------------------------

FILES = models.model_files()


@pytest.mark.parametrize("file", FILES)
def test_all_of_a_model_is_on_its_page(file):
    source = (ROOT / file).read_text(encoding="utf-8")
    lines = source.splitlines()
    blocks = models.blocks_of(source)
    for block in blocks:
        text = block.text.splitlines()
        assert lines[block.line - 1 : block.line - 1 + len(text)] == text
    covered = {block.line + n for block in blocks for n in range(len(block.text.splitlines()))}
    end = ast.parse(source).body[0].end_lineno
    assert not [n for n, line in enumerate(lines, 1) if n > end and line.strip() and n not in covered]
    assert len(models.model_files()) == len(list((ROOT / "models").glob("*/[a-z]*.py")))


def test_equations_lead_to_code():
    found = models.equations_of((ROOT / "models/language/gpt.py").read_text(encoding="utf-8"))
    assert found[1] == ["GPT.embed"]
    assert found[3] == ["Attention"]
    assert found[6] == ["loss"]
    assert models.equations_in("Equations 2 and 4, equations 6 to 8, equation 11.") == {2, 4, 6, 7, 8, 11}


@pytest.mark.parametrize("path", sorted(models.SYMBOLS.rglob("*.md")), ids=lambda p: p.relative_to(models.SYMBOLS).as_posix())
def test_variables_beside_the_papers_symbols_exist(path):
    source = (ROOT / "models" / path.relative_to(models.SYMBOLS).with_suffix(".py")).read_text(encoding="utf-8")
    words = {word for span in re.findall("`([^`]+)`", path.read_text(encoding="utf-8")) for word in re.findall(r"[A-Za-z_]\w*", span)}
    assert words
    assert not [word for word in words if not re.search(rf"\b{word}\b", source)]


# --- one model as the edit of another -------------------------------------------------------------

LINES = st.lists(st.sampled_from(["", "x = 1", "x = 2", "def f(x):", "    return x + 1", "    return x + 2  # more"]), max_size=12)


@given(LINES, LINES)
def test_a_diff_has_every_line_once_and_in_order(old, new):
    rows = diffs.rows_of(old, new)
    assert [i for _, i, _ in rows if i >= 0] == list(range(len(old)))
    assert [k for _, _, k in rows if k >= 0] == list(range(len(new)))
    for kind, i, k in rows:
        assert (kind in ("equal", "changed", "gone")) == (i >= 0)
        assert (kind in ("equal", "changed", "come")) == (k >= 0)
        assert kind != "equal" or old[i] == new[k]


def test_lines_that_resemble_each_other_are_one_line_that_changed():
    assert diffs.rows_of(["a", "    x = norm(x)", "b"], ["a", "    x = norm(y)", "c = 3", "b"]) == [
        ("equal", 0, 0),
        ("changed", 1, 1),
        ("come", -1, 2),
        ("equal", 2, 3),
    ]


def test_words_that_change_are_marked():
    page = diffs.diff_html(["x = f(a)"] + ["same"] * 20 + ["y = 1"], ["x = g(a)"] + ["same"] * 20 + ["y = 1"])
    marked = re.findall("<mark>(.*?)</mark>", page)
    assert [re.sub("<.*?>", "", m) for m in marked] == ["f", "g"]
    assert "17 lines that stay" in page


@pytest.mark.parametrize("diff", diffs.DIFFS, ids=lambda d: d.page)
def test_edits_are_of_what_exists(diff):
    for names in diff.parts or (("", ""),):
        for file, name in zip((diff.old, diff.new), names):
            assert diffs.definition((ROOT / file).read_text(encoding="utf-8"), name)[1]


def test_a_definition_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=r"there is no 'A\.g' in the file; name a class, a function, or Class\.method"):
        diffs.definition("class A:\n    def f(self):\n        pass\n", "A.g")
    assert diffs.definition("class A:\n    @staticmethod\n    def f(self):\n        pass\n", "A.f") == (
        2,
        ["    @staticmethod", "    def f(self):", "        pass"],
    )


# --- all of it, up to Sphinx ----------------------------------------------------------------------


def test_every_script_and_model_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "SOURCES", tmp_path)
    monkeypatch.setattr(Tree, "write_plain", lambda tree: None)  # to colour all of the code takes seconds; the test above has one file
    scripts = course.read_course()
    tree = program.write_sources(scripts, {})
    for script in scripts:
        page = (tmp_path / f"walkthroughs/{script.name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {script.title}\n") and "no recorded run" in page
        assert (tmp_path / f"_extra/downloads/{script.name}.ipynb").is_file()
        assert (tmp_path / f"_extra/downloads/{script.name}.py").read_text(encoding="utf-8") == (
            ROOT / f"walkthroughs/{script.name}.py"
        ).read_text(encoding="utf-8")
    for file in FILES:
        assert "## The code" in (tmp_path / file).with_suffix(".md").read_text(encoding="utf-8")
    assert all((tree.folder / f"{page}.md").is_file() for page in tree.shows.values())
    assert "-lora" in (tmp_path / "models/adaptation/lora.md").read_text(encoding="utf-8")


def test_a_page_has_what_its_run_printed_and_drew(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "ROOT", tmp_path)
    for name, content in (("walkthroughs/language/tiny.py", SCRIPT), ("a.png", "x")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    script = Walkthrough("language/tiny", "Tiny", "a second", "Prose.", tuple(parts_of(SCRIPT)))
    origin = {"processor_seconds": 5.0, "date": "2026-01-05", "python": "3.11", "numpy": "2.4", "commit": "abc"}
    course.write_walkthrough(tree, script, Run(True, origin, {1: "drawn False"}, {1: [tmp_path / "a.png"]}, False))
    page = (tree.folder / "walkthroughs/language/tiny.md").read_text(encoding="utf-8")
    order = "# Tiny|A quick run|commit abc|has changed since|Imports and options|## Draw|options.out|drawn False|<img".split("|")
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert tree.extra("pictures/language/tiny/a.png").read_text(encoding="utf-8") == "x"


# --- documents and the API ------------------------------------------------------------------------


def test_every_document_has_a_page():
    shown = {*reference.DOCUMENTS, "README.md"}
    assert {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]} == shown


def test_every_module_is_in_the_api_or_the_engine():
    known = {name.removeprefix("tinygrad_notes.").partition(".")[0] for name in reference.api_modules()} | set(reference.ENGINE)
    found = {path.stem for path in (ROOT / "tinygrad_notes").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for name in found if not name.startswith("_")} <= known


def test_home_is_the_beginning_of_readme(tree):
    reference.write_home(tree, [], {})
    home, start = ((tree.folder / f"{page}.md").read_text(encoding="utf-8") for page in ("index", "start"))
    assert home.startswith("# tinygrad_notes\n")
    assert start.startswith("# Start\n")
    assert "make test" in start and "## Licence" not in start


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("See `grad` and ``f``.", "See ``grad`` and ``f``."),
        ("x_t, |x| and 2 * n_heads, C:\\x", "x\\_t, \\|x\\| and 2 \\* n\\_heads, C:\\\\x"),
        ("Then\n\n    y = `x`\n\n    z = y\n\nmore", "Then\n\n::\n\n    y = `x`\n\n    z = y\n\nmore"),
        ("for step in x:\n    y(step)", "::\n\n    for step in x:\n        y(step)"),
        ("`a_b` is code", "``a_b`` is code"),
    ],
)
def test_docstrings_become_restructured_text(docstring, expected):
    assert "\n".join(restructured(docstring.splitlines())).rstrip() == expected


# --- notebooks ------------------------------------------------------------------------------------

IPYTHON = "def display(x): print('shown', x)\ndef Image(path): return path.name\nSVG = Image\n"


@pytest.fixture
def tiny_notebook(tmp_path):
    """The notebook's JSON, and its code as one program."""
    cells = json.loads(notebook(Walkthrough("language/tiny", "A title", "", "What it shows.", tuple(parts_of(SCRIPT))), {1}))["cells"]
    path = tmp_path / "notebook.py"
    path.write_text("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"), encoding="utf-8")
    return cells, path


def run_as_jupyter_does(path, folder):
    command = [sys.executable, str(path), "-f", "kernel.json"]  # an option that no walkthrough knows
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_notebook_has_the_cells_of_the_script(tiny_notebook):
    cells, _ = tiny_notebook
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "markdown", "code", "markdown", "code", "code"]
    assert "".join(cells[0]["source"]) == "# A title\n\nWhat it shows."
    assert "".join(cells[4]["source"]) == "## Draw\n\nProse."
    assert "".join(cells[6]["source"]) == "_show_pictures()"
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_a_notebook_finds_the_checkout_and_runs(tiny_notebook, tmp_path):
    _, path = tiny_notebook
    checkout = tmp_path / "tinygrad_notes"
    for name in ("walkthroughs/language/tiny.py", "tinygrad_notes/core.py", "IPython/display.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(IPYTHON if "IPython" in name else "", encoding="utf-8")
    shutil.copy(ROOT / "walkthroughs/options.py", checkout / "walkthroughs")
    for folder in (tmp_path, checkout / "walkthroughs"):  # beside a checkout, and in one
        done = run_as_jupyter_does(path, folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "drawn False A title /walkthroughs/language/tiny.py\nshown a.png\n"


def test_a_notebook_without_a_checkout_says_how_to_get_one(tiny_notebook, tmp_path):
    _, path = tiny_notebook
    done = run_as_jupyter_does(path, tmp_path)
    assert done.returncode == 1
    assert "git clone" in done.stderr and "Traceback" not in done.stderr


# --- the check of the built site ------------------------------------------------------------------

WORDS = "word " * 20
GOOD = {
    "index.html": f'<link rel="stylesheet" href="a.css"><article>{WORDS}<h1 id="x">A</h1><a href="b/c.html#y">c</a>'
    '<a href="https://example.org">out</a><img src="p.png" alt="a picture"></article>',
    "b/c.html": f'<article>{WORDS}<a id="y" href="../index.html#x">a</a><a href="#y">b</a></article>',
    "search.html": "<article></article>",
    "a.css": "a { background: url(p.png) } b { background: url('data:image/png;base64,xx') }",
    "p.png": "x",
}


@pytest.fixture
def faults(tmp_path):
    def check(**changes):
        for name, text in (GOOD | changes).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return list(links.faults(tmp_path.resolve()))

    return check


def test_a_good_site_has_no_faults(faults, capsys, tmp_path):
    assert faults() == []
    assert links.main(tmp_path) == 0
    assert capsys.readouterr().out.startswith("3 pages, ")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("b/c.html#y", "b/d.html", "a dead link: b/d.html"),
        ("b/c.html#y", "b/c.html#z", "a link to a place that its page does not have: b/c.html#z"),
        ("b/c.html#y", "b", "a link to a folder, which a browser shows as a list of files: b"),
        ("b/c.html#y", "../outside.html", "a dead link: ../outside.html"),
        ("p.png", "q.png", "a dead link: q.png"),
        (' alt="a picture"', "", "a picture without an alt text: p.png"),
        ("a.css", "https://example.org/a.css", "loads https://example.org/a.css, which needs a network"),
        (
            '<img src="p.png" ',
            '<script src="//example.org/a.js"></script><img src="p.png" ',
            "loads //example.org/a.js, which needs a network",
        ),
        (WORDS, "few words", "an empty page, "),
        ("<h1 ", '<p class="system-message">x</p><h1 ', "1 places that Sphinx could not read"),
    ],
)
def test_each_fault_is_found(faults, old, new, fault):
    assert old in GOOD["index.html"]
    (found,) = faults(**{"index.html": GOOD["index.html"].replace(old, new)})
    assert found.startswith("index.html: ")
    assert fault in found


def test_faults_of_styles_and_of_nothing(faults, tmp_path, capsys):
    assert faults(**{"a.css": "@import 'https://example.org/x.css';"}) == ["a.css: loads https://example.org/x.css, which needs a network"]
    assert links.main(tmp_path / "none") == 1
    assert "there is no page; build the site first" in capsys.readouterr().err
