"""The parts of the benchmark that need no measuring: what is asked for, processes that fail, fits, the page."""

import json
import os
import re
import subprocess
import sys
import time

from benchmarks import __main__ as program
from benchmarks import engines, parts, report, run, scaling
from benchmarks.engines import ENGINES, Engine
from benchmarks.processes import ROOT, Worker, WorkerError
from benchmarks.workloads import ADAMW, WORKLOADS, Workload, chosen, make
from tinygrad_notes.optim.optimizer import Optimizer
from tinygrad_notes.registry import registry

import numpy as np
import pytest

# --- what is measured ---------------------------------------------------------------------------------


def test_workloads_are_those_of_the_table():
    keys = [w.key for w in WORKLOADS]
    assert keys == ["W1", "W2", "W3", "W4", "W5", "W6", "W7-512", "W7-2048", "W7-8192", "tape", "decode"]
    targets = [(0.20, 0.12), (0.50, 0.35), (0.65, 0.45), (0.60, 0.40), (0.50, 0.30), (1.0, 0.9), (0.55, 0.45), (0.65, 0.45), (0.60, 0.45)]
    assert [(w.target, w.stretch) for w in WORKLOADS[:9]] == targets
    assert 1 / WORKLOADS[-1].target == pytest.approx(0.9)  # of the tokens a second
    assert ADAMW == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}


@pytest.mark.parametrize(
    ("key", "parameters"), [("W1", 4_417), ("W2", 28_576), ("W3", 809_856), ("W5", 37_762), ("W6", 4 * (9 * 32 + 3) * 32)]
)
def test_number_of_parameters(key, parameters):
    weights, _ = make(next(w for w in WORKLOADS if w.key == key))
    assert sum(x.size for x in weights.values()) == parameters


@pytest.mark.parametrize("workload", [pytest.param(w.shrunk(), id=w.key) for w in WORKLOADS])
def test_arrays_are_the_same_each_time_and_float32(workload):
    for first, second in zip(make(workload), make(workload)):
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[k], second[k]) for k in first)
        assert {x.dtype for k, x in first.items() if k not in ("ids", "targets")} <= {np.dtype(np.float32)}
    assert workload.sizes.keys() == next(w for w in WORKLOADS if w.key == workload.key).sizes.keys()


def test_choosing():
    assert [w.key for w in chosen(["W7", "W2"])] == ["W2", "W7-512", "W7-2048", "W7-8192"]
    assert [w.key for w in chosen(["W7-512"])] == ["W7-512"]
    assert [e.key for e in engines.chosen(["jax"])] == ["ours", "torch", "jax"]
    with pytest.raises(ValueError, match="no workload 'W9'; choose from W1, W2"):
        chosen(["W9"])
    with pytest.raises(
        ValueError, match="no engine 'theano'; choose from ours, ours-replay, ours-threads, ours-processes, ours-both, torch"
    ):
        engines.chosen(["theano"])


