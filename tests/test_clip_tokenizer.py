"""CLIP's byte-pair encoding with a vocabulary made by hand; tests/parity compares it with transformers."""

import json

from tinygrad_notes.text import byte_characters
from tinygrad_notes.text.clip import END, LAST, START, ClipBPE

import numpy as np
import pytest

BYTES = list(byte_characters().values())
MERGES = [("a", "r"), ("ar", "t</w>"), ("a", "r</w>"), ("c", "ar"), ("Ã", "©</w>")]
NAMES = [*BYTES, *(c + LAST for c in BYTES), *("".join(pair) for pair in MERGES), START, END]
IDS = {name: i for i, name in enumerate(NAMES)}


@pytest.fixture
def tokenizer():
    return ClipBPE(IDS, MERGES)


def names(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert (ids[0], ids[-1]) == (tokenizer.start, tokenizer.end)
    return [NAMES[i] for i in ids[1:-1]]


def test_the_last_symbol_of_a_word_is_another_one(tokenizer):
    assert names(tokenizer, "art") == ["art</w>"]
    assert names(tokenizer, "cart carts ar") == ["c", "art</w>", "car", "t", "s</w>", "ar</w>"]  # the earliest merge first


def test_case_is_folded_white_space_separates_and_numbers_come_digit_by_digit(tokenizer):
    assert names(tokenizer, "  ART\n\tArt ") == ["art</w>", "art</w>"]
    assert names(tokenizer, "42!?") == ["4</w>", "2</w>", "!", "?</w>"]
    assert names(tokenizer, "it's") == ["i", "t</w>", "'", "s</w>"]
    assert names(tokenizer, "é") == names(tokenizer, "e\u0301") == ["Ã©</w>"]  # NFC
    assert names(tokenizer, "") == []


def test_decoding_gives_the_words_back(tokenizer):
    for text in ("art", "cart of 42", "é 猫 🐈"):
        assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")
    assert tokenizer.decode(tokenizer.encode("A cart")) == "a cart"
    assert tokenizer.decode(np.array([IDS["Ã"]])) == "\ufffd"  # half of a character


def test_a_batch_is_filled_with_the_end(tokenizer):
    ids = tokenizer.batch(["art", "cart", ""])
    art, c, start, end = IDS["art</w>"], IDS["c"], IDS[START], IDS[END]
    assert ids.tolist() == [[start, art, end, end], [start, c, art, end], [start, end, end, end]]


def test_files(tokenizer, tmp_path):
    vocabulary, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocabulary.write_text(json.dumps(IDS), encoding="utf-8")
    merges.write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in MERGES) + "\n", encoding="utf-8")
    loaded = ClipBPE.from_files(vocabulary, merges)
    assert loaded.encode("carts are art").tolist() == tokenizer.encode("carts are art").tolist()
    assert ClipBPE.from_pretrained(tmp_path).encode("carts").tolist() == tokenizer.encode("carts").tolist()
    model = {"type": "BPE", "vocab": IDS, "merges": [list(pair) for pair in MERGES], "end_of_word_suffix": LAST}
    whole = tmp_path / "tokenizer.json"
    for written in (model, model | {"merges": [" ".join(pair) for pair in MERGES]}):  # newer and older files
        whole.write_text(json.dumps({"model": written}), encoding="utf-8")
        assert ClipBPE.from_pretrained(tmp_path).encode("carts é").tolist() == tokenizer.encode("carts é").tolist()
    whole.write_text(json.dumps({"model": model | {"end_of_word_suffix": None}}), encoding="utf-8")
    with pytest.raises(ValueError, match="ends words with None, expected '</w>'"):
        ClipBPE.from_pretrained(tmp_path)
    whole.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is not laid out as a tokenizer.json"):
        ClipBPE.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer.json, nor both"):
        ClipBPE.from_pretrained(tmp_path / "elsewhere")
    merges.write_text("one two three\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has the line 'one two three', expected two tokens"):
        ClipBPE.from_files(vocabulary, merges)
    vocabulary.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        ClipBPE.from_files(vocabulary, merges)


def test_bad_input_is_one_line(tokenizer):
    with pytest.raises(ValueError, match="the longest of 1 texts has 12 tokens, expected 1 to 8"):
        tokenizer.batch(["a b c d e f g h i j"], 8)
    with pytest.raises(ValueError, match="the longest of 0 texts"):
        tokenizer.batch([])
    with pytest.raises(ValueError, match=r"the vocabulary has no 'a</w>' \(1 are missing\)"):
        ClipBPE({name: i for name, i in IDS.items() if name != "a</w>"}, MERGES)
    with pytest.raises(ValueError, match=r"merge \('x', 'y'\) joins to what the vocabulary does not hold"):
        ClipBPE(IDS, [("x", "y")])
    with pytest.raises(ValueError, match=f"id {len(IDS)} at position 0 is outside the vocabulary"):
        tokenizer.decode(np.array([len(IDS)]))
