"""Every op with a namesake in jax.numpy, jax.scipy.special or PyTorch: value and gradient of its cases, by their code.

A namesake that means something else is named in OTHER_MEANING, one that cannot be called as NumPy's is in OTHER_SIGNATURE;
every other one must have been compared. All differences are reported together.
"""

import operator
import warnings

from tests.ops.samples import fill, sample, walk_template
from tests.ops.test_registry import vjp
from tinygrad_notes.check import array_of
from tinygrad_notes.registry import Composition, Op, registry

import numpy as np
import pytest

CASES = {"jax": 2, "torch": 100}  # of each op: jax compiles every one

UNIQUE = "np.unique np.unique_all np.unique_counts np.unique_inverse np.unique_values np.union1d np.setdiff1d np.setxor1d"
OTHER_MEANING = {
    "jax": {
        "np.linalg.eigh": "the sign of each vector is free; test_linalg.py compares the projectors",
        "np.partition": "the order of the numbers on each side is free",
        "scipy.special.spence": "its slope above 1 is nan: a branch not taken has the logarithm of a negative number",
        **dict.fromkeys(UNIQUE.split(), "its gradient is zero"),
    },
    "torch": {
        "np.linalg.eigh": "the sign of each vector is free; test_linalg.py compares the projectors",
        "np.linalg.svd": "the vectors beyond the singular values have no gradient",
        "np.median": "the lower of the two in the middle",
        "np.nanmedian": "the lower of the two in the middle",
        "np.ldexp": "its gradient is zero where an integer exponent is negative",
        "scipy.special.psi": "its slope has nine digits; tests/ops/test_special.py has thirteen from mpmath",
    },
}
OTHER_SIGNATURE = {
    "jax": {
        "np.nextafter": "it has no derivative",
        "np.piecewise": "its functions may be jax's only",
    },
    "torch": {
        **dict.fromkeys(["np.heaviside", "np.unique", "np.bincount"], "it has no derivative"),
        **dict.fromkeys(["np.histogram", "np.histogramdd"], "they have no derivative"),
        **dict.fromkeys(["np.linspace", "np.logspace"], "the ends have no derivative"),
        "np.linalg.lstsq": "residuals and singular values are empty with its default driver",
        "np.select": "another function: one slice of an axis",
        "np.vander": "its gradient raises: it overwrites what it needs",
    },
}


def jax_calls(jnp):
    """By NumPy's order of arguments and defaults, where jax has others."""

    def histogram(a, bins=10, range=None, density=None, weights=None):
        return jnp.histogram(jnp.asarray(a), jnp.asarray(bins), range, weights, density)

    def histogram2d(x, y, bins=10, range=None, density=None, weights=None):
        return jnp.histogram2d(jnp.asarray(x), jnp.asarray(y), bins, range, weights, density)

    def histogramdd(sample, bins=10, range=None, density=None, weights=None):
        return jnp.histogramdd(jnp.asarray(sample), bins, range, weights, density)

    def polydiv(u, v):
        quotient, remainder = jnp.polydiv(u, v)  # which has the length of u; what trims it loses the gradient
        return quotient, remainder[-max(1, len(v) - 1) :]

    return {
        "np.histogram": histogram,
        "np.histogram2d": histogram2d,
        "np.histogramdd": histogramdd,
        "np.polydiv": polydiv,
    }


def torch_calls(torch):
    """By NumPy's keywords and defaults, where torch has others."""

    def pinv(a, rcond=None, rtol=None):
        """By singular values: the gradient of its own takes the rank for constant, also where more than rounding noise is left out."""
        cut = rtol if rcond is None else rcond
        if cut is None:
            return torch.linalg.pinv(a)
        u, s, vh = torch.linalg.svd(a, full_matrices=False)
        inverse = torch.where(s > cut * s.amax(-1, keepdim=True), 1 / s, torch.zeros_like(s))
        return vh.mT * inverse[..., None, :] @ u.mT

    return {
        "np.broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
        "np.flip": lambda x, axis=None: torch.flip(x, list(range(x.ndim)) if axis is None else np.atleast_1d(axis).tolist()),
        "np.linalg.pinv": pinv,
        "np.split": torch.tensor_split,
        "np.std": lambda x, axis=None, **keywords: torch.std(x, axis, **{"correction": 0, **keywords}),
        "np.swapaxes": lambda x, axis1, axis2: torch.swapaxes(x, axis1, axis2),
        "np.transpose": lambda x, axes=None: torch.permute(x, axes or tuple(range(x.ndim))[::-1]),
        "np.var": lambda x, axis=None, **keywords: torch.var(x, axis, **{"correction": 0, **keywords}),
    }


