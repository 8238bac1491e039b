"""Optimizers: eight rules by hand, and in a valley whose theory is known.

RUNNING TIME: 5 seconds (--quick: 2 seconds)

From momentum (Polyak, 1964) to Adam (Kingma and Ba, 2015) and Lion (Chen et al., 2023). You will see SGD need as many steps as theory says,
momentum the square root of that, and Adam not notice the shape of a valley until it is turned by 45 degrees; the paths they take; and
Adam without its bias correction.

What stands around the rule, weight decay, schedules, warm-up and clipping, is in walkthroughs/engine/schedules.py.

    python -m walkthroughs engine/optimizers             the whole story
    python -m walkthroughs engine/optimizers --quick     a few steps of each
"""

# %% Settings
import math
import time
from functools import partial

import tinygrad_notes as tn
from tinygrad_notes import optim
from walkthroughs.engine import _curves as curves
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("engine/optimizers", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()


# %% The rules
# Each takes the parameter p, its gradient g, the moments in a dict s (zero at first) and the number t = 1, 2, ... of the step. b1, b2 are decay
# rates of running means: m of g, v of g^2. A mean that began at zero is too small by 1 - b^t; Adam divides by that (bias correction).
def sgd(p, g, s, t, lr):
    return p - lr * g


def momentum(p, g, s, t, lr, mu=0.9):  # m <- mu m + g
    s["m"] = mu * s.get("m", 0) + g
    return p - lr * s["m"]


def nesterov(p, g, s, t, lr, mu=0.9):  # looks ahead along m
    s["m"] = mu * s.get("m", 0) + g
    return p - lr * (g + mu * s["m"])


def adagrad(p, g, s, t, lr, eps=1e-10):  # the sum of squares only grows: the rate falls as 1 / sqrt(t)
    s["v"] = s.get("v", 0) + g * g
    return p - lr * g / (np.sqrt(s["v"]) + eps)


def rmsprop(p, g, s, t, lr, b2=0.99, eps=1e-8):  # a mean instead of the sum
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    return p - lr * g / (np.sqrt(s["v"]) + eps)


def adam(p, g, s, t, lr, b1=0.9, b2=0.999, eps=1e-8, corrected=True):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    m, v = (s["m"] / (1 - b1**t), s["v"] / (1 - b2**t)) if corrected else (s["m"], s["v"])
    return p - lr * m / (np.sqrt(v) + eps)


def adamw(p, g, s, t, lr, decay=0.01, **rest):  # the decay does not pass through m and v
    return adam(p - lr * decay * p, g, s, t, lr, **rest)


def lion(p, g, s, t, lr, b1=0.9, b2=0.99):  # the sign: every element moves by lr
    m = s.get("m", 0)
    s["m"] = b2 * m + (1 - b2) * g
    return p - lr * np.sign(b1 * m + (1 - b1) * g)


# %% The idea by hand
# Three weights with the gradients 4, 1 and -1/4, and the first step of each rule with lr = 0.1. SGD goes as far as the gradient is large; the
# rules that divide by the root of a mean of squares ask only for its sign, in the first step. (RMSProp's mean is not corrected: 10 times as far.)
p, g = np.zeros(3), np.array([4.0, 1.0, -0.25])
first = {rule.__name__: rule(p, g, {}, 1, 0.1) for rule in (sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lion)}
print("the first step, lr = 0.1, gradients 4, 1, -1/4")
for name, step in first.items():
    print(f"    {name:10}" + "".join(f"{x:9.3f}" for x in step))
assert np.allclose(first["sgd"], [-0.4, -0.1, 0.025]) and np.allclose(first["nesterov"], 1.9 * first["sgd"])
assert all(np.allclose(first[name], [-0.1, -0.1, 0.1]) for name in ("adagrad", "adam", "adamw", "lion"))
assert np.allclose(first["rmsprop"], [-1, -1, 1])

# %% Check them: the same numbers as tinygrad_notes.optim
# The library's rules work in place, in chunks, with fewer passes over memory. 300 steps with random gradients, float64:
pairs = {
    "SGD": (partial(sgd, lr=0.01), partial(optim.SGD, lr=0.01)),
    "momentum": (partial(momentum, lr=0.01), partial(optim.SGD, lr=0.01, momentum=0.9)),
    "Nesterov": (partial(nesterov, lr=0.01), partial(optim.SGD, lr=0.01, momentum=0.9, nesterov=True)),
    "Adagrad": (partial(adagrad, lr=0.01), partial(optim.Adagrad, lr=0.01)),
    "RMSProp": (partial(rmsprop, lr=0.01), partial(optim.RMSProp, lr=0.01)),
    "Adam": (partial(adam, lr=0.01), partial(optim.Adam, lr=0.01)),
    "AdamW": (partial(adamw, lr=0.01, decay=0.1), partial(optim.AdamW, lr=0.01, weight_decay=0.1)),
    "Lion": (partial(lion, lr=0.01), partial(optim.Lion, lr=0.01)),
}
print("\nby hand and by the library, 300 steps: largest relative difference")
apart = {}
for name, (rule, library) in pairs.items():
    p, leaf, moments = np.ones(50), tn.Tensor(np.ones(50)), {}
    optimizer, apart[name] = library(leaf), 0.0
    for t in range(1, 301):
        g = rng.normal(size=50) * 10.0 ** rng.integers(-3, 3)
        p = rule(p, g, moments, t)
        optimizer.step(g)
        apart[name] = max(apart[name], float(np.max(np.abs(p - leaf.value) / np.maximum(1, np.abs(p)))))
print("    " + ", ".join(f"{name} {error:.0e}" for name, error in apart.items()))
assert max(apart.values()) < 1e-12


# %% A valley whose theory is known
# L(p) = p^T H p / 2 with the curvatures 1 and k: k is the condition number, how much steeper the walls are than the floor. SGD multiplies the
# part of p along a curvature c by 1 - lr c in each step. The best lr makes both ends equal, 2 / (1 + k), and leaves (k-1)/(k+1) of the
# distance. Momentum (Polyak 1964) with lr = (2 / (1 + sqrt k))^2 and mu = ((sqrt k - 1)/(sqrt k + 1))^2 has the rate (sqrt k - 1)/(sqrt k + 1):
# k steps become sqrt k. (Its two roots coincide, so t rho^t is the law and a few more steps are needed.)
def valley(k, angle=0.0):
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag([1.0, k]) @ turn.T


def run(rule, gradient, start, steps, near=None):
    """The path (steps + 1, n), or as far as near(p)."""
    path, moments = [np.array(start, float)], {}
    for t in range(1, steps + 1):
        path.append(rule(path[-1], gradient(path[-1]), moments, t))
        if (near and near(path[-1])) or not np.all(np.abs(path[-1]) < 1e6):
            break
    return np.array(path)


def steps_needed(rule, H, tolerance, most=100_000):
    """Until the distance to the minimum is `tolerance` of what it was. It begins at the same place, seen along both curvatures."""
    start = np.linalg.eigh(H)[1] @ np.array([1.3, 0.7])
    near = lambda p: np.linalg.norm(p) < tolerance * np.linalg.norm(start)
    path = run(rule, lambda p: H @ p, start, most, near)
    return len(path) - 1 if near(path[-1]) else math.inf


ks = [10, 100] if QUICK else [10, 100, 1000, 10_000]
table = {name: [] for name in ("SGD", "SGD, theory", "momentum", "momentum, theory", "Nesterov")}
for k in ks:
    root = math.sqrt(k)
    table["SGD"].append(steps_needed(partial(sgd, lr=2 / (1 + k)), valley(k), 1e-6))
    table["SGD, theory"].append(math.log(1e-6) / math.log((k - 1) / (k + 1)))
    mu = ((root - 1) / (root + 1)) ** 2
    table["momentum"].append(steps_needed(partial(momentum, lr=(2 / (1 + root)) ** 2, mu=mu), valley(k), 1e-6))
    table["momentum, theory"].append(math.log(1e-6) / math.log((root - 1) / (root + 1)))
    table["Nesterov"].append(steps_needed(partial(nesterov, lr=1 / k, mu=(root - 1) / (root + 1)), valley(k), 1e-6))
print("\nsteps to a millionth of the distance   " + "".join(f"{f'k = {k:,}':>12}" for k in ks))
for name, row in table.items():
    print(f"    {name:35}" + "".join(f"{n:12,.0f}" for n in row))
for k, measured, theory, fast, bound in zip(ks, *list(table.values())[:4]):
    assert abs(measured - theory) <= 1 and bound <= fast < 2 * bound, f"k = {k}"

# %% Adam does not see k, until the valley is turned
# Adam divides each coordinate by its own size. With walls along the axes that undoes k altogether: the gradients of the second coordinate are k
# times as large, and so is their root mean square. But it is tied to the axes. Turned by 45 degrees, both coordinates have large gradients,
# and the floor of the valley is as flat as before. SGD turns with the valley and sees no difference.
RATES = (0.01, 0.03, 0.1, 0.3)
turned = {}
print("\nsteps to a thousandth, best of four rates " + "".join(f"{f'k = {k:,}':>12}" for k in ks[:3]))
for name, rule in (("Adam", adam), ("RMSProp", rmsprop), ("Adagrad", adagrad)):
    for angle, how in ((0.0, "along the axes"), (math.pi / 4, "turned by 45")):
        scale = 10 if name == "Adagrad" else 1  # its rate falls, so it begins higher
        turned[name, how] = [min(steps_needed(partial(rule, lr=scale * lr), valley(k, angle), 1e-3, 3000) for lr in RATES) for k in ks[:3]]
        print(f"    {name + ', ' + how:38}" + "".join(f"{n:12,}" if n < math.inf else f"{'> 3,000':>12}" for n in turned[name, how]))
assert all(len(set(row)) == 1 for (_, how), row in turned.items() if how == "along the axes")
assert all(row[-1] > (5 if FULL else 1.1) * row[0] for (_, how), row in turned.items() if how == "turned by 45")
both = [steps_needed(partial(sgd, lr=2 / (1 + ks[1])), valley(ks[1], angle), 1e-3) for angle in (0.0, math.pi / 4)]
assert abs(both[0] - both[1]) <= 1

# %% Paths
# The same rules in a turned valley with k = 30, and in Rosenbrock's curved one, (1 - x)^2 + 100 (y - x^2)^2, each with its best rate of a few.
rosenbrock = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
slope = lambda p: np.array([-2 * (1 - p[0]) - 400 * p[0] * (p[1] - p[0] ** 2), 200 * (p[1] - p[0] ** 2)])
assert np.allclose(tn.grad(rosenbrock)(np.array([-1.2, 1.0])), slope(np.array([-1.2, 1.0])))
H = valley(30, math.pi / 6)
places = {
    "valley": (lambda p: H @ p, [-2.2, -0.6], np.zeros(2), lambda x, y: (H[0, 0] * x * x + 2 * H[0, 1] * x * y + H[1, 1] * y * y) / 2),
    "Rosenbrock": (slope, [-1.2, 1.0], np.ones(2), lambda x, y: rosenbrock([x, y])),
}
rules = {
    "SGD": (sgd, 10.0 ** np.arange(-4, 0, 0.25)),
    "momentum": (momentum, 10.0 ** np.arange(-4, 0, 0.25)),
    "Nesterov": (nesterov, 10.0 ** np.arange(-4, 0, 0.25)),
    "RMSProp": (rmsprop, 10.0 ** np.arange(-3, -1, 0.25)),
    "Adam": (adam, 10.0 ** np.arange(-2.5, -0.4, 0.25)),
    "Lion": (lion, 10.0 ** np.arange(-3, -1, 0.25)),
}
MOST = 200 if QUICK else 5000
paths, best = {}, {}
for place, (gradient, start, goal, _) in places.items():
    for name, (rule, rates) in rules.items():
        near = lambda p, goal=goal: np.linalg.norm(p - goal) < 0.05
        with np.errstate(all="ignore"):
            tried = {float(lr): run(partial(rule, lr=lr), gradient, start, MOST, near) for lr in rates[:: 4 if QUICK else 1]}
        lr = min(tried, key=lambda lr: len(tried[lr]) if near(tried[lr][-1]) else MOST + np.linalg.norm(tried[lr][-1] - goal))
        paths[place, name], best[place, name] = tried[lr], lr
print(f"\nsteps to a distance of 0.05 (rate)      {'valley, k = 30':>18} {'Rosenbrock':>18}")
for name in rules:
    cells = []
    for place, (*_, goal, _) in places.items():
        path = paths[place, name]
        arrived = np.linalg.norm(path[-1] - goal) < 0.05
        cells.append(f"{len(path) - 1 if arrived else f'> {MOST}'} ({best[place, name]:.2g})")
    print(f"    {name:34} {cells[0]:>18} {cells[1]:>18}")
if FULL:
    assert len(paths["Rosenbrock", "momentum"]) < len(paths["Rosenbrock", "SGD"]) / 2


# %% Break it: Adam without its bias correction
# m and v begin at zero. After t steps m is 1 - 0.9^t of the mean, v is 1 - 0.999^t of it, and a step is the ratio of the first to the root of the
# second: with a gradient that never changes, 0.1 / sqrt(0.001) = 3.2 times too long at first, and at its worst after a dozen steps. It takes
# more than a thousand steps to wear off. So the correction is worst missed just when the weights are still random.
strides = {
    corrected: np.abs(np.diff(run(partial(adam, lr=1.0, corrected=corrected), np.ones_like, [0.0], 4000)[:, 0]))
    for corrected in (True, False)
}
corrected, uncorrected = strides[True], strides[False]
law = lambda t: (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
print(f"""
a gradient of 1 in every step, lr = 1: length of Adam's steps    first   longest (step)   first within 10 %
    with bias correction                                        {corrected[0]:6.2f} {corrected.max():9.2f}       {"1":>12}
    without                                                     {uncorrected[0]:6.2f} {uncorrected.max():9.2f} ({uncorrected.argmax() + 1}) {np.argmax(uncorrected < 1.1) + 1:15}""")
assert np.allclose(corrected, 1) and np.allclose(uncorrected, law(np.arange(1, 4001)), rtol=1e-6)
assert math.isclose(uncorrected[0], 0.1 / math.sqrt(0.001), rel_tol=1e-6)

# %% Figures
if not options.no_plots:
    curves.paths(options.out / "paths.png", {place: contours for place, (*_, contours) in places.items()}, paths)
    curves.steps(options.out / "steps.png", ks, table, turned, uncorrected, corrected)
    print(f"pictures: {options.out}/paths.png, steps.png")

# %% Exercises
# 1. SGD in the valley with lr = 2 / k, a little more than the best rate. What happens along the wall, and why is the loss not infinite?
# 2. Momentum with mu = 0.9 goes how much further than SGD with the same lr, if the gradient stays the same? What does that say about comparing rates?
# 3. Turn the valley back: multiply p and H by the rotation, so that the walls are along the axes. Which optimizers are as fast as before?
# 4. Set eps = 1 for Adam. Which other optimizer does it become? At which size of gradients does that happen with eps = 1e-8?
#
# Answers
# 1. The factor there is 1 - 2 = -1: it jumps from wall to wall for ever, and gets no nearer. Any larger rate diverges.
# 2. 1 / (1 - 0.9) = 10 times. Momentum with lr is to be compared with SGD with 10 lr.
# 3. SGD and the two with momentum, in every direction; Adam, RMSProp, Adagrad and Lion only there.
# 4. With eps much larger than sqrt(v) the step is lr m / eps: momentum with the rate lr (1 - b1) / eps. With 1e-8: gradients below 1e-8, as of
#    embeddings of rare words, or of a loss that was divided too often.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
