"""DDIM: equal to DDPM at eta = 1, a function at eta = 0 that can be inverted, and a solver of order one."""

import math

import tinygrad_notes as tn
from models.diffusion import ddim, ddpm
from tests.models.diffusion.exact import Impulses, gaussian, variance_of
from tinygrad_notes import check

import numpy as np
import pytest

RNG = np.random.default_rng
BETAS = {"linear": ddpm.linear_betas, "cosine": ddpm.cosine_betas}


def every(process):
    return np.arange(process.T, 0, -1)


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("clip", [None, 0.4])
def test_eta_1_on_every_step_is_ddpm_with_beta_tilde(betas, clip):
    """The same noise gives the same sample, to rounding."""
    process = ddpm.Diffusion(BETAS[betas](40))
    model = gaussian(process, 0.2, 0.5)
    expected = ddpm.sample(model, process, (6, 3), RNG(1), variance="beta_tilde", clip=clip, dtype=float)
    rng = RNG(1)
    x_T = rng.standard_normal((6, 3))
    found = ddim.sample(model, process, x_T, every(process), eta=1, rng=rng, clip=clip)
    # One step agrees to a few units in the last place, where the two formulas divide by 1 - alpha_bar.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_one_step_with_eta_1_is_one_step_of_ddpm_to_the_last_digits():
    process, rng = ddpm.Diffusion(ddpm.linear_betas(1000)), RNG(0)
    x, eps, z = rng.normal(size=(3, 4, 2))
    for t in (1000, 600, 100):
        draw = type("", (), {"standard_normal": lambda self, shape, dtype: z})()
        ours = ddim.p_sample(lambda x, t: eps, process, x, t, t - 1, eta=1, rng=draw)
        theirs = ddpm.p_sample(lambda x, t: eps, process, x, t, draw, variance="beta_tilde")
        assert np.max(np.abs(ours - theirs)) < 2e-14


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("std", [0.1, 2.0])
def test_the_variance_of_samples_is_exact_on_a_subset_of_steps(eta, std):
    """q_sigma keeps var(x_s | x_0) = 1 - alpha_bar_s for every sigma; on Gaussian data each step is linear, with known parts."""
    process = ddpm.Diffusion(ddpm.linear_betas(1000))
    steps = ddim.leading(1000, 8)
    model = gaussian(process, 0, std)

    def sampler(shape, rng):
        return ddim.sample(model, process, rng.standard_normal(shape, float), steps, eta=eta, rng=rng)

    expected = 1.0
    for t, s in zip(steps, [*steps[1:], 0]):
        a_t, a_s = process.alpha_bar[t], process.alpha_bar[s]
        sigma2 = eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
        spread = a_t * std**2 + 1 - a_t
        of_x0, of_eps = math.sqrt(a_t) * std**2 / spread, math.sqrt(1 - a_t) / spread  # E[x_0 | x_t], E[eps | x_t] per x_t
        expected = (math.sqrt(a_s) * of_x0 + math.sqrt(1 - a_s - sigma2) * of_eps) ** 2 * expected + sigma2
    assert variance_of(sampler, 8) == pytest.approx(expected, rel=1e-10)


def test_eta_0_takes_no_noise_and_is_deterministic():
    process, x_T = ddpm.Diffusion(ddpm.cosine_betas(50)), RNG(0).normal(size=(5, 2))
    model = ddpm.MLP(ddpm.Config.tiny(dtype=np.float64), RNG(1))
    rng = Impulses()
    once = ddim.sample(model, process, x_T, ddim.trailing(50, 10), rng=rng)
    assert rng.draws == 0
    assert np.array_equal(once, ddim.sample(model, process, x_T, ddim.trailing(50, 10)))
    assert type(once) is np.ndarray


def exact_map(process, x_T, mean, std):
    """Where the ordinary differential equation leads: the standardised place within the Gaussian stays."""
    a = process.alpha_bar[-1]
    return mean + std * (x_T - math.sqrt(a) * mean) / math.sqrt(a * std**2 + 1 - a)


