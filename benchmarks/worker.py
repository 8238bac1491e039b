"""The process of one engine: `python -m benchmarks.worker ours` reads requests from stdin and answers on stdout, a line of JSON each."""

import gc
import json
import os
import sys
import time
from importlib import import_module


class Server:
    """Holds an engine and at most one prepared workload. A request {"do": name, **arguments} calls the method `name`."""

    def __init__(self, engine):
        self.engine = engine
        self.workload = self.prepared = None

    def about(self):
        return {"about": self.engine.about()}

    def load(self, workload, data):
        """Prepares a workload with the weights and the batch of a file."""
        self.unload()
        self.workload, arrays = read(workload, data)
        self.prepared = self.engine.prepare(self.workload, *arrays)
        return {}

    def unload(self):
        self.workload = self.prepared = None
        gc.collect()
        return {}

    def check(self, file, steps):
        """Writes the outputs before, and the weights after some steps, into a file, for comparison. Returns the seconds of the last step."""
        import numpy as np

        seconds = 0.0
        outputs = {f"output {name}": x for name, x in self.prepared.outputs().items()}
        for _ in range(steps):
            seconds = self.steps(1)["seconds"]
        np.savez(file, **outputs, **{f"weight {name}": x for name, x in self.prepared.parameters().items()})
        return {"seconds": seconds}

    def steps(self, n):
        start = time.perf_counter()
        for _ in range(n):
            self.prepared.step()
        return {"seconds": time.perf_counter() - start}

    def memory(self, workload, data):
        """By how many bytes two steps raise the peak of the memory in use above what weights and batch took."""
        from benchmarks import memory
        from benchmarks.workloads import Workload, make

        small = Workload(**workload).shrunk()
        self.engine.prepare(small, *make(small)).step()  # what is loaded at first use is not the workload's
        self.workload, arrays = read(workload, data)
        before = memory.start()
        self.prepared = self.engine.prepare(self.workload, *arrays)
        self.steps(2 if self.workload.trained else 1)
        return {"bytes": memory.peak() - before + memory.children()}


def read(workload, data):
    """The workload, and (weights, batch) from a file that `run.write` made."""
    from benchmarks.workloads import Workload

    import numpy as np

    with np.load(data) as arrays:
        kinds = [{k.removeprefix(p): arrays[k] for k in arrays.files if k.startswith(p)} for p in ("weight ", "batch ")]
    return Workload(**workload), kinds


def use_cores(n):
    """At most n cores, also for engines that count them themselves."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])


def main(name):
    use_cores(int(os.environ["OMP_NUM_THREADS"]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what an engine prints must not stand between the answers

    def answer(**message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    server = Server(import_module(f"benchmarks.engines.{name}"))  # the first to import NumPy
    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(**getattr(server, request.pop("do"))(**request))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


if __name__ == "__main__":
    main(sys.argv[1])
