"""Random programs of 5 to 30 steps: gradients against differences, Hessian-vector products against differences of gradients.

A program is a list of steps (name, which earlier values, a parameter); `run` carries it out with any library's functions, so
that tests/parity/test_random_programs.py can hand the same program to others. The functions are smooth almost everywhere, and
values stay of the order of one, so that differences are sharp.
"""

from types import SimpleNamespace

from tinygrad_notes import Tensor, grad, gradients, hvp
from tinygrad_notes.check import EPS, check_grads, derivative

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = [(), (2,), (3,), (1, 3), (2, 1), (2, 3), (3, 2), (2, 1, 3)]

# Each step in terms of a namespace F; `p` is a parameter that fits the shape of x. The last number: how many values it takes.
STEPS = {
    "add": (lambda F, p, x, y: x + y, 2),
    "subtract": (lambda F, p, x, y: x - y, 2),
    "multiply": (lambda F, p, x, y: x * y, 2),
    "ratio": (lambda F, p, x, y: x / (1.5 + y * y), 2),
    "maximum": (lambda F, p, x, y: F.maximum(x, y), 2),
    "choose": (lambda F, p, x, y: F.where(F.constant(p), x, y), 2),
    "matmul": (lambda F, p, x, y: x @ y, 2),
    "join": (lambda F, p, x, y: F.concatenate([x, y], p), 2),
    "power": (lambda F, p, x: (1 + x * x) ** p, 1),
    "tanh": (lambda F, p, x: F.tanh(x), 1),
    "sine": (lambda F, p, x: F.sin(2 * x), 1),
    "log": (lambda F, p, x: F.log(1 + x * x), 1),
    "decay": (lambda F, p, x: F.exp(-x * x), 1),
    "absolute": (lambda F, p, x: F.abs(x), 1),
    "scale": (lambda F, p, x: x * F.constant(p), 1),
    "sum": (lambda F, p, x: F.sum(x, p, True), 1),
    "mean": (lambda F, p, x: F.mean(x, p, False), 1),
    "largest": (lambda F, p, x: F.amax(x, p, False), 1),
    "softmax": (lambda F, p, x: F.exp(x) / F.sum(F.exp(x), p, True), 1),
    "standardise": (lambda F, p, x: (x - F.mean(x, p, True)) / (0.5 + F.mean(x * x, p, True)) ** 0.5, 1),
    "flatten": (lambda F, p, x: F.reshape(x, (-1,)), 1),
    "turn": (lambda F, p, x: F.swapaxes(x, 0, -1), 1),
    "part": (lambda F, p, x: x[p:], 1),
    "pick": (lambda F, p, x: x[F.index(p)], 1),
    "cumulate": (lambda F, p, x: F.cumsum(x, p), 1),
}
NUMPY = SimpleNamespace(
    maximum=np.maximum,
    where=np.where,
    constant=lambda c: c,
    index=lambda i: i,
    concatenate=np.concatenate,
    tanh=np.tanh,
    sin=np.sin,
    log=np.log,
    exp=np.exp,
    abs=np.abs,
    sum=lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    mean=lambda x, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims),
    amax=lambda x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
    reshape=np.reshape,
    swapaxes=np.swapaxes,
    cumsum=lambda x, axis: np.cumsum(x, axis=axis),
)


def parameter(name, x, y, rng):
    """A parameter for a step, or None where the step does not fit the shapes."""
    if name in ("add", "subtract", "multiply", "ratio", "maximum", "choose"):
        if any(n != m and 1 not in (n, m) for n, m in zip(x.shape[::-1], y.shape[::-1])):
            return None
        return rng.random(np.broadcast_shapes(x.shape, y.shape)) < 0.5
    if name == "matmul":
        return 0 if x.ndim == y.ndim == 2 and x.shape[1] == y.shape[0] else None
    if name == "join":
        return 0 if x.ndim == y.ndim > 0 and x.shape[1:] == y.shape[1:] else None
    if name in ("power", "scale"):
        return rng.uniform(-1, 1) if name == "power" else rng.uniform(0.5, 1.5, x.shape) * rng.choice([-1, 1], x.shape)
    if name in ("tanh", "sine", "log", "decay", "absolute", "flatten"):
        return 0
    if not x.ndim:
        return None
    if name == "part":
        return int(rng.integers(len(x)))
    if name == "pick":
        return rng.integers(len(x), size=3)
    return int(rng.integers(-x.ndim, x.ndim))


