"""The processes q and p against closed forms, the samplers on data with a known score, and the network for points."""

import math

import tinygrad_notes as tn
from models.diffusion import ddpm
from tests.models.diffusion.exact import gaussian, variance_of
from tests.models.whole_loss import check_whole_loss
from tinygrad_notes import Tensor, check, optim

import numpy as np
import pytest

RNG = np.random.default_rng
BETAS = {"linear": ddpm.linear_betas, "cosine": ddpm.cosine_betas}


# --- the process q -------------------------------------------------------------------------------


def test_the_schedules_have_the_published_numbers():
    linear, cosine = (ddpm.Diffusion(BETAS[name](1000)) for name in ("linear", "cosine"))
    assert linear.beta[1] == 1e-4 and linear.beta[1000] == 0.02
    assert round(linear.alpha_bar[500], 3) == 0.079
    assert round(cosine.alpha_bar[500], 3) == 0.494
    first = [1 + np.argmax(p.alpha_bar[1:] / (1 - p.alpha_bar[1:]) < 0.01) for p in (linear, cosine)]
    assert first == [675, 937]  # 674 and 936 counted from 0
    assert cosine.beta.max() == 0.999
    t = np.arange(999)  # before the last beta is clipped, the products are the formula
    f = np.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(cosine.alpha_bar[:999], f / f[0], rtol=1e-12)


@pytest.mark.parametrize("betas", BETAS)
def test_one_jump_is_many_steps(betas):
    """Equation 2 against equation 1, step by step: mean and variance of x_t, for every t."""
    process = ddpm.Diffusion(BETAS[betas](60))
    mean, variance = 1.0, 0.0
    for t in range(61):
        if t:
            mean, variance = math.sqrt(1 - process.beta[t]) * mean, (1 - process.beta[t]) * variance + process.beta[t]
        one = np.ones((1, 1))
        assert process.q_sample(one, t, 0 * one)[0, 0] == pytest.approx(mean, rel=1e-13)
        assert process.q_sample(0 * one, t, one)[0, 0] ** 2 == pytest.approx(variance, rel=1e-12)
    assert np.array_equal(process.q_sample(np.ones((2, 1)), np.array([0, 0]), np.ones((2, 1))), np.ones((2, 1)))


def test_a_time_for_each_example_is_that_example_alone():
    process, rng = ddpm.Diffusion(ddpm.linear_betas(10)), RNG(0)
    x, other = rng.normal(size=(2, 4, 1, 2, 2))
    t = np.array([1, 3, 10, 3])
    for f in (process.q_sample, process.predict_x0, process.predict_eps):
        rows = f(x, t, other)
        for i in range(4):
            np.testing.assert_allclose(rows[i], f(x[i : i + 1], int(t[i]), other[i : i + 1])[0], rtol=1e-14)
    np.testing.assert_allclose(process.q_posterior(x, other, t)[1], process.q_posterior(x, other, 3)[1], rtol=1e-14)


@pytest.mark.parametrize("betas", BETAS)
def test_x0_and_eps_are_one_prediction_in_two_forms(betas):
    process, rng = ddpm.Diffusion(BETAS[betas](20)), RNG(0)
    x0, eps = rng.normal(size=(2, 3, 2))
    for t in range(1, 21):
        x = process.q_sample(x0, t, eps)
        worst = 4 * np.finfo(float).eps / math.sqrt(process.alpha_bar[t] * (1 - process.alpha_bar[t]))
        np.testing.assert_allclose(process.predict_x0(x, t, eps), x0, rtol=0, atol=4 * worst)
        np.testing.assert_allclose(process.predict_eps(x, t, x0), eps, rtol=0, atol=4 * worst)


