"""Windows that slide over the space axes of (N, C, *space): cut out (`unfold`), or added up again (`fold`). Plain arrays only.

kernel, stride, padding, dilation: tuples with one number for each space axis.
"""

from itertools import product

import numpy as np


def places(name, space, kernel, stride, padding, dilation):
    """How many windows fit along each axis. ValueError, in the name of the public function, where none does."""
    count = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(space, kernel, stride, padding, dilation))
    if min(count, default=1) < 1:
        raise ValueError(
            f"{name}: a kernel {kernel} with dilation {dilation} is larger than x {tuple(space)} padded by {padding}; pad more or use a smaller kernel"
        )
    return count


def offsets(kernel, count, stride, dilation):
    """For each member of the kernel: its index, and an index of the padded x that picks it from every window, (N, C, *places)."""
    for at in product(*map(range, kernel)):
        where = (slice(a * d, a * d + s * (n - 1) + 1, s) for a, n, s, d in zip(at, count, stride, dilation))
        yield at, (slice(None), slice(None), *where)


def inner(space, padding):
    """Where x lies in its padded copy: an index."""
    return (slice(None), slice(None), *(slice(p, p + n) for n, p in zip(space, padding)))


def pad_space(x, padding, fill=0.0):
    """x (N, C, *space) between `padding` numbers `fill` at both ends of each space axis; x itself where there is none."""
    if not any(padding):
        return x
    padded = np.full((*x.shape[:2], *(n + 2 * p for n, p in zip(x.shape[2:], padding))), fill, x.dtype)
    padded[inner(x.shape[2:], padding)] = x
    return padded


def unfold(x, *, kernel, stride, padding, dilation, fill=0.0):
    """Every window of x (N, C, *space), padded with `fill` -> (N, C, *kernel, *places), of the dtype of x.

    kernel, stride, padding, dilation: tuples with one number for each space axis. Raises ValueError where no window fits.
    """
    count = places("unfold", x.shape[2:], kernel, stride, padding, dilation)
    windows = np.empty((*x.shape[:2], *kernel, *count), x.dtype)
    x = pad_space(x, padding, fill)
    for at, where in offsets(kernel, count, stride, dilation):
        windows[(slice(None), slice(None), *at)] = x[where]
    return windows


def fold(windows, *, space, stride, padding, dilation):
    """The transpose of `unfold`: windows (N, C, *kernel, *places) added up where they overlap -> (N, C, *space), of their dtype."""
    kernel, count = windows.shape[2 : 2 + len(space)], windows.shape[2 + len(space) :]
    x = np.zeros((*windows.shape[:2], *(n + 2 * p for n, p in zip(space, padding))), windows.dtype)
    for at, where in offsets(kernel, count, stride, dilation):
        x[where] += windows[(slice(None), slice(None), *at)]
    return np.ascontiguousarray(x[inner(space, padding)])
