"""What there is: ops, cases, tests, ways to crash."""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> subprocess.CompletedProcess:
    """A Python process in this repository, when it has ended."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def run(*arguments: str) -> str:
    """What a Python process prints."""
    done = start(*arguments)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def registered() -> dict[str, int]:
    """How many functions have rules, and how many calls of them the suite tries. In a process of its own: tests register ops too."""
    return json.loads(run("-m", "tests.figures.counts"))


def count_registry() -> dict[str, int]:
    for name in ("ops.special", "functional"):
        importlib.import_module(f"tinygrad_notes.{name}")
    from tinygrad_notes.registry import Composition, Fused, Op, constants, refused, registry

    def number(kind):
        return sum(isinstance(item, kind) for item in registry)

    return {
        "ops": len(registry),
        "with rules": number(Op),
        "compositions": number(Composition),
        "kernels with a twin": number(Fused),
        "cases": sum(len(item.cases) for item in registry),
        "constants": len(constants),
        "refused": len(refused),
    }


def tests() -> int:
    """How many tests pytest collects."""
    found = re.search(r"(\d+) tests collected", run("-m", "pytest", "--collect-only", "-q", "-o", "addopts="))
    if found is None:
        raise RuntimeError("pytest --collect-only tells no number of tests; run it to see why")
    return int(found[1])


def suite_minutes() -> float:
    """How long the whole suite works, in minutes of CPU time in one process: what the machine does besides plays no part."""
    before = os.times()
    done = start("-m", "pytest", "-q")
    if done.returncode:
        raise RuntimeError(f"the suite fails: {(done.stdout + done.stderr)[-2000:]}")
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system) / 60


def crashes() -> tuple[int, int, int]:
    """How often a process was killed at, within or after a call to the system while it saved; how often the old or the new checkpoint loads; file-size limits survived."""
    with tempfile.TemporaryDirectory() as folder:
        kills = [t for t in json.loads(run("-m", "tests.saving_faults", "kill", folder).splitlines()[-1]) if t["code"]]
    with tempfile.TemporaryDirectory() as folder:
        limits = json.loads(run("-m", "tests.saving_faults", "limit", folder).splitlines()[-1])
    return len(kills), sum(t["found"] in ("old", "new") for t in kills), sum(t["intact"] for t in limits)


if __name__ == "__main__":
    print(json.dumps(count_registry()))
