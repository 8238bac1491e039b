"""The walkthrough of optimizers in its quick form: it runs, draws, and its handwritten rules are those of the papers."""

import contextlib
import io
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

for extra in ("tqdm", "matplotlib"):
    pytest.importorskip(extra, reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "engine" / "optimizers.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the script leaves behind: its names, what it printed, and its folder."""
    folder, printed = tmp_path_factory.mktemp("out"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["optimizers", "--quick", "--out", str(folder)])
        names = runpy.run_path(str(SCRIPT), run_name="__main__")
    return names, printed.getvalue(), folder


def test_it_runs_and_draws(run):
    _, printed, folder = run
    for words in ("the first step", "SGD, theory", "AdamW, decay 0.1       0.9512", "Adam with L2 0.1       0.5368", "not scaled, clipped"):
        assert words in printed
    assert {p.name for p in folder.iterdir()} == {"paths.png", "steps.png", "schedules.png", "rates.png"}


def test_errors_are_one_line(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["optimizers", "--quick", "--out", str(tmp_path / "file")])
    with pytest.raises(SystemExit, match=r"^error: --out .*file cannot be a folder: .*; name another one$"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_two_steps_of_adam_by_hand(run):
    """g = 1 and then 3, b1 = 0.9, b2 = 0.999: m = 0.39 of 0.19, v = 0.009999 of 0.001999."""
    adam, s = run[0]["adam"], {}
    p = adam(np.zeros(1), np.ones(1), s, 1, 0.1)
    assert p == pytest.approx(-0.1)
    p = adam(p, np.full(1, 3.0), s, 2, 0.1)
    assert p == pytest.approx(-0.1 - 0.1 * (0.39 / 0.19) / math.sqrt(0.009999 / 0.001999))


def test_sgd_has_its_rate_in_the_valley(run):
    """With lr = 2 / (1 + k) each step leaves (k - 1) / (k + 1) of the distance, however the valley lies."""
    names = run[0]
    for k, angle in ((10, 0.0), (100, 0.7)):
        H = names["valley"](k, angle)
        assert np.allclose(np.linalg.eigvalsh(H), [1, k])
        path = names["run"](lambda p, g, s, t, k=k: p - 2 / (1 + k) * g, lambda p, H=H: H @ p, np.linalg.eigh(H)[1] @ [1.0, 1.0], 20)
        assert np.allclose(np.linalg.norm(path, axis=1), math.sqrt(2) * ((k - 1) / (k + 1)) ** np.arange(21))


def test_momentum_needs_the_root_of_the_steps(run):
    table = run[0]["table"]
    assert table["SGD"][1] / table["SGD"][0] == pytest.approx(10, rel=0.05)
    assert table["momentum"][1] / table["momentum"][0] == pytest.approx(math.sqrt(10), rel=0.2)


def test_a_wild_gradient_puts_adam_to_sleep(run):
    strides, at = run[0]["strides"], run[0]["AT"]
    assert np.all(strides["Adam, clipped"] == pytest.approx(1))
    # n steps after the spike v, corrected, is 1 and what is left of 0.001 (1000^2 - 1); m has forgotten it
    n = np.arange(300, len(strides["Adam"]) - at)
    v = 1 + 0.001 * (1000**2 - 1) * 0.999**n / (1 - 0.999 ** (at + 1 + n))
    assert strides["Adam"][at + 300 :] == pytest.approx(1 / np.sqrt(v), rel=1e-6)
    assert np.flatnonzero(strides["Adam"][at:] < 0.5)[-1] == n[v > 4][-1]


def test_spoilt_batches_are_spoilt(run):
    names = run[0]
    x = np.ones((2, 64), np.float32)
    assert names["unscaled"](names["STEPS"] // 2, x).max() == 255 and names["unscaled"](0, x) is x
    assert names["unscaled"](names["STEPS"] // 2, x).dtype == np.float32
