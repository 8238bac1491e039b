"""Is the gradient right, and where did it go wrong: differences, and watchers of a running graph.

    check_grads(f, x, w)            # every gradient of f against differences, first and second order
    with check.anomaly(): ...       # the first nan or inf raises, with the line of yours that made it
    with check.guard(): ...         # an array changed between forward and backward raises
    with check.dtypes(): ...        # the first op that mixes float32 and float64 raises
    with check.shapes(module): ...  # comments such as `# (B, T, C)` are executed
    with check.count() as counts: ...

Differences carry a bound of their own error, so that no tolerance is set by hand: a rule that
is wrong by one part in 10,000 fails, and a right one does not.
"""

import ast
import inspect
import io
import itertools
import linecache
import math
import os
import re
import sys
import tokenize
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tinygrad_notes import core
from tinygrad_notes.binding import map_structure
from tinygrad_notes.core import Leaf, Node, Variable, walk
from tinygrad_notes.tensor import Tensor

import numpy as np

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
LEVELS = 5  # halvings of the step: the error falls as h^10
MANY = 1000  # from this size on, random directions stand for all elements


class GradientError(AssertionError):
    """A gradient is wrong, or was made in a way that a gradient must not be."""


# --- differences -------------------------------------------------------------------------


def extrapolate(phi: Callable[[float], float], h: float, weight: float, reach: float) -> tuple[float, float]:
    """phi'(0) by central differences and Richardson's extrapolation, and a bound of its error.

    weight: how large the terms are that phi adds up; reach: how large the point is that it is
    evaluated at. Both are known to one rounding, which a difference over a step h divides by h.
    The bound is 8 (|T44 - T33| + 64 eps (weight + reach |T44|) / h_min): what the last
    extrapolation still changed, and rounding, with room.
    """
    row: list[float] = []
    for _ in range(LEVELS):
        coarser, row = row, [(phi(h) - phi(-h)) / (2 * h)]
        for j, coarse in enumerate(coarser, 1):
            row.append(row[-1] + (row[-1] - coarse) / (4**j - 1))
        h /= 2
    bound = 8 * (abs(row[-1] - coarser[-1]) + 64 * EPS * (weight + reach * abs(row[-1])) / (2 * h))
    return row[-1], bound if math.isfinite(bound) else math.inf


def derivative(phi: Callable[[float], float], h: float, weight: float = 1.0, reach: float = 1.0) -> tuple[float, float]:
    """phi'(0) and a bound of its error; the step shrinks while a kink or the edge of the domain is near.

    The bound is infinite where no step finds a derivative.
    """
    best = math.nan, math.inf
    for _ in range(10):
        try:
            slope, bound = extrapolate(phi, h, weight, reach)
        except np.linalg.LinAlgError:  # the step left the domain
            slope, bound = math.nan, math.inf
        if bound < best[1]:
            best = slope, bound
        if bound <= 1e-7 * (weight + abs(slope)):
            break
        h /= 4
    slope, bound = best
    return best if bound <= 1e-5 * (weight + abs(slope)) else (slope, math.inf)


