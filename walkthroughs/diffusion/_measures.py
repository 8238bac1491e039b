"""How far apart are two sets of points or images? What both diffusion walkthroughs measure with."""

import tinygrad_notes as tn
from tinygrad_notes import data, optim
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Linear, Module

import numpy as np

WIDTHS = (0.1, 0.3, 1.0)  # of the kernels, for points within about [-1, 1]


def mmd(x, y):
    """The squared maximum mean discrepancy of points x (n, D) and y (m, D) (Gretton et al., 2012): unbiased, so it may be below 0.

    Points of one set are nearer to one another than to the other set's where the sets differ. Nearness is the mean of three
    Gaussian kernels, of the WIDTHS.
    """

    def near(a, b):
        squares = np.sum((a[:, None] - b[None]) ** 2, axis=-1)
        return sum(np.exp(squares / (-2 * w * w)) for w in WIDTHS) / len(WIDTHS)

    n, m = len(x), len(y)
    within = (np.sum(near(x, x)) - n) / (n * (n - 1)) + (np.sum(near(y, y)) - m) / (m * (m - 1))
    return float(within - 2 * np.mean(near(x, y)))


def covered(x, centres, reach):
    """(how many centres have a twentieth of an even share of the points or more within reach, the share of points that are within any)."""
    distance = np.linalg.norm(x[:, None] - centres, axis=-1)
    near = distance.argmin(axis=1)[distance.min(axis=1) < reach]
    shares = np.bincount(near, minlength=len(centres)) / len(x)
    return int(np.sum(shares > 1 / (20 * len(centres)))), float(shares.sum())


def mode_spread(x, centres):
    """The standard deviation of points (in each direction) within modes, each around its own mean; a point is its nearest centre's."""
    mode = np.linalg.norm(x[:, None] - centres, axis=-1).argmin(axis=1)
    means = np.stack([x[mode == k].mean(axis=0) if np.any(mode == k) else centre for k, centre in enumerate(centres)])
    return float(np.sqrt(np.mean((x - means[mode]) ** 2)))


def frechet(a, b):
    """The Frechet distance between Gaussians with the means and covariances of features a (n, D) and b (m, D) (Heusel et al., 2017).

    |mean difference|^2 + Tr(A + B - 2 (A B)^(1/2)); the eigenvalues of A B are real and not negative.
    """
    A, B = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(A @ B).real, 0))
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(A + B) - 2 * roots.sum())


class Judge(Module):
    """A small classifier of digits (B, 8, 8) in [0, 1]. Its last hidden layer gives the features of the Frechet distance."""

    def __init__(self, rng):
        self.first = Linear(64, 128, rng=rng)
        self.second = Linear(128, 32, rng=rng)
        self.head = Linear(32, 10, rng=rng)

    def features(self, x):
        B = len(x)
        return F.silu(self.second(F.silu(self.first(x.reshape(B, 64)))))

    def __call__(self, x):
        return self.head(self.features(x))


def trained_judge(images, labels, rng, steps=1000):
    """A Judge that has seen these images (n, 8, 8) with a little noise, without Tensors."""
    judge = Judge(rng)
    params = tn.parameters(judge)
    optimizer = optim.AdamW(params, lr=3e-3)
    for step, index in zip(range(steps), data.minibatches(len(images), 64, rng)):
        noisy = images[index] + np.float32(0.1) * rng.standard_normal(images[index].shape, np.float32)
        loss = F.cross_entropy(judge(noisy), labels[index])
        optimizer.step(tn.gradients(loss, params, unused="raise"), lr=optim.cosine(step, peak=3e-3, steps=steps))
    return tn.frozen(judge)
