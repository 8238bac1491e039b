"""Norms, residuals and depth: what lets deep networks learn.

RUNNING TIME: 2 minutes (--quick: 10 seconds)

You will see what each norm takes away from its input, a gradient that is gone after thirty plain layers and is all there with
one more "+ x", and two transformers that differ in the place of a norm: one learns at once, the other not at all, unless its
learning rate climbs slowly, or, better, its residual weighs more. On the way some beliefs are put to the test:
that GPT-3 and ChatGLM have the same norms, that a norm behind the sum steadies the training, that LLaMA has a LayerNorm.

    python -m walkthroughs engine/depth               the whole story
    python -m walkthroughs engine/depth --quick       the mechanics only
"""

# %% Settings
import math
import time

import tinygrad_notes as tn
from models.language import gpt, gpt1
from tinygrad_notes import check, nn, optim
from tinygrad_notes import functional as F
from walkthroughs.engine import _depth_pictures as pictures
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("engine/depth", __doc__))
QUICK, FULL = options.quick, not options.quick
DEPTH, STEPS = (4, 6) if QUICK else (18, 500)
began = time.process_time()
rng = np.random.default_rng(options.seed)

# %% The idea by hand: three numbers, normalised
# A norm gives a vector a standard size, so that what comes next need not care how large it was. LayerNorm subtracts the mean and
# divides by the standard deviation; RMSNorm only divides, by the root of the mean square; BatchNorm takes mean and deviation of
# each number over the batch, so that what it says of one example depends on the others.
x = np.array([[1.0, 2.0, 6.0]])
print(f"x                {x[0]}   mean 3, mean square 41 / 3, variance 14 / 3")
print(f"LayerNorm(x)     {F.layer_norm(x, eps=0)[0].round(3)}")
print(f"RMSNorm(x)       {F.rms_norm(x, eps=0)[0].round(3)}")
assert np.allclose(F.layer_norm(x, eps=0), (x - 3) / math.sqrt(14 / 3))
assert np.allclose(F.rms_norm(x, eps=0), x / math.sqrt(41 / 3))

# %% What a norm does not see
# Thirty-two random vectors, scaled by a, shifted by c, and alone in their batch. LayerNorm sees neither a nor c; RMSNorm does
# not see a. Neither knows of other examples. BatchNorm of a batch of one has nothing to compare: only its bias, beta, is left.
x, beta = rng.normal(size=(32, 64)), rng.normal(size=64)


def batch_norm(x):
    return F.batch_norm(x, np.ones(64), beta, np.zeros(64), np.ones(64), train=True)[0]


norms = {"LayerNorm": lambda x: F.layer_norm(x, eps=0), "RMSNorm": lambda x: F.rms_norm(x, eps=0), "BatchNorm": batch_norm}
moved = {}
print("\nlargest change of the answer       7 x     x + 3     alone in its batch")
for name, norm in norms.items():
    y = norm(x)
    moved[name] = [np.abs(other).max() for other in (norm(7 * x) - y, norm(x + 3) - y, norm(x[:1]) - y[:1])]
    print("    {:23} {:9.1e} {:9.1e} {:9.1e}".format(name, *moved[name]))
assert max(moved["LayerNorm"]) < 1e-6 and moved["RMSNorm"][0] < 1e-6 < 0.1 < moved["RMSNorm"][1]
assert np.array_equal(batch_norm(x[:1]), beta[None]) and moved["BatchNorm"][2] > 0.1

# A question people leave open: "LLaMA normalises before each layer with a LayerNorm, which makes it generalise." The norm is an
# RMSNorm: it keeps the mean (LayerNorm's is zero) and has no bias. Where the mean is zero already the two are one. What the place
# before each layer buys is a training that holds; that is measured below.
centred = x - x.mean(axis=-1, keepdims=True)
assert np.allclose(F.rms_norm(centred, eps=0), F.layer_norm(x, eps=0))
print(f"""
"LLaMA has a LayerNorm": an RMSNorm. Mean of its answer to x + 3: {F.rms_norm(x + 3).mean():.2f}, of LayerNorm's {abs(F.layer_norm(x + 3).mean()):.2f};
    parameters at width 64: {tn.count(nn.RMSNorm(64))} and {tn.count(nn.LayerNorm(64))}; on vectors of mean 0 they agree""")

