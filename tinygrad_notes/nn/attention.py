"""Multi-head attention with its four linear maps."""

import math

from tinygrad_notes.functional.attention import scaled_dot_product_attention
from tinygrad_notes.nn import init
from tinygrad_notes.nn.basic import Linear
from tinygrad_notes.nn.module import Module
from tinygrad_notes.tensor import Tensor

import numpy as np


class MultiHeadAttention(Module):
    """out_proj(concat over heads of softmax(q k^T / sqrt(hd)) v), q, k, v = projections (Vaswani et al., 2017).

    width: of queries and outputs; heads: nh, hd = width / heads; kv_heads: nkv, fewer key and value
    heads that queries share; context_width: of keys and values, if they come from elsewhere.

    PyTorch's nn.MultiheadAttention keeps the first three maps in one:
        in_proj_weight = concatenate([q_proj.weight, k_proj.weight, v_proj.weight])   (3 C, C)
        in_proj_bias   = concatenate([q_proj.bias, k_proj.bias, v_proj.bias])         (3 C,)
    and its out_proj is ours. Initial weights have its distribution, too.
    """

    def __init__(self, width, heads, *, kv_heads=None, context_width=None, bias=True, rng, dtype=np.float32):
        kv_heads = heads if kv_heads is None else kv_heads
        source = width if context_width is None else context_width
        init.check_sizes("MultiHeadAttention", width=width, heads=heads, kv_heads=kv_heads, context_width=source)
        init.check_rng("MultiHeadAttention", rng)
        if width % heads or heads % kv_heads:
            raise ValueError(
                f"MultiHeadAttention: width {width}, heads {heads}, kv_heads {kv_heads}; expected each to divide the one before"
            )
        self.heads, self.kv_heads = heads, kv_heads
        inner = width // heads * kv_heads
        self.q_proj = Linear(width, width, bias=bias, rng=rng, dtype=dtype)
        self.k_proj = Linear(source, inner, bias=bias, rng=rng, dtype=dtype)
        self.v_proj = Linear(source, inner, bias=bias, rng=rng, dtype=dtype)
        self.out_proj = Linear(width, width, bias=bias, rng=rng, dtype=dtype)
        for layer in (self.q_proj, self.k_proj, self.v_proj):
            # PyTorch draws the three as one matrix, whose fan-out is three times as large: hence the gain.
            layer.weight = Tensor(init.xavier_uniform(layer.weight.shape, rng, gain=math.sqrt(0.5), dtype=dtype))
        if bias:
            for layer in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
                layer.bias = Tensor(init.zeros(len(layer.weight), dtype))

    def __call__(self, x, key=None, value=None, *, causal=False, mask=None, bias=None, window=None):
        """x (B, T, C), key and value (B, S, context_width) -> (B, T, C).

        key is x, and value is key, unless given. The options are those of
        functional.scaled_dot_product_attention.
        """
        key = x if key is None else key
        value = key if value is None else value
        q = split(self.q_proj(x), self.heads)  # (B, nh, T, hd)
        k = split(self.k_proj(key), self.kv_heads)  # (B, nkv, S, hd)
        v = split(self.v_proj(value), self.kv_heads)  # (B, nkv, S, hd)
        y = scaled_dot_product_attention(q, k, v, causal=causal, mask=mask, bias=bias, window=window)  # (B, nh, T, hd)
        return self.out_proj(np.swapaxes(y, -3, -2).reshape(x.shape))


def split(x, heads):
    """(B, T, heads * hd) -> (B, heads, T, hd)"""
    return np.swapaxes(x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads), -3, -2)
