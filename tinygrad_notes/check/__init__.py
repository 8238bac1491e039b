"""Is the gradient right, and where did it go wrong: differences, and watchers of a running graph.

    check_grads(f, x, w)            # every gradient of f against differences, first and second order
    with check.anomaly(): ...       # the first nan or inf raises, with the line of yours that made it
    with check.guard(): ...         # an array changed between forward and backward raises
    with check.dtypes(): ...        # the first op that mixes float32 and float64 raises
    with check.shapes(module): ...  # comments such as `# (B, T, C)` are executed
    with check.count() as counts: ...

Differences carry a bound of their own error, so that no tolerance is set by hand: a rule that
is wrong by one part in 10,000 fails, and a right one does not.
"""

from tinygrad_notes.check.dimensions import evaluate, mismatch, parse
from tinygrad_notes.check.gradients import check_grads, judge
from tinygrad_notes.check.numerical import (
    EPS,
    EPS32,
    GradientError,
    array_of,
    derivative,
    differences,
    floats,
    inner,
    largest,
    pull,
    random_like,
    step,
)
from tinygrad_notes.check.shape_comments import ShapeError, read_comment, shapes
from tinygrad_notes.check.watchers import Rules, Watcher, anomaly, arrays_in, count, dtypes, guard

__all__ = [
    "EPS",
    "EPS32",
    "GradientError",
    "Rules",
    "ShapeError",
    "Watcher",
    "anomaly",
    "array_of",
    "arrays_in",
    "check_grads",
    "count",
    "derivative",
    "differences",
    "dtypes",
    "evaluate",
    "floats",
    "guard",
    "inner",
    "judge",
    "largest",
    "mismatch",
    "parse",
    "pull",
    "random_like",
    "read_comment",
    "shapes",
    "step",
]
