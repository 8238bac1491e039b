"""docs/limits.md, "Where a Tensor is not an array": what is written there is run, by tests/test_limits.py and for the page.

The code stands here as text, and this file runs that text, so that the page cannot say one thing and the test
another. `LIMITS` raise, each with what to write instead; `DIFFERENCES` give what stands beside them.
"""

import ast
import copy
import importlib.util
import json
import math
import pickle
import runpy
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_notes import Tensor, at, check, gradients

import numpy as np
import scipy.linalg
import scipy.special


@dataclass(frozen=True)
class Limit:
    """Code that raises, and code that has the gradient (`constant`: that gives a plain value, knowingly)."""

    code: str
    instead: str
    note: str = ""
    constant: bool = False
    same: bool = True  # whether it gives what NumPy gives where `code` meets arrays
    ours: bool = True  # whether the error, or its cause, is ours and so names a way out
    needs: str = "numpy"


@dataclass(frozen=True)
class Difference:
    """Code that runs, its result, and what it means."""

    code: str
    result: str
    meaning: str


LIMITS = {
    "Making an array of Tensors": [
        Limit("np.array([t, t])", "np.stack([t, t])"),
        Limit("np.array([t[0], 2 * s])", "np.stack([t[0], 2 * s])"),
        Limit("np.asarray(t)", "t", "a Tensor needs no conversion; for its numbers, `t.value`"),
        Limit("np.sum([s, t[0]])", "np.sum(np.stack([s, t[0]]))", "a list is no Tensor: NumPy makes an array of it first"),
        Limit("np.exp([s, s])", "np.exp(np.stack([s, s]))"),
        Limit("np.full(3, s)", "np.broadcast_to(s, (3,))"),
        Limit("np.full_like(a, s)", "np.broadcast_to(s, a.shape)"),
        Limit("np.arange(s)", "s * np.arange(3) / 3", "how many there are has no gradient; `np.linspace(0, s, 3)` has one", same=False),
        Limit("np.mgrid[0:s]", "s * np.mgrid[0:1:3j]", same=False),
        Limit("np.r_[t, s]", "np.append(t, s)", "or `np.concatenate`"),
        Limit("np.c_[t, t]", "np.column_stack([t, t])"),
        Limit("np.matrix(m)", "m", "`@` is the matrix product of a Tensor"),
        Limit("np.fromiter(t, float)", "np.stack(list(t))"),
        Limit(
            "np.ma.masked_where(a > 0, t)",
            "np.where(a > 0, np.nan, t)",
            "then `np.nansum` and its kin, or `np.sum(t, where=a <= 0)`",
            same=False,
        ),
    ],
    "Methods and functions that do not ask": [
        Limit("A.dot(t)", "A @ t", "a method of an array; the function `np.dot(A, t)` asks too"),
        Limit("np.vectorize(math.sin)(t)", "np.sin(t)", "or `np.stack([f(x) for x in t])`"),
        Limit("np.vectorize(lambda x: x**2 if x > 2 else x)(t)", "np.where(t > 2, t**2, t)"),
        Limit("np.frompyfunc(math.sin, 1, 1)(t)", "np.sin(t)"),
        Limit("rng.normal(t)", "t + rng.normal(size=t.shape)", "reparameterise: a draw is a constant"),
        Limit("rng.exponential(t)", "t * rng.exponential(size=t.shape)"),
        Limit("rng.permutation(t)", "t[rng.permutation(len(t))]"),
        Limit("t[np.lexsort([t, t])]", "t[np.argsort(t)]", "or `np.lexsort([t.value, t.value])`: an order has no gradient"),
        Limit(
            "np.polynomial.polynomial.polyval(2.0, t)", "np.polyval(t[::-1], 2.0)", "its argument `x` may be a Tensor, its coefficients not"
        ),
        Limit("np.polynomial.Polynomial(t)(2.0)", "np.polyval(t[::-1], 2.0)", "or `np.poly1d(t[::-1])(2.0)`"),
        Limit("np.polynomial.Polynomial([1.0, 2.0])(t)", "np.polynomial.polynomial.polyval(t, [1.0, 2.0])"),
        Limit("np.apply_along_axis(lambda r: r * s, 0, A)", "A * s", "it asks only the array that it cuts up"),
        Limit("np.sum(a, initial=s)", "np.sum(a) + s", "where `a` is a Tensor, `initial=s` works"),
        Limit("np.nan_to_num(a, nan=s)", "np.where(np.isnan(a), s, a)", "likewise"),
        Limit("np.select([a > 0], [a], s)", "np.where(a > 0, a, s)", "the default is not asked"),
        Limit("np.pad(a, 1, constant_values=s)", "np.concatenate([s[None], a, s[None]])", "likewise"),
        Limit("scipy.special.logsumexp(t)", "np.logaddexp.reduce(t)", "of SciPy only the ufuncs of `scipy.special` ask"),
        Limit("scipy.special.softmax(t)", "np.exp(t - np.logaddexp.reduce(t))"),
        Limit("scipy.special.polygamma(2, t)", "-2 * scipy.special.zeta(3, t)", "(-1)^(n+1) n! zeta(n + 1, t); `digamma` is a ufunc"),
        Limit("scipy.linalg.solve(m, t)", "np.linalg.solve(m, t)"),
        Limit("scipy.linalg.cholesky(m @ m.T)", "np.linalg.cholesky(m @ m.T).T"),
        Limit("np.broadcast_shapes(t, t)", "np.broadcast_shapes(t.shape, t.shape)", "it takes shapes", constant=True),
        Limit("a[t]", "a[np.floor(t / 2).astype(int)]", "an index has no gradient", constant=True),
        Limit("list(np.ndenumerate(t))", "np.stack([i * x for i, x in enumerate(t)])", same=False),
        Limit("np.testing.assert_allclose(t, t)", "np.testing.assert_allclose(t.value, t.value)", constant=True),
    ],
    "Filling an array": [
        Limit("a[0] = s", "np.stack([s, *a[1:]])", "NumPy wraps our error: read the cause above it"),
        Limit("A[0] = t", "np.concatenate([t[None], A[1:]])"),
        Limit("a[:] = t", "a + t"),
        Limit("a[1:] = t[1:]", "np.concatenate([a[:1], t[1:]])"),
        Limit("a += t", "a = a + t; a", "with the Tensor on the left, `t += a` works"),
        Limit("np.exp(t, out=a)", "np.exp(t)"),
        Limit(
            "np.exp(t, where=t > 2)", "np.where(t > 2, np.exp(t), 0.0)", "without `out=`, NumPy leaves the others as memory was", same=False
        ),
        Limit("np.pad(t, 1, 'empty')", "np.pad(t, 1)", "likewise", same=False),
        Limit("np.copyto(a, t)", "np.copy(t)"),
        Limit("np.put(a, [0, 2], t[:2])", "at(a)[[0, 2]].set(t[:2])"),
        Limit("np.place(a, a == 0, t)", "at(a)[a == 0].set(t)"),
        Limit("np.putmask(a, a == 0, t)", "np.where(a == 0, t, a)"),
        Limit("np.put_along_axis(a, k, t[:2], 0)", "at(a)[k].set(t[:2])"),
        Limit("np.put_along_axis(A, A.argmax(1)[:, None], s, 1)", "at(A)[np.arange(3), A.argmax(1)].set(s)"),
        Limit("np.fill_diagonal(A, t)", "np.where(np.eye(3, dtype=bool), t, A)"),
        Limit("np.add.at(a, [0, 0, 1], t)", "at(a)[[0, 0, 1]].add(t)"),
        Limit("t[0] = 1.0", "at(t)[0].set(1.0)"),
        Limit("t[t > 2] = 0.0", "np.where(t > 2, 0.0, t)"),
        Limit("t.sort()", "np.sort(t)"),
        Limit("t.fill(0.0)", "np.zeros_like(t)", constant=True),
    ],
    "Becoming a number, text or file": [
        Limit("float(s)", "s.item()", constant=True),
        Limit("int(s)", "int(s.item())", constant=True),
        Limit("math.exp(s)", "np.exp(s)"),
        Limit("round(s, 2)", "round(s.item(), 2)", constant=True, ours=False),
        Limit("np.zeros(s)", "np.zeros(int(s.item()))", constant=True, ours=False),
        Limit("'%.2f' % s", "f'{s:.2f}'", constant=True),
        Limit("pickle.dumps(t)", "pickle.dumps(t.value)", "models are saved with `tinygrad_notes.saving`", constant=True),
        Limit("copy.deepcopy(2 * t)", "copy.deepcopy(t)", "of a leaf, a new leaf; of a result, `t.value.copy()`", constant=True),
        Limit("json.dumps(t)", "json.dumps(t.tolist())", constant=True, ours=False),
        Limit("np.save('x.npy', t)", "t.value", "a file holds arrays", constant=True),
        Limit(
            "matplotlib.pyplot.plot(t)",
            "t.value",
            "so do pandas and scikit-learn: they call `np.asarray`",
            constant=True,
            needs="matplotlib",
        ),
    ],
    "What a Tensor cannot be": [
        Limit("Tensor([1, 2])", "Tensor([1.0, 2.0])", "whole numbers have no gradient: keep them in arrays", constant=True),
        Limit("Tensor(t)", "t", same=False),
        Limit(
            "np.fft.rfft(t)",
            "np.cos(2 * math.pi * np.outer(np.arange(2), np.arange(3)) / 3) @ t",
            "complex Tensors do not exist yet: this is the real part",
            same=False,
        ),
        Limit("t + 1j", "np.stack([t, np.ones(3)])", "real and imaginary part apart", same=False),
        Limit("bool(t)", "bool(np.all(t > 0))", "as of an array: NumPy's own error", constant=True, ours=False),
        Limit("list(s)", "[s]", same=False),
        Limit("t.data", "t.value", constant=True, ours=False),
        Limit("t.view(np.int64)", "t.value.view(np.int64)", constant=True, ours=False),
    ],
}

