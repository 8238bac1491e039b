"""What attention is, in longdouble and all at once, and how far from it floats of a width may lead."""

from typing import NamedTuple

from tinygrad_notes import Tensor, gradients
from tinygrad_notes import functional as F

import numpy as np

HEADS = [(1, 1), (2, 1), (4, 2), (3, 3), (4, 1), (6, 2)]  # query heads, key heads
KINDS = ["normal", "large", "ascending", "biased"]
SCALES = [0.5, 30.0, -0.7]


class Problem(NamedTuple):
    """Inputs of attention, a cotangent of its output, and which keys each query may see."""

    q: np.ndarray  # (B, nh, T, hd)
    k: np.ndarray  # (B, nkv, S, hd)
    v: np.ndarray  # (B, nkv, S, vd)
    dy: np.ndarray  # (B, nh, T, vd)
    bias: np.ndarray | None  # (nh, T, S)
    options: dict  # what scaled_dot_product_attention takes besides
    may: np.ndarray  # bool, broadcastable to (B, nh, T, S)


def problem(
    rng, T, S, heads, dtype, kind, *, causal=False, window=None, offset=None, masks=False, biases=False, documents=False, scale=0.5, width=4
) -> Problem:
    """Random inputs. `kind`: normal, logits or a bias 300 times as large, or keys that ascend, so that every block has a new maximum."""
    nh, nkv = heads
    q, k, v, dy = (
        rng.normal(size=s).astype(dtype) for s in ((2, nh, T, width), (2, nkv, S, width), (2, nkv, S, width - 1), (2, nh, T, width - 1))
    )
    if kind == "large":
        q *= 300
    if kind == "ascending":
        k[...] = np.linspace(-20, 20, S, dtype=dtype)[:, None]
        q[...] = np.abs(q)
    mask = rng.random((2, 1, T, S)) < 0.6 if masks else None
    bias = rng.normal(size=(nh, T, S)).astype(dtype) if biases else None
    if bias is not None and kind == "biased":
        bias *= 300
    ids = np.sort(rng.integers(0, 3, (2, S)), axis=-1) if documents and T == S else None
    options = {"causal": causal, "window": window, "offset": offset, "mask": mask, "documents": ids}
    return Problem(q, k, v, dy, bias, {**options, "scale": scale}, visible(T, S, **options))


def drawn(rng: np.random.Generator) -> tuple[Problem, tuple[int, int]]:
    """A problem and the size of its blocks, every choice as likely as any other."""
    T, S, *block = map(int, rng.integers(1, 14, 4))
    options = {
        "causal": bool(rng.integers(2)),
        "window": [None, int(rng.integers(1, 14))][rng.integers(2)],
        "offset": [None, int(rng.integers(-5, 15))][rng.integers(2)],
        **{name: bool(rng.integers(2)) for name in ("masks", "biases", "documents")},
        "scale": SCALES[rng.integers(len(SCALES))],
    }
    S = T if options["documents"] else S
    dtype, kind = [np.float32, np.float64][rng.integers(2)], KINDS[rng.integers(len(KINDS))]
    return problem(rng, T, S, HEADS[rng.integers(len(HEADS))], dtype, kind, **options), (block[0], block[1])


def visible(T, S, *, causal=False, window=None, offset=None, mask=None, documents=None):
    """Which keys each query may see, element by element, as the docstring says."""
    offset = S - T if offset is None else offset
    may = np.ones((T, S), bool)
    for i in range(T):
        for j in range(S):
            p = offset + i
            may[i, j] = (not causal or j <= p) and (window is None or abs(p - j) < window)
    if documents is not None:
        may = may & (documents[..., None, :, None] == documents[..., None, None, :])
    return may if mask is None else may & mask