@pytest.mark.parametrize("betas", BETAS)
def test_both_forms_of_the_mean_and_the_variance_of_the_posterior(betas):
    """Equations 5 and 7 against Bayes' rule: q(x_{t-1} | x_0) has mean m and variance v; x_t = a x_{t-1} + noise of variance beta."""
    process, rng = ddpm.Diffusion(BETAS[betas](30)), RNG(1)
    x, x0 = rng.normal(size=(2, 3, 2))
    for t in range(2, 31):
        m, v = math.sqrt(process.alpha_bar[t - 1]) * x0, 1 - process.alpha_bar[t - 1]
        a, b = math.sqrt(1 - process.beta[t]), process.beta[t]
        gain = v * a / (a * a * v + b)
        np.testing.assert_allclose(process.q_posterior(x0, x, t), m + gain * (x - a * m), rtol=1e-9, atol=1e-12)
        assert process.beta_tilde[t] == pytest.approx(v * (1 - gain * a), rel=1e-9)
        eps = process.predict_eps(x, t, x0)
        second = (x - b / math.sqrt(1 - process.alpha_bar[t]) * eps) / a
        np.testing.assert_allclose(process.q_posterior(x0, x, t), second, rtol=1e-9, atol=1e-12)
    lost = np.finfo(float).eps / process.beta[1]  # in 1 - alpha_bar_1
    np.testing.assert_allclose(process.q_posterior(x0, x, 1), x0, rtol=4 * lost)
    assert process.beta_tilde[1] == 0


# --- the process p, on data with a known score -------------------------------------------------------


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("std", [0.1, 2.0])
def test_the_variance_of_samples_is_exactly_what_the_chain_says(betas, variance, std):
    """For Gaussian data E[x_{t-1} | x_t] is linear, with the factor cov(x_{t-1}, x_t) / var(x_t): so is the sampler."""
    T = 40
    process = ddpm.Diffusion(BETAS[betas](T))
    found = variance_of(lambda shape, rng: ddpm.sample(gaussian(process, 0, std), process, shape, rng, variance=variance, dtype=float), T)
    spread = process.alpha_bar * std**2 + 1 - process.alpha_bar  # var(x_t)
    expected = 1.0
    for t in range(T, 0, -1):
        factor = math.sqrt(1 - process.beta[t]) * spread[t - 1] / spread[t]
        sigma2 = {"beta": process.beta, "beta_tilde": process.beta_tilde}[variance][t] if t > 1 else 0
        expected = factor**2 * expected + sigma2
    assert found == pytest.approx(expected, rel=1e-11)


def test_each_variance_is_exact_for_one_kind_of_data():
    """As the paper says: beta for N(0, I), beta_tilde for a point. Between them the truth lies between."""
    process = ddpm.Diffusion(ddpm.linear_betas(50, 1e-3, 0.2))

    def found(std, variance):
        model = gaussian(process, 0, std)
        return variance_of(lambda shape, rng: ddpm.sample(model, process, shape, rng, variance=variance, dtype=float), 50)

    # The last step adds no noise, so that of the variance 1 the part beta_1 is missing.
    assert found(1.0, "beta") == pytest.approx(1 - process.beta[1], rel=1e-12)
    assert found(0.0, "beta_tilde") == pytest.approx(0, abs=1e-28)
    assert found(0.5, "beta_tilde") < 0.25 < found(0.5, "beta")


def test_the_variance_converges_to_the_truth_with_order_one():

    def error(T):
        process = ddpm.Diffusion(ddpm.linear_betas(T, 0.1 / T, 20 / T))  # the same process in finer steps
        model = gaussian(process, 0, 0.5)
        return variance_of(lambda shape, rng: ddpm.sample(model, process, shape, rng, variance="beta", dtype=float), T) - 0.25

    errors = [error(T) for T in (100, 200, 400)]
    assert 1.8 < errors[0] / errors[1] < 2.2
    assert 1.8 < errors[1] / errors[2] < 2.2


