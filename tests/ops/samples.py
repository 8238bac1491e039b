"""From a registered op and one of its cases to a call with seeded inputs.

A case is a tuple of arguments: a tuple of ints is the shape of a random array, a list is a
list of such arguments, a final dict holds keyword arguments, and all else is passed as it is
(`Given(x)` passes x). Each random array of floats is an input to differentiate.
"""

import importlib
import pkgutil
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

import tinygrad_notes
from tinygrad_notes.binding import Given
from tinygrad_notes.check import step
from tinygrad_notes.registry import Op, registry

import numpy as np

LOW_HIGH = (-2.0, 2.0)

for module in pkgutil.walk_packages(tinygrad_notes.__path__, "tinygrad_notes."):  # also a file that nothing imports yet registers its ops
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)


@dataclass
class Slot:
    """Stands in a template for the i-th random array of floats."""

    i: int


@dataclass
class Sample:
    """A call of `item` as a function of its float arrays."""

    item: Any
    template: list
    kwargs: dict
    inputs: list[np.ndarray]  # the values at which it is tried
    varied: list[int]  # those of them that have a gradient
    h: float  # a first step for differences that stays clear of kinks and edges
    seed: int
    calls: Any = field(init=False)

    def __post_init__(self):
        self.calls = dispatching(self.item)

    def call(self, inputs, function=None):
        """The function itself on these inputs: Tensors, or arrays."""
        return (function or self.calls)(*fill(self.template, inputs), **self.kwargs)

    def plain(self, inputs):
        """What NumPy says (or the reference of a kernel)."""
        return self.call(inputs, plain_function(self.item))

    def cast(self, dtype) -> "Sample":
        """The same call with every float array of another width."""

        def narrow(x):
            return x.astype(dtype) if isinstance(x, np.ndarray | np.floating) and x.dtype.kind == "f" else x

        template = [walk_template(a, narrow) for a in self.template]
        kwargs = {k: walk_template(v, narrow) for k, v in self.kwargs.items()}
        return Sample(self.item, template, kwargs, [x.astype(dtype) for x in self.inputs], self.varied, self.h, self.seed)


def all_cases() -> list[tuple[Any, Any, str]]:
    """Each registered item with each of its cases and the name of the pair."""
    return [(item, case, name(item, case)) for item in registry for case in item.cases or [None]]


def name(item, case) -> str:
    text = (
        "no cases" if case is None else re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(case).split()))
    )  # an address is another in each process
    return f"{item.label.removeprefix('np.')}-{text if len(text) <= 100 else text[:90] + '~' + format(zlib.crc32(text.encode()), '08x')}"


def plain_function(item):
    if not hasattr(item, "function"):
        return item.reference
    if re.match(r"mathieu_|pro_|obl_", item.name):
        return item.forward  # in float32, SciPy's own gives NaN or never returns; test_special.py compares the two in float64
    function = item.function
    return getattr(*function) if isinstance(function, tuple) else function  # (np.add, "reduce")


def dispatching(item):
    """What a user calls: NumPy's own function where it hands Tensors to us, else the registered item."""
    function = plain_function(item)
    ours = getattr(function, "__module__", None) or ""
    return item if not hasattr(item, "function") or ours.startswith(("tinygrad_notes", "tests")) else function


def is_shape(x) -> bool:
    return isinstance(x, tuple) and all(type(n) is int for n in x)


def walk_template(x, f):
    """A copy of nested lists with f applied to the members."""
    return [walk_template(v, f) for v in x] if type(x) is list else f(x)


def fill(template, inputs):
    """The arguments of a call: each Slot replaced by its input."""
    return [walk_template(a, lambda x: inputs[x.i] if isinstance(x, Slot) else x) for a in template]


def shapes_in(x) -> list[tuple[int, ...]]:
    return [s for v in x for s in shapes_in(v)] if type(x) is list else [x] if is_shape(x) else []


def spread(rng, low, high, sizes) -> tuple[list[np.ndarray], float]:
    """Values in (low, high), pairwise distinct in all arrays together, with a margin between any two, to 0 and to the ends."""
    total = sum(sizes)
    count = max(total, 12)
    count += count % 2  # so that 0 lies between two places of a symmetric interval
    width = (high - low) / count
    places = rng.permutation(count)[:total]
    x = low + width * (places + 0.5 + rng.uniform(-0.2, 0.2, total))
    x = np.where(np.abs(x) < 0.3 * width, np.copysign(0.3 * width, x), x)
    return np.split(x, np.cumsum(sizes)[:-1]), 0.3 * width


def draw(domain, shapes, rng) -> tuple[list[np.ndarray], float]:
    """An array for each shape, and how far one may step."""
    domains = list(domain) if isinstance(domain, list) else [domain] * len(shapes)
    domains = (domains + domains[-1:] * len(shapes))[: len(shapes)]
    arrays: list[Any] = [None] * len(shapes)
    margin = 1.0
    groups: dict[Any, list[int]] = {}
    for i, d in enumerate(domains):
        if callable(d):
            arrays[i] = np.asarray(d(rng, shapes[i]))
            margin = min(margin, 1 / 32)
        else:
            groups.setdefault(tuple(d or LOW_HIGH), []).append(i)
    for (low, high), members in groups.items():
        parts, room = spread(rng, low, high, [int(np.prod(shapes[i])) for i in members])
        margin = min(margin, room)
        for i, part in zip(members, parts):
            arrays[i] = part.reshape(shapes[i])
    return arrays, step(min(margin, 1 / 16))


def sample(item, case, again: int = 0) -> Sample:
    """Seeded inputs for a case; the same every time, others for another number `again`."""
    seed = zlib.crc32(name(item, case).encode()) + again
    case = list(case)
    kwargs = dict(case.pop()) if case and isinstance(case[-1], dict) else {}
    arrays, h = draw(item.domain, shapes_in(case), np.random.default_rng(seed))
    rest, inputs = iter(arrays), []

    def place(x):
        if isinstance(x, Given):
            return x.value
        if not is_shape(x):
            return x
        array = next(rest)
        if array.dtype.kind != "f":
            return array  # integers and truth values are constants
        inputs.append(array)
        return Slot(len(inputs) - 1)

    template = [walk_template(a, place) for a in case]
    return Sample(item, template, kwargs, inputs, with_rule(item, template, kwargs, inputs), h, seed)


def with_rule(item, template, kwargs, inputs) -> list[int]:
    """Which inputs have a rule: all but those registered with None."""
    if not isinstance(item, Op) or item.joint or None not in item.rules:
        return list(range(len(inputs)))
    bound, _ = item.bind(item, fill(template, inputs), dict(kwargs))
    without = [x for x, rule in zip(bound, item.rules) if rule is None]
    return [i for i, x in enumerate(inputs) if not any(x is other for other in without)]
