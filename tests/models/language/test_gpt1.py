"""GPT-1 at toy size: gradients, causality, cache, the auxiliary loss of fine-tuning, published names, errors."""

import dataclasses
import difflib
import json
import math
from pathlib import Path

import tinygrad_notes as tn
from models.language import gpt, gpt1
from tests.golden import gpt1_inputs
from tests.golden.sines import digest, sines, summary
from tests.models.whole_loss import check_whole_loss
from tinygrad_notes import check, optim
from tinygrad_notes import functional as F

import numpy as np
import pytest

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5], [2, 7, 1, 8, 2, 8, 1, 8, 2]])
LAST = np.array([7, 4])  # behind the extract token of the second row is padding
LABELS = np.array([1, 0])


def tiny(kind=gpt1.GPT, dtype=np.float64, seed=0, **changes):
    return kind(gpt1.Config.tiny(dtype=dtype, **changes), np.random.default_rng(seed))


def lm_loss(model, rng=None):
    return gpt1.loss(model, IDS[:, :-1], IDS[:, 1:], rng)


def task_loss(model, rng=None):
    return gpt1.fine_tuning_loss(model, IDS[:, :8], LAST, LABELS, rng=rng)


LOSSES = pytest.mark.parametrize(("kind", "loss"), [(gpt1.GPT, lm_loss), (gpt1.Classifier, task_loss)])


@LOSSES
def test_the_gradient_of_the_whole_loss(kind, loss):
    model = tiny(kind)
    check_whole_loss(model, lambda: loss(model))


@LOSSES
def test_overfits_one_batch(kind, loss):
    model = tiny(kind, np.float32)
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=3e-3)
    first = loss(model).item()
    for _ in range(300):
        now = loss(model)
        optimizer.step(tn.gradients(now, params, unused="raise"))
    assert now.item() < 0.05 * first


@LOSSES
def test_float32_throughout_and_the_shape_comments_hold(kind, loss):
    model = tiny(kind, np.float32)
    with check.dtypes(), check.shapes(gpt1):
        value = loss(model)
        grads = tn.gradients(value, tn.parameters(model))
    assert value.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}


@LOSSES
def test_deterministic_given_the_rng_and_dropout_only_with_one(kind, loss):
    a, b = tiny(kind, seed=3, dropout=0.5), tiny(kind, seed=3, dropout=0.5)
    assert loss(a).item() == loss(b).item()
    once, again = (loss(a, np.random.default_rng(1)).item() for _ in range(2))
    assert once == again != loss(a).item()


def test_where_dropout_acts(monkeypatch):
    """On the embeddings, on what each half of a block adds, and before the new layer: as published, but for the attention weights."""
    shapes, dropout = [], F.dropout
    monkeypatch.setattr(F, "dropout", lambda x, p, rng: (shapes.append((x.shape, p)), dropout(x, p, rng))[1])
    task_loss(tiny(gpt1.Classifier, dropout=0.25), np.random.default_rng(0))
    assert shapes == [((2, 8, 12), 0.25)] * 5 + [((2, 12), 0.25)]


@LOSSES
def test_dense_attention_gives_the_same_loss(kind, loss):
    model = tiny(kind)
    with tn.reference():
        dense = loss(model).item()
    assert dense == pytest.approx(loss(model).item(), rel=1e-13)


def test_frozen_inference_is_the_tensor_run_without_tensors():
    model = tiny(gpt1.Classifier, np.float32)
    logits = tn.frozen(model)(IDS[:, :8])
    assert type(logits) is np.ndarray
    assert np.array_equal(logits, model(IDS[:, :8]).value)
    for array, tensor in zip(tn.frozen(model).classify(IDS[:, :8], LAST), model.classify(IDS[:, :8], LAST), strict=True):
        assert np.array_equal(array, tensor.value)


def test_no_position_feels_the_future():
    model = tiny()
    x = tn.Tensor(np.random.default_rng(0).normal(size=model.wpe.weight.shape))
    model.wpe.weight = x
    for t in range(8):
        g = tn.gradients(np.sum(model(IDS[:, :8])[:, t] ** 2), x)
        assert np.all(g[t + 1 :] == 0)
        assert np.all(np.any(g[: t + 1] != 0, axis=1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_cached_equals_uncached(dtype, tolerance):
    model = tn.frozen(tiny(dtype=dtype))
    whole = model(IDS[:, :8])
    for parts in ([8], [1] * 8, [3, 1, 4], [7, 1]):
        cache, outputs, start = model.empty_cache(2), [], 0
        for n in parts:
            logits, cache = model(IDS[:, start : start + n], cache)
            outputs.append(logits)
            start += n
        np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, rtol=0, atol=tolerance)


def test_greedy_generation_equals_generation_without_a_cache_and_goes_on_past_the_context():
    model = tiny(seed=5)
    plain = IDS[:, :2]
    for _ in range(6):
        plain = np.concatenate([plain, tn.frozen(model)(plain)[:, -1].argmax(-1)[:, None]], axis=1)
    assert np.array_equal(gpt1.generate(model, IDS[:, :2], 6), plain)
    assert gpt1.generate(model, IDS[:, :3], 40, rng=np.random.default_rng(0)).shape == (2, 43)


def test_attention_maps_are_causal_distributions():
    maps = gpt1.attention_maps(tiny(), IDS[:, :8])
    assert maps.shape == (2, 2, 2, 8, 8)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-12)
    assert np.all(np.triu(maps, 1) == 0)


