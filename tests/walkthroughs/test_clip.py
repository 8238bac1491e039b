"""The CLIP walkthrough as its reader meets it: it runs, and its figures are drawn."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "multimodal" / "clip.py"


def test_it_runs_and_draws(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
    monkeypatch.setattr(sys, "argv", ["clip", "--quick", "--out", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    for word in ("ln 50 = 3.91", "R@1 among 50 captions", "among all 60 pairs", "a supervised head", "s = exp(-0.07)"):
        assert word in printed
    assert {p.name for p in tmp_path.iterdir()} == {"pairs.png", "unseen.png", "accuracy.png"}
