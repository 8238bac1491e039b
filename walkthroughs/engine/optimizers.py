"""Optimizers: eight rules by hand, in a valley whose theory is known, and what warm-up, clipping, decay and bias correction are for.

RUNNING TIME: 20 seconds (--quick: 4 seconds)

You will see SGD need as many steps as theory says, momentum the square root of that, and Adam not notice the shape of a valley until it is
turned by 45 degrees. Then one wild gradient, which SGD pays for at once and Adam for thousands of steps; weight decay, which is not L2;
and networks that learn fast only with a warm-up, or only with clipping; and one that lacks the bias correction and tells nobody.

    python -m walkthroughs engine/optimizers             the whole story
    python -m walkthroughs engine/optimizers --quick     a few steps of each
"""

# %% Settings
import math
import time
from functools import partial

import tinygrad_notes as tn
from tinygrad_notes import data, nn, optim
from tinygrad_notes import functional as F
from walkthroughs.engine import _curves as curves
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

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
    """The path (steps + 1, 2), or as far as near(p)."""
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
if not options.no_plots:
    curves.paths(options.out / "paths.png", {place: contours for place, (*_, contours) in places.items()}, paths)
    curves.steps(options.out / "steps.png", ks, table, turned)


# %% Break it: Adam without its bias correction
# m and v begin at zero. After t steps m is 1 - 0.9^t of the mean, v is 1 - 0.999^t of it, and a step is the ratio of the first to the root of the
# second: with a gradient that never changes, 0.1 / sqrt(0.001) = 3.2 times too long at first, and at its worst after a dozen steps. It takes
# more than a thousand steps to wear off. So the correction is worst missed just when the weights are still random.
def stride(rule, gradients):
    """How far each step goes, for lr = 1 and one weight."""
    p, moments, lengths = np.zeros(1), {}, []
    for t, g in enumerate(gradients, 1):
        q = rule(p, np.array([g]), moments, t, 1.0)
        lengths.append(float(abs(q - p)[0]))
        p = q
    return np.array(lengths)