def differences(phi: Callable[[], float], x: np.ndarray, h: float, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """The derivative of phi() by each element of x, an array that phi reads, and bounds; x is restored."""
    slopes, bounds = np.zeros(x.shape), np.zeros(x.shape)
    flat, at_slopes, at_bounds = x.reshape(-1), slopes.reshape(-1), bounds.reshape(-1)
    for i, old in enumerate(flat.tolist()):

        def along(t, i=i, old=old):
            flat[i] = old + t
            return phi()

        at_slopes[i], at_bounds[i] = derivative(along, h, weight, abs(old))
        flat[i] = old
    return slopes, bounds


def step(margin: float) -> float:
    """A first step at most `margin`: a power of two, so that adding it is nearly exact."""
    return 2.0 ** math.floor(math.log2(margin))


def largest(*arrays: Any) -> float:
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def random_like(arrays: Sequence[Any], rng: np.random.Generator) -> list[np.ndarray]:
    """Random cotangents or directions: of either sign, none near zero."""
    return [rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in arrays]


def inner(us: Sequence[Any], vs: Sequence[Any]) -> Any:
    """sum(<u, v>) over the members of both: a Tensor if one of them is."""
    return sum((np.sum(u * v) for u, v in zip(us, vs)), 0.0)


def array_of(y: Any) -> np.ndarray:
    return y.value if isinstance(y, Variable) else np.asarray(y)


def floats(y: Any) -> list[Any]:
    """The float members of an output, one or several; integers and truth values are constants."""
    members: list[Any] = []
    map_structure(lambda v, _: members.append(v if isinstance(v, Variable) else np.asarray(v)), y)
    return [v for v in members if v.dtype.kind == "f"]


def pull(variables: Sequence[Any], outputs: Sequence[Any], gs: Sequence[Any], higher: bool = False, retain: bool = False) -> list[Any]:
    """Gradients of sum(<g, y>) by `variables`: arrays, or Tensors when `higher`; zeros where nothing depends."""
    seeds: dict[Node, Any] = {}
    for y, g in zip(outputs, gs):
        if isinstance(y, Variable):
            g = g if isinstance(g, Variable) else np.asarray(g, y.value.dtype)
            seeds[y.node] = seeds[y.node] + g if y.node in seeds else g
    found = walk(seeds, [v.node for v in variables], higher, retain)
    gradients = [found[v.node] if v.node in found else np.zeros_like(v.value) for v in variables]
    return [g if not higher or isinstance(g, Variable) else Tensor(g) for g in gradients]


# --- check_grads ---------------------------------------------------------------------------


def check_grads(f: Callable, *args: Any, order: int = 2, rng: np.random.Generator | None = None) -> None:
    """Check the gradients of f(*args), up to `order`, by each float array in args.

    f: any function of Tensors (arrays, numbers, nested lists, tuples or dicts of them) that
    returns one or several; not random. args: float arrays, numbers or Tensors, nested in the
    same ways; anything else is passed on as a constant. Every element is checked in arrays of
    less than 1,000; larger ones along random directions. Differences run in float64; float32
    args are tried as float32 as well, with what each rule returns before the engine casts it.
    Forward mode (by differentiating the gradient) must agree with reverse.
    Raises GradientError: which argument and element, both values, and what usually causes it.
    """
    rng = rng or np.random.default_rng(0)
    paths, given = take_apart(args)
    if not given:
        raise TypeError("check_grads: no argument holds a float array; pass the point at which f shall be checked")
    values = [np.array(x, np.float64) for x in given]
    names = [f"argument {path}" for path in paths]

    def call(xs: Sequence[Any]) -> list[Any]:
        """The float outputs of f at arrays or Tensors."""
        return floats(f(*put_together(args, [x if isinstance(x, Variable) else Tensor(x) for x in xs])))

    with np.errstate(all="ignore"):
        outputs = check_values(call, names, values)
        gs = random_like(outputs, rng)
        gradients = check_rules(call, names, values, gs)
        compare(call, names, values, gs, gradients, rng, every_element=True)
        higher = call
        for n in range(2, order + 1):
            higher, gs = pullback(higher, gs), random_like(values, rng)
            variables = [Tensor(x) for x in values]
            gradients = pull(variables, higher(variables), gs)
            compare(higher, [f"order {n}, {name}" for name in names], values, gs, gradients, rng, every_element=False)
        if order > 1:
            check_forward_mode(call, values, rng)
        if all(x.dtype == np.float32 for x in given):
            check_narrow(call, names, given, rng)


def take_apart(args: tuple) -> tuple[list[str], list[np.ndarray]]:
    """The paths and arrays of the float members of args."""
    paths, arrays = [], []

    def collect(x, path):
        if is_variable(x):
            paths.append(path)
            arrays.append(array_of(x))

    map_structure(collect, args)
    return paths, arrays


def put_together(args: tuple, members: Sequence[Any]) -> tuple:
    """args with its float members replaced by `members`."""
    rest = iter(members)
    return map_structure(lambda x, _: next(rest) if is_variable(x) else x, args)


def is_variable(x: Any) -> bool:
    return isinstance(x, Variable | float) or (isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f")


def check_values(call, names, values) -> list[Any]:
    """The outputs of a first run, which changes nothing and gives the same again."""
    given = [x.copy() for x in values]
    outputs, again = call(given), call(given)
    if not any(isinstance(y, Variable) for y in outputs):
        raise GradientError(
            "check_grads: f returns no Tensor of floats, so nothing can be differentiated; its result was detached (t.value, t.item(), a new Tensor) or is an integer"
        )
    for name, x, original in zip(names, given, values):
        if not np.array_equal(x, original, equal_nan=True):
            raise GradientError(f"check_grads: f changes {name} {x.shape} in place; an argument must stay as it is: copy it first")
    for y, other in zip(outputs, again):
        if not np.array_equal(array_of(y), array_of(other), equal_nan=True):
            raise GradientError(
                "check_grads: f gives another value the second time, so it is random or keeps state; make its np.random.Generator inside f"
            )
        if not np.all(np.isfinite(array_of(y))):
            raise GradientError(
                f"check_grads: f gives values that are not finite at this point, output {y.shape}; move the point, or see check.anomaly()"
            )
    return outputs


def check_rules(call, names, values, gs) -> list[np.ndarray]:
    """The gradients, made by rules that change nothing, alias nothing and keep the width."""
    variables = [Tensor(x.copy()) for x in values]
    outputs = call(variables)
    gs = [np.array(g, y.dtype) for g, y in zip(gs, outputs)]
    copies = [g.copy() for g in gs]
    with Rules():
        gradients = pull(variables, outputs, gs)
    for g, original in zip(gs, copies):
        if not np.array_equal(g, original):
            raise GradientError(
                f"check_grads: a rule changes its cotangent g {g.shape} in place; other ops receive the same array: write g * a, never g *= a"
            )
    for name, v, x in zip(names, variables, values):
        if not np.array_equal(v.value, x):
            raise GradientError(f"check_grads: a rule changes {name} {x.shape} in place; what a rule reads must stay as it is")
    return gradients


def compare(call, names, values, gs, gradients, rng, every_element) -> None:
    """The gradients of <g, call(values)> against differences of it."""
    values = [x.copy() for x in values]  # differences move them
    weight = float(sum(np.sum(np.abs(g * array_of(y))) for g, y in zip(gs, call(values))))

    def phi() -> float:
        return float(sum(np.sum(g * array_of(y)) for g, y in zip(gs, call(values))))

    for name, x, gradient in zip(names, values, gradients):
        h = step(max(1.0, largest(x)) / 16)
        if every_element and x.size < MANY:
            slopes, bounds = differences(phi, x, h, weight)
            judge(name, x.shape, gradient, slopes, bounds)
            continue
        for u in random_like([x] * (8 if x.size >= MANY else 1), rng):
            original = x.copy()

            def along(t, x=x, u=u, original=original):
                x[...] = original + t * u
                return phi()

            noise = float(np.sum(np.abs(gradient * original)))  # what rounding the point adds up to
            slope, bound = derivative(along, h, weight + noise, 0.0)
            x[...] = original
            bound += 64 * EPS * float(np.sum(np.abs(gradient * u)))
            judge(f"{name} along a random direction", (), np.sum(gradient * u), np.asarray(slope), np.asarray(bound))


def judge(name, shape, gradient, slopes, bounds) -> None:
    """Raise at the first element whose gradient is further from the slope than the bound."""
    gradient = np.asarray(gradient)
    wrong = ~(np.abs(gradient - slopes) <= bounds) | ~np.isfinite(bounds)
    if not wrong.any():
        return
    sharp = np.argwhere(wrong & np.isfinite(bounds))  # a number that is wrong says more than a kink
    at = tuple(map(int, (sharp if len(sharp) else np.argwhere(wrong))[0]))
    where = f"{name}{list(at) if shape else ''}"
    if not np.isfinite(bounds[at]):
        raise GradientError(
            f"check_grads: {where}: f has no derivative near this point (a kink, a jump, the edge of its domain, or rounding noise); move the point"
        )
    ratio = gradient[at] / slopes[at] if slopes[at] else math.nan
    raise GradientError(
        f"check_grads: {where}: the gradient is {gradient[at]:.10g}, differences give {slopes[at]:.10g} +- {bounds[at]:.1g} (ratio {ratio:.6g}; "
        f"{int(wrong.sum())} of {wrong.size} elements wrong); {suspect(gradient, slopes, np.maximum(bounds, 1e-6 * largest(slopes)))}"
    )


def suspect(gradient, slopes, tolerance) -> str:
    """What usually makes a gradient wrong in this way."""

    def same(a, b=slopes):
        return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance))

    def factor(c):
        return same(gradient / c)

    wrong = np.abs(gradient - slopes) > tolerance
    if not np.any(gradient):
        return (
            "zero: the value is detached somewhere (t.value, t.item(), Tensor(...), a rule that returns zeros), or the point is on a kink"
        )
    if np.any(np.isnan(gradient)):
        return "nan: see check.anomaly()"
    if not np.any(np.abs(slopes) > tolerance):
        return "the value does not depend on it: a term of the gradient does not cancel, or the point is on a kink"
    if factor(-1.0):
        return "the sign is wrong"
    if factor(2.0):
        return "twice too large: counted two times, or a factor 1/2 is lost"
    if factor(0.5):
        return "half of it: a factor 2 is lost, as in d(x*x), or of two uses one is counted, or the point is on a kink"
    if gradient.ndim > 1 and any(
        same(np.swapaxes(gradient, i, j)) for i in range(gradient.ndim) for j in range(i) if gradient.shape[i] == gradient.shape[j]
    ):
        return "it is transposed"
    if same(np.abs(gradient), np.abs(slopes)):
        return "right but for some signs: an absolute value, or a wrong branch"
    with np.errstate(all="ignore"):
        ratios = (gradient / slopes)[np.abs(slopes) > 10 * tolerance]
    if ratios.size and np.ptp(ratios) <= 1e-4 * largest(ratios):
        c = float(np.median(ratios))
        whole = next(
            (f"{n}" if c > 1 else f"1/{n}" for n in [round(max(c, 1 / c) if c > 0 else 0)] if n > 1 and abs(max(c, 1 / c) - n) < 1e-3), None
        )
        return f"a constant factor {whole}: mean for sum, or a count" if whole else f"a constant factor {c:.6g}: a scale, an eps, or ddof"
    if not wrong.all():
        return "only some elements: an edge, a tie, a mask, an index that is named twice, or the point is on a kink"
    return "no simple pattern: a missing term (softmax, norms), a missing sum over a broadcast axis, an axis, a swapped argument, or `=` for `+=`"


