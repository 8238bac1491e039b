"""Recorded runs of the walkthroughs: which there are, which still hold, and making those that are missing.

A record lies in out/book/full/ or out/book/quick/, in a folder for each walkthrough, with all that the run has written. It
holds as long as every file of this project that the run has used still does the same (see record.fingerprint).
"""

import json
import os
import shutil
import subprocess
import sys
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from book.cells import Walkthrough
from book.record import ROOT, fingerprint

RECORDS = ROOT / "out" / "book"


@dataclass(frozen=True)
class Run:
    quick: bool
    record: dict
    printed: dict[int, str]  # part -> text
    pictures: dict[int, list[Path]]  # part -> files
    holds: bool  # False: the code has changed since

    @property
    def made_by(self) -> str:
        """When, of what, and how long: a number without its origin is worth nothing."""
        r = self.record
        seconds = r["processor_seconds"]
        used = f"{seconds / 60:.1f} minutes" if seconds > 90 else f"{seconds:.0f} seconds" if seconds > 9 else f"{seconds:.1f} seconds"
        commit = f"commit {r['commit']}, " if r.get("commit") else ""
        return f"{commit}{r['date']}, Python {r['python']}, NumPy {r['numpy']}, {used} of processor time"


def folder_of(name: str, quick: bool) -> Path:
    return RECORDS / ("quick" if quick else "full") / name


def read_run(walkthrough: Walkthrough, quick: bool) -> Run | None:
    """The recorded run, or None where there is none of this script that ended well."""
    folder = folder_of(walkthrough.name, quick)
    if not (folder / "record.json").exists():
        return None
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    if record["failure"] or "parts" not in record:  # without parts: the one who reads this was stopped
        return None
    return Run(quick, record, *by_part(record, folder), holds(record, walkthrough))


def holds(record: dict, walkthrough: Walkthrough) -> bool:
    """Would a new run do the same? Sentences may have changed, code and data may not."""
    same = all((ROOT / file).exists() and fingerprint(ROOT / file) == known for file, known in record["files"].items())
    return same and len(record["parts"]) == len(walkthrough.parts)


def by_part(record: dict, folder: Path) -> tuple[dict[int, str], dict[int, list[Path]]]:
    """What was printed and drawn, for each part by its number. The record has lines, and where the parts began then."""
    printed: dict[int, str] = {}
    pictures: dict[int, list[Path]] = {}
    for line, text in record["printed"]:
        part = bisect_right(record["parts"], line) - 1
        printed[part] = printed.get(part, "") + text
    for line, name in record["pictures"]:
        pictures.setdefault(bisect_right(record["parts"], line) - 1, []).append(folder / name)
    return {part: text.strip("\n") for part, text in printed.items() if text.strip()}, pictures


def commit() -> str:
    """The short name of the commit, with a + where files differ from it; "" outside of a checkout."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    try:
        head, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return ""
    return "" if head.returncode else head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def make_run(walkthrough: Walkthrough, quick: bool) -> str:
    """Run it in a process of its own, and keep the record. Returns what went wrong, "" if nothing did."""
    folder = folder_of(walkthrough.name, quick)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path, out, began_at = folder / "record.json", folder / "files", commit()
    command = [sys.executable, "-m", "book.record", walkthrough.name, str(path), "--out", str(out), *(["--quick"] if quick else [])]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    if not path.exists():
        return f"it ended without a record; see {folder / 'log.txt'}"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["commit"] = began_at
    record["parts"] = [part.line for part in walkthrough.parts]
    shown = f"out/{walkthrough.name.rpartition('/')[2]}"  # where a reader's own run would write
    record["printed"] = [[line, text.replace(str(out), shown)] for line, text in record["printed"]]
    record["pictures"] = [[line, os.path.relpath(p, folder)] for line, p in record["pictures"] if Path(p).is_relative_to(out)]
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(record, indent=1), encoding="utf-8")
    whole.replace(path)
    kept = {folder / name for _, name in record["pictures"]}
    for file in [p for p in out.rglob("*") if p.is_file() and p not in kept]:
        file.unlink()  # weights and checkpoints
    return record["failure"]


def make_runs(walkthroughs: list[Walkthrough], quick: bool, jobs: int) -> dict[str, str]:
    """Run those that have no record that holds. Returns {name: what went wrong}."""
    missing = [w for w in walkthroughs if not ((run := read_run(w, quick)) and run.holds)]
    print(f"{len(walkthroughs) - len(missing)} of {len(walkthroughs)} walkthroughs have a recorded run of this code", flush=True)

    def make(walkthrough):
        print(f"running {walkthrough.name}{' --quick' if quick else ''}   ({walkthrough.time})", flush=True)
        failure = make_run(walkthrough, quick)
        if failure:
            print(f"failed: {walkthrough.name}: {failure.splitlines()[-1]}", flush=True)
        return walkthrough.name, failure

    with ThreadPoolExecutor(jobs) as pool:
        return {name: failure for name, failure in pool.map(make, missing) if failure}
