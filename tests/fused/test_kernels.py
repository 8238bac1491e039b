"""Every kernel equals its twin at sizes drawn anew, in pieces as small as they come, and leaves what it is given alone.

The registry's checks (tests/ops/test_registry.py) compare each kernel with differences at a few sizes; here
the sizes are drawn, and the pieces that large arrays are worked on in (`CHUNK`, `ROOM`) are small enough that
several of them, and a ragged last one, take part.
"""

import tinygrad_notes as tn
from tests.ops.samples import is_shape, sample
from tests.ops.test_registry import vjp
from tinygrad_notes import functional as F
from tinygrad_notes import threads
from tinygrad_notes.core import walk
from tinygrad_notes.fused import convolution as convolution_file
from tinygrad_notes.fused import embedding as embedding_file
from tinygrad_notes.fused import group_norm as group_norm_file
from tinygrad_notes.fused import kernels, rows
from tinygrad_notes.fused.convolution import Geometry

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

EPS = {np.float32: 1.2e-7, np.float64: 2.3e-16}
sizes = st.integers(1, 7)


@pytest.fixture(autouse=True, scope="module")
def small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK", 10)
        patch.setattr(convolution_file, "ROOM", 100)
        patch.setattr(embedding_file, "SMALL", 12)
        patch.setattr(threads, "LARGE", 0)  # and two threads share the pieces
        yield


def maybe(draw, shape):
    """A shape, or no array at all."""
    return shape if draw(st.booleans()) else None


@st.composite
def leading(draw):
    """What stands before the last axis."""
    return tuple(draw(st.lists(st.integers(1, 4), max_size=3)))


@st.composite
def linear(draw):
    n, m = draw(sizes), draw(sizes)
    return [(*draw(leading()), n), (m, n), maybe(draw, (m,))], {}


@st.composite
def layer_norm(draw):
    C = draw(st.integers(2, 7))  # a single channel is always normalised to 0
    return [(*draw(leading()), C), maybe(draw, (C,)), maybe(draw, (C,))], {"eps": draw(st.sampled_from([1e-5, 0.1]))}


@st.composite
def rms_norm(draw):
    C = draw(sizes)
    return [(*draw(leading()), C), maybe(draw, (C,))], {"eps": draw(st.sampled_from([1e-5, 0.1]))}


@st.composite
def group_norm(draw):
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    C, space = groups * each, draw(st.lists(st.integers(2, 4), min_size=1, max_size=2))
    params = {"groups": groups, "eps": 0.1, "silu": draw(st.booleans())}
    return [(draw(sizes), C, *space), maybe(draw, (C,)), maybe(draw, (C,))], params


@st.composite
def elementwise(draw):
    return [draw(leading())], {}


@st.composite
def pair(draw):
    shape = draw(leading())
    return [shape, shape], {}


@st.composite
def halves(draw):
    return [(*draw(leading()), 2 * draw(sizes))], {}


@st.composite
def scores(draw):
    return [(*draw(leading()), draw(sizes))], {}


@st.composite
def cross_entropy(draw):
    n, C = draw(sizes), draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    params = {"targets": rng.integers(0, C, n), "weights": rng.random(n) * (rng.random(n) < 0.8)}  # a class may weigh nothing
    if draw(st.booleans()):
        params |= {"counted": (rng.random(n) < 0.7).astype(float), "smooth": rng.random(C)}
    if draw(st.booleans()):
        params["divisor"] = 1.5
    return [draw(st.sampled_from([(n, C), (n, 1, C)]))], params


@st.composite
def embedding(draw):
    V, rng = draw(sizes), np.random.default_rng(draw(st.integers(0, 99)))
    return [(V, draw(sizes))], {"ids": rng.integers(0, V, draw(leading()))}


@st.composite
def dropout(draw):
    shape, rng = draw(leading()), np.random.default_rng(draw(st.integers(0, 99)))
    return [shape], {"kept": np.asarray(rng.random(shape) < 0.5), "scale": 2.0}


@st.composite
def geometry(draw):
    def pair(low, high):
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    stride = (1, 1) if draw(st.booleans()) else pair(1, 3)  # half of the time the way of the shifted rows
    return Geometry(stride, (0, 0) if draw(st.booleans()) else pair(0, 3), pair(1, 2))


@st.composite
def convolution(draw):
    g, groups = draw(geometry()), draw(st.integers(1, 2))
    kernel = draw(st.just((1, 1)) | st.tuples(st.integers(1, 3), st.integers(1, 3)))  # half of the time the image itself is the windows
    C, O = draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    space = [max(draw(sizes), d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, g.padding, g.dilation)]
    return [(draw(st.integers(1, 4)), groups * C, *space), (O, C, *kernel), maybe(draw, (O,))], {"geometry": g, "groups": groups}


