"""What became of each mutant, line by line in out/mutants/, so that a run can stop and go on and `make figures` need not repeat it.

A file for each family. With each outcome stands the digest of the source that was mutated: it counts as long as that source is
as it was, so that no number is older than its code.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
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


@cache
def digest_of(files: tuple[str, ...]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(Path(file).read_bytes())
    return found.hexdigest()


def digest(mutant: Mutant) -> str:
    """Of the files that hold the mutated code."""
    files = {f.__code__.co_filename for item in (mutant.item, *mutant.shared) for f in functions_of(item)}
    return digest_of(tuple(sorted(files)))


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
        self.family, self.file = family, folder / f"{family.replace(' ', '-')}.jsonl"
        self.mutants = dict(zip(keys(mutants), mutants))
        self.outcomes: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if anew or not self.file.exists():
            self.file.write_text("", encoding="utf-8")
        for line in self.file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # a line that was not written to its end
                key, outcome, source = json.loads(line)
                if key in self.mutants and source == digest(self.mutants[key]):
                    self.outcomes[key] = outcome

    def add(self, key: str, outcome: str) -> None:
        self.outcomes[key] = outcome
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps([key, outcome, digest(self.mutants[key])]))

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
