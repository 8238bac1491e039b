"""tree: paths, copies, live views, loading and freezing, on models of every shape that tree promises to walk."""

import signal
import threading
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tinygrad_notes import Tensor, gradients, tree
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.optim import SGD, AdamW
from tinygrad_notes.tree import count, freeze, frozen, leaves, load, map_model, parameters, snapshot, state_dict, unfreeze

import numpy as np
import pytest


def array(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@dataclass(frozen=True)
class Config:
    width: int = 4
    table: object = None


class Linear:
    def __init__(self, fan_in, fan_out, seed=0):
        self.weight = Tensor(array(fan_in, fan_out, seed=seed))
        self.bias = Tensor(np.zeros(fan_out, np.float32))

    def __call__(self, x):
        return x @ self.weight + self.bias


class Pair(NamedTuple):
    first: object
    second: object


class Model:
    """Tied weights, buffers, lists, tuples, dicts, and much that is not state."""

    def __init__(self):
        self.config = Config(table=np.ones(3))
        self.embedding = Tensor(array(5, 4, seed=1))
        self.blocks = [Linear(4, 4, seed=2), Linear(4, 4, seed=3)]
        self.pair = Pair(Linear(4, 2, seed=4), Tensor(np.float32(0.5)))
        self.by_name = {"out": Linear(2, 4, seed=5)}
        self.head = self.embedding
        self.mean = np.arange(4, dtype=np.float32)
        self.updates = np.array(7)
        self.activation = np.tanh
        self.scale = partial(np.multiply, 2)
        self.kind = Linear
        self.rate = 0.1
        self.nothing = None
        self._cache = Tensor(array(2)) * 2

    def __call__(self, ids):
        x = self.embedding[ids]
        for block in self.blocks:
            x = self.activation(block(x))
        return self.by_name["out"](self.pair.first(x) * self.pair.second) @ self.head.T


PATHS = [
    *["embedding", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"],
    *["pair.0.weight", "pair.0.bias", "pair.1", "by_name.out.weight", "by_name.out.bias"],
]
IDS = np.array([0, 3, 3, 4])


def train(model, optimizer):
    params = parameters(model)
    optimizer.step(gradients((model(IDS) ** 2).mean(), params))


def equal(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


# --- walking ----------------------------------------------------------------------------


def test_parameters_have_pytorchs_paths_and_name_the_leaves():
    model = Model()
    params = parameters(model)
    assert list(params) == PATHS
    assert all(t.node.name == path for path, t in params.items())
    assert params["embedding"] is model.head
    assert "leaf blocks.1.bias" in repr(model.blocks[1].bias)


def test_state_dict_has_buffers_and_ties_and_owns_its_memory():
    model = Model()
    state = state_dict(model)
    assert set(state) == {*PATHS, "head", "mean", "updates"}
    assert np.array_equal(state["head"], model.embedding.value)
    for path, leaf in leaves(model):
        assert not np.shares_memory(state[path], leaf.value if isinstance(leaf, Tensor) else leaf)
    assert not np.shares_memory(state["head"], state["embedding"])


def test_count_counts_tied_parameters_once_and_no_buffers():
    assert count(Model()) == sum(t.size for t in parameters(Model()).values()) == 5 * 4 + 2 * 20 + 10 + 1 + 12


@pytest.mark.parametrize("container", [lambda *x: dict(zip("abc", x)), lambda *x: list(x), lambda *x: {"n": {"m": x}}])
def test_plain_structures(container):
    model = container(Tensor(array(2)), array(3), 5)
    assert len(parameters(model)) == 1 and len(state_dict(model)) == 2 and count(model) == 2
    state = {path: x + 1 for path, x in state_dict(model).items()}
    load(model, state)
    assert equal(state_dict(model), state)


def test_an_empty_model():
    class Empty:
        pass

    assert parameters(Empty()) == {} and state_dict([]) == {} and count({}) == 0
    load(Empty(), {})


def test_the_result_of_an_operation_is_refused_by_its_path():
    model = Model()
    model.blocks[1].weight = model.blocks[1].weight * 2
    for function in (parameters, state_dict, frozen, snapshot, count, partial(map_model, np.array)):
        with pytest.raises(ValueError, match=r"blocks\.1\.weight \(4, 4\) is the result of an operation"):
            function(model)


REPLACED = [np.ones((2, 3), np.float32), np.ones(4, np.float32), np.ones(1, np.float32), [1.0, 2.0, 3.0], 2.0]  # by another shape


@pytest.mark.parametrize("value", [*REPLACED, np.ones(3), np.arange(3), Tensor(array(3)), None], ids=lambda v: " ".join(repr(v).split()))
def test_a_value_that_was_replaced_by_another_kind_is_named(value):
    """A slot is not checked when it is assigned, which would cost time in every operation; so whoever reads leaves says it."""
    w, u = Tensor(array(3)), Tensor(array(3))
    loss = np.sum(w * u)
    opt = SGD({"w": w}, lr=0.1)
    grads = gradients(loss, {"w": w}, retain_graph=True)
    w.value = value
    calls = [(lambda f=f: f({"w": w}), "model: w") for f in (parameters, state_dict, count, frozen, snapshot, freeze)]
    calls += [(lambda: load({"w": w}, {"w": array(3)}), "model: w"), (lambda: AdamW({"w": w}, lr=0.1), "AdamW: params.w")]
    if any(value is other for other in REPLACED):
        calls += [(lambda: gradients(loss, {"u": u, "w": w}), "gradients: params.w"), (lambda: gradients(loss, w), "gradients: params")]
    for call, what in calls:
        with pytest.raises(RuntimeError) as error:
            call()
        assert str(error.value).startswith(f"{what} was made with an array (3,) float32, but t.value was set to {type(value).__name__} ")
        assert str(error.value).endswith("; write into it, t.value[...] = x, or make a new one, Tensor(x)") and "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match=r"^SGD: w was given another array since the optimizer was made; "):
        opt.step(grads)


def test_a_value_may_be_replaced_by_an_array_of_its_kind():
    w = Tensor(array(3))
    w.value = array(3, seed=1)
    load({"w": w}, {"w": array(3, seed=2)})
    np.testing.assert_array_equal(gradients(np.sum(w * w), w), 2 * array(3, seed=2))


def test_a_circle_and_ambiguous_paths_are_refused():
    model = Model()
    model.blocks[0].parent = model
    with pytest.raises(ValueError, match=r"blocks\.0\.parent is part of itself"):
        parameters(model)
    with pytest.raises(ValueError, match=r"two leaves have the path 'a\.b'"):
        state_dict({"a.b": array(1), "a": {"b": array(1)}})


# --- copies and views -------------------------------------------------------------------


def test_map_model_copies_the_structure_and_keeps_ties():
    model = Model()
    copy = map_model(lambda leaf: Tensor(leaf.value * 2) if isinstance(leaf, Tensor) else leaf, model)
    assert type(copy) is Model and type(copy.pair) is Pair and copy.blocks is not model.blocks and copy.by_name is not model.by_name
    assert list(parameters(copy)) == PATHS and copy.head is copy.embedding
    assert np.array_equal(copy.embedding.value, model.embedding.value * 2)
    assert copy.config is model.config and copy._cache is model._cache
    copy.blocks.append(None)
    assert len(model.blocks) == 2


def test_map_model_keeps_shared_submodules_shared():
    block = Linear(2, 2)
    copy = map_model(lambda leaf: leaf, [block, block])
    assert copy[0] is copy[1] and copy[0] is not block
    assert list(parameters([block, block])) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("optimizer", [lambda p: SGD(p, lr=0.1), lambda p: AdamW(p, lr=0.1, decay=lambda path, t: t.ndim > 1)])
@pytest.mark.parametrize("when", ["before the optimizer", "after it", "between two optimizers", "before loading"])
def test_a_frozen_view_moves_with_the_model(when, optimizer):
    model = Model()
    if when in ("before the optimizer", "before loading"):
        view = frozen(model)
    opt = optimizer(parameters(model))
    if when != "before the optimizer" and when != "before loading":
        view = frozen(model)
    if when == "between two optimizers":
        opt = optimizer(parameters(model))
    if when == "before loading":
        load(model, {path: x + 1 for path, x in state_dict(model).items()})
    before = state_dict(view)
    train(model, opt)
    assert parameters(view) == {} and equal(state_dict(view), state_dict(model))
    moved = [path for path in PATHS if not np.array_equal(before[path], state_dict(view)[path])]
    assert set(PATHS) - set(moved) <= {"pair.0.bias"} and "head" in before
    assert view.head is view.embedding and view.mean is model.mean
    assert type(view(IDS)) is np.ndarray and np.array_equal(view(IDS), model(IDS).value)


def test_a_view_made_before_freezing_and_unfreezing_still_moves():
    model = Model()
    view = frozen(model)
    freeze(model)
    unfreeze(model)
    train(model, SGD(parameters(model), lr=0.1))
    assert equal(state_dict(view), state_dict(model))


def test_the_first_optimizer_keeps_its_hold_when_a_second_one_is_made():
    model = Model()
    first = SGD(parameters(model), lr=0.1)
    SGD(dict(list(parameters(model).items())[3:5]), lr=0.1)
    before = state_dict(model)
    train(model, first)
    assert not np.array_equal(model.blocks[1].weight.value, before["blocks.1.weight"])


@pytest.mark.parametrize("act", [lambda m: train(m, SGD(parameters(m), lr=1)), lambda m: load(m, {"w": array(2, 3) + 1}), frozen, freeze])
@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.T.copy().T, lambda x: x[::-1]])
def test_the_callers_array_is_never_written(act, layout):
    class One:
        def __call__(self, ids):
            return self.w * 2

    model = One()
    mine = layout(array(2, 3))
    model.w = Tensor(mine)
    copy = mine.copy()
    act(model)
    if act in (frozen, freeze):
        model.w = Tensor(model.w) if isinstance(model.w, np.ndarray) else model.w
        train(model, SGD(parameters(model), lr=1))
    assert np.array_equal(mine, copy) and not np.array_equal(model.w.value, mine)


def test_a_new_leaf_made_from_a_value_is_not_the_old_leaf():
    """Tensor(t.value) shares t's array, as every Tensor does; training it must not move t."""
    t = Tensor(array(3))
    tree.own([t])
    other = Tensor(t.value)
    before = t.value.copy()
    SGD([other], lr=1).step([array(3, seed=1)])
    assert np.array_equal(t.value, before) and not np.array_equal(other.value, before)


def test_owning_packs_once_and_only_once():
    ts = [Tensor(array(2, 3)), Tensor(array(2, dtype=np.float64)), Tensor(np.float32(3)), Tensor(array(0, 4))]
    values = [t.value.copy() for t in ts]
    tree.own(ts)
    arrays = [t.value for t in ts]
    assert all(np.array_equal(t.value, v) and t.value.dtype == v.dtype for t, v in zip(ts, values))
    assert ts[0].value.base is ts[2].value.base and ts[1].value.base is not ts[0].value.base
    assert all(map(tree.is_owned, arrays)) and not tree.is_owned(array(3)) and not tree.is_owned(array(3)[1:])
    tree.own(ts)
    assert all(t.value is a for t, a in zip(ts, arrays))


def test_a_snapshot_does_not_move():
    model = Model()
    opt = SGD(parameters(model), lr=0.1)
    still = snapshot(model)
    before = state_dict(model)
    train(model, opt)
    model.mean += 1
    assert equal(state_dict(still), before) and parameters(still) == {} and still.head is still.embedding
    assert not equal(state_dict(model), before)


# --- loading ----------------------------------------------------------------------------


def test_load_keeps_every_object_and_kind():
    model, donor = Model(), Model()
    train(donor, SGD(parameters(donor), lr=0.1))
    tensors, buffers = parameters(model), (model.mean, model.updates)
    donor.updates += 5
    load(model, state_dict(donor))
    assert equal(state_dict(model), state_dict(donor))
    assert all(parameters(model)[path] is t for path, t in tensors.items()) and model.head is model.embedding
    assert model.mean is buffers[0] and model.updates is buffers[1]


def test_load_copies():
    model, state = Model(), state_dict(Model())
    load(model, state)
    assert not any(np.shares_memory(state[path], t.value) for path, t in parameters(model).items())


def test_load_makes_graphs_stale():
    model = Model()
    loss = model(IDS).mean()
    load(model, state_dict(model))
    with pytest.raises(RuntimeError, match="stale graph"):
        gradients(loss, parameters(model))


MISFITS = {
    "missing: blocks.0.bias, mean": lambda s: (s.pop("blocks.0.bias"), s.pop("mean")),
    "unexpected: extra": lambda s: s.update(extra=array(1)),
    r"blocks.1.weight has shape \(4, 3\), expected \(4, 4\)": lambda s: s.update({"blocks.1.weight": array(4, 3)}),
    "mean has dtype float64, expected float32": lambda s: s.update(mean=s["mean"].astype(np.float64)),
    "updates has dtype float32, expected int64": lambda s: s.update(updates=s["updates"].astype(np.float32)),
    "pair.1 is float 0.5, expected an array": lambda s: s.update({"pair.1": 0.5}),
    "mean is Tensor": lambda s: s.update(mean=Tensor(s["mean"])),
    "head differs from embedding, to which it is tied": lambda s: s.update(head=s["head"] + 1),
    "missing: embedding": lambda s: (s.pop("embedding"), s.pop("head")),
}


@pytest.mark.parametrize("message", MISFITS)
def test_a_misfit_is_named_and_changes_nothing(message):
    model = Model()
    before = state_dict(model)
    state = {path: x + 1 for path, x in before.items()}
    MISFITS[message](state)
    versions = [t.node.version for t in parameters(model).values()]
    with pytest.raises(ValueError, match=message):
        load(model, state)
    assert equal(state_dict(model), before)
    assert versions == [t.node.version for t in parameters(model).values()]


def test_all_misfits_are_listed_in_one_line():
    state = state_dict(Model())
    del state["embedding"], state["head"]
    state |= {"x": array(1), "mean": array(5), "pair.1": array(2)}
    with pytest.raises(ValueError) as error:
        load(Model(), state)
    assert "\n" not in str(error.value)
    for part in ("missing: embedding", "unexpected: x", "mean has shape (5,)", "pair.1 has shape (2,)"):
        assert part in str(error.value)


def test_a_long_list_is_cut():
    with pytest.raises(ValueError, match=r"missing: 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"):
        load([array(1) for _ in range(20)], {})


def test_a_tied_leaf_may_stand_under_one_of_its_paths():
    for name in ("embedding", "head"):
        model = Model()
        state = state_dict(model)
        new = state.pop(name) + 1
        state["head" if name == "embedding" else "embedding"] = new
        load(model, state)
        assert np.array_equal(model.embedding.value, new)


def test_load_takes_other_layouts_and_byte_orders():
    model = Model()
    state = {path: np.asarray(x + 1, x.dtype.newbyteorder(">"), order="F") for path, x in state_dict(model).items()}
    state["blocks.0.weight"] = state["blocks.0.weight"][::-1]
    load(model, state)
    assert all(np.array_equal(x, state[path]) for path, x in state_dict(model).items())
    assert model.blocks[0].weight.value.dtype == np.float32 and model.mean.dtype.isnative


def test_load_from_the_models_own_memory():
    model = {"a": Tensor(array(3, seed=1)), "b": Tensor(array(3, seed=2)), "c": array(3, seed=3), "d": array(3, seed=4)}
    tree.own([model["a"], model["b"]])
    old = state_dict(model)
    load(model, {"a": model["b"].value, "b": model["a"].value, "c": model["d"], "d": model["c"][::-1]})
    assert equal(state_dict(model), {"a": old["b"], "b": old["a"], "c": old["d"], "d": old["c"][::-1]})


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_told_and_loaded(number):
    model = Model()
    state = state_dict(model)
    state["blocks.0.weight"][0, 1] = number
    with pytest.warns(RuntimeWarning, match=r"^load: nan or inf: blocks\.0\.weight; look where these weights were made$") as told:
        load(model, state)
    assert told[0].filename == __file__ and model.blocks[0].weight.value[0, 1] is not state["blocks.0.weight"]
    assert np.array_equal(state_dict(model)["blocks.0.weight"], state["blocks.0.weight"], equal_nan=True)


def test_large_weights_and_buffers_of_any_kind_are_no_alarm():
    """The sum of the weights overflows; a buffer, such as a mask, may be -inf."""
    model = Model()
    state = state_dict(model)
    state["blocks.0.weight"][...] = np.finfo(np.float32).max
    state["mean"][...] = -np.inf
    load(model, state)


def test_nan_in_tied_weights_is_equal_to_itself():
    model = Model()
    state = {path: x + (np.nan if x.dtype.kind == "f" else 0) for path, x in state_dict(model).items()}
    with pytest.warns(RuntimeWarning, match="load: nan or inf: embedding, .* and 2 more; look"):
        load(model, state)
    assert np.isnan(model.embedding.value).all()


def test_load_into_read_only_arrays():
    buffer = array(3)
    buffer.flags.writeable = False
    with pytest.raises(ValueError, match="0 is a read-only array"):
        load([buffer], {"0": array(3)})
    t = Tensor(np.broadcast_to(np.float32(1), (2, 3)))  # the caller's; the leaf gets memory of its own
    load([t], {"0": array(2, 3)})
    assert np.array_equal(t.value, array(2, 3))


# --- freezing ---------------------------------------------------------------------------


def test_freeze_and_unfreeze_in_place():
    model = Model()
    before, value = state_dict(model), model.blocks[0].weight
    freeze(model, "blocks.*")
    assert [p for p in PATHS if p not in parameters(model)] == [p for p in PATHS if p.startswith("blocks")]
    assert type(model.blocks[0].weight) is np.ndarray and model.blocks[0].weight is value.value
    assert equal(state_dict(model), before)
    unfreeze(model, lambda path, leaf: leaf.ndim == 1)
    assert "blocks.0.bias" in parameters(model) and "blocks.0.weight" not in parameters(model)
    unfreeze(model)
    assert list(parameters(model)) == PATHS and equal(state_dict(model), before)
    assert model.blocks[0].weight.value is value.value and type(model.mean) is np.ndarray


@pytest.mark.parametrize("change", [freeze, unfreeze])
def test_several_patterns_are_refused(change):
    with pytest.raises(
        TypeError,
        match=rf"^{change.__name__}: match is list \['embedding'\], expected a pattern or .*; for several, call it for each",
    ):
        change(Model(), ["embedding"])


def test_a_frozen_parameter_gets_no_gradient_and_does_not_move():
    model = Model()
    opt_before = SGD(parameters(model), lr=0.1)
    freeze(model, "*.weight")
    before = state_dict(model)
    train(model, SGD(parameters(model), lr=0.1))
    for path, x in state_dict(model).items():
        if path.endswith("weight"):
            assert np.array_equal(x, before[path])
    assert not np.array_equal(model.embedding.value, before["embedding"])
    with pytest.raises(ValueError, match="grads lacks"):
        train(model, opt_before)


@pytest.mark.parametrize("pattern", ["head", "embedding", "[he]*"])
def test_tied_leaves_stay_tied(pattern):
    model = Model()
    freeze(model, pattern)
    assert type(model.head) is np.ndarray and model.head is model.embedding
    unfreeze(model, pattern)
    assert isinstance(model.head, Tensor) and model.head is model.embedding


def test_freezing_inside_tuples_lists_and_dicts():
    model = Model()
    freeze(model, "pair.*")
    assert type(model.pair) is Pair and type(model.pair.second) is np.ndarray and type(model.pair.first.bias) is np.ndarray
    unfreeze(model, "pair.1")
    assert isinstance(model.pair.second, Tensor)
    plain = {"a": [Tensor(array(1)), (Tensor(array(1)),)]}
    freeze(plain, "a.1.0")
    assert isinstance(plain["a"][0], Tensor) and type(plain["a"][1][0]) is np.ndarray


def test_a_snapshot_can_be_trained():
    model = Model()
    copy = snapshot(model)
    unfreeze(copy)
    assert list(parameters(copy)) == PATHS
    before = state_dict(model)
    train(copy, SGD(parameters(copy), lr=0.1))
    assert equal(state_dict(model), before) and not equal(state_dict(copy), before)


def test_a_name_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"freeze: nothing matches 'block\.\*'; the paths are: embedding, blocks\.0\.weight"):
        freeze(Model(), "block.*")
    with pytest.raises(ValueError, match="unfreeze: nothing matches"):
        unfreeze(Model())
    with pytest.raises(TypeError, match="freeze: got tuple"):
        freeze((Tensor(array(1)),))


# --- Ctrl-C -----------------------------------------------------------------------------


def test_ctrl_c_waits_for_the_end_of_the_block():
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
    assert reached and signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_block_restores_the_handler():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_a_users_own_handler_gets_the_signal():
    got = []
    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert not got
        assert got == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_need_nothing():
    done = []

    def work():
        with uninterrupted():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]


def test_nested_blocks_wait_for_the_outer_one():
    reached = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append("inner")
        reached.append("outer")
    assert reached == ["inner", "outer"]
