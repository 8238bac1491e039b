"""optim: each rule against its formula in longdouble, what a step refuses, states, schedules, clipping, averages."""

import math
import signal
import warnings

from tinygrad_notes import Tensor, gradients, tree
from tinygrad_notes.optim import (
    EMA,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Optimizer,
    RMSProp,
    accumulate,
    average,
    clip_by_global_norm,
    constant,
    cosine,
    global_norm,
    inverse_square_root,
    linear,
    linear_warmup,
    one_cycle,
)
from tinygrad_notes.optim import optimizer as optimizer_module

import numpy as np
import pytest

L = np.longdouble
SHAPES = {"w": (7, 5), "b": (5,), "scale": (), "none": (0, 3), "deep.w": (2, 3, 4)}


def leaves(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return {path: Tensor(rng.normal(size=shape).astype(dtype)) for path, shape in SHAPES.items()}


def draw(rng, params):
    return {path: np.asarray(rng.normal(size=t.shape), t.dtype) for path, t in params.items()}


def values(params):
    return {path: t.value.copy() for path, t in params.items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


# --- the formulas, as in the papers, one parameter at a time in longdouble -----------------


def sgd(p, g, s, t, lr, wd, momentum=0.0, nesterov=False):
    g = g + L(wd) * p
    s["m"] = L(momentum) * s.get("m", 0) + g
    return p - L(lr) * (g + L(momentum) * s["m"] if nesterov else s["m"])


def adam(p, g, s, t, lr, wd, betas=(0.9, 0.999), eps=1e-8, decoupled=False):
    b1, b2 = L(betas[0]), L(betas[1])
    if decoupled:
        p = p - L(lr) * L(wd) * p
    else:
        g = g + L(wd) * p
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
    return p - L(lr) * (s["m"] / (1 - b1**t)) / (np.sqrt(s["v"] / (1 - b2**t)) + L(eps))


def adamw(*args, **kwargs):
    return adam(*args, **kwargs, decoupled=True)


def adagrad(p, g, s, t, lr, wd, eps=1e-10):
    g = g + L(wd) * p
    s["s"] = s.get("s", 0) + g**2
    return p - L(lr) * g / (np.sqrt(s["s"]) + L(eps))


def rmsprop(p, g, s, t, lr, wd, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    alpha, g = L(alpha), g + L(wd) * p
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    s["a"] = alpha * s.get("a", 0) + (1 - alpha) * g
    u = g / (np.sqrt(s["v"] - s["a"] ** 2 if centered else s["v"]) + L(eps))
    s["u"] = L(momentum) * s.get("u", 0) + u
    return p - L(lr) * s["u"]


def lion(p, g, s, t, lr, wd, betas=(0.9, 0.99)):
    b1, b2 = L(betas[0]), L(betas[1])
    m = s.get("m", 0)
    s["m"] = b2 * m + (1 - b2) * g
    return p - L(lr) * (np.sign(b1 * m + (1 - b1) * g) + L(wd) * p)


RULES = {
    "sgd": (SGD, sgd, {}),
    "momentum": (SGD, sgd, {"momentum": 0.9}),
    "nesterov": (SGD, sgd, {"momentum": 0.8, "nesterov": True}),
    "adam": (Adam, adam, {}),
    "adam, other settings": (Adam, adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
    "adamw": (AdamW, adamw, {"betas": (0.9, 0.95)}),
    "adagrad": (Adagrad, adagrad, {"eps": 1e-6}),
    "rmsprop": (RMSProp, rmsprop, {}),
    "rmsprop with momentum": (RMSProp, rmsprop, {"alpha": 0.9, "momentum": 0.7}),
    "centred rmsprop": (RMSProp, rmsprop, {"centered": True, "momentum": 0.5, "eps": 1e-2}),
    "lion": (Lion, lion, {"betas": (0.8, 0.9)}),
}


@pytest.mark.parametrize("chunk", [4, 1 << 16])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_its_formula_to_the_last_bits(rule, dtype, decay, chunk, monkeypatch):
    """12 steps, chunks within and across parameters; the moments too. The bound: 12 roundings of each kind."""
    monkeypatch.setattr(optimizer_module, "CHUNK", chunk)
    kind, formula, settings = RULES[rule]
    params, rng = leaves(dtype), np.random.default_rng(1)
    opt = kind(params, lr=0.01, weight_decay=decay, decay=lambda path, t: t.ndim >= 2, **settings)
    reference = {path: t.value.astype(L) for path, t in params.items()}
    states = {path: {} for path in params}
    for t in range(1, 13):
        grads = draw(rng, params)
        rate = 0.01 * t
        opt.step(grads, lr=rate)
        for path, p in reference.items():
            reference[path] = formula(p, grads[path].astype(L), states[path], t, rate, decay if p.ndim >= 2 else 0.0, **settings)
    eps = np.finfo(dtype).eps
    for path, p in params.items():
        assert p.dtype == dtype and type(p.value) is np.ndarray
        # The parameter is rounded 12 times; each update, at most about 3 in size, has a relative error of some eps.
        assert np.all(np.abs(p.value - reference[path]) <= 12 * eps * (np.abs(reference[path]) + 4)), path
        for name in opt.moments:
            m = opt.state_dict()[name][path]
            assert m.dtype == dtype and m.shape == p.shape
            expected = np.asarray(states[path][name])
            assert np.all(np.abs(m - expected) <= 12 * eps * (np.abs(expected) + 3)), (path, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_of_adamw_is_within_two_roundings(dtype):
    """From a state in the middle of training, the new parameter is the exact one but for 2 ulp."""
    rng = np.random.default_rng(2)
    p = Tensor(rng.normal(size=3000).astype(dtype))
    opt = AdamW(p, lr=1e-3, weight_decay=0.1)
    for _ in range(3):
        opt.step(rng.normal(size=3000).astype(dtype))
    before, state, g = p.value.astype(L), opt.state_dict(), rng.normal(size=3000).astype(dtype)
    moments = {name: state[name][""].astype(L) for name in "mv"}
    opt.step(g)
    exact = adamw(before, g.astype(L), moments, 4, 1e-3, 0.1)
    assert np.all(np.abs(p.value - exact) <= 2 * np.spacing(np.abs(before.astype(dtype))) + 1e-3 * 20 * np.finfo(dtype).eps)


def test_chunks_do_not_change_a_bit(monkeypatch):
    results = []
    for chunk in (1, 3, 17, 1 << 16):
        monkeypatch.setattr(optimizer_module, "CHUNK", chunk)
        params, rng = leaves(np.float32), np.random.default_rng(1)
        opt = AdamW(params, lr=0.1, decay=lambda path, t: t.ndim > 1)
        assert sum(c.p.size for c in opt.chunks) == sum(t.size for t in params.values())
        assert all(c.p.size <= chunk for c in opt.chunks)
        for _ in range(5):
            opt.step(draw(rng, params))
        results.append(values(params))
    assert all(same(results[0], r) for r in results)


def test_few_chunks_cover_many_parameters():
    params = [Tensor(np.zeros(shape, np.float32)) for shape in [(10, 10), (10,)] * 50]
    assert len(SGD(params, lr=1).chunks) == 1
    fresh = [Tensor(t.value) for t in params]
    assert len(AdamW(fresh, lr=1, decay=lambda path, t: t.ndim > 1).chunks) == 2


def test_chunks_that_two_threads_take_share_no_scratch(monkeypatch):
    """One thread has the even ones, the other the odd ones, so that neither writes where the other computes."""
    monkeypatch.setattr(optimizer_module, "CHUNK", 8)
    chunks = AdamW(leaves(), lr=0.1).chunks
    assert len(chunks) > 4
    for i, a in enumerate(chunks):
        for b in chunks[i + 1 :: 2]:
            assert not any(np.shares_memory(x, y) for x in (*a.scratch, a.gathered) for y in (*b.scratch, b.gathered))


def test_mixed_dtypes():
    params = {"a": Tensor(np.ones(3)), "b": Tensor(np.ones(2, np.float32)), "c": Tensor(np.ones(1))}
    Adam(params, lr=0.5).step({path: np.ones_like(t.value) for path, t in params.items()})
    assert all(np.allclose(t.value, 0.5) for t in params.values()) and [t.dtype.itemsize for t in params.values()] == [8, 4, 8]


# --- structures -------------------------------------------------------------------------


@pytest.mark.parametrize("build", [lambda a, b: [a, b], lambda a, b: {"x": a, "y": {"z": b}}, lambda a, b: (a, [b])])
def test_structures_of_params(build):
    a, b = Tensor(np.ones(2)), Tensor(np.ones((2, 2)))
    opt = SGD(build(a, b), lr=1.0)
    opt.step(build(np.full(2, 0.25), np.full((2, 2), 0.5)))
    assert np.array_equal(a.value, [0.75, 0.75]) and np.array_equal(b.value, np.full((2, 2), 0.5)) and opt.steps == 1


def test_a_single_tensor_and_gradients_of_the_engine():
    w = Tensor(np.array([1.0, -2.0]))
    opt = SGD(w, lr=0.1)
    for _ in range(100):
        opt.step(gradients((w * w).sum(), w))
    assert np.abs(w.value).max() < 1e-8


def test_gradients_may_come_in_any_order_layout_and_as_scalars():
    params = leaves()
    grads = {path: g[::-1].copy()[::-1] if g.ndim else g[()] for path, g in draw(np.random.default_rng(0), params).items()}
    expected = {path: t.value - 0.5 * grads[path] for path, t in params.items()}
    SGD(params, lr=0.5).step(dict(reversed(grads.items())))
    assert same(values(params), expected)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda g: np.repeat(g, 2, axis=-1)[..., ::2], lambda g: np.moveaxis(np.moveaxis(g, -1, 0).copy(), 0, -1)]
)
def test_the_memory_of_a_gradient_changes_nothing(layout):
    """Its elements are taken in their own order, not in that of its memory."""
    params, free = leaves(), leaves()
    grads = draw(np.random.default_rng(0), params)
    AdamW(params, lr=0.1).step({path: layout(g) if g.ndim else g for path, g in grads.items()})
    AdamW(free, lr=0.1).step(grads)
    assert same(values(params), values(free))


def test_a_parameter_without_a_gradient_is_left_alone():
    """All zeros move nothing, whatever the rule; with momentum only what earlier gradients began."""
    for kind, _, settings in RULES.values():
        params = leaves()
        before = values(params)
        opt = kind(params, lr=0.1, weight_decay=0.0, **settings)
        opt.step({path: np.zeros_like(x) for path, x in before.items()})
        assert same(values(params), before)


def test_a_gradient_is_never_written_and_may_be_read_only():
    params = leaves()
    grads = draw(np.random.default_rng(0), params)
    copies = {path: g.copy() for path, g in grads.items()}
    for g in grads.values():
        g.flags.writeable = False
    for kind, _, settings in RULES.values():
        kind(leaves(), lr=0.1, weight_decay=0.1, **settings).step(grads)
    assert same(grads, copies)


def test_a_gradient_in_the_parameters_own_memory():
    """The gradient of |w|^2 / 2 is w: the update must read it before it writes it."""
    a, b = Tensor(np.arange(1.0, 5.0)), Tensor(np.arange(5.0, 9.0))
    opt = AdamW([a, b], lr=0.1, weight_decay=0.5)
    free = [Tensor(a.value.copy()), Tensor(b.value.copy())]
    AdamW(free, lr=0.1, weight_decay=0.5).step([b.value.copy(), a.value.copy()])
    opt.step([b.value, a.value])
    assert np.array_equal(a.value, free[0].value) and np.array_equal(b.value, free[1].value)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 5)])
