"""GPT-2 at toy size: gradients, causality, cache, sampling, errors."""

import math

import tinygrad_notes as tn
from models.language import gpt
from tests.models.whole_loss import check_whole_loss
from tinygrad_notes import check, optim
from tinygrad_notes import functional as F

import numpy as np
import pytest

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5], [2, 7, 1, 8, 2, 8, 1, 8, 2]])


def tiny(dtype=np.float64, seed=0, **changes):
    return gpt.GPT(gpt.Config.tiny(dtype=dtype, **changes), np.random.default_rng(seed))


def test_the_gradient_of_the_whole_loss():
    model = tiny()
    check_whole_loss(model, lambda: gpt.loss(model, IDS[:, :-1], IDS[:, 1:]))


def test_overfits_one_batch():
    model = tiny(np.float32)
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=3e-3)
    first = gpt.loss(model, IDS[:, :-1], IDS[:, 1:]).item()
    assert abs(first - math.log(11)) < 0.1
    for _ in range(300):
        loss = gpt.loss(model, IDS[:, :-1], IDS[:, 1:])
        optimizer.step(tn.gradients(loss, params, unused="raise"))
    assert loss.item() < 0.05 * first


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
    model = tn.frozen(tiny(dtype))
    whole = model(IDS[:, :8])
    for parts in ([8], [1] * 8, [3, 1, 4], [7, 1]):
        cache, outputs, start = model.empty_cache(2), [], 0
        for n in parts:
            logits, cache = model(IDS[:, start : start + n], cache)
            outputs.append(logits)
            start += n
        np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, rtol=0, atol=tolerance)


def test_frozen_inference_is_the_tensor_run_without_tensors():
    model = tiny(np.float32)
    logits = tn.frozen(model)(IDS[:, :8])
    assert type(logits) is np.ndarray
    assert np.array_equal(logits, model(IDS[:, :8]).value)


def test_float32_throughout_and_the_shape_comments_hold():
    model = tiny(np.float32)
    with check.dtypes(), check.shapes(gpt):
        loss = gpt.loss(model, IDS[:, :-1], IDS[:, 1:])
        grads = tn.gradients(loss, tn.parameters(model))
    assert loss.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}


def test_deterministic_given_the_rng_and_dropout_only_with_one():
    a, b = tiny(seed=3, dropout=0.5), tiny(seed=3, dropout=0.5)
    x, y = IDS[:, :-1], IDS[:, 1:]
    assert gpt.loss(a, x, y).item() == gpt.loss(b, x, y).item()
    once, again = (gpt.loss(a, x, y, np.random.default_rng(1)).item() for _ in range(2))
    assert once == again != gpt.loss(a, x, y).item()


def test_the_residual_stream_does_not_grow_with_depth():
    """GPT-2 scales residual projections by 1/sqrt(2L), so that the stream's spread at the start is independent of L."""

    def spread(layers):
        model = tn.frozen(tiny(np.float32, layers=layers, width=64, heads=4, context=32))
        ids = np.random.default_rng(1).integers(0, 11, (4, 32))
        x = model.wte(ids) + model.wpe(np.arange(32))
        for block in model.h:
            x = block(x)
        return float(np.std(x))

    assert 0.9 < spread(48) / spread(12) < 1.1


def test_the_head_is_tied():
    model = tiny()
    assert "lm_head.weight" not in tn.parameters(model)
    logits = model(IDS[:, :8])
    g = tn.gradients(np.sum(logits), model.wte.weight)
    assert np.all(np.any(g != 0, axis=1))  # every row through the head, also of tokens that do not occur


# --- generation ------------------------------------------------------------------------------


def test_greedy_generation_equals_generation_without_a_cache_also_past_half_the_context():
    model = tiny(seed=5)
    ids = IDS[:, :2]
    plain = ids
    for _ in range(6):
        plain = np.concatenate([plain, tn.frozen(model)(plain)[:, -1].argmax(-1)[:, None]], axis=1)
    assert np.array_equal(gpt.generate(model, ids, 6), plain)


def test_generation_goes_on_past_the_context():
    model = tiny()
    out = gpt.generate(model, IDS[:, :3], 40, rng=np.random.default_rng(0), temperature=1.5)
    assert out.shape == (2, 43)
    assert np.array_equal(out[:, :3], IDS[:, :3])
    assert np.array_equal(out, gpt.generate(model, IDS[:, :3], 40, rng=np.random.default_rng(0), temperature=1.5))


