"""GPT-1 equals transformers' OpenAIGPT with random weights of several shapes: outputs, losses, gradients, names both ways."""

import dataclasses
import json

import tinygrad_notes as tn
from models.language import gpt1

import numpy as np
import pytest

REASON = "parity with transformers needs the extra: pip install tinygrad_notes[parity]"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
pytestmark = pytest.mark.filterwarnings("default")  # the other library's own warnings are its own

SHAPES = {
    "one": {"vocab_size": 11, "n_embd": 8, "n_layer": 1, "n_head": 1},
    "odd": {"vocab_size": 53, "n_embd": 33, "n_layer": 3, "n_head": 3, "layer_norm_epsilon": 1e-6},
    "deep": {"vocab_size": 97, "n_embd": 32, "n_layer": 6, "n_head": 8},
    "long": {"vocab_size": 301, "n_embd": 64, "n_layer": 2, "n_head": 4},
}
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])


def pair(kind, ours, shape, dtype, **more):
    """Their model, and ours made of its config and its state_dict."""
    torch.manual_seed(0)
    config = transformers.OpenAIGPTConfig(**SHAPES[shape], n_positions=300, pad_token_id=0, **more)
    theirs = getattr(transformers, kind)(config).eval().to(getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():
        for p in theirs.parameters():  # biases and norms start as constants: move every number
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype))
    model = ours(dataclasses.replace(gpt1.Config.from_published(config.to_dict()), dtype=dtype), np.random.default_rng(0))
    tn.load(model, gpt1.published({name: t.numpy() for name, t in theirs.state_dict().items()}))
    return theirs, model


def batch(shape):
    T = 280 if shape == "long" else 14  # 280: more than one block of attention
    return np.random.default_rng(1).integers(1, SHAPES[shape]["vocab_size"], size=(3, T))


def assert_same_gradients(theirs, their_loss, model, our_loss, tolerance=1e-4):
    ours = gpt1.to_published(tn.gradients(our_loss, tn.parameters(model), unused="raise"))
    params = dict(theirs.named_parameters())
    assert ours.keys() == params.keys()
    for (name, g), h in zip(ours.items(), torch.autograd.grad(their_loss, [params[name] for name in ours]), strict=True):
        h = h.numpy()
        assert g.dtype == h.dtype
        np.testing.assert_allclose(g, h, rtol=0, atol=tolerance * max(1, np.abs(h).max()), err_msg=name)


@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
def test_language_model(shape, dtype, tolerance):
    theirs, model = pair("OpenAIGPTLMHeadModel", gpt1.GPT, shape, dtype)
    ids = batch(shape)
    logits = theirs(torch.from_numpy(ids)).logits
    found = tn.frozen(model)(ids)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, logits.detach().numpy(), rtol=tolerance, atol=tolerance)
    # With labels the library computes the loss in float32, so here it is from its logits.
    their_loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.from_numpy(ids[:, 1:]).flatten())
    loss = gpt1.loss(model, ids[:, :-1], ids[:, 1:])
    assert loss.item() == pytest.approx(their_loss.item(), rel=tolerance)
    assert_same_gradients(theirs, their_loss, model, loss)


@DTYPES
@pytest.mark.parametrize("shape", ["odd", "deep"])
def test_fine_tuning(shape, dtype, tolerance):
    """Their classifier reads the last token that is no padding, as ours reads `last`; with lambda 0 the losses are the same."""
    theirs, model = pair("OpenAIGPTForSequenceClassification", gpt1.Classifier, shape, dtype, num_labels=5)
    ids, last, labels = batch(shape), np.array([13, 6, 2]), np.array([4, 0, 2])
    ids[np.arange(14) > last[:, None]] = 0
    out = theirs(torch.from_numpy(ids), labels=torch.from_numpy(labels))
    scores, _ = tn.frozen(model).classify(ids, last)
    np.testing.assert_allclose(scores, out.logits.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert_same_gradients(theirs, out.loss, model, gpt1.fine_tuning_loss(model, ids, last, labels, weight=0.0))


@pytest.mark.parametrize(("kind", "ours"), [("OpenAIGPTLMHeadModel", gpt1.GPT), ("OpenAIGPTForSequenceClassification", gpt1.Classifier)])
def test_our_weights_load_there(kind, ours):
    """to_published gives every parameter of theirs, by name and shape; tied ones once."""
    theirs, _ = pair(kind, ours, "odd", np.float32)
    model = ours(gpt1.Config.from_published(theirs.config.to_dict()), np.random.default_rng(5))
    state = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in gpt1.to_published(tn.state_dict(model)).items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    theirs.tie_weights()
    ids = batch("odd")
    found = tn.frozen(model)(ids) if ours is gpt1.GPT else tn.frozen(model).classify(ids, np.full(3, 13))[0]
    np.testing.assert_allclose(found, theirs(torch.from_numpy(ids))[0].detach().numpy(), rtol=1e-5, atol=1e-5)


def test_a_saved_config_is_read(tmp_path):
    config = transformers.OpenAIGPTConfig(**SHAPES["odd"], num_labels=7, resid_pdrop=0.2, embd_pdrop=0.2)
    config.save_pretrained(tmp_path)
    ours = gpt1.Config.from_published(json.loads((tmp_path / "config.json").read_text()))
    assert ours == gpt1.Config(53, 512, 3, 3, 33, classes=7, dropout=0.2, eps=1e-6)
    for other in (transformers.GPT2Config(), transformers.OpenAIGPTConfig(afn="relu")):
        with pytest.raises(ValueError, match=r"^Config\.from_published: "):
            gpt1.Config.from_published(other.to_dict())


def test_the_golden_file_is_what_the_library_gives():
    from tests.golden import make_gpt1

    golden = json.loads((make_gpt1.Path(make_gpt1.__file__).with_name("gpt1.json")).read_text())
    for part, results in make_gpt1.results().items():
        for name, value in results.items():
            if name != "gradients":
                np.testing.assert_allclose(value, golden[part][name], rtol=1e-8, atol=1e-9)
            else:
                for path, numbers in value.items():
                    np.testing.assert_allclose(numbers, golden[part][name][path], rtol=1e-7, atol=1e-9)
