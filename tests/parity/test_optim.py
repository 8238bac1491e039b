"""The optimizers and schedules beside PyTorch's: 50 steps each, in float64, to 1e-12."""

from tinygrad_notes import Tensor
from tinygrad_notes.optim import SGD, Adagrad, Adam, AdamW, RMSProp, clip_by_global_norm, one_cycle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install tinygrad_notes[parity]")

SHAPES = {"w": (6, 4), "b": (4,), "scale": ()}
CASES = {
    "sgd": (SGD, "SGD", {}),
    "sgd with decay": (SGD, "SGD", {"weight_decay": 0.1}),
    "momentum": (SGD, "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, "SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (Adam, "Adam", {}),
    "adam with decay": (Adam, "Adam", {"weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
    "adamw by default": (AdamW, "AdamW", {}),
    "adamw": (AdamW, "AdamW", {"weight_decay": 0.3, "betas": (0.8, 0.95)}),
    "adagrad": (Adagrad, "Adagrad", {}),
    "adagrad with decay": (Adagrad, "Adagrad", {"weight_decay": 0.1, "eps": 1e-4}),
    "rmsprop": (RMSProp, "RMSprop", {}),
    "rmsprop with momentum": (RMSProp, "RMSprop", {"momentum": 0.9, "alpha": 0.9, "weight_decay": 0.1}),
    "centred rmsprop": (RMSProp, "RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-3}),
}


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps(case):
    ours, theirs, settings = CASES[case]
    rng = np.random.default_rng(0)
    params = {path: Tensor(rng.normal(size=shape)) for path, shape in SHAPES.items()}
    copies = {path: torch.nn.Parameter(torch.tensor(t.value)) for path, t in params.items()}
    opt = ours(params, lr=0.01, **settings)
    reference = getattr(torch.optim, theirs)(list(copies.values()), lr=0.01, **settings)
    for _ in range(50):
        grads = {path: np.asarray(rng.normal(size=shape)) for path, shape in SHAPES.items()}
        opt.step(grads)
        for path, p in copies.items():
            p.grad = torch.tensor(grads[path])
        reference.step()
    for path, t in params.items():
        assert np.abs(t.value - copies[path].detach().numpy()).max() < 1e-12, path


def test_decay_groups():
    rng = np.random.default_rng(0)
    params = {path: Tensor(rng.normal(size=shape)) for path, shape in SHAPES.items()}
    copies = {path: torch.nn.Parameter(torch.tensor(t.value)) for path, t in params.items()}
    opt = AdamW(params, lr=0.01, weight_decay=0.5, decay=lambda path, t: t.ndim >= 2)
    groups = [{"params": [copies["w"]], "weight_decay": 0.5}, {"params": [copies["b"], copies["scale"]], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01)
    for _ in range(50):
        grads = {path: np.asarray(rng.normal(size=shape)) for path, shape in SHAPES.items()}
        opt.step(grads)
        for path, p in copies.items():
            p.grad = torch.tensor(grads[path])
        reference.step()
    for path, t in params.items():
        assert np.abs(t.value - copies[path].detach().numpy()).max() < 1e-12, path


def test_one_cycle():
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.3, total_steps=57, pct_start=0.4, cycle_momentum=False)
    for step in range(57):
        assert abs(one_cycle(step, peak=0.3, steps=57, rise=0.4) - schedule.get_last_lr()[0]) < 1e-12
        sgd.step()
        if step < 56:
            schedule.step()


def test_clipping():
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=(5, 3)), rng.normal(size=4)]
    copies = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for p, g in zip(copies, grads):
        p.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(copies, 0.5)
    clipped, ours = clip_by_global_norm(grads, 0.5)
    assert abs(ours - norm.item()) < 1e-12
    for p, g in zip(copies, clipped):
        assert np.abs(p.grad.numpy() - g).max() < 1e-6  # PyTorch adds 1e-6 to the norm
