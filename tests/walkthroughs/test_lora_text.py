"""The walkthrough of LoRA on real text in its quick form: it runs, asserts its mechanics, and draws its figure."""

import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tqdm", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
pytest.importorskip("matplotlib", reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "adaptation" / "lora_text.py"


def test_quick_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lora_text", "--quick", "--out", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    for words in (
        "lost: 1.000",
        "argparse.py",
        "cut to rank 4",
        "without what the attention learnt",
        "the head alone",
        "never pre-trained",
    ):
        assert words in printed
    assert re.search(r"rank 4, q and v +3,654 parameters \(1\.1%\)", printed)  # the adapter's 3072 and the new head's 582
    assert [path.name for path in tmp_path.iterdir()] == ["lora_text.png"]
