"""Beam search: the likeliest whole sequence, among those that b hypotheses can reach.

Graves (2012), "Sequence Transduction with Recurrent Neural Networks"; Sutskever, Vinyals, Le (2014), "Sequence to
Sequence Learning with Neural Networks"; the length penalty of Wu et al. (2016), "Google's Neural Machine
Translation System", equation 14. The likeliest first token may lead to an unlikely sentence: so the b likeliest
beginnings are carried on side by side. Every further token costs probability, so that without a penalty
the short sentence wins; the penalty divides by a power of the length.

    (1)  log p(y) = sum_t log p(y_t | y_<t)            y ends in EOS, which counts
    (2)  score(y) = log p(y) / ((5 + |y|) / 6)^alpha   alpha 0: none; 1: nearly the mean over the tokens

B batch, b = beams, N = B b hypotheses, V vocabulary.

Nothing here knows a model: any that continues sequences token by token can be searched.
"""

import numpy as np


def length_penalty(length, alpha):
    """What equation 2 divides by: 1 for a single token, growing with the length where alpha > 0."""
    return ((5 + length) / 6) ** alpha


def beam_search(advance, B, *, bos, eos, pad, longest, beams=4, alpha=0.6):
    """The best sequence found for each of B items: ids (B, T) and scores (B,) float64, T <= longest.

    advance(rows, tokens) -> log p of the next token, (N, V) array: hypothesis i goes on from what was
    hypothesis rows[i] in the call before, with tokens[i] appended; both (N,) int, an item's b hypotheses side by
    side. The first call appends bos. A model with a cache reorders it by rows.

    A row of ids is padded behind its EOS, or is cut at `longest`. A hypothesis may end where EOS is among the b best
    continuations of its item. The search stops when nothing that is still open could beat what has ended, so
    with alpha=0 one beam is greedy decoding, and V^longest beams are an exhaustive search.
    """
    for name, value, least in (("beams", beams, 1), ("longest", longest, 1), ("alpha", alpha, 0)):
        if value < least:
            raise ValueError(f"beam_search: {name} is {value}, expected at least {least}")
    item = np.arange(B)[:, None]
    ids = np.full((B, beams, longest), pad)
    log_p = np.where(np.arange(beams) == 0, 0.0, np.full((B, beams), -np.inf))  # at first there is only one hypothesis
    best, score = ids[:, 0].copy(), np.full(B, -np.inf)

    def keep(candidates, scores):
        """Candidates (B, b, longest) with their scores (B, b): the best of each item, if it is better than what there is."""
        top = scores.argmax(axis=1)[:, None]
        better = scores[item, top][:, 0] > score
        best[better], score[better] = candidates[item, top][better, 0], scores[item, top][better, 0]

    rows, tokens = np.arange(B * beams), np.full(B * beams, bos)
    for t in range(longest):
        step = np.asarray(advance(rows, tokens), np.float64)
        V = step.shape[-1]
        total = (log_p[:, :, None] + step.reshape(B, beams, V)).reshape(B, beams * V)  # (B, beams * V)
        order = np.argsort(-total, axis=1, kind="stable")[:, : 2 * beams]  # enough: at most b of them end, one for each hypothesis
        total, parent, token = total[item, order], order // V, order % V
        ids = ids[item, parent]
        ids[:, :, t] = token
        ends = token == eos
        keep(ids[:, :beams], np.where(ends, total / length_penalty(t + 1, alpha), -np.inf)[:, :beams])

        on = np.argsort(ends, axis=1, kind="stable")[:, :beams]  # the b best that do not end
        ids, log_p, parent, token = ids[item, on], total[item, on], parent[item, on], token[item, on]
        if np.all(log_p[:, 0] / length_penalty(longest, alpha) <= score):  # log p can only fall, the penalty only grow to this
            break
        rows, tokens = (item * beams + parent).reshape(-1), token.reshape(-1)
    keep(ids, log_p / length_penalty(longest, alpha))  # cut at the longest; after a break none of them can win
    used = np.flatnonzero(np.any(best != pad, axis=0))
    return best[:, : used.max(initial=0) + 1], score
