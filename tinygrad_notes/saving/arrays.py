"""The safetensors format: arrays by name, written whole or not at all, and read only if every byte is as it was written.

Writing: into a temporary file in the same folder, which is synced to the disk and then renamed over the
old one. Whatever happens (a full disk, kill -9, a power cut) the path holds the old file or the new one.
Equal arrays and text under equal names give equal files, byte for byte.
(A killed process may leave its temporary file, `.<name>.<...>.tmp`, which can be deleted.)

Reading: the format has no checksum, so one stands in the metadata of our files. The header is checked
before anything is allocated for it. Files of other libraries load too, without a checksum.
"""

import hashlib
import json
import math
import mmap
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from tinygrad_notes.core import describe

import numpy as np

FORMAT, CHECKSUM = "tinygrad_notes.format", "tinygrad_notes.sha256"
VERSION = "1"
LONGEST_HEADER = 100_000_000  # bytes, as in the format's own library
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
WRITABLE = FLOATS | INTEGERS | {"BOOL": "|b1"}
DTYPES = WRITABLE | {"BF16": "<u2"}  # NumPy has no bfloat16: its bits are read as integers and widened to float32


class CheckpointError(Exception):
    """A file that could not be written, or is not what it should be. Nothing was changed: no file, no model."""


class Spec(NamedTuple):
    """One entry of a file's header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


# --- arrays -----------------------------------------------------------------------------


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays, and text beside them, to one safetensors file, replacing it as a whole.

    arrays: name -> array of bool, integers, float16, float32 or float64, of any layout and byte order.
    Raises CheckpointError if the file cannot be written; a file that was there stays as it was.
    """
    file = os.fspath(path)
    metadata = dict(metadata or {})
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str) or name in (FORMAT, CHECKSUM):
            raise TypeError(f"save_arrays: metadata {name!r}: {text!r}; expected text to text, other names than {FORMAT} and {CHECKSUM}")
    plain = {}
    for name, array in arrays.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise TypeError(f"save_arrays: the name {name!r} cannot be used; expected a str other than '__metadata__'")
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.newbyteorder("<").str not in WRITABLE.values():
            raise TypeError(
                f"save_arrays: {name} is {describe(array)}, expected an array of bool, integers, float16, float32 or float64; for a model pass state_dict(model)"
            )
        plain[name] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")  # the library writes an array's memory as it lies there
    metadata[FORMAT] = VERSION
    metadata[CHECKSUM] = _checksum({name: (a.dtype.str, a.shape, _bytes(a)) for name, a in plain.items()}, metadata)
    _write_atomically(file, *_in_one_order(_library().numpy.save(plain, metadata)))


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, in the order of its header, in memory of their own; bfloat16 is widened to float32, exactly.

    Raises CheckpointError for a file that is damaged in any byte (if it carries our checksum), cut short,
    or not in the format, and FileNotFoundError if there is none.
    """
    return read(path)[0]


def load_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The text that was saved beside the arrays. The whole file is checked, as by `load_arrays`."""
    return {name: text for name, text in read(path)[1].items() if name not in (FORMAT, CHECKSUM)}


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError('saving needs safetensors, which is not installed; run pip install "tinygrad_notes[weights]"') from None
    return safetensors


def _checksum(content: Mapping[str, tuple[str, tuple[int, ...], Any]], metadata: Mapping[str, str]) -> str:
    """sha256 of names, dtypes, shapes, bytes and metadata, in an order that does not depend on the file's."""
    names = sorted(content)
    entries = [[name, np.dtype(content[name][0]).str, list(content[name][1])] for name in names]
    texts = sorted((name, text) for name, text in metadata.items() if name != CHECKSUM)
    digest = hashlib.sha256(json.dumps([entries, texts]).encode())
    for name in names:
        digest.update(content[name][2])
    return digest.hexdigest()


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


# --- writing ----------------------------------------------------------------------------


def _in_one_order(content: bytes) -> tuple[bytes, memoryview]:
    """Header and data of a file that the library made, its metadata sorted by name: the library's order is another one each time."""
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8, so that a view of the file is aligned
    return len(text).to_bytes(8, "little") + text, memoryview(content)[begin:]


def _write_atomically(file: str, *content: bytes | memoryview) -> None:
    """Replace `file` by one with this content, part after part, or raise CheckpointError and leave it as it was."""
    target = os.path.realpath(file)  # through a link: the file behind it is replaced, not the link
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
    try:
        if os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            raise OSError("it is there already and is not a regular file")
        try:
            _write_and_sync(temporary, content)
            os.replace(temporary, target)
        except BaseException:  # Ctrl-C too: no half-written file is left behind
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written: {error.strerror or error}; what was there before is as it was") from error
    if os.name == "posix":
        try:
            _sync_folder(folder)
        except OSError as error:
            raise CheckpointError(
                f"{file}: was written, but may not last through a power cut: its folder cannot be synced: {error.strerror}"
            ) from error


