"""A BERT learns a language by filling in blanks, then a task from a handful of labels.

RUNNING TIME: 2 minutes (--quick: 10 seconds)

You will see a language so small that nearly every blank has one right answer, and a BERT that learns to fill it, to tell
which sentences belong together, and to sort words that no label ever showed. Then a vocabulary of word pieces and a BERT are made
from Python's reference manual, and it learns to tell text from shuffled text: pre-trained, and the same network without.

    python -m walkthroughs language/bert              the whole story
    python -m walkthroughs language/bert --quick      the mechanics only
"""

# %% Settings
import re
import time
from functools import partial
from pydoc_data.topics import topics

import tinygrad_notes as tn
from models.language import bert
from tinygrad_notes import check, optim
from tinygrad_notes.text import WordPiece
from walkthroughs import word_pictures
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

options = options_of(parser_for("language/bert", __doc__))
TOY_STEPS, STEPS, TUNING_STEPS, DRAWS = (20, 20, 5, 1) if options.quick else (500, 1500, 200, 3)
RATE, TUNING_RATE = 4e-3, 1e-3
began = time.process_time()
rng = np.random.default_rng(options.seed)

# %% The idea by hand
# A word that is hidden is guessed from both sides. In three sentences of three words, with the middle one hidden, the left
# neighbour alone leaves two answers, the right one alone leaves two answers, and both together leave one.
sentences = ["the dog barks", "the cat meows", "a dog meows"]
seen = np.array([[s.split()[0] == "the", s.split()[2] == "meows"] for s in sentences])
middle = np.array([s.split()[1] for s in sentences])
left, right, both = seen[:, 0], seen[:, 1], seen.all(axis=1)
answers = {"the _": middle[left], "_ meows": middle[right], "the _ meows": middle[both]}
print("; ".join(f"{blank}: {' or '.join(words)}" for blank, words in answers.items()), "\n")
assert len({*middle[left]}) == len({*middle[right]}) == 2
assert len({*middle[both]}) == 1

# %% Look at the data: a language in which every blank has an answer
# Eight animals, each with its sound, food and young; four forms of sentences. A document is about one animal.
ANIMALS = "dog barks bones puppy, cat meows fish kitten, cow moos grass calf, hen clucks corn chick, pig grunts roots piglet, sheep bleats clover lamb, duck quacks snails duckling, horse neighs hay foal"
FORMS = ["the {0} {1} for {2} .", "a {3} {1} like a {0} .", "every {3} here eats {2} .", "the {0} gives {2} to its {3} ."]
TOY_LENGTH = 28
facts = [entry.split() for entry in ANIMALS.split(", ")]
toy_tokenizer = WordPiece(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*" ".join(FORMS).split(), *ANIMALS.replace(",", "").split()})]
)


def toy_documents(rng):
    """One document for each animal: 50 sentences in random order."""
    return [[toy_tokenizer.encode(FORMS[i].format(*fact)) for i in rng.integers(len(FORMS), size=50)] for fact in facts]


example = bert.sentence_pairs(toy_documents(rng), 1, TOY_LENGTH, toy_tokenizer.special, np.random.default_rng(3))
shown, targets = bert.mask_tokens(example[0], toy_tokenizer.special, toy_tokenizer.vocabulary_size, np.random.default_rng(1))
print(f"what the model is shown:  {toy_tokenizer.decode(shown[0]).replace(' [PAD]', '')}")
print(
    f"what it shall say:        {[toy_tokenizer.tokens[t] for t in targets[0] if t >= 0]}, and that B is {['next', 'random'][example[3][0]]}\n"
)

