"""A copy of this process answers questions, says what went wrong in it, and ends when it should."""

import gc
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time

from tinygrad_notes import copies, threads

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not copies.possible(), reason="needs a system that can copy a process")


class OfMyOwn(Exception):
    pass


def answer(do, **given):
    if do == "pid":
        return {"pid": os.getpid()}
    if do == "echo":
        return given
    if do == "sleep":
        time.sleep(0.2)
        return given
    if do == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return given
    if do == "handlers":
        return {"handlers": [signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.SIG_IGN]}
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"ValueError": ValueError, "KeyError": KeyError, "OfMyOwn": OfMyOwn}.get(do, RuntimeError)("what went wrong")


def asked(copy, **question):
    copy.ask(**question)
    return copy.wait()


def gone(pid):
    """Whether no such process runs any more, within a few seconds."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_it_is_another_process_and_answers_in_order():
    copy = copies.Copy(answer)
    assert asked(copy, do="pid")["pid"] == copy.process.pid != os.getpid()
    for x in ([1, 2.5, None], "words", {"a": 0.1}, float("inf"), 2**63 - 1):
        assert asked(copy, do="echo", x=x) == {"x": x}


def test_an_answer_that_nobody_waited_for_is_forgotten():
    copy = copies.Copy(answer)
    copy.ask(do="sleep", x=1)
    time.sleep(0.1)  # it has read the question
    copy.ask(do="ValueError")
    assert asked(copy, do="sleep", x=3) == {"x": 3}  # its answer comes well after that to the first


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("ValueError", ValueError, "what went wrong"),
        ("KeyError", KeyError, "'what went wrong'"),
        ("OfMyOwn", RuntimeError, "OfMyOwn: what went wrong"),
    ],
)
def test_an_error_is_raised_here_and_tells_where_it_happened(error, kind, message):
    copy = copies.Copy(answer)
    with pytest.raises(kind) as raised:
        asked(copy, do=error)
    assert str(raised.value) == message
    assert "In the second process" in raised.value.__notes__[0] and "in answer" in raised.value.__notes__[0]
    assert asked(copy, do="echo", x=1) == {"x": 1}


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\n"])
def test_a_long_error_is_shortened(letter):
    def fail():
        raise ValueError(100_000 * letter)

    copy = copies.Copy(fail)
    for _ in range(2):
        with pytest.raises(ValueError) as raised:
            asked(copy)
        assert str(raised.value) == 200 * letter


def test_an_exception_that_needs_more_than_a_message():
    assert repr(copies._as_raised("UnicodeDecodeError", "bad byte", "...")) == "RuntimeError('UnicodeDecodeError: bad byte')"


def test_a_copy_that_was_killed_is_an_error_of_one_line():
    copy = copies.Copy(answer)
    for do in ("die", "echo"):
        with pytest.raises(RuntimeError, match=r"^the second process has ended, with exit code -9[^\n]*$"):
            asked(copy, do=do)


def test_a_copy_that_cannot_be_made_leaves_no_pipe_open(monkeypatch):
    def start(self):
        raise OSError("no memory for another process")

    monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", start)
    first = os.pipe()
    for end in first:
        os.close(end)
    with pytest.raises(OSError, match="no memory"):
        copies.Copy(answer)
    now = os.pipe()  # the lowest numbers that are free
    for end in now:
        os.close(end)
    assert now == first


def test_ctrl_c_is_for_the_first_process():
    copy = copies.Copy(answer)
    asked(copy, do="pid")
    os.kill(copy.process.pid, signal.SIGINT)
    assert asked(copy, do="echo", x=1) == {"x": 1}


def test_what_the_program_does_before_it_ends_is_not_done_twice():
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # such as to save the weights, and to go on for a moment
    try:
        assert asked(copies.Copy(answer), do="handlers") == {"handlers": [True, True]}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_it_ends_even_if_it_does_not_want_to():
    first = [copies.Copy(answer)]
    second = copies.Copy(answer)  # it has the first one's other end, so that this one is not told to end by that
    asked(first[0], do="ignore")
    process = first[0].process
    forget = threading.Thread(target=first.clear)
    forget.start()
    forget.join(10)
    os.kill(process.pid, signal.SIGKILL) if forget.is_alive() else None
    assert process.exitcode == -signal.SIGKILL and not forget.is_alive()
    assert asked(second, do="echo", x=1) == {"x": 1}


def test_a_wait_that_is_interrupted_leaves_nothing_behind():
    copy = copies.Copy(answer)
    copy.ask(do="sleep", x=2)
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        copy.wait()
    timer.join()
    assert asked(copy, do="echo", x=3) == {"x": 3}


def test_it_ends_when_nobody_holds_it_even_if_a_later_copy_does():
    first = copies.Copy(answer)
    pid = asked(first, do="pid")["pid"]
    second = copies.Copy(answer)  # it has the first one's other end, too
    del first
    gc.collect()
    assert gone(pid)
    assert asked(second, do="echo", x=1) == {"x": 1}


def test_a_later_copy_that_forgets_an_earlier_one_does_not_end_it():
    held = [copies.Copy(answer)]

    def forget():
        held.clear()
        return {"collected": gc.collect()}

    asked(copies.Copy(forget))
    assert asked(held[0], do="echo", x=1) == {"x": 1}


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_it_ends_with_its_process(end):
    code = f"""
