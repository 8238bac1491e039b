"""Plain NumPy with gradients: hand a NumPy function a Tensor instead of an array."""

from tinygrad_notes import ops  # noqa: F401  (registers the rules)
from tinygrad_notes.core import gradients
from tinygrad_notes.registry import reference
from tinygrad_notes.tensor import Tensor

__version__ = "0.1.0"
__all__ = ["Tensor", "gradients", "reference"]
