"""Masks: what nobody may look at, to the last bit, and what happens without them.

RUNNING TIME: 4 seconds (--quick: 2 seconds)

The masked attention of Vaswani et al. (2017). You will see a causal mask on three numbers; zeros that are exact, felt through the
gradient; a mask one place off; padding that may hold anything; a row that may look at nothing; a model that has learned nothing because
its mask was missing, with a training loss that looks too good; and what a mask does to the rank of the weights.

Before it: walkthroughs/attention/attention.py, which builds the layer. After it: walkthroughs/attention/cross.py, for two sequences.

    python -m walkthroughs attention/masks            the whole story
    python -m walkthroughs attention/masks --quick    the mechanics only
"""

# %% Settings
import math
import time

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes import nn
from walkthroughs.attention import _pictures as pictures
from walkthroughs.attention._reader import Reader, felt, train
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("attention/masks", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()
np.set_printoptions(precision=3, suppress=True)


# %% The idea by hand
# Attention takes a mean of values, weighed by the softmax of scores. What a query may not look at gets the score -inf BEFORE the softmax:
# its weight is e^-inf = 0, and the others share the whole. Three places; each likes the third one best, and may look back only:
def weights(s, may):
    """Scores s (..., T, S), may (..., T, S) bool: True where a query may look -> weights (..., T, S)."""
    return F.softmax(np.where(may, s, -np.inf))


s = np.log([[1.0, 1, 2], [1, 3, 4], [1, 3, 4]])
may = np.tri(3, dtype=bool)
print(f"weights of 3 places without a mask\n{F.softmax(s)}\nand with the causal one\n{weights(s, may)}")
assert np.allclose(F.softmax(s), [[1 / 4, 1 / 4, 2 / 4], [1 / 8, 3 / 8, 4 / 8], [1 / 8, 3 / 8, 4 / 8]])
assert np.allclose(weights(s, may), [[1, 0, 0], [1 / 4, 3 / 4, 0], [1 / 8, 3 / 8, 4 / 8]])

# %% Causal: exactly nothing of what comes later
# A language model predicts token t + 1 from the tokens up to t, for all t at once. So query i may look at key j only if j <= i.
# The gradient shows what an output feels, and the zeros are exact: what is hidden has weight 0, not a small one.
T = 6
layer = nn.MultiHeadAttention(8, 2, rng=np.random.default_rng(1), dtype=np.float64)
one = rng.normal(size=(1, T, 8))
(feels,) = felt(lambda x: layer(x, causal=True), one)
print(f"\nwhich of the {T} inputs (columns) does output i feel (rows)? 1: a gradient, 0: exactly none\n{(feels != 0).astype(int)}")
assert np.array_equal(feels != 0, np.tri(T, dtype=bool))

# %% Fewer queries than keys
# With a cache, T new queries stand behind S - T keys that came earlier, so query i stands at place S - T + i.
# A triangle from the upper left corner would hide keys that the query has every right to see: mind the offset. (It is also what
# some libraries mean by "causal" for such shapes.)
T, S = 3, 7
triangle, shifted = np.tri(T, S, dtype=bool), np.tri(T, S, S - T, dtype=bool)
q, k, v = (rng.normal(size=(1, 2, n, 4)) for n in (T, S, S))


def scores(q, k):
    return q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])  # (..., T, S)


def attention(q, k, v, may):
    return weights(scores(q, k), may) @ v


assert np.allclose(F.scaled_dot_product_attention(q, k, v, causal=True), attention(q, k, v, shifted))
assert np.allclose(F.scaled_dot_product_attention(q, k, v, causal=True, offset=0), attention(q, k, v, triangle))
whole = rng.normal(size=(1, 2, S, 4))  # and the proof that the offset is right: the last rows of the whole thing
assert np.allclose(attention(whole[:, :, -T:], k, v, shifted), attention(whole, k, v, np.tri(S, dtype=bool))[:, :, -T:])
print(
    f"\n{T} queries behind {S - T} earlier keys: `causal` sees {shifted.sum(axis=1)} keys, a triangle from the corner {triangle.sum(axis=1)}"
)

# %% Padding
# Examples of different lengths in one batch. Nothing may look at the filling, so what stands there does not matter.
lengths = np.array([7, 4])
seen = (np.arange(S) < lengths[:, None])[:, None, None]  # (B, 1, 1, S): for every head and query
q, k, v = (np.repeat(x, 2, axis=0) for x in (q, k, v))
rubbish = np.where(seen[:, 0, 0, :, None], 0, 1e3 * rng.normal(size=(2, S, 4)))[:, None]
assert np.array_equal(attention(q, k + rubbish, v + rubbish, seen), attention(q, k, v, seen))
print("padding that holds numbers around 1,000: the same answers, to the bit")

