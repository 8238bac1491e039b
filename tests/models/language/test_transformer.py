"""The Transformer of 2017 at toy size: positions, masks, gradients, teacher forcing against decoding, PyTorch's results, errors."""

import json
import math
from contextlib import contextmanager

import tinygrad_notes as tn
from models.language import transformer
from tests.golden import make_transformer as golden
from tests.models.whole_loss import check_whole_loss
from tinygrad_notes import check, optim
from tinygrad_notes import functional as F

import numpy as np
import pytest

SRC = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0], [5, 3, 5, 8, 0]])  # 0 is padding
TGT = np.array([[7, 4, 8, 3, 9, 5, 2], [6, 6, 2, 0, 0, 0, 0], [10, 8, 9, 4, 2, 0, 0]])  # 2 is EOS
RNG = np.random.default_rng


def tiny(dtype=np.float64, seed=0, **changes):
    return transformer.Transformer(transformer.Config.tiny(dtype=dtype, **changes), RNG(seed))


# --- positions --------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1, 2, 7, 12])
def test_sinusoids_are_those_of_the_paper(C):
    pos = transformer.sinusoids(6, C, dtype=np.float64)
    for p in range(6):
        for i in range(C):
            angle = p / 10000 ** ((i - i % 2) / C)
            assert pos[p, i] == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-15)
    np.testing.assert_array_equal(transformer.sinusoids(2, C, start=4, dtype=np.float64), pos[4:])
    assert transformer.sinusoids(6, C).dtype == np.float32


@pytest.mark.parametrize("C", [6, 7, 64])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_going_on_by_k_positions_is_one_rotation_for_all_of_them(C, k):
    """pos[p + k] = M_k pos[p], M_k made of rotations; the last sine of an odd width lacks its cosine."""
    pairs = C // 2
    M = np.zeros((2 * pairs, 2 * pairs))
    for i in range(pairs):
        w = 10000 ** (-2 * i / C)
        M[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[math.cos(k * w), math.sin(k * w)], [-math.sin(k * w), math.cos(k * w)]]
    pos = transformer.sinusoids(50 + k, C, dtype=np.float64)[:, : 2 * pairs]
    np.testing.assert_allclose(pos[k:], pos[:50] @ M.T, rtol=0, atol=1e-12)


def test_without_positions_the_source_is_a_bag_of_tokens(monkeypatch):
    model, order = tn.frozen(tiny()), [4, 2, 0, 3, 1]
    ids = transformer.shifted(TGT[:1], 1)
    there, back = (model(SRC[:1, o], ids) for o in (order, slice(None)))
    assert np.max(np.abs(there - back)) > 1e-2
    monkeypatch.setattr(transformer, "sinusoids", lambda T, C, start, dtype: np.zeros((T, C), dtype))
    there, back = (model(SRC[:1, o], ids) for o in (order, slice(None)))
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-13)


# --- what sees what ---------------------------------------------------------------------------


@contextmanager
def embedded(model):
    """Inside, the embedded source and target are the Tensors yielded, so that gradients tell who feels whom."""
    rng = RNG(1)
    C = model.config.width
    x = {"src": tn.Tensor(rng.normal(size=(*SRC.shape, C))), "ids": tn.Tensor(rng.normal(size=(*TGT.shape, C)))}
    model.embed = lambda name, ids, start=0, rng=None: x[name]
    yield x
    del model.embed


def test_no_position_feels_the_future_or_padding_and_each_feels_everything_else():
    model = tiny()
    with embedded(model) as x:
        for t in range(7):
            gs = tn.gradients(np.sum(model(SRC, TGT)[:, t] ** 2), x)
            felt = {name: np.any(g != 0, axis=-1) for name, g in gs.items()}
            np.testing.assert_array_equal(felt["src"], SRC != 0)
            np.testing.assert_array_equal(felt["ids"], np.broadcast_to(np.arange(7) <= t, TGT.shape))


def test_padding_changes_nothing():
    """A sequence alone, and beside longer ones: the same loss, the same gradients."""
    model = tiny()
    params = tn.parameters(model)

    def total(src, tgt):  # the loss is a mean over tokens
        loss = transformer.loss(model, src, tgt) * float(np.sum(tgt != 0))
        return loss.item(), tn.gradients(loss, params, unused="raise")

    together, gs = total(SRC, TGT)
    alone = [total(s[None, s != 0], t[None, t != 0]) for s, t in zip(SRC, TGT)]
    wide = total(np.pad(SRC, ((0, 0), (0, 3))), np.pad(TGT, ((0, 0), (0, 2))))
    assert sum(value for value, _ in alone) == pytest.approx(together, rel=1e-13)
    assert wide[0] == pytest.approx(together, rel=1e-13)
    for name, g in gs.items():
        np.testing.assert_allclose(sum(a[1][name] for a in alone), g, rtol=0, atol=1e-12)
        np.testing.assert_allclose(wide[1][name], g, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("S", "T"), [(5, 9), (9, 5), (1, 4), (4, 1)])
