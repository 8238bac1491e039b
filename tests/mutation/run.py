"""Try every mutant, print killed / total by mutator and each survivor, and write out/mutants.json."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.mutation import engine, equivalent, rules, suite
from tests.mutation.outcome import Mutant, killed_by, table
from tinygrad_notes.registry import registry

OUT = Path(__file__).parents[2] / "out" / "mutants.json"


class Tally:
    """What became of the mutants."""

    def __init__(self):
        self.total: Counter = Counter()
        self.killed: Counter = Counter()
        self.equivalent: list[tuple[Mutant, str]] = []
        self.survivors: list[Mutant] = []
        self.broken: list[str] = []  # ops that fail their checks without any mutant
        self.without_effect = 0  # nothing to change in any case, e.g. no second axis to transpose

    def take(self, mutants: Iterable[Mutant], killers: Callable[[Mutant], Iterable[Callable[[], None]]]) -> None:
        for mutant in mutants:
            if any(killed_by(mutant, kill) for kill in killers(mutant)):
                self.killed[mutant.family, mutant.mutator] += 1
            elif not mutant.applies:
                self.without_effect += 1
                continue
            elif why := equivalent.reason(mutant):
                self.equivalent.append((mutant, why))
                continue
            else:
                self.survivors.append(mutant)
                print(f"SURVIVED {mutant}", flush=True)
            self.total[mutant.family, mutant.mutator] += 1

    def as_json(self) -> dict[str, Any]:
        families = sorted({family for family, _ in self.total})

        def both(keys):
            keys = list(keys)
            return {"killed": sum(self.killed[k] for k in keys), "total": sum(self.total[k] for k in keys)}

        return {
            **both(self.total),
            "families": {family: both(k for k in self.total if k[0] == family) for family in families},
            "mutators": {f"{family}: {mutator}": both([(family, mutator)]) for family, mutator in sorted(self.total)},
            "equivalent": {str(m): why for m, why in self.equivalent},
            "survivors": [str(m) for m in self.survivors],
            "without effect": self.without_effect,
        }


def main(families: list[str]) -> int:
    """Run these families ("rules" and those of engine.FAMILIES; all by default). 0 if every mutant was killed or is equivalent."""
    begin, tally = time.perf_counter(), Tally()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests of Ctrl-C need it; a job in the background ignores it
    unknown = set(families) - {"rules", *engine.FAMILIES}
    if unknown:
        print(f"mutants: {sorted(unknown)} came, expected some of {['rules', *engine.FAMILIES]}")
        return 2
    mutants = list(rules.all_mutants())  # all sources are read before anything runs
    for family in engine.FAMILIES:
        if not families or family in families:
            killers = engine.killers(family)
            tally.take(list(engine.of_family(family)), lambda mutant, killers=killers: [*engine.first_killers(mutant), *killers])
    if not families or "rules" in families:
        for row in equivalent.EQUIVALENT:
            equivalent.check(row, [m for m in mutants if equivalent.means(row, m)], 1000)
        broken = {id(item): item for item in registry if not rules.passes(item)}
        tally.broken += [item.label for item in broken.values()]
        tally.take([m for m in mutants if not any(id(item) in broken for item in (m.item, *m.shared))], rules.killers)
    print(table(tally.killed, tally.total))
    print(f"{len(tally.equivalent)} equivalent, {tally.without_effect} without effect, {len(tally.survivors)} survived")
    print(f"{time.perf_counter() - begin:.0f} s")
    for label in tally.broken:
        print(f"fails without any mutant: {label}")
    for test in suite.left_out:
        print(f"left out: {test}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(tally.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if tally.survivors or tally.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
