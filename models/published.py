"""What the published forms of several models share: numbers of a config.json, and arrays under other names."""

import math

import numpy as np

NUMBERS = {"dropout": (0, 1), "eps": (0, 1), "std": (0, 1)}  # our fields that are real numbers, with their limits; others count something
LARGEST = 2**31 - 1  # of a count


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
    """The number of classes, which stands under num_labels, or is that of the names in id2label."""
    labels = config.get("id2label")
    if labels is not None and not isinstance(labels, dict):
        raise ValueError(f"Config.from_published: id2label is {labels!r}, expected an object; use the file as published")
    return number("num_labels", config.get("num_labels", len(labels) if labels else default), 1, LARGEST)


def equal_dropout(config, default, *keys):
    """ValueError unless the probabilities of dropout under these keys are one, which the model has for all."""
    values = [config.get(key, default) for key in keys]
    if any(value != values[0] for value in values):
        raise ValueError(f"Config.from_published: {' and '.join(keys)} are {values}, expected one for both: the model has one dropout")


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
