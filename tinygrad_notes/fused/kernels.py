"""All kernels by name, for the functions that check their arguments and call them."""

from tinygrad_notes.fused.attention import blocked_attention
from tinygrad_notes.fused.convolution import convolution, transposed_convolution
from tinygrad_notes.fused.cross_entropy import cross_entropy
from tinygrad_notes.fused.dropout import dropout
from tinygrad_notes.fused.embedding import embedding
from tinygrad_notes.fused.gelu import gelu, gelu_tanh
from tinygrad_notes.fused.group_norm import group_norm
from tinygrad_notes.fused.layer_norm import layer_norm
from tinygrad_notes.fused.linear import linear
from tinygrad_notes.fused.rms_norm import rms_norm
from tinygrad_notes.fused.silu import silu, swiglu
from tinygrad_notes.fused.softmax import log_softmax, softmax
from tinygrad_notes.fused.squared_error import squared_error

__all__ = [
    "blocked_attention",
    "convolution",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "gelu_tanh",
    "group_norm",
    "layer_norm",
    "linear",
    "log_softmax",
    "rms_norm",
    "silu",
    "softmax",
    "squared_error",
    "swiglu",
    "transposed_convolution",
]