uncorrected, corrected = stride(partial(adam, corrected=False), np.ones(4000)), stride(adam, np.ones(4000))
law = lambda t: (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
print(f"""
a gradient of 1 in every step, lr = 1: length of Adam's steps    first   longest (step)   first within 10 %
    with bias correction                                        {corrected[0]:6.2f} {corrected.max():9.2f}       {"1":>12}
    without                                                     {uncorrected[0]:6.2f} {uncorrected.max():9.2f} ({uncorrected.argmax() + 1}) {np.argmax(uncorrected < 1.1) + 1:15}""")
assert np.allclose(corrected, 1) and np.allclose(uncorrected, law(np.arange(1, 4001)), rtol=1e-6)
assert math.isclose(uncorrected[0], 0.1 / math.sqrt(0.001), rel_tol=1e-6)

# %% Common mistake: "weight decay 0.1 is the L2 term in the loss"
# With SGD it is: the gradient of decay/2 p^2 is decay p, and lr times that is what decay takes away. With Adam that term passes through m and v
# like any gradient, and is divided by its own size. Take a weight that the loss does not touch: its gradient is the term alone, so Adam moves it by lr
# in every step, whatever the decay is, 0.1 or 0.0001. AdamW (Loshchilov and Hutter 2019) takes the decay out of the gradient, "decoupled": the
# weight shrinks by 1 - lr decay in each step, as the word says. Published configurations with "weight decay 0.1" mean this one.
LR, DECAY, N = 0.01, 0.1, 50
silent = np.zeros(1)


def after(optimizer, gradient=lambda p: silent):
    """What N steps make of a weight that begins at 1."""
    leaf = tn.Tensor(np.ones(1))
    opt = optimizer(leaf)
    for _ in range(N):
        opt.step(gradient(leaf.value))
    return leaf.value.item()


with_l2 = lambda decay: lambda p: decay * p
shrunk = {
    "AdamW, decay 0.1": after(partial(optim.AdamW, lr=LR, weight_decay=DECAY)),
    "Adam with L2 0.1": after(partial(optim.Adam, lr=LR), with_l2(DECAY)),
    "Adam with L2 0.0001": after(partial(optim.Adam, lr=LR), with_l2(1e-4)),
    "SGD, decay 0.1": after(partial(optim.SGD, lr=LR, weight_decay=DECAY)),
    "SGD with L2 0.1": after(partial(optim.SGD, lr=LR), with_l2(DECAY)),
}
print(f"\na weight of 1 without a gradient, lr {LR}, after {N} steps; (1 - {LR * DECAY})^{N} = {(1 - LR * DECAY) ** N:.4f}")
for name, p in shrunk.items():
    print(f"    {name:22} {p:.4f}")
assert abs(shrunk["AdamW, decay 0.1"] - (1 - LR * DECAY) ** N) < 1e-12 and abs(shrunk["Adam with L2 0.1"] - 0.5368) < 5e-5
assert abs(shrunk["Adam with L2 0.0001"] - 0.5368) < 1e-3, "a decay a thousand times weaker does the same"
assert abs(shrunk["SGD, decay 0.1"] - shrunk["SGD with L2 0.1"]) < 1e-12

# %% A question people leave open: which decay, then?
# Decoupled decay is a forgetting: without gradients a weight loses 1 - 1/e of itself in 1 / (lr decay) steps. If that is much longer than the run,
# decay does nothing; if it is much shorter, the weights only remember the last steps. So lr and decay are not chosen apart from each other: with
# a tenth of the learning rate, the same decay is a tenth as strong. (With Adam and L2 a weight without gradient moves by lr in any case.)
print("\nsteps until 1/e is left, and what a run leaves of a weight without gradients")
for lr, decay, run_steps, whose in (
    (6e-4, 0.1, 600_000, "nanoGPT's GPT-2"),
    (1e-3, 0.1, 2_000, "a demo"),
    (1e-3, 0.01, 2_000, "the default"),
):
    left = (1 - lr * decay) ** run_steps
    print(f"    lr {lr:.0e}, decay {decay:<5} {1 / (lr * decay):10,.0f} steps; after {run_steps:7,} steps {left:.2g} is left ({whose})")
halved = [after(partial(optim.AdamW, lr=lr, weight_decay=decay)) for lr, decay in ((LR / 2, DECAY), (LR, DECAY / 2))]
assert abs(halved[0] - halved[1]) < 1e-12 and halved[0] > shrunk["AdamW, decay 0.1"], "half the rate is half the decay"

# %% Schedules
# Warm-up from nothing, then half a cosine (Loshchilov and Hutter 2017): lr = floor + (peak - floor) (1 + cos(pi t / T)) / 2.
T = 1000
schedules = {
    "cosine": partial(optim.cosine, peak=1.0, floor=0.1, steps=T),
    "warm-up and cosine": partial(optim.cosine, peak=1.0, floor=0.1, steps=T, warmup=100),
    "warm-up and linear": partial(optim.linear, peak=1.0, floor=0.1, steps=T, warmup=100),
    "inverse square root": partial(optim.inverse_square_root, peak=1.0, warmup=100),
    "one cycle": partial(optim.one_cycle, peak=1.0, steps=T),
}
print("\nlearning rate at step   " + "".join(f"{t:>8}" for t in (0, 99, T // 2, T - 1, T)))
for name, schedule in schedules.items():
    print(f"    {name:20}" + "".join(f"{schedule(t):8.3f}" for t in (0, 99, T // 2, T - 1, T)))
cosine = schedules["cosine"]
assert cosine(0) == 1 and math.isclose(cosine(T // 2), (1 + 0.1) / 2) and math.isclose(cosine(T), 0.1)
assert schedules["warm-up and cosine"](0) == 0.01 and schedules["warm-up and cosine"](99) == 1

# %% Clipping: what one wild gradient does
# clip_by_global_norm takes all gradients as one vector and shortens it to the given norm; its direction stays. A gradient of 1 in every step, and
# once 1,000: SGD jumps a thousand times as far. Adam's step is two and a half times as long, as v grows with it; but then v remembers. It is some 1,600
# times too large, and Adam creeps: its steps come back to half their length only after thousands, since 0.999^t must undo that. Clipped to 1, nothing happens.
many = {"a": 3 * rng.normal(size=(4, 5)), "b": rng.normal(size=7)}
shortened, norm = optim.clip_by_global_norm(many, 1.0)
cosine_of = sum(np.sum(many[key] * shortened[key]) for key in many) / norm
assert norm > 1 >= optim.global_norm(shortened) - 1e-12 and abs(cosine_of - 1) < 1e-12
AT = 1000
wild = np.ones(AT + 7000)
wild[AT] = 1000.0
clipped = np.array([optim.clip_by_global_norm([np.array([g])], 1.0)[0][0].item() for g in wild])
strides = {
    "SGD": stride(sgd, wild),
    "SGD, clipped": stride(sgd, clipped),
    "momentum": stride(momentum, wild) / 10,  # ten steps of momentum 0.9 go as far as one with lr 10 times as large
    "Adam": stride(adam, wild),
    "Adam, clipped": stride(adam, clipped),
}
print("\none gradient of 1,000 among ones, length of the steps       at the spike   10 steps later   1,000 later   half as long again")
for name, lengths in strides.items():
    slow = np.flatnonzero(lengths[AT:] < 0.5)
    back = f"after {slow[-1] + 1:,} steps" if len(slow) else "at once"
    print(f"    {name:46} {lengths[AT]:21.2f} {lengths[AT + 10]:16.2f} {lengths[AT + 1000]:13.2f} {back:>20}")
asleep = np.flatnonzero(strides["Adam"][AT:] < 0.5)
assert strides["SGD"][AT] == 1000 and strides["Adam"][AT] < 4 and asleep[-1] > 5000
assert np.allclose(strides["Adam, clipped"], 1) and np.allclose(strides["SGD, clipped"], 1)
if not options.no_plots:
    ts = np.arange(T + 1)
    drawn = {name: [schedule(t) for t in ts] for name, schedule in schedules.items()}
    curves.schedules(options.out / "schedules.png", ts, drawn, uncorrected, corrected, strides, AT)

# %% A network: where warm-up and clipping make the difference
# Digits, a network with four hidden layers and one with eight and layer norms; no batch of the test set is ever trained on. At a modest rate nothing
# is gained by either. The faster one wants to learn, the more they are needed: a warm-up, because Adam's first step moves every weight by lr,
# and lr = 0.03 is a good part of a random weight; clipping, because a step of momentum is as long as its gradients, and these are largest just
# where the loss is steepest. Neither takes the other's place: Adam's steps have the same length whatever the gradients' norm, and a slow start
# does not spare momentum the steep place later.
images, labels, test_images, test_labels = data.digits_split()
images, test_images = images.reshape(-1, 64), test_images.reshape(-1, 64)
STEPS, SEEDS = (8, 1) if QUICK else (200, 3)


def network(layers, x, normed):
    for layer in layers[:-1]:
        x = F.relu(layer(x))
        x = F.layer_norm(x) if normed else x
    return layers[-1](x)


def train(make, lr, warmup=0, clip=math.inf, hidden=4, normed=False, seed=0, batch=lambda step, x: x):
    """The share of test images that are read rightly; `batch` may spoil a batch."""
    rng = np.random.default_rng([options.seed, seed])
    sizes = [64] * (hidden + 1) + [10]
    layers = [nn.Linear(a, b, rng=rng) for a, b in zip(sizes, sizes[1:])]
    params = tn.parameters(layers)
    optimizer = make(params, lr=lr)
    for step, index in zip(range(STEPS), data.minibatches(len(images), 64, rng)):
        loss = F.cross_entropy(network(layers, batch(step, images[index]), normed), labels[index])
        grads, norm = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), clip)
        if not math.isfinite(norm):  # an optimizer refuses such gradients: this run is lost, and may as well guess
            return 0.1
        optimizer.step(grads, lr=optim.cosine(step, peak=lr, steps=STEPS, warmup=warmup))
    return float(np.mean(np.argmax(network(tn.frozen(layers), test_images, normed), axis=1) == test_labels))


def mean_of(*args, **settings):
    """Over the seeds. Rates that are too high overflow, which is no error here."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean([train(*args, seed=seed, **settings) for seed in range(SEEDS)]))


ways = {"neither": {}, "warm-up": {"warmup": STEPS // 5}, "clipping": {"clip": 1.0}, "both": {"warmup": STEPS // 5, "clip": 1.0}}
with_momentum = partial(optim.SGD, momentum=0.9)
scenes = {
    "Adam, 8 layers with norms": (optim.Adam, (0.003, 0.01, 0.03), {"hidden": 8, "normed": True}),
    "momentum, 4 layers": (with_momentum, (0.1, 0.2, 0.3), {"hidden": 4}),
}
right = {}
bar = tqdm(total=sum(len(rates) for _, rates, _ in scenes.values()) * len(ways) * SEEDS, desc="networks", unit="run", disable=None)
for scene, (make, rates, shape) in scenes.items():
    for way, settings in ways.items():
        for lr in rates:
            right[scene, way, lr] = mean_of(make, lr, **settings, **shape)
            bar.update(SEEDS)
bar.close()
for scene, (_, rates, _) in scenes.items():
    print(f"\n{f'{scene}: digits read rightly after {STEPS} steps':60}" + "".join(f"{f'lr {lr}':>10}" for lr in rates))
    for way in ways:
        print(f"    {way:56}" + "".join(f"{right[scene, way, lr]:10.1%}" for lr in rates))
first_layer = nn.Linear(64, 64, rng=rng).weight.value
print(
    f"a weight's spread before training is {first_layer.std():.3f}: Adam's first step with lr 0.03 changes it by {0.03 / first_layer.std():.0%}"
)
if FULL:
    deep, plain = scenes
    assert right[deep, "both", 0.03] > 0.8 and right[deep, "neither", 0.03] < 0.5 < right[deep, "warm-up", 0.03]
    assert right[deep, "clipping", 0.03] < right[deep, "warm-up", 0.03] - 0.2
    assert (
        right[plain, "clipping", 0.3] > 0.8
        and max(right[plain, way, 0.3] for way in ("neither", "warm-up")) < right[plain, "clipping", 0.3] - 0.15
    )
    assert abs(right[deep, "both", 0.003] - right[deep, "neither", 0.003]) < 0.05, "at a modest rate neither is needed"


# %% A batch that somebody forgot to scale
# One batch of 200 with pixels from 0 to 255 in the place of 0 to 1: that happens. And Adam without its bias correction, with and without a warm-up.
class Uncorrected(optim.Adam):
    """Adam that takes m and v as they are."""

    def update(self, p, g, lr, decay, moments, scratch):
        m, v = moments
        m += (1 - self.beta1) * (g - m)
        v += (1 - self.beta2) * (g * g - v)
        p -= lr * m / (np.sqrt(v) + self.eps)


unscaled = lambda step, x: x * np.float32(255) if step == STEPS // 2 else x
print("\none batch of 200 not scaled, 4 layers          as it should be   not scaled   not scaled, clipped")
spoilt = {}
for name, make, lr in (("momentum, lr 0.1", with_momentum, 0.1), ("Adam, lr 0.003", optim.Adam, 0.003)):
    settings = ({}, {"batch": unscaled}, {"batch": unscaled, "clip": 1.0})
    spoilt[name] = [mean_of(make, lr, warmup=STEPS // 10, **more) for more in settings]
    print(f"    {name:40} {spoilt[name][0]:17.1%} {spoilt[name][1]:12.1%} {spoilt[name][2]:21.1%}")
print("Adam, lr 0.003, 8 layers with norms            with correction      without   without, warm-up")
biased = [
    mean_of(make, 0.003, hidden=8, normed=True, warmup=warmup)
    for make, warmup in ((optim.Adam, 0), (Uncorrected, 0), (Uncorrected, STEPS // 5))
]
print(f"    {'':40} {biased[0]:17.1%} {biased[1]:12.1%} {biased[2]:18.1%}")
if FULL:
    as_it_should, not_scaled, rescued = spoilt["momentum, lr 0.1"]
    assert not_scaled < 0.3 and rescued > as_it_should - 0.05
    assert biased[1] < biased[0] - 0.1 and biased[2] > biased[1] + 0.1
if not options.no_plots:
    curves.rates(options.out / "rates.png", {scene: rates for scene, (_, rates, _) in scenes.items()}, list(ways), right)
    print(f"pictures: {options.out}/steps.png, paths.png, schedules.png, rates.png")

# %% Exercises
# 1. SGD in the valley with lr = 2 / k, a little more than the best rate. What happens along the wall, and why is the loss not infinite?
# 2. Momentum with mu = 0.9 goes how much further than SGD with the same lr, if the gradient stays the same? What does that say about comparing rates?
# 3. Turn the valley back: multiply p and H by the rotation, so that the walls are along the axes. Which optimizers are as fast as before?
# 4. Set eps = 1 for Adam. Which other optimizer does it become? At which size of gradients does that happen with eps = 1e-8?
# 5. Clip each array by its own norm instead of all of them together. Which promise is lost?
# 6. How long does Adam creep after a spike of 1,000 with betas = (0.9, 0.95)?
#
# Answers
# 1. The factor there is 1 - 2 = -1: it jumps from wall to wall for ever, and gets no nearer. Any larger rate diverges.
# 2. 1 / (1 - 0.9) = 10 times. Momentum with lr is to be compared with SGD with 10 lr.
# 3. SGD and the two with momentum, in every direction; Adam, RMSProp, Adagrad and Lion only there.
# 4. With eps much larger than sqrt(v) the step is lr m / eps: momentum with the rate lr (1 - b1) / eps. With 1e-8: gradients below 1e-8, as of
#    embeddings of rare words, or of a loss that was divided too often.
# 5. The direction: small and large arrays no longer keep their proportion.
# 6. v falls by 0.95 a step instead of 0.999, though its share of the spike is 0.05: some 190 steps instead of 5,800.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
