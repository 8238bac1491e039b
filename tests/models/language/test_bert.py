"""BERT at toy size: gradients, masks, the two pre-training tasks, heads, published names, errors."""

import dataclasses
import json
import math
from pathlib import Path

import tinygrad_notes as tn
from models.language import bert
from tests.golden import bert_inputs
from tests.golden.sines import digest, sines, summary
from tests.models.whole_loss import check_whole_loss
from tinygrad_notes import check, optim
from tinygrad_notes import functional as F

import numpy as np
import pytest

SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
IDS = np.array([[2, 5, 4, 7, 3, 9, 4, 11, 12, 3], [2, 6, 6, 4, 8, 3, 10, 3, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1, 0, 0]])
MASK = IDS != 0
TARGETS = np.where(np.isin(IDS, [4, 8]), np.array([[7], [11]]), bert.IGNORED)
IS_RANDOM = np.array([1, 0])
BATCH = (IDS, SEGMENTS, MASK)
LABELS = np.array([2, 0])


def tiny(kind=bert.PreTraining, dtype=np.float64, seed=0, **changes):
    return kind(bert.Config.tiny(dtype=dtype, **changes), np.random.default_rng(seed))


def spread(model, seed=1):
    """The model with weights of size 0.3, far enough from the start that every term matters."""
    rng = np.random.default_rng(seed)
    for t in tn.parameters(model).values():
        t.value = t.value + rng.normal(0, 0.3, t.shape)
    return model


def pretraining_loss(model, rng=None):
    return bert.loss(model, *BATCH, TARGETS, IS_RANDOM, rng)


def classification_loss(model, rng=None):
    return bert.classification_loss(model, *BATCH, LABELS, rng)


LOSSES = pytest.mark.parametrize(("kind", "loss"), [(bert.PreTraining, pretraining_loss), (bert.Classifier, classification_loss)])


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
    for _ in range(200):
        now = loss(model)
        optimizer.step(tn.gradients(now, params, unused="raise"))
    assert now.item() < 0.05 * first


def test_the_first_loss_is_that_of_knowing_nothing():
    assert abs(pretraining_loss(tiny()).item() - math.log(13) - math.log(2)) < 0.1
    assert abs(classification_loss(tiny(bert.Classifier)).item() - math.log(3)) < 0.05


@LOSSES
def test_float32_throughout_and_the_shape_comments_hold(kind, loss):
    model = tiny(kind, np.float32)
    with check.dtypes(), check.shapes(bert):
        value = loss(model)
        grads = tn.gradients(value, tn.parameters(model))
    assert value.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}


def test_dense_attention_gives_the_same_loss():
    model = spread(tiny())
    with tn.reference():
        dense = pretraining_loss(model).item()
    assert dense == pytest.approx(pretraining_loss(model).item(), rel=1e-13)


def test_frozen_inference_is_the_tensor_run_without_tensors():
    for kind in (bert.BERT, bert.PreTraining):
        model = tiny(kind, np.float32)
        for array, tensor in zip(tn.frozen(model)(*BATCH), model(*BATCH), strict=True):
            assert type(array) is np.ndarray
            assert np.array_equal(array, tensor.value)


@LOSSES
def test_deterministic_given_the_rng_and_dropout_only_with_one(kind, loss):
    a, b = tiny(kind, seed=3, dropout=0.5), tiny(kind, seed=3, dropout=0.5)
    assert loss(a).item() == loss(b).item()
    once, again = (loss(a, np.random.default_rng(1)).item() for _ in range(2))
    assert once == again != loss(a).item()


def test_where_dropout_acts(monkeypatch):
    """On the embeddings, on what each half of a layer adds, and on the pooled vector of a classifier: as published."""
    shapes, dropout = [], F.dropout
    monkeypatch.setattr(F, "dropout", lambda x, p, rng: (shapes.append((x.shape, p)), dropout(x, p, rng))[1])
    classification_loss(tiny(bert.Classifier, dropout=0.25), np.random.default_rng(0))
    assert shapes == [((2, 10, 12), 0.25)] * 5 + [((2, 12), 0.25)]


# --- the model ---------------------------------------------------------------------------------


