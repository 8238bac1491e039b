"""A model's parameters as one vector, so that differences go through all of them at once."""

from collections.abc import Callable

import tinygrad_notes as tn
from tinygrad_notes import check

import numpy as np


def in_one_vector(model) -> tuple[Callable, np.ndarray]:
    """(put, vector): put(vector) gives the model parameters cut out of a vector (an array, or a Tensor with gradients); and their values now."""
    params = tn.parameters(model)

    def put(flat):
        start = 0
        for name, t in params.items():
            *parents, attribute = name.split(".")
            owner = model
            for part in parents:
                owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
            setattr(owner, attribute, flat[start : start + t.size].reshape(t.shape))
            start += t.size

    return put, np.concatenate([t.value.ravel() for t in params.values()])


def check_whole_loss(model, loss):
    """check_grads of loss(), a function of the model's float64 parameters: random directions go through all of them."""
    put, vector = in_one_vector(model)

    def of(flat):
        put(flat)
        return loss()

    check.check_grads(of, vector, order=1)
