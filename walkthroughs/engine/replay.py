"""Replay: what a training step is once the Python is taken out of it.

RUNNING TIME: 10 seconds (--quick: 3 seconds)

A step of a small network is a few dozen calls of NumPy, with thousands of instructions of Python between them that do the same in every step.
You will count both; write the calls down by an array of a dozen lines and repeat them in a loop of two; see what that gets wrong without
a word (a branch, a random draw, a counter, an array that is changed), and what it takes to be right; see how little memory a step needs
whose end is known at its beginning; and train an MLP and a GPT by `tinygrad_notes.replay`, to the same losses.

Before it: walkthroughs/engine/autograd.py, by whose protocols NumPy hands its calls to an object of ours.

    python -m walkthroughs engine/replay             the whole story
    python -m walkthroughs engine/replay --quick     a few steps of each
"""

# %% Settings
import math
import textwrap
import time
from functools import partial

import tinygrad_notes as tn
from models.language import gpt
from tinygrad_notes import data, nn, optim
from tinygrad_notes import functional as F
from tinygrad_notes.recording.program import pack
from tinygrad_notes.replay import replay
from tinygrad_notes.text import CharTokenizer
from walkthroughs.engine import _replay_pictures as pictures
from walkthroughs.engine._replay_calls import instructions, microseconds, published, table, written_down
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("engine/replay", __doc__))
STEPS, ROUNDS = (40, 3) if options.quick else (500, 15)  # of training; of each time that is taken
rng = np.random.default_rng(options.seed)
began = time.process_time()


def heading(text):
    print(f"\n--- {text} " + "-" * max(0, 90 - len(text)))


# %% A step, counted
# The network of docs/performance.md's first row, 2-64-64-1, asked whether two coordinates are of one sign. Its step on the tape: forward,
# backward, AdamW.
def classifier(width, rng):
    """The params and the loss of an MLP."""
    model = nn.Sequential(nn.Linear(2, width, rng=rng), np.tanh, nn.Linear(width, width, rng=rng), np.tanh, nn.Linear(width, 1, rng=rng))
    return tn.parameters(model), lambda x, y: F.mse(model(x), y)


def points(n, rng):
    x = rng.uniform(-1, 1, size=(n, 2)).astype(np.float32)
    return x, np.sign(x[:, :1] * x[:, 1:])


def on_tape(loss, params, optimizer):
    """A training step as everybody writes it."""

    def step(*batch, **kwargs):
        value = loss(*batch, **kwargs)
        optimizer.step(tn.gradients(value, params, unused="raise"))
        return value.item()

    return step


heading("a step, counted")
params, loss = classifier(64, rng)
batch, one = points(64, rng), points(1, rng)


def forward_and_backward():
    return tn.gradients(loss(*batch), params, unused="raise")


of_mlp, of_one = written_down(loss, params, batch), written_down(loss, params, one)
program = of_mlp.program
python, python_of_calls = instructions(forward_and_backward), instructions(program.run)
tape, calls, of_little = microseconds(forward_and_backward, program.run, of_one.program.run, rounds=ROUNDS)
print(f"forward, backward: {len(program.calls)} calls of NumPy, {python:,} instructions of Python; for the calls alone {python_of_calls}")
print(f"microseconds: all of it {tape:.0f}, the calls alone {calls:.0f}, the calls for 1 example in place of 64 {of_little:.0f}")
print(f"of the time, {1 - calls / tape:.0%} lies between the calls, {of_little / tape:.0%} is what calls cost however little they do")
assert python > 5 * python_of_calls
# (A profiler would say so too, and exaggerate: it makes calls of Python dearer, and NumPy's work not. So here times are subtracted. Between the
# calls lies Python, and the memory of new arrays, which a repetition has already.)

# %% The idea by hand
# What those instructions find out is the same in every step: which rule belongs to which op, which shape is broadcast, what can be freed.
# So write down which functions of NumPy were called, on which arrays, into which; and next time, only call them. NumPy offers every
# ufunc (functions of single numbers, operators, and matmul) to a method `__array_ufunc__` of its arguments, which may be an ndarray, too:
notes = []


class Noted(np.ndarray):
    """An array whose ufuncs are written down."""

    def __array_ufunc__(self, ufunc, method, *args, out=(None,), **keywords):
        function = ufunc if method == "__call__" else getattr(ufunc, method)  # np.add, or np.add.reduce, which is np.sum
        args = [np.asarray(x) for x in args]
        if out[0] is not None:
            keywords["out"] = np.asarray(out[0])
        y = np.asarray(function(*args, **keywords))
        notes.append((function, args, keywords | {"out": y}))
        return y.view(Noted)


