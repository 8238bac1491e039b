"""A model whose parameters are one vector, so that a gradient check goes through all of them at once."""

import tinygrad_notes as tn

import numpy as np


def flattened(model, rng):
    """All parameters in one vector, moved a little at random: no weight is exactly 0, where its gradient hides others."""
    flat = np.concatenate([t.value.ravel() for t in tn.parameters(model).values()])
    return flat + 0.1 * rng.normal(size=flat.shape)


def refilled(model, flat):
    """The model with its parameters cut from the vector `flat`, which may be a Tensor."""
    start = 0

    def cut(leaf):
        nonlocal start
        start += leaf.size
        return flat[start - leaf.size : start].reshape(leaf.shape)

    return tn.map_model(cut, model)
