"""Calls that nobody wrote down: the cases of an op with other sizes, ranks, indices and keywords.

A rule is wrong where its author did not look, and the author of a rule also writes its cases. So the suite
makes more of each: sizes of 0 and 1, other axes, kept dimensions, masks, switched flags, indices that are named
twice. A variant counts only if the plain function takes it and gives finite numbers.
"""

import inspect
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations, cycle, islice, zip_longest
from typing import Any

from tests.ops.samples import Sample, is_shape, name, plain_function, sample
from tinygrad_notes.binding import STORAGE, Given
from tinygrad_notes.check import floats
from tinygrad_notes.registry import Fused, Op
from tinygrad_notes.tensor import Tensor

import numpy as np
import scipy

LARGEST = 80  # elements of all inputs together


def is_square(s: Sample) -> bool:
    return s.inputs[0].ndim < 2 or s.inputs[0].shape[-1] == s.inputs[0].shape[-2]


def misses_its_places(s: Sample) -> bool:
    return s.inputs[0].shape != np.empty(s.kwargs["shape"])[s.kwargs["index"]].shape


# Arguments that have no meaning for a function, or none that can be differentiated.
LEFT_OUT: dict[str, Callable[[Sample], bool]] = {
    # A full basis of a matrix that is not square is any one: no derivative.
    **dict.fromkeys(["svd", "svd_factors"], lambda s: s.kwargs.get("full_matrices", True) and not is_square(s)),
    **dict.fromkeys(["qr", "qr_factors"], lambda s: s.kwargs.get("mode") == "complete" and not is_square(s)),
    # Whether NumPy returns a list or a tuple: sparse grids that are not copied are a list.
    "meshgrid": lambda s: s.kwargs.get("sparse", False) and not s.kwargs.get("copy", True),
    # Its only callers hand it what they have taken out at these places; for anything else np.add.at writes where it should not.
    "scatter_add": misses_its_places,
    # The windows of a space of this size, in one way of cutting it alone.
    "fold": lambda s: True,
    # Up to SciPy 1.16 a search finds these, and stops after some nine digits.
    **dict.fromkeys(["chndtrix", "chndtrinc"], lambda s: scipy.__version__.startswith("1.16.")),
    "inner_correlation": lambda s: s.inputs[0].size < s.inputs[1].size,  # it lays the shorter one inside the longer one
}
# Called by functions that check their arguments: of these only sizes and keywords are tried.
CHECKED = "full_convolution inner_correlation max_pool average_pool unfold".split()
# cv is the characteristic value of m, n and c, or there is no slope: only other sizes of x are tried.
CHARACTERISTIC = "pro_ang1_cv obl_ang1_cv pro_rad1_cv obl_rad1_cv".split()
AXES = [0, -1, (0, -1), 1, -2, None, (0,), ()]
BY_NAME = {"axis": AXES, "axes": [*AXES, (1, 0)], "keepdims": [True], "ddof": [1, 2], "correction": [1, 0.5], "initial": [0.5]}

# --- shapes ---------------------------------------------------------------------------------------


def mapped(args: list, f) -> list:
    """Nested lists with f(number of the leaf, leaf) in place of each leaf."""
    number = iter(range(10_000))

    def at(x):
        return [at(v) for v in x] if type(x) is list else f(next(number), x)

    return [at(x) for x in args]


def leaves(args: list) -> list:
    found: list = []
    mapped(args, lambda i, x: found.append(x))
    return found


def other_sizes(args: list, broadcasts: bool) -> Iterator[list]:
    """A size is another one wherever it stands; then in one place alone, if inputs broadcast."""
    shapes = [(i, x) for i, x in enumerate(leaves(args)) if is_shape(x)]
    sizes = sorted({n for _, shape in shapes for n in shape})
    for other in (1, 0, None, -1):
        for size in sizes:
            other = size + 2 if other is None else max(sizes) if other == -1 else other
            if other != size:
                yield mapped(args, lambda _, x, n=size, m=other: tuple(m if k == n else k for k in x) if is_shape(x) else x)
    for i, shape in shapes if broadcasts else ():
        for axis, n in enumerate(shape):
            if n != 1:
                yield mapped(args, lambda j, x, i=i, a=axis: (*x[:a], 1, *x[a + 1 :]) if i == j else x)


def larger(args: list) -> list:
    """Every size above 1 is larger by 4, the same wherever it stands."""
    return mapped(args, lambda _, x: tuple(n + 4 if n > 1 else n for n in x) if is_shape(x) else x)


def other_ranks(args: list) -> Iterator[list]:
    """One axis more, in all inputs or in one; one axis less; none."""
    yield mapped(args, lambda _, x: (2, *x) if is_shape(x) else x)
    yield mapped(args, lambda _, x: (2, 1, *x) if is_shape(x) else x)
    for i, x in enumerate(leaves(args)):
        if is_shape(x):
            for shape in ((2, *x), x[1:], ()):
                yield mapped(args, lambda j, y, i=i, shape=shape: shape if i == j else y)


# --- constants ------------------------------------------------------------------------------------


def other_constants(args: list) -> Iterator[list]:
    """Integers all the same, or counted from the end; a mask turned round; another number or flag."""
    for i, leaf in enumerate(leaves(args)):
        x = leaf.value if isinstance(leaf, Given) else leaf
        for new in constants_like(x):
            yield mapped(args, lambda j, y, i=i, new=new: Given(new) if i == j else y)


