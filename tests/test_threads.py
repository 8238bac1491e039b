"""Kernels on two threads give the very same numbers; BLAS gets its threads back, whatever happens."""

import os
import signal
import threading
import time
import warnings

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes import threads
from tinygrad_notes.registry import using_reference

import numpy as np
import pytest

threadpoolctl = pytest.importorskip("threadpoolctl", reason="without threadpoolctl everything runs on one thread")


@pytest.fixture(autouse=True)
def two_cores_and_no_job_too_small(monkeypatch):
    monkeypatch.setattr(threads, "LARGE", 0)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "_blas_is_threaded", lambda: True)  # also where the tests run with one


def blas_threads():
    """Of those libraries that `threads` knows: one that a test loads later, such as scipy's, is no part of this."""
    return [pool["num_threads"] for pool in threads.blas_pools().info() if pool["user_api"] == "blas"]


def attention(rng, **options):
    q, k, v = (tn.Tensor(rng.normal(size=(2, 3, 9, 4)).astype(np.float32)) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, block=(4, 3), **options)
    return [y.value, *tn.gradients(np.sum(y * y), [q, k, v])]


def shared_bias(rng):
    bias = tn.Tensor(rng.normal(size=(9, 9)).astype(np.float32))
    q, k, v = (rng.normal(size=(2, 3, 9, 4)).astype(np.float32) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v, bias=bias, block=(4, 3))
    return [y.value, tn.gradients(np.sum(y * y), bias)]


def convolution(rng):
    x, w = tn.Tensor(rng.normal(size=(7, 2, 6, 5))), tn.Tensor(rng.normal(size=(3, 2, 3, 3)))
    y = F.conv2d(x, w, padding=1)
    return [y.value, *tn.gradients(np.sum(y * y), [x, w])]


JOBS = {
    "attention": attention,
    "causal attention": lambda rng: attention(rng, causal=True),
    "a bias that all heads share": shared_bias,
    "convolution": convolution,
}


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or threads.cores() < 2, reason="needs two cores, and a system that keeps threads to some"
)
def test_each_thread_has_half_of_the_cores_while_it_lasts(monkeypatch):
    monkeypatch.setattr(threads, "_running", lambda: 1)
    before = os.sched_getaffinity(0)
    first, second = threads.both(lambda: os.sched_getaffinity(0), lambda: os.sched_getaffinity(0))
    assert first and second and not first & second and first | second == before
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ZeroDivisionError):
        threads.both(lambda: 1 / 0, lambda: None)
    assert os.sched_getaffinity(0) == before
    monkeypatch.setattr(threads, "_running", lambda: len(before) + 1)  # others need these cores too
    assert threads.both(lambda: os.sched_getaffinity(0), lambda: os.sched_getaffinity(0)) == (before, before)


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="needs a system that counts what runs")
def test_a_busy_thread_is_counted():
    assert threads._running() >= 1
    with open("/proc/loadavg", encoding="utf-8") as file:
        assert 1 <= threads._running() <= int(file.read().split()[3].split("/")[1])  # of all that there are


def test_where_the_load_is_not_to_be_had_threads_run_anywhere(monkeypatch):
    def missing():
        raise FileNotFoundError

    monkeypatch.setattr(threads, "_running", missing)
    assert threads._halves() is None


def test_a_system_that_keeps_no_thread_to_its_cores_is_no_error(monkeypatch):
    def forbidden(*args):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    monkeypatch.setattr(threads, "_running", lambda: 1)
    assert threads.both(lambda: 1, lambda: 2) == (1, 2)
    monkeypatch.delattr(os, "sched_setaffinity")
    assert threads.both(lambda: 1, lambda: 2) == (1, 2)


def test_ctrl_c_while_waiting_is_raised_when_the_other_thread_has_ended():
    done = []

    def second():
        time.sleep(0.3)
        done.append(1)

    def first():
        threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.both(first, second)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done, "the second thread was left to itself"
    assert threads.both(int, int) == (0, 0)


def test_both_see_the_context_of_the_caller():
    with tn.reference():
        assert threads.both(using_reference.get, using_reference.get) == (True, True)
    assert threads.both(using_reference.get, using_reference.get) == (False, False)


