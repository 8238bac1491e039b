"""Every function through the checks of tests/ops: values, differences, float32, layouts, second order."""

from tests.ops.samples import name, sample
from tests.ops.test_registry import CHECKS
from tinygrad_notes import Tensor
from tinygrad_notes import functional as F
from tinygrad_notes.registry import Composition, registry

import numpy as np
import pytest

RULES = [item for item in registry if "tinygrad_notes.functional" in str(getattr(getattr(item, "function", None), "__module__", None))]


def composed(function, *cases, domain=None):
    """A function that is written with other functions, as the checks take it."""
    return Composition(function, function, list(cases), domain)


def batch_norm_value(x, weight, bias, **options):
    return F.batch_norm(x, weight, bias, options["mean"], options["var"], train=options["train"])[0]


def attention_with_bias(q, k, v, bias, **options):
    return F.scaled_dot_product_attention(q, k, v, bias=bias, **options)


def dropout_seeded(x):
    return F.dropout(x, 0.3, np.random.default_rng(0))


IDS = np.array([[0, 2, 0], [2, 2, 1]])
TARGETS = np.array([3, 0, -100])
CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25])
STATISTICS = {"mean": np.array([0.1, -0.3, 0.5]), "var": np.array([0.5, 1.0, 2.0])}
MASK = np.array([[True, False, True, True], [False, False, False, False], [True, True, False, True]])
REDUCTIONS = [((3, 4), (3, 4)), ((3, 4), (3, 4), {"reduction": "sum"}), ((3, 4), (3, 4), {"reduction": "none"}), ((), ())]
QKV = [(2, 2, 3, 4), (2, 2, 4, 4), (2, 2, 4, 5)]

COMPOSED = [
    composed(F.log_sigmoid, ((3, 4),), ((),)),
    composed(F.silu, ((3, 4),), ((),)),
    composed(F.gelu, ((3, 4),), ((),)),
    composed(F.gelu_tanh, ((3, 4),), ((),)),
    *(composed(f, ((3, 4),), *(((2, 3, 4), {"axis": axis}) for axis in (1, (0, -1), (-1, 0), None))) for f in (F.softmax, F.log_softmax)),
    composed(F.linear, ((3, 4), (2, 4), (2,)), ((2, 3, 4), (5, 4)), ((4,), (2, 4))),
    composed(F.swish, ((3, 4), ()), ((3, 4), (4,)), ((3,), 1.5)),
    composed(F.glu, ((2, 3, 4),)),
    composed(F.swiglu, ((2, 3, 4),)),
    composed(F.geglu, ((2, 3, 4),)),
    composed(F.layer_norm, ((2, 3, 4),), ((3, 4), (4,), None), ((2, 3, 4), (4,), (4,), {"eps": 0.1})),
    composed(F.rms_norm, ((2, 3, 4),), ((3, 4), (4,), {"eps": 0.1})),
    composed(F.group_norm, ((2, 4, 3), 2, (4,), (4,)), ((2, 4), 2), ((2, 6, 2, 3), 3, (6,), None, {"silu": True})),
    composed(
        batch_norm_value,
        ((4, 3), (3,), (3,), {"train": True, **STATISTICS}),
        ((2, 3, 2, 2), (3,), None, {"train": True, **STATISTICS}),
        ((4, 3), (3,), (3,), {"train": False, **STATISTICS}),
        ((2, 3, 2), None, (3,), {"train": False, **STATISTICS}),
    ),
    composed(F.mse, *REDUCTIONS),
    composed(F.l1, *REDUCTIONS),
    composed(F.huber, *REDUCTIONS, ((3, 4), (3, 4), {"delta": 8.0})),
    composed(
        F.binary_cross_entropy_with_logits,
        *REDUCTIONS,
        ((3, 4), (3, 4), (4,), (4,)),
        ((3, 4), (3, 4), None, (4,), {"reduction": "sum"}),
        domain=[None, (0.1, 0.9), (0.5, 2.0), (0.5, 2.0)],
    ),
    composed(F.kl_div, *REDUCTIONS, ((3, 4), (3, 4), {"reduction": "batchmean"}), domain=[(-2.0, -0.1), (0.1, 0.9)]),
    composed(
        F.cross_entropy,
        ((3, 4), TARGETS),
        ((2, 3, 4), IDS),
        ((4,), np.array(1)),
        ((3, 4), TARGETS, {"weight": CLASS_WEIGHTS}),
        ((3, 4), TARGETS, {"weight": CLASS_WEIGHTS, "label_smoothing": 0.2}),
        ((3, 4), TARGETS, {"label_smoothing": 0.2, "reduction": "sum"}),
        ((2, 3, 4), IDS, {"reduction": "none", "ignore_index": 2}),
    ),
    composed(
        F.nll,
        ((3, 4), TARGETS),
        ((2, 3, 4), IDS, {"reduction": "none"}),
        ((3, 4), TARGETS, {"weight": CLASS_WEIGHTS, "reduction": "sum"}),
    ),
    composed(F.normalize, ((3, 4),), ((3, 4), {"axis": 0}), ((2, 3, 4), {"axis": (0, 2)})),
    composed(F.cosine_similarity, ((3, 4), (3, 4)), ((2, 3, 4), (3, 1), {"axis": 1})),
    composed(
        F.scaled_dot_product_attention,
        tuple(QKV),
        (*QKV, {"causal": True}),
        (*QKV, {"mask": MASK, "scale": 0.3}),
        (*QKV, {"causal": True, "window": 2, "mask": MASK[:, :1]}),
        (*QKV, {"causal": True, "offset": 0}),
        (*QKV, {"window": 2}),
        ((1, 4, 3, 2), (1, 2, 5, 2), (1, 2, 5, 3), {"causal": True}),
        ((4, 3, 2), (1, 5, 2), (1, 5, 3)),
    ),
    composed(
        attention_with_bias,
        (*QKV, (3, 4)),
        (*QKV, (2, 1, 4), {"mask": MASK}),
        ((4, 3, 2), (2, 3, 2), (2, 3, 2), (4, 3, 3), {"causal": True}),
    ),
    composed(F.attention_weights, ((1, 4, 3, 2), (1, 2, 5, 2)), ((1, 2, 3, 2), (1, 2, 3, 2), {"causal": True})),
    composed(F.embedding, (IDS, (5, 4)), (np.array(2), (5, 4)), (np.zeros((0, 3), int), (5, 4))),
    composed(dropout_seeded, ((3, 4),)),
    composed(F.conv1d, ((2, 3, 5), (4, 3, 2), (4,)), ((2, 4, 6), (2, 2, 3), {"groups": 2, "padding": 2, "stride": 2, "dilation": 2})),
    composed(
        F.conv2d,
        ((1, 2, 4, 5), (3, 2, 2, 3), (3,)),
        ((2, 4, 4, 5), (6, 2, 3, 3), (6,), {"groups": 2, "padding": 1}),
        ((2, 4, 5, 4), (4, 1, 3, 2), {"groups": 4, "padding": (1, 0), "stride": (2, 1), "dilation": (1, 2)}),
    ),
    composed(
        F.conv_transpose2d,
        ((1, 2, 3, 2), (2, 3, 2, 3), (3,)),
        ((2, 4, 2, 3), (4, 2, 3, 2), (4,), {"groups": 2, "padding": 1, "stride": 3, "output_padding": 2}),
        ((1, 2, 3, 2), (2, 1, 2, 2), (1,), {"dilation": 2, "output_padding": 1}),  # more than the stride
    ),
    composed(F.max_pool1d, ((2, 3, 6), 2), ((2, 3, 7), 3, 2, 1)),
    composed(F.max_pool2d, ((2, 2, 4, 4), 2), ((1, 2, 5, 4), 3, 1, 1)),
    composed(F.avg_pool1d, ((2, 3, 6), 2), ((2, 3, 7), 3, 2, 1)),
    composed(F.avg_pool2d, ((2, 2, 4, 4), 2), ((1, 2, 5, 4), 3, 1, 1)),
    composed(
        F.interpolate,
        ((1, 2, 4, 5), 3, "nearest"),
        ((1, 2, 4, 5), 7),
        ((1, 2, 4, 5), 3, "bicubic"),
        ((1, 2, 6, 5), 3, "bicubic", True),
        ((1, 2, 6, 5), 4, "bilinear", True),
    ),
]


