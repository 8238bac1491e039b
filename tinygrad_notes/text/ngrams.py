"""Count-based language models over characters: what a neural language model has to beat.

Witten and Bell, "The Zero-Frequency Problem" (1991), method C, interpolated as in Chen and
Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1999), section 2.6.
With h a context of k characters, h' the same without its first, N(h) how often h was followed by
a character, C(h c) how often by c, and T(h) by how many different characters:

    P(c | h) = (C(h c) + T(h) P(c | h')) / (N(h) + T(h))        (1)

down to the empty context, below which stands the uniform distribution 1 / V. A context that was
never seen has N = T = 0 and hands over to the shorter one.
"""

import math
from dataclasses import dataclass

from tinygrad_notes.text.characters import CharTokenizer

import numpy as np


@dataclass(frozen=True)
class Level:
    """What the training ids say about contexts of one length: sorted keys, searched by bisection.

    A context is numbered by its place in `contexts`. Its key joins the number of the context that
    is one shorter with the id before that, so that keys stay small at every order.
    """

    contexts: np.ndarray  # (H,) keys: number of the shorter context * V + the id before it
    total: np.ndarray  # (H,) N(h)
    distinct: np.ndarray  # (H,) T(h)
    pairs: np.ndarray  # (P,) keys: number of the context * V + the id that follows
    count: np.ndarray  # (P,) C(h c)


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each of `wanted` in the sorted `keys`, -1 where it is missing."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def in_vocabulary(ids: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """`ids` (N,) as int64. TypeError for what is no integer, ValueError for one outside [0, vocabulary_size): its keys would be those of others."""
    ids = np.asarray(ids)
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(
            f"WittenBell: ids are {ids.dtype} {ids.shape}, expected integers; encode the text by a tokeniser of tinygrad_notes.text"
        )
    ids = ids.astype(np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary_size):
        raise ValueError(
            f"WittenBell: ids span {ids.min()}..{ids.max()}, expected 0..{vocabulary_size - 1}; pass the vocabulary_size of the tokeniser that made them"
        )
    return ids


class WittenBell:
    """An n-gram model of ids: `order` n predicts from the n - 1 ids before; 1 is the unigram model, 0 the uniform one.

    ids: the training text (N,) of integers in [0, vocabulary_size). Contexts do not reach back past its start.
    """

    def __init__(self, ids: np.ndarray, order: int, vocabulary_size: int):
        ids = in_vocabulary(ids, vocabulary_size)
        if order < 0 or len(ids) < max(order, 1):
            raise ValueError(
                f"WittenBell: order is {order} and the text has {len(ids)} ids, expected an order of 0 or more and at least as many ids; lower the order or pass more text"
            )
        self.order, self.vocabulary_size = order, vocabulary_size
        self.levels: list[Level] = []
        number = np.zeros(len(ids), np.int64)  # of the context before each id
        for k in range(order):
            key = number[k:] if k == 0 else number[1:] * vocabulary_size + ids[: len(ids) - k]
            contexts, number, total = np.unique(key, return_inverse=True, return_counts=True)
            pairs, count = np.unique(number * vocabulary_size + ids[k:], return_counts=True)
            distinct = np.bincount(pairs // vocabulary_size)
            self.levels.append(Level(contexts, total, distinct, pairs, count))

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """P(ids[i] | the ids before i) for every position of a held-out text, (N,) float64. Equation (1)."""
        ids = in_vocabulary(ids, self.vocabulary_size)
        p = np.full(len(ids), 1 / self.vocabulary_size)
        number = np.zeros(len(ids), np.int64)  # of the context of k ids before each position, -1 if it was never seen
        for k, level in enumerate(self.levels):
            if k > 0:
                longer = np.full(len(ids), -1)  # the first k positions have no k ids before them
                longer[k:] = find(level.contexts, number[k:] * self.vocabulary_size + ids[:-k])  # -1 makes a key below 0: not found
                number = longer
            seen = number >= 0
            h = number[seen]
            place = find(level.pairs, h * self.vocabulary_size + ids[seen])
            count = np.where(place < 0, 0, level.count[place])
            p[seen] = (count + level.distinct[h] * p[seen]) / (level.total[h] + level.distinct[h])
        return p

    def next(self, context: np.ndarray) -> np.ndarray:
        """P(c | context) for every id c, (V,) float64, from the last order - 1 ids of the context. Equation (1)."""
        context = in_vocabulary(context, self.vocabulary_size)
        p, number = np.full(self.vocabulary_size, 1 / self.vocabulary_size), 0
        for k, level in enumerate(self.levels[: len(context) + 1]):
            if k > 0:
                number = int(find(level.contexts, number * self.vocabulary_size + context[-k]))
                if number < 0:
                    break
            first, last = np.searchsorted(level.pairs, [number * self.vocabulary_size, (number + 1) * self.vocabulary_size])
            total, distinct = level.total[number], level.distinct[number]
            p *= distinct / (total + distinct)
            p[level.pairs[first:last] % self.vocabulary_size] += level.count[first:last] / (total + distinct)
        return p


def bits_per_character(train: str, test: str, order: int) -> float:
    """Mean of -log2 P(character | those before) over `test`, of the Witten-Bell model of `train`.

    order 5 predicts from four characters; order 1 is the unigram model, smoothed by the same
    rule: P(c) = (C(c) + T / V) / (N + T); order 0 is log2 V. V counts the characters of both texts.
    """
    if not train or not test:
        raise ValueError(
            f"bits_per_character: train has {len(train)} characters and test {len(test)}, expected at least one each; split a longer text"
        )
    tokenizer = CharTokenizer.train(train + test)
    model = WittenBell(tokenizer.encode(train), order, tokenizer.vocabulary_size)
    return -float(np.log(model.probabilities(tokenizer.encode(test))).mean()) / math.log(2)
