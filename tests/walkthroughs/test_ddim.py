"""The walkthrough of DDIM in its quick form: it runs without a warning, says what it promises, draws its pictures."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "diffusion" / "ddim.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ddim", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_quick(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--quick", "--out", tmp_path)
    printed = capsys.readouterr().out
    for words in ("they differ by 0", "order (theory: 1)", "MMD to the data", "the last step is missing", "half way", "held-out digits"):
        assert words in printed
    assert {p.name for p in tmp_path.iterdir()} == {"steps.png", "order.png", "between.png", "digits.png"}


def test_errors_are_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"^error: --out .*file cannot be a folder: .*; name another one$"):
        run(monkeypatch, "--quick", "--out", tmp_path / "file")
