"""Mutants of the gradient rules of every registered op, and the checks of tests/ops/test_registry.py that must kill them.

Two kinds: a rule in a wrapper that spoils what goes in or comes out, whatever the rule says; and
a rule with one small change in its source (source.changes). A kernel's backward counts as a rule.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.mutation import source, suite
from tests.mutation.outcome import Mutant, killed_by
from tests.ops import test_registry, test_variants
from tests.ops.samples import sample
from tinygrad_notes.binding import reads_of
from tinygrad_notes.registry import Fused, Op, registry

import numpy as np

# --- a rule put in place of another -----------------------------------------------------------


def reading(op: Op) -> list[set[str]]:
    """For each rule of an op, which of its positional arguments it is said to read."""
    names = ["y", *range(len(op.input_masks))]
    masks = [op.y_mask, *op.input_masks]
    return [{name for name, mask in zip(names, masks) if mask >> i & 1} for i in range(len(op.rules))]


@contextmanager
def with_rules(op: Op, rules, reads: list[set] | None = None) -> Iterator[None]:
    """Inside, the op has these rules. `reads`: what they read; by default what the original ones do."""
    before = op.rules, op.y_mask, op.input_masks, op.plans
    try:
        op.rules, op.plans = tuple(rules), {}
        if reads is not None:
            names = ["y", *range(len(op.input_masks))]
            op.y_mask, *op.input_masks = (sum(1 << i for i, read in enumerate(reads) if name in read) for name in names)
        yield
    finally:
        op.rules, op.y_mask, op.input_masks, op.plans = before


@contextmanager
def with_attribute(item: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(item, name)
    setattr(item, name, value)
    try:
        yield
    finally:
        setattr(item, name, before)


def everything(op: Op) -> list[set]:
    return [{"y", *range(len(op.input_masks))} for _ in op.rules]


# --- wrappers -----------------------------------------------------------------------------------
# What each makes of the gradient d that a right rule returned: (d, arrays that the rule was given) -> d,
# the very same object where there is nothing to change.


def raw(d: Any) -> Any:
    return getattr(d, "value", d) if not isinstance(d, np.ndarray) else d


def transposed(d, arrays):
    return np.reshape(np.transpose(d), d.shape) if sum(n > 1 for n in d.shape) > 1 else d


def flipped(d, arrays):
    return np.flip(d, -1) if d.ndim and d.shape[-1] > 1 else d


def rolled(d, arrays):
    return np.roll(d, 1, 0) if d.ndim and d.shape[0] > 1 else d


def written_into(d, arrays):
    """The gradient, in the memory of an array that the rule was given to read."""
    if isinstance(d, np.ndarray):
        for a in arrays:
            if isinstance(a, np.ndarray) and a.shape == d.shape and a.dtype == d.dtype:
                a[...] = d
                return a
    return d


def an_input(d, arrays):
    return next((a for a in arrays if hasattr(a, "astype") and a.shape == d.shape), d)


def a_view(d, arrays):
    a = an_input(d, arrays)
    return d if a is d else a[...]


class Cached:
    """The gradient in an array that is kept from call to call: filled anew each time, or (stale) only the first time."""

    def __init__(self, stale: bool):
        self.stale, self.buffers = stale, {}

    def __call__(self, d, arrays):
        if not isinstance(d, np.ndarray) or not d.size:
            return d
        key = d.shape, d.dtype
        if key not in self.buffers:
            self.buffers[key] = d.copy()
        elif not self.stale:
            self.buffers[key][...] = d
        return self.buffers[key]


ARITHMETIC: dict[str, Callable] = {
    "sign": lambda d, arrays: -d,
    "x 2": lambda d, arrays: d * 2,
    "x (1 + 1e-4)": lambda d, arrays: d * (1 + 1e-4),
    "+ 1e-4": lambda d, arrays: d + d.dtype.type(1e-4),
    "zeros": lambda d, arrays: d * 0,
    "abs of the gradient": lambda d, arrays: np.abs(d),
    "mean for sum": lambda d, arrays: d / d.size if d.size > 1 else d,
    "drop a transpose": transposed,
    "wrong axis (flip)": flipped,
    "wrong axis (roll)": rolled,
}
WIDTHS: dict[str, Callable] = {
    "upcast to float64": lambda d, arrays: d.astype(np.float64) if d.dtype == np.float32 else d,
    "detached": lambda d, arrays: raw(d),
}
MEMORY: dict[str, Callable] = {  # of rules that run on arrays
    "through float32": lambda d, arrays: d.astype(np.float32).astype(d.dtype) if d.dtype == np.float64 else d,
    "write the gradient into an input": written_into,
    "cached array": Cached(stale=False),
    "stale array": Cached(stale=True),
}
INPUTS: dict[str, Callable] = {"return an input": an_input, "return a view of an input": a_view}

COTANGENTS: dict[str, Callable] = {
    "ignore the cotangent": lambda g: np.ones_like(g),
    "abs of the cotangent": lambda g: np.abs(g),
    "average the cotangent": lambda g: np.broadcast_to(np.mean(g), g.shape) if g.size > 1 else g,
}


def arrays_of(y: Any, inputs: Any) -> list:
    return [*inputs, *(y if isinstance(y, tuple | list) else [y])]


def after(rule: Callable, f: Callable, member: int | None, seen: set) -> Callable:
    """`rule` with f applied to the gradient that it returns; of several, to one member."""
    if isinstance(f, Cached):
        f = Cached(f.stale)

    def spoiled(d, arrays):
        if d is None:
            return None
        new = f(d, arrays)
        seen.update(["ran"] if new is d else ["ran", "changed"])
        return new

    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        if member is None:
            return spoiled(d, arrays_of(y, inputs))
        d = list(d)
        d[member] = spoiled(d[member], arrays_of(y, inputs))
        return d

    return mutant


def before(rule: Callable, f: Callable, seen: set) -> Callable:
    """`rule` with f applied to the cotangent that it gets; of a multiple output, to each."""

    def spoiled(g):
        new = f(g)
        seen.update(["ran"] if new is g else ["ran", "changed"])
        return new

    def mutant(g, y, *inputs, **params):
        return rule([spoiled(m) for m in g] if isinstance(g, list) else spoiled(g), y, *inputs, **params)

    return mutant


def mutates_the_cotangent(rule: Callable) -> Callable:
    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        for member in g if isinstance(g, list) else [g]:
            if isinstance(member, np.ndarray):
                member *= 2
        return d

    return mutant


def swaps_input_and_output(rule: Callable) -> Callable:
    return lambda g, y, *inputs, **params: rule(g, inputs[0], y, *inputs[1:], **params)


def swaps_inputs(rule: Callable) -> Callable:
    return lambda g, y, a, b, *rest, **params: rule(g, y, b, a, *rest, **params)


# --- all mutants of one item ----------------------------------------------------------------------


def same_code(a, b) -> bool:
    return a is b or (a.__code__.co_code, a.__code__.co_consts) == (b.__code__.co_code, b.__code__.co_consts)


def replacing(op: Op, i: int, new: Callable, reads: list[set] | None = None) -> Callable:
    """A context in which rule i of the op is `new`."""
    rules = list(op.rules)
    rules[i] = new
    return lambda: with_rules(op, rules, reads)


OTHERS = ["mutate the cotangent", "saved input <-> output", "swap inputs", "swap parents"]


def of_op(op: Op, sources: bool = True) -> Iterator[Mutant]:
    for i, rule in enumerate(op.rules):
        if rule is not None:
            yield from wrapped_rules(op, i, rule)
            if sources:
                yield from changed_rules(op, i, rule)
    if op.into is not None:
        yield from wrapped_into(op, op.into)
        if sources:
            for mutator, what, tree in source.mutants_of(op.into):
                new = source.remade(op.into, tree)
                yield Mutant("source", op, mutator, f"into, {what}", partial(with_attribute, op, "into", new))


def wrapped_rules(op: Op, i: int, rule: Callable) -> Iterator[Mutant]:
    on_arrays = op.into is None  # where there is an `into`, the rule itself only runs on Tensors

    def mutant(mutator, wrap, reads=None, where=f"rule {i + 1}"):
        seen: set[str] = set()
        return Mutant("rule", op, mutator, where, replacing(op, i, wrap(seen), reads), seen=seen)

    for member in (0, -1) if op.joint else (None,):
        where = f"rule {i + 1}" if member is None else f"member {member}"
        for mutator, f in {**ARITHMETIC, **WIDTHS, **(MEMORY if on_arrays else {}), **INPUTS}.items():
            reads = everything(op) if mutator in INPUTS else None
            yield mutant(mutator, lambda seen, f=f, member=member: after(rule, f, member, seen), reads, where)
    for mutator, f in COTANGENTS.items():
        yield mutant(mutator, lambda seen, f=f: before(rule, f, seen))
    if on_arrays:
        yield mutant("mutate the cotangent", lambda seen: mutates_the_cotangent(rule))
    if reading(op)[i] & {"y", 0}:
        yield mutant("saved input <-> output", lambda seen: swaps_input_and_output(rule), everything(op))
    if op.arity > 1 and reading(op)[i] & {0, 1}:
        yield mutant("swap inputs", lambda seen: swaps_inputs(rule), everything(op))
    for j, other in enumerate(op.rules[:i]):
        if other is not None and not same_code(rule, other):
            rules = list(op.rules)
            rules[i], rules[j] = other, rule
            yield Mutant("rule", op, "swap parents", f"rules {j + 1}, {i + 1}", lambda rules=rules: with_rules(op, rules, everything(op)))


def wrapped_into(op: Op, into: Callable) -> Iterator[Mutant]:
    for mutator, f in ARITHMETIC.items():

        def spoiled(buffer, g, f=f, **params):
            into(buffer, f(g, ()), **params)

        yield Mutant("rule", op, mutator, "into", partial(with_attribute, op, "into", spoiled))


def sharing(rule: Callable) -> list[tuple[Op, int]]:
    """(op, number of the rule) of every rule that has this source."""
    ops = [op for op in registry if isinstance(op, Op)]
    return [(op, i) for op in ops for i, r in enumerate(op.rules) if r is not None and r.__code__ is rule.__code__]


def changed_rules(op: Op, i: int, rule: Callable) -> Iterator[Mutant]:
    """The rule with one small change of its source, in every op that has it; what it reads is found anew, as after an edit."""
    places = sharing(rule)
    if places[0] != (op, i):
        return
    for mutator, what, tree in source.mutants_of(rule):

        @contextmanager
        def install(tree=tree):
            with ExitStack() as stack:
                for other, j in places:
                    new = source.remade(other.rules[j], tree)
                    stack.enter_context(replacing(other, j, new, reads_after(other, j, new))())
                yield

        yield Mutant("source", op, mutator, f"rule {i + 1}, {what}", install, shared=tuple(dict.fromkeys(other for other, _ in places)))


def reads_after(op: Op, i: int, new: Callable) -> list[set]:
    """What the rules read when rule i is `new`: found in its code, unless the op says what they read (`reads=`)."""
    keys = ["y", *range(max(1, op.arity))]

    def derived(rule):
        names = rule.__code__.co_varnames[1 : 1 + len(keys)]
        return {key for key, name in zip(keys, names) if name in reads_of(rule)}

    declared = reading(op)
    if declared[i] == derived(op.rules[i]):
        declared[i] = derived(new)
    return declared


def of_kernel(kernel: Fused) -> Iterator[Mutant]:
    """A kernel's backward(g, saved, *arrays, needs, **params), which returns all gradients."""
    backward = kernel.backward

    def mutant(mutator, wrap, where):
        seen: set[str] = set()
        new = wrap(seen)
        return Mutant("rule", kernel, mutator, where, lambda: with_attribute(kernel, "backward", new), seen=seen)

    for member in range(backward.__code__.co_argcount - 2):
        for mutator, f in {**ARITHMETIC, **MEMORY, **INPUTS, "upcast to float64": WIDTHS["upcast to float64"]}.items():
            yield mutant(mutator, lambda seen, f=f, member=member: after(backward, f, member, seen), f"gradient {member + 1}")
    for mutator, f in COTANGENTS.items():
        yield mutant(mutator, lambda seen, f=f: before(backward, f, seen), "backward")
    yield mutant("mutate the cotangent", lambda seen: mutates_the_cotangent(backward), "backward")


