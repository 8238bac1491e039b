"""Mutants of the gradient rules of every registered op, and the checks of tests/ops/test_registry.py that must kill them.

Two kinds: a rule in a wrapper that spoils what goes in or comes out, whatever the rule says; and
a rule with one small change in its source (source.changes). A kernel's backward counts as a rule.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.mutation import source
from tests.mutation.outcome import Mutant
from tests.ops import test_registry
from tests.ops.samples import sample
from tinygrad_notes.binding import reads_of
from tinygrad_notes.registry import Composition, Fused, Op, registry

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
# Each takes the gradient d that a right rule returned (an array or a Tensor), and the cotangent g.


def constant_as(d, value):
    """`value`, which is close to d in kind: detached from the graph, as a rule is that touches `.value`."""
    return np.asarray(value, d.dtype)


def raw(d):
    return d if isinstance(d, np.ndarray) else getattr(d, "value", d)


def transposed(d, g):
    if d.ndim < 2 or sorted(d.shape)[-2] < 2:
        return d
    return np.reshape(np.transpose(d), d.shape)


def flipped(d, g):
    return d if d.ndim == 0 else np.flip(d, -1)


def rolled(d, g):
    return d if d.ndim == 0 else np.roll(d, 1, 0)


def mean_for_sum(d, g):
    return d / d.size if d.size > 1 else d


def cast_up(d, g):
    return d.astype(np.float64) if d.dtype == np.float32 else d


def cast_down(d, g):
    return d.astype(np.float32).astype(d.dtype) if d.dtype == np.float64 else d


AFTER: dict[str, Callable] = {
    "sign": lambda d, g: -d,
    "x 2": lambda d, g: d * 2,
    "x (1 + 1e-4)": lambda d, g: d * (1 + 1e-4),
    "+ 1e-4": lambda d, g: d + d.dtype.type(1e-4),
    "zeros": lambda d, g: d * 0,
    "abs of the gradient": lambda d, g: np.abs(d),
    "drop a transpose": transposed,
    "wrong axis (flip)": flipped,
    "wrong axis (roll)": rolled,
    "mean for sum": mean_for_sum,
    "upcast to float64": cast_up,
    "through float32": cast_down,
    "detached": lambda d, g: constant_as(d, raw(d)) if raw(d) is not d else d,
}

BEFORE: dict[str, Callable] = {  # of the cotangent
    "ignore the cotangent": lambda g: np.ones_like(g),
    "abs of the cotangent": lambda g: np.abs(g),
    "average the cotangent": lambda g: np.broadcast_to(np.mean(g), g.shape) if g.size > 1 else g,
}


def on_members(f: Callable, g: Any) -> Any:
    return [f(m) for m in g] if isinstance(g, list) else f(g)


def after(rule: Callable, f: Callable, member: int | None) -> Callable:
    """`rule` with f applied to the gradient that it returns; of several, to one member."""

    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        if member is None:
            return d if d is None else f(d, g)
        d = list(d)
        if d[member] is not None:
            d[member] = f(d[member], g)
        return d

    return mutant


def before(rule: Callable, f: Callable) -> Callable:
    return lambda g, y, *inputs, **params: rule(on_members(f, g), y, *inputs, **params)


def mutates_the_cotangent(rule):
    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        for member in g if isinstance(g, list) else [g]:
            if isinstance(member, np.ndarray):
                member *= 2
        return d

    return mutant


def writes_into_an_input(rule, member):
    """The gradient, in the memory of an array that the rule was given to read."""

    def write(d, arrays):
        for a in arrays:
            if isinstance(d, np.ndarray) and isinstance(a, np.ndarray) and a.shape == d.shape and a.dtype == d.dtype:
                a[...] = d
                return a
        return d

    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        arrays = [*inputs, *(y if isinstance(y, tuple | list) else [y])]
        if member is None:
            return write(d, arrays)
        d = list(d)
        d[member] = write(d[member], arrays)
        return d

    return mutant


def returns_an_input(rule, member, view):
    """What a rule returns for an input that its gradient has the shape of: the input itself, or a view of it."""

    def replace(d, arrays):
        for a in arrays:
            if d is not None and getattr(a, "shape", None) == d.shape and hasattr(a, "astype"):
                return a[...] if view else a
        return d

    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        if member is None:
            return replace(d, inputs)
        d = list(d)
        d[member] = replace(d[member], inputs)
        return d

    return mutant


def cached(rule, member, stale):
    """The gradient in an array that is kept from call to call: filled anew each time, or (stale) only the first time."""
    buffers: dict = {}

    def keep(d):
        if not isinstance(d, np.ndarray):
            return d
        key = d.shape, d.dtype
        if key not in buffers:
            buffers[key] = d.copy()
        elif not stale:
            buffers[key][...] = d
        return buffers[key]

    def mutant(g, y, *inputs, **params):
        d = rule(g, y, *inputs, **params)
        if member is None:
            return keep(d)
        d = list(d)
        d[member] = keep(d[member])
        return d

    return mutant


def swaps_input_and_output(rule):
    return lambda g, y, *inputs, **params: rule(g, inputs[0], y, *inputs[1:], **params)


def swaps_inputs(rule):
    return lambda g, y, a, b, *rest, **params: rule(g, y, b, a, *rest, **params)


# --- all mutants of one item ----------------------------------------------------------------------


def same_code(a, b) -> bool:
    return a is b or (a.__code__.co_code, a.__code__.co_consts) == (b.__code__.co_code, b.__code__.co_consts)


def replacing(op: Op, i: int, new: Callable, reads: list[set] | None = None) -> Callable:
    """A context in which rule i of the op is `new`."""
    rules = list(op.rules)
    rules[i] = new
    return lambda: with_rules(op, rules, reads)


def of_op(op: Op) -> Iterator[Mutant]:
    arrays_run = op.into is None  # where there is an `into`, the rule itself only runs on Tensors
    for i, rule in enumerate(op.rules):
        if rule is None:
            continue
        for member in (0, -1) if op.joint else (None,):
            where = f"rule {i + 1}" if member is None else f"member {member}"

            def mutant(mutator, new, reads=None, i=i, where=where):
                return Mutant("rule", op, mutator, where, replacing(op, i, new, reads))

            for mutator, f in AFTER.items():
                if arrays_run or mutator != "through float32":
                    yield mutant(mutator, after(rule, f, member))
            if arrays_run:
                yield mutant("write the gradient into an input", writes_into_an_input(rule, member))
                yield mutant("cached array", cached(rule, member, stale=False))
                yield mutant("stale array", cached(rule, member, stale=True))
            yield mutant("return an input", returns_an_input(rule, member, view=False), everything(op))
            yield mutant("return a view of an input", returns_an_input(rule, member, view=True), everything(op))
        where = f"rule {i + 1}"
        for mutator, f in BEFORE.items():
            yield Mutant("rule", op, mutator, where, replacing(op, i, before(rule, f)))
        if arrays_run:
            yield Mutant("rule", op, "mutate the cotangent", where, replacing(op, i, mutates_the_cotangent(rule)))
        if reading(op)[i] & {"y", 0}:
            yield Mutant("rule", op, "saved input <-> output", where, replacing(op, i, swaps_input_and_output(rule), everything(op)))
        if op.arity > 1 and reading(op)[i] & {0, 1}:
            yield Mutant("rule", op, "swap inputs", where, replacing(op, i, swaps_inputs(rule), everything(op)))
        for j in range(i):
            if op.rules[j] is not None and not same_code(op.rules[i], op.rules[j]):
                rules = list(op.rules)
                rules[i], rules[j] = rules[j], rules[i]
                yield Mutant(
                    "rule", op, "swap parents", f"rules {j + 1}, {i + 1}", lambda rules=rules: with_rules(op, rules, everything(op))
                )
        yield from changed_rules(op, i, rule)
    if op.into is not None:
        for mutator, f in AFTER.items():
            if mutator not in ("upcast to float64", "detached", "through float32"):
                yield Mutant(
                    "rule",
                    op,
                    mutator,
                    "into",
                    lambda f=f: with_attribute(op, "into", lambda buffer, g, **p: op_into(buffer, f(g, g), **p)),
                )

        op_into = op.into
        for mutator, what, tree in source.mutants_of(op.into):
            yield Mutant("source", op, mutator, f"into, {what}", lambda tree=tree: with_attribute(op, "into", source.remade(op_into, tree)))


def changed_rules(op: Op, i: int, rule) -> Iterator[Mutant]:
    """The rule with one small change of its source; what it reads is found anew, as when the source is edited."""
    names = [p for p in rule.__code__.co_varnames[1 : 2 + max(1, op.arity)]]
    declared = reading(op)
    by_code = {k: name for k, name in zip(["y", *range(max(1, op.arity))], names)}
    derived = declared[i] == {k for k, name in by_code.items() if name in reads_of(rule)}
    for mutator, what, tree in source.mutants_of(rule):

        def install(tree=tree):
            new = source.remade(rule, tree)
            reads = [*declared]
            if derived:
                reads[i] = {k for k, name in by_code.items() if name in reads_of(new)}
            return replacing(op, i, new, reads)()

        yield Mutant("source", op, mutator, f"rule {i + 1}, {what}", install)


def of_kernel(kernel: Fused) -> Iterator[Mutant]:
    """A kernel's backward(g, saved, *arrays, needs, **params), which returns all gradients."""
    backward = kernel.backward
    shape = backward.__code__.co_varnames[2 : backward.__code__.co_argcount]
    for member in range(len(shape)):

        def mutant(mutator, new, member=member):
            return Mutant("rule", kernel, mutator, f"gradient {member + 1}", lambda: with_attribute(kernel, "backward", new))

        for mutator, f in AFTER.items():
            if mutator != "detached":
                yield mutant(mutator, after(backward, f, member))
        yield mutant("write the gradient into an input", writes_into_an_input(backward, member))
        yield mutant("cached array", cached(backward, member, stale=False))
        yield mutant("stale array", cached(backward, member, stale=True))
        yield mutant("return an input", returns_an_input(backward, member, view=False))
    for mutator, f in BEFORE.items():
        yield Mutant("rule", kernel, mutator, "backward", lambda f=f: with_attribute(kernel, "backward", before(backward, f)))
    yield Mutant(
        "rule", kernel, "mutate the cotangent", "backward", lambda: with_attribute(kernel, "backward", mutates_the_cotangent(backward))
    )


def of_item(item: Any) -> Iterator[Mutant]:
    if isinstance(item, Op):
        return of_op(item)
    return of_kernel(item) if isinstance(item, Fused) else iter(())


def all_mutants() -> Iterator[Mutant]:
    for item in registry:
        yield from of_item(item)


# --- killing ------------------------------------------------------------------------------------------


def check_op(item: Any, samples: list | None = None) -> None:
    """Every check of tests/ops/test_registry.py on every case of an op: raises what the first failure raises."""
    for s in samples or samples_of(item):
        for check in test_registry.CHECKS:
            check(s)


def samples_of(item: Any) -> list:
    # Small ones first: most mutants die at once.
    return sorted((sample(item, case) for case in item.cases), key=lambda s: sum(x.size for x in s.inputs))


def killer(item: Any) -> Callable[[], None]:
    samples = samples_of(item)

    def kill():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_op(item, samples)

    return kill
