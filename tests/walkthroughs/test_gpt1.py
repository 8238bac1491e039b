"""The walkthrough of GPT-1: its mechanics run, draw their figures, and explain a folder that cannot be."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "language" / "gpt1.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpt1", "--quick", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_quick(monkeypatch, tmp_path, capsys):
    run(monkeypatch, "--out", tmp_path)
    printed = capsys.readouterr().out
    for word in ("Witten-Bell trigram", "this GPT-1", "lambda 0.5", "from scratch", "no extract token", "48 blocks"):
        assert word in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine_tuning.png", "labels.png", "loss.png"]


def test_a_folder_that_cannot_be_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--out", tmp_path / "file")
    assert str(stop.value.code).startswith("error: --out ")
    assert "\n" not in str(stop.value.code)
