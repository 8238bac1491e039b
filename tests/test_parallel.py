"""data_parallel: two half-batch tapes give what one tape gives, and what cannot be cut is refused."""

import multiprocessing
import os
import signal
import threading

import tinygrad_notes as tn
from models.language import gpt
from tinygrad_notes import check, copies, optim, parallel, threads
from tinygrad_notes import functional as F
from tinygrad_notes.nn import BatchNorm1d
from tinygrad_notes.parallel import data_parallel

import numpy as np
import pytest

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 11, (5, 9))


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Also where the tests run on one core, or with one BLAS thread."""
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "_blas_is_threaded", lambda: not isinstance(threads.blas_pools(), str))


def model_and_params(**changes):
    model = gpt.GPT(gpt.Config.tiny(dtype=np.float64, **changes), np.random.default_rng(0))
    return model, tn.parameters(model)


forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # from Python 3.12 on, as in copies.Copy
needs_copies = pytest.mark.skipif(not copies.possible(), reason="without fork, threads do the work")
all_ways = pytest.mark.parametrize(
    "how", [{}, {"processes": True}, {"processes": True, "replay": True}], ids=["threads", "processes", "replay"]
)
both_ways = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


@all_ways
@pytest.mark.parametrize("B", [1, 2, 5])
def test_equals_one_tape(B, how):
    model, params = model_and_params()
    ids, targets = IDS[:B, :-1], IDS[:B, 1:]
    whole = gpt.loss(model, ids, targets)
    expected = tn.gradients(whole, params)
    step = data_parallel(lambda ids, targets: gpt.loss(model, ids, targets), params, unused="raise", **how)
    for _ in range(4):
        value, grads = step(ids, targets)
        assert value == pytest.approx(whole.item(), rel=1e-13)
        for name, g in grads.items():
            np.testing.assert_allclose(g, expected[name], rtol=0, atol=1e-13)


@all_ways
@pytest.mark.parametrize("first", [0, 1, 2])
def test_halves_are_weighted_by_their_valid_targets(first, how):
    """Also where other targets are ignored in each step, and where a half has nothing to learn."""
    x, w = tn.Tensor(RNG.normal(size=(3, 4))), RNG.random(4) + 0.5

    def loss(features, targets):
        return F.cross_entropy(features @ x, targets, weight=w, label_smoothing=0.1)

    step = data_parallel(loss, x, **how)
    ignored = [slice(0, 2), slice(3, 5), np.array([0, 1, 2]), slice(1, 2), np.array([0, 4]), slice(0, 0), np.array([3, 4])]
    for members in ignored[first:]:
        features, targets = RNG.normal(size=(5, 3)), np.array([0, 3, 1, 2, 2])
        targets[members] = -100
        value, g = step(features, targets)
        assert value == pytest.approx(loss(features, targets).item(), rel=1e-13)
        np.testing.assert_allclose(g, tn.gradients(loss(features, targets), x), rtol=0, atol=1e-14)


def test_a_mean_of_ones_own_counts_examples():
    x, features = tn.Tensor(RNG.normal(size=3)), RNG.normal(size=(5, 3))
    value, g = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x)(features)
    assert value == pytest.approx(np.mean(np.tanh(features @ x.value)), rel=1e-13)


def test_each_half_has_its_own_rng_and_the_seed_decides():
    model, params = model_and_params(dropout=0.5)
    draws = []

    def loss(ids, targets, rng=None):
        if rng is not None:
            draws.append((threading.get_ident(), rng.bit_generator.state["state"]["state"]))
        return gpt.loss(model, ids, targets, rng)

    step = data_parallel(loss, params)
    runs = [step(IDS[:, :-1], IDS[:, 1:], rng=np.random.default_rng(7)) for _ in range(2)]
    assert runs[0][0] == runs[1][0] != gpt.loss(model, IDS[:, :-1], IDS[:, 1:]).item()
    for name, g in runs[0][1].items():
        np.testing.assert_array_equal(g, runs[1][1][name])
    first, second = draws[:2]
    assert first[0] != second[0] and first[1] != second[1]  # two threads, two streams


def test_a_process_draws_what_a_thread_draws():
    model, params = model_and_params(dropout=0.5)

    def loss(ids, targets, rng=None):
        return gpt.loss(model, ids, targets, rng)

    a, b, c = (data_parallel(loss, params, **how) for how in ({}, {"processes": True}, {"processes": True, "replay": True}))
    for seed in (7, 8, 8, 9):
        (value, grads), *others = (step(IDS[:, :-1], IDS[:, 1:], rng=np.random.default_rng(seed)) for step in (a, b, c))
        for other, other_grads in others:
            assert value == other
            for name, g in grads.items():
                np.testing.assert_array_equal(g, other_grads[name])


@pytest.mark.parametrize("optimizer_first", [True, False])
def test_a_process_sees_how_the_weights_change(optimizer_first):
    """Also weights in memory that an optimizer took before, and those that another Tensor shares."""
    losses = []
    for how in ({}, {"processes": True}, {"processes": True, "replay": True}):
        model, params = model_and_params()
        teacher = tn.frozen(model)  # its weights are the model's memory

        def loss(ids, targets, model=model, teacher=teacher):
            return gpt.loss(model, ids, targets) + F.mse(model(ids), 0.9 * teacher(ids))

        made = [lambda params=params: optim.SGD(params, lr=0.1), lambda p=params, f=loss, how=how: data_parallel(f, p, **how)]
        first, second = (make() for make in (made if optimizer_first else made[::-1]))
        opt, step = (first, second) if optimizer_first else (second, first)
        for _ in range(4):
            value, grads = step(IDS[:4, :-1], IDS[:4, 1:])
            opt.step(grads)
            losses.append(value)
    assert losses[:4] == losses[4:8] == losses[8:] and len(set(losses)) == 4


@needs_copies
def test_what_a_replay_gave_stays_as_it_was():
    x, scale = tn.Tensor(RNG.normal(size=3)), tn.Tensor(np.array(2.0))
    step = data_parallel(lambda a: scale * np.mean(np.tanh(a @ x)), [x, scale], processes=True, replay=True)
    given = []
    for features in RNG.normal(size=(5, 4, 3)):
        expected = [scale.value * (features.T @ (1 - np.tanh(features @ x.value) ** 2)) / 4, np.mean(np.tanh(features @ x.value))]
        given.append((step(features)[1], expected))
    for grads, expected in given:
        for g, right in zip(grads, expected):
            assert isinstance(g, np.ndarray) and g.shape == np.shape(right)
            np.testing.assert_allclose(g, right, rtol=1e-13)


@needs_copies
@pytest.mark.parametrize("compared", [False, True])
def test_a_replay_runs_only_the_calls_of_numpy(compared):
    x, first, calls = tn.Tensor(np.ones(3)), os.getpid(), copies.shared_array(2, int)

    def loss(a):
        calls[int(os.getpid() != first)] += 1
        return np.mean(a @ x)

    step = data_parallel(loss, x, processes=True, replay=True, check=compared)
    if compared:  # in the first step with the whole batch, then with the loss as it stands: the recorded step, repetitions 1 and 2
        expected = [(4, 1), (6, 3), (7, 4), (8, 5), (8, 5)]
    else:
        expected = [(1, 1), (2, 2), (2, 2), (2, 2), (2, 2)]
    for counts in expected:
        value, g = step(np.ones((5, 3)))
        assert value == 3 and tuple(calls) == counts
        np.testing.assert_array_equal(g, np.ones(3))
    before = calls[0]
    with tn.reference():
        step(np.ones((5, 3)))
    assert calls[0] == before + 2  # both halves here
    assert step(np.ones((1, 3)))[0] == 3  # one example, which is no half
    assert calls[0] == before + 3
    np.testing.assert_array_equal(step(np.full((5, 3), 2.0))[1], np.full(3, 2.0))
    assert calls[0] == before + 3 + compared  # a batch with something new is compared


@needs_copies
@pytest.mark.parametrize("here", [True, False])
def test_what_a_replay_cannot_repeat_is_refused_in_both_processes(here):
    x, first, counted, offset = tn.Tensor(np.ones(3)), os.getpid(), [not here], [0.0]

    def loss(a):
        if (os.getpid() == first) == here:
            offset[0] += counted[0]  # a number of Python's that is another one in each step
        return np.mean(a @ x) + offset[0]

    step = data_parallel(loss, x, processes=True, replay=True)
    step(np.ones((4, 3)))
    counted[0] = True
    with pytest.raises(
        ValueError, match="^replay: the repeated step gives 4, but the loss as it stands 5" if here else "^replay: the repeated step gives"
    ):
        step(np.ones((4, 3)))


def test_replay_needs_processes():
    with pytest.raises(ValueError, match=r"^data_parallel: replay=True came without processes=True; [^\n]*$"):
        data_parallel(lambda a: a, tn.Tensor(1.0), replay=True)


@needs_copies
def test_weights_that_nobody_holds_yet_are_shared_and_others_are_copied():
    x, y = tn.Tensor(np.ones(3)), tn.Tensor(np.ones(3))
    optim.SGD([y], lr=0.1)
    data_parallel(lambda a: np.mean(a @ (x * y)), [x, y], processes=True)
    assert copies.is_shared(x.value) and not copies.is_shared(y.value)


@both_ways
def test_params_may_be_results_of_operations(processes):
    x = tn.Tensor(RNG.normal(size=3))
    doubled, features = 2 * x, RNG.normal(size=(5, 3))
    value, g = data_parallel(lambda a: np.mean(a @ doubled), doubled, processes=processes)(features)
    np.testing.assert_allclose(g, features.mean(axis=0), rtol=1e-13)


def test_a_larger_batch_and_another_dtype_get_a_new_process():
    x = tn.Tensor(RNG.normal(size=3))
    step = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x, processes=True)
    for n, dtype in ((4, np.float32), (9, np.float64), (2, np.float64), (40, np.int64), (3, np.float32)):
        a = RNG.integers(-2, 3, (n, 3)).astype(dtype)
        assert step(a)[0] == pytest.approx(np.mean(np.tanh(a @ x.value)), rel=1e-6)


@needs_copies
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_a_step_that_was_stopped_leaves_no_copy_at_work(stop):
    """It may still read the memory that the next step writes."""
    x, features, here = tn.Tensor(RNG.normal(size=3)), RNG.normal(size=(6, 3)), os.getpid()

    def loss(a):
        if os.getpid() == here and a[0, 0] == 7:
            raise stop
        return np.mean(np.tanh(a @ x))

    step = data_parallel(loss, x, processes=True)
    step(features)
    (before,) = multiprocessing.active_children()
    with pytest.raises(stop):
        step(np.full((6, 3), 7.0))
    assert step(features)[0] == pytest.approx(loss(features).item(), rel=1e-13)
    (after,) = multiprocessing.active_children()
    assert before.pid != after.pid


@needs_copies
def test_a_copy_that_was_killed_is_made_again():
    x, features = tn.Tensor(RNG.normal(size=3)), RNG.normal(size=(6, 3))
    step = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x, processes=True)
    expected = step(features)[0]
    multiprocessing.active_children()[0].kill()
    with pytest.raises(RuntimeError, match="the second process has ended, with exit code -9"):
        step(features)
    assert step(features)[0] == expected


@needs_copies
@pytest.mark.parametrize("rows", [[6], [4, 6]])
def test_a_fork_that_fails_leaves_nothing_half_made(monkeypatch, rows):
    x, features = tn.Tensor(RNG.normal(size=3)), RNG.normal(size=(6, 3))
    step = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x, processes=True)
    for n in rows[:-1]:
        step(features[:n])

    def fork():
        raise OSError("no memory for another process")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no memory for another process"):
        patch.setattr(os, "fork", fork)
        step(features)
    assert step(features)[0] == pytest.approx(np.mean(np.tanh(features @ x.value)), rel=1e-13)


@needs_copies
def test_ctrl_c_waits_until_the_copy_is_made(monkeypatch):
    x, features, fork, made = tn.Tensor(np.ones(3)), RNG.normal(size=(6, 3)), os.fork, []

    def interrupted():
        if pid := fork():
            made.append(pid)
            signal.raise_signal(signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", interrupted)
    step = data_parallel(lambda a: np.mean(a @ x), x, processes=True)
    with pytest.raises(KeyboardInterrupt):
        step(features)
    assert step(features)[0] == pytest.approx(np.mean(np.sum(features, axis=1)), rel=1e-13) and len(made) == 1


@forks
@needs_copies
@pytest.mark.parametrize("called", [False, True])
def test_a_process_forked_from_this_one_leaves_the_copy_alone(called):
    x, features = tn.Tensor(RNG.normal(size=3)), RNG.normal(size=(9, 3))
    step = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x, processes=True)
    if called:
        step(features[:4])

    def work():
        assert step(features)[0] == pytest.approx(np.mean(np.tanh(features @ x.value)), rel=1e-13)
        assert not multiprocessing.active_children()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0


@forks
@needs_copies
def test_a_daemon_may_have_no_copy():
    def work():
        x = tn.Tensor(np.ones(3))
        assert data_parallel(lambda a: np.mean(a @ x), x, processes=True)(np.ones((4, 3)))[0] == 3

    child = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0


@needs_copies
@pytest.mark.parametrize("context", [check.anomaly, check.guard, tn.reference])
def test_what_watches_a_step_sees_both_halves(context):
    x, calls = tn.Tensor(np.ones(3)), []

    def loss(a):
        calls.append(len(a))
        return np.mean(a @ x)

    step = data_parallel(loss, x, processes=True)
    step(np.ones((5, 3)))
    calls.clear()
    with context():
        step(np.ones((5, 3)))
    assert calls == [3, 2]
    step(np.ones((5, 3)))
    assert calls == [3, 2, 3]


@needs_copies
def test_a_weight_that_was_given_another_array():
    """As in an update written by hand; the array of before is the caller's."""
    x, y = tn.Tensor(np.ones(3)), tn.Tensor(np.ones(3))
    step = data_parallel(lambda a: np.mean(a @ (x * y)), [x, y], processes=True)
    first = x.value
    for value in (1, 2, 3):
        assert step(np.ones((4, 3)))[0] == 3 * value
        x.value = x.value + 1
    x.value = first
    assert step(np.ones((4, 3)))[0] == 3


