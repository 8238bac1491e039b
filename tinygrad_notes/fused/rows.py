"""What several kernels need: pieces that stay in the cache, and sums and maxima of rows at the speed of a matrix product.

`x.sum(axis=-1)` of a matrix costs four to eight times what BLAS takes for `x @ ones`, and
`x.max(axis=-1)` as much more than `argmax` does, which NumPy has vectorised.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import prod

import numpy as np

CHUNK = 2**17  # numbers worked on at a time: few enough for the cache, and so many that two threads seldom meet at the interpreter


def chunks(n: int, size: int | None = None) -> Iterator[slice]:
    """Slices that cover 0..n-1, of CHUNK numbers unless told otherwise."""
    size = size or CHUNK
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def chunks_of_rows(n: int, width: int) -> Iterator[slice]:
    """Slices that cover n rows of `width` numbers."""
    return chunks(n, max(1, CHUNK // width))


def as_rows(x: np.ndarray) -> np.ndarray:
    """x (..., C) as (n, C)."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


@lru_cache(maxsize=64)
def ones(n: int, dtype: np.dtype) -> np.ndarray:
    made = np.ones(n, dtype)
    made.flags.writeable = False
    return made


def sum_of_rows(x: np.ndarray) -> np.ndarray:
    """(..., n) -> (..., 1)"""
    return np.matmul(x, ones(x.shape[-1], x.dtype))[..., None]


def sum_of_columns(x: np.ndarray) -> np.ndarray:
    """(n, C) -> (C,)"""
    return np.matmul(ones(len(x), x.dtype), x)


def max_of_rows(x: np.ndarray) -> np.ndarray:
    """(n, C) -> (n, 1); NaN where a row has one."""
    return x[np.arange(len(x)), x.argmax(axis=-1)][:, None]
