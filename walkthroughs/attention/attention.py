"""Attention, from the dot product to heads, masks and two sequences of different lengths.

RUNNING TIME: 15 seconds (--quick: 5 seconds)

You will see a softmax go deaf when nobody divides by sqrt(d); one head fail where two heads do not, at the same number of
parameters; a mask that is exact to the last bit, and a model that has learned nothing because it was missing; five queries that
read nine keys; and nine heads that are a convolution, pixel for pixel. Four common mistakes and two questions that people
leave open are put to the test on the way.

    python -m walkthroughs attention/attention            the whole story
    python -m walkthroughs attention/attention --quick    the mechanics only
"""

# %% Settings
import math
import time

import tinygrad_notes as tn
from models.language import transformer
from tinygrad_notes import check, nn, optim
from tinygrad_notes import functional as F
from walkthroughs.attention import _pictures as pictures
from walkthroughs.options import options_of, parser_for

import numpy as np
from tqdm import tqdm

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
# may (T, S) says who may look at whom: hidden scores become -inf, so their weights are e^-inf = 0 before anything is divided.
def weights(q, k, may=True):
    """Equations 1 and 2: q (..., T, d), k (..., S, d) -> (..., T, S)."""
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    return F.softmax(np.where(may, s, -np.inf))


def attention(q, k, v, may=True):
    """Equations 1 to 3: q (..., T, d), k (..., S, d), v (..., S, vd) -> (..., T, vd)."""
    return weights(q, k, may) @ v


# Three queries, three keys, d = 3. Key j is the j-th unit vector, so q_i . k_j is the j-th number of q_i, and the queries are chosen
# such that e^s are whole numbers. The first query likes the first key twice as much as the others, the last one has no wish.
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

    def looks(self, query, key, may=True):
        return weights(self.split(self.q_proj(query)), self.split(self.k_proj(key)), may)  # (B, nh, T, S)

    def __call__(self, query, key, value, may=True):
        B, T, C = query.shape
        y = self.looks(query, key, may) @ self.split(self.v_proj(value))  # (B, nh, T, hd)
        return self.out_proj(np.swapaxes(y, 1, 2).reshape(B, T, C))  # (B, T, C)


# The same as the engine's layer, which computes in blocks and never holds the T x S weights (attention/flash shows how).
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
# and keys see places only, values see tokens only, so that where a head looks and what it finds are apart. What is found is read by a
# linear map. Can one head look at two places, half and half? It finds a mean of two tokens and cannot say which was which.
class Reader(nn.Module):
    """ids (B, T) int -> answers (B, T, out): one layer of attention between an embedding and a linear map."""

    def __init__(self, V, T, C, heads, out, rng):
        self.token, self.place = nn.Embedding(V, C, rng=rng), nn.Embedding(T, C, rng=rng)
        self.attn, self.read = MultiHead(C, heads, rng), nn.Linear(C, out, rng=rng)

    def places(self, B, T):
        places = self.place(np.arange(T))
        return np.broadcast_to(places, (B, *places.shape))

    def __call__(self, ids, may):
        places = self.places(*ids.shape)  # (B, T, C)
        return self.read(self.attn(places, places, self.token(ids), may))


def train(model, loss_of, steps, name):
    """The whole of training; loss_of(model) draws a batch."""
    params, losses = tn.parameters(model), []
    optimizer = optim.Adam(params, lr=5e-3)
    for _ in tqdm(range(steps), desc=name, unit="step", disable=None):
        loss = loss_of(model)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
        losses.append(loss.item())
    return losses


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
        model = Reader(V, T, C, heads, 2 * V, rng)
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

# %% Masks
# A language model predicts token t + 1 from the tokens up to t, for all t at once. So query i may look at key j only if j <= i.
# The gradient shows what an output feels, and the zeros are exact: what is hidden has weight 0, not a small one.
T = S = 6
x = tn.Tensor(rng.normal(size=(1, T, 8)))
felt = np.array([np.any(tn.gradients(np.sum(ours(x, x, x, np.tri(T, dtype=bool))[:, i] ** 2), x)[0] != 0, axis=-1) for i in range(T)])
assert np.array_equal(felt, np.tri(T, dtype=bool))
print(f"\nwhich of the {T} inputs (columns) does output i feel (rows)? 1: a gradient, 0: exactly none\n{felt.astype(int)}")