def test_sampling_follows_temperature_top_k_and_top_p():
    logits = np.log(np.array([[0.5, 0.25, 0.15, 0.1]]))
    rng = np.random.default_rng(0)

    def frequencies(**options):
        tokens = F.sample(np.repeat(logits, 20_000, axis=0), rng, **options)
        return np.bincount(tokens, minlength=4) / 20_000

    def near(found, expected):
        assert np.all(np.abs(found - expected) < 5 * np.sqrt(0.25 / 20_000))
        assert np.all(found[np.array(expected) == 0] == 0)

    near(frequencies(), [0.5, 0.25, 0.15, 0.1])
    squares = np.array([0.25, 0.0625, 0.0225, 0.01])
    near(frequencies(temperature=0.5), squares / squares.sum())
    near(frequencies(top_k=2), [2 / 3, 1 / 3, 0, 0])
    near(frequencies(top_p=0.8), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0])  # the smallest set that reaches 0.8
    near(frequencies(top_p=0.3), [1, 0, 0, 0])
    assert F.sample(logits, None).tolist() == [0]
    for options in ({"temperature": 0.0}, {"temperature": np.nan}, {"temperature": np.inf}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=f"sample: {next(iter(options))}"):
            F.sample(logits, rng, **options)


def test_sampling_at_any_temperature_and_of_logits_that_cannot_be():
    rng = np.random.default_rng(0)
    logits = np.array([[1.0, 3.0, -np.inf], [2.0, -1.0, -np.inf]], np.float32)
    for temperature in (1e-3, 1e-308, 5e-324):  # 3 / 1e-308 is inf
        assert F.sample(logits, rng, temperature=temperature).tolist() == [1, 0]
    assert not np.any(F.sample(np.repeat(logits, 500, axis=0), rng, temperature=1e300) == 2)
    for value in (np.nan, np.inf):
        for generator in (rng, None):
            with pytest.raises(ValueError, match=rf"sample: the largest logit of row 1 is {value}, expected a finite number"):
                F.sample(np.array([[0.0, 1.0], [value, 0.0]]), generator)
    with pytest.raises(ValueError, match="the largest logit of row 0 is -inf"):
        F.sample(np.full((1, 3), -np.inf), rng)


def test_attention_maps_are_causal_distributions():
    model = tiny()
    maps = gpt.attention_maps(model, IDS[:, :8])
    assert maps.shape == (2, 2, 2, 8, 8)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-12)
    assert np.all(np.triu(maps, 1) == 0)


# --- published weights and errors ---------------------------------------------------------------


def test_a_published_state_dict_loads():
    model = tiny()
    theirs = {"transformer." + name: (a.T if a.ndim == 2 and ".c_" in name else a) for name, a in tn.state_dict(model).items()}
    theirs["lm_head.weight"] = theirs["transformer.wte.weight"]
    theirs["transformer.h.0.attn.bias"] = np.tri(8)[None, None]
    other = tiny(seed=9)
    tn.load(other, gpt.published(theirs))
    assert np.array_equal(other(IDS[:, :8]).value, model(IDS[:, :8]).value)


def test_a_head_of_its_own_and_names_that_stand_twice_are_refused():
    theirs = gpt.to_published(tn.state_dict(tiny()))
    head = theirs["transformer.wte.weight"].copy()
    head[-1, -1] += 1e-3
    for other in (head, head[1:]):
        with pytest.raises(ValueError, match=r"lm_head.weight differs from transformer.wte.weight, to which it is tied here"):
            gpt.published(theirs | {"lm_head.weight": other})
    with pytest.raises(ValueError, match=r"transformer.ln_f.bias and ln_f.bias are both ln_f.bias here"):
        gpt.published(theirs | {"ln_f.bias": theirs["transformer.ln_f.bias"]})


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny()
    with pytest.raises(ValueError, match=r"9 positions, but the context is 8; crop"):
        model(IDS)
    with pytest.raises((ValueError, IndexError), match=r"11"):
        model(np.array([[11]]))
    with pytest.raises(TypeError, match="cache is for inference"):
        model(IDS[:, :2], model.empty_cache(2))
    for ids in (np.array([1, 2]), [1, 2], np.zeros((1, 0), int)):
        with pytest.raises(ValueError, match=r"GPT: ids have shape .*expected \(B, T\)"):
            model(ids)
        with pytest.raises(ValueError, match=r"GPT: ids have shape .*expected \(B, T\)"):
            gpt.attention_maps(model, ids)
    with pytest.raises(ValueError, match=r"9 positions, but the context is 8; crop"):
        gpt.attention_maps(model, IDS)
    with pytest.raises(TypeError, match=r"ids are float64 \(1, 2\), expected integers"):
        model([[1.0, 2.0]])
    assert np.array_equal(model([[1, 2]]).value, model(np.array([[1, 2]])).value)
    with pytest.raises(ValueError, match=r"generate: ids have shape \(9,\) and n is 2, expected \(B, T\)"):
        gpt.generate(model, IDS[0], 2)
    with pytest.raises(ValueError, match=r"n is -1, expected \(B, T\) and at least 0"):
        gpt.generate(model, IDS, -1)
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        gpt.Config.tiny(width=10, heads=3)