def test_a_wrong_option_is_one_line(capsys):
    assert program.main(["--only", "W9", "--no-write"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_engine_says_which_extra():
    line = Engine("other", "Another", "other", "a_package_that_is_not_installed").missing()
    assert line is not None and "\n" not in line and 'pip install "tinygrad_notes[bench]"' in line
    assert ENGINES["ours"].missing() is None


# --- processes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    with Worker(ENGINES["ours"], str(tmp_path_factory.mktemp("worker")), threads=1) as worker:
        yield worker


def test_a_worker_answers_and_an_error_is_one_line(worker, tmp_path):
    workload = chosen(["W1"])[0].shrunk()
    run.write(workload, tmp_path / "W1.npz")
    asked = {"workload": vars(workload), "data": str(tmp_path / "W1.npz")}
    worker.ask("load", **asked)
    assert worker.ask("check", file=str(tmp_path / "found.npz"), steps=1)["seconds"] > 0
    with np.load(tmp_path / "found.npz") as found:
        assert {"output loss", "output 0.weight", "weight 4.bias"} <= set(found.files)
    assert worker.ask("steps", n=2)["seconds"] > 0
    with pytest.raises(WorkerError, match=r"^ours: load failed: FileNotFoundError: .*missing.npz[^\n]*$"):
        worker.ask("load", **asked | {"data": str(tmp_path / "missing.npz")})
    assert worker.alive()
    worker.ask("unload")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="where the state of a process is to be read")
def test_a_worker_stands_still_while_it_is_not_asked(worker):
    worker.ask("about")

    def state():
        with open(f"/proc/{worker.process.pid}/stat", encoding="utf-8") as file:
            return file.read().split(") ")[1][0]

    for _ in range(100):  # the signal takes a moment
        if state() == "T":
            break
        time.sleep(0.05)
    assert state() == "T"  # stopped: its threads cannot take the cores from the engine whose turn it is


def test_a_worker_that_takes_too_long_is_ended(tmp_path):
    with Worker(ENGINES["ours"], str(tmp_path), threads=1) as worker:
        with pytest.raises(WorkerError, match=r"^ours: about took more than 0 seconds; the process was ended$"):
            worker.ask("about", timeout=0.01)
        assert not worker.alive()


def test_a_worker_that_dies_is_one_line(worker):
    worker.process.kill()
    with pytest.raises(WorkerError, match=r"^ours: the process ended with code -9 when asked to unload[^\n]*$"):
        worker.ask("unload")
    assert not worker.alive()


def test_a_worker_that_cannot_start_says_its_last_words(tmp_path):
    with pytest.raises(
        WorkerError, match=r"^none: the process ended with code 1 when asked to start; its last words: ModuleNotFoundError: [^\n]*$"
    ):
        Worker(Engine("none", "None", "no_such_engine"), str(tmp_path), threads=1)


NOISY = """
import sys, types
engine = types.ModuleType("benchmarks.engines.noisy")
engine.about = lambda: print("noise") or {"version": "1"}
sys.modules[engine.__name__] = engine
from benchmarks import worker
worker.main("noisy")
"""


def test_what_an_engine_prints_does_not_stand_between_the_answers():
    done = subprocess.run(
        [sys.executable, "-c", NOISY],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        input='{"do": "about"}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"ready": True}, {"about": {"version": "1"}}]
    assert "noise" in done.stderr


class Stub:
    """A worker of a given speed, which dies after some turns."""

    def __init__(self, seconds, lasts=10**9, name="", order=None):
        self.seconds, self.lasts, self.asked = seconds, lasts, []
        self.name, self.order = name, [] if order is None else order

    def ask(self, do, n):
        self.asked.append(n)
        self.order.append(self.name)
        self.lasts -= 1
        if self.lasts < 0:
            raise WorkerError("stub: the process ended with code -11 when asked to steps")
        return {"seconds": self.seconds * n}

    def alive(self):
        return True


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PAUSE", 0.0)
    said: list[str] = []
    bench = run.Bench([], tmp_path, threads=1, say=said.append)
    return bench, said


def test_rounds_divide_by_the_baseline(bench):
    bench, _ = bench
    bench.workers = {"ours": Stub(0.25), "torch": Stub(0.5), "hips": Stub(9.0)}
    cells = bench.rounds({"ours": 0.25, "torch": 0.5, "hips": 9.0}, rounds=4, seconds=100)
    assert cells["ours"] == {"seconds": 0.25, "rounds": 4, "ratio": [0.5, 0.5, 0.5]}
    assert cells["hips"] == {"seconds": 9.0, "rounds": 0, "ratio": [18.0, 18.0, 18.0]}
    assert bench.workers["ours"].asked == [1] * 4 and not bench.workers["hips"].asked


def test_a_slow_baseline_is_still_timed_in_rounds(bench):
    bench, _ = bench
    bench.workers = {"ours": Stub(4.0), "torch": Stub(5.0), "jax": Stub(16.0)}
    cells = bench.rounds({"ours": 4.0, "torch": 5.0, "jax": 16.0}, rounds=9, seconds=1)
    assert [cells[key]["rounds"] for key in ("ours", "torch", "jax")] == [7, 7, 0]


def test_every_engine_begins_a_round_in_turn(bench):
    bench, _ = bench
    order: list[str] = []
    bench.workers = {name: Stub(0.5, name=name, order=order) for name in ("ours", "torch", "jax")}
    bench.rounds(dict.fromkeys(bench.workers, 0.5), rounds=4, seconds=100)
    ours, torch, jax = bench.workers
    assert order == [ours, torch, jax, torch, jax, ours, jax, ours, torch, ours, torch, jax]


def test_rounds_end_with_the_budget_and_fast_engines_take_many_steps(bench):
    bench, _ = bench
    bench.workers = {"ours": Stub(0.001), "torch": Stub(2.0)}
    cells = bench.rounds({"ours": 0.001, "torch": 2.0}, rounds=50, seconds=20)
    assert cells["torch"]["rounds"] == 9  # 2.2 seconds each
    assert bench.workers["ours"].asked == [8, 150] * 9


def test_an_engine_that_dies_in_a_round_is_left_out_and_the_others_go_on(bench):
    bench, said = bench
    bench.workers = {"ours": Stub(0.5), "torch": Stub(0.5), "jax": Stub(0.5, lasts=1)}
    cells = bench.rounds({"ours": 0.5, "torch": 0.5, "jax": 0.5}, rounds=3, seconds=100)
    assert cells["jax"] == {"why": "stub: the process ended with code -11 when asked to steps"}
    assert cells["ours"]["rounds"] == 3 and len(said) == 1


class Computes(Stub):
    """A worker whose loss is given."""

    def __init__(self, loss):
        super().__init__(0.5)
        self.loss, self.done = np.float32(loss), []

    def ask(self, do, n=1, file=None, **arguments):
        self.done.append(do)
        if do == "check":
            np.savez(file, **{"output loss": self.loss})
        return super().ask(do, n)


def test_an_engine_that_computes_something_else_is_not_timed(bench):
    bench, said = bench
    bench.engines = {key: ENGINES[key] for key in ("ours", "torch", "jax")}
    bench.workers = {"ours": Computes(1.0), "torch": Computes(1.0), "jax": Computes(1.1)}
    cells = bench.measure(chosen(["W1"])[0].shrunk(), rounds=2, seconds=100)
    assert cells["jax"] == {"why": "loss differs by 1.0e-01, more than 1e-05"}
    assert said == ["jax: W1 is not timed: loss differs by 1.0e-01, more than 1e-05"]
    assert cells["torch"]["ratio"] == [1.0, 1.0, 1.0]
    assert bench.workers["jax"].done == ["load", "check", "unload"]
    assert bench.workers["torch"].done == ["load", "check", "steps", "steps", "unload"]
    assert not list(bench.folder.iterdir())


def test_what_an_engine_refuses_is_not_loaded(bench):
    bench, _ = bench
    bench.engines = {key: ENGINES[key] for key in ("ours", "hips")}
    bench.workers = {"ours": Computes(1.0), "hips": Computes(1.0)}
    cells = bench.measure(next(w for w in WORKLOADS if w.key == "W7-8192").shrunk(), rounds=1, seconds=1)
    assert cells["hips"] == {"why": "all scores at once do not fit into memory"}
    assert bench.workers["hips"].done == ["unload"] and cells["ours"]["ratio"] is None


def test_the_parts_of_a_step_make_up_the_whole_and_leave_nothing_behind():
    watched = lambda: [vars(item).get(name) for item in registry for name in ("forward", "backward", "pull")] + [Optimizer.step]
    before, begin = watched(), time.perf_counter()
    found = parts.of(chosen(["W2"])[0].shrunk(), 0.0)
    assert set(found) == set(parts.PARTS)
    assert all(ms > 0 for part, ms in found.items() if part != "engine")  # a GPT has all of them
    assert sum(found.values()) < (time.perf_counter() - begin) * 1e3
    assert watched() == before
    assert parts.main(["W9"]) == 2


# --- fits and the page --------------------------------------------------------------------------------------


def test_the_exponent_of_a_power_with_fixed_costs():
    points = {str(x): 1e-6 * x**2 + (1.0 if x < 8 else 0.0) for x in (1, 2, 4, 8, 16, 32)}  # JSON makes the sizes strings
    assert scaling.exponent(points) == pytest.approx(2)


def canned():
    """Results as they are after JSON: ours reaches every target but W1's."""
    cell = lambda ratio, seconds=0.01: {"ratio": [ratio - 0.01, ratio, ratio + 0.01], "seconds": seconds, "rounds": 9}
    rows = {}
    for w in WORKLOADS:
        cells = {"ours": cell(0.4), "torch": cell(1.0, 0.02), "numpy": cell(0.2), "hips": {"why": "too large"}}
        rows[w.key] = {"cells": cells, "memory": {"ours": 12_300_000, "torch": 45_600_000, "hips": "died"}}
    rows["W2"]["cells"]["hips"] = {"ratio": [3.14, 3.14, 3.14], "seconds": 3.0, "rounds": 0}
    points = {"ours": {"256": 0.001, "512": 0.004, "1024": 0.016}, "torch": {"256": 0.002, "512": 0.004, "1024": 0.008}}
    return {
        "machine": {"CPU": "a CPU", "cores": "2 usable"},
        "engines": {"ours": {"NumPy": "2.4", "BLAS core type": "SkylakeX"}, "torch": {"PyTorch": "2.13"}},
        "workloads": rows,
        "scaling": {"attention": points, "attention memory": points},
        "parts": {"W1": dict.fromkeys(parts.PARTS, 0.5)},
        "kernels": [
            {"name": "gelu", "shape": "768x512", "kernel": 100.0, "twin": 250.0, "torch": 50.0},
            {"name": "x", "shape": "1", "kernel": 1.0},
        ],
    }


def test_the_page_of_canned_results():
    text = report.page(json.loads(json.dumps(canned())), "## What was tried and did not pay\n\nNothing yet.\n")
    row = next(line for line in text.splitlines() if line.startswith("| W1 |"))
    assert row == "| W1 | MLP 2-64-64-1, batch 64 | 20 ms | 0.40<br>0.39–0.41 | 0.20<br>0.19–0.21 | – | 0.20 | 0.12 |"
    assert "| W2 |" in text and "**0.40<br>0.39–0.41**" in text and "~3.1" in text
    assert "- W1: 0.40 for a target of 0.20, 100% above it; NumPy by hand needs 0.20, the engine 100% more." in text
    assert "- W3: " not in text
    assert "- Not timed, W1, W3, W4, W5, W6, W7-512, W7-2048, W7-8192, tape, decode: HIPS autograd: too large." in text
    assert "| W4 | 12.3 | 45.6 |" in text
    assert "| W1 | 0.03 | 0.03 | 0.03 | 0.03 | 0.03 | 0.03 | 0.15 | 0.20 |" in text  # 0.5 of 20 ms
    assert "| attention | 2.00 | 1.00 |" in text
    assert "| gelu 768x512 | 100 | 250 | 50 | 0.40 | 2.00 |" in text and "| x 1 | 1 | – | – | – | – |" in text
    assert "tinygrad_notes: NumPy 2.4; BLAS core type SkylakeX" in text
    assert "tinygrad_notes 33.33, PyTorch eager 66.67" in text  # the tape: 0.01 s for 300 operations
    assert "tinygrad_notes 12800.0, PyTorch eager 6400.0" in text  # 128 tokens in 0.01 s
    assert text.endswith("Nothing yet.\n") and not re.search(r"[{}]", text)


def test_a_page_without_pytorch_shows_times():
    results = canned()
    for row in results["workloads"].values():
        del row["cells"]["torch"]
        row["cells"]["ours"]["ratio"] = row["cells"]["numpy"]["ratio"] = None
    text = report.page(results, "")
    assert "| 10 ms |" in text and "no target is reached or missed" in text


def test_the_table_for_a_terminal_has_straight_columns():
    text = report.console([(w, canned()["workloads"][w.key]) for w in WORKLOADS])
    assert len({len(line) for line in text.splitlines()}) == 1
    assert len(text.splitlines()) == len(WORKLOADS) + 1


def test_a_part_measured_anew_replaces_its_part_on_the_same_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results.json")
    new = {"machine": canned()["machine"], "engines": {}, "workloads": {"W1": {"cells": {}}}}
    assert program.merged(new) == new
    program.RESULTS.write_text(json.dumps(canned()))
    both = program.merged(new)
    assert both["workloads"]["W1"] == {"cells": {}} and both["workloads"]["W2"] == canned()["workloads"]["W2"]
    assert both["scaling"] == canned()["scaling"]
    assert program.merged(new | {"machine": {"CPU": "another"}})["workloads"].keys() == {"W1"}


def test_the_page_is_written_when_nothing_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(program, "PICTURE", tmp_path / "performance.png")
    monkeypatch.setattr(scaling, "draw", lambda found, path: path.write_bytes(b""))
    less = canned()
    del less["workloads"]["W4"], less["kernels"]
    program.write_page(less)
    assert capsys.readouterr().out == "performance.md is not written: W4, kernels not measured yet\n" and not program.PAGE.exists()
    program.write_page(canned())
    assert program.PAGE.read_text(encoding="utf-8").startswith("# Performance")


def test_every_workload_survives_json():
    for w in WORKLOADS:
        assert Workload(**json.loads(json.dumps(vars(w)))) == w
