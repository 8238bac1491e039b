"""Operations: what NumPy functions do with Tensors, and the rules of their gradients.

    op(np.multiply,
       lambda g, y, a, b: g * b,      # dL/da, given g = dL/dy
       lambda g, y, a, b: g * a,      # dL/db
       cases=[((3, 4), (4,))])

The rules are NumPy expressions. On arrays they give the gradient; on Tensors they give a
gradient that has gradients itself, so one table serves every order. A rule never sums over
broadcast axes, accumulates or casts: the walk does.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from itertools import cycle
from typing import Any

from tinygrad_notes import core
from tinygrad_notes.binding import STORAGE, bind_function, bind_ufunc, label, like, map_structure, reads_of, refuse_out, spelling, stand_in
from tinygrad_notes.core import NO_PARAMS, PICK, Node, Variable, make_node, make_tensor, table, walk
from tinygrad_notes.recording import Recorded

import numpy as np

registry: list[Any] = []  # every op, composition and kernel: the tests run through it
constants: list[Callable] = []  # functions without gradient
refused: dict[Callable, str] = {}  # functions that raise on Tensors, each with its reason
SEQUENCES = (list, tuple)
ARRAYS = (np.ndarray, Recorded)  # what kernels take; other kinds of arrays, masked ones for example, have rules of their own
using_reference = ContextVar("using_reference", default=False)


class Op:
    """A function on arrays together with the rules of its gradient; see `op`."""

    def __init__(self, function, rules, forward=None, bind=None, into=None, reads=None, cases=(), domain=None):
        self.function, self.rules, self.into = function, rules, into
        self.cases, self.domain = cases, domain
        self.name, self.label = getattr(function, "__name__", str(function)), label(function)
        self.forward = forward or function
        self.bind: Callable = bind or (bind_ufunc if isinstance(function, np.ufunc) else bind_function)
        code = next(filter(None, rules)).__code__  # read as it is: inspect.signature of hundreds of rules would slow the import
        self.arity = code.co_argcount - 2  # inputs: all but g and y
        self.variadic = bool(code.co_flags & inspect.CO_VARARGS)
        self.joint = self.variadic or (len(rules) == 1 and self.arity > 1)  # one rule returns all gradients
        if not self.joint and len(rules) != self.arity:
            raise TypeError(
                f"op {self.label}: {len(rules)} rules for {self.arity} inputs; give each a rule or None, or one rule that returns all gradients"
            )
        positional = code.co_argcount + code.co_kwonlyargcount
        self.keywords = set(code.co_varnames[code.co_argcount : positional])
        self.any_keyword = bool(code.co_flags & inspect.CO_VARKEYWORDS)
        self.arguments = code.co_varnames[positional : positional + 1] if self.variadic else code.co_varnames[2 : code.co_argcount]
        self.y_name, self.reads = code.co_varnames[1], reads
        self.plans: dict[int, tuple] = {}

    # What takes time to find out is found when the op is first used.
    names = cached_property(lambda self: spelling(self.function)[0])
    defaults = cached_property(lambda self: spelling(self.function)[1])
    y_mask = cached_property(lambda self: self.readers(self.y_name))
    input_masks = cached_property(lambda self: [self.readers(name) for name in self.arguments])

    def readers(self, argument: str) -> int:
        """The bit mask of the rules that read this argument's array."""
        reads = [set() if rule is None else reads_of(rule) if self.reads is None else set(self.reads) for rule in self.rules]
        return sum(1 << i for i, read in enumerate(reads) if argument in read)

    def plan(self, tensors: int) -> tuple[Callable, bool]:
        """What a node saves of its inputs, and whether it keeps the output, when the bits of `tensors` tell which inputs are Tensors."""
        rules = ~0 if self.joint else tensors
        for i, rule in enumerate(self.rules):
            if rule is None and tensors >> i & 1:
                raise TypeError(f"{self.label}: input {i + 1} is a Tensor, but no rule gives it a gradient; pass t.value if you need none")
        plan = saver([bool(mask & rules) for mask in self.input_masks]), bool(self.y_mask & rules)
        if not self.variadic:
            self.plans[tensors] = plan
        return plan

    def __call__(self, *args, **kwargs):
        if kwargs or self.bind is not bind_ufunc:
            args, kwargs = self.bind(self, args, kwargs)
        elif len(args) == 1 and isinstance(args[0], Variable):  # written out, for speed
            x = args[0]
            return record(self, (x.value,), (x.node,), 1, self.forward(x.value), NO_PARAMS)
        return apply(self, args, kwargs)

    def pull(self, node, g, wanted, higher):
        """The gradient of each input whose node is `wanted` (None for others), given the gradient g of the output."""
        inputs, y, params, parents, rules = node.saved, node.y, node.params, node.parents, self.rules
        if y is None:
            y = node
        if higher:
            inputs = [v if p is None or v is p else make_tensor(v, p) for v, p in zip(inputs, parents)]
            y = y if y is node else outputs(node, y) if type(node.shape) is list else make_tensor(y, node)
        if params and not STORAGE.isdisjoint(params):
            params = {k: v for k, v in params.items() if k not in STORAGE}
        if self.joint:
            return [d if p in wanted else None for d, p in zip(rules[0](g, y, *inputs, **params), parents)]
        if not params:  # most calls are of these two forms: written out, for speed
            if len(rules) == 1:
                return (rules[0](g, y, inputs[0]),)
            if len(rules) == 2:
                (a, b), (of_a, of_b), (p, q) = inputs, rules, parents
                return of_a(g, y, a, b) if p in wanted else None, of_b(g, y, a, b) if q in wanted else None
        return [rule(g, y, *inputs, **params) if p in wanted else None for rule, p in zip(rules, parents)]