DIFFERENCES = {
    "In place means a new Tensor": [
        Difference(
            "y = t; y += 1; (y is t, t.tolist())",
            "(False, [2.25, 1.5, 3.5])",
            "`+=` binds the name to a new Tensor; other names keep the old one",
        ),
        Difference(
            "y = t[:2]; y *= 10; t.tolist()", "[2.25, 1.5, 3.5]", "`t[:2]` is a Tensor of its own; nothing written to it reaches `t`"
        ),
        Difference(
            "x = np.ones(2); w = Tensor(x); x[0] = 5; w.tolist()",
            "[5.0, 1.0]",
            "`Tensor(x)` shares the memory of `x`; `Tensor(x.copy())` does not",
        ),
        Difference(
            "c = np.ones(3); y = t * c; c[0] = 9; gradients(np.sum(y), t)",
            "array([9., 1., 1.])",
            "constants are kept by reference: write to a copy, before or after; `check.guard()` raises",
        ),
        Difference("i = np.array([0, 1]); y = t[i]; i[:] = 2; gradients(np.sum(y), t)", "array([0., 0., 2.])", "index arrays too"),
    ],
    "Arrays come back where there is no gradient": [
        Difference(
            "t == t", "array([ True,  True,  True])", "comparisons give arrays, elementwise; `t is y` asks for identity, and so does a dict"
        ),
        Difference(
            "type(np.sign(t)), type(np.argmax(t)), type(t.astype(int))",
            "(<class 'numpy.ndarray'>, <class 'numpy.int64'>, <class 'numpy.ndarray'>)",
            "constants: see [ops.md](ops.md)",
        ),
        Difference(
            "type(a + a), type(a + t)",
            "(<class 'numpy.ndarray'>, <class 'tinygrad_notes.tensor.Tensor'>)",
            "arrays in, arrays out; one Tensor is enough for a Tensor",
        ),
        Difference(
            "[type(x).__name__ for x in t]",
            "['Tensor', 'Tensor', 'Tensor']",
            "iterating gives Tensors of one dimension less, never NumPy's scalars",
        ),
        Difference(
            "type(np.sum(t)), np.sum(t).shape",
            "(<class 'tinygrad_notes.tensor.Tensor'>, ())",
            "where NumPy gives a scalar, a Tensor without dimensions",
        ),
        Difference(
            "(m.T.shape, m.mT.shape, type(m.T).__name__)",
            "((3, 3), (3, 3), 'Tensor')",
            "`T`, `mT`, `reshape`, `sum` and the like are there, and give Tensors",
        ),
        Difference(
            "isinstance(t, np.ndarray), np.iterable(t), np.isscalar(s)",
            "(False, True, False)",
            "a Tensor is no array: ask for `t.shape`, not for its class",
        ),
        Difference("f'{s:.2f}', len(t), s.item()", "('1.75', 3, 1.75)", "numbers and texts of a Tensor are constants"),
    ],
    "What moves with the data has a gradient": [
        Difference(
            "counts, edges = np.histogram(t, 2); (type(counts).__name__, gradients(edges[1], t))",
            "('ndarray', array([0. , 0.5, 0.5]))",
            "edges run from the smallest element to the largest, and so move with them; counts are constants; for a plot, `edges.value`",
        ),
        Difference(
            "gradients(np.quantile(t, s / 2), [t, s])",
            "[array([0.25, 0.  , 0.75]), array(1.25)]",
            "a quantile moves with its elements and, between two of them, with `q`",
        ),
    ],
    "float32 stays only if all is float32": [
        Difference(
            "(np.sqrt(2 / np.pi) * h).dtype", "dtype('float64')", "NumPy's scalars are as wide as arrays: `check.dtypes()` finds the first"
        ),
        Difference("(math.sqrt(2 / math.pi) * h).dtype", "dtype('float32')", "Python's numbers are not"),
        Difference("(h / np.sqrt(len(h))).dtype", "dtype('float64')", "likewise: `h / math.sqrt(len(h))`"),
        Difference(
            "(h * np.array(2.0)).dtype", "dtype('float64')", "an array without dimensions is float64 too: `2.0`, or `np.float32(2.0)`"
        ),
        Difference(
            "gradients(np.sum(np.sqrt(2 / np.pi) * h), h).dtype", "dtype('float32')", "a gradient has its input's dtype all the same"
        ),
        Difference(
            "np.vander(h).dtype",
            "dtype('float32')",
            "where NumPy itself would widen an array of float32 (vander, cov, interp and others), a Tensor stays float32",
        ),
    ],
    "Slopes at kinks": [
        Difference(
            "gradients(np.sum(np.sqrt(z)), z)",
            "array([ inf, 0.25])",
            "the slope of sqrt at 0 is infinite; `np.linalg.norm` of zeros has slope 0",
        ),
        Difference(
            "gradients(np.sum(np.where(z > 0, np.log(z), 0.0)), z)",
            "array([ nan, 0.25])",
            "the trap of `where`: the branch not taken has slope inf, and 0 times inf is nan",
        ),
        Difference(
            "gradients(np.sum(np.where(z > 0, np.log(np.where(z > 0, z, 1.0)), 0.0)), z)",
            "array([0.  , 0.25])",
            "so make the branch not taken harmless first",
        ),
        Difference(
            "gradients(np.sum(np.abs(z)), z), gradients(np.max(np.stack([s, s])), s)",
            "(array([0., 1.]), array(1.))",
            "abs has slope 0 at 0; ties of a maximum share (here twice a half)",
        ),
    ],
}


