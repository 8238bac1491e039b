"""What several kernels need: pieces that stay in the cache, and sums and maxima of rows at the speed of a matrix product.

`x.sum(axis=-1)` of a matrix costs four to eight times what BLAS takes for `x @ ones`, and
`x.max(axis=-1)` several times what `argmax` takes, which NumPy has vectorised.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from typing import Any

from tinygrad_notes.recording import plain
from tinygrad_notes.threads import share

import numpy as np

CHUNK = 2**17  # numbers worked on at a time: few enough for the cache, and so many that two threads seldom meet at the interpreter


def chunks(n: int) -> Iterator[slice]:
    """Slices of CHUNK numbers that cover 0..n-1."""
    return (slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def in_chunks(work: Callable[[slice], Any], n: int, cost: int) -> None:
    """work(slice) for chunks that cover n numbers. cost: of one number, in multiply-adds of a matrix product (a pass over an array: 8, exp: 35)."""
    share(n, CHUNK, work, n * cost)


def in_chunks_of_rows(work: Callable[[slice], Any], n: int, width: int, cost: int) -> None:
    """Likewise for n rows of `width` numbers."""
    share(n, CHUNK // width, work, n * width * cost)


def as_rows(x: np.ndarray) -> np.ndarray:
    """x (..., C) as (n, C)."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


@lru_cache(maxsize=64)
def ones(n: int, dtype: np.dtype) -> np.ndarray:
    """(n,), read-only, since whoever asks for it gets the same one."""
    made = plain(np.ones(n, dtype))  # also while a step is recorded: it is kept for others
    made.flags.writeable = False
    return made


def sum_of_rows(x: np.ndarray) -> np.ndarray:
    """The sum of each row: (..., n) -> (..., 1)"""
    return np.matmul(x, ones(x.shape[-1], x.dtype))[..., None]


def sum_of_products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of each row of x * y: (..., n) -> (..., 1)"""
    return np.vecdot(x, y)[..., None]


def sum_of_columns(x: np.ndarray) -> np.ndarray:
    """The sum of each column: (n, C) -> (C,)"""
    return np.matmul(ones(len(x), x.dtype), x)


def max_of_rows(x: np.ndarray) -> np.ndarray:
    """The largest member of each row, NaN where it has one: (n, C) -> (n, 1)"""
    return x[np.arange(len(x)), x.argmax(axis=-1)][:, None]
