"""numpy.lib.recfunctions: refused. Loaded when a Tensor meets one of its functions."""

from tinygrad_notes.registry import refuse

import numpy as np
from numpy.lib import recfunctions

refuse(
    "it is for structured arrays, whose fields have types of their own, and a Tensor holds numbers of one type; keep one Tensor for each field",
    *(f for f in vars(recfunctions).values() if isinstance(f, type(np.concatenate)) and f.__module__ == recfunctions.__name__),
)