def names() -> dict[str, Any]:
    """What the code may use, made anew for each run."""
    return (
        {
            "t": Tensor(np.array([2.25, 1.5, 3.5])),
            "s": Tensor(np.array(1.75)),
            "m": Tensor(np.array([[4.0, 0.5, 0.25], [0.5, 3.0, 0.75], [0.25, 0.75, 2.0]])),
            "h": Tensor(np.array([0.5, 1.5, 2.5], np.float32)),
            "z": Tensor(np.array([0.0, 4.0])),
            "a": np.zeros(3),
            "A": np.arange(9.0).reshape(3, 3),
            "k": np.array([0, 2]),
            "rng": np.random.default_rng(0),
        }
        | {"np": np, "scipy": scipy, "math": math, "json": json, "pickle": pickle, "copy": copy}
        | {"Tensor": Tensor, "at": at, "check": check, "gradients": gradients}
    )


def run(code: str, **given: Any) -> Any:
    """Run the statements; the value of the last, if it is an expression."""
    scope = names() | given
    if "matplotlib" in code:
        import matplotlib.pyplot

        scope["matplotlib"] = matplotlib
    *statements, last = ast.parse(code).body
    if isinstance(last, ast.Expr):
        last = ast.Assign([ast.Name("result", ast.Store())], last.value)
    program = ast.fix_missing_locations(ast.Module([*statements, last], []))
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # np.matrix
        file = Path(folder, "snippet.py")
        file.write_text(ast.unparse(program), encoding="utf-8")
        return runpy.run_path(str(file), scope).get("result")


