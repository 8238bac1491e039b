"""The engine against a naive one, in any order of steps: build, reuse, walk, walk again, update a leaf, forget.

The reference engine, `Ref`, is written here: it follows every path from the root to the targets by recursion and adds
up what arrives, and keeps flags for what was freed and a clock for what is stale. All numbers are small integers (ties
of two share halves), so that every sum is exact in any order and each gradient must be equal to the last bit.
"""

import gc
import itertools
import weakref

from tinygrad_notes import Tensor, checkpoint, core, gradients

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

clock = itertools.count(1).__next__
LARGEST, MOST_PATHS = 1000, 1000  # values of Tensors, and paths for the naive recursion

# --- the reference engine --------------------------------------------------------------------------


class Ref:
    """A value and how it came about: `pull(g)` gives a gradient for each parent."""

    def __init__(self, value, parents=(), pull=None):
        self.value, self.parents, self.pull = value, parents, pull
        self.made, self.version, self.freed = clock(), 0, False
        self.paths = sum(p.paths for p in parents) or 1


def fold(g, shape):
    """g summed over the axes along which `shape` was broadcast."""
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            g = g.sum(axis=axis, keepdims=True)
    return g


def placed(g, shape, *indices):
    """Zeros of a shape, with the rows of g added at the indices."""
    out = np.zeros(shape)
    for i, row in zip(indices, g):
        out[i] += row
    return out


def follow(node, g, targets, totals):
    """Every path from node to a target, one by one."""
    if node in targets:
        totals[node] = totals.get(node, 0) + g
        return
    for parent, d in zip(node.parents, node.pull(g) if node.parents else ()):
        follow(parent, d if isinstance(d, tuple) else fold(d, parent.value.shape), targets, totals)


def between(root, targets):
    """What a walk visits, and which of that lies on a path to a target."""
    oldest, visited, stack = min(t.made for t in targets), set(), [root]
    while stack:
        node = stack.pop()
        if node not in visited and node not in targets:
            visited.add(node)
            stack += [p for p in node.parents if p.made >= oldest]
    reaches = set(targets)
    for node in sorted(visited, key=lambda node: node.made):
        if reaches & set(node.parents):
            reaches.add(node)
    return visited, reaches & visited


NOTHING = Ref(np.zeros(0))  # older than every node


def naive_walk(root, targets, retain):
    """The gradients at the targets that root depends on, or the word in the engine's error."""
    visited, path = between(root, targets)
    if any(node.freed for node in visited):
        return "freed"
    if any(p.version > node.made for node in path for p in node.parents):
        return "stale"
    totals = {}
    if path or root in targets:
        follow(root, np.ones(root.value.shape), targets, totals)
    for node in path:
        node.freed = not retain
    return totals


# --- operations: for the engine, when they apply, the same for the reference, and its gradient -------------------------


def broadcasts(a, b):
    return all(n == m or 1 in (n, m) for n, m in zip(a.shape[::-1], b.shape[::-1]))


def share(a, b):
    """1 where a is larger, 1/2 where they are equal."""
    return (a > b) + (a == b) / 2


def best(x):
    """Where the largest of the last axis is, divided by how many there are."""
    largest = x == x.max(axis=-1, keepdims=True)
    return largest / largest.sum(axis=-1, keepdims=True)


OPS = {
    "add": (np.add, broadcasts, lambda g, a, b: (g, g)),
    "subtract": (np.subtract, broadcasts, lambda g, a, b: (g, -g)),
    "multiply": (np.multiply, broadcasts, lambda g, a, b: (g * b, g * a)),
    "maximum": (np.maximum, broadcasts, lambda g, a, b: (g * share(a, b), g * share(b, a))),
    "where": (lambda a, b: np.where(b > 0, a, b), broadcasts, lambda g, a, b: (g * (b > 0), g * (b <= 0))),
    "matmul": (np.matmul, lambda a, b: a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0], lambda g, a, b: (g @ b.T, a.T @ g)),
    "stack": (lambda a, b: np.stack([a, b]), lambda a, b: a.shape == b.shape and a.ndim < 3, lambda g, a, b: (g[0], g[1])),
    "square": (lambda x: x**2, lambda x: True, lambda g, x: (2 * g * x,)),
    "transpose": (np.transpose, lambda x: True, lambda g, x: (g.T,)),
    "ravel": (lambda x: x.reshape(-1), lambda x: x.size < 9, lambda g, x: (g.reshape(x.shape),)),
    "row": (lambda x: x[0], lambda x: x.ndim, lambda g, x: (placed(g[None], x.shape, 0),)),
    "rows": (lambda x: x[np.array([0, -1, 0])], lambda x: x.ndim, lambda g, x: (placed(g, x.shape, 0, -1, 0),)),
    "sum": (lambda x: np.sum(x, axis=0), lambda x: x.ndim, lambda g, x: (np.repeat(g[None], len(x), axis=0),)),
    "max": (
        lambda x: np.max(x, axis=-1, keepdims=True),
        lambda x: x.ndim and x.shape[-1] <= 2,
        lambda g, x: (g * best(x),),
    ),
}


