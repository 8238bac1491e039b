"""Covariance and correlation."""

from tinygrad_notes.ops.contractions import as_array
from tinygrad_notes.registry import compose

import numpy as np


def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """Covariance of variables in rows (columns with rowvar=False); float32 stays float32, where np.cov of arrays computes in float64."""
    x = as_variables(m, rowvar)
    if y is not None and len(x):  # of no variables NumPy makes an empty matrix, whatever y holds
        x = np.concatenate([x, as_variables(y, rowvar)], axis=0)
    if dtype is not None:
        x = x.astype(dtype)
    if ddof is None:
        ddof = 1 if bias == 0 else 0
    n = x.shape[1]
    if fweights is None and aweights is None:
        x = x - np.mean(x, axis=1, keepdims=True)
        return np.squeeze(x @ np.swapaxes(x, 0, 1) / max(n - ddof, 0))
    frequency = np.ones(n, x.dtype) if fweights is None else np.asarray(fweights).astype(x.dtype)
    reliability = np.ones(n, x.dtype) if aweights is None else as_array(aweights).astype(x.dtype)
    if frequency.shape != (n,) or reliability.shape != (n,):
        raise RuntimeError(f"np.cov: weights of shapes {frequency.shape} and {reliability.shape} for {n} samples, expected one for each")
    w = frequency * reliability
    total = np.sum(w)
    factor = total - ddof * (np.sum(w * reliability) / total)
    factor = np.maximum(factor, 0)
    x = x - (x @ w / total)[:, None]
    return np.squeeze((x * w) @ np.swapaxes(x, 0, 1) / factor)


def as_variables(x, rowvar):
    x = as_array(x)
    if x.ndim > 2:
        raise ValueError(f"cov: the array has {x.ndim} dimensions, expected 1 or 2; {x.shape}")
    return np.swapaxes(x, 0, 1) if x.ndim == 2 and not rowvar else np.reshape(x, (1, -1)) if x.ndim < 2 else x


def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.diagonal(c))
    return np.clip(c / deviation[:, None] / deviation, -1, 1)


WEIGHTS = {"fweights": np.array([1, 2, 1, 3])}
compose(
    np.cov,
    cov,
    cases=[
        ((3, 4),),
        ((4,),),
        ((3, 4), (2, 4)),
        ((0, 4), (2, 4)),
        ((4,), (4,)),
        ((4, 2), {"rowvar": False}),
        ((2, 4), {"bias": True}),
        ((2, 4), {"ddof": 2}),
        ((2, 4), WEIGHTS),
    ]
    + [
        ((2, 4), {"aweights": np.array([0.5, 1.0, 2.0, 1.5])}),
        ((2, 4), WEIGHTS | {"aweights": np.array([0.5, 1.0, 2.0, 1.5]), "ddof": 0}),
        ((4, 2), (4,), {"rowvar": False, "ddof": 0}),
    ],
)
compose(np.corrcoef, corrcoef, cases=[((3, 5),), ((5,), (5,)), ((5, 2), {"rowvar": False}), ((2, 5), (5,))])
