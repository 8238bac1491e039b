"""LoRA at toy size: equations 1 to 5, several adapters, saving, errors."""

import math

import tinygrad_notes as tn
from models.adaptation import lora
from models.language import gpt
from tinygrad_notes import check, nn, optim, saving

import numpy as np
import pytest

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5], [2, 7, 1, 8, 2, 8, 1, 8, 2]])
X, Y = IDS[:, :-1], IDS[:, 1:]


def tiny(dtype=np.float64, seed=0, **changes):
    return gpt.GPT(gpt.Config.tiny(dtype=dtype, **changes), np.random.default_rng(seed))


def trained(model, seed=1, **changes):
    """An adapter whose A and B are random, as after training."""
    rng = np.random.default_rng(seed)
    made = lora.adapter(model, lora.Config.tiny(**changes), rng)
    state = {name: a if name.endswith("scale") else rng.normal(size=a.shape).astype(a.dtype) for name, a in tn.state_dict(made).items()}
    tn.load(made, state)
    return made


class Twins(nn.Module):
    """Layers as other models have them: maps with other names, in lists and dicts, one of them in two places."""

    def __init__(self, rng, dtype=np.float64):
        self.attn = nn.MultiHeadAttention(8, 2, rng=rng, dtype=dtype)
        self.steps = [nn.Linear(8, 6, rng=rng, dtype=dtype), {"up": nn.Linear(6, 8, bias=False, rng=rng, dtype=dtype)}]
        self.again = self.steps[1]["up"]
        self._hidden = nn.Linear(8, 8, rng=rng, dtype=dtype)

    def __call__(self, x):
        for _ in range(2):
            x = self.attn(x) + self.again(np.tanh(self.steps[0](x))) + self.steps[1]["up"](np.tanh(self.steps[0](x)))
        return x


# --- equations 1 to 3 -----------------------------------------------------------------------


def test_at_the_start_nothing_changes_and_only_b_moves():
    model = tiny()
    adapter = lora.adapter(model, lora.Config.tiny(), np.random.default_rng(1))
    adapted = lora.attach(model, adapter)
    assert np.array_equal(adapted(X).value, model(X).value)
    grads = tn.gradients(gpt.loss(adapted, X, Y), tn.parameters(adapter), unused="raise")
    for name, g in grads.items():
        assert np.any(g != 0) == name.endswith(".B"), name


def test_a_is_gaussian_and_b_zero_whatever_the_rank():
    model = tiny(width=96, heads=4)
    for r in (1, 8):
        adapter = lora.adapter(model, lora.Config(r=r, targets=("*",)), np.random.default_rng(1))
        draws = np.concatenate([change.A.value.ravel() * math.sqrt(change.A.shape[1]) for change in adapter.values()])
        n = len(draws)
        assert abs(np.mean(draws)) < 5 / math.sqrt(n) and abs(np.mean(draws**2) - 1) < 5 * math.sqrt(2 / n)
        assert abs(np.mean(draws**4) - 3) < 5 * math.sqrt(96 / n)  # uniform draws have 1.8
        assert not any(np.any(change.B.value) for change in adapter.values())


def test_the_change_by_hand():
    linear = {"map": nn.Linear(3, 2, rng=np.random.default_rng(0), dtype=np.float64)}
    adapter = lora.restore({"map.A": np.array([[1.0, 0.0, 2.0]]), "map.B": np.array([[1.0], [-1.0]]), "map.scale": np.array(0.5)})
    x = np.array([1.0, 10.0, 3.0])
    change = lora.attach(linear, adapter)["map"](x) - linear["map"](x)
    np.testing.assert_allclose(change.value, [3.5, -3.5], rtol=0, atol=1e-14)  # A x = 7


