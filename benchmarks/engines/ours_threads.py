"""This engine with data_parallel: the one line of a training loop that gives each half of a batch a thread of its own."""

from benchmarks.engines import ours
from tinygrad_notes.parallel import data_parallel

about = ours.about


def prepare(workload, params, batch, **how):
    def halves(loss, params):
        return data_parallel(loss, params, unused="raise", **how)

    return ours.PREPARE[workload.model](params, batch, **workload.sizes, gradients_by=halves)