def pullback(call: Callable, gs: Sequence[np.ndarray]) -> Callable:
    """The function from values to the gradients of sum(<g, call(values)>): of arrays arrays, of Tensors Tensors."""

    def gradients(xs):
        higher = any(isinstance(x, Variable) for x in xs)
        inside = [x if isinstance(x, Variable) else Tensor(x) for x in xs]
        return pull(inside, call(inside), gs, higher)

    return gradients


def check_forward_mode(call, values, rng) -> None:
    """<J u, c> = <u, J^T c>, where J u is the derivative of <v^T J, u> by v."""
    variables = [Tensor(x) for x in values]
    outputs = call(variables)
    vs = [Tensor(v) for v in random_like(outputs, rng)]
    us, cs = random_like(values, rng), random_like(outputs, rng)
    along = inner(pull(variables, outputs, vs, higher=True), us)
    forward = pull(vs, [along], [1.0], retain=True)
    reverse = pull(variables, call(variables), cs)
    a, b = inner(forward, cs), inner(reverse, us)
    scale = inner([np.abs(j) for j in forward], [np.abs(c) for c in cs]) + inner([np.abs(g) for g in reverse], [np.abs(u) for u in us])
    if not abs(a - b) <= 1e4 * EPS * scale:
        raise GradientError(
            f"check_grads: forward mode gives {a:.10g}, reverse mode {b:.10g}: a rule is not linear in its cotangent g, or reads it without its gradient"
        )