def computed(p: Problem, **options) -> list[np.ndarray]:
    """Output and gradients by q, k, v and, where there is one, the bias, as the library gives them."""
    variables = [Tensor(x) for x in (p.q, p.k, p.v, p.bias) if x is not None]
    y = F.scaled_dot_product_attention(*variables[:3], bias=variables[3] if p.bias is not None else None, **p.options, **options)
    return [y.value, *gradients(np.sum(y * p.dy), variables)]


def exact(p: Problem) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The same in longdouble: softmax and its derivative, written out; and a bound of the rounding errors of each element.

    u is the largest relative error of one rounding. Each line carries an error with it, to first order, from absolute values
    (Higham 2002, ch. 3): a sum of n products is off by n u times the sum of their absolute values; a score is off by
    that, and by u |s| when the maximum or L is subtracted; exp turns an absolute error of its argument into a
    relative one; the sum of a row, its rescaling in each block, and the mean in a softmax weigh the errors of the row.
    """
    q, k, v, dy = (x.astype(np.longdouble) for x in (p.q, p.k, p.v, p.dy))
    u = float(np.finfo(p.q.dtype).eps) / 2
    scale = p.options["scale"]
    T, S, hd, vd = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    rep = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, rep, axis=-3), np.repeat(v, rep, axis=-3)
    bias = 0 if p.bias is None else p.bias.astype(np.longdouble)

    def turned(x):
        return np.swapaxes(x, -1, -2)

    def total(x):
        return x.sum(axis=-1, keepdims=True)

    s = np.where(p.may, q @ turned(k) * scale + bias, -np.inf)
    top = s.max(axis=-1, keepdims=True, initial=-np.inf)
    seen = ~np.isneginf(top)
    e = np.exp(s - np.where(seen, top, 0))
    P = e / np.where(seen, total(e), 1)
    y = P @ v
    dP, D = dy @ turned(v), total(dy * y)
    dS = P * (dP - D)

    # How far off each of them is, at most. Where nothing is seen, P = 0 and nothing is.
    size = np.where(p.may, abs(q) @ turned(abs(k)) * abs(scale) + abs(bias), 0)
    ds = (hd + 3) * u * size + 2 * u * np.max(size, axis=-1, keepdims=True, initial=0)  # a score, less the maximum or L
    row = total(P * ds) + (2 * S + 4) * u  # the sum of a row, rescaled at most S times
    relative = np.expm1(ds + row + 8 * u)  # of a weight
    off_y = (P * relative) @ abs(v) + (2 * S + 4) * u * (P @ abs(v))
    off_D = total(abs(dy) * off_y) + (vd + 1) * u * total(abs(dy * y))
    off_dP = vd * u * (abs(dy) @ turned(abs(v)))
    off_dS = P * (abs(dP - D) * (relative + 2 * u) + off_dP + off_D)

    def group(x):
        return x.reshape(*x.shape[:-3], -1, rep, *x.shape[-2:]).sum(-3)

    off_dq = (off_dS + (S + 3) * u * abs(dS)) @ abs(k) * abs(scale)
    off_dk = group(turned(off_dS + (rep * T + 3) * u * abs(dS)) @ abs(q)) * abs(scale)
    off_dv = group(turned(P * (relative + rep * T * u)) @ abs(dy))
    values = [y, dS @ k * scale, group(turned(dS) @ q) * scale, group(turned(P) @ dy)]
    bounds = [off_y, off_dq, off_dk, off_dv]
    if p.bias is not None:  # it is shared by the batch
        values.append(np.broadcast_to(dS, s.shape).sum(axis=0))
        bounds.append((off_dS + len(q) * u * abs(dS)).sum(axis=0))
    smallest = np.finfo(p.q.dtype).tiny  # results so small have fewer digits
    return values, [b + smallest * S for b in bounds]


def share(p: Problem, found: list[np.ndarray]) -> list[float]:
    """The largest error of the output and of each gradient, in units of its bound."""
    values, bounds = exact(p)
    return [float(np.max(abs(a - b) / bound, initial=0)) for a, b, bound in zip(found, values, bounds)]
