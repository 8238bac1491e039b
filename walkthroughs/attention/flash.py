"""FlashAttention: exact attention that never holds its weights, derived, watched block by block, and read in the engine.

RUNNING TIME: 10 seconds (--quick: 3 seconds)

You will see a softmax computed without ever seeing all of its inputs, from one number to blocks; 20 lines of NumPy that
agree with the plain formula to the last digits, gradients too, in memory that grows with T and not with its square; the engine's own
kernel, which is these lines with a few tricks; what blocks, windows and masks save, counted; and the mistakes that most tests do
not notice.

    python -m walkthroughs attention/flash            the whole story
    python -m walkthroughs attention/flash --quick    the mechanics only
"""

# %% Settings
import inspect
import math
import time
import tracemalloc

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes.fused import attention as kernel
from walkthroughs.attention import _pictures as pictures
from walkthroughs.options import options_of, parser_for

import numpy as np

try:
    import torch
except ImportError:
    torch = None

options = options_of(parser_for("attention/flash", __doc__))
QUICK, FULL = options.quick, not options.quick
rng = np.random.default_rng(options.seed)
began = time.process_time()
np.set_printoptions(precision=3, suppress=True)

# %% What there is to save
# Attention is y = P v with P = softmax(S), S = q k^T / sqrt(d). P has T^2 numbers, and nobody wants them: y has T d. A GPU that writes P to
# memory and reads it back spends more time on that than on the products (Dao et al. 2022); one that is short of memory stops.
for T in (1024, 16384):
    print(f"T = {T:6,}, 12 heads of 64: the weights take {12 * T * T * 4 / 2**20:9,.0f} MB, the answer {12 * T * 64 * 4 / 2**20:4.0f} MB")

# %% One number at a time
# A softmax first needs the maximum m of all scores (so that e^s cannot overflow), then the sum l of all e^(s - m), then the weights:
# three passes. Milakov and Gimelshein (2018) do it in one, by keeping m and l of what has been seen. When a larger score comes,
# what was summed with the old maximum is wrong by a factor that is known, e^(m_old - m_new):
#
#     (1)  m' = max(m, s)
#     (2)  l' = e^(m - m') l + e^(s - m')
#     (3)  o' = e^(m - m') o + e^(s - m') v         at the end  y = o / l
#
# (3) is why it is useful for attention: a mean with weights that are not known yet. For scores log 1, log 4, log 2 and values 7, 14, 21:
m, l, o = -math.inf, 0.0, 0.0
print("\nscore of   m, as log of     l = sum e^(s - m)     o = sum e^(s - m) v      o / l")
for weight, v in ((1, 7.0), (4, 14.0), (2, 21.0)):
    s = math.log(weight)
    m_new = max(m, s)
    keep, p = math.exp(m - m_new), math.exp(s - m_new)
    m, l, o = m_new, keep * l + p, keep * o + p * v
    print(f"log {weight} {math.exp(m):12.0f} {l:20.2f} {o:23.2f} {o / l:14.2f}")
assert math.isclose(o / l, (1 * 7 + 4 * 14 + 2 * 21) / 7)


# %% Twenty lines
# The same for a block of queries and a block of keys at a time (FlashAttention, Dao et al. 2022; the loop over queries outside, as in
# FlashAttention-2, Dao 2023). m and l are columns, one number for each query, o has a row for each; the largest thing is one block.
def fold(m, l, o, s, v):
    """Equations 1 to 3 for a block: scores s (Br, Bc), values v (Bc, vd); m, l (Br, 1), o (Br, vd) of what has been seen."""
    m_new = np.maximum(m, np.max(s, axis=1, keepdims=True))
    shift = np.where(m_new == -np.inf, 0, m_new)  # a row that has seen nothing yet: e^(-inf - 0) = 0, and not NaN
    keep, p = np.exp(m - shift), np.exp(s - shift)
    return m_new, keep * l + np.sum(p, axis=1, keepdims=True), keep * o + p @ v


