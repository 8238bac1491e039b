"""The engine's promises, each with a test that fails when the behaviour is broken (docs/design.md lists them)."""

import copy
import gc
import pickle
import re
import threading
import tracemalloc
import weakref

import tinygrad_notes as tn
from tinygrad_notes import Tensor, core, gradients
from tinygrad_notes import functional as F
from tinygrad_notes.registry import Op, op
from tinygrad_notes.tensor import FROM_PYTORCH

import numpy as np
import pytest


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# --- what gradients returns ------------------------------------------------------------------


def test_gradients_have_the_structure_shape_and_dtype_of_the_params():
    w, b = Tensor(np.ones((3, 2), np.float32)), Tensor(np.zeros(2))
    loss = np.sum((np.ones((4, 3)) @ w + b) ** 2)
    g = gradients(loss, {"w": w, "more": [b, (b,)]})
    assert g.keys() == {"w", "more"}
    assert isinstance(g["more"], list)
    assert isinstance(g["more"][1], tuple)
    assert g["w"].shape == (3, 2)
    assert g["w"].dtype == np.float32
    assert g["more"][0].dtype == np.float64


def test_gradients_own_their_memory():
    a, b = Tensor(np.ones(3)), Tensor(np.ones(3))
    ga, gb = gradients(np.sum(a + b), [a, b])
    ga += 1
    close(gb, np.ones(3))
    g, again = gradients(np.sum(a * 2), [a, a])
    g += 1
    close(again, np.full(3, 2.0))


def test_a_gradient_is_writable_even_where_the_rule_broadcasts():
    a = Tensor(np.ones((2, 3)))
    g = gradients(np.sum(a), a)
    g += 1
    close(g, np.full((2, 3), 2.0))


def test_params_may_be_interior_nodes_and_are_never_passed():
    a = Tensor(3.0)
    b = a * a
    gb, ga = gradients(b * a, [b, a])
    close(gb, 3.0)
    close(ga, 9.0)  # the direct path only: the walk stops at b


def test_unused_params_get_zeros_or_an_error():
    a, b = Tensor(1.0), Tensor(np.ones((2, 2)))
    close(gradients(a * 2, [a, b])[1], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"does not depend on params\.b \(2, 2\)"):
        gradients(a * 2, {"a": a, "b": b}, unused="raise")


def test_the_walk_visits_only_nodes_between_loss_and_params():
    calls = []

    def spy(x):
        return x * 1

    def rule(g, y, x):
        calls.append(x.shape)
        return g

    watched = Op(spy, (rule,))
    a, b = Tensor(1.0), Tensor(np.ones(2))
    gradients(a * 2 + np.sum(watched(b)), a)
    assert calls == []
    gradients(np.sum(watched(b)), b)
    assert calls == [(2,)]


def test_create_graph_returns_tensors_of_any_order():
    x = Tensor(1.5)
    y = x**5.0
    for k, coefficient in enumerate([5, 20, 60, 120, 120]):
        y = gradients(y, x, create_graph=True)
        assert isinstance(y, Tensor)
        close(y.value, coefficient * 1.5 ** (4 - k))


def test_gradient_accumulation_through_diamonds_and_fan_out():
    for uses in range(1, 21):
        x = Tensor(np.array([1.0, 2.0]))
        close(gradients(np.sum(sum(x * k for k in range(uses))), x), np.full(2, sum(range(uses))))
    y = x = Tensor(1.0)
    for _ in range(60):  # 2^60 paths, 60 nodes
        y = y + y
    close(gradients(y, x), 2.0**60)


def test_second_order_through_a_multiple_output_counts_every_use_of_a_member():
    x = Tensor(np.array([1.0, 2.0, 3.0, 4.0]))
    a, b = np.split(x, 2)
    g = gradients(np.sum(a * a * a * b * b), x, create_graph=True)  # nonlinear in both members
    h = gradients(np.sum(g * np.array([1.0, 0.0, 0.0, 0.0])), x)
    close(h, [6 * 1 * 9, 0, 2 * 3 * 3 * 1, 0])


