"""Try every mutant, print killed / total by mutator and each survivor.

`python -m tests.mutation rules losses` tries these families only, `2/3` the second third of each, which may run beside the others.
What became of a mutant is kept (record.py): a run that was stopped goes on, and one that ended says again what it found, as long as
the mutated sources are the same. `--again` forgets all that.
"""

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import tests.conftest  # noqa: F401  (the profile of Hypothesis: no deadline, the same examples each time)
from tests.mutation import engine, equivalent, rules, suite
from tests.mutation.outcome import Mutant, killed_apart, killed_by, table
from tests.mutation.record import KILLED, SURVIVED, WITHOUT_EFFECT, Record

APART = ("kernels", "kernel sources", "threads")  # families with mutants that write outside of their memory, or wait for ever
FAMILIES = [*engine.FAMILIES, "rules"]


def equivalent_to_the_code(mutant: Mutant) -> str | None:
    """Why a mutant changes nothing, if equivalent.py says so and 1,000 draws agree."""
    row = equivalent.row_of(mutant)
    if row is None:
        return None
    items = engine.kernels_with(mutant.item) if mutant.family == "kernel sources" else [mutant.item]
    samples = (s for item in items for s in islice(equivalent.draws(item), 1 + 1000 // len(items)))
    killed = killed_apart if mutant.family in APART else killed_by
    failed = killed(mutant, lambda: equivalent.compare(row, [mutant], samples))
    return print(f"not equivalent: {mutant}: {failed}") if failed else row[-1]


def outcome(mutant: Mutant, killers: Iterable[Callable[[], None]]) -> str:
    """What becomes of a mutant: KILLED, SURVIVED, WITHOUT_EFFECT, or why it is equivalent."""
    killed = killed_apart if mutant.family in APART else killed_by
    if any(killed(mutant, kill) for kill in killers):
        return KILLED
    if not mutant.applies:  # nothing to change in any case, e.g. no second axis to transpose
        return WITHOUT_EFFECT
    return equivalent_to_the_code(mutant) or SURVIVED


def mutants_of(family: str) -> list[Mutant]:
    return list(rules.all_mutants() if family == "rules" else engine.of_family(family))


def killers_of(family: str) -> Callable[[Mutant], Iterable[Callable[[], None]]]:
    """The checks that must kill a mutant of this family, the likeliest first."""
    if family == "rules":
        return rules.killers
    killers = engine.killers(family)  # they run once without a mutant: with one, whatever fails would be left out
    if family == "kernel sources":
        return lambda m: [*engine.first_killers(m), *engine.kernel_killers(m)]
    return lambda m: [*engine.first_killers(m), *killers]


def broken_items(mutants: Iterable[Mutant]) -> dict[int, Any]:
    """Ops that fail their checks without any mutant: a failure of theirs says nothing."""
    items = {id(item): item for m in mutants for item in (m.item, *m.shared)}
    return {key: item for key, item in items.items() if not rules.passes(item)}


def try_family(record: Record, part: int, parts: int) -> list[str]:
    """Try what is open in this part of a family; the names of ops that are broken."""
    family, mine = record.family, list(record.mutants)[part - 1 :: parts]
    waiting = {key: m for key, m in record.open().items() if key in set(mine)}
    if not waiting:
        return []
    broken: dict[int, Any] = {}
    if family == "rules":
        broken = broken_items(waiting.values())
    killers = killers_of(family)
    for key, mutant in waiting.items():
        if not any(id(item) in broken for item in (mutant.item, *mutant.shared)):
            record.add(key, found := outcome(mutant, killers(mutant)))
            if found == SURVIVED:
                print(f"SURVIVED {key}", flush=True)
    return [item.label for item in broken.values()]


def records(families: Iterable[str] = FAMILIES, anew: bool = False) -> list[Record]:
    return [Record(family, mutants_of(family), anew) for family in families]


def summary(found: list[Record]) -> dict[str, Any]:
    """The numbers of these records, and how many mutants have not been tried since their code was changed."""

    def both(some):
        counts = [r.by_mutator() for r in some]
        return {"killed": sum(k.total() for k, _ in counts), "total": sum(t.total() for _, t in counts)}

    return {
        **both(found),
        "families": {r.family: both([r]) for r in found},
        "equivalent": sum(len(r.equivalent()) for r in found),
        "survivors": [key for r in found for key in r.with_outcome(SURVIVED)],
        "untried": sum(len(r.mutants) - len(r.outcomes) for r in found),
    }


def report(found: list[Record], broken: list[str], seconds: float) -> None:
    killed: Counter = Counter()
    total: Counter = Counter()
    for r in found:
        for counts, of_one in zip((killed, total), r.by_mutator()):
            counts.update({(r.family, mutator): n for mutator, n in of_one.items()})
    print(table(killed, total))
    survivors = [key for r in found for key in r.with_outcome(SURVIVED)]
    without = sum(len(r.with_outcome(WITHOUT_EFFECT)) for r in found)
    print(f"{sum(len(r.equivalent()) for r in found)} equivalent, {without} without effect, {len(survivors)} survived, {seconds:.0f} s")
    for r in found:
        if missing := len(r.mutants) - len(r.outcomes):
            print(f"{r.family}: {missing} not tried yet")
    for line in survivors:
        print(f"survived: {line}")
    for label in broken:
        print(f"fails without any mutant: {label}")
    for test in suite.left_out:
        print(f"left out: {test}")


def main(arguments: list[str]) -> int:
    """0 if every mutant of these families that was tried was killed or is equivalent."""
    begin = time.perf_counter()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests of Ctrl-C need it; a job in the background ignores it
    shares = [a for a in arguments if a.count("/") == 1 and a.replace("/", "").isdigit()] or ["1/1"]
    part, parts = map(int, shares[-1].split("/"))
    families = [a for a in arguments if a not in (*shares, "--again")]
    unknown = set(families) - set(FAMILIES)
    if unknown or not 1 <= part <= parts:
        print(f"mutants: {sorted(unknown) or shares[-1]} came, expected some of {FAMILIES}, a part such as 1/3, --again")
        return 2
    found = records(families or FAMILIES, "--again" in arguments)  # all sources are read before anything runs
    broken = [label for r in found for label in try_family(r, part, parts)]
    report(found, broken, time.perf_counter() - begin)
    return 1 if broken or any(r.with_outcome(SURVIVED) for r in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
