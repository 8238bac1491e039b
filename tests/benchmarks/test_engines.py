"""The engine and the gradients by hand agree on every workload; and a comparison that should fail does."""

import re

from benchmarks import adamw, compare
from benchmarks.by_hand import attention as blocks_by_hand
from benchmarks.engines import by_hand, ours
from benchmarks.workloads import ADAMW, WORKLOADS, make

import numpy as np
import pytest

SMALL = [pytest.param(w.shrunk(), id=w.key) for w in WORKLOADS]


def checked(engine, workload, steps=3):
    """The arrays that a worker's check writes, and the initial ones."""
    weights, batch = make(workload)
    prepared = engine.prepare(workload, {k: x.copy() for k, x in weights.items()}, batch)
    found = {f"output {k}": np.array(x) for k, x in prepared.outputs().items()}
    for _ in range(steps):
        prepared.step()
    found |= {f"weight {k}": np.array(x) for k, x in prepared.parameters().items()}
    return found, {f"weight {k}": x for k, x in weights.items()} | {f"batch {k}": x for k, x in batch.items()}


@pytest.mark.parametrize("workload", SMALL)
def test_the_engine_agrees_with_the_gradients_by_hand(workload):
    reference, initial = checked(ours, workload)
    other, _ = checked(by_hand, workload)
    assert compare.differences(reference, other, initial) == []
    assert any(name.startswith("weight ") for name in reference) == workload.trained


def test_attention_by_hand_over_many_blocks(monkeypatch):
    workload = next(w for w in WORKLOADS if w.model == "attention").shrunk()
    monkeypatch.setattr(blocks_by_hand, "block_sizes", lambda T: (16, 24))  # 5 x 3 of them, ragged at both edges
    reference, initial = checked(ours, workload)
    assert compare.differences(reference, checked(by_hand, workload)[0], initial) == []


def test_adamw_by_hand_with_a_strong_decay_and_several_chunks(monkeypatch):
    monkeypatch.setitem(ADAMW, "weight_decay", 5.0)
    monkeypatch.setitem(ADAMW, "lr", 0.1)
    monkeypatch.setattr(adamw, "CHUNK", 7)
    workload = WORKLOADS[0].shrunk()
    reference, _ = checked(ours, workload)
    other, _ = checked(by_hand, workload)
    for name in reference:
        np.testing.assert_allclose(other[name], reference[name], rtol=1e-3, atol=1e-5)


# --- the comparison itself -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt():
    return checked(ours, next(w for w in WORKLOADS if w.key == "W2").shrunk())


def test_equal_results_do_not_differ(gpt):
    assert compare.differences(gpt[0], gpt[0], gpt[1]) == []


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("output loss", 1 + 3e-5, r"loss differs by 3\.0e-05, more than 1e-05"),
        ("output h.1.mlp.c_fc.weight", 1 + 3e-4, r"the gradient of h\.1\.mlp\.c_fc\.weight differs by 3\.0e-04 of its norm"),
        ("output h.0.ln_1.bias", np.nan, "the gradient of h.0.ln_1.bias differs by nan"),
        ("weight wte.weight", 1.05, "after three steps the weights are .* of their movement apart"),
    ],
)
def test_a_wrong_number_is_found(gpt, name, factor, message):
    reference, initial = gpt
    wrong = compare.differences(reference, reference | {name: reference[name] * np.float32(factor)}, initial)
    assert len(wrong) == 1
    assert re.match(message, wrong[0]), wrong


def test_other_names_shapes_and_widths_are_found(gpt):
    reference, initial = gpt
    name = "output ln_f.weight"
    less = {k: x for k, x in reference.items() if k != name}
    assert name in compare.differences(reference, less, initial)[0]
    assert compare.differences(reference, reference | {name: reference[name].astype(float)}, initial) == [f"{name} is float64 (8,)"]
    assert compare.differences(reference, reference | {name: reference[name][:3]}, initial) == [f"{name} is float32 (3,)"]


def test_other_tokens_are_found():
    workload = next(w for w in WORKLOADS if w.model == "decode").shrunk()
    reference, initial = checked(ours, workload, steps=0)
    ids = reference["output ids"].copy()
    T = initial["batch ids"].shape[1]
    ids[0, T] += 1
    assert compare.differences(reference, reference | {"output ids": ids}, initial) == ["it writes other tokens"]


def test_an_optimizer_with_steps_of_another_size_is_found():
    reference, initial = checked(ours, WORKLOADS[0].shrunk())
    half = {k: initial[k] + (x - initial[k]) / 2 if k.startswith("weight") else x for k, x in reference.items()}
    assert "after three steps" in compare.differences(reference, half, initial)[0]
