"""Automatic differentiation: build the engine by hand in fifty lines, then meet the real one.

RUNNING TIME: 3 seconds (--quick: 2 seconds)

You will see how NumPy itself lets a program be differentiated that was written without a thought of it: an object that
NumPy offers every call to, a rule for each function, and one walk backwards. The fifty lines train a network, and the real engine
gives the same loss and the same gradients. Then you will break the fifty lines, ask for what they cannot do (second derivatives,
forward mode), see a graph with the value and the gradient in every node, and count what a graph costs.

    python -m walkthroughs engine/autograd
    python -m walkthroughs engine/autograd --quick        smaller counts
    python -m walkthroughs engine/autograd --no-plots     without the drawings
"""

# %% Settings
import gc
import itertools
import operator
import textwrap
import time
import tracemalloc
from pathlib import Path

import tinygrad_notes as tn
from tinygrad_notes import check
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("engine/autograd", __doc__))
began = time.process_time()
rng = np.random.default_rng(options.seed)
STEPS, N = (50, 2_000) if options.quick else (1000, 20_000)  # of training; the operations of a long chain


def heading(text):
    print(f"\n--- {text} " + "-" * max(0, 90 - len(text)))


def slope(f, x, v):
    """The derivative of f at x along v, by central differences: what every gradient below is held against."""
    h = 1e-5
    return (f(x + h * v) - f(x - h * v)) / (2 * h)


# %% The idea by hand
# A neuron: L = tanh(u), u = 0.1 (a b + c) + a, at a = 2, b = -3, c = 10. Forwards, write down every intermediate number; backwards,
# write beside each how fast L changes when it does, its gradient. Each comes from those after it by one rule of calculus.
heading("the idea by hand")
a, b, c = 2.0, -3.0, 10.0
p = a * b
s = p + c
u = 0.1 * s + a
L = np.tanh(u)
d_L = 1.0
d_u = d_L * (1 - L**2)  # tanh' = 1 - tanh^2
d_s = d_u * 0.1
d_p, d_c = d_s, d_s  # a sum hands its gradient to both of its terms
d_b = d_p * a
d_a = d_p * b + d_u  # a is used twice: once in a b, once alone. What comes from both uses is ADDED
print(f"L = {L:.6f}    dL/da = {d_a:.6f}, dL/db = {d_b:.6f}, dL/dc = {d_c:.6f}")
by_differences = slope(lambda a: np.tanh(0.1 * (a * b + c) + a), a, 1.0)
print(f"moving a by a hundred-thousandth: dL/da = {by_differences:.6f}")
assert abs(d_a - by_differences) < 1e-9

# %% The engine in fifty lines
# A machine can do that if it knows what was computed. NumPy tells it: before it runs `np.tanh(x)` it looks whether x has a method
# `__array_ufunc__` (functions of single numbers, and operators such as +) or `__array_function__` (all the others), and if so calls
# that instead. So: an object that runs the function on the values, and notes which function it was and on what.
numbers = itertools.count()
RULES = {  # dL/d(each input), given g = dL/dy, the output y, and the inputs
    np.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),
    np.subtract: (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    np.multiply: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    np.divide: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    np.power: (lambda g, y, a, n: g * n * a ** (n - 1), None),
    np.matmul: (lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g),
    np.exp: (lambda g, y, a: g * y,),
    np.log: (lambda g, y, a: g / a,),
    np.tanh: (lambda g, y, a: g * (1 - y * y),),
    np.sum: (lambda g, y, a: np.broadcast_to(g, a.shape),),
    np.mean: (lambda g, y, a: np.broadcast_to(g / a.size, a.shape),),
}


class Var(np.lib.mixins.NDArrayOperatorsMixin):  # the mixin turns +, *, @ and so on into np.add, np.multiply, np.matmul
    """A value and where it came from: `function` of `inputs`, or nothing for a variable of yours."""

    def __init__(self, value, function=None, inputs=()):
        self.value, self.function, self.inputs = np.asarray(value), function, inputs
        self.number = next(numbers)  # whatever is made of this one has a larger number

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        return self.__array_function__(ufunc, (), inputs, keywords) if method == "__call__" else NotImplemented

    def __array_function__(self, function, types, inputs, keywords):
        if function not in RULES or keywords:
            return NotImplemented  # NumPy then raises a TypeError
        return Var(function(*map(value_of, inputs)), function, inputs)


