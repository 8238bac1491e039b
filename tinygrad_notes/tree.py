"""A model as a tree of named arrays: parameters, copies, views, freezing.

A model is a plain object. Its state is what stands in its attributes (those in `vars(model)`): Tensors (parameters), ndarrays (buffers
and frozen weights), further such objects, and lists, tuples and dicts of these. An attribute whose name starts with `_` is not state;
frozen dataclasses (configurations), functions, numbers, strings and the like are ignored. A path is named as in PyTorch:
"blocks.0.attention.weight". Everything here also takes a plain dict or list of arrays.

Whose memory is it? `Tensor(array)` shares the caller's array. Before anything is written in place (by an optimizer, by `load`)
or shared (by `frozen`, by `freeze`), `own` moves the values of the leaves into flat buffers, once: a caller's array is never
overwritten, and whatever shares a leaf's memory from then on follows it, whether an optimizer came before or after.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast
from weakref import WeakValueDictionary

from tinygrad_notes.binding import check_value, like
from tinygrad_notes.core import Leaf, describe
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.registry import Composition, Fused, Op
from tinygrad_notes.tensor import Tensor

import numpy as np

Match = str | Callable[[str, Any], bool]  # a pattern of paths ("blocks.*.bias") or f(path, leaf) -> bool
FUNCTIONS = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, partial, Op, Composition, Fused)
SHOWN = 8  # how many paths an error lists

# --- walking ----------------------------------------------------------------------------


def leaves(model: Any) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The (path, leaf) pairs of a model's state, in the order of the attributes; a tied leaf at each of its paths.

    Raises ValueError for a Tensor that is the result of an operation, for two leaves of one path and for a circle.
    """
    at: dict[str, Any] = {}
    for path, leaf in _leaves(model, "", ()):
        if path in at:
            raise ValueError(f"model: two leaves have the path {path!r}; give one of the two keys another name")
        at[path] = leaf
        yield path, leaf


