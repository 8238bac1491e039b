"""The rule table: what each NumPy function's gradient is. One block per function."""

from tinygrad_notes.ops import elementwise, indexing, linalg, products, reductions, shaping, windows  # noqa: F401  (importing registers)
