"""docs/performance.md as text, from measured numbers (a dict that has been through JSON)."""

from typing import Any

from benchmarks import compare, scaling
from benchmarks.engines import BASELINE, ENGINES, REFERENCE
from benchmarks.workloads import TAPE_OPERATIONS, TAPE_TARGET, WORKLOADS, Workload

PAGE = """# Performance

Written by `make bench` (`python -m benchmarks`); edit benchmarks/, not this page. Every number was measured by that command, on the machine
that is named below. Only the ratios carry over to another one, and those within 10 % on a quiet machine.

{machine}

## Time of a step, divided by PyTorch's

Forward, backward and AdamW in float32; attention forward and backward only; decoding the whole text. **Below 1 is faster than PyTorch eager.**
Each number is the median of the rounds' ratios, with the quartiles below it. In a round every engine takes its turn while all others
stand still, in an order that changes; each is a process of its own, and all get the same weights and batches. `~` marks a step too
slow to be repeated.

{times}

{notes}

{missed}

{parts}

{tape}

{decoding}

## Memory

MB that two steps (one, where nothing is trained) add at their peak to a fresh process that holds the weights and the batch: activations,
gradients, the engine's own copy of the weights, AdamW's two moments. For attention that is the output, the three gradients, and what they need.
JAX's numbers contain what its compiler takes, those of replay a step in which every array is kept until it is known when it is needed. Up to 512 tokens our attention keeps its weights for the backward pass, 8 MB at most in a call;
beyond, memory grows with T.

{memory}

## Scaling

![Time and memory against size](performance.png)

Both axes are logarithmic. The exponents are fitted to the larger half of the sizes (least squares in the logarithms).

{exponents}

## Kernels

Microseconds of forward and backward: each kernel, its twin in plain NumPy (what `with tn.reference()` runs), and PyTorch where it has the same,
all in one process, in turn (`python -m benchmarks.kernels`). For AdamW, a step of one million parameters.

{kernels}

## What was compared

Before an engine is timed its losses and gradients, and the weights after three steps, are compared with those of tinygrad_notes. One that
differs is not timed, and the table says so. Tolerances: loss {loss:.0e}; each gradient {gradient:.0e} of its norm; logits {logits:.0e} of the
largest; the weights' movement {movement:.0%}; the first {tokens} tokens written are equal (why these: benchmarks/compare.py).

- **tinygrad_notes**: models/language/gpt.py for the GPTs, tinygrad_notes.nn for the others, with no setting made for the benchmark.
- **replay**: the same with tinygrad_notes.replay.replay: from the third step on, only the calls of NumPy that the second one made. Without its
  own comparisons, of which a training has most in its first steps.
- **data_parallel**: the same with tinygrad_notes.parallel.data_parallel: each half of the batch on a thread of its own, or, with
  `processes=True`, in a process of its own, or, with `replay=True` too, in a process that repeats its calls, again without comparisons.
- **PyTorch eager**: torch.nn, scaled_dot_product_attention, torch.optim.AdamW, all by default.
- **PyTorch, best**: AdamW with `fused=True`, and on CPUs of AMD an MKL that was told the CPU is Intel's, so that it uses AVX-512 (benchmarks/mkl.py).
  `torch.compile` is left out: {compiled}
- **NumPy by hand**: forward and backward written out (benchmarks/by_hand/): the floor for what is built on NumPy.
- **JAX jit**: the whole step compiled by XLA, not counting the compilation.
- **HIPS autograd, MyGrad**: the plain NumPy programs of benchmarks/plain.py, with a hand-written AdamW.

{tried}
"""
WHERE = """**Where the time goes.** A step of this engine alone on the machine (`python -m benchmarks.parts`), each part divided by PyTorch's whole
step. "Functions of NumPy" are ops and their rules, "engine" is all that is left: Tensors, nodes, the walk, layers, the checks of arguments.
The small workloads (W1, W2, W5) pay for Python: a call of NumPy on a small array takes as long as on an empty one, so that NumPy by hand is at
the target or not much below it, and the engine's own work (the tape, below) comes on top. `replay` takes that away. W3 and W6 pay for one pass over
memory after another, with the interpreter between them, where PyTorch has fused loops on both cores: compare the kernels below. Two processes have
both cores for that, too: see the columns of data_parallel."""
MODES = ("ours-replay", "ours-threads", "ours-processes", "ours-both")  # one line in a training loop turns each of them on
OURS = (REFERENCE, *MODES)
COMPILED = "on a GPT's MLP it took half a minute to compile and then ran no faster than eager (its matrix products are MKL's too), so it would not be the best column."


