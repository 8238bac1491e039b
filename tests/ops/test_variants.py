"""Every registered item where nobody looked: other sizes, keywords and indices than its cases, ties, one input at a time.

A rule that is wrong only for keepdims=True, only for an index that stands twice, only where two numbers are equal,
passes the cases of an author who forgot that. The variants of tests/ops/variants.py go through all checks
of test_registry.py, and cases and variants through those below.
"""

import warnings

from tests.ops.samples import Sample, all_cases, sample
from tests.ops.test_registry import CHECKS, assert_close, reversed_view, strided, tensors, vjp, weigh
from tests.ops.variants import variants
from tinygrad_notes.check import EPS, EPS32, Rules, array_of, derivative, floats, inner, largest, pull, random_like
from tinygrad_notes.registry import registry
from tinygrad_notes.tensor import Tensor

import numpy as np
import pytest
from hypothesis import settings

DAYS = max(1, settings().max_examples // 100)  # one; ten in the nightly profile


def most(item) -> int:
    """How many variants: many of an op with few cases, for who wrote few thought of few."""
    return DAYS * (32 if len(item.cases) < 3 else 8)


# --- one input at a time, one input twice ---------------------------------------------------------


def check_alone(s: Sample):
    """The gradient of an input is the same whether the others are Tensors or arrays."""
    outputs, gs, together = vjp(s, s.inputs)
    room = 64 * EPS * (weigh(gs, outputs) + largest(*gs))
    for i, expected in zip(s.varied, together):
        x = Tensor(s.inputs[i])
        try:
            alone = floats(s.call([x if j == i else other for j, other in enumerate(s.inputs)]))
        except (TypeError, ValueError) as error:  # NumPy does not ask this argument: an error of ours says so, maybe inside one of NumPy's
            if isinstance(error, TypeError) or isinstance(error.__cause__, TypeError):
                continue
            raise
        (found,) = pull([x], alone, gs)
        assert_close(f"gradient {i}, the others constant", found, expected, room + 64 * EPS * largest(expected))


def check_twice(s: Sample):
    """A Tensor that is two of the inputs gets the sum of both gradients."""
    for i, j in [(i, j) for i in s.varied for j in s.varied if i < j and s.inputs[i].shape == s.inputs[j].shape]:
        inputs = [s.inputs[i] if k == j else x for k, x in enumerate(s.inputs)]
        with np.errstate(all="ignore"):
            outputs, gs, apart = vjp(s, inputs)
        a, b = (apart[s.varied.index(k)] for k in (i, j))
        if not np.all(np.isfinite(a + b)):
            continue
        x = Tensor(s.inputs[i])
        with np.errstate(all="ignore"):
            (found,) = pull([x], floats(s.call([x if k in (i, j) else y for k, y in enumerate(inputs)])), gs)
        assert_close(f"inputs {i} and {j} are one Tensor: its gradient", found, a + b, 64 * EPS * (largest(a, b) + weigh(gs, outputs) + 1))


def check_outputs(s: Sample):
    """Of several outputs each is differentiated alone as it is together: the gradients of one at a time sum to those of all."""
    outputs, gs, together = vjp(s, s.inputs)
    if len(outputs) < 2:
        return
    variables, mixed = tensors(s, s.inputs)
    members = floats(s.call(mixed))
    alone = [pull(variables, [y], [g], retain=True) for y, g in zip(members, gs)]
    for i, expected, *parts in zip(s.varied, together, *alone):
        room = 256 * EPS * (weigh(gs, outputs) + largest(expected, *parts, *gs))
        assert_close(f"gradient {i}, one output at a time", sum(parts), expected, room)


# --- cotangents in any memory -----------------------------------------------------------------------


def check_cotangents(s: Sample):
    """The layout of the cotangent changes nothing: Fortran order, strides, one number repeated."""
    outputs, gs, expected = vjp(s, s.inputs)
    for layout in (np.asfortranarray, strided, reversed_view):
        moved = [layout(g) if g.ndim else g for g in gs]
        for i, a, b in zip(s.varied, vjp(s, s.inputs, moved)[2], expected):
            assert_close(f"gradient {i} of a cotangent, {layout.__name__}", a, b, 256 * EPS * (weigh(gs, outputs) + largest(b, *gs)))
    rows = [np.broadcast_to(g[:1], g.shape) if g.ndim else g for g in gs]  # one row repeated: a stride of 0
    for i, a, b in zip(s.varied, vjp(s, s.inputs, rows)[2], vjp(s, s.inputs, [g.copy() for g in rows])[2]):
        assert_close(f"gradient {i} of a cotangent that repeats a row", a, b, 256 * EPS * (weigh(rows, outputs) + largest(b, *gs)))
    ones = [np.broadcast_to(np.float64(1.0), y.shape) for y in outputs]
    with Rules():  # a rule that returns what it read, where it would be multiplied by one
        of_ones = vjp(s, s.inputs, ones)[2]
    both = vjp(s, s.inputs, [g + 1.0 for g in gs])[2]
    for i, a, b, c in zip(s.varied, of_ones, both, expected):
        room = 1e3 * EPS * (weigh(gs, outputs) + weigh(ones, outputs) + largest(a, b, c, *gs))
        assert_close(f"gradient {i} of a cotangent of ones", a, b - c, room)


# --- ties, zeros and edges ----------------------------------------------------------------------------


def slope_to_one_side(phi, h: float, weight: float) -> tuple[float, float]:
    """The derivative of phi at 0 from the side of h, and a bound of its error; an infinite bound where there is none."""
    row: list[float] = []
    start = phi(0.0)
    for _ in range(6):
        coarser, row = row, [(phi(h) - start) / h]
        for j, coarse in enumerate(coarser, 1):
            row.append(row[-1] + (row[-1] - coarse) / (2**j - 1))
        h /= 2
    bound = 8 * (abs(row[-1] - coarser[-1]) + 64 * EPS * (weight + 1) / abs(h))
    return row[-1], bound if bound <= 1e-5 * (weight + abs(row[-1])) else np.inf


def at_ties(s: Sample, domains) -> list[list[np.ndarray]]:
    """The inputs with few different numbers: two of their own, one of them and zero, zeros alone; two that all inputs share."""
    rng = np.random.default_rng(s.seed + 5)
    found = []
    zero = all(d is None or d[0] <= 0 <= d[1] for d in domains)
    pool = [x.flat[k] for x in s.inputs if x.size for k in (0, -1)]
    if len(s.inputs) > 1 and len(pool) > 2 and len(set(domains)) == 1:
        shared = [1.0, 2.0] if domains[0] is None else [pool[0], pool[-1]]
        found.append([rng.choice(shared, x.shape) for x in s.inputs])
    for levels in ((0, -1), (0, None), (None, None)) if zero else ((0, -1),):
        rows = []
        for x in s.inputs:
            pair = [x.flat[k] if k is not None else 0.0 for k in levels] if x.size else [0.0, 0.0]
            rows.append(np.where(rng.random(x.shape) < 0.5, *pair))
        found.append(rows)
    return found


# Which of equal numbers has the gradient is a convention that no derivative by one of them knows (docs/limits.md).
CONVENTIONS = {
    "the first in a stable order": "sort partition median quantile percentile nanmedian nanquantile nanpercentile",
    "x itself at the bounds": "clip",
}
BY_CONVENTION = {name for names in CONVENTIONS.values() for name in names.split()}


def by_convention(s: Sample) -> bool:
    modes = [x for x in (*s.template, *s.kwargs.values()) if isinstance(x, str)]
    return s.item.name in BY_CONVENTION or (s.item.name == "pad" and modes == ["median"])


SINGULAR = "polyfit"  # of two different places there are many curves: it is the one with the least coefficients


def is_singular(s: Sample, inputs, values) -> bool:
    """Where equal numbers make another function of it."""
    if s.item.name in ("std", "nanstd"):  # it may be a rounding error instead of 0
        return any(np.any((y > 0) & (y < 1e-7 * largest(*inputs))) for y in values)
    return s.item.name == "histogram_bin_edges" and not np.ptp(inputs[0])  # bins of no width are made one wide


def check_ties(s: Sample):
    """Where inputs are equal or zero, a gradient is the derivative, or at a kink lies between those of the two sides.

    By each element, and by all that are equal together: whatever the share of each, the shares of a tie sum to the whole.
    One output at a time, so that kinks of several do not add up.
    """
    domains = s.item.domain if isinstance(s.item.domain, list) else [s.item.domain]
    if s.item.name == SINGULAR or any(callable(d) for d in domains):  # or matrices of a kind
        return
    rng = np.random.default_rng(s.seed + 6)
    for inputs in at_ties(s, domains):
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            try:
                values = floats(s.plain(inputs))
            except Exception:  # outside of what the function takes, such as a singular matrix
                continue
            if not all(np.all(np.isfinite(y)) for y in values) or not any(y.size for y in values) or is_singular(s, inputs, values):
                continue
            for _ in range(2):
                member = int(rng.choice([k for k, y in enumerate(values) if y.size]))
                gs = [np.zeros(y.shape) for y in values]
                gs[member].flat[rng.integers(values[member].size)] = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.5)
                compare_at_ties(s, inputs, gs, rng)


