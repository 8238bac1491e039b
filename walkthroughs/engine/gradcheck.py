"""How a gradient is checked: differences, a bound of their own error, and nearly 500 wrong rules that a check must notice.

RUNNING TIME: 15 seconds (--quick: 4 seconds)

You will see why a smaller step is not a better one, how Richardson's extrapolation turns ten good digits into fourteen and tells how
many are good, and how a check can pass though the gradient is wrong. Then the check rules of seven projects, as we re-implemented them,
and our own meet the same deliberately wrong rules. At the end a network learns with a wrong gradient, and only the check complains.

    python -m walkthroughs engine/gradcheck             the whole story
    python -m walkthroughs engine/gradcheck --quick     fewer wrong rules
"""

# %% Settings
import textwrap
import time

import tinygrad_notes as tn
from tinygrad_notes import check, data, nn, optim
from tinygrad_notes import functional as F
from walkthroughs.engine import _checks as checks
from walkthroughs.engine import _curves as curves
from walkthroughs.engine._wrong_rules import OPS, draw, wrong_rules
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("engine/gradcheck", __doc__))
QUICK, FULL = options.quick, not options.quick
EPS, EPS32 = check.EPS, check.EPS32  # the distance of 1 to the next number: 2.2e-16, 1.2e-7
rng = np.random.default_rng(options.seed)
began = time.process_time()

# %% The idea by hand
# y = W x and L = (y . y) / 2, so that dL/dW[i, j] = y[i] x[j]. At W = 1 and x = (1, 2, 3) that is the outer product of x with itself.
# Differences know nothing of this: they move one weight by h, up and down, and see what L does.
W, x = np.eye(3), np.array([1.0, 2.0, 3.0])
loss = lambda W: np.sum((W @ x) ** 2) / 2


def moved(i, j, h):
    """W with h added to one element."""
    other = W.copy()
    other[i, j] += h
    return other


central = np.array([[(loss(moved(i, j, 0.5)) - loss(moved(i, j, -0.5))) / (2 * 0.5) for j in range(3)] for i in range(3)])
forward = np.array([[(loss(moved(i, j, 0.5)) - loss(W)) / 0.5 for j in range(3)] for i in range(3)])
print(f"gradient of the engine\n{tn.grad(loss)(W)}\ncentral differences, h = 0.5\n{central}\nforward differences, h = 0.5\n{forward}")
print("central differences are exact for a parabola, whatever h; forward ones are off by h/2 times the curvature\n")
assert np.allclose(central, np.outer(x, x)) and np.allclose(forward - central, 0.5 / 2 * x * x)

# %% How small a step?
# Taylor: (f(x+h) - f(x-h)) / 2h = f' + h^2/6 f''' + ...; and each f is known to one rounding, eps |f| / 2, which the division by h makes
# larger. So the error is about h^2/6 |f'''| + eps |f| / 2h: a U, and its lowest point is where the derivative by h is zero,
#     h* = (3/2 eps |f| / |f'''|)^(1/3), about eps^(1/3) = 6e-6, with an error of about eps^(2/3) = 4e-11.
# Forward differences have h/2 |f''| and so the step eps^(1/2) and half the digits. The complex step, Im f(x + ih) / h, subtracts nothing
# and has no left arm at all, if f is analytic and written so that it takes complex numbers.
f = lambda x: np.exp(np.sin(3 * x))
slope = lambda x: 3 * np.cos(3 * x) * f(x)
third = lambda x: 27 * np.cos(3 * x) * (np.cos(3 * x) ** 2 - 3 * np.sin(3 * x) - 1) * f(x)
points, hs = rng.uniform(1, 2, 200), 10.0 ** np.arange(-15, 0.01, 0.25)
at_1e8 = int(np.argmin(np.abs(hs - 1e-8)))


def errors(difference):
    """The median error over the points, for each step."""
    return np.array([np.median(np.abs(difference(points, h) - slope(points))) for h in hs])


