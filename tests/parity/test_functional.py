"""Values and gradients of every function, over several settings, as PyTorch gives them here and now."""

from tests.functional.settings import SETTINGS
from tests.functional.test_golden import assert_near, value_and_gradients

import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_parity(setting, dtype):
    inputs = [torch.from_numpy(x).requires_grad_() for x in setting.inputs()]  # float64: what is right
    y = setting.theirs(torch, *inputs)
    gradients = torch.autograd.grad(y, inputs, torch.from_numpy(setting.cotangent(tuple(y.shape))))
    for ours, theirs in zip(value_and_gradients(setting, dtype), (y, *gradients), strict=True):
        assert ours.dtype == dtype
        assert_near(ours, theirs.detach().numpy(), np.finfo(dtype).eps)