import os
from tinygrad_notes import copies
a, b = (copies.Copy(lambda: {{}}) for _ in range(2))
for copy in (a, b):
    copy.ask()
    copy.wait()
print(a.process.pid, b.process.pid, flush=True)
{end}
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == "" and len(run.stdout.split()) == 2
    assert all(gone(int(pid)) for pid in run.stdout.split())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # from Python 3.12 on
def test_it_ends_with_its_process_even_if_a_worker_of_that_lives_on():
    (end, other), (until, over) = os.pipe(), os.pipe()
    if os.fork() == 0:
        try:
            copy = copies.Copy(answer)
            if os.fork() == 0:  # it has the copy's other end, too
                os.close(over)
                select.select([until], [], [], 10)
            else:
                os.write(other, f"{copy.process.pid} {os.getpid()}".encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    pid, owner = map(int, os.read(end, 100).split())
    os.waitpid(owner, 0)
    assert gone(pid)
    for each in (end, other, until, over):
        os.close(each)


@pytest.mark.parametrize("size", [1, 70_000, 300_000])
def test_messages_longer_than_a_pipe(size):
    assert asked(copies.Copy(answer), do="echo", x="a" * size) == {"x": "a" * size}


def test_a_copy_computes_with_one_thread():
    pytest.importorskip("threadpoolctl")

    def count():
        blas = [pool["num_threads"] for pool in threads.blas_pools().info() if pool["user_api"] == "blas"]
        return {"blas": blas, "mine": threads.both(os.getpid, os.getpid) and threads._worker.cache_info().currsize}

    before = count()["blas"]
    assert set(asked(copies.Copy(count))["blas"]) == {1} and asked(copies.Copy(count))["mine"] == 0
    assert count()["blas"] == before


def test_arrays_lie_one_after_the_other_in_shared_memory():
    arrays = [np.arange(3, dtype=np.int64), np.ones((2, 5), np.float32), np.zeros((0, 4)), np.array(2.5), np.array([True])]
    layout = copies.layout(arrays)
    memory = copies.shared_array(copies.room(layout), np.uint8)
    views = copies.arrays_in(memory, layout)
    for view, a in zip(views, arrays):
        np.copyto(view, a)
    for view, a in zip(copies.arrays_in(memory, layout), arrays):
        np.testing.assert_array_equal(view, a, strict=True)
    assert all(view.ctypes.data % copies.LINE == 0 for view in views)
    assert copies.is_shared(memory) and copies.is_shared(memory[1:].reshape(-1, 1)) and not copies.is_shared(np.ones(3))

    def write():
        views[1][...] = 7
        return {}

    asked(copies.Copy(write))
    assert (views[1] == 7).all()


def test_looking_ends_when_something_arrives():
    end, other = os.pipe()
    arrived = copies._poll(end)
    assert not copies._look(arrived, 0.001)
    os.write(other, b"!")
    assert copies._look(arrived, 1.0)
    os.close(other)
    os.close(end)
