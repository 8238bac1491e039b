"""Differences that carry a bound of their own error, and inner products of several arrays at once."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_notes.binding import map_structure
from tinygrad_notes.core import Node, Variable, walk
from tinygrad_notes.tensor import Tensor

import numpy as np

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
LEVELS = 5  # steps, each half of the one before: the error falls as h^10


class GradientError(AssertionError):
    """A gradient is wrong, or was made in a way that a gradient must not be."""


def extrapolate(phi: Callable[[float], float], h: float, weight: float, reach: float) -> tuple[float, float]:
    """phi'(0) by central differences and extrapolation to h = 0 (Richardson, 1911), and a bound of its error.

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

    phi: float -> float, in float64; h: the first step, see `step`; weight and reach: see `extrapolate`.
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
    """The derivative of phi() by each element of x, and bounds of the errors: two float64 arrays of the shape of x.

    x: a contiguous float64 array that phi reads; it is moved, and restored. h and weight as for `derivative`.
    """
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
    """The largest power of two up to `margin` > 0, as a first step: adding it is nearly exact."""
    return 2.0 ** math.floor(math.log2(margin))


def largest(*arrays: Any) -> float:
    """The largest absolute value in any of the arrays; 0.0 where they have no elements."""
    return max((float(np.max(np.abs(a), initial=0.0)) for a in arrays), default=0.0)


def random_like(arrays: Sequence[Any], rng: np.random.Generator) -> list[np.ndarray]:
    """Random cotangents or directions, a float64 array for each shape: 0.5 to 1.5 in size, of either sign."""
    return [rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in arrays]


def inner(us: Sequence[Any], vs: Sequence[Any]) -> Any:
    """sum(<u, v>) over the members of both: a Tensor if one of them is."""
    return sum((np.sum(u * v) for u, v in zip(us, vs)), 0.0)


def array_of(y: Any) -> np.ndarray:
    """The array of a Tensor; anything else as an array."""
    return y.value if isinstance(y, Variable) else np.asarray(y)


def floats(y: Any) -> list[Any]:
    """The float members of an output, one or several: Tensors, or arrays. Integers and truth values are left out."""
    members: list[Any] = []
    map_structure(lambda v, _: members.append(v if isinstance(v, Variable) else np.asarray(v)), y)
    return [v for v in members if v.dtype.kind == "f"]


def pull(variables: Sequence[Any], outputs: Sequence[Any], gs: Sequence[Any], higher: bool = False, retain: bool = False) -> list[Any]:
    """Gradients of sum(<g, y>) over outputs y and gs, one for each of the Tensors `variables`: arrays, or Tensors when `higher`.

    Outputs that are no Tensors count for nothing; a variable on which no output depends gets zeros. retain: keep the graph.
    """
    seeds: dict[Node, Any] = {}
    for y, g in zip(outputs, gs):
        if isinstance(y, Variable):
            g = g if isinstance(g, Variable) else np.asarray(g, y.value.dtype)
            seeds[y.node] = seeds[y.node] + g if y.node in seeds else g
    found = walk(seeds, [v.node for v in variables], higher, retain)
    gradients = [found[v.node] if v.node in found else np.zeros_like(v.value) for v in variables]
    return [g if not higher or isinstance(g, Variable) else Tensor(g) for g in gradients]