# %% Check it
# The gradient knows it, too: it has no part along x (a larger x changes nothing), and LayerNorm's sums to zero (nor does a
# shift). Both against finite differences, with random weights: the sum of a LayerNorm is always 0, and so is its gradient.
w, few = rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
for norm in (F.layer_norm, F.rms_norm):
    weighted = lambda x, norm=norm: np.sum(w * norm(x, eps=0))
    check.check_grads(weighted, few)
    g = tn.grad(weighted)(few)
    assert np.abs(np.sum(g * few, axis=-1)).max() < 1e-12
    assert (np.abs(np.sum(g, axis=-1)).max() < 1e-12) == (norm is F.layer_norm)
print("\nchecked: gradients agree with finite differences, stand at right angles to x, and LayerNorm's sum to zero")

# %% Thirty layers
# x <- tanh(W x + b), thirty times, with the weights that `Linear` starts with (PyTorch's start: a standard deviation of 1 / sqrt(3 C)).
# Each layer makes what passes through it smaller by about sqrt(3), forwards and backwards, and 3^(-29/2) is 1e-7. With x <- x + tanh(...)
# the gradient has a way past every layer.
LAYERS = 30


def gradient_norms(layer):
    """Gradient norms of the weights of 30 layers, x <- layer(linear, x), the first one first."""
    draw = np.random.default_rng(options.seed)
    stack = [nn.Linear(64, 64, rng=draw) for _ in range(LAYERS)]
    x, target = draw.standard_normal((2, 32, 64), np.float32)
    for linear in stack:
        x = layer(linear, x)
    return [float(np.linalg.norm(g)) for g in tn.gradients(F.mse(x, target), [linear.weight for linear in stack])]


plain = gradient_norms(lambda linear, x: np.tanh(linear(x)))
residual = gradient_norms(lambda linear, x: x + np.tanh(linear(x)))
print(f"""
30 layers, gradient of the first by that of the last      measured   to be seen
    plain                                                 {plain[0] / plain[-1]:8.1e}   below 1e-4
    with residuals                                        {residual[0] / residual[-1]:8.1f}   above 0.1""")
assert plain[0] / plain[-1] < 1e-4 and residual[0] / residual[-1] > 0.1


# %% The stream grows
# Every layer of a transformer adds something to the residual stream, and 2 L things of equal size, one independent of the other, add
# up to sqrt(2 L) of it. GPT-2 divides the weights of what is added by sqrt(2 L) at the start: so the stream is as wide
# behind 48 layers as behind 12.
def streams(layers, scaled):
    """Standard deviation of the residual stream of a fresh GPT-2, 128 wide: at its start and behind each block."""
    draw = np.random.default_rng(options.seed)
    model = tn.frozen(gpt.GPT(gpt.Config(vocabulary=16, context=32, layers=layers, heads=4, width=128), draw))
    x = model.embed(draw.integers(0, 16, (4, 32)))
    spreads = [float(x.std())]
    for block in model.h:
        for linear in (block.attn.c_proj, block.mlp.c_proj):
            linear.weight = linear.weight * np.float32(1 if scaled else math.sqrt(2 * layers))  # undo GPT-2's scaling
        x = block(x)
        spreads.append(float(x.std()))
    return spreads


depths = (6, 12, 24, 48)
stream = {scaled: {L: streams(L, scaled) for L in depths} for scaled in (True, False)}
print("\nspread of the stream at its end       L = 6      12      24      48   48 : 12   power of L   theory")
for scaled, name, theory in ((True, "divided by sqrt(2 L)", 0), (False, "as it comes", 0.5)):
    ends = [stream[scaled][L][-1] for L in depths]
    power = np.polyfit(np.log(depths), np.log(ends), 1)[0]
    print(f"    {name:32}" + "".join(f"{s:8.3f}" for s in ends) + f"   {ends[3] / ends[1]:7.2f}   {power:10.2f}   {theory:6}")
    assert abs(power - theory) < 0.06 and abs(ends[3] / ends[1] - 4**theory) < 0.2

