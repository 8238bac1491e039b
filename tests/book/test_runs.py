"""A run as it is recorded: what was printed and drawn and where; and whether an old run still holds."""

import json
import subprocess
import sys
from pathlib import Path

from book import runs
from book.cells import Walkthrough, parts_of
from book.record import ROOT, fingerprint

import pytest

SCRIPT = '''"""A script."""

# %% One
import sys
from pathlib import Path


def show(text):
    print(text)


show("first")
out = Path(sys.argv[1])

# %% Two
print("second", end=" ")
print("third")
print("to stderr", file=sys.stderr)
for n in range(2):
    show(
        n
    )

# %% Three
(out / "a.svg").write_text("<svg/>")
with open(out / "b.png", "wb") as file:
    file.write(b"x")
(out / "c.txt").write_text("no picture")
(out / "a.svg").read_text()
'''
RECORD = "import json, sys; from pathlib import Path; from book.record import record; print(json.dumps(record(Path(sys.argv[1]), sys.argv[2:])), file=sys.stderr)"


@pytest.fixture
def recorded(tmp_path):
    """In a process of its own, since a hook for files cannot be taken away again."""

    def run(script):
        path = tmp_path / "script.py"
        path.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", RECORD, str(path), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
        )
        return json.loads(done.stderr.splitlines()[-1]), done.stdout

    return run


def test_output_belongs_to_the_part_that_made_it(recorded, tmp_path):
    record, printed = recorded(SCRIPT)
    assert record["failure"] == ""
    assert printed == "first\nsecond third\n0\n1\n"  # and passes through
    record["parts"] = [part.line for part in parts_of(SCRIPT)]
    texts, pictures = runs.by_part(record, tmp_path)
    assert texts == {0: "first", 1: "second third\n0\n1"}
    assert pictures == {2: [tmp_path / "a.svg", tmp_path / "b.png"]}


@pytest.mark.parametrize(
    ("line", "failure"),
    [("raise ValueError('no')", "ValueError: no"), ("sys.exit('error: no')", "error: no"), ("assert 0, 'no'", "AssertionError: no")],
)
def test_a_failure_is_recorded(recorded, line, failure):
    record, _ = recorded(SCRIPT + line)
    assert record["failure"].splitlines()[-1] == failure


def test_a_good_end_is_no_failure(recorded):
    assert recorded(SCRIPT + "sys.exit(0)")[0]["failure"] == ""


def test_files_of_the_project_are_noted(recorded):
    record, _ = recorded("from tinygrad_notes import data\ndata.digits()\nfrom models.language import gpt\nimport walkthroughs.options\n")
    for file in ("tinygrad_notes/core.py", "tinygrad_notes/assets/digits.gz", "models/language/gpt.py", "walkthroughs/options.py"):
        assert record["files"][file] == fingerprint(ROOT / file)
    assert not [file for file in record["files"] if file.startswith(("book", "tests"))]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ('"""Better words."""\n\n\ndef f(x):\n    """More."""\n    return 2 * x  # twice\n', True),
        ('"""Words."""\n\n\ndef f(x):\n    return 2 * x\n', True),
        ('"""Words."""\n\n\ndef f(x):\n    """Words."""\n    return 3 * x\n', False),
        ('"""Words."""\n\n\ndef g(x):\n    """Words."""\n    return 2 * x\n', False),
    ],
)
def test_a_fingerprint_is_of_what_code_does(tmp_path, other, same):
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    for path, source in zip(paths, ('"""Words."""\n\n\ndef f(x):\n    """Words."""\n    return 2 * x\n', other)):
        path.write_text(source, encoding="utf-8")
    assert (fingerprint(paths[0]) == fingerprint(paths[1])) is same


def test_a_fingerprint_of_data_is_of_all_its_bytes(tmp_path):
    paths = [tmp_path / "a.gz", tmp_path / "b.gz"]
    for path, content in zip(paths, (b"# a", b"# b")):
        path.write_bytes(content)
    assert fingerprint(paths[0]) != fingerprint(paths[1])


def walkthrough(source):
    return Walkthrough("language/tiny", "Tiny", "", "", tuple(parts_of(source)))


def test_a_record_holds_until_the_code_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n", encoding="utf-8")
    record = {"files": {"a.py": fingerprint(tmp_path / "a.py")}, "parts": [3, 15, 23]}
    assert runs.holds(record, walkthrough(SCRIPT))
    assert not runs.holds(record, walkthrough(SCRIPT + "\n# A new remark, so that parts have other numbers.\nx = 0\n"))
    (tmp_path / "a.py").write_text("x = 1  # a remark\n", encoding="utf-8")
    assert runs.holds(record, walkthrough(SCRIPT))
    (tmp_path / "a.py").write_text("x = 2\n", encoding="utf-8")
    assert not runs.holds(record, walkthrough(SCRIPT))
    (tmp_path / "a.py").unlink()
    assert not runs.holds(record, walkthrough(SCRIPT))


def test_only_runs_that_ended_well_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RECORDS", tmp_path)
    tiny = walkthrough(SCRIPT)
    assert runs.read_run(tiny, quick=True) is None
    record = {"failure": "", "printed": [[12, "first\n"]], "pictures": [[24, "files/a.svg"]], "parts": [3, 15, 23], "files": {}}
    path = tmp_path / "quick" / "language" / "tiny" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record), encoding="utf-8")
    run = runs.read_run(tiny, quick=True)
    assert (run.printed, run.pictures, run.holds) == ({0: "first"}, {2: [path.parent / "files/a.svg"]}, True)
    assert runs.read_run(tiny, quick=False) is None
    path.write_text(json.dumps(record | {"failure": "AssertionError"}), encoding="utf-8")
    assert runs.read_run(tiny, quick=True) is None


def test_runs_are_made_once(tmp_path, monkeypatch, capsys):
    made = []

    def make_run(tiny, quick):
        made.append(tiny.name)
        folder = runs.folder_of(tiny.name, quick)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"failure": "", "printed": [], "pictures": [], "parts": [3, 15, 23], "files": {}}
        (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
        return ""

    monkeypatch.setattr(runs, "RECORDS", tmp_path)
    monkeypatch.setattr(runs, "make_run", make_run)
    for _ in range(2):
        assert runs.make_runs([walkthrough(SCRIPT)], quick=True, jobs=1) == {}
    assert made == ["language/tiny"]
    monkeypatch.setattr(runs, "make_run", lambda tiny, quick: "Traceback\nValueError: no")
    assert runs.make_runs([walkthrough(SCRIPT)], quick=False, jobs=2) == {"language/tiny": "Traceback\nValueError: no"}
    assert "failed: language/tiny: ValueError: no" in capsys.readouterr().out


def test_what_made_a_page_is_said():
    record = {"processor_seconds": 95.0, "date": "2026-01-02", "python": "3.11.7", "numpy": "2.4.6", "commit": "abc1234"}
    run = runs.Run(False, record, {}, {}, True)
    assert run.made_by == "commit abc1234, 2026-01-02, Python 3.11.7, NumPy 2.4.6, 1.6 minutes of processor time"
    assert isinstance(runs.RECORDS, Path)
