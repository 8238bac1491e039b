"""scipy.special: every rule through every property, slopes against mpmath where digits could be lost, and the closed list."""

import math
import subprocess
import sys

from tests.ops.samples import sample
from tests.ops.test_registry import CHECKS
from tinygrad_notes import Tensor, gradients
from tinygrad_notes.core import table
from tinygrad_notes.ops import special  # noqa: F401  (importing registers)
from tinygrad_notes.registry import Op, constants, refused, registry

import mpmath
import numpy as np
import pytest
import scipy.special as sp

INF = math.inf
UFUNCS = {f: name for name, f in vars(sp).items() if isinstance(f, np.ufunc) and not name.startswith("_")}
ITEMS = [item for item in registry if item.label.startswith("scipy.special.") or item.label == "_zeta"]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_every_property(item):
    for case in item.cases:
        for check in CHECKS:
            check(sample(item, case))


def test_every_ufunc_is_classified():
    missing = sorted(name for f, name in UFUNCS.items() if f not in table)
    assert not missing, f"no op, constant or refusal: {', '.join(missing)}"
    assert len(ITEMS) > 140


def test_importing_the_package_does_not_import_scipy():
    program = """
import sys, numpy as np
import tinygrad_notes as tn
assert not any(name.startswith("scipy") for name in sys.modules)
t = tn.Tensor(0.0)
try: np.gcd(t, t)
except TypeError: pass
assert not any(name.startswith("scipy") for name in sys.modules)
import scipy.special
assert abs(tn.gradients(scipy.special.erf(t), t) - 1.1283791670955126) < 1e-15
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# --- slopes where a formula could lose its digits ---------------------------------------------------


def slope(f, x, order=1):
    t = Tensor(np.asarray(x, np.float64))
    y = f(t)
    for _ in range(order - 1):
        y = gradients(np.sum(y), t, create_graph=True)
    return gradients(np.sum(y), t)


def log_ndtr(x):
    return mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2)


def chndtr(x, k, nc):
    """A mixture of chi square distributions, with Poisson's weights."""
    weights = [mpmath.exp(-nc / 2) * (nc / 2) ** j / mpmath.factorial(j) for j in range(150)]
    return mpmath.fsum(w * mpmath.gammainc(mpmath.mpf(k) / 2 + j, 0, x / 2, regularized=True) for j, w in enumerate(weights))


def kolmogorov(x):
    return 2 * mpmath.fsum((-1) ** (k - 1) * mpmath.exp(-2 * k * k * x * x) for k in range(1, 200))


def voigt_profile(x):
    z = mpmath.mpc(x, 0.5) / mpmath.sqrt(2)
    return (mpmath.exp(-z * z) * mpmath.erfc(-1j * z)).real / mpmath.sqrt(2 * mpmath.pi)


