"""PyTorch, eager, at its best here: AdamW as one fused kernel, and MKL with AVX-512 where benchmarks/mkl.py could arrange it."""

import os

from benchmarks.engines import pytorch


def about():
    told = "told that the CPU is Intel's" if "LD_PRELOAD" in os.environ else "as it is"
    return {**pytorch.about(), "its MKL": told}


def prepare(workload, params, batch):
    return pytorch.prepare(workload, params, batch, fused=True)
