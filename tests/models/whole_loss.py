"""The gradient of a model's whole loss by all of its parameters at once, against differences."""

import tinygrad_notes as tn
from tinygrad_notes import check

import numpy as np


def check_whole_loss(model, loss):
    """check_grads of loss(), a function of the model's float64 parameters, as one vector: random directions go through all of them."""
    params = tn.parameters(model)

    def of(flat):
        start = 0
        for name, t in params.items():
            *parents, attribute = name.split(".")
            owner = model
            for part in parents:
                owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
            setattr(owner, attribute, flat[start : start + t.size].reshape(t.shape))
            start += t.size
        return loss()

    check.check_grads(of, np.concatenate([t.value.ravel() for t in params.values()]), order=1)