def test_a_gradient_that_is_the_parameter_itself(shape):
    w = Tensor(np.random.default_rng(0).normal(size=shape))
    free = Tensor(w.value.copy())
    opt, reference = AdamW(w, lr=0.1, weight_decay=0.5), AdamW(free, lr=0.1, weight_decay=0.5)
    for _ in range(3):
        reference.step(free.value.copy())
        opt.step(w.value)
    assert np.array_equal(w.value, free.value)


def test_centred_rmsprop_of_a_constant_gradient_stays_finite():
    """The variance of a constant is zero, which rounding may leave below zero: its root must not be NaN."""
    w, g = Tensor(np.zeros(1000, np.float32)), np.random.default_rng(0).normal(size=1000).astype(np.float32)
    opt = RMSProp(w, lr=1e-9, alpha=0.3, centered=True)
    for _ in range(50):
        opt.step(g)
    state = opt.state_dict()
    assert np.any(state["v"][""] < state["a"][""] ** 2), "this test needs a rounding below zero"
    assert np.isfinite(w.value).all()


def test_decay_by_predicate_by_names_and_for_all():
    grads = {path: np.zeros(shape) for path, shape in SHAPES.items()}
    for decay, chosen in [
        (None, set(SHAPES)),
        (lambda path, t: t.ndim >= 2, {"w", "none", "deep.w"}),
        ({path: path == "b" for path in SHAPES}, {"b"}),
        (lambda path, t: path.startswith("deep"), {"deep.w"}),
    ]:
        params = leaves()
        before = values(params)
        AdamW(params, lr=0.1, weight_decay=0.5, decay=decay).step(grads)
        for path, t in params.items():
            assert np.allclose(t.value, before[path] * (0.95 if path in chosen else 1.0), rtol=1e-15, atol=0)
    with pytest.raises(ValueError, match=r"AdamW: decay lacks \['b', 'deep.w', 'none', 'scale'\] and has unexpected \['x'\]"):
        AdamW(leaves(), lr=0.1, decay={"w": True, "x": False})


