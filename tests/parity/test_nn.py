"""Layers with PyTorch's weights, matched by name: the same values, gradients, buffers and initial distributions."""

import math

from tinygrad_notes import Tensor, nn
from tinygrad_notes.core import walk

import numpy as np
import pytest

torch = pytest.importorskip("torch")
RNG = np.random.default_rng


def load(layer, state):
    """Put arrays into attributes by their dotted names; kinds and shapes must agree."""
    for path, array in state.items():
        *parents, name = path.split(".")
        owner = layer
        for parent in parents:
            owner = getattr(owner, parent)
        old = getattr(owner, name)
        assert old.shape == array.shape, f"{path}: {old.shape}, PyTorch has {array.shape}"
        setattr(owner, name, Tensor(array) if isinstance(old, Tensor) else array)


def arrays(state):
    return {name: t.detach().numpy().copy() for name, t in state.items()}


def tensors(x, path=""):
    """The Tensors below x by their dotted names."""
    if isinstance(x, Tensor):
        return {path: x}
    inside = vars(x).items() if isinstance(x, nn.Module) else ()
    return {n: t for name, part in inside for n, t in tensors(part, f"{path}.{name}" if path else name).items()}


def compare(layer, twin, x, call=lambda layer, x: layer(x), twin_call=lambda twin, x: twin(x)):
    """Value, input gradient and parameter gradients for one random cotangent."""
    t, twin_x = Tensor(x), torch.from_numpy(x).requires_grad_()
    y, twin_y = call(layer, t), twin_call(twin, twin_x)
    c = RNG(1).normal(size=y.shape)
    params = tensors(layer)
    twins = dict(twin.named_parameters())
    assert set(params) == set(twins)
    expected = torch.autograd.grad(twin_y, [twin_x, *twins.values()], torch.from_numpy(c))
    found = walk({y.node: c}, [t.node, *(p.node for p in params.values())])
    np.testing.assert_allclose(y.value, twin_y.detach().numpy(), rtol=0, atol=1e-13 * max(1, np.max(np.abs(y.value))))
    for name, g in zip(["x", *twins], expected):
        mine = found[t.node if name == "x" else params[name].node]
        np.testing.assert_allclose(mine, g.numpy(), rtol=0, atol=1e-12 * max(1, float(g.abs().max())), err_msg=name)


double = {"dtype": np.float64}
LAYERS = [
    (lambda: nn.Linear(4, 3, rng=RNG(0), **double), lambda: torch.nn.Linear(4, 3), (2, 5, 4)),
    (lambda: nn.Linear(4, 3, bias=False, rng=RNG(0), **double), lambda: torch.nn.Linear(4, 3, bias=False), (2, 4)),
    (lambda: nn.LayerNorm(4, eps=0.01, **double), lambda: torch.nn.LayerNorm(4, eps=0.01), (2, 3, 4)),
    (lambda: nn.LayerNorm(4, bias=False, **double), lambda: torch.nn.LayerNorm(4, bias=False), (2, 3, 4)),
    (lambda: nn.RMSNorm(4, **double), lambda: torch.nn.RMSNorm(4, eps=1e-6), (2, 3, 4)),
    (lambda: nn.GroupNorm(2, 4, **double), lambda: torch.nn.GroupNorm(2, 4), (2, 4, 3, 3)),
    (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, rng=RNG(0), **double),
        lambda: torch.nn.Conv1d(4, 6, 3, 2, 1, groups=2),
        (2, 4, 7),
    ),
    (
        lambda: nn.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2, rng=RNG(0), **double),
        lambda: torch.nn.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2),
        (2, 4, 6, 5),
    ),
    (lambda: nn.Conv2d(4, 4, 3, bias=False, rng=RNG(0), **double), lambda: torch.nn.Conv2d(4, 4, 3, bias=False), (2, 4, 6, 5)),
    (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, rng=RNG(0), **double),
        lambda: torch.nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        (2, 4, 3, 4),
    ),
    (
        lambda: nn.Sequential(nn.Linear(4, 5, rng=RNG(0), **double), np.tanh, nn.LayerNorm(5, **double)),
        lambda: torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.LayerNorm(5)),
        (3, 4),
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "shape"), LAYERS)
def test_layer(ours, theirs, shape):
    torch.manual_seed(0)
    layer, twin = ours(), theirs().double()
    with torch.no_grad():
        for p in twin.parameters():  # norms start as ones and zeros, which would hide mistakes
            p.normal_()
    load(layer, arrays(twin.state_dict()))
    compare(layer, twin, RNG(2).normal(size=shape))