def test_one_thread_where_blas_has_one(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(threads, "cores", lambda: 2)
    with threadpoolctl.threadpool_limits(1):
        assert threads.both(threading.get_ident, threading.get_ident) == (threading.get_ident(),) * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are copies")
def test_a_copy_of_the_process_has_all_of_its_blas_threads():
    before = blas_threads()

    def copied():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork beside threads
            child = os.fork()
        if child == 0:
            os._exit(0 if blas_threads() == before else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert threads.both(copied, int)[0] == 0


def test_shares_cover_everything_once(monkeypatch):
    for n, most, large in ((7, 3, 0), (7, 3, 100), (8, 100, 0), (1, 4, 0), (0, 4, 0), (5, 0, 0), (6, 2, 0)):
        monkeypatch.setattr(threads, "LARGE", large)
        parts = threads.share(n, most, lambda part: part, 50)
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
        assert all(1 <= part.stop - part.start <= max(1, most) for part in parts)
        if large == 0 and n > 1:
            assert len(parts) % 2 == 0 or len(parts) == n, "one thread has more to do than the other"


@pytest.mark.parametrize("name", JOBS)
def test_two_threads_give_the_numbers_of_one(name, monkeypatch):
    monkeypatch.setattr("tinygrad_notes.fused.convolution.ROOM", 100)
    together = JOBS[name](np.random.default_rng(0))
    monkeypatch.setattr(threads, "cores", lambda: 1)
    for a, b in zip(together, JOBS[name](np.random.default_rng(0)), strict=True):
        # The parts of a sum may have other sizes, in which BLAS adds in another order.
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * np.finfo(a.dtype).eps * np.max(np.abs(a)))


def test_the_parts_are_shared_and_their_results_stand_in_order():
    barrier = threading.Barrier(2, timeout=60)
    who = []

    def work(i):
        if i < 2:
            barrier.wait()  # passes only if two threads are here at once
        who.append(threading.get_ident())
        return i * i

    assert threads.for_each(range(7), work, 1) == [i * i for i in range(7)]
    assert len(set(who)) == 2


def test_nothing_is_nested_and_a_second_caller_does_not_wait():
    inner, outside = [], []

    def nested(i):
        me = threading.get_ident()
        threads.for_each(range(3), lambda j: inner.append(threading.get_ident() == me), 1)
        other = threading.Thread(target=lambda: outside.append(threads.for_each([1, 2], lambda j: j, 1)))
        other.start()
        other.join(60)

    threads.for_each(range(2), nested, 1)
    assert inner == [True] * 6
    assert outside == [[1, 2]] * 2


@pytest.mark.parametrize("bad", [0, 5])
def test_an_error_comes_out_and_blas_has_its_threads_again(bad):
    before = blas_threads()

    def work(i):
        if i == bad:
            raise ZeroDivisionError("part of the work failed")

    with pytest.raises(ZeroDivisionError, match="part of the work failed"):
        threads.for_each(range(6), work, 1)
    assert blas_threads() == before
    assert threads.for_each(range(6), abs, 1) == list(range(6))


@pytest.mark.parametrize("number", [1, 2], ids=["taken", "given back"])
def test_blas_has_its_threads_again_if_ctrl_c_came_between(monkeypatch, number):
    with threads.blas_pools().limit(limits=2, user_api="blas"):
        library, before = threads.blas_pools().lib_controllers[0], blas_threads()
        change = library.set_num_threads
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

            def interrupted(n):
                if n == 1:
                    change(n)
                if n == number:
                    patch.undo()
                    raise KeyboardInterrupt

            patch.setattr(library, "set_num_threads", interrupted)
            with threads.one_blas_thread():
                pass
        with threads.one_blas_thread() as two:
            assert two and set(blas_threads()) == {1}
        assert blas_threads() == before


def test_one_blas_thread_each():
    seen = threads.for_each(range(4), lambda i: blas_threads(), 1)
    assert all(n == 1 for counts in seen for n in counts)


def test_small_jobs_and_single_parts_stay_where_they_are(monkeypatch):
    monkeypatch.setattr(threads, "LARGE", 10)
    me = threading.get_ident()
    assert threads.for_each(range(3), lambda i: threading.get_ident(), 9) == [me] * 3
    assert threads.for_each([1], lambda i: threading.get_ident(), 11) == [me]
