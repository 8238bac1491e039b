"""Mutants that mean the same as the original, each with the line of algebra that says why.

(label of the op, mutator, a text in the changed code, how equal, why). `make mutants` draws 1,000 inputs for
each, tests/test_mutants.py a few, and compares the gradients: bit by bit, or to rounding where the sum is another.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

from tests.mutation.outcome import Mutant
from tests.ops import test_registry
from tests.ops.samples import Sample, sample

import numpy as np

SAME = "exactly"
ROUNDING = "to rounding"
EQUIVALENT: list[tuple[str, str, str, str, str]] = [
    # Branches that only save time or memory.
    ("svd_factors", "one branch always", "if True: da = da + (gu", ROUNDING, "square: u u^T = 1, so that gu - u u^T gu = 0"),
    ("svd_factors", "another comparison", "a.shape[-2] >= k", ROUNDING, "square: u u^T = 1, so that gu - u u^T gu = 0"),
    ("svd_factors", "one branch always", "if True: da = da + u", ROUNDING, "square: v v^T = 1, so that gv - v v^T gv = 0"),
    ("svd_factors", "another comparison", "a.shape[-1] >= k", ROUNDING, "square: v v^T = 1, so that gv - v v^T gv = 0"),
    ("qr_factors", "one branch always", "if True: gq = gq + q", SAME, "r[..., k:] has no columns: their product is 0"),
    ("qr_factors", "another comparison", "a.shape[-1] >= k", SAME, "r[..., k:] has no columns: their product is 0"),
    ("qr_factors", "one branch always", "np.concatenate([db, q @ gr[..., k:]], axis=-1)", SAME, "nothing is joined to db"),
    ("getitem", "one branch always", "if False: add_rows", ROUNDING, "add_rows is np.add.at, faster for wide rows"),
    ("getitem", "another comparison", "buffer[:1].size > WIDE", ROUNDING, "add_rows is np.add.at"),
    ("getitem", "another number", "buffer[:2].size >= WIDE", ROUNDING, "add_rows is np.add.at, whatever it is chosen by"),
    ("getitem", "another number", "v.reshape(-2, ", SAME, "reshape takes any negative length for the one to be found"),
    ("np.repeat", "one branch always", "if False: split", ROUNDING, "np.repeat of one number repeats each index: the general case"),
    ("np.matmul", "another comparison", "b.ndim >= a.ndim", ROUNDING, "tensordot of matrices over b's columns is g b^T"),
    ("np.sum", "one branch always", "np.broadcast_to(np.where(where, g, 0), x.shape)", SAME, "where(True, g, 0) = g"),
    ("np.mean", "one branch always", "np.broadcast_to(np.where(where, g, 0), x.shape)", SAME, "where(True, g, 0) = g"),
    ("np.mean", "another flag", "g if where is False", SAME, "where(True, g, 0) = g, and a mean of nothing is NaN"),
    ("np.prod", "one branch always", "rows(np.where(where, x, 1), axis)", SAME, "where(True, x, 1) = x"),
    ("np.prod", "another flag", "rows(x if where is False", SAME, "where(True, x, 1) = x; where=False is masked in the end"),
    ("np.prod", "one branch always", "np.where(where, g, 0)", SAME, "where(True, g, 0) = g"),
    ("np.cumsum", "one branch always", "sum_from_here(g, axis)", SAME, "axis=None: g has one axis, 0"),
    ("standardise", "one branch always", "(gx, g * z, g)", SAME, "a gradient of no weight is not used"),
    # What np.where does not take.
    ("np.power", "another number", "y.dtype.type(2)", SAME, "there y = 0, and 0 log c = 0 for any c"),
    ("np.sinc", "another number", "np.where(near, 2, x)", SAME, "where near, the quotient is not taken"),
    ("scipy.special.spence", "another number", "np.where(near, x - 1, 1)", SAME, "where not near, the series is not taken"),
    ("scipy.special.spence", "another number", "np.where(near, 2, 1 - x)", SAME, "where near, the quotient is not taken"),
    ("scipy.special.ellipkm1", "another number", "np.where(small, p, 0.50005)", SAME, "where not small, E and K are not taken"),
    ("scipy.special.ellipkm1", "another number", "np.where(small, 0.50005, p)", SAME, "where small, the series is not taken"),
    ("elu", "another number", "np.minimum(x, 1)", SAME, "times (x <= 0), where both are x"),
    ("euclidean", "sign of a term", "(y != 0) / (y - (y == 0))", SAME, "y = 0: 0 / 1 = 0 / -1"),
    ("power_norm", "sign of a term", "np.abs(x) / (y - (y == 0))", SAME, "y = 0: times (y != 0) = 0"),
    # Two formulas for one function on either side of a number: near it both hold.
    *(
        (name, mutator, text, ROUNDING, "both formulas hold there")
        for name, start in (("np.sinc", "np.abs(x) <"), ("scipy.special.spence", "np.abs(x - 1) <"), ("scipy.special.ellipkm1", "p <"))
        for mutator, text in (("another comparison", start + "="), ("another number", start + " 0."))
    ),
    # Symmetry.
    ("np.copysign", "saved input <-> output", "rule 1", SAME, "sign(a) sign(y) = sign(y) sign(a)"),
    *(
        (f"np.{name}", "saved input <-> output", "rule 1", SAME, "a = y is y = a; where it holds, y = b is a = b")
        for name in ("maximum", "minimum", "fmax", "fmin")
    ),
    *(
        (f"scipy.special.eval_{name}", "another comparison", "n - (n >= 0)", SAME, "n = 0: times (n > 0) = 0")
        for name in ("legendre", "genlaguerre", "jacobi")
    ),
    ("relu", "saved input <-> output", "rule 1", SAME, "y > 0 where x > 0"),
    ("leaky_relu", "saved input <-> output", "rule 1", SAME, "y > 0 where x > 0"),
    ("clip", "swap inputs", "rule 3", SAME, "(x > high) | (low > high): x and low in either order"),
    ("scipy.special.poch", "swap inputs", "rule 2", ROUNDING, "psi(z + m) = psi(m + z)"),
    *(
        (f"scipy.special.{name}", "sign of a term", "x - (x == 0)", SAME, "x = 0: 0 / 1 = 0 / -1, or not taken")
        for name in ("berp", "beip", "it2struve0")
    ),
    ("scipy.special.elliprf", "swap inputs", "rule 3", ROUNDING, "R_F(x, y, z) = R_F(y, x, z)"),
    ("scipy.special.hyp2f1", "swap inputs", "rule 4", ROUNDING, "2F1(a, b; c; x) = 2F1(b, a; c; x)"),
    # What the walk does with a gradient of an input that was repeated: it sums into a new array, in any order.
    *(
        (f"np.{name}", mutator, "rule 2", ROUNDING, "the mean was repeated along axis 0: the walk sums over it, into a new array")
        for name in ("var", "std", "nanvar", "nanstd")
        for mutator in ("wrong axis (roll)", "cached array")
    ),
    *(
        ("standardise", mutator, "member -1", ROUNDING, "the weight was repeated along axis 0: the walk sums over it, into a new array")
        for mutator in ("wrong axis (roll)", "cached array")
    ),
    ("astype", "upcast to float64", "rule 1", SAME, "the walk casts the gradient to the input's dtype"),
    ("max_pool", "drop a sign or a not", "fill=np.inf)", SAME, "no maximum of finite numbers equals either infinity of the padding"),
]

# Small changes of the kernels' sources: (function, mutator, a pattern that stands in "old -> new", how equal, why). "*": any.
KERNELS: list[tuple[str, str, str, str, str]] = [
    (
        "*",
        "another number",
        r"reshape\(([^()]+, )?-1.* -> .*reshape\(([^()]+, )?-2|, -1\).* -> .*, -2\)",
        SAME,
        "reshape takes any negative length for the one to be found",
    ),
    ("*", "one branch always", r"\bneeds\[", SAME, "more than is wanted is computed: Fused.pull drops what nobody wants"),
    (
        "*",
        "one branch always",
        r"x if x\.ndim == 2 else|y if x\.ndim == 2 else|dx if x\.ndim == 2 else",
        SAME,
        "reshape to the shape that it has",
    ),
    # How much is done at a time, on how many threads, and which of two ways is taken: tests go both ways and compare each with its twin.
    ("backward", "*", r"n \* V <= SMALL", ROUNDING, "a sparse and a dense one-hot matrix are one matrix"),
    (
        "returning",
        "*",
        r"-> .*min\(padding\) (> 0|>= 1) and|-> if False: return",
        ROUNDING,
        "the turned kernel slid over y, or windows folded up: the same sums",
    ),
    (
        "spread",
        "*",
        r"y\.shape\[3:\]|-> if False: return convolve",
        ROUNDING,
        "windows are folded up where the turned kernel would slide: the same sums",
    ),
    (
        "backward",
        "*",
        r"dy\.shape\[3:\]|needs\[0\] and needs\[2\]|needs\[1\] and needs\[1\]|and geometry\.touches_once|touches_once\(w\.shape\[3:\]\)",
        ROUNDING,
        "both gradients from one set of rows, or each from its own: the same sums",
    ),
    ("products_of_rows", "*", r"NARROW", ROUNDING, "two ways to one sum"),
    ("columns", "*", r"-> (np\.ascontiguousarray\(turned\)|turned$)", ROUNDING, "copied or not, it is the same matrix"),
    ("at_once", "*", r"-> ROOM // ", ROUNDING, "how many examples at a time"),
    ("Mask.block", "*", r"self\.given is None and self\.documents is None", SAME, "nothing is added to a mask by position below"),
    ("Mask.block", "*", r"may\.all\(\)", SAME, "a mask that hides nothing is no mask: it only takes time"),
    *(
        ("most", mutator, change, ROUNDING, "how many heads at a time, at least one: each is computed alone")
        for mutator, change in (
            ("drop a power", r"-> 2 // max\(1, R \* min\(T, size\[0\]\) \* min\(S, size\[1\]\)\)$"),
            ("another power", r"-> 2 \*\* \(18 \+ 1\) //"),
            ("another number", r"-> (3 \*\* 18|2 \*\* 19) //|-> .*max\(2, |-> .*min\(T, size\[1\]\)"),
            ("max -> min", r"-> .* // min\(1, "),
            ("min -> max", r"-> .*max\((T, size\[0\]|S, size\[1\])\)"),
            ("drop a factor", r"-> 2 \*\* 18 // max\(1, .*\)$"),
        )
    ),
    ("forward", "*", r"share\(N, most\(R, T, S, size\), some_heads, .* -> share", ROUNDING, "whether on two threads"),
    ("backward", "*", r"BACKWARD\) -> 0 if shared else", ROUNDING, "whether on two threads"),
    ("without", "another number", r"-1, -2\), 1, x", SAME, "its weight is 0, or NaN"),
    ("forward", "drop out=", r"^np\.exp\(s, out=s\) -> np\.exp\(s\)$", SAME, "p is its name: in a new array instead of the old one"),
    ("backward", "drop out=", r"^np\.exp\(s, out=s\) -> np\.exp\(s\)$", SAME, "p is its name: in a new array instead of the old one"),
    ("beside", "drop a term", r"\+ (H|width):\] -> ", SAME, "the margin is cleared first, and what x fills is written after it"),
    ("*", "*", r"^share\(len\(x\), at_once.* -> share", ROUNDING, "whether on two threads"),
    ("*", "drop a factor", r"^share\(N, ROOM // .* -> share", ROUNDING, "how many examples at a time, and on two threads or not"),
    ("Geometry.touches_once", "prod -> sum", r"sum\(kernel\) == 1", ROUNDING, "1 + 1 is never 1: the general way gives the same sums"),
    ("convolve", "one branch always", r"-> if False: def convolve_part", ROUNDING, "the general way gives the same sums"),
    ("correlate", "one branch always", r"-> if False: rows", ROUNDING, "the general way gives the same sums"),
    ("backward", "one branch always", r"dx\[np\.isneginf.* -> if True", SAME, "e^-inf = 0, and no target's term is taken there"),
    (
        "backward",
        "drop out=",
        r"^np\.multiply\((rows, along_x|c, r \* r \* mean_cdz), out=\w+\)",
        SAME,
        "the product is subtracted where it stands",
    ),
    ("forward", "one branch always", r"-> if True: bad = ", SAME, "finite numbers stay as they are; others make NaN either way"),
    ("forward", "and <-> or", r"or not no_maximum", SAME, "rows are looked at in vain: nothing is hidden, or all is finite"),
    ("backward", "one branch always", r"-> if True: dx\[silent\]", SAME, "nothing is written where nothing is silent"),
    ("*", "another number", r"^in_chunks(_of_rows)?\(fill, .* -> in_chunks", ROUNDING, "whether on two threads"),
    ("*", "drop a factor", r"^share\(n, CHUNK.* -> share", ROUNDING, "whether on two threads"),
    ("*", "drop out=", r"^np\.multiply\(flat\[c\], flat\[c\], out=\w+\[c\]\)", SAME, "the square has a name: in a new array"),
    (
        "bad_rows",
        "one branch always",
        r"-> bad\[|-> if False: return None",
        SAME,
        "each row is asked, and where none is bad none becomes zero",
    ),
    ("all_finite", "*", r"errstate", SAME, "BLAS, which does this sum, reports neither; NumPy's own loops would"),
    ("calm", "another comparison", r"(bound|values) <= ", SAME, "either way of a bound that is met exactly is right"),
    ("over_queries", "one branch always", "-> x.sum", SAME, "the sum of one is that one"),
    ("Mask.blocks", "one branch always", "may.any.* -> if True", SAME, "a block of weights 0 adds nothing"),
    ("keeps", "*", "KEPT", ROUNDING, "P is kept or computed again"),
    ("backward", "one branch always", r"if P is None else None", SAME, "made, and read by nobody"),
    ("forward", "one branch always", r"if keeps\(.*\) else None -> None", ROUNDING, "P is computed again"),
    ("forward", "*", "T > 1 and calm", ROUNDING, "with the maximum or without, the weights are the same"),
    ("forward", "one branch always", "if True: hide", ROUNDING, "a maximum of at least 0 is subtracted: the weights are the same"),
    ("backward", "one branch always", "if True: hide", SAME, "e^-inf = 0, and 0 is what erase leaves"),
    ("*", "one branch always", "if True: erase", SAME, "what is hidden is 0 already, and 0 times 0 is 0"),
    ("backward", "another number", r"np\.copyto\(ds, 1", SAME, "P is 0 there"),
    ("*", "another number", r"blocks\(T, size\[1\]\)", ROUNDING, "how many queries at a time"),
    ("forward", "another number", r"max / 5|l == 0, 2, l", SAME, "y = 0 / 2 = 0, and L as large as exp(s - L) = 0 needs"),
    ("forward", "one branch always", "if True: m, l", SAME, "nothing is 0"),
    ("forward", "another number", r"m_new == -np\.inf, 1, m_new", SAME, "-inf - 1 = -inf - 0"),
    ("forward", "drop a divisor", r"max / 4 -> ", SAME, "exp(s - max) = 0 = exp(s - max / 4)"),
    ("by_position", "= for +=", r"may = behind >= 0", SAME, "ones & x = x"),
    ("log_backward", "one branch always", r"if True: dx\[masked\]", SAME, "nothing is written where nothing is masked"),
    ("Mask.hides", "one branch always", r"-> if True", SAME, "finite keys and values stay as they are"),
    ("pad_space", "one branch always", r"-> if False", SAME, "padded by nothing, x is x"),
    ("*", "another number", r"(n|width) \+ 3 \* p", SAME, "zeros past the padding, which nobody reads"),
    # The same axis, the same number.
    ("sum_or_one", "another number", r"total == 0, 2, total", SAME, "0 / 2 = 0 / 1"),
    ("*", "drop a sign or a not", r"swapaxes\(.*-1, 2\)", SAME, "axis 2 of four is axis -2"),
    ("max_of_rows", "drop a sign or a not", r"argmax\(axis=1\)", SAME, "axis 1 of two is axis -1"),
    ("cumulative_into", "another comparison", r"x >= 0", ROUNDING, "x = 0: |1 - 1/2| = |0 - 1/2|"),
    ("cumulative_into", "one branch always", r"if True: from scipy", ROUNDING, "erfc is Phi for any width; the polynomial only is quicker"),
]


def kernel_row(mutant: Mutant) -> tuple[str, str, str, str, str] | None:
    """The row of KERNELS that speaks of this mutant."""
    change = mutant.where.partition(": ")[2]
    for row in KERNELS:
        if row[0] in ("*", mutant.label) and row[1] in ("*", mutant.mutator) and re.search(row[2], change):
            return row
    return None


def means(row: tuple[str, str, str, str, str], mutant: Mutant) -> bool:
    """Whether a row speaks of this mutant: its text stands in the changed code."""
    label, mutator, text, _, _ = row
    return (mutant.label, mutant.mutator) == (label, mutator) and text in mutant.where.rpartition(" -> ")[2]


def row_of(mutant: Mutant) -> tuple[str, str, str, str, str] | None:
    """The row that says why this mutant changes nothing, or None: it must be killed."""
    if mutant.family == "kernel sources":
        return kernel_row(mutant)
    return next((row for row in EQUIVALENT if means(row, mutant)), None)


def check(row: tuple[str, str, str, str, str], mutants: list[Mutant], number: int) -> None:
    """Raise unless the mutants of a row give the same outputs and gradients in so many draws."""
    if not mutants:
        raise LookupError(f"equivalent.py: no mutant is meant by {row}; take the row out")
    compare(row, mutants, islice(draws(mutants[0].item), number))


def compare(row: tuple[str, str, str, str, str], mutants: list[Mutant], samples: Iterable[Sample]) -> None:
    for s in samples:
        with np.errstate(all="ignore"):
            right = outcome(s)
            for mutant in mutants:
                with mutant.install():
                    wrong = outcome(s)
                for a, b in zip(right, wrong):
                    if row[3] == SAME:
                        np.testing.assert_array_equal(a, b, strict=True, err_msg=str(mutant))
                    else:
                        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * (1 + np.max(np.abs(a), initial=0)), err_msg=str(mutant))


def draws(item: Any) -> Iterator[Sample]:
    """The cases of an item, with other inputs each time."""
    return (sample(item, case, again) for again in count() for case in item.cases)


def outcome(s: Sample) -> list[np.ndarray]:
    """The outputs and gradients of a call, for random cotangents."""
    outputs, _, found = test_registry.vjp(s, s.inputs)
    return [*(test_registry.array_of(y) for y in outputs), *found]