def symmetrised(g):
    """Both give a symmetric argument a symmetric gradient; ours is in the triangle that was read. This part is the same."""
    return (g + np.swapaxes(g, -1, -2)) / 2


SHARED = {"np.linalg.cholesky": symmetrised, "np.linalg.eigvalsh": symmetrised}


def namesakes(prefix, root):
    """(item, their function) for each registered function that has a namesake under `root`: root.linalg.norm for np.linalg.norm."""
    for item in registry:
        if isinstance(item, Op | Composition) and item.label.startswith(prefix):
            try:
                yield item, operator.attrgetter(item.label.removeprefix(prefix))(root)
            except AttributeError:
                continue


def members(y):
    """The float arrays of an output, one or several, of any library."""
    if isinstance(y, tuple | list):
        return [v for member in y for v in members(member)]
    return [y] if "float" in str(y.dtype) else []


def compare(item, case, theirs, pull):
    """None if the case agrees, or why it could not be compared; AssertionError if it differs."""
    s = sample(item, case)
    outputs, gs, mine = vjp(s, s.inputs)
    try:
        with warnings.catch_warnings(action="ignore"):  # theirs: nothing of ours runs in here
            values, gradients = pull(s, theirs, gs)
    except (TypeError, NotImplementedError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    if [v.shape for v in values] != [y.shape for y in outputs]:
        return f"shapes {[v.shape for v in values]}"
    for y, v in zip(outputs, values):
        np.testing.assert_allclose(array_of(y), v, rtol=1e-12, atol=1e-12 * (1 + np.max(np.abs(v), initial=0)))
    shared = SHARED.get(item.label, lambda g: g)
    scale = 1 + max(np.max(np.abs(g), initial=0) for g in mine)
    for i, g in zip(s.varied, mine):
        np.testing.assert_allclose(shared(g), shared(gradients[i]), rtol=1e-11, atol=1e-11 * scale, err_msg=f"gradient {i}")
    return None


def compare_all(library, prefix, root, pull, least):
    """Every namesake: all that differs, and all that was never compared, in one failure."""
    compared, reasons, wrong = 0, {}, []
    for item, theirs in namesakes(prefix, root):
        if item.label in OTHER_MEANING[library]:
            continue
        found = []
        for case in item.cases[: CASES[library]]:
            try:
                found.append(compare(item, case, theirs, pull))
            except AssertionError as error:
                wrong.append(f"{item.label} {case} differs: {' '.join(str(error).split())[:300]}")
                found.append(None)
        if None in found:
            compared += 1
        elif item.label not in OTHER_SIGNATURE[library]:
            reasons[item.label] = found[0]
    wrong += [f"{label} was never compared: {' '.join(reason.split())[:200]}" for label, reason in reasons.items()]
    assert not wrong, "\n".join(wrong)
    assert compared >= least


@pytest.mark.parametrize(("prefix", "least"), [("np.", 200), ("scipy.special.", 35)])
def test_jax(prefix, least):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    calls = jax_calls(jax.numpy)

    def pull(s, theirs, gs):
        theirs = calls.get(s.item.label, theirs)

        def f(*inputs):
            return members(s.call(list(inputs), theirs))

        values, back = jax.vjp(f, *map(jax.numpy.asarray, s.inputs))
        gradients = back([jax.numpy.asarray(g) for g in gs])
        return [np.asarray(v) for v in values], [np.asarray(g) for g in gradients]

    compare_all("jax", prefix, jax.numpy if prefix == "np." else jax.scipy.special, pull, least)


@pytest.mark.parametrize(("prefix", "least"), [("np.", 100), ("scipy.special.", 20)])
def test_torch(prefix, least):
    torch = pytest.importorskip("torch")

    def tensor(x):
        return torch.as_tensor(x) if isinstance(x, np.ndarray) else x

    calls = torch_calls(torch)

    def pull(s, theirs, gs):
        theirs = calls.get(s.item.label, theirs)
        inputs = [torch.tensor(x, requires_grad=True) for x in s.inputs]
        args = fill([walk_template(a, tensor) for a in s.template], inputs)
        values = members(theirs(*args, **{k: tensor(v) for k, v in s.kwargs.items()}))
        gradients = torch.autograd.grad(values, inputs, [torch.tensor(g) for g in gs], materialize_grads=True)
        return [v.detach().numpy() for v in values], [g.numpy() for g in gradients]

    compare_all("torch", prefix, torch if prefix == "np." else torch.special, pull, least)
