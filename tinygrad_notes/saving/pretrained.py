"""Published models: folders as Hugging Face's libraries write and read them.

model = saving.from_pretrained("folder", gpt.GPT)
saving.save_pretrained(model, "mine")

A folder holds config.json and model.safetensors, or model.safetensors.index.json and the files that it lists. This file
knows about files and dtypes and nothing about architectures; a model file does no input or output. What belongs to one
architecture stands in the file that defines the model's class:

    Config.from_published(config) -> Config    config: the content of config.json; ValueError for what the model does not do
    config.to_published() -> dict              the inverse
    published(state) -> state                  {published name: array} under the model's names and shapes
    to_published(state) -> state               the inverse

and, where they are needed,

    published_as                               of a class: what it is called among the `architectures` of config.json
    PART                                       what the names begin with in the classes of which the plain model is a part
    fitted(config, state) -> config            what only the arrays tell
    ALIASES                                    names that stand in a config.json for others, which to_published writes

What else config.json says, such as the ids of special tokens, stays with the model and is written again.

The files are mapped into memory, so that beside the model only what is widened (float16 and bfloat16) takes room.
Tokenisers have their own `from_pretrained`, in `text`.
"""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any

from tinygrad_notes.saving.arrays import CheckpointError, _write_atomically, map_arrays, save_arrays
from tinygrad_notes.tree import leaves, load, state_dict

import numpy as np

OURS = {"architectures", "dtype", "torch_dtype", "id2label", "label2id", "num_labels"}  # of config.json: written anew, or not at all
OURS |= {"text_config_dict", "vision_config_dict", "auto_map", "transformers_version", "_name_or_path"}
ROOM = 2**26  # numbers of an array that is not questioned before it is made, so that an error can tell both shapes
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
UNFIT = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
    MemoryError,
)  # what code meets in files that are not as expected


class Blank(np.random.Generator):
    """A generator whose normal and uniform numbers are all 0, at no cost: for a model whose weights are about to be loaded.

    largest: of an array, in numbers; ValueError for a larger one, for which there cannot be weights.
    """

    def __init__(self, largest=math.inf):
        super().__init__(np.random.PCG64(0))
        self.largest = largest

    def normal(self, loc=0.0, scale=1.0, size=None):
        shape = () if size is None else size
        if math.prod(np.atleast_1d(shape).tolist()) > self.largest:
            raise ValueError(f"its sizes ask for an array {shape}, but the largest of the folder has {self.largest} numbers at most")
        return np.zeros(shape)

    def uniform(self, low=0.0, high=1.0, size=None):
        return self.normal(size=size)


def from_pretrained(
    folder: str | os.PathLike,
    architecture: type,
    *,
    dtype: Any = None,
    new: Sequence[str] = (),
    unused: Sequence[str] = (),
    rng: np.random.Generator | None = None,
    **changes: Any,
) -> Any:
    """The model of a published folder: an `architecture`, such as gpt.GPT, with the folder's configuration and weights.

    dtype: of the parameters, float32 or float64; by default float64 where the folder has it, else float32 (float16 and
    bfloat16 become float32, exactly). changes: of the configuration.
    Every name and shape is checked. What the folder lacks, or has and is not wanted, is told with patterns of the model's
    names, in which * stands for any characters: `new` starts as rng draws it, `unused` is left out. So a classifier
    starts from another model:

        from_pretrained(folder, bert.Classifier, new=("classifier.*",), unused=("mlm.*", "next.*"), rng=rng, classes=4)

    A model that is a part of the folder's, as bert.BERT is of bert.PreTraining, takes its part; the heads stay behind.
    Raises FileNotFoundError where the folder, its configuration or its weights are not there, CheckpointError, in one
    line, for all that does not fit: another architecture, missing or unexpected names, shapes, a damaged file; and
    ValueError or TypeError for arguments that cannot be.
    """
    place = Path(folder)
    module = _module(architecture, "from_pretrained")
    for argument, patterns in (("new", new), ("unused", unused)):
        if isinstance(patterns, str):
            raise TypeError(f"from_pretrained: {argument} is {patterns!r}, expected several patterns; write {argument}=({patterns!r},)")
    if not place.is_dir():
        raise FileNotFoundError(f"{place}: is not there, or not a folder; expected one with {CONFIG} and {WEIGHTS}")
    published = _read_json(place / CONFIG)
    if published.get("quantization_config"):
        raise CheckpointError(f"{place / CONFIG}: has a quantization_config, expected weights that are plain numbers; use those")
    arrays = _map_folder(place)
    wide = any(array.dtype == np.float64 for array in arrays.values())
    kind = np.dtype(dtype if dtype is not None else np.float64 if wide else np.float32)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"from_pretrained: dtype is {kind}, expected float32 or float64, in which models compute")
    largest = max([ROOM, *(array.size for array in arrays.values())])
    its_config, its_weights = (
        f"{place / CONFIG}: does not fit {architecture.__name__}",
        f"{place}: its weights do not fit {architecture.__name__}",
    )
    with _fitting(its_config):
        config = _with_dtype(module.Config.from_published(published), kind.type)
        _check_layers(config, len(arrays))
    with _fitting(its_weights):
        state = module.published(arrays)
    config = _changed(module.fitted(config, state) if hasattr(module, "fitted") else config, changes)
    with _fitting(its_config):
        model = architecture(config, Blank(largest))
    names = [path for path, _ in leaves(model)]
    state = _of_part(state, names, getattr(module, "PART", ""))
    state = {name: array for name, array in state.items() if not _matches(name, (*new, *unused))}
    if new:
        model = _fresh(architecture, config, rng, names, new)
        state |= {name: array for name, array in state_dict(model).items() if _matches(name, new)}
    with _fitting(its_weights):
        load(model, {name: _narrow(name, array, kind) for name, array in state.items()})
    model._published = published
    return model


