"""replay: repeated steps train as steps on the tape do, for every model; what cannot be repeated is refused, never wrong."""

import copy
import os
import threading
import tracemalloc

import tinygrad_notes as tn
from models.adaptation import lora
from models.diffusion import ddpm, unet
from models.language import bert, gpt, gpt1, transformer
from models.multimodal import clip
from models.vision import vit
from tests.test_random_programs import random_program, run
from tinygrad_notes import check, nn, optim
from tinygrad_notes import functional as F
from tinygrad_notes.fused.rows import ones
from tinygrad_notes.recording import Recorder
from tinygrad_notes.recording.program import pack
from tinygrad_notes.replay import WAYS, replay

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.random.default_rng(1).normal(size=(6, 2))
TABLE = np.ones((2, 3))


def linear(dtype=np.float64):
    model = nn.Linear(3, 2, rng=np.random.default_rng(2), dtype=dtype)
    return model, tn.parameters(model)


def squares(model):
    return lambda x, y: F.mse(model(x), y)


def recorded(step, *batch, **kwargs):
    """The step after its first two calls: from now on it repeats."""
    step(*batch, **kwargs)
    step(*batch, **kwargs)
    return step


# --- every model ----------------------------------------------------------------------------------


def of_gpt(rng, dtype):
    model = gpt.GPT(gpt.Config.tiny(dtype=dtype, dropout=0.1), rng)
    return model, gpt.loss, lambda r: (r.integers(0, 11, (3, 7)), r.integers(0, 11, (3, 7))), True


def of_gpt1(rng, dtype):
    model = gpt1.Classifier(gpt1.Config.tiny(dtype=dtype), rng)
    loss = lambda m, ids, last, labels, rng: gpt1.fine_tuning_loss(m, ids, last, labels, rng=rng)
    return model, loss, lambda r: (r.integers(0, 10, (2, 8)), r.integers(3, 8, 2), r.integers(0, 2, 2)), True


def of_bert(rng, dtype):
    model = bert.PreTraining(bert.Config.tiny(dtype=dtype), rng)

    def batch(r):
        ids = r.integers(4, 12, (3, 8))
        targets = np.full((3, 8), bert.IGNORED)
        targets[:, r.choice(8, 2, replace=False)] = r.integers(4, 12, (3, 2))  # always as many
        return ids, (np.arange(8) > 4) * np.ones((3, 1), int), np.ones((3, 8), bool), targets, r.integers(0, 2, 3)

    return model, bert.loss, batch, True


def of_transformer(rng, dtype):
    model = transformer.Transformer(transformer.Config.tiny(dtype=dtype), rng)

    def batch(r):
        tgt = r.integers(3, 11, (3, 6))
        tgt[:, -1] = 2
        return r.integers(3, 10, (3, 5)), tgt

    return model, transformer.loss, batch, True


def of_vit(rng, dtype):
    return (
        vit.ViT(vit.Config.tiny(dtype=dtype), rng),
        vit.loss,
        lambda r: (r.normal(size=(4, 1, 8, 8)).astype(dtype), r.integers(0, 5, 4)),
        True,
    )


def of_clip(rng, dtype):
    model = clip.CLIP(clip.Config.tiny(dtype=dtype), rng)
    loss = lambda m, images, ids: clip.loss(m, images, ids)
    ids = np.array([[9, 1, 4, 10, 0], [9, 10, 0, 0, 0], [9, 5, 2, 6, 10]])
    return model, loss, lambda r: (r.normal(size=(3, 1, 8, 8)).astype(dtype), r.permutation(ids)), False


def of_unet(rng, dtype):
    model = unet.UNet(unet.Config.tiny(dtype=dtype), rng)
    process = ddpm.Diffusion(ddpm.cosine_betas(20))
    c = model.config
    loss = lambda m, x0, rng: ddpm.loss(m, process, x0, rng)
    return model, loss, lambda r: (r.normal(size=(2, c.channels, c.size, c.size)).astype(dtype),), True


