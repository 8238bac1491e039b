"""check_grads: every gradient of a function against differences, and what usually makes one wrong."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_notes.binding import map_structure
from tinygrad_notes.check.numerical import (
    EPS,
    EPS32,
    GradientError,
    array_of,
    derivative,
    differences,
    floats,
    inner,
    largest,
    pull,
    random_like,
    step,
)
from tinygrad_notes.check.watchers import Rules, Sizes
from tinygrad_notes.core import Variable
from tinygrad_notes.tensor import Tensor

import numpy as np

MANY = 1000  # from this size on, random directions stand for all elements


def check_grads(f: Callable, *args: Any, order: int = 2, rng: np.random.Generator | None = None) -> None:
    """Check the gradients of f(*args), up to `order`, by each float array in args.

    f: any function of Tensors (arrays, numbers, nested lists, tuples or dicts of them) that
    returns one or several; not random. args: arrays or Tensors of floats, and floats, nested in
    the same ways; anything else is passed on as a constant. In first order every element is
    checked in arrays of less than 1,000; larger ones, and higher orders, along random directions,
    which `rng` draws (always the same ones unless given). Differences run in float64; if all args
    are float32, they are tried as float32 as well, with what each rule returns before the engine
    casts it. From order 2 on, forward mode (by differentiating the gradient) must agree with reverse.
    Raises GradientError: which argument and element, both values, and what usually causes it; or
    that f is random, writes to its arguments, returns no Tensor, or has no derivative here.
    Raises TypeError if no argument holds a float.
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
        higher = bent(call, outputs)
        for n in range(2, order + 1):
            seed = max(map(largest, gs))  # what gradients are made of, also those that cancel, as softmax's of one number
            higher, gs = pullback(higher, gs), random_like(values, rng)
            variables = [Tensor(x) for x in values]
            gradients = pull(variables, higher(variables), gs)
            noise = seed * float(sum(np.sum(np.abs(g)) for g in gs))
            compare(higher, [f"order {n}, {name}" for name in names], values, gs, gradients, rng, every_element=False, noise=noise)
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
    """Whether check_grads differentiates by x: a Tensor, a float, an array of floats."""
    return isinstance(x, Variable | float) or (isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f")


def check_values(call, names, values) -> list[Any]:
    """The float outputs of a first run.

    GradientError if no Tensor is among them, one is not finite, a second run gives others, or f changes its arguments.
    """
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
    """The gradients of sum(<g, y>). GradientError if a rule changes what it reads, returns memory of others, or another width."""
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


def compare(call, names, values, gs, gradients, rng, every_element, noise=0.0) -> None:
    """`gradients`, which belong to sum(<g, call(values)>), against differences of it; see `judge`.

    noise: how large the terms are that call(values) adds up, where they may all cancel.
    """
    values = [x.copy() for x in values]  # differences move them
    weight = noise + float(sum(np.sum(np.abs(g * array_of(y))) for g, y in zip(gs, call(values))))

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

            of_point = float(np.sum(np.abs(gradient * original)))  # what rounding the point adds up to
            slope, bound = derivative(along, h, weight + of_point, 0.0)
            x[...] = original
            bound += 64 * EPS * float(np.sum(np.abs(gradient * u)))
            judge(f"{name} along a random direction", (), np.sum(gradient * u), np.asarray(slope), np.asarray(bound))


def judge(name, shape, gradient, slopes, bounds) -> None:
    """GradientError at the first element whose gradient is further from the slope than the bound, or has no slope (an infinite bound).

    gradient, slopes, bounds: arrays of one shape; shape: that of the argument `name`, () for a direction.
    """
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
    """What usually makes a gradient wrong in this way, in words. gradient, slopes, tolerance: arrays of one shape."""

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
    c = float(np.median(ratios)) if ratios.size else 0.0
    if c and np.ptp(ratios) <= 1e-4 * largest(ratios) and factor(c):
        whole = next(
            (f"{n}" if c > 1 else f"1/{n}" for n in [round(max(c, 1 / c) if c > 0 else 0)] if n > 1 and abs(max(c, 1 / c) - n) < 1e-3), None
        )
        return f"a constant factor {whole}: mean for sum, or a count" if whole else f"a constant factor {c:.6g}: a scale, an eps, or ddof"
    if gradient.size > 1 and np.ptp(gradient) <= 1e-12 * largest(gradient) and np.ptp(slopes) > largest(tolerance):
        return "the same number everywhere: a sum or a mean over too many axes, or a cotangent that is ignored"
    if not wrong.all():
        return "only some elements: an edge, a tie, a mask, an index that is named twice, or the point is on a kink"
    return "no simple pattern: a missing term (softmax, norms), a missing sum over a broadcast axis, a transpose of a factor, an axis, a swapped argument, or `=` for `+=`"


def bent(call: Callable, outputs: Sequence[Any]) -> Callable:
    """y + c y^2 for each output y of call: no longer linear in y, so that each cotangent depends on the values, as in a real loss."""
    slopes = [0.25 / (1 + largest(array_of(y))) for y in outputs]
    return lambda xs: [y + c * y * y for y, c in zip(call(xs), slopes)]


def pullback(call: Callable, gs: Sequence[np.ndarray]) -> Callable:
    """The function from values to the gradients of sum(<g, call(values)>): of arrays arrays, of Tensors Tensors."""

    def gradients(xs):
        higher = any(isinstance(x, Variable) for x in xs)
        inside = [x if isinstance(x, Variable) else Tensor(x) for x in xs]
        return pull(inside, call(inside), gs, higher)

    return gradients


def check_forward_mode(call, values, rng) -> None:
    """GradientError unless <J u, c> = <u, J^T c>, where J u is the derivative of <v^T J, u> by v."""
    variables = [Tensor(x) for x in values]
    outputs = call(variables)
    vs = [Tensor(v) for v in random_like(outputs, rng)]
    us, cs = random_like(values, rng), random_like(outputs, rng)
    along = inner(pull(variables, outputs, vs, higher=True), us)
    with Sizes(us) as tangents:
        forward = pull(vs, [along], [1.0], retain=True)
    again = call(variables)
    with Sizes(cs) as cotangents:
        reverse = pull(variables, again, cs)
    a, b = inner(forward, cs), inner(reverse, us)
    scale = inner([np.abs(j) for j in forward], [np.abs(c) for c in cs]) + inner([np.abs(g) for g in reverse], [np.abs(u) for u in us])
    # What both are made of is known to one rounding, also where all of it cancels, as in the softmax of one number.
    noise = tangents.total * largest(*cs) + cotangents.total * largest(*us)
    if not abs(a - b) <= 1e4 * EPS * scale + 64 * EPS * noise:
        raise GradientError(
            f"check_grads: forward mode gives {a:.10g}, reverse mode {b:.10g}: a rule is not linear in its cotangent g, or reads it without its gradient"
        )


def check_narrow(call, names, given, rng) -> None:
    """GradientError unless float32 in gives float32 out, float32 from every rule, and nearly the float64 gradients at the same point."""
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
