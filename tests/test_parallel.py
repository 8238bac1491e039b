"""data_parallel: two half-batch tapes give what one tape gives, and what cannot be cut is refused."""

import threading

import tinygrad_notes as tn
from models.language import gpt
from tinygrad_notes import functional as F
from tinygrad_notes import threads
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


@pytest.mark.parametrize("B", [1, 2, 5])
def test_equals_one_tape(B):
    model, params = model_and_params()
    ids, targets = IDS[:B, :-1], IDS[:B, 1:]
    whole = gpt.loss(model, ids, targets)
    expected = tn.gradients(whole, params)
    step = data_parallel(lambda ids, targets: gpt.loss(model, ids, targets), params, unused="raise")
    for _ in range(2):
        value, grads = step(ids, targets)
        assert value == pytest.approx(whole.item(), rel=1e-13)
        for name, g in grads.items():
            np.testing.assert_allclose(g, expected[name], rtol=0, atol=1e-13)


@pytest.mark.parametrize("ignored", [slice(0, 2), slice(3, 5), np.array([0, 1, 2])])  # the last: a half with nothing to learn
def test_halves_are_weighted_by_their_valid_targets(ignored):
    x, w, targets = tn.Tensor(RNG.normal(size=(3, 4))), RNG.random(4) + 0.5, np.array([0, 3, 1, 2, 2])
    targets[ignored] = -100
    features = RNG.normal(size=(5, 3))

    def loss(features, targets):
        return F.cross_entropy(features @ x, targets, weight=w, label_smoothing=0.1)

    value, g = data_parallel(loss, x)(features, targets)
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


def contrastive(a, x):
    z = F.normalize(a @ x)
    return F.cross_entropy(z @ z.T, np.arange(len(a)))


@pytest.mark.parametrize("name", ["contrastive", "batch norm", "sum"])
def test_losses_that_couple_the_batch_are_refused(name):
    x, features = tn.Tensor(RNG.normal(size=(3, 4))), RNG.normal(size=(6, 3))
    norm = BatchNorm1d(4, dtype=np.float64)
    losses = {
        "contrastive": lambda a: contrastive(a, x),
        "batch norm": lambda a: np.mean(norm(a @ x, train=True) ** 4),
        "sum": lambda a: np.sum((a @ x) ** 2),
    }
    with pytest.raises(ValueError, match=r"its halves give .*: it couples the examples"):
        data_parallel(losses[name], x)(features)


def test_a_last_layer_of_zeros_hides_nothing():
    """Its loss is log 2 for any batch and its halves, so that only the gradients tell that a norm couples the examples."""
    first, last, norm = tn.Tensor(RNG.normal(size=(3, 4))), tn.Tensor(np.zeros((4, 2))), BatchNorm1d(4, dtype=np.float64)
    labels = np.array([0, 1, 1, 0, 0, 1])
    with pytest.raises(ValueError, match="other gradients than its halves together: it couples the examples"):
        data_parallel(lambda a, y: F.cross_entropy(norm(a @ first, train=True) @ last, y), [first, last])(RNG.normal(size=(6, 3)), labels)
    value, _ = data_parallel(lambda a, y: F.cross_entropy(np.tanh(a @ first) @ last, y), [first, last])(RNG.normal(size=(6, 3)), labels)
    assert value == pytest.approx(np.log(2))


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


def test_bad_batches_and_errors_in_a_half():
    x = tn.Tensor(np.ones(3))
    step = data_parallel(lambda a, b: np.mean(a @ x), x)
    for batch in [(), (np.ones((2, 3)), np.ones((3, 3))), (np.ones((0, 3)),), (1.0,)]:
        with pytest.raises(ValueError, match="expected arrays with one common first axis"):
            step(*batch)
    with pytest.raises(ValueError, match="no target of the batch counts"):
        data_parallel(lambda a: F.cross_entropy(a[:, None] * x, np.full(len(a), -100)), x)(np.ones(4))

    def fails_in_one_half(a):
        if len(a) == 2 and a[0] == 9:
            raise FloatingPointError("this half is bad")
        return np.mean(a) * np.sum(x)

    step = data_parallel(fails_in_one_half, x)
    step(np.zeros(4))
    for bad in ([9.0, 9, 0, 0], [0.0, 0, 9, 9]):
        with pytest.raises(FloatingPointError, match="this half is bad"):
            step(np.array(bad))


def test_blas_has_one_thread_in_each_half_and_its_own_again_afterwards():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    x, seen, before = tn.Tensor(np.ones(3)), [], threads()

    def loss(a):
        if len(a) == 2:
            seen.append(threads())
        return np.mean(a) * np.sum(x)

    step = data_parallel(loss, x)
    step(np.ones(4))
    seen.clear()
    step(np.ones(4))
    assert len(seen) == 2 and all(n == 1 for counts in seen for n in counts)
    assert threads() == before


def test_without_threadpoolctl_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "threadpoolctl", None)
    threads.blas_pools.cache_clear()
    with pytest.raises(ImportError, match=r'threadpoolctl is missing: pip install "tinygrad_notes\[fast\]"'):
        data_parallel(lambda a: a, tn.Tensor(1.0))
    assert threads.both(lambda: 1, lambda: 2) == (1, 2)  # what can do without, does
    monkeypatch.undo()
    threads.blas_pools.cache_clear()
