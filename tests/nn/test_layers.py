"""Layers: kinds and shapes of their attributes, float32, buffers, the printed outline, errors."""

from tinygrad_notes import Tensor, gradients, nn, tree
from tinygrad_notes import functional as F
from tinygrad_notes.nn.cache import KVCache
from tinygrad_notes.transforms import checkpoint

import numpy as np
import pytest

RNG = np.random.default_rng


def every_layer():
    rng = RNG(0)
    return [
        (nn.Linear(4, 3, rng=rng), (2, 5, 4), {}),
        (nn.LayerNorm(4), (2, 3, 4), {}),
        (nn.RMSNorm(4), (2, 3, 4), {}),
        (nn.GroupNorm(2, 4), (2, 4, 3), {}),
        (nn.GroupNorm(2, 4, silu=True), (2, 4, 3), {}),
        (nn.BatchNorm1d(4), (3, 4), {"train": True}),
        (nn.BatchNorm2d(4), (3, 4, 2, 2), {"train": False}),
        (nn.Conv1d(4, 6, 3, rng=rng), (2, 4, 7), {}),
        (nn.Conv2d(4, 6, 3, padding=1, rng=rng), (2, 4, 5, 5), {}),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, rng=rng), (2, 4, 3, 3), {}),
        (nn.MultiHeadAttention(4, 2, rng=rng), (2, 3, 4), {"causal": True}),
        (nn.Dropout(0.5), (3, 4), {"rng": RNG(1)}),
        (nn.Sequential(nn.Linear(4, 3, rng=rng), F.relu), (2, 4), {}),
    ]


def parameters(x):
    if isinstance(x, Tensor):
        return [x]
    return [p for part in vars(x).values() for p in parameters(part)] if isinstance(x, nn.Module) else []


@pytest.mark.parametrize(("layer", "shape", "options"), every_layer(), ids=lambda x: type(x).__name__)
def test_float32_in_float32_out_and_every_parameter_is_used(layer, shape, options):
    x = Tensor(RNG(2).normal(size=shape).astype(np.float32))
    y = layer(x, **options)
    assert y.dtype == np.float32
    params = parameters(layer)
    c = RNG(3).normal(size=y.shape).astype(np.float32)
    for p, g in zip([x, *params], gradients(np.sum(y * c), [x, *params], unused="raise")):
        assert p.dtype == g.dtype == np.float32 and p.shape == g.shape


@pytest.mark.parametrize(("layer", "shape", "options"), every_layer(), ids=lambda x: type(x).__name__)
def test_arrays_in_arrays_out_where_the_weights_are_arrays(layer, shape, options):
    def freeze(module):
        for name, part in vars(module).items():
            if isinstance(part, Tensor):
                setattr(module, name, part.value)
            elif isinstance(part, nn.Module):
                freeze(part)

    x = RNG(2).normal(size=shape).astype(np.float32)
    state = RNG(1).bit_generator.state
    before = layer(x, **options)
    freeze(layer)
    if "rng" in options:
        options["rng"].bit_generator.state = state
        before = layer(Tensor(x), **options)
        options["rng"].bit_generator.state = state
    after = layer(x, **options)
    assert type(after) is np.ndarray
    np.testing.assert_array_equal(after, getattr(before, "value", before))


def test_the_rng_decides_the_weights_and_the_dtype_is_as_asked():
    a, b, c = (nn.Linear(4, 3, rng=RNG(seed), dtype=np.float64) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.weight.value, b.weight.value)
    assert np.any(a.weight.value != c.weight.value) and a.weight.dtype == a.bias.dtype == np.float64
    assert nn.Linear(4, 3, rng=RNG(0), bias=False).bias is None
    with pytest.raises(TypeError, match="rng"):
        nn.Linear(4, 3)


# --- batch norm -------------------------------------------------------------------------------------


def test_batch_norm_updates_its_buffers_in_place_and_only_in_training():
    layer = nn.BatchNorm1d(3)
    mean, var, count = layer.running_mean, layer.running_var, layer.num_batches_tracked
    x = RNG(0).normal(2, 3, size=(8, 3)).astype(np.float32)
    layer(x, train=False)
    assert not mean.any() and (var == 1).all() and count == 0
    layer(Tensor(x), train=True)
    assert layer.running_mean is mean and layer.running_var is var and layer.num_batches_tracked is count
    np.testing.assert_allclose(mean, 0.1 * x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-6)
    assert count == 1 and mean.dtype == np.float32