def test_every_position_feels_both_sides_and_never_the_padding():
    model = spread(tiny(bert.BERT))
    table = tn.Tensor(np.random.default_rng(0).normal(size=(10, 12)))
    model.position = lambda places: table
    for t in range(8):  # of the second row, whose last two are padding
        x, _ = model(*BATCH)
        felt = np.any(tn.gradients(np.sum(x[1, t] ** 2), table) != 0, axis=1)
        assert felt.tolist() == [True] * 8 + [False] * 2


def test_what_padding_holds_and_how_much_there_is_changes_nothing():
    model = tn.frozen(spread(tiny()))
    short = [x[1:, :8] for x in BATCH]
    for array, other in zip(model(*short), model(*(x[1:] for x in BATCH))):
        np.testing.assert_allclose(other[:, :8] if array.ndim == 3 else other, array, rtol=0, atol=1e-12)
    for array, other in zip(model(IDS[:1], SEGMENTS[:1], MASK[:1]), model(IDS[:1], SEGMENTS[:1])):
        np.testing.assert_allclose(array, other, rtol=0, atol=1e-12)


def test_without_positions_a_permuted_text_gives_permuted_vectors():
    model = spread(tiny(bert.BERT))
    model.position.weight = np.zeros((10, 12))
    order = np.array([0, 3, 1, 2, 9, 8, 7, 6, 5, 4])
    x, pooled = tn.frozen(model)(IDS[:1], SEGMENTS[:1])
    y, permuted = tn.frozen(model)(IDS[:1, order], SEGMENTS[:1, order])
    np.testing.assert_allclose(y, x[:, order], rtol=0, atol=1e-12)
    np.testing.assert_allclose(permuted, pooled, rtol=0, atol=1e-12)  # [CLS] stayed in front


def test_the_start_is_a_normal_cut_off_at_two_deviations():
    for std in (0.02, 0.1):
        model = bert.PreTraining(bert.Config.bert_tiny(vocabulary=1000, layers=1, std=std), np.random.default_rng(0))
        for name, t in tn.parameters(model).items():
            if t.ndim == 2 and t.size > 10_000:
                assert np.abs(t.value).max() <= 2 * std
                assert t.value.std() == pytest.approx(0.8796 * std, rel=0.03)  # of the normal between -2 and 2
            elif t.ndim == 1:
                assert np.all(t.value == ("norm" in name and name.endswith("weight")))


def test_each_table_counts_once():
    """x0 is the normalised sum of three rows."""
    model = tn.frozen(spread(tiny(bert.BERT)))
    row = model.word.weight[7] + model.position.weight[3] + model.segment.weight[1]
    expected = (row - row.mean()) / np.sqrt(row.var() + 1e-12) * model.norm.weight + model.norm.bias
    np.testing.assert_allclose(model.embed(IDS, SEGMENTS * 0 + 1)[0, 3], expected, rtol=0, atol=1e-12)


def test_post_norm_every_layer_ends_normalised():
    """With norms at their start, each layer's output has mean 0 and variance 1, however large its weights: BERT is post-norm."""
    model = tiny(bert.BERT)
    for name, t in tn.parameters(model).items():
        if "norm" not in name:
            t.value = t.value * 50
    x, _ = tn.frozen(model)(*BATCH)
    np.testing.assert_allclose(x.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(-1), 1, atol=1e-9)


def test_the_decoder_is_tied_to_the_word_table():
    model = tiny()
    assert [name for name, t in tn.parameters(model).items() if 13 in t.shape] == ["bert.word.weight", "mlm.bias"]
    mlm, _ = model(IDS)
    felt = tn.gradients(np.sum(mlm * np.arange(13)), model.bert.word.weight)
    assert np.all(np.any(felt != 0, axis=1))  # every row, also of tokens that do not occur


def test_the_loss_is_that_of_the_whole_logits():
    """Only hidden tokens go through the head; the number is that of equation 7."""
    model = tn.frozen(spread(tiny()))
    mlm, nsp = model(*BATCH)
    log_p = mlm - np.log(np.exp(mlm).sum(-1, keepdims=True))
    log_q = nsp - np.log(np.exp(nsp).sum(-1, keepdims=True))
    tokens = [-log_p[b, t, TARGETS[b, t]] for b in range(2) for t in range(10) if TARGETS[b, t] >= 0]
    assert len(tokens) == 4
    assert bert.loss(model, *BATCH, TARGETS, IS_RANDOM) == pytest.approx(np.mean(tokens) - (log_q[0, 1] + log_q[1, 0]) / 2, rel=1e-12)


