"""Mutation testing: break the code on purpose, one change at a time, and see that a test fails.

`python -m tests.mutation` (make mutants) runs every mutant; tests/test_mutants.py runs a sample.
"""

import tests.ops.test_elementwise
import tests.ops.test_reductions  # noqa: F401
import tinygrad_notes.ops.special  # noqa: F401  (registers its ops)
from tinygrad_notes import functional  # noqa: F401