@pytest.mark.parametrize("params", [np.ones(3), {"w": [np.ones(3)]}, gpt.Config.tiny()], ids=["array", "nested", "object"])
@both_ways
def test_params_that_are_no_tensors(params, processes):
    with pytest.raises(TypeError, match=r"^data_parallel: params has [^\n]*, expected Tensors; [^\n]*tn.parameters\(model\)$"):
        data_parallel(lambda a: np.mean(a), params, processes=processes)


@needs_copies
@pytest.mark.parametrize(
    "batch",
    [
        np.array([1, "a", None, 2], object),
        np.zeros(4, [("x", float)]),
        [[1], [1, 2], [3], []],
        np.ma.masked_array(np.ones(4), [0, 1, 0, 1]),
        np.array(["a", "bc", "def", ""], np.dtypes.StringDType()) if hasattr(np.dtypes, "StringDType") else np.zeros(4, object),
    ],
    ids=["objects", "fields", "ragged", "masked", "strings"],
)
def test_what_cannot_be_shared_is_refused(batch):
    x = tn.Tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"data_parallel: [^\n]* came, expected an array of numbers or strings; [^\n]*$"):
        data_parallel(lambda a: np.mean(x), x, processes=True)(batch)
    assert data_parallel(lambda a: np.mean(x), x)(batch)[0] == 1
    letters = np.array(["a", "bc", "def", ""])
    assert data_parallel(lambda a: np.mean(np.char.str_len(a)[:, None] * x), x, processes=True)(letters)[0] == 1.5


