"""einsum, from two operations that are each other's gradients.

A sum of products has a sum of products as its gradient. `contract` is a product of two
operands; `rearrange` takes diagonals, sums and permutes the axes of one. `plan` spells any
einsum as steps of these.
"""

import math
import operator
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tinygrad_notes.binding import Given
from tinygrad_notes.registry import compose, constant, op

import numpy as np


def as_array(x):
    """Lists and numbers as arrays; arrays and Tensors as they are."""
    return x if hasattr(x, "shape") else np.asarray(x)


@lru_cache(maxsize=1024)
def matrix_form(left: str, right: str, out: str) -> tuple | None:
    """A contraction as a matrix product, or None where it is none.

    The axes of a as (batch, rows, summed), of b as (batch, summed, columns), those of the
    product in the order of `out`, and the number of batch and of row axes.
    """
    batch = [n for n in out if n in left and n in right]
    rows = [n for n in out if n not in right]
    columns = [n for n in out if n not in left]
    summed = [n for n in left if n not in out]
    if not summed or not (rows or columns):
        return None
    axes_of_a = [left.index(n) for n in batch + rows + summed]
    axes_of_b = [right.index(n) for n in batch + summed + columns]
    return axes_of_a, axes_of_b, [(batch + rows + columns).index(n) for n in out], len(batch), len(rows)


def contract(a, b, *, labels):
    """einsum("{labels[0]},{labels[1]}->{labels[2]}", a, b), as one matrix product where there is one.

    No operand repeats a label, and each label is in two of the three: what `plan` provides.
    """
    form = matrix_form(*labels)
    if form is None:
        return np.einsum("{},{}->{}".format(*labels), a, b)
    axes_of_a, axes_of_b, axes_of_y, i, j = form
    a, b = a.transpose(axes_of_a), b.transpose(axes_of_b)
    batch, rows, summed = a.shape[:i], a.shape[i : i + j], a.shape[i + j :]
    columns = b.shape[i + len(summed) :]
    n = math.prod(summed)
    y = np.matmul(a.reshape(*batch, math.prod(rows), n), b.reshape(*batch, n, math.prod(columns)))
    return y.reshape(batch + rows + columns).transpose(axes_of_y)


contract = op(
    contract,
    lambda g, y, a, b, *, labels: contract(g, b, labels=(labels[2], labels[1], labels[0])),
    lambda g, y, a, b, *, labels: contract(a, g, labels=(labels[0], labels[2], labels[1])),
    cases=[
        ((3, 4), (4, 2), {"labels": ("ij", "jk", "ki")}),
        ((2, 3, 4), (4, 2, 3), {"labels": ("bij", "jbk", "kbi")}),
        ((2, 3), (4,), {"labels": ("ij", "k", "jki")}),
        ((2, 3), (3, 2), {"labels": ("bi", "ib", "b")}),
        ((2, 3), (3, 2), {"labels": ("ij", "ji", "")}),
        ((2, 3, 4), (4, 2), {"labels": ("ijk", "ki", "j")}),
        ((2, 3, 0), (0, 2), {"labels": ("btc", "cd", "btd")}),
    ],
)


def rearrange(x, *, labels):
    """einsum("{labels[0]}->{labels[1]}", x): repeated labels take a diagonal, left out ones are summed."""
    return np.einsum("->".join(labels), x)


def rearrange_rule(g, y, x, *, labels):
    """Axes back in place, repeated along what was summed, zero beside what was a diagonal."""
    names, out = labels
    kept = [n for n in dict.fromkeys(names) if n in out]
    g = np.transpose(g, [out.index(n) for n in kept])
    g = np.reshape(g, [size if n in kept and i == names.index(n) else 1 for i, (n, size) in enumerate(zip(names, x.shape))])
    for i, n in enumerate(names):
        first = names.index(n)
        if i != first:
            delta = np.eye(x.shape[i], dtype=g.dtype)
            g = g * np.reshape(delta, [size if axis in (first, i) else 1 for axis, size in enumerate(x.shape)])
    return np.broadcast_to(g, x.shape)


rearrange = op(
    rearrange,
    rearrange_rule,
    cases=[
        ((2, 3), {"labels": ("ij", "ji")}),
        ((3, 2, 3), {"labels": ("iji", "i")}),
        ((2, 2, 2), {"labels": ("iii", "")}),
        ((2, 3, 4), {"labels": ("abc", "ca")}),
    ],
)


