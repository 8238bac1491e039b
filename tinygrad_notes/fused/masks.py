"""Which keys a query may see: by its place (causal, a window), by a given mask, by document.

T queries, S keys; N batch and key heads together, R query heads that share a key head.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from tinygrad_notes.recording import plain

import numpy as np


class Mask(NamedTuple):
    """Which keys a query may see. Query i stands at position offset + i among the keys."""

    causal: bool
    window: int | None  # only keys less than this many positions away, the query's own counted
    offset: int
    given: np.ndarray | None  # bool (N|1, R|1, T|1, S|1), True where a query may attend
    documents: tuple[np.ndarray, np.ndarray] | None  # ids (N|1, T) and (N|1, S): only within the same document

    def hides(self, T: int, S: int) -> bool:
        """Whether any of T queries may be kept from any of S keys."""
        if self.given is not None or self.documents is not None or (self.causal and self.offset < S - 1):
            return True
        return self.window is not None and max(self.offset + T - 1, S - 1 - self.offset) >= self.window

    def keys(self, i: slice, S: int) -> tuple[int, int]:
        """The range of keys that some query of block i may see by its position: all others are never touched."""
        first, last = 0, S
        if self.window is not None:
            first = max(0, self.offset + i.start - self.window + 1)
            last = min(S, self.offset + i.stop - 1 + self.window)
        if self.causal:
            last = min(last, self.offset + i.stop)
        return first, max(first, last)

    def blocks(self, n: slice, i: slice, S: int, size: int) -> Iterator[tuple[slice, np.ndarray | None]]:
        """The blocks of keys, of this size, of which some query of block i may see something, each with its mask."""
        first, last = self.keys(i, S)
        for start in range(first, last, size):
            j = slice(start, min(start + size, last))
            may = self.block(n, i, j)
            if may is None or may.any():
                yield j, may

    def block(self, n: slice, i: slice, j: slice) -> np.ndarray | None:
        """The mask of one block, broadcastable to (n, R, i, j); None where everything may be seen."""
        nearest, farthest = self.offset + i.start - (j.stop - 1), self.offset + i.stop - 1 - j.start  # places behind the query
        may = None
        if (self.causal and nearest < 0) or (self.window is not None and max(farthest, -nearest) >= self.window):
            may = by_position(i.stop - i.start, j.stop - j.start, self.offset + i.start - j.start, self.causal, self.window)
        if self.given is None and self.documents is None:
            return may
        if self.given is not None:
            may = _both(may, cut(self.given, n, i, j))
        if self.documents is not None:
            q, k = self.documents
            may = _both(may, (_rows(q, n)[:, i, None] == _rows(k, n)[:, None, j])[:, None])
        return None if may is None or may.all() else may


@lru_cache(maxsize=16)  # all blocks on the diagonal are alike
def by_position(queries: int, keys: int, ahead: int, causal: bool, window: int | None) -> np.ndarray:
    """Which keys of a block its queries may see by their places; the first query stands `ahead` places after the first key."""
    behind = ahead + np.arange(queries)[:, None] - np.arange(keys)
    may = np.ones(behind.shape, bool)
    if causal:
        may &= behind >= 0
    if window is not None:
        may &= np.abs(behind) < window
    may = plain(may)  # also while a step is recorded: it is kept for others
    may.flags.writeable = False
    return may


def _both(a, b):
    return b if a is None else a & b


def _rows(x, n):
    return x if len(x) == 1 else x[n]


def cut(x, n: slice, i: slice, j: slice):
    """The block (n, :, i, j) of an array that broadcasts to (N, R, T, S)."""
    return _rows(x, n)[:, :, i if x.shape[2] > 1 else slice(None), j if x.shape[3] > 1 else slice(None)]


def masked(
    T: int, S: int, *, causal: bool = False, window: int | None = None, offset: int | None = None, given=None, documents=None
) -> Mask:
    """The Mask of T queries and S keys; the first query stands so that the last one meets the last key, unless offset tells."""
    return Mask(causal, window, S - T if offset is None else offset, given, documents)
