"""Hypothesis: the same examples every time by default; ten times more at night, drawn anew."""

import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: the suite runs in several processes, and one thread sums in one order


# Started in the background by a shell, this process would ignore Ctrl-C, which the tests send to it and to its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import settings

settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("drawn", deadline=None, print_blob=True)  # as many examples as by default, others each time: --hypothesis-seed=N
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
