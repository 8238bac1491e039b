"""Layers: plain classes whose attributes are Tensors (trained), arrays (buffers), other layers, and lists of these.

Names and shapes are PyTorch's, so that published weights match by name. Layers that start from
random weights take an rng; dtype is float32 unless given.
"""

from tinygrad_notes.nn.attention import MultiHeadAttention
from tinygrad_notes.nn.basic import Dropout, Embedding, Linear, Sequential
from tinygrad_notes.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from tinygrad_notes.nn.module import Module
from tinygrad_notes.nn.norms import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "Sequential",
]
