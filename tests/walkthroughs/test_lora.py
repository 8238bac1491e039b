"""The LoRA walkthrough in its quick form: it runs, asserts its mechanics, and leaves an adapter that can be used."""

import runpy
import sys
from pathlib import Path

from models.adaptation import lora
from models.language import gpt
from tinygrad_notes import load, saving

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "adaptation" / "lora.py"


def test_quick_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lora", "--quick", "--no-plots", "--out", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    for words in ("rank 4, 3,072 (1.4%)", "checked: nothing changes at the start", "reading backwards", "alpha 3200"):
        assert words in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.safetensors", "model.safetensors"]
    model = gpt.GPT(gpt.Config(11, context=16, layers=2, heads=4, width=96), np.random.default_rng(1))
    load(model, saving.load_arrays(tmp_path / "model.safetensors"))
    adapter = lora.restore(saving.load_arrays(tmp_path / "adapter.safetensors"))
    ids = np.array([[3, 1, 4, 1]])
    assert not np.array_equal(lora.attach(model, adapter)(ids).value, model(ids).value)