def saver(keep: list[bool]) -> Callable:
    """The function of (values, parents) that gives for each input its array, if a rule reads it, or what tells only its shape."""
    if all(keep):
        return lambda values, parents: values
    if len(keep) == 2:  # written out, for speed
        k, l = keep
        return lambda v, p: (v[0] if k else p[0] or stand_in(v[0]), v[1] if l else p[1] or stand_in(v[1]))
    return lambda values, parents: [v if k else p or stand_in(v) for v, p, k in zip(values, parents, cycle(keep))]


def apply(op: Op, inputs: Sequence, params: dict[str, Any] = NO_PARAMS) -> Any:
    """Run an op and record its node; with no Tensor among the inputs, only run it."""
    values, parents, tensors, bit = [], [], 0, 1
    for x in inputs:
        if isinstance(x, Variable):
            values.append(x.value)
            parents.append(x.node)
            tensors |= bit
        else:
            values.append(np.asarray(x) if isinstance(x, SEQUENCES) else x)
            parents.append(None)
        bit <<= 1
    return record(op, values, parents, tensors, op.forward(*values, **params), params)


def binary(op: Op, a: Any, b: Any) -> Any:
    """apply(op, (a, b)), written out for speed: most calls are of this form."""
    p = q = None
    if isinstance(a, Variable):
        a, p = a.value, a.node
    elif isinstance(a, SEQUENCES):
        a = np.asarray(a)
    if isinstance(b, Variable):
        b, q = b.value, b.node
    elif isinstance(b, SEQUENCES):
        b = np.asarray(b)
    return record(op, (a, b), (p, q), (p is not None) + 2 * (q is not None), op.forward(a, b), NO_PARAMS)


