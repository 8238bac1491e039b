"""What the tests of this family share: data whose score is known, a generator that shows what a sampler does with its draws, all
parameters in one vector."""

import numpy as np


def gaussian(process, mean=0.0, std=1.0):
    """The model (x, t) -> eps that is exact for data N(mean, std^2): E[eps | x_t], by conditioning one Gaussian on another."""

    def eps(x, t):
        alpha_bar = process.alpha_bar[t].reshape(-1, *(1 for _ in x.shape[1:]))
        return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * mean) / (alpha_bar * std**2 + 1 - alpha_bar)

    return eps


class Impulses:
    """A generator whose k-th draw is 1 for example k and 0 for the others: a sampler that is linear in its noise returns, in
    example k, the coefficient of draw k, and the sum of their squares is the variance of its samples, without any sampling."""

    def __init__(self):
        self.draws = 0

    def standard_normal(self, shape, dtype):
        z = np.zeros(shape, dtype)
        z[self.draws] = 1
        self.draws += 1
        return z


def variance_of(sampler, draws):
    """The exact variance of what sampler(shape, rng) returns, a sampler that is linear in its `draws` draws of noise."""
    rng = Impulses()
    coefficients = sampler((draws, 1), rng)
    assert rng.draws == draws
    return float(np.sum(coefficients**2))
