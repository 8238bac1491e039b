"""Property 1: values and gradients against exact references, in ULP, with the bounds that docs/verification.md publishes."""

from tests.ops.references import REFERENCES, measure

import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", REFERENCES)
def test_ulp(name, dtype):
    reference = REFERENCES[name]
    for what, bound, (error, where) in zip(("value", "gradient"), reference.bounds, measure(reference, dtype)):
        assert bound is None or error <= bound, f"{name}: the {what} is {error:.3g} ULP off, published are {bound}: {where}"


def test_a_bound_above_64_ulp_is_explained():
    unexplained = [n for n, r in REFERENCES.items() if max(b or 0 for b in r.bounds) > 64 and not r.note]
    assert not unexplained, f"say in a note which step of the formula loses these digits: {unexplained}"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sigmoid", lambda x: 0.5 + 0.5 * np.tanh(0.5 * x)),  # no digits for negative x
        ("normal_cdf", lambda x: 0.5 * (1 + np.tanh(0.797885 * (x + 0.044715 * x**3)))),  # another function
        ("softplus", lambda x: np.log(1 + np.exp(x))),
        ("softmax", lambda x: np.exp(x) / np.sum(np.exp(x))),  # overflows
        ("logsumexp", lambda x: np.log(np.sum(np.exp(x)))),
        ("layer_norm", lambda x: (x - np.mean(x)) / np.sqrt(np.mean(x * x) - np.mean(x) ** 2 + 1e-5)),
        ("np.expm1", lambda x: np.exp(x) * 1.0001),
    ],
)
def test_a_careless_formula_is_noticed(name, call):
    reference = REFERENCES[name]
    careless = type(reference)(call, *list(vars(reference).values())[1:])
    off = [error for error, _ in measure(careless, np.float64)]
    assert any(bound is not None and not error <= bound for error, bound in zip(off, reference.bounds)), off