def record(op: Op, values: Sequence, parents: Sequence, tensors: int, y: Any, params: dict[str, Any]) -> Any:
    """y as a Tensor with its node; the bits of `tensors` tell which inputs are Tensors, and y stays an array if none is."""
    if not tensors:
        return y
    save, keep_y = op.plans.get(tensors) or op.plan(tensors)
    if type(y) is not np.ndarray:
        if isinstance(y, SEQUENCES):
            shapes, dtypes = [np.shape(v) for v in y], [np.asarray(v).dtype for v in y]
            node = make_node(op, parents, save(values, parents), y if keep_y else None, params, shapes, dtypes)
            if core.observer is not None:
                core.observer.forward(node, values, y)
            return outputs(node, y)
        y = np.asarray(y)  # NumPy returns scalars where an array would have no dimensions
    dtype = y.dtype
    if dtype.kind != "f":
        if dtype.kind == "c":
            raise TypeError(f"{op.label}: the result is complex ({dtype}), and Tensors are real; pass t.value if you need no gradient")
        return y
    node = make_node(op, parents, save(values, parents), y if keep_y else None, params, y.shape, dtype)
    if core.observer is not None:
        core.observer.forward(node, values, y)
    return make_tensor(y, node)


def outputs(node: Node, y: Sequence) -> Any:
    """The members of a multiple output: Tensors that pick theirs from `node`; integers stay arrays."""
    members = []
    for i, v in enumerate(map(np.asarray, y)):
        members.append(make_tensor(v, make_node(PICK, (node,), (), None, i, v.shape, v.dtype)) if v.dtype.kind == "f" else v)
    return like(y, members)


def op(function: Callable, *rules: Callable | None, **spec: Any) -> Op:
    """Register `function` with the rules of its gradient.

    A rule is `(g, y, *inputs, **params) -> gradient`: g is the gradient of the output y, params
    are keyword-only. Give one rule for each array input (None where there is no gradient), or
    one that returns them all. Options: `cases`, the calls that the tests try (shapes of the
    inputs, then a dict of keywords); `domain`, where the tests may sample; `forward`, what runs
    on arrays, if not `function`; `bind`, how a call's arguments become inputs and params;
    `into`, a rule that adds its gradient into a given buffer; `reads`, the arguments whose
    arrays the rules need, where reading the rules' code would find too many.
    """
    if not spec.get("cases"):
        raise TypeError(f"op {function.__name__}: cases= is missing; list the calls that the tests shall try")
    if function in table:
        raise ValueError(f"op {label(function)}: it has rules already; change these, or give the function another name")
    made = table[function] = Op(function, rules, **spec)
    registry.append(made)
    return made


class Composition:
    """A function made of other NumPy functions, which runs on Tensors as it stands."""

    def __init__(self, function, body, cases, domain):
        self.function, self.body, self.cases, self.domain = function, body, cases, domain
        self.name, self.label = function.__name__, label(function)

    names = cached_property(lambda self: spelling(self.function)[0])
    out = cached_property(lambda self: self.names.index("out") if "out" in self.names else math.inf)

    def __call__(self, *args, **kwargs):
        if len(args) > self.out:  # NumPy takes out=, and what follows it, by position too
            args, kwargs = args[: int(self.out)], dict(zip(self.names[int(self.out) :], args[int(self.out) :])) | kwargs
        if kwargs.pop("out", None) is not None:
            raise refuse_out(self.label)
        return self.body(*args, **kwargs)


def compose(function: Callable, body: Callable, *, cases: list, domain: Any = None) -> Callable:
    """Register `body`, plain NumPy that runs on Tensors, for `function`: all orders for free."""
    made = table[function] = Composition(function, body, cases, domain)
    registry.append(made)
    return body


def constant(*functions: Callable) -> None:
    """Register functions whose gradient is zero almost everywhere: they return plain arrays."""
    for function in functions:
        table[function] = partial(call_plain, function)
        constants.append(function)


def call_plain(function: Callable, *args, **kwargs) -> Any:
    if kwargs.get("out") is not None:
        raise refuse_out(label(function))
    return function(*plain(args), **plain(kwargs))


