"""The walkthrough of DDPM in its quick form: it runs without a warning, says what it promises, draws its pictures."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "diffusion" / "ddpm.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ddpm", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_quick(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--quick", "--out", tmp_path)
    printed = capsys.readouterr().out
    for words in (
        "alpha_bar half way",
        "with z 0.",
        "modes found",
        "no noise z",
        "other means, 0.",
        "the bound's weights",
        "to the bit",
        "mixed up",
        "Frechet distance",
        "variety within a class",
    ):
        assert words in printed
    assert {p.name for p in tmp_path.iterdir()} == {
        "process.png",
        "points.png",
        "schedules.png",
        "switches.png",
        "digits.png",
        "digits.safetensors",
    }


def test_errors_are_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"^error: --out .*file cannot be a folder: .*; name another one$"):
        run(monkeypatch, "--quick", "--out", tmp_path / "file")
