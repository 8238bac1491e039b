"""python -m tests.figures [--without-mutants] [--without-suite]: write docs/verification.md anew (some minutes; more if `make mutants` never ran).

--without-mutants: try none; those of an earlier run are quoted if it was complete and on this code.
--without-suite: do not run the whole suite to see how long it takes.
"""

import sys

from tests.figures.counts import ROOT
from tests.figures.page import page

OPTIONS = {"--without-mutants", "--without-suite"}

if __name__ == "__main__":
    given = set(sys.argv[1:])
    if given - OPTIONS:
        sys.exit(f"figures: {sorted(given - OPTIONS)} came, expected nothing or some of {sorted(OPTIONS)}")
    text = page("--without-mutants" not in given, "--without-suite" not in given)
    (ROOT / "docs" / "verification.md").write_text(text, encoding="utf-8")
    print("wrote docs/verification.md")
