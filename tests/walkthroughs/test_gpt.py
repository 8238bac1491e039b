"""The demo as its user meets it: it runs, stops at Ctrl-C without loss, goes on to the same weights, and explains errors."""

import runpy
import signal
import sys
from pathlib import Path

from models.language import gpt
from tinygrad_notes import data, saving

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "language" / "gpt.py"


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text(data.manual()[:8000], encoding="utf-8")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpt", "--quick", "--no-plots", "--text", str(text), *map(str, arguments)])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
            end = None
        except SystemExit as stop:
            end = str(stop.code)
        return capsys.readouterr().out, end

    return run


def test_ctrl_c_loses_nothing_and_resuming_gives_the_same_weights(demo, tmp_path, monkeypatch):
    printed, end = demo("--out", tmp_path / "whole")
    assert end is None
    for word in ("unigram", "Witten-Bell 5-gram", "this GPT", "without the mask"):
        assert word in printed
    whole = saving.load_arrays(tmp_path / "whole" / "model.safetensors")

    calls, original = [], gpt.loss

    def interrupted(model, ids, targets, rng=None):
        if ids.shape == (12, 64):
            calls.append(1)
            if len(calls) == 7:
                signal.raise_signal(signal.SIGINT)  # in the middle of step 7
        return original(model, ids, targets, rng)

    monkeypatch.setattr(gpt, "loss", interrupted)
    _, end = demo("--out", tmp_path / "parts")
    assert "stopped after step 7 of 60" in end
    assert end.endswith("--resume")
    monkeypatch.setattr(gpt, "loss", original)
    printed, end = demo("--out", tmp_path / "parts", "--resume")
    assert end is None
    assert "resuming after step 7" in printed
    parts = saving.load_arrays(tmp_path / "parts" / "model.safetensors")
    assert parts.keys() == whole.keys()
    for name in whole:
        assert np.array_equal(parts[name], whole[name])


@pytest.mark.parametrize("options", [("--rate", "1e30"), ("--rate", "nan"), ("--rate", "0"), ("--rate", "fast"), ("--steps", "0")])
def test_options_that_cannot_be(demo, tmp_path, options):
    _, end = demo("--out", tmp_path, *options)
    assert end == "2"


def test_errors_are_one_line(demo, tmp_path):
    _, end = demo("--text", tmp_path / "missing.txt")
    assert end.startswith("error: ")
    assert "missing.txt" in end
    assert "\n" not in end
    (tmp_path / "one.txt").write_text(1000 * "a")
    _, end = demo("--out", tmp_path, "--text", tmp_path / "one.txt")
    assert end == "error: the text has 1000 times the character 'a' and no other, so there is nothing to learn; use another text"
    _, end = demo("--out", tmp_path, "--resume")
    assert end.startswith("error: ")
    assert "there is no" in end and "checkpoint.safetensors" in end
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    _, end = demo("--out", tmp_path, "--resume")
    assert end.startswith("error: ")
    assert "\n" not in end
