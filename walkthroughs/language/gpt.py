"""A GPT learns to write, character by character, from the manual inside every Python.

RUNNING TIME: 2 minutes (--quick: 20 seconds)

You will see a real language model, nanoGPT's configuration for a laptop, trained from nothing on
0.4 million characters of English until it predicts unseen text better than a 5-gram model of the
same text does. Then you will look into its heads, read what it writes, and take one thing away
from it to see what that thing was for.

    python -m walkthroughs language/gpt                   the whole story, on Python's reference manual
    python -m walkthroughs language/gpt --text FILE       on your own text (UTF-8)
    python -m walkthroughs language/gpt --resume          go on after Ctrl-C
    python -m walkthroughs language/gpt --quick           the mechanics only
"""

# %% Settings
import math
import platform
import sys
import time
from functools import partial
from pathlib import Path

import tinygrad_notes as tn
from models.language import gpt
from models.language.search import beam_search
from tinygrad_notes import check, data, optim, saving
from tinygrad_notes import functional as F
from tinygrad_notes.text import CharTokenizer, bits_per_character
from tinygrad_notes.tree import uninterrupted
from walkthroughs import pictures
from walkthroughs.options import options_of, parser_for, rate

import numpy as np
from tqdm import tqdm

parser = parser_for("language/gpt", __doc__)
parser.add_argument("--text", type=Path, metavar="FILE", help="train on this text instead of the manual (UTF-8)")
parser.add_argument("--steps", type=int, default=3000, help="training steps (default: %(default)s)")
parser.add_argument("--rate", type=rate, default=3e-3, help="peak learning rate (default: %(default)s)")
parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
parser.set_defaults(out=Path("out/demo"))
options = options_of(parser)
if options.steps < 1:
    parser.error(f"--steps is {options.steps}; expected at least one step")
STEPS = 60 if options.quick else options.steps
BATCH, CONTEXT = 12, 64  # nanoGPT's configuration for a CPU
began = time.perf_counter()
print(f"Python {platform.python_version()}, NumPy {np.__version__}, seed {options.seed}")

# %% Look at the data
# The topics of the reference manual that `help()` shows, sorted by name. The last tenth is held out:
# the model never trains on it, and every figure below is measured on it.
try:
    text = data.read_text(options.text, CONTEXT) if options.text else data.manual()
except (OSError, ValueError) as error:
    sys.exit(f"error: {error}")
train_text, test_text = data.split(text)
if len(test_text) <= CONTEXT:
    sys.exit(
        f"error: the text has {len(text)} characters, so its last tenth {len(test_text)}; expected more than {CONTEXT} there: use a longer text"
    )
tokenizer = CharTokenizer.train(text)
if tokenizer.vocabulary_size < 2:
    sys.exit(
        f"error: the text has {len(text)} times the character {text[0]!r} and no other, so there is nothing to learn; use another text"
    )
train_ids, test_ids = tokenizer.encode(train_text), tokenizer.encode(test_text)
print(f"{len(train_text):,} characters to train on, {len(test_text):,} held out, {tokenizer.vocabulary_size} different ones; for example")
print(f"    {test_text[300:380]!r}\n")

# %% What is there to beat?
# Knowing only how often each character occurs costs between four and five bits for each one. Counting
# what follows each four characters, and backing off to three, two, one where the counts are thin
# (Witten-Bell), is a strong model for a text of this size: a bar that small networks often miss.
unigram, fivegram = (bits_per_character(train_text, test_text, order) for order in (1, 5))
print(f"bits per held-out character: unigram {unigram:.3f}, Witten-Bell 5-gram {fivegram:.3f}\n")

# %% The idea by hand
# Attention over three positions. Position t has a score for every position s; softmax turns the scores of
# a row into weights, and the answer is the weighted mean of the values. The causal mask forbids to look
# ahead: right of the diagonal every weight is 0, however high the score.
scores = np.array([[2.0, 9.0, 9.0], [1.0, 1.0, 9.0], [0.0, math.log(2), math.log(5)]])
weights = F.softmax(np.where(np.tri(3, dtype=bool), scores, -np.inf))
print(f"scores\n{scores.round(2)}\ncausal softmax\n{weights}\n")
assert np.allclose(weights, [[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 8, 2 / 8, 5 / 8]])

# %% The model beside its equations
# models/language/gpt.py has one class for each equation, bottom up; this is the time to read it. GPT-3 is this model, larger:
# pre-norm, like GPT-2, and not post-norm like GPT-1 and BERT, as is sometimes written. `ln_f`, the norm at the end, is the sign of it.
rng = np.random.default_rng(options.seed)
model = gpt.GPT(gpt.Config.nanogpt_cpu(tokenizer.vocabulary_size), rng)
print(f"GPT with {tn.count(model):,} parameters: {model.config}\n")
assert "ln_f.weight" in tn.parameters(model)

# %% Check it
# A gradient that is wrong by one term still trains, only worse. So, for a tiny GPT in float64: the loss
# against finite differences; and no position may feel the future, not even a little.
tiny = gpt.GPT(gpt.Config.tiny(dtype=np.float64), np.random.default_rng(1))
ids = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])