def test_adamw_decays_all_by_default():
    w = Tensor(np.ones(2))
    AdamW(w, lr=0.1).step(np.zeros(2))
    assert np.array_equal(w.value, np.full(2, 1 - 0.1 * 0.01))


# --- what is refused, with nothing changed -----------------------------------------------


def refused(error, message, act, params, opt):
    before, state, versions = values(params), opt.state_dict(), [t.node.version for t in params.values()]
    with pytest.raises(error, match=message) as info:
        act()
    assert "\n" not in str(info.value)
    assert same(values(params), before) and versions == [t.node.version for t in params.values()]
    after = opt.state_dict()
    assert after["steps"] == state["steps"] and all(same(after[name], state[name]) for name in opt.moments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("path, index", [("w", (6, 4)), ("scale", ()), ("deep.w", (1, 0, 3))])
def test_a_gradient_that_is_not_finite_is_refused_by_name(path, index, bad):
    params, rng = leaves(np.float32), np.random.default_rng(0)
    opt = AdamW(params, lr=0.1)
    opt.step(draw(rng, params))
    grads = draw(rng, params)
    grads[path][index] = bad
    place = f"the gradient of {path} {params[path].shape} is {np.float32(bad)} at {index}"
    refused(FloatingPointError, place.replace("(", r"\(").replace(")", r"\)"), lambda: opt.step(grads), params, opt)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_bad_element_is_found_wherever_it_stands(n, bad):
    for i in range(n):
        w = Tensor(np.ones(n, np.float32))
        g = np.ones(n, np.float32)
        g[i] = bad
        with pytest.raises(FloatingPointError, match=rf"at \({i},\)"):
            AdamW(w, lr=0.1).step(g)
        assert np.array_equal(w.value, np.ones(n))


def test_a_gradient_that_is_only_large_is_not_refused():
    w = Tensor(np.ones(4, np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt = AdamW(w, lr=0.1)
        with np.errstate(all="raise"):
            opt.step(np.full(4, 1e30, np.float32))  # its square overflows
    assert np.isfinite(w.value).all() and opt.steps == 1


@pytest.mark.parametrize(
    "error, message, change",
    [
        (ValueError, r"grads lacks \['b'\] and has unexpected \[\]", lambda g: g.pop("b")),
        (ValueError, r"has unexpected \['x'\]", lambda g: g.update(x=np.ones(1))),
        (ValueError, r"the gradient of w has shape \(5, 7\), expected \(7, 5\)", lambda g: g.update(w=g["w"].T)),
        (ValueError, r"the gradient of scale has shape \(1,\)", lambda g: g.update(scale=np.ones(1))),
        (TypeError, "the gradient of b has dtype float32, expected float64", lambda g: g.update(b=g["b"].astype(np.float32))),
        (TypeError, "the gradient of b is Tensor", lambda g: g.update(b=Tensor(g["b"]))),
        (TypeError, "the gradient of b is NoneType None, expected an array", lambda g: g.update(b=None)),
    ],
)
def test_gradients_that_do_not_fit_are_refused(error, message, change):
    params = leaves()
    opt = Adam(params, lr=0.1)
    grads = draw(np.random.default_rng(0), params)
    change(grads)
    refused(error, message, lambda: opt.step(grads), params, opt)


@pytest.mark.parametrize("lr", [-1.0, np.nan, np.inf])
def test_a_learning_rate_that_is_none(lr):
    params = leaves()
    opt = SGD(params, lr=0.1)
    refused(ValueError, "SGD: lr is", lambda: opt.step(draw(np.random.default_rng(0), params), lr=lr), params, opt)
    with pytest.raises(ValueError, match="SGD: lr is"):
        SGD(params, lr=lr)


def test_a_parameter_that_was_given_another_array():
    params = leaves()
    opt = SGD(params, lr=0.1)
    params["b"].value = np.zeros(5)
    with pytest.raises(RuntimeError, match="SGD: b was given another array"):
        opt.step(draw(np.random.default_rng(0), params))


@pytest.mark.parametrize(
    "error, message, make",
    [
        (TypeError, r"Adam: params\.0 is ndarray \(2,\) float64, expected a Tensor that is a leaf", lambda w: Adam([np.ones(2)], lr=1)),
        (TypeError, r"params\.0 is the result of an operation", lambda w: Adam([w * 2], lr=1)),
        (TypeError, r"params is float16, which cannot hold small updates", lambda w: Adam(Tensor(np.ones(2, np.float16)), lr=1)),
        (ValueError, r"params\.1 is params\.0 again", lambda w: Adam([w, w], lr=1)),
        (ValueError, r"two members with the path 'a\.b'", lambda w: Adam({"a.b": w, "a": {"b": Tensor(np.ones(1))}}, lr=1)),
        (ValueError, r"betas\[1\] is 1\.0", lambda w: Adam(w, lr=1, betas=(0.9, 1.0))),
        (ValueError, r"eps is -1", lambda w: Adam(w, lr=1, eps=-1)),
        (ValueError, r"weight_decay is nan", lambda w: AdamW(w, lr=1, weight_decay=math.nan)),
        (ValueError, r"momentum is 1", lambda w: SGD(w, lr=1, momentum=1)),
        (ValueError, r"nesterov=True needs a momentum", lambda w: SGD(w, lr=1, nesterov=True)),
        (NotImplementedError, "Optimizer has no update rule", lambda w: Optimizer(w, lr=1).step(np.ones(2))),
    ],
)
def test_arguments_that_make_no_sense(error, message, make):
    with pytest.raises(error, match=message):
        make(Tensor(np.ones(2)))


def test_two_leaves_in_the_same_memory():
    model = {"a": Tensor(np.ones(3))}
    view = tree.frozen(model)
    tree.unfreeze(view)
    with pytest.raises(ValueError, match="shares memory with params"):
        SGD([model["a"], view["a"]], lr=1)


def test_a_step_makes_earlier_graphs_stale():
    params = leaves()
    opt = SGD(params, lr=0.1)
    loss = (params["w"] * params["w"]).sum()
    opt.step(draw(np.random.default_rng(0), params))
    with pytest.raises(RuntimeError, match="stale graph"):
        gradients(loss, params)


# --- Ctrl-C -----------------------------------------------------------------------------


def test_a_step_under_ctrl_c_is_applied_wholly(monkeypatch):
    """A signal at every chunk in turn: the parameters, moments and count are those of the whole step."""
    monkeypatch.setattr(optimizer_module, "CHUNK", 8)

    class Interrupted(AdamW):
        def update(self, *args):
            if self.calls == self.at:
                signal.raise_signal(signal.SIGINT)
            self.calls += 1
            super().update(*args)

    grads = draw(np.random.default_rng(3), leaves())
    expected = leaves()
    reference = AdamW(expected, lr=0.1)
    reference.step(grads)
    for at in range(len(reference.chunks)):
        params = leaves()
        opt = Interrupted(params, lr=0.1)
        opt.calls, opt.at = 0, at
        with pytest.raises(KeyboardInterrupt):
            opt.step(grads)
        assert same(values(params), values(expected)) and opt.steps == 1
        assert all(same(opt.state_dict()[name], reference.state_dict()[name]) for name in "mv")
        assert all(t.node.version for t in params.values())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- states -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_state_continues_bit_for_bit(rule):
    kind, _, settings = RULES[rule]
    params, rng = leaves(np.float32), np.random.default_rng(5)
    opt = kind(params, lr=0.1, **settings)
    for _ in range(3):
        opt.step(draw(rng, params))
    state, kept = opt.state_dict(), values(params)
    other = {path: Tensor(x) for path, x in kept.items()}
    resumed = kind(other, lr=0.1, **settings)
    resumed.load_state_dict(state)
    for _ in range(3):
        grads = draw(rng, params)
        opt.step(grads)
        resumed.step(grads)
    assert same(values(params), values(other)) and resumed.steps == 6
    assert state["steps"] == 3 and set(state) == {"steps", *opt.moments}
    assert all(list(state[name]) == list(params) for name in opt.moments)


def test_an_older_state_turns_the_optimizer_back():
    w = Tensor(np.ones(2))
    opt = AdamW(w, lr=0.1)
    opt.step(np.ones(2))
    state, then = opt.state_dict(), w.value.copy()
    opt.step(np.ones(2))
    after = w.value.copy()
    opt.step(np.ones(2))
    opt.load_state_dict(state)
    w.value[...] = then
    opt.step(np.ones(2))
    assert opt.steps == 2 and np.array_equal(w.value, after)


def test_a_state_is_a_copy_both_ways():
    w = Tensor(np.ones(2))
    opt = SGD({"w": w}, lr=0.1, momentum=0.9)
    opt.step({"w": np.ones(2)})
    state = opt.state_dict()
    state["m"]["w"] += 1
    assert np.array_equal(opt.state_dict()["m"]["w"], np.ones(2))
    opt.load_state_dict(state)
    state["m"]["w"] += 1
    assert np.array_equal(opt.state_dict()["m"]["w"], np.full(2, 2.0))


@pytest.mark.parametrize(
    "message, change",
    [
        ("the state has", lambda s: s.pop("m")),
        ("the state has", lambda s: s.update(x={})),
        ("steps is -1", lambda s: s.update(steps=-1)),
        ("steps is 1.0", lambda s: s.update(steps=1.0)),
        (r"the state's v lacks \['b'\]", lambda s: s["v"].pop("b")),
        (r"the state's v of w is ndarray \(5, 7\) float64, expected an array \(7, 5\) float64", lambda s: s["v"].update(w=s["v"]["w"].T)),
        (r"the state's m of b is ndarray \(5,\) float32", lambda s: s["m"].update(b=s["m"]["b"].astype(np.float32))),
        ("the state's m of b is int 3", lambda s: s["m"].update(b=3)),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(message, change):
    params = leaves()
    opt = Adam(params, lr=0.1)
    opt.step(draw(np.random.default_rng(0), params))
    state = opt.state_dict()
    for name in "mv":
        state[name] = {path: m + 1 for path, m in state[name].items()}
    change(state)
    refused(ValueError, message, lambda: opt.load_state_dict(state), params, opt)


# --- schedules --------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, "a", "0.1", [0.1], np.array([0.1, 0.2])])
def test_a_rate_is_a_number(rate):
    w = Tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"^SGD: lr is .*, expected a number of at least 0$"):
        SGD({"w": w}, lr=rate)
    if rate is not None:  # None: the optimizer's own
        with pytest.raises(TypeError, match=r"^SGD: lr is .*, expected a number of at least 0$"):
            SGD({"w": w}, lr=0.1).step({"w": np.ones(3)}, lr=rate)


def test_warmup_rises_in_a_line_from_above_zero():
    assert [linear_warmup(s, peak=2.0, warmup=4) for s in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert linear_warmup(0, peak=2.0, warmup=0) == 2.0 and constant(7, peak=2.0) == 2.0


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_decay_meets_its_corners(schedule):
    at = lambda s: schedule(s, peak=1.0, steps=110, warmup=10, floor=0.1)
    assert [at(0), at(9), at(10)] == [0.1, 1.0, 1.0]
    assert math.isclose(at(60), 0.55) and math.isclose(at(110), 0.1) and at(10**6) == at(110)
    quarter = 0.1 + 0.9 * (0.75 if schedule is linear else (1 + math.sqrt(0.5)) / 2)
    assert math.isclose(at(35), quarter)
    assert all(at(s) > at(s + 1) for s in range(10, 110))
    assert schedule(5, peak=1.0, steps=5, warmup=5, floor=0.25) == 0.25  # no room left: the floor


def test_noam():
    width, warmup = 512, 4000
    for step in (0, 10, 3999, 4000, 99_999):
        t = step + 1
        expected = width**-0.5 * min(t**-0.5, t * warmup**-1.5)
        assert math.isclose(inverse_square_root(step, peak=(width * warmup) ** -0.5, warmup=warmup), expected)


def test_one_cycle_rises_and_falls():
    rates = [one_cycle(s, peak=1.0, steps=100) for s in range(100)]
    assert math.isclose(rates[0], 1 / 25) and math.isclose(max(rates), 1.0) and rates.index(max(rates)) == 29
    assert math.isclose(rates[-1], 1 / 250_000) and rates == sorted(rates[:30]) + sorted(rates[30:], reverse=True)
    assert [one_cycle(s, peak=1.0, steps=2) for s in range(2)][-1] == pytest.approx(1 / 250_000)


# --- clipping, sums, averages ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", ["one", "huge", "tiny"])
def test_global_norm_neither_overflows_nor_underflows(dtype, scale):
    factor = {"one": 1.0, "huge": float(np.finfo(dtype).max) / 1e3, "tiny": float(np.finfo(dtype).tiny) * 1e3}[scale]
    rng = np.random.default_rng(0)
    grads = {
        "a": rng.uniform(-1, 1, (30, 4)).astype(dtype) * dtype(factor),
        "b": [rng.uniform(-1, 1, 7).astype(dtype) * dtype(factor), np.zeros((0, 2), dtype)],
    }
    flat = np.concatenate([g.ravel() for g in (grads["a"], *grads["b"])]).astype(L)
    expected = np.sqrt(np.sum(flat * flat)) if np.finfo(L).maxexp > 2000 else L(factor) * np.sqrt(np.sum((flat / L(factor)) ** 2))
    assert math.isclose(global_norm(grads), float(expected), rel_tol=100 * np.finfo(dtype).eps)
    assert global_norm({}) == 0 and global_norm(np.zeros(3, dtype)) == 0
    assert math.isclose(global_norm(np.full(2, -factor, dtype)), math.sqrt(2) * factor, rel_tol=10 * np.finfo(dtype).eps)


def test_clipping_scales_to_the_norm_and_changes_no_argument():
    grads = {"a": np.array([3.0, 0.0]), "b": [np.array(4.0)]}
    clipped, norm = clip_by_global_norm(grads, 1.0)
    assert norm == 5.0 and math.isclose(global_norm(clipped), 1.0)
    assert np.allclose(clipped["a"], [0.6, 0]) and np.allclose(clipped["b"][0], 0.8) and np.array_equal(grads["a"], [3, 0])
    assert clip_by_global_norm(grads, 5.0)[0] is grads
    halved, norm = clip_by_global_norm([np.ones(4, np.float32)], 1.0)
    assert norm == 2.0 and halved[0].dtype == np.float32
    for bad in (np.inf, np.nan):
        same_grads, norm = clip_by_global_norm([np.array([1.0, bad])], 1.0)
        assert not math.isfinite(norm) and np.array_equal(same_grads[0], [1.0, bad], equal_nan=True)
    with pytest.raises(ValueError, match="max_norm is 0"):
        clip_by_global_norm(grads, 0)


def test_micro_batches_add_up_to_the_batch():
    w, x = Tensor(np.random.default_rng(0).normal(size=3)), np.random.default_rng(1).normal(size=(8, 3))
    loss = lambda rows: ((rows @ w) ** 2).mean()
    whole = gradients(loss(x), {"w": w})
    parts = [gradients(loss(x[i : i + 2]), {"w": w}) for i in range(0, 8, 2)]
    first = parts[0]["w"].copy()
    assert np.allclose(average(iter(parts))["w"], whole["w"]) and np.allclose(accumulate(parts)["w"], 4 * whole["w"])
    assert np.array_equal(parts[0]["w"], first)
    scalars = average([{"s": np.float32(1)}, {"s": np.float32(2)}])["s"]
    assert scalars == 1.5 and scalars.dtype == np.float32


@pytest.mark.parametrize(
    "second, message",
    [
        ({"a": np.ones(3)}, r"a is ndarray \(3,\) float64, expected an array \(2,\) float64"),
        ({"a": np.ones(2, np.float32)}, "a is ndarray"),
        ({"b": np.ones(2)}, "a is NoneType"),
        ({"a": np.ones(2), "b": np.ones(2)}, r"structure 1 has \['b'\]"),
    ],
)
def test_sums_of_unlike_structures(second, message):
    with pytest.raises(ValueError, match=message):
        accumulate([{"a": np.ones(2)}, second])
    with pytest.raises(ValueError, match="got no gradients"):
        accumulate([])


class Small:
    def __init__(self):
        self.w = self.again = Tensor(np.arange(3.0))
        self.mean = np.zeros(2)
        self.count = np.array(0)

    def __call__(self, x):
        return x @ self.w


def test_ema_follows_its_formula_and_keeps_the_models_shape():
    model, ema = Small(), EMA(Small(), decay=0.5)
    expected = np.arange(3.0)
    for t in range(20):
        model.w.value = np.random.default_rng(t).normal(size=3)
        model.mean += 1
        model.count += 1
        d = min(0.5, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * model.w.value
        ema.update(model)
        assert np.allclose(ema.averages.w, expected, rtol=1e-13)
    assert ema.averages.w is ema.averages.again and type(ema.averages(np.ones(3))) is np.float64
    assert ema.averages.mean[0] == 20 and ema.averages.count == 20 and ema.averages.count.dtype == np.int64


def test_ema_of_a_dict_and_its_state():
    params = {"w": Tensor(np.zeros(2)), "s": Tensor(np.array(0.0))}
    ema, other = EMA(params), EMA(params)
    params["w"].value[:], params["s"].value[...] = 1, 1
    ema.update(params)
    assert np.allclose(ema.averages["w"], 0.9) and np.allclose(ema.averages["s"], 0.9)
    other.load_state_dict(ema.state_dict())
    other.update(params)
    ema.update(params)
    assert other.updates == 2 and same(ema.averages, other.averages)
    with pytest.raises(ValueError, match="other paths or shapes"):
        ema.update({"w": params["w"]})
    with pytest.raises(ValueError, match="missing: s"):
        ema.load_state_dict({"updates": 1, "averages": {"w": np.ones(2)}})
    with pytest.raises(ValueError, match="EMA: the state has"):
        ema.load_state_dict({"updates": -1, "averages": ema.state_dict()["averages"]})
    with pytest.raises(ValueError, match="decay is 1"):
        EMA(params, decay=1)
    assert same(ema.averages, other.averages)


def test_training_fits_a_line():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = x @ np.array([1, -2, 3], np.float32) + np.float32(0.5)
    for kind, rate in [(SGD, 0.1), (Adam, 0.1), (AdamW, 0.1), (Adagrad, 0.5), (RMSProp, 0.1), (Lion, 0.1)]:
        model = {"w": Tensor(np.zeros(3, np.float32)), "b": Tensor(np.float32(0))}
        opt = kind(model, lr=rate, weight_decay=0.0)
        for step in range(200):
            loss = ((x @ model["w"] + model["b"] - y) ** 2).mean()
            grads, _ = clip_by_global_norm(gradients(loss, model), 10.0)
            opt.step(grads, lr=cosine(step, peak=rate, steps=200, warmup=5))
        assert loss.item() < 1e-3, kind
        assert all(t.dtype == np.float32 for t in model.values())


@pytest.mark.parametrize("rule", [SGD, Adagrad, Adam, AdamW, Lion, RMSProp])
@pytest.mark.parametrize("params", [{}, [], {"a": []}], ids=str)
def test_an_optimizer_of_nothing_is_refused(rule, params):
    with pytest.raises(ValueError, match=rf"^{rule.__name__}: params has no Tensor in it, so nothing would be trained[^\n]*$"):
        rule(params, lr=0.1)


@pytest.mark.parametrize("rule", [Adam, AdamW, Lion])
@pytest.mark.parametrize("betas", [3, None, (0.9,), (0.9, 0.99, 0.999)], ids=str)
def test_betas_are_two(rule, betas):
    with pytest.raises(TypeError, match=rf"^{rule.__name__}: betas is [^\n]*, expected a pair of numbers[^\n]*$"):
        rule(Tensor(np.ones(2)), lr=0.1, betas=betas)
    with pytest.raises(TypeError, match=r"betas\[1\] is str a, expected a number from 0 up to"):
        rule(Tensor(np.ones(2)), lr=0.1, betas=(0.9, "a"))


def test_settings_that_are_no_numbers():
    with pytest.raises(TypeError, match=r"^EMA: decay is str a, expected a number from 0 up to, but not including, 1$"):
        EMA(Tensor(np.ones(2)), decay="a")
    with pytest.raises(TypeError, match=r"^clip_by_global_norm: max_norm is str a, expected a number above 0$"):
        clip_by_global_norm([np.ones(2)], "a")
