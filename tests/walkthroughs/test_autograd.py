"""The walkthrough of the engine: it runs, asserts its outcomes, and leaves drawings that open."""

import runpy
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "engine" / "autograd.py"
SAID = (
    "45 lines of code",
    "of all gradients the largest difference is",
    "7.0 with +=, 3.0 with =",
    "sent down (64, 8); summed back (8,)",
    "u . (J v) = ",
    "the recipe: np.stack([t, t * t]) has the gradient 5.0",
    "comes out as 2.0; it is 14.0",
    "20 times tanh(z)  21 nodes hold",
    "200 nodes, 400 rules ran",
)


@pytest.mark.parametrize("plots", [True, False])
def test_quick_run(tmp_path, monkeypatch, capsys, plots):
    monkeypatch.setattr(sys, "argv", ["autograd", "--quick", *([] if plots else ["--no-plots"]), "--out", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    for words in SAID:
        assert words in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == (["network.svg", "neuron.svg"] if plots else [])
    for path in tmp_path.iterdir():
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
