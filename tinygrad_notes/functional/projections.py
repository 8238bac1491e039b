"""Products with a weight matrix: of a vector (linear), of a class (embedding)."""

import math

from tinygrad_notes.functional.define import differentiable

import numpy as np


def flat(x):
    """(..., C) as (n, C)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@differentiable(
    lambda g, y, x, weight, bias: np.matmul(flat(g), weight).reshape(x.shape),
    lambda g, y, x, weight, bias: np.matmul(np.transpose(flat(g)), flat(x)),
    lambda g, y, x, weight, bias: np.matmul(np.ones(math.prod(g.shape[:-1]), g.dtype), flat(g)),  # a sum over rows, at a product's speed
    cases=[((3, 4), (2, 4), (2,)), ((2, 3, 4), (5, 4), (5,)), ((4,), (2, 4), None), ((0, 4), (2, 4), (2,))],
)
def linear(x, weight, bias=None):
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x {x.shape} does not fit weight {weight.shape}; expected x (..., in) and weight (out, in)")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias is {bias.shape}, expected ({weight.shape[0]},), one number for each output of weight {weight.shape}"
        )
    y = np.matmul(flat(x), weight.T)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight))


def check_ids(name, ids, limit):
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}: ids are {ids.dtype} {ids.shape}, expected integers; convert with ids.astype(np.int64)")
    if ids.size and (ids.min() < 0 or ids.max() >= limit):
        raise IndexError(
            f"{name}: id {ids.min() if ids.min() < 0 else ids.max()} is not in 0..{limit - 1}; ids {ids.shape}, {limit} rows or classes"
        )
    return ids


IDS = np.array([[0, 2, 0], [2, 2, 1]])


def sum_rows_rule(g, y, v, *, ids, count):
    return rows(g, ids=ids)


@differentiable(sum_rows_rule, cases=[((2, 3, 4), {"ids": IDS, "count": 5})])
def sum_rows(v, *, ids, count):
    """Adds each vector of v (*ids.shape, C) into row ids of zeros (count, C): what picking rows is the transpose of."""
    from scipy.sparse import csc_array  # loaded where it is needed: it takes a while

    n = ids.size
    places = csc_array((np.ones(n, v.dtype), ids.reshape(-1), np.arange(n + 1)), shape=(count, n))  # column i: 1 in row ids[i]
    return places @ v.reshape(n, v.shape[-1])


@differentiable(lambda g, y, weight, *, ids: sum_rows(g, ids=ids, count=weight.shape[0]), cases=[((5, 4), {"ids": IDS})])
def rows(weight, *, ids):
    return np.take(weight, ids, axis=0)


def embedding(ids, weight):
    """weight[ids]: ids (...) integers below V, weight (V, C) -> (..., C). Raises IndexError for an id past the vocabulary."""
    return rows(weight, ids=check_ids("embedding", ids, weight.shape[0]))


def one_hot(ids, classes, dtype=np.float32):
    """ids (...) integers below `classes` -> (..., classes): 1 at the id, 0 elsewhere."""
    ids = check_ids("one_hot", ids, classes)
    y = np.zeros((ids.size, classes), dtype)
    y[np.arange(ids.size), ids.reshape(-1)] = 1
    return y.reshape(*ids.shape, classes)
