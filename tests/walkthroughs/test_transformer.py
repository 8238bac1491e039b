"""The walkthrough of the Transformer in its quick form: it runs through, says what it measured, and draws its figures."""

import contextlib
import io
import runpy
import sys
from pathlib import Path

import pytest

for extra in ("tqdm", "matplotlib"):
    pytest.importorskip(extra, reason="walkthroughs need the extra: pip install tinygrad_notes[walkthroughs]")
SCRIPT = Path(__file__).parents[2] / "walkthroughs" / "language" / "transformer.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the script leaves behind: its names, what it printed, and its folder."""
    folder, printed = tmp_path_factory.mktemp("out"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", ["transformer", "--quick", "--out", str(folder)])
        names = runpy.run_path(str(SCRIPT), run_name="__main__")
    return names, printed.getvalue(), folder


def test_it_runs_through_and_draws(run):
    names, printed, folder = run
    for word in (
        "days to train on",
        "exactly right",
        "9 beam(s): [2 0]",
        "alpha 0.6: [1 2 3 0]",
        "with positions",
        "common mistakes",
        "cut by the queries' length",
    ):
        assert word in printed
    assert sorted(path.name for path in folder.iterdir()) == ["cross-attention.png", "learning.png"]
    assert not set(names["test_days"].tolist()) & set(names["train_days"].tolist())


def test_words_and_dates_agree(run):
    """The data are right: each notation can be read back, and no two days of the test share their words."""
    names, _, _ = run
    words = names["WORDS"]
    lines = [" ".join(words[i] for i in row if i > 2) for row in names["test_src"]]
    answers = ["".join(words[i] for i in row if i > 2) for row in names["test_tgt"]]
    assert len(set(lines)) == len(lines) == len(set(answers))
    date, spell = names["date"], names["spell"]
    day = date(1994, 3, 3)
    assert " ".join(spell(day, "{weekday} the {day} of {month} {year}")) == "thursday the third of march nineteen ninety four"
    assert " ".join(spell(day, "{D} . {M} . {Y}")) == "3 . 3 . 1 9 9 4"
    years = {
        1700: {"seventeen hundred"},
        1905: {"nineteen oh five"},
        1912: {"nineteen twelve"},
        1980: {"nineteen eighty"},
        2000: {"two thousand"},
    }
    years |= {
        2004: {"two thousand four", "two thousand and four"},
        2021: {"twenty twenty one", "two thousand twenty one", "two thousand and twenty one"},
    }
    for year, expected in years.items():
        assert {" ".join(spell(date(year, 3, 31), "{year}")) for _ in range(60)} == expected
    assert " ".join(spell(date(1600, 12, 31), "{day} {year}")) == "thirty first sixteen hundred"