def repeat(notes):
    for function, args, keywords in notes:
        function(*args, **keywords)


def noted(f, *arrays):
    """f of these arrays, and what it calls. The arrays stay where they are: a repetition reads what they hold by then."""
    notes.clear()
    return f(*(x.view(Noted) for x in arrays)), list(notes)


# A step of gradient descent on 3 x 3 numbers, with its gradient by hand; the last line writes the new weights where the old ones are.
def step_by_hand(x, y, w):
    h = np.tanh(x @ w)
    e = h - y
    np.subtract(w, 0.1 * (x.T @ (2 * e * (1 - h * h))), out=w)
    return np.sum(e * e)


heading("the idea by hand")
x, y, start = rng.normal(size=(3, 3)), rng.uniform(-1, 1, size=(3, 3)), rng.normal(size=(3, 3))
w = start.copy()
first, step = noted(step_by_hand, x, y, w)
losses_by_hand = [float(first)]
print("what a step of gradient descent calls:")
table(step, x=x, y=y, w=w)
for _ in range(9):
    repeat(step)
    losses_by_hand.append(float(first))  # it lies where it was, and holds another number now
v = start.copy()
expected = [float(step_by_hand(x, y, v)) for _ in range(10)]
print(f"repeated: loss {', '.join(f'{loss:.3f}' for loss in losses_by_hand)}, as of the function itself, ten times")
assert losses_by_hand == expected
assert np.array_equal(w, v)

# %% Break it: what the dozen lines do not see
# Written down is what NumPy was asked, not why. Six losses, each called once as it is, once to write its calls down, and a third time, on
# other numbers, by repeating them: beside what the function itself says there, and what `replay` does.
heading("broken on purpose: what a repetition does not see")
clock = [0]  # a counter in Python, which goes on by one with every step


def in_place(w, x, rng):
    h = x * 1.0
    h[h < 0] = 0  # no ufunc, and nothing that Noted is asked about
    return np.sum((h @ w) ** 2)


LOSSES = {
    "nothing special": lambda w, x, rng: np.sum(np.tanh(x @ w) ** 2),
    "a branch": lambda w, x, rng: np.sum((x @ w) ** 2) if x.max() > 1 else np.sum(x @ w),
    "a random draw": lambda w, x, rng: np.sum((x @ w + rng.normal(size=(3, 3))) ** 2),
    "an array changed": in_place,
    "a counter": lambda w, x, rng: np.sum((x @ w) ** 2) * 0.9 ** clock[0],
    "a number read": lambda w, x, rng: np.sum((x @ w) ** 2) / float(np.sum(x * x)),
}


def third(step_of, loss):
    """What the third of three steps says, on its own batch, or why it cannot be had."""
    w, draws = start.copy(), np.random.default_rng(5)
    step = step_of(loss, w, draws)
    try:
        for clock[0], x in enumerate(batches):
            value = step(x)
    except (TypeError, ValueError) as error:
        return error
    return float(value)


itself = lambda loss, w, draws: lambda x: loss(w, x, draws)


def by_hand(loss, w, draws):
    mine = np.empty((3, 3))

    def step(x):
        mine[...] = x
        if clock[0] == 0:
            return loss(w, mine, draws)
        if clock[0] == 1:
            step.value, step.calls = noted(lambda x: loss(w, x, draws), mine)
        else:
            repeat(step.calls)
        return step.value

    return step


def by_replay(loss, w, draws):
    t = tn.Tensor(w)
    step = replay(lambda x, rng: loss(t, x, rng), t)  # of a loss and its params, without an optimizer: gives value and gradients
    return lambda x: step(x, rng=draws)[0]


batches = rng.uniform(-1, 1, size=(3, 3, 3))
batches[2, 0] = 1.5, -1.5, 1.2  # the third one takes the other branch
refused = {}
print("a step with              itself    by hand     replay")
for name, loss in LOSSES.items():
    right, toy, real = (third(way, loss) for way in (itself, by_hand, by_replay))
    says = "refused" if isinstance(real, Exception) else f"{real:8.4f}"
    print(f"    {name:18} {right:8.4f}   {toy:8.4f} {' ' if toy == right else '!'} {says}")
    assert toy == right if name == "nothing special" else abs(toy - right) > 1e-3
    if isinstance(real, Exception):
        refused[name] = type(real)
        print(textwrap.fill(f"{type(real).__name__}: {real}", 118, initial_indent=" " * 8, subsequent_indent=" " * 8))
    else:
        assert math.isclose(real, right, rel_tol=1e-12)