# %% Where the norm stands
# GPT-1 (models/language/gpt1.py) normalises behind the sum, GPT-2 (gpt.py) before the layer; the files differ in little else:
#     post-norm   x <- norm(x + f(x))            pre-norm   x <- x + f(norm(x)), and one norm behind the last block
# A common mistake: "GPT-3 is post-norm." Its paper (section 2.1) takes GPT-2's architecture with its "pre-normalization", and a file
# of weights tells which it is: only pre-norm needs a norm of its own at the end. If all layers add nothing, a pre-norm stack hands
# its input on as it is, through any depth; a post-norm stack normalises it all the same.
names = {kind.__name__: sorted(n for n in tn.parameters(kind.GPT(kind.Config.tiny(), rng)) if n.startswith("ln_f")) for kind in (gpt1, gpt)}
passed = {}
for kind in (gpt1, gpt):
    block = tn.frozen(kind.Block(kind.Config.tiny(), rng))
    for linear in (block.attn.c_proj, block.mlp.c_proj):
        linear.weight = np.zeros_like(linear.weight)
    x = rng.standard_normal((1, 4, 12), np.float32)
    passed[kind.__name__] = bool(np.array_equal(block(x), x))
print(f"""
                                             GPT-1, post-norm   GPT-2 and GPT-3, pre-norm
    a norm behind the last block             {"none":16}   {", ".join(names["models.language.gpt"])}
    a block that adds nothing is the identity {passed["models.language.gpt1"]!s:15}   {passed["models.language.gpt"]}""")
assert not names["models.language.gpt1"] and names["models.language.gpt"]
assert passed == {"models.language.gpt1": False, "models.language.gpt": True}

# %% The data: every second token
# A permutation of 16 tokens, drawn once: each token is the image of the last but one. So attention must look one back and the MLP
# must know the permutation; every token is equally frequent, and knowing nothing costs ln 16 = 2.77 nats.
V, T = 16, 16
image_of = rng.permutation(V)


def sequences(draw, B=16):
    """ids and targets, (B, T) each; the first target is drawn freely and counts nowhere (-100)."""
    ids = draw.integers(0, V, (B, T + 1))
    for t in range(2, T + 1):
        ids[:, t] = image_of[ids[:, t - 2]]
    return ids[:, :-1], np.where(np.arange(T) < 1, -100, ids[:, 1:])


print(f"\ndata: {sequences(rng)[0][0]} ...")


# %% Deep transformers
# Both models get Glorot and Bengio's start (2010), as the authors' own program of the Transformer has it. (GPT's own 0.02 whispers at this width: 18 layers
# that say next to nothing are no deep network. Exercise 2.) DeepNorm (Wang et al. 2022) is post-norm with a residual that weighs alpha;
# of its forms this is the one of GLM-130B and ChatGLM-6B: alpha = sqrt(2 L), and weights of values, outputs and MLP divided by alpha.
class DeepNormBlock(gpt1.Block):
    def __call__(self, x, cache=None, rng=None):
        x = self.ln_1(self.alpha * x + self.attn(x, cache))
        return self.ln_2(self.alpha * x + self.mlp(x))


def xavier(n_out, n_in, draw, gain=1.0):
    return nn.init.xavier_normal((n_out, n_in), draw, gain=gain)


def build(kind, layers, width, seed=options.seed):
    """A fresh model: kind is "pre-norm", "post-norm" or "DeepNorm"."""
    draw, family = np.random.default_rng(seed), gpt if kind == "pre-norm" else gpt1
    model = family.GPT(family.Config(V, context=T, layers=layers, heads=2, width=width), draw)
    alpha = math.sqrt(2 * layers) if kind == "DeepNorm" else 1.0
    for block in model.h:
        if kind == "DeepNorm":
            block.__class__, block.alpha = DeepNormBlock, alpha
        q, k, v = (xavier(width, width, draw, gain) for gain in (1.0, 1.0, 1 / alpha))
        block.attn.c_attn.weight = tn.Tensor(np.concatenate([q, k, v]))
        block.attn.c_proj.weight = tn.Tensor(xavier(width, width, draw, 1 / alpha))
        block.mlp.c_fc.weight = tn.Tensor(xavier(4 * width, width, draw, 1 / alpha))
        block.mlp.c_proj.weight = tn.Tensor(xavier(width, 4 * width, draw, 1 / alpha))
    return model


def loss_of(model, ids, targets):
    return F.cross_entropy(model(ids), targets)


def profile(model):
    """The gradient's norm in the first MLP matrix of each block."""
    params = {i: block.mlp.c_fc.weight for i, block in enumerate(model.h)}
    grads = tn.gradients(loss_of(model, *sequences(np.random.default_rng(1), 32)), params)
    return [float(np.linalg.norm(g)) for g in grads.values()]


