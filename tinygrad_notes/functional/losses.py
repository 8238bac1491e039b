"""How wrong a prediction is, as one number to be made small.

`reduction` is "mean" over all elements (or targets; ValueError if there are none), "sum", or "none". Definitions follow PyTorch.
"""

from contextvars import ContextVar

from tinygrad_notes.functional.activations import softplus
from tinygrad_notes.functional.define import check_eps, takes_lists
from tinygrad_notes.fused import kernels

import numpy as np

divisors: ContextVar[list | None] = ContextVar("divisors", default=None)  # collects what each mean divides by, for data_parallel


def noted(n):
    """n, the number that a mean divides by."""
    if (seen := divisors.get()) is not None:
        seen.append(n)
        return n or 1  # half a batch may have nothing to learn from
    return n


def count(name, n):
    """What a mean over n elements divides by."""
    if n == 0 and divisors.get() is None:
        raise ValueError(f"{name}: x is empty, so there is no mean; skip this batch, or use reduction='sum'")
    return noted(n)


def reduce(name, losses, reduction):
    if reduction == "mean":
        return losses.sum() / count(name, losses.size)
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"{name}: reduction={reduction!r}, expected 'mean', 'sum' or 'none'")


# --- regression -----------------------------------------------------------------------------


def check_same_shape(name, x, target):
    if np.shape(x) != np.shape(target):  # (N, 1) - (N,) would be (N, N): a classical silent mistake
        raise ValueError(f"{name}: x {np.shape(x)} and target {np.shape(target)} differ in shape; reshape one, or broadcast it on purpose")


def difference(name, x, target):
    check_same_shape(name, x, target)
    return x - target


@takes_lists("x", "target")
def mse(x, target, reduction="mean"):
    """(x - target)^2."""
    if reduction == "mean" and x.size:
        check_same_shape("mse", x, target)
        noted(x.size)
        return kernels.squared_error(x, target)
    return reduce("mse", np.square(difference("mse", x, target)), reduction)


@takes_lists("x", "target")
def l1(x, target, reduction="mean"):
    """|x - target|, with gradient 0 where they are equal."""
    return reduce("l1", np.abs(difference("l1", x, target)), reduction)


@takes_lists("x", "target")
def huber(x, target, delta=1.0, reduction="mean"):
    """d^2 / 2 for |d| <= delta, else delta * (|d| - delta / 2), d = x - target (Huber, 1964)."""
    if not np.all(delta > 0):
        raise ValueError(f"huber: delta is {delta}, expected a number above 0")
    d = difference("huber", x, target)
    near = np.clip(d, -delta, delta)
    return reduce("huber", near * (d - 0.5 * near), reduction)


# --- distributions ----------------------------------------------------------------------------


@takes_lists("x", "target", "weight", "pos_weight")
def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, reduction="mean"):
    """-target log s - (1 - target) log(1 - s) with s = sigmoid(x), stable for every x.

    x, target the same shape, targets in [0, 1]; weight (broadcast) scales each element's loss;
    pos_weight (broadcast, e.g. one per class) scales its first term.
    """
    check_same_shape("binary_cross_entropy_with_logits", x, target)
    # Two terms that are never negative: softplus(x) - x * target would cancel where the prediction is right and sure.
    losses = (target if pos_weight is None else pos_weight * target) * softplus(-x) + (1 - target) * softplus(x)
    return reduce("binary_cross_entropy_with_logits", losses if weight is None else losses * weight, reduction)


@takes_lists("log_q", "p")
def kl_div(log_q, p, reduction="mean"):
    """p (log p - log_q), the Kullback-Leibler divergence of q from p; 0 where p is 0.

    log_q: log-probabilities of the model; p: probabilities of the same shape. "mean" divides by the
    number of elements, as PyTorch does; "batchmean", by the length of the first axis, is the
    divergence of the mathematical definition.
    """
    check_same_shape("kl_div", log_q, p)
    losses = p * (np.log(np.where(p > 0, p, 1)) - log_q)
    return losses.sum() / count("kl_div", len(losses)) if reduction == "batchmean" else reduce("kl_div", losses, reduction)


# --- classification -----------------------------------------------------------------------------