def _leaves(x: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(x, Tensor):
        if not isinstance(x.node, Leaf):
            raise ValueError(
                f"model: {path or 'the Tensor'} {x.shape} is the result of an operation, expected a leaf; store Tensor(t.value), or name the attribute _{path.rpartition('.')[2]}"
            )
        check_value(f"model: {path or 'the Tensor'}", x)
        yield path, x
    elif isinstance(x, np.ndarray):
        yield path, x
    else:
        if id(x) in above:
            raise ValueError(f"model: {path} is part of itself; name the attribute that leads back with a leading _")
        for key, child in _children(x):
            yield from _leaves(child, f"{path}.{key}" if path else str(key), (*above, id(x)))


def _children(x: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(x, dict):
        return x.items()
    if isinstance(x, list | tuple):
        return enumerate(x)
    if _is_module(x):
        return [(name, value) for name, value in vars(x).items() if not name.startswith("_")]
    return ()


def _is_module(x: Any) -> bool:
    frozen_dataclass = getattr(getattr(x, "__dataclass_params__", None), "frozen", False)
    return hasattr(x, "__dict__") and not frozen_dataclass and not isinstance(x, FUNCTIONS)


def _rebuild(x: Any, f: Callable, shell: Callable, done: dict[int, tuple[Any, Any]]) -> Any:
    """x with each leaf replaced by f(leaf); what is shared in x is shared in the result.

    shell(container) is the object to fill: a shallow copy, or the container itself to change it in place.
    """
    if id(x) in done:
        return done[id(x)][1]
    if isinstance(x, Tensor | np.ndarray):
        new = f(x)
    elif isinstance(x, tuple):
        new = like(x, [_rebuild(child, f, shell, done) for child in x])
    elif isinstance(x, list | dict) or _is_module(x):
        new = shell(x)
        slots = new if isinstance(new, list | dict) else vars(new)
        for key, child in list(_children(x)):
            slots[key] = _rebuild(child, f, shell, done)
    else:
        return x
    done[id(x)] = x, new  # x is kept, so that its id stays its own
    return new


# --- memory -----------------------------------------------------------------------------

_flat_buffers: WeakValueDictionary[int, np.ndarray] = WeakValueDictionary()  # id -> a buffer that `own` made


def own(tensors: Iterable[Tensor], empty: Callable = np.empty) -> None:
    """Move the values of these leaves into flat buffers, one for each dtype, in this order. empty(size, dtype) makes one.

    A leaf that lives in such a buffer already stays where it is. The values do not change.
    """
    strangers = {id(t): t for t in tensors if t.node.memory is not t.value}.values()
    for dtype in dict.fromkeys(t.dtype for t in strangers):
        group = [t for t in strangers if t.dtype == dtype]
        flat = _new_flat(sum(t.size for t in group), dtype, empty)
        start = 0
        for t in group:
            view = flat[start : start + t.size].reshape(t.shape)
            view[...] = t.value
            t.value = t.node.memory = view
            start += t.size


def _new_flat(size: int, dtype: np.dtype, empty: Callable = np.empty) -> np.ndarray:
    flat = empty(size, dtype)
    _flat_buffers[id(flat)] = flat
    return flat


def is_owned(array: np.ndarray) -> bool:
    """Whether the array is a view of a buffer that `own` made: it is, or was, the value of a leaf."""
    return _flat_buffers.get(id(array.base)) is not None


# --- state ------------------------------------------------------------------------------


def parameters(model: Any) -> dict[str, Tensor]:
    """The Tensors of a model by path; one that stands at two places (tied) once, under its first path.

    Each leaf's node is named by its path, for errors and for the repr.
    """
    params: dict[str, Tensor] = {}
    seen: set[int] = set()
    for path, leaf in leaves(model):
        if isinstance(leaf, Tensor) and id(leaf) not in seen:
            seen.add(id(leaf))
            params[path] = leaf
            cast(Leaf, leaf.node).name = path
    return params


def count(model: Any) -> int:
    """The number of trainable numbers: the sizes of all Tensors, a tied one counted once."""
    return sum(t.size for t in {id(leaf): leaf for _, leaf in leaves(model) if isinstance(leaf, Tensor)}.values())


def state_dict(model: Any) -> dict[str, np.ndarray]:
    """Copies of all parameters and buffers by path; a tied one under each of its paths."""
    return {path: np.array(_array(leaf), order="C") for path, leaf in leaves(model)}


def load(model: Any, state: dict[str, np.ndarray]) -> None:
    """Write `state` (path -> array) into the model's parameters and buffers, in place.

    Every Tensor stays the same Tensor and every array the same array. All names, shapes and dtypes are checked first: on an error
    (ValueError, listing everything that does not fit) the model is unchanged. A tied leaf may stand under any of its paths. Byte
    order does not matter. A RuntimeWarning names parameters that now hold a nan or inf.
    """
    write(match_state(model, state))
    if bad := [path for path, t in parameters(model).items() if not np.isfinite(t.value).all()]:
        warnings.warn(f"load: {_listed('nan or inf', bad)[0]}; look where these weights were made", RuntimeWarning, stacklevel=2)


def match_state(model: Any, state: dict[str, np.ndarray], prefix: str = "") -> list[tuple[Any, np.ndarray]]:
    """The (leaf, new value) pairs that `load` would write; raises where it would, and changes nothing.

    prefix: what the names of `state` have before the model's paths; names without it are left alone.
    """
    state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    by_id: dict[int, tuple[Any, list[str]]] = {}  # each leaf and its paths
    for path, leaf in leaves(model):
        by_id.setdefault(id(leaf), (leaf, []))[1].append(path)
    known = {path for _, tied in by_id.values() for path in tied}
    missing = [tied[0] for _, tied in by_id.values() if not any(path in state for path in tied)]
    unfit, pairs = [], []
    for leaf, tied in by_id.values():
        given = [path for path in tied if path in state]
        for path in given:
            unfit += _differences(path, leaf, state[path])
        if given and not unfit:
            first, *others = given
            unfit += [f"{path} differs from {first}, to which it is tied" for path in others if not _same(state[path], state[first])]
            pairs.append((leaf, np.asarray(state[first])))
    problems = _listed("missing", missing) + _listed("unexpected", [name for name in state if name not in known]) + _listed("unfit", unfit)
    if problems:
        raise ValueError(f"load: {'; '.join(problems)}; the model is unchanged")
    return pairs


def write(pairs: list[tuple[Any, np.ndarray]]) -> None:
    """Write new values into leaves, in place and as one step; see `match_state`."""
    tensors = [leaf for leaf, _ in pairs if isinstance(leaf, Tensor)]
    own(tensors)
    # A value that shares memory with a leaf, perhaps another one, is read before anything is written.
    memory = {id(_root(_array(leaf))) for leaf, _ in pairs}
    pairs = [(leaf, np.array(value) if id(_root(value)) in memory else value) for leaf, value in pairs]
    with uninterrupted():
        for leaf, value in pairs:
            _array(leaf)[...] = value
        for t in tensors:
            cast(Leaf, t.node).touch()


def _array(leaf: Any) -> np.ndarray:
    return leaf.value if isinstance(leaf, Tensor) else leaf


def _root(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _differences(path: str, leaf: Any, new: Any) -> list[str]:
    have = _array(leaf)
    if not isinstance(new, np.ndarray | np.generic):  # NumPy makes scalars of arrays without dimensions
        return [f"{path} is {describe(new)}, expected an array {have.shape} {have.dtype}"]
    if new.shape != have.shape:
        return [f"{path} has shape {new.shape}, expected {have.shape}"]
    if new.dtype.newbyteorder("=") != have.dtype.newbyteorder("="):
        return [f"{path} has dtype {new.dtype}, expected {have.dtype} (convert it with .astype)"]
    return [] if leaf is not have or have.flags.writeable else [f"{path} is a read-only array, which cannot be written"]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def _listed(title: str, items: list[str]) -> list[str]:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return [f"{title}: {', '.join(items[:SHOWN])}{more}"] if items else []


# --- other models from this one ---------------------------------------------------------


def map_model(f: Callable[[Any], Any], model: Any) -> Any:
    """A copy of the model's structure with f(leaf) in place of each leaf (Tensor or ndarray).

    Leaves and submodules that are tied in the model are tied in the copy. Whatever is not state
    (configurations, functions, attributes that start with `_`) is shared with the model.
    """
    for _ in leaves(model):  # refuses results of operations and circles
        pass
    return _rebuild(model, f, copy.copy, {})


def frozen(model: Any) -> Any:
    """A live view of the model without Tensors: arrays in, arrays out, no graph; for inference.

    It shares the memory of every parameter and buffer, so it moves as the model trains, also if
    the optimizer is made later. (A weight that is replaced, `model.w = Tensor(...)`, is not followed.)
    """
    own(leaf for _, leaf in leaves(model) if isinstance(leaf, Tensor))
    return map_model(_array, model)


def snapshot(model: Any) -> Any:
    """The model as it is now, without Tensors, owning its memory: a reference policy, a target network."""

    def copied(leaf):
        if not isinstance(leaf, Tensor):
            return np.array(leaf, order="C")
        value = _new_flat(leaf.size, leaf.dtype).reshape(leaf.shape)  # so that `unfreeze` knows it for a parameter
        value[...] = leaf.value
        return value

    return map_model(copied, model)


def freeze(model: Any, match: Match = "*") -> None:
    """Turn parameters into constants, in place: each Tensor whose path matches becomes an array of the same memory.

    match: a pattern ("blocks.0.*", where * stands for any characters) or f(path, tensor) -> bool. A tied
    parameter is frozen at all its places if any matches. Raises ValueError if none matches.
    """
    chosen = _chosen("freeze", model, match, lambda leaf: isinstance(leaf, Tensor))
    own(chosen.values())
    _rebuild(model, lambda leaf: leaf.value if id(leaf) in chosen else leaf, lambda x: x, {})


def unfreeze(model: Any, match: Match = "*") -> None:
    """Undo `freeze`, in place: each array that was a parameter, and whose path matches, becomes a Tensor of the same memory.

    Buffers and arrays of the caller's stay arrays, as they were never Tensors; to train one, assign
    `model.w = Tensor(array)`. Works on a `snapshot`, too. Raises ValueError if none matches.
    """
    chosen = _chosen("unfreeze", model, match, lambda leaf: isinstance(leaf, np.ndarray) and is_owned(leaf))

    def tensor(leaf):
        if id(leaf) not in chosen:
            return leaf
        t = Tensor(leaf)
        t.node.memory = leaf  # the memory is the model's own already
        return t

    _rebuild(model, tensor, lambda x: x, {})


def _chosen(name: str, model: Any, match: Match, candidate: Callable[[Any], bool]) -> dict[int, Any]:
    if isinstance(model, Tensor | np.ndarray | tuple):
        raise TypeError(f"{name}: got {describe(model)}, expected a model, list or dict, which can be changed in place")
    if not callable(match) and not isinstance(match, str):
        raise TypeError(f"{name}: match is {describe(match)}, expected a pattern or f(path, tensor) -> bool; for several, call it for each")
    matches = match if callable(match) else lambda path, leaf: fnmatchcase(path, match)
    candidates = [(path, leaf) for path, leaf in leaves(model) if candidate(leaf)]
    chosen = {id(leaf): leaf for path, leaf in candidates if matches(path, leaf)}
    if not chosen:
        listed = _listed("the paths are", [path for path, _ in candidates]) or ["there is nothing to choose from"]
        raise ValueError(f"{name}: nothing matches {match!r}; {listed[0]}")
    return chosen
