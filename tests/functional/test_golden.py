"""PyTorch's results, kept in a file, so that parity is tried where PyTorch is not installed."""

import json
from pathlib import Path

from tests.functional.settings import SETTINGS
from tinygrad_notes import Tensor
from tinygrad_notes.core import walk

import numpy as np
import pytest

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "functional.json").read_text())


def value_and_gradients(setting, dtype=np.float64):
    """Our result, and the gradient of each input for the setting's cotangent."""
    inputs = [Tensor(x.astype(dtype)) for x in setting.inputs()]
    y = setting.ours(*inputs)
    found = walk({y.node: setting.cotangent(y.shape).astype(dtype)}, [t.node for t in inputs])
    return [y.value, *(found[t.node] for t in inputs)]


def assert_near(ours, theirs, eps):
    """Within what rounding explains: both sum a few hundred products of numbers near 1."""
    scale = max(1.0, float(np.max(np.abs(theirs), initial=0)))
    assert ours.shape == theirs.shape
    assert np.max(np.abs(ours - theirs), initial=0) <= 200 * eps * scale


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_golden(setting):
    results = [np.array(r, np.float64) for r in GOLDEN["results"][setting.name]]
    for dtype in (np.float64, np.float32):
        for ours, theirs in zip(value_and_gradients(setting, dtype), results, strict=True):
            assert ours.dtype == dtype
            assert_near(ours, theirs, max(np.finfo(dtype).eps, GOLDEN["eps"]))


def test_the_file_belongs_to_these_settings():
    assert list(GOLDEN["results"]) == [setting.name for setting in SETTINGS]
