"""What became of each mutant, line by line in out/mutants/, so that a run can stop and go on and `make figures` need not repeat it.

A file for each family. It is begun anew when a source that holds mutated code has changed since: no number is older than its code.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType

from tests.mutation.equivalent import row_of
from tests.mutation.outcome import Mutant
from tinygrad_notes.registry import Fused, Op

FOLDER = Path(__file__).parents[2] / "out" / "mutants"
KILLED, SURVIVED, WITHOUT_EFFECT = "killed", "survived", "without effect"  # else the outcome is the reason why it is equivalent


def functions_of(item: Op | Fused | FunctionType) -> list:
    """What is mutated of an item."""
    if isinstance(item, Op):
        return [f for f in (*item.rules, item.into) if f is not None]
    return [item.forward, item.backward] if isinstance(item, Fused) else [item]


def digest(mutants: Iterable[Mutant]) -> str:
    """Of all files that hold mutated code, and of which mutants there are."""
    items = {id(item): item for m in mutants for item in (m.item, *m.shared)}.values()
    files = {f.__code__.co_filename for item in items for f in functions_of(item)}
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(Path(file).read_bytes())
    for mutant in mutants:
        found.update(f"{mutant}\n".encode())
    return found.hexdigest()


def keys(mutants: Iterable[Mutant]) -> list[str]:
    """A name for each mutant: its text, numbered where several have the same."""
    seen: Counter = Counter()
    found = []
    for text in map(str, mutants):
        seen[text] += 1
        found.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return found


class Record:
    """The outcomes of one family, as far as they are known."""

    def __init__(self, family: str, mutants: list[Mutant], anew: bool = False, folder: Path = FOLDER):
        self.file = folder / f"{family.replace(' ', '-')}.jsonl"
        self.mutants = dict(zip(keys(mutants), mutants))
        self.head = {"family": family, "sources": digest(mutants)}
        self.outcomes: dict[str, str] = {}
        text = self.file.read_text(encoding="utf-8") if self.file.exists() and not anew else ""
        head, *lines = text.split("\n")[:-1] or [""]  # a last line that was not written to its end is none
        if head and json.loads(head) == self.head:
            self.outcomes = dict(map(json.loads, lines))
        else:
            lines = []
        kept = "".join(f"{line}\n" for line in (json.dumps(self.head), *lines))
        if kept != text:
            folder.mkdir(parents=True, exist_ok=True)
            self.file.write_text(kept, encoding="utf-8")

    def add(self, key: str, outcome: str) -> None:
        self.outcomes[key] = outcome
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([key, outcome]) + "\n")

    def open(self) -> dict[str, Mutant]:
        """The mutants to try: those never tried, and survivors and equivalents, unless their reason still stands in equivalent.py."""

        def settled(key, mutant):
            row = row_of(mutant)
            return self.outcomes.get(key) in (KILLED, WITHOUT_EFFECT, *(row[-1:] if row else ()))

        return {key: mutant for key, mutant in self.mutants.items() if not settled(key, mutant)}

    @property
    def complete(self) -> bool:
        return self.outcomes.keys() == self.mutants.keys()

    def by_mutator(self) -> tuple[Counter, Counter]:
        """killed and total of each mutator; neither what had no effect nor what is equivalent counts."""
        killed: Counter = Counter()
        total: Counter = Counter()
        for key, outcome in self.outcomes.items():
            if outcome in (KILLED, SURVIVED):
                total[self.mutants[key].mutator] += 1
                killed[self.mutants[key].mutator] += outcome == KILLED
        return killed, total

    def with_outcome(self, outcome: str) -> list[str]:
        return [key for key, found in self.outcomes.items() if found == outcome]

    def equivalent(self) -> dict[str, str]:
        return {key: found for key, found in self.outcomes.items() if found not in (KILLED, SURVIVED, WITHOUT_EFFECT)}
