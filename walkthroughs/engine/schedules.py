"""Around the rule: weight decay, schedules, warm-up and clipping, and when each of them is needed.

RUNNING TIME: 15 seconds (--quick: 3 seconds)

Decoupled weight decay (Loshchilov and Hutter, 2019), the cosine schedule (the same, 2017), and clipping by the global norm (Pascanu,
Mikolov and Bengio, 2013). You will see weight decay, which is not L2; one wild gradient, which SGD pays for at once and Adam for
thousands of steps; networks that learn fast only with a warm-up, or only with clipping; one batch that was not scaled; and one Adam that
lacks the bias correction and tells nobody.

The rules themselves are in walkthroughs/engine/optimizers.py.

    python -m walkthroughs engine/schedules             the whole story
    python -m walkthroughs engine/schedules --quick     a few steps of each
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

options = options_of(parser_for("engine/schedules", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()

# %% The idea by hand
# Three things are done around a rule, whatever the rule is. Clipping shortens the gradient: (3, 4) has the norm 5, and of norm 1 it is (0.6, 0.8).
# A schedule changes the rate from step to step: a warm-up of four steps, then half a cosine in four. Decay takes a part of the weight away: a rate
# of 0.1 and a decay of 0.1 leave 0.99 of it.
(short,), norm = optim.clip_by_global_norm([np.array([3.0, 4.0])], 1.0)
rate = [optim.cosine(t, peak=1.0, steps=8, warmup=4) for t in range(9)]
p = tn.Tensor(np.ones(1))
optim.AdamW(p, lr=0.1, weight_decay=0.1).step(np.zeros(1))
print(f"(3, 4) of norm {norm:.0f} becomes {short}; rates {np.round(rate, 2).tolist()}; a weight of 1 becomes {p.value.item():.2f}")
assert np.allclose(short, [0.6, 0.8]) and norm == 5 and math.isclose(p.value.item(), 0.99)
assert rate[:4] == [0.25, 0.5, 0.75, 1] and math.isclose(rate[6], 0.5) and abs(rate[8]) < 1e-12

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
with_momentum = partial(optim.SGD, momentum=0.9)


def stride(optimizer, gradients):
    """How far each step goes, for lr = 1 and one weight."""
    leaf, lengths = tn.Tensor(np.zeros(1)), []
    opt = optimizer(leaf, lr=1.0)
    for g in gradients:
        before = leaf.value.item()
        opt.step(np.array([g]))
        lengths.append(abs(leaf.value.item() - before))
    return np.array(lengths)


strides = {
    "SGD": stride(optim.SGD, wild),
    "SGD, clipped": stride(optim.SGD, clipped),
    "momentum": stride(with_momentum, wild) / 10,  # ten steps of momentum 0.9 go as far as one with lr 10 times as large
    "Adam": stride(optim.Adam, wild),
    "Adam, clipped": stride(optim.Adam, clipped),
}
print("\none gradient of 1,000 among ones, length of the steps       at the spike   10 steps later   1,000 later   half as long again")
for name, lengths in strides.items():
    slow = np.flatnonzero(lengths[AT:] < 0.5)
    back = f"after {slow[-1] + 1:,} steps" if len(slow) else "at once"
    print(f"    {name:46} {lengths[AT]:21.2f} {lengths[AT + 10]:16.2f} {lengths[AT + 1000]:13.2f} {back:>20}")
asleep = np.flatnonzero(strides["Adam"][AT:] < 0.5)
assert strides["SGD"][AT] == 1000 and strides["Adam"][AT] < 4 and asleep[-1] > 5000
assert np.allclose(strides["Adam, clipped"], 1) and np.allclose(strides["SGD, clipped"], 1)

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


# %% Break it: a batch that somebody forgot to scale
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

# %% Figures
if not options.no_plots:
    ts = np.arange(T + 1)
    drawn = {name: [schedule(t) for t in ts] for name, schedule in schedules.items()}
    curves.schedules(options.out / "schedules.png", ts, drawn, strides, AT)
    curves.rates(options.out / "rates.png", {scene: rates for scene, (_, rates, _) in scenes.items()}, list(ways), right)
    print(f"pictures: {options.out}/schedules.png, rates.png")

# %% Exercises
# 1. Clip each array by its own norm instead of all of them together. Which promise is lost?
# 2. How long does Adam creep after a spike of 1,000 with betas = (0.9, 0.95)?
# 3. A run of 2,000 steps has lr 0.001. Which decay leaves 1/e of a weight without gradients? And if the rate follows half a cosine down to 0?
# 4. Clip Adam's gradients to the norm 0.001 in every step, all of them. What changes in its path? And in SGD's?
#
# Answers
# 1. The direction: small and large arrays no longer keep their proportion.
# 2. v falls by 0.95 a step instead of 0.999, though its share of the spike is 0.05: some 190 steps instead of 5,800.
# 3. 1 / (0.001 * 2,000) = 0.5. The mean of half a cosine is half its peak: twice as much, 1.
# 4. All gradients get the same length, and m and v become means of directions. Where the lengths hardly changed, Adam goes where it went: a factor
#    that all gradients share cancels in m / sqrt(v), and only eps is felt more. SGD's steps get the length lr / 1,000, all of them.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
