"""WordPiece: basic tokenisation by the published rules, greedy longest match, training, files, errors."""

import re
import sys
import unicodedata
from collections import Counter

from tinygrad_notes import data
from tinygrad_notes.text import WordPiece
from tinygrad_notes.text.wordpiece import SPECIAL, basic_words

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ANY_TEXT = st.text(max_size=30)
VOCABULARY = [*SPECIAL, *"want ##want ##ed wa un runn ##ing , low lowest ##est ! 猫 ö".split()]


@pytest.fixture(scope="module")
def trained():
    return WordPiece.train(data.manual()[:60_000], 600)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" \tHeLLo!how  \n Are yoU?  ", "hello ! how are you ?"),
        ("Hällo Ünïcode Ångström ÇA", "hallo unicode angstrom ca"),
        ("don't e-mail_me@x.org", "don ' t e - mail _ me @ x . org"),
        ("$5+3=8 a^b `c` ~d|e <f>", "$ 5 + 3 = 8 a ^ b ` c ` ~ d | e < f >"),
        ("¿qué? «sí» “no” — …", "¿ que ? « si » “ no ” — …"),
        ("5€ 3×4 2½", "5€ 3×4 2½"),  # symbols that are not ASCII are no punctuation
        ("ah猫は好き推zz", "ah 猫 は 好 き 推 zz"),
        ("한국어 カタカナ", "한국어 カタカナ"),  # the first in pieces of syllables, both one word
        ("a\u00a0b\u3000c\u2028d\u2003e\r\nf", "a b c d e f"),
        ("a\x00b\x07c\x7fd\x85e\ufffdf\u200dg\u00adh\ue000i\x0bj", "abcdefghij"),
        ("İstanbul ẞ Ǆ ΟΔΟΣ Σ", "istanbul ß ǆ οδοσ σ"),
        ("ﬁne x² Ⅷ", "ﬁne x² ⅷ"),  # no compatibility forms are resolved
        ("", ""),
        (" \u200b\n", ""),
    ],
)
def test_basic_words(text, words):
    assert [unicodedata.normalize("NFC", word) for word in basic_words(text)] == words.split()


def test_cased_texts_keep_case_and_accents():
    assert basic_words("Hällo, Ünï", lower=False) == ["Hällo", ",", "Ünï"]
    assert basic_words("Hällo", lower=False, strip_accents=True) == ["Hallo"]
    assert basic_words("HÄLLO", strip_accents=False) == ["hällo"]
    assert basic_words("ab猫c", chinese=False) == ["ab猫c"]
    assert basic_words("猫，a。", chinese=False) == ["猫", "，", "a", "。"]


def test_every_punctuation_sign_stands_alone():
    signs = [chr(p) for p in range(sys.maxunicode + 1) if unicodedata.category(chr(p))[0] == "P"]
    ascii_signs = [chr(p) for p in range(33, 127) if not chr(p).isalnum()]
    assert len(ascii_signs) == 32
    for sign in {*signs, *ascii_signs}:
        assert basic_words(f"a{sign}b", lower=False) == ["a", sign, "b"]


@given(ANY_TEXT)
def test_words_hold_no_space_control_or_upper_case(text):
    for word in basic_words(text):
        assert word and word.split() == [word]
        assert all(unicodedata.category(c) not in ("Cc", "Cf", "Mn") for c in word)
        assert all(c.lower() == c for c in word)
    assert basic_words(" ".join(basic_words(text))) == basic_words(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("UNwantéd,running", "un ##want ##ed , runn ##ing"),
        ("lowest lowing lowwant", "lowest low ##ing low ##want"),  # the longest first: never low ##est
        ("wanted! wants want", "want ##ed ! [UNK] want"),  # one piece missing, and the whole word is unknown
        ("猫want", "猫 want"),
        ("Ö x", "[UNK] [UNK]"),  # the vocabulary's ö has an accent, which no lower-cased text has
        ("[MASK] ##ed", "[UNK] [UNK] [UNK] [UNK] [UNK] [UNK]"),  # names in a text are text
        ("", ""),
    ],
)
def test_greedy_longest_match(text, pieces):
    tokenizer = WordPiece(VOCABULARY)
    assert tokenizer.pieces(text) == pieces.split()
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(pieces.split()),)
    assert ids.tolist() == [VOCABULARY.index(piece) for piece in pieces.split()]


def test_a_cut_that_was_too_greedy_is_not_taken_back():
    assert WordPiece(["[UNK]", "ab", "a", "##bc"]).pieces("abc") == ["[UNK]"]


def test_long_words_are_unknown():
    tokenizer = WordPiece(["[UNK]", "a", "##a"])
    assert tokenizer.pieces("a" * 100) == ["a"] + ["##a"] * 99
    assert tokenizer.pieces("a" * 101) == ["[UNK]"]
    assert WordPiece(tokenizer.tokens, max_characters=3).pieces("aaa aaaa") == ["a", "##a", "##a", "[UNK]"]


