"""Linear maps, lookup tables, dropout, and layers in a row."""

from tinygrad_notes.functional.projections import embedding, linear
from tinygrad_notes.functional.regularisation import check_probability, dropout
from tinygrad_notes.nn import init
from tinygrad_notes.nn.module import Module
from tinygrad_notes.tensor import Tensor

import numpy as np


def variable(array):
    """A Tensor to be trained, or None."""
    return None if array is None else Tensor(array)


class Linear(Module):
    """x (..., in) -> x @ weight.T + bias (..., out)."""

    def __init__(self, n_in, n_out, *, bias=True, rng, dtype=np.float32):
        init.check_sizes("Linear", n_in=n_in, n_out=n_out)
        init.check_rng("Linear", rng)
        weight, b = init.default((n_out, n_in), n_out, rng, bias=bias, dtype=dtype)
        self.weight = Tensor(weight)  # (out, in)
        self.bias = variable(b)  # (out,) or None

    def __call__(self, x):
        return linear(x, self.weight, self.bias)


class Embedding(Module):
    """ids (...) integers below V -> weight[ids] (..., C); rows start as draws from N(0, 1)."""

    def __init__(self, vocabulary, width, *, rng, dtype=np.float32):
        init.check_sizes("Embedding", vocabulary=vocabulary, width=width)
        init.check_rng("Embedding", rng)
        self.weight = Tensor(init.normal((vocabulary, width), rng, dtype=dtype))  # (V, C)

    def __call__(self, ids):
        return embedding(ids, self.weight)


class Dropout(Module):
    """Elements become 0 with probability p where an rng is passed; see functional.dropout."""

    def __init__(self, p):
        check_probability("Dropout", p)
        self.p = p

    def __call__(self, x, rng=None):
        return dropout(x, self.p, rng)


class Sequential(Module):
    """Layers and functions of one argument, applied in turn: Sequential(Linear(...), relu, Linear(...)).

    The attributes are called "0", "1", ..., as in PyTorch. Layers that need more than x (an rng, a
    mask, train=) belong in a class of their own.
    """

    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            if not callable(layer):
                advice = "; unpack it: Sequential(*layers)" if isinstance(layer, list | tuple) else ""
                raise TypeError(f"Sequential: member {i} is of type {type(layer).__name__}, expected a layer or function{advice}")
        vars(self).update({str(i): layer for i, layer in enumerate(layers)})

    def __call__(self, x):
        for layer in vars(self).values():
            x = layer(x)
        return x
