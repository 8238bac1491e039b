"""CLIP's byte-pair encoding: lower case, and a word's last symbol knows that it is the last.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 2.4. As GPT-2's
(see bpe.py), but white space only separates, case is folded, and each piece of text ends in a symbol marked </w>, so
that "art" in "cart" and "art" the word are different tokens.

    text --NFC, lower case--> pieces --UTF-8--> bytes, the last one marked --merges--> ids between start and end
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

from tinygrad_notes.text.bpe import MAX_CACHED, NEVER, WHITE_SPACE, byte_characters, category_class, join
from tinygrad_notes.text.characters import check_ids

import numpy as np

LAST = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def word_pattern() -> re.Pattern[str]:
    r"""CLIP's pattern, 's|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+, for the standard `re`: numbers come digit by digit."""
    letter, number = category_class("L"), category_class("N")
    return re.compile(rf"'(?:[stmd]|re|ve|ll)|[{letter}]+|[{number}]|[^{WHITE_SPACE}{letter}{number}]+")


class ClipBPE:
    """CLIP's tokeniser. Made by `from_pretrained` from a published folder.

    ids: {token: id}. A token is spelled in `byte_characters`, with </w> at the end of a word. merges: pairs of tokens, in order.
    """

    def __init__(self, ids: dict[str, int], merges: Sequence[tuple[str, str]]):
        symbols = [c + last for last in ("", LAST) for c in byte_characters().values()]
        missing = [name for name in [*symbols, START, END] if name not in ids]
        if missing:
            raise ValueError(
                f"ClipBPE: the vocabulary has no {missing[0]!r} ({len(missing)} are missing); expected CLIP's, with {LAST} tokens"
            )
        wrong = next((pair for pair in merges if not {*pair, "".join(pair)} <= ids.keys()), None)
        if wrong:
            raise ValueError(f"ClipBPE: merge {wrong} joins to what the vocabulary does not hold; use the two files of one tokeniser")
        self.ids, self.start, self.end = dict(ids), ids[START], ids[END]
        self.vocabulary_size = len(ids)
        self.names = {i: name for name, i in ids.items()}
        self._ranked = {(ids[a], ids[b]): (rank, ids[a + b]) for rank, (a, b) in enumerate(merges)}
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "ClipBPE":
        """The tokeniser of a published CLIP: of its tokenizer.json, or of its vocab.json and merges.txt."""
        place = Path(folder)
        file = place / "tokenizer.json"
        if not file.exists():
            if not ((place / "vocab.json").exists() and (place / "merges.txt").exists()):
                raise FileNotFoundError(
                    f"ClipBPE: {place} has no tokenizer.json, nor both vocab.json and merges.txt; expected a tokeniser's folder"
                )
            return cls.from_files(place / "vocab.json", place / "merges.txt")
        try:
            found = json.loads(file.read_text("utf-8"))
            model, added = found["model"], {token["content"]: token["id"] for token in found.get("added_tokens") or []}
            merges = [(a, b) for a, b in (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])]
            suffix, ids = model.get("end_of_word_suffix"), model["vocab"] | added
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"ClipBPE: {file} is not laid out as a tokenizer.json ({error}); use the file as published") from None
        if suffix != LAST:
            raise ValueError(f"ClipBPE: {file} ends words with {suffix!r}, expected {LAST!r}; it is not CLIP's")
        return cls(ids, merges)

    @classmethod
    def from_files(cls, vocabulary: str | Path, merges: str | Path) -> "ClipBPE":
        """Read a published vocab.json and merges.txt."""
        try:
            ids = json.loads(Path(vocabulary).read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"from_files: {vocabulary} is not JSON ({error}); expected CLIP's vocab.json") from None
        lines = [line for line in Path(merges).read_text("utf-8").split("\n") if line and not line.startswith("#version")]
        wrong = next((line for line in lines if len(line.split(" ")) != 2), None)
        if wrong is not None:
            raise ValueError(f"from_files: {merges} has the line {wrong[:40]!r}, expected two tokens; use CLIP's merges.txt")
        return cls(ids, [(a, b) for a, b in (line.split(" ") for line in lines)])

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text` between those of start and end, (T,) int64. The names of these two in the text are text like any other."""
        text = "".join(c.lower() for c in unicodedata.normalize("NFC", text))
        return np.array([self.start, *(i for piece in word_pattern().findall(text) for i in self._merge(piece)), self.end], np.int64)

    def batch(self, texts: Sequence[str], context: int = 77) -> np.ndarray:
        """The ids of several texts, (B, T) int64 with T the longest; shorter ones are filled with the end token, as the published tokeniser does."""
        rows = [self.encode(text) for text in texts]
        longest = max(map(len, rows), default=0)
        if not 0 < longest <= context:
            raise ValueError(f"ClipBPE: the longest of {len(rows)} texts has {longest} tokens, expected 1 to {context}; shorten it")
        return np.stack([np.pad(row, (0, longest - len(row)), constant_values=self.end) for row in rows])

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids (T,), in lower case, a space behind each word; start and end are left out. Bytes that are no UTF-8 become U+FFFD."""
        bytes_of = {character: b for b, character in byte_characters().items()}
        names = [self.names[i] for i in check_ids(ids, self.vocabulary_size).tolist() if i not in (self.start, self.end)]
        parts = [bytes(bytes_of[c] for c in name.removesuffix(LAST)) + b" " * name.endswith(LAST) for name in names]
        return b"".join(parts).decode("utf-8", "replace").strip()

    def _merge(self, piece: str) -> list[int]:
        """The ids of one piece: its bytes, joined as long as a pair has a rank, the earliest learned first."""
        found = self._cache.get(piece)
        if found is None:
            *first, last = (byte_characters()[b] for b in piece.encode())
            found = [self.ids[name] for name in [*first, last + LAST]]
            while len(found) > 1:
                pair = min(pairwise(found), key=lambda pair: self._ranked.get(pair, NEVER))
                if pair not in self._ranked:
                    break
                found = join(found, pair, self._ranked[pair][1])
            if len(self._cache) < MAX_CACHED:
                self._cache[piece] = found
        return found
