"""WordPiece equals the `tokenizers` library and transformers' BertTokenizer: words, pieces, ids, files, on odd texts."""

import random
import sys
import unicodedata

from tinygrad_notes import data
from tinygrad_notes.text import WordPiece
from tinygrad_notes.text.wordpiece import SPECIAL, basic_words

import pytest

tokenizers = pytest.importorskip("tokenizers", reason="parity with tokenizers needs the extra: pip install tinygrad_notes[parity]")
pytestmark = pytest.mark.filterwarnings("default")  # the other library's own warnings are its own

SETTINGS = [{}, {"lower": False}, {"lower": False, "strip_accents": True}, {"strip_accents": False}, {"chinese": False}]
ODD = [
    "",
    " \t\r\n\u00a0\u3000\u2028\u2029\u200b",
    "It's 2024; naïve café — 猫は猫 🐈‍⬛ don't WE'LL x²+y³=½  \t\n\n   if (a<b) {\r\n}",
    "ÀÉÎÕÜ åäö ÇŞĞ ǅ ǆ ß ẞ ﬁ ﬀ Å Å K Ω",
    "ΟΔΟΣ Σίσυφος ΣΑΣ Σ ς",
    "İstanbul Iğdır ı i̇",
    "Việt Nam tiếng ằẵặ",
    "हिन्दी में لغة عربية עִבְרִית 한국어 カタカナ ไทย",
    "\x00a\x01b\x7fc\x80d\x85e\x9ff\u00adg\u200ch\u200di\u2060j\ufeffk\ufffdl\ue000m\U000f0000n",
    "$€£¥ ^`~+<=>| «» ‹› “” ‘’ … — – · • ※ ° § ¶ © ® ™ × ÷",
    "a" * 100 + " " + "b" * 101 + " " + "é" * 101,
    "un" * 50 + "!" + "x" * 99,
    "[CLS] [MASK] [SEP]",
    "𝒜𝓁𝑔𝑒𝒷𝓇𝒶 ①②③ Ⅷ ⅷ ㍿ ﷺ",
    "豈更車賈 \u3400\u4dbf\u4e00\u9fff\U00020000\U0002a6df\U0002f800",
    "e\u0301 a\u030a\u0323 \u0301 \u20dd x\u20dd",
    "𞤀𞤁 Ꭰꭰ Ა ა",
]


@pytest.fixture(scope="module")
def vocabulary():
    """A vocabulary trained by the library, so that pieces of every kind occur."""
    made = tokenizers.BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    text = [*ODD, *(t.lower() for t in ODD), data.manual()[:100_000], *(unicodedata.normalize("NFD", t) for t in ODD)]
    made.train_from_iterator(text, vocab_size=4000, min_frequency=1, special_tokens=list(SPECIAL), show_progress=False)
    tokens = sorted(made.get_vocab(), key=made.get_vocab().__getitem__)
    return [*tokens, *(c for c in "abcdefghijklmnopqrstuvwxyz" if c not in tokens)]


def library(vocabulary, lower=True, strip_accents=None, chinese=True):
    return tokenizers.BertWordPieceTokenizer(
        {token: i for i, token in enumerate(vocabulary)},
        lowercase=lower,
        strip_accents=strip_accents,
        handle_chinese_chars=chinese,
    )


def settled(c):
    """Whether the character has the same category in Unicode 3.2 as today: the library's tables are older than Python's."""
    return unicodedata.category(c) not in ("Cn", "Cs") and unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c)


def random_texts():
    """Texts of characters from many scripts."""
    rng = random.Random(0)
    blocks = [
        (0x20, 0x7F),
        (0xA0, 0x250),
        (0x370, 0x530),
        (0x590, 0x650),
        (0x900, 0x980),
        (0x1E00, 0x2070),
        (0x3000, 0x3100),
        (0x4E00, 0x4F00),
    ]
    for _ in range(300):
        characters = [chr(rng.randrange(*rng.choice(blocks))) for _ in range(rng.randrange(1, 60))]
        yield "".join(filter(settled, characters)) + rng.choice(["", " the end", "\nfor i in x:"])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_ids(vocabulary, settings):
    theirs, ours = library(vocabulary, **settings), WordPiece(vocabulary, **settings)
    known = 0
    for text in [*ODD, *random_texts(), data.manual()[:50_000]]:
        expected = theirs.encode(text, add_special_tokens=False)
        if not any(name in text for name in SPECIAL):
            assert ours.pieces(text) == expected.tokens, ascii(text)
            assert ours.encode(text).tolist() == expected.ids
            known += len(expected.ids) - expected.ids.count(1)
    assert known > 10_000


def test_special_tokens_in_a_text(vocabulary):
    theirs, ours = library(vocabulary), WordPiece(vocabulary)
    for text in ("[CLS] a [MASK] of tea[MASK][MASK]. [SEP][PAD]", "[mask] [ MASK ] [MASK", "x[UNK]y"):
        assert ours.encode_special(text).tolist() == theirs.encode(text, add_special_tokens=False).ids


def test_every_character():
    """Between two letters each character is dropped, splits, stands alone or joins, as in the library."""
    normalise = tokenizers.normalizers.BertNormalizer()
    split = tokenizers.pre_tokenizers.BertPreTokenizer()
    tried = 0
    for c in filter(settled, map(chr, range(sys.maxunicode + 1))):
        text = f"a{c}b"
        assert [word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text))] == basic_words(text), ascii(c)
        tried += 1
    assert tried > 200_000


def test_where_the_library_has_a_slip():
    """BERT's own code counts U+2B820 to U+2CEAF as Chinese; the library begins at U+2B920."""
    for point in (0x2B820, 0x2B91F, 0x2B920, 0x2CEAF):
        assert basic_words(f"a{chr(point)}b") == ["a", chr(point), "b"]
    normalise = tokenizers.normalizers.BertNormalizer()
    assert normalise.normalize_str("a\U0002b91fb") == "a\U0002b91fb"
    assert normalise.normalize_str("a\U0002b920b") == "a \U0002b920 b"


def test_files_both_ways(vocabulary, tmp_path):
    ours = WordPiece(vocabulary)
    ours.to_file(tmp_path / "vocab.txt")
    theirs = tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"))
    assert theirs.get_vocab() == ours.ids
    (saved,) = theirs.save_model(str(tmp_path), "theirs")
    assert WordPiece.from_file(saved).tokens == ours.tokens


def test_the_tokenizer_of_transformers(vocabulary):
    transformers = pytest.importorskip(
        "transformers", reason="parity with transformers needs the extra: pip install tinygrad_notes[parity]"
    )
    for settings, theirs in (({}, {}), ({"lower": False}, {"do_lower_case": False})):
        tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, **theirs)
        ours = WordPiece(vocabulary, **settings)
        for text in [*ODD, *random_texts()]:
            assert ours.encode_special(text).tolist() == tokenizer(text, add_special_tokens=False)["input_ids"], ascii(text)