def test_source_and_target_need_not_be_equally_long(S, T):
    rng = RNG(0)
    src, ids = rng.integers(3, 11, (2, S)), rng.integers(3, 11, (2, T))
    assert tiny()(src, ids).shape == (2, T, 11)


def test_an_odd_width():
    model = tiny(width=15, heads=3)
    assert np.isfinite(transformer.loss(model, SRC, TGT).item())


def test_the_decoder_is_fed_bos_and_the_target_without_its_end():
    assert transformer.shifted(TGT, 1).tolist() == [[1, 7, 4, 8, 3, 9, 5], [1, 6, 6, 2, 0, 0, 0], [1, 10, 8, 9, 4, 2, 0]]


# --- loss and training ------------------------------------------------------------------------


def test_the_gradient_of_the_whole_loss():
    model = tiny(dropout=0.2, layers=1)
    check_whole_loss(model, lambda: transformer.loss(model, SRC, TGT, RNG(5)))


def test_the_loss_is_the_smoothed_cross_entropy_per_token_that_is_not_padding():
    model = tn.frozen(tiny())
    log_p = F.log_softmax(model(SRC, transformer.shifted(TGT, 1)))
    p = 0.9 * F.one_hot(TGT, 11, np.float64) + 0.1 / 11
    expected = -np.sum((p * log_p).sum(-1) * (TGT != 0)) / np.sum(TGT != 0)
    assert transformer.loss(model, SRC, TGT) == pytest.approx(expected, rel=1e-13)


def test_overfits_one_batch():
    model = tiny(np.float32)
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    first = transformer.loss(model, SRC, TGT).item()
    for step in range(200):
        loss = transformer.loss(model, SRC, TGT)
        optimizer.step(tn.gradients(loss, params, unused="raise"), lr=transformer.rate(step, width=12, warmup=50) / 4)
    p = 0.9 * (np.arange(11) == 0) + 0.1 / 11
    floor = -np.sum(p * np.log(p))  # the entropy of a smoothed target: no model gets below
    assert loss.item() > floor
    assert loss.item() - floor < 0.05 * (first - floor)
    assert np.array_equal(transformer.generate(model, SRC), TGT)


def test_the_rate_is_equation_9():
    for step in (1, 2, 399, 400, 401, 10_000):
        expected = 512**-0.5 * min(step**-0.5, step * 400**-1.5)
        assert transformer.rate(step - 1, width=512, warmup=400) == pytest.approx(expected, rel=1e-14)


def test_deterministic_given_the_rng_and_dropout_only_with_one():
    a, b = tiny(seed=3, dropout=0.5), tiny(seed=3, dropout=0.5)
    assert transformer.loss(a, SRC, TGT).item() == transformer.loss(b, SRC, TGT).item()
    once, again = (transformer.loss(a, SRC, TGT, RNG(1)).item() for _ in range(2))
    assert once == again != transformer.loss(a, SRC, TGT).item()


def test_dropout_falls_on_the_embeddings_and_on_each_sublayer_before_it_is_added(monkeypatch):
    model, rng, calls = tn.frozen(tiny(dropout=0.3)), RNG(0), []

    def drop(x, p, given=None):
        calls.append((p, given is rng))
        return x if len(calls) in (1, 6) else 0 * x  # all but the embeddings: nothing is left but the residual path

    monkeypatch.setattr(F, "dropout", drop)
    logits = model(SRC, TGT, rng)
    assert calls == [(0.3, True)] * (1 + 2 * 2 + 1 + 3 * 2)  # source, two in an encoder layer, target, three in a decoder layer
    monkeypatch.undo()
    y = model.embed("ids", TGT)
    for layer in model.decoder:
        y = layer.norm3(layer.norm2(layer.norm1(y)))
    np.testing.assert_allclose(logits, y @ model.embedding.weight.T, rtol=0, atol=1e-12)


