"""PyTorch's best case on AMD: its MKL with AVX-512.

Intel's MKL, which the wheels of PyTorch contain, takes its AVX2 kernels on CPUs of AMD, also on those
that have AVX-512. It asks its function mkl_serv_intel_cpu_true whether the CPU is Intel's. The
function is exported, so a library that is loaded before (LD_PRELOAD) can answer instead: one
line of C. No setting that Intel documents does this. It is done for the column "PyTorch, best"
only, so that the comparison is with what the hardware can do.
"""

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def environment(folder: str) -> dict[str, str]:
    """The variable that loads the one-line library, which is compiled into the folder; {} where it would not help or there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None or not amd_with_avx512():
        return {}
    source, library = Path(folder) / "intel.c", Path(folder) / "intel.so"
    source.write_text(SOURCE, encoding="utf-8")
    done = subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], capture_output=True)
    return {} if done.returncode else {"LD_PRELOAD": str(library)}


def amd_with_avx512() -> bool:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return "AuthenticAMD" in text and "avx512f" in text
