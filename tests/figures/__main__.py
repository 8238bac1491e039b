"""python -m tests.figures [--without-mutants]: write docs/verification.md anew (some minutes; more if `make mutants` never ran)."""

import sys

from tests.figures.counts import ROOT
from tests.figures.page import page

if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - {"--without-mutants"}
    if unknown:
        sys.exit(f"figures: {sorted(unknown)} came, expected nothing or --without-mutants")
    (ROOT / "docs" / "verification.md").write_text(page("--without-mutants" not in sys.argv), encoding="utf-8")
    print("wrote docs/verification.md")
