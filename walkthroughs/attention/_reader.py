"""What the walkthroughs of attention train, and what they ask of a layer: which of its inputs does an output feel?"""

import tinygrad_notes as tn
from tinygrad_notes import nn, optim

import numpy as np
from tqdm import tqdm


class Reader(nn.Module):
    """ids (B, T) int -> answers (B, T, out): one layer of attention, attn(query, key, value, mask=...), between an embedding and a linear map.

    Queries and keys see places only, values see tokens only, so that where a head looks and what it finds are apart.
    """

    def __init__(self, V, T, C, attn, out, rng):
        self.token, self.place = nn.Embedding(V, C, rng=rng), nn.Embedding(T, C, rng=rng)
        self.attn, self.read = attn, nn.Linear(C, out, rng=rng)

    def places(self, B, T):
        places = self.place(np.arange(T))
        return np.broadcast_to(places, (B, *places.shape))

    def __call__(self, ids, mask):
        places = self.places(*ids.shape)  # (B, T, C)
        return self.read(self.attn(places, places, self.token(ids), mask=mask))


def train(model, loss_of, steps, name):
    """The whole of training; loss_of(model) draws a batch."""
    params, losses = tn.parameters(model), []
    optimizer = optim.Adam(params, lr=5e-3)
    for _ in tqdm(range(steps), desc=name, unit="step", disable=None):
        loss = loss_of(model)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
        losses.append(loss.item())
    return losses


def felt(f, *inputs):
    """For each of the inputs (1, S, C) of f, a matrix (T, S): how much |y_i|^2 of y = f(*inputs), (1, T, C), changes with each place, at most."""
    leaves = [tn.Tensor(x) for x in inputs]
    T = f(*inputs).shape[1]
    rows = [tn.gradients(np.sum(f(*leaves)[0, i] ** 2), leaves) for i in range(T)]
    return [np.stack([np.abs(g[0]).max(axis=-1) for g in of_one]) for of_one in zip(*rows)]