def test_one_embedding_serves_source_target_and_softmax():
    model = tiny()
    assert [name for name, t in tn.parameters(model).items() if 11 in t.shape] == ["embedding.weight"]
    doubled = tiny()
    doubled.embedding.weight = tn.Tensor(2 * model.embedding.weight.value)
    with embedded(model) as x, embedded(doubled) as also:
        also |= x
        np.testing.assert_allclose(doubled(SRC, TGT).value, 2 * model(SRC, TGT).value, rtol=1e-12)


def test_embeddings_are_scaled_by_the_root_of_the_width():
    model = tn.frozen(tiny())
    np.testing.assert_allclose(
        model.embed("src", SRC), math.sqrt(12) * model.embedding.weight[SRC] + transformer.sinusoids(5, 12, dtype=np.float64), atol=1e-14
    )
    wide = tn.frozen(transformer.Transformer(transformer.Config.tiny(width=256, vocabulary=1000), RNG(0)))
    assert np.std(wide.embedding(np.arange(1000)) * 16) == pytest.approx(1, rel=0.01)


def test_the_published_sizes():
    def size(c):
        attention, ffn, norm = 4 * (c.width**2 + c.width), 2 * c.width * c.hidden + c.hidden + c.width, 2 * c.width
        return c.vocabulary * c.width + c.layers * (3 * attention + 2 * ffn + 5 * norm)

    assert tn.count(tiny()) == size(transformer.Config.tiny())
    base, big = transformer.Config.base(), transformer.Config.big()
    assert (base.layers, base.width, base.hidden, base.heads, base.dropout, base.label_smoothing) == (6, 512, 2048, 8, 0.1, 0.1)
    assert (big.layers, big.width, big.hidden, big.heads, big.dropout, big.label_smoothing) == (6, 1024, 4096, 16, 0.3, 0.1)
    assert size(base) == pytest.approx(65e6, rel=0.04)  # table 3 of the paper, which rounds its vocabulary too
    assert size(big) == pytest.approx(213e6, rel=0.01)


# --- one result, several ways -------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("parts", [[1] * 7, [7], [3, 1, 3]])
def test_step_by_step_equals_teacher_forcing(parts, dtype, tolerance):
    model, ids = tn.frozen(tiny(dtype)), transformer.shifted(TGT, 1)
    memory, cache, outputs, start = model.encode(SRC), model.empty_cache(3, 7), [], 0
    for n in parts:
        outputs.append(model.decode(ids[:, start : start + n], memory, cache))
        start += n
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), model(SRC, ids), rtol=0, atol=tolerance)


def test_frozen_inference_is_the_tensor_run_without_tensors():
    model = tiny(np.float32)
    logits = tn.frozen(model)(SRC, TGT)
    assert type(logits) is np.ndarray
    assert np.array_equal(logits, model(SRC, TGT).value)


def test_blocked_and_dense_attention_give_the_same_loss_and_gradients():
    model = tiny()
    params = tn.parameters(model)

    def run():
        loss = transformer.loss(model, SRC, TGT)
        return loss.item(), tn.gradients(loss, params)

    blocked = run()
    with tn.reference():
        dense = run()
    assert blocked[0] == pytest.approx(dense[0], rel=1e-13)
    for name in params:
        np.testing.assert_allclose(blocked[1][name], dense[1][name], rtol=0, atol=1e-13)


def test_float32_throughout_and_the_shape_comments_hold():
    model = tiny(np.float32, dropout=0.1)
    with check.dtypes(), check.shapes(transformer) as remarks:
        loss = transformer.loss(model, SRC, TGT, RNG(0))
        grads = tn.gradients(loss, tn.parameters(model), unused="raise")
        transformer.generate(model, SRC, longest=3)
        transformer.translate(model, SRC, longest=3)
        maps = transformer.attention_maps(model, SRC, TGT)
    assert not remarks.unreached
    assert {loss.dtype, maps.dtype, *(g.dtype for g in grads.values())} == {np.dtype(np.float32)}


# --- decoding -----------------------------------------------------------------------------------


def learned():
    """A model that ends its sentences: three sources learnt by heart, then blurred."""
    model = tiny(np.float32, seed=2, label_smoothing=0.3)
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=5e-3)
    for _ in range(60):
        optimizer.step(tn.gradients(transformer.loss(model, SRC, TGT), params))
    return model


MODEL = learned()
OTHERS = np.array([[3, 1, 4, 1, 5, 5], [9, 2, 6, 6, 0, 0], [4, 4, 8, 7, 10, 0], [6, 0, 0, 0, 0, 0]])
NEVER = np.where(np.isin(np.arange(11), [0, 1]), -np.inf, 0)  # padding and BOS are not written


