"""The graph as a structure: how much of it a walk visits, what keeps it alive, and who may build it where."""

import gc
import threading
import weakref

from tinygrad_notes import Tensor, check, checkpoint, core, grad, gradients, jvp, vjp
from tinygrad_notes.registry import Fused, Op

import numpy as np
import pytest


def residual(x, weights):
    for w in weights:
        x = x + np.tanh(x @ w)
    return np.sum(x)


def counted(f):
    with check.count() as counts:
        f()
    return counts


def nodes_above(t):
    """Every node that t depends on, its own included."""
    seen, stack = set(), [t.node]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += [p for p in node.parents if p is not None]
    return seen


@pytest.fixture
def without_collector():
    """Cycles would stay: what goes, goes by its reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# --- how much work a walk does ------------------------------------------------------------------


def test_a_stack_of_64_residual_blocks_is_linear():
    """2^64 paths through the stack; each block costs a multiple of the same, forward and backward."""
    rng = np.random.default_rng(0)
    weights = [Tensor(0.1 * rng.normal(size=(4, 4))) for _ in range(64)]
    x = Tensor(rng.normal(size=(3, 4)))

    def counts(depth):
        return counted(lambda: gradients(residual(x, weights[:depth]), [x, *weights[:depth]]))

    one, two, four = counts(16), counts(32), counts(64)
    assert four.nodes - two.nodes == 2 * (two.nodes - one.nodes) == 32 * 3
    assert four.rules.total() - two.rules.total() == 2 * (two.rules.total() - one.rules.total()) == 32 * 5
    slope = gradients(residual(x, weights), x)
    step = 1e-6 * rng.normal(size=x.shape)
    above, below = (float(residual(Tensor(x.value + s), weights).value) for s in (step, -step))
    np.testing.assert_allclose((above - below) / 2, np.sum(slope * step), rtol=1e-7)


@pytest.mark.parametrize("transform", ["second order", "checkpoint", "jvp"])
def test_other_passes_are_linear_too(transform):
    w = Tensor(np.full((2, 2), 0.3))
    x = np.ones((2, 2))

    def run(depth):
        def f(x):
            return residual(x, [w] * depth)

        if transform == "second order":
            g = gradients(f(Tensor(x)), w, create_graph=True)
            return gradients(np.sum(g * g), w)
        if transform == "jvp":
            return jvp(f, x, x)

        def stack(y):
            for _ in range(depth):
                y = checkpoint(lambda y: y + np.tanh(y @ w))(y)
            return np.sum(y)

        return gradients(stack(Tensor(x)), w)

    totals = [counted(lambda n=n: run(n)) for n in (8, 16, 32)]
    for what in (lambda c: c.nodes, lambda c: c.rules.total()):
        a, b, c = map(what, totals)
        assert c - b == 2 * (b - a) > 0


def test_a_branch_that_leads_to_no_target_costs_nothing():
    a, b, c = Tensor(np.ones(3)), Tensor(np.ones(3)), Tensor(2.0)
    for depth in (1, 50):
        side = b
        for _ in range(depth):
            side = np.sin(side)
        loss = np.sum(a * c + side * 2)
        with check.count() as counts:
            gradients(loss, a, retain_graph=True)
        assert counts.rules == {"np.sum": 1, "np.add": 1, "np.multiply": 1}  # neither c nor the side branch
        np.testing.assert_array_equal(gradients(loss, c), 3.0)
    before = a * c  # older than its target: not even looked at
    late = Tensor(1.0)
    gradients(before.sum(), before, retain_graph=False)
    with check.count() as counts:
        gradients(np.sum(before * late), late)
    assert counts.rules.total() == 2


def test_an_unused_member_costs_zeros_and_no_rule_of_its_own():
    x = Tensor(np.arange(6.0))
    a, b, _ = np.split(x, 3)
    with check.count() as counts:
        g = gradients(np.sum(a * a) + np.sum(b), x)
    np.testing.assert_array_equal(g, [0, 2, 1, 1, 0, 0])
    assert counts.rules["np.split"] == 1


def test_two_losses_share_a_trunk_that_is_kept_once():
    x = Tensor(np.ones(2))
    trunk = np.exp(x)
    first, second = np.sum(trunk), np.sum(trunk * trunk)
    assert len(nodes_above(first) & nodes_above(second)) == 2
    gradients(first, trunk)  # frees only what lies above the trunk
    np.testing.assert_allclose(gradients(second, x), 2 * np.exp(2.0 * x.value))
    with pytest.raises(RuntimeError, match="freed"):
        gradients(np.sum(trunk), x)


# --- who owns a gradient while it grows -------------------------------------------------------------


def test_a_gradient_that_two_inputs_share_does_not_grow_for_both():
    """A rule may return one array twice, or its cotangent: what is added for one input must not reach the other."""
    both = Op(lambda a, b: 2 * (a + b), (lambda g, y, a, b: (lambda d: (d, d))(2 * g),))
    for share in (both, np.add):
        a, b = Tensor(np.ones(3)), Tensor(np.ones(3))
        early = a * 3.0  # its gradient arrives after that of `share`
        factor = 2.0 if share is both else 1.0
        ga, gb = gradients(np.sum(np.exp(early)) + np.sum(np.sin(share(a, b))), [a, b])
        slope = factor * np.cos(2 * factor)
        np.testing.assert_allclose(gb, np.full(3, slope))
        np.testing.assert_allclose(ga, slope + 3 * np.exp(3.0))
        assert not np.shares_memory(ga, gb)


def test_a_cotangent_handed_on_is_not_written_to():
    x, b = Tensor(np.ones(3)), Tensor(np.ones(3))
    early = x * 3.0
    gx, gb = gradients(np.sum(np.exp(early)) + np.sum(np.sin(np.positive(x) + b)), [x, b])
    np.testing.assert_allclose(gb, np.full(3, np.cos(2.0)))
    np.testing.assert_allclose(gx, np.cos(2.0) + 3 * np.exp(3.0))


def test_a_kernel_of_one_tensor_twice_has_its_second_order():
    product = Fused(
        "product", lambda a, b: (a * b, None), lambda g, _, a, b, needs: (g * b, g * a), lambda a, b: a * b, [((3,), (3,))], None
    )
    x = Tensor(np.array([1.0, 2.0]))
    g = gradients(np.sum(product(x, x) ** 2.0), x, create_graph=True)  # of x^4
    np.testing.assert_allclose(g.value, 4 * x.value**3)
    np.testing.assert_allclose(gradients(np.sum(g), x), 12 * x.value**2)


# --- what keeps a graph alive ---------------------------------------------------------------------


def square_forward(x):
    return x * x, None


def square_backward(g, saved, x, needs):
    return (2 * g * x,)


SQUARE = Fused("square", square_forward, square_backward, lambda x: x * x, [((3,),)], None)

PROGRAMS = {
    "chain": lambda x: np.tanh(np.exp(x)),
    "checkpoint": checkpoint(lambda x: np.tanh(x * x)),
    "nested checkpoints": checkpoint(lambda x: checkpoint(np.exp)(x) * x),
    "fused": SQUARE,
    "one member": lambda x: np.split(x, 2)[0],
    "all members": lambda x: np.concatenate(np.split(x, 2)),
    "svd": lambda x: np.linalg.svd(x.reshape(2, 2))[1],
    "indexing": lambda x: x[1:] * x[[0, 0, 2]],
    "gradient": lambda x: gradients(np.sum(x**3.0), x, create_graph=True),
    "transform": lambda x: grad(lambda y: np.sum(y * y * x))(x),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("without_collector")
def test_a_forgotten_graph_is_freed_by_reference_counts(name):
    """Whether it was walked or not: the arrays that the nodes kept go with the last Tensor."""
    f = PROGRAMS[name]
    x = Tensor(np.array([0.5, -1.0, 2.0, 3.0]))

    def kept(y):
        """Weak references to what the graph of y keeps, the input apart."""
        arrays = [a for node in nodes_above(y) for a in check.arrays_in((node.saved, node.y)) if a is not x.value]
        return [weakref.ref(a) for a in arrays]

    for walked in (False, True):
        y = f(x)
        loss = np.sum(y * y)
        gone = [*kept(loss), weakref.ref(y), weakref.ref(loss)]
        assert len(gone) > 2
        if walked:
            gradients(loss, x)
        del y, loss
        assert [r() for r in gone if r() is not None] == []


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("without_collector")
def test_a_walk_frees_while_the_loss_lives_on(name):
    """Of the loss remains its number."""
    x = Tensor(np.array([0.5, -1.0, 2.0, 3.0]))
    y = PROGRAMS[name](x)
    loss = np.square(np.sum(y * y))  # the last node, too, keeps an array
    inner = [
        weakref.ref(a) for node in nodes_above(loss) for a in check.arrays_in((node.saved, node.y)) if a is not x.value and a is not y.value
    ]
    del y
    gradients(loss, x)
    assert [r() for r in inner if r() is not None] == []
    assert nodes_of_freed(loss) == 1
    gradients(np.sum(x * x), x)  # a leaf is never freed


def nodes_of_freed(t):
    return 1 if t.node.parents is core.FREED else len(nodes_above(t))


@pytest.mark.usefixtures("without_collector")
def test_repeating_leaves_no_garbage():
    x = Tensor(np.array([0.5, -1.0, 2.0, 3.0]))

    def everything():
        for f in PROGRAMS.values():
            y = f(x)
            gradients(np.sum(y * y), x)
            vjp(f, x.value)[1](np.ones_like(y.value))
            jvp(lambda x: np.exp(x) * x, x.value, x.value)

    everything()
    before = len(gc.get_objects())
    for _ in range(5):
        everything()
    assert len(gc.get_objects()) - before < 20


@pytest.mark.usefixtures("without_collector")
def test_an_error_in_a_walk_leaves_the_graph_as_it_was():
    x = Tensor(np.ones(2))
    y = x * 2
    loss = np.sum(y * y)
    x.node.touch()
    with pytest.raises(RuntimeError, match="stale"):
        gradients(loss, x)
    np.testing.assert_array_equal(gradients(loss, y), [4.0, 4.0])  # this part is not stale, nor freed


# --- Python's generators ---------------------------------------------------------------------------


@pytest.mark.usefixtures("without_collector")
def test_a_python_generator_may_hold_a_graph_between_steps():
    x = Tensor(np.array([1.0, 2.0]))

    def states(h):
        while True:
            h = np.tanh(h) * x
            yield h

    steps = states(x)
    first, second = next(steps), next(steps)
    unrelated = Tensor(3.0)
    gradients(unrelated * unrelated, unrelated)  # a walk elsewhere, while the generator waits
    third = next(steps)
    t = np.tanh
    slope = 1 - t(second.value) ** 2
    np.testing.assert_allclose(gradients(np.sum(third), second, retain_graph=True), x.value * slope)
    np.testing.assert_allclose(gradients(np.sum(third), first), x.value**2 * slope * (1 - t(first.value) ** 2))
    held = weakref.ref(third)
    del third
    assert held() is not None  # the generator's own variable
    steps.close()
    assert held() is None


def test_sums_over_generators_and_interleaved_graphs():
    xs = [Tensor(float(k)) for k in range(5)]
    graphs = (x * x * x for x in xs)
    loss = sum(graphs)
    np.testing.assert_array_equal(gradients(loss, xs), [3 * k * k for k in range(5)])

    def program(a):
        b = a * a
        yield b
        yield gradients(b * b, a)

    running = [program(Tensor(float(k))) for k in range(1, 4)]
    values = [next(p).item() for p in running]
    slopes = [float(next(p)) for p in running]
    assert values == [1, 4, 9] and slopes == [4, 32, 108]


# --- transforms inside transforms ----------------------------------------------------------------------


def test_three_transforms_deep_variables_are_not_confused():
    assert grad(lambda x: x * grad(lambda y: x * y * grad(lambda z: x * y * z * z)(2.0))(3.0))(5.0) == 1800.0
    # inside: d/dz x y z^2 = 4 x y at z = 2; d/dy 4 x^2 y^2 = 8 x^2 y = 24 x^2 at y = 3; d/dx 24 x^3 = 72 x^2 at x = 5
    assert grad(lambda x: x * grad(lambda y: x * y * grad(lambda z: x * y * z * z)(y))(x))(2.0) == 480.0
    # the same at z = y and y = x: 2 x y z = 2 x y^2; d/dy 2 x^2 y^3 = 6 x^4; d/dx 6 x^5 = 30 x^4 at x = 2


def test_three_derivatives_three_ways_agree():
    def f(x):
        return np.sum(np.sin(x) * x)

    def third(x):  # of x sin x
        return -3 * np.sin(x) - x * np.cos(x)

    x = np.array([0.3, -1.2])

    def total(h):
        return lambda x: np.sum(h(x))

    np.testing.assert_allclose(grad(total(grad(total(grad(f)))))(x), third(x), rtol=1e-12)
    one = np.ones(2)
    forward = jvp(lambda x: jvp(lambda x: jvp(lambda x: np.sin(x) * x, x, one)[1], x, one)[1], x, one)[1]
    np.testing.assert_allclose(forward, third(x), rtol=1e-12)
    mixed = grad(total(lambda x: vjp(grad(f), x)[1](one)[0]))(x)
    np.testing.assert_allclose(mixed, third(x), rtol=1e-12)
    np.testing.assert_allclose(grad(total(grad(total(grad(checkpoint(f))))))(x), third(x), rtol=1e-12)


def test_a_transform_inside_reads_tensors_from_outside():
    w = Tensor(np.array([2.0, 3.0]))
    inner = grad(lambda x: np.sum(w * x**3.0))(np.array([1.0, 2.0]))  # 3 w x^2
    np.testing.assert_allclose(gradients(np.sum(inner * w), w), [12.0, 72.0])  # d/dw 3 w^2 x^2


# --- threads ---------------------------------------------------------------------------------------------


def test_two_threads_with_transforms_checkpoints_and_kernels_of_their_own():
    """No observer is set; each thread's results are those that it gets alone."""
    assert core.observer is None

    def work(seed):
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(25):
            x = Tensor(rng.normal(size=4))
            y = checkpoint(lambda x: np.tanh(x) * rng.normal(size=4))(SQUARE(x))
            a, b = np.split(y, 2)
            loss = np.sum(a * a * b)
            g = gradients(loss, x, create_graph=True)
            found += [g.value.copy(), gradients(np.sum(g * g), x), grad(lambda x: np.sum(np.exp(x)))(x.value)]
        return np.array(found)

    alone = [work(seed) for seed in (1, 2)]
    results = {}
    threads = [threading.Thread(target=lambda seed=seed: results.setdefault(seed, work(seed))) for seed in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for seed in (1, 2):
        np.testing.assert_array_equal(results[seed], alone[seed - 1])


def test_a_graph_may_be_walked_in_another_thread():
    x = Tensor(np.ones(3))
    loss = np.sum(checkpoint(np.exp)(x) * x)
    found = []
    thread = threading.Thread(target=lambda: found.append(gradients(loss, x)))
    thread.start()
    thread.join()
    np.testing.assert_allclose(found[0], 2 * np.exp(1.0) * np.ones(3))
    with pytest.raises(RuntimeError, match="freed"):
        gradients(loss, x)