# --- freed and stale graphs --------------------------------------------------------------------


def test_a_second_walk_raises_unless_the_graph_is_retained():
    x = Tensor(2.0)
    loss = x * x
    close(gradients(loss, x, retain_graph=True), 4.0)
    close(gradients(loss, x), 4.0)
    with pytest.raises(RuntimeError, match=r"freed by an earlier walk.*retain_graph=True"):
        gradients(loss, x)


def test_a_stale_graph_raises_and_names_the_leaf():
    w = Tensor(np.ones(2), name="critic.weight")
    h = w.T  # a view of the weight: nothing but the version tells that it changed
    loss = np.sum(h * h)
    w.value += 1
    w.node.touch()
    with pytest.raises(RuntimeError, match=r"stale graph: critic\.weight \(2,\) float64 was updated after"):
        gradients(loss, w)
    close(gradients(np.sum(w * w), w), np.full(2, 4.0))


def test_a_stale_leaf_that_is_not_a_param_raises_too():
    critic, fake = Tensor(2.0, name="critic"), Tensor(3.0)
    loss = critic * fake
    critic.node.touch()
    with pytest.raises(RuntimeError, match="critic"):
        gradients(loss, fake)


def test_graphs_are_freed_by_reference_counts():
    gc.disable()
    try:
        x = Tensor(np.ones(3))
        y = x * 2
        middle = weakref.ref(y)
        loss = np.sum(np.tanh(y))
        del y
        assert middle() is None  # a node never holds its own Tensor
        gradients(loss, x, retain_graph=True)
        before = len(gc.get_objects())
        for _ in range(50):
            gradients(np.sum(np.tanh(x * 2)), x)
        assert len(gc.get_objects()) - before < 20
    finally:
        gc.enable()


def test_a_walk_frees_the_saved_arrays():
    x = Tensor(np.ones(3))
    h = np.exp(x)
    node = h.node
    gradients(np.sum(h * h), x)
    assert node.y is None
    assert node.parents is core.FREED


def test_a_node_keeps_only_what_its_rules_read():
    a, b, c = Tensor(np.ones(3)), Tensor(np.ones(3)), np.ones(3)
    assert [type(s) for s in (a * b).node.saved] == [np.ndarray, np.ndarray]
    assert not any(isinstance(s, np.ndarray) for s in (a + b).node.saved)
    kept = (a * c).node.saved  # c's own rule, the only one that reads a, will never run
    assert kept[0] is a.node
    assert kept[1] is c
    assert np.exp(a).node.y is not None
    assert np.sin(a).node.y is None


# --- depth, size, threads -----------------------------------------------------------------------