# %% A row that may look at nothing
# 0 / 0. Here its weights are zeros, and so is its gradient; by the book it is NaN, which spreads
# into every weight of the network; with -1e9 for -inf it is the plain mean of everything that was to be hidden.
nothing = np.array([[True, True], [False, False]])
s = np.array([[0.0, math.log(3)], [5.0, 6.0]])
e = np.exp(np.where(nothing, s, -np.inf))
with np.errstate(invalid="ignore"):
    book = e / np.sum(e, axis=-1, keepdims=True)
finite = F.softmax(np.where(nothing, s, -1e9))
t = tn.Tensor(s)
zeros = weights(t, nothing)
g = tn.gradients(np.sum(zeros * [[1.0, 2.0], [3.0, 4.0]]), t)
print(f"a row that may look at nothing: by the book {book[1]}, with -1e9 {finite[1]}, here {zeros.value[1]} with the gradient {g[1]}")
assert np.array_equal(zeros.value[1], [0, 0]) and np.array_equal(g[1], [0, 0]) and np.all(g[0] != 0)
assert np.isnan(book[1]).all() and np.allclose(finite[1], 0.5)

# %% The leak: without the mask the training loss falls to 0 and nothing is learned
# Each token is the one four places earlier, one letter on: b d a c  c e b d  d f c e ... but one in five is drawn anew. The first four cannot be
# predicted, the others only so far. So no honest model's loss can fall below the entropy of the data: log V for three of every 15 predictions
# (the very first token is given), H for the other twelve.
V, N, ANEW = 8, 16, 0.2
other = ANEW / V  # the probability of each token that breaks the rule
H = -(1 - 7 * other) * math.log(1 - 7 * other) - 7 * other * math.log(other)
floor = (3 * math.log(V) + 12 * H) / 15


def song(B, anew=ANEW):
    ids = rng.integers(0, V, (B, N))
    for t in range(4, N):
        ids[:, t] = np.where(rng.random(B) < anew, ids[:, t], (ids[:, t - 4] + 1) % V)
    return ids


def generate(model, ids, may):
    """Goes on from ids (B, n) to N tokens, always with the likeliest one."""
    model = tn.frozen(model)
    while (n := ids.shape[1]) < N:
        ids = np.concatenate([ids, np.argmax(model(ids, may[:n, :n])[:, -1:], axis=-1)], axis=1)
    return ids


curves, written, with_mask = {}, {}, {}
for name, may in (("with the mask", np.tri(N, dtype=bool)), ("without", np.ones((N, N), bool))):
    model = with_mask[name] = Reader(V, N, 32, nn.MultiHeadAttention(32, 1, rng=rng), V, rng)

    def loss_of(model, may=may):
        ids = song(64)
        return F.cross_entropy(model(ids, may)[:, :-1], ids[:, 1:])  # place t answers with token t + 1

    curves[name] = train(model, loss_of, 60 if QUICK else 800, name)
    true = song(500, anew=0)
    ids = generate(model, true[:, :4], may)
    written[name] = np.all(ids == true, axis=1).mean()
print("\n                 training loss   possible without looking ahead   sequences continued by the rule")
for name in curves:
    print(f"    {name:14} {np.mean(curves[name][-20:]):11.5f} {floor:26.3f} {written[name]:32.0%}")
assert min(curves["with the mask"]) > 0.5 * floor
if FULL:
    honest, leaky = (np.mean(curves[name][-20:]) for name in curves)
    assert honest > 0.9 * floor and written["with the mask"] > 0.99
    assert leaky < 0.01 and written["without"] < 0.5

# A training loss below the entropy of the data is never good news: something looks at the answer. (The honest model stays above the
# bound: at the first places there is nothing to be found, but its head must look somewhere, and reads out what it sees.)

# %% A question people leave open: why is the decoder masked?
# Not for the sake of inference, where the future does not exist. All T predictions of a training example are made at once, from a row that
# holds the answers; the mask makes this the same as T predictions, each from its own prefix. Then what is trained is what will be used.
gaps = {}
for name, model in with_mask.items():
    model, ids = tn.frozen(model), song(8)
    may = np.tri(N, dtype=bool) if name == "with the mask" else np.ones((N, N), bool)
    alone = np.stack([model(ids[:, : t + 1], may[: t + 1, : t + 1])[:, -1] for t in range(N)], axis=1)
    gaps[name] = np.abs(model(ids, may) - alone).max()
    print(f"all predictions at once against each from its prefix alone, {name}: logits differ by {gaps[name]:.1e}")
assert gaps["with the mask"] < 1e-4
assert QUICK or gaps["without"] > 1