def in_float32(x, h):
    x, h = x.astype(np.float32), np.float32(h)
    return (f(x + h) - f(x - h)) / (2 * h)


with np.errstate(all="ignore"):
    measured = {
        "forward": errors(lambda x, h: (f(x + h) - f(x)) / h),
        "central": errors(lambda x, h: (f(x + h) - f(x - h)) / (2 * h)),
        "complex step": errors(lambda x, h: f(x + 1j * h).imag / h),
        "central, float32": errors(in_float32),
    }
theory = hs**2 / 6 * np.median(np.abs(third(points))) + EPS * np.median(f(points)) / (2 * hs)
best = {name: hs[np.nanargmin(e)] for name, e in measured.items()}
print("difference           step of least error      theory        error there   at h = 1e-8")
for name, expected in {"forward": EPS**0.5, "central": EPS ** (1 / 3), "central, float32": EPS32 ** (1 / 3)}.items():
    e = measured[name]
    print(f"    {name:17} {best[name]:12.0e}  {expected:18.0e} {np.nanmin(e):18.0e} {e[at_1e8]:13.0e}")
    assert 1 / 10 < best[name] / expected < 10
print(f"    complex step      any below 1e-8           none {measured['complex step'][0]:19.0e} {measured['complex step'][at_1e8]:13.0e}")
arms = {"right": (hs >= 1e-4) & (hs <= 1e-2), "left": (hs >= 1e-12) & (hs <= 1e-8)}
arms = {name: np.polyfit(np.log(hs[part]), np.log(measured["central"][part]), 1)[0] for name, part in arms.items()}
print(f"central differences: the right arm rises as h^{arms['right']:.2f} (theory 2), the left one as h^{arms['left']:.2f} (theory -1)\n")
assert abs(arms["right"] - 2) < 0.1 and abs(arms["left"] + 1) < 0.15
assert measured["complex step"][0] < 1e-15 and np.nanmin(measured["central"]) < 1e-9

# %% Richardson's extrapolation
# Central differences err in even powers only: D(h) = f' + c2 h^2 + c4 h^4 + ... Half the step: D(h/2) = f' + c2 h^2/4 + c4 h^4/16 + ...
# Four times the second less the first has no c2 any more: T1 = (4 D(h/2) - D(h)) / 3 = f' + O(h^4). Two such, 16 T1(h/2) - T1(h) over 15,
# have no c4, and so on: T[i][j] = T[i][j-1] + (T[i][j-1] - T[i-1][j-1]) / (4^j - 1). Five levels from h = 1/16 never use a step below
# 1/256, so rounding hardly matters, and the error is that of h^10.


def table(f, h, levels=5):
    """T[i][j]: row i begins with the central difference of step h / 2^i, column j has extrapolated j times."""
    T = []
    for i in range(levels):
        T.append([(f(h / 2**i) - f(-h / 2**i)) / (2 * h / 2**i)])
        for j in range(1, i + 1):
            T[i].append(T[i][j - 1] + (T[i][j - 1] - T[i - 1][j - 1]) / (4**j - 1))
    return T


T = table(lambda h: f(1.1 + h), 1 / 16)
print("Richardson's table for exp(sin 3x) at 1.1: errors, by step (down) and number of extrapolations (right)")
for i, row in enumerate(T):
    print(f"    h = 1/{16 * 2**i:<4} " + "".join(f"{abs(t - slope(1.1)):10.0e}" for t in row))
steps = 2.0 ** np.arange(-1, -13, -1)
columns = {
    j: [float(np.median([abs(table(lambda t, x=x: f(x + t), h * 2**j, j + 1)[j][j] - slope(x)) for x in points[:50]])) for h in steps]
    for j in range(5)
}
orders = [float(np.log2(columns[j][4] / columns[j][5])) for j in columns]
print("order of the error, from h = 1/32 to 1/64 (theory 2, 4, 6, 8, 10): " + ", ".join(f"{order:.1f}" for order in orders))
last = abs(T[4][4] - slope(1.1))
print(f"the last element is good to {last:.0e}, the best single difference to {np.nanmin(measured['central']):.0e}\n")
assert all(abs(order - 2 * j - 2) < 0.5 for j, order in enumerate(orders[:3]))
assert last < 1e-11 and last < np.nanmin(measured["central"])

