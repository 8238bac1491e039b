"""What is timed side by side computes the same."""

from contextlib import nullcontext

from benchmarks import kernels

import numpy as np
import pytest


@pytest.mark.parametrize("kernel", [pytest.param(kernel, id=kernel.name) for kernel in kernels.cases(small=True)])
def test_kernel_twin_and_pytorch_agree(kernel):
    """PyTorch takes part where it is installed."""
    runs = kernels.candidates(kernel)
    assert {"kernel", "twin"} <= runs.keys()
    y, grads = runs.pop("kernel")()
    assert len(grads) == len(kernel.shapes) and y.dtype == np.float32
    for run in runs.values():
        other, others = run()
        np.testing.assert_allclose(other, y, rtol=1e-4, atol=1e-5)
        for g, h, shape in zip(grads, others, kernel.shapes):
            assert g.shape == shape
            np.testing.assert_allclose(h, g, rtol=1e-3, atol=1e-4)


def test_only_the_twin_runs_inside_reference(monkeypatch):
    entered = []
    monkeypatch.setattr(kernels.tn, "reference", lambda: entered.append(True) or nullcontext())
    runs = kernels.candidates(kernels.cases(small=True)[0])
    runs["kernel"]()
    assert not entered
    runs["twin"]()
    assert entered


def test_turns_give_a_positive_median_for_each():
    found = kernels.measure(kernels.adamw(100), rounds=2, turn=0.0)
    assert "kernel" in found and min(found.values()) > 0
