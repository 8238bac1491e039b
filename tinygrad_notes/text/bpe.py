"""Byte-level byte-pair encoding, as GPT-2 uses it, trained from scratch.

Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016):
start from single symbols, join the most frequent adjacent pair into a new symbol, repeat.
Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2: the
symbols are the 256 bytes of UTF-8, so that no text is unknown, and merges stay inside pieces that
a pattern cuts out of the text, so that a word does not merge with its punctuation.

    text --pattern--> pieces --UTF-8--> bytes --merges--> ids
"""

import heapq
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path

from tinygrad_notes.text.characters import check_ids

import numpy as np

Pair = tuple[int, int]
NEVER = (sys.maxsize, -1)  # the rank and result of a pair that does not merge
WHITE_SPACE = r"\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's property; Python's \s has four more
MAX_CACHED = 100_000  # pieces whose ids an encoder remembers


@cache
def byte_characters() -> dict[int, str]:
    """GPT-2's name for each byte, a printable character, so that vocabulary files are readable text.

    A byte that is a printable Latin-1 character other than a space stands for itself; the k-th of
    the 68 others is the character 256 + k: a space is written Ġ, a newline Ċ. Sorted by character,
    which is the order of the first 256 ids of GPT-2.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in itself]
    return {b: chr(b) for b in itself} | {b: chr(256 + k) for k, b in enumerate(others)}


@cache
def category_class(category: str) -> str:
    r"""The inside of a regular expression's [...] that matches a major Unicode category, such as "L" for \p{L}."""
    ranges = []
    for major, run in groupby(range(sys.maxunicode + 1), lambda point: unicodedata.category(chr(point))[0]):
        if major == category:
            first, *rest = run
            ranges.append(rf"\U{first:08x}-\U{(rest or [first])[-1]:08x}")
    return "".join(ranges)


@cache
def split_pattern() -> re.Pattern[str]:
    r"""GPT-2's pattern, 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+, for the standard `re`.

    Its findall cuts any text into pieces that join to the text: a word with the space before it, a
    number, a run of signs, white space. Which characters are letters depends on this Python's Unicode version.
    """
    letter, number, space = category_class("L"), category_class("N"), WHITE_SPACE
    return re.compile(
        rf"'(?:[stmd]|re|ve|ll)| ?[{letter}]+| ?[{number}]+| ?[^{space}{letter}{number}]+|[{space}]+(?![^{space}])|[{space}]+"
    )


