"""What all layers share: how they look when printed."""

import numpy as np


class Module:
    """A layer or a model: `__init__` makes its parts, `__call__` computes.

    Tensors among the attributes are trained, arrays are buffers, Modules and lists, tuples and dicts
    of them are parts; names that begin with _ are none of these. Deriving from this class adds only
    the printed outline, with shapes and numbers of parameters.
    """

    def __repr__(self) -> str:
        return "\n".join(outline("", self))


def members(x):
    """The named parts of a module or of a container."""
    if isinstance(x, Module):
        return [(name, part) for name, part in vars(x).items() if not name.startswith("_")]
    return list(x.items()) if isinstance(x, dict) else list(enumerate(x)) if isinstance(x, list | tuple) else []


def parameters_in(x, seen):
    """How many numbers are trained in x; a Tensor that stands in two places counts once."""
    if hasattr(x, "shape"):
        new = not isinstance(x, np.ndarray) and id(x) not in seen
        seen.add(id(x))
        return x.size if new else 0
    return sum(parameters_in(part, seen) for _, part in members(x))


def outline(label, x):
    """Lines of text: x and, indented below it, its parts."""
    if hasattr(x, "shape"):
        yield f"{label}{tuple(x.shape)}" + (" constant" if isinstance(x, np.ndarray) else "")
        return
    below = [line for name, part in members(x) for line in outline(f"{name}: ", part)]
    if isinstance(x, Module) or below:
        kind = type(x).__name__ if isinstance(x, Module) else f"{len(x)} parts"
        count = parameters_in(x, set())
        yield f"{label}{kind}, {count:,} parameters" if count else f"{label}{kind}"
        yield from ("  " + line for line in below)
    elif callable(x):
        yield f"{label}{getattr(x, '__name__', x)}"