def test_embedding():
    layer, twin = nn.Embedding(5, 3, rng=RNG(0), dtype=np.float64), torch.nn.Embedding(5, 3).double()
    load(layer, arrays(twin.state_dict()))
    ids = np.array([[0, 4, 4], [1, 0, 2]])
    np.testing.assert_array_equal(layer(ids).value, twin(torch.from_numpy(ids)).detach().numpy())


@pytest.mark.parametrize(("name", "shape"), [("BatchNorm1d", (4, 3)), ("BatchNorm1d", (4, 3, 5)), ("BatchNorm2d", (2, 3, 4, 2))])
def test_batch_norm(name, shape):
    torch.manual_seed(0)
    layer, twin = getattr(nn, name)(3, momentum=0.3, dtype=np.float64), getattr(torch.nn, name)(3, momentum=0.3).double()
    with torch.no_grad():
        for p in twin.parameters():
            p.normal_()
    load(layer, arrays(twin.state_dict()))
    for step in range(3):
        compare(layer, twin, RNG(step).normal(1, 2, size=shape), lambda layer, x: layer(x, train=True))
    for buffer, expected in arrays(dict(twin.named_buffers())).items():
        np.testing.assert_allclose(getattr(layer, buffer), expected, rtol=1e-13, err_msg=buffer)
        assert getattr(layer, buffer).shape == expected.shape
    twin.eval()
    compare(layer, twin, RNG(9).normal(size=shape), lambda layer, x: layer(x, train=False))


class Apart(torch.nn.Module):
    """PyTorch's attention with its in_proj cut into the three maps that we have."""

    def __init__(self, twin):
        super().__init__()
        self.twin = [twin]  # in a list, so that its own parameters do not count
        for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
            part = torch.nn.Linear(twin.embed_dim, twin.embed_dim).double()
            part.weight.data, part.bias.data = twin.in_proj_weight.data.chunk(3)[i].clone(), twin.in_proj_bias.data.chunk(3)[i].clone()
            setattr(self, name, part)
        self.out_proj = torch.nn.Linear(twin.embed_dim, twin.embed_dim).double()
        self.out_proj.load_state_dict(twin.out_proj.state_dict())

    def forward(self, x, key, **options):
        maps = [self.q_proj, self.k_proj, self.v_proj]
        return torch.nn.functional.multi_head_attention_forward(
            x.transpose(0, 1), key.transpose(0, 1), key.transpose(0, 1), self.twin[0].embed_dim, self.twin[0].num_heads,
            torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps]),
            None, None, False, 0.0, self.out_proj.weight, self.out_proj.bias, need_weights=False, **options,
        )[0].transpose(0, 1)  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_multi_head_attention(cross, masked):
    torch.manual_seed(0)
    original = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        for p in original.parameters():
            p.normal_(0, 0.5)
    twin = Apart(original)
    layer = nn.MultiHeadAttention(8, 2, rng=RNG(0), dtype=np.float64)
    load(layer, arrays(twin.state_dict()))
    x, context = RNG(1).normal(size=(2, 3, 8)), RNG(2).normal(size=(2, 5, 8))
    key = context if cross else None
    mask = RNG(3).random((3, 5 if cross else 3)) < 0.7 if masked else None
    if masked:
        mask[:, 0] = True  # PyTorch gives nan where a query may attend to nothing
    blocked = None if mask is None else torch.from_numpy(~mask)

    def twin_call(twin, t):
        return twin(t, t if key is None else torch.from_numpy(context), attn_mask=blocked)

    compare(layer, twin, x, lambda layer, t: layer(t, key, mask=mask), twin_call)
    source = torch.from_numpy(x if key is None else context)
    whole = original(torch.from_numpy(x), source, source, attn_mask=blocked, need_weights=False)[0]
    np.testing.assert_allclose(layer(x, key, mask=mask).value, whole.detach().numpy(), atol=1e-13)