def as_subscripts(operands: Sequence) -> tuple[str, list]:
    """The two spellings of einsum's arguments as one: ("ij,jk", [a, b])."""
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), list(operands[1:])
    letters = string.ascii_uppercase + string.ascii_lowercase  # sorted as the integers are

    def spell(sublist):
        return "".join("..." if n is Ellipsis else letters[operator.index(n)] for n in sublist)

    subscripts = ",".join(map(spell, operands[1::2]))
    if len(operands) % 2:
        subscripts += "->" + spell(operands[-1])
    return subscripts, list(operands[: len(operands) // 2 * 2 : 2])


def spell_out(subscripts: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the output, with letters in place of ellipses."""
    given, arrow, output = subscripts.partition("->")
    fresh = "".join(n for n in string.ascii_letters if n not in subscripts)
    extra = [ndim - len(term) + 3 if "..." in term else 0 for term, ndim in zip(given.split(","), ndims)]
    fresh = fresh[: max(extra)]
    terms = [term.replace("...", fresh[len(fresh) - n :]) for term, n in zip(given.split(","), extra)]
    if fresh and arrow and "..." not in output:
        raise ValueError(
            f"einsum: the operands have {len(fresh)} axes under '...', but the output of {subscripts!r} has none; write '...' there too"
        )
    if not arrow:
        output = "..." + "".join(sorted(n for n in set(given) - set(".,") if given.count(n) == 1))
    return terms, output.replace("...", fresh)


@lru_cache(maxsize=1024)
def plan(subscripts: str, shapes: tuple[tuple[int, ...], ...], optimize: Any) -> list[tuple]:
    """The steps of an einsum: (positions, labels) of a `contract` or `rearrange`, each adding a value to the list of operands."""
    stand_ins = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    optimize = list(optimize) if isinstance(optimize, tuple) else optimize or "greedy"
    path = np.einsum_path(subscripts, *stand_ins, optimize=optimize)[0][1:]  # raises on a wrong spelling
    terms, output = spell_out(subscripts, [len(shape) for shape in shapes])
    size: dict[str, int] = {}
    for term, shape in zip(terms, shapes):
        for n, length in zip(term, shape):
            size[n] = length if size.get(n, 1) == 1 else size[n]
    steps, pending = [], list(enumerate(terms))
    last = len(terms) - 1

    def add(positions, *labels):
        nonlocal last
        steps.append((positions, labels))
        last += 1
        return last, labels[-1]

    def only(operand, wanted):
        """The operand with each label once, and without those that are not wanted."""
        position, term = operand
        kept = "".join(n for n in dict.fromkeys(term) if n in wanted)
        return operand if kept == term else add((position,), term, kept)

    for i, shape in enumerate(shapes):  # a length of 1 that broadcasts is dropped: einsum's sum over it is a squeeze
        pending[i] = only(pending[i], [n for n, length in zip(terms[i], shape) if length == size[n]])
    for step in path:
        picked = [pending.pop(i) for i in sorted(step, reverse=True)]
        while len(picked) > 1:
            right, left = picked.pop(0), picked.pop(0)
            others = set(output).union(*(term for _, term in pending + picked))
            left = only(left, others.union(right[1]))
            right = only(right, others.union(left[1]))
            result = output if not pending and not picked else "".join(n for n in dict.fromkeys(left[1] + right[1]) if n in others)
            picked.insert(0, add((left[0], right[0]), left[1], right[1], result))
        pending += picked
    position, term = pending[0]
    if term != output or not steps:
        add((position,), term, output)
    return steps


def einsum(*operands, optimize=False, dtype=None, casting="safe", order="K"):
    """np.einsum as products of two operands at a time, cheapest first unless `optimize` is a path (casting and order are ignored)."""
    subscripts, values = as_subscripts(operands)
    values = [as_array(x) if dtype is None else as_array(x).astype(dtype) for x in values]
    key = tuple(optimize) if isinstance(optimize, list) else optimize  # plans are remembered
    for positions, labels in plan(subscripts, tuple(x.shape for x in values), key):
        inputs = [values[i] for i in positions]
        values.append(contract(*inputs, labels=labels) if len(inputs) == 2 else rearrange(*inputs, labels=labels))
    return values[-1]


compose(
    np.einsum,
    einsum,
    cases=[
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij,jk", (2, 3), (3, 4)),
        ("ba,cb", (2, 3), (4, 2)),
        ("ii", (3, 3)),
        ("ii->i", (3, 3)),
        ("iij->ji", (3, 3, 2)),
        ("ij->", (2, 3)),
        (" i j -> j i ", (2, 3)),
        ("i->i", (3,)),
        (",ij->j", (), (2, 3)),
        ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
        ("...i,...i", (2, 3), (3,)),
        ("i...,i->...", (3, 2, 2), (3,)),
        ("ij,ij->ij", (1, 3), (2, 3)),
        ("ij,ij->j", (2, 3), (2, 1)),
        ("i,i", (1,), (3,)),
        ("ii,ij->j", (2, 2), (2, 3)),
        ("btc,cd->btd", (2, 3, 4), (4, 2)),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
        ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
        ("i,j,k->ijk", (2,), (3,), (2,), {"optimize": True}),
        ("ij,jk,kl,l", (2, 3), (3, 2), (2, 4), (4,), {"optimize": "optimal"}),
        ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4), {"optimize": ["einsum_path", (1, 2), (0, 1)]}),
        ("i,i,i,i->i", (3,), (3,), (3,), (1,), {"optimize": ["einsum_path", (0, 1, 2, 3)]}),
        ((2, 3), [0, 1], (3, 4), [1, 2]),
        ((2, 3), Given([Ellipsis, 1]), (3, 4), [1, 0], Given([0, Ellipsis])),
        ((3, 3), [5, 5], [5]),
        ("ij,jk->ik", (2, 0), (0, 4)),
    ],
)
constant(np.einsum_path)
