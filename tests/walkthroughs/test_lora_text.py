"""The walkthrough of LoRA on real text in its quick form: it runs, draws its figure, and its cut keeps what it says it keeps."""

import re

import tinygrad_notes as tn
from tests.walkthroughs.running import quick_run

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("adaptation/lora_text", tmp_path_factory.mktemp("lora_text"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "lost: 1.000",
        "argparse.py",
        "cut to rank 4",
        "without what the attention learnt",
        "the head alone",
        "never pre-trained",
    ):
        assert words in walkthrough.printed
    assert re.search(r"rank 4, q and v +3,654 parameters \(1\.1%\)", walkthrough.printed)  # the adapter's 3072 and the new head's 582
    assert walkthrough.drawn == {"lora_text.png"}


def test_a_cut_has_the_rank_it_says_for_each_of_q_k_and_v(walkthrough):
    base, whole = (tn.state_dict(model) for model in (walkthrough.reader, walkthrough.whole))
    state = tn.state_dict(walkthrough.cut(walkthrough.reader, walkthrough.whole, 3, "attn"))
    for part in np.split(state["h.0.attn.c_attn.weight"].astype(np.float64) - base["h.0.attn.c_attn.weight"], 3):
        s = np.linalg.svd(part, compute_uv=False)
        assert s[3] < 1e-3 * s[2]
    for name, array in state.items():
        if "attn" not in name or array.ndim < 2:
            assert np.array_equal(array, whole[name])
