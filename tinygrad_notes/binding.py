"""From a caller's spelling of a NumPy call to (inputs, params), and what a rule reads.

NumPy lets one call be written in many ways; a gradient rule should see one. `bind` sorts
the arguments of a call into the array inputs, by position, and the rest, by keyword.
"""

import dis
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SHAPE_ONLY = {"shape", "ndim", "dtype", "size"}
# Keywords that change how a value is computed or stored, not what it is: rules never see them.
# (The engine gives every gradient its input's dtype, so `dtype=` needs no rule either.)
STORAGE = {"casting", "dtype", "like", "order", "signature", "subok"}
SEQUENCES = (list, tuple)  # isinstance takes them in half the time of `list | tuple`


def refuse_out(name: str) -> TypeError:
    return TypeError(
        f"{name}: out= would overwrite an array that a gradient may need; write y = {name}(...) instead, and a = a + t for a += t"
    )


def reads_of(rule: Callable) -> set[str]:
    """The arguments whose arrays `rule` reads, rather than only their .shape, .ndim, .dtype or .size.

    Found in the rule's byte code, once, when its op is first used; when in doubt, an argument counts as read.
    """
    code = rule.__code__
    arguments = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)])
    read = set(code.co_cellvars)  # an inner function uses these
    instructions = list(dis.get_instructions(code))
    for this, after in zip(instructions, instructions[1:] + instructions[-1:]):
        if "LOAD_FAST" in this.opname:  # newer Pythons load two variables with one instruction
            *others, last = this.argval if isinstance(this.argval, tuple) else (this.argval,)
            read.update(others)
            if not (after.opname == "LOAD_ATTR" and after.argval in SHAPE_ONLY):
                read.add(last)
    return read & arguments


def spelling(function: Callable) -> tuple[list[str], dict[str, Any]]:
    """The names of a function's parameters, in order, and their defaults (empty where NumPy tells none)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], {}
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names, {p.name: p.default for p in parameters if p.default is not p.empty}


def bind_ufunc(op, args, kwargs):
    """ufunc(*inputs, **kwargs): inputs are positional."""
    if len(args) > op.arity or kwargs.get("out") is not None:
        raise refuse_out(op.label)
    return args, check_params(op, kwargs) if kwargs else kwargs


def bind_function(op, args, kwargs):
    """function(*args, **kwargs): the first `arity` parameters are the inputs, the others are params."""
    n, names = op.arity, op.names
    if names and len(args) > len(names):
        raise TypeError(f"{op.label}: {len(args)} positional arguments came, expected at most {len(names)}: {', '.join(names)}")
    inputs = list(args[:n])
    params = dict(zip(names[n:], args[n:])) | kwargs
    for name in names[len(inputs) : n]:
        if name in params:
            inputs.append(params.pop(name))
        elif name in op.defaults:
            inputs.append(op.defaults[name])
        else:
            raise TypeError(f"{op.label}: the argument {name!r} is missing")
    return inputs, check_params(op, params)


def bind_sequence(op, args, kwargs):
    """function([a, b, ...], **kwargs): the members of the first argument are the inputs."""
    params = dict(zip(op.names, args)) | kwargs
    return tuple(params.pop(op.names[0])), check_params(op, params)


def check_params(op, params: dict[str, Any]) -> dict[str, Any]:
    """Leave out what equals NumPy's default; refuse what no rule reads, and Tensors."""
    kept = {}
    for name, value in params.items():
        if value is np._NoValue or value is op.defaults.get(name, np._NoValue):
            continue
        if name == "out":
            raise refuse_out(op.label)
        if hasattr(value, "__array_ufunc__") and not isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"{op.label}: {name}= is a Tensor, but no rule gives it a gradient; pass {name}=t.value, or compute it apart")
        if name == "where" and isinstance(op.function, np.ufunc):
            raise TypeError(f"{op.label}: where= leaves elements without a value; write np.where(mask, {op.label}(...), other) instead")
        if name not in op.keywords and name not in STORAGE and not op.any_keyword:
            known = list(dict.fromkeys([*op.names, *op.defaults]))
            if known and name not in known:
                raise TypeError(f"{op.label}: there is no argument {name}=, expected some of {', '.join(known)}")
            raise TypeError(f"{op.label}: {name}= has no gradient rule; leave it out or apply it in a step of its own")
        kept[name] = value
    return kept


def stand_in(value: Any) -> Any:
    """What a rule gets for a constant whose array it does not read."""
    return Shape(value) if isinstance(value, np.ndarray) else value


class Given:
    """An argument of a test case that is passed as it stands, not taken for a shape."""

    def __init__(self, value):
        self.value = value


class Shape:
    """The shape and dtype of an array that was not kept."""

    __slots__ = ("dtype", "ndim", "shape", "size")

    def __init__(self, array):
        self.shape, self.dtype, self.ndim, self.size = array.shape, array.dtype, array.ndim, array.size


def map_structure(f: Callable, tree: Any, path: str = "") -> Any:
    """A copy of nested lists, tuples and dicts, each member x replaced by f(x, its path)."""
    if isinstance(tree, dict):
        return {k: map_structure(f, v, f"{path}.{k}" if path else str(k)) for k, v in tree.items()}
    if isinstance(tree, SEQUENCES):
        members = [map_structure(f, v, f"{path}.{i}" if path else str(i)) for i, v in enumerate(tree)]
        return like(tree, members)
    return f(tree, path)


def map_leaves(f: Callable, tree: Any) -> Any:
    """map_structure for an f that needs no path: a third of the time."""
    if isinstance(tree, dict):
        return {k: map_leaves(f, v) for k, v in tree.items()}
    if isinstance(tree, SEQUENCES):
        return like(tree, [map_leaves(f, v) for v in tree])
    return f(tree)


def like(original: Sequence, members: list) -> Any:
    """`members` in a sequence of the kind of `original`; named tuples keep their names."""
    kind: Any = type(original)
    return kind(*members) if hasattr(original, "_fields") else kind(members)


def describe(x: Any) -> str:
    """How an error names what came: the type, and the shape and dtype of an array."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{type(x).__name__} {x.shape} {x.dtype}"
    return f"{type(x).__name__} {' '.join(str(x).split())[:60]}"


def check_value(what: str, t: Any) -> None:
    """RuntimeError if t.value was given something else than an array like the one that the Tensor was made with."""
    v, node = t.value, t.node
    if not isinstance(v, np.ndarray) or v.shape != node.shape or v.dtype != node.dtype:
        raise RuntimeError(
            f"{what} was made with an array {node.shape} {node.dtype}, but t.value was set to {describe(v)}; write into it, t.value[...] = x, or make a new one, Tensor(x)"
        )


def label(function: Callable) -> str:
    """How an error names a function: np.sum, np.linalg.norm, scipy.special.erf, relu."""
    name = getattr(function, "__name__", str(function))
    for prefix, module in (("np", np), ("np.linalg", np.linalg), ("np.fft", np.fft)):
        if getattr(module, name, None) is function:
            return f"{prefix}.{name}"
    special = sys.modules.get("scipy.special")
    return f"scipy.special.{name}" if special is not None and getattr(special, name, None) is function else name
