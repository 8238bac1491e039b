"""The walkthrough of norms, residuals and depth in its quick form: it runs, says what it measured, and draws its figures."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

for extra in ("tqdm", "matplotlib"):
    pytest.importorskip(extra, reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "engine" / "depth.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the script leaves behind: its names, and its folder."""
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["depth", "--quick", "--out", str(folder)])
        return runpy.run_path(str(SCRIPT), run_name="__main__"), folder


def test_it_runs_through_and_draws(run):
    _, folder = run
    assert {path.name for path in folder.iterdir()} == {"thirty-layers.png", "gradients.png", "training.png"}


def test_the_task_has_an_answer_and_its_tokens_are_equally_frequent(run):
    names, _ = run
    ids, targets = names["sequences"](np.random.default_rng(0), 500)
    assert np.all(targets[:, 0] == -100)
    assert np.array_equal(targets[:, 1:-1], ids[:, 2:])
    assert np.array_equal(targets[:, 1:], names["image_of"][ids[:, :-1]])
    share = np.bincount(ids.ravel(), minlength=names["V"]) / ids.size
    assert np.all(np.abs(share - 1 / 16) < 5 * np.sqrt(8 / 16 / ids.size))  # a token comes up to 8 times where it is drawn


def test_the_three_kinds_differ_in_what_they_should(run):
    """Pre- and post-norm start with the same weights in each block; DeepNorm with alpha 1 would be post-norm."""
    names, _ = run
    pre, post, deep = (names["build"](kind, 3, 12) for kind in ("pre-norm", "post-norm", "DeepNorm"))
    weights = [[block.mlp.c_fc.weight.value for block in model.h] for model in (pre, post, deep)]
    for a, b, c in zip(*weights):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(c * np.sqrt(6), b, rtol=1e-5)
    ids, _ = names["sequences"](np.random.default_rng(0), 2)
    apart = np.abs(deep(ids).value - post(ids).value).max()
    for block in deep.h:
        block.alpha = 1.0
    for model in (deep, post):
        for block in model.h:
            for linear in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                linear.weight = np.ones_like(linear.weight.value) / 100
    assert apart > 1e-3
    np.testing.assert_allclose(deep(ids).value, post(ids).value, atol=1e-6)