def score(model, src, ids, alpha):
    """log p of one target row without its padding, over its length penalty, by teacher forcing."""
    ids = ids[ids != 0][None]
    log_p = F.log_softmax(tn.frozen(model)(src[None, src != 0], transformer.shifted(ids, 1)) + NEVER)
    return np.take_along_axis(log_p, ids[..., None], -1).sum() / ((5 + ids.shape[1]) / 6) ** alpha


def test_greedy_generation_takes_the_likeliest_token_and_stops_at_eos():
    out = transformer.generate(MODEL, OTHERS, longest=9)
    for src, row in zip(OTHERS, out):
        ids = np.array([[1]])
        while ids[0, -1] != 2 and ids.shape[1] < 10:
            ids = np.append(ids, (tn.frozen(MODEL)(src[None], ids)[:, -1:] + NEVER).argmax(-1), axis=1)
        expected = ids[0, 1:]
        assert row[: len(expected)].tolist() == expected.tolist()
        assert np.all(row[len(expected) :] == 0)
    ends = (out == 2).argmax(axis=1)
    assert len(set(ends)) > 1 and out.shape[1] == ends.max() + 1 < 9  # of different lengths, and no step too many


def test_generation_is_cut_at_the_longest():
    assert transformer.generate(MODEL, SRC, longest=2).tolist() == TGT[:, :2].tolist()
    cut, _ = transformer.translate(MODEL, SRC, longest=2)
    assert cut.shape == (3, 2)
    endless = tiny()  # untrained, it repeats itself
    assert transformer.generate(endless, SRC).shape == (3, 5 + 50)  # the paper's limit
    assert transformer.translate(endless, SRC, beams=1)[0].shape == (3, 5 + 50)


def test_sampling_is_repeatable_and_follows_the_model():
    src = np.repeat(OTHERS[:1], 4000, axis=0)
    first = transformer.generate(MODEL, src, longest=1, rng=RNG(0))
    assert np.array_equal(first, transformer.generate(MODEL, src, longest=1, rng=RNG(0)))
    p = F.softmax(tn.frozen(MODEL)(OTHERS[:1], np.array([[1]]))[0, 0] + NEVER)
    found = np.bincount(first[:, 0], minlength=11) / 4000
    assert np.all(np.abs(found - p) < 5 * np.sqrt(0.25 / 4000))


def test_one_beam_without_penalty_is_greedy():
    greedy = transformer.generate(MODEL, OTHERS, longest=9)
    ids, _ = transformer.translate(MODEL, OTHERS, beams=1, alpha=0, longest=9)
    assert np.array_equal(ids, greedy)


@pytest.mark.parametrize("alpha", [0, 0.6])
def test_beam_search_reports_the_score_that_teacher_forcing_gives_and_beats_greedy(alpha):
    greedy = transformer.generate(MODEL, OTHERS, longest=9)
    ids, scores = transformer.translate(MODEL, OTHERS, beams=50, alpha=alpha, longest=9)
    better = 0
    for src, row, value, other in zip(OTHERS, ids, scores, greedy):
        assert value == pytest.approx(score(MODEL, src, row, alpha), abs=1e-5)
        assert value >= score(MODEL, src, other, alpha) - 1e-5
        better += row.tolist() != other.tolist()[: len(row)]
    assert better  # otherwise this test would see nothing


def test_items_do_not_disturb_each_other_in_beam_search():
    ids, scores = transformer.translate(MODEL, OTHERS, longest=9)
    for i, src in enumerate(OTHERS):
        alone, value = transformer.translate(MODEL, src[None, src != 0], longest=9)
        assert alone[0].tolist() == ids[i, : alone.shape[1]].tolist()
        assert value[0] == pytest.approx(scores[i], abs=1e-5)


def test_attention_maps_are_the_weights_that_the_decoder_uses():
    model = tn.frozen(tiny())
    maps = transformer.attention_maps(model, SRC, TGT)
    assert maps.shape == (2, 3, 2, 7, 5)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-12)
    assert np.all(maps[:, 1, :, :, 3:] == 0) and np.all(maps[:, 2, :, :, 4:] == 0)
    used = []
    for i, layer in enumerate(model.decoder):
        attend = layer.cross_attn
        layer.cross_attn = lambda x, kv, mask, attend=attend, i=i: used.append((attend, i, kv[1], attend(x, kv, mask=mask))) or used[-1][3]
    memory = tn.frozen(tiny()).encode(SRC)
    model.decode(TGT, memory)
    for attend, i, v, output in used:
        y = np.swapaxes(maps[i] @ v, 1, 2).reshape(3, 7, 12)
        np.testing.assert_allclose(attend.out_proj(y), output, rtol=0, atol=1e-13)