HARD = {
    "ellipkinc by m": (lambda m: sp.ellipkinc(1.2, m), lambda m: mpmath.ellipf(1.2, m), [-30.0, -1e-9, 0.0, 1e-9, 0.5, 0.999999], 1e-12),
    "ellipeinc by m": (lambda m: sp.ellipeinc(7.5, m), lambda m: mpmath.ellipe(7.5, m), [-30.0, -1e-9, 0.0, 1e-9, 0.5, 0.9], 1e-12),
    "elliprf": (lambda x: sp.elliprf(x, 1.0, 2.0), lambda x: mpmath.elliprf(x, 1, 2), [1e-9, 0.3, 1 - 1e-9, 1.0, 2.0, 1e9], 1e-13),
    "elliprd": (lambda x: sp.elliprd(1.0, 2.0, x), lambda x: mpmath.elliprd(1, 2, x), [1e-6, 0.3, 1 - 1e-9, 1.0, 2.0, 1e6], 1e-12),
    "elliprc": (lambda y: sp.elliprc(1.0, y), lambda y: mpmath.elliprc(1, y), [-7.0, -0.1, 1e-4, 1 - 1e-9, 1.0, 1e6], 1e-12),
    "elliprg": (lambda x: sp.elliprg(x, 1.0, 2.0), lambda x: mpmath.elliprg(x, 1, 2), [1e-4, 0.3, 1 - 1e-9, 1.0, 2.0, 1e4], 1e-12),
    "elliprj": (lambda p: sp.elliprj(0.5, 1.0, 2.0, p), lambda p: mpmath.elliprj(0.5, 1, 2, p), [0.01, 0.5, 1.0, 1.7, 2.0, 1e4], 1e-11),
    "voigt_profile": (lambda x: sp.voigt_profile(x, 1.0, 0.5), voigt_profile, [-8.0, -1.0, 0.1, 2.0, 6.0], 1e-11),
    "kolmogorov": (sp.kolmogorov, kolmogorov, [0.15, 0.4, 0.7999, 0.8, 0.8001, 2.0, 5.0], 1e-11),
    "chndtr by nc": (lambda nc: sp.chndtr(2.0, 3.0, nc), lambda nc: chndtr(2, 3, nc), [1e-9, 0.1, 0.4999, 0.5, 0.5001, 30.0], 1e-11),
    "chndtr by x": (lambda x: sp.chndtr(x, 1.5, 4.0), lambda x: chndtr(x, 1.5, 4), [1e-3, 0.2499, 0.25, 0.2501, 60.0], 1e-11),
    "erfcx": (sp.erfcx, lambda x: mpmath.exp(x * x) * mpmath.erfc(x), [-3.0, 0.0, 1.0, 9.9, 10.1, 50.0, 1e4], 1e-12),
    "dawsn": (
        sp.dawsn,
        lambda x: mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-x * x) * mpmath.erfi(x),
        [-12.0, -9.9, 0.0, 0.5, 9.9, 10.1, 40.0],
        1e-12,
    ),
    "log_ndtr": (sp.log_ndtr, log_ndtr, [-100.0, -30.0, -5.0, 0.0, 3.0, 20.0], 1e-13),
    "expit": (sp.expit, lambda x: 1 / (1 + mpmath.exp(-x)), [-40.0, -1.0, 0.0, 1.0, 40.0], 1e-14),
    "exprel": (
        sp.exprel,
        lambda x: (mpmath.exp(x) - 1) / x if x else mpmath.mpf(1),
        [-30.0, -1.01, -0.99, -1e-9, 1e-5, 0.99, 1.01, 5.0],
        1e-14,
    ),
    "rgamma": (sp.rgamma, mpmath.rgamma, [-3.0, -2.5, -1.0, -1e-12, 0.0, 0.4999, 0.5001, 1.0, 4.0], 1e-13),
    "digamma": (sp.digamma, mpmath.digamma, [0.01, 0.5, 1.0, 30.0], 1e-13),
    "ellipk": (sp.ellipk, mpmath.ellipk, [-30.0, -0.5, 0.0, 1e-9, 0.3, 0.9, 0.9999], 1e-12),
    "ellipe": (sp.ellipe, mpmath.ellipe, [-30.0, -0.5, 0.0, 1e-9, 0.3, 0.9, 0.9999], 1e-12),
    "ellipkm1": (sp.ellipkm1, lambda p: mpmath.ellipk(1 - p), [1e-12, 1e-6, 0.1, 0.499, 0.501, 1.0, 1.7], 1e-11),
    "spence": (sp.spence, lambda x: mpmath.polylog(2, 1 - x), [0.1, 0.79, 0.81, 0.999999, 1.0, 1.19, 1.21, 3.0], 1e-13),
    "j1": (sp.j1, lambda x: mpmath.besselj(1, x), [0.0, 1e-8, 1.0, 10.0], 1e-12),
}


@pytest.mark.parametrize("name", HARD)
def test_slopes_against_mpmath(name):
    f, exact, x, tolerance = HARD[name]
    with mpmath.workdps(60):
        expected = [float(mpmath.diff(exact, mpmath.mpf(v), h=mpmath.mpf(10) ** -20)) for v in x]
    np.testing.assert_allclose(slope(f, x), expected, rtol=tolerance, atol=1e-300)