def test_without_noise_the_modes_collapse():
    """Two narrow modes at +-1, exact score: the paper's step keeps their spread; its mean alone loses nearly all of it."""
    process, std = ddpm.Diffusion(ddpm.linear_betas(1000)), 0.1

    def model(x, t):  # E[eps | x] of a mixture: each mode's own, weighed by how likely the mode is
        alpha_bar = process.alpha_bar[t][:, None]
        spread = alpha_bar * std**2 + 1 - alpha_bar
        x0 = np.tanh(np.sqrt(alpha_bar) * x / spread)  # E[mode | x]
        return np.sqrt(1 - alpha_bar) * (x - np.sqrt(alpha_bar) * x0) / spread

    class Silent:
        def __init__(self):
            self.first = RNG(1).standard_normal((500, 1))

        def standard_normal(self, shape, dtype):
            first, self.first = self.first, np.zeros(shape)
            return first

    spreads = []
    for rng in (RNG(0), Silent()):
        x = ddpm.sample(model, process, (500, 1), rng, variance="beta_tilde", dtype=float)
        assert 0.3 < np.mean(x > 0) < 0.7
        spreads.append(np.std(np.abs(x)))
    assert abs(spreads[0] - 0.1) < 0.02
    assert spreads[1] < 0.02


def test_clipping_keeps_x0_in_its_range():
    process = ddpm.Diffusion(ddpm.cosine_betas(10))
    wild = lambda x, t: -50 * np.ones_like(x)
    x = ddpm.sample(wild, process, (4, 2), RNG(0), clip=0.5)
    np.testing.assert_allclose(x, 0.5, rtol=1e-6)
    assert np.min(ddpm.sample(wild, process, (4, 2), RNG(0))) > 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_keep_their_dtype_and_follow_the_rng(dtype):
    process = ddpm.Diffusion(ddpm.cosine_betas(10))
    model = ddpm.MLP(ddpm.Config.tiny(dtype=dtype), RNG(0))
    with check.dtypes():
        x = ddpm.sample(model, process, (5, 2), RNG(1), clip=1.0, dtype=dtype)
    assert type(x) is np.ndarray and x.dtype == dtype
    assert np.array_equal(x, ddpm.sample(model, process, (5, 2), RNG(1), clip=1.0, dtype=dtype))
    assert not np.array_equal(x, ddpm.sample(model, process, (5, 2), RNG(2), clip=1.0, dtype=dtype))


# --- the loss -------------------------------------------------------------------------------


def test_the_loss_asks_for_the_noise_at_every_time():
    process, seen = ddpm.Diffusion(ddpm.linear_betas(5)), []
    x0 = RNG(0).normal(size=(4000, 2))

    def oracle(x, t, y):
        seen.append((t, y))
        return process.predict_eps(x, t, x0)

    assert ddpm.loss(oracle, process, x0, RNG(1), y="classes") == pytest.approx(0, abs=1e-25)
    assert ddpm.loss(lambda x, t: np.zeros_like(x), process, x0, RNG(1)) == pytest.approx(1, abs=0.05)
    [(t, y)] = seen
    assert y == "classes"
    counts = np.bincount(t, minlength=7)
    assert counts[0] == counts[6] == 0
    assert np.all(np.abs(counts[1:6] - 800) < 5 * math.sqrt(800))


def test_the_loss_of_eps_is_that_of_x0_times_the_signal_to_noise_ratio():
    process, rng = ddpm.Diffusion(ddpm.cosine_betas(20)), RNG(0)
    x0, eps, guess = rng.normal(size=(3, 6, 2))
    for t in (1, 10, 19):
        x = process.q_sample(x0, t, eps)
        of_eps, of_x0 = np.mean((guess - eps) ** 2), np.mean((process.predict_x0(x, t, guess) - x0) ** 2)
        assert of_eps == pytest.approx(of_x0 * process.alpha_bar[t] / (1 - process.alpha_bar[t]), rel=1e-9)


# --- guidance --------------------------------------------------------------------------------