assert refused == {"a counter": ValueError, "a number read": TypeError}
# What it takes. A branch is a call too, which has no result: `bool(x)` of an array is asked of the array, is written down with its answer, and a
# repetition in which the answer is another one ends there, and the step is recorded once more, for this way. (So it may write nothing but its own
# memory before it knows; an array of yours is refused.) A draw is a call of whichever Generator comes with the step. Items that are set are asked
# of the array as well. A number that is read out of an array has left NumPy's sight: refused.
#
# Nobody is asked about a counter in Python. What can be done is to compare: the first repetition is held against the loss as it stands, and
# each later one that is the first with another batch or other weights. A counter that moves only afterwards gets through:
heading("what no comparison sees, and what to do")
t = tn.Tensor(start)
planned = lambda w, x, share: np.sum((x @ w) ** 2) * share
by_clock = replay(lambda x: planned(t, x, 1.0 if clock[0] < 10 else 0.5), t)
by_batch = replay(partial(planned, t), t)
for clock[0] in range(12):
    x, share = rng.normal(size=(3, 3)), np.array(1.0 if clock[0] < 10 else 0.5)
    of_clock, of_batch, right = by_clock(x)[0], by_batch(x, share)[0], float(planned(start, x, share))
print(f"a loss that is halved by a clock in Python after ten steps: {of_clock:.4f} in the twelfth step, for {right:.4f}")
print(f"its factor as a member of the batch, np.array(0.5): {of_batch:.4f}")
assert math.isclose(of_clock, 2 * right, rel_tol=1e-12)
assert math.isclose(of_batch, right, rel_tol=1e-12)

# %% Memory
# Who knows the whole step knows when each array is written first and read last: it needs a place for that time only, and another array may have
# it before and after. So all of them are laid into one piece of memory, each in the lowest gap that is free when it begins. (The tape frees
# early, too, but learns it as it goes, and asks for memory once for each array.)
heading("memory")
manual = data.manual()
tokenizer = CharTokenizer.train(manual)
text = tokenizer.encode(manual)
config = gpt.Config(tokenizer.vocabulary_size, context=32, layers=2, heads=2, width=32, dropout=0.1)


def windows(n, rng):
    return next(data.batches(text, n, config.context, rng))


def language_model(rng):
    model = gpt.GPT(config, rng)
    return tn.parameters(model), partial(gpt.loss, model)


gpt_params, gpt_loss = language_model(rng)
ids = windows(8, rng)
of_gpt = written_down(gpt_loss, gpt_params, ids)
in_memory = {}
for name, step in {"MLP": of_mlp, "GPT": of_gpt}.items():
    needs = step.lives()
    begins, size = pack(needs)
    alone = sum(nbytes for _, _, nbytes, _ in needs)
    at_once = max(sum(nbytes for first, last, nbytes, _ in needs if first <= now <= last) for now in range(len(step.calls)))
    in_memory[name] = needs, begins, size, step.turn
    print(f"{name}: {len(step.calls)} calls, {len(needs)} arrays between inputs and results, {alone / 1024:,.0f} KiB")
    print(f"    packed {size / 1024:,.0f} KiB; no packing could do with less than what is needed at once, {at_once / 1024:,.0f} KiB")
    assert size == step.program.memory
    assert at_once <= size < alone / 2
# The picture has the shape of reverse mode: the forward pass builds a staircase, and the backward pass takes its steps down, the last one first;
# what it needs itself lives for a few calls, in places that are free again.
if not options.no_plots:
    pictures.memory(options.out / "memory.png", in_memory)