def compare_at_ties(s: Sample, inputs, gs, rng):
    outputs, _, gradients = vjp(s, inputs, gs)
    for y, e in zip(outputs, floats(s.plain(inputs))):
        assert_close("the value at ties", array_of(y), e, 4e3 * EPS * (1 + largest(e)))
    everywhere = vjp(s, inputs)[2]  # without a zero in the cotangent: infinite where the function is vertical, and times 0 nan
    steep = [np.isinf(whole) for whole in everywhere]
    weight, shapes = weigh(gs, outputs) + 1, [y.shape for y in outputs]

    def compare(what, directions):
        """The gradient along these directions against the slopes to both sides."""

        def phi(t):
            moved = list(inputs)
            for i, u in zip(s.varied, directions):
                moved[i] = moved[i] + t * u
            ys = floats(s.plain(moved))
            if [y.shape for y in ys] != shapes:
                raise ValueError("a number more, or a leading zero less: no derivative")
            return float(inner(gs, ys))

        sides = []
        for h in (s.h / 4, -s.h / 4):
            try:
                sides.append(slope_to_one_side(phi, h, weight))
            except Exception:  # the step left the domain
                return
        room = sum(bound for _, bound in sides)
        if np.isfinite(room):
            low, high = sorted(slope for slope, _ in sides)
            with np.errstate(all="ignore"):
                got = float(sum(np.sum(g[u != 0] * u[u != 0]) for g, u in zip(gradients, directions)))
            room += 64 * EPS * sum(largest(np.nan_to_num(g, nan=0.0)) * g.size for g in gradients)
            assert low - room <= got <= high + room, (
                f"{s.item.label}, {what}: the gradient is {got}, the slopes to both sides are {low} and {high}"
            )

    if not any(np.any(far) for far in steep):
        levels = {v: rng.uniform(0.5, 1.5) * rng.choice([-1, 1]) for v in np.unique(np.concatenate([x.ravel() for x in inputs])).tolist()}
        compare(
            "all equal numbers moved together",
            [np.vectorize(levels.get, otypes=[float])(inputs[i]) if inputs[i].size else inputs[i] for i in s.varied],
        )
    if by_convention(s):
        return
    for i, far in zip(s.varied, steep):
        for k in rng.permutation(np.flatnonzero(~far))[:2]:
            one = [np.zeros(inputs[j].shape) for j in s.varied]
            one[s.varied.index(i)].flat[k] = 1
            compare(f"element {k} of input {i} among equal numbers", one)


