"""docs/verification.md as text, from measured numbers."""

import platform
import statistics
from datetime import date
from typing import Any

from tests.figures import attention, counts, noticed
from tests.mutation.run import records, summary
from tests.ops.references import REFERENCES, measure

import hypothesis
import numpy as np
import pytest
import scipy

DRAWS = 300
HEAD = """# What the suite verifies, in numbers

Written by `make figures` (`python -m tests.figures`); edit tests/figures/, not this page. Every number is measured by that command.

Why these checks, and what each is worth: every rule is tried with random cotangents, at every element, against differences that carry a
bound of their own error, at first and second order, in float64 and float32, with read-only inputs (tests/ops/test_registry.py);
values and gradients are compared with exact references in ULP (tests/ops/test_accuracy.py); and the suite itself is tested by breaking the
code on purpose (tests/mutation/).
"""


def versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "pytest": pytest.__version__,
        "Hypothesis": hypothesis.__version__,
        "on": f"{platform.system()} {platform.machine()}",
        "written": date.today().isoformat(),
    }


def number(x: Any) -> str:
    return f"{x:,}" if isinstance(x, int) else f"{x:.1e}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def mutants(try_them: bool) -> dict[str, Any] | None:
    """What became of the mutants of the code as it stands; None if of none it is known. Those never tried on it are tried now, if wanted."""
    if try_them:
        done = counts.start("-m", "tests.mutation")
        if done.returncode not in (0, 1):  # 1: some survived
            raise RuntimeError(f"python -m tests.mutation failed with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    found = records()
    return summary(found) if any(r.outcomes for r in found) else None


def ulp(x: float) -> str:
    return f"{x:.1f}" if x < 10 else f"{x:.0f}"


def accuracy() -> str:
    """The measured errors and the bounds, for the first seed, which is the one that the tests use."""
    notes: list[str] = []
    rows = []
    for name, reference in REFERENCES.items():
        if reference.note and reference.note not in notes:
            notes.append(reference.note)
        mark = f" [{notes.index(reference.note) + 1}]" if reference.note else ""
        measured = [[error for error, _ in measure(reference, dtype)] for dtype in (np.float32, np.float64)]
        row = [f"`{name}`{mark}"]
        for i, bound in enumerate(reference.bounds):
            row += ["", "", ""] if bound is None else [ulp(measured[0][i]), ulp(measured[1][i]), f"{bound:g}"]
        rows.append(row)
    head = ["function", "value, float32", "float64", "bound", "gradient, float32", "float64", "bound"]
    return table(head, rows) + "\n" + "\n".join(f"{i}. {note}." for i, note in enumerate(notes, 1)) + "\n"


def rank(found: list[tuple[float, str]], share: float) -> tuple[float, str]:
    return found[min(len(found) - 1, int(share * len(found)))]


def smallest_errors(found: list[tuple[float, str]]) -> str:
    rows = [[what, number(eps), f"`{name}`"] for what, (eps, name) in [
        ("best", found[0]), ("median", rank(found, 0.5)), ("90 % notice at least", rank(found, 0.9)), ("99 %", rank(found, 0.99)), ("worst", found[-1]),
    ]]  # fmt: skip
    return table(["of all rules", "smallest relative error noticed", "rule"], rows)


def mutation(found: dict[str, Any]) -> str:
    rows = [[family, number(v["killed"]), number(v["total"])] for family, v in found["families"].items()]
    rows.append(["all", number(found["killed"]), number(found["total"])])
    text = table(["family", "killed", "total"], rows)
    survivors = f"{len(found['survivors'])} survived" if found["survivors"] else "None survived"
    untried = (
        f"{number(found['untried'])} more have not been tried since their code was changed; `make mutants` does."
        if found["untried"]
        else ""
    )
    return (
        text
        + f"\n{survivors}. {untried} {number(found['equivalent'])} more are equivalent to the code, each with its reason in tests/mutation/equivalent.py.\n"
    )


def page(try_mutants: bool = True, time_suite: bool = True) -> str:
    registered, (kills, loaded, limits) = counts.registered(), counts.crashes()
    errors = noticed.measure(len(noticed.rules()))
    ratios = attention.measure(DRAWS)
    mutated = mutants(try_mutants)
    summary = [
        ["ops", number(registered["ops"])],
        ["cases", number(registered["cases"])],
        ["tests", number(counts.tests())],
        ["functions with a published ULP bound", number(len(REFERENCES))],
        ["smallest relative error in a gradient that is noticed, median", number(statistics.median(eps for eps, _ in errors))],
        ["smallest relative error in a gradient that is noticed, worst rule", number(errors[-1][0])],
        ["mutants killed", f"{number(mutated['killed'])} of {number(mutated['total'])} tried" if mutated else "run `make mutants`, then `make figures`"],
        ["blocked attention: largest error relative to its bound", number(max(ratios))],
        ["crash points survived", f"{loaded} of {kills}"],
        *([["the whole suite, minutes of CPU time", f"{counts.suite_minutes():.1f}"]] if time_suite else []),
    ]  # fmt: skip
    kinds = {k: number(v) for k, v in registered.items() if k not in ("ops", "cases")}
    sections = [
        HEAD,
        table(["what", "number"], summary),
        "Measured with " + ", ".join(f"{name} {version}" for name, version in versions().items()) + ".\n",
        "## Ops and cases\n",
        f"Of the {number(registered['ops'])} ops, {kinds['with rules']} have rules of their own, {kinds['compositions']} are plain NumPy that runs on "
        f"Tensors, {kinds['kernels with a twin']} have a kernel beside a twin. Each of the {number(registered['cases'])} cases goes through every check. "
        f"{kinds['constants']} functions have no gradient (comparisons, indices), and {kinds['refused']} are refused with a reason "
        "([limits](limits.md)). The count is that of the versions above: older ones of NumPy and SciPy have fewer functions.\n",
        "## Accuracy in ULP\n",
        "The largest error found in the seeded samples of tests/ops/references.py, which include magnitudes down to 1e-8 and less, large arguments, "
        "and neighbourhoods of kinks and edges, against arithmetic of a hundred digits. A ULP is the distance between neighbouring floats at the "
        "exact result; for a function of a row, at the largest term of the row. The value of a NumPy function is NumPy's business.\n",
        accuracy(),
        "## The smallest error that is noticed\n",
        f"Each of {len(errors)} rules was multiplied by 1 + 2^-k, and the largest k found at which the check by differences fails in one of its cases "
        "(check_vjp of tests/ops/test_registry.py alone; the other checks are not needed for this).\n",
        smallest_errors(errors),
        "## Mutants\n",
        mutation(mutated) if mutated else "Not measured in this run.\n",
        "## Blocked attention\n",
        f"{DRAWS} draws of sizes up to 13, blocks, heads, masks, windows, offsets, documents, scales and logits (normal, 300 times as large, ascending, far apart by their bias), in "
        f"float32 and float64, against a dense softmax in longdouble: the error of the output and of the gradients was at most {max(ratios):.1e} "
        f"of its bound (median {statistics.median(ratios):.1e}). The bound is one for each element: what the roundings of its terms add up to, in absolute "
        "values, to first order (tests/fused/oracle.py).\n",
        "## Crash points\n",
        f"A process that saves a checkpoint was killed with signal 9 before, within and after each of its calls to the system, {kills} times: "
        f"{loaded} times the old or the new checkpoint loads, whole. {limits} limits of file size, as a full disk, left the old file intact.\n",
    ]  # fmt: skip
    return "\n".join(sections)