def page(results: dict[str, Any], tried: str) -> str:
    rows = [(w, results["workloads"][w.key]) for w in WORKLOADS if w.key in results["workloads"]]
    return PAGE.format(
        machine=machine(results),
        times=times(rows),
        notes=notes(rows),
        missed=missed(rows),
        parts=parts(rows, results.get("parts", {})),
        tape=tape(rows),
        decoding=decoding(rows),
        memory=memory(rows),
        exponents=growth(results.get("scaling")),
        kernels=kernels(results.get("kernels")),
        loss=compare.LOSS,
        gradient=compare.GRADIENT,
        logits=compare.LOGITS,
        movement=compare.MOVEMENT,
        tokens=compare.TOKENS,
        compiled=COMPILED,
        tried=tried.strip(),
    )


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def columns(rows) -> list[str]:
    present = {key for _, row in rows for key in row["cells"]}
    return [key for key in ENGINES if key in present]


def machine(results: dict[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in results["machine"].items()]
    about = [
        f"{ENGINES[key].title}: " + "; ".join(f"{name} {value}" for name, value in found.items())
        for key, found in results["engines"].items()
    ]
    return "\n".join(f"- {line}" for line in lines + about)


# --- the table of times ------------------------------------------------------------------------------


def ratio(cell: dict[str, Any] | None, quartiles: str = "<br>") -> str:
    """The median and the quartiles, or a dash."""
    if not cell or not cell.get("ratio"):
        return milliseconds(cell)  # there is no PyTorch to compare with
    low, median, high = cell["ratio"]
    if cell["rounds"] == 0:
        return f"~{median:.2g}"
    return f"{median:.2f}" + (f"{quartiles}{low:.2f}–{high:.2f}" if quartiles else "")


def milliseconds(cell: dict[str, Any] | None) -> str:
    if not cell or "seconds" not in cell:
        return "–"
    ms = cell["seconds"] * 1e3
    return f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1e3:.3g} s"


def aim(x: float | None) -> str:
    return "–" if x is None else f"{x:.2f}"


def times(rows) -> str:
    keys = [key for key in columns(rows) if key != BASELINE]
    head = ["", "workload", "PyTorch eager", *(ENGINES[key].title for key in keys), "target", "stretch"]
    body = []
    for w, row in rows:
        cells = row["cells"]
        shown = [ratio(cells.get(key)) for key in keys]
        for i, key in enumerate(keys):
            if key in OURS and meets(w, cells, key):
                shown[i] = f"**{shown[i]}**"
        body.append([w.key, w.title, milliseconds(cells.get(BASELINE)), *shown, aim(w.target), aim(w.stretch)])
    return markdown(head, body) + "\n\nBold: the target is reached."


def meets(w: Workload, cells: dict[str, Any], *keys: str) -> bool:
    """Whether one of these engines reaches the target."""
    found = [cells.get(key, {}).get("ratio") for key in keys]
    return any(bool(w.target and ratio and ratio[1] <= w.target) for ratio in found)


def notes(rows) -> str:
    """Why a dash stands where it stands, each reason once."""
    reasons: dict[str, list[str]] = {}
    for w, row in rows:
        for key, cell in row["cells"].items():
            if "why" in cell:
                reasons.setdefault(f"{ENGINES[key].title}: {cell['why']}", []).append(w.key)
    return "\n".join(f"- Not timed, {', '.join(keys)}: {reason}." for reason, keys in reasons.items()) or "All were timed."


def missed(rows) -> str:
    """Each target that is missed: by how much, and how far the floor is from it."""
    lines = []
    for w, row in rows:
        found = row["cells"].get(REFERENCE, {}).get("ratio")
        if w.target is None or not found or meets(w, row["cells"], *OURS):
            continue
        modes = {ENGINES[key].title: row["cells"].get(key, {}).get("ratio") for key in MODES}
        floor = row["cells"].get("numpy", {}).get("ratio")
        line = f"- {w.key}: {found[1]:.2f} for a target of {w.target:.2f}, {found[1] / w.target - 1:.0%} above it"
        better = [f"{ratio[1]:.2f} with {title}" for title, ratio in modes.items() if ratio and ratio[1] < found[1]]
        if better:
            line += f" ({'; '.join(better)})"
        if floor:
            apart = found[1] / floor[1] - 1
            line += f"; NumPy by hand needs {floor[1]:.2f}, the engine {abs(apart):.0%} {'more' if apart > 0 else 'less'}"
        lines.append(line + ".")
    if not any(row["cells"].get(REFERENCE, {}).get("ratio") for _, row in rows):
        return "There is no PyTorch here to compare with, so no target is reached or missed."
    return "Targets missed:\n\n" + "\n".join(lines) if lines else "All targets are reached."