def arity(name):
    return OPS[name][2].__code__.co_argcount - 1


def build(name, *refs):
    """An operation of the reference engine."""
    forward, _, pull = OPS[name]
    values = [r.value for r in refs]
    return Ref(forward(*values), refs, lambda g: pull(g, *values))


def members(x, refs_of_x):
    """np.split in two: a hidden node for the call, and one for each member."""
    halves = np.split(x, 2)
    source = Ref(x, (refs_of_x,), lambda pair: (placed([pair[1]], x.shape, slice(len(x) // 2 * pair[0], len(x) // 2 * (pair[0] + 1))),))
    return [Ref(half, (source,), lambda g, i=i: ((i, g),)) for i, half in enumerate(halves)]


def recipe(make, a, b):
    """What a checkpoint runs: the same steps for either engine."""
    product = make("multiply", a, b)
    return make("add", make("square", product), make("maximum", a, product))


# --- the machine ----------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """A pool of pairs (Tensor, Ref) that every step takes from and adds to."""

    def __init__(self):
        super().__init__()
        self.pool: list[tuple] = []
        self.held: list = []  # what a checkpoint was called with: it keeps that, to run again

    def teardown(self):
        gc.enable()

    def add(self, tensor, ref):
        np.testing.assert_array_equal(tensor.value, ref.value, strict=True)
        self.pool.append((tensor, ref))

    def pick(self, i):
        """Small numbers, which Hypothesis likes, are new members: so that graphs grow deep."""
        return self.pool[-1 - i % len(self.pool)]

    @initialize(seed=st.integers(0, 10**6))
    def begin(self, seed):
        gc.disable()  # what is forgotten must go by its reference count
        rng = np.random.default_rng(seed)
        for shape in [(), (2,), (2, 2), (1, 2)]:
            self.leaf(shape, int(rng.integers(10**6)))

    @rule(shape=st.sampled_from([(), (1,), (2,), (2, 1), (2, 2)]), seed=st.integers(0, 10**6))
    def leaf(self, shape, seed):
        x = np.asarray(np.random.default_rng(seed).integers(-2, 3, shape), float)
        self.add(Tensor(x), Ref(x.copy()))

    @rule(name=st.sampled_from(sorted(OPS)), i=st.integers(0, 99), j=st.integers(0, 99), twice=st.booleans())
    def apply(self, name, i, j, twice):
        pairs = [self.pick(i), self.pick(i if twice else j)][: arity(name)]
        forward, applies, _ = OPS[name]
        if applies(*(r.value for _, r in pairs)):
            self.keep(lambda: forward(*(t for t, _ in pairs)), lambda: build(name, *(r for _, r in pairs)), pairs)

    def keep(self, make_tensor, make_ref, pairs):
        """Run a step in both engines, if its numbers and its paths stay small."""
        paths = sum(r.paths for _, r in pairs)
        ref = make_ref()
        if paths <= MOST_PATHS and ref.value.size <= 16 and np.max(np.abs(ref.value)) <= LARGEST:
            self.add(make_tensor(), ref)

    @rule(i=st.integers(0, 99), times=st.integers(1, 20))
    def reuse(self, i, times):
        pair = self.pick(i)

        def many(make, x):
            total = x
            for _ in range(times):
                total = make("add", total, x)
            return total

        pairs = [pair] * (times + 1)
        self.keep(lambda: many(lambda name, a, b: OPS[name][0](a, b), pair[0]), lambda: many(build, pair[1]), pairs)

    @rule(i=st.integers(0, 99))
    def split(self, i):
        t, r = self.pick(i)
        if r.value.ndim and len(r.value) % 2 == 0:
            for part, ref in zip(np.split(t, 2), members(r.value, r)):
                self.add(part, ref)

    @rule(i=st.integers(0, 99), j=st.integers(0, 99))
    def run_a_checkpoint(self, i, j):
        pairs = [self.pick(i), self.pick(j)]
        (a, ra), (b, rb) = pairs
        if not broadcasts(ra.value, rb.value):
            return

        def make_ref():
            inside = [Ref(r.value) for r in dict.fromkeys([ra, rb])]
            y = recipe(build, inside[0], inside[-1])

            def pull(pair):
                totals = {}
                follow(y, pair[1], set(inside), totals)
                return tuple(totals[x] for x in inside)

            source = Ref(y.value, tuple(dict.fromkeys([ra, rb])), pull)
            return Ref(y.value, (source,), lambda g: ((0, g),))

        def make_tensor():
            self.held += [a, b]
            return checkpoint(lambda a, b: recipe(lambda name, *xs: OPS[name][0](*xs), a, b))(a, b)

        self.keep(make_tensor, make_ref, pairs * 3)

    @rule(i=st.integers(0, 99), change=st.sampled_from([-1.0, 1.0]))
    def update_a_leaf(self, i, change):
        leaves = [(t, r) for t, r in self.pool if t.is_leaf]
        t, r = leaves[i % len(leaves)]
        t.value, r.value = t.value + change, r.value + change  # as an optimizer does
        t.node.touch()
        r.version = clock()

    @precondition(lambda self: len(self.pool) > 8)
    @rule(i=st.integers(0, 99))
    def forget(self, i):
        if not self.pool[i % len(self.pool)][0].is_leaf:
            gone = weakref.ref(self.pool.pop(i % len(self.pool))[0])
            assert gone() is None or any(gone() is t for t in self.held), "a graph holds the Tensor of one of its nodes"

    @rule(
        i=st.integers(0, 99),
        others=st.lists(st.integers(0, 99), min_size=1, max_size=3),
        retain=st.booleans(),
        strict=st.booleans(),
        higher=st.sampled_from([False, False, True]),
        below=st.sampled_from([True, True, False]),
    )
    def walk(self, i, others, retain, strict, higher, below):
        loss, root = self.pick(i)
        pool = [(t, r) for t, r in self.pool if r in between(root, [NOTHING])[0]] if below else self.pool
        chosen = [pool[k % len(pool)] for k in others]
        if loss.size != 1:  # the loss stays in the pool, and may be walked again
            loss, root = np.sum(loss), Ref(np.sum(root.value, keepdims=True).reshape(()), (root,), lambda g, r=root: (g + 0 * r.value,))
            self.add(loss, root)
        targets = [r for _, r in chosen]
        expected = naive_walk(root, set(targets), retain or higher)
        unused = not isinstance(expected, str) and any(r not in expected for r in targets)
        options = {"unused": "raise" if strict else "zeros", "retain_graph": retain, "create_graph": higher}
        if isinstance(expected, str) or (unused and strict):
            kind, word = (RuntimeError, expected) if isinstance(expected, str) else (ValueError, "does not depend on")
            with pytest.raises(kind, match=word):
                gradients(loss, [t for t, _ in chosen], **options)
            return
        for g, (t, r) in zip(gradients(loss, [t for t, _ in chosen], **options), chosen):
            assert type(g) is (Tensor if higher else np.ndarray)
            g = g.value if higher else g
            assert g.shape == t.shape and g.dtype == t.dtype
            np.testing.assert_array_equal(g, expected.get(r, np.zeros(t.shape)))
            if not higher:
                g[...] = np.nan  # nobody else may read it

    @invariant()
    def nothing_is_left_behind(self):
        assert core.observer is None
        for t, r in self.pool:
            np.testing.assert_array_equal(t.value, r.value)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=max(1, settings().max_examples), stateful_step_count=40)
