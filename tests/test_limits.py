"""Where a Tensor is not an array: everything that docs/limits.md says is tried."""

from pathlib import Path

from tests.tables.limits import DIFFERENCES, LIMITS, available, errors_of, names, page, run
from tinygrad_notes import Tensor
from tinygrad_notes.check import check_grads

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "limits.md"
ALL = [pytest.param(limit, id=limit.code) for limits in LIMITS.values() for limit in limits]
RECIPES = ("use ", "write ", "pass ", "copy ", "keep ", "multiply by", "its number is", "has add", "make a new array", "save arrays")
VARIABLES = ("t", "s", "m")


def skip_without(limit):
    if not available(limit):
        pytest.skip(f"{limit.needs} is not installed")


@pytest.mark.parametrize("limit", ALL)
def test_it_raises_and_names_a_way_out(limit):
    skip_without(limit)
    errors = errors_of(limit.code)
    assert errors, f"{limit.code} runs: is its gradient right? Then it is no limit any more"
    assert all("\n" not in str(e) for e in errors)
    if limit.ours:
        assert any(isinstance(e, TypeError) and any(word in str(e) for word in RECIPES) for e in errors), f"{limit.code}: {errors}"


@pytest.mark.parametrize("limit", ALL)
def test_what_to_write_instead_has_the_right_gradient(limit):
    skip_without(limit)
    if limit.constant:
        assert not isinstance(run(limit.instead), Tensor) or run(limit.instead).is_leaf, "a recipe marked as constant has a gradient"
        return

    def recipe(t, s, m):
        y = run(limit.instead, t=t, s=s, m=m)
        y = y[0] if isinstance(y, list) else y
        return y if not y.is_leaf else y * 1.0

    check_grads(recipe, *(names()[name].value for name in VARIABLES))


@pytest.mark.parametrize("limit", [p for p in ALL if p.values[0].same and not p.values[0].constant])
def test_what_to_write_instead_is_what_numpy_does_with_arrays(limit):
    skip_without(limit)

    def arrays():
        return {k: v.value if isinstance(v, Tensor) else v for k, v in names().items() if isinstance(v, Tensor | np.ndarray)}

    given = arrays()
    before = {k: v.copy() for k, v in given.items()}
    expected = run(limit.code, **given)
    if expected is None or any(not np.array_equal(v, before[k]) for k, v in given.items()):
        (expected,) = (v for k, v in given.items() if not np.array_equal(v, before[k]))  # what was filled
    got = run(limit.instead, **arrays())
    np.testing.assert_allclose(got, np.asarray(expected, np.float64), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("difference", [pytest.param(d, id=d.code) for ds in DIFFERENCES.values() for d in ds])
def test_it_gives_what_the_page_says(difference):
    assert repr(run(difference.code)) == difference.result


def test_nothing_is_written_before_an_error():
    """What raises leaves the array as it was."""
    for limit in LIMITS["Filling an array"]:
        a, big = np.zeros(3), np.arange(9.0).reshape(3, 3)
        with pytest.raises((TypeError, ValueError)):
            run(limit.code, a=a, A=big)
        assert not a.any() and np.array_equal(big.ravel(), np.arange(9.0)), limit.code


def test_the_page_is_current():
    """Messages of NumPy differ between its series, so the page is compared in the one that it was made with."""
    series = ".".join(np.__version__.split(".")[:2])
    text = PAGE.read_text(encoding="utf-8")
    if f"with NumPy {series}." not in text:
        pytest.skip(f"docs/limits.md was made with another NumPy than {series}")
    if not all(available(p.values[0]) for p in ALL):
        pytest.skip("matplotlib is not installed")
    assert without_version(text) == without_version(page()), "docs/limits.md is not what the tests see now: run `make tables`"


def without_version(text):
    return [line for line in text.splitlines() if not line.startswith("Written by")]