def mean_of_normal_densities(v, nc, t, k):
    """The integral of s^k density(t s / sqrt(v) - nc) over the chi distribution of s."""
    v, nc, t = map(mpmath.mpf, (v, nc, t))
    peak = max(mpmath.mpf(0), nc * t / mpmath.sqrt(v) / (1 + t * t / v))  # of both exponentials together, of width below 1

    def density(s):
        chi = (v + k - 1) * mpmath.log(s) - s * s / 2 - (v / 2 - 1) * mpmath.log(2) - mpmath.loggamma(v / 2)
        return mpmath.exp(chi - (t * s / mpmath.sqrt(v) - nc) ** 2 / 2) / mpmath.sqrt(2 * mpmath.pi)

    places = sorted({mpmath.mpf(0), *(max(mpmath.mpf(0), peak + d) for d in (-20, -8, -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4, 8, 20))})
    unit = density(peak + 0.5)  # quad stops at an absolute error
    return unit * mpmath.quad(lambda s: density(s) / unit, places)


@pytest.mark.parametrize("nc", [0.5, 12.92, 12.93, 348.0])
@pytest.mark.parametrize("t", [-0.8, 5.0, 400.0])
def test_noncentral_t_far_from_its_middle(nc, t):
    """Across |z| = 12, where the formula changes (at t = 5 between 12.92 and 12.93), and to where D_-a overflows."""
    found = gradients(sp.nctdtr(4.0, n := Tensor(np.array(nc)), x := Tensor(np.array(t))), [n, x])
    with mpmath.workdps(30):
        expected = [-mean_of_normal_densities(4, nc, t, 0), mean_of_normal_densities(4, nc, t, 1) / 2]
    np.testing.assert_allclose(found, [float(e) for e in expected], rtol=1e-11, atol=1e-300)


def test_second_slopes_at_the_seams():
    assert slope(sp.exprel, 0.0, 2) == pytest.approx(1 / 3)
    assert slope(sp.exprel, 0.0, 4) == pytest.approx(1 / 5)
    assert slope(sp.spence, 1.0, 2) == pytest.approx(1 / 2)
    assert slope(sp.ellipk, 0.0, 2) == pytest.approx(9 * math.pi / 64)
    assert slope(sp.rgamma, 0.0, 2) == pytest.approx(2 * np.euler_gamma)
    assert slope(sp.erfcx, 40.0, 2) == pytest.approx(float(mpmath.diff(lambda x: mpmath.exp(x * x) * mpmath.erfc(x), 40, 2)), rel=1e-9)
    assert slope(sp.log_ndtr, -60.0, 2) == pytest.approx(-1, rel=1e-3)
    p = Tensor(np.array(1e-9))
    assert gradients(sp.boxcox(np.array(3.0), p), p) == pytest.approx(math.log(3) ** 2 / 2)


def test_elliptic_integrals_where_arguments_meet():
    """Third derivatives too; by homogeneity, R_F(x, x, x) = x^(-1/2), R_D(x, x, x) = x^(-3/2)."""
    assert slope(lambda x: sp.elliprf(x, x, x), 4.0, 3) == pytest.approx(-15 / 8 * 4**-3.5)
    assert slope(lambda x: sp.elliprd(x, x, x), 4.0, 2) == pytest.approx(15 / 4 * 4**-3.5)
    assert slope(lambda x: sp.elliprj(x, x, x, x), 4.0, 2) == pytest.approx(15 / 4 * 4**-3.5)
    assert slope(lambda x: sp.elliprf(x, 1.0, 1.0), 1.0, 2) == pytest.approx(3 / 20)
    sn = slope(lambda m: sp.ellipj(0.8, m)[0], 0.0)
    assert sn == pytest.approx(-(0.8 - math.sin(0.8) * math.cos(0.8)) * math.cos(0.8) / 4)  # DLMF 22.10.4


# --- kinks and edges -----------------------------------------------------------------------------------


def test_zero_times_log_of_zero():
    a, b = Tensor(np.array([0.0, 0.0, 2.0])), Tensor(np.array([0.0, 3.0, 4.0]))
    with np.errstate(divide="ignore"):
        by_a, by_b = gradients(np.sum(sp.xlogy(a, b)), [a, b])
    assert by_b.tolist() == [0, 0, 0.5] and by_a.tolist() == [-INF, math.log(3), math.log(4)]
    x = Tensor(np.array(0.0))
    assert gradients(sp.xlogy(x, 3.0), x) == math.log(3)
    assert gradients(sp.kl_div(np.array(0.0), x), x) == 1