@st.composite
def transposed_convolution(draw):
    (x, w, _), params = draw(convolution())
    g, groups = params["geometry"], params["groups"]
    extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(g.stride, g.dilation)]
    space = [(n - 1) * s + d * (k - 1) + 1 + e - 2 * p for n, k, s, p, d, e in zip(x[2:], w[2:], *g, extra)]
    if min(space) < 1:
        g, space = g._replace(padding=(0, 0)), [n + 2 * p for n, p in zip(space, g.padding)]
    params = {"space": tuple(space), "geometry": g, "groups": groups}
    return [(x[0], w[0], *x[2:]), w, maybe(draw, (groups * w[1],))], params


DRAWS = {
    "linear": linear(),
    "layer_norm": layer_norm(),
    "rms_norm": rms_norm(),
    "group_norm": group_norm(),
    "silu": elementwise(),
    "gelu": elementwise(),
    "gelu_tanh": elementwise(),
    "squared_error": pair(),
    "swiglu": halves(),
    "softmax": scores(),
    "log_softmax": scores(),
    "cross_entropy": cross_entropy(),
    "embedding": embedding(),
    "dropout": dropout(),
    "convolution": convolution(),
    "transposed_convolution": transposed_convolution(),
}


def test_every_kernel_is_drawn():
    assert {*DRAWS, "blocked_attention"} == set(kernels.__all__)  # which has a file of its own


def narrow(x, dtype):
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def value_and_gradients(kernel, inputs, params, g):
    variables = [None if x is None else tn.Tensor(x) for x in inputs]
    y = kernel(*variables, **params)
    found = walk({y.node: g}, [t.node for t in variables if t is not None])
    return [y.value, *(found[t.node] for t in variables if t is not None)]


@pytest.mark.parametrize("name", DRAWS)
@given(data=st.data())
def test_kernel_equals_its_twin(name, data):
    kernel = getattr(kernels, name)
    shapes, params = data.draw(DRAWS[name])
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = [None if s is None else rng.uniform(-2, 2, s) for s in shapes]
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    inputs = [narrow(x, dtype) for x in values]
    wide = [narrow(x, np.float64) for x in inputs]  # the twin always computes in float64, at the same point
    params = {k: narrow(v, dtype) for k, v in params.items()}
    for x in [*inputs, *params.values()]:
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    twin_params = {k: narrow(v, np.float64) for k, v in params.items()}
    with tn.reference():
        y = kernel(*wide, **twin_params)
        g = rng.uniform(-2, 2, y.shape).astype(dtype)
        g.flags.writeable = False
        expected = value_and_gradients(kernel, wide, twin_params, g.astype(np.float64))
    for mine, twin in zip(value_and_gradients(kernel, inputs, params, g), expected, strict=True):
        assert mine.shape == twin.shape and mine.dtype == dtype
        # The longest sum has a few hundred terms of at most 4, and a norm divides by no less than sqrt(eps) of its row.
        bound = 1000 * EPS[dtype] * (1 + np.max(np.abs(twin), initial=0))
        np.testing.assert_allclose(mine, twin, rtol=0, atol=bound / np.sqrt(params.get("eps", 1.0)))


def test_kernels_leave_mixed_types_numbers_and_nothing_to_the_twin():
    x, w = np.ones((2, 3), np.float32), np.ones((4, 3))
    assert kernels.linear(x, w, None).dtype == np.float64  # as NumPy promotes
    assert kernels.silu(0.0) == 0
    assert kernels.softmax(np.zeros((2, 0))).shape == (2, 0)
    assert kernels.gelu(np.zeros(3, np.int64)).dtype == np.float64


@pytest.mark.parametrize("name", kernels.__all__)
def test_inputs_of_different_widths_are_the_twins(name):
    """What NumPy makes of float32 and float64 together, to the bit: no kernel rounds to the width of its first input."""
    kernel = getattr(kernels, name)
    s = sample(kernel, max(kernel.cases, key=lambda case: sum(is_shape(x) for x in case)))
    inputs = [x.astype(np.float32) if i % 2 else x for i, x in enumerate(s.inputs)]
    if len(inputs) > 1:
        with tn.reference():
            expected = vjp(s, inputs)
        found = vjp(s, inputs, expected[1])
        for mine, twin in zip([y.value for y in found[0]] + found[2], [y.value for y in expected[0]] + expected[2]):
            np.testing.assert_array_equal(mine, twin, strict=True)