def blocks(n, size):
    """0 .. n in slices; the last one may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def scores(q, k, i, j, may):
    s = q[i] @ k[j].T / math.sqrt(q.shape[1])
    return s if may is None else np.where(may[i, j], s, -np.inf)


def flash(q, k, v, size=(3, 3), may=None, fold=fold, watch=None):
    """q (T, d), k (S, d), v (S, vd), may (T, S) bool or None -> y (T, vd) and L (T, 1), the log of each row's sum of e^s."""
    y, L = np.empty((len(q), v.shape[1]), q.dtype), np.empty((len(q), 1), q.dtype)
    for i in blocks(len(q), size[0]):
        n = i.stop - i.start
        m, l, o = np.full((n, 1), -np.inf, q.dtype), np.zeros((n, 1), q.dtype), np.zeros((n, v.shape[1]), q.dtype)
        for j in blocks(len(k), size[1]):
            if may is not None and not may[i, j].any():
                continue  # a block that nobody may see is never computed
            m, l, o = fold(m, l, o, scores(q, k, i, j, may), v[j])
            if watch:
                watch(i, j, m, l, o)
        some = l > 0
        y[i], L[i] = o / np.where(some, l, 1), np.where(some, m + np.log(np.where(some, l, 1)), -np.inf)
    return y, L


def dense(q, k, v, may=True):
    """The plain formula; runs on Tensors, so that the engine differentiates it."""
    return F.softmax(np.where(may, q @ k.T / math.sqrt(q.shape[1]), -np.inf)) @ v


# %% Watch it: eight positions in blocks of three
# Ragged: 8 = 3 + 3 + 2. The keys are put in order such that the best one comes last: every block has to correct what came before.
T, d = 8, 4
q, k, v = rng.normal(size=(3, T, d))
k = k[np.argsort(k @ q[0])]
watched, frames = (q, k, v), []
y, L = flash(q, k, v, watch=lambda i, j, m, l, o: frames.append((i, j, m.copy(), l.copy(), o.copy())))
print("\nquery 0, block by block    m        l        o                                 o / l")
for _, j, m, l, o in frames[:3]:
    print(f"    keys {j.start} to {j.stop - 1}    {m[0, 0]:9.3f}{l[0, 0]:9.3f}    {o[0]!s:32}  {o[0] / l[0]}")
truth = dense(q, k, v)
print(f"    all at once, as in the formula {truth[0]!s:>59}")
assert [(i.stop - i.start, j.stop - j.start) for i, j, *_ in frames] == [(3, 3), (3, 3), (3, 2)] * 2 + [(2, 3), (2, 3), (2, 2)]
assert np.all(np.diff([m[0, 0] for *_, m, _, _ in frames[:3]]) > 0)
assert np.abs(y - truth).max() < 1e-12


# %% Backwards, without the weights
# The forward pass kept y and one number for each query, L = m + log l. That is enough: P = e^(S - L), block by block, again. Computing
# S a second time costs less than fetching P from memory. With dO the gradient that comes in and O = y:
#
#     (4)  dv = P^T dO,     dP = dO v^T                     from O = P v
#     (5)  dS = P * (dP - rowsum(P * dP))                   from P = softmax(S), row by row
#     (6)  dq = dS k / sqrt(d),     dk = dS^T q / sqrt(d)   from S = q k^T / sqrt(d)
#
# The sum in (5) runs over all keys, so it seems to need a whole row of P. But
#
#     rowsum(P * dP)_i = sum_j P_ij sum_c dO_ic v_jc = sum_c dO_ic sum_j P_ij v_jc = sum_c dO_ic O_ic
#
# D = rowsum(dO * O) is known before the first block.
def flash_backward(dO, q, k, v, y, L, size=(3, 3), may=None):
    dq, dk, dv = (np.zeros_like(x) for x in (q, k, v))
    D = np.sum(dO * y, axis=1, keepdims=True)
    L = np.where(np.isneginf(L), 0, L)  # rows without keys: e^(-inf - 0) = 0
    for i in blocks(len(q), size[0]):
        for j in blocks(len(k), size[1]):
            if may is not None and not may[i, j].any():
                continue
            p = np.exp(scores(q, k, i, j, may) - L[i])
            dv[j] += p.T @ dO[i]
            ds = p * (dO[i] @ v[j].T - D[i]) / math.sqrt(q.shape[1])
            dq[i] += ds @ k[j]
            dk[j] += ds.T @ q[i]
    return dq, dk, dv