def plain(tree: Any) -> Any:
    """Nested lists, tuples and dicts with each Tensor replaced by its array."""
    return map_structure(lambda x, _: x.value if isinstance(x, Variable) else x, tree)


def refuse(reason: str, *functions: Callable) -> None:
    """Register functions that cannot have a gradient here, each raising with the reason."""

    def raise_reason(function, *args, **kwargs):
        raise TypeError(f"{label(function)} does not take a Tensor: {reason}")

    for function in functions:
        table[function] = partial(raise_reason, function)
        refused[function] = reason


# --- kernels ----------------------------------------------------------------------------


class Fused:
    """A kernel: a fast forward and backward on raw arrays beside a reference that means the same."""

    into = None

    def __init__(self, name, forward, backward, reference, cases, domain):
        self.name = self.label = name
        self.forward, self.backward, self.reference = forward, backward, reference
        self.cases, self.domain = cases, domain
        self.__name__, self.__doc__ = name, reference.__doc__

    def __call__(self, *inputs, **params):
        values, parents, tensors = [], [], False
        for x in inputs:
            if isinstance(x, Variable):
                values.append(x.value)
                parents.append(x.node)
                tensors = True
            else:
                values.append(x)
                parents.append(None)
        if params and any(isinstance(v, Variable) for v in params.values()):
            raise TypeError(
                f"{self.name}: only its arrays have gradients, and {', '.join(params)} are numbers; pass t.value, or compute it apart"
            )
        if using_reference.get() or not suits(values):
            return self.reference(*inputs, **params)
        y, saved = self.forward(*values, **params)
        if not tensors:
            return y
        node = make_node(self, parents, values, saved, params, y.shape, y.dtype)  # saved stands in the place of y
        if core.observer is not None:
            core.observer.forward(node, values, y)
        return make_tensor(y, node)

    def pull(self, node, g, wanted, higher):
        needs = [p in wanted for p in node.parents]
        if not higher:
            pulled = self.backward(g, node.y, *node.saved, needs=needs, **node.params)
            return [d if need else None for d, need in zip(pulled, needs)]
        # A kernel works on raw arrays: a gradient of its gradient comes from the reference.
        inputs = [v if p is None else IDENTITY(make_tensor(v, p)) for v, p in zip(node.saved, node.parents)]
        y = self.reference(*inputs, **node.params)
        targets = [x.node for x, need in zip(inputs, needs) if need]
        found = walk({y.node: g}, targets, higher=True)
        return [found.get(x.node) if need else None for x, need in zip(inputs, needs)]


def suits(values: Sequence) -> bool:
    """Kernels take arrays with elements, all float32 or all of a wider type; their twins take the rest: mixed types, float16, numbers."""
    dtype = None
    for v in values:
        if v is not None:
            if type(v) not in ARRAYS or not v.size or (v.dtype is not dtype and dtype is not None and v.dtype != dtype):
                return False
            dtype = v.dtype
    return dtype is not None and dtype.kind == "f" and dtype.itemsize >= 4


def fused(name: str, forward: Callable, backward: Callable, reference: Callable, *, cases: list, domain: Any = None) -> Fused:
    """Register a kernel beside its transparent twin.

    forward(*arrays, **params) -> (y, saved); backward(g, saved, *arrays, needs, **params) ->
    a gradient for each array, anything (such as None) where `needs` is false; reference: the same
    function in plain NumPy, for higher orders, for arrays that do not suit a kernel, and in `reference()`.
    """
    made = Fused(name, forward, backward, reference, cases, domain)
    registry.append(made)
    return made


@contextmanager
def reference() -> Iterator[None]:
    """Inside `with reference():` every kernel runs its transparent twin: same numbers, slower, readable."""
    token = using_reference.set(True)
    try:
        yield
    finally:
        using_reference.reset(token)


def _identity(x):
    return x


IDENTITY = Op(_identity, (lambda g, y, x: g,))  # a fresh node for a value