@pytest.mark.parametrize("spacing", [ddim.trailing, ddim.quadratic])
def test_the_error_falls_with_order_one_in_the_number_of_steps(spacing):
    process = ddpm.Diffusion(ddpm.linear_betas(4000, 2.5e-5, 0.005))  # DDPM's process in finer steps
    x_T = np.linspace(-2, 2, 9)[:, None]
    model, exact = gaussian(process, 0.5, 0.3), exact_map(process, x_T, 0.5, 0.3)
    errors = [np.max(np.abs(ddim.sample(model, process, x_T, spacing(4000, n)) - exact)) for n in (20, 40, 80, 160)]
    for coarse, fine in zip(errors, errors[1:]):
        assert 1.7 < coarse / fine < 2.3
    assert errors[-1] < 0.02


def test_data_encoded_and_sampled_again_are_the_data_with_order_one():
    process = ddpm.Diffusion(ddpm.linear_betas(4000, 2.5e-5, 0.005))
    model, x0 = gaussian(process, 0.5, 0.3), np.linspace(0, 1, 5)[:, None]
    there, back = [], []
    for n in (200, 400, 800):
        steps = ddim.trailing(4000, n)
        x_T = ddim.encode(model, process, x0, steps)
        there.append(np.max(np.abs(exact_map(process, x_T, 0.5, 0.3) - x0)))  # x_T is where the equation comes from
        back.append(np.max(np.abs(ddim.sample(model, process, x_T, steps) - x0)))
    for errors in (there, back):
        assert errors[-1] < 0.01
        for coarse, fine in zip(errors, errors[1:]):
            assert 1.8 < coarse / fine < 2.2


def test_the_first_step_up_begins_at_the_data():
    """One step from t = 0 to T: DDPM's own noising, with the noise that the network sees in the data at t = 1, the first it knows."""
    process, x0, asked = ddpm.Diffusion(ddpm.linear_betas(100)), RNG(0).normal(size=(4, 2)), []

    def model(x, t):
        asked.append(t.tolist())
        return np.cos(x)

    np.testing.assert_allclose(ddim.encode(model, process, x0, [100]), process.q_sample(x0, 100, np.cos(x0)), rtol=1e-13)
    assert asked == [[1] * 4]


def test_a_point_is_found_in_one_step():
    """If all data are one point, x_0 is predicted exactly at once, and every step count and eta gives it."""
    process, x_T = ddpm.Diffusion(ddpm.linear_betas(1000)), RNG(0).normal(size=(4, 2))
    model = gaussian(process, 0.7, 0.0)
    for n, eta in ((1, 0.0), (3, 0.0), (7, 1.0)):
        x = ddim.sample(model, process, x_T, ddim.trailing(1000, n), eta=eta, rng=RNG(1))
        np.testing.assert_allclose(x, 0.7, rtol=1e-12)


def test_clipping_takes_the_noise_along():
    """After clipping x_0, what is added is the noise that belongs to it: x_s lies where equation 2 of DDPM says."""
    process, x = ddpm.Diffusion(ddpm.linear_betas(1000)), np.full((1, 1), 3.0)
    wild = lambda x, t: -2 * np.ones_like(x)
    y = ddim.p_sample(wild, process, x, 500, 300, clip=0.5)
    eps = process.predict_eps(x, 500, np.full((1, 1), 0.5))
    np.testing.assert_allclose(y, process.q_sample(np.full((1, 1), 0.5), 300, eps), rtol=1e-13)


def test_the_spacings():
    assert ddim.trailing(1000, 4).tolist() == [1000, 750, 500, 250]
    assert ddim.leading(1000, 4).tolist() == [751, 501, 251, 1]
    assert ddim.quadratic(1000, 5).tolist() == [1000, 640, 360, 160, 40]
    assert ddim.quadratic(10, 10).tolist() == [10, 8, 6, 5, 4, 2, 1]
    for spacing in (ddim.trailing, ddim.leading):
        assert np.array_equal(spacing(30, 30), np.arange(30, 0, -1))
        for n in range(1, 31):
            steps = spacing(30, n)
            assert len(steps) == n and steps[-1] >= 1 and steps[0] <= 30 and np.all(np.diff(steps) < 0)


