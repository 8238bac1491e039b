"""Functions of functions: grad, vjp, jvp, hvp, jacobian, hessian, checkpoint, custom_vjp.

Each takes a function of arrays and gives a function of arrays. Inside, every differentiated
argument becomes a fresh Tensor (a fresh child of it, if it is a Tensor already), so that
nested transforms never confuse their variables. If the function also reads Tensors from
outside, the results are Tensors that depend on them; otherwise they are arrays.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from types import CodeType, FunctionType, MethodType
from typing import Any

from tinygrad_notes.binding import SEQUENCES, describe, map_structure
from tinygrad_notes.core import FREED, NO_PARAMS, Node, Variable, make_node, rerunning, tick, walk
from tinygrad_notes.registry import IDENTITY, Op, outputs, plain
from tinygrad_notes.tensor import Tensor

import numpy as np


def stop_gradient(x: Any) -> Any:
    """x as a constant: the array of a Tensor (of each Tensor in lists, tuples, dicts); arrays as they are."""
    return plain(x)


def custom_vjp(f: Callable, *rules: Callable | None) -> Callable:
    """f, a function of arrays, with gradient rules of its own: one for each argument, or one that returns all.

    A rule is `(g, y, *arguments) -> gradient`, as for every op (see CONTRIBUTING.md). Written with
    NumPy functions it has gradients itself. Example: a straight-through rounding is
    `custom_vjp(np.round, lambda g, y, x: g)`.
    """
    if not any(rules) or not all(rule is None or hasattr(rule, "__code__") for rule in rules):
        raise TypeError(
            f"custom_vjp: the rules are {rules}, expected Python functions (g, y, *arguments) -> gradient, at least one of them"
        )
    op = Op(f, rules)
    return wraps(f)(lambda *args, **kwargs: op(*args, **kwargs))


# --- first derivatives --------------------------------------------------------------------


class _Run:
    """One evaluation of f on fresh children of the arguments `argnums` (...: of all). `name`: what was called, for errors."""

    def __init__(self, name, f, args, argnums: Any = ..., kwargs=NO_PARAMS):
        self.name, self.several, self.since = name, argnums is ... or isinstance(argnums, SEQUENCES), tick()
        places = range(len(args)) if argnums is ... else self.places(argnums if self.several else (argnums,), len(args))
        children = {i: map_structure(self.child, args[i]) for i in places}
        self.children = list(children.values())
        self.y = f(*(children.get(i, x) for i, x in enumerate(args)), **kwargs)
        self.outer = bool(captured(tensors(self.y), self.since))  # does the result depend on Tensors from outside?

    def places(self, argnums, n):
        """Where the differentiated arguments stand among n, counted from 0, each once."""
        places = [i % n for i in argnums if isinstance(i, int | np.integer) and -n <= i < n]
        if not places or len({*places}) < len(argnums):
            raise TypeError(
                f"{self.name}: argnums={', '.join(map(repr, argnums)) or ()}, but {n} positional arguments came; expected different integers from {-n} up to, but not including, {n}; pass what is differentiated by position"
            )
        return places

    def child(self, x, path):
        if isinstance(x, Variable):
            return IDENTITY(x)
        if np.asarray(x).dtype.kind != "f":
            raise TypeError(
                f"{self.name}: {describe(x)} has no gradient, expected floating-point numbers, such as 3.0 or x.astype(np.float32)"
            )
        return Tensor(x)

    def release(self, y):
        """y for the caller: Tensors only if they depend on anything from outside."""
        return y if self.outer else plain(y)

    def pull(self, cotangents: dict[Node, Any], higher: bool, retain: bool = False) -> list:
        found = walk(cotangents, [t.node for t in tensors(self.children)], higher, retain)
        return [map_structure(lambda t, _: _zeros_unless(found.get(t.node), t), child) for child in self.children]

    def gradient(self, has_aux: bool = False) -> Any:
        """The gradient of the result, which is one number: a tuple, if several arguments were chosen."""
        if has_aux and not (isinstance(self.y, SEQUENCES) and len(self.y) == 2):
            raise TypeError(f"{self.name}: the function returned {describe(self.y)}, expected (number, anything), as has_aux=True says")
        y = self.y[0] if has_aux else self.y
        if isinstance(y, SEQUENCES) or np.asarray(plain(y)).dtype.kind not in "fiub" or np.size(y) != 1:
            raise ValueError(f"{self.name}: the function returned {describe(y)}, expected one number; use vjp or jacobian for more")
        seeds = {y.node: np.ones_like(y.value)} if isinstance(y, Variable) else {}
        grads = self.pull(seeds, higher=self.outer)
        return tuple(grads) if self.several else grads[0]

    def jacobian(self) -> Any:
        """All partial derivatives of the result, which is one array."""
        x, y = self.children[0], self.y
        if not isinstance(x, Variable) or isinstance(y, tuple | list | dict):
            raise TypeError(f"{self.name}: the argument and the result must be one array each; use vjp for structures")
        self.check(y)
        if not isinstance(y, Variable):
            return np.zeros(np.shape(y) + x.shape, x.dtype)
        rows = []
        for i in range(y.size):
            unit = np.eye(1, y.size, i, y.dtype).reshape(y.shape)
            rows.append(self.pull({y.node: unit}, higher=self.outer, retain=True)[0])
        return np.reshape(np.stack(rows), y.shape + x.shape) if rows else np.zeros(y.shape + x.shape, x.dtype)

    def check(self, y, path=""):
        if np.asarray(plain(y)).dtype.kind not in "fiub":
            raise TypeError(f"{self.name}: the function returned {describe(y)}, expected a number, an array of numbers or a Tensor")


def _zeros_unless(g, t):
    return np.zeros_like(t.value) if g is None else g


def tensors(tree: Any) -> list:
    """The Tensors in nested lists, tuples and dicts."""
    found: list = []
    map_structure(lambda x, _: found.append(x) if isinstance(x, Variable) else None, tree)
    return found


def captured(roots: Sequence[Any], since: int) -> list[Node]:
    """The newest nodes from before the tick `since` on each way back from `roots`: what a function took from outside."""
    seen = {t.node for t in roots}
    stack, found = list(seen), []
    while stack:
        node = stack.pop()
        if node.order < since:
            found.append(node)
        elif node.parents is not FREED:
            new = {p for p in node.parents if p is not None and p not in seen}
            seen |= new
            stack += new
    return sorted(found, key=lambda node: node.order)


def _cotangents(y: Any, g: Any, name: str) -> dict[Node, Any]:
    """Pair the Tensors of y with the members of g, which has y's structure."""
    seeds: dict[Node, Any] = {}
    flat_y, flat_g = [], []
    map_structure(lambda m, _: flat_y.append(m), y)
    map_structure(lambda m, _: flat_g.append(m), g)
    if len(flat_y) != len(flat_g):
        raise ValueError(f"{name}: {len(flat_g)} vectors came for {len(flat_y)} arrays; give the same structure")
    for t, v in zip(flat_y, flat_g):
        v = v if isinstance(v, Variable) else np.asarray(v, getattr(t, "dtype", None))
        if v.shape != np.shape(t):
            raise ValueError(f"{name}: a vector has shape {v.shape}, expected {np.shape(t)}, the shape of its array")
        if isinstance(t, Variable):
            seeds[t.node] = seeds[t.node] + v if t.node in seeds else v
    return seeds


