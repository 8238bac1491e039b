"""PyTorch, eager, at its best here: AdamW as one fused kernel, and MKL with AVX-512 where benchmarks/mkl.py could arrange it."""

from benchmarks.engines import pytorch

about = pytorch.about


def prepare(workload, params, batch):
    return pytorch.prepare(workload, params, batch, fused=True)