# %% A tolerance that nobody sets
# How far may a gradient be from the difference? `allclose` with 1e-5 and 1e-3 is a guess. The table knows: what the last extrapolation
# still changed is a bound of what is left (the error falls by 4^j from column to column), and rounding is known from the size of f.
#     bound = 8 (|T44 - T33| + 64 eps (|f| + |x T44|) / h_min)
# check.derivative returns both. Tried here on functions whose slope is known and that are scaled by 1e-8 to 1e8, against fixed tolerances.
known = [
    (np.exp, np.exp),
    (np.sin, np.cos),
    (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    (np.log, lambda x: 1 / x),
    (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    (lambda x: x**5, lambda x: 5 * x**4),
    (lambda x: 1 / x, lambda x: -1 / x**2),
    (f, slope),
]
found = []
for _ in range(100 if QUICK else 1000):
    (g, exact), x0, scale = known[rng.integers(len(known))], rng.uniform(0.5, 2), 10 ** rng.uniform(-8, 8)
    by_table, bound = check.derivative(lambda t, g=g, x0=x0, c=scale: c * float(g(x0 + t)), 1 / 16, scale * abs(float(g(x0))), x0)
    plain = scale * (g(x0 + 1e-6) - g(x0 - 1e-6)) / 2e-6
    found.append((scale * exact(x0), by_table, bound, plain))
exact, by_table, bound, plain = np.array(found).T
print(
    f"{len(found)} slopes between {np.abs(exact).min():.0e} and {np.abs(exact).max():.0e}          right ones refused   factor 2 passes   1 + 1e-4 passes"
)
rows = {
    "h = 1e-6, rtol 1e-3, atol 1e-5 (PyTorch's)": (plain, 1e-5 + 1e-3 * np.abs(plain)),
    "h = 1e-6, atol 1e-8": (plain, 1e-8),
    "Richardson, its own bound": (by_table, bound),
}
shares = {}
for name, (estimate, tolerance) in rows.items():
    shares[name] = [float(np.mean(np.abs(exact - estimate) > tolerance))]
    shares[name] += [float(np.mean(np.abs(c * exact - estimate) <= tolerance)) for c in (2, 1 + 1e-4)]
    print(f"    {name:43} " + "".join(f"{share:18.1%}" for share in shares[name]))
print(
    f"the bound is {np.median(bound / np.abs(exact)):.0e} of the slope (median), the true error {np.median(np.abs(by_table - exact) / np.abs(exact)):.0e}\n"
)
assert shares["Richardson, its own bound"] == [0, 0, 0]
assert shares["h = 1e-6, rtol 1e-3, atol 1e-5 (PyTorch's)"][1] > 0.1 and shares["h = 1e-6, atol 1e-8"][0] > 0.1
if not options.no_plots:
    curves.differences(options.out / "differences.png", hs, measured, theory, EPS, steps, columns, np.abs(by_table - exact), bound)

# %% Ones are a bad cotangent
# A rule is a map g -> J^T g, and a check asks it for one g. `out.sum().backward()` asks for g = 1. But the rows of a softmax sum to 1
# whatever x is, and those of a layer norm to 0: their gradient of the sum IS zero, and so a rule that returns zeros is right about the only
# question that it was asked. A loss of squares asks for g = y: then all norms say zero, since the length of their output is fixed.
# The loss ((y + 1)^2).mean() asks for both at once, and of layer norm's answer only what its eps does is left. A random g has no blind spot.
x = rng.normal(size=(3, 5))
blind = {
    "softmax": F.softmax,
    "layer_norm": F.layer_norm,
    "rms_norm": F.rms_norm,
    "x / |x|": lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True),
    "log_softmax": F.log_softmax,
    "tanh": np.tanh,
}
cotangents = {"ones": np.ones_like, "y": lambda y: y, "y + 1": lambda y: y + 1, "random": lambda y: rng.normal(size=y.shape)}
print("largest gradient, true rule     g = " + "".join(f"{name:>10}" for name in cotangents) + "     and a rule of zeros")
for name, op in blind.items():
    row = [float(np.abs(tn.vjp(op, x)[1](g(np.asarray(op(x))))).max()) for g in cotangents.values()]
    nothing = tn.custom_vjp(op, lambda g, y, x: np.zeros_like(x))
    try:
        check.check_grads(nothing, x, order=1)
        verdict = "passes"
    except check.GradientError:
        verdict = "is noticed by check_grads"
    print(f"    {name:32}" + "".join(f"{r:10.0e}" for r in row) + f"     {verdict}")
    assert verdict != "passes" and row[-1] > 0.1
    assert (row[0] < 1e-4) == (name in ("softmax", "layer_norm"))
print("(layer_norm and rms_norm have an eps of 1e-5 and 1e-6 under the root: their zeros are only nearly so)\n")

# %% Kinks
# At a kink there is no derivative. Central differences say the mean of the two slopes; an engine must say something, and what it says is a
# promise that no difference can check. Ours (docs/design.md): ties share evenly, so that the gradients of a tie sum to g; relu'(0) = 0.
kinks = {
    "relu at 0": (F.relu, [0.0], [0.0]),
    "|x| at 0": (np.abs, [0.0], [0.0]),
    "max of (1, 1)": (np.max, [1.0, 1.0], [1 / 2, 1 / 2]),
    "max of (1, 1, 1)": (np.max, [1.0, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3]),
    "maximum(x, 0) at 0": (lambda x: np.maximum(x, 0), [0.0], [1 / 2]),
    "clip(x, 0, 1) at 0": (lambda x: np.clip(x, 0, 1), [0.0], [1.0]),
    "norm of (0, 0)": (np.linalg.norm, [0.0, 0.0], [0.0, 0.0]),
}
print("at a kink                differences say             the engine says")
for name, (op, at, promise) in kinks.items():
    at = np.array(at)
    said, _ = check.differences(lambda op=op, at=at: float(np.sum(op(at))), at, 1 / 16, 1.0)
    engine = tn.grad(lambda x, op=op: np.sum(op(x)))(at)
    print(f"    {name:20} {np.array2string(said, precision=3):27} {np.array2string(engine, precision=3)}")
    assert np.array_equal(engine, promise)
print("three equal numbers: differences add up to 3/2, for a maximum that moves by h if all three do\n")

# %% check_grads on a function of your own
# One call compares every element with its bound; then the gradient of the gradient, forward mode, and the same in float32. Where it fails it
# guesses the cause from the pattern. Each of these looks right at a glance; `custom_vjp(f, rule, ...)` is f with a rule of one's own.
square = tn.custom_vjp(lambda x: x * x, lambda g, y, x: g * x)
shift = tn.custom_vjp(np.add, lambda g, y, x, b: (g, g[0]))
product = tn.custom_vjp(np.matmul, lambda g, y, a, b: (g @ np.swapaxes(b, 0, 1), a @ g))
mean = tn.custom_vjp(lambda x: np.mean(x, axis=1), lambda g, y, x: np.broadcast_to(np.expand_dims(g, 1), x.shape))
exp = tn.custom_vjp(np.exp, lambda g, y, x: g * tn.stop_gradient(y))
A, b = rng.normal(size=(3, 3)), rng.normal(size=3)
mistakes = {
    "d(x*x) = x": (square, A),
    "the sum over the batch is missing": (lambda x, b: np.tanh(shift(x, b)), A, b),
    "the transpose of a is missing": (product, A, rng.normal(size=(3, 3))),
    "the 1/n of a mean is missing": (mean, A),
    "a value taken out of the graph": (lambda x: x.value * 1.0 + 0 * x, A),
    "right, but its own gradient is not": (exp, A),
    "a float64 constant": (lambda x: np.sqrt(2 / np.pi) * x, A.astype(np.float32)),
    "relu at 0": (F.relu, np.zeros(2)),
}
said = {}
for name, (op, *arguments) in mistakes.items():
    try:
        check.check_grads(op, *arguments)
        raise SystemExit(f"check_grads did not notice: {name}")
    except check.GradientError as error:
        said[name] = str(error)
        print(f"{name}\n" + textwrap.fill(said[name], 132, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))
check.check_grads(F.gelu, A)  # silence: all of it holds
hints = (
    "a factor 2 is lost",
    "a missing sum over a broadcast axis",
    "a transpose",
    "a constant factor 3",
    "detached",
    "order 2",
    "float64",
    "a kink",
)
assert all(hint in message for hint, message in zip(hints, said.values()))
print()


# %% The checks of seven projects, and ours
# Each in a few lines of ours, walkthroughs/engine/_checks.py, from what its sources and documentation say: only what decides between right
# and wrong, first order, reverse mode. (The projects have other tests besides; none of these rules looks at kinks.)
#     minitorch   grad_check             g = 1, one random element of each input, h 1e-6, atol and rtol 1e-2
#     DeZero      gradient_check         g = 1, every element, h 1e-4, rtol 1e-4, atol 1e-5
#     tinygrad    helper_test_op         the loss mean((y+1)^2) in float32 against PyTorch, rtol 1e-3, atol 1e-4, dtypes
#     PyTorch     gradcheck              the whole Jacobian, h 1e-6, rtol 1e-3, atol 1e-5, twice with the same result
#     JAX         check_vjp              a random g and a random direction, h 1e-4, 1e-5
#     autograd    check_vjp (HIPS)       a random g and a random direction, h 1e-6, 1e-6 absolute or relative, shape and dtype
#     MyGrad      backprop_test_factory  a random g, complex step, 1e-8 (or differences, h 1e-8, 1e-4), nothing written to
#     ours        the suite              a random g, Richardson with its own bound, float32 stays float32, read-only arrays, kinks as promised
# They meet the 27 functions of _wrong_rules.py, each with a right rule and the wrong ones that somebody might write. Wrong rules that nobody could
# tell from right ones, the transpose of a vector for example, do not count. (JAX's own arrays cannot be written to: there those kinds do not
# exist. tinygrad has had several checks; this is its operators'.)
RECIPES = {
    "minitorch": checks.minitorch,
    "DeZero": checks.dezero,
    "tinygrad": checks.tinygrad,
    "PyTorch gradcheck": checks.pytorch,
    "JAX": checks.jax,
    "HIPS autograd": checks.autograd,
    "MyGrad": checks.mygrad,
    "check_grads": checks.check_grads,
    "our suite": checks.suite,
}
few = ("multiply", "relu", "matmul", "take rows", "softmax", "layer norm")
ops = [op for name, op in OPS.items() if FULL or name in few]
wrong = [(kind, op, rule) for op in ops for kind, rule in wrong_rules(op)]
kinds = list(dict.fromkeys(kind for kind, *_ in wrong))
POINTS = 3  # drawn for each rule; it is noticed if it fails at one of them


def passes(recipe, op, rule, seed, **without):
    """Whether a check lets a rule pass, at a point drawn for it."""
    rng = np.random.default_rng(seed)
    xs = draw(op, rng)
    with np.errstate(all="ignore"):
        return recipe(op, rule, xs, rng, **without)


def noticed_by(recipe, **without):
    """For each wrong rule, whether the check notices it."""
    return np.array(
        [not all(passes(recipe, op, rule, (options.seed, n, i), **without) for i in range(POINTS)) for n, (_, op, rule) in enumerate(wrong)]
    )


noticed, alarms = {}, {}
for name, recipe in tqdm(RECIPES.items(), desc="checks", unit="check", disable=None):
    noticed[name] = noticed_by(recipe)
    alarms[name] = sum(not passes(recipe, op, op.rule, (1, options.seed, i)) for op in ops for i in range(20))
share = {name: float(found.mean()) for name, found in noticed.items()}
print(f"{len(ops)} functions, {len(wrong)} wrong rules   noticed     of {20 * len(ops)} right ones refused")
for name in RECIPES:
    print(f"    {name:28} {share[name]:7.0%} {alarms[name]:24}")
by_kind = np.array([[found[[k == kind for k, *_ in wrong]].mean() for found in noticed.values()] for kind in kinds])
missed = {kind for (kind, *_), found in zip(wrong, noticed["check_grads"]) if not found}
print(f"what check_grads alone lets pass: {', '.join(missed) or 'nothing'}")
assert not any(alarms.values()) and share["our suite"] == 1 and missed <= {"at a tie or kink"}
assert all(share[name] < 1 for name in RECIPES if name != "our suite")
if FULL:
    assert max(share["minitorch"], share["DeZero"]) < min(share[name] for name in RECIPES if name not in ("minitorch", "DeZero")), (
        "ones are worst"
    )

# %% What each ingredient is worth
# Leave one out, and count again.
ingredients = {
    "random cotangent": {"cotangent": False},
    "float32 in, float32 out": {"widths": False},
    "step and bound by theory": {"step": False},
    "read-only arrays": {"memory": False},
    "promises at kinks": {"edges": False},
}
worth = {name: float(noticed_by(checks.suite, **without).mean()) for name, without in ingredients.items()}
print("\nnoticed by our suite without the " + "".join(f"\n    {name:34} {w:6.1%}" for name, w in worth.items()) + "\n")
assert all(w < 1 for w in worth.values())

# %% Break it
# A layer norm whose rule treats mean and spread as constants: g / s, half the calculus. A network of four such layers learns to read digits, only worse, and one would blame the learning rate. With a rule of zeros, which
# passes a test that asks for the sum's gradient with a tolerance, the last layer still learns. Nothing in these curves says "the gradient is wrong"; one call of check_grads does.
deviation = lambda x: np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-5)
over = lambda x: np.mean(x, axis=-1, keepdims=True)
norms = {
    "the right rule": F.layer_norm,
    "mean and spread taken as constants": tn.custom_vjp(F.layer_norm, lambda g, y, x: g / deviation(x)),
    "a rule of zeros": tn.custom_vjp(F.layer_norm, lambda g, y, x: np.zeros_like(x)),
}
images, labels, test_images, test_labels = data.digits_split()
images, test_images = images.reshape(-1, 64), test_images.reshape(-1, 64)