def random_program(seed):
    """(program, inputs): the steps and the arrays it starts from."""
    rng = np.random.default_rng(seed)
    inputs = [rng.uniform(-1.5, 1.5, SHAPES[rng.integers(len(SHAPES))]) for _ in range(rng.integers(1, 4))]
    values, program = list(inputs), []
    length = rng.integers(5, 31)
    while len(program) < length:
        name = str(rng.choice(list(STEPS)))
        step, arity = STEPS[name]
        # half of the time the latest value: programs get deep, and older values are used again
        chosen = [len(values) - 1 if rng.random() < 0.5 else int(rng.integers(len(values))) for _ in range(arity)]
        x, y = values[chosen[0]], values[chosen[-1]]
        p = parameter(name, x, y, rng)
        if p is None:
            continue
        made = step(NUMPY, p, *(values[i] for i in chosen))
        noise = np.any((np.abs(made) < 1e-12) & (made != 0))  # what equal numbers leave when they are subtracted: it has no slope
        if np.size(made) <= 24 and np.max(np.abs(made)) < 4 and not noise:
            values.append(np.asarray(made))
            program.append((name, chosen, p))
    used = {i for _, chosen, _ in program for i in chosen}
    ends = [i for i in range(len(values)) if i not in used]
    return (program, [(i, rng.uniform(0.5, 1.5, values[i].shape) * rng.choice([-1, 1])) for i in ends]), inputs


def run(program, inputs, F=NUMPY):
    """The program's number: a weighted sum of sines of all values that no step used."""
    steps, ends = program
    values = list(inputs)
    for name, chosen, p in steps:
        values.append(STEPS[name][0](F, p, *(values[i] for i in chosen)))
    return sum(F.sum(F.sin(values[i]) * F.constant(weight), None, False) for i, weight in ends)


SEEDS = st.integers(0, 2**32 - 1)
MANY = settings(max_examples=max(1, settings().max_examples // 2))


@MANY
@given(SEEDS)
def test_every_order_against_differences(seed):
    program, inputs = random_program(seed)
    check_grads(lambda *xs: run(program, xs), *inputs, order=2, rng=np.random.default_rng(seed))


@MANY
@given(SEEDS)
def test_hessian_vector_products_against_differences_of_gradients(seed):
    program, inputs = random_program(seed)
    rng = np.random.default_rng(seed)
    us, ws = ([rng.uniform(-1, 1, x.shape) for x in inputs] for _ in range(2))

    def f(*xs):
        return run(program, xs)

    slope = grad(f, tuple(range(len(inputs))))

    def along(t):
        return sum(float(np.sum(w * g)) for w, g in zip(ws, slope(*(x + t * u for x, u in zip(inputs, us)))))

    weight = sum(float(np.sum(np.abs(w * g))) for w, g in zip(ws, slope(*inputs)))
    expected, bound = derivative(along, 1 / 64, 1 + weight, 1.5)
    products = hvp(f, tuple(inputs), tuple(us))
    got = sum(float(np.sum(w * p)) for w, p in zip(ws, products))
    assert np.isfinite(bound), "a kink within the smallest step"
    assert abs(got - expected) <= bound
    mirrored = sum(float(np.sum(u * p)) for u, p in zip(us, hvp(f, tuple(inputs), tuple(ws))))
    assert abs(got - mirrored) <= 1e5 * EPS * (1 + weight + abs(got))  # the Hessian is symmetric


@MANY
@given(SEEDS)
def test_what_is_differentiated_changes_nothing(seed):
    """The value is NumPy's; a gradient is the same alone, with others, with create_graph, and in a retained second walk."""
    program, inputs = random_program(seed)
    tensors = [Tensor(x) for x in inputs]
    loss = run(program, tensors)
    assert loss.value == run(program, inputs)
    every = gradients(loss, tensors, retain_graph=True)
    higher = gradients(loss, tensors, create_graph=True)
    again = gradients(loss, tensors)
    with pytest.raises(RuntimeError, match="freed"):
        gradients(loss, tensors)
    for i, x in enumerate(inputs):
        mixed = [Tensor(x) if j == i else other for j, other in enumerate(inputs)]
        alone = gradients(run(program, mixed), mixed[i]) if isinstance(run(program, mixed), Tensor) else np.zeros(x.shape)
        room = 1e3 * EPS * (1 + np.max(np.abs(every[i])))
        for g in (again[i], higher[i].value, alone):
            np.testing.assert_allclose(g, every[i], rtol=0, atol=room)