# %% Check it
# Against the plain formula and its gradients by the engine, for lengths that no block divides and masks of every kind.
def gap(T, S, size, may=None, d=4, vd=5):
    """The largest difference of output and gradients."""
    q, k, v, dO = (3 * rng.normal(size=shape) for shape in ((T, d), (S, d), (S, vd), (T, vd)))
    y, L = flash(q, k, v, size, may)
    tensors = [tn.Tensor(x) for x in (q, k, v)]
    truth = dense(*tensors, True if may is None else may)
    pairs = zip(flash_backward(dO, q, k, v, y, L, size, may), tn.gradients(np.sum(dO * truth), tensors))
    return max(np.abs(a - b).max() for a, b in [(y, truth.value), *pairs])


place = np.arange(17)
masks = {
    "none": None,
    "causal": np.tri(17, dtype=bool),
    "window of 4": np.abs(place[:, None] - place) < 4,
    "at random": rng.random((17, 17)) < 0.4,
    "some rows see nothing": np.tri(17, k=-3, dtype=bool),
}
print(
    "\nblocks against the plain formula, the largest difference of output and gradients"
    "\n    mask                    (1, 1)     (3, 3)     (5, 2)   (64, 64)"
)
worst = 0
for name, may in masks.items():
    row = [gap(17, 17, size, may) for size in ((1, 1), (3, 3), (5, 2), (64, 64))]
    worst = max(worst, *row)
    print(f"    {name:21}" + "".join(f"{x:11.0e}" for x in row))
worst = max(worst, gap(7, 19, (4, 6)), gap(19, 7, (4, 6)))
assert worst < 1e-12
q, k, v, dO = rng.normal(size=(4, 9, 4))
p = F.softmax(q @ k.T / 2)
assert np.allclose(np.sum(p * (dO @ v.T), axis=1), np.sum(dO * (p @ v), axis=1), rtol=0, atol=1e-14)
print(f"and 7 queries on 19 keys, 19 on 7: at most {worst:.0e}; rowsum(P * dP) = rowsum(dO * O)")

# %% The engine's kernel, line by line
# tinygrad_notes/fused/attention.py is this recurrence. Beside the lines above stand its own, as they are in the file.
reading = {
    "forward": [
        ("m_new = np.maximum(m, s.max(axis=-1, keepdims=True))", "(1)"),
        ("shift = np.where(m_new == -np.inf, 0, m_new)", "a row that has seen nothing yet"),
        ("v1 = with_column(v, 1)", "values and a column of ones: P times that is l, so that (2) and (3) are one line"),
        ("o *= np.exp(m - shift)", "the rescale, of o and of its last column, l"),
        ("o += np.matmul(p, v1[n, :, j])", "(2) and (3)"),
        ("np.divide(o[..., :-1], l, out=y[n, :, i])", "y = o / l"),
        ("np.add(m, np.log(l), out=L[n, :, i])", "L = m + log l"),
        ("no_maximum = T > 1 and calm(q, k, bias, scale)", "if |q| |k| is small, no e^s can overflow: m = 0, and no rescale"),
        ("first, last = mask.keys(i, S)", "blocks outside a window, or later than all queries, are not even asked for"),
    ],
    "backward": [
        ("D = sum_of_rows(dy[n, :, i] * y[n, :, i])", "D = rowsum(dO * O)"),
        ("with_column(q[n, :, i] * scale, -L[n, :, i])", "-L beside q and ones beside k: their product is S - L"),
        ("p = np.exp(s, out=s)", "P = e^(S - L), again"),
        ("ds *= p", "(5): -D stood beside dO, so ds was dP - D"),
        ("dq[n, :, i] += np.matmul(ds, k[n, :, j])", "(6)"),
    ],
}
for function, quotes in reading.items():
    source = inspect.getsource(getattr(kernel, function))
    print(f"\n{function}")
    for quote, meaning in quotes:
        assert quote in source, f"the kernel has changed: it has no line {quote!r} any more; mend this table"
        print(f"    {quote:55} {meaning}")

