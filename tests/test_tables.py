"""docs/ops.md is what the generator sees now; docs/limits.md is held to its table by test_limits.py."""

import json
import re
from pathlib import Path

from tests.tables import ops, peers
from tinygrad_notes import Tensor, gradients
from tinygrad_notes.registry import constants, refused, registry

import numpy as np
import pytest
import scipy

PAGE = (Path(__file__).parents[1] / "docs" / "ops.md").read_text(encoding="utf-8")
# Functions that NumPy or SciPy had once: the page is made with a newer one.
GONE = {"np.in1d", "np.trapz", "np.row_stack", "scipy.special.sph_harm"}


# The versions that the page was made with.
MADE = dict(re.findall(r"(NumPy|SciPy) ([\d.]+\d)", PAGE.split("\n\n")[1]))


def series(version):
    return tuple(map(int, version.split(".")[:2]))


def without_versions(text):
    return [line for line in text.splitlines() if not line.startswith("Written by")]


def test_the_page_is_current():
    if (series(np.__version__), series(scipy.__version__)) != (series(MADE["NumPy"]), series(MADE["SciPy"])):
        pytest.skip(f"docs/ops.md was made with other versions than NumPy {np.__version__} and SciPy {scipy.__version__}")
    here, now = without_versions(PAGE), without_versions(ops.page())
    changed = [line for line in here if line not in set(now)] + [line for line in now if line not in set(here)]
    assert here == now, f"docs/ops.md is not what is seen now: run `make tables`; it changes {changed[:6]}"


def test_every_function_is_listed():
    if series(np.__version__) > series(MADE["NumPy"]) or series(scipy.__version__) > series(MADE["SciPy"]):
        pytest.skip(f"docs/ops.md was made with NumPy {MADE['NumPy']} and SciPy {MADE['SciPy']}; newer ones have more functions")
    known = ops.names()
    mine = [item.function for item in registry if getattr(item, "function", None) in known]
    missing = [known[f] for f in [*mine, *constants, *refused] if f in known and f"`{known[f]}`" not in PAGE and known[f] not in GONE]
    assert not missing, f"docs/ops.md does not list {missing}: run `make tables`"
    assert len(mine) > 380


@pytest.mark.parametrize("name", ops.KINKS)
def test_notes_about_kinks(name):
    _, arguments, expected = ops.KINKS[name]
    function = peers.look_up(np, name)
    variables = [Tensor(np.array(x)) for x in arguments]
    with np.errstate(all="ignore"):
        found = gradients(np.sum(function(*variables)), variables)
    for gradient, slopes in zip(found, expected, strict=False):
        np.testing.assert_array_equal(gradient, slopes)


def test_the_peers_were_counted_on_what_is_counted_here():
    record = json.loads(peers.FILE.read_text(encoding="utf-8"))
    functions = set(record["functions"])
    assert set(record["peers"]) == set(peers.TITLES)
    for peer in record["peers"].values():
        assert set(peer["with_gradient"]) <= functions
    if series(np.__version__) == series(record["numpy"]):
        changed = functions ^ set(peers.counted())
        assert not changed, f"{sorted(changed)} came or went: run `python -m tests.tables.peers` with the extra `bench` installed"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(lambda g, y, x: g * (1.001 * y), "0 of 1"), (lambda g, y, x: g * y, "yes")],
    ids=["a wrong rule", "a right rule"],
)
def test_the_columns_are_measured(rule, expected):
    """A rule that is wrong by one part in a thousand is seen in the row."""
    from tinygrad_notes.registry import Op

    def exponential(x):
        return np.exp(x)

    item = Op(exponential, (rule,), cases=[((2, 3),)])
    assert ops.row(item)[1] == expected
