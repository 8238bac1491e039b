"""The walkthrough of differences in its quick form: it runs, draws, and what its functions and answers claim."""

from tests.walkthroughs.running import quick_run

import numpy as np
import pytest


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("engine/differences", tmp_path_factory.mktemp("differences"))


def test_it_runs_and_draws(walkthrough):
    for words in (
        "theory -1",
        "Richardson's table",
        "Richardson, its own bound                                 0.0%",
        "at a kink",
        "complex step of |x|",
    ):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"differences.png"}


def test_it_draws_only_if_asked(tmp_path):
    assert not quick_run("engine/differences", tmp_path, "--no-plots").drawn


@pytest.mark.parametrize("power", [3, 5, 7, 9])
def test_extrapolations_are_exact_for_polynomials(walkthrough, power):
    """j extrapolations remove h^2 to h^2j: column j is exact for the power 2 j + 1 and not yet for the next odd one."""
    T = walkthrough.table(lambda t: (1 + t) ** power, 1 / 2, levels=6)
    errors = [abs(T[j][j] - power) for j in range(6)]
    assert max(errors[(power - 1) // 2 :]) < 1e-12 and errors[(power - 3) // 2] > 1e-9


def test_answer_1_the_second_derivative(walkthrough):
    f, x, h = walkthrough.f, walkthrough.points, 10.0 ** np.arange(-7, -1, 0.25)
    second = 9 * (np.cos(3 * x) ** 2 - np.sin(3 * x)) * f(x)
    errors = [np.median(np.abs((f(x + h) - 2 * f(x) + f(x - h)) / h**2 - second)) for h in h]
    assert 1e-5 < h[np.argmin(errors)] < 1e-3 and 1e-9 < min(errors) < 1e-7


def test_answer_2_forward_differences_extrapolated(walkthrough):
    D = lambda h: (walkthrough.f(1.1 + h) - walkthrough.f(1.1)) / h
    T1 = lambda h: 2 * D(h / 2) - D(h)
    T2 = lambda h: (4 * T1(h / 2) - T1(h)) / 3
    for T, order in ((D, 1), (T1, 2), (T2, 3)):
        large, small = (abs(T(h) - walkthrough.slope(1.1)) for h in (1 / 256, 1 / 512))
        assert np.log2(large / small) == pytest.approx(order, abs=0.2)


def test_answer_3_central_differences_in_float32(walkthrough):
    assert 2e-6 < np.nanmin(walkthrough.measured["central, float32"]) < 1e-4