# The trick of the columns, on numbers: one product instead of a product and a sum.
p, v = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0], [20.0]])
assert np.array_equal(p @ np.hstack([v, np.ones((2, 1))]), np.hstack([p @ v, p.sum(axis=1, keepdims=True)]))


# And the same numbers, to rounding. With scores of a few units the kernel needs no maximum; with scores of some hundreds it does.
def by_kernel(q, k, v, dO, **mask):
    """y, dq, dk, dv of the engine's kernel, one head."""
    tensors = [tn.Tensor(x[None]) for x in (q, k, v)]
    y = F.scaled_dot_product_attention(*tensors, block=(32, 32), **mask)
    return [x[0] for x in (y.value, *tn.gradients(np.sum(y * dO), tensors))]


def by_twenty_lines(q, k, v, dO, may):
    y, L = flash(q, k, v, (32, 32), may)
    return [y, *flash_backward(dO, q, k, v, y, L, (32, 32), may)]


def by_formula(q, k, v, dO, may):
    tensors = [tn.Tensor(x) for x in (q, k, v)]
    y = dense(*tensors, may)
    return [y.value, *tn.gradients(np.sum(y * dO), tensors)]


def difference(found, truth):
    """The largest of output and gradients, each by the largest number in it."""
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, truth))


tri = np.tri(150, dtype=bool)
print("\n150 positions, causal, blocks of 32; differences to the formula in extended precision, by the largest number")
print("    largest score   type       formula    twenty lines   kernel")
for factor in (1.0, 6.0):
    exact = [
        x.astype(np.float32).astype(np.longdouble) for x in rng.normal(size=(4, 150, 16)) * np.array([factor, factor, 1, 1])[:, None, None]
    ]
    largest = float(np.abs(exact[0] @ exact[1].T).max() / 4)
    p = np.exp(np.where(tri, exact[0] @ exact[1].T / 4, -np.inf))
    p = p / p.sum(axis=1, keepdims=True)
    dP = exact[3] @ exact[2].T
    dS = p * (dP - np.sum(p * dP, axis=1, keepdims=True)) / 4
    truth = [p @ exact[2], dS @ exact[1], dS.T @ exact[0], p.T @ exact[3]]
    for dtype in (np.float64, np.float32):
        small = [x.astype(dtype) for x in exact]
        found = by_formula(*small, tri), by_twenty_lines(*small, tri), by_kernel(*small, causal=True)
        errors = [float(difference(x, truth)) for x in found]
        print(f"    {largest:13.0f}   {np.dtype(dtype).name} {errors[0]:10.0e} {errors[1]:15.0e} {errors[2]:8.0e}")
        assert max(errors) < 2 * (largest + 8) * np.finfo(dtype).eps  # a score s is known to s * eps, and so is e^s
        assert {x.dtype for x in found[2]} == {np.dtype(dtype)}

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
print(f"    with blocks each further position costs {a_position[0]:.0f} to {a_position[-1]:.0f} bytes: y, L, three gradients, k and v")
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


# %% Large scores, in float32
# e^89 is more than float32 holds. The plain quotient of sums fails at scores of size 100, which a trained model reaches; with the
# running maximum nothing is ever larger than e^0.
q, k, v, dO = rng.normal(size=(4, 64, 16)).astype(np.float32)
q *= 100 / np.max(q @ k.T / 4, axis=1, keepdims=True)
s = q @ k.T / 4  # the largest of each row is 100
with np.errstate(over="ignore", invalid="ignore"):
    e = np.exp(s)
    naive = e @ v / np.sum(e, axis=1, keepdims=True)