def of_lora(rng, dtype):
    base = gpt.GPT(gpt.Config.tiny(dtype=dtype), rng)
    adapter = lora.adapter(base, lora.Config.tiny(), rng)
    loss = lambda m, ids, targets: gpt.loss(lora.attach(base, m), ids, targets)
    return adapter, loss, lambda r: (r.integers(0, 11, (3, 7)), r.integers(0, 11, (3, 7))), False


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("of", [of_gpt, of_gpt1, of_bert, of_transformer, of_vit, of_clip, of_unet, of_lora])
def test_every_model_trains_as_on_the_tape(of, dtype):
    trained = []
    for replayed in (False, True):
        model, loss, batch, draws = of(np.random.default_rng(0), dtype)
        params = tn.parameters(model)
        opt = optim.AdamW(params, lr=1e-2)
        step = replay(lambda *b, model=model, loss=loss, **kw: loss(model, *b, **kw), params, opt, unused="raise")
        data, rng = np.random.default_rng(1), np.random.default_rng(2)
        losses = []
        for i in range(8):
            kwargs = {"rng": rng} if draws else {}
            if replayed:
                losses.append(step(*batch(data), lr=1e-2 / (1 + i), **kwargs))
            else:
                value = loss(model, *batch(data), **kwargs)
                losses.append(value.item())
                opt.step(tn.gradients(value, params, unused="raise"), 1e-2 / (1 + i))
        trained.append((losses, tn.state_dict(model), rng.random()))
    (losses, weights, draw), (mine, my_weights, my_draw) = trained
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(mine, losses, rtol=tolerance)
    assert draw == my_draw  # as many random numbers
    for name, w in weights.items():
        np.testing.assert_allclose(my_weights[name], w, rtol=0, atol=tolerance, err_msg=name)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_random_programs(seed):
    """Half of the inputs are params, the others come in the batch."""
    program, inputs = random_program(seed)
    rng = np.random.default_rng(seed)
    leaves, others = [tn.Tensor(x) for x in inputs[::2]], inputs[1::2]

    def loss(*others):
        rest = [iter(others), iter(leaves)]
        return run(program, [next(rest[i % 2 == 0]) for i in range(len(inputs))])

    step = replay(loss, leaves)
    for _ in range(4):
        value, grads = step(*others)
        expected = loss(*others)
        assert value == pytest.approx(expected.item(), rel=1e-13, abs=1e-15)
        for g, e in zip(grads, tn.gradients(expected, leaves)):
            np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-14)
        for t in leaves:
            t.value[...] += 0.01 * rng.normal(size=t.shape)
        others = [x + 0.01 * rng.normal(size=x.shape) for x in others]


# --- Python goes another way ------------------------------------------------------------------------


def counted(loss):
    """The loss, and a list that gets longer each time it runs as Python."""
    runs = []

    def f(*batch, **kwargs):
        runs.append(1)
        return loss(*batch, **kwargs)

    return f, runs


def test_the_loss_runs_only_to_be_recorded_and_to_compare():
    model, params = linear()
    loss, runs = counted(squares(model))
    step = replay(loss, params)
    for i in range(20):
        step(X + i, Y)
    assert len(runs) == 3 + 5  # as it stands; recorded, and compared; the repetitions 1, 2, 4, 8, 16 of 18 are compared
    for _ in range(2):
        step(X, Y + 1)
    assert len(runs) == 3 + 6  # Y had not changed so far


def test_a_repetition_that_took_another_way_was_not_compared():
    w, table = tn.Tensor(np.ones((1, 2))), np.arange(8.0).reshape(4, 2)

    def loss(x, i):
        return np.sum(w * table[i]) if x[0] > 0 else np.sum(w)

    step = replay(loss, w)
    step(np.ones(1), np.array([0]))
    step(np.ones(1), np.array([0]))
    step(-np.ones(1), np.array([1]))  # another way: what is new in it was not looked at
    with pytest.raises(ValueError, match=r"np\.take"):
        step(np.ones(1), np.array([2]))


def test_what_changes_later_is_noticed_in_the_end():
    w, scale = tn.Tensor(np.ones(3)), [1.0]
    step = recorded(replay(lambda x: np.sum(w * x) * scale[0], w), X[0])
    for i in range(3):
        step(X[i])
    scale[0] = 2.0
    with pytest.raises(ValueError, match="such as a counter"):
        for i in range(5):
            step(X[i])


def test_without_checks_the_loss_runs_twice():
    model, params = linear()
    loss, runs = counted(squares(model))
    step = replay(loss, params, check=False)
    for i in range(5):
        assert step(X + i, Y)[0] == pytest.approx(squares(model)(X + i, Y).item(), rel=1e-14)
    assert len(runs) == 2


