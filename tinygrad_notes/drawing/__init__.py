"""A graph as a picture: `draw(loss)` shows every operation with its value and its gradient, as SVG.

    tn.draw(loss, w=w, b=b).save("graph.svg")       # in a notebook, the last line of a cell: tn.draw(loss, w=w, b=b)
    tn.draw(loss, tn.parameters(model))             # names by path
    tn.draw(lambda: f(w, b), w=w, b=b)              # a function of nothing: every value is seen as it is made

SVG is text, so nothing has to be installed to draw it, and a browser shows it at any size, by day and by night.
`contents` finds what a box says, `layout` where it stands, `svg` writes both down.
"""

from pathlib import Path
from typing import Any

from tinygrad_notes.binding import describe, map_structure
from tinygrad_notes.core import Variable

import numpy as np

__all__ = ["Drawing", "draw"]


class Drawing(str):
    """The SVG text, a str; a notebook shows it as a picture."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"Drawing({len(self):,} characters of SVG; .save(path) writes them, a notebook shows them)"

    def save(self, path: str | Path) -> None:
        """Write it to a file, which browsers open.

        ValueError if its name does not end in .svg: this makes no other format. OSError where it cannot be written.
        """
        path = Path(path)
        if path.suffix != ".svg":
            raise ValueError(f"save: the file is {path.name!r}, expected a name that ends in .svg; a browser turns that into PNG or PDF")
        try:
            path.write_text(self, encoding="utf-8")
        except OSError as error:
            hint = "make the folder first" if not path.parent.is_dir() else "name another file"
            raise type(error)(f"save: {path} cannot be written: {error.strerror}; {hint}") from None


def draw(loss: Any, params: Any = None, /, **named: Any) -> Drawing:
    """The graph of a number, from its variables down to itself, with value and gradient in every node.

    loss: a Tensor with one element, or a function of no arguments that returns one. params: Tensors to name by
    their paths, in dicts or lists (`tn.parameters(model)`); named: likewise, `w=w`. Arrays can be named too.

    Gradients are those of `gradients(loss, ...)`, which can still be called: nothing is freed. Nodes keep only what
    their rules read; the other values come from Tensors that are alive and from running operations again. Where
    a constant was dropped, that can be impossible, and the box says so; pass the function, and nothing is missing.
    Functions of `custom_vjp` and `checkpoint` are not run again for their values.

    Raises TypeError or ValueError for what is no number with a graph or has more nodes than can be read, RuntimeError for a
    graph that was freed or is older than the last update of a leaf.
    """
    from tinygrad_notes.drawing.contents import Recorder, contents_of  # late: most programs draw nothing, and importing takes time
    from tinygrad_notes.drawing.svg import svg_of

    names = {**names_in(params), **names_in(named)}
    recorder = Recorder()
    if callable(loss):
        with recorder:
            loss = loss()
    if not isinstance(loss, Variable):
        raise TypeError(f"draw: loss is {describe(loss)}, expected a Tensor, or a function that returns one; an array has no graph")
    if loss.value.size != 1:
        raise ValueError(f"draw: loss has shape {loss.value.shape}, expected one number; use loss.sum() or loss.mean()")
    with np.errstate(all="ignore"):  # what overflows was told when it was computed
        return Drawing(svg_of(*contents_of(loss, names, recorder.seen)))


def names_in(tree: Any) -> dict[str, Any]:
    """path -> Tensor or array, of nested dicts and lists."""
    names: dict[str, Any] = {}

    def collect(x, path):
        if not path:
            raise TypeError(f"draw: params is {describe(x)}, expected a dict or list of Tensors; write w=w, or tn.parameters(model)")
        if not isinstance(x, Variable | np.ndarray):
            raise TypeError(f"draw: {path} is {describe(x)}, expected a Tensor or an array to be named")
        names[path] = x

    if tree is not None:
        map_structure(collect, tree)
    return names