def check_narrow(call, names, given, rng) -> None:
    """float32 in: float32 out, float32 from every rule, and near the float64 gradients at the same point."""
    variables = [Tensor(x.copy()) for x in given]
    outputs = call(variables)
    for y in outputs:
        if y.dtype != np.float32:
            raise GradientError(
                f"check_grads: float32 arguments give an output of {y.dtype} {y.shape}; a float64 constant widens it: see check.dtypes()"
            )
    gs = random_like(outputs, rng)
    with Rules(np.dtype(np.float32)):
        gradients = pull(variables, outputs, gs)
    wide = [Tensor(x.astype(np.float64)) for x in given]
    scale = largest(*gs)
    for name, g, exact in zip(names, gradients, pull(wide, call(wide), gs)):
        error, tolerance = largest(g - exact), 1000 * EPS32 * (scale + largest(exact))
        if not error <= tolerance:
            raise GradientError(
                f"check_grads: {name} as float32 is off its float64 gradient by {error:.3g}, expected at most {tolerance:.3g}; an unstable formula, or a constant of float16"
            )


# --- watchers ------------------------------------------------------------------------------


class Watcher:
    """A context in which every op and every rule that runs is seen; watchers nest."""

    def __enter__(self):
        self.outer, core.observer = core.observer, self
        return self

    def __exit__(self, *exc) -> None:
        core.observer = self.outer

    def forward(self, node: Node, inputs: Sequence[Any], y: Any) -> None:
        self.ran(node, inputs, y)
        if self.outer is not None:
            self.outer.forward(node, inputs, y)

    def backward(self, node: Node, i: int, g: Any) -> None:
        self.pulled(node, i, g)
        if self.outer is not None:
            self.outer.backward(node, i, g)

    def ran(self, node: Node, inputs: Sequence[Any], y: Any) -> None:
        """After an op: `inputs` are arrays or constants, `y` is an array or several."""

    def pulled(self, node: Node, i: int, g: Any) -> None:
        """After a rule gave g, the gradient of input i, not yet summed over broadcast axes nor cast."""


class Remembering(Watcher):
    """A watcher that keeps something about the latest nodes."""

    LIMIT = 1_000_000

    def __init__(self):
        self.notes: dict[int, Any] = {}  # by the order of the node: to hold the node would hold its arrays

    def note(self, node: Node, what: Any) -> None:
        self.notes[node.order] = what
        if len(self.notes) > self.LIMIT:
            del self.notes[next(iter(self.notes))]


def arrays_in(x: Any) -> list[np.ndarray]:
    """The arrays in nested tuples, lists and dicts."""
    if isinstance(x, np.ndarray):
        return [x]
    members = x.values() if isinstance(x, dict) else x if isinstance(x, tuple | list) else ()
    return [a for member in members for a in arrays_in(member)]


