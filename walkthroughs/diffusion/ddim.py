"""DDIM: the same network, twenty steps instead of a thousand, no noise, and a way back.

RUNNING TIME: 2 minutes (--quick: 10 seconds)

You will see what remains of a DDPM if the number of steps is cut to a tenth and to a hundredth, with noise and without; that
without noise sampling solves a differential equation, with an error that halves when the steps double; that data can be turned
into the noise they come from; and that between two noises lie digits between two digits. Then an off-by-one in the time is
planted, the mistake that everybody makes once.

    python -m walkthroughs diffusion/ddim             the whole story
    python -m walkthroughs diffusion/ddim --quick     the mechanics only
"""

# %% Settings
import time
from itertools import pairwise

import tinygrad_notes as tn
from models.diffusion import ddim, ddpm, unet
from tinygrad_notes import data, optim
from walkthroughs.diffusion import _pictures as pictures
from walkthroughs.diffusion._measures import covered, mmd
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("diffusion/ddim", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began, cpu = time.perf_counter(), time.process_time()

# %% Look at the data
# Eight Gaussians of spread 0.05 on a circle; later, 8 x 8 digits.
STD = 0.05
CENTRES = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def ring(n):
    return data.gaussian_ring(n, rng, modes=8, radius=1.0, std=STD)[0]


print(f"a ring of 8 Gaussians of spread {STD}; three of its points:\n{ring(3).round(2)}")

# %% The idea by hand
# Three steps that leave 0.8, 0.6, 0.4 of a point, with noise of spread 0.6, 0.8, 0.92. A point x_2 = 1, in which the network sees the
# noise 0.5, came from x_0 = (1 - 0.8 * 0.5) / 0.6 = 1. Equation 2 puts the same x_0 and the same noise together in the
# proportions of an earlier time: at t = 1, 0.8 * 1 + 0.6 * 0.5 = 1.1. It could as well go to t = 0 at once, or back to t = 3.
process = ddpm.Diffusion([1 - 0.64, 1 - 0.36 / 0.64, 1 - 0.16 / 0.36])
half, x_2 = lambda x, t: np.full_like(x, 0.5), np.array([[1.0]])
print("\nx_2 = 1 with the noise 0.5 in it, as seen from the times 0 to 3:")
for s, expected in enumerate((1.0, 0.8 + 0.3, 0.6 + 0.4, 0.4 + 0.5 * np.sqrt(0.84))):
    x_s = 1.0 if s == 2 else ddim.p_sample(half, process, x_2, 2, s)[0, 0]
    print(f"    x_{s} = {x_s:.3f}")
    assert np.isclose(x_s, expected)
# With eta = 1 a part of the noise is fresh: sigma^2 = beta_tilde, as in DDPM.
a, b = process.alpha_bar[2], process.alpha_bar[1]
assert np.isclose((1 - b) / (1 - a) * (1 - a / b), process.beta_tilde[2])

# %% Check it: eta = 1 is DDPM, eta = 0 is a function
process = ddpm.Diffusion(ddpm.linear_betas(1000))


def exact(process, mean, std):
    """E[eps | x_t] for data N(mean, std^2): what a perfect network would say."""

    def eps(x, t):
        alpha_bar = process.alpha_bar[t][:, None]
        return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * mean) / (alpha_bar * std**2 + 1 - alpha_bar)

    return eps


model, every = exact(process, 0.5, 0.3), np.arange(1000, 0, -1)
one, two, x_T = np.random.default_rng(1), np.random.default_rng(1), np.random.default_rng(1).normal(size=(5, 1))
by_ddpm = ddpm.sample(model, process, (5, 1), one, variance="beta_tilde", dtype=float)
by_ddim = ddim.sample(model, process, two.standard_normal((5, 1)), every, eta=1.0, rng=two)
again = [ddim.sample(model, process, x_T, ddim.trailing(1000, 20)) for _ in range(2)]
print(f"""
eta = 1, all steps, against DDPM with beta_tilde and the same noise: they differ by {np.abs(by_ddpm - by_ddim).max():.0e}
eta = 0, twice from the same x_T: they differ by {np.abs(again[0] - again[1]).max():.0f}""")
assert np.allclose(by_ddpm, by_ddim, rtol=0, atol=1e-12) and np.array_equal(*again)

