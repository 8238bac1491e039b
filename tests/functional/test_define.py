"""What the decorators of the functions do when a call fails, and that they change nothing when none does."""

import inspect
import pickle

from tinygrad_notes import Tensor
from tinygrad_notes import functional as F
from tinygrad_notes.functional import losses
from tinygrad_notes.functional.define import takes_lists

import numpy as np
import pytest

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
Q = np.ones((1, 2, 3, 4), np.float32)
ROWS = {"x": X, "weight": X[0], "bias": None, "running_mean": X[0], "running_var": X[0] ** 2, "train": True}


def recorded():
    """A function that notes its calls, and fails as one does that reads the shape of a list."""
    calls = []

    @takes_lists("x", "weight")
    def scaled(x, weight=None, eps=1e-5, *, mode="plain"):
        """x times weight."""
        calls.append((x, weight, eps, mode))
        if mode == "refused":
            raise TypeError("scaled: mode='refused'")
        return x.shape if weight is None else x.shape + weight.shape

    return scaled, calls


@pytest.mark.parametrize("name", F.__all__)
def test_names_signatures_and_documents_stay(name):
    function = getattr(F, name)
    assert function.__name__ == name and function.__doc__ and function.__module__.startswith("tinygrad_notes.functional.")
    assert pickle.loads(pickle.dumps(function)) is function
    parameters = inspect.signature(function).parameters
    assert not {"args", "kwargs"} & set(parameters)
    if function is not inspect.unwrap(function):
        arrays = inspect.getclosurevars(function).nonlocals["arrays"]
        assert arrays and set(arrays) <= set(parameters)  # a name with an error in its spelling would never be found


def test_a_call_that_works_runs_once():
    scaled, calls = recorded()
    assert scaled(X) == (2, 4) and scaled(X, weight=X, mode="other") == (2, 4, 2, 4)
    assert [c[3] for c in calls] == ["plain", "other"] and calls[1][0] is X


@pytest.mark.parametrize(
    ("args", "kwargs"), [(([1.0, 2.0], X[0]), {}), ((), {"x": (1.0, 2.0), "weight": X[0]}), ((X[0, :2],), {"weight": [1.0] * 4})]
)
def test_lists_are_converted_wherever_they_stand(args, kwargs):
    scaled, calls = recorded()
    assert scaled(*args, **kwargs, mode="other") == (2, 4)
    assert len(calls) == 2 and calls[1][3] == "other"


def test_numbers_are_arrays_of_no_dimension():
    scaled, _ = recorded()
    assert scaled(2.0, 3) == ()


def test_with_nothing_to_convert_the_error_goes_on():
    scaled, calls = recorded()
    with pytest.raises(AttributeError, match=r"^'str' object has no attribute 'shape'$"):
        takes_lists("x")(lambda x, other: calls.append(other) or other.shape)(X, "a")
    assert calls == ["a"]  # and not tried again
    with pytest.raises(TypeError, match=r"scaled\(\) missing 1 required positional argument: 'x'$"):
        scaled()
    with pytest.raises(TypeError, match=r"scaled\(\) got an unexpected keyword argument 'scale'$"):
        scaled([1.0], scale=2)
    assert calls == ["a"]


def test_what_the_function_itself_refuses_is_not_tried_again():
    scaled, calls = recorded()
    with pytest.raises(TypeError, match=r"^scaled: mode='refused'$"):
        scaled([1.0], mode="refused")
    assert len(calls) == 1


def test_an_error_of_the_second_try_stands_alone():
    for call in (lambda: F.softmax([1, 2]), lambda: F.linear([1.0], [[1.0, 2.0]]), lambda: F.gelu("a"), lambda: F.relu([[1.0], []])):
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        assert error.value.__context__ is None or error.value.__suppress_context__


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "label"),
    [
        (F.leaky_relu, (X,), {"slope": "a"}, "slope"),
        (F.elu, (X, "a"), {}, "alpha"),
        (F.layer_norm, (X, None, None, "a"), {}, "eps"),
        (F.layer_norm, (X.tolist(),), {"eps": "a"}, "eps"),
        (F.layer_norm, (Tensor(X),), {"eps": "a"}, "eps"),
        (F.rms_norm, (X,), {"eps": "a"}, "eps"),
        (F.group_norm, (X, 2), {"eps": "a"}, "eps"),
        (F.batch_norm, (), {**ROWS, "eps": "a"}, "eps"),
        (F.batch_norm, (), {**ROWS, "momentum": "a"}, "momentum"),
        (F.scaled_dot_product_attention, (Q, Q, Q), {"scale": "a"}, "scale"),
        (F.attention_weights, (Q, Q), {"scale": "a"}, "scale"),
        (F.huber, (X, X, "a"), {}, "delta"),
        (F.cross_entropy, (X, [0, 1]), {"label_smoothing": "a"}, "label_smoothing"),
        (F.normalize, (X,), {"eps": "a"}, "eps"),
        (F.cosine_similarity, (X, X), {"eps": "a"}, "eps"),
        (F.sample, (X, np.random.default_rng(0)), {"temperature": "a"}, "temperature"),
        (F.sample, (X.tolist(), None), {"top_k": "a"}, "top_k"),
        (F.sample, (X, None), {"top_p": "a"}, "top_p"),
    ],
)
def test_a_setting_that_is_no_number_is_named(function, args, kwargs, label):
    with pytest.raises(TypeError) as error:
        function(*args, **kwargs)
    assert str(error.value) == f"{function.__name__}: {label} is str a, expected a number"


