"""The keys and values of past positions, so that each new token is computed once."""

import numpy as np


class KVCache:
    """Room for the keys and values of one attention layer: arrays only, for inference.

    shape: (B, heads, longest, hd). `extend` writes behind what is there and returns views of all.
    """

    def __init__(self, shape: tuple[int, ...], dtype=np.float32):
        self.keys, self.values = np.zeros(shape, dtype), np.zeros(shape, dtype)
        self.length = 0

    def extend(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """k, v: (B, heads, T, hd), the next T positions -> all keys and values so far, (B, heads, length, hd)."""
        if not (isinstance(k, np.ndarray) and isinstance(v, np.ndarray)):
            raise TypeError("KVCache: keys and values must be arrays, a Tensor came; a cache is for inference: call frozen(model)")
        start, end = self.length, self.length + k.shape[-2]
        keys, values = self.keys[..., start:end, :], self.values[..., start:end, :]
        if keys.shape != k.shape or values.shape != v.shape:
            self.refuse(end, k, v)
        keys[...], values[...] = k, v
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def refuse(self, end, k, v):
        """The error for keys and values that do not fit."""
        if end > self.keys.shape[-2]:
            raise ValueError(
                f"KVCache: {end} positions do not fit, the cache holds {self.keys.shape[-2]}; make a longer one, or forget the oldest"
            )
        raise ValueError(
            f"KVCache: keys {k.shape} and values {v.shape} came, the cache is {self.keys.shape} (B, heads, longest, hd); make one for this batch"
        )