def train(model, rates, name, watch=()):
    """The losses; and for each step of `watch` the gradient profile after as many steps."""
    params, losses, seen, draw = tn.parameters(model), [], {}, np.random.default_rng(options.seed)
    optimizer = optim.Adam(params, lr=rates[0])
    for step, rate in enumerate(tqdm(rates, desc=name, unit="step", disable=None)):
        if step in watch:
            seen[step] = profile(model)
        loss = loss_of(model, *sequences(draw))
        optimizer.step(tn.gradients(loss, params, unused="raise"), lr=rate)
        losses.append(loss.item())
    return losses, seen


# %% The gradient in 24 layers
# At the start both are healthy. The difference comes with the first steps at the full rate: thirty of them, and nothing comes
# through the post-norm stack any more, while the pre-norm stack has its way past the layers.
deep = 4 if QUICK else 24
after = 3 if QUICK else 30
profiles = {}
for kind in ("pre-norm", "post-norm"):
    _, profiles[kind] = train(build(kind, deep, 64), [1e-3] * (after + 1), f"{deep} layers, {kind}", watch=(0, after))
print(f"\n{deep} layers, gradient of the first block by that of the last      at the start   after {after} steps at a rate of 0.001")
for kind, seen in profiles.items():
    print(f"    {kind:58} {seen[0][0] / seen[0][-1]:12.2g}   {seen[after][0] / seen[after][-1]:12.2g}")
if FULL:
    assert all(seen[0][0] / seen[0][-1] > 0.1 for seen in profiles.values())
    assert profiles["post-norm"][after][0] / profiles["post-norm"][after][-1] < 1e-2
    assert profiles["pre-norm"][after][0] / profiles["pre-norm"][after][-1] > 0.1

