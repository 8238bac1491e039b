"""Tests of this repository called as functions, in this process, where a mutant is installed.

Only what those tests need of pytest: parametrize, skipif, tmp_path, monkeypatch and fixtures of
their own module made of these, the autouse ones too. Hypothesis does not shrink what fails: a mutant is to die, not to be explained.
"""

import contextlib
import importlib
import inspect
import itertools
import pathlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import Phase, settings

DYING = (Phase.explicit, Phase.generate)


def marks(function: Callable, name: str) -> list:
    return [m for m in getattr(function, "pytestmark", []) if m.name == name]


def parameters_of(function: Callable) -> Iterator[dict[str, Any]]:
    """The arguments of each case that `pytest.mark.parametrize` makes."""
    choices = []
    for mark in marks(function, "parametrize"):
        names, values = mark.args[:2]
        names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
        rows = []
        for value in values:
            row = value.values if hasattr(value, "values") and hasattr(value, "marks") else (value,) if len(names) == 1 else value
            rows.append(dict(zip(names, row)))
        choices.append(rows)
    for rows in itertools.product(*choices):
        yield {name: value for row in rows for name, value in row.items()}


def provide(name: str, module: Any, stack: contextlib.ExitStack, given: dict[str, Any]) -> Any:
    """A fixture's value: pytest's own by name, else made by the module's fixture function."""
    if name in given:
        return given[name]
    if name == "tmp_path":
        given[name] = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    elif name == "monkeypatch":
        given[name] = patch = pytest.MonkeyPatch()
        stack.callback(patch.undo)
    else:
        fixture = getattr(module, name)  # AttributeError: a fixture that we do not have
        function = fixture._get_wrapped_function()
        wanted = {n: provide(n, module, stack, given) for n in inspect.signature(function).parameters}
        value = function(**wanted)
        if inspect.isgenerator(value):
            stack.callback(next, value, None)
            value = next(value)
        given[name] = value
    return given[name]


@cache
def autouse(module: Any) -> list[str]:
    """The fixtures of a module that no test has to name."""
    found = [(name, getattr(x, "_fixture_function_marker", None)) for name, x in vars(module).items()]
    return [name for name, marker in found if marker is not None and marker.autouse]


@contextlib.contextmanager
def without_shrinking(function: Any) -> Iterator[None]:
    before = getattr(function, "_hypothesis_internal_use_settings", None)
    if before is not None:
        function._hypothesis_internal_use_settings = settings(before, phases=DYING, database=None)
    try:
        yield
    finally:
        if before is not None:
            function._hypothesis_internal_use_settings = before


def run_test(module: Any, function: Callable, arguments: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack, warnings.catch_warnings(), without_shrinking(function):
        warnings.simplefilter("error")
        for mark in marks(function, "filterwarnings"):
            action, message = mark.args[0].split(":", 1)
            warnings.filterwarnings(action, message)
        given = dict(arguments)
        for name in autouse(module):
            provide(name, module, stack, given)
        names = inspect.signature(function).parameters
        function(**{name: provide(name, module, stack, given) for name in names})


left_out: list[str] = []  # tests that fail, or cannot be called here, without any mutant: they cannot kill


@cache
def tests_in(name: str) -> list[tuple[str, partial]]:
    """(name, call) of each test of a module that passes as the code stands, the quick ones first. The first call must find no mutant."""
    try:
        module = importlib.import_module(name)
    except (Exception, pytest.skip.Exception) as error:
        left_out.append(f"{name}: {type(error).__name__}: {error}"[:200])
        return []
    found = []
    for label, function in list(vars(module).items()):
        if not label.startswith("test_") or not callable(function):
            continue
        if any(mark.args[0] for mark in marks(function, "skipif")):
            continue
        for i, arguments in enumerate(parameters_of(function)):
            test = f"{name}.{label}[{i}]"

            call = partial(run_test, module, function, arguments)
            begin = time.perf_counter()
            try:
                call()
            except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
                left_out.append(f"{test}: {type(error).__name__}: {error}"[:200])
            else:
                found.append((time.perf_counter() - begin, test, call))
    return [(test, call) for _, test, call in sorted(found, key=lambda entry: entry[0])]


def run_all(names: list[str], *without: str, only: Callable[[dict[str, Any]], bool] = lambda arguments: True) -> None:
    """Call the tests of these modules until one fails: none of `without`, and `only` those whose arguments of parametrize are asked for."""
    for name in names:
        for test, call in tests_in(name):
            if call.args[1].__name__ in without or not only(call.args[-1]):
                continue
            try:
                call()
            except (pytest.fail.Exception, pytest.skip.Exception) as error:  # no Exceptions: pytest.raises that saw none
                raise AssertionError(f"{test}: {error}") from None
