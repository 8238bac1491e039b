"""WordPiece, BERT's tokeniser: words, and pieces of words where a word is not in the vocabulary.

Schuster and Nakajima, "Japanese and Korean Voice Search" (2012); Wu et al., "Google's Neural Machine Translation System"
(2016); the rules are those of BERT's published `tokenization.py` (Devlin et al., 2018):

    text --basic tokenisation--> words and signs --greedy longest match--> pieces --> ids
    "Unaffable!"                 unaffable !                               un ##aff ##able !

Basic tokenisation drops control characters, sets a space around each Chinese character and each punctuation sign,
lower-cases and strips accents. Each word is then cut from the left into the longest pieces that the vocabulary has; a
piece that continues a word is written with ## in front. A word that cannot be cut so is one [UNK].

Where the `tokenizers` library, with which published checkpoints are used today, differs from the first code, this follows
the library: private-use characters are dropped, a capital sigma at the end of a word becomes σ, not ς, and a word of
more than 100 characters (not 200) is unknown.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tinygrad_notes.text.bpe import MAX_CACHED, learn
from tinygrad_notes.text.characters import check_ids

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ASCII_SIGNS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # all count as punctuation, as $ and ^ do not in Unicode
CHINESE = (  # blocks of Chinese characters, which are written without spaces; not Korean, nor Japanese kana
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)


class Table(dict[int, str | int]):
    """For str.translate: the replacement of each code point by `rule(character)`, worked out when it first occurs."""

    def __init__(self, rule: Callable[[str], str]):
        self.rule = rule

    def __missing__(self, point: int) -> str:
        self[point] = replacement = self.rule(chr(point))
        return replacement


def cleaned(character: str) -> str:
    """Nothing for a control or private-use character and for U+FFFD, which stands for an error; a space for white space."""
    if character in "\t\n\r" or unicodedata.category(character) in ("Zs", "Zl", "Zp"):
        return " "
    return "" if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co") else character


def apart_if_chinese(character: str) -> str:
    return f" {character} " if any(first <= ord(character) <= last for first, last in CHINESE) else character


def apart_if_sign(character: str) -> str:
    return f" {character} " if character in ASCII_SIGNS or unicodedata.category(character)[0] == "P" else character


def unless_accent(character: str) -> str:
    return "" if unicodedata.category(character) == "Mn" else character


CLEANED, CHINESE_APART, SIGNS_APART, ACCENTS_GONE = map(Table, (cleaned, apart_if_chinese, apart_if_sign, unless_accent))


def basic_words(text: str, *, lower: bool = True, strip_accents: bool | None = None, chinese: bool = True) -> list[str]:
    """The words and signs of a text. strip_accents: as `lower`, unless given; chinese: each such character is a word."""
    text = text.translate(CLEANED)
    if chinese:
        text = text.translate(CHINESE_APART)
    if lower if strip_accents is None else strip_accents:
        text = unicodedata.normalize("NFD", text).translate(ACCENTS_GONE)
    if lower:
        text = text.replace("Σ", "σ").lower()  # by itself, lower writes ς at the end of a word
    return text.translate(SIGNS_APART).split()


class WordPiece:
    """BERT's tokeniser. Make one with `WordPiece.from_file`, of a published vocab.txt, or `WordPiece.train`.

    tokens: the pieces in the order of their ids, "[UNK]" among them. lower, strip_accents, chinese: see `basic_words`;
    published "cased" models have lower=False. special: the ids of those of [PAD], [UNK], [CLS], [SEP], [MASK] that are
    there. A word of more than max_characters is unknown.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        lower: bool = True,
        strip_accents: bool | None = None,
        chinese: bool = True,
        max_characters: int = 100,
    ):
        self.tokens = list(tokens)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.vocabulary_size = len(self.tokens)
        if len(self.ids) < self.vocabulary_size or "" in self.ids:
            wrong = next((i for i, token in enumerate(self.tokens) if self.ids[token] != i or not token))
            raise ValueError(f"WordPiece: token {wrong}, {self.tokens[wrong]!r}, is empty or comes twice; expected different tokens")
        if "[UNK]" not in self.ids:
            raise ValueError(f"WordPiece: none of the {self.vocabulary_size} tokens is [UNK], which stands for unknown words; add it")
        self.lower, self.strip_accents, self.chinese, self.max_characters = lower, strip_accents, chinese, max_characters
        self.special = {name: self.ids[name] for name in SPECIAL if name in self.ids}
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, self.special)) + ")")
        self._longest = max(map(len, self.tokens))
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(cls, text: str | Iterable[str], vocabulary_size: int, *, minimum_count: int = 2, **settings) -> "WordPiece":
        """Learn a vocabulary from one text or several: the five special tokens, the characters, then the most frequent joins.

        Google's own trainer was never published. This is the usual stand-in, also of the `tokenizers` library: byte-pair
        merges (see `ByteBPE.train`) of characters, of which only the results are kept. settings: of the constructor.
        """
        counts: Counter[str] = Counter()
        words_of = {name: value for name, value in settings.items() if name != "max_characters"}
        for part in [text] if isinstance(text, str) else text:
            counts.update(basic_words(part, **words_of))
        pieces = [[word[0], *("##" + c for c in word[1:])] for word in counts]
        symbols = sorted({piece for word in pieces for piece in word})
        if vocabulary_size < len(SPECIAL) + len(symbols) or minimum_count < 1:
            raise ValueError(
                f"WordPiece.train: vocabulary_size is {vocabulary_size} and minimum_count {minimum_count}, expected at least {len(SPECIAL) + len(symbols)} ({len(SPECIAL)} special tokens and {len(symbols)} characters, at the start of a word or later) and 1; raise them"
            )
        tokens = dict.fromkeys([*SPECIAL, *symbols])
        number = {symbol: i for i, symbol in enumerate(symbols)}
        words = [[number[piece] for piece in word] for word in pieces]
        for a, b in learn(words, list(counts.values()), sys.maxsize // 2, minimum_count, first=len(symbols)):
            if len(tokens) == vocabulary_size:
                break
            symbols.append(symbols[a] + symbols[b].removeprefix("##"))
            tokens.setdefault(symbols[-1])  # two joins may spell the same piece
        return cls(list(tokens), **settings)

    def pieces(self, text: str) -> list[str]:
        """The pieces that `encode` numbers, for reading."""
        return [self.tokens[i] for i in self._encode(text)]

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text`, (T,) int64, without [CLS] and [SEP]. The name of a special token in it is text like any other."""
        return np.array(self._encode(text), np.int64)

    def encode_special(self, text: str) -> np.ndarray:
        """The ids of `text`, (T,) int64, where the names of special tokens stand for those tokens: "a [MASK] of tea".

        For text you wrote yourself: in a text from elsewhere a name would act as a command.
        """
        ids: list[int] = []
        for i, part in enumerate(self._special_pattern.split(text)):
            ids += [self.special[part]] if i % 2 else self._encode(part)
        return np.array(ids, np.int64)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in basic_words(text, lower=self.lower, strip_accents=self.strip_accents, chinese=self.chinese):
            found = self._cache.get(word)
            if found is None:
                found = self._match(word)
                if len(self._cache) < MAX_CACHED:
                    self._cache[word] = found
            ids += found
        return ids

    def _match(self, word: str) -> list[int]:
        """One word, greedily: the longest piece that it begins with, then the longest that the rest begins with, ..."""
        unknown = [self.special["[UNK]"]]
        if len(word) > self.max_characters:
            return unknown
        ids: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self.ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return unknown
            ids.append(piece)
            start = end
        return ids

    def decode(self, ids: np.ndarray) -> str:
        """The tokens of ids (T,), with spaces between words. Not the text that was encoded: its spaces, case and accents are gone."""
        return " ".join(self.tokens[i] for i in check_ids(ids, self.vocabulary_size).tolist()).replace(" ##", "")

    # --- BERT's file: vocab.txt has one token in each line; its id is the number of the line, from 0 ---

    def to_file(self, path: str | Path) -> None:
        """Write vocab.txt, which `from_file` and other implementations read. The settings are not in it."""
        Path(path).write_text("".join(token + "\n" for token in self.tokens), encoding="utf-8", newline="\n")

    @classmethod
    def from_file(cls, path: str | Path, **settings) -> "WordPiece":
        """Read a published vocab.txt. settings: of the constructor, such as lower=False."""
        try:
            lines = Path(path).read_text("utf-8").removesuffix("\n").split("\n")  # a token may hold other characters that end lines
            return cls(lines, **settings)
        except ValueError as error:
            raise ValueError(f"from_file: {path} is no vocabulary: {error}") from None