def test_checkpointed_batch_norm_updates_once():
    plain, wrapped = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = Tensor(RNG(0).normal(size=(8, 3)))
    c = RNG(1).normal(size=(8, 3))
    expected = gradients(np.sum(plain(x, train=True) * c), [x, plain.weight])
    found = gradients(np.sum(checkpoint(lambda t: wrapped(t, train=True))(x) * c), [x, wrapped.weight])
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert wrapped.num_batches_tracked == plain.num_batches_tracked == 1
    np.testing.assert_array_equal(wrapped.running_mean, plain.running_mean)
    np.testing.assert_array_equal(wrapped.running_var, plain.running_var)


# --- attention ----------------------------------------------------------------------------------------


def test_attention_is_its_definition():
    """One head after another, with plain matrices."""
    layer = nn.MultiHeadAttention(6, 2, rng=RNG(0), dtype=np.float64)
    x, mask = RNG(1).normal(size=(4, 6)), np.tril(np.ones((4, 4), bool))
    layer.v_proj.bias = Tensor(RNG(2).normal(size=6))
    q, k, v = (x @ m.weight.value.T + m.bias.value for m in (layer.q_proj, layer.k_proj, layer.v_proj))
    heads = []
    for h in (slice(0, 3), slice(3, 6)):
        e = np.exp(q[:, h] @ k[:, h].T / np.sqrt(3)) * mask
        heads.append(e / e.sum(-1, keepdims=True) @ v[:, h])
    expected = np.concatenate(heads, axis=1) @ layer.out_proj.weight.value.T + layer.out_proj.bias.value
    for options in ({"causal": True}, {"mask": mask}):
        np.testing.assert_allclose(layer(x[None], **options).value[0], expected, rtol=1e-12)


def test_attention_with_shared_key_heads_and_a_context():
    layer = nn.MultiHeadAttention(8, 4, kv_heads=2, context_width=6, rng=RNG(0), dtype=np.float64)
    assert layer.k_proj.weight.shape == layer.v_proj.weight.shape == (4, 6)
    x, context = RNG(1).normal(size=(2, 3, 8)), RNG(2).normal(size=(2, 5, 6))
    y = layer(x, context)
    whole = nn.MultiHeadAttention(8, 4, context_width=6, rng=RNG(0), dtype=np.float64)
    for name in ("q_proj", "out_proj"):
        setattr(whole, name, getattr(layer, name))
    for name in ("k_proj", "v_proj"):
        weight = getattr(layer, name).weight.value.reshape(2, 2, 6)
        getattr(whole, name).weight = Tensor(np.repeat(weight, 2, axis=0).reshape(8, 6))
    np.testing.assert_allclose(y.value, whole(x, context).value, rtol=1e-12)
    np.testing.assert_array_equal(layer(x, context, context).value, y.value)


def test_attention_without_positions_is_equivariant():
    layer = nn.MultiHeadAttention(8, 2, rng=RNG(0), dtype=np.float64)
    x, order = RNG(1).normal(size=(1, 5, 8)), np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(layer(x[:, order]).value, layer(x).value[:, order], rtol=1e-12, atol=1e-14)


# --- the rest -------------------------------------------------------------------------------------------


def test_dropout_is_off_without_an_rng():
    x = np.ones((3, 4))
    assert nn.Dropout(0.5)(x) is x
    assert not nn.Dropout(0.5)(x, RNG(0)).all()


def test_outline():
    class Tied(nn.Module):
        def __init__(self):
            self.embedding = nn.Embedding(5, 4, rng=RNG(0))
            self.blocks = [nn.Sequential(nn.Linear(4, 2, rng=RNG(0)), F.relu, nn.BatchNorm1d(2))]
            self.head = self.embedding.weight
            self.frozen = np.zeros((7, 7))
            self._cache = nn.Linear(9, 9, rng=RNG(0))
            self.rate = 0.5

    assert repr(Tied()).split("\n") == [
        "Tied, 34 parameters",
        "  embedding: Embedding, 20 parameters",
        "    weight: (5, 4)",
        "  blocks: 1 parts, 14 parameters",
        "    0: Sequential, 14 parameters",
        "      0: Linear, 10 parameters",
        "        weight: (2, 4)",
        "        bias: (2,)",
        "      1: relu",
        "      2: BatchNorm1d, 4 parameters",
        "        weight: (2,)",
        "        bias: (2,)",
        "        running_mean: (2,) constant",
        "        running_var: (2,) constant",
        "        num_batches_tracked: () constant",
        "  head: (5, 4)",
        "  frozen: (7, 7) constant",
    ]


