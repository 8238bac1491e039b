"""Small data that needs no network: a real text, real digits, toy densities and sequence tasks.

Everything random takes `rng: np.random.Generator`. Points are float32, ids and labels int64.
"""

import gzip
import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from tinygrad_notes.functional.define import no_generator

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


def check_rng(name: str, rng: Any) -> None:
    if not isinstance(rng, np.random.Generator):
        raise no_generator(name, rng)


# --- text ---------------------------------------------------------------------------------


def manual() -> str:
    """The reference manual that comes with every CPython: the help topics, in the order of their names.

    About half a million characters of real English and Python (465,048 in 3.11.7; it grows with
    the version). Copyright Python Software Foundation, PSF licence; read from this Python, not copied.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise RuntimeError(
            "manual: this Python has no pydoc_data.topics, expected as in every full CPython; use data.read_text with a text of your own"
        ) from None
    return "\n".join(topics[name] for name in sorted(topics))


def read_text(path: str | Path, context: int = 1) -> str:
    """The text of a UTF-8 file, line ends as "\\n".

    context: how many characters a model will read at once; the text must be longer.
    FileNotFoundError, IsADirectoryError or ValueError say in one line what to do.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"read_text: {path} does not exist, expected a text file; check the path (the current folder is {Path.cwd()})"
        )
    if path.is_dir():
        raise IsADirectoryError(f"read_text: {path} is a folder, expected a text file; name one of the files in it")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"read_text: {path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}), expected UTF-8 text; convert it, for example with: iconv -f latin1 -t utf-8"
        ) from None
    if not text:
        raise ValueError(f"read_text: {path} is empty, expected more than {context} characters; check that the download or export finished")
    if len(text) <= context:
        raise ValueError(
            f"read_text: {path} has {len(text)} characters, expected more than the context of {context}; use a longer text or a shorter context"
        )
    return text


def split(text: Any, held_out: float = 0.1) -> tuple[Any, Any]:
    """(train, held out) of a text, list or array: the last `held_out` of it is held out, in one block.

    Not a random tenth: neighbouring characters tell of each other.
    """
    cut = int((1 - held_out) * len(text))
    if not 0 < cut < len(text):
        raise ValueError(
            f"split: held_out is {held_out} and the length {len(text)}, expected two parts that are not empty; use 0 < held_out < 1 and a longer text"
        )
    return text[:cut], text[cut:]


