"""The engine: values with nodes, NumPy's protocols, and the backward walk.

A Tensor is a value and a node. A node remembers which operation made the value, the nodes
of its inputs, and only those arrays that the operation's rules read. Hand a Tensor to a
NumPy function and NumPy hands the call to us (`__array_ufunc__` of NEP 13 and
`__array_function__` of NEP 18): the function runs on the plain arrays and a node is
recorded. `walk` goes from results back to inputs and applies the chain rule.
"""

import importlib
import itertools
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from operator import attrgetter
from typing import Any

from tinygrad_notes.binding import check_value, describe, label, map_leaves, map_structure

import numpy as np

tick = itertools.count(1).__next__  # one clock orders nodes and updates; atomic under the GIL
observer: Any = None  # an object with forward(node, inputs, y) and backward(node, i, g); None is off
rerunning = ContextVar("rerunning", default=False)  # True while checkpoint repeats a forward pass
table: dict[Any, Any] = {}  # what a NumPy function does when an argument is a Tensor
NO_PARAMS: dict[str, Any] = {}
FREED: Any = ("freed",)  # stands in for the parents of a node whose memory was given back
PICK: Any = "pick"  # the op of a member of a multiple output
# Modules, and where the rules of their functions are: imported when a rule is first missed, since that costs time.
LATE = {"scipy.special": "tinygrad_notes.ops.special", "numpy.lib.recfunctions": "tinygrad_notes.ops.structured"}


class Node:
    """Where a value came from: `op` applied to the values of `parents` (None for a constant).

    `saved` holds the array of each input that a rule reads, `y` the output likewise. To a
    rule that asks only for .shape, .ndim, .dtype or .size, the node itself stands in. A node of
    several outputs has lists of shapes and dtypes, that of a kernel in `y` what forward saved.
    """

    __slots__ = ("dtype", "op", "order", "params", "parents", "saved", "shape", "y")
    version = 0  # the tick of the last change in place: only leaves change

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))


class Leaf(Node):
    """The node of a variable that no operation made."""

    __slots__ = ("grad", "memory", "name", "version")
    last_touch = 0  # the newest version of all leaves: graphs made since then cannot be stale

    def __init__(self, shape, dtype, name=None):
        self.op, self.parents, self.saved, self.y, self.params = None, (), (), None, NO_PARAMS
        self.shape, self.dtype, self.order = shape, dtype, tick()
        self.grad, self.name, self.version = None, name, 0
        self.memory: Any = None  # the array that tree.own moved the value into

    def touch(self) -> None:
        """Record that the value was changed in place: every graph made before now is stale."""
        self.version = Leaf.last_touch = tick()

    def __repr__(self) -> str:
        return f"{self.name or 'an unnamed leaf'} {self.shape} {self.dtype}"


