"""Workers: one process an engine, asked with lines of JSON, and what went wrong with one in one line."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class WorkerError(Exception):
    """One line: which engine, what it was asked, what came."""


class Worker:
    """The process of an engine. `ask` raises WorkerError if the answer is an error, or the process has ended."""

    def __init__(self, engine, folder: str, threads: int):
        self.key = engine.key
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **{name: str(threads) for name in names}, **engine.environment(folder)}
        self.log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed in `close`)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", engine.module],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
        )
        try:
            self._receive("start", 120)
        except WorkerError:
            self.close()
            raise

    def ask(self, do: str, *, timeout: float = 120, **arguments: Any) -> dict[str, Any]:
        self._signal("SIGCONT")
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended: the answer will say so
        try:
            return self._receive(do, timeout)
        finally:
            self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        """A worker stands still while it is not asked: threads that wait awake for more work would take the others' cores."""
        if hasattr(signal, name):  # not on Windows
            self.process.send_signal(getattr(signal, name))

    def _receive(self, do: str, timeout: float) -> dict[str, Any]:
        start = time.monotonic()
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            code = self.process.wait()
            if time.monotonic() - start >= timeout:
                raise WorkerError(f"{self.key}: {do} took more than {timeout:.0f} seconds; the process was ended")
            raise WorkerError(f"{self.key}: the process ended with code {code} when asked to {do}{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.key}: {do} failed: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        """The last line that it wrote to its error output."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f"; its last words: {words[-1]}" if words else ""

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):  # what it was asked last may still wait to be sent
            self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