# %% How much can the weights say? Their rank
# With narrow heads, the T x T scores have rank hd at most, and the softmax of small scores is nearly one row, repeated. With the causal
# mask each row has another number of places to share among; and a triangle with a positive diagonal has full rank, whatever the scores.
q, k = 0.3 * rng.normal(size=(2, 64, 2))
spectra = {}
print("\n64 queries and keys, 2 wide     numerical rank (1e-6)   effective rank")
for name, may in (("bidirectional", True), ("causal", np.tri(64, dtype=bool))):
    p = weights(scores(q, k), may)
    spectra[name] = sigma = np.linalg.svd(p, compute_uv=False)
    share = sigma / sigma.sum()
    rank, effective = np.sum(sigma > 1e-6 * sigma[0]), math.exp(-np.sum(share * np.log(np.maximum(share, 1e-300))))
    print(f"    {name:15} {rank:29} {effective:16.1f}")
    if name == "bidirectional":
        assert rank <= 20 and effective < 3
    else:
        assert rank == 64 and effective > 15

# It has been guessed that this is why language models have decoders only. The ranks are a fact, the guess is not settled: a model of many
# heads and layers is not bounded by one head's rank, and there are plainer reasons, such as that every token of a text is a target.

# %% Break it
# Hiding after the softmax instead of before. The rows no longer sum to 1, and what was hidden is still in the denominator: the future
# is felt through it.
T = 6
may = np.tri(T, dtype=bool)


def hidden_before(x):
    return attention(x, x, x, may)


def hidden_late(x):
    return (weights(scores(x, x), True) * may) @ x


def hidden_late_and_divided(x):
    p = weights(scores(x, x), True) * may
    return p / np.sum(p, axis=-1, keepdims=True) @ x


leaks = {}
print("\nthe largest gradient from an output to a later input")
for f in (hidden_before, hidden_late, hidden_late_and_divided):
    leaks[f.__name__] = felt(f, one)[0][~may].max()
    print(f"    {f.__name__.replace('_', ' '):24} {leaks[f.__name__]:.1e}")
assert leaks["hidden_before"] == 0 and leaks["hidden_late"] > 1e-3
assert leaks["hidden_late_and_divided"] < 1e-12  # divided again, it is the same function, and rounds a little; why not then? exercise 1

# %% Figures
if not options.no_plots:
    T, S = 5, 8
    allowed = {
        "causal, the first 5 of 8 (offset 0)": np.tri(T, S),
        "causal, the last 5 of 8 (offset 3)": np.tri(T, S, S - T),
        "padding behind 6 keys": np.ones((T, 1)) * (np.arange(S) < 6),
        "offset -2: two see nothing": np.tri(T, S, -2),
    }
    pictures.maps(options.out / "masks.png", allowed, size=2.3, faint=False)
    smooth = lambda y: np.convolve(y, np.full(5, 0.2), "valid")
    pictures.lines(
        options.out / "leak.png",
        [
            {
                "title": "the loss that looks too good",
                "x": "step",
                "y": "training loss (nats per token)",
                "log": "y",
                "lines": {
                    f"{name}: {written[name]:.0%} written right": (np.arange(len(smooth(y))), smooth(y), "-", colour)
                    for (name, y), colour in zip(curves.items(), (pictures.BLUE, pictures.RED))
                }
                | {"possible without looking ahead": ([0, len(curves["without"])], [floor, floor], "--", pictures.GREY)},
            }
        ],
    )
    pictures.lines(
        options.out / "rank.png",
        [
            {
                "title": "singular values of 64 x 64 weights, heads 2 wide",
                "x": "number",
                "y": "singular value",
                "log": "y",
                "limits": {"ylim": (1e-18, 30)},
                "lines": {
                    name: (np.arange(1, 65), np.maximum(sigma, 1e-18), "o-", colour)
                    for (name, sigma), colour in zip(spectra.items(), (pictures.RED, pictures.BLUE))
                },
            }
        ],
    )
    print(f"\nfigures: {options.out}/masks.png, leak.png, rank.png")

# %% Exercises
# 1. Hiding after the softmax and dividing again gave the right answer. Why does nobody do it?
# 2. Three short texts lie one behind the other in one row of 16 tokens. Which mask keeps each from looking at the others?
# 3. A strictly causal mask, j < i, forbids each place to look at itself. What is the rank of the weights of 64 places then?
# 4. Padding keys are hidden, but the padding's own queries still take their means. Why does nobody mind, and where must one mind?
# 5. Both runs above have the same weights to find, and the one without a mask has a lower loss. Why does it not write as well?
#
# Answers
# 1. Large hidden scores push the allowed ones out of range: with a hidden score 800 above the others these all become 0, and 0 / 0 is NaN.
#    And a hidden key that is NaN spoils the whole row.
# 2. The causal one, and beside it ids[:, None] == ids, where ids tells of each token to which text it belongs: blocks on the diagonal. (Here:
#    `documents=ids`; a block of scores that nobody may see is never computed, walkthroughs/attention/flash_costs.py counts them.)
# 3. 63. Row 0 may look at nothing and is zero; the others are a triangle with a positive diagonal.
# 4. The loss leaves these places out, and nobody looks at them. One must mind wherever places are put together afterwards: a mean over all places
#    of a text has to leave them out, too.
# 5. It has learned to look one place ahead, where the answer stands in training. In writing there is nothing.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