def test_guidance_is_unconditional_at_0_conditional_at_1_and_extrapolates():
    def model(x, t, y=None):
        return x if y is None else x + y[:, None]

    x, t, y = RNG(0).normal(size=(3, 2)), np.full(3, 4), np.array([1.0, 2.0, 3.0])
    for w in (0, 1, 3.5):
        np.testing.assert_allclose(ddpm.guided(model, y, w)(x, t), x + w * y[:, None], rtol=1e-15)


def test_guidance_sharpens_a_class_of_gaussians_exactly():
    """Data N(0, 1) overall and N(m, s^2) within the class. At w the score is that of class^w / all^(w-1), again a Gaussian."""
    process, m, s, w = ddpm.Diffusion(ddpm.linear_betas(1000)), 0.5, 0.5, 3.0
    free, conditional = gaussian(process), gaussian(process, m, s)
    model = lambda x, t, y=None: free(x, t) if y is None else conditional(x, t)
    last, first = process.T, 1  # where x is nearly data, and where it is noise
    for t in (first, last):
        a = process.alpha_bar[t]
        precision = w / (a * s * s + 1 - a) - (w - 1)
        mean = w * math.sqrt(a) * m / (a * s * s + 1 - a) / precision
        x = np.linspace(-2, 2, 5)[:, None]
        expected = math.sqrt(1 - a) * (x - mean) * precision
        np.testing.assert_allclose(ddpm.guided(model, np.zeros(5), w)(x, np.full(5, t)), expected, rtol=1e-10, atol=1e-14)


def test_classes_are_dropped_at_the_given_rate():
    y = np.arange(20_000) % 10
    dropped = ddpm.drop_classes(y, 10, RNG(0))
    assert np.all((dropped == y) | (dropped == 10))
    assert abs(np.mean(dropped == 10) - 0.1) < 5 * math.sqrt(0.09 / 20_000)
    assert np.array_equal(ddpm.drop_classes(y, 10, RNG(0), p=0.0), y)


# --- the average of weights -----------------------------------------------------------------------


def test_the_average_of_noisy_weights_has_the_variance_of_theory():
    """Var(EMA) / Var(weights) = (1 - d) / (1 + d) for independent noise: the sum of the squares of the weights that it gives."""
    d, steps = 0.9, 200
    ema = optim.EMA([Tensor(np.zeros(steps))], d)
    for step in range(steps):  # element k sees an impulse at step k, and keeps the weight that the average gives that step
        ema.update([Tensor(np.eye(steps)[step])])
    assert np.sum(ema.averages[0]) == pytest.approx(1, rel=1e-6)
    assert np.sum(ema.averages[0] ** 2) == pytest.approx((1 - d) / (1 + d), rel=1e-6)


def test_the_average_warms_up():
    """min(d, (1 + t) / (10 + t)): after few updates the initial weights are nearly forgotten, which d^n alone would not do."""
    ema = optim.EMA([Tensor(np.ones(1))], 0.9999)
    for _ in range(20):
        ema.update([Tensor(np.zeros(1))])
    assert ema.averages[0][0] == pytest.approx(np.prod([(1 + t) / (10 + t) for t in range(20)]))
    assert ema.averages[0][0] < 1e-5 < 0.9999**20


# --- the network for points ------------------------------------------------------------------------


def test_the_gradient_of_the_whole_loss():
    process, x0 = ddpm.Diffusion(ddpm.cosine_betas(8)), RNG(0).normal(size=(5, 2))
    model = ddpm.MLP(ddpm.Config.tiny(dtype=np.float64), RNG(1))
    check_whole_loss(model, lambda: ddpm.loss(model, process, x0, RNG(2)))


