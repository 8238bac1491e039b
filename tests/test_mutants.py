"""The suite notices wrong code: a sample of the mutants that `make mutants` tries in full, and the machinery itself."""

import zlib

from tests.mutation import engine, equivalent, record, rules, run, source
from tests.mutation.outcome import Mutant, killed_by
from tinygrad_notes import Tensor, core, gradients
from tinygrad_notes.registry import Op, registry

import numpy as np
import pytest
from hypothesis import settings

NOTHING = "nothing"
DRAWS = 20 if settings().max_examples <= 100 else 1000  # 1,000 at night, and in `make mutants`


def by_name(name):
    return next(item for item in registry if isinstance(item, Op) and item.label == name)


def thirds(mutant: Mutant) -> bool:
    """Whether a mutant is in the sample: each mutator on a third of the rules, another third for each mutator."""
    place = zlib.crc32(f"{mutant.label} {mutant.where}".encode()) + zlib.crc32(mutant.mutator.encode())
    return place % 3 == 0


# --- the machinery --------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [i for i in registry if isinstance(i, Op)][::15], ids=lambda item: item.label)
def test_a_harmless_mutant_survives(item):
    """The wrappers change nothing by themselves, nor does a rule that is made anew from its own source."""
    for i, rule in enumerate(item.rules):
        if rule is not None:
            member = 0 if item.joint else None
            for new in (rules.after(rule, lambda d, arrays: d, member, set()), rules.before(rule, lambda g: g, set())):
                for reads in (None, rules.everything(item)):
                    harmless = Mutant(NOTHING, item, "", "", rules.replacing(item, i, new, reads))
                    assert killed_by(harmless, lambda: rules.check_op(item)) is None
            new = source.remade(rule, source.tree_of(rule))
            harmless = Mutant(NOTHING, item, "", "", rules.replacing(item, i, new, rules.reads_after(item, i, new)))
            assert killed_by(harmless, lambda: rules.check_op(item)) is None


def test_a_planted_wrong_rule_is_killed_and_put_right_again():
    item = by_name("np.multiply")
    right = item.rules
    wrong = Mutant("planted", item, "", "", rules.replacing(item, 0, lambda g, y, a, b: g * a, rules.everything(item)))
    assert "GradientError" in killed_by(wrong, lambda: rules.check_op(item))
    assert item.rules is right
    rules.check_op(item)


def test_a_mutant_that_only_forgets_what_it_reads_is_killed():
    item = by_name("np.exp")
    forgets = Mutant("planted", item, "", "", rules.replacing(item, 0, item.rules[0], [set()]))
    assert killed_by(forgets, lambda: rules.check_op(item))


def test_an_edit_must_be_found_once():
    with pytest.raises(LookupError, match="stands in it 0 times"):
        source.edited(core.unbroadcast, "not there", "")


def test_an_edit_reaches_every_importer_and_ends():
    code = source.edited(core.unbroadcast, "np.sum(", "np.mean(")
    x = Tensor(np.ones((1, 3)))
    with source.replaced(core.unbroadcast, code):
        assert gradients(np.sum(x + np.ones((4, 3))), x)[0, 0] == 1
    assert gradients(np.sum(x + np.ones((4, 3))), x)[0, 0] == 4


def test_small_changes_of_a_source():
    found = {(mutator, what.split(": ", 1)[1]) for mutator, what, _ in source.mutants_of(thirds)}
    assert ("another number", "place % 3 == 0 -> place % 4 == 0") in found
    assert ("another comparison", "place % 3 == 0 -> place % 3 != 0") in found


# --- the mutants ------------------------------------------------------------------------------------


OWN_TESTS = ("scipy.special.dawsn",)  # only the tests of its file reach its branch for large x: in `make mutants`
WRAPPED = [m for item in registry for m in rules.of_item(item, sources=False) if thirds(m) and m.label not in OWN_TESTS]


@pytest.mark.parametrize("mutator", sorted({mutant.mutator for mutant in WRAPPED}))
def test_wrong_rules_are_killed(mutator):
    mutants = [mutant for mutant in WRAPPED if mutant.mutator == mutator and not equivalent.row_of(mutant)]
    survivors = [m for m in mutants if not any(killed_by(m, kill) for kill in rules.killers(m))]
    assert not [str(mutant) for mutant in survivors if mutant.applies]


