"""The three settings of the platform that were measured to matter, and a report of what is in use.

Allocator (glibc on Linux). A step of training allocates and frees the same large arrays again
and again. By default glibc returns such arrays to the system and asks for them anew, and each
new page costs a page fault. `mallopt` (mallopt(3)) tells it to keep them:

    M_MMAP_THRESHOLD  arrays below 1 GiB come from the heap, not from mappings of their own
    M_TRIM_THRESHOLD  free memory at the top of the heap is kept, up to 2 GiB
    M_TOP_PAD         the heap grows by 256 MiB more than asked: address space, not memory,
                      because a page becomes resident only when it is first touched
    M_ARENA_MAX       all threads share this one heap

The price: the process keeps the memory of its peak until it ends. A small machine pays nothing
more than that; where address space is limited (ulimit -v) and the heap cannot grow, glibc
falls back on mappings. TINYGRAD_NOTES_MALLOC=0 turns this off.

BLAS (AMD with AVX-512 on Linux). OpenBLAS chooses its kernels by the CPU's family, and a family
newer than the library may get kernels for AVX2. OPENBLAS_CORETYPE=SkylakeX names the AVX-512
kernels. OpenBLAS reads it once, when NumPy loads, so it is set only if NumPy was not imported
before; a value that is there already is never changed. Intel's CPUs are left alone: OpenBLAS
knows them, some with newer kernels than these. TINYGRAD_NOTES_BLAS=0 turns this off.

BLAS threads (OpenBLAS on Linux). After a product its threads wait for the next one awake, for some 20 ms, and keep the cores
from others; whoever has threads of his own, as threads.py does, meets them there. OPENBLAS_THREAD_TIMEOUT=20 lets them
sleep after 2^20 ticks of the processor's clock, about 0.3 ms. Read once, never replaced, and turned off, like the kernels.

This module imports nothing outside the standard library until `report` is called.
"""

import os
import platform
import sys
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # malloc.h
AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}  # what the SkylakeX kernels use

decisions: dict[str, str] = {}  # setting -> what was done and why, for report()


def apply() -> None:
    """Choose the settings, once; later calls do nothing."""
    if not decisions:
        decisions["allocator"] = _set_allocator()
        decisions["BLAS kernels"] = _set_blas_kernels()
        decisions["BLAS threads"] = _set_blas_waiting()


def _set_allocator() -> str:
    if os.environ.get("TINYGRAD_NOTES_MALLOC") == "0":
        return "left alone: TINYGRAD_NOTES_MALLOC=0"
    libc = _glibc()
    if libc is None:
        return "left alone: the C library is not glibc on Linux"
    keeps = 1 << 30
    if not libc.mallopt(M_MMAP_THRESHOLD, keeps):
        keeps = 1 << 25  # older versions of glibc allow no more
        libc.mallopt(M_MMAP_THRESHOLD, keeps)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_TOP_PAD, 1 << 28)
    libc.mallopt(M_ARENA_MAX, 1)
    return f"set: freed arrays up to {keeps >> 20} MiB are kept for reuse, so memory stays at its peak"


def _glibc() -> Any:
    """The C library if it is glibc, on Linux; else None."""
    try:
        if sys.platform != "linux" or not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return None
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt  # noqa: B018  (raises where it is missing)
    except (AttributeError, ImportError, OSError, ValueError):
        return None
    return libc


def _set_blas_kernels() -> str:
    present = os.environ.get("OPENBLAS_CORETYPE")
    if present is not None:
        return f"left alone: OPENBLAS_CORETYPE={present} was in the environment"
    if os.environ.get("TINYGRAD_NOTES_BLAS") == "0":
        return "left alone: TINYGRAD_NOTES_BLAS=0"
    vendor, _, flags = _cpu()
    if vendor != "AuthenticAMD" or not flags >= AVX512:
        return "left alone: not an AMD CPU with AVX-512 on Linux, so OpenBLAS chooses well by itself"
    if "numpy" in sys.modules:
        return "not set: NumPy was imported first; import tinygrad_notes before numpy, or set OPENBLAS_CORETYPE=SkylakeX"
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return "set: OPENBLAS_CORETYPE=SkylakeX, because this AMD CPU has AVX-512"


def _set_blas_waiting() -> str:
    present = os.environ.get("OPENBLAS_THREAD_TIMEOUT")
    if present is not None:
        return f"left alone: OPENBLAS_THREAD_TIMEOUT={present} was in the environment"
    if os.environ.get("TINYGRAD_NOTES_BLAS") == "0":
        return "left alone: TINYGRAD_NOTES_BLAS=0"
    if sys.platform != "linux":
        return "left alone: tried on Linux only"
    if "numpy" in sys.modules:
        return "not set: NumPy was imported first; import tinygrad_notes before numpy, or set OPENBLAS_THREAD_TIMEOUT=20"
    os.environ["OPENBLAS_THREAD_TIMEOUT"] = "20"
    return "set: OPENBLAS_THREAD_TIMEOUT=20, so that idle threads of BLAS leave the cores to others after 0.3 ms"


def _cpu(path: str = "/proc/cpuinfo") -> tuple[str, str, set[str]]:
    """Vendor, name and flags of the first CPU; empty where the system has no such file."""
    lines: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if not colon:
                    break  # an empty line ends the first CPU
                lines[key.strip()] = value.strip()
    except OSError:
        pass
    return lines.get("vendor_id", ""), lines.get("model name", ""), set(lines.get("flags", "").split())


def report() -> dict[str, str]:
    """What this process runs on, and what `apply` set, or did not set and why."""
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    threads = sorted(f"{k}={v}" for k, v in os.environ.items() if k.endswith("_NUM_THREADS"))
    return {
        "CPU": _cpu()[1] or platform.processor() or platform.machine(),
        "cores": f"{_cores()} usable" + "".join(f", {setting}" for setting in threads),
        "system": platform.platform(),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "SciPy": _version("scipy"),
        "BLAS": f"{blas['name']} {blas.get('version', '')}".strip(),
        "BLAS core type": _core_type(),
        **decisions,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _core_type() -> str:
    """Which kernels the BLAS that NumPy loaded is using, as far as it can be asked."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return 'unknown: to see it, pip install "tinygrad_notes[fast]"'
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{pool.get('architecture', 'unknown')} with {pool['num_threads']} threads" for pool in pools) or "unknown"
