"""Mutants that mean the same as the original, each with the line of algebra that says why.

(label of the op, mutator, a text in what was changed, why). tests/test_mutants.py draws 1,000 inputs for
each of those of rules and compares the gradients bit by bit.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from tests.mutation.outcome import Mutant
from tests.ops import test_registry
from tests.ops.samples import Sample, sample

import numpy as np

EQUIVALENT: list[tuple[str, str, str, str]] = []


def reason(mutant: Mutant) -> str | None:
    """Why the mutant changes nothing, or None: it must be killed."""
    for label, mutator, text, why in EQUIVALENT:
        if (mutant.label, mutant.mutator) == (label, mutator) and text in mutant.where:
            return why
    return None


def draws(item: Any) -> Iterator[Sample]:
    """The cases of an item, with other inputs each time."""
    return (sample(item, case, again) for again in count() for case in item.cases)


def outcome(s: Sample) -> list[np.ndarray]:
    """The outputs and gradients of a call, for random cotangents."""
    outputs, _, found = test_registry.vjp(s, s.inputs)
    return [*(test_registry.array_of(y) for y in outputs), *found]