@pytest.mark.parametrize("name", ["linear", "layer_norm", "softmax", "gelu_tanh", "silu"])
def test_half_floats_are_the_twins(name):
    kernel = getattr(kernels, name)
    s = sample(kernel, kernel.cases[0])
    inputs = [x.astype(np.float16) for x in s.inputs]
    with tn.reference():
        expected = vjp(s, inputs)
    found = vjp(s, inputs, expected[1])
    for mine, twin in zip([y.value for y in found[0]] + found[2], [y.value for y in expected[0]] + expected[2]):
        np.testing.assert_array_equal(getattr(mine, "value", mine), getattr(twin, "value", twin), strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(n=st.integers(1, 4), C=st.integers(1, 6), seed=st.integers(0, 99))
def test_masked_scores_equal_the_twins_and_have_no_gradient(name, dtype, n, C, seed):
    rng = np.random.default_rng(seed)
    masked = rng.random((n, C)) < rng.choice([0.2, 0.6, 1.0])
    x = np.where(masked, -np.inf, rng.normal(size=(n, C))).astype(dtype)
    g = rng.uniform(-2, 2, x.shape).astype(dtype)
    with tn.reference():
        expected = value_and_gradients(getattr(kernels, name), [x.astype(np.float64)], {}, g.astype(np.float64))
    found = value_and_gradients(getattr(kernels, name), [x], {}, g)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=100 * EPS[dtype])
    assert not np.any(found[1][masked])


ELEMENTWISE = ["silu", "gelu", "gelu_tanh", "swiglu", "softmax", "log_softmax", "squared_error"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_large_numbers_are_no_reason_for_a_warning(name, dtype):
    """Warnings are errors here: where the result is finite, so is every step to it, or it says why not."""
    kernel = getattr(kernels, name)
    x = np.array([-1e4, -500, -90, -20, 0, 20, 90, 500, 1e4, 3], dtype)
    inputs = [x, x[::-1].copy()] if name == "squared_error" else [x]
    for a in value_and_gradients(kernel, inputs, {}, np.ones(kernel(*inputs).shape, dtype)):
        assert np.all(np.isfinite(a))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_activations_are_right_to_their_last_digits(name, dtype):
    """x^2, or u of tanh, is rounded before the exponential, which turns that into a relative error of as many units.

    The coefficients that float32 takes for Phi are right to one unit and a half (fused/gelu.py).
    """
    x = np.linspace(-8, 8, 3001).astype(dtype)
    with tn.reference():
        expected, _ = value_and_gradients(getattr(kernels, name), [x.astype(np.float64)], {}, np.ones(x.shape))
    found, _ = value_and_gradients(getattr(kernels, name), [x], {}, np.ones(x.shape, dtype))
    room = (6 + 2 * x.astype(np.float64) ** 2) * EPS[dtype]
    assert np.all(np.abs(found - expected) <= room * np.abs(expected))


@pytest.mark.parametrize("bad", [-1, -8, 7, 10**9])
def test_ids_that_are_no_rows_never_reach_the_sparse_product(bad):
    """It would write outside of its memory. F.embedding refuses them; but the array may be written after that."""
    weight, ids = tn.Tensor(np.ones((7, 3))), np.zeros(9, np.int64)
    assert ids.size * len(weight.value) > embedding_file.SMALL
    with pytest.raises(IndexError, match=f"id {bad} is not in 0..6"):
        F.embedding(np.full(9, bad), weight)
    y = F.embedding(ids, weight)
    ids[4] = bad
    with pytest.raises(IndexError, match="changed between forward and backward"):
        tn.gradients(np.sum(y), weight)


def test_shared_ones_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        rows.ones(3, np.dtype(np.float32))[0] = 2


def test_a_stride_of_one_never_adds_up_windows(monkeypatch):
    """The fast way is taken: all three maps of a 3 x 3 kernel run without `fold`."""

    def never(*args, **kwargs):
        raise AssertionError("windows were added up")

    monkeypatch.setattr(convolution_file, "fold", never)
    x, w = tn.Tensor(np.ones((2, 3, 5, 4))), tn.Tensor(np.ones((2, 3, 3, 3)))
    y = kernels.convolution(x, w, None, geometry=Geometry((1, 1), (1, 1), (1, 1)), groups=1)
    tn.gradients(np.sum(y), [x, w])


@pytest.mark.parametrize("silu", [False, True])
def test_group_norm_keeps_its_result_only_for_silu(silu):
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    y, (mean, r, s, kept) = group_norm_file.forward(x, None, None, groups=2, eps=0.1, silu=silu)
    assert mean.shape == r.shape == (2, 2, 1)
    assert (kept is not None and s is not None and np.shares_memory(kept, y)) if silu else (s is None and kept is None)
