"""The random programs of tests/test_random_programs.py, run and differentiated by PyTorch and, if installed, by JAX."""

from types import SimpleNamespace

from tests.test_random_programs import MANY, SEEDS, random_program, run
from tinygrad_notes import Tensor, gradients, hvp

import numpy as np
import pytest
from hypothesis import given

LIBRARIES = ("torch", "jax")


def with_torch():
    """PyTorch's functions by our names, and its gradient and Hessian-vector product of a function of arrays."""
    torch = pytest.importorskip("torch")

    F = SimpleNamespace(
        maximum=torch.maximum,
        where=torch.where,
        constant=lambda c: torch.as_tensor(np.asarray(c)),
        index=torch.as_tensor,
        concatenate=torch.cat,
        tanh=torch.tanh,
        sin=torch.sin,
        log=torch.log,
        exp=torch.exp,
        abs=torch.abs,
        sum=lambda x, axis, keepdims: torch.sum(x) if axis is None else torch.sum(x, axis, keepdims),
        mean=torch.mean,
        amax=torch.amax,  # shares ties, as np.max does here
        reshape=torch.reshape,
        swapaxes=lambda x, i, j: torch.swapaxes(x, i, j),
        cumsum=torch.cumsum,
    )

    def differentiate(f, inputs, directions):
        xs = [torch.tensor(x, requires_grad=True) for x in inputs]
        y = f(F, xs)
        gs = torch.autograd.grad(y, xs, create_graph=True, materialize_grads=True)
        along = sum((torch.sum(g * torch.as_tensor(u)) for g, u in zip(gs, directions)), torch.zeros(()))
        products = torch.autograd.grad(along, xs, materialize_grads=True) if along.requires_grad else [torch.zeros_like(x) for x in xs]
        return y.item(), [g.detach().numpy() for g in gs], [p.numpy() for p in products]

    return differentiate


def with_jax():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    F = SimpleNamespace(
        maximum=jnp.maximum,
        where=jnp.where,
        constant=jnp.asarray,
        index=jnp.asarray,
        concatenate=jnp.concatenate,
        tanh=jnp.tanh,
        sin=jnp.sin,
        log=jnp.log,
        exp=jnp.exp,
        abs=jnp.abs,
        sum=lambda x, axis, keepdims: jnp.sum(x, axis=axis, keepdims=keepdims),
        mean=lambda x, axis, keepdims: jnp.mean(x, axis=axis, keepdims=keepdims),
        amax=lambda x, axis, keepdims: jnp.max(x, axis=axis, keepdims=keepdims),
        reshape=jnp.reshape,
        swapaxes=jnp.swapaxes,
        cumsum=lambda x, axis: jnp.cumsum(x, axis=axis),
    )

    def differentiate(f, inputs, directions):
        slope = jax.grad(lambda xs: f(F, xs))
        gs, products = jax.jvp(slope, (list(inputs),), (list(directions),))
        return float(f(F, inputs)), [np.asarray(g) for g in gs], [np.asarray(p) for p in products]

    return differentiate


@pytest.mark.parametrize("library", LIBRARIES)
def test_random_programs(library):
    differentiate = {"torch": with_torch, "jax": with_jax}[library]()

    @MANY
    @given(SEEDS)
    def agree(seed):
        program, inputs = random_program(seed)
        rng = np.random.default_rng(seed)
        directions = [rng.uniform(-1, 1, x.shape) for x in inputs]
        value, slopes, products = differentiate(lambda F, xs: run(program, xs, F), inputs, directions)
        tensors = [Tensor(x) for x in inputs]
        loss = run(program, tensors)
        np.testing.assert_allclose(loss.value, value, rtol=1e-12, atol=1e-12)
        mine = gradients(loss, tensors), hvp(lambda *xs: run(program, xs), tuple(inputs), tuple(directions))
        for ours, theirs in zip(mine, (slopes, products)):
            for a, b in zip(ours, theirs):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * (1 + np.max(np.abs(b))))

    agree()
