"""Attention, from the dot product to heads.

RUNNING TIME: 8 seconds (--quick: 2 seconds)

The layer of "Attention is all you need" (Vaswani et al., 2017), one piece after the other. You will see queries, keys and values on numbers
that fit the page; a softmax go deaf when nobody divides by sqrt(d); one head fail where two heads do not, at the same number of
parameters; and heads that are cut the wrong way, which most tests do not notice.

Then: what a mask hides (walkthroughs/attention/masks.py), two sequences (walkthroughs/attention/cross.py), how attention contains
convolution (walkthroughs/attention/convolution.py), and how it is computed without its weights (walkthroughs/attention/flash.py).

    python -m walkthroughs attention/attention            the whole story
    python -m walkthroughs attention/attention --quick    the mechanics only
"""

# %% Settings
import math
import time

import tinygrad_notes as tn
from tinygrad_notes import check, nn
from tinygrad_notes import functional as F
from walkthroughs.attention import _pictures as pictures
from walkthroughs.attention._reader import Reader, felt, train
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("attention/attention", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()
np.set_printoptions(precision=3, suppress=True)


# %% The idea by hand
# T queries ask, S keys answer, and each query takes a mean of the values, weighed by how well their keys fit it:
#
#     (1)  s_ij = q_i . k_j / sqrt(d)          how well key j fits query i
#     (2)  p_ij = e^s_ij / sum_j' e^s_ij'      weights: positive, each row sums to 1
#     (3)  y_i  = sum_j p_ij v_j               a mean of the values
#
# mask (T, S) says who may look at whom: hidden scores become -inf, so their weights are e^-inf = 0 before anything is divided.
def weights(q, k, mask=True):
    """Equations 1 and 2: q (..., T, d), k (..., S, d) -> (..., T, S)."""
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    return F.softmax(np.where(mask, s, -np.inf))


def attention(q, k, v, mask=True):
    """Equations 1 to 3: q (..., T, d), k (..., S, d), v (..., S, vd) -> (..., T, vd)."""
    return weights(q, k, mask) @ v


k = np.eye(3)
q = np.log([[2, 1, 1], [1, 3, 1], [1, 1, 1]]) * math.sqrt(3)
v = np.array([[4.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 6.0]])
p = weights(q, k)
print(f"weights of 3 queries (rows) on 3 keys\n{p}\nand the means of the values that they take\n{attention(q, k, v)}")
assert np.allclose(p, [[2 / 4, 1 / 4, 1 / 4], [1 / 5, 3 / 5, 1 / 5], [1 / 3, 1 / 3, 1 / 3]])
assert np.allclose(attention(q, k, v), [[2, 2.5, 1.5], [0.8, 6, 1.2], [4 / 3, 10 / 3, 2]])

# Nothing in (1) to (3) knows where a key stands: keys and values in another order, the same answers.
order = [2, 0, 1]
assert np.allclose(attention(q, k[order], v[order]), attention(q, k, v))

# What the softmax lets through of a gradient: dp_j / ds_j' = p_j (1[j = j'] - p_j'). By hand for the first query, and by the engine.
by_hand = np.diag(p[0]) - np.outer(p[0], p[0])
assert np.allclose(tn.jacobian(F.softmax)(np.log([2.0, 1, 1])), by_hand)
print(f"the softmax's derivative at the first query's scores, in sixteenths\n{16 * by_hand}\n")

# %% Why divide by sqrt(d)?
# If the numbers of q and k are independent with mean 0 and variance 1, then so is each product, and q . k, a sum of d of them, has
# variance d. At d = 512 scores of +-23 are usual, and e^23 is ten thousand million: the softmax is an argmax, and argmax has no gradient.
# Divided by sqrt(d) the variance is 1, whatever d.
WIDTHS, N, KEYS = (2, 8, 32, 128, 512), 500 if QUICK else 2000, 4
measured = {False: [], True: []}
for d in WIDTHS:
    q, k = rng.normal(size=(N, 1, d)), rng.normal(size=(N, KEYS, d))
    c = rng.normal(size=(N, KEYS))
    for scaled in (False, True):
        s = tn.Tensor((q @ np.swapaxes(k, -1, -2))[:, 0] / (math.sqrt(d) if scaled else 1))
        p = F.softmax(s)
        g = np.linalg.norm(tn.gradients(np.sum(c * p), s), axis=-1) / np.linalg.norm(c, axis=-1)
        measured[scaled].append((np.var(s.value), np.max(p.value, axis=-1).mean(), g.mean(), np.median(g)))
print(f"""{KEYS} random keys, the mean of {N} queries: how large the scores are, how sure the softmax, how much gradient reaches the scores
                 q . k                                        q . k / sqrt(d)
    d    variance   largest p   gradient (median)    variance   largest p   gradient (median)""")
for d, *rows in zip(WIDTHS, measured[False], measured[True]):
    print(f"{d:5}" + "   ".join("{:11.2f} {:11.3f} {:10.4f}   ({:.0e})".format(*row) for row in rows))
raw, scaled = measured[False][-1], measured[True][-1]
assert abs(raw[0] / 512 - 1) < 0.15 and abs(scaled[0] - 1) < 0.15
assert raw[1] > 0.95 and scaled[1] < 0.65
assert raw[3] < 1e-3 < 0.1 < scaled[3]
assert all(a[3] > b[3] for a, b in zip(measured[False][1:], measured[False][2:])), "the wider, the less gradient"

# (With more keys there is a rival more often: with 64 of them the largest weight is 0.93 at d = 512, not 0.97. The gradient of the median
# query falls all the same. The mean falls slowly, as 1 / sqrt(d): it lives on the few queries whose two best keys are nearly equal.)


# %% Heads, beside their equations
# One softmax is one opinion. nh heads of width C / nh look for nh things at once, at the same number of parameters:
#
#     (4)  q_h, k_h, v_h = x W_q, x W_k, x W_v     cut into nh pieces, each hd = C / nh wide
#     (5)  y = concat_h(attention(q_h, k_h, v_h)) W_o
class MultiHead(nn.Module):
    """query (B, T, C), key and value (B, S, C) -> (B, T, C)."""

    def __init__(self, C, heads, rng, dtype=np.float32):
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(C, C, rng=rng, dtype=dtype) for _ in range(4))

    def split(self, x):
        B, S, C = x.shape  # S of these, whatever came as queries
        return np.swapaxes(x.reshape(B, S, self.heads, C // self.heads), 1, 2)  # (B, nh, S, hd)

    def looks(self, query, key, mask=True):
        return weights(self.split(self.q_proj(query)), self.split(self.k_proj(key)), mask)  # (B, nh, T, S)

    def __call__(self, query, key, value, mask=True):
        B, T, C = query.shape
        y = self.looks(query, key, mask) @ self.split(self.v_proj(value))  # (B, nh, T, hd)
        return self.out_proj(np.swapaxes(y, 1, 2).reshape(B, T, C))  # (B, T, C)


# The same as the engine's layer, which computes in blocks and never holds the T x S weights (walkthroughs/attention/flash.py shows how).
ours = MultiHead(8, 2, np.random.default_rng(1), np.float64)
theirs = nn.MultiHeadAttention(8, 2, rng=np.random.default_rng(2), dtype=np.float64)
tn.load(theirs, tn.state_dict(ours))
x, memory = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 9, 8))
causal = np.tri(5, dtype=bool)
assert np.allclose(ours(x, x, x, causal).value, theirs(x, causal=True).value, rtol=0, atol=1e-14)
assert np.allclose(ours(x, memory, memory).value, theirs(x, memory).value, rtol=0, atol=1e-14)
check.check_grads(lambda x, m: np.tanh(ours(x, m, m)), x, memory)
print(f"\nheads: {tn.count(ours)} parameters with 1 head or with 2; equal to nn.MultiHeadAttention, and checked by finite differences\n")