@needs_copies
def test_lists_are_arrays_in_both_halves():
    """In one half alone, a + a would be another thing than in the other."""
    x = tn.Tensor(np.ones(3))
    step = data_parallel(lambda a: np.mean((a + a)[0] * x), x, processes=True, check=False)
    assert step([1.0, 1.0, 1.0, 1.0])[0] == 2


@both_ways
def test_the_loss_is_a_float_of_python(processes):
    x = tn.Tensor(np.ones(3, np.longdouble))
    value, g = data_parallel(lambda a: np.mean(a @ x), x, processes=processes)(np.ones((4, 3), np.longdouble))
    assert type(value) is float and g.dtype == np.longdouble


@both_ways
@pytest.mark.parametrize("B", [1, 2])
def test_a_batch_in_which_no_target_counts_is_refused(B, processes):
    x = tn.Tensor(np.ones((3, 4)))
    step = data_parallel(lambda a, t: F.cross_entropy(a @ x, t), x, processes=processes)
    with pytest.raises(ValueError, match="no target of the batch counts"):
        step(np.ones((B, 3)), np.full(B, -100))


@needs_copies
def test_a_step_on_another_thread_in_the_middle_of_one(monkeypatch):
    x, batches, share = tn.Tensor(RNG.normal(size=3)), [RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))], parallel._share
    step = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x, processes=True, check=False)
    found = {}

    def interleaved(*args):
        if 1 not in found:
            found[1] = None
            other = threading.Thread(target=lambda: found.update({1: step(batches[1])[1]}))
            other.start()
            other.join()
        return share(*args)

    monkeypatch.setattr(parallel, "_share", interleaved)
    found[0] = step(batches[0])[1]
    for i, batch in enumerate(batches):
        np.testing.assert_allclose(found[i], tn.gradients(np.mean(np.tanh(batch @ x)), x), rtol=0, atol=1e-14)