# --- initial weights: the same distribution -------------------------------------------------------------

INITIAL = [
    (lambda rng: nn.Linear(400, 50, rng=rng), lambda: torch.nn.Linear(400, 50)),
    (lambda rng: nn.Conv1d(40, 20, 5, groups=2, rng=rng), lambda: torch.nn.Conv1d(40, 20, 5, groups=2)),
    (lambda rng: nn.Conv2d(20, 40, 3, rng=rng), lambda: torch.nn.Conv2d(20, 40, 3)),
    (lambda rng: nn.ConvTranspose2d(40, 20, 3, groups=2, rng=rng), lambda: torch.nn.ConvTranspose2d(40, 20, 3, groups=2)),
    (lambda rng: nn.Embedding(100, 50, rng=rng), lambda: torch.nn.Embedding(100, 50)),
]


@pytest.mark.parametrize(("ours", "theirs"), INITIAL)
def test_initial_weights(ours, theirs):
    torch.manual_seed(0)
    layer, twin = ours(RNG(0)), theirs()
    for name, p in tensors(layer).items():
        theirs_p = twin.get_parameter(name).detach().numpy()
        assert p.dtype == theirs_p.dtype == np.float32
        if p.size > 1000:
            np.testing.assert_allclose(p.value.std(), theirs_p.std(), rtol=0.05)
            assert abs(p.value.mean()) < 5 * p.value.std() / math.sqrt(p.size)
        if not isinstance(layer, nn.Embedding):
            assert np.abs(p.value).max() <= 1.001 * np.abs(twin.weight.detach().numpy()).max()


def test_initial_attention():
    torch.manual_seed(0)
    layer, twin = nn.MultiHeadAttention(64, 4, rng=RNG(0)), torch.nn.MultiheadAttention(64, 4)
    bound = float(twin.in_proj_weight.detach().abs().max())
    for name in ("q_proj", "k_proj", "v_proj"):
        projection = getattr(layer, name)
        assert np.abs(projection.weight.value).max() == pytest.approx(bound, rel=1e-2)
        assert not projection.bias.value.any()
    assert np.abs(layer.out_proj.weight.value).max() == pytest.approx(float(twin.out_proj.weight.detach().abs().max()), rel=1e-2)
    assert not layer.out_proj.bias.value.any()


@pytest.mark.parametrize("shape", [(60, 80), (30, 20, 3, 3)])
@pytest.mark.parametrize(
    ("name", "options", "their_options"),
    [
        ("xavier_uniform", {"gain": 1.5}, {"gain": 1.5}),
        ("xavier_normal", {}, {}),
        ("kaiming_uniform", {"slope": 0.2}, {"a": 0.2}),
        ("kaiming_normal", {"mode": "fan_out"}, {"mode": "fan_out"}),
        ("trunc_normal", {"std": 1.5, "mean": 0.5}, {"std": 1.5, "mean": 0.5}),
        ("orthogonal", {"gain": 2.0}, {"gain": 2.0}),
    ],
)
def test_initialisers(name, shape, options, their_options):
    torch.manual_seed(0)
    mine = getattr(nn.init, name)(shape, RNG(0), **options)
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(shape), **their_options).numpy()
    assert mine.shape == shape and mine.dtype == np.float32
    np.testing.assert_allclose(mine.std(), theirs.std(), rtol=0.05)
    places = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(mine, places), np.quantile(theirs, places), atol=0.15 * theirs.std())
