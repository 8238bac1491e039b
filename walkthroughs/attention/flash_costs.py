"""What FlashAttention costs and saves: memory, time, blocks that are never computed, and numbers that never move.

RUNNING TIME: 4 seconds (--quick: 2 seconds)

The claims of Dao et al. (2022), Rabe and Staats (2021) and Dao (2023), counted. You will see memory that grows with T and not with its square;
the time of both, and of PyTorch if it is installed; how many blocks a mask or a window leaves; how many numbers move to and from a
fast memory, by which loop is outside; and blocks that are too small.

Before it: walkthroughs/attention/flash.py, which derives the recurrence and reads the engine's kernel.

    python -m walkthroughs attention/flash_costs            the whole story
    python -m walkthroughs attention/flash_costs --quick    short sequences
"""

# %% Settings
import math
import time
import tracemalloc

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes.fused import attention as kernel
from walkthroughs.attention import _pictures as pictures
from walkthroughs.attention._twenty_lines import blocks, flash, fold, scores
from walkthroughs.options import options_of, parser_for

import numpy as np

try:
    import torch
except ImportError:
    torch = None

options = options_of(parser_for("attention/flash_costs", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()
np.set_printoptions(precision=3, suppress=True)

# %% The idea by hand
# T queries, T keys, blocks of B: the plain formula holds T^2 weights, the recurrence one block of B^2 scores and, for each of B queries, m, l and o.
# For T = 6, B = 2 and d = 3: 36 numbers against 4 + 2 (1 + 1 + 3) = 14; and for T = 600 it is still 14. Count them while they are there:
q, k, v = rng.normal(size=(3, 6, 3))
held = []
flash(q, k, v, (2, 2), fold=lambda m, l, o, s, v: (held.append(s.size + m.size + l.size + o.size), fold(m, l, o, s, v))[1])
print(f"6 queries and keys, 3 wide, in blocks of 2: {max(held)} numbers at a time, {len(held)} times; the weights are {6 * 6}")
assert set(held) == {4 + 2 * (1 + 1 + 3)} and len(held) == 9

# %% Memory
# The peak of forward and backward, inputs not counted: the kernel, and its plain twin, which the engine runs inside `tn.reference()`.
LENGTHS = (128, 256, 512) if QUICK else (256, 512, 1024, 2048)


def inputs(T, d=32):
    return [rng.normal(size=(1, T, d)).astype(np.float32) for _ in range(4)]


def forward_backward(q, k, v, dO, **options):
    tensors = [tn.Tensor(x) for x in (q, k, v)]
    return tn.gradients(np.sum(F.scaled_dot_product_attention(*tensors, **options) * dO), tensors)


def peak(work, *args, **options):
    tracemalloc.start()
    work(*args, **options)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def exponent(x, y):
    """b of the best y = a x^b."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]


peaks = {"blocks": [], "plain": []}
forward_backward(*inputs(8))  # what is made once is made now
for T in LENGTHS:
    x = inputs(T)
    peaks["blocks"].append(peak(forward_backward, *x, block=(64, 64)))
    with tn.reference():
        peaks["plain"].append(peak(forward_backward, *x))
grows = {name: exponent(LENGTHS, y) for name, y in peaks.items()}
print("\npeak memory, one head of 32, float32, in kB\n         T" + "".join(f"{T:10,}" for T in LENGTHS) + "    grows as")
for name, y in peaks.items():
    print(f"    {name:6}" + "".join(f"{x / 1e3:10,.0f}" for x in y) + f"     T^{grows[name]:.2f}")
a_position = np.diff(peaks["blocks"]) / np.diff(LENGTHS)  # bytes; the blocks themselves are the same for every T
print(
    f"    with blocks each further position costs {a_position[0]:.0f} to {a_position[-1]:.0f} bytes: y, L, the gradients of y, q, k and v,"
)
print(f"    and k and v with a column more, 7 * 32 + 3 = {7 * 32 + 3} numbers, are {4 * (7 * 32 + 3)} bytes")
assert abs(a_position[-1] / (4 * (7 * 32 + 3)) - 1) < 0.02
assert max(a_position) < 1.05 * min(a_position) and 1.8 < grows["plain"] < 2.1

# How few scores can be held? Rabe and Staats (2021): for N keys, sqrt(N) of them at a time. For N = 1024 and all queries at once:
held = []
q, k, v = rng.normal(size=(3, 1024, 8))
flash(q, k, v, (1024, 32), fold=lambda m, l, o, s, v: (held.append(s.size), fold(m, l, o, s, v))[1])
print(f"1024 queries and keys, {math.isqrt(1024)} keys at a time: {max(held):,} scores at once, of {1024**2:,}")
assert max(held) == 32 * 1024

# %% Time
# Both do T^2 work, and blocks do some of it twice; they win by staying in the processor's cache. Processor time, the best of three.
SIZES = (128, 256, 512) if QUICK else (256, 512, 1024, 2048, 4096)


def seconds(work, *args):
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        work(*args)
        best = min(best, time.process_time() - start)
    return max(best, 1e-6)


def by_torch(q, k, v, dO):
    tensors = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
    torch.nn.functional.scaled_dot_product_attention(*tensors).backward(torch.from_numpy(dO))


times = {"blocks": [], "plain": []}
if torch and FULL:
    torch.set_num_threads(1)
    times["PyTorch"] = []
for T in SIZES:
    x = inputs(T, 64)
    times["blocks"].append(seconds(forward_backward, *x))
    if T <= 2048:  # beyond, half a gigabyte
        with tn.reference():
            times["plain"].append(seconds(forward_backward, *x))
    if "PyTorch" in times:
        times["PyTorch"].append(seconds(by_torch, *(a[None] for a in x)))
print("\nforward and backward, one head of 64, float32, in ms\n          T" + "".join(f"{T:9,}" for T in SIZES) + "    grows as")
for name, y in times.items():
    fitted = exponent(SIZES[-len(y) :] if len(y) == len(SIZES) else SIZES[: len(y)], y)
    print(f"    {name:7}" + "".join(f"{1e3 * t:9.1f}" for t in y) + " " * 9 * (len(SIZES) - len(y)) + f"     T^{fitted:.2f}")
if torch is None:
    print("    (with PyTorch installed, its scaled_dot_product_attention would stand here)")

# %% What is never computed
# A causal mask hides the half, a window all but a band. A block that nobody may see need not be computed: T^2 / 2, and T * W. Counted
# in the twenty lines, and in the kernel, which finds the range of keys for each block of queries from the numbers alone.
B, W = 16, 64
TALL = (128, 256) if QUICK else (256, 512, 1024, 2048)


def visited(T, causal, window):
    """How many blocks of scores the kernel goes through."""
    mask = kernel.masked(T, T, causal=causal, window=window)
    return sum(-(-(last - first) // B) for first, last in (mask.keys(i, T) for i in blocks(T, B)))


def rule(T, causal, window):
    """The same as a mask (T, T)."""
    behind = np.arange(T)[:, None] - np.arange(T)
    return ((behind >= 0) | (not causal)) & (np.abs(behind) < (window or T))


count = {}
print(f"\nblocks of {B} x {B} that are computed\n                         T" + "".join(f"{T:8,}" for T in TALL) + "    grows as")
for name, rules in (("all", (False, None)), ("causal", (True, None)), (f"causal, window of {W}", (True, W))):
    count[name] = [visited(T, *rules) for T in TALL]
    print(f"    {name:22}" + "".join(f"{n:8,}" for n in count[name]) + f"     T^{exponent(TALL, count[name]):.2f}")
    folded = []
    q, k, v = rng.normal(size=(3, TALL[0], 2))
    flash(q, k, v, (B, B), rule(TALL[0], *rules), watch=lambda *state, folded=folded: folded.append(1))
    assert len(folded) == count[name][0]
n = np.array(TALL) // B
assert count["all"] == list(n**2) and count["causal"] == list(n * (n + 1) // 2)
assert np.all(np.array(count[f"causal, window of {W}"]) <= n * (W // B + 1))  # a window of W touches W / B + 1 blocks at most

# %% Which loop is outside?
# A common mistake: it is often written that FlashAttention goes over the keys outside and the queries inside. The paper of 2022 does, and
# must fetch and put back o, l and m of every query for every block of keys. FlashAttention-2 turns the loops round: o stays until it is
# done and is written once, and blocks of queries need nothing of each other. The result is the same; count what moves, for a fast memory
# of M numbers.


def keys_outside(q, k, v, size):
    """FlashAttention as published in 2022."""
    m, l, o = np.full((len(q), 1), -np.inf), np.zeros((len(q), 1)), np.zeros((len(q), v.shape[1]))
    for j in blocks(len(k), size[1]):
        for i in blocks(len(q), size[0]):
            m[i], l[i], o[i] = fold(m[i], l[i], o[i], scores(q, k, i, j, None), v[j])
    return o / l


q, k, v = rng.normal(size=(3, 20, 4))
assert np.abs(keys_outside(q, k, v, (3, 6)) - flash(q, k, v, (6, 3))[0]).max() < 1e-14


def moved(T, d, M):
    """Numbers read and written in slow memory by the forward pass: plain, keys outside, queries outside."""
    large = M // (4 * d)  # the paper's sizes: a block of the outer loop, and of the inner
    small = min(large, d)
    plain = 2 * T * d + T * T + 2 * T * T + T * T + 2 * T * d  # q, k -> S -> P; P, v -> y
    outside, inside = blocks(T, large), blocks(T, small)
    width = lambda block: block.stop - block.start
    keys = sum(2 * width(j) * d + sum(width(i) * (2 * d + 2) + width(i) * (d + 2) for i in inside) for j in outside)
    queries = sum(width(i) * d + sum(2 * width(j) * d for j in inside) + width(i) * (d + 1) for i in outside)
    return plain, keys, queries


MEMORIES = [2**n for n in range(13, 18)]
traffic = np.array([moved(4096, 64, M) for M in MEMORIES]).T
print("\nmillions of numbers moved, T = 4,096, d = 64\n    fast memory of M    " + "".join(f"{M:9,}" for M in MEMORIES) + "    grows as")
for name, row in zip(("plain", "keys outside", "queries outside"), traffic):
    print(f"    {name:20}" + "".join(f"{x / 1e6:9.1f}" for x in row) + f"     M^{exponent(MEMORIES, row):.2f}")
assert -1.05 < exponent(MEMORIES, traffic[1]) < -0.9, "the paper: T^2 d^2 / M"
assert np.all(traffic[2] < traffic[1])


# %% Break it: blocks that are too small
# Each block costs something whatever its size: in NumPy some dozen calls, on a GPU a trip to memory. With blocks of 8 x 8 that is most of the time.
T, small = 256 if QUICK else 512, {}
x = inputs(T)
print(f"\nforward and backward, T = {T}, in ms, by the blocks' size")
for size in (8, 32, 128, 512):
    small[size] = seconds(lambda size=size: forward_backward(*x, block=(size, size)))
    print(f"    {size:3} x {size:<3} {1e3 * small[size]:8.1f}")
if FULL:
    assert small[8] > 3 * small[128]

# %% Figures
if not options.no_plots:
    pictures.lines(
        options.out / "cost.png",
        [
            {
                "title": "peak memory, forward and backward",
                "x": "positions T",
                "y": "MB",
                "log": "xy",
                "ticks": LENGTHS,
                "lines": {
                    f"{name}: T^{grows[name]:.1f}": (LENGTHS, np.array(peaks[name]) / 1e6, "o-", colour)
                    for name, colour in (("plain", pictures.RED), ("blocks", pictures.BLUE))
                },
            },
            {
                "title": "processor time, forward and backward",
                "x": "positions T",
                "y": "ms",
                "log": "xy",
                "ticks": SIZES,
                "lines": {
                    name: (SIZES[: len(y)], 1e3 * np.array(y), "o-", colour)
                    for (name, y), colour in zip(times.items(), (pictures.BLUE, pictures.RED, pictures.GREEN))
                },
            },
            {
                "title": "numbers moved, T = 4,096, d = 64",
                "x": "numbers in fast memory",
                "y": "millions",
                "log": "xy",
                "ticks": MEMORIES[::2],
                "lines": {
                    name: (MEMORIES, row / 1e6, "o-", colour)
                    for name, row, colour in zip(
                        ("plain", "keys outside", "queries outside"), traffic, (pictures.RED, pictures.GREEN, pictures.BLUE)
                    )
                },
            },
        ],
    )
    panels = {}
    for name, rules in (("all", (False, None)), ("causal", (True, None)), ("causal, window of 64", (True, 64))):
        may = rule(256, *rules).reshape(16, 16, 16, 16).swapaxes(1, 2)
        panels[f"{name}: {np.sum(may.any((2, 3)))} blocks"] = 0.35 * may.any((2, 3)) + 0.65 * may.all((2, 3))
    pictures.maps(options.out / "skipped.png", panels, size=2.6, xlabel="block of keys", ylabel="block of queries", faint=False)
    print(f"\nfigures: {options.out}/cost.png, skipped.png")

# %% Exercises
# 1. How many bytes does a further position cost for a head of 64? Why is that not twice as many?
# 2. The memory in blocks grows as T^0.88, by the fit. Why less than 1?
# 3. Doubling which of the two block sizes makes less move when the loop over queries is outside? And with the loop over keys?
# 4. A window of W = 64 and blocks of B = 16: which part of the scores that are computed is hidden again?
# 5. Keys outside has one advantage on many processors when there is a single query, as in writing. Which?
#
# Answers
# 1. 4 (7 * 64 + 3) = 1,804: L and the two columns do not get wider.
# 2. The blocks themselves, some 80 kB, are the same for every T: a + b T grows more slowly than T while a counts.
# 3. That of the queries: all keys and values are fetched once for each block of queries, 2 T d times T / B_q. With keys outside, that of the keys.
# 4. A fifth: of five blocks, 16 x 80 scores, each query may see 64. The smaller the blocks, the less, and the more calls.
# 5. One query has a single block of queries, so that with queries outside there is nothing to share. Blocks of keys can be shared out, and their
#    (m, l, o) put together at the end: exercise 1 of walkthroughs/attention/flash.py.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