def pieces(text: str) -> list[str]:
    """Cut `text` by the pattern. ValueError at half of a surrogate pair, which UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        i = error.start
        raise ValueError(
            f"encode: {text[i]!a} at position {i} is half of a surrogate pair, expected text that UTF-8 can hold; decode its source with errors='replace'"
        ) from None
    return split_pattern().findall(text)


def join(ids: list[int], pair: Pair, new: int) -> list[int]:
    """`ids` with each occurrence of `pair`, from left to right, replaced by `new`."""
    joined, i = [], 0
    while i < len(ids):
        if ids[i] == pair[0] and i + 1 < len(ids) and ids[i + 1] == pair[1]:
            joined.append(new)
            i += 2
        else:
            joined.append(ids[i])
            i += 1
    return joined


def learn(words: list[list[int]], counts: list[int], merges: int, minimum_count: int, first: int = 256) -> Iterator[Pair]:
    """Yield the most frequent adjacent pair, join it into the next free id, `first` to begin with, and repeat.

    words: ids, changed in place; counts: how often each word occurs. Of equally frequent pairs the
    one with the smaller ids comes first. Only the words that hold the pair are touched: `holders`
    says which, and a heap says which pair is next. A pair is pushed in the round that makes it (one
    of its two tokens is new then) and its count only falls afterwards, so an entry that was popped
    with an outdated count goes back with its true one.
    """
    pair_counts: dict[Pair, int] = defaultdict(int)
    holders: dict[Pair, set[int]] = defaultdict(set)
    for w, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += counts[w]
            holders[pair].add(w)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    new = first
    while heap and new < first + merges:
        count, pair = heapq.heappop(heap)
        if -count != pair_counts[pair]:
            heapq.heappush(heap, (-pair_counts[pair], pair))
            continue
        if -count < minimum_count:
            return
        yield pair
        made: set[Pair] = set()
        for w in holders.pop(pair):
            for old in pairwise(words[w]):
                pair_counts[old] -= counts[w]
            words[w] = join(words[w], pair, new)
            for now in pairwise(words[w]):
                pair_counts[now] += counts[w]
                if new in now:
                    holders[now].add(w)
                    made.add(now)
        for now in made:
            heapq.heappush(heap, (-pair_counts[now], now))
        new += 1


class ByteBPE:
    """GPT-2's tokeniser: text to ids and back, exactly, for every text.

    tokens: the bytes of each id. merges: the pairs of ids that join, in order, and the id of each result.
    special: ids of tokens that no text encodes to, such as {"<|endoftext|>": 50256}.
    Make one with `ByteBPE.train` or `ByteBPE.from_files`.
    """

    def __init__(self, tokens: Sequence[bytes], merges: dict[Pair, int], special: dict[str, int] | None = None):
        self.tokens = list(tokens)
        self.merges = dict(merges)
        self.special = dict(special or {})
        self.vocabulary_size = len(self.tokens)
        ids = {token: i for i, token in enumerate(self.tokens) if i not in self.special.values()}
        missing = [b for b in range(256) if bytes([b]) not in ids]
        if missing:
            raise ValueError(
                f"ByteBPE: the vocabulary has no token for {len(missing)} of the 256 bytes, the first {missing[0]:#04x}; expected a byte-level vocabulary, such as GPT-2's"
            )
        self._byte_ids = [ids[bytes([b])] for b in range(256)]
        self._ranked = {pair: (rank, new) for rank, (pair, new) in enumerate(self.merges.items())}
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) + ")")
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(cls, text: str | Iterable[str], vocabulary_size: int, *, special: Sequence[str] = (), minimum_count: int = 2) -> "ByteBPE":
        """Learn merges from a text, or from several that no piece spans.

        Ids: 0-255 the bytes in GPT-2's order, then one for each merge, then the special tokens.
        The vocabulary is smaller than asked for if no pair is left that occurs `minimum_count` times.
        """
        merges = vocabulary_size - 256 - len(special)
        if merges < 0 or minimum_count < 1:
            raise ValueError(
                f"ByteBPE.train: vocabulary_size is {vocabulary_size} and minimum_count {minimum_count}, expected at least {256 + len(special)} (256 bytes and {len(special)} special tokens) and 1; raise them"
            )
        if "" in special or len(set(special)) < len(special):
            raise ValueError(f"ByteBPE.train: special is {list(special)}, expected different names that are not empty; remove the others")
        counts: Counter[str] = Counter()
        for part in [text] if isinstance(text, str) else text:
            counts.update(pieces(part))
        tokens = [bytes([b]) for b in byte_characters()]
        byte_ids = {b: i for i, b in enumerate(byte_characters())}
        words = [[byte_ids[b] for b in piece.encode()] for piece in counts]
        learned: dict[Pair, int] = {}
        for pair in learn(words, list(counts.values()), merges, minimum_count):
            learned[pair] = len(tokens)
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
        specials = {name: len(tokens) + i for i, name in enumerate(special)}
        return cls(tokens + [name.encode() for name in special], learned, specials)

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text`, (T,) int64. The name of a special token in it is text like any other."""
        return np.array(self._encode(text), np.int64)

    def encode_special(self, text: str) -> np.ndarray:
        """The ids of `text`, (T,) int64, where the names of special tokens stand for those tokens.

        For text you wrote yourself: in a text from elsewhere a name would act as a command.
        """
        if not self.special:
            raise ValueError("encode_special: this tokeniser has no special tokens; use encode, or train with special=['<|endoftext|>']")
        ids: list[int] = []
        for i, part in enumerate(self._special_pattern.split(text)):
            ids += [self.special[part]] if i % 2 else self._encode(part)
        return np.array(ids, np.int64)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in pieces(text):
            found = self._cache.get(piece)
            if found is None:
                found = self._merge(piece.encode())
                if len(self._cache) < MAX_CACHED:
                    self._cache[piece] = found
            ids += found
        return ids

    def _merge(self, piece: bytes) -> list[int]:
        """Apply the merges to one piece, the earliest learned first: at most one pass for each merge that applies."""
        ids = [self._byte_ids[b] for b in piece]
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda pair: self._ranked.get(pair, NEVER))
            if pair not in self._ranked:
                break
            ids = join(ids, pair, self.merges[pair])
        return ids

    def decode(self, ids: np.ndarray, errors: str = "replace") -> str:
        """The text of ids (T,). Bytes that are no UTF-8, as when a character is cut in two, become U+FFFD, or raise with errors="strict"."""
        return b"".join(self.tokens[i] for i in check_ids(ids, self.vocabulary_size).tolist()).decode("utf-8", errors)

    # --- GPT-2's files: vocab.json names each token's id, merges.txt lists the pairs in order; or tokenizer.json, both in one ---

    def _name(self, i: int) -> str:
        names = byte_characters()
        return "".join(names[b] for b in self.tokens[i])

    def to_files(self, vocabulary: str | Path, merges: str | Path) -> None:
        """Write vocab.json and merges.txt, which `from_files` and other implementations of GPT-2's tokeniser read."""
        names = {self._name(i): i for i in range(self.vocabulary_size) if i not in self.special.values()} | self.special
        if len(names) != self.vocabulary_size:
            raise ValueError(
                f"to_files: {self.vocabulary_size} tokens have {len(names)} different names; rename the special token that is spelled like a learned one"
            )
        lines = ["#version: 0.2", *(f"{self._name(a)} {self._name(b)}" for a, b in self.merges)]
        Path(vocabulary).write_text(json.dumps(names), encoding="utf-8")
        Path(merges).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "ByteBPE":
        """The tokeniser of a published GPT-2: of its tokenizer.json, or of its vocab.json and merges.txt."""
        place = Path(folder)
        if (place / "tokenizer.json").exists():
            return cls.from_json(place / "tokenizer.json")
        if not ((place / "vocab.json").exists() and (place / "merges.txt").exists()):
            raise FileNotFoundError(
                f"ByteBPE: {place} has no tokenizer.json, nor both vocab.json and merges.txt; expected a tokeniser's folder"
            )
        return cls.from_files(place / "vocab.json", place / "merges.txt")

    @classmethod
    def from_files(cls, vocabulary: str | Path, merges: str | Path) -> "ByteBPE":
        """Read vocab.json and merges.txt in GPT-2's format. A token that is no byte and no result of a merge is special."""
        ids = read_json(vocabulary, "GPT-2's vocab.json, also named encoder.json")
        lines = Path(merges).read_text("utf-8").split("\n")
        pairs = [(f"line {n}", line) for n, line in enumerate(lines, 1) if line and not (n == 1 and line.startswith("#version"))]
        return cls(*tables(ids, pairs, vocabulary, merges))

    @classmethod
    def from_json(cls, file: str | Path) -> "ByteBPE":
        """Read tokenizer.json, in which the `tokenizers` library keeps all of a tokeniser. Its added tokens are special here."""
        found = read_json(file, "the tokenizer.json of GPT-2")
        try:
            differs = differences(found)
            special = {token["content"]: token["id"] for token in found.get("added_tokens") or []}
            ids = found["model"]["vocab"] | special
            merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in found["model"]["merges"]]
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"ByteBPE: {file} is not laid out as a tokenizer.json ({error}); use the file as published") from None
        if differs:
            raise ValueError(f"ByteBPE: {file} is no tokeniser like GPT-2's: {'; '.join(differs)}; use the library that wrote it")
        return cls(*tables(ids, [(f"merge {n}", pair) for n, pair in enumerate(merges, 1)], file, file, special))