def network(layers, x, norm):
    for layer in layers[:-1]:
        x = F.relu(norm(layer(x)))
    return layers[-1](x)


def train(norm, steps):
    rng = np.random.default_rng(options.seed)
    layers = [nn.Linear(64, n, rng=rng) for n in (64, 64, 64, 64, 10)]
    params, losses = tn.parameters(layers), []
    optimizer = optim.AdamW(params, lr=3e-3)
    for step, index in zip(range(steps), data.minibatches(len(images), 64, rng)):
        loss = F.cross_entropy(network(layers, images[index], norm), labels[index])
        optimizer.step(tn.gradients(loss, params, unused="raise"), lr=optim.cosine(step, peak=3e-3, steps=steps))
        losses.append(loss.item())
    return losses, float(np.mean(np.argmax(network(tn.frozen(layers), test_images, norm), axis=1) == test_labels))


print("a network with four layer norms learns digits      loss, first   last 20   test images right   check_grads")
trained = {}
for name, norm in norms.items():
    trained[name] = losses, right = train(norm, 20 if QUICK else 300)
    try:
        check.check_grads(norm, rng.normal(size=(3, 5)), order=1)
        verdict = "passes"
    except check.GradientError as error:
        verdict = f"argument{str(error).partition('argument')[2].partition(':')[0]} is wrong"
    print(f"    {name:46} {losses[0]:11.2f} {np.mean(losses[-20:]):9.3f} {right:19.1%}   {verdict}")
    assert (verdict == "passes") == (name == "the right rule")
