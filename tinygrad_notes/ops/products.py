"""Products of vectors, matrices and tensors: matmul, tensordot, dot, kron, cross and their family."""

import math
import operator
import string
from typing import Any

from tinygrad_notes.core import table
from tinygrad_notes.ops.contractions import as_array, contract
from tinygrad_notes.registry import Op, compose, registry

import numpy as np

# --- axes=, which generalized ufuncs take --------------------------------------------------


def by_axes(ufunc, *inputs, axes, keepdims=False, **params):
    """A generalized ufunc whose vectors or matrices lie along the axes given for each input, and for the output."""
    stand_ins = [np.broadcast_to(np.float32(0), np.shape(x)) for x in inputs]
    expected = ufunc(*stand_ins, axes=axes, keepdims=keepdims) if keepdims else ufunc(*stand_ins, axes=axes)  # raises on wrong axes
    places = [np.atleast_1d(np.asarray(part, int)).tolist() for part in axes]
    moved = [np.moveaxis(x, part, range(-len(part), 0)) for x, part in zip(inputs, places)]
    y = ufunc(*moved, **params)
    if keepdims:
        return np.reshape(y, expected.shape)
    out = places[len(inputs)] if len(places) > len(inputs) else []
    return np.moveaxis(y, range(-len(out), 0), out)


# --- matmul -------------------------------------------------------------------------------


def matmul(a, b, **params):
    """np.matmul, but a batch of rows times one matrix is one large product instead of many small ones."""
    if np.ndim(a) > 2 and 0 < np.ndim(b) <= 2:
        rows = np.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        return np.reshape(np.matmul(rows, b, **params), a.shape[:-1] + b.shape[1:])
    return np.matmul(a, b, **params)


def matmul_rule_a(g, y, a, b):
    if b.ndim == 1:
        return g[..., None] * b
    if a.ndim <= 2 and b.ndim > a.ndim:  # one left factor for a whole batch: one product over all of it
        axes = (*range(b.ndim - 2), b.ndim - 1)
        return np.tensordot(g, b, axes=(range(g.ndim), axes) if a.ndim == 1 else (axes, axes))
    return np.matmul(g, np.swapaxes(b, -1, -2))


def matmul_rule_b(g, y, a, b):
    if a.ndim == 1:
        return a * g if b.ndim == 1 else a[:, None] * g[..., None, :]
    if b.ndim <= 2:  # one right factor for a whole batch
        rows = math.prod(a.shape[:-1])
        return np.matmul(np.transpose(np.reshape(a, (rows, a.shape[-1]))), np.reshape(g, (rows, *b.shape[1:])))
    return np.matmul(np.swapaxes(a, -1, -2), g)


