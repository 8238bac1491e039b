"""runtime.py: settings that take effect, opt-outs, and a user's own choices left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tinygrad_notes import runtime

import pytest

ROOT = Path(__file__).parents[1]
glibc = pytest.mark.skipif(runtime._glibc() is None, reason="the allocator setting is for glibc on Linux")
OURS = ("OPENBLAS_CORETYPE", "OPENBLAS_THREAD_TIMEOUT", "TINYGRAD_NOTES_MALLOC", "TINYGRAD_NOTES_BLAS")
ZEN = ("AuthenticAMD", "a CPU", {"fma", *runtime.AVX512})


def run(code, **environment):
    """What a fresh Python prints, as JSON, with none of the settings inherited."""
    inherited = {k: v for k, v in os.environ.items() if k not in OURS}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=inherited | environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


STEPS = """
import json, resource
import tinygrad_notes
import numpy as np

def faults_after(steps):
    for _ in range(steps):
        arrays = [np.ones(1_000_000) for _ in range(10)]  # 80 MB, freed before the next step
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

first = faults_after(3)
print(json.dumps((faults_after(10) - first) / 10))
"""


@glibc
def test_freed_arrays_are_reused_without_page_faults():
    kept, returned = run(STEPS), run(STEPS, TINYGRAD_NOTES_MALLOC="0")
    assert returned > 20  # pages of 4 kB: about 5,000; huge pages of 2 MB: about 40
    assert kept < returned / 10


@glibc
def test_little_address_space_is_enough():
    code = """
import json, resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
import tinygrad_notes
import numpy as np
print(json.dumps([float(np.ones(1_000_000).sum()) for _ in range(5)]))
"""
    assert run(code, OPENBLAS_NUM_THREADS="1") == [1e6] * 5


def test_the_package_applies_the_settings_before_numpy_loads():
    found = run("import json, tinygrad_notes.runtime as r; print(json.dumps(r.decisions))")
    assert set(found) == {"allocator", "BLAS kernels", "BLAS threads"}
    assert "NumPy was imported first" not in found["BLAS kernels"]


def test_opting_out_of_all():
    code = "import json, os, tinygrad_notes.runtime as r; print(json.dumps([r.decisions, [k for k in os.environ if 'OPENBLAS_' in k]]))"
    decisions, present = run(code, TINYGRAD_NOTES_MALLOC="0", TINYGRAD_NOTES_BLAS="0")
    assert decisions["allocator"] == "left alone: TINYGRAD_NOTES_MALLOC=0"
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_THREAD_TIMEOUT"} & set(present)


def test_needs_the_standard_library_only():
    code = f"""
import importlib.util, json, sys
specification = importlib.util.spec_from_file_location("runtime", {runtime.__file__!r})
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
module.apply()
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in ("numpy", "scipy", "tinygrad_notes")]))
"""
    assert run(code) == []


# --- the choice of BLAS kernels, on pretended machines ---------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A pretended AMD CPU with AVX-512, NumPy not yet imported, nothing in the environment."""
    monkeypatch.setattr(runtime, "_cpu", lambda: ZEN)
    monkeypatch.delitem(sys.modules, "numpy")
    for name in OURS:
        monkeypatch.setenv(name, "")  # so that what the test sets is undone after it
        monkeypatch.delenv(name)
    return monkeypatch


def test_blas_kernels_are_set(machine):
    assert runtime._set_blas_kernels().startswith("set: OPENBLAS_CORETYPE=SkylakeX")
    assert os.environ["OPENBLAS_CORETYPE"] == "SkylakeX"


def test_idle_blas_threads_sleep(machine):
    machine.setattr(sys, "platform", "linux")
    assert runtime._set_blas_waiting().startswith("set: OPENBLAS_THREAD_TIMEOUT=20")
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "20"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("OPENBLAS_THREAD_TIMEOUT", "26", "left alone: OPENBLAS_THREAD_TIMEOUT=26"),
        ("TINYGRAD_NOTES_BLAS", "0", "left alone: TINYGRAD_NOTES_BLAS=0"),
        ("platform", "darwin", "left alone: tried on Linux only"),
        ("numpy", "there", "not set: NumPy was imported first"),
    ],
)
def test_idle_blas_threads_are_left_alone(machine, name, value, why):
    if name == "platform":
        machine.setattr(sys, "platform", value)
    elif name == "numpy":
        machine.setattr(sys, "platform", "linux")
        machine.setitem(sys.modules, "numpy", value)
    else:
        machine.setenv(name, value)
    assert runtime._set_blas_waiting().startswith(why)
    assert os.environ.get("OPENBLAS_THREAD_TIMEOUT", "") == (value if name == "OPENBLAS_THREAD_TIMEOUT" else "")


def test_a_users_blas_kernels_stay(machine):
    machine.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "Haswell" in runtime._set_blas_kernels()
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