# Fewer queries than keys: with a cache, T new queries stand behind S - T keys that came earlier, so query i stands at place S - T + i.
# A triangle from the upper left corner would hide keys that the query has every right to see: mind the offset. (It is also what
# some libraries mean by "causal" for such shapes.)
T, S = 3, 7
triangle, shifted = np.tri(T, S, dtype=bool), np.tri(T, S, S - T, dtype=bool)
q, k, v = (rng.normal(size=(1, 2, n, 4)) for n in (T, S, S))
assert np.allclose(F.scaled_dot_product_attention(q, k, v, causal=True), attention(q, k, v, shifted))
assert np.allclose(F.scaled_dot_product_attention(q, k, v, causal=True, offset=0), attention(q, k, v, triangle))
whole = rng.normal(size=(1, 2, S, 4))  # and the proof that the offset is right: the last rows of the whole thing
assert np.allclose(attention(whole[:, :, -T:], k, v, shifted), attention(whole, k, v, np.tri(S, dtype=bool))[:, :, -T:])

# Padding: examples of different lengths in one batch. Nothing may look at the filling, so what stands there does not matter.
lengths = np.array([7, 4])
seen = (np.arange(S) < lengths[:, None])[:, None, None]  # (B, 1, 1, S): for every head and query
q, k, v = (np.repeat(x, 2, axis=0) for x in (q, k, v))
rubbish = np.where(seen[:, 0, 0, :, None], 0, 1e3 * rng.normal(size=(2, S, 4)))[:, None]
assert np.array_equal(attention(q, k + rubbish, v + rubbish, seen), attention(q, k, v, seen))

# A query that may look at nothing at all: 0 / 0. Here its weights are zeros, and so is its gradient; by the book it is NaN, which spreads
# into every weight of the network; with -1e9 for -inf it is the plain mean of everything that was to be hidden.
nothing = np.array([[True, True], [False, False]])
s = np.array([[0.0, math.log(3)], [5.0, 6.0]])
e = np.exp(np.where(nothing, s, -np.inf))
with np.errstate(invalid="ignore"):
    book = e / np.sum(e, axis=-1, keepdims=True)
finite = F.softmax(np.where(nothing, s, -1e9))
t = tn.Tensor(s)
zeros = F.softmax(np.where(nothing, t, -np.inf))
g = tn.gradients(np.sum(zeros * [[1.0, 2.0], [3.0, 4.0]]), t)
print(f"a row that may look at nothing: by the book {book[1]}, with -1e9 {finite[1]}, here {zeros.value[1]} with the gradient {g[1]}")
assert np.array_equal(zeros.value[1], [0, 0]) and np.array_equal(g[1], [0, 0]) and np.all(g[0] != 0)
assert np.isnan(book[1]).all() and np.allclose(finite[1], 0.5)

# %% The leak: without the mask the training loss falls to 0 and nothing is learned
# Each token is the one four places earlier, one letter on: b d a c  c e b d  d f c e ... The first four cannot be predicted, the others
# can. So no honest model's loss can fall below the surprise of the first: 3 log V of every 16 predictions. (The very first is given.)
V, T = 8, 16
floor = 3 * math.log(V) / T