# --- PyTorch's results, kept in a file ------------------------------------------------------------

KEPT = json.loads(golden.FILE.read_text())


def from_golden(dtype):
    """The model with the weights of the golden file, and PyTorch's results for it, in our names."""
    theirs = {name: np.array(x) for name, x in KEPT["results"].items()}
    logits, embedding = theirs.pop("logits"), theirs.pop("embedding.weight")
    model = transformer.Transformer(transformer.Config(vocabulary=golden.VOCABULARY, dtype=dtype, **golden.SIZES), RNG(0))
    state = transformer.published(golden.weights({name: x.shape for name, x in theirs.items()}))
    state["embedding.weight"] = golden.sines(embedding.shape, 99)
    tn.load(model, {name: x.astype(dtype) for name, x in state.items()})
    return model, logits, transformer.published(theirs) | {"embedding.weight": embedding}


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(np.float64, KEPT["eps"], 1e-12), (np.float32, 1e-4, 1e-5)])
def test_golden(dtype, rtol, atol):
    """In float64 as exact as the file's 9 digits; the gradients are up to 30."""
    model, logits, gradients = from_golden(dtype)
    y = model(golden.SRC, golden.IDS)
    found = tn.gradients(np.sum(y * golden.cotangent(y.shape).astype(dtype)), tn.parameters(model), unused="raise")
    np.testing.assert_allclose(y.value, logits, rtol=min(rtol, 1e-5), atol=atol)
    assert set(found) == set(gradients)
    for name, g in found.items():
        np.testing.assert_allclose(g, gradients[name], rtol=rtol, atol=atol, err_msg=name)


def test_the_golden_file_belongs_to_its_script():
    assert KEPT["script"] == golden.script_hash(), "make it anew: python -m tests.golden.make_transformer"


# --- errors -------------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny()
    for name, src, ids in (("src", SRC[0], TGT), ("ids", SRC, TGT[0]), ("src", SRC[:, :0], TGT), ("ids", SRC, TGT[:0])):
        with pytest.raises(ValueError, match=rf"Transformer: {name} has shape .*expected \(B, length\)"):
            model(src, ids)
    with pytest.raises(ValueError, match="2 target sequences for 3 source sequences"):
        model(SRC, TGT[:2])
    with pytest.raises(IndexError, match=r"id 11 is not in 0\.\.10"):
        model(SRC + 2, TGT)
    with pytest.raises(IndexError, match=r"id 11 is not in 0\.\.10"):
        model(SRC, TGT + 1)
    for src in (SRC.astype(float), SRC.astype(float).tolist()):
        with pytest.raises(TypeError, match="expected integers"):
            model(src, TGT)
    assert np.array_equal(model(SRC.tolist(), TGT.tolist()).value, model(SRC, TGT).value)
    for decode in (transformer.generate, lambda *given, **options: transformer.translate(*given, **options)[0]):
        assert np.array_equal(decode(model, SRC.tolist(), longest=2), decode(model, SRC, longest=2))
    with pytest.raises(TypeError, match="cache is for inference"):
        model.decode(TGT, model.encode(SRC), model.empty_cache(3, 7))
    with pytest.raises(ValueError, match="8 positions do not fit, the cache holds 7"):
        frozen = tn.frozen(model)
        frozen.decode(np.ones((3, 8), int), frozen.encode(SRC), frozen.empty_cache(3, 7))
    for decode in (transformer.generate, transformer.translate):
        with pytest.raises(ValueError, match="longest is 0, expected at least 1"):
            decode(model, SRC, longest=0)
        with pytest.raises(ValueError, match=r"src has shape \(5,\), expected \(B, length\)"):
            decode(model, SRC[0])
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        transformer.Config.tiny(width=10, heads=3)
    with pytest.raises(ValueError, match=r"label_smoothing 1.0 is not in \[0, 1\)"):
        transformer.Config.tiny(label_smoothing=1.0)
    for marks in ({"pad": 1}, {"eos": 11}, {"bos": -1}):
        with pytest.raises(ValueError, match="must be three different ids below vocabulary 11"):
            transformer.Config.tiny(**marks)
