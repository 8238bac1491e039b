"""Tokenisers and n-gram baselines: exact round trips, hand-computed merges and probabilities, errors."""

import json
import math
import re
import sys
import unicodedata
from collections import Counter
from itertools import pairwise

from tinygrad_notes import data
from tinygrad_notes.text import ByteBPE, CharTokenizer, WittenBell, bits_per_character, byte_characters, split_pattern
from tinygrad_notes.text.bpe import WHITE_SPACE, category_class

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SAMPLE = "the cat's hat, the bat's mat: that's what they're at!  12 345\n\n  def f(x):\n\treturn x\u00a0+ 1 # naïve — 猫 🐈\r\n" * 3


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train(SAMPLE, 300, special=["<|endoftext|>", "<|pad|>"])


# --- characters ----------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=60))
def test_characters_round_trip(text):
    tokenizer = CharTokenizer.train(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),)
    assert tokenizer.decode(ids) == text
    assert [tokenizer.characters[i] for i in ids] == list(text)
    assert tokenizer.characters == "".join(sorted(set(text))) and tokenizer.vocabulary_size == len(set(text))
    assert CharTokenizer.from_json(tokenizer.to_json()).characters == tokenizer.characters


def test_characters_empty_text_has_no_ids():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.encode("").shape == (0,) and tokenizer.decode([]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [("abxa", "'x' (U+0078) at position 2"), ("zab", "'z' (U+007A) at position 0"), ("a🐈b", "(U+1F408) at position 1")],
)
def test_characters_name_the_unknown(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        CharTokenizer("ab").encode(text)
    assert "\n" not in str(caught.value) and "2 characters of the vocabulary" in str(caught.value)


@pytest.mark.parametrize("ids", [[0, 2], [-1], [[0, 1]], [0.5]])
def test_characters_refuse_ids(ids):
    with pytest.raises(ValueError, match="decode: id"):
        CharTokenizer("ab").decode(ids)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "not json", '{"characters": 3}', '{"characters": "ba"}', '{"characters": "aa"}', '{"characters": ""}']
)
def test_characters_refuse_json(text):
    with pytest.raises(ValueError, match=r"^CharTokenizer.*expected"):
        CharTokenizer.from_json(text)
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer.train("")


# --- the bytes' names and the pattern ---------------------------------------------------------


def test_byte_characters_are_distinct_and_printable():
    names = byte_characters()
    assert sorted(names) == list(range(256)) and len(set(names.values())) == 256
    assert all(len(c) == 1 and c.isprintable() and not c.isspace() for c in names.values())
    assert (names[ord("A")], names[ord(" ")], names[ord("\n")], names[0xAD], names[0]) == ("A", "Ġ", "Ċ", "Ń", "Ā")
    assert list(names.values()) == sorted(names.values()) and next(iter(names)) == ord("!")


def test_classes_hold_exactly_their_categories():
    every = [chr(point) for point in range(sys.maxunicode + 1)]
    text = "".join(every)
    for category in "LN":
        assert re.findall(f"[{category_class(category)}]", text) == [c for c in every if unicodedata.category(c)[0] == category]
    spaces = re.findall(f"[{WHITE_SPACE}]", text)
    # str.isspace is White_Space and the four separators of information, U+001C to U+001F.
    assert spaces == [c for c in every if c.isspace() and c not in "\x1c\x1d\x1e\x1f"] and len(spaces) == 25


