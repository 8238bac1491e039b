"""Products with a weight matrix: of a vector (linear), of a class (embedding)."""

from tinygrad_notes.functional.define import check_integer, takes_lists
from tinygrad_notes.fused import kernels

import numpy as np


@takes_lists("x", "weight", "bias")
def linear(x, weight, bias=None):
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x {x.shape} does not fit weight {weight.shape}; expected x (..., in) and weight (out, in)")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias is {bias.shape}, expected ({weight.shape[0]},), one number for each output of weight {weight.shape}"
        )
    return kernels.linear(x, weight, bias)


def check_ids(name, ids, limit):
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}: ids are {ids.dtype} {ids.shape}, expected integers; convert with ids.astype(np.int64)")
    if ids.size and (ids.min() < 0 or ids.max() >= limit):
        raise IndexError(
            f"{name}: id {ids.min() if ids.min() < 0 else ids.max()} is not in 0..{limit - 1}; ids {ids.shape}, {limit} rows or classes"
        )
    return ids


@takes_lists("weight")
def embedding(ids, weight):
    """weight[ids]: ids (...) integers below V, weight (V, C) -> (..., C). Raises IndexError for an id past the vocabulary."""
    try:
        V, C = weight.shape
    except ValueError:
        raise ValueError(f"embedding: weight is {weight.shape}, expected (V, C), a row for each id") from None
    return kernels.embedding(weight, ids=check_ids("embedding", ids, V))


def one_hot(ids, classes, dtype=np.float32):
    """ids (...) integers below `classes` -> (..., classes): 1 at the id, 0 elsewhere."""
    check_integer("one_hot", "classes", classes)
    ids = check_ids("one_hot", ids, classes)
    y = np.zeros((ids.size, classes), dtype)
    y[np.arange(ids.size), ids.reshape(-1)] = 1
    return y.reshape(*ids.shape, classes)
