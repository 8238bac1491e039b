"""`make tables`: write docs/ops.md and docs/limits.md anew."""

from pathlib import Path

from tests.tables import limits, ops

DOCS = Path(__file__).parents[2] / "docs"

if __name__ == "__main__":
    for name, module in (("ops.md", ops), ("limits.md", limits)):
        (DOCS / name).write_text(module.page(), encoding="utf-8")
        print(f"wrote docs/{name}")