# %% Two relations at once
# Ten tokens in any order; each place is asked for two things: the token one place back, and the one three places back. Queries
# and keys see places only, values see tokens only (the Reader in walkthroughs/attention/_reader.py, which has the training loop, too), so
# that where a head looks and what it finds are apart. What is found is read by a linear map. Can one head look at two places,
# half and half? It finds a mean of two tokens and cannot say which was which.
V, T, C, BACK = 10, 12, 32, (1, 3)
causal = np.tri(T, dtype=bool)


def relations(model, B=64):
    """Logits (B, T - 3, 2, V) and the two right answers (B, T - 3, 2) of a batch."""
    ids = rng.integers(0, V, (B, T))
    logits = model(ids, causal)[:, 3:]
    return logits.reshape(B, T - 3, 2, V), np.stack([ids[:, 3 - back : T - back] for back in BACK], axis=-1)


right, readers = {1: [], 2: []}, {}
for heads in right:
    for _ in range(1 if QUICK else 3):
        model = Reader(V, T, C, MultiHead(C, heads, rng), 2 * V, rng)
        train(model, lambda m: F.cross_entropy(*relations(m)), 100 if QUICK else 800, f"{heads} head(s)")
        readers.setdefault(heads, model)
        logits, answers = relations(tn.frozen(model), 500)
        hits = np.argmax(logits, axis=-1) == answers
        right[heads].append((*hits.mean((0, 1)), hits.all(-1).mean()))
print("\n               parameters   1 place back   3 places back   both right")
for heads, starts in right.items():
    for one, three, both in starts:
        print(f"    {heads} head(s)     {tn.count(readers[heads]):8,} {one:13.0%} {three:14.0%} {both:13.0%}")
assert max(both for *_, both in right[1]) <= 0.6
assert QUICK or min(both for *_, both in right[2]) >= 0.95

