"""The GPT of the demo with the same weights, batches and settings in PyTorch: the same loss curve."""

from functools import partial

import tinygrad_notes as tn
from models.language import gpt
from tinygrad_notes import data, optim
from tinygrad_notes.text import CharTokenizer

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra: pip install tinygrad_notes[parity]")

STEPS, BATCH, CONTEXT = 200, 12, 64


def torch_gpt(p, config, ids):
    """The equations of models/language/gpt.py in PyTorch, over a dict of weights."""
    ln = lambda x, name: torch.nn.functional.layer_norm(x, (config.width,), p[name + ".weight"], p[name + ".bias"])
    linear = lambda x, name: torch.nn.functional.linear(x, p[name + ".weight"], p[name + ".bias"])
    B, T = ids.shape
    x = p["wte.weight"][ids] + p["wpe.weight"][:T]
    for i in range(config.layers):
        h = f"h.{i}."
        q, k, v = linear(ln(x, h + "ln_1"), h + "attn.c_attn").view(B, T, 3, config.heads, -1).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(y.transpose(1, 2).reshape(B, T, -1), h + "attn.c_proj")
        x = x + linear(torch.nn.functional.gelu(linear(ln(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh"), h + "mlp.c_proj")
    return ln(x, "ln_f") @ p["wte.weight"].T


def test_two_hundred_steps_of_the_demo():
    text, _ = data.split(data.manual())
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    config = gpt.Config.nanogpt_cpu(tokenizer.vocabulary_size)
    model = gpt.GPT(config, np.random.default_rng(0))
    params = tn.parameters(model)
    theirs = {name: torch.tensor(t.value.copy(), requires_grad=True) for name, t in params.items()}

    settings = {"weight_decay": 0.1, "betas": (0.9, 0.99)}
    ours_opt = optim.AdamW(params, lr=1e-3, decay=lambda path, t: t.ndim >= 2, **settings)
    groups = [
        {"params": [w for w in theirs.values() if (w.ndim < 2) == flat], "weight_decay": 0.0 if flat else 0.1} for flat in (True, False)
    ]
    theirs_opt = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    schedule = partial(optim.cosine, peak=1e-3, floor=1e-4, warmup=20, steps=STEPS)

    ours_curve, theirs_curve = [], []
    for step, (x, y) in zip(range(STEPS), data.batches(ids, BATCH, CONTEXT, np.random.default_rng(1))):
        loss = gpt.loss(model, x, y)
        grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
        ours_opt.step(grads, lr=schedule(step))
        ours_curve.append(loss.item())

        logits = torch_gpt(theirs, config, torch.tensor(x))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten())
        theirs_opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        for group in theirs_opt.param_groups:
            group["lr"] = schedule(step)
        theirs_opt.step()
        theirs_curve.append(loss.item())

    assert theirs_curve[-1] < 0.65 * theirs_curve[0]  # both learned something
    np.testing.assert_allclose(ours_curve, theirs_curve, rtol=0, atol=1e-3)
