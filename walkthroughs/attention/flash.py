"""FlashAttention: exact attention that never holds its weights, derived, watched block by block, and read in the engine.

RUNNING TIME: 2 seconds (--quick: 2 seconds)

FlashAttention (Dao et al., 2022; Dao, 2023) on the online softmax (Milakov and Gimelshein, 2018). You will see a softmax computed without
ever seeing all of its inputs, from one number to blocks; 20 lines of NumPy that agree with the plain formula to the last digits,
gradients too; and the engine's own kernel, which is these lines with a few tricks.

What it saves is counted in walkthroughs/attention/flash_costs.py, and walkthroughs/attention/flash_mistakes.py has the mistakes that most
tests do not notice. Before it: walkthroughs/attention/attention.py.

    python -m walkthroughs attention/flash            the whole story
    python -m walkthroughs attention/flash --quick    the same: it trains nothing
"""

# %% Settings
import inspect
import math
import time

import tinygrad_notes as tn
from tinygrad_notes import functional as F
from tinygrad_notes.fused import attention as kernel
from walkthroughs.attention import _pictures as pictures
from walkthroughs.attention._twenty_lines import blocks, dense, flash, fold, scores
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("attention/flash", __doc__))
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
# They stand in walkthroughs/attention/_twenty_lines.py, for the other two walkthroughs use them as well:
code = [inspect.getsource(f) for f in (scores, fold, flash)]
print("\n" + "\n".join(code))
assert sum(bool(line.strip()) and '"""' not in line for text in code for line in text.splitlines()) <= 25

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
        ("with_column(v, 1)", "values and a column of ones: P times that is l, so that (2) and (3) are one line"),
        ("columns(k, T)", "k^T, copied: BLAS multiplies faster if no matrix has to be turned"),
        ("hide(s, may)", "what may not be seen: -inf, before the maximum"),
        ("o *= np.exp(m - shift)", "the rescale, of o and of its last column, l"),
        ("o += np.matmul(p, v1[n, :, j])", "(2) and (3)"),
        ("np.divide(o[..., :-1], l, out=y[n, :, i])", "y = o / l"),
        ("L[n, :, i] = m + np.log(l) if P is None else l", "L; or l, where the scores are few and P is kept for the backward pass"),
        ("no_maximum = T > 1 and calm(q, k, v, bias, scale)", "if |q| |k| is small, no e^s can overflow: m = 0, and no rescale"),
        ("erase(p, may)", "and then what may not be seen is finite as well, and taken times 0 after the exponential"),
        ("for j, may in mask.blocks(n, i, S, size[1])", "blocks outside a window, or later than all queries, are not even asked for"),
    ],
    "backward": [
        ("D = products_of_rows(dy[n, :, i], y[n, :, i])", "D = rowsum(dO * O)"),
        ("with_column(qi, -L[n, :, i])", "-L beside q and ones beside k: their product is S - L"),
        ("p = np.exp(s, out=s)", "P = e^(S - L), again"),
        ("p = P[n, :, i, j] / L[n, :, i]", "or P as it was kept: recomputing saves memory, and short sequences need little"),
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

# %% Break it
# Forget D, the sum in (5), by handing zeros for y. The answer is right, the gradient of v too; those of q and k are not, and no look at y tells.
q, k, v, dO = rng.normal(size=(4, 9, 4))
y, L = flash(q, k, v)
right, wrong = flash_backward(dO, q, k, v, y, L), flash_backward(dO, q, k, v, 0 * y, L)
off = {name: float(difference([b], [a])) for name, a, b in zip(("dq", "dk", "dv"), right, wrong)}
print("\nwithout D the gradients are off, by the largest number in them: " + ", ".join(f"{name} {e:.0%}" for name, e in off.items()))
assert min(off["dq"], off["dk"]) > 0.1 and off["dv"] == 0

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
    print(f"\nfigure: {options.out}/blocks.png")

# %% Exercises
# 1. Two parts of the keys were folded by two processors: (m, l, o) of each. Put them together. Does the order matter?
# 2. Derive D once more for attention without a softmax, y = S v: what takes the place of (5), and is L still needed?
# 3. Why does the backward pass start from L and not from m and l?
# 4. The kernel leaves the maximum out if |q| |k| / sqrt(d) is at most 35 in float32. Where is 35 from, and what would go wrong at 80?
# 5. Add dropout of the weights to `flash`. What must the backward pass know?
#
# Answers
# 1. m = max(m1, m2), l = e^(m1 - m) l1 + e^(m2 - m) l2, and the same for o: `fold` is this with m2, l2, o2 of one block. It is
#    associative and commutative up to rounding, so keys may be split among processors (that is how long contexts are read when writing,
#    one query at a time).
# 2. dS = dO v^T, there is no D; and no L, since nothing is normalised.
# 3. e^(S - L) is the weight itself, one exponential, no division, and one number for each query instead of two.
# 4. It is 0.4 log(3.4e38) = 0.4 * 88.7. A sum of 2^20 terms e^35 is 1.7e21, and times a value of 1e6 still a number; e^80 is 5.5e34, and a sum
#    of ten thousand of them is not.
# 5. The mask: drawn as a whole it has T^2 bits, so FlashAttention draws it again, block by block, from a counter that (i, j) determine. And
#    D: rowsum(dO * O) remains right, since O = (P * mask) v and P * dP sums over the same terms.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