def test_characters_are_cut_by_their_category():
    """Beside each of a letter, a digit and a sign, a character joins the one of its kind, and only that."""
    kinds = {"L": "a", "N": "1"}
    some = [chr(p) for p in [*range(0x3000), *range(0x3000, sys.maxunicode, 61)] if not re.match(f"[{WHITE_SPACE}]", chr(p))]
    for sign in "a1!":
        pieces = split_pattern().findall("".join(f" {sign}{c}" for c in some))
        expected = []
        for c in some:
            joins = kinds.get(unicodedata.category(c)[0], "!") == sign
            expected += [f" {sign}{c}"] if joins else [f" {sign}", c]
        assert pieces == expected


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello world", "Hello| world"),
        ("it's we'll they're I've I'd I'm don't", "it|'s| we|'ll| they|'re| I|'ve| I|'d| I|'m| don|'t"),
        ("it'S 'tis", "it|'|S| '|tis"),
        ("a  b   c", "a| | b|  | c"),
        ("end  ", "end|  "),
        ("x=12+3.5", "x|=|12|+|3|.|5"),
        ("a \n b", "a| \n| b"),
        ("\n\nx\ty", "\n|\n|x|\t|y"),
        ("naïve — ½", "naïve| —| ½"),
        ("a_b", "a|_|b"),
        ("x\x1cy\x85z", "x|\x1c|y|\x85|z"),
    ],
)
def test_pattern(text, pieces):
    assert split_pattern().findall(text) == pieces.split("|")


@given(ANY_TEXT)
def test_pieces_join_to_the_text(text):
    assert "".join(split_pattern().findall(text)) == text


# --- byte-level BPE -----------------------------------------------------------------------------


@given(text=ANY_TEXT)
def test_bpe_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert tokenizer.decode(ids) == text == tokenizer.decode(ids, errors="strict")
    assert not set(ids.tolist()) & set(tokenizer.special.values())


@given(ids=st.lists(st.integers(0, 301), max_size=30))
def test_bpe_decodes_any_ids(tokenizer, ids):
    raw = b"".join(tokenizer.tokens[i % tokenizer.vocabulary_size] for i in ids)
    assert tokenizer.decode(np.array(ids, np.int64) % tokenizer.vocabulary_size) == raw.decode("utf-8", "replace")


def test_bpe_decodes_broken_utf8():
    tokenizer = ByteBPE.train("", 256)
    cat = tokenizer.encode("🐈")
    assert len(cat) == 4 and tokenizer.decode(cat[:3]) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(cat[:3], errors="strict")


