"""Tests of this repository called as functions, in this process, where a mutant is installed.

Only what those tests need of pytest: parametrize, skipif, tmp_path, monkeypatch and fixtures of
their own module made of these.
"""

import contextlib
import gc
import importlib
import inspect
import itertools
import pathlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest


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
        function = getattr(fixture, "_fixture_function", None) or fixture.__wrapped__
        wanted = {n: provide(n, module, stack, given) for n in inspect.signature(function).parameters}
        value = function(**wanted)
        if inspect.isgenerator(value):
            stack.callback(next, value, None)
            value = next(value)
        given[name] = value
    return given[name]


def run_test(module: Any, function: Callable, arguments: dict[str, Any]) -> None:
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("error")
        given = dict(arguments)
        names = inspect.signature(function).parameters
        function(**{name: provide(name, module, stack, given) for name in names})


@cache
def tests_in(name: str, *without: str) -> list[tuple[str, Callable[[], None]]]:
    """(name, call) of each test of a module, the quick ones first, but those named; each has passed once."""
    module = importlib.import_module(name)
    found = []
    for label, function in vars(module).items():
        if not label.startswith("test_") or not callable(function) or label in without:
            continue
        if any(mark.args[0] for mark in marks(function, "skipif")):
            continue
        for i, arguments in enumerate(parameters_of(function)):

            def call(function=function, arguments=arguments):
                run_test(module, function, arguments)

            begin = time.perf_counter()
            call()  # if this fails, no mutant is to blame
            found.append((time.perf_counter() - begin, f"{name}.{label}[{i}]", call))
    gc.collect()
    return [(label, call) for _, label, call in sorted(found, key=lambda test: test[0])]


def run_all(names: list[str], *without: str) -> None:
    """Call every test of these modules until one fails."""
    for name in names:
        for label, call in tests_in(name, *without):
            try:
                call()
            except pytest.skip.Exception:
                continue
            except pytest.fail.Exception as error:  # not an Exception: pytest.raises that saw none
                raise AssertionError(f"{label}: {error}") from None
