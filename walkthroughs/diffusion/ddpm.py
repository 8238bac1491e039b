"""DDPM learns to make points and handwritten digits out of noise, and every claim about it is put to the test.

RUNNING TIME: 3 minutes (--quick: 10 seconds)

You will see noise added to data until nothing is left of it, and a network that learns to take it back. First on points in
the plane, where one can see and count whether every mode is found; then on real digits, with a U-Net that knows which digit it
is to draw. On the way some beliefs are checked, among them that denoising means to subtract the noise.

    python -m walkthroughs diffusion/ddpm             the whole story
    python -m walkthroughs diffusion/ddpm --quick     the mechanics only
"""

# %% Settings
import time

import tinygrad_notes as tn
from models.diffusion import ddim, ddpm, unet
from tinygrad_notes import check, data, optim, saving
from tinygrad_notes import functional as F
from walkthroughs.diffusion import _pictures as pictures
from walkthroughs.diffusion._measures import covered, frechet, mmd, mode_spread, trained_judge
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("diffusion/ddpm", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began, cpu = time.perf_counter(), time.process_time()

# %% Look at the data
# Two densities in the plane, scaled to about [-1, 1], where DDPM expects its data; and 8 x 8 digits, written by people. The
# last 382 digits are by people whose writing the networks never see.
STD = 0.05  # of each of the ring's eight modes
CENTRES = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)


def ring(n):
    return data.gaussian_ring(n, rng, modes=8, radius=1.0, std=STD)[0]


def moons(n):
    return data.two_moons(n, rng)[0] - np.float32([0.5, 0.25])


train_images, train_labels, test_images, test_labels = data.digits_split()
print(f"points: a ring of 8 Gaussians of spread {STD}, two moons; digits: {len(train_images)} to train on, {len(test_images)} held out")
for row in test_images[3]:
    print("    " + "".join(" .:-=+*#@"[int(8 * v)] * 2 for v in row))

# %% The idea by hand
# Three points, three steps. The betas are chosen so that alpha_bar has round roots: after t steps, 0.8, 0.6, 0.4 of a point are
# left, and the noise has the spread 0.6, 0.8, 0.92. Equation 2: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.
process = ddpm.Diffusion([1 - 0.64, 1 - 0.36 / 0.64, 1 - 0.16 / 0.36])
x0, eps = np.array([[-1.0], [0.0], [1.0]]), np.array([[1.0], [-1.0], [0.5]])
noised = np.stack([process.q_sample(x0, t, eps)[:, 0] for t in (1, 2, 3)])
print(f"\nthree points {x0[:, 0]} with the noise {eps[:, 0]}; row t is x_t\n{noised.round(3)}")
assert np.allclose(noised[:2], [[-0.8 + 0.6, -0.6, 0.8 + 0.3], [-0.6 + 0.8, -0.8, 0.6 + 0.4]])
# Whoever knows eps knows x_0 (equation 4); whoever knows x_0 and x_2 knows where x_1 lay, up to the variance beta_tilde.
back = process.predict_x0(noised[1][:, None], 2, eps)
assert np.allclose(back, x0)
mean = process.q_posterior(x0, noised[1][:, None], 2)
other = (noised[1][:, None] - process.beta[2] / 0.8 * eps) / 0.75  # the second line of equation 5; 0.75 = sqrt(alpha_2) = 0.6 / 0.8
assert np.allclose(mean, other)
print(f"x_1, given x_2 and x_0: mean {mean[:, 0].round(3)} by both forms of equation 5, variance {process.beta_tilde[2]:.4f}")

# %% How fast should the noise grow?
# The linear schedule of 2020 destroys the data early: in the last third of the steps there is nothing left to learn. The cosine
# schedule of 2021 was made to go down evenly.
linear, cosine = ddpm.Diffusion(ddpm.linear_betas(1000)), ddpm.Diffusion(ddpm.cosine_betas(1000))
print("\n                                              linear   cosine   known")
rows = [
    ("alpha_bar half way (t = 500)", [p.alpha_bar[500] for p in (linear, cosine)], ".079 .494"),
    ("first t with less than 1 % signal in the noise", [1 + np.argmax(p.alpha_bar[1:] / (1 - p.alpha_bar[1:]) < 0.01) for p in (linear, cosine)], "675  937"),
    ("signal left at the end, sqrt(alpha_bar_T)", [np.sqrt(p.alpha_bar[-1]) for p in (linear, cosine)], ""),
]  # fmt: skip
for name, (a, b), known in rows:
    print(f"    {name:47} {a:6.4g}   {b:6.4g}   {known}")
