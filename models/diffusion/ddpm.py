"""DDPM: noise is added to data in many small steps, and a network learns to take them back.

Ho, Jain, Abbeel (2020), "Denoising Diffusion Probabilistic Models". A fixed process q turns data x_0 into noise x_T, a little
at each time t = 1 ... T, and x_t can be had from x_0 in one go. A network is trained to say which noise eps is in x_t.
Knowing it, each step can be undone in distribution, and T of these make data from noise.

    (1)  q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I)        alpha_t = 1 - beta_t, alpha_bar_t = alpha_1 ... alpha_t
    (2)  x_t    = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,     eps ~ N(0, I)
    (3)  loss   = mean (eps - eps_theta(x_t, t))^2,                      t uniform: "L_simple", the bound without its weights
    (4)  x_0    ~ (x_t - sqrt(1 - alpha_bar_t) eps_theta) / sqrt(alpha_bar_t)
    (5)  mu     = [sqrt(alpha_bar_{t-1}) beta_t x_0 + sqrt(alpha_t) (1 - alpha_bar_{t-1}) x_t] / (1 - alpha_bar_t)
                = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_theta) / sqrt(alpha_t)
    (6)  x_{t-1} = mu + sigma_t z,  z ~ N(0, I), no z at t = 1           sigma_t^2 = beta_t, or beta_tilde_t:
    (7)  beta_tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t the variance of q(x_{t-1} | x_t, x_0)
    (8)  linear: beta_t from 1e-4 to 0.02;   cosine: alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) pi/2)
    (9)  guided eps = eps(x_t, no class) + w [eps(x_t, y) - eps(x_t, no class)]

B batch, ... the axes of one example, T steps; tables have T + 1 entries, so that the paper's t is the index and t = 0 is the data.

The cosine schedule is of Nichol and Dhariwal (2021), "Improved DDPM"; (9) is of Ho and Salimans (2022), "Classifier-Free
Diffusion Guidance", whose own w is ours less 1: here 0 is unconditional, 1 conditional, more is guided.

Differs from the paper: besides its U-Net (unet.py) there is a small MLP for points, which the paper does not have.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from models.diffusion.unet import sinusoid
from tinygrad_notes import frozen
from tinygrad_notes import functional as F
from tinygrad_notes.nn import Linear, Module

import numpy as np

# --- the processes q and p ---------------------------------------------------------------------


def linear_betas(T=1000, first=1e-4, last=0.02):
    """Equation 8: beta_1 ... beta_T, (T,) float64. The paper's ends are made for T = 1000: fewer steps need larger betas."""
    return np.linspace(first, last, T)


def cosine_betas(T=1000, s=0.008, largest=0.999):
    """Equation 8, as betas: 1 - alpha_bar_t / alpha_bar_{t-1}, at most `largest`. (T,) float64, for any T."""
    if T < 1:
        raise ValueError(f"cosine_betas: T is {T}, expected at least 1 step")
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * (math.pi / 2)) ** 2
    return np.minimum(1 - f[1:] / f[:-1], largest)


class Diffusion:
    """What is fixed: tables over t = 0 ... T, in float64. Whatever uses them keeps the dtype of the data."""

    def __init__(self, betas):
        """betas: beta_1 ... beta_T, (T,), each above 0 and below 1."""
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or not betas.size:
            raise ValueError(f"Diffusion: betas have shape {betas.shape}, expected (T,) with T at least 1")
        if not np.all((betas > 0) & (betas < 1)):
            raise ValueError(f"Diffusion: betas go from {betas.min()} to {betas.max()}, expected numbers above 0 and below 1")
        self.T = T = len(betas)
        self.beta = np.append(0.0, betas)  # (T+1,)
        self.alpha = 1 - self.beta  # (T+1,)
        self.alpha_bar = np.cumprod(self.alpha)  # (T+1,)
        self.beta_tilde = np.zeros(T + 1)  # (T+1,)
        self.beta_tilde[1:] = (1 - self.alpha_bar[:-1]) / (1 - self.alpha_bar[1:]) * betas
        self.variances = {"beta": self.beta, "beta_tilde": self.beta_tilde}

    def check_times(self, name, t, first):
        if np.min(t) < first or np.max(t) > self.T:
            raise ValueError(f"{name}: times go from {np.min(t)} to {np.max(t)}, expected times from {first} to T = {self.T}")

    def q_sample(self, x0, t, eps):
        """Equation 2: x0 and eps (B, ...), t one time or (B,) -> x_t, (B, ...)."""
        if np.shape(x0) != np.shape(eps):
            raise ValueError(f"q_sample: x0 is {np.shape(x0)} and eps {np.shape(eps)}, expected equal shapes")
        self.check_times("q_sample", t, 0)
        alpha_bar = np.take(self.alpha_bar, t)
        return times(np.sqrt(alpha_bar), x0) + times(np.sqrt(1 - alpha_bar), eps)

    def predict_x0(self, x, t, eps):
        """Equation 4: equation 2 solved for x_0."""
        self.check_times("predict_x0", t, 0)
        alpha_bar = np.take(self.alpha_bar, t)
        return times(1 / np.sqrt(alpha_bar), x) - times(np.sqrt(1 / alpha_bar - 1), eps)

    def predict_eps(self, x, t, x0):
        """Equation 2 solved for eps, t from 1."""
        self.check_times("predict_eps", t, 1)
        alpha_bar = np.take(self.alpha_bar, t)
        return times(1 / np.sqrt(1 - alpha_bar), x) - times(np.sqrt(alpha_bar / (1 - alpha_bar)), x0)

    def q_posterior(self, x0, x, t):
        """Equation 5, first line: the mean of x_{t-1} given x_t = x and x_0, t from 1."""
        self.check_times("q_posterior", t, 1)
        alpha_bar, before = self.alpha_bar[t], self.alpha_bar[t - 1]
        mean = times(np.sqrt(before) * self.beta[t] / (1 - alpha_bar), x0)
        return mean + times(np.sqrt(self.alpha[t]) * (1 - before) / (1 - alpha_bar), x)


