"""torch.linalg gives the same gradients, first and second order, as far as both define them."""

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.ops.decompositions import positive_definite, well_conditioned

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def symmetrised(g):
    """torch gives a symmetric argument a symmetric gradient; ours is in the triangle that was read. Both have this symmetric part."""
    return (g + np.swapaxes(g, -1, -2)) / 2


def identity(g):
    return g


def projector(u):
    return u @ u.swapaxes(-1, -2)


# name: (ours, torch's, where it is tried, what the two gradients share)
PAIRS = {
    "inv": (np.linalg.inv, torch.linalg.inv, well_conditioned, identity),
    "det": (np.linalg.det, torch.linalg.det, well_conditioned, identity),
    "slogdet": (lambda x: np.linalg.slogdet(x)[1], lambda x: torch.linalg.slogdet(x)[1], well_conditioned, identity),
    "solve": (lambda x: np.linalg.solve(x, x**2), lambda x: torch.linalg.solve(x, x**2), well_conditioned, identity),
    "pinv": (np.linalg.pinv, torch.linalg.pinv, well_conditioned, identity),
    "svdvals": (np.linalg.svdvals, torch.linalg.svdvals, well_conditioned, identity),
    "svd": (
        lambda x: projector(np.linalg.svd(x)[0][..., :2]),
        lambda x: projector(torch.linalg.svd(x)[0][..., :2]),
        well_conditioned,
        identity,
    ),
    "qr": (
        lambda x: projector(np.linalg.qr(x)[0][..., :2]),
        lambda x: projector(torch.linalg.qr(x)[0][..., :2]),
        well_conditioned,
        identity,
    ),
    "nuc": (lambda x: np.linalg.norm(x, "nuc", (-2, -1)), lambda x: torch.linalg.norm(x, "nuc", (-2, -1)), well_conditioned, identity),
    "matrix_power": (lambda x: np.linalg.matrix_power(x, 5), lambda x: torch.linalg.matrix_power(x, 5), well_conditioned, identity),
    "p": (lambda x: np.linalg.vector_norm(x, ord=3, axis=-1), lambda x: torch.linalg.vector_norm(x, 3, -1), well_conditioned, identity),
    "cholesky": (np.linalg.cholesky, torch.linalg.cholesky, positive_definite, symmetrised),
    "eigvalsh": (np.linalg.eigvalsh, torch.linalg.eigvalsh, positive_definite, symmetrised),
    "eigh": (
        lambda x: projector(np.linalg.eigh(x)[1][..., :2]),
        lambda x: projector(torch.linalg.eigh(x)[1][..., :2]),
        positive_definite,
        symmetrised,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_torch_agrees(name):
    ours, theirs, domain, shared = PAIRS[name]
    x = domain(np.random.default_rng(0), (2, 3, 3))
    t, other = Tensor(x), torch.tensor(x, requires_grad=True)
    y, z = ours(t), theirs(other)
    np.testing.assert_allclose(y.value, z.detach().numpy(), rtol=1e-10, atol=1e-11)
    w = np.random.default_rng(1).normal(size=y.shape)
    first = gradients(np.sum(y * w), t, create_graph=True)
    (expected,) = torch.autograd.grad((z * torch.tensor(w)).sum(), other, create_graph=True)
    np.testing.assert_allclose(shared(first.value), shared(expected.detach().numpy()), rtol=1e-9, atol=1e-10)
    u = symmetrised(np.random.default_rng(2).normal(size=x.shape))  # along it both conventions have the same slope
    second = gradients(np.sum(first * u), t)
    (expected,) = torch.autograd.grad((expected * torch.tensor(u)).sum(), other)
    np.testing.assert_allclose(shared(second), shared(expected.numpy()), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("subscripts", ["bij,bjk->bik", "ij,kj,k->i", "...ij,...j->...", "iij->j", "bi,bj,b->ij"])
def test_torch_agrees_on_einsum(subscripts):
    rng = np.random.default_rng(3)
    shapes = [(3,) * (len(term) - 2 if "..." in term else len(term)) for term in subscripts.split("->")[0].split(",")]
    arrays = [rng.normal(size=s) for s in shapes]
    xs, others = [Tensor(x) for x in arrays], [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = np.einsum(subscripts, *xs), torch.einsum(subscripts, *others)
    np.testing.assert_allclose(y.value, z.detach().numpy(), rtol=1e-11, atol=1e-12)
    for mine, theirs in zip(gradients(np.sum(y * y), xs), torch.autograd.grad((z * z).sum(), others)):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-10, atol=1e-11)
