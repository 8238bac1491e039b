"""BERT equals transformers' BERT with random weights of several shapes: outputs, losses, gradients, names both ways."""

import dataclasses
import json

import tinygrad_notes as tn
from models.language import bert

import numpy as np
import pytest

REASON = "parity with transformers needs the extra: pip install tinygrad_notes[parity]"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
pytestmark = pytest.mark.filterwarnings("default")  # the other library's own warnings are its own

SHAPES = {
    "one": {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8},
    "odd": {
        "vocab_size": 53,
        "hidden_size": 33,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 7,
        "type_vocab_size": 3,
    },
    "deep": {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-5,
    },
    "long": {"vocab_size": 301, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256},
}
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])


def pair(kind, ours, shape, dtype, **more):
    """Their model, and ours made of its config and its state_dict."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**SHAPES[shape], max_position_embeddings=300, attn_implementation="eager", **more)
    theirs = getattr(transformers, kind)(config).eval().to(getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():
        for p in theirs.parameters():  # biases and norms start as constants: move every number
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype))
    model = ours(dataclasses.replace(bert.Config.from_published(config.to_dict()), dtype=dtype), np.random.default_rng(0))
    tn.load(model, bert.published({name: t.numpy() for name, t in theirs.state_dict().items()}))
    return theirs, model


def batch(shape):
    rng = np.random.default_rng(1)
    B, T = 3, 280 if shape == "long" else 14  # 280: more than one block of attention
    lengths = np.array([[T], [T - 5], [2]])
    ids = rng.integers(1, SHAPES[shape]["vocab_size"], size=(B, T))  # without 0: the library gives the row of [PAD] no gradient
    return ids, rng.integers(SHAPES[shape].get("type_vocab_size", 2), size=(B, T)), np.arange(T) < lengths


def tensors(ids, segments, mask):
    return {
        "input_ids": torch.from_numpy(ids),
        "token_type_ids": torch.from_numpy(segments),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }


def assert_same_gradients(theirs, their_loss, model, our_loss, tolerance=1e-4):
    ours = bert.to_published(tn.gradients(our_loss, tn.parameters(model), unused="raise"))
    params = dict(theirs.named_parameters())
    assert ours.keys() == params.keys()
    for (name, g), h in zip(ours.items(), torch.autograd.grad(their_loss, [params[name] for name in ours]), strict=True):
        h = h.numpy()
        assert g.dtype == h.dtype
        np.testing.assert_allclose(g, h, rtol=0, atol=tolerance * max(1, np.abs(h).max()), err_msg=name)


@DTYPES
@pytest.mark.parametrize("shape", SHAPES)
def test_pretraining(shape, dtype, tolerance):
    theirs, model = pair("BertForPreTraining", bert.PreTraining, shape, dtype)
    ids, segments, mask = batch(shape)
    rng = np.random.default_rng(2)
    targets = np.where((rng.random(ids.shape) < 0.3) & mask, ids, bert.IGNORED)
    is_random = np.array([0, 1, 1])
    out = theirs(**tensors(ids, segments, mask), labels=torch.from_numpy(targets), next_sentence_label=torch.from_numpy(is_random))
    mlm, nsp = tn.frozen(model)(ids, segments, mask)
    assert mlm.dtype == nsp.dtype == dtype
    np.testing.assert_allclose(mlm[mask], out.prediction_logits.detach().numpy()[mask], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(nsp, out.seq_relationship_logits.detach().numpy(), rtol=tolerance, atol=tolerance)
    loss = bert.loss(model, ids, segments, mask, targets, is_random)
    assert loss.item() == pytest.approx(out.loss.item(), rel=tolerance)
    assert_same_gradients(theirs, out.loss, model, loss)


@DTYPES
@pytest.mark.parametrize("shape", ["odd", "deep"])
def test_classification(shape, dtype, tolerance):
    theirs, model = pair("BertForSequenceClassification", bert.Classifier, shape, dtype, num_labels=5)
    ids, segments, mask = batch(shape)
    labels = np.array([4, 0, 2])
    out = theirs(**tensors(ids, segments, mask), labels=torch.from_numpy(labels))
    np.testing.assert_allclose(tn.frozen(model)(ids, segments, mask), out.logits.detach().numpy(), rtol=tolerance, atol=tolerance)
    loss = bert.classification_loss(model, ids, segments, mask, labels)
    assert_same_gradients(theirs, out.loss, model, loss)


@DTYPES
def test_the_encoder_alone(dtype, tolerance):
    theirs, model = pair("BertModel", bert.BERT, "odd", dtype)
    ids, segments, mask = batch("odd")
    out = theirs(**tensors(ids, segments, mask))
    x, pooled = tn.frozen(model)(ids, segments, mask)
    np.testing.assert_allclose(x[mask], out.last_hidden_state.detach().numpy()[mask], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(pooled, out.pooler_output.detach().numpy(), rtol=tolerance, atol=tolerance)
    without = theirs(torch.from_numpy(ids)).last_hidden_state.detach().numpy()  # neither mask nor segments
    np.testing.assert_allclose(tn.frozen(model)(ids)[0], without, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [("BertForPreTraining", bert.PreTraining), ("BertForSequenceClassification", bert.Classifier), ("BertModel", bert.BERT)],
)
def test_our_weights_load_there(kind, ours):
    """to_published gives every parameter of theirs, by name and shape; tied ones once."""
    theirs, _ = pair(kind, ours, "odd", np.float32)
    model = ours(bert.Config.from_published(theirs.config.to_dict()), np.random.default_rng(5))
    state = {name: torch.from_numpy(a) for name, a in bert.to_published(tn.state_dict(model)).items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert {name for name in missing if not name.startswith("cls.predictions.decoder.")} == set()
    theirs.tie_weights()
    ids, segments, mask = batch("odd")
    found = tn.frozen(model)(ids, segments, mask)
    ours_first = found[0] if ours is not bert.Classifier else found
    their_first = theirs(**tensors(ids, segments, mask))[0].detach().numpy()
    counted = slice(None) if ours is bert.Classifier else mask
    np.testing.assert_allclose(ours_first[counted], their_first[counted], rtol=1e-5, atol=1e-5)


def test_a_saved_config_is_read(tmp_path):
    config = transformers.BertConfig(**SHAPES["odd"], num_labels=7, hidden_dropout_prob=0.2)
    config.save_pretrained(tmp_path)
    ours = bert.Config.from_published(json.loads((tmp_path / "config.json").read_text()))
    assert ours == bert.Config(53, 512, segments=3, layers=3, heads=3, width=33, hidden=7, classes=7, dropout=0.2)
    for other in (transformers.RobertaConfig(), transformers.BertConfig(hidden_act="relu"), transformers.BertConfig(is_decoder=True)):
        with pytest.raises(ValueError, match=r"^Config\.from_published: "):
            bert.Config.from_published(other.to_dict())


def test_the_golden_file_is_what_the_library_gives():
    from tests.golden import make_bert

    golden = json.loads((make_bert.Path(make_bert.__file__).with_name("bert.json")).read_text())
    for part, results in make_bert.results().items():
        for name, value in results.items():
            if name != "gradients":
                np.testing.assert_allclose(value, golden[part][name], rtol=1e-8, atol=1e-9)
            else:
                for path, numbers in value.items():
                    np.testing.assert_allclose(numbers, golden[part][name][path], rtol=1e-7, atol=1e-9)
