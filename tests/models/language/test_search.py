"""Beam search over models whose every probability is known."""

import itertools
import math

from models.language import search as module
from models.language.search import beam_search, length_penalty
from tinygrad_notes import check

import numpy as np
import pytest

PAD, BOS, EOS = -1, -2, 0


class Known:
    """Continues hypotheses by a function prefix -> log p of the next token, (V,); counts its calls."""

    def __init__(self, log_p):
        self.log_p, self.calls = log_p, 0

    def __call__(self, rows, tokens):
        if not self.calls:
            assert np.all(tokens == BOS) and np.array_equal(rows, np.arange(len(rows)))
            self.prefixes = [()] * len(rows)
        else:
            self.prefixes = [(*self.prefixes[row], int(token)) for row, token in zip(rows, tokens)]
        self.calls += 1
        return np.stack([self.log_p(prefix) for prefix in self.prefixes])


def search(log_p, B=1, **options):
    return beam_search(Known(log_p), B, **{"bos": BOS, "eos": EOS, "pad": PAD, "longest": 4} | options)


def tree(branches, V=3):
    """log p from {prefix: probabilities}; other prefixes end for sure."""
    sure = np.eye(V)[EOS]
    return lambda prefix: np.log(np.maximum(branches.get(prefix, sure), 1e-30))


# Greedy takes token 1 (0.5) and is left with 0.5 * 0.4 = 0.20; the best sequence starts with token 2: 0.4 * 0.9 = 0.36.
GARDEN_PATH = tree({(): [0.1, 0.5, 0.4], (1,): [0.4, 0.3, 0.3], (2,): [0.9, 0.05, 0.05]})


def test_greedy_takes_the_garden_path_and_two_beams_do_not():
    ids, score = search(GARDEN_PATH, beams=1, alpha=0)
    assert ids.tolist() == [[1, EOS]]
    assert math.exp(score[0]) == pytest.approx(0.20)
    ids, score = search(GARDEN_PATH, beams=2, alpha=0)
    assert ids.tolist() == [[2, EOS]]
    assert math.exp(score[0]) == pytest.approx(0.36)


def test_the_shape_comments_hold():
    with check.shapes(module) as remarks:
        search(GARDEN_PATH, beams=2)
    assert not remarks.unreached


def drawn(seed, V):
    """A model without any structure: for each prefix its own random distribution."""
    return lambda prefix: np.log(np.random.default_rng([seed, *(t + 2 for t in prefix)]).dirichlet(np.full(V, 0.5)))


def exhaustive(log_p, V, longest, alpha):
    """The best of all sequences that end, or are cut at the longest."""
    best = (-math.inf, ())
    for n in range(1, longest + 1):
        for ids in itertools.product(range(V), repeat=n):
            if EOS not in ids[:-1] and (ids[-1] == EOS or n == longest):
                total = sum(log_p(ids[:t])[ids[t]] for t in range(n))
                best = max(best, (total / ((5 + n) / 6) ** alpha, ids))
    return best


@pytest.mark.parametrize("alpha", [0, 0.6, 2.0])
def test_as_many_beams_as_sequences_search_them_all(alpha):
    V, longest, lengths = 3, 4, set()
    for seed in range(8):
        score, ids = exhaustive(drawn(seed, V), V, longest, alpha)
        found, value = search(drawn(seed, V), beams=V**longest, alpha=alpha)
        assert found.tolist() == [list(ids)]
        assert value[0] == pytest.approx(score, rel=1e-12)
        lengths.add(len(ids))
    assert len(lengths) > 1


def test_more_beams_find_better_sequences():
    scores = [[search(drawn(seed, 4), beams=beams, longest=6, alpha=0)[1][0] for seed in range(20)] for beams in (1, 2, 8)]
    means = np.mean(scores, axis=1)
    assert np.all(np.diff(means) > 0)


def test_the_penalty_is_that_of_the_paper_and_lengthens():
    assert length_penalty(1, 0.6) == 1
    assert length_penalty(7, 0.6) == pytest.approx(2**0.6)
    # Ending now costs log 0.4; three more tokens cost log 0.6 + 2 log 0.8 + log 1 = log 0.384, over (9/6)^alpha
    branches = {(): [0.4, 0.6, 0.0], (1,): [0.2, 0.8, 0.0], (1, 1): [0.2, 0.8, 0.0], (1, 1, 1): [1.0, 0.0, 0.0]}
    assert search(tree(branches), alpha=0)[0].tolist() == [[EOS]]
    ids, score = search(tree(branches), alpha=0.6)
    assert ids.tolist() == [[1, 1, 1, EOS]]
    assert score[0] == pytest.approx(math.log(0.384) / 1.5**0.6, rel=1e-12)
    lengths = [np.mean([np.sum(search(drawn(s, 4), longest=8, beams=8, alpha=a)[0] != PAD) for s in range(20)]) for a in (0, 1, 3)]
    assert lengths[0] < lengths[1] < lengths[2]


def test_the_search_stops_as_soon_as_nothing_can_win():
    model = Known(GARDEN_PATH)
    beam_search(model, 1, bos=BOS, eos=EOS, pad=PAD, longest=50, beams=2, alpha=0)
    assert model.calls == 2  # 0.36 has ended; what is open has less


def test_but_goes_on_while_a_longer_one_could():
    """Behind an end with log p -1 a hypothesis of log p -1.2 is open: over the penalty of four tokens it would win."""
    branches = {(): [math.exp(-1), math.exp(-1.2), 1 - math.exp(-1) - math.exp(-1.2)], (2,): [0.4, 0.3, 0.3]}
    branches |= {(1,): [0, 1, 0], (1, 1): [0, 1, 0]}
    ids, score = search(tree(branches), alpha=1, beams=3)
    assert ids.tolist() == [[1, 1, 1, EOS]]
    assert score[0] == pytest.approx(-1.2 / 1.5)


def test_each_item_of_a_batch_is_searched_for_itself():
    models = [drawn(seed, 4) for seed in range(5)]
    singles = [search(model, beams=3, longest=6) for model in models]
    owner = {}

    class Batch(Known):
        def __call__(self, rows, tokens):
            assert np.all(rows // 3 == np.arange(15) // 3)  # no item takes over a hypothesis of another
            owner["of"] = np.arange(15) // 3
            super().__call__(rows, tokens)
            return np.stack([models[i](prefix) for i, prefix in zip(owner["of"], self.prefixes)])

    ids, scores = beam_search(Batch(lambda prefix: np.zeros(4)), 5, bos=BOS, eos=EOS, pad=PAD, longest=6, beams=3)
    for i, (alone, score) in enumerate(singles):
        n = alone.shape[1]
        assert ids[i, :n].tolist() == alone[0].tolist()
        assert np.all(ids[i, n:] == PAD)
        assert scores[i] == pytest.approx(score[0], rel=1e-13)


def test_what_never_ends_is_cut():
    ids, score = search(lambda prefix: np.log([1e-9, 0.6, 0.4 - 1e-9]), longest=3, alpha=1)
    assert ids.tolist() == [[1, 1, 1]]
    assert score[0] == pytest.approx(3 * math.log(0.6) / length_penalty(3, 1))


@pytest.mark.parametrize(("name", "value"), [("beams", 0), ("longest", 0), ("alpha", -0.5)])
def test_bad_input(name, value):
    with pytest.raises(ValueError, match=rf"beam_search: {name} is {value}, expected at least"):
        search(GARDEN_PATH, **{name: value})