# %% Without noise it solves a differential equation
# For Gaussian data the solution is known: each point keeps its place, counted in standard deviations. So the error of n steps can be
# measured. It halves when n doubles, whatever the spacing: order one, as for Euler's method, of which DDIM is a clever form.
fine = ddpm.Diffusion(ddpm.linear_betas(4000, 2.5e-5, 0.005))  # the same process in steps a quarter as long
model, x_T = exact(fine, 0.5, 0.3), np.linspace(-2, 2, 41)[:, None]
a = fine.alpha_bar[-1]
truth = 0.5 + 0.3 * (x_T - np.sqrt(a) * 0.5) / np.sqrt(a * 0.09 + 1 - a)
counts = [10, 20, 40, 80, 160, 320]
errors, back = {}, []
for spacing in (ddim.trailing, ddim.quadratic):
    errors[spacing.__name__] = [float(np.abs(ddim.sample(model, fine, x_T, spacing(4000, n)) - truth).max()) for n in counts]
for n in counts:
    steps = ddim.trailing(4000, n)
    back.append(float(np.abs(ddim.sample(model, fine, ddim.encode(model, fine, truth, steps), steps) - truth).max()))
print("\nsteps    error, trailing   quadratic   there and back")
for n, *row in zip(counts, *errors.values(), back):
    print("{:5}    {:15.4f}   {:9.4f}   {:14.4f}".format(n, *row))
orders = {name: np.polyfit(np.log(counts[1:]), np.log(e[1:]), 1)[0] for name, e in (errors | {"back": back}).items()}
print("order (theory: 1):  " + ", ".join(f"{name} {-order:.2f}" for name, order in orders.items()))
assert all(0.85 < -order < 1.15 for order in orders.values())