def test_fill_replaces_blanks_only():
    model = tiny(dtype=np.float32)
    mlm, _ = tn.frozen(model)(*BATCH)
    filled = bert.fill(model, IDS, SPECIAL["[MASK]"], SEGMENTS, MASK)
    assert np.array_equal(filled[IDS != 4], IDS[IDS != 4])
    assert np.array_equal(filled[IDS == 4], mlm.argmax(-1)[IDS == 4])


def test_attention_maps_are_distributions_and_belong_to_the_layers():
    model = spread(tiny(bert.BERT))
    maps = bert.attention_maps(model, IDS, SEGMENTS)
    assert maps.shape == (2, 2, 2, 10, 10)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-12)
    layer, x = tn.frozen(model).layers[0], tn.frozen(model).embed(IDS, SEGMENTS)
    heads = maps[0] @ layer.attention.split(x)[2]  # the weighted means of the values
    np.testing.assert_allclose(layer.attention.out_proj(np.swapaxes(heads, 1, 2).reshape(2, 10, 12)), layer.attention(x, None), atol=1e-12)


# --- the two tasks of pre-training -----------------------------------------------------------------


def within_three_sigma(found, n, p):
    return abs(found - n * p) <= 3 * math.sqrt(n * p * (1 - p))


def test_masking_rates():
    """15 % are hidden; of those 80 % become [MASK], 10 % any token, 10 % stay: each within three standard deviations."""
    V, rng = 1000, np.random.default_rng(0)
    ids = rng.integers(5, V, size=(400, 128))
    ids[:, 0], ids[:, 60], ids[:, 127] = (SPECIAL[name] for name in ("[CLS]", "[SEP]", "[SEP]"))
    ids[:100, 100:] = SPECIAL["[PAD]"]
    shown, targets = bert.mask_tokens(ids, SPECIAL, V, rng)
    hidden = targets != bert.IGNORED
    words = ids >= 5
    assert not np.any(hidden & ~words)  # [PAD], [CLS], [SEP] never
    assert np.array_equal(targets[hidden], ids[hidden])
    assert np.array_equal(shown[~hidden], ids[~hidden])
    n = int(hidden.sum())
    assert within_three_sigma(n, int(words.sum()), 0.15)
    blank, stayed = shown[hidden] == SPECIAL["[MASK]"], shown[hidden] == ids[hidden]
    # One in V of the random tokens is the right one by chance, and one in V is [MASK].
    assert within_three_sigma(int(blank.sum()), n, 0.8 + 0.1 / V)
    assert within_three_sigma(int(stayed.sum()), n, 0.1 + 0.1 / V)
    assert within_three_sigma(int((~blank & ~stayed).sum()), n, 0.1 - 0.2 / V)
    other = shown[hidden][~blank & ~stayed]
    assert other.min() < 50 and other.max() > V - 50 and len(np.unique(other)) > 300  # any token of the vocabulary
    per_row = hidden.sum(axis=1)
    assert per_row.std() > 2  # each token by itself
    none, all_of_them = (bert.mask_tokens(ids, SPECIAL, V, rng, share)[1] for share in (0.0, 1.0))
    assert np.all(none == bert.IGNORED)
    assert np.array_equal(all_of_them != bert.IGNORED, words)


