"""What a drawing says: the boxes of a graph in order, with the value and the gradient of each.

Nodes keep only what rules read, so that most values have to be found: see `values_of`. Gradients
come from the engine's own walk, taken one node at a time: see `gradients_of`.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_notes import core
from tinygrad_notes.binding import STORAGE, Shape
from tinygrad_notes.core import FREED, PICK, Node, Variable, walk
from tinygrad_notes.registry import IDENTITY, Fused, Op, registry

import numpy as np

MOST = 300  # nodes: a chain of them is ten metres of paper
LONGEST = 36  # characters of a line
NOT_KEPT = "value not kept"
LOST = object()  # no value, in the place of one
VARIABLE, CONSTANT, RESULT, LOSS = "variable", "constant", "result", "loss"


@dataclass
class Box:
    """One node of the drawing: its kind, and what stands in it."""

    kind: str
    title: str
    note: str  # beside the title: the operation, where the title is a name, and its keywords
    shape: str
    value: str
    grad: str | None  # None: it has none, being constant


class Recorder:
    """An observer that keeps what every operation reads and gives."""

    def __init__(self):
        self.seen: dict[Node, tuple[Sequence, Any]] = {}

    def __enter__(self):
        self.outer, core.observer = core.observer, self
        return self

    def __exit__(self, *error) -> None:
        core.observer = self.outer

    def forward(self, node: Node, inputs: Sequence[Any], y: Any) -> None:
        self.seen[node] = inputs, y
        if self.outer is not None:
            self.outer.forward(node, inputs, y)

    def backward(self, node: Node, i: int, g: Any) -> None:
        if self.outer is not None:
            self.outer.backward(node, i, g)


def contents_of(loss: Any, names: dict[str, Any], seen: dict[Node, tuple[Sequence, Any]]) -> tuple[list[Box], list[tuple[int, int]]]:
    """The boxes, inputs before what is made of them, and the edges between them as pairs of numbers of boxes.

    names: what the caller calls Tensors and arrays; seen: node -> (inputs, output), for nodes that a Recorder saw.
    """
    nodes = nodes_above(loss.node)
    named = {x.node: (name, x.value) for name, x in names.items() if isinstance(x, Variable)}
    known = {loss.node: loss.value} | {node: value for node, (_, value) in named.items()}
    inputs = {node: seen[node][0] if node in seen else node.saved or node.parents for node in nodes}
    values, grads = values_of(nodes, inputs, known | {node: y for node, (_, y) in seen.items()}), gradients_of(loss, nodes)
    array_names = {id(x): name for name, x in names.items() if isinstance(x, np.ndarray)}
    boxes: list[Box] = []
    edges: list[tuple[int, int]] = []
    number: dict[Any, int] = {}  # of the box of a node, and of the id of an array

    def add(key, box):
        number[key] = len(boxes)
        boxes.append(box)

    for node in nodes:
        sources: list[Any] = []
        for i, (parent, x) in enumerate(zip(node.parents, inputs[node])):
            if parent is not None:
                sources.append(parent)
            elif x is not None:  # None is an argument that was left out, a bias perhaps
                key = id(x) if isinstance(x, np.ndarray) else (node, i)
                if key not in number:
                    add(key, constant_box(x, array_names.get(id(x))))
                sources.append(key)
        name = named[node][0] if node in named else getattr(node, "name", None)
        kind = LOSS if node is loss.node else VARIABLE if node.op is None else RESULT
        add(node, node_box(node, kind, name, values.get(node), grads.get(node)))
        edges += [(number[source], number[node]) for source in sources]
    return boxes, edges


def nodes_above(root: Node) -> list[Node]:
    """Every node that root depends on, and root itself, oldest first."""
    found, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.parents is FREED:
            raise RuntimeError(
                "draw: the graph was freed by an earlier walk; draw before gradients(loss, ...), or pass retain_graph=True to it"
            )
        for parent in node.parents:
            if parent is not None and parent not in found:
                found.add(parent)
                stack.append(parent)
        if len(found) > MOST:
            raise ValueError(
                f"draw: the graph has more than {MOST} nodes, which nobody can read; draw fewer steps, layers or examples of the same program"
            )
    return sorted(found, key=lambda node: node.order)


def values_of(nodes: list[Node], inputs: dict[Node, Sequence], known: dict[Node, Any]) -> dict[Node, Any]:
    """The value of each node, where it can be found; inputs: what each node holds of its inputs; known: values that the caller has.

    A value may be held by its own node (where the rule reads the output), or by a node that reads it. Else it is computed again from
    its inputs. A leaf, or what is made of a constant that was dropped, may be the value of a Tensor that is alive somewhere:
    nodes do not hold their Tensors, so that graphs are freed, but the collector of circles knows all objects. Else it is lost.
    """
    values = dict(known)
    for node in nodes:
        if isinstance(node.op, Op) and node.y is not None:
            values.setdefault(node, node.y)
        for parent, x in zip(node.parents, inputs[node]):
            if parent is not None and isinstance(x, np.ndarray):
                values.setdefault(parent, x)
    run_again(nodes, inputs, values)
    missing = {node for node in nodes if node not in values}
    if missing:
        alive = [x for x in gc.get_objects() if type(x) is core.tensor_class]  # not isinstance, which asks the objects of others
        values |= {t.node: t.value for t in alive if getattr(t, "node", None) in missing}  # another thread may be making one
        run_again(nodes, inputs, values)
    return values


def run_again(nodes: list[Node], inputs: dict[Node, Sequence], values: dict[Node, Any]) -> None:
    """Add to `values` what registered operations, which give the same every time, make of what is there."""
    repeatable = {*registry, IDENTITY}
    for node in nodes:
        if node in values:
            continue
        if node.op is PICK:
            if node.parents[0] in values:
                values[node] = values[node.parents[0]][node.params]
        elif node.op in repeatable:
            given = [x if parent is None else values.get(parent, LOST) for parent, x in zip(node.parents, inputs[node])]
            if not any(x is LOST or isinstance(x, Shape) for x in given):
                y = node.op.forward(*given, **node.params)
                values[node] = y[0] if isinstance(node.op, Fused) else y


def gradients_of(loss: Any, nodes: list[Node]) -> dict[Node, np.ndarray]:
    """d(loss)/d(value) of every node: one walk, taken a step at a time, since a walk gives gradients at its ends only.

    Each step starts from one node (from the members of a multiple output) and from what its inputs have got so
    far, so that everything is added in the order in which `gradients` adds it: the results are the same bits.
    """
    grads: dict[Node, Any] = {loss.node: np.ones(loss.value.shape, loss.value.dtype)}
    members: dict[Node, list[Node]] = {}
    for node in reversed(nodes):
        if node.op is PICK:
            members.setdefault(node.parents[0], []).append(node)
            continue
        parents = {parent for parent in node.parents if parent is not None}
        starts = [start for start in members.get(node, [node]) if start in grads]
        if parents and starts:
            grads |= walk({x: grads[x] for x in [*starts, *parents] if x in grads}, parents, retain=True)
    return grads


# --- words ---------------------------------------------------------------------------------------


def constant_box(x: Any, name: str | None) -> Box:
    value = NOT_KEPT if isinstance(x, Shape) else f"value {words(np.asarray(x))}"
    return Box(CONSTANT, cut(name or "constant"), "", kind_of(x), value, None)


def node_box(node: Node, kind: str, name: str | None, value: Any, grad: Any) -> Box:
    if node.op is None:
        title, note = name or "variable", ""
    else:
        op = f"output {node.params}" if node.op is PICK else node.op.label
        title, note = (name, f"{op} {keywords_of(node)}") if name else (op, keywords_of(node))
    if isinstance(node.shape, list):
        return Box(kind, cut(title), cut(note, the_end=True), f"{len(node.shape)} outputs", "", "")
    if grad is None:  # no rule gave it one
        grad = np.zeros(node.shape, node.dtype)
    return Box(
        kind,
        cut(title),
        cut(note.strip(), the_end=True),
        kind_of(node),
        NOT_KEPT if value is None else f"value {words(np.asarray(value))}",
        f"grad  {words(grad)}",
    )


def kind_of(x: Any) -> str:
    """(2, 3) float32; of a Python number, its type."""
    if not hasattr(x, "shape"):
        return type(x).__name__
    return f"{x.shape} {x.dtype}" if x.shape else str(x.dtype)


def words(a: np.ndarray) -> str:
    """The numbers of a small array, the range of a large one."""
    if a.size <= LONGEST // 2:
        text = nested(a.tolist())
        if len(text) <= LONGEST - len("value "):
            return text
    if not a.size:
        return "no elements"
    if a.dtype.kind not in "biufc":
        return "no numbers"
    missing = int(np.sum(a != a))  # nan differs from itself
    if missing:
        return f"{missing:,} of {a.size:,} are nan"
    low, high = nested(np.min(a).item()), nested(np.max(a).item())
    return cut(f"all {low}" if low == high else f"{low} to {high}", the_end=True)


def nested(x: Any) -> str:
    if isinstance(x, list):
        return f"[{', '.join(map(nested, x))}]"
    return f"{x:.4g}" if isinstance(x, float | complex | np.floating) else str(x)


def keywords_of(node: Node) -> str:
    """axis=0, keepdims=True; of an index, what stands in the brackets."""
    if node.op is PICK:
        return ""
    given = {k: v for k, v in node.params.items() if v is not None and k not in STORAGE}
    return ", ".join(f"[{brief(v)}]" if k == "index" else f"{k}={brief(v)}" for k, v in given.items())


def brief(x: Any) -> str:
    """A keyword's value, in a few letters."""
    if isinstance(x, slice):
        ends = ["" if end is None else str(end) for end in (x.start, x.stop, x.step)]
        return ":".join(ends if x.step is not None else ends[:2])
    if isinstance(x, tuple):
        return ", ".join(map(brief, x)) if any(isinstance(member, slice) for member in x) else f"({', '.join(map(brief, x))})"
    if isinstance(x, np.ndarray) and x.ndim:
        return kind_of(x)
    if x is Ellipsis:
        return "..."
    return nested(x) if isinstance(x, str | int | float | np.generic | None) else type(x).__name__


def cut(text: str, the_end: bool = False) -> str:
    """One line of at most LONGEST characters, all of which XML allows. Of a long path the end tells most, so that is kept, unless `the_end` goes."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 1] + "…" if the_end else "…" + text[1 - LONGEST :]