def value_of(x):
    return x.value if isinstance(x, Var) else x


def unbroadcast(g, shape):
    """The sum of g over the axes along which an input of this shape was repeated."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def gradients_by_hand(loss, variables, add=operator.add, back_to_shape=unbroadcast):
    """dloss/dv for each of the variables, in one walk from the newest value to the oldest."""
    reached = {loss.number: loss}
    grads = {loss.number: np.ones(())}
    while reached:
        node = reached.pop(max(reached))  # the newest: everything that uses it has been here before
        g = grads[node.number]
        for x, rule in zip(node.inputs, RULES.get(node.function, ())):
            if isinstance(x, Var):
                d = back_to_shape(rule(g, node.value, *map(value_of, node.inputs)), x.value.shape)
                grads[x.number] = add(grads[x.number], d) if x.number in grads else d
                reached[x.number] = x
    return [grads[v.number] for v in variables]


# %% Check it: the neuron again, this time by the machine
heading("the engine in fifty lines")
source = Path(__file__).read_text(encoding="utf-8")
lines = [line for line in source.partition("\nnumbers = ")[2].partition("\n# %% Check it")[0].splitlines() if line.strip()]
va, vb, vc = Var(a), Var(b), Var(c)
loss = np.tanh(0.1 * (va * vb + vc) + va)
found = gradients_by_hand(loss, [va, vb, vc])
print(f"the engine above has {len(lines) + 1} lines of code. Of the neuron it says {[f'{float(g):.6f}' for g in found]}: as on paper")
assert np.allclose(found, [d_a, d_b, d_c], rtol=1e-14)
assert len(lines) < 50


# %% The real one beside it: a network, and a training loop
# Nothing in `network` knows of either engine: it is NumPy. Handed arrays, it gives arrays; handed `Var`s, a graph of the one kind;
# handed `Tensor`s, a graph of the other. The task is XOR's: are the two coordinates of the same sign?
def network(x, y, weights):
    w1, b1, w2, b2 = weights
    return np.mean((np.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2)


def train(kind, gradients):
    """The losses of plain gradient descent."""
    arrays, losses = start, []
    for _ in range(STEPS):
        weights = [kind(w) for w in arrays]
        loss = network(x, y, weights)
        arrays = [w - 0.5 * g for w, g in zip(arrays, gradients(loss, weights))]
        losses.append(loss.value.item())
    return losses


heading("the real engine beside it")
x = rng.uniform(-1, 1, size=(64, 2))
y = np.sign(x[:, :1] * x[:, 1:])
start = [rng.normal(size=(2, 8)), np.zeros(8), 0.5 * rng.normal(size=(8, 1)), np.zeros(1)]
ours, theirs = [tn.Tensor(w) for w in start], [Var(w) for w in start]
loss, loss_by_hand = network(x, y, ours), network(x, y, theirs)
grads, grads_by_hand = tn.gradients(loss, ours, unused="raise"), gradients_by_hand(loss_by_hand, theirs)
apart = max(float(np.max(np.abs(g - h))) for g, h in zip(grads, grads_by_hand))
print(f"loss {loss.item():.15f}, and by hand {loss_by_hand.value:.15f}; of all gradients the largest difference is {apart:.1e}")
assert abs(loss.item() - loss_by_hand.value) < 1e-14
assert apart < 1e-13
losses, losses_by_hand = train(tn.Tensor, tn.gradients), train(Var, gradients_by_hand)
print(f"{STEPS} steps of training, in either: loss {losses[0]:.4f} to {losses[-1]:.4f} and {losses_by_hand[-1]:.4f}")
assert losses[-1] < (losses[0] if options.quick else 0.5)  # 1 is what the best constant gets
assert np.allclose(losses, losses_by_hand, rtol=1e-6)

# %% Look at it
# `tn.draw` writes a graph as SVG: every operation with its value and its gradient, variables green, constants dashed. Follow one path
# from the bottom up and you read the chain rule. In a notebook, `tn.draw(...)` as the last line of a cell shows it.
ta, tb, tc = (tn.Tensor(v) for v in (a, b, c))
neuron = tn.draw(np.tanh(0.1 * (ta * tb + tc) + ta), a=ta, b=tb, c=tc)
graph = tn.draw(lambda: network(x, y, ours), x=x, y=y, w1=ours[0], b1=ours[1], w2=ours[2], b2=ours[3])
assert f"grad  {d_a:.4g}<" in neuron
assert "not kept" not in graph
if not options.no_plots:
    neuron.save(options.out / "neuron.svg")
    graph.save(options.out / "network.svg")
    print(f"drawings: {options.out}/neuron.svg, network.svg: open them in a browser")

# %% Break it: `=` instead of `+=`
# Common mistake: the gradient of a variable that is used more than once. Belief: a gradient is what the operation above sends down.
# It is the SUM of what all uses send. Take the sum away, and whoever comes last wins.
heading("broken on purpose: = instead of +=")


def overwriting(loss, variables):
    return gradients_by_hand(loss, variables, add=lambda old, new: new)


w = Var(3.0)
used_twice = w * w + w  # its slope is 2 w + 1 = 7
(right,), (wrong,) = gradients_by_hand(used_twice, [w]), overwriting(used_twice, [w])
print(f"d(w w + w)/dw at 3: {right} with +=, {wrong} with =")
assert (float(right), float(wrong)) == (7.0, 3.0)
# No error, no warning. And a network in which every value is used once trains as ever, so that this one would not have told you:
unnoticed = train(Var, overwriting)
print(f"the network above trains with = to {unnoticed[-1]:.4f}, the very same")
assert unnoticed == losses_by_hand
# Where it bites is a shared weight. A recurrent network uses one matrix at every step: its gradient is the sum of those that each
# step's own copy of it would get.
shared = tn.Tensor(0.5 * rng.normal(size=(4, 4)))
copies = [tn.Tensor(shared.value) for _ in range(5)]
h0 = rng.normal(size=4)


def recurrent(matrices):
    h = h0
    for matrix in matrices:
        h = np.tanh(h @ matrix)
    return np.sum(h)


of_shared, of_copies = tn.gradients(recurrent([shared] * 5), shared), tn.gradients(recurrent(copies), copies)
print(f"one matrix used five times: its gradient differs from the sum over five copies by {np.max(np.abs(of_shared - sum(of_copies))):.1e}")
print(f"    and from the last of the five by {np.max(np.abs(of_shared - of_copies[-1])):.2f}")
assert np.allclose(of_shared, sum(of_copies), rtol=1e-12)
assert not np.allclose(of_shared, of_copies[-1], rtol=0.01)

# %% Broadcasting
# NumPy repeats a bias (8,) down 64 rows without being asked. Repeating is using 64 times: so the gradient of the bias is the sum over
# the rows. No rule in the table knows; the engine sums, once for all of them. Without that, shapes are wrong where you are lucky.
heading("broadcasting")
bias, rows = Var(np.zeros(8)), rng.normal(size=(64, 8))
summed = gradients_by_hand(np.sum(np.tanh(rows + bias)), [bias])[0]
as_sent = gradients_by_hand(np.sum(np.tanh(rows + bias)), [bias], back_to_shape=lambda g, shape: g)[0]
t = tn.Tensor(bias.value)
real = tn.gradients(np.sum(np.tanh(rows + t)), t)
print(
    f"the gradient of a bias (8,): sent down {as_sent.shape}; summed back {summed.shape}, from the real engine's at most {abs(summed - real).max():.1e} away"
)
assert (as_sent.shape, summed.shape) == ((64, 8), (8,))
assert np.allclose(summed, real, rtol=1e-13)

# %% Second order
# A gradient is a function too. In the fifty lines it is lost on the way: rules run on arrays, so what comes out has no graph. The rules
# themselves would do: `g * (1 - y * y)` is NumPy like any other program. The real engine runs the same rules on Tensors when it is asked
# to (`create_graph=True`), and every order comes from one table. Curvature along a direction v, H v, needs no matrix H:
heading("second order")
gradient = gradients_by_hand(loss_by_hand, theirs)[0]
print(f"by hand, a gradient comes as {type(gradient).__name__}: there is nothing to differentiate again")
assert not isinstance(gradient, Var)


def of_first_layer(w1):
    return network(x, y, [w1, *start[1:]])


v = rng.normal(size=(2, 8))
product = tn.hvp(of_first_layer, start[0], v)
differences = slope(tn.grad(of_first_layer), start[0], v)
matrix = tn.hessian(of_first_layer)(start[0]).reshape(16, 16)
print(
    f"H v against differences of gradients: {abs(product - differences).max():.1e} apart; against the whole matrix H, {abs(product.ravel() - matrix @ v.ravel()).max():.1e}"
)
print(f"H is symmetric up to {abs(matrix - matrix.T).max():.1e}; its extreme curvatures are {np.linalg.eigvalsh(matrix)[[0, -1]].round(4)}")
assert np.allclose(product, differences, rtol=0, atol=1e-8)
assert np.allclose(product.ravel(), matrix @ v.ravel(), rtol=0, atol=1e-13)
assert np.allclose(matrix, matrix.T, rtol=0, atol=1e-14)

# %% Forward mode
# Reverse mode answers: how does one number depend on everything? Forward mode: how does everything move if I push here? That is J v, where
# reverse is u^T J. There is no second table of rules for it: u^T J is linear in u, and the reverse of that function is J.
heading("forward mode")


def hidden(w1):
    return np.tanh(x @ w1)


_, pushed = tn.jvp(hidden, start[0], v)
_, pull = tn.vjp(hidden, start[0])
u = rng.normal(size=pushed.shape)
left, right = np.sum(u * pushed), np.sum(pull(u)[0] * v)
print(
    f"J v against differences: {abs(pushed - slope(hidden, start[0], v)).max():.1e} apart; u . (J v) = {left:.12f}, (u^T J) . v = {right:.12f}"
)
assert np.allclose(pushed, slope(hidden, start[0], v), rtol=0, atol=1e-8)
assert abs(left - right) < 1e-12 * np.sum(np.abs(u * pushed))

# %% What the protocols cannot see
# NumPy offers us functions of its own. It does not offer us `np.array([t, t])`, which makes a new array, nor Python's float(t). If these
# gave numbers, the gradient would be lost without a word. So they raise, and say what to write instead: docs/limits.md has them all.
heading("what the protocols cannot see")
t = tn.Tensor(2.0)
for what, attempt in {"np.array([t, t * t])": lambda: np.array([t, t * t]), "float(t)": lambda: float(t)}.items():
    try:
        attempt()
    except TypeError as error:
        print(f"{what}: {textwrap.shorten(str(error), 120, placeholder=' ...')}")
        message = str(error)
    else:
        raise AssertionError(f"{what} should raise")
    assert "np.stack" in message
print(f"the recipe: np.stack([t, t * t]) has the gradient {tn.gradients(np.sum(np.stack([t, t * t])), t)}")
assert tn.gradients(np.sum(np.stack([t, t * t])), t) == 5.0


# Common mistake: float(t) cuts the graph. Belief: a number is a number. Here is the engine by hand with a `__float__`, as it would be
# natural to give it one. NumPy calls it for `array[i] = v`, and the gradient is wrong, in silence.
class Leaky(Var):
    def __float__(self):
        return float(self.value)

    def __array_function__(self, function, types, inputs, keywords):
        made = super().__array_function__(function, types, inputs, keywords)
        return made if made is NotImplemented else Leaky(made.value, made.function, made.inputs)


v = Leaky(2.0)
filled = np.zeros(2)
filled[1] = v * v  # calls float
(lost,) = gradients_by_hand(np.sum(filled * 3 + v), [v])
print(f"with a __float__, d(sum([0, v v] * 3 + v))/dv at 2 comes out as {lost}; it is {2 + 3 * 2 * 2.0}")
assert float(lost) == 2.0

# %% What a graph costs: nodes and memory
# A node of the real engine keeps only the arrays that its rules read: x + c keeps none, tanh its output. And it holds the nodes before it,
# never the Tensors, so there are no circles: the last reference that goes takes the graph with it, at once. The collector is off here.
heading("nodes and memory")
LAYERS, MEGABYTE = 20, 1e6
big = tn.Tensor(np.full((250, 500), 0.1))  # 1 MB


def deep(f, layers):
    z = big
    for _ in range(layers):
        z = f(z)
    return np.sum(z)


deep(np.tanh, 1)
gc.collect()
gc.disable()
tracemalloc.start()
nodes, held, freed = {}, {}, {}
for name, f in {"z + 1": lambda z: z + 1.0, "tanh(z)": np.tanh, "z z": lambda z: z * z}.items():
    before = tracemalloc.get_traced_memory()[0]
    with check.count() as counts:
        end = deep(f, LAYERS)
    held[name] = (tracemalloc.get_traced_memory()[0] - before) / MEGABYTE
    del end
    freed[name] = (tracemalloc.get_traced_memory()[0] - before) / MEGABYTE
    nodes[name] = counts.nodes
    print(f"{LAYERS} times {name:8} {nodes[name]} nodes hold {held[name]:5.1f} MB; after the last reference is gone, {freed[name]:.1f} MB")
loss = deep(np.tanh, LAYERS)
before = tracemalloc.get_traced_memory()[0]
tn.gradients(loss, big)  # each node gives its arrays back as the walk leaves it
walked = (before - tracemalloc.get_traced_memory()[0]) / MEGABYTE
print(f"a walk gives them back as it goes: {walked:.1f} MB less after it, with the loss still there")
tracemalloc.stop()
gc.enable()
assert set(nodes.values()) == {LAYERS + 1}
assert max(map(abs, freed.values())) < 0.1
assert held["z + 1"] < 0.1
assert LAYERS - 0.1 < held["tanh(z)"] < LAYERS + 0.1
assert walked > LAYERS - 0.1

# %% What a graph costs: time
# A value that is used twice doubles the number of PATHS: z = z + z, N times, has 2^N of them. The walk visits nodes, N of them. Count.
heading("time")


def doubled(n):
    z = tn.Tensor(1.0)
    first = z
    for _ in range(n):
        z = z + z
    return z, first


rules = {}
for n in (50, 100, 200):
    with check.count() as counts:
        tn.gradients(*doubled(n))
    rules[n] = counts.rules.total()
    print(f"{n:4} times z + z: {float(2**n):.1e} paths, {counts.nodes} nodes, {rules[n]} rules ran")
assert rules[200] == 2 * rules[100] == 4 * rules[50] == 2 * 200


def chain(z):
    for _ in range(N):
        z = z * 1.0001
    return z


def microseconds(f):
    start = time.process_time()
    f()
    return (time.process_time() - start) / N * 1e6


z = tn.Tensor(np.ones(8))
plain, recorded = microseconds(lambda: chain(z.value)), microseconds(lambda: chain(z))
both = microseconds(lambda: tn.gradients(np.sum(chain(z)), z))
by_hand = microseconds(lambda: gradients_by_hand(np.sum(chain(Var(z.value))), []))
print(
    f"per multiplication of 8 numbers, in microseconds: NumPy {plain:.2f}, recorded {recorded:.2f}, with its gradient {both:.2f}; by hand {by_hand:.1f}"
)

# %% Exercises
# 1. Add np.sqrt to RULES. Which of g, y and the input does the rule read? What would a node have to keep?
# 2. Give np.sum its `axis=`. What must the rule know to repeat g again, and what does `keepdims=` change?
# 3. `gradients_by_hand` never forgets a node. Let it drop `inputs` as it goes. Which of the checks above then fails?
# 4. Make the hand-made engine's rules run on Vars, so that a gradient is a Var. Which rules of the table have to be written differently?
# 5. Draw `tn.gradients(loss, w, create_graph=True)` of a small loss of one variable: what is the graph of a gradient?
#
# Answers. 1. `lambda g, y, a: g / (2 * y)`: only the output, which is there already. 2. The shape of the input and the axis: g gets its axis back
# (np.expand_dims) and is broadcast; with keepdims it has it already. 3. The second calls: `right` and `wrong` are two walks over one graph;
# the real engine frees too, says so at a second walk, and takes retain_graph=True. 4. Those with .T, .size and .shape, which Var does not
# have, and np.broadcast_to, np.transpose and a sum with axis need rules themselves. 5. The values that
# the rules read, as the forward pass made them, and below them the rules themselves, in the reverse order of their operations.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