y = flash(q, k, v, (16, 16))[0]
large = [q.astype(np.float64), k.astype(np.float64), v.astype(np.float64)]
print(f"\nscores up to {s.max():.0f} in float32: of {len(naive)} rows {np.isnan(naive).any(axis=1).sum()} are NaN without a maximum,")
print(f"    {np.isnan(y).any(axis=1).sum()} with it; the largest error is {np.abs(y - flash(*large)[0]).max():.0e}")
assert np.isnan(naive).any() and np.abs(y - flash(*large)[0]).max() < 200 * np.finfo(np.float32).eps


# %% Break it, and see who notices
# Eight mistakes that are easily made, and five tests. What matters is not how many tests there are.
def without_rescale_of_o(m, l, o, s, v):
    m_new, l_new, o_new = fold(m, l, 0 * o, s, v)
    return m_new, l_new, o + o_new


def without_rescale_of_l(m, l, o, s, v):
    m_new, l_new, o_new = fold(m, 0 * l, o, s, v)
    return m_new, l + l_new, o_new


def stale_maximum(m, l, o, s, v):
    m_new, l_new, o_new = fold(m, l, o, s, v)
    p = np.exp(s - np.where(m == -np.inf, m_new, m))  # the maximum before this block
    keep = np.exp(m - m_new)
    return m_new, keep * l + np.sum(p, axis=1, keepdims=True), keep * o + p @ v


def without_the_guard(m, l, o, s, v):
    m_new = np.maximum(m, np.max(s, axis=1, keepdims=True))
    keep, p = np.exp(m - m_new), np.exp(s - m_new)
    return m_new, keep * l + np.sum(p, axis=1, keepdims=True), keep * o + p @ v


def with_epsilon(m, l, o, s, v):
    m, l, o = fold(m, l, o, s, v)
    return m, l + 1e-6, o


def mask_of(q, k, causal):
    return np.tri(len(q), len(k), len(k) - len(q) if causal else len(k), dtype=bool)


def folding(f):
    return lambda q, k, v, size, causal: flash(q, k, v, size, mask_of(q, k, causal), fold=f)[0]


def without_the_last_block(q, k, v, size, causal):
    n = len(k) // size[1] * size[1]
    return flash(q, k[:n], v[:n], size, mask_of(q, k, causal)[:, :n])[0]


def masking_the_first_block_only(q, k, v, size, causal):
    return flash(q, k, v, size, mask_of(q, k, causal) | (np.arange(len(k)) >= size[1]))[0]


def without_the_offset(q, k, v, size, causal):
    return flash(q, k, v, size, np.tri(len(q), len(k), 0 if causal else len(k), dtype=bool))[0]


mistakes = {f.__name__: folding(f) for f in (without_rescale_of_o, without_rescale_of_l, stale_maximum, without_the_guard, with_epsilon)}
mistakes |= {f.__name__: f for f in (without_the_last_block, masking_the_first_block_only, without_the_offset)}


def example(T, S, slope):
    """q, k, v whose scores fall (slope < 0) or rise from key to key for every query, or neither."""
    q, k, v = np.abs(rng.normal(size=(T, 4))), rng.normal(size=(S, 4)), rng.normal(size=(S, 4))
    return q, (k if slope == 0 else slope * np.arange(S)[:, None] * np.ones(4)), v