def merges_by_definition(text: str, merges: int, minimum_count: int) -> list[tuple[bytes, bytes]]:
    """Count every pair anew before each merge; of equal counts take the smaller ids."""
    ids = {bytes([b]): i for i, b in enumerate(byte_characters())}
    words = [[bytes([b]) for b in piece.encode()] for piece in split_pattern().findall(text)]
    learned = []
    for _ in range(merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts:
            break
        pair = min(counts, key=lambda p: (-counts[p], ids[p[0]], ids[p[1]]))
        if counts[pair] < minimum_count:
            break
        learned.append(pair)
        ids[pair[0] + pair[1]] = len(ids)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == pair:
                    word[i : i + 2] = [pair[0] + pair[1]]
                i += 1
    return learned


@given(st.text("ab -", max_size=80) | st.text("aaaab ", max_size=80) | ANY_TEXT, st.integers(0, 30), st.integers(1, 3))
def test_bpe_learns_what_the_definition_says(text, merges, minimum_count):
    tokenizer = ByteBPE.train(text, 256 + merges, minimum_count=minimum_count)
    tokens = tokenizer.tokens
    assert [(tokens[a], tokens[b]) for a, b in tokenizer.merges] == merges_by_definition(text, merges, minimum_count)
    assert list(tokenizer.merges.values()) == list(range(256, tokenizer.vocabulary_size))
    assert len(set(tokens)) == len(tokens)


def test_bpe_by_hand():
    """Six times "ab", two "abb": first a b (8), then Ġ ab (7), then Ġab b, which occurs twice."""
    tokenizer = ByteBPE.train("ab ab ab ab ab ab abb abb", 259)
    assert tokenizer.tokens[256:] == [b"ab", b" ab", b" abb"]
    assert tokenizer.encode("ab abb abab").tolist() == [256, 258, 257, 256]


def test_bpe_on_a_list_of_texts_joins_no_texts():
    assert ByteBPE.train(["ab"] * 3, 300).tokens[256:] == [b"ab"]
    assert ByteBPE.train("ababab", 300, minimum_count=1).tokens[256:] == [b"ab", b"abab", b"ababab"]


def test_bpe_compresses_the_manual():
    train, held_out = data.split(data.manual())
    tokenizer = ByteBPE.train(train, 1000)
    ids = tokenizer.encode(held_out)
    assert tokenizer.vocabulary_size == 1000 and tokenizer.decode(ids) == held_out
    assert len(held_out.encode()) / len(ids) > 2.5


def test_special_tokens_are_never_text(tokenizer):
    end, pad = tokenizer.special["<|endoftext|>"], tokenizer.special["<|pad|>"]
    assert (end, pad) == (tokenizer.vocabulary_size - 2, tokenizer.vocabulary_size - 1)
    text = "the cat \n<|endoftext|> the hat<|pad|><|pad|>"
    assert not {end, pad} & set(tokenizer.encode(text).tolist())
    parts = [*tokenizer.encode("the cat \n"), end, *tokenizer.encode(" the hat"), pad, pad]
    assert tokenizer.encode_special(text).tolist() == parts
    assert tokenizer.decode(parts) == text == tokenizer.decode(tokenizer.encode(text))
    with pytest.raises(ValueError, match="no special tokens"):
        ByteBPE.train("", 256).encode_special("a")


def test_longer_special_names_win():
    tokenizer = ByteBPE.train("", 258, special=["<a", "<a>"])
    assert tokenizer.encode_special("<a><a").tolist() == [257, 256]


def test_files_round_trip(tokenizer, tmp_path):
    vocabulary, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    tokenizer.to_files(vocabulary, merges)
    again = ByteBPE.from_files(vocabulary, merges)
    assert (again.tokens, again.merges, again.special) == (tokenizer.tokens, tokenizer.merges, tokenizer.special)
    assert list(again.merges) == list(tokenizer.merges)
    assert np.array_equal(again.encode(SAMPLE), tokenizer.encode(SAMPLE))
    lines = merges.read_bytes().decode().split("\n")
    assert lines[0] == "#version: 0.2" and lines[-1] == "" and len(lines) == len(tokenizer.merges) + 2
    names = json.loads(vocabulary.read_text("utf-8"))
    assert names["!"] == 0 and names["Ġ"] == tokenizer.encode(" ")[0] and names["<|endoftext|>"] == tokenizer.special["<|endoftext|>"]


def test_files_of_other_layouts(tmp_path):
    """Ids in another order, the special token first, no version line."""
    names = ["<s>", "ab", *reversed(byte_characters().values())]
    (tmp_path / "v").write_text(json.dumps({name: i for i, name in enumerate(names)}), "utf-8")
    (tmp_path / "m").write_text("a b\n", "utf-8")
    tokenizer = ByteBPE.from_files(tmp_path / "v", tmp_path / "m")
    assert tokenizer.special == {"<s>": 0} and tokenizer.encode("ab").tolist() == [1]
    assert tokenizer.encode_special("ab<s>").tolist() == [1, 0] and tokenizer.decode(tokenizer.encode("zé")) == "zé"


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ("nothing", "", "is not JSON"),
        ("[1]", "", "does not map tokens to the ids"),
        ('{"a": 0, "b": 2}', "", "does not map tokens to the ids"),
        ('{"a": 0, "b": 1}', "a b\n", "line 1 of"),
        ('{"a": 0, "b": 1}', "#version: 0.2\na b c\n", "line 2 of"),
        ('{"猫": 0, "猫猫": 1}', "猫 猫\n", "expected two byte-level tokens"),
        ('{"a": 0, "b": 1}', "", "no token for 254 of the 256 bytes"),
    ],
)
def test_files_that_do_not_fit(tmp_path, vocabulary, merges, message):
    (tmp_path / "v").write_text(vocabulary, "utf-8")
    (tmp_path / "m").write_text(merges, "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        ByteBPE.from_files(tmp_path / "v", tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_files_cannot_hold_two_tokens_of_one_name(tmp_path):
    tokenizer = ByteBPE.train("ab ab", 258, special=["ab"])
    with pytest.raises(ValueError, match="different names"):
        tokenizer.to_files(tmp_path / "v", tmp_path / "m")


def test_bpe_errors(tokenizer):
    with pytest.raises(ValueError, match=r"\\ud800.* at position 2"):
        tokenizer.encode(" a\ud800")
    with pytest.raises(ValueError, match=r"vocabulary_size is 256 .*at least 257"):
        ByteBPE.train("", 256, special=["<s>"])
    with pytest.raises(ValueError, match="minimum_count 0"):
        ByteBPE.train("", 256, minimum_count=0)
    with pytest.raises(ValueError, match="expected different names"):
        ByteBPE.train("", 300, special=["<s>", "<s>"])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        tokenizer.decode([tokenizer.vocabulary_size])


# --- n-grams ------------------------------------------------------------------------------------


def witten_bell_by_definition(train: list, history: list, c: int, order: int, size: int) -> float:
    """Equation (1) of the module by recursion, counting in the text each time."""

    def p(h: list) -> float:
        after = [train[i + len(h)] for i in range(len(train) - len(h)) if train[i : i + len(h)] == h]
        below = p(h[1:]) if h else 1 / size
        distinct = len(set(after))
        return (after.count(c) + distinct * below) / (len(after) + distinct) if after else below

    return p(history[len(history) - min(order - 1, len(history)) :]) if order else 1 / size


@given(st.lists(st.integers(0, 3), min_size=6, max_size=40), st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 6))
def test_witten_bell_is_its_equation(train, test, order):
    model = WittenBell(np.array(train), order, 5)
    got = model.probabilities(np.array(test))
    for i, c in enumerate(test):
        expected = witten_bell_by_definition(train, test[:i], c, order, 5)
        assert math.isclose(got[i], expected, rel_tol=1e-12)
        distribution = model.next(np.array(test[:i], np.int64))
        assert math.isclose(distribution[c], expected, rel_tol=1e-12) and math.isclose(distribution.sum(), 1, rel_tol=1e-12)


