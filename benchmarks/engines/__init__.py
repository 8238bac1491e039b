"""One file an engine. Each offers

    about() -> dict[str, str]                          versions, and what the numbers depend on
    prepare(workload, params, batch) -> Prepared       the workload with these weights and this batch, see workloads.py

and is imported only in the process of its own. This table is all that the others need to know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks import mkl


def nothing(folder: str) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Engine:
    key: str
    title: str
    module: str  # in this folder
    package: str | None = None  # that must be installed
    cannot: dict[str, str] | None = None  # workload's key or model -> why it is not run
    environment: Callable[[str], dict[str, str]] = nothing  # variables of its process; gets a folder to write into

    def missing(self) -> str | None:
        """One line that says what to install, or None."""
        if self.package is None or find_spec(self.package):
            return None
        return f'{self.key}: {self.title} is not installed, its column is left out; pip install "tinygrad_notes[bench]"'

    def refuses(self, workload) -> str | None:
        cannot = self.cannot or {}
        return cannot.get(workload.key, cannot.get(workload.model))


UNTRAINED = dict.fromkeys(("attention", "tape", "decode"), "there is no batch to cut in two")
ONE_CALL = {"attention": "it is one kernel, with nothing around it", "decode": "it writes tokens, without gradients"}
DENSE = {"W7-8192": "all scores at once do not fit into memory", "decode": "made for gradients; without them it is NumPy"}

ENGINES = {
    engine.key: engine
    for engine in [
        Engine("ours", "tinygrad_notes", "ours"),
        Engine("ours-replay", "replay", "ours_replay", cannot=ONE_CALL),
        Engine("ours-threads", "data_parallel, threads", "ours_threads", "threadpoolctl", UNTRAINED),
        Engine("ours-processes", "data_parallel, processes", "ours_processes", "threadpoolctl", UNTRAINED),
        Engine("ours-both", "data_parallel, processes, replay", "ours_both", "threadpoolctl", UNTRAINED),
        Engine("torch", "PyTorch eager", "pytorch", "torch"),
        Engine("torch-best", "PyTorch, best", "pytorch_best", "torch", environment=mkl.environment),
        Engine("numpy", "NumPy by hand", "by_hand"),
        Engine("jax", "JAX jit", "jax_jit", "jax", {"tape": "compiled, it has no tape"}),
        Engine("hips", "HIPS autograd", "hips", "autograd", DENSE),
        Engine("mygrad", "MyGrad", "mygrad_", "mygrad", DENSE),
    ]
}
REFERENCE = "ours"  # with whose results those of the others are compared
BASELINE = "torch"  # by whose time all others are divided


def chosen(keys: list[str] | None) -> list[Engine]:
    """The engines of these keys (all if None), the reference and the baseline among them."""
    unknown = set(keys or ()) - set(ENGINES)
    if unknown:
        raise ValueError(f"benchmarks: there is no engine {sorted(unknown)[0]!r}; choose from {', '.join(ENGINES)}")
    return [engine for key, engine in ENGINES.items() if keys is None or key in (*keys, REFERENCE, BASELINE)]