class Variable:
    """What the engine needs of a Tensor: the value, the node, and NumPy's two protocols."""

    __slots__ = ("__weakref__", "node", "value")
    value: np.ndarray
    node: Any  # a Node
    shape: Any
    dtype: Any
    ndim: int
    size: int

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        key = ufunc if method == "__call__" else (ufunc, method)
        return (table.get(key) or no_rule(key))(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return (table.get(function) or no_rule(function))(*args, **kwargs)


def no_rule(key: Any) -> Callable:
    """What to call for a key that `table` lacks: a late rule, or TypeError."""
    for module, rules in LATE.items():
        if module in sys.modules and rules not in sys.modules:
            importlib.import_module(rules)
            return table.get(key) or no_rule(key)
    name = f"{label(key[0])}.{key[1]}" if isinstance(key, tuple) else label(key)
    raise TypeError(
        f"{name} is not differentiable here: no rule. Add one block in ops/ (see CONTRIBUTING.md), or pass t.value if you need no gradient"
    )


tensor_class: type = Variable  # tensor.py puts Tensor here: the one name that core takes from below it
_new = object.__new__


def make_node(op, parents, saved, y, params, shape, dtype) -> Node:
    node = _new(Node)  # not Node(...): twice as fast
    node.op = op
    node.parents = parents
    node.saved = saved
    node.y = y
    node.params = params
    node.shape = shape
    node.dtype = dtype
    node.order = tick()
    return node


def make_tensor(value: Any, node: Node) -> Any:
    t = _new(tensor_class)
    t.value = value
    t.node = node
    return t


# --- the backward walk ------------------------------------------------------------------


def path_between(roots: Iterable[Node], targets: set[Node]) -> list[Node]:
    """The nodes on a path from a root to a target, oldest first. Targets are never passed."""
    oldest = min([target.order for target in targets], default=0)
    seen = set(roots)
    stack, found = [root for root in seen if root not in targets], []
    seen |= targets
    dead_ends = False
    while stack:  # no recursion: a chain of 100,000 ops is as good as one of ten
        node = stack.pop()
        found.append(node)
        parents = node.parents
        if parents is FREED:
            raise RuntimeError(
                f"the graph was freed by an earlier walk (at {_name(node)} {node.shape}); compute the loss again, or pass retain_graph=True to the first walk"
            )
        if node.op is None:
            dead_ends = True
        for parent in parents:
            if parent is not None and parent not in seen:
                if parent.order >= oldest:
                    seen.add(parent)
                    stack.append(parent)
                else:
                    dead_ends = True
    found.sort(key=attrgetter("order"))
    path = leading_to(targets, found) if dead_ends else found
    if path and path[0].order < Leaf.last_touch:
        for node in path:
            for parent in node.parents:
                if parent is not None and parent.version > node.order:
                    raise RuntimeError(
                        f"stale graph: {parent!r} was updated after {_name(node)} {node.shape} read it; compute the loss again after each update"
                    )
    return path


def leading_to(targets: set[Node], nodes: list[Node]) -> list[Node]:
    """Those of `nodes`, which come oldest first, that depend on a target."""
    on_path, path = set(targets), []
    for node in nodes:
        if not on_path.isdisjoint(node.parents):
            on_path.add(node)
            path.append(node)
    return path


def walk(seeds: dict[Node, Any], targets: Iterable[Node], higher: bool = False, retain: bool = False) -> dict[Node, Any]:
    """Gradients of sum(<seed, root>) at the `targets`, those that any root depends on.

    `higher` records the walk itself, so that its results are Tensors; otherwise arrays that
    own their memory. Nodes give back their arrays as the walk leaves them, unless `retain`.
    """
    wanted = set(targets)
    path = path_between(seeds, wanted)
    on_path = wanted.union(path)
    grads: dict[Node, Any] = {root: g for root, g in seeds.items() if root in on_path}
    owned: set[Node] = set()  # nodes whose gradient is an array that nobody else holds
    retain = retain or higher
    while path:
        node = path.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        op, parents = node.op, node.parents
        if op is PICK:
            source, i = parents[0], node.params
            members = grads.setdefault(source, [None] * len(source.shape))
            members[i] = g if members[i] is None else members[i] + g  # a higher order picks the same member again
        elif op.into is not None and not higher:  # indexing adds into one buffer instead of making many
            parent = parents[0]
            if parent not in owned or not isinstance(grads[parent], np.ndarray):  # a sum of numbers is a scalar
                grads[parent] = np.array(grads[parent]) if parent in grads else np.zeros(parent.shape, parent.dtype)
                owned.add(parent)
            op.into(grads[parent], g, **node.params)
        else:
            if type(g) is list:
                g = [np.zeros(s, d) if m is None else m for m, s, d in zip(g, node.shape, node.dtype)]
            pulled = op.pull(node, g, on_path, higher)
            for i, (parent, d) in enumerate(zip(parents, pulled)):
                if d is None:
                    continue
                if observer is not None:
                    observer.backward(node, i, d)
                if d.shape != parent.shape:
                    d = unbroadcast(d, parent.shape)
                if d.dtype is not parent.dtype and d.dtype != parent.dtype:
                    d = d.astype(parent.dtype)
                before = grads.get(parent)
                if before is None:
                    grads[parent] = d
                    if parent.op is None and d is not g and isinstance(d, np.ndarray) and d.base is None and not given_twice(d, g, pulled):
                        owned.add(parent)
                elif parent in owned and not higher:
                    before += d
                    grads[parent] = before
                else:
                    grads[parent] = before + d
                    owned.add(parent)
        if not retain:
            node.parents = FREED
            node.saved = node.y = None
    return {t: g if higher else np.asarray(g) if t in owned else np.array(g) for t, g in grads.items() if t in wanted}


def given_twice(d: np.ndarray, g: Any, pulled: Any) -> bool:
    """Whether a rule gave d, or a view of it, to another input too, or took it from the list g of a multiple output."""
    times = 0
    for other in (*pulled, *g) if type(g) is list else pulled:
        if other is d or (isinstance(other, np.ndarray) and other.base is d):
            times += 1
    return times > 1


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum g over the axes along which an input of this shape was repeated."""
    extra = g.ndim - len(shape)
    repeated = [i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1]
    return np.reshape(np.sum(g, axis=(*range(extra), *repeated)), shape)


def _name(node: Node) -> str:
    return node.op if isinstance(node.op, str) else node.op.label


def gradients(loss: Any, params: Any, *, unused: str = "zeros", create_graph: bool = False, retain_graph: bool = False) -> Any:
    """d(loss)/d(params), in the structure of `params`.

    loss: a Tensor with one element. params: a Tensor, or lists, tuples and dicts of Tensors,
    leaves of the graph or not. Returns arrays of the shapes and dtypes of the params (Tensors
    with create_graph=True, which keeps the graph so that they can be differentiated again).
    unused: what a param gets that the loss does not depend on, "zeros" or a ValueError ("raise").
    RuntimeError: a graph walked before, or updated since; TypeError: no Tensor; ValueError: a loss of another size.
    """
    if not isinstance(loss, Variable):
        raise TypeError(
            f"gradients: loss is {describe(loss)}, expected a Tensor; it depends on no Tensor, so there is nothing to differentiate"
        )
    if loss.value.size != 1:
        raise ValueError(f"gradients: loss has shape {loss.value.shape}, expected one number; use loss.sum(), loss.mean() or vjp")
    if unused not in ("zeros", "raise"):
        raise ValueError(f"gradients: unused={unused!r}, expected 'zeros' or 'raise'")
    leaves: list[Any] = []
    map_leaves(leaves.append, params)

    def where(leaf):
        """The path of a member of params, for errors."""
        paths: list[str] = []
        map_structure(lambda p, path: paths.append(path) if p is leaf else None, params)
        return paths[0] and "." + paths[0]

    for p in leaves:
        if not isinstance(p, Variable):
            raise TypeError(f"gradients: params{where(p)} is {describe(p)}, expected a Tensor; an array is a constant")
        if getattr(p.value, "shape", None) != p.node.shape:
            check_value(f"gradients: params{where(p)}", p)
    seed = np.ones(loss.value.shape, loss.value.dtype)
    found = walk({loss.node: seed}, [p.node for p in leaves], create_graph, retain_graph)
    given: set[Node] = set()

    def give(p):
        g = found.get(p.node)
        if g is None:
            if unused == "raise":
                raise ValueError(
                    f"gradients: the loss does not depend on params{where(p)} {p.value.shape}; leave it out, or pass unused='zeros'"
                )
            g = np.zeros_like(p.value)
        if create_graph:
            return g if isinstance(g, Variable) else make_tensor(g, Leaf(g.shape, g.dtype))
        if p.node in given:  # each gradient owns its memory
            return g.copy()
        given.add(p.node)
        return g

    return map_leaves(give, params)