def test_each_way_is_recorded_once_and_too_many_run_as_they_stand():
    w = tn.Tensor(np.ones(3))

    def loss(x):
        for i in range(WAYS + 2):
            if x[0] < i:
                return np.sum((w * x) ** 2) * (i + 1)
        return np.sum(w * x)

    loss_, runs = counted(loss)
    step = replay(loss_, w, check=False)
    for _ in range(3):
        for i in range(WAYS + 2):
            x = np.array([i - 0.5, 1.0, 2.0])
            value, g = step(x)
            expected = loss(x)
            assert value == expected.item()
            np.testing.assert_array_equal(g, tn.gradients(expected, w))
    assert len(runs) == 1 + WAYS + 1 + 2 * 2  # the first call and the recordings of the next ways; then there are two without one


def test_ignored_targets_and_none():
    logits = tn.Tensor(np.random.default_rng(0).normal(size=(5, 4)))
    step = replay(lambda targets: F.cross_entropy(logits, targets), logits)
    for targets in [[0, 1, 2, 3, 0], [0, 1, 2, 3, 1], [0, -100, 2, 3, 1], [1, 1, -100, -100, 1], [0, 1, 2, 3, 3]]:
        value, g = step(np.array(targets))
        expected = F.cross_entropy(logits, np.array(targets))
        assert value == pytest.approx(expected.item(), rel=1e-14)
        np.testing.assert_allclose(g, tn.gradients(expected, logits), rtol=1e-13)
    with pytest.raises(ValueError, match="all 5 targets are ignored"):
        step(np.full(5, -100))
    with pytest.raises(IndexError, match="target 4 is not in"):
        step(np.array([0, 1, 2, 3, 4]))


def test_a_mask_of_another_length():
    w = tn.Tensor(np.arange(4.0))
    step = replay(lambda x: np.sum(w[x > 0] * 2), w)
    for x in ([1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]):
        value, g = step(np.array(x))
        assert value == 2 * np.sum(np.arange(4)[np.array(x) > 0])
        np.testing.assert_array_equal(g, 2.0 * np.array(x))


def test_an_index_is_another_place_next_time():
    w = tn.Tensor(np.arange(12.0).reshape(4, 3))
    step = replay(lambda i: np.sum(w[i] * w[0]), w)
    for i in (1, 1, 2, 3, 0):
        value, g = step(np.array(i))
        assert value == np.sum(w.value[i] * w.value[0])
        np.testing.assert_array_equal(g, tn.gradients(np.sum(w[i] * w[0]), w))


def test_a_member_of_the_batch():
    w = tn.Tensor(np.arange(3.0))
    step = replay(lambda x: np.sum(w * x) if 2.0 in x else np.sum(w + x), w)
    for x in ([1.0, 2, 3], [1.0, 2, 3], [2.0, 1, 0], [1.0, 1, 3], [3.0, 3, 2]):
        assert step(x)[0] == (np.sum(w.value * x) if 2.0 in x else np.sum(w.value + x))


def test_results_that_are_written_into_ones_own_arrays():
    w = tn.Tensor(np.ones(4))

    def loss(x):
        both, total = np.empty((2, 4)), np.zeros(4)
        np.stack([x, 2 * x], out=both)
        np.add.at(total, [0, 0, 3], x[:3])
        total[1:3] = both[1, 1:3]
        np.put(total, 2, 7.0)
        return np.sum(w * both[1] * total)

    step = replay(loss, w)
    for i in range(4):
        x = np.arange(4.0) + i
        assert step(x)[0] == pytest.approx(loss(x).item(), rel=1e-14)


def test_an_array_that_holds_one_number_and_then_another():
    w = tn.Tensor(np.ones(3))

    def loss(x):
        count = np.zeros(3)
        before = x + count
        count += 1
        return np.sum(w * before * (x + count))

    step = replay(loss, w)
    for i in range(4):
        assert step(X[i])[0] == pytest.approx(loss(X[i]).item(), rel=1e-14)


