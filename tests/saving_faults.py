"""Run by test_saving.py in a process of its own: a small training run, and processes that die while they save.

    python -m tests.saving_faults kill FOLDER      kill -9 before, after and within every call to the system
    python -m tests.saving_faults limit FOLDER     a file-size limit in place of a full disk

Each prints one line of JSON: a list of what was tried and what was found afterwards.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.optim import EMA, AdamW, cosine
from tinygrad_notes.saving import CheckpointError, load_checkpoint, save_checkpoint
from tinygrad_notes.tree import parameters, state_dict

import numpy as np

DATA = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
STEPS = 8


class Net:
    """Two layers with dropout, a running mean and a tied weight."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.w = Tensor(rng.normal(size=(3, 5)).astype(np.float32))
        self.b = Tensor(np.zeros(5, np.float32))
        self.out = [Tensor(rng.normal(size=(5, 1)).astype(np.float32)), {"gain": Tensor(np.float32(1))}]
        self.tied = self.w
        self.mean = np.zeros(3, np.float32)

    def __call__(self, x, rng):
        self.mean[...] = np.float32(0.9) * self.mean + np.float32(0.1) * x.mean(0)
        h = np.tanh((x - self.mean) @ self.w + self.b)
        h = h * (rng.random(h.shape, dtype=np.float32) < 0.8)
        return (h @ self.out[0])[:, 0] * self.out[1]["gain"] + (x @ self.tied).sum(1)


class Run:
    """All the state of a training run: what a checkpoint must bring back."""

    def __init__(self, seed=1):
        self.model = Net(seed)
        self.optimizer = AdamW(parameters(self.model), lr=0.0, decay=lambda path, t: t.ndim >= 2)
        self.ema = EMA(self.model, decay=0.9)
        self.rng = {"dropout": np.random.default_rng(seed), "shuffle": np.random.Generator(np.random.MT19937(seed))}
        self.step, self.cursor, self.order, self.losses = 0, 0, list(range(12)), []

    def train(self, steps):
        while self.step < steps:
            if self.cursor == 12:
                self.cursor, self.order = 0, self.rng["shuffle"].permutation(12).tolist()
            batch = DATA[self.order[self.cursor : self.cursor + 4]]
            self.cursor += 4
            params = parameters(self.model)
            loss = ((self.model(batch, self.rng["dropout"]) - batch[:, 0]) ** 2).mean()
            self.optimizer.step(gradients(loss, params), lr=cosine(self.step, peak=0.05, steps=STEPS, warmup=2))
            self.ema.update(self.model)
            self.losses.append(loss.item())
            self.step += 1

    def save(self, path):
        extra = {"cursor": self.cursor, "order": self.order, "losses": self.losses}
        save_checkpoint(path, step=self.step, model=self.model, optimizer=[self.optimizer, self.ema], rng=self.rng, extra=extra)

    def load(self, path):
        self.step, extra = load_checkpoint(path, model=self.model, optimizer=[self.optimizer, self.ema], rng=self.rng)
        self.cursor, self.order, self.losses = extra["cursor"], extra["order"], extra["losses"]

    def everything(self):
        """A text that differs if any bit of the state differs."""
        parts = {"model": state_dict(self.model), "optimizer": self.optimizer.state_dict(), "ema": self.ema.state_dict()}
        parts |= {name: generator.bit_generator.state for name, generator in self.rng.items()}
        parts |= {"step": self.step, "cursor": self.cursor, "order": self.order, "losses": self.losses}
        return json.dumps(parts, default=lambda a: [a.tobytes().hex(), str(a.dtype), a.shape], sort_keys=True)


CALLS = ["open", "write", "fsync", "close", "replace"]


def intercept(act):
    """Let act(number, name, call, args) stand before every system call of a save; it makes the call, or does not."""
    count = 0

    def wrap(name):
        call = getattr(os, name)

        def wrapped(*args):
            nonlocal count
            count += 1
            if name == "write":  # many small writes: there is a file to be cut in the middle
                args = (args[0], args[1][:1500])
            return act(count, name, call, args)

        setattr(os, name, wrapped)

    for name in CALLS:
        wrap(name)


def dies_at(k, when):
    def act(number, name, call, args):
        if number == k and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == k and when == "within" and name == "write":
            call(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args)
        if number == k:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return act


def in_a_child(work):
    """Do the work in a fork of this process; returns the signal that killed it, or 0."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(folder):
    path = os.path.join(folder, "run.safetensors")
    old, new = Run(), Run()
    old.train(2)
    new.train(5)
    texts = {old.everything(): "old", new.everything(): "new"}
    tried = []
    for when in ("before", "within", "after"):
        code, k = -1, 0
        while code != 0:
            k += 1
            old.save(path)

            def work(k=k, when=when):
                intercept(dies_at(k, when))
                new.save(path)

            code = in_a_child(work)
            found = Run(seed=9)
            found.load(path)
            tried.append({"when": when, "call": k, "code": code, "found": texts.get(found.everything(), "neither")})
    return tried


def limit(folder):
    import resource

    path = os.path.join(folder, "run.safetensors")
    old, new = Run(), Run()
    old.train(2)
    new.train(5)
    old.save(path)
    before = Path(path).read_bytes()
    tried = []
    for size in (0, 1, 1000, len(before) - 1):

        def work(size=size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                new.save(path)
            except CheckpointError as error:
                assert "cannot be written: File too large" in str(error)
            else:
                raise AssertionError("nothing was raised")

        code = in_a_child(work)
        tried.append({"size": size, "code": code, "intact": Path(path).read_bytes() == before, "files": os.listdir(folder)})
    return tried


if __name__ == "__main__":
    print(json.dumps({"kill": kill, "limit": limit}[sys.argv[1]](sys.argv[2])))