# %% Train
# DDPM's own training: DDIM has none.
def train(model, process, batches, steps, rate, decay, name):
    """The averaged model. batches yields (x_0, further inputs of the model)."""
    params = tn.parameters(model)
    optimizer, ema, losses = optim.Adam(params, lr=rate), optim.EMA(model, decay), []
    for step in tqdm(range(steps), desc=name, unit="step", disable=None):
        x0, inputs = next(batches)
        loss = ddpm.loss(model, process, x0, rng, **inputs)
        grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
        optimizer.step(grads, lr=optim.cosine(step, peak=rate, floor=rate / 20, warmup=min(50, steps // 4), steps=steps))
        ema.update(model)
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.8 * losses[0], "the loss should fall"
    return ema.averages


def points():
    while True:
        yield ring(256), {}


process = ddpm.Diffusion(ddpm.linear_betas(1000))
model = train(ddpm.MLP(ddpm.Config(width=64), rng), process, points(), 150 if QUICK else 6000, 3e-3, 0.995, "training on the ring")

# %% Fewer steps, with noise and without
# Table 1 of the paper, on points: how good are the samples of n steps? (On photographs the paper finds eta = 0 ahead where steps are
# few. Points in the plane have no fine texture for the noise of long steps to spoil; see whether you find a difference.)
N = 200 if QUICK else 1000
real, table, panels = ring(N), {}, {}
chance = max(abs(mmd(ring(N), real)) for _ in range(5))  # what fresh data do
counts = (5, 20) if QUICK else (5, 10, 20, 50, 1000)
for eta in (0.0, 0.5, 1.0):
    for n in counts:
        x = ddim.sample(model, process, rng.standard_normal((N, 2), np.float32), ddim.trailing(1000, n), eta=eta, rng=rng)
        table[eta, n] = mmd(x, real)
        panels[f"eta = {eta:.0f}, {n} steps"] = x
print("\nMMD to the data      " + "".join(f"{n:>10}" for n in counts) + "  steps")
for eta in (0.0, 0.5, 1.0):
    print(f"    eta = {eta}        " + "".join(f"{table[eta, n]:10.4f}" for n in counts))
print(f"    fresh data         at most {chance:.4f}")
shares = [covered(panels[f"eta = 0, {n} steps"], CENTRES, 3 * STD)[1] for n in counts]
print(
    "within the modes     "
    + "".join(f"{share:>10.0%}" for share in shares)
    + "  with eta = 0: MMD forgives points between modes, eyes do not"
)
if FULL:
    assert table[0, 20] < 0.01 and abs(table[0, 20] - table[0, 1000]) < 0.01, "20 steps should be as good as 1,000"
    assert all(covered(x, CENTRES, 3 * STD)[0] == 8 for name, x in panels.items() if "20 steps" in name)
if not options.no_plots:
    few = {name: x for name, x in panels.items() if "eta = 0," in name}
    noisy = {name: x for name, x in panels.items() if "eta = 1," in name}
    pictures.scatter(options.out / "steps.png", [few, noisy])
    lines = {f"error, {name}": (np.array([10, 20, 40, 80, 160, 320]), e, "o-") for name, e in errors.items()}
    lines["there and back"] = np.array([10, 20, 40, 80, 160, 320]), back, "o-"
    lines["slope of order one"] = np.array([10, 320]), np.array([0.3, 0.3 / 32]), "--"
    order = {"title": "Gaussian data, exact score", "x label": "steps", "y label": "largest error", "log": "xy", "lines": lines}
    by_eta = {f"eta = {eta}": (counts, [max(table[eta, n], 1e-5) for n in counts], "o-") for eta in (0.0, 0.5, 1.0)}
    by_eta["fresh data, at most"] = counts, [chance] * len(counts), "--"
    quality = {"title": "the ring, trained network", "x label": "steps", "y label": "MMD", "log": "xy", "lines": by_eta}
    pictures.curves(options.out / "order.png", [order, quality])

# %% There and back
# Every point of the data has its noise; sampling from it gives the point again, the better the more steps there are.
x0 = ring(N)
print("\ndata -> noise -> data, mean distance")
distances = []
for n in counts[1:]:
    steps = ddim.trailing(1000, n)
    x_T = ddim.encode(model, process, x0, steps)
    distances.append(float(np.mean(np.linalg.norm(ddim.sample(model, process, x_T, steps) - x0, axis=1))))
    print(f"    {n:4} steps: {distances[-1]:.4f}; the noise has mean {x_T.mean():5.2f} and spread {x_T.std():.2f}")
if FULL:
    assert distances == sorted(distances, reverse=True) and distances[-1] < STD / 2


# %% Break it: off by one
# Somebody counts t from 0 and somebody from 1, or the list of steps lacks its 0, and the network is told the time of the step
# before, or of the next one, or the last step is never taken. With 1,000 steps nobody notices. The same code with twenty steps is
# off by fifty. And without its noise term, eta = 1 collapses, as DDPM does.
def told(model, time):
    """The model, told another time than the sampler's."""
    return lambda x, t: model(x, np.full(len(x), time))


def off_by_one(n, shift=0, to_the_end=True):
    """DDIM with n steps, written out, and its mistakes."""
    pairs = list(pairwise([*ddim.trailing(1000, n).tolist(), 0]))
    x, frozen = rng.standard_normal((N, 2), np.float32), tn.frozen(model)
    for i, (t, s) in enumerate(pairs if to_the_end else pairs[:-1]):
        wrong, _ = pairs[min(max(i + shift, 0), n - 1)]
        x = ddim.p_sample(told(frozen, wrong), process, x, t, s)
    return mmd(x, real)


class Mute:
    """A generator that adds nothing."""

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)


counts = (20, 50) if QUICK else (20, 1000)
mistakes = {
    "none": {},
    "the network is told the time of the step before": {"shift": -1},
    "the network is told the time of the next step": {"shift": 1},  # less noise than there is: long steps may even gain by it
    "the last step is missing": {"to_the_end": False},
}
off = {name: [off_by_one(n, **mistake) for n in counts] for name, mistake in mistakes.items()}
muted = mmd(ddim.sample(model, process, rng.standard_normal((N, 2), np.float32), ddim.trailing(1000, 20), eta=1.0, rng=Mute()), real)
print(f"\nMMD, if the mistake is                              {counts[0]} steps   {counts[1]:5} steps")
for name, row in off.items():
    print("    {:47} {:8.4f}      {:8.4f}".format(name, *row))
print(f"    {'no noise with eta = 1':47} {muted:8.4f}")
if FULL:
    none, before, after, missing = off.values()
    assert min(before[0], missing[0]) > 3 * none[0] and muted > 0.05
    assert max(before[1], after[1], missing[1]) < 0.01


# %% Digits between digits
# A U-Net for digits, as in walkthroughs/diffusion/ddpm.py, trained for a shorter time. Two noises, and points on the arc between them.
# (A mean of two noises has the spread 0.7 and is no noise the network has met. With 64 pixels it forgives that: compare the contrast.)
images, _, test_images, _ = data.digits_split()
x0 = (2 * images - 1)[:, None]
process = ddpm.Diffusion(ddpm.linear_betas(1000))


def digits():
    for index in data.minibatches(len(x0), 64, rng):
        yield x0[index], {}


model = train(unet.UNet(unet.Config.digits(), rng), process, digits(), 12 if QUICK else 900, 3e-3, 0.99, "training on digits")
steps, n = ddim.trailing(1000, 20), 8
a, b = rng.standard_normal((2, n, 1, 8, 8), np.float32)
weights = np.linspace(0, 1, 9)
between = np.stack([ddim.slerp(a, b, w) for w in weights], axis=1).astype(np.float32)  # (n, 9, 1, 8, 8)
straight = np.stack([(1 - w) * a + w * b for w in weights], axis=1).astype(np.float32)
to_image = lambda x: np.clip(x[:, 0] / 2 + 0.5, 0, 1)
arcs, lines = (to_image(ddim.sample(model, process, x.reshape(-1, 1, 8, 8), steps, clip=1.0)) for x in (between, straight))
ways = {name: x.reshape(n, 9, 64) for name, x in (("arc", arcs), ("line", lines))}
jumps = {name: float(np.linalg.norm(np.diff(x, axis=1), axis=-1).max()) for name, x in ways.items()}
whole = float(np.linalg.norm(ways["arc"][:, -1] - ways["arc"][:, 0], axis=-1).mean())
contrast = {name: float(x[:, 4].std(axis=-1).mean()) for name, x in ways.items()} | {
    "data": float(images.reshape(-1, 64).std(axis=-1).mean())
}
print(f"""
between two noises, nine digits: the largest of the eight steps is {jumps["arc"]:.2f}; from end to end it is {whole:.2f} on average
half way, spread of the noise: on the line {straight[:, 4].std():.2f}, on the arc {between[:, 4].std():.2f}
half way, contrast of the digits: on the line {contrast["line"]:.3f}, on the arc {contrast["arc"]:.3f}; data: {contrast["data"]:.3f}""")
assert abs(between[:, 4].std() - 1) < 0.1 and abs(straight[:, 4].std() - 0.71) < 0.1
held_out = 2 * test_images[: 10 if QUICK else 50, None] - 1
quality = []
for count in (10, 20) if QUICK else (10, 20, 50, 100):
    along = ddim.trailing(1000, count)
    again = ddim.sample(model, process, ddim.encode(model, process, held_out, along), along)
    quality.append(float(np.sqrt(np.mean((again - held_out) ** 2))))
print("held-out digits -> noise -> digits, root of the mean square difference: " + ", ".join(f"{q:.3f}" for q in quality))
if FULL:
    assert quality == sorted(quality, reverse=True) and quality[-1] < 0.1
    assert jumps["arc"] < whole
if not options.no_plots:
    pictures.images(options.out / "between.png", {"along the arc (slerp)": arcs, "along the straight line": lines}, columns=9)
    fewest = {}
    x_T = rng.standard_normal((30, 1, 8, 8), np.float32)
    for count in (5, 20) if QUICK else (5, 20, 100):
        fewest[f"{count} steps, the same noises"] = to_image(ddim.sample(model, process, x_T, ddim.trailing(1000, count), clip=1.0))
    pictures.images(options.out / "digits.png", fewest)
    print(f"pictures: {options.out}/steps.png, order.png, between.png, digits.png")

# %% Exercises
# 1. Use `ddim.quadratic` in the place of `trailing` for the table. For which n does it help, and why?
# 2. Train on the ring with `ddpm.cosine_betas(1000)`, and sample with eta = 0 along all 1,000 steps, with and without `clip=1.2`.
# 3. `encode` takes the noise seen at x_s for that at x_t. Do it exactly: repeat the step up, each time with the noise seen at the last
#    x_t, until x_t stays. How many repetitions does the Gaussian need, with 20 steps?
# 4. Why does "there and back" begin with a larger error than sampling alone, and why is it of order one, too?
#
# Answers
# 1. For 5 and 10: four times less (.026 and .006 for .10 and .022). It takes short steps where the modes part, at little noise.
#    From 20 on both are near what fresh data do.
# 2. At t = 1000 the cosine leaves 5e-5 of x_0, so equation 1 divides the network's error by 5e-5, and MMD is about .05. Clipping x_0
#    repairs it.
# 3. Each repetition divides the error by four: 5 leave 1e-3, 20 leave 1e-11.
# 4. Both ways err, and in the same direction; each by a multiple of the length of a step.
print(f"\nall of it took {time.perf_counter() - began:.0f} s, {time.process_time() - cpu:.0f} s of them computing")