def differences(found: dict) -> list[str]:
    """What a tokenizer.json asks for that would give other ids than byte-level BPE as in GPT-2."""
    model, added = found["model"], found.get("added_tokens") or []
    cut, after = found.get("pre_tokenizer") or {}, found.get("post_processor") or {}
    rules = {
        f"its model is {model.get('type')!r}": model.get("type", "BPE") != "BPE",
        f"it cuts text by {cut.get('type')!r}": cut.get("type") != "ByteLevel" or not cut.get("use_regex", True),
        "it puts a space before the text": cut.get("add_prefix_space", True),
        "it normalises text": found.get("normalizer") is not None,
        "it adds tokens to the text": after.get("type", "ByteLevel") != "ByteLevel" and after.get("special_tokens") != {},
        "it marks the middle or end of words": model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"),
        "it merges otherwise": model.get("dropout") or model.get("byte_fallback") or model.get("ignore_merges"),
        "an added token takes the space beside it": any(t.get(k) for t in added for k in ("lstrip", "rstrip", "single_word")),
    }
    return [what for what, holds in rules.items() if holds]


def read_json(file: str | Path, what: str):
    try:
        return json.loads(Path(file).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"ByteBPE: {file} is not JSON ({error}); expected {what}") from None


def tables(
    ids: dict[str, int], pairs: list[tuple[str, str]], vocabulary: str | Path, merges: str | Path, special: dict[str, int] | None = None
):
    """(tokens, merges, special) of ByteBPE, from {name: id} and the pairs of names ("line 7", "Ġ t") that merge, in order.

    special: None for those names that are neither a byte nor the result of a merge.
    """
    if not isinstance(ids, dict) or not all(type(i) is int for i in ids.values()) or sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"ByteBPE: {vocabulary} does not map tokens to the ids 0, 1, 2, ...; expected a tokeniser's file as published")
    bytes_of = {character: b for b, character in byte_characters().items()}
    joined: dict[Pair, int] = {}
    for where, line in pairs:
        parts = line.split(" ")
        if len(parts) != 2 or not {*parts, "".join(parts)} <= ids.keys() or not bytes_of.keys() >= set("".join(parts)):
            raise ValueError(
                f"ByteBPE: {where} of {merges} is {line[:40]!r}, expected two byte-level tokens of {vocabulary} whose join is one too; use the files of one tokeniser"
            )
        joined[ids[parts[0]], ids[parts[1]]] = ids["".join(parts)]
    if special is None:
        results = set(joined.values())
        special = {name: i for name, i in ids.items() if i not in results and name not in bytes_of}
    plain = lambda name: name not in special and bytes_of.keys() >= set(name)
    names = sorted(ids, key=ids.__getitem__)
    return [bytes(bytes_of[c] for c in name) if plain(name) else name.encode() for name in names], joined, special
