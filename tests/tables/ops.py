"""docs/ops.md: what every NumPy function does with a Tensor, as seen by running each of its cases.

Nothing in the columns is asserted by hand: `row` calls the checks of tests/ops/test_registry.py and
writes what they said. Only the notes are words of ours, about values at kinks.
"""

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from tests.ops.samples import Sample, plain_function, sample
from tests.ops.test_classified import asking
from tests.ops.test_registry import check_float32, check_second_order, check_vjp, cotangents, tensors, vjp, weigh
from tests.tables.peers import FILE, TITLES, counted
from tinygrad_notes import Tensor
from tinygrad_notes.binding import label
from tinygrad_notes.check import EPS, Watcher, array_of, derivative, floats, inner, largest, random_like
from tinygrad_notes.core import table
from tinygrad_notes.ops import special  # noqa: F401  (importing registers)
from tinygrad_notes.registry import Composition, Op, constants, refused, registry
from tinygrad_notes.transforms import jvp

import numpy as np
import scipy
import scipy.special

UFUNCS = {f: f"scipy.special.{name}" for name, f in vars(scipy.special).items() if isinstance(f, np.ufunc)}
METHODS = ("getitem", "astype")  # of an array: no function of NumPy's, but they dispatch too
NOTES = {
    "np.absolute": "slope 0 at 0",
    "np.fabs": "slope 0 at 0",
    "np.linalg.norm": "slope 0 where the norm is 0",
    "np.linalg.vector_norm": "slope 0 where the norm is 0",
    "np.linalg.matrix_norm": "slope 0 where the norm is 0",
    "np.sqrt": "slope inf at 0, as its limit",
    "np.maximum": "a tie gives half to each",
    "np.minimum": "a tie gives half to each",
    "np.fmax": "a tie gives half to each",
    "np.fmin": "a tie gives half to each",
    "np.max": "ties share evenly",
    "np.min": "ties share evenly",
    "np.ptp": "ties share evenly",
    "np.nanmax": "ties share evenly",
    "np.nanmin": "ties share evenly",
    "np.clip": "slope 1 at the bounds",
    "np.prod": "exact with zeros",
    "np.cumprod": "exact with zeros",
    "np.sort": "equal elements keep their order",
    "np.median": "as of the stable sort",
    "np.where": "nan of the branch not taken: see limits.md",
    "np.histogram": "gradient of the weights",
    "np.histogram2d": "gradient of the weights",
    "np.bincount": "gradient of the weights",
    "np.heaviside": "gradient of the value at 0",
    "np.linalg.eigh": "reads one triangle, as NumPy; equal eigenvalues have no derivative of vectors",
    "np.linalg.svd": "equal singular values have no derivative of vectors",
    "np.copy": "a Tensor is never written to: no memory moves",
}


# --- what runs say ---------------------------------------------------------------------------


def check_forward(s: Sample) -> None:
    """The derivative along a random direction, forward, as `jvp` gives it, against differences."""
    us = random_like([s.inputs[i] for i in s.varied], np.random.default_rng(s.seed + 4))

    def at(values):
        inputs = list(s.inputs)
        for i, x in zip(s.varied, values):
            inputs[i] = x
        return inputs

    outputs, tangents = jvp(lambda *xs: floats(s.call(at(xs))), tuple(s.inputs[i] for i in s.varied), tuple(us))
    cs = cotangents(s, outputs)

    def phi(t):
        return float(inner(cs, floats(s.plain(at([s.inputs[i] + t * u for i, u in zip(s.varied, us)])))))

    with np.errstate(all="ignore"):
        slope, bound = derivative(phi, s.h / 2, weigh(cs, outputs), max(1.0, largest(*s.inputs)))
    got = float(inner(cs, [array_of(v) for v in tangents]))
    assert abs(got - slope) <= bound + 64 * EPS * weigh(cs, tangents), f"forward: {got}, differences: {slope}"


def passes(check: Callable, s: Sample) -> bool:
    try:
        check(s)
    except Exception:
        return False
    return True


def keeps_float32(s: Sample) -> bool:
    """float32 in, float32 out and back, right to its precision."""
    narrow = s.cast(np.float32)
    _, mixed = tensors(narrow, narrow.inputs)
    with np.errstate(all="ignore"):
        return passes(check_float32, s) and all(y.dtype == np.float32 for y in floats(narrow.call(mixed)))


class Summed(Watcher):
    """Whether a rule of `item` gave a gradient that the engine had to sum over broadcast axes."""

    def __init__(self, item):
        self.item, self.seen = item, False

    def pulled(self, node, i, g):
        self.seen |= node.op is self.item and g.shape != node.parents[i].shape


