"""Byte-level BPE equals the `tokenizers` library: pieces, vocabulary, merges, ids, files."""

import json
import random
import sys
import unicodedata

from tinygrad_notes import data
from tinygrad_notes.text import ByteBPE, byte_characters, split_pattern

import pytest

tokenizers = pytest.importorskip("tokenizers")

MIXED = "It's 2024; naïve café — 猫は猫 🐈‍⬛ don't WE'LL x²+y³=½  \t\n\n   if (a<b) {\r\n\u00a0\u3000}\x1c\x85 Ⅷ ١٢٣ ǅ ª " * 5


def runs() -> str:
    """Runs of one sign in every length: where counting overlapping pairs goes wrong first."""
    rng = random.Random(0)
    return "".join(rng.choice("a- \n=") * rng.randint(1, 40) for _ in range(300))


def random_words() -> str:
    rng = random.Random(1)
    return " ".join("".join(rng.choice("abc") for _ in range(rng.randint(1, 9))) for _ in range(500))


TEXTS = {
    "manual": lambda: data.manual()[:150_000],
    "mixed": lambda: MIXED,
    "runs": runs,
    "random": random_words,
    "once": lambda: "each word once only",
    "empty": lambda: "",
}


def library(text: str, size: int, minimum_count: int):
    """The library's tokeniser, its vocabulary and its merges."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, min_frequency=minimum_count, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text], trainer)
    model = json.loads(made.to_str())["model"]
    return made, model["vocab"], [tuple(pair) for pair in model["merges"]]


@pytest.mark.parametrize("minimum_count", [1, 2])
@pytest.mark.parametrize("size", [256, 300, 1000])
@pytest.mark.parametrize("name", TEXTS)
def test_training(name, size, minimum_count):
    text = TEXTS[name]()
    made, vocabulary, merges = library(text, size, minimum_count)
    ours = ByteBPE.train(text, size, minimum_count=minimum_count)
    names = ["".join(byte_characters()[b] for b in token) for token in ours.tokens]
    assert {token: i for i, token in enumerate(names)} == vocabulary
    assert [(names[a], names[b]) for a, b in ours.merges] == merges
    for other in (text, MIXED, runs()):
        ids = ours.encode(other).tolist()
        assert ids == made.encode(other).ids
        assert ours.decode(ids) == made.decode(ids) == other


def test_special_tokens():
    made, *_ = library(MIXED, 299, 2)
    made.add_special_tokens(["<|endoftext|>"])
    ours = ByteBPE.train(MIXED, 300, special=["<|endoftext|>"])
    text = "a cat<|endoftext|><|endoftext|> it's\n"
    assert ours.encode_special(text).tolist() == made.encode(text).ids


def test_files_both_ways(tmp_path):
    vocabulary, merges = str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    ours = ByteBPE.train(MIXED, 320, special=["<|endoftext|>"])
    ours.to_files(vocabulary, merges)
    made = tokenizers.ByteLevelBPETokenizer(vocabulary, merges)
    assert made.encode(MIXED).ids == ours.encode(MIXED).tolist()
    assert made.token_to_id("<|endoftext|>") == ours.special["<|endoftext|>"]

    trained = tokenizers.ByteLevelBPETokenizer()
    trained.train_from_iterator([MIXED], vocab_size=350, min_frequency=1, special_tokens=["<s>", "<|endoftext|>"], show_progress=False)
    trained.save_model(str(tmp_path), "theirs")
    loaded = ByteBPE.from_files(tmp_path / "theirs-vocab.json", tmp_path / "theirs-merges.txt")
    assert loaded.special == {"<s>": 0, "<|endoftext|>": 1}
    for text in (MIXED, runs()):
        assert loaded.encode(text).tolist() == trained.encode(text).ids
    assert loaded.encode_special("<s>a<|endoftext|>").tolist() == trained.encode("<s>a<|endoftext|>").ids


def test_pieces_at_every_category_border():
    """Wherever the category changes from one code point to the next, both are cut as the library cuts them.

    Code points that this Python's Unicode does not assign yet are left out: the library may know a newer version.
    """
    names = byte_characters()
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    categories = [unicodedata.category(chr(p)) for p in range(sys.maxunicode + 1)]
    border = [p for p in range(sys.maxunicode) if categories[p] != categories[p + 1]]
    points = sorted({p for q in border for p in (q, q + 1) if categories[p] not in ("Cn", "Cs")})
    assert len(points) > 4000
    for sign in "a1! ":
        text = "".join(f"{sign}{chr(p)}\n" for p in points)
        expected = [piece for piece, _ in split.pre_tokenize_str(text)]
        assert ["".join(names[b] for b in piece.encode()) for piece in split_pattern().findall(text)] == expected
