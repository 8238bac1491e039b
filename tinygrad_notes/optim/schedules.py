"""Learning rates as functions of the step: step 0 is the first. `opt.step(grads, lr=cosine(step, peak=3e-4, steps=1000))`."""

import math


def constant(step: int, *, peak: float) -> float:
    """The same learning rate at every step."""
    return peak


def linear_warmup(step: int, *, peak: float, warmup: int) -> float:
    """Up from peak / warmup at step 0 to the peak at step warmup - 1, then constant."""
    return peak * min(1.0, (step + 1) / max(1, warmup))


def linear(step: int, *, peak: float, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Warm-up, then in a straight line from the peak at step `warmup` to the floor at step `steps`, and constant after it."""
    if step < warmup:
        return linear_warmup(step, peak=peak, warmup=warmup)
    return floor + (peak - floor) * (1 - _progress(step, warmup, steps))


def cosine(step: int, *, peak: float, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Warm-up, then half a cosine from the peak at step `warmup` to the floor at step `steps`, and constant after it.

    Loshchilov and Hutter 2017 (SGDR, equation 5), one period.
    """
    if step < warmup:
        return linear_warmup(step, peak=peak, warmup=warmup)
    return _half_cosine(peak, floor, _progress(step, warmup, steps))


def inverse_square_root(step: int, *, peak: float, warmup: int) -> float:
    """Warm-up to the peak at step warmup - 1, then falling as 1 / sqrt(step).

    Vaswani et al. 2017, equation 3 ("Noam"), is this with peak = (width * warmup) ** -0.5.
    """
    t = step + 1
    return peak * min(t / max(1, warmup), math.sqrt(max(1, warmup) / t))


def one_cycle(step: int, *, peak: float, steps: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000) -> float:
    """Half a cosine up from start * peak to the peak during the share `rise` of the steps, then one down to end * peak.

    Smith and Topin 2018, with cosines; the same numbers as PyTorch's OneCycleLR. The last step is steps - 1.
    """
    top = rise * steps - 1
    if step <= top:
        return _half_cosine(start * peak, peak, step / top)
    return _half_cosine(peak, end * peak, _progress(step, top, steps - 1))


def _progress(step: float, first: float, last: float) -> float:
    """How far step has come from first to last: 0 to 1."""
    return min(1.0, (step - first) / (last - first)) if last > first else 1.0


def _half_cosine(a: float, b: float, progress: float) -> float:
    """From a at progress 0 to b at progress 1."""
    return b + (a - b) * (1 + math.cos(math.pi * progress)) / 2