def test_a_chain_of_100_000_ops():
    x = Tensor(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    close(gradients(y, x), 1.0)
    del y


def test_a_loop_over_rows_allocates_linearly():
    def peak(T):
        x = Tensor(np.ones((T, 16)))
        total = np.zeros(16)
        for t in range(T):
            total = total + x[t] * t
        loss = np.sum(total)
        tracemalloc.start()
        g = gradients(loss, x)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        close(g[:, 0], np.arange(T))
        return used

    peak(10)
    assert peak(4000) < 6 * peak(1000)  # linear: 4; quadratic: 16


def test_two_threads_do_not_disturb_each_other():
    results = {}

    def work(k):
        for _ in range(200):
            x = Tensor(np.full(3, float(k)))
            results.setdefault(k, []).append(gradients(np.sum(x * x * x), x)[0])

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results[1] == [3.0] * 200
    assert results[2] == [12.0] * 200


# --- dtypes ---------------------------------------------------------------------------------------


def test_gradients_have_the_dtype_of_their_inputs_in_a_mixed_product():
    a, b = Tensor(np.ones(3, np.float32)), Tensor(np.ones(3))
    ga, gb = gradients(np.sum(a * b), [a, b])
    assert ga.dtype == np.float32
    assert gb.dtype == np.float64


@pytest.mark.parametrize("value", [1, [1, 2], True, np.arange(3), 1j, "text"])
def test_a_tensor_of_something_else_than_real_floats_raises(value):
    with pytest.raises(TypeError, match="have no gradient; keep an array for constants"):
        Tensor(value)


def test_python_numbers_do_not_widen():
    x = Tensor(np.ones(2, np.float32))
    y = (2 * x + 1.5) / 3 - x**2
    assert y.dtype == np.float32
    assert gradients(np.sum(y), x).dtype == np.float32


def test_a_complex_result_raises():
    with pytest.raises(TypeError, match=r"complex"):
        Tensor(np.ones(2)) * 1j


# --- Tensors are never changed behind the graph ------------------------------------------------------


def test_augmented_assignment_rebinds():
    x = y = Tensor(np.ones(2))
    y += 1
    assert y is not x
    close(x.value, np.ones(2))
    close(gradients(np.sum(y * y), x), np.full(2, 4.0))


def test_assignment_raises_with_the_recipe():
    with pytest.raises(TypeError, match=r"np\.where.*np\.stack"):
        Tensor(np.ones(2))[0] = 1.0


@pytest.mark.parametrize("method", ["fill", "put", "sort", "partition", "resize"])
def test_in_place_methods_raise(method):
    with pytest.raises(TypeError, match="cannot be changed in place"):
        getattr(Tensor(np.ones(2)), method)(0)


def test_deepcopy_copies_a_leaf_and_refuses_a_result():
    x = Tensor(np.ones(2), name="w")
    twin = copy.deepcopy({"w": [x]})["w"][0]
    twin.value += 1
    close(x.value, np.ones(2))
    assert twin.node is not x.node
    assert twin.node.name == "w"
    with pytest.raises(TypeError, match=r"result of an operation.*t\.value"):
        copy.deepcopy(x * 2)


def test_pickle_is_refused():
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Tensor(1.0))


# --- errors -----------------------------------------------------------------------------------------


def test_the_errors_of_gradients_say_what_came():
    x = Tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"loss is float 3.0, expected a Tensor"):
        gradients(3.0, x)
    with pytest.raises(ValueError, match=r"loss has shape \(3,\), expected one number"):
        gradients(x * 2, x)
    with pytest.raises(TypeError, match=r"params\.w\.0 is ndarray \(2,\) float64, expected a Tensor"):
        gradients(np.sum(x), {"w": [np.ones(2)]})
    with pytest.raises(ValueError, match="unused='ignore', expected 'zeros' or 'raise'"):
        gradients(np.sum(x), x, unused="ignore")


def test_a_function_without_rule_says_how_to_add_one():
    def unheard_of(x):
        raise AssertionError

    with pytest.raises(TypeError, match=r"unheard_of is not differentiable here: no rule.*CONTRIBUTING\.md"):
        Tensor(1.0).__array_function__(unheard_of, (), (Tensor(1.0),), {})


def test_a_keyword_without_rule_and_a_tensor_as_keyword_raise():
    x = Tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"np\.exp: where= leaves elements without a value"):
        np.exp(x, where=np.array([True, False, True]))
    with pytest.raises(TypeError, match=r"np\.sum: where= is a Tensor"):
        np.sum(x, where=x)


def test_a_tensor_is_never_the_output_of_a_call_nor_an_input_without_rule():
    x = Tensor(np.ones(3))
    for call in (lambda: np.floor(np.ones(3), out=x), lambda: np.exp(np.ones(3), out=x), lambda: np.sum(np.ones((2, 3)), 0, out=x)):
        with pytest.raises(TypeError, match="out= would overwrite"):
            call()
    half = Op(lambda a, b: a * b, (lambda g, y, a, b: g * b, None))
    with pytest.raises(TypeError, match="input 2 is a Tensor, but no rule"):
        half(x, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.softplus(x, 5), "softplus: 2 positional arguments came, expected at most 1: x"),
        (lambda x: F.elu(x, 1.0, 3), "elu: 3 positional arguments came, expected at most 2: x, alpha"),
        (lambda x: F.relu(x, axis=1), "relu: there is no argument axis=, expected some of x"),
        (lambda x: x.sum(dim=1), "np.sum: there is no argument dim=, expected some of a, axis, dtype, out, keepdims, initial, where"),
    ],
)
def test_arguments_that_a_function_does_not_have_are_refused(call, message):
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        call(Tensor(np.ones((2, 2))))