def check_targets(name, x, targets, weight, ignore_index):
    """targets: integers below C, one for each row of x (..., C), or ignore_index. Returns them as an array."""
    targets = np.asarray(targets)
    if x.dtype.kind != "f" or x.ndim == 0:
        raise TypeError(f"{name}: x is {x.dtype} {x.shape}, expected floats (..., C); convert with x.astype(np.float32)")
    C = x.shape[-1]
    if targets.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: targets are {targets.dtype} {targets.shape}, expected integers below {C}; for soft targets write -(p * log_softmax(x)).sum(-1)"
        )
    if targets.shape != x.shape[:-1]:
        raise ValueError(f"{name}: x {x.shape} needs targets of shape {x.shape[:-1]}, got {targets.shape}; classes stand on the last axis")
    if targets.size and (targets.min() < 0 or targets.max() >= C):
        check_ignored(name, x, targets, ignore_index)
    if weight is not None and weight.shape != (C,):
        raise ValueError(f"{name}: weight is {weight.shape}, expected ({C},), one number for each class of x {x.shape}")
    return targets


def check_ignored(name, x, targets, ignore_index):
    """What is no class must be ignore_index."""
    C = x.shape[-1]
    wrong = ((targets < 0) | (targets >= C)) & (targets != ignore_index)
    if wrong.any():
        raise IndexError(
            f"{name}: target {targets[wrong][0]} is not in 0..{C - 1}, the classes of x {x.shape}; mark what shall not count with ignore_index={ignore_index}"
        )


def weigh(x, targets, weight, ignore_index):
    """For each of the n rows of x: its target (0 where ignored), whether it counts, and its weight."""
    targets = targets.reshape(-1)
    counted = targets != ignore_index
    if not counted.all():
        targets = targets * counted
    counted = counted.astype(x.dtype)
    return targets, counted, counted if weight is None else counted * np.take(weight.astype(x.dtype), targets)


def sum_of_weights(name, weights):
    """What a mean over rows divides by."""
    total = weights.sum()
    if total == 0 and divisors.get() is None:
        raise ValueError(
            f"{name}: all {weights.size} targets are ignored or weigh 0, so there is no mean; skip this batch, or use reduction='sum'"
        )
    return noted(total)


@takes_lists("x", "weight")
def cross_entropy(x, targets, *, weight=None, label_smoothing=0.0, ignore_index=-100, reduction="mean"):
    """-log softmax(x)[target], in nats: the surprise at the right class.

    x (..., C) logits; targets (...) integers below C, or ignore_index where there is nothing to
    learn; weight (C,) array, the weight of each class. label_smoothing e gives every class e / C of
    the target and the right one the rest (Szegedy et al., 2015). "mean" divides by the summed
    weights of the targets that count; it raises where there is none.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected a number from 0 up to, but not including, 1")
    targets = check_targets("cross_entropy", x, targets, weight, ignore_index)
    C = x.shape[-1]
    t, counted, weights = weigh(x, targets, weight, ignore_index)
    smooth = None
    if label_smoothing:
        smooth = np.full(C, label_smoothing / C, x.dtype) if weight is None else (weight * (label_smoothing / C)).astype(x.dtype)
    spread = {} if smooth is None else {"counted": counted, "smooth": smooth}
    if reduction == "mean":
        spread["divisor"] = sum_of_weights("cross_entropy", weights)
    losses = kernels.cross_entropy(x, targets=t, weights=weights * (1 - label_smoothing) if label_smoothing else weights, **spread)
    return losses if reduction == "mean" else reduce("cross_entropy", losses.reshape(targets.shape), reduction)


@takes_lists("log_p", "weight")
def nll(log_p, targets, *, weight=None, ignore_index=-100, reduction="mean"):
    """-log_p[target] for log-probabilities log_p (..., C); the rest as in `cross_entropy`."""
    targets = check_targets("nll", log_p, targets, weight, ignore_index)
    t, _, weights = weigh(log_p, targets, weight, ignore_index)
    losses = -weights * log_p.reshape(-1, log_p.shape[-1])[np.arange(t.size), t]
    if reduction == "mean":
        return losses.sum() / sum_of_weights("nll", weights)
    return reduce("nll", losses.reshape(targets.shape), reduction)


# --- directions -----------------------------------------------------------------------------------


def direction(x, axis, eps):
    return x / np.sqrt(np.maximum(np.sum(x * x, axis=axis, keepdims=True), eps * eps))


@takes_lists("x")
def normalize(x, axis=-1, eps=1e-12):
    """x / max(|x|, eps) along an axis: directions of length 1; a zero vector stays zero."""
    check_eps("normalize", eps)
    return direction(x, axis, eps)


@takes_lists("a", "b")
def cosine_similarity(a, b, axis=-1, eps=1e-8):
    """The cosine of the angle between a and b along an axis, 0 where one is zero; shapes broadcast."""
    check_eps("cosine_similarity", eps)
    return np.sum(direction(a, axis, eps) * direction(b, axis, eps), axis=axis)