OUTSIDE = tuple(os.path.dirname(os.path.abspath(str(m.__file__))) + os.sep for m in (core, np))


def user_line() -> tuple[str, int]:
    """File and line of the innermost frame outside tinygrad_notes and NumPy."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(OUTSIDE) or frame.f_code.co_filename.startswith("<__array_function__")
    ):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def show(line: tuple[str, int] | None) -> str:
    if line is None:
        return "a line outside this context"
    return f"{line[0]}:{line[1]}: {linecache.getline(*line).strip()}"


def shapes_of(inputs: Sequence[Any]) -> str:
    return ", ".join(f"{x.shape} {x.dtype}" if isinstance(x, np.ndarray | np.generic) else repr(x)[:30] for x in inputs)


class Rules(Watcher):
    """Raises when a rule returns an input or the output, or another width than the arrays around it."""

    def __init__(self, width: np.dtype | None = None):
        self.width = width

    def pulled(self, node, i, g):
        parent = node.parents[i]
        expected = {self.width} if self.width else {np.dtype(d) for d in (parent.dtype, *np.atleast_1d(np.asarray(node.dtype, object)))}
        if g.ndim < len(parent.shape) or any(n not in (1, m) for n, m in zip(parent.shape[::-1], g.shape[::-1])):
            raise GradientError(
                f"{node.op.label}: the rule of input {i} gives a gradient {g.shape}, the input is {parent.shape}; a rule may leave the sum over broadcast axes to the engine, nothing else"
            )
        if g.dtype not in expected:
            raise GradientError(
                f"{node.op.label}: the rule of input {i} gives {g.dtype}, expected {' or '.join(sorted(map(str, expected)))}; look for np.sqrt(number), np.arange, np.ones or a mask without a dtype"
            )
        for a in arrays_in((node.saved, node.y)):
            if isinstance(g, np.ndarray) and np.may_share_memory(g, a) and np.shares_memory(g, a):
                raise GradientError(
                    f"{node.op.label}: the rule of input {i} returns an input, the output, or a view of one; what the engine adds to a gradient would change it"
                )


class Guard(Remembering):
    def ran(self, node, inputs, y):
        self.note(node, (user_line(), digests(node)))

    def pulled(self, node, i, g):
        line, before = self.notes.get(node.order, (None, None))
        for which, (a, b) in enumerate(zip(before or (), digests(node))):
            if a != b:
                array = arrays_in((node.saved, node.y))[which]
                raise RuntimeError(
                    f"guard: an array that {node.op.label} kept for its gradient, {array.shape} {array.dtype}, was changed before the backward pass was through; "
                    f"the op ran at {show(line)}; write to a copy, or after gradients()"
                )


def digests(node: Node) -> list[int]:
    return [zlib.crc32(a.tobytes()) for a in arrays_in((node.saved, node.y))]


def guard() -> Watcher:
    """Inside, RuntimeError when an array that a gradient needs changes between forward and backward.

    Names the op and the line of yours that ran it. It compares checksums of what each node kept.
    """
    return Guard()


class Anomaly(Remembering):
    def ran(self, node, inputs, y):
        line = user_line()
        self.note(node, line)
        for a in arrays_in((y,)):
            if a.dtype.kind == "f" and not np.all(np.isfinite(a)) and not self.let_through(a, node, inputs):
                raise FloatingPointError(
                    f"anomaly: {node.op.label} gives {first_bad(a)}; inputs {shapes_of(inputs)}{self.blame(inputs)}; at {show(line)}"
                )

    @staticmethod
    def let_through(a, node, inputs):
        """Infinities from a constant, such as a mask, or from what came from one; but no leaf may have any."""
        sources = [x for x, p in zip(inputs, node.parents) if not isinstance(p, Leaf) and isinstance(x, np.ndarray | np.generic | float)]
        return not np.any(np.isnan(a)) and any(np.any(np.isinf(x)) for x in sources)

    @staticmethod
    def blame(inputs):
        bad = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f" and not np.all(np.isfinite(x))]
        return f" (input {bad[0]} was not finite already)" if bad else ""

    def pulled(self, node, i, g):
        a = array_of(g)
        if not np.all(np.isfinite(a)):
            line = self.notes.get(node.order)
            raise FloatingPointError(
                f"anomaly: the gradient of {node.op.label} by input {i} is {first_bad(a)}; output {node.shape} {node.dtype}; the op ran at {show(line)}"
            )


def first_bad(a: np.ndarray) -> str:
    bad = ~np.isfinite(a)
    at = tuple(map(int, np.argwhere(bad)[0]))
    return f"{a[at]} at {list(at)} ({int(bad.sum())} of {a.size} not finite)" if at else f"{a[at]}"


def anomaly() -> Watcher:
    """Inside, FloatingPointError at the first value or gradient that is nan or infinite.

    Names the op, the shapes and the line of yours that ran it; for a gradient, the line of the
    forward op. Infinities that come from a constant (a mask of -inf) are let through, nan never.
    """
    return Anomaly()


class Widths(Watcher):
    def ran(self, node, inputs, y):
        widths = {x.dtype: x for x in arrays_in(list(inputs)) + [x for x in inputs if isinstance(x, np.generic)] if x.dtype.kind == "f"}
        advice = "make the constant float32 once (np.asarray(c, x.dtype)), and use math.sqrt, not np.sqrt, for numbers"
        if len(widths) > 1:
            raise TypeError(
                f"dtypes: {node.op.label} mixes {' and '.join(sorted(map(str, widths)))}; inputs {shapes_of(inputs)}; at {show(user_line())}; {advice}"
            )
        for a in arrays_in((y,)):
            if a.dtype.kind == "f" and widths and a.itemsize > max(d.itemsize for d in widths) and "dtype" not in node.params:
                raise TypeError(f"dtypes: {node.op.label} gives {a.dtype} of inputs {shapes_of(inputs)}; at {show(user_line())}; {advice}")

    def pulled(self, node, i, g):
        around = [node.parents[i].dtype, *np.atleast_1d(np.asarray(node.dtype, object))]
        if g.dtype.itemsize > max(np.dtype(d).itemsize for d in around):
            raise TypeError(
                f"dtypes: the rule of {node.op.label} for input {i} gives {g.dtype}, the input is {node.parents[i].dtype}; an array in the rule is made without a dtype"
            )


def dtypes() -> Watcher:
    """Inside, TypeError at the first op that mixes float32 and float64 arrays, or gives more than its inputs have.

    A conversion that says so (astype, dtype=) is let through; Python numbers have no width.
    """
    return Widths()


class Count(Watcher):
    """`ops`: how often each op ran; `rules`: how many gradients its rules gave; `nodes`: how many nodes were made."""

    def __init__(self):
        self.ops: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()

    @property
    def nodes(self) -> int:
        return self.ops.total()

    def ran(self, node, inputs, y):
        self.ops[node.op.label] += 1

    def pulled(self, node, i, g):
        self.rules[node.op.label] += 1


def count() -> Count:
    """`with check.count() as counts:` counts.ops and counts.rules by op, counts.nodes in all."""
    return Count()


# --- shape comments --------------------------------------------------------------------------


class ShapeError(AssertionError):
    """A value has not the shape that the comment behind it says."""


TOKEN = re.compile(r"\s*(\d+|[^\W\d]\w*|//|[-+*/()])")


def shapes(*targets: Any) -> "Shapes":
    """Inside, the shape comments of these functions, classes or modules are executed.

    A comment at the end of an assignment, a return, a loop's head or a parameter's own line,
    such as `# (B, T, 3*C)`, says the shape of what is assigned, returned or passed. A letter
    is the local integer of that name (`B, T, C = x.shape`), or stands for one number within a
    call; `...` for any dimensions; `4C` is `4*C`; behind the parenthesis may stand prose. One
    shape speaks for each of several names, `# (B, T), (B,)` for one after the other. A shape
    of one dimension is written `(T,)`. None is let through.
    Raises ShapeError with file, line, comment and shape. `.unreached` lists comments that
    were not executed.
    """
    return Shapes(targets)


class Shapes:
    def __init__(self, targets: Sequence[Any]):
        self.functions: dict[tuple[str, int], dict[int, Remark]] = {}  # by file and first line: remarks by line
        for target in targets:
            for function in functions_of(target):
                self.functions |= remarks_of(function)
        if not any(self.functions.values()):
            raise ValueError(
                f"shapes: no shape comment such as `# (B, T, C)` in {', '.join(map(str, targets)) or 'nothing'}; pass functions, classes or modules that have some"
            )
        self.reached: set[tuple[str, int]] = set()

    @property
    def unreached(self) -> list[str]:
        """`file:line: comment` of each comment that no call has executed."""
        found = {(file, r.line): r for (file, _), remarks in self.functions.items() for r in remarks.values() if r.shapes}
        return [f"{file}:{line}: {r.text}" for (file, line), r in sorted(found.items()) if (file, line) not in self.reached]

    def __enter__(self) -> "Shapes":
        self.outer = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *exc) -> None:
        sys.settrace(self.outer)

    def trace(self, frame, event, arg):
        code = frame.f_code
        remarks = self.functions.get((code.co_filename, code.co_firstlineno))
        if not remarks:
            return self.outer(frame, event, arg) if self.outer else None
        file, letters, current = code.co_filename, {}, None

        def verify(remark, returned=None):
            for shape, value in remark.values(frame.f_locals, returned):
                if value is not None:
                    self.reached.add((file, remark.line))
                    actual = np.shape(value.value if isinstance(value, Variable) else value)
                    wrong = mismatch(shape, actual, frame.f_locals, letters)
                    if wrong:
                        raise ShapeError(
                            f"{file}:{remark.line}: `{remark.source}`: the comment says {remark.text}, the shape is {actual}{wrong}"
                        )

        def local(frame, event, arg):
            nonlocal current
            if event == "exception":
                current = None  # the statement was not completed
            elif event in ("line", "return"):
                reached = remarks.get(frame.f_lineno) if event == "line" else None
                if current is not None and current is not reached:
                    done, current = current, None
                    if not done.is_return:
                        verify(done)
                    elif event == "return":
                        verify(done, arg)
                current = reached
            return local

        for remark in {id(r): r for r in remarks.values()}.values():
            if remark.is_parameter:
                verify(remark)
        return local


class Remark:
    """A shape comment and the statement or parameter that it speaks of."""

    def __init__(self, line, source, text, shapes, names=(), is_return=False, is_parameter=False):
        self.line, self.source, self.text, self.shapes = line, source, text, shapes
        self.names, self.is_return, self.is_parameter = names, is_return, is_parameter

    def values(self, variables, returned) -> Iterator[tuple[list, Any]]:
        """Each shape with the value it speaks of."""
        if self.is_return:
            found = list(returned) if len(self.shapes) > 1 else [returned]
        else:
            found = [look_up(name, variables) for name in self.names]
        yield from zip(self.shapes * len(found) if len(self.shapes) == 1 else self.shapes, found)


def look_up(name: str, variables: Any) -> Any:
    """The value of `x` or `self.x.y`; None if it does not exist yet."""
    first, *attributes = name.split(".")
    value = variables.get(first)
    for attribute in attributes:
        value = getattr(value, attribute, None)
    return value


def functions_of(target: Any) -> list[types.FunctionType]:
    """A function itself; all functions that a class or module defines."""
    if isinstance(target, types.ModuleType):
        members = [m for m in vars(target).values() if getattr(m, "__module__", None) == target.__name__]
        return [f for m in members if inspect.isclass(m) or callable(m) for f in functions_of(m)]
    if inspect.isclass(target):
        members = [m.fget if isinstance(m, property) else getattr(m, "__func__", m) for m in vars(target).values()]
        return [f for m in members if inspect.isfunction(m) and m.__module__ == target.__module__ for f in functions_of(m)]
    function = inspect.unwrap(getattr(target, "__func__", target))
    return [function] if inspect.isfunction(function) else functions_of(type(target)) if type(target).__module__ != "builtins" else []


def remarks_of(function: types.FunctionType) -> dict[tuple[str, int], dict[int, Remark]]:
    """The remarks in a function and in those inside it, by file and first line."""
    if function.__name__ == "<lambda>":  # an expression has no lines of its own
        return {}
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return {}
    if lines[0][:1].isspace():  # a method: give its indentation a reason
        lines, first = ["if 1:\n", *lines], first - 1
    source = "".join(lines)
    comments = {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            key = function.__code__.co_filename, start + first - 1
            found[key] = {line + first - 1: r for line, r in remarks_in(node, comments, lines, first).items()}
    return found


def remarks_in(function: ast.FunctionDef, comments, lines, first) -> dict[int, Remark]:
    """Remarks by each line of the statement they speak of; a statement without one has an empty remark."""
    found: dict[int, Remark] = {}

    def add(start, end, **what):
        text, shapes = read_comment(comments.get(end, ""))
        remark = Remark(end + first - 1, lines[end - 1].split("#")[0].strip(), text, shapes, **what)
        if shapes:
            found.update(dict.fromkeys(range(start, end + 1), remark))

    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    for a in arguments:
        if a.lineno != function.lineno and sum(a.lineno == other.lineno for other in arguments) == 1:
            add(a.lineno, a.lineno, names=[a.arg], is_parameter=True)
    stack: list[ast.stmt] = list(function.body)
    while stack:
        s = stack.pop()
        if isinstance(s, ast.Return):
            add(s.lineno, s.end_lineno, is_return=True)
        elif isinstance(s, ast.Assign | ast.AnnAssign | ast.AugAssign):
            target = s.targets[0] if isinstance(s, ast.Assign) else s.target
            add(s.lineno, s.end_lineno, names=names_in(target))
        elif isinstance(s, ast.For):
            add(s.lineno, s.iter.end_lineno, names=names_in(s.target))
        if not isinstance(s, ast.FunctionDef | ast.ClassDef):
            for part in ast.iter_child_nodes(s):
                stack += (
                    [part]
                    if isinstance(part, ast.stmt)
                    else [b for b in getattr(part, "body", []) if isinstance(b, ast.stmt)]
                    if isinstance(part, ast.ExceptHandler | ast.match_case)
                    else []
                )
    return found


def names_in(target: ast.expr) -> list[str]:
    """The names and attributes that an assignment sets."""
    if isinstance(target, ast.Tuple | ast.List):
        return [name for member in target.elts for name in names_in(member)]
    return [ast.unparse(target)] if isinstance(target, ast.Name | ast.Attribute) else []


def read_comment(comment: str) -> tuple[str, list]:
    """The shapes that a comment begins with, as it spells them and as lists of dimensions; none if it is prose."""
    rest, shapes = comment.lstrip("# "), []
    begin = rest
    while rest.startswith("("):
        depth = list(itertools.accumulate((c == "(") - (c == ")") for c in rest))
        if 0 not in depth:
            break
        end = depth.index(0) + 1
        inside = rest[1 : end - 1].strip()
        parts = [p.strip() for p in inside.rstrip(",").split(",")] if inside else []
        if len(parts) == 1 and not inside.endswith(",") and parts[0] != "...":
            break
        try:
            shapes.append([p if p == "..." else parse(p) for p in parts])
        except ValueError:
            break
        rest = rest[end:]
        if not re.match(r"\s*,\s*\(", rest):
            break
        rest = rest.lstrip(" ,")
    return begin[: len(begin) - len(rest)].strip() if shapes else "", shapes


def parse(text: str) -> Any:
    """A dimension as nested tuples: an int, a name, or (operator, left, right)."""
    tokens = TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s+", "", text) or not tokens or re.search(r"\w\s+\w", text):
        raise ValueError(text)
    tokens.append("")

    def atom():
        token = tokens.pop(0)
        if token == "(":
            inside = total()
            if tokens.pop(0) != ")":
                raise ValueError(text)
            return inside
        if token.isdigit():
            return int(token)
        if not token or not (token[0].isalpha() or token[0] == "_"):
            raise ValueError(text)
        return token

    def product():
        left = atom()
        while tokens[0] in ("*", "/", "//") or (isinstance(left, int) and tokens[0][:1].isalpha()):  # 4C is 4*C
            left = (tokens.pop(0)[0] if tokens[0] in ("*", "/", "//") else "*", left, atom())
        return left

    def total():
        left = product()
        while tokens[0] in ("+", "-"):
            left = (tokens.pop(0), left, product())
        return left

    parsed = total()
    if tokens != [""]:
        raise ValueError(text)
    return parsed


def evaluate(dimension: Any, number: Callable[[str], int | None]) -> int | None:
    """The number of a dimension, or None while one of its letters is not known."""
    if isinstance(dimension, int):
        return dimension
    if isinstance(dimension, str):
        return number(dimension)
    operator, left, right = dimension[0], evaluate(dimension[1], number), evaluate(dimension[2], number)
    if left is None or right is None:
        return None
    return {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]


def mismatch(shape: list, actual: tuple[int, ...], variables: Any, letters: dict[str, int]) -> str:
    """Why `actual` is not `shape`, or nothing; new letters are bound to their numbers."""
    dimensions = list(shape)
    if "..." in dimensions:
        at = dimensions.index("...")
        dimensions[at : at + 1] = [None] * max(0, len(actual) - len(shape) + 1)
    if len(dimensions) != len(actual):
        return f", {len(actual)} dimensions for {len(dimensions)}"
    for dimension, n in zip(dimensions, actual):
        if dimension is None:
            continue
        unknown: list[str] = []

        def number(name, unknown=unknown):
            local = variables.get(name)
            if isinstance(local, int | np.integer) and not isinstance(local, bool):
                return int(local)
            if name not in letters:
                unknown.append(name)
            return letters.get(name)

        expected = evaluate(dimension, number)
        if expected is None and len(set(unknown)) == 1:  # one new letter: the number that fits
            name = unknown[0]
            for letters[name] in range(n + 1):
                if (expected := evaluate(dimension, number)) == n:
                    break
            else:
                del letters[name]
        if expected is not None and expected != n:
            known = ", ".join(f"{k} = {v}" for k in sorted(names_of(dimension)) if (v := number(k)) is not None)
            return f", {n} where {spell(dimension)} is {expected}" + (f" ({known})" if known and not isinstance(dimension, str) else "")
    return ""


def names_of(dimension: Any) -> set[str]:
    if isinstance(dimension, tuple):
        return names_of(dimension[1]) | names_of(dimension[2])
    return {dimension} if isinstance(dimension, str) else set()


def spell(dimension: Any) -> str:
    return f"{spell(dimension[1])}{dimension[0]}{spell(dimension[2])}" if isinstance(dimension, tuple) else str(dimension)