def test_masking_is_deterministic_given_the_rng():
    a, b, c = (bert.mask_tokens(IDS, SPECIAL, 13, np.random.default_rng(seed), 0.5) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


DOCUMENTS = [[np.array([100 * d + 10 * s + 5, 100 * d + 10 * s + 6]) for s in range(4)] for d in range(6)]


def test_half_of_the_pairs_follow_each_other():
    n = 2000
    ids, segments, mask, is_random = bert.sentence_pairs(DOCUMENTS, n, 13, SPECIAL, np.random.default_rng(0))
    assert ids.shape == segments.shape == mask.shape == (n, 13)
    assert within_three_sigma(int(is_random.sum()), n, 0.5)
    for row, segment, real, random in zip(ids, segments, mask, is_random):
        assert row[0] == SPECIAL["[CLS]"]
        first, second = np.flatnonzero(row == SPECIAL["[SEP]"])
        a, b = row[1:first], row[first + 1 : second]
        assert np.array_equal(segment, (np.arange(13) > first) & (np.arange(13) <= second))
        assert np.array_equal(real, np.arange(13) <= second)
        assert np.all(row[second + 1 :] == SPECIAL["[PAD]"])
        assert 1 <= len(a) <= 5 and 1 <= len(b) <= 9
        assert len({*(a // 100)}) == len({*(b // 100)}) == 1  # each from one document
        assert a[-1] % 10 == 6 and b[0] % 10 == 5  # cut between sentences
        follows = a[-1] // 10 + 1 == b[0] // 10 and a[0] // 100 == b[0] // 100
        assert follows == (random == 0)
        assert (a[0] // 100 != b[0] // 100) == random  # a random one is from another document


def test_every_border_of_two_sentences_is_as_likely():
    """Long documents are drawn more often: three borders in one document, one in the other."""
    documents = [DOCUMENTS[0], DOCUMENTS[1][:2]]
    ids, segments, _, _ = bert.sentence_pairs(documents, 4000, 13, SPECIAL, np.random.default_rng(0))
    last = ids[np.arange(4000), np.argmax(segments, axis=1) - 2]  # the last token of A
    found, counts = np.unique(last, return_counts=True)
    assert found.tolist() == [6, 16, 26, 106]
    assert all(within_three_sigma(n, 4000, 0.25) for n in counts)


def test_pack_single_texts_and_too_long_ones():
    ids, segments, mask = bert.pack([np.array([7, 8]), np.array([9, 9, 9])], None, 6, SPECIAL)
    assert ids.tolist() == [[2, 7, 8, 3, 0, 0], [2, 9, 9, 9, 3, 0]]
    assert not segments.any()
    assert mask.tolist() == [[True] * 4 + [False] * 2, [True] * 5 + [False]]
    with pytest.raises(ValueError, match=r"^pack: example 1 has 5 tokens with \[CLS\] and \[SEP\], expected at most 4"):
        bert.pack([np.array([7, 8]), np.array([9, 9, 9])], None, 4, SPECIAL)


# --- published names, and errors --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bert.BERT, bert.PreTraining, bert.Classifier])
def test_published_names_there_and_back(kind):
    model = tiny(kind)
    state = tn.state_dict(model)
    theirs = bert.to_published(state)
    prefix = "" if kind is bert.BERT else "bert."
    layer = prefix + "encoder.layer.1."
    for name in (prefix + "embeddings.token_type_embeddings.weight", layer + "attention.self.key.bias", layer + "output.LayerNorm.weight"):
        assert name in theirs
    assert {"cls.predictions.bias", "cls.predictions.transform.LayerNorm.bias"} <= theirs.keys() or kind is not bert.PreTraining
    assert not {name for name in theirs if "layers." in name or "norm_" in name or "mlm" in name}
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): a for name, a in theirs.items()
    }
    older["bert.embeddings.position_ids"] = np.arange(10)[None]
    older["bert.embeddings.token_type_ids"] = np.zeros((1, 10), int)
    if kind is bert.PreTraining:
        older["cls.predictions.decoder.weight"] = state["bert.word.weight"]
        older["cls.predictions.decoder.bias"] = state["mlm.bias"]
    for found in (bert.published(theirs), bert.published(older)):
        assert found.keys() == state.keys()
        assert all(found[name] is theirs[old] for name, old in zip(state, theirs))
    other = tiny(kind, seed=9)
    tn.load(other, bert.published(theirs))
    assert np.array_equal(other.bert.word.weight.value if prefix else other.word.weight.value, state[f"{prefix}word.weight"])


def test_a_decoder_of_its_own_and_names_that_stand_twice_are_refused():
    theirs = bert.to_published(tn.state_dict(tiny()))
    word, bias = theirs["bert.embeddings.word_embeddings.weight"], theirs["cls.predictions.bias"]
    for name, first, other in (
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight", word + 1e-3),
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight", word[1:]),
        ("cls.predictions.decoder.bias", "cls.predictions.bias", bias + 1e-3),
    ):
        with pytest.raises(ValueError, match=rf"{name} differs from {first}, to which it is tied here"):
            bert.published(theirs | {name: other})
    with pytest.raises(ValueError, match=r"pooler.dense.weight and bert.pooler.weight are both bert.pooler.weight here"):
        bert.published(theirs | {"bert.pooler.weight": word})


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", "2"), ("hidden_size", -4), ("layer_norm_eps", None), ("hidden_dropout_prob", -0.1), ("id2label", [1])],
)
def test_numbers_that_cannot_be_are_refused(key, value):
    with pytest.raises(ValueError, match=rf"^Config.from_published: {key} is .*, expected ") as caught:
        bert.Config.from_published(CONFIG | {key: value})
    assert "\n" not in str(caught.value)


def test_names_that_are_not_berts_are_left_for_the_loader_to_refuse():
    state = tn.state_dict(tiny())
    with pytest.raises(ValueError, match=r"unexpected: bert\.encoder\.relative\.weight"):
        tn.load(tiny(), bert.published(bert.to_published(state) | {"bert.encoder.relative.weight": np.zeros(3)}))


CONFIG = {
    "model_type": "bert",
    "vocab_size": 99,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 30,
    "max_position_embeddings": 40,
    "type_vocab_size": 3,
    "layer_norm_eps": 1e-6,
    "hidden_dropout_prob": 0.2,
    "initializer_range": 0.1,
    "id2label": {"0": "a", "1": "b", "2": "c", "3": "d"},
}


def test_a_published_config():
    expected = bert.Config(99, 40, segments=3, layers=3, heads=4, width=24, hidden=30, classes=4, dropout=0.2, eps=1e-6, std=0.1)
    expected = dataclasses.replace(expected, labels=("a", "b", "c", "d"))
    assert bert.Config.from_published(CONFIG) == expected
    assert bert.Config.from_published(bert.Config.tiny(std=0.1, dropout=0.3).to_published()) == bert.Config.tiny(std=0.1, dropout=0.3)
    assert bert.Config.from_published({"model_type": "bert"}) == bert.Config(dropout=0.1)
    assert bert.Config.tiny().to_published()["attention_probs_dropout_prob"] == 0.0
    assert bert.Config.large().width // bert.Config.large().heads == 64


def test_the_published_sizes():
    """110 and 340 million parameters, says the paper (table 1), without the heads."""

    def count(c):
        per_layer = 4 * (c.width + 1) * c.width + (c.width + 1) * c.hidden + (c.hidden + 1) * c.width + 4 * c.width
        return (c.vocabulary + c.context + c.segments + 2) * c.width + c.layers * per_layer + (c.width + 1) * c.width

    assert count(bert.Config.tiny()) == tn.count(tiny(bert.BERT))
    assert round(count(bert.Config.base()) / 1e6) == 109
    assert round(count(bert.Config.large()) / 1e6) == 335
    assert round(count(bert.Config.bert_tiny()) / 1e6, 1) == 4.4  # as Turc et al. say


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "roberta"),
        ("model_type", None),
        ("hidden_act", "gelu_new"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
    ],
)
def test_a_config_of_another_model_is_refused(key, value):
    with pytest.raises(ValueError, match=rf"^Config.from_published: {key} is {value!r}, expected ") as caught:
        bert.Config.from_published(CONFIG | {key: value})
    assert "\n" not in str(caught.value)


