"""Functions of Tensors and arrays that networks are made of: arrays in, arrays out, float32 in, float32 out."""

from tinygrad_notes.functional.activations import (
    elu,
    geglu,
    gelu,
    gelu_tanh,
    glu,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    logsumexp,
    normal_cdf,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    swiglu,
    swish,
)
from tinygrad_notes.functional.attention import attention_weights, scaled_dot_product_attention
from tinygrad_notes.functional.convolution import conv1d, conv2d, conv_transpose2d
from tinygrad_notes.functional.losses import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    huber,
    kl_div,
    l1,
    mse,
    nll,
    normalize,
)
from tinygrad_notes.functional.norms import batch_norm, group_norm, layer_norm, rms_norm
from tinygrad_notes.functional.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from tinygrad_notes.functional.projections import embedding, linear, one_hot
from tinygrad_notes.functional.regularisation import dropout
from tinygrad_notes.functional.resize import interpolate
from tinygrad_notes.functional.sampling import sample

__all__ = [
    "attention_weights",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "geglu",
    "gelu",
    "gelu_tanh",
    "glu",
    "group_norm",
    "huber",
    "interpolate",
    "kl_div",
    "l1",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "max_pool1d",
    "max_pool2d",
    "mse",
    "nll",
    "normal_cdf",
    "normalize",
    "one_hot",
    "relu",
    "rms_norm",
    "sample",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "swiglu",
    "swish",
]