def calls_here():
    """The numbers of examples with which this process calls the loss in a second step, of a batch of five."""
    x, calls = tn.Tensor(np.ones(3)), []

    def loss(a):
        calls.append(len(a))
        return np.mean(a @ x)

    step = data_parallel(loss, x, processes=True)
    step(np.ones((5, 3)))
    calls.clear()
    step(np.ones((5, 3)))
    return calls


@needs_copies
def test_what_a_process_changes_stays_there():
    assert calls_here() == [3]


def test_where_no_process_can_be_copied_threads_do_the_work(monkeypatch):
    monkeypatch.setattr(copies, "possible", lambda: False)
    assert sorted(calls_here()) == [2, 3]


@both_ways
def test_on_one_core_the_halves_come_one_after_the_other(monkeypatch, processes):
    monkeypatch.setattr(threads, "cores", lambda: 1)
    x, features = tn.Tensor(RNG.normal(size=3)), RNG.normal(size=(5, 3))
    value, g = data_parallel(lambda a: np.mean(np.tanh(a @ x)), x, processes=processes)(features)
    assert value == pytest.approx(np.mean(np.tanh(features @ x.value)), rel=1e-13)
    np.testing.assert_allclose(g, tn.gradients(np.mean(np.tanh(features @ x)), x), rtol=0, atol=1e-14)