# --- the complex step -------------------------------------------------------------------------------


def check_complex_step(s: Sample):
    """Where NumPy's function is analytic, Im f(x + ih u) / h is its derivative along u to the last digits: no difference is taken.

    Squire and Trapp (1998). Whether it is analytic, the differences tell: those of a function that is not (abs, max)
    contradict the complex step.
    """
    rng = np.random.default_rng(s.seed + 7)
    outputs, gs, gradients = vjp(s, s.inputs)
    directions = random_like(gradients, rng)
    steps = dict(zip(s.varied, directions))

    def phi(t):
        ys = s.plain([x + t * steps[i] if i in steps else x for i, x in enumerate(s.inputs)])
        ys = [y for y in (ys if isinstance(ys, tuple | list) else [ys]) if np.asarray(y).dtype.kind in "fc"]
        return sum((np.sum(g * y) for g, y in zip(gs, ys, strict=True)), 0.0)

    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="error"):
            exact = float(np.imag(phi(1e-30j))) / 1e-30
            slope, bound = derivative(lambda t: float(phi(t)), s.h / 2, weigh(gs, outputs), largest(*s.inputs))
    except Exception:  # it takes no complex numbers
        return
    if np.isfinite(bound) and abs(slope - exact) <= bound:
        got = inner(gradients, directions)
        size = inner([np.abs(g) for g in gradients], [np.abs(u) for u in directions])
        assert abs(got - exact) <= 4e3 * EPS * (size + weigh(gs, outputs)), f"the gradient is {got:.16g}, a complex step gives {exact:.16g}"


# --- large numbers, small numbers, the other sign, rows that repeat -------------------------------------


def check_along(what: str, s: Sample, inputs, gs, gradients, h: float) -> None:
    """The gradients along a random direction against differences, where these find a derivative."""
    directions = random_like(gradients, np.random.default_rng(s.seed + 8))
    steps = dict(zip(s.varied, directions))

    def phi(t):
        return float(inner(gs, floats(s.plain([x + t * steps.get(i, 0.0) for i, x in enumerate(inputs)]))))

    slope, bound = derivative(phi, h, weigh(gs, floats(s.plain(inputs))), largest(*inputs))
    if np.isfinite(bound) and all(np.all(np.isfinite(g)) for g in gradients):
        got = float(inner(gradients, directions))
        assert abs(got - slope) <= bound, f"{what}: the gradient along a direction is {got}, differences give {slope} +- {bound:.2g}"


