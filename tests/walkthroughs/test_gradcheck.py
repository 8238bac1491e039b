"""The walkthrough of gradient checks in its quick form, and the rules and checks that it compares."""

from tests.walkthroughs.running import quick_run
from tinygrad_notes.check import differences
from walkthroughs.engine import _checks
from walkthroughs.engine._wrong_rules import OPS, differs, draw, wrong_rules

import numpy as np
import pytest

CHECKS = [_checks.minitorch, _checks.dezero, _checks.tinygrad, _checks.pytorch, _checks.jax, _checks.autograd, _checks.mygrad]
OURS = [_checks.check_grads, _checks.suite]


def passes(check, name, rule, seed=0, **without):
    rng = np.random.default_rng(seed)
    return check(OPS[name], rule, draw(OPS[name], rng), rng, **without)


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory):
    return quick_run("engine/gradcheck", tmp_path_factory.mktemp("gradcheck"))


def test_it_runs_and_draws(walkthrough):
    for words in ("a rule of zeros passes", "half of it: a factor 2 is lost", "our suite  "):
        assert words in walkthrough.printed
    assert walkthrough.drawn == {"recipes.png", "broken.png"}


def test_errors_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"^error: --out .*file cannot be a folder: .*; name another one$"):
        quick_run("engine/gradcheck", tmp_path / "file")


@pytest.mark.parametrize("name", OPS)
def test_right_rules_pass_every_check(name):
    assert not differs(OPS[name], OPS[name].rule)
    for check in CHECKS + OURS:
        assert passes(check, name, OPS[name].rule), check.__name__


@pytest.mark.parametrize("check", CHECKS + OURS)
def test_every_check_notices_a_wrong_sign(check):
    assert not passes(check, "tanh", lambda g, y, x: (-g * (1 - y * y),))


def test_every_kind_of_mistake_is_tried_and_none_that_cannot_be_told():
    kinds = {name: [kind for kind, _ in wrong_rules(op)] for name, op in OPS.items()}
    assert sum(map(len, kinds.values())) > 400
    assert len(set().union(*kinds.values())) == 16
    assert kinds["add"].count("transposed") == 1  # the gradient of b (4,) is its own transpose
    for name, op in OPS.items():
        for wrong in op.wrong + op.wrong_at_edge:
            assert differs(op, wrong), name
        for wrong in op.wrong_at_edge:
            assert not differs(op._replace(edge=None), wrong), name


@pytest.mark.parametrize("name", ["softmax", "layer norm"])
def test_ones_are_blind(name):
    """The gradient of the sum of a softmax or of a layer norm is zero."""
    zeros = lambda g, y, x: (0 * g,)
    assert passes(_checks.minitorch, name, zeros) and passes(_checks.dezero, name, zeros)
    assert passes(_checks.suite, name, zeros, cotangent=False)
    assert not passes(_checks.suite, name, zeros) and not passes(_checks.pytorch, name, zeros)


def test_each_ingredient_notices_what_the_others_do_not():
    small = lambda g, y, x: (g * y * (1 + 1e-4),)
    wide = lambda g, y, x: ((g * y).astype(np.float64),)

    def writes(g, y, a, b):  # a sum has the same gradient wherever it is, so its value betrays nothing
        a[...] = g
        return a, g.sum(axis=0)

    closed = OPS["relu"].wrong_at_edge[0]
    for name, rule, ingredient in (("exp", small, "step"), ("exp", wide, "widths"), ("add", writes, "memory"), ("relu", closed, "edges")):
        assert not passes(_checks.suite, name, rule), ingredient
        assert passes(_checks.suite, name, rule, **{ingredient: False}), ingredient
    assert passes(_checks.pytorch, "exp", small) and not passes(_checks.mygrad, "exp", small)


def test_rules_that_are_not_linear_in_g_pass_the_rows_of_a_jacobian():
    absolute = lambda g, y, x: (np.abs(g) * y,)
    assert passes(_checks.pytorch, "exp", absolute)
    assert not passes(_checks.jax, "exp", absolute)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.analytic])
def test_differences_of_the_checks_agree(name):
    op, rng = OPS[name], np.random.default_rng(0)
    xs = draw(op, rng)
    g = rng.normal(size=op.f(*xs).shape)
    fixed, by_complex_step = _checks.central_each(op.f, xs, g, 1e-5), _checks.complex_each(op.f, xs, g)
    for x, a, b in zip(xs, fixed, by_complex_step):
        slopes, bounds = differences(lambda: float(np.sum(g * op.f(*xs))), x, 1 / 16, float(np.sum(np.abs(g * op.f(*xs)))))
        assert np.all(np.abs(b - slopes) <= bounds)
        assert np.allclose(a, b, rtol=1e-6, atol=1e-7)
