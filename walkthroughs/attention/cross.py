"""Two sequences: who asks, who answers, and how long they are.

RUNNING TIME: 2 seconds (--quick: 2 seconds)

The attention between encoder and decoder of Vaswani et al. (2017), and the shared key heads of Shazeer (2019) and Ainslie et al. (2023). You
will see five queries that read nine keys; a layer that only ever worked because both lengths were the same; which inputs a decoder layer
feels, as it is and as it is often described; what enters the decoder; and what sharing key heads saves, counted. Three common
mistakes and a question that people leave open are put to the test on the way.

Before it: walkthroughs/attention/attention.py, which builds the layer, and walkthroughs/attention/masks.py. A whole encoder and decoder:
walkthroughs/language/transformer.py.

    python -m walkthroughs attention/cross            the whole story
    python -m walkthroughs attention/cross --quick    the same: it trains nothing
"""

# %% Settings
import math
import time

import tinygrad_notes as tn
from models.language import transformer
from tinygrad_notes import check, nn
from tinygrad_notes import functional as F
from walkthroughs.attention import _pictures as pictures
from walkthroughs.attention._reader import felt
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("attention/cross", __doc__))
rng = np.random.default_rng(options.seed)
began = time.process_time()
np.set_printoptions(precision=3, suppress=True)

# %% The idea by hand
# Queries from one sequence, keys and values from another. Two places of an answer read three places of a question: the weights are 2 x 3, one
# row for each query, and each row sums to 1. (The columns need not: a place of the question may be read by all or by none.)
q = np.log([[2.0, 1, 1], [1, 1, 6]]) * math.sqrt(3)  # T = 2 queries, d = 3
k = np.eye(3)  # S = 3 keys
v = np.array([[4.0, 0], [0, 8], [8, 8]])  # and their values, 2 wide
p = F.softmax(q @ k.T / math.sqrt(3))
print(f"weights of 2 queries (rows) on 3 keys\n{p}\nand the means of the values that they take\n{p @ v}")
assert np.allclose(p, [[2 / 4, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 6 / 8]])
assert np.allclose(p @ v, [[4, 4], [6.5, 7]])

# %% Two lengths
# The scores are T x S, so nothing asks for T = S; only keys and values come in pairs. Five words of an answer read nine words of a
# question, in the engine's layer, which needs no word more for it than for self-attention:
ours = nn.MultiHeadAttention(8, 2, rng=np.random.default_rng(1), dtype=np.float64)
y, memory = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 9, 8))
print(f"\n5 queries {y.shape}, 9 keys {memory.shape}: output {ours(y, memory).shape}; 9 queries, 5 keys: output {ours(memory, y).shape}")
assert ours(y, memory).shape == y.shape and ours(memory, y).shape == memory.shape
check.check_grads(lambda y, memory: np.tanh(ours(y, memory)), y, memory)
# In another order, the queries' answers come in that order; the order of what is read does not matter, since no key knows its place.
back, order = [4, 3, 2, 1, 0], [3, 0, 8, 1, 7, 2, 6, 4, 5]
assert np.allclose(ours(y[:, back], memory).value, ours(y, memory)[:, back].value, rtol=0, atol=1e-14)
assert np.allclose(ours(y, memory[:, order]).value, ours(y, memory).value, rtol=0, atol=1e-14)