# %% Is the choice what the paper says?
# Section 3.1: 15 % of the tokens are hidden; of these 80 % become [MASK], 10 % another token, and 10 % stay as they are.
many = rng.integers(5, 1000, size=(500, 100))
shown, targets = bert.mask_tokens(many, toy_tokenizer.special, 1000, rng)
hidden = targets != bert.IGNORED
n = hidden.sum()
rates = np.array([n / many.size, *(np.array([(shown == 4)[hidden].sum(), (shown == many)[hidden].sum()]) / n)])
sigma = np.sqrt(np.array([0.15 * 0.85 / many.size, 0.8 * 0.2 / n, 0.1 * 0.9 / n]))
print(f"hidden {rates[0]:.4f} (paper 0.15), of these [MASK] {rates[1]:.3f} (0.80), unchanged {rates[2]:.3f} (0.10)\n")
assert np.all(np.abs(rates - [0.15, 0.8, 0.1]) < 3 * sigma + 2e-4)  # one random token in a thousand is right, or [MASK], by chance

# %% The model beside its equations, and a check
# models/language/bert.py has one class for each equation, bottom up. A tiny one in float64: the whole loss against finite
# differences in a bias of its first layer; every token feels both sides, and nothing feels the padding.
tiny = bert.PreTraining(bert.Config.tiny(dtype=np.float64), np.random.default_rng(1))
ids = np.array([[2, 5, 4, 7, 3, 9, 4, 3, 0, 0]])
aims = np.where(ids == 4, 8, bert.IGNORED)


def tiny_loss(bias):
    tiny.bert.layers[0].inner.bias = bias
    return bert.loss(tiny, ids, ids * 0, ids != 0, aims, np.array([1]))


check.check_grads(tiny_loss, np.full(20, 0.1))
tiny = bert.PreTraining(bert.Config.tiny(dtype=np.float64), np.random.default_rng(1))
x, _ = tiny.bert(ids, mask=ids != 0)
felt = np.any(tn.gradients(np.sum(x[0, 3] ** 2), tiny.bert.position.weight) != 0, axis=1)
assert felt.tolist() == [True] * 8 + [False] * 2
print("checked: the gradient agrees with finite differences; position 3 feels positions 0 to 7, and not the padding\n")