assert [round(a, 3) for a in rows[0][1]] == [0.079, 0.494] and rows[1][1] == [675, 937]


# %% Beliefs, checked without any network
# For a mixture of Gaussians the best answer of a network is known: E[eps | x_t]. With it, every step can be judged by itself.
# Here: two modes on a line, at -1 and 1, of spread 0.1.
PAIR = np.array([[-1.0], [1.0]])


def exact(process, centres, std):
    def eps(x, t):
        alpha_bar = process.alpha_bar[t][:, None]
        spread = alpha_bar * std**2 + 1 - alpha_bar  # the variance of x_t around each mode
        logits = -np.sum((x[:, None] - np.sqrt(alpha_bar)[..., None] * centres) ** 2, axis=-1) / (2 * spread)
        mode = F.softmax(logits) @ centres  # E[mode | x_t]
        return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * mode) / spread

    return eps


class Silent:
    """A generator whose first draw, x_T, is noise, and all others, z, are 0."""

    def __init__(self, rng):
        self.draw = rng.standard_normal

    def standard_normal(self, shape, dtype):
        z, self.draw = self.draw(shape, dtype), lambda shape, dtype: np.zeros(shape, dtype)
        return z


N = 200 if QUICK else 1000
model = exact(linear, PAIR, 0.1)
noisy, silent = (mode_spread(ddpm.sample(model, linear, (N, 1), g, dtype=float), PAIR) for g in (rng, Silent(rng)))
other_means = mode_spread(ddim.sample(model, linear, rng.normal(size=(N, 1)), np.arange(linear.T, 0, -1)), PAIR)
aside, x = exact(linear, PAIR + 0.5, 0.1), rng.normal(size=(N, 1))
for t in range(linear.T, 0, -1):
    x = x - aside(x, np.full(N, t))
print(f"""
"Why add noise while denoising? The mean is the better guess." A mean is not a sample. Spread of the modes, 0.1 in truth:
    with z {noisy:.3f}, without z {silent:.4f} (known: .104 and .012); DDIM, which has no z but other means, {other_means:.3f} (about .10)
"Denoising subtracts the predicted noise." Not without its factors: x - eps in every step leads to numbers near 10^{np.log10(np.abs(x).max()):.0f}.""")
near = 0.02 if QUICK else 0.01
assert abs(noisy - 0.1) < near and abs(other_means - 0.1) < near and silent < 0.02 and np.abs(x).max() > 1e6

# "To predict the image is harder than to predict the noise." Each is the other, and v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0
# is both: three networks that differ by a linear map of input and output, the same samples. What differs is the weight in the loss.
from_x0 = lambda x, t: linear.predict_eps(x, t, linear.predict_x0(x, t, model(x, t)))


def from_v(x, t):
    alpha_bar, eps = linear.alpha_bar[t][:, None], model(x, t)
    v = np.sqrt(alpha_bar) * eps - np.sqrt(1 - alpha_bar) * linear.predict_x0(x, t, eps)
    return np.sqrt(alpha_bar) * v + np.sqrt(1 - alpha_bar) * x


same = [ddpm.sample(m, linear, (50, 1), np.random.default_rng(1), dtype=float) for m in (model, from_x0, from_v)]
assert max(np.abs(s - same[0]).max() for s in same) < 1e-6
x0, eps = rng.choice([-1, 1], (N, 1)) + 0.1 * rng.normal(size=(N, 1)), rng.normal(size=(N, 1))
print('"To predict the image is harder." It is the same prediction: samples differ by less than 1e-6. Loss of eps / loss of x_0:')
for t in (10, 300, 900):
    x = linear.q_sample(x0, t, eps)
    found = model(x, np.full(N, t))
    ratio = np.mean((found - eps) ** 2) / np.mean((linear.predict_x0(x, t, found) - x0) ** 2)
    expected = linear.alpha_bar[t] / (1 - linear.alpha_bar[t])
    print(f"    t = {t:3}: {ratio:.4g}; the ratio of signal to noise is {expected:.4g}")
    assert np.isclose(ratio, expected)