def test_unigram_by_hand():
    """ "aab" with the alphabet {a, b, c}: N = 3, T = 2, so P(a) = (2 + 2/3) / 5 and P(c) = (2/3) / 5."""
    expected = -math.log2((2 + 2 / 3) / 5 * (2 / 3) / 5) / 2
    assert math.isclose(bits_per_character("aab", "ac", 1), expected)
    assert math.isclose(bits_per_character("aab", "ac", 0), math.log2(3))


def test_witten_bell_on_the_manual():
    """On 3.11 the 5-gram needs 1.905 bits per character of the last tenth; other versions have another text."""
    train, held_out = data.split(data.manual())
    bits = bits_per_character(train, held_out, 5)
    if sys.version_info[:2] == (3, 11):
        assert abs(bits - 1.905) < 0.01
        assert abs(bits_per_character(train, held_out, 1) - 4.671) < 0.01
    assert 1.7 < bits < 2.1


def test_ngram_errors():
    with pytest.raises(ValueError, match="order is 4 and the text has 3 ids"):
        WittenBell(np.array([0, 1, 0]), 4, 2)
    with pytest.raises(ValueError, match=r"ids span 0..2, expected 0..1"):
        WittenBell(np.array([0, 2]), 1, 2)
    with pytest.raises(TypeError, match=r"ids are float64 \(2,\), expected integers"):
        WittenBell(np.array([0, 1.7]), 1, 2)
    for outside in ([1, -1], [2]):
        for method in (WittenBell(np.array([0, 1, 0]), 2, 2).probabilities, WittenBell(np.array([0, 1, 0]), 2, 2).next):
            with pytest.raises(ValueError, match="ids span"):
                method(np.array(outside))
    with pytest.raises(ValueError, match="test 0"):
        bits_per_character("a", "", 1)