def test_overfits_one_batch():
    process, x0 = ddpm.Diffusion(ddpm.cosine_betas(50)), RNG(0).normal(size=(16, 2)).astype(np.float32)
    model = ddpm.MLP(ddpm.Config(width=64), RNG(1))
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=3e-3)
    losses = []
    for _ in range(250):
        loss = ddpm.loss(model, process, x0, RNG(2))  # the same times and noise every step
        optimizer.step(tn.gradients(loss, params, unused="raise"))
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_float32_throughout_and_the_shape_comments_hold():
    process, x0 = ddpm.Diffusion(ddpm.cosine_betas(8)), RNG(0).normal(size=(5, 2)).astype(np.float32)
    model = ddpm.MLP(ddpm.Config.tiny(), RNG(1))
    with check.dtypes(), check.shapes(ddpm) as shapes:
        ddpm.Diffusion(ddpm.cosine_betas(8))
        loss = ddpm.loss(model, process, x0, RNG(2))
        grads = tn.gradients(loss, tn.parameters(model), unused="raise")
    assert not shapes.unreached
    assert {loss.dtype, *(g.dtype for g in grads.values())} == {np.dtype(np.float32)}
    t = np.full(5, 3)
    frozen = tn.frozen(model)(x0, t)
    assert type(frozen) is np.ndarray
    assert np.array_equal(frozen, model(x0, t).value)


# --- errors -----------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    process = ddpm.Diffusion(ddpm.linear_betas(10))
    x = np.zeros((3, 2))
    for betas in ([], [[0.1]]):
        with pytest.raises(ValueError, match=r"Diffusion: betas have shape .*expected \(T,\)"):
            ddpm.Diffusion(betas)
    for betas in ([0.0, 0.1], [0.1, 1.0], [0.1, math.nan]):
        with pytest.raises(ValueError, match=r"Diffusion: betas go from .* to .*, expected numbers above 0 and below 1"):
            ddpm.Diffusion(betas)
    for t in (11, -1, np.array([1, 2, 11])):
        with pytest.raises(ValueError, match=r"q_sample: times go from .*, expected times from 0 to T = 10"):
            process.q_sample(x, t, x)
    for name, first in (("predict_x0", 0), ("predict_eps", 1), ("q_posterior", 1)):
        for t in (11, first - 1, np.array([1, 2, 11])):
            arguments = (x, x, t) if name == "q_posterior" else (x, t, x)
            with pytest.raises(ValueError, match=rf"{name}: times go from .*, expected times from {first} to T = 10"):
                getattr(process, name)(*arguments)
    with pytest.raises(ValueError, match="cosine_betas: T is 0, expected at least 1"):
        ddpm.cosine_betas(0)
    with pytest.raises(ValueError, match=r"ddpm\.sample: rng is None, expected a generator"):
        ddpm.sample(lambda x, t: x, process, (3, 2), None)
    with pytest.raises(ValueError, match=r"q_sample: x0 is \(3, 2\) and eps \(1, 2\)"):
        process.q_sample(x, 1, x[:1])
    with pytest.raises(TypeError, match=r"int64 \(3, 2\), expected floats"):
        process.q_sample(np.zeros((3, 2), np.int64), 1, np.zeros((3, 2), np.int64))
    with pytest.raises(ValueError, match=r"variance='gamma' at t=3, expected 'beta' or 'beta_tilde'"):
        ddpm.p_sample(lambda x, t: x, process, x, 3, RNG(0), variance="gamma")
    with pytest.raises(ValueError, match=r"at t=0, expected .* a t from 1 to 10"):
        ddpm.p_sample(lambda x, t: x, process, x, 0, RNG(0))
    model = ddpm.MLP(ddpm.Config.tiny(), RNG(0))
    for bad, t in ((np.zeros((3, 4)), np.ones(3)), (x, np.ones(2)), (x, 1)):
        with pytest.raises(ValueError, match=r"MLP: x has shape .*expected \(B, 2\) and \(B,\)"):
            model(bad, t)
    for changes in ({"width": 5}, {"width": 2}, {"layers": 0}):
        with pytest.raises(ValueError, match="expected an even width from 4 on and at least one layer"):
            ddpm.Config.tiny(**changes)
