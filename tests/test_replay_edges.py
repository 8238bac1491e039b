"""replay: losses that are easily repeated wrongly are repeated right, or refused in words."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import tinygrad_notes as tn
from tinygrad_notes import Tensor, optim
from tinygrad_notes.recording import Recorded, Recorder
from tinygrad_notes.replay import replay

import numpy as np
import pytest

OUTSIDE = np.random.default_rng(9).normal(size=(10, 3))


def assert_repeats(f, *, dtype=np.float64, steps=5):
    """Steps of sum(w * f(x, ids, rng)) without checks are those of the loss as it stands, with a Generator of its own in each."""
    w = Tensor(np.array([0.5, -1.0, 2.0], dtype))

    def loss(x, ids, rng):
        y = f(x, ids, rng)
        return np.sum(w * np.sum(y * np.arange(1, 1 + np.size(y), dtype=y.dtype).reshape(np.shape(y))))

    step = replay(loss, w, check=False)
    draws = np.random.default_rng(1)
    for seed in range(steps):
        x, ids = draws.normal(size=(4, 3)).astype(dtype), draws.integers(0, 10, 4)
        expected, rng = np.random.default_rng(seed), np.random.default_rng(seed)
        plain = loss(x.copy(), ids, expected)
        value, g = step(x, ids, rng=rng)
        assert value == plain.item()
        np.testing.assert_array_equal(g, tn.gradients(plain, w), strict=True)
        assert rng.bit_generator.state == expected.bit_generator.state


# --- numbers are no arrays ------------------------------------------------------------------------


def test_adding_to_a_number_leaves_its_source_alone():
    def f(x, ids, rng):
        y = x[0] * 2
        total = y[0]
        total += y[1]
        mean = kept = x.mean()
        mean += 1.0
        return y * total * mean * kept

    assert_repeats(f)


def test_a_number_read_before_a_write_is_the_old_one():
    def f(x, ids, rng):
        y = x[:, 0].copy()
        y[0], y[1] = y[1], y[0]
        return y

    assert_repeats(f)


def test_iterating_gives_numbers():
    def f(x, ids, rng):
        y = x[0] * 2
        first, *rest = y
        y += 1
        return np.stack([first, *rest]) * y

    assert_repeats(f)


def test_numbers_of_python_keep_float32():
    assert_repeats(lambda x, ids, rng: x * (2 * rng.random() - 0.5) / (1 + np.count_nonzero(x > 0)), dtype=np.float32)


@pytest.mark.parametrize("f", [lambda x: x * hash(x[0, 0]), lambda x: x * round(x[0, 0], 1), lambda x: x * {x[0, 0]: 2.0}[x[0, 0]]])
def test_a_number_of_the_batch_is_not_read(f):
    with pytest.raises(TypeError, match="a number is read out of an array"):
        assert_repeats(lambda x, ids, rng: f(x))


@pytest.mark.parametrize(
    "question", [lambda x: np.allclose(x[0, 0], 0, atol=0.7), lambda x: np.array_equal(x[0] > 0, np.array([True, False, True]))]
)
def test_what_numpy_answers_is_a_condition(question):
    assert_repeats(lambda x, ids, rng: x * 2 if question(x) else x, steps=12)


# --- changes in place -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda h: np.clip(h, -1, 1, h),
        lambda h: np.round(h, 1, h),
        lambda h: np.cumsum(h.copy(), 0, None, h),
        lambda h: np.take(h.copy(), [1, 0, 1, 2], 0, h, "clip"),
        lambda h: h.sort(0),
        lambda h: h[:, 0].partition(1),
        lambda h: h.put([0, 1], h[2, 0] * 2),
    ],
)
def test_changes_of_a_temporary_in_place_are_repeated(change):
    def f(x, ids, rng):
        h = x * 3
        change(h)
        return h

    assert_repeats(f)


def test_a_function_that_secretly_changes_its_argument_is_refused():
    with pytest.raises(TypeError, match="nan_to_num changes an array in place"):
        assert_repeats(lambda x, ids, rng: np.nan_to_num(x * 1, copy=False))


@pytest.mark.parametrize(
    "again",
    [
        lambda y: np.array(y, copy=None),
        lambda y: np.asarray(y, copy=True),
        lambda y: np.asarray(y, order="F"),
        lambda y: np.asfortranarray(y),
    ],
)
def test_a_copy_is_one_where_numpy_makes_one(again):
    def f(x, ids, rng):
        y = x * 1
        z = again(y)
        z += 1
        return y * z

    assert_repeats(f)


@pytest.mark.parametrize(
    "made", [lambda: np.eye(3), lambda: np.array([0.0, 1.0, 2.0]), lambda: np.arange(3.0), lambda: np.linspace(0, 1, 3)]
)
def test_new_arrays_can_be_filled(made):
    def f(x, ids, rng):
        y = made()
        y[-1:] = x[0, 0]
        return y

    assert_repeats(f)


def test_as_strided_is_a_view():
    assert_repeats(lambda x, ids, rng: np.lib.stride_tricks.as_strided(x * 1, (3, 2, 3), (24, 24, 8)).sum(1))


# --- arrays from outside --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda ids: np.take(OUTSIDE, ids, 0),
        lambda ids: np.repeat(OUTSIDE[:2], np.stack([ids[0], 9 - ids[0]]), 0),
        lambda ids: np.roll(OUTSIDE, ids[:1], 0),
        lambda ids: np.full_like(OUTSIDE, ids.sum()),
    ],
)
def test_functions_that_numpy_hands_on_by_their_first_argument_only(f):
    assert_repeats(lambda x, ids, rng: f(ids))


def test_a_table_from_outside_that_the_batch_indexes_is_found_out():
    w = Tensor(np.ones(3))
    step = replay(lambda ids: np.sum(w * OUTSIDE[ids]), w)
    for _ in range(2):
        step(np.array([1, 2]))
    with pytest.raises(ValueError, match=r"np\.take"):
        step(np.array([3, 4]))


def test_a_function_given_to_numpy_must_not_use_other_arrays():
    def f(x, ids, rng):
        m = x * 2
        return np.apply_along_axis(lambda row: row * m[0], 1, x)

    with pytest.raises(TypeError, match="a function that is given to NumPy"):
        assert_repeats(f)


@pytest.mark.parametrize("kind", [np.ma.MaskedArray, np.matrix])
def test_arrays_with_other_rules_are_refused(kind):
    with pytest.raises(TypeError, match=kind.__name__):
        assert_repeats(lambda x, ids, rng: np.asarray((x * 1).view(kind)))
    with pytest.raises(TypeError, match="replay: the batch has"):
        replay(lambda x: np.sum(Tensor(1.0) * x), Tensor(1.0))(np.ones((2, 2)).view(kind))


# --- random numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.choice(4, 6),
        lambda rng: rng.choice(4, 6, p=np.full(4, 0.25)),
        lambda rng: rng.permutation(4),
        lambda rng: rng.multivariate_normal(np.zeros(2), np.eye(2), 3),
        lambda rng: rng.random(out=np.empty(4)),
        lambda rng: rng.dirichlet(np.ones(3)),
    ],
)
def test_each_step_draws_from_its_own_generator(draw):
    assert_repeats(lambda x, ids, rng: x.sum() * draw(rng))


def test_shuffling_is_repeated():
    def f(x, ids, rng):
        y = x.copy()
        rng.shuffle(y)
        return y

    assert_repeats(f)


def test_a_generator_set_back_draws_the_same_numbers_again():
    def f(x, ids, rng):
        state = rng.bit_generator.state
        noise = rng.normal(size=3)
        rng.bit_generator.state = state
        return x * noise - rng.normal(size=3) * rng.random()

    assert_repeats(f)


@pytest.mark.parametrize(
    "use", [lambda rng: rng.spawn(1), lambda rng: np.random.Generator(rng.bit_generator), lambda rng: rng.shuffle([1, 2])]
)
def test_what_a_generator_cannot_repeat_is_refused(use):
    def f(x, ids, rng):
        use(rng)
        return x

    with pytest.raises(TypeError, match="cannot be repeated"):
        assert_repeats(f)


# --- checks, and numbers in the batch ---------------------------------------------------------------


def test_numbers_that_are_not_finite_are_compared_where_they_are():
    w = Tensor(np.array([0.0, 1.0, 1e30]))
    step = replay(lambda x: np.sum(np.log(w) * x), w)
    with np.errstate(all="ignore"):
        for i in range(4):
            value, g = step(np.array([1.0, 2.0, 3.0 + i]))
            assert value == -np.inf
            np.testing.assert_array_equal(g[1:], [2.0, (3.0 + i) / 1e30])


def test_minus_zero_is_another_number_than_zero():
    w = Tensor(1.0)
    step = replay(lambda s: w * np.copysign(1.0, s), w, check=False)
    for s in (0.0, 0.0, -0.0, -0.0, 0.0):
        assert step(s)[0] == np.copysign(1.0, s)


# --- the optimizer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_gradients_that_never_vary_are_written_in_every_step(check):
    def params():
        return [Tensor(np.ones(3)), Tensor(np.ones(2)), Tensor(np.ones(4))]

    def loss_of(ps):
        return lambda x: np.sum(ps[0] * x.sum()) + np.sum(ps[1]) * len(x) + (np.sum(ps[2]) if len(x) == 2 else 0)

    replayed, plain = params(), params()
    optimizer, other = optim.SGD(replayed, lr=0.1), optim.SGD(plain, lr=0.1)
    step, loss = replay(loss_of(replayed), replayed, optimizer, check=check), loss_of(plain)
    rng = np.random.default_rng(0)
    for n in (2, 2, 3, 3, 2, 2, 3, 3, 2, 3, 2, 4, 2):
        x = rng.normal(size=n)
        step(x)
        other.step(tn.gradients(loss(x), plain))
        for a, b in zip(replayed, plain):
            np.testing.assert_array_equal(a.value, b.value)


# --- other threads ------------------------------------------------------------------------------------


def on_another_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_another_thread_uses_the_params_while_they_are_recorded():
    w, seen = Tensor(np.ones(3)), []

    def loss(x):
        value = np.sum(w * x)
        seen.append(on_another_thread(lambda: np.zeros(3) + (w * 2).value))
        return value

    step = replay(loss, w, check=False)
    for _ in range(4):
        assert step(np.ones(3))[0] == 3.0
    assert len(seen) == 2
    for y in seen:
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, np.full(3, 2.0))


def test_a_part_of_the_loss_on_another_thread_is_refused():
    w = Tensor(np.ones(3))
    step = replay(lambda x: np.sum(w * on_another_thread(lambda: x * 2)), w)
    step(np.ones(3))
    with pytest.raises(TypeError, match="another thread computes a part of the loss"):
        step(np.ones(3))


def test_functions_of_numpy_that_were_taken_while_recording_are_themselves_afterwards():
    recorder = Recorder()
    with recorder:
        taken = [np.empty, np.zeros, np.arange, np.array]
    assert [type(f(3)) for f in taken] == [np.ndarray] * 4
    assert not recorder.own


def test_numpy_and_the_params_are_put_back_after_ctrl_c():
    error = KeyboardInterrupt
    functions, w, calls = [np.empty, np.array, np.take, np.arange], Tensor(np.ones(3)), []

    def loss(x):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return np.sum(w * x)

    step, value = replay(loss, w, check=False), w.value
    step(np.ones(3))
    with pytest.raises(error):
        step(np.ones(3))
    assert [np.empty, np.array, np.take, np.arange] == functions
    assert w.value is value
    for _ in range(2):
        assert step(np.ones(3))[0] == 3.0


# --- what is compared, and how far it may be apart --------------------------------------------------


def counting(apart, terms):
    """A step whose loss is terms(w, x) times 1 + apart * (how often Python has run it), so that what is recorded differs from the tape by so much."""
    calls = [0]
    w = [Tensor(np.ones(3, np.float32)), Tensor(np.ones(3, np.float32))]

    def loss(x):
        calls[0] += 1
        return terms(w, x, apart * calls[0])

    return replay(loss, w)


@pytest.mark.parametrize("apart", [1e-6, 1e-3])
def test_a_loss_in_float64_of_weights_in_float32_may_differ_by_their_rounding(apart):
    step = counting(apart, lambda w, x, off: np.sum((w[0] + w[1]) * (x * (1 + off)).astype(np.float32)) + np.zeros(()))
    step(OUTSIDE)
    if apart > 1e-4:
        with pytest.raises(ValueError, match="the repeated step"):
            step(OUTSIDE)
    else:
        assert step(OUTSIDE)[0] == pytest.approx(2 * OUTSIDE.sum(), rel=1e-4)


def test_a_gradient_of_zero_is_one_of_rounding_noise():
    step = counting(1e-9, lambda w, x, off: np.sum(w[0] * x) + np.sum(w[1] * x) * np.float32(off))
    for _ in range(3):
        value, grads = step(OUTSIDE.astype(np.float32))
    assert 0 < np.max(np.abs(grads[1])) < 1e-7


def test_a_value_of_zero_is_one_of_rounding_noise():
    step = counting(1e-9, lambda w, x, off: np.sum((w[0] - w[1]) * x) + np.float32(off))
    for _ in range(3):
        value, grads = step(OUTSIDE.astype(np.float32))
    assert 0 < value < 1e-7


@pytest.mark.parametrize("value", [np.ones(1), np.ones(3, np.float32), 2.0], ids=str)
def test_a_weight_that_was_given_something_else(value):
    w = Tensor(np.ones(3))
    step = replay(lambda x: np.sum(w * x), w)
    before = w.value
    for _ in range(3):
        step(OUTSIDE)
    w.value = value
    with pytest.raises(RuntimeError, match=r"^replay: a parameter was made with an array \(3,\) float64, but t.value was set to [^\n]*$"):
        step(OUTSIDE)
    w.value = before
    assert step(OUTSIDE)[0] == pytest.approx(OUTSIDE.sum())


# --- what happens while a step is recorded --------------------------------------------------------


def test_ctrl_c_waits_until_the_step_is_recorded():
    """Otherwise it could come between the weights that are put back."""
    w, stop = [Tensor(np.full(3, float(i))) for i in range(4)], [False]
    memory = [t.value for t in w]

    def loss(x):
        if stop[0]:
            signal.raise_signal(signal.SIGINT)
            stop[0] = False
        return np.sum(x * sum(w))

    step = replay(loss, w, check=False)
    step(OUTSIDE)
    stop[0] = True
    with pytest.raises(KeyboardInterrupt):
        step(OUTSIDE)
    assert not stop[0] and all(t.value is m and type(m) is np.ndarray for t, m in zip(w, memory))
    for factor in (1, 2, 3):
        value, grads = step(factor * OUTSIDE)
        assert value == pytest.approx(6 * factor * OUTSIDE.sum())
        np.testing.assert_allclose(grads[0], factor * OUTSIDE.sum(0))


def test_two_threads_that_record_leave_the_weights_as_they_are():
    w, memory = Tensor(np.ones(3)), None
    recording, go_on = threading.Event(), threading.Event()

    def slow(x):
        if isinstance(w.value, Recorded):
            recording.set()
            assert go_on.wait(30)
        return np.sum(w * x)

    first, second = replay(slow, w, check=False), replay(lambda x: np.sum(w * w * x), w, check=False)
    memory = w.value
    for step in (first, second):
        step(OUTSIDE)
    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(first, OUTSIDE)
        assert recording.wait(30)
        b = pool.submit(second, OUTSIDE)
        with pytest.raises(TimeoutError):
            b.result(0.2)  # it waits for the first recording
        go_on.set()
        assert a.result()[0] == b.result()[0] == pytest.approx(OUTSIDE.sum())
    assert w.value is memory and type(memory) is np.ndarray
    for step in (first, second):
        assert step(2 * OUTSIDE)[0] == pytest.approx(2 * OUTSIDE.sum())


@pytest.mark.parametrize("order", ["C", "F", "reversed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loss_near_zero_is_no_difference(order, dtype):
    """What is left of the squares is rounding noise, which depends on how a batch lies in memory. Weights float32, targets of either dtype."""
    draws = np.random.default_rng(0)
    w = Tensor(np.zeros(20, np.float32))
    x = draws.normal(size=(64, 20)).astype(np.float32)
    x = x[::-1] if order == "reversed" else np.asarray(x, order=order)
    y = (x @ draws.normal(size=20).astype(np.float32)).astype(dtype)
    step = replay(lambda x, y: tn.functional.mse(x @ w, y), w, optim.SGD(w, lr=0.2))
    losses = [step(x, y) for _ in range(600)]
    assert losses[-1] < 1e-12 * losses[0]