MATMULS = [
    ((3, 4), (4, 2)),
    ((4,), (4,)),
    ((4,), (4, 3)),
    ((3, 4), (4,)),
    ((4,), (2, 4, 3)),
    ((4,), (2, 2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((2, 2, 3, 4), (4,)),
    ((2, 3, 4), (4, 2)),
    ((2, 2, 3, 4), (4, 2)),
    ((3, 4), (2, 4, 2)),
    ((3, 4), (2, 2, 4, 2)),
    ((2, 3, 4), (2, 4, 2)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((1, 3, 4), (2, 4, 1)),
    ((2, 3, 0), (0, 2)),
    ((0, 3, 4), (4, 2)),
    ((0, 2, 3), (3,)),
]
MATMULS_BY_AXES = [
    ((3, 4, 5), (4, 2, 5), {"axes": [(0, 1), (0, 1), (0, 1)]}),
    ((4, 3), (5, 4, 2), {"axes": [(1, 0), (-2, -1), (0, 1)]}),
    ((4,), (4, 3, 2), {"axes": [0, (0, 1), 1]}),
    ((3,), (3,), {"axes": [0, 0, ()]}),
]


class Matmul(Op):
    """np.matmul, which also takes axes=."""

    def __call__(self, *args, axes=None, **kwargs):
        if axes is None:
            return super().__call__(*args, **kwargs)
        return by_axes(np.matmul, *args, axes=axes, **kwargs)


table[np.matmul] = Matmul(np.matmul, (matmul_rule_a, matmul_rule_b), forward=matmul, cases=MATMULS + MATMULS_BY_AXES)
registry.append(table[np.matmul])

# --- tensordot, dot, inner, outer, kron -----------------------------------------------------


def tensordot(a, b, axes: Any = 2):
    """Sums of products over pairs of axes: `axes` of them at the end of a and the start of b, or as listed."""
    a, b = as_array(a), as_array(b)
    try:
        of_a, of_b = ([part] if np.ndim(part) == 0 else list(part) for part in axes)
    except TypeError:  # a number
        of_a, of_b = range(a.ndim - axes, a.ndim), range(axes)
    of_a, of_b = [i % max(a.ndim, 1) for i in of_a], [i % max(b.ndim, 1) for i in of_b]
    if len(of_a) != len(of_b) or [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ValueError(
            f"tensordot: axes {axes} pair lengths {[a.shape[i] for i in of_a]} with {[b.shape[i] for i in of_b]}, expected equal ones; a {a.shape}, b {b.shape}"
        )
    left, right = string.ascii_letters[: a.ndim], list(string.ascii_letters[a.ndim : a.ndim + b.ndim])
    for i, j in zip(of_a, of_b):
        right[j] = left[i]
    out = [n for n in left if n not in right] + [n for n in right if n not in left]
    return contract(a, b, labels=(left, "".join(right), "".join(out)))


compose(
    np.tensordot,
    tensordot,
    cases=[
        ((2, 3, 4), (3, 4, 2)),
        ((2, 3), (3, 4), 1),
        ((2, 3), (2,), {"axes": 0}),
        ((2, 3, 4), (4, 2), {"axes": ([0, 2], [1, 0])}),
        ((2, 3), (4, 3), {"axes": (-1, 1)}),
        ((2, 3), (3, 2), {"axes": ([0, 1], [1, 0])}),
    ],
)


def dot(a, b):
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if max(np.ndim(a), np.ndim(b)) <= 2 or np.ndim(b) == 1:
        return np.matmul(a, b)
    return tensordot(a, b, axes=(-1, -2))


def inner(a, b, /):
    return np.multiply(a, b) if np.ndim(a) == 0 or np.ndim(b) == 0 else tensordot(a, b, axes=(-1, -1))


def outer(a, b):
    return np.multiply(np.reshape(a, (-1, 1)), np.reshape(b, -1))


def kron(a, b):
    """Block (i, j) of the result is a[i, j] * b."""
    ndim = max(np.ndim(a), np.ndim(b))
    of_a, of_b = ((1,) * (ndim - np.ndim(x)) + np.shape(x) for x in (a, b))
    blocks = np.reshape(a, [n for length in of_a for n in (length, 1)]) * np.reshape(b, [n for length in of_b for n in (1, length)])
    return np.reshape(blocks, [m * n for m, n in zip(of_a, of_b)])


DOTS = [
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 3)),
    ((2, 3), (3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 3, 4), (4, 2)),
    ((2, 3), (2, 3, 4)),
    ((2, 2, 3), (2, 3, 2)),
    ((), (2, 3)),
    ((2, 3), ()),
]
compose(np.dot, dot, cases=DOTS)
compose(
    np.inner,
    inner,
    cases=[((4,), (4,)), ((3, 4), (4,)), ((2, 4), (3, 4)), ((2, 2, 3), (4, 3)), ((3,), (2, 2, 3)), ((), (2, 3)), ((2, 3), ())],
)
compose(np.outer, outer, cases=[((3,), (4,)), ((2, 3), (2, 2)), ((), (3,))])
compose(np.vdot, lambda a, b, /: np.matmul(np.reshape(a, -1), np.reshape(b, -1)), cases=[((4,), (4,)), ((2, 3), (3, 2)), ((), ())])
compose(np.kron, kron, cases=[((2, 3), (3, 2)), ((2,), (3,)), ((2, 3), (2,)), ((2,), (2, 1, 3)), ((), (2, 3))])

# --- products of stacks of vectors ----------------------------------------------------------


def equal_lengths(name, m, n):
    """einsum would broadcast a length of 1, these do not."""
    if m != n:
        raise ValueError(f"{name}: vectors of {m} and of {n} elements came, expected equal lengths")


def with_axes(body):
    """`body`, or its ufunc with axes= as NumPy has it."""

    def call(x1, x2, /, *, axes=None, **params):
        return body(x1, x2, **params) if axes is None else by_axes(getattr(np, body.__name__), x1, x2, axes=axes, **params)

    return call


def vecdot(x1, x2, /, *, axis=-1, keepdims=False):
    axis = operator.index(axis)
    x1, x2 = (x if axis == -1 else np.moveaxis(x, axis, -1) for x in (as_array(x1), as_array(x2)))
    equal_lengths("vecdot", x1.shape[-1], x2.shape[-1])
    y = np.einsum("...i,...i->...", x1, x2)
    return np.expand_dims(y, axis) if keepdims else y


def matvec(x1, x2, /):
    x1, x2 = as_array(x1), as_array(x2)
    equal_lengths("matvec", x1.shape[-1], x2.shape[-1])
    return np.einsum("...ij,...j->...i", x1, x2)


def vecmat(x1, x2, /):
    x1, x2 = as_array(x1), as_array(x2)
    equal_lengths("vecmat", x1.shape[-1], x2.shape[-2])
    return np.einsum("...i,...ij->...j", x1, x2)


VECDOTS = [((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 3)), ((3, 2), (3, 2), {"axis": 0}), ((2, 3, 2), (3, 2), {"axis": -2})]
if hasattr(np, "vecdot"):  # NumPy 2.0
    by_their_axes = [((2, 3), (3, 2), {"axes": [0, 1]}), ((2, 3), (2, 3), {"axes": [0, 0, 0], "keepdims": True})]
    compose(np.vecdot, with_axes(vecdot), cases=[*VECDOTS, ((2, 3), (2, 3), {"keepdims": True}), *by_their_axes])
if hasattr(np, "matvec"):  # NumPy 2.2
    MATVECS = [((2, 3), (3,)), ((2, 3), (4, 3)), ((4, 2, 3), (3,)), ((2, 1, 2, 3), (4, 3))]
    VECMATS = [((2,), (2, 3)), ((4, 2), (2, 3)), ((2,), (4, 2, 3)), ((2, 1, 2), (4, 2, 3))]
    compose(np.matvec, with_axes(matvec), cases=[*MATVECS, ((2, 3, 4), (3,), {"axes": [(2, 1), 0, 1]})])
    compose(np.vecmat, with_axes(vecmat), cases=[*VECMATS, ((3,), (2, 3, 4), {"axes": [0, (1, 0), 0]})])


def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """a x b for vectors of three elements; one of two elements lies in the plane (NumPy has deprecated those)."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, operator.index(axisa), -1), np.moveaxis(b, operator.index(axisb), -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError(f"cross: vectors have {a.shape[-1]} and {b.shape[-1]} elements, expected 3; a {a.shape}, b {b.shape}")
    (a0, a1, *a2), (b0, b1, *b2) = ([x[..., i] for i in range(x.shape[-1])] for x in (a, b))
    z = a0 * b1 - a1 * b0
    if not a2 and not b2:
        return z
    a2, b2 = a2[0] if a2 else 0 * a0, b2[0] if b2 else 0 * b0
    return np.moveaxis(np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, z], axis=-1), -1, axisc)


CROSSES = [((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 3)), ((3, 2), (3, 2), {"axis": 0})]
compose(np.cross, cross, cases=[*CROSSES, ((3, 2), (2, 3), {"axisa": 0}), ((2, 3), (3, 2), {"axisb": 0, "axisc": 0})])

# --- traces, and the twins in numpy.linalg -----------------------------------------------------


def trace(a, offset=0, axis1=0, axis2=1, dtype=None):
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


compose(
    np.trace,
    trace,
    cases=[
        ((3, 3),),
        ((2, 4), 1),
        ((4, 2), {"offset": -2}),
        ((2, 3, 4), {"axis1": 1, "axis2": 2}),
        ((2, 3, 2), {"axis1": -1, "axis2": 0, "offset": 1}),
    ],
)
compose(np.linalg.matmul, lambda x1, x2, /: np.matmul(x1, x2), cases=[((2, 3), (3, 4)), ((2, 3, 4), (4, 2))])
compose(
    np.linalg.tensordot, lambda x1, x2, /, *, axes=2: tensordot(x1, x2, axes), cases=[((2, 3, 4), (3, 4, 2)), ((2, 3), (3, 4), {"axes": 1})]
)
compose(np.linalg.vecdot, lambda x1, x2, /, *, axis=-1: vecdot(x1, x2, axis=axis), cases=VECDOTS)
compose(
    np.linalg.diagonal,
    lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1),
    cases=[((3, 3),), ((2, 3, 4), {"offset": 1}), ((2, 3, 4), {"offset": -1})],
)
compose(
    np.linalg.trace, lambda x, /, *, offset=0, dtype=None: trace(x, offset, -2, -1, dtype), cases=[((3, 3),), ((2, 3, 4), {"offset": 1})]
)
compose(np.linalg.matrix_transpose, lambda x, /: np.swapaxes(x, -1, -2), cases=[((2, 3),), ((2, 3, 4),)])


def outer_of_vectors(x1, x2, /):
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ValueError(f"np.linalg.outer: the inputs have shapes {np.shape(x1)} and {np.shape(x2)}, expected vectors; np.outer flattens")
    return outer(x1, x2)


def cross_of_three(x1, x2, /, *, axis=-1):
    if np.shape(x1)[axis] != 3 or np.shape(x2)[axis] != 3:
        raise ValueError(f"np.linalg.cross: x1 {np.shape(x1)} and x2 {np.shape(x2)} along axis {axis}, expected 3 elements in both")
    return cross(x1, x2, axis=axis)


compose(np.linalg.outer, outer_of_vectors, cases=[((3,), (4,))])
compose(np.linalg.cross, cross_of_three, cases=CROSSES)