def parts(rows, found: dict[str, dict[str, float]]) -> str:
    """Where our step's time goes, each part divided by PyTorch's whole step; so that one sees what a target would need."""
    body, names = [], list(next(iter(found.values()), {}))
    for w, row in rows:
        theirs = row["cells"].get(BASELINE, {}).get("seconds")
        if w.key in found and theirs:
            shares = [found[w.key][part] / (theirs * 1e3) for part in names]
            body.append([w.key, *(f"{x:.2f}" for x in shares), f"{sum(shares):.2f}", aim(w.target)])
    if not body:
        return "Where the time goes was not measured."
    return f"{WHERE}\n\n{markdown(['', *names, 'together', 'target'], body)}"


def tape(rows) -> str:
    n = lambda w: TAPE_OPERATIONS * w.sizes["repeats"]
    shown = each(rows, "tape", lambda w, seconds: f"{seconds / n(w) * 1e6:.2f}")
    return f"**The tape.** Microseconds for an operation on 32 floats, forward and backward (target {TAPE_TARGET}): {shown}."


def decoding(rows) -> str:
    shown = each(rows, "decode", lambda w, seconds: f"{w.sizes['new'] / seconds:.1f}")
    return f"**Decoding.** Tokens a second, the prompt included (target: 0.9 of PyTorch's): {shown}."


def each(rows, key: str, number) -> str:
    """number(workload, seconds of a step) of every engine that was timed on the workload of this key."""
    w, row = next(((w, row) for w, row in rows if w.key == key), (None, {"cells": {}}))
    timed = {name: cell["seconds"] for name, cell in row["cells"].items() if "seconds" in cell}
    return ", ".join(f"{ENGINES[name].title} {number(w, timed[name])}" for name in ENGINES if name in timed) or "not measured"


# --- the other sections -------------------------------------------------------------------------------


def memory(rows) -> str:
    keys = [key for key in columns(rows) if any(isinstance(row.get("memory", {}).get(key), int) for _, row in rows)]
    body = []
    for w, row in rows:
        found = row.get("memory", {})
        body.append([w.key, *(f"{found[key] / 1e6:.3g}" if isinstance(found.get(key), int) else "–" for key in keys)])
    return markdown(["", *(ENGINES[key].title for key in keys)], body)


def growth(found: dict[str, scaling.Points] | None) -> str:
    if not found:
        return "Not measured."
    keys = [key for key in ENGINES if any(key in series for series in found.values())]
    body = [
        [what, *(f"{scaling.exponent(series[key]):.2f}" if len(series.get(key, {})) > 1 else "–" for key in keys)]
        for what, series in found.items()
    ]
    return markdown(["exponent", *(ENGINES[key].title for key in keys)], body)


def kernels(found: list[dict[str, Any]] | None) -> str:
    if not found:
        return "Not measured."
    body = []
    for row in found:
        us = {name: row.get(name) for name in ("kernel", "twin", "torch")}
        shown = [f"{x:,.0f}" if x else "–" for x in us.values()]
        against = [f"{us['kernel'] / us[name]:.2f}" if us[name] else "–" for name in ("twin", "torch")]
        body.append([f"{row['name']} {row['shape']}", *shown, *against])
    return markdown(["kernel", "fast", "twin", "PyTorch", "fast / twin", "fast / PyTorch"], body)


def console(rows) -> str:
    """The table of times for a terminal."""
    keys = [key for key in columns(rows) if key != BASELINE]
    head = ["", "torch", *keys, "target"]
    body = [
        [w.key, milliseconds(row["cells"].get(BASELINE)), *(ratio(row["cells"].get(key), " ") for key in keys), aim(w.target)]
        for w, row in rows
    ]
    sizes = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join("  ".join(x.rjust(n) if i else x.ljust(n) for i, (x, n) in enumerate(zip(line, sizes))) for line in [head, *body])