def of_item(item: Any, sources: bool = True) -> Iterator[Mutant]:
    """The mutants of an item: of its rules in wrappers, and of their sources."""
    if isinstance(item, Op):
        return of_op(item, sources)
    return of_kernel(item) if isinstance(item, Fused) else iter(())


def all_mutants() -> Iterator[Mutant]:
    for item in registry:
        yield from of_item(item)


# --- killing ------------------------------------------------------------------------------------------


def check_op(item: Any, samples: list | None = None) -> None:
    """Every check of the registry on every case of an op: raises what the first failure raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for s in samples or samples_of(item):
            for check in [*test_registry.CHECKS, *test_variants.MORE]:
                check(s)


@cache
def samples_of(item: Any) -> list:
    """The cases of an item with their inputs, small ones first: most mutants die at once."""
    samples = [sample(item, case) for case in item.cases]
    if item_function := BY_KEYWORD.get(getattr(item, "function", None)):
        samples.append(sample(*item_function))
    return sorted(samples, key=lambda s: sum(x.size for x in s.inputs))


class ByKeyword:
    """A call that gives an input by keyword, as a function of its arrays, for `sample`."""

    domain = None

    def __init__(self, function: Callable, call: Callable):
        self.function, self.label = call, f"np.{function.__name__} by keyword"
        self.name = self.label

    def __call__(self, *args):
        return self.function(*args)


BY_KEYWORD = {f: (ByKeyword(f, call), tuple(shapes)) for f, (call, *shapes) in test_registry.BY_KEYWORD.items()}


def passes(item: Any) -> bool:
    """Whether an item passes its checks as it stands: if not, a failure says nothing about a mutant."""
    return killed_by(Mutant("none", item, "", "", nullcontext), partial(check_op, item)) is None


def killers(mutant: Mutant) -> Iterator[Callable[[], None]]:
    """What must kill a mutant: the checks of the registry, then the tests of the file it stands in."""
    items = mutant.shared or (mutant.item,)
    yield from (partial(check_op, item) for item in items)
    if not mutant.applies:
        return  # it changed nothing in any case
    modules = list(dict.fromkeys(name for item in items for name in modules_for(item)))
    for name in modules:
        suite.tests_in(name)
    yield partial(suite.run_all, modules)


# Tests of what several files share, by the file that a rule stands in. The checks of the registry come first.
TRIED_IN = {
    "contractions": ["products"], "decompositions": ["linalg"], "norms": ["linalg"], "ordering": ["windows", "reductions"],
    "joining": ["shaping"], "padding": ["windows"], "polynomials": ["windows"], "gamma": ["special"], "covariance": ["products"],
    "selection": ["elementwise"],
}  # fmt: skip


def modules_for(item: Any) -> list[str]:
    """The test modules that try the file in which an op is defined."""
    function = next(filter(None, item.rules)) if isinstance(item, Op) else item.backward
    file = Path(function.__code__.co_filename)
    names = [f"tests.{file.parent.name}.test_{file.stem}"] + [f"tests.ops.test_{stem}" for stem in TRIED_IN.get(file.stem, [])]
    return [name for name in [*names, "tests.test_corners"] if importlib.util.find_spec(name)]
