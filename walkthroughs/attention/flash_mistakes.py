"""FlashAttention gone wrong: eight mistakes that are easily made, five tests, and which of them notice.

RUNNING TIME: 1 second (--quick: 1 second)

The online softmax (Milakov and Gimelshein, 2018) in blocks (Dao et al., 2022). You will see what its running maximum is for, in float32; and
the twenty lines of walkthroughs/attention/flash.py broken in eight ways, among them the rescale left out, which many a test has let
pass. What matters is not how many tests there are, but which.

Before it: walkthroughs/attention/flash.py, which derives what is broken here.

    python -m walkthroughs attention/flash_mistakes            the whole story
    python -m walkthroughs attention/flash_mistakes --quick    the same: it trains nothing
"""

# %% Settings
import math
import time

from walkthroughs.attention import _pictures as pictures
from walkthroughs.attention._twenty_lines import dense, flash, fold
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("attention/flash_mistakes", __doc__))
rng = np.random.default_rng(options.seed)
began = time.process_time()

# %% The idea by hand
# Two keys with the scores log 1 and log 4 and the values 7 and 14, one after the other. The first leaves m = log 1, l = 1, o = 7. The second is
# larger, so that what was summed before counts e^(log 1 - log 4) = 1/4 from now on: l = 1/4 + 1, o = 7/4 + 14, and y = o / l = 12.6 = (7 + 4 * 14) / 5.
# Without the rescale of o, y = (7 + 14) / 1.25 = 16.8, larger than both values. And in the other order, 14 first, it is not missed:
first = math.log(1) * np.ones((1, 1)), np.ones((1, 1)), np.array([[7.0]])
m, l, o = fold(*first, np.array([[math.log(4)]]), np.array([[14.0]]))
print(f"rising scores: {(o / l).item():.1f}; without the rescale {((o + 3 / 4 * 7) / l).item():.1f}")
assert np.allclose(o / l, (7 + 4 * 14) / 5)
first = math.log(4) * np.ones((1, 1)), np.ones((1, 1)), np.array([[14.0]])
m, l, o = fold(*first, np.array([[math.log(1)]]), np.array([[7.0]]))
assert np.allclose(o / l, (7 + 4 * 14) / 5) and np.allclose(o, 14 + 7 / 4), "e^(m - m') = 1: nothing to rescale"

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
    pictures.noticed(options.out / "noticed.png", errors, 1e-9)
    print(f"\nfigure: {options.out}/noticed.png")

# %% Exercises
# 1. Could m stay at the first block's maximum for ever? When is that right, and when does it fail?
# 2. Only one of the five tests may stay. Which?
# 3. Why does a test with a tolerance of 1e-5 never notice the epsilon, and what is it there for?
# 4. A ninth mistake: one maximum for all rows of a block, `np.maximum(m, s.max())`. Which of the tests notice?
#
# Answers
# 1. Any shift gives the same quotient as long as all terms share it: it is right until a later score is more than 88 above it (float32),
#    when e^(s - m) overflows; and it fails at once for a row that may see nothing of the first block.
# 2. The last: each of the eight mistakes fails it. But it does not say which one it was; the first, which nearly all pass, says something by that.
# 3. After the shift the largest term of l is 1, so 1e-6 for each block is 1e-6 of l at most, a few roundings in float32. It is to prevent 0 / 0 in
#    rows that see nothing; to ask for l > 0 does that exactly.
# 4. None: any shift is right that all terms of a row share. But a row whose scores are all far below the other rows' is left with l = 0,
#    from 750 on in float64 and 100 in float32. A sixth test needs rows of very different scores.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time")
