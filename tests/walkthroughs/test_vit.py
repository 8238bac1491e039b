"""The ViT walkthrough as its reader meets it: it runs, and its figures are drawn."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "vision" / "vit.py"


def test_it_runs_and_draws(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
    monkeypatch.setattr(sys, "argv", ["vit", "--quick", "--out", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    for word in (
        "197 tokens of 768",
        "50,176 pixels",
        "ViT True, BERT False",
        "nearest neighbour 95.8 %",
        "the CNN's lead",
        "without positions",
    ):
        assert word in printed
    assert {p.name for p in tmp_path.iterdir()} == {"attention.png", "positions.png", "few-and-many.png"}
