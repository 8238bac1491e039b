"""Arrays in the arguments of a call, and the memory that they look at."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def map_arrays(f: Callable, tree: Any) -> Any:
    """Nested lists, tuples and dicts with f of each array."""
    if isinstance(tree, np.ndarray):
        return f(tree)
    if isinstance(tree, list | tuple):
        members = [map_arrays(f, x) for x in tree]
        return type(tree)(*members) if hasattr(tree, "_fields") else type(tree)(members)
    return {key: map_arrays(f, x) for key, x in tree.items()} if isinstance(tree, dict) else tree


def arrays_in(tree: Any) -> Iterator[np.ndarray]:
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, list | tuple | dict):
        for x in tree.values() if isinstance(tree, dict) else tree:
            yield from arrays_in(x)


def root_of(x: np.ndarray) -> np.ndarray:
    """The array whose memory x looks at."""
    base: Any = x.base
    while base is not None:
        if isinstance(base, np.ndarray):
            x = base
        base = getattr(base, "base", None)  # as_strided puts an object of its own between an array and its view
    return x


def roots_in(tree: Any) -> set[int]:
    """The ids of the memory that these arrays look at."""
    return {id(root_of(x)) for x in arrays_in(tree)}


def address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]
