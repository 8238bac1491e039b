"""SiLU, x s with s = sigmoid(x) (Elfwing et al., 2017), and SwiGLU, which lets it gate (Shazeer, 2020).

    y = x s              dx = dy (s + x s (1 - s)) = dy s (1 + x (1 - s))
    (a, b) -> a b s      da = dy b s,   db = dy a s (1 + b (1 - s)),   s = sigmoid(b)

Both are worked on in pieces that stay in the cache, in place where that is possible.
"""

from tinygrad_notes.fused.rows import as_rows, in_chunks, in_chunks_of_rows
from tinygrad_notes.registry import fused

import numpy as np


def sigmoid_into(s, x):
    """s = sigmoid(x), written into s, to full relative precision."""
    return sigmoid_of_negative(np.negative(x, out=s))


def sigmoid_of_negative(x):
    """sigmoid(-x) = 1 / (1 + e^x), in place."""
    with np.errstate(over="ignore"):  # e^x = inf gives the right limit, 0
        np.exp(x, out=x)
    x += 1
    return np.divide(1, x, out=x)  # np.reciprocal takes half as long again


def slope_times(dy, s, y, out):
    """out = dy (s + y (1 - s)), the gradient of y = x s where s = sigmoid(x): with y in the place of x s it takes one pass less. All of one shape."""
    np.subtract(1, s, out=out)
    out *= y
    out += s
    out *= dy
    return out


def silu_backward(dy, s, x):
    """dy s (1 + x (1 - s)), the same where y is not known. All of one shape."""
    dx = 1 - s
    dx *= x
    dx += 1
    dx *= s
    dx *= dy
    return dx


def forward(x):
    """x of any shape -> y as x; saved are s and y, flat"""
    flat = x.reshape(-1)
    y, s = np.empty_like(flat), np.empty_like(flat)

    def fill(c):
        np.multiply(flat[c], sigmoid_into(s[c], flat[c]), out=y[c])

    in_chunks(fill, flat.size, 70)
    return y.reshape(x.shape), (s, y)


def backward(dy, saved, x, *, needs):
    """dy as y, s and y flat -> dx as x"""
    (s, y), dy = saved, dy.reshape(-1)
    dx = np.empty_like(s)

    def fill(c):
        slope_times(dy[c], s[c], y[c], out=dx[c])

    in_chunks(fill, dx.size, 40)
    return (dx.reshape(x.shape),)


def reference(x):
    """x / (1 + e^-x), the sigmoid as e^(-log(1 + e^-x)), which nowhere overflows"""
    return x * np.exp(-np.logaddexp(0, -x))


silu = fused("silu", forward, backward, reference, cases=[((3, 4),), ((),)])


def gated_forward(x):
    """x (..., 2F) = (a, b) -> y (..., F); saved is s (n, F) for the n rows of x"""
    rows, F = as_rows(x), x.shape[-1] // 2
    y, s = np.empty((len(rows), F), x.dtype), np.empty((len(rows), F), x.dtype)

    def fill(n):
        a, b = rows[n, :F], rows[n, F:]
        np.multiply(b, sigmoid_into(s[n], b), out=y[n])
        y[n] *= a

    in_chunks_of_rows(fill, len(rows), F, 80)
    return y.reshape(*x.shape[:-1], F), s


def gated_backward(dy, s, x, *, needs):
    """dy (..., F), s (n, F) -> dx (..., 2F) = (da, db)"""
    rows, dy, F = as_rows(x), as_rows(dy), x.shape[-1] // 2
    dx = np.empty_like(rows)

    def fill(n):
        a, b = rows[n, :F], rows[n, F:]
        da, db = dx[n, :F], dx[n, F:]
        np.multiply(dy[n], s[n], out=da)
        da *= b
        # db lies in pieces, F of each 2F numbers: a single pass over it
        np.multiply(silu_backward(dy[n], s[n], b), a, out=db)

    in_chunks_of_rows(fill, len(rows), F, 80)
    return (dx.reshape(x.shape),)


def gated_reference(x):
    """a * b / (1 + e^-b), a and b the halves of the last axis"""
    a, b = np.split(x, 2, axis=-1)
    return a * reference(b)


swiglu = fused("swiglu", gated_forward, gated_backward, gated_reference, cases=[((3, 4),), ((2, 3, 2),), ((6,),)])