def check_window(name: str, ids: np.ndarray, batch: int, context: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or batch < 1 or context < 1 or len(ids) <= context:
        raise ValueError(
            f"{name}: ids have shape {ids.shape}, batch is {batch}, context is {context}, expected ids (N,) with N > context, batch and context at least 1; use a longer text or a shorter context"
        )
    return ids


def batches(ids: np.ndarray, batch: int, context: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Endless random windows of a text: x (B, T) and y (B, T), where y[b, t] is the id after x[b, t].

    ids: (N,) integers, N > context. Each draw takes one call of rng.integers, so that training
    resumes bit for bit from a saved rng.bit_generator.state.
    """
    check_rng("batches", rng)
    ids = check_window("batches", ids, batch, context)

    def draw() -> Iterator[Batch]:
        while True:
            at = rng.integers(len(ids) - context, size=(batch, 1)) + np.arange(context)
            yield ids[at], ids[at + 1]

    return draw()


def windows(ids: np.ndarray, batch: int, context: int) -> Iterator[Batch]:
    """Windows side by side for evaluation: as targets y, every id but the first comes exactly once, in order.

    Yields x (B, T) and y (B, T); then fewer than B rows, and last one row shorter than T, where
    the text does not divide. To predict the first id of a held-out part too, put the id before it in front.
    """
    ids = check_window("windows", ids, batch, context)
    full = (len(ids) - 1) // context
    x, y = (part[: full * context].reshape(full, context) for part in (ids[:-1], ids[1:]))
    pairs = [(x[i : i + batch], y[i : i + batch]) for i in range(0, full, batch)]
    tail = ids[full * context :]
    if len(tail) > 1:
        pairs.append((tail[None, :-1], tail[None, 1:]))
    return iter(pairs)


# --- images -------------------------------------------------------------------------------


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: images (1797, 8, 8) float32 in [0, 1], in steps of 1/16; labels (1797,) int64.

    The test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine
    Learning Repository, 1998, CC BY 4.0, https://doi.org/10.24432/C50P49. See assets/README.md.
    """
    packed = resources.files("tinygrad_notes").joinpath("assets", "digits.gz").read_bytes()
    numbers = np.frombuffer(gzip.decompress(packed), np.uint8)
    n = len(numbers) // 65
    return numbers[: n * 64].reshape(n, 8, 8).astype(np.float32) / 16, numbers[n * 64 :].astype(np.int64)


def digits_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The digits as (train images, train labels, test images, test labels): the first 1,415 and the last 382.

    The file goes from form to form, about 130 digits each in the same order, and row 1,415 begins a
    form: the test forms were not seen in training, which is harder and more honest than random
    rows. A nearest-neighbour classifier gets 95.8 % of them right.
    """
    images, labels = digits()
    return images[:1415], labels[:1415], images[1415:], labels[1415:]


# --- points in the plane: each sampler returns points (n, 2) float32 and a label for each point ------


def gaussian_ring(n: int, rng: np.random.Generator, modes: int = 8, radius: float = 2.0, std: float = 0.1) -> Batch:
    """A mixture of `modes` equal Gaussians around a circle. Labels: the mode, 0 at angle 0, counter-clockwise."""
    check_rng("gaussian_ring", rng)
    mode = rng.integers(modes, size=n)
    angle = mode * (2 * math.pi / modes)
    points = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) + std * rng.normal(size=(n, 2))
    return points.astype(np.float32), mode


def two_moons(n: int, rng: np.random.Generator, noise: float = 0.1) -> Batch:
    """Two interlocked half circles of radius 1: around (0, 0) above (label 0), around (1, 0.5) below (label 1)."""
    check_rng("two_moons", rng)
    moon = rng.integers(2, size=n)
    angle, side = rng.uniform(0, math.pi, n), 1 - 2 * moon
    points = np.stack([moon + side * np.cos(angle), 0.5 * moon + side * np.sin(angle)], axis=1)
    return (points + noise * rng.normal(size=(n, 2))).astype(np.float32), moon


def checkerboard(n: int, rng: np.random.Generator, squares: int = 4) -> Batch:
    """Uniform over the dark squares of a board of `squares` by `squares` on [-2, 2]^2; lower left is dark. Labels: column + squares * row."""
    check_rng("checkerboard", rng)
    row, column = np.nonzero((np.add.outer(np.arange(squares), np.arange(squares)) % 2) == 0)
    square = rng.integers(len(row), size=n)
    corner = np.stack([column, row], axis=1)[square]
    points = (corner + rng.uniform(size=(n, 2))) * (4 / squares) - 2
    return points.astype(np.float32), (column + squares * row)[square]


def swiss_roll(n: int, rng: np.random.Generator, noise: float = 0.05) -> Batch:
    """A spiral of one and a half turns that ends at radius 2. Labels: the place along it, float32 in [0, 1]."""
    check_rng("swiss_roll", rng)
    place = rng.uniform(size=n)
    angle = 1.5 * math.pi * (1 + 2 * place)
    points = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) * (2 / (4.5 * math.pi))
    return (points + noise * rng.normal(size=(n, 2))).astype(np.float32), place.astype(np.float32)


# --- sequence tasks: each returns x (n, T) and y (n, S) int64 ------------------------------------

ADDITION_SYMBOLS = "0123456789+="  # an id in the addition task is a place in this


def copy_task(n: int, length: int, symbols: int, rng: np.random.Generator) -> Batch:
    """Random ids in [0, symbols), x (n, length); y is x."""
    check_rng("copy_task", rng)
    x = rng.integers(symbols, size=(n, length))
    return x, x.copy()


def reverse_task(n: int, length: int, symbols: int, rng: np.random.Generator) -> Batch:
    """Random ids in [0, symbols), x (n, length); y is x from right to left."""
    check_rng("reverse_task", rng)
    x = rng.integers(symbols, size=(n, length))
    return x, x[:, ::-1].copy()


def sort_task(n: int, length: int, symbols: int, rng: np.random.Generator) -> Batch:
    """Random ids in [0, symbols), x (n, length); y is x in ascending order."""
    check_rng("sort_task", rng)
    x = rng.integers(symbols, size=(n, length))
    return x, np.sort(x, axis=1)


def addition_task(n: int, width: int, rng: np.random.Generator) -> Batch:
    """Sums of numbers of `width` digits, at most 18: x (n, 2 width + 2) spells "12+34=", y (n, width + 1) "046".

    Ids are places in ADDITION_SYMBOLS; the most significant digit comes first; short numbers get leading zeros.
    """
    check_rng("addition_task", rng)
    if not 1 <= width <= 18:
        raise ValueError(f"addition_task: width is {width}, expected 1 to 18 digits, whose sums fit an int64; use a smaller width")
    a, b = rng.integers(10**width, size=(2, n, 1))
    powers = 10 ** np.arange(width, -1, -1)
    plus, equals = np.full((n, 1), ADDITION_SYMBOLS.index("+")), np.full((n, 1), ADDITION_SYMBOLS.index("="))
    x = np.concatenate([a // powers[1:] % 10, plus, b // powers[1:] % 10, equals], axis=1)
    return x, (a + b) // powers % 10


# --- epochs -------------------------------------------------------------------------------


class Epochs:
    """A cursor through shuffled epochs, made by `minibatches`. Iterating yields index arrays (b,), without end."""

    def __init__(self, n: int, batch: int, rng: np.random.Generator):
        self.n, self.batch, self.rng = n, batch, rng
        self.epoch = 0  # the number of complete epochs before the current one
        self._shuffle()

    def _shuffle(self) -> None:
        self._before = self.rng.bit_generator.state
        self._order = self.rng.permutation(self.n)
        self.position = 0

    def __iter__(self) -> "Epochs":
        return self

    def __next__(self) -> np.ndarray:
        if self.position >= self.n:
            self._shuffle()
            self.epoch += 1
        index = self._order[self.position : self.position + self.batch]
        self.position += len(index)
        return index

    def state(self) -> dict[str, Any]:
        """Where the cursor stands, as plain numbers, strings, lists and dicts: json.dumps takes it."""
        states = {"shuffle": plain(self._before), "rng": plain(self.rng.bit_generator.state)}
        return {"n": self.n, "epoch": self.epoch, "position": self.position} | states

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`, and set the rng to what it was then: the batches that follow are the same, bit for bit."""
        if state["n"] != self.n:
            raise ValueError(
                f"restore: the state is of {state['n']} examples but there are {self.n}, expected the same data; load the data that was trained on"
            )
        self.rng.bit_generator.state = state["shuffle"]  # NumPy refuses the state of another kind of bit generator
        self._shuffle()
        self.rng.bit_generator.state = state["rng"]
        self.epoch, self.position = state["epoch"], state["position"]


def minibatches(n: int, batch: int, rng: np.random.Generator) -> Epochs:
    """Indices of n examples in shuffled minibatches, epoch after epoch.

    Each epoch holds every index once; its last batch is smaller where n does not divide.
    `.epoch` and `.position` tell where it is, `.state()` and `.restore(state)` resume it.
    """
    check_rng("minibatches", rng)
    if n < 1 or batch < 1:
        raise ValueError(f"minibatches: n is {n} and batch {batch}, expected at least 1 each; check that the data is not empty")
    return Epochs(n, batch, rng)


def plain(tree: Any) -> Any:
    """The state of a bit generator with lists in the place of arrays."""
    if isinstance(tree, dict):
        return {name: plain(member) for name, member in tree.items()}
    return tree.tolist() if isinstance(tree, np.ndarray) else tree