def contrastive(a, x):
    z = F.normalize(a @ x)
    return F.cross_entropy(z @ z.T, np.arange(len(a)))


@both_ways
@pytest.mark.parametrize("name", ["contrastive", "batch norm", "sum"])
def test_losses_that_couple_the_batch_are_refused(name, processes):
    x, features = tn.Tensor(RNG.normal(size=(3, 4))), RNG.normal(size=(6, 3))
    norm = BatchNorm1d(4, dtype=np.float64)
    losses = {
        "contrastive": lambda a: contrastive(a, x),
        "batch norm": lambda a: np.mean(norm(a @ x, train=True) ** 4),
        "sum": lambda a: np.sum((a @ x) ** 2),
    }
    with pytest.raises(ValueError, match=r"its halves give .*: it couples the examples"):
        data_parallel(losses[name], x, processes=processes)(features)


def test_a_last_layer_of_zeros_hides_nothing():
    """Its loss is log 2 for any batch and its halves, so that only the gradients tell that a norm couples the examples."""
    first, last, norm = tn.Tensor(RNG.normal(size=(3, 4))), tn.Tensor(np.zeros((4, 2))), BatchNorm1d(4, dtype=np.float64)
    labels = np.array([0, 1, 1, 0, 0, 1])
    with pytest.raises(ValueError, match="other gradients than its halves together: it couples the examples"):
        data_parallel(lambda a, y: F.cross_entropy(norm(a @ first, train=True) @ last, y), [first, last])(RNG.normal(size=(6, 3)), labels)
    value, _ = data_parallel(lambda a, y: F.cross_entropy(np.tanh(a @ first) @ last, y), [first, last])(RNG.normal(size=(6, 3)), labels)
    assert value == pytest.approx(np.log(2))