def _narrow(name: str, array: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Weights as numbers of this kind; ValueError for one that is too large for it."""
    if array.dtype.kind != "f" or array.dtype == kind:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(kind)
    if array.dtype.itemsize > kind.itemsize and not np.array_equal(np.isfinite(array), np.isfinite(narrow)):
        raise ValueError(f"{name} has numbers that {kind} cannot hold; pass dtype=np.float64")
    return narrow


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    """Whatever code meets in files that are not as expected becomes a CheckpointError in one line."""
    try:
        yield
    except UNFIT as error:
        reason = _reason(error).removeprefix("load: ").removesuffix("; the model is unchanged")
        raise CheckpointError(f"{what}: {reason}") from error


def _changed(config: Any, changes: dict[str, Any]) -> Any:
    """The configuration with the caller's changes."""
    unknown = changes.keys() - {field.name for field in dataclasses.fields(config)}
    if unknown:
        raise TypeError(f"from_pretrained: {type(config).__module__}.Config has no {', '.join(sorted(unknown))}; its fields can be given")
    return dataclasses.replace(config, **changes)


def _of_part(state: dict[str, np.ndarray], names: list[str], part: str) -> dict[str, np.ndarray]:
    """The folder's arrays under the model's names, where one of the two is the part of the other that has this prefix."""
    whole, wanted = (any(name.startswith(part) for name in some) for some in (state, names))
    if whole and not wanted:
        return {name.removeprefix(part): array for name, array in state.items() if name.startswith(part)}
    return state if whole or not wanted else {part + name: array for name, array in state.items()}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _fresh(architecture: type, config: Any, rng: np.random.Generator | None, names: list[str], new: Sequence[str]) -> Any:
    """A model as rng draws it, of which something is `new`."""
    idle = [pattern for pattern in new if not any(fnmatchcase(name, pattern) for name in names)]
    if idle or rng is None:
        what = (
            f"new has {idle[0]!r}, which matches none of {', '.join(names[-4:])} and others"
            if idle
            else f"new is {new!r}, but there is no rng"
        )
        raise ValueError(f"from_pretrained: {what}; name parameters that shall start anew, and give the rng that draws them")
    return architecture(config, rng)


def save_pretrained(model: Any, folder: str | os.PathLike) -> None:
    """Write config.json and model.safetensors, from which `from_pretrained` and Hugging Face's libraries make the model again.

    A model that came from a folder keeps what that one's config.json says and this model has no use for, such as the ids of
    special tokens. The folder is made if it is not there; these two files are replaced, each as a whole, and others stay.
    Raises CheckpointError if they cannot be written, and ValueError for a model that is not as its configuration says,
    such as one with adapters: nobody could load it.
    """
    place = Path(folder)
    module = _module(type(model), "save_pretrained")
    if not hasattr(module, "to_published") or not hasattr(module.Config, "to_published"):
        raise TypeError(f"save_pretrained: {module.__name__} has no published form; give its Config and itself a to_published")
    state = state_dict(model)
    _check_unchanged(model, state)
    arrays = module.to_published(state)
    kinds = sorted({str(array.dtype) for array in arrays.values() if array.dtype.kind == "f"})
    config = _beside(getattr(model, "_published", {}), model.config.to_published(), OURS.union(getattr(module, "ALIASES", ())))
    config["dtype"] = kinds[-1] if kinds else "float32"
    try:
        module.Config.from_published(config)
    except UNFIT as error:
        raise ValueError(f"save_pretrained: nobody could load this configuration: {_reason(error)}") from error
    if hasattr(model, "published_as"):
        config["architectures"] = [model.published_as]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be a folder: {error.strerror}; name another one") from error
    save_arrays(place / WEIGHTS, arrays, {"format": "pt"})
    _write_atomically(os.fspath(place / CONFIG), (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def _beside(kept: dict[str, Any], ours: dict[str, Any], never: set[str]) -> dict[str, Any]:
    """A configuration of ours and, beside it, what a folder's said that means nothing here."""
    kept = {key: value for key, value in kept.items() if key not in never}
    both = {key for key, value in ours.items() if isinstance(value, dict) and isinstance(kept.get(key), dict)}
    return kept | ours | {key: _beside(kept[key], ours[key], never) for key in both}


def _check_layers(config: Any, arrays: int) -> None:
    """ValueError where a configuration, or one within it, has more layers than there are arrays: a number that would take for ever."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _check_layers(value, arrays)
        elif field.name == "layers" and value > arrays:
            raise ValueError(f"it has {value} layers, but the folder {arrays} arrays; use the files of one model")


def _check_unchanged(model: Any, state: dict[str, np.ndarray]) -> None:
    """ValueError where the model's arrays are not those of a new one with its configuration."""
    fresh = {path: leaf.shape for path, leaf in leaves(type(model)(model.config, Blank()))}
    problems = {
        "unexpected": state.keys() - fresh.keys(),
        "missing": fresh.keys() - state.keys(),
        "of another shape": {name for name in state.keys() & fresh.keys() if state[name].shape != fresh[name]},
    }
    if any(problems.values()):
        found = "; ".join(f"{kind} {', '.join(sorted(names)[:4])}" for kind, names in problems.items() if names)
        raise ValueError(f"save_pretrained: the model has adapters or other changes: {found}; lora.merge it first")


def _module(architecture: type, caller: str) -> ModuleType:
    """The module that says how this class of models is published: the first of its own and its base classes' that does."""
    for base in getattr(architecture, "__mro__", ()):
        module = sys.modules.get(base.__module__)
        if module and hasattr(module, "published") and hasattr(getattr(module, "Config", None), "from_published"):
            return module
    given = getattr(architecture, "__name__", f"a {type(architecture).__name__}")
    raise TypeError(f"{caller}: {given} is not a class of models with a published form; expected one such as gpt.GPT")


def _with_dtype(config: Any, dtype: type) -> Any:
    """A configuration, and those within it, with another dtype."""
    inner = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    changed = {name: _with_dtype(value, dtype) for name, value in inner.items() if dataclasses.is_dataclass(value)}
    return dataclasses.replace(config, **changed, **({"dtype": dtype} if "dtype" in inner else {}))


def _reason(error: Exception) -> str:
    """What an error says, in one line; the kind of those errors whose text says too little alone."""
    text = " ".join(str(error.args[0] if error.args and not isinstance(error, UnicodeError) else error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: is not there; expected the configuration that was published with the weights") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: is not JSON: {_reason(error) if isinstance(error, ValueError) else 'nested too deeply'}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: is a JSON {type(found).__name__}, expected an object; use the file as published")
    return found


def _map_folder(place: Path) -> dict[str, np.ndarray]:
    """All arrays of a folder, by their published names, as views of its files."""
    if (place / WEIGHTS).exists():
        return map_arrays(place / WEIGHTS)
    if not (place / INDEX).exists():
        others = sorted(path.name for path in place.iterdir() if path.suffix in (".bin", ".pt", ".h5", ".msgpack", ".ckpt"))
        hint = f"; {others[0]} is of another format, save the model anew with safetensors" if others else ""
        raise FileNotFoundError(f"{place}: has no weights, expected {WEIGHTS} or {INDEX}{hint}")
    arrays: dict[str, np.ndarray] = {}
    for file, names in _shards(place).items():
        try:
            found = map_arrays(place / file)
        except FileNotFoundError:
            raise CheckpointError(f"{place / INDEX}: names {file!r}, which is not there; fetch that file too") from None
        lacks, has = sorted(names - found.keys()), sorted(found.keys() - names)
        if lacks or has:
            raise CheckpointError(
                f"{place / file}: is not what {INDEX} says: it lacks {len(lacks)} names {lacks[:8]} and has {len(has)} others {has[:8]}; use the files of one model"
            )
        arrays |= found
    return arrays


def _shards(place: Path) -> dict[str, set[str]]:
    """file -> the names of its arrays, as the index says, which may name files of this folder only."""
    listed = _read_json(place / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(file, str) for file in listed.values()):
        raise CheckpointError(f"{place / INDEX}: has no weight_map from names to files; use the file as published")
    shards: dict[str, set[str]] = {}
    for name, file in listed.items():
        plain = file == PurePosixPath(file).name == PureWindowsPath(file).name and file.isprintable()
        if not plain or not file.endswith(".safetensors"):
            raise CheckpointError(f"{place / INDEX}: names {file[:80]!r}, expected the name of a .safetensors file in this folder")
        shards.setdefault(file, set()).add(name)
    return shards
