"""The Transformer with the weights of PyTorch's nn.Transformer (post-norm, without the norms behind the last layers): the same logits, loss and gradients."""

import json

import tinygrad_notes as tn
from models.language import transformer
from tests.golden import make_transformer as golden
from tinygrad_notes import optim

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra: pip install tinygrad_notes[parity]")
pytestmark = pytest.mark.filterwarnings("ignore:.*nested tensor")

SIZES = [
    {"layers": 1, "heads": 1, "width": 8, "hidden": 8},
    {"layers": 2, "heads": 4, "width": 32, "hidden": 128},
    {"layers": 6, "heads": 8, "width": 64, "hidden": 256},
    {"layers": 3, "heads": 3, "width": 15, "hidden": 7},
]
VOCABULARY = 29


def pair(dtype, sizes):
    """(ours, theirs, their embedding) with the same random weights, biases and norms included."""
    torch.manual_seed(0)
    their_dtype = getattr(torch, np.dtype(dtype).name)
    twin = golden.nn_transformer(torch, their_dtype, **sizes)
    with torch.no_grad():
        for p in twin.parameters():
            if p.ndim == 1:  # they start as zeros and ones, which would hide mistakes
                p.add_(torch.randn(p.shape, dtype=their_dtype), alpha=0.3)
    embedding = (torch.randn(VOCABULARY, sizes["width"], dtype=their_dtype) / sizes["width"] ** 0.5).requires_grad_()
    model = transformer.Transformer(transformer.Config(VOCABULARY, dtype=dtype, **sizes), np.random.default_rng(0))
    tn.load(model, ours({name: t.detach() for name, t in twin.state_dict().items()}, embedding.detach()))
    return model, twin, embedding


def ours(tensors, embedding):
    return transformer.published({name: t.numpy() for name, t in tensors.items()}) | {"embedding.weight": embedding.numpy()}


def sentences():
    """Four pairs of unequal lengths, padded with 0; targets end in 2."""
    rng = np.random.default_rng(1)
    src, tgt = rng.integers(3, VOCABULARY, (4, 9)), rng.integers(3, VOCABULARY, (4, 6))
    for b, (s, t) in enumerate(((9, 3), (1, 6), (4, 4), (7, 5))):
        src[b, s:], tgt[b, t - 1], tgt[b, t:] = 0, 2, 0
    return src, tgt


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("dtype", "value", "gradient"), [(np.float64, 1e-9, 1e-9), (np.float32, 1e-5, 1e-4)])
def test_nn_transformer(dtype, value, gradient, sizes):
    model, twin, embedding = pair(dtype, sizes)
    src, tgt = sentences()
    ids = transformer.shifted(tgt, 1)
    theirs = golden.run(torch, twin, embedding, src, ids)
    real = tgt != 0  # what PyTorch computes behind the end of a target is nobody's business
    np.testing.assert_allclose(model(src, ids).value[real], theirs.detach().numpy()[real], rtol=0, atol=value)

    loss = torch.nn.functional.cross_entropy(theirs.flatten(0, 1), torch.from_numpy(tgt).flatten(), ignore_index=0, label_smoothing=0.1)
    names, weights = zip(*twin.named_parameters())
    *gs, g_embedding = torch.autograd.grad(loss, [*weights, embedding])
    expected = ours(dict(zip(names, gs)), g_embedding)
    mine = transformer.loss(model, src, tgt)
    found = tn.gradients(mine, tn.parameters(model), unused="raise")
    assert mine.item() == pytest.approx(loss.item(), abs=value)
    assert set(found) == set(expected)
    for name, g in found.items():
        np.testing.assert_allclose(g, expected[name], rtol=0, atol=gradient, err_msg=name)


def test_fifty_steps_of_training_give_the_same_losses():
    model, twin, embedding = pair(np.float64, SIZES[1])
    src, tgt = sentences()
    params = tn.parameters(model)
    settings = {"lr": 1.0, "betas": (0.9, 0.98), "eps": 1e-9}
    optimizer, their_optimizer = optim.Adam(params, **settings), torch.optim.Adam([*twin.parameters(), embedding], **settings)
    for step in range(50):
        lr = transformer.rate(step, width=32, warmup=100)
        loss = transformer.loss(model, src, tgt)
        optimizer.step(tn.gradients(loss, params, unused="raise"), lr=lr)

        logits = golden.run(torch, twin, embedding, src, transformer.shifted(tgt, 1))
        theirs = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(tgt).flatten(), ignore_index=0, label_smoothing=0.1
        )
        their_optimizer.zero_grad()
        theirs.backward()
        their_optimizer.param_groups[0]["lr"] = lr
        their_optimizer.step()
        assert loss.item() == pytest.approx(theirs.item(), rel=1e-9)
    assert loss.item() < 1.0


def test_attention_maps():
    model, twin, embedding = pair(np.float64, SIZES[1])
    src, tgt = sentences()
    seen = []
    for layer in twin.decoder.layers:
        attend = layer.multihead_attn
        attend.register_forward_pre_hook(
            lambda module, args, options: (args, options | {"need_weights": True, "average_attn_weights": False}), with_kwargs=True
        )
        attend.register_forward_hook(lambda module, args, output: seen.append(output[1].detach().numpy()))
    golden.run(torch, twin, embedding, src, tgt)
    np.testing.assert_allclose(transformer.attention_maps(model, src, tgt), np.stack(seen), rtol=0, atol=1e-12)


def test_the_golden_file_is_what_pytorch_gives_here_and_now():
    kept = json.loads(golden.FILE.read_text())
    live = golden.results()
    assert set(live) == set(kept["results"])
    for name, x in live.items():
        np.testing.assert_allclose(kept["results"][name], x, rtol=kept["eps"], atol=1e-12, err_msg=name)


def test_a_norm_behind_the_last_layer_is_refused():
    twin = torch.nn.Transformer(12, 2, 2, 2, 20, batch_first=True)
    model = transformer.Transformer(transformer.Config.tiny(), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"unexpected: encoder\.norm\.weight"):
        tn.load(model, ours(twin.state_dict(), torch.zeros(11, 12)))
