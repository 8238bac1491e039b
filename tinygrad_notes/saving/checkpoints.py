"""Checkpoints: all that a run needs to go on, bit for bit, as if it had never stopped."""

import json
import operator
import os
from typing import Any, NamedTuple

from tinygrad_notes.binding import map_structure
from tinygrad_notes.core import describe
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.saving.arrays import CHECKSUM, CheckpointError, read, save_arrays
from tinygrad_notes.tree import match_state, state_dict, write

import numpy as np

RECORD = "tinygrad_notes.checkpoint"  # the metadata entry with all that is not an array


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns beside what it restores."""

    step: int
    extra: Any


def save_checkpoint(path: str | os.PathLike, *, step: int, model: Any, optimizer: Any = None, rng: Any = None, extra: Any = None) -> None:
    """Write all that a run needs to go on as if it had never stopped, bit for bit.

    step: how many steps are done. model: a model, or a list or dict of models. optimizer: an optimizer,
    an EMA, or a list or dict of such. rng: a Generator, or a list or dict of Generators (their state;
    not how many children `spawn` has made). extra: anything of dicts with text keys, lists, text,
    numbers, booleans and None: the position in the data, the losses so far (tuples come back as lists).
    """
    try:
        operator.index(step)
    except TypeError:
        raise TypeError(f"save_checkpoint: step is {describe(step)}, expected an integer: how many steps are done") from None
    arrays = {f"model.{name}": array for name, array in state_dict(model).items()}
    numbers: dict[str, int] = {}

    def collect(x, name):
        if isinstance(x, np.ndarray):
            arrays[name] = x
        else:
            numbers[name] = x

    states = map_structure(lambda o, path: o.state_dict(), optimizer if optimizer is not None else {})
    map_structure(collect, states, "optimizer")
    rngs: dict[str, Any] = {}
    map_structure(lambda r, name: rngs.__setitem__(name, _json(r.bit_generator.state, name)), rng if rng is not None else {}, "rng")
    record = {"step": int(step), "numbers": numbers, "rng": rngs, "extra": _json(extra, "extra")}
    save_arrays(path, arrays, {RECORD: json.dumps(record)})


def _json(x: Any, path: str) -> Any:
    """x as dicts with text keys, lists, text, numbers, booleans and None, exactly; TypeError where that cannot be."""
    if isinstance(x, dict) and all(isinstance(key, str) for key in x):
        return {key: _json(value, f"{path}.{key}") for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_json(value, f"{path}.{i}") for i, value in enumerate(x)]
    if isinstance(x, np.generic | np.ndarray):  # an array of a generator's state, a loss that is a NumPy scalar
        return _json(x.tolist(), path)
    if x is None or isinstance(x, str | bool | int | float):
        return x
    raise TypeError(f"save_checkpoint: {path} is {describe(x)}, expected dicts with text keys, lists, text, numbers, booleans and None")


def load_checkpoint(path: str | os.PathLike, *, model: Any = None, optimizer: Any = None, rng: Any = None) -> Checkpoint:
    """Restore, in place, those of model, optimizer and rng that are given; returns (step, extra).

    Make them first as for a new run. Everything is checked before anything is written: on a
    CheckpointError, which names what does not fit, all of them are as they were.
    """
    arrays, metadata = read(path)
    if CHECKSUM not in metadata or RECORD not in metadata:
        raise CheckpointError(f"{os.fspath(path)}: is a file of arrays, not a checkpoint; use load(model, load_arrays(path))")
    try:
        record = json.loads(metadata[RECORD])
        restored = Checkpoint(record["step"], record["extra"])
        pairs = [] if model is None else match_state(model, arrays, prefix="model.")
        optimizers = {} if optimizer is None else _matching_states(optimizer, {**arrays, **record["numbers"]})
        generators = {} if rng is None else _matching_generators(rng, record["rng"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{os.fspath(path)}: does not fit: {error.args[0]}") from error
    with uninterrupted():
        write(pairs)
        for one, state in optimizers.values():
            one.load_state_dict(state)
        for generator, state in generators.values():
            generator.bit_generator.state = state
    return restored


def _matching_states(optimizer: Any, found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """name -> (optimizer, the state to load into it), checked."""
    matching = {}
    unread = {name for name in found if name.startswith("optimizer.")}

    def take(x, name):
        if name not in found:
            raise ValueError(f"the checkpoint has no {name}; it was made with another optimizer, or with other parameters")
        unread.discard(name)
        return found[name]

    def match(one, name):
        state = map_structure(take, one.state_dict(), name)
        one.check_state(state)
        matching[name] = one, state

    map_structure(match, optimizer, "optimizer")
    if unread:
        raise ValueError(f"the optimizer has no {sorted(unread)[0]}, which is in the checkpoint, nor {len(unread) - 1} others")
    return matching


def _matching_generators(rng: Any, states: dict[str, Any]) -> dict[str, tuple[np.random.Generator, Any]]:
    """name -> (Generator, its state), tried on a generator of the same kind."""
    matching = {}

    def match(generator, name):
        if name not in states:
            raise ValueError(f"the checkpoint has no {name}, only {sorted(states) or 'no generator'}")
        type(generator.bit_generator)(0).state = states[name]  # raises unless it is a state of this kind
        matching[name] = generator, states[name]

    map_structure(match, rng, "rng")
    if unread := states.keys() - matching.keys():
        raise ValueError(f"the checkpoint has {sorted(unread)}, but no such generator was given")
    return matching
