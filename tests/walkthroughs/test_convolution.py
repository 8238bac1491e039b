"""The walkthrough of attention and convolution in its quick form: what it says, what it draws, and what its answers claim."""

from tests.walkthroughs.running import quick_run
from tinygrad_notes import functional as F

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("attention/convolution", tmp_path_factory.mktemp("convolution"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "where the first head looks",
        "nine heads against a 3 x 3 convolution",
        "learned shifts",
        "begun at sharpness 50",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"convolution.png", "learning.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("attention/convolution", tmp_path, "--no-plots").drawn


def test_answer_1_a_ring_of_zeros_makes_the_heads_a_convolution_with_zeros_around(walkthrough):
    H, W = walkthrough.H, walkthrough.W
    ring = np.stack(np.meshgrid(np.arange(-1, H + 1), np.arange(-1, W + 1), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    off = ring - walkthrough.places[:, None] - walkthrough.shifts[:, None, None]
    p = F.softmax(-50 * np.sum(off**2, axis=-1))
    values = np.pad(walkthrough.image, ((0, 0), (1, 1), (1, 1))).reshape(3, -1)
    found = np.einsum("och,hij,cj->oi", walkthrough.mix, p, values).reshape(2, H, W)
    assert np.array_equal(found, walkthrough.convolved)


def test_answer_2_a_dilated_convolution(walkthrough):
    H, W, image = walkthrough.H, walkthrough.W, walkthrough.image
    heads = np.einsum("hij,cj->hci", walkthrough.fetches(2 * walkthrough.shifts, 50.0), image.reshape(3, -1))
    found = np.einsum("och,hci->oi", walkthrough.mix, heads).reshape(2, H, W)
    wider, around = np.zeros((2, 3, 5, 5)), np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
    wider[:, :, ::2, ::2] = walkthrough.kernel
    assert np.array_equal(found, F.conv2d(around[None], wider)[0])


@pytest.mark.parametrize("a", [0.5, 0.1])
def test_answer_3_a_blur(a):
    off = np.arange(-40.0, 41)
    p = F.softmax(-a * off**2)
    assert np.sum(p * off**2) == pytest.approx(1 / (2 * a), rel=1e-3)