def song(B):
    return ((rng.integers(0, V, (B, 1, 4)) + np.arange(T // 4 + 1)[:, None]) % V).reshape(B, -1)[:, : T + 1]


def generate(model, ids, may):
    """Goes on from ids (B, n) to T tokens, always with the likeliest one."""
    model = tn.frozen(model)
    while (n := ids.shape[1]) < T:
        ids = np.concatenate([ids, np.argmax(model(ids, may[:n, :n])[:, -1:], axis=-1)], axis=1)
    return ids


curves, written, with_mask = {}, {}, {}
for name, may in (("with the mask", np.tri(T, dtype=bool)), ("without", np.ones((T, T), bool))):
    model = with_mask[name] = Reader(V, T, C, 1, V, rng)

    def loss_of(model, may=may):
        ids = song(64)
        return F.cross_entropy(model(ids[:, :-1], may), ids[:, 1:])

    curves[name] = train(model, loss_of, 60 if QUICK else 800, name)
    true = song(500)[:, :T]
    ids = generate(model, true[:, :4], may)
    written[name] = np.all(ids == true, axis=1).mean()
print("\n                 training loss   possible without looking ahead   sequences continued without a mistake")
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
    model, ids = tn.frozen(model), song(8)[:, :T]
    may = np.tri(T, dtype=bool) if name == "with the mask" else np.ones((T, T), bool)
    alone = np.stack([model(ids[:, : t + 1], may[: t + 1, : t + 1])[:, -1] for t in range(T)], axis=1)
    gaps[name] = np.abs(model(ids, may) - alone).max()
    print(f"all predictions at once against each from its prefix alone, {name}: logits differ by {gaps[name]:.1e}")
assert gaps["with the mask"] < 1e-4
assert QUICK or gaps["without"] > 1

# %% Two sequences: cross-attention
# Queries from one sequence, keys and values from another. The scores are T x S, so nothing asks for T = S; only keys and values
# come in pairs. Five words of an answer read nine words of a question:
y, memory = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 9, 8))
print(f"\n5 queries, 9 keys: weights {ours.looks(y, memory).shape}, output {ours(y, memory, memory).shape}")
assert ours.looks(y, memory).shape == (2, 2, 5, 9) and ours(y, memory, memory).shape == (2, 5, 8)


# %% A common mistake: one length for all
# It is often written, in code, that keys and values have the queries' length: `B, T, C = query.shape` in the first line, and `T`
# in every reshape below. In self-attention that is true, so no test of self-attention notices.
class OneLength(MultiHead):
    def __call__(self, query, key, value, may=True):
        B, T, C = query.shape
        q, k, v = (
            f(x).reshape(B, T, self.heads, C // self.heads) for f, x in zip((self.q_proj, self.k_proj, self.v_proj), (query, key, value))
        )
        y = attention(*(np.swapaxes(x, 1, 2) for x in (q, k, v)), may)
        return self.out_proj(np.swapaxes(y, 1, 2).reshape(B, T, C))


wrong = OneLength(8, 2, np.random.default_rng(1), np.float64)
assert np.array_equal(wrong(y, y, y).value, ours(y, y, y).value)
try:
    wrong(y, memory, memory)
except ValueError as error:
    print(f"with the queries' length in every reshape: {error}")
else:
    raise AssertionError("9 keys should not fit in 5 places")
# A mask that is made once, L x L, when the layer is, is the same mistake: it fits no other length. Made from T and S when they are known,
# it costs nothing, and it is no weight, to be saved or moved with the others.
try:
    attention(*rng.normal(size=(3, 1, 5, 4)), np.tri(4, dtype=bool))
except ValueError as error:
    print(f"with a mask made for 4 places, on 5: {error}")
else:
    raise AssertionError("a mask of 4 x 4 should not fit 5 x 5 scores")

# %% A common mistake: "the decoder's keys and values come from the encoder"
# It is often written so, and holds for one of a decoder layer's two attentions. In the other, the masked one, the decoder's own
# states are queries, keys and values. Were they the encoder's there too, no place could know what has been said before it:
own, cross = MultiHead(8, 2, rng, np.float64), MultiHead(8, 2, rng, np.float64)


def decoder_layer(y, memory):
    y = y + own(y, y, y, np.tri(y.shape[1], dtype=bool))
    return y + cross(y, memory, memory)


def as_believed(y, memory):
    y = y + own(y, memory, memory)
    return y + cross(y, memory, memory)


print("\nwhich of 5 decoder inputs does the fourth output feel, and which of the encoder's 9?")
for layer, expected in ((decoder_layer, [1, 1, 1, 1, 0]), (as_believed, [0, 0, 0, 1, 0])):
    inputs = [tn.Tensor(y[:1]), tn.Tensor(memory[:1])]
    felt = [np.any(g[0] != 0, axis=-1).astype(int) for g in tn.gradients(np.sum(layer(*inputs)[0, 3] ** 2), inputs)]
    print(f"    {layer.__name__:14} {felt[0]}   {felt[1]}")
    assert np.array_equal(felt[0], expected) and felt[1].all()

# %% A question people leave open: what enters the decoder, and must the lengths agree?
# In training: the answer, moved one place to the right behind a token that begins, so that place t holds what was said before t. In use:
# what the model itself has said. Nine source tokens, five of the target, in the whole Transformer of 2017:
model = tn.frozen(transformer.Transformer(transformer.Config.tiny(dtype=np.float64), np.random.default_rng(8)))
c = model.config
src = np.random.default_rng(1).integers(3, c.vocabulary, (1, 9))
said = transformer.generate(model, src, longest=5)
enters = transformer.shifted(said, c.bos)
again = np.argmax(model(src, enters)[..., c.bos + 1 :], axis=-1) + c.bos + 1  # never PAD or BOS, as in `generate`
print(f"\nthe model said {said[0]}; behind BOS = {c.bos} that is {enters[0]}, and read all at once it says {again[0]} again")
assert np.array_equal(again, said)
filled = np.concatenate([src, np.full((1, 4), c.pad)], axis=1)
assert np.allclose(model(filled, enters), model(src, enters), rtol=0, atol=1e-12)
print(f"{src.shape[1]} source tokens or {filled.shape[1]} with padding, {enters.shape[1]} target tokens: the same logits")


# %% A common mistake: "shared key heads save arithmetic"
# A cache for writing holds the keys and values of all earlier tokens, for each head, and every new token reads all of it. Grouped-query
# attention (Ainslie et al. 2023) lets nh query heads share nkv key heads; with one for all it is multi-query (Shazeer 2019).
# It is often written that this reduces the computation of attention. Count it: multiplications, and bytes of the cache.
def product(a, b):
    tally["multiply-adds"] += math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * a.shape[-2] * a.shape[-1] * b.shape[-1]
    return a @ b


B, nh, T, S, hd = 2, 8, 1, 256, 16
q = rng.normal(size=(B, nh, T, hd)).astype(np.float32)
print(
    f"\none new token, {S} in the cache, {nh} query heads"
    "\n    key heads   multiply-adds of scores and means   bytes of keys and values   multiply-adds of their projections"
)
table = {}
for nkv in (8, 4, 2, 1):
    k, v = rng.normal(size=(2, B, nkv, S, hd)).astype(np.float32)
    tally = {"multiply-adds": 0}
    groups = q.reshape(B, nkv, nh // nkv, T, hd)  # neighbours share
    p = F.softmax(product(groups, np.swapaxes(k, -1, -2)[:, :, None]) / math.sqrt(hd))  # (B, nkv, nh / nkv, T, S)
    y = product(p, v[:, :, None]).reshape(B, nh, T, hd)
    assert np.allclose(y, F.scaled_dot_product_attention(q, k, v), atol=1e-5)
    assert np.allclose(y, attention(q, *(np.repeat(x, nh // nkv, axis=1) for x in (k, v))), atol=1e-5)  # the same as with copies
    table[nkv] = tally["multiply-adds"], k.nbytes + v.nbytes
    print(f"    {nkv:9} {table[nkv][0]:35,} {table[nkv][1]:26,} {2 * B * T * nh * hd * nkv * hd:36,}")
    assert table[nkv] == (table[8][0], table[8][1] * nkv // 8)
# Every query head still meets every key. What falls, by nh / nkv, is memory and what must be read from it for each token, which is what
# writing waits for. (The two projections shrink as well; they do not grow with S.)

# %% Attention contains convolution
# Cordonnier, Loukas, Jaggi (2020): let a head's scores depend on places only, s_ij = -a |(place_j - place_i) - shift|^2. For large a
# its softmax is 1 at one neighbour and 0 elsewhere: the head fetches the pixel at `shift`. K^2 heads fetch a K x K neighbourhood,
# and W_o mixes them as a kernel does. Images and kernels are whole numbers here, so that equal means equal.
H = W = 8
places = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)  # (H W, 2)
shifts = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)], float)  # (nh, 2)


def fetches(shifts, sharpness):
    """Where heads look, by places alone: (nh, H W, H W)."""
    off = places - places[:, None] - shifts[:, None, None]  # (nh, H W, H W, 2)
    return F.softmax(-sharpness * np.sum(off**2, axis=-1))


image = rng.integers(-9, 10, (3, H, W)).astype(float)
kernel = rng.integers(-9, 10, (2, 3, 3, 3)).astype(float)
mix = kernel.reshape(2, 3, 9)  # (out, in, nh): what W_v and W_o of each head do
convolved = F.conv2d(image[None], kernel, padding=1)[0]
replicated = F.conv2d(np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")[None], kernel)[0]
print(
    "\nnine heads against a 3 x 3 convolution: the largest difference"
    "\n    sharpness   inner pixels   all, zeros around   all, the border repeated"
)
for sharpness in (0.5, 2.0, 8.0, 50.0):
    heads = np.einsum("hij,cj->hci", fetches(shifts, sharpness), image.reshape(3, -1))  # (nh, in, H W)
    attended = np.einsum("och,hci->oi", mix, heads).reshape(2, H, W)
    inner, whole, edge = (np.abs(d).max() for d in ((attended - convolved)[:, 1:-1, 1:-1], attended - convolved, attended - replicated))
    print(f"    {sharpness:9} {inner:14.3g} {whole:19.3g} {edge:26.3g}")
assert inner == 0 and edge == 0 and whole > 1
# Beyond the border there is no pixel to look at, and the softmax must look somewhere: it takes the nearest. So it is a convolution
# with the border repeated.

# %% A common mistake: "in a CNN, self-attention is limited to a learnable receptive field"
# It is often written in this order. The other way round: a CNN is attention whose field is small, the same for all, and fixed by hand;
# attention learns its field, and a fixed small one is what it can choose. Two heads that know nothing are given images and
# what a convolution made of them, x(r, c + 2) - x(r - 1, c) / 2, and find the two shifts.
field = {
    "shifts": tn.Tensor(0.1 * rng.normal(size=(2, 2))),
    "sharpness": tn.Tensor(np.array([-1.5])),
    "mix": tn.Tensor(np.array([0.5, -0.5])),
}
inside = np.zeros((H, W), bool)
inside[1:, :-2] = True


def loss_of_field(field, B=16):
    x = rng.normal(size=(B, H, W))
    y = np.roll(x, -2, axis=2) - 0.5 * np.roll(x, 1, axis=1)
    heads = np.einsum("hij,bj->hbi", fetches(field["shifts"], np.exp(field["sharpness"])), x.reshape(B, -1))
    return np.mean((np.einsum("h,hbi->bi", field["mix"], heads).reshape(B, H, W) - y)[:, inside] ** 2)


before = fetches(*(np.array(x) for x in (field["shifts"].value, np.exp(field["sharpness"].value))))
optimizer = optim.Adam(field, lr=0.05)
for _ in tqdm(range(20 if QUICK else 400), desc="learning a field", unit="step", disable=None):
    loss = loss_of_field(field)
    optimizer.step(tn.gradients(loss, field, unused="raise"))
found = tn.frozen(field)
learned = fetches(found["shifts"], np.exp(found["sharpness"]))
print(f"\nlearned shifts {found['shifts'].round(2).tolist()}, mixed with {found['mix']}; mean square error {loss.item():.1e}")
if FULL:
    assert {tuple(shift) for shift in found["shifts"].round()} == {(0, 2), (-1, 0)} and loss.item() < 1e-2

# %% How much can the weights say? Their rank
# With narrow heads, the T x T scores have rank hd at most, and the softmax of small scores is nearly one row, repeated. With the causal
# mask each row has another number of places to share among; and a triangle with a positive diagonal has full rank, whatever the scores.
q, k = 0.3 * rng.normal(size=(2, 64, 2))
spectra = {}
print("\n64 queries and keys, 2 wide     numerical rank (1e-6)   effective rank")
for name, may in (("bidirectional", True), ("causal", np.tri(64, dtype=bool))):
    p = weights(q, k, may)
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


def hidden_late(q, k, v):
    return (weights(q, k) * may) @ v


def hidden_late_and_divided(q, k, v):
    p = weights(q, k) * may
    return p / np.sum(p, axis=-1, keepdims=True) @ v


def hidden_before(q, k, v):
    return attention(q, k, v, may)


# Cutting into heads without the transposition: the shapes fit, and a "head" is a stretch of time. Only a test of what feels what notices.
class Scrambled(MultiHead):
    def split(self, x):
        B, S, C = x.shape
        return x.reshape(B, self.heads, S, C // self.heads)


def future(f):
    """The largest gradient from an output to a later input: of f (1, T, C) -> (1, T, C)."""
    x = tn.Tensor(rng.normal(size=(1, T, 8)))
    return max(np.abs(tn.gradients(np.sum(f(x)[0, i] ** 2), x)[0, i + 1 :]).max() for i in range(T - 1))


scrambled = Scrambled(8, 2, np.random.default_rng(1), np.float64)
leaks = {f.__name__: future(lambda x, f=f: f(x, x, x)) for f in (hidden_before, hidden_late, hidden_late_and_divided)}
leaks |= {"heads": future(lambda x: ours(x, x, x, may)), "heads, not transposed": future(lambda x: scrambled(x, x, x, may))}
print("\nthe largest gradient from an output to a later input")
for name, leak in leaks.items():
    print(f"    {name.replace('_', ' '):24} {leak:.1e}")
assert leaks["hidden_before"] == leaks["heads"] == 0
assert leaks["hidden_late"] > 1e-3 and leaks["heads, not transposed"] > 1e-3
assert leaks["hidden_late_and_divided"] < 1e-12  # divided again, it is the same function, and rounds a little; why not then? exercise 4

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
    centre = (H // 2) * W + W // 2
    fixed, at_first, at_last = ([m[centre].reshape(H, W) for m in maps] for maps in (fetches(shifts, 50.0), before, learned))
    panels = {}
    for row, others, name in ((0, at_first, "at first"), (1, at_last, "learned"), (2, [], "")):
        panels |= {f"shift {tuple(map(int, shifts[n]))}": fixed[n] for n in range(3 * row, 3 * row + 3)}
        panels |= {f"head {n + 1}, {name}": m for n, m in enumerate(others)}
    pictures.maps(options.out / "convolution.png", panels, size=1.5, rows=3, xlabel="")
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
    print(f"\nfigures: {options.out}/scale.png, heads.png, masks.png, leak.png, convolution.png, rank.png")

# %% Exercises
# 1. One head looks at tokens a and b with weights p and 1 - p, and a linear map shall find a for the first answer and b for the second.
#    Why can it not be right for (a, b) and for (b, a)?
# 2. Read the one head's output with a hidden layer, relu(x W + b), instead of a linear map. Does one head suffice now?
# 3. Why sqrt(d), and not d?
# 4. Hiding after the softmax and dividing again gave the right answer. Why does nobody do it?
# 5. Convolutions mostly put zeros around the image. What would the nine heads have to be given to do the same?
# 6. Which of the checks above does `Scrambled` pass? Which would have to be in the tests of a library?
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
# 4. Large hidden scores push the allowed ones out of range: with a hidden score 800 above the others these all become 0, and 0 / 0 is NaN.
#    And a hidden key that is NaN spoils the whole row.
# 5. Something of value 0 to look at: a ring of pixels of zeros around the image, as keys and values (not as queries).
# 6. Shapes, finite differences, and that it learns something. That no output feels a later input, and that two orders of the keys
#    give the same, it fails.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
