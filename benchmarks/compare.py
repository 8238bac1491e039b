"""Whether two engines computed the same, before one is timed against the other.

All compute in float32, whose numbers are rounded to 6e-8 of themselves; sums of some thousand such
terms in another order differ by some 1e-6 of the norm of the sum. Tolerances, each some ten to
hundred times that, and far below any mistake in a formula:

    loss, logits     1e-5 and 1e-4 of the largest
    gradient         1e-4 of its norm, which counts at least 1e-3 of the norm of all gradients: one
                     that is zero but for rounding (a bias before a norm) says nothing
    movement         what three steps of AdamW changed in all weights together: 5 % of its norm. A first
                     step is lr * sign(g), so a g that is rounding only moves its weight by chance
    ids              the first sixteen tokens written are equal
"""

import math

import numpy as np

LOSS, LOGITS, GRADIENT, FLOOR, MOVEMENT, TOKENS = 1e-5, 1e-4, 1e-4, 1e-3, 0.05, 16


def norm(x) -> float:
    return math.sqrt(np.vdot(x, x))


def differences(reference: dict, other: dict, initial: dict) -> list[str]:
    """What differs by more than is tolerated, in words, most telling first; [] if nothing.

    Names are "output ..." and "weight ...", as a worker's check writes them; initial: the workload's arrays, as
    `run.write` names them.
    """
    if reference.keys() != other.keys():
        return [f"it gives {sorted(reference.keys() ^ other.keys())} and the reference does not, or the other way round"]
    wrong = [f"{name} is {x.dtype} {x.shape}" for name, x in other.items() if not fits(x, reference[name])]
    if wrong:
        return wrong
    outputs = {name.removeprefix("output "): name for name in reference if name.startswith("output ")}
    gradients = [name for name in outputs if name not in ("loss", "logits", "ids")]
    floor = FLOOR * math.sqrt(sum(norm(reference[outputs[name]]) ** 2 for name in gradients))
    for name, key in outputs.items():
        a, b = reference[key], other[key]
        if name == "ids":
            n = initial["batch ids"].shape[1] + TOKENS
            if not np.array_equal(a[:, :n], b[:, :n]):
                wrong.append("it writes other tokens")
        elif name in gradients:
            error = norm(a - b) / max(norm(a), floor)
            if not error <= GRADIENT:
                wrong.append(f"the gradient of {name} differs by {error:.1e} of its norm, more than {GRADIENT:.0e}")
        else:
            error, limit = abs(a - b).max() / abs(a).max(), LOSS if name == "loss" else LOGITS
            if not error <= limit:
                wrong.append(f"{name} differs by {error:.1e}, more than {limit:.0e}")
    weights = [name for name in reference if name.startswith("weight ")]
    if weights:
        moved = math.sqrt(sum(norm(reference[name] - initial[name]) ** 2 for name in weights))
        apart = math.sqrt(sum(norm(reference[name] - other[name]) ** 2 for name in weights))
        if not apart <= MOVEMENT * moved:
            wrong.append(f"after three steps the weights are {apart / moved:.1e} of their movement apart, more than {MOVEMENT}")
    return wrong


def fits(x, reference) -> bool:
    """Same shape, and float32 where the reference is; a loss may be a Python number of any width."""
    return x.shape == reference.shape and (x.ndim == 0 or x.dtype.kind != "f" or x.dtype == reference.dtype)