# %% Pre-train
def pretrain(model, documents, tokenizer, length, batch, steps, rate, name):
    """Masked words and sentence pairs, drawn anew for every step; returns the losses."""
    params, losses = tn.parameters(model), []
    optimizer = optim.AdamW(params, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, decay=lambda path, t: t.ndim >= 2)
    schedule = partial(optim.linear, peak=rate, warmup=max(1, steps // 10), steps=steps)
    for step in tqdm(range(steps), desc=name, unit="step", disable=None):
        ids, segments, mask, is_random = bert.sentence_pairs(documents, batch, length, tokenizer.special, rng)
        shown, targets = bert.mask_tokens(ids, tokenizer.special, tokenizer.vocabulary_size, rng)
        loss = bert.loss(model, shown, segments, mask, targets, is_random)
        grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
        optimizer.step(grads, lr=schedule(step))
        losses.append(loss.item())
    return losses


def accuracies(model, documents, tokenizer, length, pairs=64 if options.quick else 640):
    """Shares of hidden tokens and of sentence pairs that are told right, and of hidden tokens that are the most frequent one."""
    model, draw = tn.frozen(model), np.random.default_rng(1)
    right, right_pairs, answers = [], [], []
    for _ in range(pairs // 64):
        ids, segments, mask, is_random = bert.sentence_pairs(documents, 64, length, tokenizer.special, draw)
        shown, targets = bert.mask_tokens(ids, tokenizer.special, tokenizer.vocabulary_size, draw)
        mlm, nsp = model(shown, segments, mask)
        hidden = targets != bert.IGNORED
        right.append((mlm.argmax(-1) == targets)[hidden])
        right_pairs.append(nsp.argmax(-1) == is_random)
        answers.append(targets[hidden])
    unigram = np.bincount(np.concatenate(answers)).max() / sum(map(len, answers))
    return np.mean(np.concatenate(right)), np.mean(right_pairs), unigram


# The published start, weights of 0.02, is right for 768 wide. In a narrow network such weights say next to nothing at first:
# the same training with std=0.02 ends at 59 % of the words. 1 / sqrt(width) is a good start here.
toy_config = bert.Config(toy_tokenizer.vocabulary_size, TOY_LENGTH, layers=2, heads=4, width=64, hidden=256, std=0.1)
toy = bert.PreTraining(toy_config, rng)
toy_losses = pretrain(toy, toy_documents(rng), toy_tokenizer, TOY_LENGTH, 32, TOY_STEPS, 3e-3, "toy language")
mlm, nsp, unigram = accuracies(toy, toy_documents(rng), toy_tokenizer, TOY_LENGTH)
print(f"""
the toy language, new texts      (measured)
    masked words    {mlm:6.1%}    (the most frequent word: {unigram:.1%})
    sentence pairs  {nsp:6.1%}    (guessing: 50 %)
""")
if options.quick:
    assert toy_losses[-1] < toy_losses[0]
else:
    assert mlm >= 0.9 > 0.5 > unigram
    assert nsp >= 0.95

# %% Look into its heads
# Where does the blank look? Each picture is a head of a layer, each row says where one word looks.
question = "the [MASK] meows for fish ."
tokens = toy_tokenizer.encode_special(f"[CLS] {question} [SEP]")[None]
answer = bert.fill(toy, tokens, toy_tokenizer.special["[MASK]"])
print(f"{question}  ->  {toy_tokenizer.tokens[answer[0, 2]]}\n")
maps = bert.attention_maps(toy.bert, tokens)[:, 0]
if not options.quick:
    assert toy_tokenizer.tokens[answer[0, 2]] == "cat"
if not options.no_plots:
    word_pictures.heads(options.out / "heads.png", maps, ["[CLS]", *question.split(), "[SEP]"])

# %% Eight labels, in words that the test does not use
# The animals are split into two herds, at random, and one sentence about each is labelled: "the dog barks ." The test asks about
# "every puppy here eats bones .": no word of it that could tell was ever labelled. From scratch that is a guess. The pre-trained
# model knows already which words belong to one animal.
herd = np.array([0, 1, 1, 0, 1, 0, 0, 1])


def herds(pretrained, seed):
    """Accuracy on the other words; pretrained: a BERT, or None to start from scratch."""
    draw = np.random.default_rng(seed)
    labelled, asked = (
        bert.pack([toy_tokenizer.encode(form.format(*fact)) for fact in facts], None, 9, toy_tokenizer.special)
        for form in ("the {0} {1} .", "every {3} here eats {2} .")
    )
    classifier = bert.Classifier(toy_config, draw)
    if pretrained is not None:
        tn.load(classifier.bert, tn.state_dict(pretrained))
    params = tn.parameters(classifier)
    optimizer = optim.AdamW(params, lr=1e-3)
    for _ in range(3 if options.quick else 30):
        loss = bert.classification_loss(classifier, *labelled, herd)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
    return float(np.mean(tn.frozen(classifier)(*asked).argmax(-1) == herd))


tuned, scratch = (np.mean([herds(start, seed) for seed in range(10)]) for start in (toy.bert, None))
print(f"eight labels, tested on words that none of them shows: pre-trained {tuned:.1%}, from scratch {scratch:.1%} (guessing: 50 %)\n")
if not options.quick:
    assert tuned > scratch + 0.2

# %% A vocabulary of pieces
# Now real English: the manual of Python, 79 topics. WordPiece starts from single characters and joins what most often stands
# side by side; frequent words become one piece, rare ones are spelled in several, and none is unknown.
VOCABULARY, LENGTH = 1000, 64
tokenizer = WordPiece.train((topics[name] for name in sorted(topics)), VOCABULARY)
print(f"{tokenizer.vocabulary_size} pieces; for example {' '.join(tokenizer.pieces('Generators suspend, coroutines await.'))}")


def sentences_of(parts):
    """Paragraphs as sentences, each an array of ids."""
    ids = [tokenizer.encode(sentence) for part in parts for sentence in re.split(r"(?<=[.:!?])\s+", part)]
    return [i for i in ids if len(i)]


paragraphs = {name: topics[name].split("\n\n") for name in sorted(topics)}
kept_back = {name: parts[4::5] for name, parts in paragraphs.items()}  # every fifth paragraph is held out
known = {part for parts in kept_back.values() for part in parts}  # and not trained on where it stands a second time
learnt = {name: sentences_of(part for part in parts if part not in known) for name, parts in paragraphs.items()}
test = {name: sentences_of(parts) for name, parts in kept_back.items()}
train_documents, test_documents = ([document for document in half.values() if len(document) > 1] for half in (learnt, test))
print(f"{sum(len(ids) for d in train_documents for ids in d):,} tokens to train on\n")

# %% Pre-train on the manual
config = bert.Config(VOCABULARY, LENGTH, layers=2, heads=3, width=96, hidden=384, std=0.1)
model = bert.PreTraining(config, rng)
print(f"BERT with {tn.count(model):,} parameters, for {STEPS} steps; the published base model has 110 million, for 1,000,000 steps")
losses = pretrain(model, train_documents, tokenizer, LENGTH, 16, STEPS, RATE, "the manual")
mlm, nsp, unigram = accuracies(model, test_documents, tokenizer, LENGTH)
print(f"""
the manual, text that it never saw       (measured)
    masked pieces   {mlm:6.1%}    (the most frequent piece: {unigram:.1%})
    sentence pairs  {nsp:6.1%}    (guessing: 50 %; the paper: 97 to 98 %, from 3.3 billion words)
""")
blank = tokenizer.special["[MASK]"]
for text in (
    "the value of the [MASK] is not a string .",
    "if no [MASK] is found , an exception is raised .",
    "a [MASK] statement may not occur",
):
    ids = np.concatenate([[tokenizer.special["[CLS]"]], tokenizer.encode_special(text), [tokenizer.special["[SEP]"]]])[None]
    logits, _ = tn.frozen(model)(ids)
    best = np.argsort(-logits[ids == blank][0])[:3]
    print(f"    {text}  ->  {', '.join(tokenizer.tokens[i] for i in best)}")
if options.quick:
    assert losses[-1] < losses[0]
else:
    assert mlm > 2.5 * unigram


# %% A task: is this text in order?
# Half of the passages are as they stand in the manual, half have their pieces shuffled: a task in the manner of CoLA, "is this a
# sentence?". Everything is trained, from one new layer on the pooled [CLS] down: the paper's figure 4 b. The passages to test on
# are made of the paragraphs that are held out, which pre-training did not see either.
LABELS, PASSAGE = (64, 30) if options.quick else (1500, 30)
pool, held_out = (
    tokenizer.encode("\n\n".join(parts))
    for parts in ([p for parts in paragraphs.values() for p in parts if p not in known], [p for parts in kept_back.values() for p in parts])
)
pool, held_out = (ids[: len(ids) // PASSAGE * PASSAGE].reshape(-1, PASSAGE) for ids in (pool, held_out))


def ordered_or_not(passages, draw):
    """A batch for the classifier, and its labels: 1 where the passage is shuffled."""
    labels = draw.integers(2, size=len(passages))
    rows = np.where(labels[:, None] == 1, draw.permuted(passages, axis=1), passages)
    return bert.pack(list(rows), None, PASSAGE + 2, tokenizer.special), labels


some = np.random.default_rng(0).permutation(len(held_out))[: 64 if options.quick else 500]
test_batch, test_labels = ordered_or_not(held_out[some], np.random.default_rng(1))
print(
    f"\n{LABELS} labelled passages, {len(test_labels)} to test on; one that is not in order: {tokenizer.decode(test_batch[0][np.argmax(test_labels)])[:100]}"
)


def fine_tune(pretrained, seed):
    """Accuracy on the held-out passages; pretrained: a BERT, or None to start from scratch."""
    draw = np.random.default_rng(seed)
    batch, labels = ordered_or_not(pool[draw.permutation(len(pool))[:LABELS]], draw)
    classifier = bert.Classifier(config, draw)
    if pretrained is not None:
        tn.load(classifier.bert, tn.state_dict(pretrained))
    params = tn.parameters(classifier)
    optimizer = optim.AdamW(params, lr=TUNING_RATE, weight_decay=0.01)
    for step in range(TUNING_STEPS):
        rows = draw.permutation(LABELS)[:32]
        loss = bert.classification_loss(classifier, *(part[rows] for part in batch), labels[rows])
        grads, _ = optim.clip_by_global_norm(tn.gradients(loss, params, unused="raise"), 1.0)
        optimizer.step(grads, lr=optim.linear(step, peak=TUNING_RATE, warmup=max(1, TUNING_STEPS // 10), steps=TUNING_STEPS))
    return float(np.mean(tn.frozen(classifier)(*test_batch).argmax(-1) == test_labels))


results = {"pre-trained": [], "from scratch": []}
for seed in tqdm(range(DRAWS), desc="fine-tuning", unit="draw", disable=None):
    results["pre-trained"].append(fine_tune(model.bert, seed))
    results["from scratch"].append(fine_tune(None, seed))
tuned, scratch = (float(np.mean(values)) for values in results.values())
print(f"""
in order or not: accuracy on {len(test_labels)} held-out passages, mean of {DRAWS} draws of the labels      (measured)
    pre-trained     {tuned:.1%}
    from scratch    {scratch:.1%}
    guessing        50 %
""")
if not options.quick:
    assert tuned > scratch + 0.05
if not options.no_plots:
    word_pictures.losses(options.out / "loss.png", {"toy language": toy_losses, "the manual": losses}, {}, "loss, nats: words and pairs")
    word_pictures.draws(options.out / "fine_tuning.png", results, 0.5, f"in order or shuffled? {LABELS} labels")
    print(f"pictures: {options.out}/heads.png, loss.png, fine_tuning.png")


# %% Break it: without positions
# Belief: attention knows the order of the words. It does not: without the position table [CLS] sees a bag of words. Ten
# tokens, among them an "a" and a "b": which comes first? With learned positions the answer is found, without them it is a guess.
def which_comes_first(positions, steps):
    """Accuracy on new sequences after training; positions: whether the table is there."""
    draw = np.random.default_rng(options.seed)
    model = bert.Classifier(bert.Config(20, context=11, layers=1, heads=2, width=32, hidden=64, std=0.15), draw)
    if not positions:
        model.bert.position.weight = np.zeros_like(model.bert.position.weight.value)  # an array: a constant, never trained

    def sequences(n):
        ids = draw.integers(5, 18, (n, 11))
        ids[:, 0] = 2
        places = 1 + np.argsort(draw.random((n, 10)), axis=1)[:, :2]
        np.put_along_axis(ids, places, [[18, 19]], axis=1)
        return ids, (places[:, 0] < places[:, 1]).astype(int)

    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=3e-3)
    for _ in range(steps):
        ids, labels = sequences(64)
        loss = bert.classification_loss(model, ids, None, None, labels)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
    ids, labels = sequences(2000)
    return float(np.mean(tn.frozen(model)(ids).argmax(-1) == labels))


with_table, without = (which_comes_first(positions, 10 if options.quick else 400) for positions in (True, False))
print(f"\nwhich of two tokens comes first: {with_table:.1%} with learned positions, {without:.1%} without (guessing: 50 %)")
if not options.quick:
    assert with_table >= 0.99
    assert abs(without - 0.5) < 3 * 0.5 / np.sqrt(2000) + 0.01
try:
    bert.BERT(bert.Config.tiny(), rng)(np.full((1, 11), 5))
    raise AssertionError("a position past the table should be refused")
except ValueError as error:
    print(f"a learned table ends somewhere: {error}")

# %% Exercises
# 1. Hide 40 % of the tokens instead of 15 %. Does the toy language still come out, and in how many steps?
# 2. Replace every hidden token by [MASK]: no random ones, none that stay. What does the vector of a token that is shown know then?
# 3. Ask a harder question of 96 labels: which of six topics is a passage from? Does the pre-training help there?
# 4. Why can BERT not write a text from left to right, as GPT does?
#
# Answers: 1. Yes, until so much is hidden that both words of a fact are; more targets for each step make up for a harder
# question. 2. Less: the model need not look at it, it is never asked about. 3. Not at this size: words that name a topic are
# learnt from labels as quickly, and pre-training for minutes knows about neighbours, not about topics. 4. Each vector is made
# with the words to its right in view, and when writing there are none.
print(f"\nall of it took {time.process_time() - began:.0f} s of computing")
