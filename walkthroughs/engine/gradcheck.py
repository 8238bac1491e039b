"""How a gradient is checked: nearly 500 wrong rules that a check must notice, and what seven projects' checks and ours make of them.

RUNNING TIME: 10 seconds (--quick: 4 seconds)

You will see how a check can pass though the gradient is wrong; `check_grads` guess the cause of eight mistakes; then the check rules
of seven projects, as we re-implemented them, and our own meet the same deliberately wrong rules. At the end a network learns with a wrong
gradient, and only the check complains.

Before it: walkthroughs/engine/differences.py, which derives the differences and their bound that are used here.

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
rng = np.random.default_rng(options.seed)
began = time.process_time()

# %% The idea by hand
# A rule is a map g -> J^T g, and a check compares it with differences of g . f for one g or for some. The softmax of (log 3, 0) is (3/4, 1/4), and
# J = [[3, -3], [-3, 3]] / 16. For g = (1, 0) the answer is (3, -3) / 16. For g = (1, 1), the gradient of the sum, it is (0, 0): for that question
# a rule that returns zeros is right.
x = np.log([3.0, 1.0])
for g in ([1.0, 0.0], [1.0, 1.0]):
    slopes, bounds = check.differences(lambda g=g: float(np.sum(g * F.softmax(x))), x, 1 / 16, 1.0)
    zeros_pass = bool(np.all(np.abs(slopes) <= bounds))
    print(f"g = {g}: J^T g in sixteenths {(16 * slopes).round(9) + 0.0}; a rule of zeros {'passes' if zeros_pass else 'is noticed'}")
    assert zeros_pass == (g == [1.0, 1.0])

# %% Ones are a bad cotangent
# `out.sum().backward()` asks for g = 1. But the rows of a softmax sum to 1
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
print("\nlargest gradient, true rule     g = " + "".join(f"{name:>10}" for name in cotangents) + "     and a rule of zeros")
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
# A layer norm whose rule treats mean and spread as constants: g / s, half the calculus. A network of four such layers learns to read
# digits, only worse, and one would blame the learning rate. With a rule of zeros, which passes a test that asks for the sum's gradient with
# a tolerance, the last layer still learns. Nothing in these curves says "the gradient is wrong"; one call of check_grads does.
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

# %% Common mistakes
# "I back-propagate out.sum() and compare." Measured above: layer norm and softmax pass with a rule of zeros, and a suite that is otherwise ours
# loses three wrong rules of ten.
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

# %% Figures
if not options.no_plots:
    smoothed = {name: np.convolve(losses, np.ones(10) / 10, "valid") for name, (losses, _) in trained.items()}
    curves.recipes(options.out / "recipes.png", share, kinds, by_kind, worth)
    curves.broken(options.out / "broken.png", smoothed)
    print(f"pictures: {options.out}/recipes.png, broken.png")

# %% Exercises
# 1. For which g, apart from ones, does layer norm's rule of zeros pass? How likely is it that a random g is one of them?
# 2. gradcheck asks for the whole Jacobian, row by row. Which kind of wrong rule does it let pass that one random g notices, and why?
# 3. The engine casts every gradient to its input's dtype. Why does a check care that a rule returns float64 for float32?
# 4. How small an error does check_grads notice? Multiply the rule of exp by 1 + e, and halve e until it passes.
#
# Answers
# 1. Those that in each row are a + b y, two dimensions of as many as the row is long (but for eps). A random g is none: probability zero.
# 2. |g|, and all that is not linear in g: a row of the identity is not negative, so |g| = g. (The table above: kind "|g|".)
# 3. It costs the time and memory of float64 in the whole backward pass until the cast; and where the engine does not cast, in the second order,
#    the width spreads.
# 4. 1e-10: the bound is some thousand times larger than the true error, on purpose. A slip that matters is larger by far.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