if FULL:
    (_, good), (_, half), (_, none) = trained.values()
    assert good > 0.9 > half + 0.05 and half > 0.6 and none > 0.5, "a wrong gradient learns, only worse"
if not options.no_plots:
    smoothed = {name: np.convolve(losses, np.ones(10) / 10, "valid") for name, (losses, _) in trained.items()}
    curves.recipes(options.out / "recipes.png", share, kinds, by_kind, worth)
    curves.broken(options.out / "broken.png", smoothed)
    print(f"pictures: {options.out}/differences.png, recipes.png, broken.png")

# %% Common mistakes
# "I back-propagate out.sum() and compare." Measured above: layer norm and softmax pass with a rule of zeros, and a suite that is otherwise ours
# loses three wrong rules of ten.
# "The smaller h, the better: 1e-8." Measured above: a few hundred times worse than 6e-6, and in float32 no number moves at all.
moves = np.mean(points.astype(np.float32) + np.float32(1e-8) != points.astype(np.float32))
print(f"\nfloat32 numbers between 1 and 2 that change when 1e-8 is added: {moves:.0%}")
assert moves == 0 and measured["central"][at_1e8] > 50 * np.nanmin(measured["central"])
# "We train in float32, so we check in float32." Then no error below 1e-5 can be seen, however well the step is chosen; check_grads takes its
# differences in float64 and compares the float32 gradient with the float64 one.
# "I check the model as it was initialised." Where a weight is zero, so is every gradient behind it, right or wrong:
nothing = tn.custom_vjp(np.tanh, lambda g, y, x: np.zeros_like(x))
head = lambda W: lambda x: np.sum((nothing(x) @ W) ** 2 + nothing(x) @ W)
check.check_grads(head(np.zeros((3, 2))), A, order=1)  # passes
try:
    check.check_grads(head(rng.normal(size=(3, 2))), A, order=1)
    raise SystemExit("check_grads did not notice")
