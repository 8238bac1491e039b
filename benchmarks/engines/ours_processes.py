"""This engine with data_parallel: the one line of a training loop with processes."""

from benchmarks.engines import ours
from tinygrad_notes.parallel import data_parallel

about = ours.about


def prepare(workload, params, batch):
    return ours.PREPARE[workload.model](params, batch, **workload.sizes, gradients_by=halves)


def halves(loss, params):
    return data_parallel(loss, params, unused="raise", processes=True)