def _write_and_sync(file: str, content: tuple[bytes | memoryview, ...]) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for part in content:
            rest = memoryview(part)
            while rest:  # one call may write less than it is given
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: str) -> None:
    """Make a renaming last: a folder, too, is data that the system writes later."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ----------------------------------------------------------------------------


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays and the metadata of a file, checked before and after."""
    file = os.fspath(path)
    content, specs, metadata, _ = _checked(file, lambda stream, size: stream.read(size))
    library = _library()
    try:
        entries = dict(library.deserialize(content))  # in another order in each run
    except library.SafetensorError as error:
        raise CheckpointError(f"{file}: not a safetensors file: {error}") from error
    return {name: _array(spec, entries[name]["data"]) for name, spec in specs.items()}, metadata


def map_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Like `load_arrays`, but as views of the file, which cannot be written: a byte comes into memory when it is used.

    bfloat16, which NumPy cannot view, is widened into memory of its own. The file must stay as it is while its views are used.
    """
    content, specs, _, begin = _checked(os.fspath(path), lambda stream, size: mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ))
    views = {name: np.ndarray(spec.shape, DTYPES[spec.dtype], content, begin + spec.start) for name, spec in specs.items()}
    return {name: _widened(view) if specs[name].dtype == "BF16" else view for name, view in views.items()}


def _checked(file: str, take: Callable[[Any, int], Any]) -> tuple[Any, dict[str, Spec], dict[str, str], int]:
    """(content, specs, metadata, where the data begin) of a file whose header, length and checksum are right; content = take(stream, size)."""
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise CheckpointError(f"{file}: not a regular file")
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            specs, metadata, begin = _read_header(stream, size)
            stream.seek(0)
            content = take(stream, size)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # also what json raises
        raise CheckpointError(f"{file}: not a whole safetensors file: {error}") from error
    except RecursionError:
        raise CheckpointError(f"{file}: not a safetensors file: its header is nested too deeply") from None
    if len(content) != size:
        raise CheckpointError(f"{file}: was cut to {len(content)} of {size} bytes while it was read")
    if FORMAT in metadata or CHECKSUM in metadata:
        data = memoryview(content)[begin:]
        found = _checksum({name: (DTYPES[s.dtype], s.shape, data[s.start : s.stop]) for name, s in specs.items()}, metadata)
        if metadata.get(FORMAT) != VERSION or metadata.get(CHECKSUM) != found:
            raise CheckpointError(
                f"{file}: is damaged, or of another version: its sha256 is {found[:12]}..., expected {metadata.get(CHECKSUM, 'none')[:12]}...; load an older checkpoint"
            )
    return content, specs, metadata, begin


def _array(spec: Spec, data: bytearray) -> np.ndarray:
    array = np.frombuffer(data, DTYPES[spec.dtype]).reshape(spec.shape)
    if spec.dtype == "BF16":
        return _widened(array)
    return array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)


def _widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16, given by its bits, as float32, whose upper half it is."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _read_header(stream: Any, size: int) -> tuple[dict[str, Spec], dict[str, str], int]:
    """(specs, metadata, where the data begin) of a file of `size` bytes. Raises ValueError for whatever is not exactly right."""
    if size < 8:
        raise ValueError(f"it has {size} bytes")
    length = int.from_bytes(stream.read(8), "little")
    if length > min(size - 8, LONGEST_HEADER):
        raise ValueError(f"its header claims {length} bytes, but the file has {size}")
    header = json.loads(stream.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not text")
    specs = {name: _spec(name, entry) for name, entry in header.items()}
    end = 0
    for name, spec in sorted(specs.items(), key=lambda item: item[1][2:]):
        if spec.start != end:
            raise ValueError(f"{name!r} begins at byte {spec.start} of the data, expected {end}: arrays may neither overlap nor leave gaps")
        end = spec.stop
    if 8 + length + end != size:
        raise ValueError(f"its arrays end at byte {8 + length + end}, but the file has {size}")
    return specs, metadata, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in its header")
    for name in found:
        name.encode()  # UnicodeEncodeError, a ValueError, for half a character
    return found


def _spec(name: str, entry: Any) -> Spec:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(
            f"{name!r} has dtype {str(dtype)[:20]}, expected one of {', '.join(DTYPES)}; convert it with the library that wrote it"
        )
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise ValueError(f"the shape or the offsets of {name!r} are not natural numbers below 2^63")
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    if len(shape) > 64 or math.prod(n for n in shape if n) * itemsize >= 2**63:
        raise ValueError(f"the shape of {name!r} is larger than any array")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * itemsize:
        raise ValueError(f"{name!r} of shape {tuple(shape)} and dtype {dtype} does not fill its place in the data")
    return Spec(dtype, tuple(shape), *offsets)
