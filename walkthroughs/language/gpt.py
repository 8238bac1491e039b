"""A GPT learns to write, character by character, from the manual inside every Python.

RUNNING TIME: 3 minutes (--quick: 15 seconds)

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
import tinygrad_notes as tn  # first, so that its platform settings are in time  # isort: skip

import argparse
import math
import platform
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.language import gpt
from tinygrad_notes import check, data, optim, saving
from tinygrad_notes import functional as F
from tinygrad_notes.text import CharTokenizer, bits_per_character

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--text", type=Path, metavar="FILE", help="train on this text instead of the manual")
parser.add_argument("--steps", type=int, default=3000, help="training steps (default: %(default)s)")
parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where results go (default: %(default)s)")
parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
parser.add_argument("--quick", action="store_true", help="40 steps: the mechanics, not the result")
parser.add_argument("--no-plots", action="store_true")
options = parser.parse_args()
steps = 40 if options.quick else options.steps
BATCH, CONTEXT = 12, 64

# %% Look at the data
# The text: topics of the reference manual that `help()` shows, sorted by name. The last tenth is
# held out: the model never trains on it, and everything below is measured on it.
text = data.read_text(options.text) if options.text else data.manual()
train_text, test_text = data.split(text)
tokenizer = CharTokenizer.train(text)
train_ids, test_ids = tokenizer.encode(train_text), tokenizer.encode(test_text)
print(f"Python {platform.python_version()}, NumPy {np.__version__}")
print(f"{len(train_text):,} characters to train on, {len(test_text):,} held out, {tokenizer.vocabulary_size} different ones. Somewhere inside:")
print(f"    {train_text[5000:5070]!r}\n")

# %% What is there to beat?
# Knowing nothing but how often each character occurs costs about 4.6 bits for each. Counting what
# follows each four characters, and backing off to three, two, one where the counts are thin
# (Witten-Bell), is a strong model for a text of this size: a bar that small networks often miss.
unigram, fivegram = (bits_per_character(train_text, test_text, order) for order in (1, 5))
print(f"bits per character of the held-out text: unigram {unigram:.3f}, Witten-Bell 5-gram {fivegram:.3f}\n")

# %% The idea by hand
# Attention over three positions. Row t asks a question q_t, every position s offers a key k_s, and
# softmax turns the three scores of a row into weights. The causal mask forbids to look ahead: what
# stands right of the diagonal gets weight 0. The answer is a weighted mean of the values.
scores = np.array([[2.0, 9.0, 9.0], [1.0, 1.0, 9.0], [0.0, math.log(2), math.log(5)]])
weights = F.softmax(np.where(np.tri(3, dtype=bool), scores, -np.inf))
print("scores\n", scores.round(2), "\ncausal softmax\n", weights)
assert np.allclose(weights, [[1, 0, 0], [0.5, 0.5, 0], [1 / 8, 2 / 8, 5 / 8]])

# %% The model beside its equations
# models/language/gpt.py is one screen per equation; read it now. This is its configuration:
rng = np.random.default_rng(options.seed)
model = gpt.GPT(gpt.Config.nanogpt_cpu(tokenizer.vocabulary_size), rng)
params = tn.parameters(model)
print(f"\nGPT with {tn.count(model):,} parameters: {model.config}\n")

# %% Check it
# A gradient that is wrong by one term still trains, only worse. So: the loss of a tiny GPT in float64
# against finite differences; and no position may feel the future, not even a little.
tiny = gpt.GPT(gpt.Config.tiny(dtype=np.float64), np.random.default_rng(1))
ids = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])
weight = tiny.h[0].attn.c_attn.weight


def tiny_loss(w):
    tiny.h[0].attn.c_attn.weight = w
    return gpt.loss(tiny, ids[:, :-1], ids[:, 1:])


check.check_grads(tiny_loss, weight.value)
tiny.h[0].attn.c_attn.weight = weight
seen = tn.gradients(np.sum(tiny(ids)[0, 3]), tiny.wpe.weight)
assert np.all(seen[4:] == 0)
assert np.all(np.abs(seen[:4]).sum(axis=1) > 0)
print("checked: the gradient agrees with finite differences, and position 3 does not feel positions 4 to 7\n")

# %% Train
# AdamW with warm-up, cosine and clipping. Matrices decay, biases and norms do not.
optimizer = optim.AdamW(params, betas=(0.9, 0.99), weight_decay=0.1, no_decay=lambda path, t: t.ndim < 2)
schedule = optim.cosine(peak=options.rate, floor=options.rate / 10, warmup=min(100, steps // 4), steps=steps)
checkpoint, history, start = options.out / "checkpoint.safetensors", [], 0
if options.resume:
    state = saving.load_checkpoint(checkpoint, model=model, optimizer=optimizer, rng=rng)
    history, start = state.extra["history"], state.step
    print(f"resuming at step {start}")


def train(model, params, optimizer, start, history):
    """The whole of training: these lines, for every model in this project."""
    bar = tqdm(range(start, steps), initial=start, total=steps, unit="step", disable=None)
    for step in bar:
        x, y = data.batches(train_ids, BATCH, CONTEXT, rng)
        loss = gpt.loss(model, x, y)
        grads = tn.gradients(loss, params, unused="raise")
        grads, norm = optim.clip_by_global_norm(grads, 1.0)
        optimizer.step(grads, lr=schedule(step))
        history.append(loss.item())
        if step % 10 == 9:
            bar.set_postfix_str(f"loss {np.mean(history[-50:]):.3f}, {BATCH * CONTEXT * bar.format_dict['rate'] or 0:,.0f} tokens/s")


began = time.perf_counter()
try:
    train(model, params, optimizer, start, history)
except KeyboardInterrupt:
    saving.save_checkpoint(checkpoint, model=model, optimizer=optimizer, rng=rng, step=len(history), extra={"history": history})
    again = " ".join(a for a in sys.argv[1:] if a != "--resume")
    sys.exit(f"\nstopped and saved at step {len(history)}; to go on: python -m walkthroughs language/gpt {again} --resume".replace("  ", " "))
seconds = time.perf_counter() - began


# %% How good is it?
def held_out_bits(model, ids, stride=CONTEXT // 2):
    """Mean -log2 p(character | the at least `stride` before it), each held-out character predicted once."""
    model, bits = tn.frozen(model), []
    starts = range(0, len(ids) - 1, stride)
    for group in np.array_split(np.array(starts), max(1, len(starts) // 16)):
        for begin in group:
            pass
    return float(np.mean(np.concatenate(bits)))