def test_what_is_made_of_others_is_named_itself():
    with pytest.raises(TypeError, match=r"^cosine_similarity: str a came, expected an array of numbers or a Tensor$"):
        F.cosine_similarity("a", X)
    with pytest.raises(ValueError, match=r"^cosine_similarity: eps is -1, expected a finite number"):
        F.cosine_similarity(X, X, eps=-1)
    np.testing.assert_array_equal(F.cosine_similarity(X.tolist(), X), F.cosine_similarity(X.astype(float), X))


def test_a_count_is_an_integer():
    with pytest.raises(TypeError, match=r"^sample: top_k=1.5, expected an integer$"):
        F.sample(X, None, top_k=1.5)
    for classes in (2.5, None, "a"):
        with pytest.raises(TypeError, match=f"^one_hot: classes={classes!r}, expected an integer$"):
            F.one_hot([0], classes)
    with pytest.raises(ValueError, match=r"^conv1d: stride=array\(\[\[1\], \[2\]\]\), expected an integer of at least 1, or 1 of them$"):
        F.conv1d(Q[0], Q[0], stride=np.array([[1], [2]]))
    with pytest.raises(TypeError, match=r"^interpolate: antialias='no', expected True or False$"):
        F.interpolate(Q, 2, antialias="no")


def test_the_table_of_an_embedding_has_two_axes():
    with pytest.raises(ValueError, match=r"^embedding: weight is \(4,\), expected \(V, C\), a row for each id$"):
        F.embedding([0], Tensor(X[0]))


def test_none_is_no_number_where_it_is_not_the_default():
    np.testing.assert_array_equal(F.scaled_dot_product_attention(Q.tolist(), Q, Q, scale=None), F.scaled_dot_product_attention(Q, Q, Q))
    with pytest.raises(TypeError, match=r"^layer_norm: eps is NoneType None, expected a number$"):
        F.layer_norm(X, eps=None)


@pytest.mark.parametrize("function", [F.relu, F.leaky_relu, F.elu, F.sigmoid, F.softplus, F.normal_cdf, F.logsumexp])
def test_what_holds_no_numbers_is_one_line_for_ops_too(function):
    name = function.__name__
    with pytest.raises(TypeError, match=f"^{name}: str a came, expected an array of numbers or a Tensor$"):
        function("a")
    with pytest.raises(ValueError, match=f"^{name}: lists of several lengths came, expected an array; pad them to one length$"):
        function([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("function", [F.mse, F.l1, F.huber, F.binary_cross_entropy_with_logits, F.kl_div])
def test_losses_say_which_lists_they_cannot_take(function):
    with pytest.raises(ValueError, match=f"^{function.__name__}: lists of several lengths came"):
        function([[1.0], [1.0, 2.0]], X)


@pytest.mark.parametrize(
    "call",
    [
        *(lambda f=f: f(X.tolist(), X.tolist()) for f in (F.mse, F.l1, F.huber, F.binary_cross_entropy_with_logits, F.kl_div)),
        lambda: F.cross_entropy(X.tolist(), [0, 1], weight=[1.0] * 4),
        lambda: F.nll(X.tolist(), [0, 1], weight=[1.0] * 4),
    ],
)
def test_a_loss_of_lists_tells_its_divisor_once(call):
    token = losses.divisors.set(told := [])
    try:
        call()
    finally:
        losses.divisors.reset(token)
    assert len(told) == 1


def test_dropout_and_sample_draw_once_from_lists_too():
    for call in (lambda x, rng: F.dropout(x, 0.5, rng), lambda x, rng: F.sample(x, rng)):
        of_array, of_list = np.random.default_rng(0), np.random.default_rng(0)
        np.testing.assert_array_equal(call(X.astype(float), of_array), call(X.tolist(), of_list))
        assert of_array.bit_generator.state == of_list.bit_generator.state != np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize(
    "call",
    [
        lambda rng: F.dropout("a", 0.5, rng),
        lambda rng: F.dropout([[1.0], [1.0, 2.0]], 0.5, rng),
        lambda rng: F.dropout(X.tolist(), "a", rng),
        lambda rng: F.sample("a", rng),
        lambda rng: F.sample(X.tolist(), rng, temperature="a"),
        lambda rng: F.sample(X.tolist(), rng, top_k="a"),
    ],
)
def test_a_refused_call_draws_nothing(call):
    rng = np.random.default_rng(0)
    with pytest.raises((TypeError, ValueError)):
        call(rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