# One head finds one of the two, and the other in two or three cases of ten. Exercise 1 shows why it must fail, as long
# as the reader is linear; one that is not can take an uneven mixture apart (exercise 2).
looks = {}
for heads, model in readers.items():
    places = tn.frozen(model).places(1, T)
    looks[heads] = tn.frozen(model).attn.looks(places, places, causal)[0]  # (nh, T, T)


# %% Break it
# Cutting into heads without the transposition: the shapes fit, and a "head" is a stretch of time. Only a test of what feels what notices:
# with the causal mask, no output may feel a later input.
class Scrambled(MultiHead):
    def split(self, x):
        B, S, C = x.shape
        return x.reshape(B, self.heads, S, C // self.heads)


scrambled = Scrambled(8, 2, np.random.default_rng(1), np.float64)
check.check_grads(lambda x, m: np.tanh(scrambled(x, m, m)), x, memory)  # silence: its gradient is right, of the wrong function
assert scrambled(x, memory, memory).shape == ours(x, memory, memory).shape
T = 6
causal, one = np.tri(T, dtype=bool), rng.normal(size=(1, T, 8))
feels = {
    name: felt(lambda x, layer=layer: layer(x, x, x, causal), one)[0] for name, layer in (("heads", ours), ("not transposed", scrambled))
}
print("\nboth have the right shapes and gradients; the largest gradient from an output to a later input")
for name, m in feels.items():
    print(f"    {name:24} {m[~causal].max():.1e}")
assert feels["heads"][~causal].max() == 0 and feels["not transposed"][~causal].max() > 1e-3

# %% Figures
if not options.no_plots:
    surest, slope = ({scaled: [row[column] for row in rows] for scaled, rows in measured.items()} for column in (1, 3))
    shown = ((False, "q . k", pictures.RED), (True, "q . k / sqrt(d)", pictures.BLUE))
    pictures.lines(
        options.out / "scale.png",
        [
            {
                "title": f"how sure the softmax of {KEYS} scores is",
                "x": "width d",
                "y": "mean of the largest weight",
                "log": "x",
                "ticks": WIDTHS,
                "limits": {"ylim": (0, 1.02)},
                "lines": {name: (WIDTHS, surest[scaled], "o-", colour) for scaled, name, colour in shown}
                | {"all alike": (WIDTHS, [1 / KEYS] * len(WIDTHS), "--", pictures.GREY)},
            },
            {
                "title": "how much gradient reaches the scores",
                "x": "width d",
                "y": "median query, per unit at the weights",
                "log": "xy",
                "ticks": WIDTHS,
                "lines": {name: (WIDTHS, slope[scaled], "o-", colour) for scaled, name, colour in shown},
            },
        ],
    )
    panels = {"one head (of one)": looks[1][0], "first of two": looks[2][0], "second of two": looks[2][1]}
    pictures.maps(options.out / "heads.png", panels, size=2.7, xlabel="place looked at", ylabel="place")
    panels = {f"gradient, {name}": np.minimum(m / feels["heads"].max(), 1) for name, m in feels.items()}
    pictures.maps(options.out / "feels.png", panels, size=2.7, xlabel="input", ylabel="output")
    print(f"\nfigures: {options.out}/scale.png, heads.png, feels.png")

# %% Exercises
# 1. One head looks at tokens a and b with weights p and 1 - p, and a linear map shall find a for the first answer and b for the second.
#    Why can it not be right for (a, b) and for (b, a)?
# 2. Read the one head's output with a hidden layer, relu(x W + b), instead of a linear map. Does one head suffice now?
# 3. Why sqrt(d), and not d?
# 4. Which of the checks above does `Scrambled` pass? Which would have to be in the tests of a library?
#
# Answers (measured with seeds 0 to 3)
# 1. Let w be the row of the reader for token a minus that for token b, and u_a, u_b what a and b bring. The first answer needs w (p u_a +
#    (1-p) u_b) > 0 and, for (b, a), w (p u_b + (1-p) u_a) < 0: subtracted, (2p - 1) w (u_a - u_b) > 0. The second answer, with its own
#    row w', needs the opposite sign, (2p - 1) w' (u_a - u_b) < 0. Both readers must also be right where the two tokens are the same,
#    which needs w u_a > 0 > w u_b and the same for w': so both products have the sign of 2p - 1.
# 2. Yes: 100 % of both, from every start. It learns unequal weights, and p u_a + (1-p) u_b tells the order to a reader that is not
#    linear. More heads make easy what one head with a clever reader can do; it is not true that one head cannot hold two relations.
# 3. Scores of variance 1 / d are nearly 0: every query takes the plain mean, and the gradient to q and k is small in turn. Where training
#    makes q and k alike, their product grows as d and not as sqrt(d), and 1 / d has its advocates (Yang et al. 2022).
# 4. Shapes, finite differences, and that it learns something. That no output feels a later input, and that two orders of the keys
#    give the same, it fails.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
