"""Runs a walkthrough in its quick form, as the launcher does."""

import contextlib
import io
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

for extra in ("tqdm", "matplotlib"):
    pytest.importorskip(extra, reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
WALKTHROUGHS = Path(__file__).parents[2] / "walkthroughs"


def quick_run(name: str, out: Path, *options: str) -> SimpleNamespace:
    """name: attention/flash, say. The script's own names after the run, what it `printed` and the names of the files that it has `drawn`."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, "--quick", "--out", str(out), *options])
        names = runpy.run_path(str(WALKTHROUGHS / f"{name}.py"), run_name="__main__")
    return SimpleNamespace(**names | {"printed": printed.getvalue(), "drawn": {path.name for path in out.iterdir()}})