def test_special_tokens_by_name_only_where_asked():
    tokenizer = WordPiece(VOCABULARY)
    assert tokenizer.encode_special("[CLS]want[MASK][MASK] low[SEP]").tolist() == [2, 5, 4, 4, VOCABULARY.index("low"), 3]
    assert tokenizer.encode_special("[mask]").tolist() == [1, 1, 1]
    assert tokenizer.special == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    assert WordPiece(["a", "[UNK]"]).special == {"[UNK]": 1}
    assert WordPiece(["a", "[UNK]"]).encode_special("a[MASK]").tolist() == [0, 1, 1, 1]


def test_decode_joins_pieces_to_words():
    tokenizer = WordPiece(VOCABULARY)
    assert tokenizer.decode(tokenizer.encode("UNwantéd, running")) == "unwanted , running"
    assert tokenizer.decode([]) == ""
    for ids in ([99], [-1], [0.5], [[1]]):
        with pytest.raises(ValueError, match="decode: id"):
            tokenizer.decode(ids)


# --- training --------------------------------------------------------------------------------


def test_training_by_hand():
    """aab x 3, ab x 2: a ##b occurs 2 times and a ##a and ##a ##b 3 times each; of the last two a ##a... the smaller ids."""
    tokenizer = WordPiece.train("aab aab aab ab ab", 10)
    # Characters: ##a 0, ##b 1, a 2. Pairs: (##a, ##b) 3, (a, ##a) 3, (a, ##b) 2; then (a, ##ab) 3, then (a, ##b) 2.
    assert tokenizer.tokens == [*SPECIAL, "##a", "##b", "a", "##ab", "aab"]
    assert WordPiece.train("aab aab aab ab ab", 50).tokens == [*tokenizer.tokens, "ab"]
    assert WordPiece.train("aab aab aab ab ab", 50, minimum_count=3).tokens == tokenizer.tokens


def test_training_on_real_text(trained):
    assert trained.vocabulary_size == len(set(trained.tokens)) == 600
    assert trained.tokens[:5] == list(SPECIAL)
    text = data.manual()[:60_000]
    ids = trained.encode(text)
    assert trained.special["[UNK]"] not in ids  # every character of the text is a piece
    assert trained.decode(ids).split() == basic_words(text)
    words = Counter(word for word in basic_words(text) if word.isalpha())
    assert all(word in trained.ids for word, _ in words.most_common(40))  # frequent words are one piece
    assert len(ids) < 0.6 * sum(map(len, basic_words(text)))


def test_training_is_deterministic_and_takes_several_texts(trained):
    text = data.manual()[:60_000]
    assert WordPiece.train(text, 600).tokens == trained.tokens
    assert WordPiece.train(["ab ab", "ab"], 9).tokens == WordPiece.train("ab ab ab", 9).tokens
    assert not WordPiece.train("AB ab", 20, lower=False).lower


@given(ANY_TEXT)
def test_what_was_trained_on_is_never_unknown(text):
    tokenizer = WordPiece.train(text, 1000)
    assert tokenizer.pieces(text).count("[UNK]") == sum(len(word) > 100 for word in basic_words(text))
    assert tokenizer.decode(tokenizer.encode(text)).split() == basic_words(text)


# --- files and errors ------------------------------------------------------------------------


def test_files_there_and_back(trained, tmp_path):
    trained.to_file(tmp_path / "vocab.txt")
    assert (tmp_path / "vocab.txt").read_bytes().startswith(b"[PAD]\n[UNK]\n[CLS]\n")
    loaded = WordPiece.from_file(tmp_path / "vocab.txt", lower=False)
    assert loaded.tokens == trained.tokens and not loaded.lower
    odd = ["[UNK]", "a\u2028b", "\x85", " c", "猫"]  # none of these ends a line
    for text in ("\n".join(odd), "\n".join(odd) + "\n", "\r\n".join(odd) + "\r\n"):
        (tmp_path / "odd.txt").write_bytes(text.encode())
        assert WordPiece.from_file(tmp_path / "odd.txt").tokens == odd


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "token 0, '', is empty"),
        (b"a\nb\n", "none of the 2 tokens is [UNK]"),
        (b"[UNK]\n\na\n", "token 1, '', is empty"),
        (b"[UNK]\na\nb\na\n", "token 1, 'a', is empty or comes twice"),
        (b"[UNK]\n\xff\n", "codec can't decode"),
    ],
)
def test_a_file_that_is_no_vocabulary(content, message, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^from_file: .*vocab\.txt is no vocabulary: .*{re.escape(message)}") as caught:
        WordPiece.from_file(tmp_path / "vocab.txt")
    assert "\n" not in str(caught.value)


def test_errors_of_training():
    with pytest.raises(ValueError, match=r"vocabulary_size is 6 .* expected at least 8 \(5 special tokens and 3 characters"):
        WordPiece.train("aab", 6)
    with pytest.raises(ValueError, match="minimum_count 0"):
        WordPiece.train("aab", 60, minimum_count=0)
