"""DDIM: the network of a trained DDPM, sampled in a few steps, with no noise, and backwards.

Song, Meng, Ermon (2020), "Denoising Diffusion Implicit Models". The training of DDPM knows only how much noise x_t has, not how
it came there; many processes agree with it, one for each amount sigma of noise that a step adds anew. With none, x_0 is a
function of x_T: the steps may be long (they solve an ordinary differential equation), the way can be gone back, and points
between two noises give images between two images.

    (1)  x_0    ~ (x_t - sqrt(1 - alpha_bar_t) eps_theta(x_t, t)) / sqrt(alpha_bar_t)
    (2)  x_s    = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps_theta + sigma z,   z ~ N(0, I),   s < t
    (3)  sigma  = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s)
    (4)  there and back: with eta = 0, (1) and (2) with s > t make noise of data
    (5)  slerp(a, b, w) = sin((1 - w) angle) / sin(angle) a + sin(w angle) / sin(angle) b,       angle between a and b

B batch, ... the axes of one example, n steps. Times are those of ddpm.py: t = 1 ... T, and t = 0 is the data. eta = 0 is DDIM;
eta = 1 with all the steps is DDPM with the variance beta_tilde, and with fewer steps DDPM on these.

Differs from the paper: with `clip`, eps_theta in (2) is what belongs to the clipped x_0, so that x_s keeps its amount of noise
and eta = 1 remains DDPM. There is no Config and no network: any model (x, t) -> eps will do, and `ddpm.loss` trains it.
"""

import math
from itertools import pairwise

from tinygrad_notes import frozen

import numpy as np

# --- which steps to take: each returns n times in descending order, (n,) int ---------------------------


def trailing(T, n):
    """T, T - T/n, ..., T/n: begins where there is nothing but noise (Lin et al., 2024)."""
    check_count(T, n)
    return np.round(np.arange(n, 0, -1) * (T / n)).astype(int)


def leading(T, n):
    """..., 1 + 2c, 1 + c, 1 with c = floor(T/n): "linear" in the paper, whose code it follows; ends close to the data."""
    check_count(T, n)
    return np.arange(n)[::-1] * (T // n) + 1


def quadratic(T, n):
    """T (i/n)^2, the last of them T: short steps where there is little noise. Those that coincide are taken once, so there may be fewer."""
    check_count(T, n)
    return np.unique(np.maximum(1, np.round(T * (np.arange(1, n + 1) / n) ** 2).astype(int)))[::-1]


def check_count(T, n):
    if not 1 <= n <= T:
        raise ValueError(f"ddim: {n} steps, expected from 1 to T = {T}")


def check_steps(process, steps):
    steps = np.asarray(steps)
    if steps.ndim != 1 or not steps.size or steps.dtype.kind != "i":
        raise ValueError(f"ddim: steps are {steps.dtype} {steps.shape}, expected (n,) integers with n at least 1, such as trailing(T, n)")
    if steps[0] > process.T or np.any(np.diff(steps, append=0) >= 0):
        first = ", ".join(map(str, steps[:4]))
        raise ValueError(f"ddim: steps begin with {first}, expected times that descend from at most T = {process.T} to at least 1")
    return steps.tolist()


def check_eta(name, eta, rng):
    if not 0 <= eta <= 1 or (eta > 0 and rng is None):
        raise ValueError(f"{name}: eta is {eta} and rng {rng}, expected an eta from 0 to 1, and an rng where it is above 0")


# --- the process p ----------------------------------------------------------------------------


def p_sample(model, process, x, t, s, *, eta=0.0, rng=None, clip=None):
    """Equations 1 to 3: x = x_t -> x_s, both (B, ...); s < t adds no noise but sigma's, s > t goes towards noise (eta = 0 only).

    clip: keep x_0 within [-clip, clip], where the data is known to lie.
    """
    check_eta("ddim.p_sample", eta, rng)
    process.check_times("ddim.p_sample", [t, s], 0)
    if s > t and eta > 0:
        raise ValueError(f"ddim.p_sample: eta is {eta} from t = {t} up to s = {s}, expected 0: only the way down can be random")
    alpha_bar_t, alpha_bar_s = process.alpha_bar[[t, s]].tolist()  # Python's numbers leave x its dtype
    eps = model(x, np.full(len(x), max(t, 1)))  # no network was trained at t = 0, where (4) begins
    x0 = process.predict_x0(x, t, eps)
    if clip is not None:
        x0 = np.clip(x0, -clip, clip)
        eps = process.predict_eps(x, t, x0)
    sigma = 0.0 if eta == 0 else eta * math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s))
    mean = math.sqrt(alpha_bar_s) * x0 + math.sqrt(1 - alpha_bar_s - sigma * sigma) * eps
    return mean if sigma == 0 else mean + sigma * rng.standard_normal(x.shape, x.dtype)


def sample(model, process, x_T, steps, *, eta=0.0, rng=None, clip=None):
    """x_0 (B, ...) from the noise x_T (B, ...), along `steps`, times in descending order such as trailing(T, 20).

    eta: from 0, a function of x_T, to 1, as random as DDPM; above 0 it needs an rng.
    """
    check_eta("ddim.sample", eta, rng)
    model = frozen(model)
    for t, s in pairwise([*check_steps(process, steps), 0]):
        x_T = p_sample(model, process, x_T, t, s, eta=eta, rng=rng, clip=clip)
    return x_T


def encode(model, process, x0, steps):
    """Equation 4: the noise x_T (B, ...) from which `sample` makes x0 (B, ...), closer the more steps there are."""
    model = frozen(model)
    for t, s in pairwise([0, *reversed(check_steps(process, steps))]):
        x0 = p_sample(model, process, x0, t, s)
    return x0


def slerp(a, b, w):
    """Equation 5: from a at w = 0 to b at w = 1 along the arc, for each example of a and b (B, ...).

    A mean of two noises is too short to be noise: its variance is 1/2. The arc keeps the length.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"slerp: a is {np.shape(a)} and b {np.shape(b)}, expected the same shape (B, ...)")
    lengths = np.sqrt(inner(a, a) * inner(b, b))
    angle = np.arccos(np.clip(inner(a, b) / lengths, -1, 1))  # (B, 1, ...)
    straight = np.sin(angle) < 1e-3  # a and b (anti)parallel: the arc is a line, or is not defined
    span = np.where(straight, 1, np.sin(angle))
    of_a = np.where(straight, 1 - w, np.sin((1 - w) * angle) / span)
    of_b = np.where(straight, w, np.sin(w * angle) / span)
    return of_a * a + of_b * b


def inner(a, b):
    """The inner product of each example, (B, ...) -> (B, 1, ...)."""
    return np.sum(a * b, axis=tuple(range(1, a.ndim)), keepdims=True)