def constants_like(x: Any) -> list:
    if isinstance(x, np.ndarray):
        if x.dtype.kind == "b":
            return [~x, np.ones_like(x), np.zeros_like(x)]
        if x.dtype.kind in "iu" and x.size:
            return [np.full_like(x, x.flat[-1]), x[..., ::-1].copy() if x.ndim else x, np.full_like(x, -1)]
        return []
    if isinstance(x, bool):
        return [not x]
    if isinstance(x, int):
        return [x + 1, x - 1]
    if isinstance(x, float):
        return [x / 2, x + 0.3]
    if isinstance(x, tuple) and all(isinstance(n, int | np.ndarray | slice | None | type(...)) for n in x):
        return [(*x[:i], new, *x[i + 1 :]) for i, n in enumerate(x) if isinstance(n, np.ndarray) for new in constants_like(n)]
    return []


# --- keywords -------------------------------------------------------------------------------------


def choices(item: Any, shape: tuple[int, ...], given: dict) -> dict[str, list]:
    """Values to try for each keyword that the rules of an op, or a function in plain NumPy, have."""
    defaults = dict(given)
    sources = [r for r in item.rules if r] if isinstance(item, Op) else [getattr(item, "body", None) or item.reference]
    for source in [plain_function(item), *sources]:
        try:
            parameters = list(inspect.signature(source).parameters.values())
        except (TypeError, ValueError):
            continue
        for p in parameters:
            if p.kind is p.KEYWORD_ONLY or (
                p.default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and source not in getattr(item, "rules", ())
            ):
                defaults.setdefault(p.name, p.default)
    rng = np.random.default_rng(0)
    found = {}
    for key, default in defaults.items():
        if key == "where":
            found[key] = [rng.random(shape) < 0.6, rng.random(shape[-1:]) < 0.6, False]
        elif key not in STORAGE and key != "out":
            found[key] = BY_NAME.get(key) or constants_like(default)
            if type(default) is int:  # an axis, not several
                found[key] = [value for value in found[key] if type(value) is int]
    return {key: values for key, values in found.items() if values}


def other_keywords(item: Any, args: list, given: dict) -> Iterator[dict]:
    """One keyword more, or another value of it; two of them together."""
    shape = next((x for x in leaves(args) if is_shape(x)), ())
    ways = choices(item, shape, given)
    singles = [[(key, value) for value in values] for key, values in ways.items()]
    for row in zip_longest(*singles):
        yield from ({**given, key: value} for key, value in filter(None, row))
    for first, second in combinations(ways, 2):
        for a in ways[first]:
            yield from ({**given, first: a, second: b} for b in ways[second])


# --- what comes of them -----------------------------------------------------------------------------


def kinds_of_variants(item: Any, case: tuple) -> list[Iterator[tuple]]:
    args = list(case)
    given = dict(args.pop()) if args and isinstance(args[-1], dict) else {}
    end = (given,) if given else ()
    if isinstance(item, Fused) or item.name in CHECKED:  # whoever calls a kernel has checked its arguments, and made its shapes fit
        optional = ((*args, {**given, **keywords}) for keywords in other_keywords(item, args, {}))
        return [optional, ((*new, *end) for new in other_sizes(args, broadcasts=False))]
    if item.name in CHARACTERISTIC:
        return [((*new, *end) for new in other_sizes(args, broadcasts=False))]
    keywords_again = list(other_keywords(item, args, given)) or [given]
    both = zip(other_sizes(args, broadcasts=True), cycle(keywords_again[::-1]))
    three = next(other_ranks(args))  # an axis more: of the axes in a keyword, the middle one first
    deeper = sorted(
        keywords_again, key=lambda keywords: not any(type(keywords.get(key)) is int and keywords[key] == 1 for key in ("axis", "axes"))
    )
    return [
        ((*args, keywords) for keywords in other_keywords(item, args, given)),
        ((*new, *end) for new in other_sizes(args, broadcasts=True)),
        ((*new, *end) for new in other_constants(args)),
        ((*new, *end) for new in other_ranks(args)),
        ((*new, keywords) for new, keywords in both),
        ((*three, keywords) for keywords in deeper),
        iter([(*larger(args), *end)]),
    ]


def taken(item: Any, case: tuple) -> Sample | None:
    """The variant with inputs, if the plain function takes it and gives finite floats, and the op does not refuse it."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="error"):
            s = sample(item, case)
            if sum(x.size for x in s.inputs) > LARGEST or not s.varied or LEFT_OUT.get(item.name, lambda s: False)(s):
                return None
            values = floats(s.plain(s.inputs))
            if not values or not all(np.all(np.isfinite(y)) for y in values):
                return None
    except Exception:  # whatever a function says to arguments that make no sense
        return None
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            outputs = floats(s.call([Tensor(x) if i in s.varied else x for i, x in enumerate(s.inputs)]))
    except Exception:  # a composition may refuse what the function takes
        return None
    return s if any(isinstance(y, Tensor) for y in outputs) else None


@cache
def variants(item: Any, most: int) -> list[Sample]:
    """At most so many variants of the cases of an op, of every kind, none of them a case itself."""
    seen = {name(item, case) for case in item.cases}
    found: list[Sample] = []
    order = sorted(item.cases, key=lambda case: zlib.crc32(name(item, case).encode()))
    of_cases = [kinds_of_variants(item, case) for case in order]
    streams = [stream for kinds in zip(*of_cases) for stream in kinds]
    while streams and len(found) < most:
        for stream in list(streams):
            for case in islice(stream, 8):  # of each kind in turn
                label = name(item, case)
                if label in seen:
                    continue
                seen.add(label)
                if (s := taken(item, case)) is not None:
                    found.append(s)
                    break
            else:
                if next(stream, None) is None:
                    streams.remove(stream)
            if len(found) >= most:
                break
    return found