@pytest.mark.parametrize("convert", [
    lambda x: np.asarray(x, np.float32) * np.float32(1.1), lambda x: np.array(x, dtype=np.float32) * 3, lambda x: (x * 2).view(np.ndarray) * 3,
    lambda x: np.array([x, x])[0] * 2, lambda x: np.ascontiguousarray(x[::-1]) * x, lambda x: np.asfortranarray(np.stack([x, x]))[1],
])  # fmt: skip
def test_conversions(convert):
    w = tn.Tensor(np.ones(3))
    step = replay(lambda x: np.sum(w * convert(x)), w, check=False)
    for i in range(4):
        assert step(X[i])[0] == pytest.approx(float(np.sum(convert(X[i]), dtype=np.float64)), rel=1e-14)


# --- random numbers ---------------------------------------------------------------------------------


def test_the_generator_that_comes_is_the_one_that_draws():
    w = tn.Tensor(np.ones(50))
    step = recorded(replay(lambda rng: np.sum(F.dropout(w, 0.5, rng) * rng.normal(size=50)), w), rng=np.random.default_rng(0))
    for seed in range(5):
        mine, other = np.random.default_rng(seed), np.random.default_rng(seed)
        value, g = step(rng=mine)
        expected = np.sum(F.dropout(w, 0.5, other) * other.normal(size=50))
        assert value == pytest.approx(expected.item(), rel=1e-14)
        np.testing.assert_array_equal(g, tn.gradients(expected, w))
        assert mine.random() == other.random()


def test_a_draw_before_another_way_is_drawn_once():
    w = tn.Tensor(np.ones(3))

    def loss(rng):
        z = rng.normal(size=3)
        return np.sum(w * z) if z[0] > 0 else np.sum(w * w * z)

    step, mine, other = replay(loss, w), np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(20):
        assert step(rng=mine)[0] == pytest.approx(loss(other).item(), rel=1e-14)


def test_draws_of_ones_own_generator_are_noticed():
    w, rng = tn.Tensor(np.ones(3)), np.random.default_rng(0)
    step = replay(lambda x: np.sum(w * x * rng.normal(size=3)), w)
    step(X[0])
    with pytest.raises(ValueError, match="something besides NumPy's functions"):
        step(X[0])


# --- what cannot be repeated ---------------------------------------------------------------------------


def test_a_counter_is_noticed():
    w, steps = tn.Tensor(np.ones(3)), []

    def loss(x):
        steps.append(1)
        return np.sum(w * x) * len(steps)

    step = replay(loss, w)
    step(X[0])
    with pytest.raises(ValueError, match="such as a counter"):
        step(X[0])


def test_another_gradient_is_noticed():
    w, signs = tn.Tensor(np.zeros(3)), [1.0]
    step = recorded(replay(lambda x: np.sum(w * x) * signs[0], w), X[0])
    signs[0] = -1.0  # the value is 0 in any case
    with pytest.raises(ValueError, match="has other gradients"):
        step(X[0])


@pytest.mark.parametrize("loss", [
    lambda w, x: w @ x * float(x.sum()), lambda w, x: w @ x * x.sum().item(), lambda w, x: w @ x * int(x[0] * 10),
    lambda w, x: w @ x * x.tolist()[0], lambda w, x: np.sum(w[: int(abs(x[0]))] * 2), lambda w, x: w @ x * np.float64(sum(float(v) for v in x)),
])  # fmt: skip
def test_numbers_that_are_read_out_are_refused(loss):
    w = tn.Tensor(np.ones(3))
    step = replay(lambda x: loss(w, x), w)
    step(X[0])
    with pytest.raises(TypeError, match="a number is read out of an array"):
        step(X[0])


def test_numbers_that_never_change_may_be_read():
    w = tn.Tensor(np.ones(3))
    step = recorded(replay(lambda x: w @ x * float(np.ones(3).sum()) * np.arange(3).tolist()[2], w), X[0])
    assert step(X[1])[0] == pytest.approx(6 * X[1].sum())


def test_an_array_from_outside_may_be_read_but_not_changed():
    w, mean, scale = tn.Tensor(np.ones(3)), np.zeros(3), np.full(3, 2.0)

    def loss(x):
        mean.__iadd__(x)
        return np.sum(w * x)

    step = replay(loss, w)
    step(X[0])
    with pytest.raises(TypeError, match=r"an array \(3,\) float64 from outside is changed"):
        step(X[0])

    def in_the_batch(x):
        x[0] = 1.0
        return np.sum(w * x)

    step = replay(in_the_batch, w)
    step(X[0].copy())
    with pytest.raises(TypeError, match="from outside is changed"):
        step(X[0].copy())
    step = recorded(replay(lambda x: np.sum(w * x * scale), w), X[0])
    scale[...] = 5.0
    assert step(X[0])[0] == pytest.approx(5 * X[0].sum())