def test_slerp_keeps_the_length_and_moves_evenly():
    rng = RNG(0)
    a, b = rng.normal(size=(2, 3, 1, 8, 8))
    b *= np.linalg.norm(a.reshape(3, -1), axis=1).reshape(3, 1, 1, 1) / np.linalg.norm(b.reshape(3, -1), axis=1).reshape(3, 1, 1, 1)
    points = [ddim.slerp(a, b, w) for w in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(points[0], a, atol=1e-14)
    np.testing.assert_allclose(points[-1], b, atol=1e-14)
    length = np.sum(a * a, axis=(1, 2, 3))
    for p in points:
        np.testing.assert_allclose(np.sum(p * p, axis=(1, 2, 3)), length, rtol=1e-12)
    steps = [np.sum(p * q, axis=(1, 2, 3)) for p, q in zip(points, points[1:])]
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], (4, 3)), rtol=1e-12)
    np.testing.assert_allclose(ddim.slerp(a, a, 0.3), a, rtol=1e-12)  # no angle, and no 0 / 0
    assert ddim.slerp(a.astype(np.float32), b.astype(np.float32), 0.3).dtype == np.float32


def test_float32_throughout_and_the_shape_comments_hold():
    process, model = ddpm.Diffusion(ddpm.cosine_betas(20)), ddpm.MLP(ddpm.Config.tiny(), RNG(0))
    x0 = RNG(1).standard_normal((5, 2), np.float32)
    with check.dtypes(), check.shapes(ddim) as shapes:
        x_T = ddim.encode(model, process, x0, ddim.trailing(20, 5))
        x_T = ddim.slerp(x_T, x_T[::-1], 0.5)
        x = ddim.sample(model, process, x_T, ddim.leading(20, 5), eta=0.5, rng=RNG(2), clip=1.0)
    assert not shapes.unreached
    assert x.dtype == x_T.dtype == np.float32
    live = ddim.sample(tn.frozen(model), process, x_T, ddim.leading(20, 5), eta=0.5, rng=RNG(2), clip=1.0)
    assert np.array_equal(x, live)


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    process, x = ddpm.Diffusion(ddpm.linear_betas(10)), np.zeros((3, 2))
    model = lambda x, t: x
    for f in (ddim.sample, ddim.encode):
        for steps in ([11, 5], [5, 5], [3, 5], [5, 0]):
            with pytest.raises(ValueError, match=rf"ddim: steps begin with {steps[0]}, {steps[1]}, expected times .*at most T = 10"):
                f(model, process, x, steps)
        for steps in ([], [[5, 1]], [5.0, 1.0]):
            with pytest.raises(ValueError, match=r"ddim: steps are .*expected \(n,\) integers"):
                f(model, process, x, steps)
    for spacing in (ddim.trailing, ddim.leading, ddim.quadratic):
        for n in (0, 11):
            with pytest.raises(ValueError, match=rf"ddim: {n} steps, expected from 1 to T = 10"):
                spacing(10, n)
    for options in ({"eta": -0.1}, {"eta": 1.1, "rng": RNG(0)}, {"eta": 0.5}):
        with pytest.raises(ValueError, match=r"ddim.sample: eta is .*expected an eta from 0 to 1, and an rng"):
            ddim.sample(model, process, x, [5], **options)
        with pytest.raises(ValueError, match=r"ddim.p_sample: eta is .*expected an eta from 0 to 1, and an rng"):
            ddim.p_sample(model, process, x, 5, 3, **options)
    with pytest.raises(ValueError, match=r"eta is 0\.5 from t = 3 up to s = 5, expected 0"):
        ddim.p_sample(model, process, x, 3, 5, eta=0.5, rng=RNG(0))
    for t, s in ((11, 3), (3, -1), (0, 11)):
        with pytest.raises(ValueError, match=r"ddim.p_sample: times go from .*, expected times from 0 to T = 10"):
            ddim.p_sample(model, process, x, t, s)
    with pytest.raises(ValueError, match=r"slerp: a is \(3, 2\) and b \(2, 2\)"):
        ddim.slerp(x, x[:2], 0.5)
