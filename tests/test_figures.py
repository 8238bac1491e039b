"""docs/verification.md is what `make figures` would write, as far as that is known without measuring; README quotes it rightly."""

import re

from tests.figures import attention, noticed
from tests.figures.counts import ROOT, registered
from tests.figures.page import smallest_errors
from tests.ops.references import REFERENCES
from tinygrad_notes.registry import registry

import numpy as np
import pytest
import scipy

FILE = ROOT / "docs" / "verification.md"
PAGE = FILE.read_text(encoding="utf-8") if FILE.exists() else ""  # missing only before the first `make figures`, which collects this file
README = (ROOT / "README.md").read_text(encoding="utf-8")
SUMMARY = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.split("## ")[0], re.MULTILINE))
STALE = "docs/verification.md is not current; run `make figures`"


def version(text):
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def test_counts_are_current():
    written = dict(re.findall(r"(NumPy|SciPy) ([\d.]+)", PAGE))
    if (version(np.__version__), version(scipy.__version__)) != (version(written["NumPy"]), version(written["SciPy"])):
        pytest.skip("other versions of NumPy and SciPy have other functions than those counted on the page")
    now = registered()
    for what in ("ops", "cases"):
        assert SUMMARY[what] == f"{now[what]:,}", f"{STALE}: it says {SUMMARY[what]} {what}, there are {now[what]:,}"


def test_the_table_of_ulp_is_current():
    rows = re.findall(r"^\| `([^`]+)`(?: \[\d+\])? \|.*?\| *([\d.]*) \|[^|]*\|[^|]*\| ([\d.]+) \|$", PAGE, re.MULTILINE)
    written = {name: (float(value) if value else None, float(gradient)) for name, value, gradient in rows}
    assert written == {name: r.bounds for name, r in REFERENCES.items()}, STALE


def test_readme_quotes_the_page():
    """Numbers in README, such as `452 ops`, stand in the summary of the page."""
    for quoted, what in re.findall(r"(\d[\d,]*) (ops|cases|tests|mutants|crash points)\b", README):
        row = next(value for key, value in SUMMARY.items() if key.startswith(what))
        assert quoted in re.findall(r"[\d,]+", row), (
            f"README says {quoted} {what}, docs/verification.md {row}; run `make figures` and quote it"
        )


def test_every_claim_of_the_page_has_a_number():
    for what in ("tests", "functions with a published ULP bound", "crash points survived", "mutants killed"):
        assert SUMMARY.get(what), STALE
    survived, kills = SUMMARY["crash points survived"].split(" of ")
    assert survived == kills


# --- the instruments -------------------------------------------------------------------------


def item(label):
    return next(x for x in registry if x.label == label)


@pytest.mark.parametrize("label", ["np.exp", "np.matmul", "softmax", "blocked_attention"])
def test_a_wrong_factor_is_noticed_and_taken_back(label):
    op = item(label)
    k = noticed.finest(op, 0)
    assert 20 < k < noticed.FINEST, "differences cannot see the last bits, nor miss the first ones"
    assert not noticed.notices(op, 0, 0.0, noticed.checks(op)), "the rule stayed wrong"


def test_the_error_of_attention_is_below_its_bound():
    ratios = attention.measure(30)
    assert 0 < max(ratios) < 1


def test_smallest_errors():
    found = [(10.0**-i, f"rule {i}") for i in range(12, 0, -1)]
    assert "| median | 1.0e-06 | `rule 6` |" in smallest_errors(found)