# %% A common mistake: one length for all
# It is often written, in code, that keys and values have the queries' length: `B, T, C = query.shape` in the first line, and `T`
# in every reshape below. In self-attention that is true, so no test of self-attention notices.
class OneLength(nn.MultiHeadAttention):
    def __call__(self, query, key, value):
        B, T, C = query.shape
        maps = (self.q_proj, query), (self.k_proj, key), (self.v_proj, value)
        q, k, v = (np.swapaxes(f(x).reshape(B, T, self.heads, C // self.heads), 1, 2) for f, x in maps)
        return self.out_proj(np.swapaxes(F.scaled_dot_product_attention(q, k, v), 1, 2).reshape(B, T, C))


wrong = OneLength(8, 2, rng=np.random.default_rng(1), dtype=np.float64)
assert np.array_equal(wrong(y, y, y).value, ours(y).value)
try:
    wrong(y, memory, memory)
except ValueError as error:
    print(f"\nwith the queries' length in every reshape: {error}")
else:
    raise AssertionError("9 keys should not fit in 5 places")

# A mask that is made once, L x L, when the layer is, is the same mistake: it fits no other length. Made from T and S when they are known,
# it costs nothing, and it is no weight, to be saved or moved with the others.
try:
    ours(y, mask=np.tri(4, dtype=bool))
except ValueError as error:
    print(f"with a mask made for 4 places, on 5: {error}")
else:
    raise AssertionError("a mask of 4 x 4 should not fit 5 x 5 scores")

# %% A common mistake: "the decoder's keys and values come from the encoder"
# It is often written so, and holds for one of a decoder layer's two attentions. In the other, the masked one, the decoder's own
# states are queries, keys and values. Were they the encoder's there too, no place could know what has been said before it:
own, cross = (nn.MultiHeadAttention(8, 2, rng=rng, dtype=np.float64) for _ in range(2))


def decoder_layer(y, memory):
    y = y + own(y, causal=True)
    return y + cross(y, memory)


def as_believed(y, memory):
    y = y + own(y, memory)
    return y + cross(y, memory)


feels = {layer.__name__: felt(layer, y[:1], memory[:1]) for layer in (decoder_layer, as_believed)}
print("\nwhich of 5 decoder inputs does the fourth output feel, and which of the encoder's 9?")
for name, (of_own, of_memory) in feels.items():
    print(f"    {name:14} {(of_own[3] != 0).astype(int)}   {(of_memory[3] != 0).astype(int)}")
    assert np.array_equal(of_own != 0, np.tri(5, dtype=bool) if name == "decoder_layer" else np.eye(5, dtype=bool))
    assert (of_memory != 0).all()

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
    copies = [np.repeat(x, nh // nkv, axis=1) for x in (k, v)]
    assert np.allclose(y, F.scaled_dot_product_attention(q, *copies), atol=1e-5)  # the same as with copies
    table[nkv] = tally["multiply-adds"], k.nbytes + v.nbytes, 2 * B * T * nh * hd * nkv * hd
    print(f"    {nkv:9} {table[nkv][0]:35,} {table[nkv][1]:26,} {table[nkv][2]:36,}")
    assert table[nkv][:2] == (table[8][0], table[8][1] * nkv // 8)

# Every query head still meets every key. What falls, by nh / nkv, is memory and what must be read from it for each token, which is what
# writing waits for. (The two projections shrink as well; they do not grow with S.)

# %% Figures
if not options.no_plots:
    panels = {}
    for name, matrices in feels.items():
        for m, whose in zip(matrices, ("decoder's inputs", "encoder's outputs")):
            panels[f"{name.replace('_', ' ')}: the {whose}"] = m / m.max()
    pictures.maps(options.out / "felt.png", panels, size=3.1, xlabel="place that is felt", ylabel="place of the output")
    shared = ("multiply-adds of scores and means", "bytes of keys and values", "multiply-adds of their projections")
    pictures.lines(
        options.out / "shared.png",
        [
            {
                "title": f"{nh} query heads, {S} keys: by the number of key heads",
                "x": "key heads",
                "y": "of what it is with 8",
                "log": "x",
                "ticks": list(table),
                "limits": {"ylim": (0, 1.08)},
                "lines": {
                    name: (list(table), [row[n] / table[8][n] for row in table.values()], style, colour)
                    for n, (name, style, colour) in enumerate(
                        zip(shared, ("o-", "o-", "s--"), (pictures.RED, pictures.BLUE, pictures.GREY))
                    )
                },
            }
        ],
    )
    print(f"\nfigures: {options.out}/felt.png, shared.png")

# %% Exercises
# 1. A decoder writes token by token. Which keys and values of its two attentions can be kept from one token to the next, and how many numbers is
#    that in a layer, after T tokens of an answer to a question of S?
# 2. Give a cross-attention of 5 queries and 9 keys `causal=True`. What may each query see, and why is that nonsense here?
# 3. How many parameters does a layer of width C with nh heads lose when its key heads become one?
# 4. Why do no more keys than values, or the other way round, make sense? And why may a value be wider than its key?
#
# Answers
# 1. All of them. Those of the cross-attention are computed once: 2 S C. Those of the other grow by 2 C with each token: 2 T C. Without a cache
#    they are computed again for each token.
# 2. The last query stands where the last key does: query i sees keys 0 to 4 + i. A rule about places that are earlier needs both sequences to
#    have the same places; place 3 of an answer is not earlier than place 7 of its question.
# 3. Keys and values are mapped to C / nh instead of to C numbers, each with a bias: 2 (C + 1) (C - C / nh) fewer.
# 4. p_ij says how much of v_j is taken, and is computed from k_j: they are two sides of one thing. But keys meet queries and values meet only
#    each other, so q and k share a width, v and y another.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
