"""The simplest tokeniser: one token for each character that the training text holds."""

import json

import numpy as np


def code_points(text: str) -> np.ndarray:
    """The Unicode code point of each character of `text`, (len(text),) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class CharTokenizer:
    """Characters to ids and back: an id is a character's rank among `characters`, sorted by code point.

    >>> tokenizer = CharTokenizer.train("hello")
    >>> tokenizer.characters, tokenizer.encode("hole").tolist()
    ('ehlo', [1, 3, 2, 0])
    """

    def __init__(self, characters: str):
        if not characters or list(characters) != sorted(set(characters)):
            raise ValueError(
                f"CharTokenizer: characters is {characters[:40]!r}, expected one or more different characters in the order of their code points; use CharTokenizer.train(text)"
            )
        self.characters = characters
        self.vocabulary_size = len(characters)
        self._points = code_points(characters)

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The tokeniser whose vocabulary is the set of characters in `text`."""
        if not text:
            raise ValueError("CharTokenizer.train: the text is empty, expected at least one character; check the file it was read from")
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> np.ndarray:
        """The ids of the characters of `text`, (len(text),) int64. ValueError at a character outside the vocabulary."""
        points = code_points(text)
        ids = np.searchsorted(self._points, points)
        unknown = np.flatnonzero(self._points[np.minimum(ids, self.vocabulary_size - 1)] != points)
        if unknown.size:
            i = int(unknown[0])
            raise ValueError(
                f"encode: {text[i]!a} (U+{ord(text[i]):04X}) at position {i} is not among the {self.vocabulary_size} characters of the vocabulary; train on a text that has it, or take it out"
            )
        return ids

    def decode(self, ids: np.ndarray) -> str:
        """The text of a sequence of ids, (T,) integers. ValueError at an id outside the vocabulary."""
        return self._points[check_ids(ids, self.vocabulary_size)].tobytes().decode("utf-32-le", "surrogatepass")

    def to_json(self) -> str:
        return json.dumps({"characters": self.characters})

    @classmethod
    def from_json(cls, text: str) -> "CharTokenizer":
        """The tokeniser that `to_json` wrote. ValueError if the text is something else."""
        try:
            characters = json.loads(text)["characters"]
        except (KeyError, TypeError, ValueError):
            characters = None
        if not isinstance(characters, str):
            raise ValueError(f'CharTokenizer.from_json: got {text[:40]!r}, expected {{"characters": "..."}}; pass what to_json returned')
        return cls(characters)


def check_ids(ids: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """`ids` as an int64 array of one axis. ValueError where one is no integer in [0, vocabulary_size)."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(
            f"decode: ids have shape {ids.shape} and dtype {ids.dtype}, expected a sequence of integers (T,); decode the rows of a batch one by one"
        )
    outside = np.flatnonzero((ids < 0) | (ids >= vocabulary_size))
    if outside.size:
        i = int(outside[0])
        raise ValueError(
            f"decode: id {ids[i]} at position {i} is outside the vocabulary of {vocabulary_size}; decode with the tokeniser that encoded"
        )
    return ids.astype(np.int64)
