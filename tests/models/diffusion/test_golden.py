"""The steps of the diffusers library's schedulers, kept in a file, so that parity is tried where the library is not installed."""

import json

from tests.golden.make_diffusion import FILE, script_hash
from tests.models.diffusion.settings import SETTINGS, SPACINGS, T, tolerance

import numpy as np
import pytest

GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_steps(setting):
    golden = GOLDEN["results"][setting.name]
    for dtype, eps in ((np.float64, GOLDEN["eps"]), (np.float32, np.finfo(np.float32).eps)):
        for y, expected in zip(setting.ours(dtype), golden["steps"], strict=True):
            assert y.dtype == dtype
            expected = np.reshape(expected, y.shape)
            assert np.max(np.abs(y - expected)) <= tolerance(expected, eps)


def test_times():
    for setting in SETTINGS:
        if setting.kind != "DDPM":
            assert SPACINGS[setting.spacing](T, setting.n).tolist() == GOLDEN["results"][setting.name]["times"]


def test_the_file_belongs_to_these_scripts():
    assert GOLDEN["scripts"] == script_hash(), "run: python -m tests.golden.make_diffusion"
    assert list(GOLDEN["results"]) == [setting.name for setting in SETTINGS]