# --- what is not GPT-2 ----------------------------------------------------------------------------


def test_post_norm_every_block_ends_normalised():
    """Each block's output has mean 0 and variance 1 however large its weights; GPT-2's stream grows instead."""

    def stream(module, model):
        for name, t in tn.parameters(model).items():
            if "ln" not in name:
                t.value = t.value * 50
        x = tn.frozen(model).wte(IDS[:, :8])
        for block in tn.frozen(model).h:
            x = block(x)
        return x

    x = stream(gpt1, tiny(eps=1e-12))
    np.testing.assert_allclose(x.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(-1), 1, atol=1e-9)
    assert stream(gpt, gpt.GPT(gpt.Config.tiny(dtype=np.float64), np.random.default_rng(0))).std() > 2


def test_the_difference_from_gpt2_is_short_and_tells_the_story():
    """From the first block to the whole model, a few lines of GPT-2 are gone: the norms, and the scale of the residual weights."""
    sources = [Path(module.__file__).read_text(encoding="utf-8") for module in (gpt, gpt1)]
    old, new = (source[source.index("class Attention(") : source.index("def loss(")].splitlines() for source in sources)
    gone = [line[1:].strip() for line in difflib.unified_diff(old, new, lineterm="", n=0) if line[0] == "-" and line[1:2] != "-"]
    assert "x = x + F.dropout(self.attn(self.ln_1(x), cache), self.dropout, rng)" in gone
    assert any(line.startswith("self.ln_f = LayerNorm(") for line in gone)
    assert len(gone) < 25, gone


def test_the_published_size():
    """117 million parameters, as it is usually given: 116.5 with the 40,478 tokens of its checkpoint."""
    c = gpt1.Config.gpt1()
    per_block = 4 * (c.width + 1) * c.width + 2 * 4 * c.width * c.width + 5 * c.width + 4 * c.width
    assert round(((c.vocabulary + c.context) * c.width + c.layers * per_block) / 1e6, 1) == 116.5
    t = gpt1.Config.tiny()
    assert tn.count(tiny()) == (t.vocabulary + t.context) * t.width + t.layers * (12 * t.width**2 + 13 * t.width)


# --- fine-tuning ------------------------------------------------------------------------------------


def test_the_fine_tuning_loss_is_the_task_and_half_the_language():
    """Equation 8, with the padding counted nowhere; written out."""
    model = tn.frozen(tiny(gpt1.Classifier))
    scores, logits = model.classify(IDS[:, :8], LAST)
    log_p, log_q = F.log_softmax(scores), F.log_softmax(logits)
    task = -(log_p[0, 1] + log_p[1, 0]) / 2
    language = -np.mean([log_q[b, t, IDS[b, t + 1]] for b in range(2) for t in range(LAST[b])])
    for weight in (0.0, 0.5, 2.0):
        found = gpt1.fine_tuning_loss(model, IDS[:, :8], LAST, LABELS, weight)
        assert found == pytest.approx(task + weight * language, rel=1e-12)
    assert gpt1.fine_tuning_loss(model, IDS[:, :8], LAST, LABELS) == pytest.approx(task + 0.5 * language, rel=1e-12)


def test_padding_changes_neither_scores_nor_loss():
    model = tn.frozen(tiny(gpt1.Classifier))
    padded = IDS[:, :8].copy()
    padded[1, 5:] = 0
    for a, b in zip(model.classify(IDS[:, :8], LAST), model.classify(padded, LAST)):
        assert np.array_equal(a[:, :5], b[:, :5])
    assert gpt1.fine_tuning_loss(model, padded, LAST, LABELS) == gpt1.fine_tuning_loss(model, IDS[:, :8], LAST, LABELS)