tests = {  # T, S, slope of the scores, size of the blocks, causal
    "one block": (8, 8, 0, (8, 8), False),
    "falling": (9, 9, -0.5, (3, 3), False),
    "rising": (9, 9, 0.5, (3, 3), False),
    "ragged": (8, 8, 0.5, (3, 3), True),
    "blind rows": (10, 8, 0.5, (4, 3), True),
}
errors = {}
noticed = lambda error: not error < 1e-9  # NaN is noticed
print("\nerror of a mistake (rows) in a test (columns); . where it is not noticed\n" + " " * 34 + "".join(f"{test:>12}" for test in tests))
for name, mistake in ({"none": folding(fold)} | mistakes).items():
    errors[name] = {}
    for test, (T, S, slope, size, causal) in tests.items():
        q, k, v = example(T, S, slope)
        with np.errstate(invalid="ignore"):
            errors[name][test] = np.abs(mistake(q, k, v, size, causal) - dense(q, k, v, mask_of(q, k, causal))).max()
    row = "".join(f"{e:12.0e}" if noticed(e) else f"{'.':>12}" for e in errors[name].values())
    print(f"    {name.replace('_', ' '):30}{row}")
assert not any(map(noticed, errors["none"].values()))
assert all(any(map(noticed, errors[name].values())) for name in mistakes)
assert [name for name in mistakes if noticed(errors[name]["one block"])] == ["with_epsilon"]
assert [name for name in mistakes if noticed(errors[name]["falling"])] == ["with_epsilon"]
# One block is a plain softmax, and where the largest score comes first e^(m - m') is 1: many a test of such a kernel has been green
# with the rescale missing. Let the scores rise, the last block be short, and some rows see nothing.

# %% Figures
if not options.no_plots:
    q, k, v = watched
    s = q @ k.T / math.sqrt(q.shape[1])
    known = {}
    for j in blocks(len(k), 3):
        p = np.exp(s[:, : j.stop] - s[:, : j.stop].max(axis=1, keepdims=True))
        known[f"after keys 0 to {j.stop - 1}"] = np.pad(
            p / p.sum(axis=1, keepdims=True), ((0, 0), (0, len(k) - j.stop)), constant_values=np.nan
        )
    running = {}
    flash(q, k, v, watch=lambda i, j, m, l, o: [running.setdefault(n, []).append(m[n - i.start, 0]) for n in range(i.start, i.stop)])
    pictures.block_by_block(options.out / "blocks.png", known, running, size=3)
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
    print(f"\nfigures: {options.out}/blocks.png, cost.png, skipped.png")

# %% Exercises
# 1. Two parts of the keys were folded by two processors: (m, l, o) of each. Put them together. Does the order matter?
# 2. Could m stay at the first block's maximum for ever? When is that right, and when does it fail?
# 3. Derive D once more for attention without a softmax, y = S v: what takes the place of (5), and is L still needed?
# 4. Why does the backward pass start from L and not from m and l?
# 5. The kernel leaves the maximum out if |q| |k| / sqrt(d) is at most 35 in float32. Where is 35 from, and what would go wrong at 80?
# 6. Add dropout of the weights to `flash`. What must the backward pass know?
#
# Answers
# 1. m = max(m1, m2), l = e^(m1 - m) l1 + e^(m2 - m) l2, and the same for o: `fold` is this with m2, l2, o2 of one block. It is
#    associative and commutative up to rounding, so keys may be split among processors (that is how long contexts are read when writing,
#    one query at a time).
# 2. Any shift gives the same quotient as long as all terms share it: it is right until a later score is more than 88 above it (float32),
#    when e^(s - m) overflows; and it fails at once for a row that may see nothing of the first block.
# 3. dS = dO v^T, there is no D; and no L, since nothing is normalised.
# 4. e^(S - L) is the weight itself, one exponential, no division, and one number for each query instead of two.
# 5. It is 0.4 log(3.4e38) = 0.4 * 88.7. A sum of 2^20 terms e^35 is 1.7e21, and times a value of 1e6 still a number; e^80 is 5.5e34, and a sum
#    of ten thousand of them is not.
# 6. The mask: drawn as a whole it has T^2 bits, so FlashAttention draws it again, block by block, from a counter that (i, j) determine. And
#    D: rowsum(dO * O) remains right, since O = (P * mask) v and P * dP sums over the same terms.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