ALL = [(item, case) for item in RULES + COMPOSED for case in item.cases]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("item", "case"), ALL, ids=[name(item, case) for item, case in ALL])
def test_function(item, case, check):
    check(sample(item, case))


def test_every_public_function_is_here():
    tried = {item.name for item in RULES + COMPOSED} | {"batch_norm", "dropout"}  # through batch_norm_value and dropout_seeded
    no_gradient = {"one_hot", "sample"}
    assert set(F.__all__) - tried == no_gradient
    assert set(F.__all__) == {n for n in vars(F) if callable(getattr(F, n))}


PUBLIC = [(item, case) for item, case in ALL if getattr(F, item.name, None) is not None or item in COMPOSED]


@pytest.mark.parametrize(("item", "case"), PUBLIC, ids=[name(item, case) for item, case in PUBLIC])
def test_lists_and_numbers_are_arrays_as_in_numpy(item, case):
    """Each argument in turn, then all of them."""
    s = sample(item, case)
    expected = s.call(s.inputs)
    for listed in [[i] for i in range(len(s.inputs))] + [range(len(s.inputs))]:
        found = s.call([x.tolist() if i in listed else x for i, x in enumerate(s.inputs)])
        assert isinstance(found, np.ndarray | np.floating) and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "call", [lambda x: F.gelu(x), lambda x: F.linear(x, np.ones((2, 2))), lambda x: F.softmax(x), lambda x: F.layer_norm(x)]
)
def test_what_holds_no_numbers_is_one_line(call):
    for x, words in ((None, "NoneType None"), ("text", "str text"), ([None, 1.0], r"list \[None, 1.0\]"), ({"a": 1}, r"dict {'a': 1}")):
        with pytest.raises(TypeError, match=rf"^[a-z_]+: {words} came, expected an array of numbers or a Tensor$"):
            call(x)


def test_a_list_of_tensors_is_no_array():
    """It would lose the gradient: NumPy cannot see it."""
    with pytest.raises(TypeError, match="stack"):
        F.gelu([Tensor(np.ones(2)), Tensor(np.ones(2))])


def test_rules_and_values_do_not_depend_on_the_caller_spelling():
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    np.testing.assert_array_equal(F.softmax(x, 0), F.softmax(x, axis=0))
    np.testing.assert_array_equal(F.linear(x, weight=x), F.linear(x, x, None))
