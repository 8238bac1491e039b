"""Text as numbers: tokenisers, and the n-gram baselines that a language model has to beat."""

from tinygrad_notes.text.bpe import ByteBPE, byte_characters, split_pattern
from tinygrad_notes.text.characters import CharTokenizer
from tinygrad_notes.text.clip import ClipBPE
from tinygrad_notes.text.ngrams import WittenBell, bits_per_character
from tinygrad_notes.text.wordpiece import WordPiece

__all__ = ["ByteBPE", "CharTokenizer", "ClipBPE", "WittenBell", "WordPiece", "bits_per_character", "byte_characters", "split_pattern"]