def test_huber_is_smooth_at_its_bound():
    delta, r = Tensor(np.array(1.0)), Tensor(np.array([-3.0, -1.0, 0.0, 1.0, 2.0]))
    y = sp.huber(delta, r)
    assert [g.tolist() for g in gradients(np.sum(y), [delta, r])] == [3.0, [-1, -1, 0, 1, 1]]


# --- float32, and constants by any spelling ------------------------------------------------------------


@pytest.mark.parametrize("item", [item for item in ITEMS if isinstance(item, Op) and item.arity == 1], ids=lambda item: item.name)
def test_float32_stays_float32(item):
    t = Tensor(np.array([0.55, 0.7], np.float32) * (-1 if item.name == "ndtri_exp" else 1))
    ys = item.function(t)
    y = sum(ys) if isinstance(ys, tuple) else ys
    g = gradients(np.sum(y), t, create_graph=True)
    assert (y.dtype, g.dtype, gradients(np.sum(g), t).dtype) == (np.float32,) * 3


DOUBLE = [item for item in ITEMS if item.name.startswith(("mathieu_", "pro_", "obl_"))]


@pytest.mark.parametrize("item", DOUBLE, ids=lambda item: item.name)
def test_what_is_computed_in_double_is_what_scipy_gives(item):
    assert len(DOUBLE) == 14
    for case in item.cases:
        s = sample(item, case)
        np.testing.assert_array_equal(item.forward(*s.template[:-1], s.inputs[0]), item.function(*s.template[:-1], s.inputs[0]))


@pytest.mark.parametrize("f", [sp.gammainc, sp.chdtr, sp.jv, sp.iv, sp.kve, sp.stdtr, sp.hyp0f1, sp.struve], ids=lambda f: f.__name__)
def test_a_plain_number_does_not_widen(f):
    t = Tensor(np.array([0.5, 0.7], np.float32))
    y = f(2, t)
    g = gradients(np.sum(y), t, create_graph=True)
    assert y.dtype == g.dtype == np.float32
    np.testing.assert_allclose(y.value, f(2.0, t.value.astype(np.float64)), rtol=1e-5)


# --- what raises --------------------------------------------------------------------------------------------


def test_a_shape_parameter_is_a_constant():
    t = Tensor(np.array(1.5))
    with pytest.raises(TypeError, match=r"scipy\.special\.gammainc: argument 1 is a Tensor"):
        sp.gammainc(t, 2.0)
    with pytest.raises(TypeError, match=r"scipy\.special\.eval_legendre: argument 1 is a Tensor"):
        sp.eval_legendre(t, 0.5)
    with pytest.raises(TypeError, match="out= would overwrite"):
        sp.erf(t, np.zeros(()))


def test_the_closed_list_gives_reasons():
    t = Tensor(np.array([0.5, 0.7]))
    for f in (sp.wofz, sp.zetac, sp.kelvin):
        assert len(refused[f]) > 20
        with pytest.raises(TypeError, match=f"{f.__name__} does not take a Tensor: "):
            f(t)
    with pytest.raises(TypeError, match="its result is complex"):
        sp.lambertw(t)
    with pytest.raises(TypeError, match="no closed form"):
        sp.zeta(t)


def test_python_functions_of_scipy_refuse_or_work():
    """They are no ufuncs. What turns its argument into an array raises with the recipe; what calls a ufunc works."""
    t = Tensor(np.array([0.5, 0.7]))
    for f in (sp.softmax, sp.log_softmax, lambda x: sp.polygamma(1, x), lambda x: sp.multigammaln(x, 1), lambda x: sp.spherical_jn(1, x)):
        with pytest.raises(TypeError, match=r"t\.value"):
            f(t)
    np.testing.assert_allclose(gradients(np.sum(sp.zeta(2.0, t)), t), -2 * sp.zeta(3.0, t.value))
    np.testing.assert_allclose(gradients(np.sum(sp.legendre(3)(t)), t), 7.5 * t.value**2 - 1.5)


def test_methods():
    a, b = Tensor(np.array([1.0, 2.0])), np.array([0.5, 2.0, 3.0])
    y = sp.xlogy.outer(a, b)
    np.testing.assert_allclose(y.value, sp.xlogy.outer(a.value, b))
    np.testing.assert_allclose(gradients(np.sum(y), a), [np.log(b).sum()] * 2)
    assert sp.gammasgn in constants and type(sp.gammasgn(a)) is np.ndarray
