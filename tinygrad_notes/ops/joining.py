"""Functions that join, split, repeat and pick: the elements stay as they are."""

import math
from typing import Any

from tinygrad_notes.binding import Given, refuse_out
from tinygrad_notes.ops.indexing import EVERYTHING, arrays_of, scatter_add
from tinygrad_notes.registry import compose, op, plain

import numpy as np

# --- joining ------------------------------------------------------------------------------


def concatenate_rule(g, y, *xs, axis=0):
    if axis is None:
        return [np.reshape(part, x.shape) for part, x in zip(np.split(g, np.cumsum([x.size for x in xs])[:-1]), xs)]
    return np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis)


def stack_rule(g, y, *xs, axis=0):
    parts = np.moveaxis(g, axis, 0)
    return [parts[i] for i in range(len(xs))]


def bind_join(op, args, kwargs):
    """function(arrays, axis, **kwargs): the members are the inputs. (NumPy before 2.4 tells no signature of concatenate.)"""
    given = dict(zip(("arrays", "axis", "out"), args)) | kwargs
    if given.pop("out", None) is not None:
        raise refuse_out(op.label)
    return arrays_of(given.pop("arrays")), given


for function, rule in ((np.concatenate, concatenate_rule), (np.stack, stack_rule)):
    op(
        function,
        rule,
        bind=bind_join,
        forward=lambda *xs, function=function, **params: function(xs, **params),
        reads=(),
        cases=[([(2, 3), (2, 3)],), ([(2, 3), (2, 3), (2, 3)], {"axis": -1}), ([(2, 3), (2, 3)], {"axis": 1})]
        + [([(2, 3), (4, 3), (0, 3)],), ([(2, 3), (2, 1)], -1), ([(2, 3), ()], {"axis": None}), ([(2, 3), (4,), ()], {"axis": None})]
        * (function is np.concatenate),
    )


def vstack(tup, *, dtype=None, casting: Any = "same_kind"):
    return np.concatenate([np.atleast_2d(x) for x in tup], 0, dtype=dtype, casting=casting)


def hstack(tup, *, dtype=None, casting: Any = "same_kind"):
    xs = [np.atleast_1d(x) for x in tup]
    return np.concatenate(xs, 0 if xs[0].ndim == 1 else 1, dtype=dtype, casting=casting)


compose(np.vstack, vstack, cases=[([(3,), (3,)],), ([(2, 3), (3,)],), ([(), ()],), ((2, 3, 4),)])
compose(np.hstack, hstack, cases=[([(3,), (2,)],), ([(2, 3), (2, 1)],), ([(), (2,)],)])
compose(np.dstack, lambda tup: np.concatenate([np.atleast_3d(x) for x in tup], 2), cases=[([(3,), (3,)],), ([(2, 3), (2, 3, 2)],)])
compose(
    np.column_stack,
    lambda tup: np.concatenate([x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in arrays_of(tup)], 1),
    cases=[([(3,), (3,)],), ([(3, 2), (3,)],)],
)

compose(
    np.append,
    lambda arr, values, axis=None: np.concatenate(arrays_of([arr, values]), axis),
    cases=[((2, 3), (2,)), ((2, 3), (1, 3), {"axis": 0}), ((2, 3), ())],
)


def block(arrays):
    """Nested lists joined inside out: the innermost along the last axis."""

    def depth_and_ndim(tree):
        if not isinstance(tree, list):
            return 0, np.ndim(tree)
        members = [depth_and_ndim(branch) for branch in tree]
        if len({depth for depth, _ in members}) != 1:
            raise ValueError("np.block: the lists are nested to different depths (or empty), expected one depth for all arrays")
        return 1 + members[0][0], max(ndim for _, ndim in members)

    def join(tree, depth):
        if depth:
            return np.concatenate([join(branch, depth - 1) for branch in tree], -depth)
        (x,) = arrays_of([tree])
        return np.reshape(x, (1,) * (total - x.ndim) + x.shape)

    depth, ndim = depth_and_ndim(arrays)
    total = max(depth, ndim)
    return join(arrays, depth)


compose(
    np.block,
    block,
    cases=[([(2, 3), (2, 1)],), ([[(2, 2), (2, 3)], [(1, 2), (1, 3)]],), ([[(3,)], [(3,)]],), ([(), ()],), ((2, 3),)],
)

# --- splitting ----------------------------------------------------------------------------