except check.GradientError:
    print("a rule of zeros behind a weight of zeros passes; behind a random weight it does not")
# "It passed, so the loss is right." A check compares the gradient with the function as it is written. Whether that is the function that
# you meant (the mask the right way round, the mean over the right axis) no difference can tell.

# %% Exercises
# 1. The second derivative by (f(x+h) - 2 f(x) + f(x-h)) / h^2: which step is best, and how good is it there? Draw the U.
# 2. For which g, apart from ones, does layer norm's rule of zeros pass? How likely is it that a random g is one of them?
# 3. gradcheck asks for the whole Jacobian, row by row. Which kind of wrong rule does it let pass that one random g notices, and why?
# 4. The engine casts every gradient to its input's dtype. Why does a check care that a rule returns float64 for float32?
# 5. How small an error does check_grads notice? Multiply the rule of exp by 1 + e, and halve e until it passes.
#
# Answers
# 1. h^2/12 f'''' against 2 eps |f| / h^2: h* is about eps^(1/4) = 1e-4 and the error there about eps^(1/2) = 1e-8; here 6e-5 and 4e-8.
# 2. Those that in each row are a + b y, two dimensions of as many as the row is long (but for eps). A random g is none: probability zero.
# 3. |g|, and all that is not linear in g: a row of the identity is not negative, so |g| = g. (The table above: kind "|g|".)
# 4. It costs the time and memory of float64 in the whole backward pass until the cast; and where the engine does not cast, in the second order,
#    the width spreads.
# 5. 1e-10: the bound is some thousand times larger than the true error, on purpose. A slip that matters is larger by far.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
