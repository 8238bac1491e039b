"""GPT-1: first read a lot, then learn a task from a few labels, and keep reading while learning it.

RUNNING TIME: 2 minutes (--quick: 10 seconds)

You will see the recipe that started the series: a decoder is trained to predict the next piece of Python's reference manual,
until it beats an n-gram model of the same text; then, in a language of eight animals, with one new layer on the last token it learns a
task from eight labels. What remains without the pre-training? And the paper's question is asked again, on real text: does it help to
go on predicting the text (lambda 0.5) while learning the task? That depends on the number of labels, and on where the answer is read.

    python -m walkthroughs language/gpt1              the whole story
    python -m walkthroughs language/gpt1 --quick      the mechanics only
"""

# %% Settings
import importlib
import inspect
import math
import time
from dataclasses import replace
from functools import partial
from pydoc_data.topics import topics

import tinygrad_notes as tn
from models.language import gpt, gpt1
from tinygrad_notes import check, data, optim
from tinygrad_notes import functional as F
from tinygrad_notes.text import ByteBPE, bits_per_character
from walkthroughs import word_pictures
from walkthroughs.options import options_of, parser_for
from walkthroughs.pictures import canvas

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("language/gpt1", __doc__))
STEPS, TOY_STEPS, TUNING_STEPS, DRAWS = (20, 20, 3, 1) if options.quick else (1500, 250, 30, 10)
VOCABULARY, CONTEXT, BATCH = 600, 64, 16
RATE = 3e-3
began = time.process_time()
rng = np.random.default_rng(options.seed)

# %% Look at the data
# The topics of the manual. Every fifth paragraph is held out, and dropped wherever else it stands.
paragraphs = {name: topics[name].split("\n\n") for name in sorted(topics)}
kept_back = {name: parts[4::5] for name, parts in paragraphs.items()}
known = {part for parts in kept_back.values() for part in parts}  # the manual repeats itself: what is held out may stand elsewhere
learnt = {name: [part for part in parts if part not in known] for name, parts in paragraphs.items()}
train_text = "\n\n".join(part for parts in learnt.values() for part in parts)
test_text = "\n\n".join(part for parts in kept_back.values() for part in parts)[: 4000 if options.quick else 40_000]
tokenizer = ByteBPE.train(train_text, VOCABULARY)
train_ids, test_ids = tokenizer.encode(train_text), tokenizer.encode(test_text)
print(f"{len(train_text):,} characters to train on, {len(test_text):,} held out, {len(train_ids) / len(train_text):.2f} tokens for each")

# %% What is there to beat?
# The Witten-Bell model of order 3 predicts a character from the two before it. Both are measured in bits for each character,
# so it does not matter that the GPT reads tokens: its nats are summed and divided by the characters that they spell.
unigram, trigram, fivegram = (bits_per_character(train_text, test_text, order) for order in (1, 3, 5))
print(f"bits per held-out character: unigram {unigram:.3f}, Witten-Bell trigram {trigram:.3f}, 5-gram {fivegram:.3f}\n")

# %% The idea by hand
# GPT-1 and GPT-2 differ in where they normalise. Three numbers pass a block whose branch f adds 10 to the first of them.
# Post-norm, LN(x + f(x)): whatever comes in, the output has mean 0 and variance 1. Pre-norm, x + f(LN(x)): the sum is kept as
# it is, and grows from block to block.
x, push = np.array([1.0, 2.0, 3.0]), np.array([10.0, 0.0, 0.0])
after = x, x
for _ in range(3):
    after = F.layer_norm(after[0] + push), after[1] + push
print(f"after three blocks: post-norm {after[0].round(2)}, pre-norm {after[1].round(2)}\n")
assert np.allclose([after[0].mean(), after[0].std()], [0, 1], atol=1e-4)
assert np.allclose(after[1], [31, 2, 3])

# %% The model beside its equations, and a check
# models/language/gpt1.py stands beside gpt.py: `diff models/language/gpt1.py models/language/gpt.py` is the story of GPT-2.
# A tiny one in float64: the loss of fine-tuning against finite differences, and no position feels the future.
tiny = gpt1.Classifier(gpt1.Config.tiny(dtype=np.float64), np.random.default_rng(1))
ids, last = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 0, 0]]), np.array([7, 5])