def broadcasts(s: Sample) -> bool:
    """Whether inputs of different shapes met in this case, as NumPy broadcasts them."""
    with Summed(s.item) as summed, np.errstate(all="ignore"):
        outputs, _, _ = vjp(s, s.inputs)
    constants = [a.shape for a in s.template if isinstance(a, np.ndarray)]
    shapes = [x.shape for x in s.inputs] + constants
    try:
        together = np.broadcast_shapes(*shapes)
    except ValueError:
        return summed.seen
    return summed.seen or (len(set(shapes)) > 1 and outputs[0].shape == together)


def row(item: Any) -> list[str]:
    """What all cases of a function said."""
    samples = [sample(item, case) for case in item.cases]
    right = {s.seed: passes(check_vjp, s) for s in samples}
    columns = [
        list(right.values()),
        [passes(check_second_order, s) for s in samples],
        [passes(check_forward, s) for s in samples],
        [keeps_float32(s) for s in samples],
    ]
    marks = ["yes" if all(seen) else f"{sum(seen)} of {len(seen)}" for seen in columns]
    kind = "rule" if isinstance(item, Op) else "composed"
    return [kind, *marks, "yes" if any(right[s.seed] and broadcasts(s) for s in samples) else "", str(len(samples))]


# --- constants -------------------------------------------------------------------------------


def calls() -> Iterable[tuple]:
    """Arguments to try on a constant, the plainest first."""
    rng = np.random.default_rng(0)
    x, y, m = rng.uniform(0.1, 1.9, 5), rng.uniform(0.1, 1.9, 5), rng.uniform(0.1, 1.9, (3, 3))
    yield from ((x,), (x, y), (m,), (x, 1), ((x, y),), ("i,i->", x, y))


def result_of(function: Callable) -> str:
    """What a constant gives for Tensors: truth values, whole numbers, numbers whose slope is zero, or other things."""
    for args in calls():
        try:
            result = table[function](*tensors_in(args))
        except (TypeError, ValueError, IndexError):
            continue
        results = np.concatenate([np.ravel(v) for v in result]) if isinstance(result, tuple) else np.asarray(result)
        if results.dtype.kind == "b":
            return "truth values"
        if results.dtype.kind in "iu":
            return "whole numbers"
        if results.dtype.kind == "f":
            moved = table[function](*tensors_in(args, 1e-7))
            same = function is np.empty_like or np.array_equal(np.asarray(moved), np.asarray(result))
            return "numbers that stay when the input moves a little" if same else "numbers"
    return "other things"


def tensors_in(args: Any, step: float = 0.0) -> Any:
    """args with its arrays as Tensors, moved by `step`."""
    if isinstance(args, tuple):
        return tuple(tensors_in(a, step) for a in args)
    return Tensor(args + step) if isinstance(args, np.ndarray) else args


# --- the page ---------------------------------------------------------------------------------


def names() -> dict[Any, str]:
    """{function: its name} for all that dispatch: NumPy's, SciPy's, and two methods of arrays."""
    found = {f: label(f) if label(f).startswith("np.") else path for f, path in asking().items()}
    found |= {f: label(f) if label(f).startswith("scipy.") else path for f, path in UFUNCS.items()}
    for item in registry:
        function = getattr(item, "function", None)
        if item.name in METHODS or item.label.startswith("np."):
            found.setdefault(function, {"getitem": "x[index]", "astype": "x.astype"}.get(item.name, item.label))
    return found


def aliases(function: Any, name: str) -> str:
    """The other names of a function in the same module, as NumPy has several for some."""
    module = {"np": np, "np.linalg": np.linalg, "scipy.special": scipy.special}.get(name.rpartition(".")[0])
    others = sorted(n for n, f in vars(module).items() if f is function and n != name.rpartition(".")[2]) if module else []
    return "".join(f", `{n}`" for n in others)


def family(item: Any) -> str:
    """The file that a function is registered in."""
    return (item.body if isinstance(item, Composition) else next(filter(None, item.rules))).__globals__["__name__"]


def rows_of_all() -> dict[str, list[tuple[str, list[str]]]]:
    """{file: [(name, row)]} for every function that has a gradient, in the order of the files."""
    known, found = names(), defaultdict(list)
    for item in registry:
        function = getattr(item, "function", None)
        if function in known:
            name = known[function]
            found[family(item)].append((f"`{name}`{aliases(function, name)}", [*row(item), NOTES.get(name, "")]))
    return found


