"""How many functions of NumPy the peers differentiate, counted by running them: `python -m tests.tables.peers` writes peers.json.

Each function that has a rule or a composition here, and is public in numpy or numpy.linalg, is tried on the
cases of our own suite, in the peer's own way of calling it. It counts if one case gives the right gradient.
The packages are those of the extra `bench`; the page of the functions only reads the file.
"""

import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tinygrad_notes  # noqa: F401  (importing registers)
from tests.ops.samples import Sample, sample
from tinygrad_notes.binding import Given
from tinygrad_notes.check import differences, largest, random_like
from tinygrad_notes.registry import registry

import numpy as np

FILE = Path(__file__).with_name("peers.json")
# Calls that a peer differentiates and that our own cases do not spell in its way.
FAVOURS = {
    "np.broadcast_to": [((3, 1), Given((3, 4)))],
    "np.diagonal": [((3, 3), 0, -1, -2)],
    "np.partition": [((3,), 1)],
}
TITLES = {"autograd": "HIPS autograd", "mygrad": "MyGrad", "jax": "JAX"}


def counted() -> dict[str, Any]:
    """{name: item} of the functions of numpy and numpy.linalg that have a gradient here."""
    public = {id(f): f"{path}.{name}" for path, module in (("np.linalg", np.linalg), ("np", np)) for name, f in vars(module).items()}
    items = [item for item in registry if hasattr(item, "function") and id(item.function) in public]
    return {item.label if item.label.startswith("np.") else public[id(item.function)]: item for item in items}


def members(y: Any) -> list[Any]:
    """The arrays of floats in an output, one or nested."""
    if hasattr(y, "dtype"):
        return [y] if np.dtype(y.dtype).kind == "f" else []
    if hasattr(y, "__len__"):  # HIPS autograd's sequences have a length and no iterator
        return [m for i in range(len(y)) for m in members(y[i])]
    return [y] if isinstance(y, float) else []


def look_up(module: Any, name: str) -> Callable:
    for part in name.split(".")[1:]:
        module = getattr(module, part)
    return module


def with_autograd(name: str, s: Sample, loss: Callable) -> list[Any]:
    import autograd
    import autograd.numpy

    f = look_up(autograd.numpy, name)
    return [autograd.grad(lambda *xs: loss(s.call(xs, f)), i)(*s.inputs) for i in s.varied]


def with_mygrad(name: str, s: Sample, loss: Callable) -> list[Any]:
    import mygrad

    def gradients(f):
        xs = [mygrad.tensor(x) if i in s.varied else x for i, x in enumerate(s.inputs)]
        loss(s.call(xs, f)).backward()
        return [xs[i].grad for i in s.varied]

    try:
        return gradients(look_up(np, name))  # NumPy's own function hands its tensors over
    except Exception:
        return gradients(look_up(mygrad, name))


def with_jax(name: str, s: Sample, loss: Callable) -> list[Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    f = look_up(jax.numpy, name)
    return list(jax.grad(lambda *xs: loss(s.call(xs, f)), tuple(s.varied))(*s.inputs))


def agrees(name: str, s: Sample, gradients_of: Callable) -> bool:
    """Whether the peer's gradients are those that differences of NumPy's function give."""
    outputs = members(s.plain(s.inputs))
    cotangents = random_like(outputs, np.random.default_rng(s.seed + 1))

    def loss(y):
        return sum((c * m).sum() for c, m in zip(cotangents, members(y), strict=True))

    found = gradients_of(name, s, loss)
    for i, gradient in zip(s.varied, found, strict=True):
        slopes, bounds = differences(lambda: float(loss(s.plain(s.inputs))), s.inputs[i], s.h, largest(*outputs))
        if np.shape(gradient) != slopes.shape or not np.all(np.abs(gradient - slopes) <= bounds + 1e-6 * (1 + largest(slopes))):
            return False
    return True


def has_gradient(name: str, item: Any, gradients_of: Callable) -> bool:
    for case in [*item.cases, *FAVOURS.get(name, [])]:
        try:
            if agrees(name, sample(item, case), gradients_of):
                return True
        except Exception:  # however a peer says that it cannot
            continue
    return False


def main() -> None:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    items, found = counted(), {}
    for package, gradients_of in (("autograd", with_autograd), ("mygrad", with_mygrad), ("jax", with_jax)):
        names = [name for name, item in items.items() if has_gradient(name, item, gradients_of)]
        found[package] = {"version": version(package), "with_gradient": sorted(names)}
        print(f"{TITLES[package]} {version(package)}: {len(names)} of {len(items)}; not {', '.join(sorted(items.keys() - names))}")
    FILE.write_text(json.dumps({"numpy": np.__version__, "functions": sorted(items), "peers": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
