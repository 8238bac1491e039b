"""docs/ops.md: what every NumPy function does with a Tensor, as seen by running each of its cases.

Nothing in the columns is asserted by hand: `row` calls the checks of tests/ops/test_registry.py and
writes what they said. Only the notes are words of ours, about values at kinks.
"""

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from tests.ops.samples import Sample, sample
from tests.ops.test_classified import asking
from tests.ops.test_registry import check_float32, check_second_order, check_vjp, cotangents, vjp, weigh
from tests.tables.peers import FILE, TITLES
from tinygrad_notes import Tensor
from tinygrad_notes.binding import label, map_structure
from tinygrad_notes.check import EPS, Watcher, array_of, derivative, floats, inner, largest, random_like
from tinygrad_notes.core import table
from tinygrad_notes.ops import special  # noqa: F401  (importing registers)
from tinygrad_notes.registry import Composition, Op, constants, refused, registry
from tinygrad_notes.transforms import jvp

import numpy as np
import scipy
import scipy.special

UFUNCS = {f: f"scipy.special.{name}" for name, f in vars(scipy.special).items() if isinstance(f, np.ufunc)}
BEHIND = {
    "_zeta": "zeta(s, q)",
    "_riemann_zeta": "zeta(s)",
    "_lambertw": "lambertw",
    "_ellip_harm": "ellip_harm",
}  # ufuncs of Python functions
METHODS = ("getitem", "astype")  # of an array: no function of NumPy's, but they dispatch too
# {function: (what to know, arguments, the gradients of the sum of the result)}: values at kinks, tried by test_tables.py.
ZERO, TIE, MIDDLE = [0.0, 0.0], [1.0, 3.0, 3.0], [2.0, 1.0, 1.0]
KINKS: dict[str, tuple[str, list, list]] = {
    "np.absolute": ("slope 0 at 0", [ZERO], [ZERO]),
    "np.fabs": ("slope 0 at 0", [ZERO], [ZERO]),
    "np.linalg.norm": ("slope 0 where it is 0", [ZERO], [ZERO]),
    "np.linalg.vector_norm": ("slope 0 where it is 0", [ZERO], [ZERO]),
    "np.linalg.matrix_norm": ("slope 0 where it is 0", [[ZERO]], [[ZERO]]),
    "np.hypot": ("slope 0 where it is 0", [0.0, 0.0], ZERO),
    "np.sqrt": ("slope inf at 0, its limit", [[0.0, 4.0]], [[np.inf, 0.25]]),
    "np.maximum": ("a tie gives half to each", [1.0, 1.0], [0.5, 0.5]),
    "np.minimum": ("a tie gives half to each", [1.0, 1.0], [0.5, 0.5]),
    "np.fmax": ("a tie gives half to each", [1.0, 1.0], [0.5, 0.5]),
    "np.fmin": ("a tie gives half to each", [1.0, 1.0], [0.5, 0.5]),
    "np.max": ("ties share evenly", [TIE], [[0.0, 0.5, 0.5]]),
    "np.min": ("ties share evenly", [MIDDLE], [[0.0, 0.5, 0.5]]),
    "np.ptp": ("ties share evenly", [TIE], [[-1.0, 0.5, 0.5]]),
    "np.nanmax": ("ties share evenly", [TIE], [[0.0, 0.5, 0.5]]),
    "np.nanmin": ("ties share evenly", [MIDDLE], [[0.0, 0.5, 0.5]]),
    "np.clip": ("slope 1 at the bounds", [[1.0, 2.0, 3.0], 1.0, 2.0], [[1.0, 1.0, 0.0]]),
    "np.prod": ("exact with zeros", [[0.0, 2.0, 3.0]], [[6.0, 0.0, 0.0]]),
    "np.cumprod": ("exact with zeros", [[0.0, 2.0, 3.0]], [[9.0, 0.0, 0.0]]),
    "np.median": ("of equal elements, the stable order", [TIE], [[0.0, 1.0, 0.0]]),
}
NOTES = {name: text for name, (text, _, _) in KINKS.items()} | {
    "np.sort": "of equal elements, the stable order",
    "np.where": "nan of the branch not taken: [limits](limits.md)",
    "np.histogram": "of edges, densities and sums of weights",
    "np.histogram2d": "of edges, densities and sums of weights",
    "np.histogramdd": "of edges, densities and sums of weights",
    "scipy.special.itairy": "SciPy's values have six digits for |x| from 1 to 9",
    "np.bincount": "the weights' gradient",
    "np.heaviside": "the gradient of the value at 0",
    "np.linalg.eigh": "vectors of equal eigenvalues have no derivative",
    "np.linalg.svd": "vectors of equal singular values have no derivative",
    "x.astype": "float32 becomes the width asked for",
    "np.astype": "float32 becomes the width asked for",
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


def widened(s: Sample) -> bool:
    """Whether NumPy itself gives something wider for these inputs in float32."""
    narrow = s.cast(np.float32)
    with np.errstate(all="ignore"):
        return any(y.dtype != np.float32 for y in floats(narrow.plain(narrow.inputs)))


class Summed(Watcher):
    """Whether a rule of `item` gave a gradient that the engine had to sum over broadcast axes."""

    def __init__(self, item):
        self.item, self.seen = item, False

    def pulled(self, node, i, g):
        self.seen |= node.op is self.item and g.shape != node.parents[i].shape


def broadcasts(s: Sample) -> bool:
    """Whether inputs of different shapes met in this case, as NumPy broadcasts them."""
    shapes = [x.shape for x in s.inputs] + [a.shape for a in s.template if isinstance(a, np.ndarray)]
    if len(set(shapes)) == 1:
        return False
    with Summed(s.item) as summed, np.errstate(all="ignore"):
        outputs, _, _ = vjp(s, s.inputs)
    try:
        return summed.seen or outputs[0].shape == np.broadcast_shapes(*shapes)
    except ValueError:  # these shapes do not broadcast
        return False


def row(item: Any) -> list[str]:
    """What all cases of a function said."""
    samples = [sample(item, case) for case in item.cases]
    right = {s.seed: passes(check_vjp, s) for s in samples}
    columns = [list(right.values()), *([passes(check, s) for s in samples] for check in (check_second_order, check_forward, check_float32))]
    marks = ["yes" if all(seen) else f"{sum(seen)} of {len(seen)}" for seen in columns]
    wide = sum(map(widened, samples))
    marks[3] += f", NumPy widens {wide}" if wide else ""
    kind = "rule" if isinstance(item, Op) else "composed"
    return [kind, *marks, "yes" if any(right[s.seed] and broadcasts(s) for s in samples) else "", str(len(samples))]


# --- constants -------------------------------------------------------------------------------


MOVING = "places, taken as they are, without gradient"


def calls() -> Iterable[tuple]:
    """Arguments to try on a constant, the plainest first."""
    rng = np.random.default_rng(0)
    x, y, m = rng.uniform(0.1, 1.9, 5), np.sort(rng.uniform(0.1, 1.9, 5)), rng.uniform(0.1, 1.9, (3, 3))
    yield from ((x,), (x, y), (m,), (x, 1), ((x, y),), ("i,i->", x, y))


def result_of(function: Callable) -> str:
    """What a constant gives for Tensors: truth values, whole numbers, numbers with or without slope, or other things."""
    for args in calls():
        try:
            values = members(table[function](*tensors_in(args)))
        except Exception:  # these arguments are not for this function
            continue
        if {v.dtype.kind for v in values} == {"b"}:
            return "truth values"
        if {v.dtype.kind for v in values} <= set("iu"):
            return "whole numbers"
        if {v.dtype.kind for v in values} <= set("iuf"):
            moved = members(table[function](*tensors_in(args, 1e-7)))
            same = function is np.empty_like or all(map(np.array_equal, values, moved))
            return "numbers that stay when the input moves a little" if same else MOVING
    return "texts, types, indices, plans"


def members(result: Any) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    map_structure(lambda v, _: found.append(np.asarray(v)), result)
    return found


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
    for function in [*refused, *(getattr(item, "function", None) for item in registry)]:
        name = getattr(function, "__name__", "")
        if name in BEHIND:
            found[function] = f"scipy.special.{BEHIND[name]}"
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


def rows_of_all() -> dict[str, list[tuple[str, str, list[str]]]]:
    """{file: [(name, other names, row)]} for every function that has a gradient, in the order of the files."""
    known, found = names(), defaultdict(list)
    for item in registry:
        function = getattr(item, "function", None)
        if function in known:
            name = known[function]
            found[family(item)].append((name, aliases(function, name), [*row(item), NOTES.get(name, "")]))
    return found


def listed(functions: Iterable[Any], known: dict[Any, str]) -> str:
    return ", ".join(f"`{known[f]}`" for f in sorted(functions, key=lambda f: known[f]) if f in known)


HEAD = (
    "| function | made by | 1st order | 2nd order | forward | float32 | broadcasts | cases | note |\n|---|---|---|---|---|---|---|--:|---|"
)


def page() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return "\n".join(lines()) + "\n"


def lines() -> Iterable[str]:
    known, rows = names(), rows_of_all()
    total = sum(len(members) for members in rows.values())
    tried = sum(int(r[6]) for members in rows.values() for _, _, r in members)
    whole = sum(all(mark.startswith("yes") for mark in r[1:5]) for members in rows.values() for _, _, r in members)
    yield "# What has a gradient"
    yield ""
    yield f"Written by `make tables` with NumPy {np.__version__} and SciPy {scipy.__version__}; do not edit."
    yield ""
    yield "Each function below was called with Tensors, in each of its cases (shapes, axes and keywords; they stand beside its rule), and the"
    yield "table says what was seen. **1st order**: every element of every gradient, for a random cotangent, is what differences of the function"
    yield "give, within their own bound of error. **2nd order**: likewise the gradient of the gradient; the Hessian is symmetric. **forward**: so is"
    yield "the derivative along a direction, by `jvp`. **float32**: float32 inputs give float32 results and gradients, right to their precision"
    yield "(*NumPy widens 2*: in two cases NumPy itself gives float64 for float32; the gradient is float32 all the same). **broadcasts**: inputs of"
    yield "different shapes met in a case, and the gradients were right. *3 of 5* would mean that two cases did not have the property."
    yield ""
    constant, refusals = [f for f in known if f in constants], [f for f in known if f in refused]
    yield f"{len(known)} functions ask a Tensor what to do: {total} have a gradient ({tried} calls; {whole} functions have all four properties in all"
    yield f"cases), {len(constant)} are constants, {len(refusals)} are refused, each with its reason."
    outer = [u for u, method in (k for k in table if isinstance(k, tuple)) if method == "outer" and u not in constants]
    yield f"The methods `outer`, `reduce` and `accumulate` of {len(outer)} ufuncs have gradients too."
    yield ""
    yield from beside_the_peers({name for members in rows.values() for name, _, r in members if r[1] == "yes"})
    for module, members in rows.items():
        yield from ("", f"## {module_title(module)}", "")
        yield f"[{module.rpartition('.')[2]}.py](../{module.replace('.', '/')}.py)"
        yield from ("", HEAD)
        yield from (f"| `{name}`{others} | {' | '.join(cells)} |" for name, others, cells in members)
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
    yield "- it writes in place, and a gradient would be lost: the method `at` of all ufuncs (`at(x)[index].add(v)` instead)"
    yield ""
    yield "Of the functions above, these arguments raise too:"
    yield ""
    yield "- `out=` of all: it writes in place"
    yield "- `where=` of ufuncs called as functions: elements left out have no value; `np.where(mask, f(x), other)` (reductions take `where=`)"
    yield "- `mode='empty'` of `np.pad`, whose new elements have no value, and a function as mode, which writes in place"
    yield "- a Tensor as the order, degree or number of degrees of freedom of a function of scipy.special, where the derivative is no known function"


def module_title(module: str) -> str:
    doc = __import__(module, fromlist=["_"]).__doc__
    return doc.partition("\n")[0].rstrip(".")


def beside_the_peers(right: set[str]) -> Iterable[str]:
    """The share of NumPy that has a gradient: here (the names of the `right`), and in the packages counted by peers.py."""
    record = json.loads(FILE.read_text(encoding="utf-8"))
    total = len(record["functions"])
    here = len(right.intersection(record["functions"]))
    yield "## The share of NumPy"
    yield ""
    yield f"Of the functions in `numpy` and `numpy.linalg` that dispatch and have a real, differentiable result ({total} in NumPy {record['numpy']}), how many have"
    yield "a gradient. One counts if, in the package's own spelling, at least one of our cases gives the gradient that differences give; here, all must."
    yield ""
    yield "| package | functions with a gradient | share |"
    yield "|---|--:|--:|"
    yield f"| tinygrad_notes | {here} | {here / total:.0%} |"
    for package, peer in record["peers"].items():
        n = len(peer["with_gradient"])
        yield f"| {TITLES[package]} {peer['version']} | {n} | {n / total:.0%} |"
    yield ""
    yield "Counted by `python -m tests.tables.peers`, which lists what each lacks. Each function that dispatches is above, a constant, or in the closed"
    yield "list; complex results are left out, and JAX has gradients of many of those. JAX has its own arrays and compiler; the others run on NumPy, as we do."