def value_and_grad(f: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that returns (f(...), its gradient in the arguments `argnums`).

    f returns one number (else ValueError), or (number, anything) with has_aux=True. An argument is an array, a number, or nested
    lists, tuples and dicts of them; its gradient has the same structure, and is zero where f does not depend on it.
    """

    @wraps(f)
    def run(*args, **kwargs):
        run = _Run("value_and_grad", f, args, argnums, kwargs)
        return run.release(run.y), run.gradient(has_aux)

    return run


def grad(f: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The gradient of f, a function that returns one number; with has_aux=True, (gradient, aux). See value_and_grad."""

    @wraps(f)
    def run(*args, **kwargs):
        run = _Run("grad", f, args, argnums, kwargs)
        g = run.gradient(has_aux)
        return (g, run.release(run.y[1])) if has_aux else g

    return run


def vjp(f: Callable, *args: Any) -> tuple[Any, Callable]:
    """f(*args), and the function that maps a vector v of the shape of f(*args) to v^T J: a tuple, one per argument."""
    run = _Run("vjp", f, args)
    map_structure(run.check, run.y)

    def pull(v):
        return tuple(run.pull(_cotangents(run.y, v, "vjp"), run.outer or bool(tensors(v)), retain=True))

    return run.release(run.y), pull


def jvp(f: Callable, args: Any, tangents: Any) -> tuple[Any, Any]:
    """f(*args) and its derivative J v along v = `tangents`. args: the argument, or a tuple of them; tangents have its structure.

    Forward mode from the reverse rules: v^T J is linear in v, and its transpose is J.
    """
    args, tangents = (args, tangents) if isinstance(args, tuple) else ((args,), (tangents,))
    run = _Run("jvp", f, args)
    map_structure(run.check, run.y)
    dummies = map_structure(lambda t, _: Tensor(np.zeros_like(t.value)) if isinstance(t, Variable) else np.zeros_like(t), run.y)
    pulled = run.pull(_cotangents(run.y, dummies, "jvp"), higher=True)
    seeds = _cotangents(pulled, list(tangents), "jvp")
    found = walk(seeds, [d.node for d in tensors(dummies)], higher=run.outer or bool(tensors(tangents)))
    return run.release(run.y), map_structure(lambda d, _: _zeros_unless(found.get(d.node), d) if isinstance(d, Variable) else d, dummies)


def hvp(f: Callable, args: Any, tangents: Any) -> Any:
    """The product of the Hessian of f, which returns one number, with `tangents`: reverse over reverse.

    args: the argument, or a tuple of arguments; tangents and the result have its structure.
    """
    single = not isinstance(args, tuple)
    args, tangents = ((args,), (tangents,)) if single else (args, tangents)
    run = _Run("hvp", lambda *xs: _Run("hvp", f, xs).gradient(), args)
    product = run.pull(_cotangents(run.y, tangents, "hvp"), run.outer or bool(tensors(tangents)))
    return product[0] if single else tuple(product)


def jacobian(f: Callable, argnum: int = 0) -> Callable:
    """The function that returns all partial derivatives, in an array of shape f(...).shape + argument.shape."""
    return wraps(f)(lambda *args, **kwargs: _Run("jacobian", f, args, (argnum,), kwargs).jacobian())


def hessian(f: Callable, argnum: int = 0) -> Callable:
    """The function that returns all second derivatives of f, which returns one number: argument.shape twice."""
    slope = lambda *args, **kwargs: _Run("hessian", f, args, (argnum,), kwargs).gradient()[0]
    return wraps(f)(lambda *args, **kwargs: _Run("hessian", slope, args, (argnum,), kwargs).jacobian())


# --- checkpoint ----------------------------------------------------------------------------


def checkpoint(f: Callable) -> Callable:
    """f with its inner graph dropped, and computed again when a gradient is asked for.

    Trades one more forward pass for the memory of all that lies between f's inputs and its
    result (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). The Tensors that
    f reaches, as arguments or otherwise, become the inputs of one node. The second run draws
    the same random numbers (every Generator that f can reach is set back) and leaves the
    buffers of normalisation layers alone.
    """

    @wraps(f)
    def run(*args, **kwargs):
        generators = generators_in(f, args, kwargs)
        states = [g.bit_generator.state for g in generators]
        since = tick()
        y = f(*args, **kwargs)
        members = tensors(y)
        inputs = captured(members, since)
        if not inputs:
            return y
        values = [t.value for t in members]
        op = _Recompute(lambda: tensors(f(*args, **kwargs)), list(zip(generators, states)), [few_of(v) for v in values])
        node = make_node(op, inputs, (), None, NO_PARAMS, [v.shape for v in values], [v.dtype for v in values])
        new = iter(outputs(node, values))
        return map_structure(lambda t, _: next(new) if isinstance(t, Variable) else t, y)

    return run


class _Recompute:
    """The op of a checkpoint's node: run the function again, and walk through the graph of that run."""

    name, label, into = "checkpoint", "checkpoint", None

    def __init__(self, rerun, states, first):
        self.rerun, self.states, self.first = rerun, states, first

    def pull(self, node, g, wanted, higher):
        with _replayed(self.states):
            y = self.rerun()
        second = [few_of(t.value) for t in y]
        if len(second) != len(self.first) or not all(map(alike, second, self.first)):
            raise RuntimeError(
                "checkpoint: the second run gave other values than the first, so its gradient would be wrong; pass every Generator as an argument, and keep no other state"
            )
        found = walk(_cotangents(y, g, "checkpoint"), [p for p in node.parents if p in wanted], higher)
        return [found.get(p) for p in node.parents]


def few_of(v: np.ndarray) -> np.ndarray:
    """Up to 64 of the numbers of an array, from all over it."""
    return np.array(v.reshape(-1)[:: max(1, v.size // 64)])


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two runs of one program gave these: up to rounding, since sums may be taken in another order on other threads."""
    largest = np.max(np.abs(b), initial=0, where=np.isfinite(b))
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3 * largest, equal_nan=True)


@contextmanager
def _replayed(states) -> Iterator[None]:
    now = [g.bit_generator.state for g, _ in states]
    token = rerunning.set(True)
    try:
        for g, state in states:
            g.bit_generator.state = state
        yield
    finally:
        rerunning.reset(token)
        for (g, _), state in zip(states, now):
            g.bit_generator.state = state


def generators_in(*objects: Any) -> list[np.random.Generator]:
    """Every random Generator that can be reached: members, attributes, closures, defaults, the globals a function names."""
    found: list[np.random.Generator] = []
    seen: set[int] = set()
    stack = list(objects)
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, type | np.ndarray | Variable | str | int | float):
            continue
        seen.add(id(x))
        if isinstance(x, np.random.Generator):
            found.append(x)
        elif isinstance(x, dict):
            stack += x.values()
        elif isinstance(x, list | tuple | set):
            stack += x
        elif isinstance(x, MethodType):
            stack += (x.__self__, x.__func__)
        elif isinstance(x, partial):
            stack += (x.func, x.args, x.keywords)
        elif isinstance(x, FunctionType):
            cells = [cell.cell_contents for cell in x.__closure__ or () if _filled(cell)]
            named = [x.__globals__[name] for name in _names_in(x.__code__) if name in x.__globals__]
            stack += [*cells, *named, x.__defaults__, x.__kwdefaults__]
        elif hasattr(x, "__dict__") and not hasattr(x, "__spec__"):  # an object, but not a module
            stack += [vars(x), *(vars(base).get("__call__") for base in type(x).__mro__)]
    return found


def _names_in(code: CodeType) -> set[str]:
    """The names that a function reads, and those that its comprehensions, lambdas and inner functions read."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _filled(cell) -> bool:
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:  # a variable that is not assigned yet
        return False