def test_a_function_has_one_set_of_rules():
    with pytest.raises(ValueError, match=r"^op np\.log: it has rules already"):
        op(np.log, lambda g, y, x: g * x, cases=[((3,),)])


def test_an_op_without_cases_or_with_too_few_rules_is_refused():
    def double(x):
        return 2 * x

    with pytest.raises(TypeError, match="cases= is missing"):
        op(double, lambda g, y, x: 2 * g)
    with pytest.raises(TypeError, match="3 rules for 2"):
        Op(np.multiply, (lambda g, y, a, b: g, None, None))


# --- backward(), for readers from PyTorch --------------------------------------------------------------


def test_backward_overwrites_grad_on_leaves():
    w, x = Tensor(np.ones(2)), np.array([1.0, 2.0])
    np.sum(w * x).backward()
    close(w.grad, x)
    np.sum(w * x).backward()
    close(w.grad, x)
    loss = np.sum(w * x)
    loss.backward()
    with pytest.raises(RuntimeError, match="freed"):
        loss.backward()
    with pytest.raises(ValueError, match=r"shape \(2,\), expected one number"):
        (w * x).backward()


# --- a Tensor reads like an array ------------------------------------------------------------------------


def test_repr_and_format():
    x = Tensor(np.array([1.0, 2.0], np.float32), name="w")
    assert repr(x) == "Tensor([1., 2.], shape=(2,), float32, leaf w)"
    assert repr(np.sum(x)) == "Tensor(3., shape=(), float32, from sum)"
    assert f"{np.sum(x):.3f}" == "3.000"
    assert f"{x}" == "[1. 2.]"
    with pytest.raises(TypeError, match=r"needs one number, but the Tensor has shape \(2,\)"):
        format(x, ".3f")


def test_comparisons_give_arrays_and_tensors_can_be_hashed():
    x = Tensor(np.array([1.0, 2.0]))
    assert type(x > 1.5) is np.ndarray
    assert (x == np.array([1.0, 0.0])).tolist() == [True, False]
    assert {x: 1}[x] == 1
    assert 2.0 in x
    assert 3.0 not in x
    assert bool(Tensor(1.0))
    assert Tensor(1.0) < 2


def test_iteration_length_and_unpacking():
    x = Tensor(np.arange(6.0).reshape(3, 2))
    assert len(x) == 3
    a, b, c = x
    close(gradients(np.sum(a * b) + np.sum(c), x), [[2, 3], [0, 1], [1, 1]])
    with pytest.raises(TypeError, match="without dimensions"):
        iter(Tensor(1.0))


@pytest.mark.parametrize(
    "convert",
    [float, int, complex, np.asarray, lambda t: np.array([t, t]), lambda t: np.full(2, t), lambda t: np.eye(2).dot(t), np.arange],
)
def test_conversions_raise_with_a_recipe(convert):
    for t in (Tensor(1.0), Tensor(np.ones(2))):
        with pytest.raises(TypeError, match=r"t\.item\(\)|t\.value|np\.stack"):
            convert(t)


