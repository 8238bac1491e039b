"""`python -m benchmarks`: the side-by-side measurement, its table, and docs/performance.md.

    --only W2,W7      these workloads (W7: all three lengths), or the sections "scaling", "parts", "kernels"
    --engines jax     these engines, beside tinygrad_notes and PyTorch
    --rounds 15       at most so many rounds
    --quick           small sizes and two rounds: whether everything runs; nothing is written
    --no-write        only print
    --report          write the page from the last results, without measuring

What is measured is kept in out/benchmarks.json, so that a part can be measured again by itself; the
page is written when nothing is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import engines, report, scaling
from benchmarks.processes import ROOT
from benchmarks.run import Bench, memory
from benchmarks.workloads import WORKLOADS, chosen

RESULTS, PAGE, PICTURE = ROOT / "out" / "benchmarks.json", ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.png"
TRIED = ROOT / "benchmarks" / "tried.md"
SECTIONS = ("scaling", "parts", "kernels")
BUDGET = 10.0  # seconds for the rounds of one workload


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda s: s.split(","))
    parser.add_argument("--engines", type=lambda s: s.split(","))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args(arguments)


def measure(chosen_workloads, chosen_engines, sections, args) -> dict[str, Any]:
    found: dict[str, Any] = {"workloads": {}}
    rounds, seconds = (2, 0.1) if args.quick else (args.rounds, BUDGET)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Bench(chosen_engines, folder, args.threads, say=print, turn=0.005 if args.quick else 0.15) as bench:
            found["engines"] = about = bench.about()
            ours = about.get(engines.REFERENCE, {})
            found["machine"] = {name: ours.pop(name) for name in ("CPU", "cores", "system") if name in ours}
            for w in chosen_workloads:
                start = time.perf_counter()
                cells = bench.measure(w.shrunk() if args.quick else w, rounds, seconds)
                found["workloads"][w.key] = {"cells": cells, "date": date.today().isoformat()}
                print(f"{w.key}: {report.ratio(cells.get(engines.REFERENCE), ' ')} [{time.perf_counter() - start:.0f} s]", flush=True)
            if "scaling" in sections:
                found["scaling"] = scaling.measure(bench, folder, args.threads, args.quick, print)
        for w in chosen_workloads[:1] if args.quick else chosen_workloads:
            measured = [engine for engine in chosen_engines if engine.key != "torch-best"]  # its memory is PyTorch's
            found["workloads"][w.key]["memory"] = memory(w.shrunk() if args.quick else w, measured, folder, args.threads)
    for name in ("parts", "kernels"):
        if name in sections:
            found[name] = apart(name, args)
    return found


def apart(name: str, args) -> Any:
    """What `python -m benchmarks.<name>` measures, in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *(["--quick"] if args.quick else [])]
    environment = os.environ | {name: str(args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def merged(found: dict[str, Any]) -> dict[str, Any]:
    """With what was measured before on the same machine, of which the new replaces its parts."""
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if old.get("machine") != found["machine"]:
        old = {}
    both = {"engines", "workloads"}
    return old | found | {key: old.get(key, {}) | found[key] for key in both}


def write_page(results: dict[str, Any]) -> None:
    missing = [w.key for w in WORKLOADS if w.key not in results["workloads"]] + [s for s in SECTIONS if s not in results]
    if missing:
        print(f"{PAGE.relative_to(ROOT)} is not written: {', '.join(missing)} not measured yet")
        return
    PAGE.write_text(report.page(results, TRIED.read_text(encoding="utf-8")), encoding="utf-8")
    scaling.draw(results["scaling"], PICTURE)
    print(f"written: {PAGE.relative_to(ROOT)}, {PICTURE.relative_to(ROOT)}")


def main(arguments: list[str]) -> int:
    args = options(arguments)
    if args.report:
        write_page(json.loads(RESULTS.read_text(encoding="utf-8")))
        return 0
    try:
        workloads = chosen(None if args.only is None else [key for key in args.only if key not in SECTIONS])
        wanted = engines.chosen(args.engines)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for line in filter(None, (engine.missing() for engine in wanted)):
        print(line)
    if "OPENBLAS_CORETYPE" in os.environ:
        print(
            f"note: OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} is set here, so NumPy's BLAS runs these kernels; unset it for the default"
        )
    sections = [s for s in SECTIONS if args.only is None or s in args.only]
    start = time.perf_counter()
    found = measure(workloads, [engine for engine in wanted if not engine.missing()], sections, args)
    print(f"\nTime of a step divided by PyTorch's, median and quartiles [{time.perf_counter() - start:.0f} s in all]\n")
    print(report.console([(w, found["workloads"][w.key]) for w in workloads]))
    if not (args.quick or args.no_write):
        RESULTS.parent.mkdir(exist_ok=True)
        results = merged(found)
        RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
        write_page(results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
