"""LoRA: a trained model learns a new task by one hundredth of its weights.

RUNNING TIME: 1 minute (--quick: 2 seconds)

You will see a small GPT that sorts digits learn to sort them the other way round: once with all of its
weights, and once with two thin matrices beside each query and value map, 1.4 % as many numbers. You will
see which rank that takes, what the old model still can do afterwards, a skill that is not in the model and
so is no small change, and two ways to break it. adaptation/lora_text goes on with real text.

    python -m walkthroughs adaptation/lora
    python -m walkthroughs adaptation/lora --quick    the mechanics only
"""

# %% Settings
import time
from functools import partial

import tinygrad_notes as tn
from models.adaptation import lora
from models.language import gpt
from tinygrad_notes import check, optim, saving
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("adaptation/lora", __doc__))
began = time.process_time()


def steps(n):
    return max(3, n // 60) if options.quick else n


# %% Look at the data
# A line holds N random digits, "=", and an answer: the digits in ascending order. That is what the model
# learns at first. The new task is the same in descending order; a third one will be to read the digits
# backwards. Only the answer counts in the loss: nobody can predict random digits.
N = 8
SIGNS = "0123456789="
ANSWERS = {
    "ascending": lambda q: np.sort(q, axis=1),
    "descending": lambda q: np.sort(q, axis=1)[:, ::-1],
    "backwards": lambda q: q[:, ::-1],
}


def lines(n, task, rng):
    """n lines: ids (n, 2N), and targets (n, 2N) that are -100 where there is nothing to learn."""
    q = rng.integers(10, size=(n, N))
    line = np.concatenate([q, np.full((n, 1), SIGNS.index("=")), ANSWERS[task](q)], axis=1)
    targets = line[:, 1:].copy()
    targets[:, :N] = -100  # the digits but the first, and "=" itself
    return line[:, :-1], targets


for task in ANSWERS:
    x, y = lines(1, task, np.random.default_rng(1))
    print(f"    {task:11} {''.join(SIGNS[i] for i in [*x[0], y[0, -1]])}")


def exact(model, task, n=100 if options.quick else 500):
    """The share of unseen lines whose answer is right in every digit, each digit predicted from the right ones before it."""
    x, y = lines(n, task, np.random.default_rng(99))
    answer = tn.frozen(model)(x)[:, N:].argmax(-1)
    return float(np.mean(np.all(answer == y[:, N:], axis=1)))


# %% The idea by hand
# A 3 x 3 weight, and beside it B A of rank one: three numbers and three numbers. B starts at zero, so the
# output is the old one. The gradient of A is B^T (...), zero as well, but that of B is g (A x)^T: B moves first.
W0 = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3]])
A, B = np.array([[1.0, 0, -1]]), np.zeros((3, 1))
x = np.array([1.0, 1, 3])
A_t, B_t = tn.Tensor(A), tn.Tensor(B)
gA, gB = tn.gradients(np.sum(W0 @ x + B_t @ (A_t @ x)), [A_t, B_t])
print(f"W0 x + B A x at the start {W0 @ x + B @ (A @ x)}, which is W0 x;  dL/dA {gA.ravel()}  dL/dB {gB.ravel()}")
B = B - 0.1 * gB
print(f"after one step            {W0 @ x + B @ (A @ x)};  merged {(W0 + B @ A) @ x};  rank of B A: {np.linalg.matrix_rank(B @ A)}\n")
assert not np.any(gA) and np.array_equal(gB.ravel(), [-2, -2, -2]) and np.allclose((W0 + B @ A) @ x, W0 @ x + B @ (A @ x))

# %% The model beside its equations
# models/adaptation/lora.py has the five equations; this is the time to read it. It does not touch
# models/language/gpt.py: `attach` makes a view of the model in which an adapted map stands for a Linear.
rng = np.random.default_rng(options.seed)
base = gpt.GPT(gpt.Config(len(SIGNS), context=2 * N, layers=2, heads=4, width=96), rng)
adapter = lora.adapter(base, lora.Config.gpt2(), rng)
print(f"GPT with {tn.count(base):,} parameters; an adapter of rank 4 for {', '.join(adapter)} has {tn.count(adapter):,}\n")
assert tn.count(adapter) < 0.03 * tn.count(base)

# %% Check it
# In float64: at the start nothing changes, and only B has a gradient; the gradient agrees with finite
# differences; and the merged model, an ordinary GPT, computes the same.
tiny = gpt.GPT(gpt.Config.tiny(dtype=np.float64), np.random.default_rng(1))
ids = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])
small = lora.adapter(tiny, lora.Config.tiny(), np.random.default_rng(2))
assert np.array_equal(lora.attach(tiny, small)(ids).value, tiny(ids).value)
grads = tn.gradients(gpt.loss(lora.attach(tiny, small), ids[:, :-1], ids[:, 1:]), tn.parameters(small), unused="raise")
assert all(np.any(g != 0) == name.endswith(".B") for name, g in grads.items())
one = small["h.0.attn.c_attn:v"]
one.B = tn.Tensor(np.random.default_rng(3).normal(size=one.B.shape))