def test_reference_runs_every_twin():
    calls = []

    def forward(x):
        calls.append("kernel")
        return x * x, None

    def backward(g, saved, x, needs):
        calls.append("backward")
        return (2 * g * x,)

    from tinygrad_notes.registry import Fused

    square = Fused("square", forward, backward, lambda x: x * x, [((3,),)], None)
    x = Tensor(np.array([1.0, 2.0]))
    close(gradients(np.sum(square(x)), x), [2, 4])
    assert calls == ["kernel", "backward"]
    with tn.reference():
        close(gradients(np.sum(square(x)), x), [2, 4])
    assert calls == ["kernel", "backward"]
    g = gradients(np.sum(square(x) * x), x, create_graph=True)  # higher orders differentiate the twin
    close(gradients(np.sum(g), x), [6, 12])
    assert square(np.ones(2)).tolist() == [1, 1]


def test_methods_take_their_arguments_as_an_arrays_do():
    a = np.random.default_rng(0).normal(size=(3, 4))
    t = Tensor(a)
    for call in (
        lambda x: x.sum(0, None, None, True),
        lambda x: x.mean(0, np.float64),
        lambda x: x.max(0, None, True),
        lambda x: x.std(0, None, None, 1),
        lambda x: x.cumsum(0, dtype=np.float64),
        lambda x: x.copy("F"),
        lambda x: x.clip(-0.5, 0.5, None),
        lambda x: x.round(2, None),
        lambda x: x.any(where=a > 0),
        lambda x: x.argsort(1, kind="stable"),
        lambda x: x.argpartition(1, kind="introselect"),
        lambda x: x.item(0, 1),
        lambda x: x.flat[2],
        lambda x: [v.item() for v in x.flat],
        lambda x: x.take([1, 0], 1, None, "clip"),
        lambda x: x.trace(1, 0, 1),
        lambda x: x.var(axis=1, ddof=1, keepdims=True),
    ):
        y = call(t)
        np.testing.assert_array_equal(y.value if isinstance(y, Tensor) else y, call(a))
    with pytest.raises(AttributeError, match=r"no attribute 'strides'; its array has one: t\.value\.strides"):
        t.strides  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'stride'$"):
        t.stride  # noqa: B018
    with pytest.raises(TypeError, match="out= would overwrite"):
        t.sum(0, None, np.zeros(4))


IN_NUMPY = {
    **{name: f"np.{name}(t)" for name in ("exp", "log", "sqrt", "tanh", "abs", "sign", "isnan")},
    **{name: f"np.{name}(t, ...)" for name in ("flip", "add", "tile", "split", "maximum", "where") if name not in FROM_PYTORCH},
    **FROM_PYTORCH,
}


@pytest.mark.parametrize("name", IN_NUMPY)
def test_what_pytorch_calls_a_method_is_named_as_numpy_has_it(name):
    with pytest.raises(AttributeError) as error:
        getattr(Tensor(np.ones(2)), name)
    assert str(error.value) == f"a Tensor has no attribute {name!r}; write {IN_NUMPY[name]}"


def test_the_ways_of_numpy_work():
    """Each of them, on a Tensor, as it is written in the error."""
    t, s = Tensor(np.arange(6.0).reshape(2, 3)), Tensor(np.arange(9.0).reshape(3, 3))
    names = {
        "np": np,
        "t": t,
        "x": s.value,
        "Tensor": Tensor,
        "stop_gradient": tn.stop_gradient,
        "axis": 0,
        "shape": (4, 2, 3),
        "dtype": np.float32,
    }
    names |= {"mask": np.eye(3, dtype=bool), "min": 0, "max": 1}
    for name, way in FROM_PYTORCH.items():
        code = way.replace("reshape(...)", "reshape(3, 2)").replace("transpose(...)", "transpose(1, 0)")
        eval(code, names | ({"t": s} if "mask" in way else {}))
        assert not hasattr(Tensor, name), name


@pytest.mark.parametrize("name", ["copyto", "sctypeDict", "__array_interface__", "linalg", "pi", "vectorise"])
def test_what_numpy_has_without_a_rule_is_no_advice(name):
    with pytest.raises(AttributeError, match=rf"^a Tensor has no attribute '{name}'$"):
        getattr(Tensor(np.ones(2)), name)