def tiny_loss(bias):
    tiny.h[0].attn.c_attn.bias = bias
    return gpt.loss(tiny, ids[:, :-1], ids[:, 1:])


check.check_grads(tiny_loss, np.full(36, 0.1))
tiny = gpt.GPT(gpt.Config.tiny(dtype=np.float64), np.random.default_rng(1))
felt = tn.gradients(np.sum(tiny(ids)[0, 3] ** 2), tiny.wpe.weight)
assert np.all(felt[4:] == 0)
assert np.all(np.any(felt[:4] != 0, axis=1))
print("checked: the gradient agrees with finite differences; position 3 feels positions 0 to 3 and nothing after\n")


# %% Train
# AdamW with warm-up, cosine and clipping. Matrices decay; biases, norms do not.
def make_optimizer(model):
    return optim.AdamW(tn.parameters(model), lr=options.rate, betas=(0.9, 0.99), weight_decay=0.1, decay=lambda path, t: t.ndim >= 2)


def train(model, optimizer, losses, steps, name):
    """The whole of training; `losses` has one entry for each step that is done."""
    params = tn.parameters(model)
    schedule = partial(optim.cosine, peak=options.rate, floor=options.rate / 10, warmup=min(100, steps // 4), steps=steps)
    batches = data.batches(train_ids, BATCH, CONTEXT, rng)
    bar = tqdm(range(len(losses), steps), initial=len(losses), total=steps, desc=name, unit="step", disable=None)
    for step in bar:
        with uninterrupted():  # Ctrl-C waits for the end of the step
            x, y = next(batches)
            loss = gpt.loss(model, x, y)
            grads = tn.gradients(loss, params, unused="raise")
            grads, norm = optim.clip_by_global_norm(grads, 1.0)
            optimizer.step(grads, lr=schedule(step))
            losses.append(loss.item())
        if step % 10 == 0 and bar.format_dict["rate"]:
            bar.set_postfix_str(f"loss {np.mean(losses[-50:]):.3f}, {bar.format_dict['rate'] * BATCH * CONTEXT:,.0f} tokens/s")


optimizer, losses = make_optimizer(model), []
checkpoint = options.out / "checkpoint.safetensors"
if options.resume:
    if not checkpoint.exists():
        sys.exit(f"error: --resume: there is no {checkpoint}; one is written at Ctrl-C and at the end of training: start without --resume")
    try:
        state = saving.load_checkpoint(checkpoint, model=model, optimizer=optimizer, rng=rng)
    except (OSError, ValueError, saving.CheckpointError) as error:
        sys.exit(f"error: {error}")
    losses = state.extra["losses"]
    print(f"resuming after step {len(losses)}")
training = time.perf_counter()
done = len(losses)
try:
    train(model, optimizer, losses, STEPS, "training")
except KeyboardInterrupt:
    saving.save_checkpoint(checkpoint, model=model, optimizer=optimizer, rng=rng, step=len(losses), extra={"losses": losses})
    again = [a for a in sys.argv[1:] if a != "--resume"]
    sys.exit(
        f"\nstopped after step {len(losses)} of {STEPS}, saved in {checkpoint}. To go on: {' '.join([parser.prog, *again, '--resume'])}"
    )
training = time.perf_counter() - training
saving.save_checkpoint(checkpoint, model=model, optimizer=optimizer, rng=rng, step=len(losses), extra={"losses": losses})
saving.save_arrays(options.out / "model.safetensors", tn.state_dict(model))
if done < STEPS:
    print(f"trained {STEPS - done} steps in {training:.0f} s, {(STEPS - done) * BATCH * CONTEXT / training:,.0f} tokens/s")


# %% How good is it?
def held_out_bits(model):
    """Mean -log2 p(character | those before it in a window), every held-out character predicted once."""
    model = tn.frozen(model)
    ids = np.concatenate([train_ids[-1:], test_ids])
    nats = [F.cross_entropy(model(x), y, reduction="sum") for x, y in data.windows(ids, 32, CONTEXT)]
    return float(np.sum(nats)) / len(test_ids) / math.log(2)


bits = held_out_bits(model)
print(f"""
bits per held-out character    (Python {platform.python_version()})
    unigram              {unigram:.3f}
    Witten-Bell 5-gram   {fivegram:.3f}
    this GPT             {bits:.3f}
""")
usual_rate = options.rate == parser.get_default("rate")
as_published = usual_rate and not options.text and options.steps == parser.get_default("steps")
if options.quick and usual_rate:
    assert np.mean(losses[-5:]) < losses[0], "the loss should fall"
elif as_published:
    assert bits < fivegram, "the GPT should beat the 5-gram"

# %% Read what it writes
prompt = test_text[: test_text.find(" ", 4) + 1] or test_text[:1]  # the first words of what it has never seen
sample = gpt.generate(model, tokenizer.encode(prompt)[None], 400, rng=np.random.default_rng(options.seed), temperature=0.8, top_p=0.95)
print("\n".join("    " + line for line in tokenizer.decode(sample[0]).splitlines()), "\n")


# %% Search is no author
# Beam search finds a likelier text than drawing does. For a translation that is a gain; a story must surprise, and the likeliest text
# says the same thing again and again. Distinct-n counts it: different runs of n words by all of them (Li et al. 2016).
def written(starts, length, beams):
    """The likeliest continuation of each row of starts (B, S) that so many beams find: ids (B, length)."""
    still, cache = tn.frozen(model), model.empty_cache(len(starts) * beams)
    still(np.repeat(starts[:, :-1], beams, axis=0), cache)

    def advance(rows, tokens):
        for layer in cache:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        return F.log_softmax(still(tokens[:, None], cache)[0][:, -1])

    # The search appends `bos` first: here the last character of the starts, which is the same for all. No text ends before its length.
    return beam_search(advance, len(starts), bos=starts[0, -1], eos=-1, pad=-1, longest=length, beams=beams)[0]


def distinct(ids, n):
    """The share of runs of n words that differ among all of them."""
    lines = [tokenizer.decode(row).split() for row in ids]
    runs = [run for words in lines for run in zip(*(words[i:] for i in range(n)))]
    return len(set(runs)) / max(1, len(runs))


SEEN, length = 12, CONTEXT - 12
common = np.bincount(test_ids[SEEN - 1 : -length]).argmax()  # in English the space
ends = SEEN + np.flatnonzero(test_ids[SEEN - 1 : -length] == common)
ends = ends[:: max(1, len(ends) // 16)][:16]
starts, read_on = (np.stack([test_ids[end + a : end + b] for end in ends]) for a, b in ((-SEEN, 0), (0, length)))
texts = {
    "the manual": read_on,
    "drawn": gpt.generate(model, starts, length, rng=np.random.default_rng(options.seed))[:, SEEN:],
    "greedy": written(starts, length, 1),
    "4 beams": written(starts, length, 4),
}
print("distinct n-grams of words     n = 1     n = 2     for example")
for name, ids in texts.items():
    print(f"    {name:20} {distinct(ids, 1):10.0%}{distinct(ids, 2):10.0%}     {tokenizer.decode(ids[0])!r}")
print()
if as_published and not options.quick:
    assert distinct(texts["4 beams"], 2) < 0.8 * distinct(texts["drawn"], 2), "beams should repeat themselves"

# %% Look into its heads
# Each picture is one head: row t shows where position t looks. Some heads read the character before,
# some look back to the start of the word, some gather everything.
sentence = test_text[test_text.find(". ") + 2 :][:40]
maps = gpt.attention_maps(model, tokenizer.encode(sentence)[None])[:, 0]
if not options.no_plots:
    levels = {"unigram": unigram, "Witten-Bell 5-gram": fivegram, "this GPT, held out": bits}
    pictures.loss_curve(options.out / "loss.png", losses, levels)
    pictures.attention(options.out / "attention.png", maps, sentence)
    pictures.summary(options.out / "summary.png", losses, levels, maps, sentence, heads=[(0, 0), (2, 1)])
    print(f"pictures: {options.out}/loss.png, attention.png, summary.png")


# %% Break it: without the causal mask
# The same model, the same training, one line taken away: every position may look at the next character,
# which is the answer. The loss falls far below what English allows, and the model has learned to copy;
# asked to write, where there is no next character to look at, it cannot.
class Leaky(gpt.Attention):
    def __call__(self, x, cache=None):
        B, T, C = x.shape
        q, k, v = self.split(self.c_attn(x))
        y = F.scaled_dot_product_attention(q, k, v)  # causal=True is missing
        return self.c_proj(np.transpose(y, (0, 2, 1, 3)).reshape(B, T, C))


leaky = gpt.GPT(model.config, rng)
for block in leaky.h:
    block.attn.__class__ = Leaky
leaky_losses = []
train(leaky, make_optimizer(leaky), leaky_losses, 20 if options.quick else 400, "without the mask")
leaked = float(np.mean(leaky_losses[-20:])) / math.log(2)
x, y = next(data.windows(test_ids, 32, CONTEXT))
cut = [tn.frozen(leaky)(x[:, : t + 1])[:, -1] for t in range(8, CONTEXT, 8)]  # only what it can see when writing
honest = float(np.mean([F.cross_entropy(logits, y[:, t]) for logits, t in zip(cut, range(8, CONTEXT, 8))])) / math.log(2)
if options.quick:
    print("without the mask: too few steps to show it\n")
else:
    print(f"without the mask: {leaked:.2f} bits per character while training, {honest:.2f} when it must predict what it cannot see\n")
if as_published and not options.quick:
    assert leaked < 1.0 < unigram < honest

# %% Exercises
# 1. Train with --steps 600. Is the 5-gram still beaten? Where does the extra time go?
# 2. Set `betas=(0.9, 0.999)`. What changes in the first 200 steps, and why?
# 3. Take the residual away (`x = attn(ln_1(x))` in Block). How far does the loss get?
# 4. Generate with temperature 0.2 and 1.5. Which mistakes belong to which?
print(f"all of it took {time.perf_counter() - began:.0f} s; results are in {options.out}/")