def errors_of(code: str) -> list[Exception]:
    """The error that `code` raises and its causes; none if it runs."""
    try:
        run(code)
    except Exception as error:
        found: list[Any] = [error]
        while (cause := found[-1].__cause__ or found[-1].__context__) is not None:
            found.append(cause)
        return found
    return []


def available(limit: Limit) -> bool:
    return importlib.util.find_spec(limit.needs) is not None


# --- the page ---------------------------------------------------------------------------------


def cell(code: str) -> str:
    return "`" + code.replace("|", "\\|") + "`"


def page() -> str:
    return "\n".join(lines()) + "\n"


def lines() -> Iterable[str]:
    yield "# Where a Tensor is not an array"
    yield ""
    yield f"Written by `make tables` with NumPy {np.__version__}; do not edit. All code here was run, and every gradient compared with differences."
    yield ""
    yield "NumPy asks a Tensor what a function shall do with it, in its ufuncs and in most of its functions. Where it does not ask, it wants an array;"
    yield "a Tensor then raises, because an array would have lost the gradient without a word. Below, `t`, `s` and `m` are Tensors of 3 numbers, of one,"
    yield "and of 3 by 3; `a` and `A` are arrays; `k` is an array of places."
    numbers: dict[str, str] = {}
    for title, limits in LIMITS.items():
        yield from ("", f"## {title}", "", "| this raises | error | write instead | |", "|---|---|---|---|")
        for limit in limits:
            errors = []
            for error in errors_of(limit.code):
                text = str(error).partition("\n")[0]
                number = numbers.setdefault(text, str(len(numbers) + 1))
                errors.append(f"{type(error).__name__} ({number})")
            note = "; ".join(filter(None, [limit.note, "a constant" if limit.constant else ""]))
            yield f"| {cell(limit.code)} | {' from '.join(errors)} | {cell(limit.instead)} | {note} |"
    yield from ("", "The errors, in full:", "")
    yield from (f"- ({number}) {text}" for text, number in numbers.items())
    for title, differences in DIFFERENCES.items():
        yield from ("", f"## {title}", "", "| this runs | and gives | |", "|---|---|---|")
        for d in differences:
            yield f"| {cell(d.code)} | {cell(repr(run(d.code)))} | {d.meaning} |"
    yield from ("", "Here `h` is a Tensor of float32, and `z` is `Tensor(np.array([0.0, 4.0]))`.")
