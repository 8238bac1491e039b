"""The rule table: what each NumPy function's gradient is. One block per function."""

from tinygrad_notes.ops import (  # noqa: F401  (importing registers)
    contractions,
    covariance,
    decompositions,
    elementwise,
    indexing,
    joining,
    linalg,
    norms,
    ordering,
    padding,
    polynomials,
    products,
    quantiles,
    reductions,
    refused,
    selection,
    shaping,
    windows,
)
