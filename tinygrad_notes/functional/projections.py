"""Products with a weight matrix: of a vector (linear), of a class (embedding)."""

from tinygrad_notes.functional.define import as_arrays
from tinygrad_notes.fused import kernels

import numpy as np


def linear(x, weight, bias=None):
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) or None -> (..., out)."""
    try:
        if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
            raise ValueError(f"linear: x {x.shape} does not fit weight {weight.shape}; expected x (..., in) and weight (out, in)")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(
                f"linear: bias is {bias.shape}, expected ({weight.shape[0]},), one number for each output of weight {weight.shape}"
            )
    except AttributeError:  # lists
        return linear(*as_arrays("linear", x, weight, bias))
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


def embedding(ids, weight):
    """weight[ids]: ids (...) integers below V, weight (V, C) -> (..., C). Raises IndexError for an id past the vocabulary."""
    try:
        V = weight.shape[0]
    except AttributeError:  # a list
        return embedding(ids, *as_arrays("embedding", weight))
    return kernels.embedding(weight, ids=check_ids("embedding", ids, V))


def one_hot(ids, classes, dtype=np.float32):
    """ids (...) integers below `classes` -> (..., classes): 1 at the id, 0 elsewhere."""
    ids = check_ids("one_hot", ids, classes)
    y = np.zeros((ids.size, classes), dtype)
    y[np.arange(ids.size), ids.reshape(-1)] = 1
    return y.reshape(*ids.shape, classes)