@pytest.mark.parametrize(("apart", "refused"), [(3e-4, False), (3e-3, True)])
def test_a_loss_that_is_mostly_rounding(apart, refused):
    """The float32 loss of a trained model, 1e-8, may differ by 2e-4 of itself between a batch and its halves, from rounding alone."""
    x, rows = tn.Tensor(np.float32([0.5, 2.0])), np.ones((4, 2), np.float32)

    def first(**how):
        return data_parallel(lambda a: np.mean(a * x) * np.float32(1 + apart * (len(a) == 2)), x, **how)(rows)[0]

    if refused:
        with pytest.raises(ValueError, match=r"it couples the examples[^\n]*, or check=False if only rounding is left$"):
            first()
    else:
        assert first() == pytest.approx(1.25, rel=2 * apart)
    assert first(check=False) == pytest.approx(1.25, rel=2 * apart)


@all_ways
def test_targets_in_float64_for_weights_in_float32(how):
    """The loss is float64, and its gradients are rounded as float32."""
    draws = np.random.default_rng(5)
    w = tn.Tensor(draws.normal(size=(50, 20)).astype(np.float32))
    x = draws.normal(size=(80, 50)).astype(np.float32)
    step = data_parallel(lambda x, y: F.mse(np.tanh(x @ w).sum(-1), y), w, **how)
    for y in draws.normal(size=(6, 80)):
        value, g = step(x, y)
        whole = F.mse(np.tanh(x @ w).sum(-1), y)
        assert g.dtype == np.float32 and value == pytest.approx(whole.item(), rel=1e-5)
        np.testing.assert_allclose(g, tn.gradients(whole, w), rtol=0, atol=1e-5)


def test_a_loss_that_needs_rng_is_told_why_it_gets_none():
    x = tn.Tensor(np.ones(3))

    def noisy(a, rng):
        return np.mean((a + rng.normal(size=a.shape)) @ x)

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'rng'") as caught:
        data_parallel(noisy, x)(np.ones((4, 3)), rng=np.random.default_rng(0))
    assert "pass check=False for a loss that needs one" in caught.value.__notes__[0]
    value, g = data_parallel(noisy, x, check=False)(np.ones((4, 3)), rng=np.random.default_rng(0))
    assert value == pytest.approx(g @ x.value)
    with pytest.raises(TypeError) as caught:
        data_parallel(noisy, x)(np.ones((4, 3)))
    assert not hasattr(caught.value, "__notes__")


@needs_copies
@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("value", [np.ones(1), np.ones(4), np.ones(5, np.float32), np.float64(1.0), 2.0], ids=str)
def test_a_weight_that_was_given_something_else(value, shared, replay):
    x = tn.Tensor(np.ones(5))
    if not shared:
        optim.SGD([x], lr=0.1)
    step = data_parallel(lambda a: np.mean(a @ x), x, processes=True, replay=replay)
    batch, before = np.ones((4, 5)), x.value
    for _ in range(3):
        step(batch)
    x.value = value
    with pytest.raises(RuntimeError, match=r"^[^\n]* was made with an array \(5,\) float64, but t.value was set to [^\n]*$"):
        step(batch)
    x.value = before
    assert step(batch)[0] == 5


@both_ways
def test_what_the_optimizer_takes_comes_by_name(processes):
    x = tn.Tensor(np.ones(3))
    step = data_parallel(lambda a: np.mean(a @ x), x, processes=processes)
    with pytest.raises(TypeError, match=r"^data_parallel: y, lr came by name; pass the batch by position, [^\n]*$"):
        step(np.ones((4, 3)), y=1, lr=0.1)


@both_ways
def test_a_loss_that_is_no_function(processes):
    with pytest.raises(TypeError, match=r"^data_parallel: loss is int 3, expected a function of the batch, [^\n]*$"):
        data_parallel(3, tn.Tensor(np.ones(3)), processes=processes)


@needs_copies
def test_a_tensor_in_the_batch():
    x = tn.Tensor(np.ones(3))
    step = data_parallel(lambda a: np.mean(a @ x), x, processes=True)
    with pytest.raises(TypeError, match=r"^data_parallel: the batch has Tensor [^\n]*, expected an array; pass its t.value$"):
        step(tn.Tensor(np.ones((4, 3))))


