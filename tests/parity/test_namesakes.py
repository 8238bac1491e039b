"""Every op with a namesake in jax.numpy, jax.scipy.special or PyTorch: value and gradient of its cases, by their code.

Where the other library has no such keyword, or another meaning that OTHER_MEANING tells, a case is left out; how many were compared is asserted.
"""

import operator

from tests.ops.samples import sample
from tests.ops.test_registry import vjp
from tinygrad_notes.registry import Composition, Op, registry

import numpy as np
import pytest

CASES = 2  # of each op: jax compiles every one
OTHER_MEANING = {
    "np.linalg.svd": "the signs of the vectors are free",
    "np.linalg.qr": "the signs of the vectors are free",
    "np.linalg.eigh": "the signs of the vectors are free, and jax averages both triangles",
    "np.linalg.eigvalsh": "jax averages both triangles",
    "np.linalg.cholesky": "jax averages both triangles",
    "np.unique": "jax gives the gradient of the sorted array",
    "np.nanprod": "jax fills with ones after the product",
}


def resolve(root, label):
    """root.linalg.norm for np.linalg.norm, or None."""
    try:
        return operator.attrgetter(label.partition(".")[2])(root)
    except AttributeError:
        return None


def namesakes(prefix, root):
    """(item, case, their function) for each registered function that has a namesake under `root`."""
    found = []
    for item in registry:
        if isinstance(item, Op | Composition) and item.label.startswith(prefix) and item.label not in OTHER_MEANING:
            theirs = resolve(root, item.label.removeprefix(prefix.rpartition(".")[0]) if "scipy" in prefix else item.label)
            if theirs is not None:
                found += [(item, case, theirs) for case in item.cases[:CASES]]
    return found


def members(y):
    """The float arrays of an output, one or several, of any library."""
    several = y if isinstance(y, tuple | list) else [y]
    return [v for v in several if "float" in str(v.dtype)]


def compare(item, case, theirs, pull):
    """Whether the case could be compared; AssertionError if it differs."""
    s = sample(item, case)
    outputs, gs, mine = vjp(s, s.inputs)
    try:
        values, gradients = pull(s, theirs, gs)
    except (TypeError, NotImplementedError, ValueError, AttributeError, IndexError, RuntimeError):
        return False  # another signature
    if [v.shape for v in values] != [y.shape for y in outputs]:
        return False
    scale = 1 + max((float(np.max(np.abs(g), initial=0)) for g in mine), default=0)
    for y, v in zip(outputs, values):
        np.testing.assert_allclose(
            getattr(y, "value", y), v, rtol=1e-7, atol=1e-9 * (1 + np.max(np.abs(v), initial=0)), err_msg=f"{item.label} {case}"
        )
    for i, a in zip(s.varied, mine):
        np.testing.assert_allclose(a, gradients[i], rtol=1e-6, atol=1e-8 * scale, err_msg=f"{item.label} {case}: gradient {i}")
    return True


def summary(rows, pull):
    """{op: how many of its cases were compared}; all differences together in one failure."""
    compared, wrong = {}, []
    for item, case, theirs in rows:
        try:
            compared[item.label] = compared.get(item.label, 0) + compare(item, case, theirs, pull)
        except AssertionError as error:
            wrong.append(" ".join(str(error).split())[:300])
    assert not wrong, "\n".join(wrong)
    return {label for label, n in compared.items() if n}


@pytest.mark.parametrize(("prefix", "least"), [("np.", 150), ("scipy.special.", 20)])
def test_jax(prefix, least):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    root = jax.numpy if prefix == "np." else jax.scipy.special

    def pull(s, theirs, gs):
        def f(*inputs):
            return members(s.call(list(inputs), theirs))

        values, back = jax.vjp(f, *map(jax.numpy.asarray, s.inputs))
        gradients = back([jax.numpy.asarray(g) for g in gs])
        return [np.asarray(v) for v in values], [np.asarray(g) for g in gradients]

    assert len(summary(namesakes(prefix, root), pull)) >= least


def test_torch():
    torch = pytest.importorskip("torch")

    def pull(s, theirs, gs):
        if s.kwargs:
            raise TypeError("torch has other keywords")
        inputs = [torch.tensor(x, requires_grad=True) for x in s.inputs]
        values = members(s.call(inputs, theirs))
        gradients = torch.autograd.grad(values, inputs, [torch.tensor(g) for g in gs], materialize_grads=True)
        return [v.detach().numpy() for v in values], [g.numpy() for g in gradients]

    assert len(summary(namesakes("np.", torch), pull)) >= 80