ENDLESS = "nodes seen again"  # killed by the clock alone: only in `make mutants`


@pytest.mark.parametrize("family", ["engine", "ops", "transforms", "kernels", "optim"])
def test_wrong_engines_are_killed(family):
    killers = engine.killers(family, quick=True)
    mutants = [m for m in engine.of_family(family) if m.mutator != ENDLESS and (family != "kernels" or thirds(m))]
    assert not [str(m) for m in mutants if not any(killed_by(m, kill) for kill in [*engine.first_killers(m), *killers])]


def test_the_tests_of_the_kernels_kill_where_the_checks_of_the_registry_do_not():
    """Their first run must be one without a mutant: a test that fails then is left out, and kills nothing."""
    mutant = next(m for m in engine.of_family("kernel sources") if (m.label, m.mutator) == ("Mask.hides", "one branch always"))
    assert killed_by(mutant, engine.first_killers(mutant)[0]) is None
    assert run.outcome(mutant, run.killers_of("kernel sources")(mutant)) == record.KILLED


# --- equivalent mutants --------------------------------------------------------------------------------


def test_every_row_of_the_kernels_means_a_mutant():
    mutants = list(engine.of_family("kernel sources"))
    meant = {equivalent.kernel_row(mutant) for mutant in mutants}
    assert not [row for row in equivalent.KERNELS if row not in meant], "the code has changed; take the row out"


@pytest.mark.parametrize("row", equivalent.EQUIVALENT, ids=lambda row: f"{row[0]}, {row[1]}: {row[2]}")
def test_an_equivalent_mutant_gives_the_same_gradients(row):
    items = [item for item in registry if item.label == row[0]]
    equivalent.check(row, [m for item in items for m in rules.of_item(item) if equivalent.means(row, m)], DRAWS)


# --- the record of a run ---------------------------------------------------------------------------------


def some_mutants():
    return list(engine.of_family("losses"))[:3]


def test_a_run_that_was_stopped_goes_on(tmp_path):
    first = record.Record("losses", some_mutants(), folder=tmp_path)
    a, b, c = first.mutants
    first.add(a, record.KILLED)
    first.add(b, record.SURVIVED)
    with first.file.open("a", encoding="utf-8") as stream:
        stream.write('\n["torn')
    second = record.Record("losses", some_mutants(), folder=tmp_path)
    assert second.outcomes == {a: record.KILLED, b: record.SURVIVED}
    assert list(second.open()) == [b, c], "a survivor is tried again: a test may have been added"
    second.add(b, record.KILLED)
    second.add(c, record.KILLED)
    third = record.Record("losses", some_mutants(), folder=tmp_path)
    assert run.summary([third])["families"] == {"losses": {"killed": 3, "total": 3}}
    assert not record.Record("losses", some_mutants(), anew=True, folder=tmp_path).outcomes


def test_outcomes_of_other_code_are_none(tmp_path, monkeypatch):
    before = record.Record("losses", some_mutants(), folder=tmp_path)
    for key in before.mutants:
        before.add(key, record.KILLED)
    assert before.complete
    monkeypatch.setattr(record, "digest", lambda mutant: "what it is after an edit")
    after = record.Record("losses", some_mutants(), folder=tmp_path)
    assert not after.outcomes
    assert run.summary([after])["untried"] == len(after.mutants) - len(after.outcomes) > 0


def test_a_digest_is_that_of_the_mutated_files(tmp_path):
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    a.write_text("x")
    b.write_text("y")
    both = record.digest_of.__wrapped__((str(a), str(b)))
    b.write_text("z")
    assert both != record.digest_of.__wrapped__((str(a), str(b)))
    for mutant in some_mutants():
        assert record.digest(mutant) == record.digest_of((mutant.item.__code__.co_filename,))


@pytest.mark.parametrize("family", engine.FAMILIES)
def test_every_mutant_can_be_made_and_has_a_name(family):
    """The edits fit the code as it stands, also those that only `make mutants` tries."""
    mutants = run.mutants_of(family)
    assert len(record.keys(mutants)) == len(set(record.keys(mutants))) == len(mutants) > 0
