"""What a recorder notes of every op gives, made again on other numbers, what the op gives there; or it says that it cannot."""

import tinygrad_notes as tn
from tests.ops.samples import Sample, all_cases, sample
from tinygrad_notes import threads
from tinygrad_notes.check import floats
from tinygrad_notes.recording import Diverged, Recorder
from tinygrad_notes.recording.program import copy_result
from tinygrad_notes.tensor import Tensor

import numpy as np
import pytest

# Their rules read numbers out of arrays, or lengths that depend on them.
REFUSED = {
    "np.histogram", "np.histogram2d", "np.histogram_bin_edges", "np.histogramdd", "np.median", "np.nanmedian", "np.nanpercentile", "np.nanquantile",
    "np.pad", "np.percentile", "np.polymul", "np.quantile", "np.trim_zeros", "scipy.special.elliprd", "scipy.special.elliprg", "scipy.special.elliprj",
    "scipy.special.smirnov", "scipy.special.smirnovi",  # with older NumPy and SciPy
}  # fmt: skip

# --- every op, with its gradients ----------------------------------------------------------------


def record(f, arrays):
    """f(arrays) as a program: where it reads, what it gives, and how to run it."""
    inputs = [x.copy() for x in arrays]
    recorder = Recorder()
    with threads.alone(), recorder:
        results = f([recorder.read(x) for x in inputs])
    program, results = recorder.program(results, [None] * len(results))
    return inputs, results, program


def of_params(s: Sample):
    """The outputs and the gradients of their weighed sum, at Tensors."""

    def f(arrays):
        variables = [Tensor(x) for x in arrays]
        outputs = floats(s.call([variables[s.varied.index(i)] if i in s.varied else x for i, x in enumerate(s.inputs)]))
        rng = np.random.default_rng(s.seed + 1)
        loss = sum(np.sum(y * rng.normal(size=y.shape).astype(y.dtype)) for y in outputs)
        return [*[y.value for y in outputs if isinstance(y, Tensor)], *(tn.gradients(loss, variables) if isinstance(loss, Tensor) else [])]

    return f, s.varied


def of_arrays(s: Sample):
    """NumPy's function at arrays, as of a batch."""

    def f(arrays):
        return [np.asarray(y) for y in floats(s.plain(arrays))]

    return f, range(len(s.inputs))


@pytest.mark.parametrize("way", [of_params, of_arrays])
@pytest.mark.parametrize(("item", "case"), [pytest.param(item, case, id=name) for item, case, name in all_cases()])
def test_every_op(item, case, way):
    s, elsewhere = sample(item, case), sample(item, case, again=1)
    f, varied = way(s)
    at, other = [s.inputs[i] for i in varied], [elsewhere.inputs[i] for i in varied]
    with np.errstate(all="ignore"):
        f(at)  # what is cached is made
        try:
            inputs, results, program = record(f, at)
        except TypeError as error:
            assert "cannot be repeated" in str(error)
            assert item.label in REFUSED, "an op that can be repeated, or could"
            return
        for point in (other, at):
            for mine, x in zip(inputs, point):
                mine[...] = x
            try:
                program.run()
            except Diverged:
                continue
            for y, expected in zip(results, f(point), strict=True):
                np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15, strict=True)


def test_arrays_of_one_number_are_filled_and_those_of_any_are_not():
    def f(arrays):
        (x,) = arrays
        any_numbers, zeros, ones = np.empty_like(x), np.zeros_like(x), np.ones_like(x)
        np.multiply(x, 2, out=any_numbers)
        zeros += x
        ones += x
        return [any_numbers, zeros, ones]

    x = np.arange(3.0)
    inputs, results, program = record(f, [x])
    assert len(program.calls) == 5  # three sums and products, two arrays that are filled
    for factor in (1.0, 5.0):
        inputs[0][...] = factor * x
        program.run()
        for y, expected in zip(results, [2 * factor * x, factor * x, 1 + factor * x]):
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, complex, "m8[s]", "U3"], ids=str)
def test_zeros_and_ones_like_arrays_of_any_dtype(dtype):
    def f(arrays):
        (x,) = arrays
        made = [np.zeros_like(x), np.ones_like(x)]
        for y in made:
            y[:1] = x[:1]
        return made

    at, other = np.array([1, 0, 1]).astype(dtype), np.array([0, 1, 1]).astype(dtype)
    inputs, results, program = record(f, [at])
    for x in (at, other):
        inputs[0][...] = x
        for _ in range(2):
            program.run()
            for y, expected in zip(results, f([x]), strict=True):
                np.testing.assert_array_equal(y, expected, strict=True)


def test_a_kernel_makes_no_call_for_the_memory_it_asks_for():
    """Each of them would be one more pass over memory."""

    def f(arrays):
        t = Tensor(arrays[0])
        return [tn.gradients(np.sum(tn.functional.silu(t)), t)]

    _, _, program = record(f, [np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)])
    assert not [function for function, _ in program.calls if function is copy_result]