def test_a_small_sum_is_a_sum():
    x = tn.Tensor(RNG.normal(size=3))
    with pytest.raises(ValueError, match="its halves give"):
        data_parallel(lambda a: 1e-9 * np.sum(np.square(a @ x)), x)(RNG.normal(size=(6, 3)))


def test_two_means_over_different_counts_are_refused():
    x, targets = tn.Tensor(RNG.normal(size=(4, 3))), np.array([0, -100, 1, 2])

    def loss(rows, targets):
        return F.cross_entropy(x[rows], targets) + F.mse(x[rows], np.zeros((len(rows), 3)))

    with pytest.raises(ValueError, match="which no single weight fits"):
        data_parallel(loss, x)(np.arange(4), targets)


@pytest.mark.parametrize(("x", "message"), [(np.nan, "is nan"), (np.inf, "is inf"), (0.0, "has a gradient that is not finite")])
def test_a_first_batch_that_is_not_finite_is_not_taken_for_one_that_couples_its_examples(x, message):
    w = tn.Tensor(np.ones(3))
    step = data_parallel(lambda x: np.sqrt(w * x).mean(), w)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=f"the loss of the first batch {message}, so [^\n]*$"):
        step(np.full((4, 3), x))


@pytest.mark.parametrize("rng", [3, np.random, np.random.RandomState(0)], ids=["seed", "module", "legacy"])
def test_rng_is_a_generator(rng):
    w = tn.Tensor(np.ones(3))
    step = data_parallel(lambda x, rng=None: (w * x).mean(), w)
    with pytest.raises(TypeError, match=r"data_parallel: rng is [^\n]*, expected a Generator: np\.random\.default_rng\(\d\), or None$"):
        step(np.ones((4, 3)), rng=rng)


@both_ways
def test_bad_batches_and_errors_in_a_half(processes):
    x = tn.Tensor(np.ones(3))
    step = data_parallel(lambda a, b: np.mean(a @ x), x, processes=processes)
    for batch in [(), (np.ones((2, 3)), np.ones((3, 3))), (np.ones((0, 3)),), (1.0,)]:
        with pytest.raises(ValueError, match="expected arrays with one common first axis"):
            step(*batch)
    with pytest.raises(ValueError, match="no target of the batch counts"):
        data_parallel(lambda a: F.cross_entropy(a[:, None] * x, np.full(len(a), -100)), x)(np.ones(4))

    def fails_in_one_half(a):
        if len(a) == 2 and a[0] == 9:
            raise FloatingPointError("this half is bad")
        return np.mean(a) * np.sum(x)

    step = data_parallel(fails_in_one_half, x, processes=processes)
    step(np.zeros(4))
    for bad in ([9.0, 9, 0, 0], [0.0, 0, 9, 9]):
        with pytest.raises(FloatingPointError, match="this half is bad"):
            step(np.array(bad))
        assert step(np.full(4, 2.0))[0] == 6.0


def test_blas_has_one_thread_in_each_half_and_its_own_again_afterwards():
    pytest.importorskip("threadpoolctl")

    def counts():
        return [pool["num_threads"] for pool in threads.blas_pools().info() if pool["user_api"] == "blas"]

    x, seen, before = tn.Tensor(np.ones(3)), [], counts()

    def loss(a):
        if len(a) == 2:
            seen.append(counts())
        return np.mean(a) * np.sum(x)

    step = data_parallel(loss, x)
    step(np.ones(4))
    seen.clear()
    step(np.ones(4))
    assert len(seen) == 2 and all(n == 1 for ns in seen for n in ns)
    assert counts() == before


def test_without_threadpoolctl_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "threadpoolctl", None)
    threads.blas_pools.cache_clear()
    with pytest.raises(ImportError, match=r'threadpoolctl is missing: pip install "tinygrad_notes\[fast\]"'):
        data_parallel(lambda a: a, tn.Tensor(1.0))
    assert threads.both(lambda: 1, lambda: 2) == (1, 2)  # what can do without, does
    monkeypatch.undo()
    threads.blas_pools.cache_clear()