def test_lists_of_ids():
    model = tiny()
    for a, b in zip(model(IDS.tolist(), SEGMENTS.tolist(), MASK.tolist()), model(IDS, SEGMENTS, MASK), strict=True):
        assert np.array_equal(a.value, b.value)


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny()
    long = np.zeros((1, 11), int)
    cases = [
        (lambda: model(long), ValueError, "11 positions, but the context is 10; crop"),
        (lambda: model(np.array([[13]])), IndexError, r"id 13 is not in 0\.\.12"),
        (lambda: model(IDS, SEGMENTS + 1), IndexError, r"id 2 is not in 0\.\.1"),
        (lambda: model(IDS, SEGMENTS[:, :3]), ValueError, r"segments have shape \(2, 3\), expected that of the ids, \(2, 10\)"),
        (lambda: model(IDS, SEGMENTS, MASK.astype(int)), ValueError, r"mask is int64 \(2, 10\), expected bool \(2, 10\)"),
        (lambda: model(IDS, SEGMENTS, MASK[:1]), ValueError, r"mask is bool \(1, 10\), expected bool \(2, 10\)"),
        (lambda: model(np.array([1, 2])), ValueError, r"BERT: ids have shape \(2,\), expected \(B, T\)"),
        (lambda: model(np.zeros((1, 0), int)), ValueError, r"BERT: ids have shape \(1, 0\)"),
        (lambda: model([[1.0, 2.0]]), TypeError, r"ids are float64 \(1, 2\), expected integers"),
        (lambda: bert.sentence_pairs(DOCUMENTS, 2, 4, SPECIAL, np.random.default_rng(0)), ValueError, "length is 4, expected at least 5"),
        (lambda: bert.loss(model, *BATCH, TARGETS * 0 - 100, IS_RANDOM), ValueError, "none of the 20 tokens is hidden"),
        (lambda: bert.Config.tiny(width=10, heads=3), ValueError, "width 10 is not a multiple of heads 3"),
        (lambda: bert.sentence_pairs(DOCUMENTS[:1], 2, 13, SPECIAL, np.random.default_rng(0)), ValueError, "1 documents"),
        (
            lambda: bert.sentence_pairs([DOCUMENTS[0], DOCUMENTS[1][:1]], 2, 13, SPECIAL, np.random.default_rng(0)),
            ValueError,
            "of 1 sentences",
        ),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


# --- equal to the published implementation --------------------------------------------------------

GOLDEN = Path(__file__).parents[2] / "golden"


def with_sines(kind, dtype):
    """The model of the golden file: its weights are given by their published names."""
    config = dataclasses.replace(bert.Config.from_published(bert_inputs.CONFIG), dtype=dtype)
    model = kind(config, np.random.default_rng(0))
    theirs = sines({name: a.shape for name, a in bert.to_published(tn.state_dict(model)).items()})
    tn.load(model, {name: a.astype(dtype) for name, a in bert.published(theirs).items()})
    return model


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 2e-5)])
@pytest.mark.parametrize("kind", [bert.PreTraining, bert.Classifier])
def test_equal_to_transformers(kind, dtype, tolerance):
    """Outputs, loss and every gradient. The file has 9 digits; float32 rounds a few hundred sums of numbers near 3."""
    golden = json.loads((GOLDEN / "bert.json").read_text())["pretraining" if kind is bert.PreTraining else "classification"]
    model = with_sines(kind, dtype)
    inputs = (bert_inputs.IDS, bert_inputs.SEGMENTS, bert_inputs.MASK)
    if kind is bert.PreTraining:
        mlm, nsp = tn.frozen(model)(*inputs)
        outputs = {"mlm": mlm[bert_inputs.MASK], "nsp": nsp}
        loss = bert.loss(model, *inputs, bert_inputs.TARGETS, bert_inputs.IS_RANDOM)
    else:
        outputs = {"logits": tn.frozen(model)(*inputs)}
        loss = bert.classification_loss(model, *inputs, bert_inputs.LABELS)
    for name, array in outputs.items():
        assert array.dtype == dtype
        np.testing.assert_allclose(array, golden[name], rtol=tolerance, atol=tolerance)
    assert loss.item() == pytest.approx(golden["loss"], rel=tolerance)
    found = summary(bert.to_published(tn.gradients(loss, tn.parameters(model), unused="raise")))
    assert found.keys() == golden["gradients"].keys()
    for name, (length, along) in golden["gradients"].items():
        np.testing.assert_allclose(found[name], [length, along], rtol=tolerance, atol=tolerance * (1 + length), err_msg=name)


def test_the_golden_file_belongs_to_its_script():
    assert json.loads((GOLDEN / "bert.json").read_text())["script"] == digest(GOLDEN / "make_bert.py")