def test_a_classifier_starts_from_a_trained_model():
    trained, classifier = tiny(seed=4), tiny(gpt1.Classifier)
    tn.load(classifier, tn.state_dict(trained) | {"score.weight": np.zeros((2, 12))})
    assert np.array_equal(classifier(IDS[:, :8]).value, trained(IDS[:, :8]).value)
    assert np.all(tn.frozen(classifier).classify(IDS[:, :8], LAST)[0] == 0)


# --- published names, and errors ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [gpt1.GPT, gpt1.Classifier])
def test_published_names_there_and_back(kind):
    state = tn.state_dict(tiny(kind))
    theirs = gpt1.to_published(state)
    assert theirs["transformer.tokens_embed.weight"].shape == (11, 12)
    assert theirs["transformer.h.1.attn.c_attn.weight"].shape == (12, 36)  # (in, out)
    assert ("score.weight" in theirs) == (kind is gpt1.Classifier)
    theirs["lm_head.weight"] = theirs["transformer.tokens_embed.weight"]
    theirs["transformer.h.0.attn.bias"] = np.tri(8)[None, None]
    for prefix in ("transformer.", ""):
        found = gpt1.published({name.replace("transformer.", prefix): a for name, a in theirs.items()})
        assert found.keys() == state.keys()
        assert all(np.array_equal(found[name], state[name]) for name in state)
    other = theirs["lm_head.weight"].copy()
    other[3, 4] += 1e-3
    for head in (other, other[:-1]):
        with pytest.raises(ValueError, match=r"lm_head.weight differs from transformer.tokens_embed.weight, to which it is tied here"):
            gpt1.published(theirs | {"lm_head.weight": head})
    with pytest.raises(ValueError, match=r"transformer.wpe.weight and positions_embed.weight are both wpe.weight here"):
        gpt1.published({"transformer.wpe.weight": np.zeros(2), "positions_embed.weight": np.zeros(2)})


CONFIG = {"model_type": "openai-gpt", "vocab_size": 99, "n_positions": 40, "n_layer": 3, "n_head": 4, "n_embd": 24}


def test_a_published_config():
    more = {
        "afn": "gelu",
        "resid_pdrop": 0.2,
        "layer_norm_epsilon": 1e-6,
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "initializer_range": 0.1,
    }
    labels = {"classes": 3, "labels": ("a", "b", "c")}
    expected = gpt1.Config(99, 40, 3, 4, 24, **labels, dropout=0.2, embedding_dropout=0.1, eps=1e-6, std=0.1)
    assert gpt1.Config.from_published(CONFIG) == gpt1.Config(99, 40, layers=3, heads=4, width=24, dropout=0.1)
    assert gpt1.Config.from_published(CONFIG | more) == expected
    assert gpt1.Config.from_published(gpt1.Config.tiny(std=0.1, dropout=0.3).to_published()) == gpt1.Config.tiny(std=0.1, dropout=0.3)
    assert gpt1.Config.from_published({"model_type": "openai-gpt"}) == gpt1.Config(dropout=0.1)
    written = gpt1.Config.tiny(dropout=0.3).to_published()
    assert (written["embd_pdrop"], written["resid_pdrop"], written["attn_pdrop"]) == (0.3, 0.3, 0.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_layer", 2.0), ("n_head", 0), ("n_embd", True), ("layer_norm_epsilon", math.nan), ("resid_pdrop", 2), ("num_labels", None)],
)
def test_numbers_that_cannot_be_are_refused(key, value):
    with pytest.raises(ValueError, match=rf"^Config.from_published: {key} is {value!r}, expected a (whole )?number from ") as caught:
        gpt1.Config.from_published(CONFIG | {key: value})
    assert "\n" not in str(caught.value)


def test_two_kinds_of_dropout(monkeypatch):
    config = gpt1.Config.from_published(CONFIG | {"embd_pdrop": 0.3, "resid_pdrop": 0.2})
    assert (config.dropout, config.embedding_dropout) == (0.2, 0.3)
    assert gpt1.Config.from_published(config.to_published()) == config
    seen = []
    monkeypatch.setattr(gpt1.F, "dropout", lambda x, p, rng: seen.append(p) or x)
    tiny(gpt1.GPT, dropout=0.2, embedding_dropout=0.3)(IDS[:, :8])
    assert seen == [0.3, *[0.2] * 4]


