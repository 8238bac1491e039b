"""The memory of this process: how much is in use, and the peak."""

import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def start() -> int:
    """Bytes in use now. On Linux the peak is set back to this."""
    if not STATUS.exists():
        return peak()
    CLEAR.write_text("5")  # see proc(5)
    return field("VmRSS")


def peak() -> int:
    """The most bytes that were in use since `start`; elsewhere than on Linux since the process began."""
    if STATUS.exists():
        return field("VmHWM")
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def children() -> int:
    """Bytes that the processes which this one has started hold for themselves (Linux). They give nothing back, so this is their peak too."""
    ids = [number for task in Path("/proc/self/task").glob("*/children") for number in task.read_text().split()]
    lines = [line for number in ids for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def field(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024