# %% The model beside its equations, and a check
# models/diffusion/ddpm.py has the equations, unet.py the network; this is the time to read them. A loss whose gradient is wrong
# by one term still falls, so: the gradient of the whole loss of a tiny network against finite differences.
tiny = ddpm.MLP(ddpm.Config.tiny(dtype=np.float64), np.random.default_rng(1))
batch = np.random.default_rng(2).normal(size=(5, 2))


def tiny_loss(bias):
    tiny.hidden[0].bias = bias
    return ddpm.loss(tiny, ddpm.Diffusion(ddpm.cosine_betas(8)), batch, np.random.default_rng(3))


check.check_grads(tiny_loss, np.full(6, 0.1))
print("\nchecked: the gradient of the loss agrees with finite differences")


# %% Train
# Equation 3, an average of the weights beside the weights, and that is all.
def train(model, process, batches, steps, rate, decay, name, *, warmup=50, clip=1.0, objective=ddpm.loss):
    """The averaged model, and the loss of each step. batches yields (x_0, further inputs of the model)."""
    params = tn.parameters(model)
    optimizer, ema, losses = optim.Adam(params, lr=rate), optim.EMA(model, decay), []
    for step in tqdm(range(steps), desc=name, unit="step", disable=None):
        x0, inputs = next(batches)
        loss = objective(model, process, x0, rng, **inputs)
        grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), clip)
        optimizer.step(grads, lr=optim.cosine(step, peak=rate, floor=rate / 20, warmup=min(warmup, steps // 4), steps=steps))
        ema.update(model)
        losses.append(loss.item())
    return ema.averages, losses


def points(draw):
    while True:
        yield draw(128), {}


process = ddpm.Diffusion(ddpm.cosine_betas(200))  # for points in the plane, 200 steps are plenty
trained, averaged = {}, {}
for name, draw, steps in (("ring", ring, 8000), ("moons", moons, 5000)):
    trained[name] = ddpm.MLP(ddpm.Config(width=64), rng)
    averaged[name], losses = train(trained[name], process, points(draw), 150 if QUICK else steps, 3e-3, 0.995, f"training on the {name}")
    assert np.mean(losses[-20:]) < 0.8 * losses[0], "the loss should fall"

# %% How good is it?
# MMD is 0 for equal distributions; beside it that of fresh data (what chance does) and of a Gaussian as wide as the data.
made = {name: ddpm.sample(m, process, (N, 2), rng, variance="beta_tilde") for name, m in averaged.items()}
print("\n              MMD, samples   fresh data   a Gaussian   (row to pass: below .02)")
for name, draw in (("ring", ring), ("moons", moons)):
    real, gaussian = draw(N), rng.normal(size=(N, 2)) * draw(N).std(axis=0)
    found = [mmd(x, real) for x in (made[name], draw(N), gaussian)]
    print(f"    {name:10} {found[0]:11.4f} {found[1]:12.4f} {found[2]:12.4f}")
    assert QUICK or (found[0] < 0.004 and found[0] < found[2] / 5)
modes, share = covered(made["ring"], CENTRES, 3 * STD)
print(f"    modes found: {modes} of 8; {share:.0%} of the samples within three spreads (data: {covered(ring(N), CENTRES, 3 * STD)[1]:.0%})")
assert QUICK or (modes >= 7 and share > 0.85)


def snapshots(x, times):
    """Algorithm 2 written out, to look at x_t on the way."""
    seen = {}
    for t in range(process.T, -1, -1):
        if t in times:
            seen[f"p: t = {t}"] = x
        if t:
            x = ddpm.p_sample(averaged["ring"], process, x, t, rng, variance="beta_tilde")
    return seen


if not options.no_plots:
    times, x0 = (200, 120, 60, 20, 0), ring(N)
    forward = {f"q: t = {t}": process.q_sample(x0, t, rng.standard_normal(x0.shape, np.float32)) for t in times}
    there = snapshots(rng.standard_normal((N, 2), np.float32), times)
    pictures.scatter(options.out / "process.png", [forward, there])
    pairs = [{f"{name}: data": draw(N), f"{name}: samples": made[name]} for name, draw in (("ring", ring), ("moons", moons))]
    pictures.scatter(options.out / "points.png", [pairs[0] | pairs[1]])
    t = np.arange(1001)
    both = {"linear (2020)": (t, linear.alpha_bar), "cosine (2021)": (t, cosine.alpha_bar)}
    noise = {name: (t[1:], np.sqrt(1 - a[1:])) for name, (_, a) in both.items()}
    panels = [{"title": "signal: alpha_bar", "x label": "t", "y label": "", "lines": both}]
    panels += [{"title": "spread of the noise: sqrt(1 - alpha_bar)", "x label": "t", "y label": "", "lines": noise}]
    pictures.curves(options.out / "schedules.png", panels)


# %% What each trick is worth
# A question people leave open: which tricks make DDPM work? Data within [-1, 1], a schedule, t uniform, the bound without its weights,
# a warm-up, clipped gradients, an average of the weights ("EMA"), x_0 clipped while sampling, sigma^2 = beta or beta_tilde, noise
# in every step. (Images also have mirrored copies and dropout, against learning few images by heart; points are always new.)
# One switch at a time, on the ring; what belongs to training is trained anew, four times as short as above. What counts here: the noise z;
# the schedule, many t in a batch, and no weights from the bound. Average, warm-up and clipping are for networks that are harder to train.
# And what is right for pictures need not be for points: data five times wider do better, since their modes stay apart for longer.
def bound(model, process, x0, rng):
    """Equation 3 with the weights that the variational bound has, which L_simple drops; their mean is 1."""
    t = rng.integers(1, process.T + 1, len(x0))
    eps = rng.standard_normal(x0.shape, x0.dtype)
    weights = process.beta / np.maximum(process.alpha * (1 - process.alpha_bar), 1e-12)
    root = np.sqrt(weights / weights[1:].mean())[t][:, None].astype(x0.dtype)
    return F.mse(root * model(process.q_sample(x0, t, eps), t), root * eps)


def one_time(model, process, x0, rng):
    """Equation 3 with one t for the whole batch."""
    t = np.full(len(x0), rng.integers(1, process.T + 1))
    eps = rng.standard_normal(x0.shape, x0.dtype)
    return F.mse(model(process.q_sample(x0, t, eps), t), eps)


wide = ddpm.Diffusion(ddpm.linear_betas(200, 5e-4, 0.1))  # as much noise in 200 steps as the linear schedule has in 1,000
SWITCHES = {  # process, scale of the data, and what `train` is told
    "all tricks": (process, 1, {}),
    "linear schedule": (wide, 1, {}),
    "data five times too wide": (process, 5, {}),
    "one t for a batch": (process, 1, {"objective": one_time}),
    "the bound's weights": (process, 1, {"objective": bound}),
    "no warm-up": (process, 1, {"warmup": 0}),
    "gradients not clipped": (process, 1, {"clip": np.inf}),
}
best = {"variance": "beta_tilde"}
results, real = {}, ring(N)


def judge_points(name, model, steps=process, scale=1, generator=rng, **how):
    x = ddpm.sample(model, steps, (N, 2), generator, **how) / scale
    results[name] = x, mmd(x, real), *covered(x, CENTRES, 3 * STD), mode_spread(x, CENTRES)
    print("    {:26} {:7.4f}     {}   {:13.0%}   {:.3f}".format(name, *results[name][1:]))


print("\n                                   MMD   modes   within modes   spread of the modes (data: 0.05)")
judge_points("8,000 steps, all tricks", averaged["ring"], **best)
judge_points("sigma^2 = beta", averaged["ring"], variance="beta")
judge_points("x_0 clipped", averaged["ring"], **best, clip=1.2)
judge_points("no EMA", trained["ring"], **best)
judge_points("no noise z", averaged["ring"], generator=Silent(rng))
for name, (steps, scale, told) in SWITCHES.items():
    few = ddpm.MLP(ddpm.Config(width=64), rng)
    wider = ((scale * x0, inputs) for x0, inputs in points(ring))
    mean_of_few, _ = train(few, steps, wider, 20 if QUICK else 2000, 3e-3, 0.995, name, **told)
    judge_points("2,000 steps, all tricks" if name == "all tricks" else name, mean_of_few, steps, scale, **best)
    if name == "all tricks":
        judge_points("no EMA, 2,000 steps", few, **best)
if FULL:
    assert all(results[name][1] < 0.02 and results[name][2] >= 7 for name in ("8,000 steps, all tricks", "2,000 steps, all tricks"))
    assert results["no noise z"][1] > 0.05 and results["no noise z"][-1] < results["8,000 steps, all tricks"][-1]

# A common mistake: "EMA is for the test only." It is used there, but made in training: an average that begins when training has ended
# is the last weights. And it is made beside the training, which never reads it.
late = optim.EMA(trained["ring"], 0.995).averages
x, t = real[:5], np.full(5, 100)
assert np.array_equal(late(x, t), tn.frozen(trained["ring"])(x, t)) and not np.array_equal(averaged["ring"](x, t), late(x, t))
print('"EMA is for the test only": an average that begins there is the last weights, to the bit')
if not options.no_plots:
    clouds = [(name, x) for name, (x, *_) in results.items()]
    pictures.scatter(options.out / "switches.png", [dict(clouds[:7]), dict(clouds[7:])])

# %% Digits
# The same loss and loop; the network is the U-Net now, and is told the class, except for one digit in ten, where it is told
# "no class". So one network has learnt both terms of equation 9.
process = ddpm.Diffusion(ddpm.cosine_betas(50))
x0 = (2 * train_images - 1)[:, None]


def digits():
    for index in data.minibatches(len(x0), 64, rng):
        yield x0[index], {"y": ddpm.drop_classes(train_labels[index], 10, rng)}


model = unet.UNet(unet.Config.digits(classes=10), rng)
print(f"\nU-Net with {tn.count(model):,} parameters: {model.config}")
model, losses = train(model, process, digits(), 12 if QUICK else 1500, 3e-3, 0.99, "training on digits")
saving.save_arrays(options.out / "digits.safetensors", tn.state_dict(model))
assert QUICK or np.mean(losses[-100:]) < 0.15


def draw_digits(model, n):
    x = ddpm.sample(model, process, (n, 1, 8, 8), rng, variance="beta_tilde", clip=1.0)
    return np.clip(x[:, 0] / 2 + 0.5, 0, 1)


# %% How good are they?
# The Frechet distance compares means and covariances of features, so it speaks of two distributions. A common mistake is to say that
# it measures how alike images are, with a classifier trained for it: mixing up the images changes nothing, and the published distance
# ("FID") takes the features of one Inception-v3 that is the same for all. Features here: the first 16 principal components of the
# pixels; and the 32 units of the last hidden layer of a small classifier that was trained on the training digits.
judge = trained_judge(train_images, train_labels, rng, steps=50 if QUICK else 1000)
centre = train_images.reshape(-1, 64).mean(axis=0)
axes = np.linalg.svd(train_images.reshape(-1, 64) - centre, full_matrices=False)[2][:16]
features = {"pixels": lambda x: (x.reshape(-1, 64) - centre) @ axes.T, "classifier": judge.features}
n = 40 if QUICK else len(test_labels)
labels = test_labels[:n]
given = lambda x, t: model(x, t, labels)
samples = draw_digits(given, n)
some = rng.permutation(len(train_images))[: len(test_images)]
others = {
    "the samples": samples,
    "as many training digits": train_images[some],
    "noise of the pixels' mean and spread": np.clip(rng.normal(centre, train_images.reshape(-1, 64).std(axis=0), (len(test_images), 64)), 0, 1),
}  # fmt: skip
distance = {name: [frechet(f(x.astype(np.float32)), f(test_images)) for f in features.values()] for name, x in others.items()}
print("\nFrechet distance to the held-out digits   pixels   classifier")
for name, (a, b) in distance.items():
    print(f"    {name:38} {a:7.3f}   {b:7.2f}")
for name, f in features.items():
    a, b = f(train_images[some]), f(test_images)
    mixed = frechet(a[rng.permutation(len(a))], b)
    print(f"    {name}: {frechet(a, b):.4f}, with the images mixed up {mixed:.4f}; of a set to itself {abs(frechet(b, b)):.4f}")
    assert np.isclose(mixed, frechet(a, b)) and abs(frechet(b, b)) < 1e-2
if FULL:
    for ours, reals, noise in zip(*distance.values()):
        assert ours < 2 * reals and ours < noise / 5

# %% Guidance
# w = 0 ignores the class, w = 1 is the network as it was trained, more exaggerates what belongs to the class. The price is variety.
n = 20 if QUICK else 200
y = np.arange(n) % 10
print("\n   w   right class   confidence   variety within a class")
found = {}
for w in (0, 1) if QUICK else (0, 1, 2, 4):
    guided = {0: model, 1: lambda x, t: model(x, t, y)}.get(w) or ddpm.guided(model, y, w)  # 0 and 1 need one network, not two
    x = draw_digits(guided, n)
    logits = judge(x)
    confidence = float(np.mean(F.softmax(logits)[np.arange(n), y]))
    variety = float(np.mean([np.var(x[y == k], axis=0).sum() for k in range(10)]))
    found[w] = x, float(np.mean(logits.argmax(axis=1) == y)), confidence, variety
    print(f"{w:4}   {found[w][1]:11.0%}   {confidence:10.2f}   {variety:9.2f}")
real_variety = float(np.mean([np.var(test_images[test_labels == k], axis=0).sum() for k in range(10)]))
print(f"real   {np.mean(judge(test_images).argmax(axis=1) == test_labels):11.0%}   {'':10}   {real_variety:9.2f}   (held-out digits)")
x, t, few = rng.standard_normal((10, 1, 8, 8), np.float32), np.full(10, 25), np.arange(10)
assert np.allclose(ddpm.guided(model, few, 1.0)(x, t), tn.frozen(model)(x, t, few), atol=1e-5), "w = 1 is the conditional model"
if FULL:
    _, right, confidence, variety = zip(*found.values())
    assert right[1] > 0.85 and list(variety) == sorted(variety, reverse=True)
    assert min(np.diff(right)) >= -1 / n and min(np.diff(confidence)) >= -1 / n, "both rise, or stay within one digit of 100 %"
if not options.no_plots:
    order = np.argsort(y, kind="stable").reshape(10, -1)[:, :10].ravel()
    real = np.concatenate([test_images[test_labels == k][:10] for k in range(10)])
    show = {"held-out digits": real} | {f"w = {w}" + (" (no class)" if w == 0 else ""): x[order] for w, (x, *_) in found.items()}
    pictures.images(options.out / "digits.png", show, columns=10)
    print(f"pictures: {options.out}/process.png, points.png, schedules.png, switches.png, digits.png")

# %% Exercises
# 1. Why is there no z in the last step, and what would it do to the spread of the modes? Try it.
# 2. Sample the digits with variance="beta". What happens to the variety within a class, and to the Frechet distance?
# 3. With `exact(process, CENTRES, STD)` in the place of the network: which of the two variances makes the spread of the ring's
#    modes too large, and which too small? Why?
# 4. Take the time away from the MLP (emb = 0 * emb), and train on the ring. How much larger is the loss, and why is it not hopeless?
# 5. Guide with w = -1. What do you get, and why?
#
# Answers
# 1. The mean is x_0 itself, the end. beta_1 is 2.5e-4 here: the spread would grow from 0.05 to sqrt(0.05^2 + beta_1) = 0.0525.
# 2. There is a little more variety (2.2 in the place of 2.1: real digits have 2.6), and the distances stay: the paper, too, finds
#    both variances equally good.
# 3. 0.0503 with beta, 0.043 with beta_tilde: beta is right for data as wide as the noise, beta_tilde for a point. The modes are
#    narrow, but until late all that x_t knows is that they are spread over the circle. The more steps, the nearer the two.
# 4. 0.40 in the place of 0.28. Far from the ring a point must be noisy, so the place tells of the time; on the ring it does not.
# 5. Digits of every class but the one asked for: of a hundred, none was right. The pull has the wrong sign.
print(f"\nall of it took {time.perf_counter() - began:.0f} s, {time.process_time() - cpu:.0f} s of them computing")
