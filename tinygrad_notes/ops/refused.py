"""The closed list: functions that meet a Tensor and stay without gradient, and functions that have to raise."""

from functools import partial
from typing import Any

from tinygrad_notes.core import table
from tinygrad_notes.registry import constant, refuse

import numpy as np


def named(module: Any, names: str) -> list[Any]:
    """The functions of a module that this version of NumPy has and that ask us what to do."""
    found = [getattr(module, name, None) for name in names.split()]
    return [f for f in found if isinstance(f, np.ufunc | type(np.concatenate))]


UFUNCS = {f for f in vars(np).values() if isinstance(f, np.ufunc)}

# --- constants: text, places and properties of arrays -------------------------------------------

constant(np.array_repr, np.array_str, np.array2string)
constant(np.result_type, np.common_type, np.can_cast, np.min_scalar_type, np.may_share_memory, np.shares_memory)
constant(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from, np.ix_, np.ravel_multi_index, np.unravel_index)
constant(np.nonzero, np.flatnonzero, np.argwhere, *named(np, "in1d"))

# --- writing in place ----------------------------------------------------------------------------

NEW_ARRAY = (
    "it writes in place, and a gradient would be lost; make a new array: np.where(mask, v, x), np.stack of a list, or at(x)[index].set(v)"
)
refuse(NEW_ARRAY, np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis)


def refuse_at(name, *args, **kwargs):
    raise TypeError(
        f"np.{name}.at does not take a Tensor: it writes in place, and a gradient would be lost; at(x)[index] has add, multiply, max, min and set"
    )


for ufunc in UFUNCS:
    table[ufunc, "at"] = partial(refuse_at, ufunc.__name__)

# --- complex results ------------------------------------------------------------------------------

refuse(
    "it computes with complex numbers, and complex Tensors do not exist yet; for a small transform multiply by arrays of cosines and sines",
    *named(np.fft, "fft fft2 fftn hfft ifft ifft2 ifftn ihfft irfft irfft2 irfftn rfft rfft2 rfftn"),
)
refuse("the zeros of a real polynomial are complex numbers, and complex Tensors do not exist yet", np.roots)
refuse("its result is complex, and complex Tensors do not exist yet; np.sort sorts real numbers", np.sort_complex)

# --- not real numbers --------------------------------------------------------------------------------

refuse("it acts on the bits of integers, and an integer has no gradient", *named(np, "packbits unpackbits"))
refuse("it acts on dates, and a Tensor holds real numbers", *named(np, "busday_count busday_offset is_busday datetime_as_string isnat"))
STRINGS = (
    "add capitalize center count decode encode endswith equal expandtabs find greater greater_equal index isalnum isalpha isascii isdecimal isdigit "
    "islower isnumeric isspace istitle isupper join less less_equal ljust lower lstrip mod multiply not_equal partition replace rfind rindex rjust "
    "rpartition rsplit rstrip slice split splitlines startswith str_len strip swapcase title translate upper zfill compare_chararrays"
)
for module in (np.char, np.strings):
    # np.strings.equal is np.equal
    refuse("it acts on text, and a Tensor holds real numbers", *(f for f in named(module, STRINGS) if f not in UFUNCS))

# --- files ----------------------------------------------------------------------------------------------

refuse("a file holds arrays, not Tensors; pass t.value, or use tinygrad_notes.saving", np.save, np.savez, np.savez_compressed, np.savetxt)
