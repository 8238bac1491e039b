"""Regressions of cost, without timers: how many ops run, how many nodes are made and visited, how much memory is in use.

The numbers are exact. If one changes, either something became slower by accident (a node too many in every layer, a gradient
that is summed twice) or it was meant: then say so in the commit, and write the new number here, which the failure shows.
"""

import gc
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager

import tinygrad_notes as tn
from models.language import gpt
from tinygrad_notes import check, core, optim, threads
from tinygrad_notes import functional as F
from tinygrad_notes.core import Node
from tinygrad_notes.tensor import Tensor

import numpy as np
import pytest


class Training:
    """A GPT and its optimizer on one batch."""

    def __init__(self, config):
        rng = np.random.default_rng(0)
        self.model = gpt.GPT(config, rng)
        self.params = tn.parameters(self.model)
        self.optimizer = optim.AdamW(self.params, lr=1e-3)
        self.ids = rng.integers(0, config.vocabulary, (2, config.context + 1))

    def loss(self):
        return gpt.loss(self.model, self.ids[:, :-1], self.ids[:, 1:])

    def step(self):
        self.optimizer.step(tn.gradients(self.loss(), self.params, unused="raise"))


def tiny(layers=2):
    return Training(gpt.Config.tiny(layers=layers))


@contextmanager
def collected():
    """Memory is given back by reference counts alone: the garbage collector is off."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def peak(work: Callable[[], object]) -> int:
    """The most memory that `work` has in use at once, in bytes, after two runs that fill caches."""
    work()
    work()
    with collected():
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            work()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()


# --- counts --------------------------------------------------------------------------------------

# One training step of two layers. Per layer: 2 norms, 4 linear maps, attention, its heads taken apart and put together, gelu, 2 residual sums.
OPS = {"embedding": 2, "layer_norm": 5, "linear": 9, "blocked_attention": 2, "gelu_tanh": 2, "np.add": 5, "cross_entropy": 1}
OPS |= {"np.reshape": 4, "np.transpose": 4, "getitem": 6}
# Each op gives a gradient to each of its inputs that is a Tensor; getitem adds into a buffer, without a rule's array.
RULES = {"embedding": 2, "layer_norm": 15, "linear": 26, "blocked_attention": 6, "gelu_tanh": 2, "np.add": 10, "cross_entropy": 1}
RULES |= {"np.reshape": 4, "np.transpose": 4}


def test_ops_of_one_training_step():
    training = tiny()
    with check.count() as counts:
        training.step()
    assert dict(counts.ops) == OPS
    assert dict(counts.rules) == RULES


def test_inference_makes_no_node():
    model = tn.frozen(tiny().model)
    with check.count() as counts:
        model(np.zeros((1, 4), int))
    assert counts.nodes == 0


def nodes(layers):
    training = tiny(layers)
    with check.count() as counts:
        training.step()
    return counts.nodes, counts.rules.total()


def test_nodes_grow_linearly_with_layers():
    one, two, four, eight = (np.array(nodes(layers)) for layers in (1, 2, 4, 8))
    per_layer = two - one
    assert per_layer.tolist() == [17, 30]
    np.testing.assert_array_equal(four, two + 2 * per_layer)
    np.testing.assert_array_equal(eight, two + 6 * per_layer)


def visited(monkeypatch, walk):
    """How many nodes each backward walk of `walk()` finds on its path."""
    lengths, original = [], core.path_between

    def counted(*args):
        path = original(*args)
        lengths.append(len(path))  # at once: the walk takes the path apart
        return path

    monkeypatch.setattr(core, "path_between", counted)
    walk()
    return lengths


def test_the_walk_visits_each_node_once(monkeypatch):
    assert visited(monkeypatch, tiny().step) == [sum(OPS.values())]


def test_the_walk_leaves_out_what_does_not_lead_to_a_parameter(monkeypatch):
    training = tiny()
    last = training.model.ln_f.weight  # of the whole model only what comes after it
    assert visited(monkeypatch, lambda: tn.gradients(training.loss(), last)) == [3]


def test_a_residual_stack_is_linear(monkeypatch):
    def walk(depth):
        x = y = Tensor(np.ones(3))
        for _ in range(depth):
            y = y + np.tanh(y)  # 2^depth paths
        tn.gradients(np.sum(y), x)

    assert visited(monkeypatch, lambda: walk(64)) == [129]


# --- memory --------------------------------------------------------------------------------------


LARGER = gpt.Config(65, context=64, layers=2, heads=2, width=64)  # the bytes of its arrays outweigh those of Python's objects
PEAK, GRAPH = 1_936_000, 1_649_000  # bytes; 122,000 are the P of two layers of attention


def test_peak_of_a_training_step():
    assert peak(Training(LARGER).step) == pytest.approx(PEAK, rel=0.03)


def test_what_a_graph_keeps():
    """Between forward and backward only those arrays live that a rule reads."""
    training = Training(LARGER)
    training.step()
    with collected():
        tracemalloc.start()
        try:
            loss = training.loss()
            assert tracemalloc.get_traced_memory()[0] == pytest.approx(GRAPH, rel=0.02)
            del loss
            assert tracemalloc.get_traced_memory()[0] < 0.02 * GRAPH
        finally:
            tracemalloc.stop()


def attention(T):
    rng = np.random.default_rng(0)
    variables = [Tensor(rng.normal(size=(1, 2, T, 16)).astype(np.float32)) for _ in range(3)]
    dy = rng.normal(size=(1, 2, T, 16)).astype(np.float32)

    def work():
        y = F.scaled_dot_product_attention(*variables, causal=True, block=(64, 64))
        tn.gradients(np.sum(y * dy), variables)

    return peak(work)


def test_blocked_attention_is_linear_in_the_length(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 1)  # what two threads have in use at once depends on their pace
    one, two, four = attention(1024), attention(2048), attention(4096)
    assert four - two == pytest.approx(2 * (two - one), rel=0.03)
    # Arrays of 2 heads, 16 wide, float32, are 128 bytes per position: y, dy, dq, dk and dv; k and v with a column more, 136; L, 8 bytes.
    # A row of scores would be 8 T bytes more.
    assert (two - one) / 1024 == pytest.approx(PER_POSITION, rel=0.03)


PER_POSITION = 920


def loop_over_rows(T):
    x = Tensor(np.ones((T, 256)))

    def work():
        tn.gradients(sum(np.sum(x[t]) for t in range(T)), x)

    return peak(work)


def test_gradients_into_rows_share_one_buffer():
    """The buffer and the nodes, but never a second array of the size of x, which each x[t] would fill anew."""
    small, large = loop_over_rows(64), loop_over_rows(256)
    assert large < 4.2 * small
    assert large < 2 * 256 * 256 * 8


def test_gradients_into_rows_take_one_addition_each():
    def rules(T):
        x = Tensor(np.ones((T, 2)))
        with check.count() as counts:
            tn.gradients(sum(np.sum(x[t]) for t in range(T)), x)
        return counts.rules.total(), counts.nodes

    assert rules(64) == (3 * 64 - 1, 3 * 64)  # the first addition is to the number 0
    assert rules(128) == (3 * 128 - 1, 3 * 128)


def alive():
    return sum(issubclass(type(x), (Node, Tensor)) for x in gc.get_objects())  # isinstance would ask the objects of other packages


def test_training_does_not_leak():
    training = tiny()
    with collected():
        tracemalloc.start()
        try:
            for _ in range(10):
                training.step()
            objects, used = alive(), tracemalloc.get_traced_memory()[0]
            for _ in range(40):
                training.step()
            assert alive() == objects
            assert tracemalloc.get_traced_memory()[0] - used < 24_000  # NumPy keeps small blocks to use again; one graph is 90,000
        finally:
            tracemalloc.stop()
