"""CLIP's byte-pair encoding equals transformers' tokeniser, with a vocabulary learned here."""

import json

from tinygrad_notes import data
from tinygrad_notes.text import byte_characters
from tinygrad_notes.text.clip import END, LAST, START, ClipBPE

import pytest

tokenizers = pytest.importorskip("tokenizers", reason="parity needs the extra: pip install tinygrad_notes[parity]")
transformers = pytest.importorskip("transformers", reason="parity needs the extra: pip install tinygrad_notes[parity]")
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's

TEXTS = [
    "A photo of a cat.",
    "It's 2024;\tnaïve   CAFÉ — 猫は猫 🐈‍⬛ don't WE'LL x²+y³=½ \n\n (a<b) {\r\n\u00a0} Ⅷ ١٢٣ ǅ ª ΟΔΥΣΣΕΥΣ İstanbul ﬁn e\u0301te\u0301",
    "",
    "!!! ...a-b's",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """vocab.json and merges.txt in CLIP's format: bytes, marked bytes, merges learned by the library, start, end."""
    folder = tmp_path_factory.mktemp("clip")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix=LAST))
    made.normalizer = tokenizers.normalizers.Lowercase()
    pattern = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=1200, end_of_word_suffix=LAST, show_progress=False)
    made.train_from_iterator([data.manual()[:60_000]], trainer)
    merges = [tuple(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
    names = [c + last for last in ("", LAST) for c in byte_characters().values()]
    names = list(dict.fromkeys([*names, *("".join(pair) for pair in merges), START, END]))
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    return folder / "vocab.json", folder / "merges.txt"


def test_ids_and_text(files, tmp_path):
    ours = ClipBPE.from_files(*files)
    merges = [tuple(line.split()) for line in files[1].read_text().splitlines()[1:]]
    theirs = transformers.CLIPTokenizer(vocab=json.loads(files[0].read_text()), merges=merges)
    for text in [*TEXTS, data.manual()[60_000:70_000]]:
        ids = ours.encode(text).tolist()
        assert ids == theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.batch(TEXTS, 300).tolist() == theirs(TEXTS, padding=True)["input_ids"]
    theirs.save_pretrained(tmp_path)
    again = ClipBPE.from_pretrained(tmp_path)
    assert again.ids == ours.ids
    assert again.encode(TEXTS[1]).tolist() == ours.encode(TEXTS[1]).tolist()
