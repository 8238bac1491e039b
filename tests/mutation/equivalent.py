"""Mutants that mean the same as the original, each with the line of algebra that says why.

(label of the op, mutator, a text in the changed code, how equal, why). `make mutants` draws 1,000 inputs for
each, tests/test_mutants.py a few, and compares the gradients: bit by bit, or to rounding where the sum is another.
"""

from collections.abc import Iterator
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


def means(row: tuple[str, str, str, str, str], mutant: Mutant) -> bool:
    """Whether a row speaks of this mutant: its text stands in the changed code."""
    label, mutator, text, _, _ = row
    return (mutant.label, mutant.mutator) == (label, mutator) and text in mutant.where.rpartition(" -> ")[2]


def reason(mutant: Mutant) -> str | None:
    """Why the mutant changes nothing, or None: it must be killed."""
    return next((row[-1] for row in EQUIVALENT if means(row, mutant)), None)


def check(row: tuple[str, str, str, str, str], mutants: list[Mutant], number: int) -> None:
    """Raise unless the mutants of a row give the same outputs and gradients in so many draws."""
    if not mutants:
        raise LookupError(f"equivalent.py: no mutant is meant by {row}; take the row out")
    for s in islice(draws(mutants[0].item), number):
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