def tiny_loss(bias):
    tiny.h[0].attn.c_attn.bias = bias
    return gpt1.fine_tuning_loss(tiny, ids, last, np.array([1, 0]))


check.check_grads(tiny_loss, np.full(36, 0.1))
tiny = gpt1.GPT(gpt1.Config.tiny(dtype=np.float64), np.random.default_rng(1))
felt = tn.gradients(np.sum(tiny(ids)[0, 3] ** 2), tiny.wpe.weight)
assert np.all(felt[4:] == 0)
assert np.all(np.any(felt[:4] != 0, axis=1))
print("checked: the gradient agrees with finite differences; position 3 feels positions 0 to 3 and nothing after\n")

# %% Pre-train
config = gpt1.Config(VOCABULARY, CONTEXT, layers=2, heads=3, width=96, std=0.1)
model = gpt1.GPT(config, rng)
params, losses = tn.parameters(model), []
optimizer = optim.AdamW(params, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, decay=lambda path, t: t.ndim >= 2)
schedule = partial(optim.cosine, peak=RATE, warmup=max(1, STEPS // 10), steps=STEPS)
batches = data.batches(train_ids, BATCH, CONTEXT, rng)
print(f"GPT-1 with {tn.count(model):,} parameters; the published one has 117 million")
for step in tqdm(range(STEPS), desc="pre-training", unit="step", disable=None):
    x, y = next(batches)
    loss = gpt1.loss(model, x, y)
    grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
    optimizer.step(grads, lr=schedule(step))
    losses.append(loss.item())


def held_out_bits(model):
    """Mean -log2 p(token | those before it in a window), for each held-out character."""
    model = tn.frozen(model)
    ids = np.concatenate([train_ids[-1:], test_ids])
    nats = [F.cross_entropy(model(x), y, reduction="sum") for x, y in data.windows(ids, 32, CONTEXT)]
    return float(np.sum(nats)) / len(test_text) / math.log(2)


bits = held_out_bits(model)
print(f"""
bits per held-out character      (measured)
    unigram               {unigram:.3f}
    Witten-Bell trigram   {trigram:.3f}
    Witten-Bell 5-gram    {fivegram:.3f}
    this GPT-1            {bits:.3f}
""")
if options.quick:
    assert losses[-1] < losses[0]
else:
    assert bits < trigram
prompt = tokenizer.encode("The value of")[None]
print(f"    {tokenizer.decode(gpt1.generate(model, prompt, 50, rng=np.random.default_rng(2), temperature=0.7)[0])!r}\n")


# %% A task: eight labels, in words that the test does not use
# A language so small that the answer is clear: eight animals, each with its sound, food and young; a text is about one of them.
# The animals are split into two herds, at random, and one sentence about each is labelled: "<s> the dog barks . <e>". The test
# asks about "<s> every puppy here eats bones . <e>": no word of it that could tell was ever labelled.
ANIMALS = "dog barks bones puppy, cat meows fish kitten, cow moos grass calf, hen clucks corn chick, pig grunts roots piglet, sheep bleats clover lamb, duck quacks snails duckling, horse neighs hay foal"
FORMS = ["the {0} {1} for {2} .", "a {3} {1} like a {0} .", "every {3} here eats {2} .", "the {0} gives {2} to its {3} ."]
facts = [entry.split() for entry in ANIMALS.split(", ")]
words = ["<s>", "<e>", *sorted({*" ".join(FORMS).split(), *ANIMALS.replace(",", "").split()})]
number = {word: i for i, word in enumerate(words)}
herd = np.array([0, 1, 1, 0, 1, 0, 0, 1])
toy_config = gpt1.Config(len(words), 32, layers=2, heads=4, width=64, std=0.1)


def toy_texts(n, draw):
    """n texts of 33 words, each about one animal, beginning anywhere in a sentence."""
    rows = []
    for _ in range(n):
        fact = facts[draw.integers(len(facts))]
        text = " ".join(FORMS[i].format(*fact) for i in draw.integers(len(FORMS), size=8)).split()
        begin = draw.integers(8)
        rows.append([number[word] for word in text[begin : begin + 33]])
    return np.array(rows)


toy = gpt1.GPT(toy_config, rng)
params, toy_losses = tn.parameters(toy), []
optimizer = optim.AdamW(params, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01, decay=lambda path, t: t.ndim >= 2)
for step in tqdm(range(TOY_STEPS), desc="toy language", unit="step", disable=None):
    texts = toy_texts(32, rng)
    loss = gpt1.loss(toy, texts[:, :-1], texts[:, 1:])
    grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
    optimizer.step(grads, lr=optim.linear(step, peak=3e-3, warmup=TOY_STEPS // 10, steps=TOY_STEPS))
    toy_losses.append(loss.item())


def framed(form):
    """The sentence about each animal as <s> sentence <e>, and the place of <e>."""
    rows = [[number[word] for word in f"<s> {form.format(*fact)} <e>".split()] for fact in facts]
    return np.array(rows), np.full(len(rows), len(rows[0]) - 1)


def fine_tune(start, weight, seed):
    """Accuracy on the other words after fine-tuning with lambda = weight; start: weights of a GPT, or None."""
    draw = np.random.default_rng(seed)
    model = gpt1.Classifier(toy_config, draw)
    if start is not None:
        tn.load(model, start | {"score.weight": model.score.weight.value})
    params = tn.parameters(model)
    optimizer = optim.AdamW(params, lr=1e-3)
    for _ in range(TUNING_STEPS):
        loss = gpt1.fine_tuning_loss(model, *framed("the {0} {1} ."), herd, weight)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
    scores, _ = tn.frozen(model).classify(*framed("every {3} here eats {2} ."))
    return float(np.mean(scores.argmax(-1) == herd))


trained = tn.state_dict(toy)
kinds = {"pre-trained,\nlambda 0.5": (trained, 0.5), "pre-trained,\nlambda 0": (trained, 0.0), "from scratch": (None, 0.5)}
results = {kind: [] for kind in kinds}
for seed in tqdm(range(DRAWS), desc="fine-tuning", unit="start", disable=None):
    for kind, (start, weight) in kinds.items():
        results[kind].append(fine_tune(start, weight, seed))
both, alone, scratch = (float(np.mean(values)) for values in results.values())
spread = [float(np.std(values)) for values in results.values()]
print(f"""
accuracy in words that no label shows, mean and standard deviation of {DRAWS} starts
    pre-trained, lambda 0.5    {both:6.1%} +- {spread[0]:.1%}
    pre-trained, lambda 0      {alone:6.1%} +- {spread[1]:.1%}
    from scratch               {scratch:6.1%} +- {spread[2]:.1%}
    guessing                   50 %
""")
if not options.quick:
    assert min(both, alone) > scratch + 0.15
    assert abs(both - alone) < 0.2
if not options.no_plots:
    levels = {"unigram": unigram, "trigram": trigram, "5-gram": fivegram, "this GPT-1, held out": bits}
    per_character = math.log(2) * len(train_text) / len(train_ids)
    word_pictures.losses(options.out / "loss.png", {"training": [nats / per_character for nats in losses]}, levels, "bits per character")
    word_pictures.draws(options.out / "fine_tuning.png", results, 0.5, "eight labels, tested in other words")
    print(f"pictures: {options.out}/loss.png, fine_tuning.png\n")

# %% Does it help to go on predicting the text? Not with few labels
# A task on real text, and as in the paper on text of another kind than was read before: which of eight modules of Python's library is a
# passage of 40 tokens from? Every fourth passage is held out. A passage ends in an extract token, which no text contains, and the
# scores are read there. Everything but lambda is equal, the passages drawn and the start of the new layer too, so the two can be
# compared draw by draw. The rates were sought for each lambda by itself, on other draws than these: the same one suits both.
MODULES = "argparse difflib doctest inspect mailbox tarfile typing _pydecimal".split()
PASSAGE, EXTRACT = 40, tokenizer.encode("\0")
RATES, CODE_STEPS, CODE_DRAWS = ({2: 4e-3, 3: 2e-3, 4: 2e-3}, 2, 2) if options.quick else ({12: 4e-3, 120: 2e-3, 480: 2e-3}, 200, 4)
SIZES, SEEDS = list(RATES), range(10, 10 + CODE_DRAWS)  # labelled passages of each module


def passages(module):
    """(n, PASSAGE) ids of its source."""
    ids = tokenizer.encode(inspect.getsource(importlib.import_module(module))[: 4000 if options.quick else 80_000])
    return ids[: len(ids) // PASSAGE * PASSAGE].reshape(-1, PASSAGE)


code = [passages(module) for module in MODULES]
pool, asked = [np.delete(part, np.s_[3::4], axis=0) for part in code], [part[3::4] for part in code]
assert not np.isin(EXTRACT, np.concatenate([train_ids, *map(np.ravel, code)])).any()
read, code_config = tn.state_dict(model), replace(config, classes=len(MODULES))


def told(weight, size, seed, end=EXTRACT):
    """The mean over the modules of the share of held-out passages told right, after fine-tuning on `size` passages of each."""

    def ended(texts):
        """The passages with `end` behind them, and the place where the scores are read."""
        return np.concatenate([texts, np.tile(end, (len(texts), 1))], axis=1), np.full(len(texts), PASSAGE + len(end) - 1)

    draw = np.random.default_rng(seed)
    chosen = [part[draw.permutation(len(part))[:size]] for part in pool]
    texts, labels = np.concatenate(chosen), np.repeat(np.arange(len(MODULES)), [len(part) for part in chosen])
    classifier = gpt1.Classifier(code_config, draw)
    tn.load(classifier, read | {"score.weight": classifier.score.weight.value})
    params = tn.parameters(classifier)
    optimizer = optim.AdamW(params, lr=RATES[size], weight_decay=0.01)
    for step, rows in zip(range(CODE_STEPS), data.minibatches(len(texts), BATCH, draw)):
        loss = gpt1.fine_tuning_loss(classifier, *ended(texts[rows]), labels[rows], weight)
        grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
        optimizer.step(grads, lr=optim.linear(step, peak=RATES[size], warmup=max(1, CODE_STEPS // 10), steps=CODE_STEPS))
    classifier = tn.frozen(classifier)
    return float(np.mean([np.mean(classifier.classify(*ended(part[:100]))[0].argmax(-1) == k) for k, part in enumerate(asked)]))


# Once more with the second size, but with the scores read at the passage's last token: then the same token has to say what follows
# wherever else it stands, and what the passage is where it stands last.
kinds = {f"{size * len(MODULES):5,} labels": (size, EXTRACT) for size in SIZES} | {"no extract token": (SIZES[1], EXTRACT[:0])}
runs = tqdm([(kind, weight, seed) for kind in kinds for weight in (0.0, 0.5) for seed in SEEDS], desc="modules", disable=None)
right = np.reshape([told(weight, kinds[kind][0], seed, kinds[kind][1]) for kind, weight, seed in runs], (len(kinds), 2, CODE_DRAWS))
gains = 100 * (right[:, 1] - right[:, 0])
mean, error = gains.mean(axis=1), gains.std(axis=1, ddof=1) / math.sqrt(CODE_DRAWS)
print(f"eight modules, mean of {CODE_DRAWS} draws     lambda 0   lambda 0.5   gain in points, standard error")
for kind, (alone, both), m, e in zip(kinds, right.mean(axis=2), mean, error):
    print(f"    {kind:30} {alone:9.1%} {both:12.1%} {m:+11.1f} +- {e:.1f}")
print(f"""    guessing                       {1 / len(MODULES):9.1%} {1 / len(MODULES):12.1%}
It is often written that the second loss helps where labels are few. The paper says: "larger datasets benefit from the auxiliary
objective but smaller datasets do not". In its table 5 it helps on three large tasks (QQP 70.3 against 69.8, MNLI 81.8 against 81.1,
QNLI 88.1 against 86.9) and on RTE (56.0 against 54.4), and does not on CoLA (45.4 against 47.9), SST-2 (91.3 against 92.0), MRPC
(82.3 against 84.9) and STS-B (82.0 against 83.2). Here too it is few labels that pay for it; with many the two lambdas differ by no
more than a few standard errors.
""")
if not options.quick:
    assert mean[0] < 0, "with few labels the second loss should cost something"
    assert min(mean[1:3]) > mean[0], "and with many less"
    assert mean[3] < mean[1] - 2, "without an extract token it should cost something again"
if not options.no_plots:
    figure, [[axes]] = canvas(1, 1, 6.4, 4.2)
    labels = len(MODULES) * np.array(SIZES)
    axes.errorbar(labels, mean[:3], error[:3], color="#1f4e79", marker="o", capsize=4, label="scores read at an extract token")
    axes.errorbar(labels[1:2], mean[3:], error[3:], color="#b5472f", marker="o", capsize=4, label="at the last token of the text")
    axes.axhline(0, color="#8c8c8c", linestyle="--", linewidth=1.2)
    axes.set(
        xscale="log", xlabel="labelled passages", ylabel="points gained by lambda 0.5", title="the second loss, and the number of labels"
    )
    axes.set_xticks(labels, [f"{n:,}" for n in labels])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out / "labels.png")
    print(f"picture: {options.out}/labels.png\n")

# %% Break it: read the answer at the first token
# BERT reads its answer at the first token, [CLS]. A decoder cannot: its first position sees itself and nothing else, so every
# sentence gets the same scores, whatever was trained. That is why GPT-1 needs an extract token, and at the end.
classifier = tn.frozen(gpt1.Classifier(toy_config, np.random.default_rng(0)))
ids, last = framed(FORMS[0])
at_start, at_end = (classifier.classify(ids, place)[0] for place in (last * 0, last))
print(f"scores of 8 sentences differ by {np.ptp(at_end, axis=0).max():.3f} at <e>, by {np.ptp(at_start, axis=0).max():.3f} at <s>\n")
assert np.allclose(at_start, at_start[0], rtol=0, atol=1e-6)
assert np.ptp(at_end, axis=0).min() > 0

# %% What GPT-2 changed
# Belief: a deep stack of residual blocks starts with a stream that grows with its depth. In GPT-1 it cannot: each block ends
# in a norm. GPT-2 moved the norms inside, and then it would grow as the root of the depth: hence its smaller weights, by
# 1 / sqrt(2 L), where a branch is added. Here is the spread of the stream behind 12 and 48 blocks, before any training.


def stream(module, layers, scale=1.0):
    """The standard deviation of what the last block hands on; scale: of the weights that write into the stream."""
    deep = module.GPT(module.Config(11, 32, layers=layers, heads=4, width=64), np.random.default_rng(0))
    for block in deep.h:
        for layer in (block.attn.c_proj, block.mlp.c_proj):
            layer.weight = tn.Tensor(layer.weight.value * np.float32(scale))
    deep = tn.frozen(deep)
    ids = np.random.default_rng(1).integers(0, 11, (4, 32))
    x = deep.wte(ids) + deep.wpe(np.arange(32))
    for block in deep.h:
        x = block(x)
    return float(np.std(x))


post = [stream(gpt1, L) for L in (12, 48)]
pre = [stream(gpt, L) for L in (12, 48)]
unscaled = [stream(gpt, L, math.sqrt(2 * L)) for L in (12, 48)]
for label, (shallow, deep) in {"GPT-1": post, "GPT-2": pre, "GPT-2 without 1/sqrt(2L)": unscaled}.items():
    print(f"    {label:26} 12 blocks {shallow:.3f}, 48 blocks {deep:.3f}, ratio {deep / shallow:.2f}")
assert np.allclose(post, 1, atol=1e-3)
assert 0.9 < pre[1] / pre[0] < 1.1
assert unscaled[1] / unscaled[0] > 1.5

# %% Exercises
# 1. Train the toy language for 50 steps only. What remains of the gain?
# 2. Set lambda to 5. What does the task lose?
# 3. `diff models/language/gpt1.py models/language/gpt.py`: which lines change what the model computes?
# 4. Train with RATE = 1e-2 and warmup=1, here and with gpt.GPT in place of gpt1.GPT. Which one learns?
# 5. Let `told` start from scratch, without tn.load; then from a GPT that has read pool, the source itself. What had the manual helped?
#
# Answers: 1. Little: which words belong to one animal is what comes last. 2. Speed: most of a step serves eight sentences that
# are known by heart already. 3. Block.__call__, ln_f (new), the scale of c_proj. 4. GPT-2; post-norm needs its warm-up. 5. Little with
# 960 labels: source is another text. Who has read that is ahead, and lambda still costs something while labels are few.
print(f"\nall of it took {time.process_time() - began:.0f} s of computing")
