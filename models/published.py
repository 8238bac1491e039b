"""What the published forms of several models share: numbers of a config.json, and arrays under other names."""

import dataclasses
import math
from numbers import Integral, Real
from typing import get_args

import numpy as np

NUMBERS = {"dropout": (0, 1), "eps": (0, 1), "std": (0, 1)}  # our fields that are real numbers, with their limits; others count something
LARGEST = 2**31 - 1  # of a count
MAY_BE_0 = {"classes", "pooler", "end"}  # our whole numbers that count from 0 on
ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
}


def check_supported(config, supported, what):
    """ValueError unless each key has one of the values that the model can follow; the first is what a missing key means."""
    for key, known in supported.items():
        if config.get(key, None if key == "model_type" else known[0]) not in known:
            expected = " or ".join(map(repr, known))
            raise ValueError(f"Config.from_published: {key} is {config.get(key)!r}, expected {expected}: this is {what} as published")


def numbers(config, names, optional=()):
    """The numbers that `config`, a JSON object, gives under the published `names`: {ours: value}; a missing one is left out.

    names: {theirs: ours}. optional: of theirs, those that may be null. ValueError for what is no number, or none that can be.
    """
    found = {}
    for key, ours in names.items():
        if key in config and not (config[key] is None and key in optional):
            found[ours] = number(key, config[key], *NUMBERS.get(ours, (1, LARGEST)), whole=ours not in NUMBERS)
    return found


def number(key, value, least, most, *, whole=True):
    """`value`, if it is a number from `least` to `most`."""
    if type(value) not in ((int,) if whole else (int, float)) or not least <= value <= most or not math.isfinite(value):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"Config.from_published: {key} is {value!r}, expected {kind} from {least} to {most}; use the file as published")
    return value


def classes(config, default):
    """{"classes": how many, "labels": their names}, which stand under id2label; there may be num_labels alone, and no names."""
    names = config.get("id2label")
    if names is not None and not isinstance(names, dict):
        raise ValueError(f"Config.from_published: id2label is {names!r}, expected an object; use the file as published")
    n = number("num_labels", config.get("num_labels", len(names) if names else default), 1, LARGEST)
    by_number = {str(i): label for i, label in (names or {}).items()}  # numbers are strings in a file
    labels = tuple(by_number.get(str(i)) for i in range(n)) if len(by_number) == n else ()
    if names and not (labels and all(isinstance(label, str) for label in labels)):
        raise ValueError(
            f"Config.from_published: id2label is {str(names)[:80]}, expected a name for each number from 0 to {n - 1}, num_labels - 1"
        )
    return {"classes": n, "labels": () if labels == unnamed(n) else labels}


def unnamed(n):
    """What published files call classes that have no names."""
    return tuple(f"LABEL_{i}" for i in range(n))


def labelled(config):
    """The inverse of `classes`: what config.json says of the classes of our configuration."""
    labels = config.labels or unnamed(config.classes)
    return {"id2label": {str(i): label for i, label in enumerate(labels)}, "label2id": {label: i for i, label in enumerate(labels)}}


def check_config(config):
    """ValueError for a number in our configuration that no model can have: counts are whole and from 1 on, other numbers from 0 to 1.

    And unless each class has a name, or none has.
    """
    for field in dataclasses.fields(config):
        value, kinds = getattr(config, field.name), (field.type, *get_args(field.type))
        if not ({int, float} & {*kinds} and bool not in kinds) or (value is None and type(None) in kinds):
            continue
        whole = int in kinds
        least, most = (0 if field.name in MAY_BE_0 else 1, LARGEST) if whole else (0, 1)
        for v in value if isinstance(value, tuple) else (value,):
            if not isinstance(v, Integral if whole else Real) or isinstance(v, bool) or not least <= v <= most:
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{type(config).__name__}: {field.name} is {value!r}, expected {kind} from {least} to {most}")
    if getattr(config, "labels", ()) and len(config.labels) != config.classes:
        raise ValueError(f"Config: {len(config.labels)} labels for {config.classes} classes; name each class, or none: labels=()")


def dropouts(config):
    """GPT's dropout of branches, and that of embeddings where it is another: {"dropout": ..., "embedding_dropout": ...}."""
    branches, embeddings = (number(key, config.get(key, 0.1), 0, 1, whole=False) for key in ("resid_pdrop", "embd_pdrop"))
    return {"dropout": branches, "embedding_dropout": None if embeddings == branches else embeddings}


def unaliased(config, aliases):
    """config.json with what stands there under another name, {that: the usual one}, under the usual one."""
    return {aliases.get(key, key): value for key, value in config.items()}


def renamed(state, rename):
    """{rename(name): array}; those whose new name is None are left out. ValueError where two would have the same name."""
    found, origin = {}, {}
    for name, array in state.items():
        new = rename(name)
        if new is None:
            continue
        if new in found:
            raise ValueError(f"{origin[new]} and {name} are both {new} here; use a file with one of them")
        found[new], origin[new] = array, name
    return found


def without_copies(state, copies):
    """The state without the arrays that stand there a second time. copies: (name, names that the first may have).

    ValueError for one that is not equal to the first: the published model has two there, and this one a single one.
    """
    left_out = set()
    for name, firsts in copies:
        first = next((first for first in firsts if first in state), None)
        if name in state and first is not None:
            left_out.add(name)
            if not np.array_equal(state[name], state[first]):
                raise ValueError(f"{name} differs from {first}, to which it is tied here; use a checkpoint whose two are one")
    return {name: array for name, array in state.items() if name not in left_out}