@pytest.mark.parametrize(("key", "value"), [("model_type", "gpt2"), ("model_type", None), ("afn", "relu"), ("tie_word_embeddings", False)])
def test_a_config_of_another_model_is_refused(key, value):
    with pytest.raises(ValueError, match=rf"^Config.from_published: {key} is {value!r}, expected ") as caught:
        gpt1.Config.from_published(CONFIG | {key: value})
    assert "\n" not in str(caught.value)


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny(gpt1.Classifier)
    cases = [
        (lambda: model(IDS), ValueError, "9 positions, but the context is 8; crop"),
        (lambda: model(np.array([[11]])), IndexError, r"id 11 is not in 0\.\.10"),
        (lambda: model(np.array([1, 2])), ValueError, r"ids have shape \(2,\), expected \(B, T\)"),
        (lambda: model.classify(IDS[:, :8], np.array([7, 8])), ValueError, r"last is \[7 8\], expected 2 places below 8"),
        (lambda: model.classify(IDS[:, :8], np.array([-1, 3])), ValueError, r"last is \[-1  3\]"),
        (lambda: model.classify(IDS[:, :8], np.array([7])), ValueError, r"last is \[7\], expected 2 places"),
        (lambda: model(IDS[:, :2], model.empty_cache(2)), TypeError, "cache is for inference"),
        (lambda: gpt1.attention_maps(model, IDS), ValueError, "9 positions, but the context is 8; crop"),
        (lambda: gpt1.generate(model, IDS[0], 2), ValueError, r"generate: ids have shape \(9,\) and n is 2"),
        (lambda: gpt1.generate(model, IDS, -1), ValueError, "n is -1, expected .* at least 0"),
        (lambda: model([[1.0, 2.0]]), TypeError, r"ids are float64 \(1, 2\), expected integers"),
        (lambda: gpt1.Config.tiny(width=10, heads=3), ValueError, "width 10 is not a multiple of heads 3"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_lists_of_ids():
    model = tiny(gpt1.Classifier)
    ids, last = IDS[:, :8].tolist(), list(LAST)
    assert np.array_equal(model(ids).value, model(IDS[:, :8]).value)
    assert np.array_equal(gpt1.attention_maps(model, ids), gpt1.attention_maps(model, IDS[:, :8]))
    task = gpt1.fine_tuning_loss(model, ids, last, LABELS).item()
    assert task == gpt1.fine_tuning_loss(model, IDS[:, :8], LAST, LABELS).item()


def test_the_first_loss_is_that_of_knowing_nothing():
    assert abs(lm_loss(tiny()).item() - math.log(11)) < 0.1
    assert abs(gpt1.fine_tuning_loss(tiny(gpt1.Classifier), IDS[:, :8], LAST, LABELS, weight=0.0).item() - math.log(2)) < 0.1


# --- equal to the published implementation --------------------------------------------------------

GOLDEN = Path(__file__).parents[2] / "golden"


def with_sines(kind, dtype):
    """The model of the golden file: its weights are given by their published names."""
    config = dataclasses.replace(gpt1.Config.from_published(gpt1_inputs.CONFIG), dtype=dtype)
    model = kind(config, np.random.default_rng(0))
    theirs = sines({name: a.shape for name, a in gpt1.to_published(tn.state_dict(model)).items()})
    tn.load(model, {name: a.astype(dtype) for name, a in gpt1.published(theirs).items()})
    return model


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 2e-5)])
@pytest.mark.parametrize("kind", [gpt1.GPT, gpt1.Classifier])
def test_equal_to_transformers(kind, dtype, tolerance):
    """Outputs, loss and every gradient. The file has 9 digits; float32 rounds a few hundred sums of numbers near 3."""
    golden = json.loads((GOLDEN / "gpt1.json").read_text())["language" if kind is gpt1.GPT else "task"]
    model, ids = with_sines(kind, dtype), gpt1_inputs.IDS
    if kind is gpt1.GPT:
        outputs, loss = tn.frozen(model)(ids), gpt1.loss(model, ids[:, :-1], ids[:, 1:])
    else:
        outputs, _ = tn.frozen(model).classify(ids, gpt1_inputs.LAST)
        loss = gpt1.fine_tuning_loss(model, ids, gpt1_inputs.LAST, gpt1_inputs.LABELS, weight=0.0)
    assert outputs.dtype == dtype
    np.testing.assert_allclose(outputs, golden["logits"], rtol=tolerance, atol=tolerance)
    assert loss.item() == pytest.approx(golden["loss"], rel=tolerance)
    found = summary(gpt1.to_published(tn.gradients(loss, tn.parameters(model), unused="raise")))
    assert found.keys() == golden["gradients"].keys()
    for name, (length, along) in golden["gradients"].items():
        np.testing.assert_allclose(found[name], [length, along], rtol=tolerance, atol=tolerance * (1 + length), err_msg=name)


def test_the_golden_file_belongs_to_its_script():
    assert json.loads((GOLDEN / "gpt1.json").read_text())["script"] == digest(GOLDEN / "make_gpt1.py")