ERRORS = [
    (lambda: nn.GroupNorm(3, 4), "GroupNorm: 4 channels do not divide into 3 groups; choose a divisor"),
    (lambda: nn.GroupNorm(0, 4), "GroupNorm: groups=0, expected at least 1: as many parts of the channels, which do not mix"),
    (
        lambda: nn.Conv2d(4, 4, 3, groups=0, rng=RNG(0)),
        "Conv2d: groups=0, expected at least 1: as many parts of the channels, which do not mix",
    ),
    (
        lambda: nn.MultiHeadAttention(8, 0, rng=RNG(0)),
        "MultiHeadAttention: heads=0, expected at least 1",
    ),
    (
        lambda: KVCache((2, 1, 4, 3)).extend(np.ones((3, 1, 1, 3)), np.ones((3, 1, 1, 3))),
        "KVCache: keys (3, 1, 1, 3) and values (3, 1, 1, 3) came, the cache is (2, 1, 4, 3) (B, heads, longest, hd); make one for this batch",
    ),
    (
        lambda: KVCache((2, 1, 4, 3)).extend(np.ones((1, 1, 1, 3)), np.ones((1, 1, 1, 3))),
        "KVCache: keys (1, 1, 1, 3) and values (1, 1, 1, 3) came, the cache is (2, 1, 4, 3) (B, heads, longest, hd); make one for this batch",
    ),
    (
        lambda: KVCache((2, 1, 4, 3)).extend(np.ones((2, 1, 5, 3)), np.ones((2, 1, 5, 3))),
        "KVCache: 5 positions do not fit, the cache holds 4; make a longer one, or forget the oldest",
    ),
    (lambda: nn.Conv2d(3, 4, 3, groups=2, rng=RNG(0)), "Conv2d: 3 inputs do not divide into 2 groups; choose a divisor"),
    (lambda: nn.BatchNorm2d(3)(np.ones((2, 3)), train=True), "BatchNorm2d: x is (2, 3), expected (N, C, H, W)"),
    (lambda: nn.BatchNorm1d(3)(np.ones((2, 3, 4, 4)), train=True), "BatchNorm1d: x is (2, 3, 4, 4), expected (N, C) or (N, C, T)"),
    (
        lambda: nn.MultiHeadAttention(8, 3, rng=RNG(0)),
        "MultiHeadAttention: width 8, heads 3, kv_heads 3; expected each to divide the one before",
    ),
    (lambda: nn.init.xavier_uniform((3,), RNG(0)), "init: shape (3,) has no fan-in and fan-out; expected (out, in) or (out, in, *kernel)"),
    (lambda: nn.init.kaiming_normal((3, 3), RNG(0), mode="in"), "init: mode='in', expected 'fan_in' or 'fan_out'"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


SIZED = {
    "Linear: n_in": lambda n: nn.Linear(n, 2, rng=RNG(0)),
    "Linear: n_out": lambda n: nn.Linear(2, n, rng=RNG(0)),
    "Embedding: vocabulary": lambda n: nn.Embedding(n, 2, rng=RNG(0)),
    "Embedding: width": lambda n: nn.Embedding(2, n, rng=RNG(0)),
    "LayerNorm: width": lambda n: nn.LayerNorm(n),
    "RMSNorm: width": lambda n: nn.RMSNorm(n),
    "GroupNorm: channels": lambda n: nn.GroupNorm(1, n),
    "BatchNorm1d: channels": lambda n: nn.BatchNorm1d(n),
    "BatchNorm2d: channels": lambda n: nn.BatchNorm2d(n),
    "Conv1d: inputs": lambda n: nn.Conv1d(n, 2, 3, rng=RNG(0)),
    "Conv2d: inputs": lambda n: nn.Conv2d(n, 2, 3, rng=RNG(0)),
    "Conv2d: outputs": lambda n: nn.Conv2d(2, n, 3, rng=RNG(0)),
    "ConvTranspose2d: outputs": lambda n: nn.ConvTranspose2d(2, n, 3, rng=RNG(0)),
    "MultiHeadAttention: width": lambda n: nn.MultiHeadAttention(n, 1, rng=RNG(0)),
    "MultiHeadAttention: kv_heads": lambda n: nn.MultiHeadAttention(4, 2, kv_heads=n, rng=RNG(0)),
    "MultiHeadAttention: context_width": lambda n: nn.MultiHeadAttention(4, 2, context_width=n, rng=RNG(0)),
}


@pytest.mark.parametrize("layer", SIZED)
@pytest.mark.parametrize("n", [0, -3, "3", 2.0, True, (2,)], ids=repr)
def test_sizes_are_integers_above_zero(layer, n):
    kind, expected = (ValueError, "at least 1") if type(n) is int else (TypeError, "an integer")
    with pytest.raises(kind) as error:
        SIZED[layer](n)
    assert str(error.value) == f"{layer}={n!r}, expected {expected}"


@pytest.mark.parametrize("layer", SIZED)
def test_sizes_may_be_numpys_integers(layer):
    assert tree.state_dict(SIZED[layer](np.int64(2))).keys() == tree.state_dict(SIZED[layer](2)).keys()


def test_sequential_takes_layers_not_lists_of_them():
    for wrong in ([nn.LayerNorm(2)], (nn.LayerNorm(2),)):
        with pytest.raises(
            TypeError, match=r"^Sequential: member 1 is of type \w+, expected a layer or function; unpack it: Sequential\(\*layers\)$"
        ):
            nn.Sequential(F.relu, wrong)
    with pytest.raises(TypeError, match=r"^Sequential: member 0 is of type int, expected a layer or function$"):
        nn.Sequential(1)


@pytest.mark.parametrize("p", [2, -0.1, float("nan"), "a", None], ids=repr)
def test_a_dropout_of_no_probability_is_refused_when_it_is_made(p):
    with pytest.raises((TypeError, ValueError), match=r"^Dropout: p is [^\n]*, expected a probability between 0 and 1$"):
        nn.Dropout(p)


RANDOM = {
    "Linear": lambda rng: nn.Linear(3, 4, rng=rng),
    "Embedding": lambda rng: nn.Embedding(3, 4, rng=rng),
    "Conv1d": lambda rng: nn.Conv1d(3, 4, 2, rng=rng),
    "Conv2d": lambda rng: nn.Conv2d(3, 4, 2, rng=rng),
    "ConvTranspose2d": lambda rng: nn.ConvTranspose2d(3, 4, 2, rng=rng),
    "MultiHeadAttention": lambda rng: nn.MultiHeadAttention(4, 2, rng=rng),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_layer_names_itself_if_its_rng_is_none(name):
    for rng, seed in ((7, 7), (None, 0), (np.random, 0)):
        with pytest.raises(TypeError, match=rf"^{name}: rng is [^\n]*, expected a Generator: np\.random\.default_rng\({seed}\)$"):
            RANDOM[name](rng)


NORMS = {
    "LayerNorm": lambda **options: nn.LayerNorm(4, **options),
    "RMSNorm": lambda **options: nn.RMSNorm(4, **options),
    "GroupNorm": lambda **options: nn.GroupNorm(2, 4, **options),
    "BatchNorm1d": lambda **options: nn.BatchNorm1d(4, **options),
    "BatchNorm2d": lambda **options: nn.BatchNorm2d(4, **options),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_refuses_its_settings_when_it_is_made(name):
    for eps in (-1, float("nan")):
        with pytest.raises(ValueError, match=rf"^{name}: eps is {eps}, expected a finite number of at least 0, [^\n]*$"):
            NORMS[name](eps=eps)
    with pytest.raises(TypeError, match=rf"^{name}: eps is str a, expected a number$"):
        NORMS[name](eps="a")
    if name.startswith("Batch"):
        with pytest.raises(ValueError, match=rf"^{name}: momentum is 2, expected a number from 0 to 1: [^\n]*$"):
            NORMS[name](momentum=2)