@pytest.mark.parametrize("use", [
    lambda x: np.stack([x, x], out=TABLE), lambda x: np.copyto(TABLE[0], x), lambda x: TABLE.__imul__(x), lambda x: np.add.at(TABLE, 0, x),
    lambda x: np.array([x, None], dtype=object), lambda x: np.ndarray.copy(x) * 2,
])  # fmt: skip
def test_what_is_written_outside_or_not_seen_is_refused(use):
    w = tn.Tensor(np.ones(3))

    def loss(x):
        use(x)
        return np.sum(w * x)

    step = replay(loss, w, check=False)
    step(X[0])
    with pytest.raises(TypeError, match="cannot be repeated"):
        step(X[0])


@pytest.mark.parametrize("change", [lambda x: x.flat.__setitem__(0, 1.0), lambda x: x.byteswap(True)])
def test_methods_that_change_unseen_are_refused(change):
    w = tn.Tensor(np.ones(3))

    def loss(x):
        x = x * 2
        change(x)
        return np.sum(w * x)

    step = replay(loss, w)
    step(X[0])
    with pytest.raises(TypeError, match="an array is used by its"):
        step(X[0])


def test_running_statistics_are_refused():
    model = nn.BatchNorm1d(3)
    params = tn.parameters(model)
    step = replay(lambda x: np.sum(model(x, train=True) ** 2), params)
    step(X)
    with pytest.raises(TypeError, match="from outside is changed"):
        step(X)


def test_a_checkpoint_draws_again_what_it_drew():
    w = tn.Tensor(np.ones(30))
    f = tn.checkpoint(lambda w, rng: F.dropout(np.tanh(w), 0.5, rng))

    def loss(rng):
        return np.sum(f(w, rng) ** 2)

    step = replay(loss, w)
    for seed in range(6):
        mine, other = np.random.default_rng(seed), np.random.default_rng(seed)
        value, g = step(rng=mine)
        expected = loss(other)
        assert value == pytest.approx(expected.item(), rel=1e-13)
        np.testing.assert_allclose(g, tn.gradients(expected, w), rtol=1e-13)
        assert mine.random() == other.random()


# --- memory -------------------------------------------------------------------------------------------


def test_gradients_are_ones_own():
    model, params = linear()
    step = recorded(replay(squares(model), params), X, Y)
    _, first = step(X, Y)
    kept = copy.deepcopy(first)
    _, second = step(X + 1, Y)
    for name, g in first.items():
        np.testing.assert_array_equal(g, kept[name])
        assert not np.shares_memory(g, second[name])
        g += 1
    np.testing.assert_allclose(step(X, Y)[1]["weight"], kept["weight"], rtol=1e-14)


def test_what_the_loss_keeps_of_a_recorded_step_is_an_array():
    w, kept = tn.Tensor(np.ones(3)), []

    def loss(x):
        y = w * x
        kept.append((y.value, x))
        return np.sum(y)

    step = recorded(replay(loss, w), X[0])
    y, x = kept[1]
    step(X[1])
    assert np.array_equal(y, X[0]) and np.array_equal(y * 2, 2 * X[0]) and y.sum() == X[0].sum() and float(y[0]) == X[0, 0]
    assert type(y * 2) is np.ndarray and type(np.concatenate([y, y])) is np.ndarray and y.tolist() == X[0].tolist()
    y[0] = 5.0
    assert x[0] != 5.0 and repr(y).startswith("array(")


def test_weights_that_got_another_array_are_recorded_again():
    model, params = linear()
    loss, runs = counted(squares(model))
    step = recorded(replay(loss, params, check=False), X, Y)
    optim.SGD(params, lr=0.1)  # moves the weights
    assert step(X, Y)[0] == squares(model)(X, Y).item()
    model.weight.value = model.weight.value * 2
    assert step(X, Y)[0] == squares(model)(X, Y).item()
    assert len(runs) == 4


