"""Resizing images: every output row and column is a weighted mean of input rows and columns."""

from functools import lru_cache

from tinygrad_notes.functional.convolution import each_axis
from tinygrad_notes.functional.define import check_flag, takes_lists
from tinygrad_notes.functional.projections import linear
from tinygrad_notes.recording import plain

import numpy as np


def triangle(t):
    return np.maximum(1 - np.abs(t), 0)


def cubic(t, a):
    """Keys' (1981) kernel: piecewise cubic on [-2, 2], smooth, 1 at 0 and 0 at the other integers."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


# For each mode: how far the kernel reaches, the kernel, and the kernel when antialiased.
# PyTorch takes a = -3/4 for a plain bicubic and, as Pillow does, -1/2 for an antialiased one.
KERNELS = {
    "bilinear": (1, triangle, triangle),
    "bicubic": (2, lambda t: cubic(t, -0.75), lambda t: cubic(t, -0.5)),
}


@lru_cache(maxsize=64)
def resampling(n_in, n_out, mode, antialias, dtype):
    """The matrix (n_out, n_in) whose rows weigh the inputs for each output; pixel i lies at i + 1/2."""
    scale = n_in / n_out
    matrix = np.zeros((n_out, n_in))
    rows = np.arange(n_out)[:, None]
    if mode == "nearest":
        matrix[rows, rows * n_in // n_out] = 1
    elif antialias:
        # The kernel is widened to cover all the inputs that an output stands for, and cut at the border.
        _, _, kernel = KERNELS[mode]
        matrix[...] = kernel((np.arange(n_in) + 0.5 - (rows + 0.5) * scale) / max(scale, 1.0))
        matrix /= matrix.sum(axis=1, keepdims=True)
    else:
        # The kernel stays as it is, and the border pixel stands for all that lies beyond.
        reach, kernel, _ = KERNELS[mode]
        x = (rows + 0.5) * scale - 0.5
        near = np.floor(x) + np.arange(1 - reach, 1 + reach)
        np.add.at(matrix, (rows, np.clip(near, 0, n_in - 1).astype(int)), kernel(x - near))
    matrix = plain(matrix.astype(dtype))  # also while a step is recorded: it is kept for others
    matrix.flags.writeable = False
    return matrix


@takes_lists("x")
def interpolate(x, size, mode="bilinear", antialias=False):
    """Resize images x (N, C, H, W) to `size`, a number or (height, width).

    mode: "nearest", "bilinear" or "bicubic", with the corners of the images aligned rather than the
    centres of the corner pixels (PyTorch's align_corners=False). antialias=True averages over all
    the pixels that a smaller image leaves out, as Pillow does.
    """
    if x.ndim != 4 or x.dtype.kind != "f" or not x.size:
        raise ValueError(f"interpolate: x is {x.dtype} {x.shape}, expected floats (N, C, H, W), not empty")
    check_flag("interpolate", "antialias", antialias)
    if mode != "nearest" and mode not in KERNELS:
        raise ValueError(f"interpolate: mode={mode!r}, expected 'nearest', 'bilinear' or 'bicubic'")
    if antialias and mode == "nearest":
        raise ValueError("interpolate: antialias=True has no meaning with mode='nearest'; use 'bilinear' or 'bicubic'")
    height, width = each_axis("interpolate", "size", size, 2, 1)
    H, W = x.shape[2:]
    x = linear(x, resampling(W, width, mode, antialias, x.dtype))
    return np.matmul(resampling(H, height, mode, antialias, x.dtype), x)