# %% Train: pre-norm, post-norm, and a warm-up
# A common mistake: "a norm behind each sum steadies the training." The opposite holds (Xiong et al. 2020): the same rate that
# pre-norm takes from the first step keeps post-norm from learning anything. A rate that climbs for most of the time lets it begin:
# it learns until the rate is about half of the peak, which is too much for eighteen layers even then. See the figure.
constant, climbing = [1e-3] * STEPS, [optim.linear_warmup(step, peak=1e-3, warmup=STEPS * 4 // 5) for step in range(STEPS)]
runs = {}
for name, kind, rates in (
    ("pre-norm, no warm-up", "pre-norm", constant),
    ("post-norm, no warm-up", "post-norm", constant),
    ("post-norm, warm-up", "post-norm", climbing),
    ("DeepNorm, no warm-up", "DeepNorm", constant),
):
    runs[name], _ = train(build(kind, DEPTH, 64), rates, name)
together = min(50, STEPS)
means = {name: np.convolve(losses, np.full(together, 1 / together), "valid") / math.log(V) for name, losses in runs.items()}
print(
    f"\n{DEPTH} layers, {STEPS} steps, peak rate 0.001: lowest mean loss of {together} steps in parts of ln {V}      measured   to be seen"
)
for (name, mean), claim in zip(means.items(), ("below 50 %", "above 90 %", "below 90 %", "below 50 %")):
    print(f"    {name:76} {mean.min():8.1%}   {claim}   (at the end {mean[-1]:.1%})")
if FULL:
    pre, stuck, climbed, deepnorm = (float(mean.min()) for mean in means.values())
    assert max(pre, deepnorm) < 0.5 < 0.9 < stuck and climbed < 0.9
else:
    assert runs["pre-norm, no warm-up"][-1] < runs["pre-norm, no warm-up"][0]

# %% DeepNorm: a bounded first step
# A common mistake: "ChatGLM is post-norm like GPT-3." GPT-3 is pre-norm, and so are ChatGLM2 and 3, with an RMSNorm. ChatGLM-6B is
# post-norm with alpha. Its published code hides that: there the norm stands at the head of each layer, but the residual is taken behind
# it, h = norm(x), x <- alpha h + f(h), which is norm(alpha x + f(x)) cut at another place.
model = tn.frozen(build("DeepNorm", 3, 12))
ids = sequences(rng, 2)[0]
x = h = model.embed(ids)
for block in model.h:
    x = block(x)
stream = None
for block in model.h:  # ChatGLM's way: what stands between the blocks is not normalised
    for layer, norm in ((block.attn, block.ln_1), (block.mlp, block.ln_2)):
        stream = block.alpha * h + layer(h)
        h = norm(stream)
assert np.allclose(x, h, atol=1e-6)


# What alpha is for: how far one step moves the answer of the model (two random answers are sqrt(2) apart). DeepNorm was made so that a
# step of SGD moves it equally far at any depth. Adam moves every weight equally far, however small its gradient: there
# DeepNorm's change grows as sqrt(L), and that of post-norm until the answer is another one altogether.
def first_step(kind, layers, optimizer, rate):
    """The root mean square change of the last block's output after one step, a mean of three models."""
    changes, (ids, targets) = [], sequences(np.random.default_rng(1))
    for seed in range(3):
        model = build(kind, layers, 32, seed)
        params, before = tn.parameters(model), tn.frozen(model).hidden(ids)
        optimizer(params, lr=rate).step(tn.gradients(loss_of(model, ids, targets), params, unused="raise"))
        changes.append(float(np.sqrt(np.mean((tn.frozen(model).hidden(ids) - before) ** 2))))
    return float(np.mean(changes))


sizes = (4, 8) if QUICK else (8, 16, 32, 64)
print("\none step: change of the output" + "".join(f"{f'L = {L}':>9}" for L in sizes) + "   power of L")
moves, powers = {}, {}
for optimizer, rate in ((optim.SGD, 0.02), (optim.Adam, 1e-4)):
    for kind in ("post-norm", "DeepNorm"):
        case = f"{optimizer.__name__}, {kind}"
        moves[case] = [first_step(kind, layers, optimizer, rate) for layers in sizes]
        powers[case] = np.polyfit(np.log(sizes), np.log(moves[case]), 1)[0]
        print(f"    {case:26}" + "".join(f"{change:9.3f}" for change in moves[case]) + f"   {powers[case]:10.2f}")
if FULL:
    assert abs(powers["SGD, DeepNorm"]) < 0.1 and powers["Adam, DeepNorm"] < 0.7 < powers["Adam, post-norm"]
    assert all(post > 5 * deepnorm for post, deepnorm in zip(moves["SGD, post-norm"], moves["SGD, DeepNorm"]))

# %% Figures
if not options.no_plots:
    by_layer = {"plain": (plain, "-"), "with residuals": (residual, "-")}
    pictures.profiles(options.out / "thirty-layers.png", by_layer, "30 layers at the start")
    times = {0: ("at the start", "-"), after: (f"after {after} steps", "--")}
    lines = {f"{kind}, {when}": (seen[step], style) for kind, seen in profiles.items() for step, (when, style) in times.items()}
    pictures.profiles(options.out / "gradients.png", lines, f"{deep} transformer blocks, rate 0.001")
    pictures.training(options.out / "training.png", runs, math.log(V), f"{DEPTH} blocks, peak rate 0.001")
    print(f"\nfigures: {options.out}/thirty-layers.png, gradients.png, training.png")

# %% Exercises
# 1. Start the thirty plain layers with weights of standard deviation 1 / sqrt(C). Is the gradient still gone?
# 2. Train the post-norm model with GPT-1's own weights (leave out what `build` does to the blocks). Does it need the warm-up?
# 3. RMSNorm(x - mean(x)) is LayerNorm(x). Which x is there for LayerNorm that RMSNorm answers with a vector of equal numbers?
# 4. DeepNorm makes every layer's part small at the start. Does pre-norm, too? Print |f(norm(x))| / |x| for each block.
#
# Answers
# 1. No: the first layer has about a fifth of the last one's. The vanishing was the start's fault. But that one number must be right,
#    for every layer and nonlinearity, and stay right while the network learns; with residuals it need not be.
# 2. No: after 400 steps its loss is 1 % of ln 16. With weights of 0.02 what a layer adds is small beside x, as if x weighed more:
#    DeepNorm by the back door, at this width. At 768 the same 0.02 is three times as loud.
# 3. x = c (1, ..., 1): RMSNorm says sign(c) (1, ..., 1); LayerNorm says 0, and with eps = 0 divides by it.
# 4. Yes, later and by itself: what is added has one size, the stream grows as sqrt(l), so the part of block l falls as 1 / sqrt(l).
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