def listed(functions: Iterable[Any], known: dict[Any, str]) -> str:
    return ", ".join(f"`{known[f]}`" for f in sorted(functions, key=lambda f: known[f]) if f in known)


HEAD = "| function | made by | 1st order | 2nd order | forward | float32 | broadcasts | cases | note |\n|---|---|---|---|---|---|---|--:|---|"


def page() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return "\n".join(lines()) + "\n"


def lines() -> Iterable[str]:
    known, rows = names(), rows_of_all()
    total = sum(len(members) for members in rows.values())
    cases = sum(int(r[6]) for members in rows.values() for _, r in members)
    whole = sum(r[1:5] == ["yes"] * 4 for members in rows.values() for _, r in members)
    yield "# What has a gradient"
    yield ""
    yield f"Written by `make tables` with NumPy {np.__version__} and SciPy {scipy.__version__}; do not edit."
    yield ""
    yield "Each function below was called with Tensors, in each of its cases (shapes, axes and keywords; they stand beside its rule), and the"
    yield "table says what was seen. **1st order**: every element of every gradient, for a random cotangent, is what differences of the function"
    yield "give, within their own bound of error. **2nd order**: likewise the gradient of the gradient; the Hessian is symmetric. **forward**: so is"
    yield "the derivative along a direction, by `jvp`. **float32**: float32 inputs give float32 results and gradients, right to their precision."
    yield "**broadcasts**: inputs of different shapes met in a case, and the gradients were right. *3 of 5* means that two cases did not have the property."
    yield ""
    constant, refusals = [f for f in known if f in constants], [f for f in known if f in refused]
    yield f"{len(known)} functions ask a Tensor what to do: {total} have a gradient ({cases} cases; {whole} functions have all four properties in all"
    yield f"cases), {len(constant)} are constants, {len(refusals)} are refused, each with its reason."
    outer = [u for u, method in (k for k in table if isinstance(k, tuple)) if method == "outer" and u not in constants]
    yield f"The methods `outer`, `reduce` and `accumulate` of {len(outer)} ufuncs have gradients too."
    yield ""
    yield from beside_the_peers()
    for module, members in rows.items():
        yield from ("", f"## {module_title(module)}", "")
        yield f"[{module.rpartition('.')[2]}.py](../{module.replace('.', '/')}.py)"
        yield from ("", HEAD)
        yield from (f"| {name} | {' | '.join(cells)} |" for name, cells in members)
    yield from ("", "## Constants", "")
    yield "Functions that give plain arrays: their results are no real numbers, or do not change when the input moves a little."
    yield ""
    kinds = defaultdict(list)
    for f in constant:
        kinds[result_of(f)].append(f)
    for kind in sorted(kinds):
        yield f"- {kind}: {listed(kinds[kind], known)}"
    yield from ("", "## The closed list", "")
    yield "These raise, with the reason:"
    yield ""
    reasons = defaultdict(list)
    for f in refusals:
        reasons[refused[f]].append(f)
    for reason, functions in reasons.items():
        yield f"- {reason}: {listed(functions, known)}"
    yield f"- it writes in place, and a gradient would be lost: the method `at` of all ufuncs (`at(x)[index].add(v)` instead)"


def module_title(module: str) -> str:
    doc = __import__(module, fromlist=["_"]).__doc__
    return doc.partition("\n")[0].rstrip(".")


def beside_the_peers() -> Iterable[str]:
    """The share of NumPy that has a gradient: here, and in the packages counted by peers.py."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    total = len(record["functions"])
    here = sum(row(item)[1] == "yes" for item in counted().values())
    yield "## The share of NumPy"
    yield ""
    yield f"Of the functions in `numpy` and `numpy.linalg` that dispatch and have a real, differentiable result ({total} in NumPy {record['numpy']}), how many have"
    yield "a gradient. One counts if, in the package's own spelling, at least one of our cases gives the gradient that differences give"
    yield "(here: all of them); functions of its own that NumPy has under no name do not count."
    yield ""
    yield "| package | functions with a gradient | share |"
    yield "|---|--:|--:|"
    yield f"| tinygrad_notes | {here} | {here / total:.0%} |"
    for package, peer in record["peers"].items():
        n = len(peer["with_gradient"])
        yield f"| {TITLES[package]} {peer['version']} | {n} | {n / total:.0%} |"
    yield ""
    yield "Counted by `python -m tests.tables.peers`, which lists what each lacks. JAX brings its own `jax.numpy` and compiler; the other two run on NumPy as we do."