@pytest.mark.parametrize(
    "cpu",
    [
        ("GenuineIntel", "a CPU", ZEN[2]),
        *[("AuthenticAMD", "a CPU", ZEN[2] - {flag}) for flag in sorted(runtime.AVX512)],
        ("", "", set()),
    ],
)
def test_other_cpus_are_left_alone(machine, cpu):
    machine.setattr(runtime, "_cpu", lambda: cpu)
    assert runtime._set_blas_kernels().startswith("left alone")
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_too_late_after_numpy(machine):
    machine.setitem(sys.modules, "numpy", None)
    assert "NumPy was imported first" in runtime._set_blas_kernels()
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_blas_opt_out(machine):
    machine.setenv("TINYGRAD_NOTES_BLAS", "0")
    assert runtime._set_blas_kernels() == "left alone: TINYGRAD_NOTES_BLAS=0"
    assert "OPENBLAS_CORETYPE" not in os.environ


def test_the_first_cpu_of_a_list(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(
        "vendor_id\t: AuthenticAMD\nmodel name\t: one: two\nflags\t\t: avx2 fma\nempty\t:\n\nvendor_id\t: other\nflags\t: sse\n"
    )
    assert runtime._cpu(str(file)) == ("AuthenticAMD", "one: two", {"avx2", "fma"})
    assert runtime._cpu(str(tmp_path / "missing")) == ("", "", set())


# --- the allocator, on pretended C libraries --------------------------------------------------


class Library:
    """A C library whose mallopt refuses thresholds above its limit, as older glibc does."""

    def __init__(self, limit):
        self.limit, self.set = limit, {}

    def mallopt(self, parameter, value):
        if parameter == runtime.M_MMAP_THRESHOLD and value > self.limit:
            return 0
        self.set[parameter] = value
        return 1


@pytest.mark.parametrize(("limit", "threshold", "said"), [(2**31, 1 << 30, "1024 MiB"), (1 << 25, 1 << 25, "32 MiB")])
def test_allocator_of_newer_and_older_glibc(machine, limit, threshold, said):
    library = Library(limit)
    machine.setattr(runtime, "_glibc", lambda: library)
    assert said in runtime._set_allocator()
    assert library.set == {-3: threshold, -1: 2**31 - 1, -2: 256 << 20, -8: 1}


def test_other_c_libraries_are_left_alone(machine):
    def unknown(name):
        raise ValueError(name)

    for confstr in (unknown, lambda name: None, lambda name: "musl 1.2"):
        machine.setattr(os, "confstr", confstr, raising=False)
        assert runtime._set_allocator().startswith("left alone")
    machine.delattr(os, "confstr")
    assert runtime._set_allocator().startswith("left alone")
    machine.setattr(sys, "platform", "darwin")
    assert runtime._set_allocator().startswith("left alone")


def test_apply_chooses_once(machine):
    calls = []
    machine.setattr(runtime, "decisions", {})
    machine.setattr(runtime, "_set_allocator", lambda: calls.append("allocator") or "a")
    machine.setattr(runtime, "_set_blas_kernels", lambda: calls.append("kernels") or "b")
    machine.setattr(runtime, "_set_blas_waiting", lambda: calls.append("threads") or "c")
    runtime.apply()
    runtime.apply()
    assert calls == ["allocator", "kernels", "threads"]
    assert runtime.decisions == {"allocator": "a", "BLAS kernels": "b", "BLAS threads": "c"}


# --- the report ------------------------------------------------------------------------------


def test_report():
    found = runtime.report()
    assert list(found)[:8] == ["CPU", "cores", "system", "Python", "NumPy", "SciPy", "BLAS", "BLAS core type"]
    assert {"allocator", "BLAS kernels", "BLAS threads"} <= set(found)
    assert all(type(value) is str and value for value in found.values())


def test_report_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert 'pip install "tinygrad_notes[fast]"' in runtime.report()["BLAS core type"]


def test_module_prints_the_report_and_measures():
    command = [sys.executable, "-W", "error", "-m", "tinygrad_notes"]
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
    for name in ("BLAS core type", "allocator", "matrix product, GFLOP/s", "step of a small network, ms"):
        assert name in printed


def test_module_prints_help_and_refuses_what_it_does_not_know():
    """Without a measurement, which would be in what is printed."""

    def run(*arguments):
        command = [sys.executable, "-W", "error", "-m", "tinygrad_notes", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    for option in ("-h", "--help"):
        shown = run(option)
        assert shown.returncode == 0 and "usage: python -m tinygrad_notes" in shown.stdout and "--measure" in shown.stdout
        assert "three small measurements" in " ".join(shown.stdout.split()) and "GFLOP" not in shown.stdout
    refused = run("--mesure")
    assert refused.returncode == 2 and "unrecognized arguments: --mesure" in refused.stderr and not refused.stdout