def test_alpha_over_r_scales_the_change():
    model = tiny()
    one = trained(model, r=2, alpha=2.0)
    five = lora.restore({name: 5 * a if name.endswith("scale") else a for name, a in tn.state_dict(one).items()})
    assert lora.adapter(model, lora.Config(r=4, alpha=32.0), np.random.default_rng(0))["h.0.attn.c_attn:q"].scale == 8
    W, W1, W5 = (tn.state_dict(m)["h.1.attn.c_attn.weight"] for m in (model, lora.merge(model, one), lora.merge(model, five)))
    np.testing.assert_allclose(W5 - W, 5 * (W1 - W), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_the_gradient_of_the_whole_loss(bias):
    model = tiny(layers=1, width=4)
    adapter = trained(model, r=1, bias=bias)

    def loss(flat):  # all of the adapter's numbers in one vector
        start, state = 0, {}
        for name, t in tn.parameters(adapter).items():
            path, _, leaf = name.rpartition(".")
            state.setdefault(path, {"scale": adapter[path].scale})[leaf] = flat[start : start + t.size].reshape(t.shape)
            start += t.size
        return gpt.loss(lora.attach(model, {path: lora.LowRank(**leaves) for path, leaves in state.items()}), X, Y)

    check.check_grads(loss, np.concatenate([t.value.ravel() for t in tn.parameters(adapter).values()]), order=1)


def learn(model, params, targets, lr):
    """The losses of 150 steps of Adam on one batch."""
    optimizer, losses = optim.Adam(params, lr=lr), []
    for _ in range(150):
        loss = gpt.loss(model, X, targets)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
        losses.append(loss.item())
    return losses


def test_overfits_one_batch_by_the_adapter_alone_and_the_base_stays_bit_for_bit():
    model, other = tiny(np.float32), Y[::-1]
    learn(model, tn.parameters(model), Y, lr=3e-3)
    before, first = tn.state_dict(model), gpt.loss(model, X, Y).item()
    adapter = lora.adapter(model, lora.Config.tiny(targets=("*",)), np.random.default_rng(1))
    adapted = lora.attach(model, adapter)
    assert {id(t) for t in tn.parameters(adapted).values()} == {id(t) for t in tn.parameters(adapter).values()}
    losses = learn(adapted, tn.parameters(adapter), other, lr=2e-2)
    assert losses[-1] < 0.05 * losses[0]
    for name, array in tn.state_dict(model).items():
        assert array.tobytes() == before[name].tobytes()
    assert gpt.loss(model, X, Y).item() == first


def test_the_model_still_trains_and_its_view_follows():
    model = tiny()
    adapted = lora.attach(model, trained(model))
    optim.SGD(tn.parameters(model), lr=0.1).step(tn.gradients(gpt.loss(model, X, Y), tn.parameters(model)))
    assert np.array_equal(adapted.wte.weight, model.wte.weight.value)


# --- equations 4 and 5 ----------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"targets": ("*",)}, {"bias": True}, {"targets": ("*c_attn", "*c_attn:k"), "r": 3}])
def test_merged_equals_unmerged_and_is_the_plain_model(changes):
    model = tiny()
    adapter = trained(model, **changes)
    adapted, before = lora.attach(model, adapter), tn.state_dict(model)
    merged = lora.merge(model, adapter)
    np.testing.assert_allclose(merged(X).value, adapted(X).value, rtol=0, atol=1e-12)
    assert np.max(np.abs(merged(X).value - model(X).value)) > 1e-3
    assert [type(m) for m in (merged, merged.h[0].attn.c_attn)] == [gpt.GPT, nn.Linear]
    assert tn.state_dict(merged).keys() == before.keys()
    assert tn.parameters(merged).keys() == tn.parameters(model).keys()
    back = tn.state_dict(lora.unmerge(merged, adapter))
    for name, array in tn.state_dict(model).items():
        assert array.tobytes() == before[name].tobytes()  # the base itself is as it was
        np.testing.assert_allclose(back[name], array, rtol=0, atol=1e-14)
    optim.SGD(tn.parameters(merged), lr=0.1).step(tn.gradients(gpt.loss(merged, X, Y), tn.parameters(merged), unused="raise"))
    assert all(np.array_equal(a, before[name]) for name, a in tn.state_dict(model).items())  # its memory is its own


@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("r", [1, 3])
def test_the_rank_of_the_change_is_at_most_r_and_only_the_rows_named_change(r, part):
    model = tiny()
    W0, W = (
        tn.state_dict(m)["h.0.attn.c_attn.weight"] for m in (model, lora.merge(model, trained(model, r=r, targets=(f"*c_attn:{part}",))))
    )
    for name, old, new in zip("qkv", np.split(W0, 3), np.split(W, 3)):  # c_attn's rows are those of q, k and v, in this order
        if name == part:
            assert np.linalg.matrix_rank(new - old, tol=1e-10) == r
        else:
            assert np.array_equal(new, old)


def test_weight_and_bias_of_an_adapted_layer_are_the_merged_ones():
    model = tiny()
    adapter = trained(model, bias=True)
    layer, merged = lora.attach(model, adapter).h[1].attn.c_attn, lora.merge(model, adapter).h[1].attn.c_attn
    np.testing.assert_allclose(layer.weight.value, merged.weight.value, rtol=0, atol=1e-14)
    np.testing.assert_allclose(layer.bias.value, merged.bias.value, rtol=0, atol=1e-14)
    plain = lora.attach(model, trained(model)).h[1].attn.c_attn
    assert np.array_equal(plain.bias, model.h[1].attn.c_attn.bias.value)


# --- any model, several adapters --------------------------------------------------------------


def test_any_linear_of_any_model():
    rng = np.random.default_rng(0)
    model, x = Twins(rng), rng.normal(size=(2, 3, 8))
    assert list(lora.adapter(model, lora.Config.tiny(), rng)) == ["attn.q_proj", "attn.v_proj"]
    assert not any("_hidden" in path for path in lora.adapter(model, lora.Config.tiny(targets=("*",)), rng))  # not state: see tree
    adapter = trained(model, targets=("attn.out_proj", "steps.*"))
    assert list(adapter) == ["attn.out_proj", "steps.0", "steps.1.up"]
    adapted, merged = lora.attach(model, adapter), lora.merge(model, adapter)
    assert adapted.again is adapted.steps[1]["up"]
    assert merged.again is merged.steps[1]["up"]
    np.testing.assert_allclose(merged(x).value, adapted(x).value, rtol=0, atol=1e-12)
    tn.gradients(np.sum(adapted(x) ** 2), tn.parameters(adapter), unused="raise")


def test_a_weight_tied_to_a_table_changes_only_where_it_is_a_linear_map():
    rng = np.random.default_rng(0)
    model = {"table": nn.Embedding(5, 4, rng=rng), "head": nn.Linear(4, 5, rng=rng)}
    model["head"].weight = model["table"].weight
    adapter = trained(model, targets=("head",))
    merged = lora.merge(model, adapter)
    assert np.array_equal(merged["table"].weight.value, model["table"].weight.value)
    assert not np.array_equal(merged["head"].weight.value, model["table"].weight.value)


def test_adapters_are_switched_and_added():
    model = tiny()
    adapters = {"poem": trained(model, seed=1), "code": trained(model, seed=2, r=3)}
    alone = {name: lora.attach(model, adapter)(X).value for name, adapter in adapters.items()}
    assert np.max(np.abs(alone["poem"] - alone["code"])) > 1e-3
    assert np.array_equal(lora.attach(model, adapters["poem"])(X).value, alone["poem"])  # and back
    both, merged = lora.attach(model, *adapters.values()), lora.merge(model, *adapters.values())
    assert len(tn.parameters(both)) == 16
    np.testing.assert_allclose(both(X).value, merged(X).value, rtol=0, atol=1e-12)
    W = {name: tn.state_dict(lora.merge(model, adapter))["h.0.attn.c_attn.weight"] for name, adapter in adapters.items()}
    W0 = tn.state_dict(model)["h.0.attn.c_attn.weight"]
    np.testing.assert_allclose(tn.state_dict(merged)["h.0.attn.c_attn.weight"] - W0, W["poem"] + W["code"] - 2 * W0, rtol=0, atol=1e-12)


def test_an_adapter_on_an_adapted_model_sees_the_first_as_constant():
    model = tiny()
    first, second = trained(model, seed=1), trained(model, seed=2)
    stacked = lora.attach(lora.attach(model, first), second)
    assert {id(t) for t in tn.parameters(stacked).values()} == {id(t) for t in tn.parameters(second).values()}
    np.testing.assert_allclose(stacked(X).value, lora.attach(model, first, second)(X).value, rtol=0, atol=1e-12)


def test_each_adapter_is_saved_by_itself(tmp_path):
    pytest.importorskip("safetensors", reason="saving needs safetensors: pip install tinygrad_notes[weights]")
    model = tiny(np.float32)
    adapter = trained(model, alpha=7.0, bias=True)
    state = tn.state_dict(adapter)
    assert sum(a.size for a in state.values()) < 0.2 * tn.count(model)
    saving.save_arrays(tmp_path / "adapter.safetensors", state)
    again = lora.restore(saving.load_arrays(tmp_path / "adapter.safetensors"))
    assert np.array_equal(lora.attach(model, again)(X).value, lora.attach(model, adapter)(X).value)
    assert tn.parameters(again).keys() == tn.parameters(adapter).keys()


# --- as every model --------------------------------------------------------------------------


def test_dropout_only_with_an_rng_and_only_on_the_adapter():
    model = tiny()
    adapter, zero = trained(model), lora.adapter(model, lora.Config.tiny(), np.random.default_rng(0))
    plain = lora.attach(model, adapter)(X).value
    assert np.array_equal(lora.attach(model, adapter, dropout=0.5)(X).value, plain)
    once, again = (lora.attach(model, adapter, dropout=0.5, rng=np.random.default_rng(1))(X).value for _ in range(2))
    assert np.array_equal(once, again) and not np.array_equal(once, plain)
    assert np.array_equal(lora.attach(model, zero, dropout=0.5, rng=np.random.default_rng(1))(X).value, model(X).value)


def test_float32_throughout_and_the_shape_comments_hold():
    model = tiny(np.float32)
    adapter = trained(model, bias=True)
    with check.dtypes(), check.shapes(lora), check.shapes(gpt):
        loss = gpt.loss(lora.attach(model, adapter, dropout=0.1, rng=np.random.default_rng(0)), X, Y)
        grads = tn.gradients(loss, tn.parameters(adapter))
    assert {a.dtype for a in [loss, *grads.values(), *tn.state_dict(lora.merge(model, adapter)).values()]} == {np.dtype(np.float32)}


def test_frozen_inference_and_generation_with_a_cache():
    model = tiny(seed=5)
    adapter = trained(model)
    adapted, merged = lora.attach(model, adapter), lora.merge(model, adapter)
    assert type(tn.frozen(adapted)(X)) is np.ndarray
    assert np.array_equal(tn.frozen(adapted)(X), adapted(X).value)
    with tn.reference():
        np.testing.assert_allclose(gpt.loss(adapted, X, Y).item(), gpt.loss(merged, X, Y).item(), rtol=1e-12)
    assert np.array_equal(gpt.generate(adapted, IDS[:, :2], 6), gpt.generate(merged, IDS[:, :2], 6))


def test_no_position_feels_the_future():
    model = tiny()
    adapted = lora.attach(model, trained(model, targets=("*",)))
    adapted.wpe.weight = positions = tn.Tensor(np.random.default_rng(0).normal(size=(8, 12)))
    for t in range(8):
        g = tn.gradients(np.sum(adapted(X)[:, t] ** 2), positions)
        assert np.all(g[t + 1 :] == 0)
        assert np.all(np.any(g[: t + 1] != 0, axis=1))


def test_bad_input_is_one_line_that_says_what_to_do():
    model, rng = tiny(), np.random.default_rng(0)
    for changes, message in [
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"r": 2.0}, "r is 2.0"),
        ({"alpha": -1.0}, "alpha -1.0"),
        ({"alpha": math.inf}, "alpha inf"),
        ({"targets": "*q_proj"}, "expected a tuple"),
        ({"targets": ("*c_attn:x",)}, ":q, :k, :v"),
    ]:
        with pytest.raises(ValueError, match=message):
            lora.Config.tiny(**changes)
    with pytest.raises(ValueError, match=r"no linear map matches .*; the model has h.0.attn.c_attn, .*h.1.mlp.c_proj$"):
        lora.adapter(model, lora.Config.tiny(targets=("*q_proj",)), rng)
    with pytest.raises(ValueError, match=r"no linear map matches \*z_attn:k; the model has"):
        lora.adapter(model, lora.Config.tiny(targets=("*c_attn:q", "*z_attn:k")), rng)
    assert lora.adapter(model, lora.Config.tiny(r=np.int64(2)), rng)["h.0.attn.c_attn:q"].A.shape == (2, 12)
    with pytest.raises(ValueError, match=r"10 rows, which are not those of q, k and v"):
        lora.adapter({"c_attn": nn.Linear(4, 10, rng=rng)}, lora.Config.tiny(), rng)
    with pytest.raises(ValueError, match="has no bias to train"):
        lora.adapter(Twins(rng), lora.Config.tiny(targets=("*up",), bias=True), rng)
    other = trained(tiny(width=24))
    for use in (lora.attach, lora.merge, lora.unmerge):
        with pytest.raises(ValueError, match=r"h\.0\.attn\.c_attn is \(72, 24\), but the weight \(36, 12\)"):
            use(model, other)
        with pytest.raises(ValueError, match=r"no linear map for h\.2\.attn\.c_attn:q"):
            use(model, trained(tiny(layers=3)))
        with pytest.raises(ValueError, match="no adapter"):
            use(model)
    with pytest.raises(ValueError, match="adapted already"):
        lora.merge(lora.attach(model, trained(model)), trained(model))
    with pytest.raises(ValueError, match=r"the state has \['A'\] for 'x', expected A, B, scale"):
        lora.restore({"x.A": np.zeros((1, 2))})