def times(c, x):
    """c x, where c is a float64 number, or one for each example of x (B, ...): cast once, so that x keeps its dtype."""
    if x.dtype.kind != "f":
        raise TypeError(f"Diffusion: the data is {x.dtype} {x.shape}, expected floats; use x.astype(np.float32)")
    return c.reshape(c.shape + (1,) * (x.ndim - c.ndim)).astype(x.dtype) * x


def loss(model, process, x0, rng, **inputs):
    """Equation 3: x0 (B, ...). inputs: what the model takes besides x and t, by name, such as y=classes."""
    t = rng.integers(1, process.T + 1, len(x0))  # (B,)
    eps = rng.standard_normal(x0.shape, x0.dtype)
    return F.mse(model(process.q_sample(x0, t, eps), t, **inputs), eps)


def p_sample(model, process, x, t, rng, *, variance="beta", clip=None):
    """Equation 6: x = x_t -> x_{t-1}, both (B, ...); t one time for all.

    variance: "beta" is right for data that is N(0, I) itself, "beta_tilde" for data that is a single point.
    clip: keep the x_0 of equation 4 within [-clip, clip], where the data is known to lie.
    """
    if variance not in process.variances or not 1 <= t <= process.T:
        raise ValueError(f"p_sample: variance={variance!r} at t={t}, expected 'beta' or 'beta_tilde' and a t from 1 to {process.T}")
    x0 = process.predict_x0(x, t, model(x, np.full(len(x), t)))
    if clip is not None:
        x0 = np.clip(x0, -clip, clip)
    mean = process.q_posterior(x0, x, t)
    if t == 1:
        return mean
    z = rng.standard_normal(x.shape, x.dtype)
    return mean + math.sqrt(process.variances[variance][t]) * z


def sample(model, process, shape, rng, *, variance="beta", clip=None, dtype=np.float32):
    """Algorithm 2 of the paper: x_0 (B, ...) of the given shape, made of noise in T steps. model: anything that maps (x, t) to eps."""
    if rng is None:
        raise ValueError("ddpm.sample: rng is None, expected a generator, from which the noise comes; pass np.random.default_rng(0)")
    model = frozen(model)
    x = rng.standard_normal(shape, dtype)
    for t in range(process.T, 0, -1):
        x = p_sample(model, process, x, t, rng, variance=variance, clip=clip)
    return x


# --- guidance without a classifier ------------------------------------------------------------------


def drop_classes(y, none, rng, p=0.1):
    """y (B,) with each class replaced by `none` with probability p, so that one model learns both terms of equation 9."""
    return np.where(rng.random(len(y)) < p, none, y)


def guided(model, y, w):
    """Equation 9: a model (x, t) -> eps that is pulled towards the classes y (B,); the given one takes (x, t, y) and (x, t)."""
    model = frozen(model)

    def eps(x, t):
        free = model(x, t)
        return free + w * (model(x, t, y) - free)

    return eps


# --- a network for points -----------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    dimensions: int = 2  # of a point
    width: int = 128
    layers: int = 3  # hidden ones
    dtype: type = np.float32

    def __post_init__(self):
        if self.width % 2 or self.width < 4 or self.layers < 1:
            raise ValueError(f"Config: width {self.width}, layers {self.layers}; expected an even width from 4 on and at least one layer")

    @staticmethod
    def tiny(**changes) -> "Config":
        return Config(**{"width": 6, "layers": 2} | changes)


class MLP(Module):
    """x (B, D) points, t (B,) times -> the noise in x, (B, D). Every hidden layer is told the time."""

    def __init__(self, config, rng):
        self.config = config
        widths = [config.dimensions] + [config.width] * config.layers
        self.hidden = [Linear(n, m, rng=rng, dtype=config.dtype) for n, m in pairwise(widths)]
        self.time = [Linear(config.width, config.width, rng=rng, dtype=config.dtype) for _ in self.hidden]
        self.out = Linear(config.width, config.dimensions, rng=rng, dtype=config.dtype)

    def __call__(self, x, t):
        if np.ndim(x) != 2 or x.shape[1] != self.config.dimensions or np.shape(t) != (len(x),):
            raise ValueError(f"MLP: x has shape {np.shape(x)} and t {np.shape(t)}, expected (B, {self.config.dimensions}) and (B,)")
        emb = sinusoid(t, self.config.width, self.config.dtype)
        for hidden, time in zip(self.hidden, self.time):
            x = F.silu(hidden(x) + time(emb))
        return self.out(x)
