"""Every NumPy function that asks a Tensor what to do has an answer: a rule, a composition, a constant, or a reason to refuse.

The functions are found by walking through NumPy's public modules, so that a new release of NumPy that brings a
new function fails here until somebody decides what it shall be.
"""

import types

from tinygrad_notes import Tensor
from tinygrad_notes.core import table
from tinygrad_notes.ops import structured  # noqa: F401  (importing registers, and imports numpy.lib.recfunctions)
from tinygrad_notes.registry import constants, refused, registry

import numpy as np
import pytest

DISPATCHER = type(np.concatenate)
# Whose functions are NumPy's again, or make masked arrays, records and matrices of what np.asarray gives (which raises), or only test and build NumPy.
LEFT_OUT = {
    "numpy.ma",
    "numpy.rec",
    "numpy.testing",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.core",
    "numpy.matlib",
}


def asking():
    """{function: its name} of all ufuncs and functions of NumPy's public modules that dispatch."""
    found, seen, stack = {}, set(), [("np", np)]
    while stack:
        path, module = stack.pop(0)
        for name, member in sorted(vars(module).items()):
            if name.startswith("_"):
                continue
            if isinstance(member, types.ModuleType):
                inside = member.__name__.startswith("numpy.") and "._" not in member.__name__
                if inside and member.__name__ not in LEFT_OUT and member not in seen:
                    seen.add(member)
                    stack.append((f"{path}.{name}", member))
            elif isinstance(member, DISPATCHER | np.ufunc):
                found.setdefault(member, f"{path}.{name}")
    return found


ASKING = asking()


def test_the_search_finds_numpy():
    assert {np.add, np.concatenate, np.linalg.svd, np.fft.rfft, np.lib.stride_tricks.sliding_window_view} <= ASKING.keys()
    assert len(ASKING) > 300


def test_every_function_is_classified():
    missing = sorted(name for function, name in ASKING.items() if function not in table)
    assert not missing, (
        f"{len(missing)} functions of NumPy {np.__version__} are no op, composition, constant or refusal: {', '.join(missing)}"
    )


def test_a_new_function_is_noticed(monkeypatch):
    """As a new release of NumPy would bring them: a function that dispatches, a ufunc, and one in a module inside."""
    function = np._core.overrides.array_function_dispatch(lambda x: (x,))(lambda x: x)
    ufunc = np.frompyfunc(lambda x: x, 1, 1)
    monkeypatch.setattr(np, "brand_new", function, raising=False)
    monkeypatch.setattr(np.linalg, "brand_new", ufunc, raising=False)
    missing = {name for f, name in asking().items() if f not in table}
    assert missing == {"np.brand_new", "np.linalg.brand_new"}


def test_no_function_is_in_two_classes():
    functions = [item.function for item in registry if hasattr(item, "function")]
    for function in ASKING:
        classes = [functions.count(function), constants.count(function), int(function in refused)]
        assert sum(classes) <= 1, f"{ASKING[function]} is registered {sum(classes)} times: {classes} as op, constant, refusal"


def test_each_refusal_has_a_reason_and_a_name():
    for function, reason in refused.items():
        assert len(reason) > 20 and "\n" not in reason and "later" not in reason.lower() and "todo" not in reason.lower(), reason
        with pytest.raises(TypeError) as error:
            table[function]()
        text = str(error.value)
        assert function.__name__ in text and reason in text and "\n" not in text


T = Tensor(np.array([1.0, 2.0]))
IN_PLACE = {
    "copyto": lambda: np.copyto(np.zeros(2), T),
    "put": lambda: np.put(np.zeros(2), [0], T),
    "place": lambda: np.place(np.zeros(2), [True, False], T),
    "putmask": lambda: np.putmask(np.zeros(2), [True, False], T),
    "fill_diagonal": lambda: np.fill_diagonal(T, 0.0),
    "put_along_axis": lambda: np.put_along_axis(np.zeros(2), np.array([0, 1]), T, 0),
    "add.at": lambda: np.add.at(np.zeros(2), [0, 1], T),
    "maximum.at": lambda: np.maximum.at(np.zeros(2), [0, 1], T),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_writing_in_place_raises_with_the_recipe(name):
    with pytest.raises(TypeError, match=r"at\(x\)\[ind") as error:
        IN_PLACE[name]()
    assert f"np.{name}" in str(error.value)


def test_files_and_complex_numbers_are_refused(tmp_path):
    for call, recipe in (
        (lambda: np.save(tmp_path / "x.npy", T), r"t\.value"),
        (lambda: np.savetxt(tmp_path / "x.txt", T), r"t\.value"),
        (lambda: np.savez(tmp_path / "x.npz", x=T), r"t\.value"),
        (lambda: np.fft.rfft(T), "complex"),
        (lambda: np.roots(T), "complex"),
    ):
        with pytest.raises(TypeError, match=recipe):
            call()
    assert not list(tmp_path.iterdir())


def test_text_and_types_are_constants():
    assert np.array2string(T) == "[1. 2.]" and np.array_repr(T) == "array([1., 2.])" and np.array_str(T) == "[1. 2.]"
    assert np.result_type(T, np.float32) == np.float64 and np.shares_memory(T, T.value)
    assert np.common_type(T) is np.float64 and np.can_cast(T.dtype, np.float64)


@pytest.mark.parametrize("function", constants, ids=lambda function: function.__name__)
def test_constants_give_plain_values(function):
    """What a constant gives for a Tensor is what NumPy gives for its array, where one argument is enough to call it."""
    x = np.array([[1.5, -2.0], [0.5, 3.0]])
    try:
        expected = function(x)
    except (TypeError, ValueError, DeprecationWarning):
        return  # it needs other arguments, or is on its way out
    y = table[function](Tensor(x))
    assert "Tensor" not in repr(type(y))
    if function is not np.empty_like:
        np.testing.assert_equal(y, expected)
