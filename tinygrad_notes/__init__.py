"""Plain NumPy with gradients: hand a NumPy function a Tensor instead of an array."""

from tinygrad_notes import runtime

runtime.apply()  # before NumPy is imported, so that its BLAS can still be told which kernels to use

from tinygrad_notes import ops  # noqa: E402, F401  (registers the rules)
from tinygrad_notes.core import gradients  # noqa: E402
from tinygrad_notes.drawing import draw  # noqa: E402
from tinygrad_notes.ops.indexing import at  # noqa: E402
from tinygrad_notes.registry import reference  # noqa: E402
from tinygrad_notes.tensor import Tensor  # noqa: E402
from tinygrad_notes.transforms import (  # noqa: E402
    checkpoint,
    custom_vjp,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)
from tinygrad_notes.tree import count, freeze, frozen, load, map_model, parameters, snapshot, state_dict, unfreeze  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "Tensor",
    "at",
    "checkpoint",
    "count",
    "custom_vjp",
    "draw",
    "freeze",
    "frozen",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "load",
    "map_model",
    "parameters",
    "reference",
    "snapshot",
    "state_dict",
    "stop_gradient",
    "unfreeze",
    "value_and_grad",
    "vjp",
]