# %% The real one, in training
# One line takes the place of the loop's body. Same weights, batches, dropout: are the losses the same, bit for bit, or as good as that?
heading("in training")
MODELS = {  # how a model is made, its batches, the learning rate, and the row of docs/performance.md with a network of this size
    "MLP": (partial(classifier, 64), partial(points, 64), 3e-3, "W1"),
    "GPT": (language_model, partial(windows, 8), 5e-3, "W2"),
}
for name, (make, draw, rate, row) in MODELS.items():
    runs, steps = [], []
    for way in (on_tape, partial(replay, unused="raise")):
        params, loss = make(np.random.default_rng(options.seed))
        step = way(loss, params, optim.AdamW(params, lr=rate))
        draws = np.random.default_rng(options.seed + 1)
        for_dropout = {"rng": draws} if name == "GPT" else {}
        runs.append([step(*draw(draws), **for_dropout) for _ in range(STEPS)])
        steps.append(partial(step, *draw(draws), **for_dropout))
    losses, again = np.array(runs)
    python = [instructions(step) for step in steps]
    times, said = microseconds(*steps, rounds=ROUNDS), published(row)
    other = "replay" if "replay" in said else "NumPy by hand"
    same, end = np.sum(losses == again), (losses[-20:].mean(), again[-20:].mean())
    print(f"{name}: loss {losses[0]:.4f} to {end[0]:.4f} on the tape, {end[1]:.4f} replayed; not a bit differs in {same} of {STEPS} steps")
    print(f"    instructions of Python in a step, AdamW's included: {python[0]:,} and {python[1]:,}")
    faster, there = times[0] / times[1], said["tinygrad_notes"] / said[other]
    print(f"    {faster:.2f} times as fast here; docs/performance.md, of another machine: {there:.2f} ({other})")
    assert np.allclose(losses, again, rtol=1e-4)  # the same calls, but BLAS may round otherwise where memory begins elsewhere
    assert losses[-20:].mean() < 0.9 * losses[0]
    assert python[1] < python[0] / 2

# %% How large may a step be?
# What is saved is saved once for each call, whatever its size. A step that spends its time on numbers gains little.
heading("how large may a step be?")
widths = [16, 64] if options.quick else [16, 32, 64, 128, 256, 512]
measured = []
for width in widths:
    params, loss = classifier(width, rng)
    steps = [way(loss, params, optim.AdamW(params, lr=1e-3)) for way in (on_tape, replay)]
    for step in steps * 3:
        step(*batch)
    calls = written_down(loss, params, batch).program.run
    measured.append(microseconds(*[partial(step, *batch) for step in steps], calls, rounds=ROUNDS))
    tape, again, bare = measured[-1]
    print(
        f"width {width:4}: {tape:5.0f} microseconds on the tape, {again:5.0f} replayed, ratio {tape / again:.2f}; calls alone {bare:5.0f}"
    )
if not options.no_plots:
    pictures.times(options.out / "times.png", widths, np.array(measured))
    print(f"pictures: {options.out}/memory.png, times.png")

# %% Who else does this
# CUDA graphs are the same idea one level down: a stream's kernels are captured once, with the addresses they read and write, and launched again
# in one go, without the host code that had launched each; batches must be copied to the addresses of the first, shapes stay, and a branch in
# Python is frozen without a word (reading a number back to the host is refused during capture). JAX calls the function with tracers that have
# a shape and no numbers: an `if` on one of them raises (there is `lax.cond`), a counter in Python is frozen as here, and what was traced is compiled
# by XLA into fewer, fused loops. That, `replay` does not do: it makes the same calls of NumPy, and is never faster than they are.

# %% Exercises
# 1. Give Noted a `__setitem__` that writes down `operator.setitem`. Which row of the table of mistakes becomes right? Does x[i] += 1?
# 2. Why may a program with a condition not change the weights before its end? Which line of `step_by_hand` would have to go?
# 3. x @ a @ b @ c, all of them 3 x 3 in float64, no gradients asked for: how many bytes do the arrays between x and the result need, packed?
# 4. `pack` takes the lowest gap, in the order of first use. Sort by size instead, the largest first. Is the GPT's memory smaller?
# 5. A loss has `if step % 100 == 0:` in it. Which of the two `replay`s of the clock does that resemble, and what would you write?
#
# Answers
# 1. "an array changed", if it works on plain arrays. x[i] += 1 is a get, which gives a view; an add with out=, which is noted; and a set,
#    which puts the view back where it is: noted as a copy onto itself, harmless.
# 2. Where the condition no longer holds, the step runs again from its start, and would begin at weights that are half stepped. The one with out=w.
# 3. x @ a is needed until (x @ a) @ b is there: two at once, of 72 bytes each, that begin at multiples of 64: 128 + 128 = 256.
# 4. Measure it. In the order of first use it comes within two hundredths of what is needed at once, so that there is little left to gain.
# 5. The first one, if the comparison comes before step 100: it would never happen. Compute the flag outside and pass it as a number or text of the
#    batch, of which each value has a recording of its own.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")