def has_finite_values(s: Sample, inputs) -> bool:
    try:
        values = floats(s.plain(inputs))
    except Exception:  # outside of what the function takes
        return False
    return bool(values) and all(np.all(np.isfinite(y)) for y in values)


ROUGH = ("it2struve0",)  # SciPy's own series is right to 1e-9 only at 600


def check_large(s: Sample):
    """At inputs 300 (or 30) times as large: where the value is finite the gradient is right and no nan, and float32 comes near float64.

    Near, since a product of two such inputs is known to 300^2 EPS32 only, and its exponential inherits that.
    """
    if s.item.domain is not None or s.item.name in ROUGH:
        return
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        narrow, wide = s.cast(np.float32), s.cast(np.float64)
        for factor in (300, 30):
            small = [(factor * x).astype(np.float32) for x in s.inputs]
            large = [x.astype(np.float64) for x in small]
            if has_finite_values(narrow, small) and has_finite_values(wide, large):
                break
        else:
            return
        outputs, gs, exact = vjp(wide, large)
        _, _, found = vjp(narrow, small, gs)
        expected = floats(wide.plain(large))
        check_along("at large inputs", wide, large, gs, exact, s.h / 2)
    for y, e in zip(outputs, expected):
        assert_close("the value at large inputs", array_of(y), e, 1e-9 * (1 + largest(e)))
    for i, a, b in zip(s.varied, found, exact):
        assert not np.any(np.isnan(b)), f"gradient {i} at large inputs is nan where the value is finite"
        assert not np.any(np.isnan(a)), f"gradient {i} of float32 at large inputs is nan where the value is finite"
        near = np.isfinite(a) & np.isfinite(b)
        assert_close(f"gradient {i} of float32 at large inputs", a[near], b[near], 16 * 300**2 * EPS32 * largest(b[near], *gs))


def check_small(s: Sample):
    """At inputs 10,000 times as small, where some functions take a series; and, of a few numbers, at those of the other sign."""
    if s.item.domain is not None:
        return
    few = sum(x.size for x in s.inputs) <= 4
    for factor in (1e-4, -1.0) if few else (1e-4,):
        inputs = [factor * x for x in s.inputs]
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            if has_finite_values(s, inputs):
                _, gs, gradients = vjp(s, inputs)
                check_along(f"at {factor} times the inputs", s, inputs, gs, gradients, s.h / 2 * abs(factor))


def check_repeated(s: Sample):
    """Inputs that repeat one row, by a stride of 0, have the gradient of the same rows written out."""
    views = [np.broadcast_to(x[:1], x.shape) for x in s.inputs if x.ndim and x.size]
    if len(views) < len(s.inputs) or not any(len(x) > 1 for x in views) or s.kwargs.get("order") == "K":  # as they lie in memory
        return
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        if not has_finite_values(s, views):
            return
        copies = [x.copy() for x in views]
        try:
            outputs, gs, found = vjp(s, views)
        except np.linalg.LinAlgError:  # a matrix of equal rows is singular
            return
        expected = vjp(s, copies, gs)[2]
    for i, a, b in zip(s.varied, found, expected):
        if np.all(np.isfinite(b)):
            assert_close(f"gradient {i}, one row repeated", a, b, 256 * EPS * (weigh(gs, outputs) + largest(b, *gs)))


MORE = [check_complex_step, check_large, check_small, check_repeated, check_alone, check_twice, check_outputs, check_cotangents, check_ties]


def every_check(item, case=None) -> None:
    """All there is, for one case, or for all cases and variants of an item: what finds a wrong rule that has no test of its own."""
    samples = [sample(item, case)] if case is not None else [*(sample(item, c) for c in item.cases), *variants(item, most(item))]
    for s in samples:
        for check in [*CHECKS, *MORE]:
            check(s)


@pytest.mark.parametrize(("item", "case"), [pytest.param(item, case, id=name) for item, case, name in all_cases() if case is not None])
def test_case(item, case):
    s = sample(item, case)
    for check in MORE:
        check(s)


@pytest.mark.parametrize("item", registry, ids=lambda item: item.label)
def test_variants(item):
    for s in variants(item, most(item)):
        for check in [*CHECKS, *MORE]:
            try:
                check(s)
            except Exception as error:
                shapes = [x.shape for x in s.inputs]
                raise AssertionError(f"{item.label} of {shapes}, {s.template}, {s.kwargs}: {check.__name__}: {error}") from error