def tiny_loss(A):
    one.A = A
    return gpt.loss(lora.attach(tiny, small), ids[:, :-1], ids[:, 1:])


check.check_grads(tiny_loss, np.random.default_rng(4).normal(size=(2, 12)))
one.A = tn.Tensor(np.random.default_rng(4).normal(size=(2, 12)))
apart = np.max(np.abs(lora.merge(tiny, small)(ids).value - lora.attach(tiny, small)(ids).value))
assert apart < 1e-12
print(f"checked: nothing changes at the start, only B moves, gradients agree with differences, merged - unmerged {apart:.0e}\n")

# %% Train
# One loop for all that follows. `model` is what computes, `params` what is trained: all of a model, or an
# adapter alone. Every run sees the same lines in the same order.
EVERY = steps(50)


def train(name, model, params, task, n, lr):
    """The share of exact answers, measured every 50 steps."""
    optimizer = optim.AdamW(params, lr=lr, betas=(0.9, 0.99))
    schedule = partial(optim.cosine, peak=lr, floor=lr / 10, warmup=min(20, n // 4), steps=n)
    draws, curve = np.random.default_rng(options.seed + 1), []
    for step in tqdm(range(n), desc=name, unit="step", disable=None):
        x, y = lines(32, task, draws)
        grads, _ = optim.clip_by_global_norm(tn.gradients(gpt.loss(model, x, y), params, unused="raise"), 1.0)
        optimizer.step(grads, lr=schedule(step))
        if (step + 1) % EVERY == 0:
            curve.append(exact(model, task))
    return curve


train("learning to sort", base, tn.parameters(base), "ascending", steps(700), 3e-3)
before = tn.state_dict(base)
first = {task: exact(base, task) for task in ANSWERS}
print("the base model, exact answers: " + ", ".join(f"{task} {right:.1%}" for task, right in first.items()))
if not options.quick:
    assert first["ascending"] > 0.95 and first["descending"] < 0.05


# %% All weights, or an adapter
# Each with the learning rate that suits it: thin matrices take a larger one. alpha / r is 8, as in the paper's GPT-2.
TUNING = steps(600)


def full(task, n=TUNING):
    model = tn.snapshot(base)  # a model of its own, to be trained as a whole
    tn.unfreeze(model)
    return model, train(f"all weights, {task}", model, tn.parameters(model), task, n, 1e-3)


def adapted(task, n=TUNING, name=None, **changes):
    r = changes.get("r", 4)
    adapter = lora.adapter(base, lora.Config(**{"r": r, "alpha": 8.0 * r} | changes), np.random.default_rng(options.seed + 2))
    return adapter, train(name or f"rank {r}, {task}", lora.attach(base, adapter), tn.parameters(adapter), task, n, 5e-3)


tuned, full_curve = full("descending")
ranks = {r: adapted("descending", r=r) for r in (1, 2, 4, 8)}
adapter, curve = ranks[4]
gain = {r: (c[-1] - first["descending"]) / max(full_curve[-1] - first["descending"], 1e-9) for r, (_, c) in ranks.items()}
print("\nsorting in descending order, exact answers")
print(f"    all {tn.count(base):,} weights       {full_curve[-1]:6.1%}")
for r, (a, c) in ranks.items():
    print(f"    rank {r}, {tn.count(a):5,} ({tn.count(a) / tn.count(base):.1%})       {c[-1]:6.1%}   {gain[r]:4.0%} of the gain")
print("the paper (table 6, GPT-3 175B): rank 1 or 2 suffices there, and a rank beyond 4 brings nothing")
if not options.quick:
    assert gain[4] >= 0.95 and gain[1] < min(0.9, gain[4]), "rank 4 should do what all weights do, rank 1 should not"
    assert abs(ranks[8][1][-1] - curve[-1]) < 0.05

# %% What the old model still can do
# Its weights are the same, bit for bit: without the adapter it sorts as before. The model whose weights
# were all trained has forgotten. So one model serves many tasks, each with a small file of its own.
forgotten, kept = (exact(model, "ascending") for model in (tuned, base))
assert all(array.tobytes() == before[name].tobytes() for name, array in tn.state_dict(base).items())
files = options.out / "model.safetensors", options.out / "adapter.safetensors"
for file, part in zip(files, (base, adapter)):
    saving.save_arrays(file, tn.state_dict(part))
merged = lora.merge(base, lora.restore(saving.load_arrays(files[1])))
print(f"\nascending, after the new task was learnt: all weights {forgotten:.1%}, base without the adapter {kept:.1%}")
print(f"on the disk: the model {files[0].stat().st_size:,} bytes, the adapter {files[1].stat().st_size:,}")
print(f"merged: a {type(merged).__name__} with the names as before, exact answers {exact(merged, 'descending'):.1%}")
assert tn.state_dict(merged).keys() == before.keys() and kept == first["ascending"]
if not options.quick:
    assert forgotten < 0.5 and exact(merged, "descending") >= curve[-1] - 0.01

# %% Which weights, and do biases learn?
# It is often written that LoRA stands beside all linear maps of the attention. The paper adapts queries and values. With as many
# parameters for all four maps the rank is half as large; and biases, which stay as they are by default, may be trained too.
assert all(change.bias is None for change in adapter.values())  # not trained unless Config(bias=True) says so
choices = {
    "q, v            rank 4": ranks[4],
    "q, k, v, output rank 2": adapted("descending", name="four maps", r=2, targets=("*c_attn:q", "*c_attn:k", "*c_attn:v", "*attn.c_proj")),
    "q, v with bias  rank 4": adapted("descending", name="with bias", bias=True),
}
print("\nwhere the parameters stand             exact answers")
for name, (a, c) in choices.items():
    print(f"    {name}, {tn.count(a):5,}         {c[-1]:6.1%}")
print("the paper (table 5): with the same number, all four maps and q, v do about equally well; biases are left alone")

# %% Where it falls short: another skill
# To read backwards is not a small change of sorting: nothing in the model looks at one place. All weights
# learn it in 250 steps; rank 4 beside the queries and values does not in 400.
_, backwards = full("backwards", steps(250))
_, thin = adapted("backwards", n=steps(400))
print(f"\nreading backwards, exact answers: all weights {backwards[-1]:.1%}, rank 4 {thin[-1]:.1%}")
if not options.quick:
    assert backwards[-1] > 0.9 and thin[-1] < 0.5

# %% Break it
# B must start at zero: with both matrices random the model begins with a random change, and has lost what
# it knew. And alpha / r is a learning rate in disguise: a hundred times as large, and training goes astray.
spoilt = lora.adapter(base, lora.Config.gpt2(), rng)
for change in spoilt.values():
    change.B = tn.Tensor(rng.normal(size=change.B.shape).astype(np.float32))
lost = exact(lora.attach(base, spoilt), "ascending")
fresh = exact(lora.attach(base, lora.adapter(base, lora.Config.gpt2(), rng)), "ascending")
_, astray = adapted("descending", n=steps(200), name="alpha 3200", alpha=3200.0)
print(f"\nbefore any step, ascending: B zero {fresh:.1%}, B random {lost:.1%}")
print(f"descending after {steps(200)} steps: alpha 3200 {astray[-1]:.1%}, alpha 32 had {curve[len(astray) - 1]:.1%}")
if not options.quick:
    assert fresh == kept > 0.95 and lost < 0.2 and astray[-1] < 0.2

# %% Look at the results
if not options.no_plots:
    from matplotlib.figure import Figure  # needs no display

    figure = Figure(figsize=(6, 4.2), layout="constrained", dpi=130)
    axes, at = figure.subplots(), EVERY * np.arange(1, len(full_curve) + 1)
    axes.plot(at, full_curve, color="black", label=f"all weights ({tn.count(base):,})")
    for (r, (a, c)), color in zip(ranks.items(), ("#c6dbef", "#6baed6", "#2171b5", "#08306b")):
        axes.plot(at, c, color=color, label=f"rank {r} ({tn.count(a):,})")
    axes.set(title="sorting the other way round", xlabel="step", ylabel="exact answers", ylim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out / "lora.png")
    print(f"picture: {options.out}/lora.png")

# %% Exercises
# 1. Start with A = 0 and B random, as is often written. Which of the two moves first? Does it learn?
# 2. Attach the adapters of rank 4 and rank 8 at once: lora.attach(base, ranks[4][0], ranks[8][0]). Why does that not sort twice as well?
# 3. Let rank 4 beside every linear map read backwards. Is it the rank or the place that was missing?
# 4. Train the base for 100 steps only, so that it sorts badly. What does that do to rank 4's part of the gain?
#
# Answers. 1. A moves first, by symmetry, and it learns as well: equation 3 with the letters exchanged. What matters is that their
# product is zero and not both of them. 2. Their changes add up, so that the model overshoots; two tasks that touch different directions
# would get along. 3. Mostly the place: the MLPs have to help. 4. It falls: what is not there yet is not a small change away.
print(f"all of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