def split_rule(g, y, x, *, indices_or_sections, axis=0):
    n, axis = x.shape[axis], axis % x.ndim
    if sum(part.shape[axis] for part in g) == n:
        return np.concatenate(g, axis)
    cuts = [0, *indices_or_sections, n]  # cuts that go back give pieces that overlap
    places = [(EVERYTHING,) * axis + (slice(*pair),) for pair in zip(cuts, cuts[1:])]
    return sum(scatter_add(part, index=place, shape=x.shape) for part, place in zip(g, places))


SPLITS = [((6, 2), 3), ((6, 2), [1, 4]), ((6, 2), [4, 1, 9, -1]), ((2, 6), [4, 1], 1), ((2, 6), {"indices_or_sections": 2, "axis": -1})]
op(np.split, split_rule, cases=SPLITS)
op(np.array_split, split_rule, cases=[*SPLITS, ((5, 2), 3)])
compose(
    np.hsplit,
    lambda ary, indices_or_sections: np.split(ary, indices_or_sections, min(1, ary.ndim - 1)),
    cases=[((6,), 2), ((2, 6), [1, 4])],
)


def vsplit(ary, indices_or_sections):
    if ary.ndim < 2:
        raise ValueError(f"np.vsplit: the array has {ary.ndim} dimensions, expected 2 or more; see np.split")
    return np.split(ary, indices_or_sections, 0)


compose(np.vsplit, vsplit, cases=[((6, 2), 2)])
compose(np.dsplit, lambda ary, indices_or_sections: np.split(ary, indices_or_sections, 2), cases=[((2, 1, 6), 2)])
if hasattr(np, "unstack"):  # NumPy 2.1
    op(np.unstack, lambda g, y, x, *, axis=0: np.stack(g, axis), cases=[((2, 3),), ((2, 3), {"axis": -1})])

# --- repeating ------------------------------------------------------------------------------


def repeat_rule(g, y, a, *, repeats, axis=None):
    shape, axis = ((a.size,), 0) if axis is None or not a.ndim else (a.shape, axis % a.ndim)
    if np.size(repeats) == 1:
        split = np.reshape(g, (*shape[: axis + 1], np.asarray(repeats).item(), *shape[axis + 1 :]))
        return np.reshape(np.sum(split, axis + 1), a.shape)
    index = (EVERYTHING,) * axis + (np.repeat(np.arange(shape[axis]), repeats),)
    return np.reshape(scatter_add(g, index=index, shape=shape), a.shape)


op(
    np.repeat,
    repeat_rule,
    cases=[
        ((2, 3), 2),
        ((2, 3), {"repeats": 3, "axis": 1}),
        ((2, 3), {"repeats": 2, "axis": 0}),
        ((2, 3), [1, 0, 2], -1),
        ((2, 3), [1, 3], 0),
        ((3,), 0),
        ((2, 2), [0, 1, 2, 3]),
        ((), 3),
        ((), 3, 0),
    ],
)


def tile(A, reps):
    reps = (reps,) if np.ndim(reps) == 0 else tuple(reps)
    d = max(len(reps), A.ndim)
    reps, shape = (1,) * (d - len(reps)) + reps, (1,) * (d - A.ndim) + A.shape
    spaced = np.reshape(A, [n for size in shape for n in (1, size)])
    repeated = np.broadcast_to(spaced, [n for pair in zip(reps, shape) for n in pair])
    return np.reshape(repeated, [r * size for r, size in zip(reps, shape)])


compose(np.tile, tile, cases=[((2, 3), 2), ((2, 3), Given((2, 1))), ((3,), Given((2, 2, 1))), ((2, 3), Given((0, 1))), ((), 3)])


def resize(a, new_shape):
    """The elements again and again until new_shape is full."""
    shape = (new_shape,) if np.ndim(new_shape) == 0 else tuple(new_shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"np.resize: new_shape={new_shape}, expected lengths of 0 or more")
    flat = np.ravel(a)
    if not flat.size:
        return np.zeros(shape, a.dtype)
    return np.reshape(flat[np.arange(math.prod(shape)) % flat.size], shape)


compose(np.resize, resize, cases=[((2, 3), Given((3, 3))), ((2, 3), 4), ((2, 3), Given((0, 2)))])

# --- putting in and taking out ---------------------------------------------------------------