def test_shapes_dtypes_and_numbers_are_recorded_apart():
    model, params = linear()
    loss, runs = counted(lambda x, y, scale=1.0: F.mse(model(x) * scale, y))
    step = replay(loss, params, check=False)
    for batch in [(X, Y), (X[:2], Y[:2]), (X, Y, 2.0), (X, Y, 1.0), (X.astype(np.float32), Y)] * 4:
        value, grads = step(*batch)
        expected = loss(*batch)
        assert value == pytest.approx(expected.item(), rel=1e-12)
        np.testing.assert_allclose(grads["weight"], tn.gradients(expected, params)["weight"], rtol=1e-10)
    assert len(runs) == 20 + 2 * 5  # 20 of this test


def test_only_so_many_shapes_are_kept():
    w = tn.Tensor(np.ones(1))
    loss, runs = counted(lambda x: np.sum(w * x))
    step = replay(loss, w, check=False)
    for n in list(range(1, 40)) * 3:
        assert step(np.ones(n))[0] == n
    assert len(runs) == 3 * 39  # none was there still when its shape came again
    runs.clear()
    for n in range(50, 150):
        step(np.ones(n))
        step(np.ones(45))
    assert len(runs) == 100 + 2  # this one was always used last


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 300)), max_size=30))
def test_memory_that_is_needed_at_one_time_does_not_overlap(needs):
    needs = [(min(a, b), max(a, b), size, i) for i, (a, b, size) in enumerate(needs)]
    begins, total = pack(needs)
    for i, (first, last, size, key) in enumerate(needs):
        assert begins[key] % 64 == 0 and begins[key] + size <= total
        for first_, last_, size_, key_ in needs[:i]:
            apart = last < first_ or last_ < first
            assert apart or not (size and size_) or begins[key] + size <= begins[key_] or begins[key_] + size_ <= begins[key]
    peak = max((sum(-(-s // 64) * 64 for f, l, s, _ in needs if f <= t <= l) for t in range(21)), default=0)
    assert peak <= total <= sum(-(-s // 64) * 64 for *_, s, _ in needs)


def test_results_that_share_memory_get_each_their_place():
    recorder, x, places = Recorder(), np.arange(3.0), [np.zeros(3), np.zeros(3), np.zeros(2)]
    with recorder:
        y = recorder.read(x) * 2
    program, results = recorder.program([y, y, y[1:]], places)
    for _ in range(2):
        np.testing.assert_equal(places, [2 * x, 2 * x, 2 * x[1:]])
        assert all(a is b for a, b in zip(results, places))
        x += 1
        program.run()


def test_what_was_kept_of_an_earlier_recording_is_a_constant():
    w, kept = tn.Tensor(np.ones(3)), []

    def loss(x):
        kept.append(x * 2)
        return np.sum(w * x)

    recorded(replay(loss, w), X[0])
    step = replay(lambda x: np.sum(w * x * kept[1]), w)
    for i in range(4):
        assert step(X[i])[0] == pytest.approx(2 * X[0] @ X[i], rel=1e-14)


def test_memory_is_used_again():
    w = tn.Tensor(np.ones(1000))

    def loss(x):
        for _ in range(20):
            x = np.tanh(x + 1)  # of the batch: nothing of it is kept for a backward pass
        return np.sum(w * x)

    recorder = Recorder()
    with recorder:
        value = loss(recorder.read(np.ones(1000)))
    program, _ = recorder.program([value.value], [None])
    assert 16000 <= program.memory <= 3 * 8064


def test_what_is_kept_for_others_is_plain():
    """A size that comes first while it is recorded: `ones`, and what a user keeps of another recording."""
    model, params = linear()
    kept = []

    def loss(x, y):
        if x[0, 0] > 10:
            x, y = x[:5], y[:5]
        y = F.layer_norm(model(x), np.ones(2), None) - y
        kept.append(np.zeros(2))
        return np.sum(y * y + kept[0] + kept[-2 if len(kept) > 1 else 0])

    for _ in range(2):
        step = replay(loss, params)
        for shift in (0, 0, 0, 20, 20, 0):
            assert step(X + shift, Y)[0] == pytest.approx(loss(X + shift, Y).item(), rel=1e-12)
    assert type(ones(5, np.dtype(float))) is np.ndarray


def test_the_arrays_of_a_recording_are_given_back():
    w, x = tn.Tensor(np.ones(10_000)), np.ones(10_000)

    def loss(x):
        for _ in range(50):
            x = np.tanh(x)
        return np.sum(w * x)

    step = replay(loss, w)
    step(x)
    tracemalloc.start()
    try:
        step(x)
        assert tracemalloc.get_traced_memory()[0] < 10 * x.nbytes  # of more than 50 that were made
    finally:
        tracemalloc.stop()


# --- the recorder ---------------------------------------------------------------------------------------


def test_numpy_is_itself_again_also_after_an_error():
    names = ("empty", "zeros", "ones", "full", "array", "asarray", "asanyarray", "ascontiguousarray")
    before = [getattr(np, name) for name in names]
    w = tn.Tensor(np.ones(3))

    def loss(x):
        assert len(runs) < 2, "stop"
        runs.append(1)
        return np.sum(w * x)

    runs: list[int] = []
    step = replay(loss, w)
    step(X[0])
    runs.append(1)
    for _ in range(2):  # and the lock is free
        with pytest.raises(AssertionError, match="stop"):
            step(X[0])
        assert [getattr(np, name) for name in names] == before and type(w.value) is np.ndarray


def test_a_replay_recorded_within_another_one_is_refused():
    w, v = tn.Tensor(np.ones(3)), tn.Tensor(np.ones(3))
    inner = replay(lambda x: np.sum(v * x), v)

    def loss(x):
        inner(X[0])
        return np.sum(w * x)

    step = replay(loss, w)
    step(X[0])  # the first call of both
    with pytest.raises(TypeError, match="a replay is recorded within another one"):
        step(X[0])  # the second one of both
    inner(X[0])
    step(X[0])  # the inner one repeats


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_in_a_child_process_nobody_records():
    recorder = Recorder()
    with recorder:
        child = os.fork()
        if not child:
            fine = type(np.zeros(3)) is np.ndarray
            with Recorder() as other:
                fine = fine and type(np.zeros(3) + other.read(np.ones(3))) is not np.ndarray
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_other_threads_get_arrays_as_ever():
    w, found = tn.Tensor(np.ones(3)), []

    def work():
        found.extend([type(np.zeros(3)), type(np.array([1.0])), type(np.ones(2) + np.empty(2))])

    def loss(x):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return np.sum(w * x)

    recorded(replay(loss, w), X[0])
    assert found == [np.ndarray] * 9


@pytest.mark.parametrize("context", [tn.reference, check.anomaly])
def test_what_watches_a_step_sees_it(context):
    model, params = linear()
    loss, runs = counted(squares(model))
    step = recorded(replay(loss, params, check=False), X, Y)
    with context():
        value, _ = step(X, Y)
    assert len(runs) == 3 and value == pytest.approx(squares(model)(X, Y).item(), rel=1e-14)


def test_warnings_are_those_of_the_first_two_calls():
    w = tn.Tensor(np.ones(3))
    step = replay(lambda x: np.sum(w * np.log(x)), w, check=False)
    zero = np.array([0.0, 1.0, 2.0])
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            step(zero)
    assert step(zero)[0] == -np.inf  # a warning would be an error here


# --- with an optimizer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [2, 5, 7, 10**6])
@pytest.mark.parametrize("decay", [None, {"weight": True, "bias": False}])
def test_the_optimizer_steps_as_on_the_tape(monkeypatch, chunk, decay):
    monkeypatch.setattr("tinygrad_notes.optim.optimizer.CHUNK", chunk)
    weights = []
    for replayed in (False, True):
        model, params = linear()
        opt = optim.AdamW(params, lr=0.1, decay=decay)
        step = replay(squares(model), params, opt)
        for i in range(6):
            lr = None if i % 2 else 0.05
            if replayed:
                step(X + i, Y, lr=lr)
            else:
                opt.step(tn.gradients(squares(model)(X + i, Y), params), lr)
        assert opt.steps == 6
        weights.append(tn.state_dict(model))
    for name in weights[0]:
        np.testing.assert_allclose(weights[1][name], weights[0][name], rtol=1e-13)


def test_a_gradient_that_is_not_finite_changes_nothing():
    model, params = linear()
    opt = optim.AdamW(params, lr=0.1)
    step = recorded(replay(squares(model), params, opt, check=False), X, Y)
    before = copy.deepcopy((tn.state_dict(model), opt.state_dict()))
    bad = X.copy()
    bad[2, 1] = np.inf
    with pytest.raises(FloatingPointError, match=r"the gradient of weight \(2, 3\) is .* at \(0, [01]\); no parameter was changed"):
        step(bad, Y)
    after = tn.state_dict(model), opt.state_dict()
    np.testing.assert_equal(after, before)
    step(X, Y)
    assert opt.steps == 3


def test_weights_that_the_optimizer_does_not_update_are_refused():
    model, params = linear()
    step = recorded(replay(squares(model), params, optim.SGD(params, lr=0.1)), X, Y)
    model.weight.value = model.weight.value.copy()
    with pytest.raises(RuntimeError, match="weight was given another array since the optimizer was made"):
        step(X, Y)


def test_the_optimizer_takes_other_gradients_in_between():
    model, params = linear()
    opt = optim.SGD(params, lr=0.1)
    step = recorded(replay(squares(model), params, opt), X, Y)
    before = tn.state_dict(model)
    opt.step({name: np.ones_like(t.value) for name, t in params.items()})
    for name, w in tn.state_dict(model).items():
        np.testing.assert_allclose(w, before[name] - 0.1, rtol=1e-14)
    expected = tn.gradients(squares(model)(X, Y), params)
    before = tn.state_dict(model)
    step(X, Y)
    for name, w in tn.state_dict(model).items():
        np.testing.assert_allclose(w, before[name] - 0.1 * expected[name], rtol=1e-12)


def test_graphs_made_before_a_step_are_stale():
    model, params = linear()
    step = recorded(replay(squares(model), params, optim.SGD(params, lr=0.1)), X, Y)
    old = squares(model)(X, Y)
    step(X, Y)
    with pytest.raises(RuntimeError, match="stale graph"):
        tn.gradients(old, params)


class Clipped(optim.SGD):
    def step(self, grads, lr=None):
        super().step(optim.clip_by_global_norm(grads, 1.0)[0], lr)


# --- bad input --------------------------------------------------------------------------------------------


def test_bad_input_is_one_line():
    model, params = linear()
    loss = squares(model)
    other, other_params = linear()
    step = replay(loss, params)
    for call, kind, message in [
        (lambda: replay(3, params), TypeError, "loss is int 3, expected a function of the batch"),
        (lambda: replay(loss, [np.ones(3)]), TypeError, r"params has ndarray \(3,\) float64, expected Tensors"),
        (lambda: replay(loss, params, 0.1), TypeError, "optimizer is float 0.1, expected one of tinygrad_notes.optim"),
        (lambda: replay(loss, params, optim.SGD(other_params, lr=1)), ValueError, "the optimizer has other params"),
        (lambda: step(X, Y, lr=0.1), TypeError, "lr is for an optimizer, and there is none"),
        (lambda: step(X, Y, rng=3), TypeError, "rng is int 3, expected a Generator"),
        (lambda: step(x=X, y=Y), TypeError, r"x, y came by name; pass the batch by position: step\(x, y, rng=rng, lr=lr\)"),
        (lambda: step(X, Y, np.random.default_rng(0)), TypeError, "a Generator came as a member of the batch; pass it as rng="),
        (lambda: step(np.array([X, None], dtype=object), Y), TypeError, "the batch has ndarray"),
        (lambda: replay(loss, params, Clipped(params, lr=0.1)), TypeError, "Clipped has a step of its own, which would be passed over"),
        (lambda: step({"x": X}, Y), TypeError, "the batch has dict .*, expected arrays, numbers, texts or None"),
        (lambda: step([[1.0], [1.0, 2.0]], Y), ValueError, r"the batch has list .*with members of several lengths; make them equally long"),
    ]:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_unused_params():
    w, v = tn.Tensor(np.ones(3)), tn.Tensor(np.ones(2))
    step = recorded(replay(lambda x: np.sum(w * x), {"w": w, "v": v}), X[0])
    np.testing.assert_array_equal(step(X[1])[1]["v"], [0, 0])
    with pytest.raises(ValueError, match=r"the loss does not depend on params\.v"):
        replay(lambda x: np.sum(w * x), {"w": w, "v": v}, unused="raise")(X[0])


def test_lists_are_arrays():
    w = tn.Tensor(np.ones(3))
    step = recorded(replay(lambda x: np.sum(w * np.asarray(x)), w), [1.0, 2.0, 3.0])
    assert step([2.0, 3.0, 4.0])[0] == 9