def insert(arr, obj, values, axis=None):
    arr, values = arrays_of([arr, values])
    if axis is None:
        arr, axis = np.ravel(arr), 0
    axis = np.lib.array_utils.normalize_axis_index(axis, arr.ndim)
    n = arr.shape[axis]
    values = np.reshape(values, (1,) * (arr.ndim - values.ndim) + values.shape)
    places = np.arange(n)[obj] if isinstance(obj, slice) else np.asarray(obj)
    places = np.flatnonzero(places) if places.dtype == bool else places.astype(int)
    if places.ndim == 0:
        values = np.moveaxis(values, 0, axis)
    count = values.shape[axis] if places.size == 1 else places.size
    values = np.broadcast_to(values, (*arr.shape[:axis], count, *arr.shape[axis + 1 :])).astype(arr.dtype)
    # NumPy says where each lands, by inserting the numbers of the places instead of the values.
    order = np.insert(np.arange(n), places, np.arange(n, n + count))
    return np.take(np.concatenate([arr, values], axis), order, axis)


compose(
    np.insert,
    insert,
    cases=[
        ((4,), 1, ()),
        ((2, 3), 1, (2,)),
        ((2, 3), 1, (3,), {"axis": 0}),
        ((2, 3), 1, (2,), {"axis": 1}),
        ((2, 3), [1], (2, 1), {"axis": 1}),
        ((2, 3), [0, 2], (2, 2), {"axis": -1}),
        ((4,), [2, 0], (2,)),
        ((4,), slice(1, 3), ()),
    ],
)


def delete(arr, obj, axis=None):
    if axis is None:
        arr, axis = np.ravel(arr), 0
    return np.take(arr, np.delete(np.arange(arr.shape[axis]), plain(obj)), axis)


def compress(condition, a, axis=None, out=None):
    if np.ndim(condition) != 1:
        raise ValueError(f"np.compress: the condition has shape {np.shape(condition)}, expected one dimension; a mask is an index: a[mask]")
    return np.take(a, np.flatnonzero(plain(condition)), axis)


compose(np.delete, delete, cases=[((4,), 1), ((2, 3), [0, -1], 1), ((2, 3), slice(0, 1), {"axis": 0}), ((2, 3), [1, 4])])
compose(np.compress, compress, cases=[(np.array([False, True]), (3, 4)), (np.array([True, False, True]), (3, 4), {"axis": 1})])
compose(np.extract, lambda condition, arr: np.ravel(arr)[np.flatnonzero(plain(condition))], cases=[(np.eye(3) > 0, (3, 3))])


def trim_zeros(filt, trim="fb", axis=None):
    """Without the zeros at the front ("f") and back ("b"), of all axes or of `axis`."""
    (filt,) = arrays_of([filt])
    places = np.argwhere(plain(filt))
    axes = range(filt.ndim) if axis is None else [i % filt.ndim for i in np.atleast_1d(axis)]
    index = [EVERYTHING] * filt.ndim
    for i in axes:
        first, last = (places[:, i].min(), places[:, i].max()) if len(places) else (filt.shape[i], -1)
        index[i] = slice(first if "f" in trim.lower() else 0, last + 1 if "b" in trim.lower() else None)
    return filt[tuple(index)]


compose(np.trim_zeros, trim_zeros, cases=[((6,),)], domain=(0.5, 2.0))

# --- a function along axes ------------------------------------------------------------------------------


def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    (arr,) = arrays_of([arr])
    moved = np.moveaxis(arr, axis, -1)
    results = arrays_of(func1d(moved[place], *args, **kwargs) for place in np.ndindex(moved.shape[:-1]))
    if not results:
        raise ValueError(f"np.apply_along_axis: an array of shape {arr.shape} has nothing along axis {axis} to apply a function to")
    made = np.reshape(np.stack(results), moved.shape[:-1] + results[0].shape)
    last = moved.ndim - 1
    return np.moveaxis(made, range(last, made.ndim), range(axis % arr.ndim, axis % arr.ndim + results[0].ndim))


def apply_over_axes(func, a, axes):
    (a,) = arrays_of([a])
    for axis in np.atleast_1d(axes).tolist():
        result = func(a, axis)
        a = result if result.ndim == a.ndim else np.expand_dims(result, axis)
    return a


compose(np.apply_along_axis, apply_along_axis, cases=[(np.cumsum, 0, (3, 2)), (np.sum, -1, (2, 3)), (np.diag, 1, (2, 3, 2))])
compose(np.apply_over_axes, apply_over_axes, cases=[(np.sum, (2, 3, 4), [0, -1])])
