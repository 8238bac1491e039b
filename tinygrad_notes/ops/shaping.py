"""Functions that move elements without changing them: reshape, transpose, join, split, repeat."""

import math

import numpy as np

from tinygrad_notes.binding import Given
from tinygrad_notes.core import Variable, table
from tinygrad_notes.ops.indexing import EVERYTHING, scatter_add
from tinygrad_notes.registry import call_plain, compose, constant, op, plain

# --- shapes -----------------------------------------------------------------------------


def reading_order(x, order):
    """What order="A" means for x: Fortran's where x lies so in memory, else C's."""
    return order if order != "A" else "F" if plain(x).flags.fnc else "C"


def bind_reshape(op, args, kwargs):
    """np.reshape(a, shape, order): NumPy 2.0 calls the shape newshape. A copy makes no difference to values."""
    given = dict(zip(("a", "shape", "order", "copy"), args)) | {"shape" if k == "newshape" else k: v for k, v in kwargs.items()}
    x = given["a"]
    return (x,), {"shape": given["shape"], "layout": reading_order(x, given.get("order", "C"))}


op(
    np.reshape,
    lambda g, y, x, *, shape, layout: np.reshape(g, x.shape, layout),
    forward=lambda x, *, shape, layout: np.reshape(x, shape, layout),
    bind=bind_reshape,
    cases=[
        ((3, 4), {"shape": (2, 6)}),
        ((3, 4), -1),
        ((3, 4), Given((4, -1)), "F"),
        ((3, 4), -1, {"order": "A"}),
        ((), {"shape": (1, 1)}),
        ((0, 3), -1),
    ],
)


def ravel(a, order="C"):
    if order == "K":  # as it lies in memory: the axis with the longest stride comes first
        strides = plain(a).strides
        a, order = np.transpose(a, sorted(range(a.ndim), key=lambda i: -abs(strides[i]))), "C"
    return np.reshape(a, -1, order)


compose(np.ravel, ravel, cases=[((3, 4),), ((3, 4), "F"), ((3, 4), {"order": "A"}), ((2, 3, 4), {"order": "K"}), ((),)])
op(
    np.expand_dims,
    lambda g, y, x, *, axis: np.reshape(g, x.shape),
    cases=[((3, 4), {"axis": 1}), ((3,), {"axis": (0, -1)}), ((), {"axis": 0})],
)
op(
    np.squeeze,
    lambda g, y, x, *, axis=None: np.reshape(g, x.shape),
    cases=[((3, 1, 4, 1),), ((3, 1, 1), {"axis": -1}), ((1, 3, 1), {"axis": (0, 2)})],
)
op(
    np.broadcast_to,
    lambda g, y, x, *, shape: g,  # the walk sums back
    cases=[((3, 1), {"shape": (2, 3, 4)}), ((), {"shape": (2, 3)}), ((3,), {"shape": (0, 3)})],
)
op(np.copy, lambda g, y, x: g, cases=[((3, 4),), ((3, 4), {"order": "F"})])


def astype(x, *, dtype, copy=True):
    return x.astype(dtype, copy=copy)


# Not NumPy's function but the method, and np.astype where NumPy has it. The walk casts gradients back.
table["astype"] = op(astype, lambda g, y, x, *, copy=True: g, cases=[((3, 4), {"dtype": np.float64})])
compose(np.astype, lambda x, dtype, /, *, copy=True, device=None: x.astype(dtype, copy=copy), cases=[((3, 4), np.float64)])

# --- the order of axes --------------------------------------------------------------------


def transpose_rule(g, y, x, *, axes=None):
    return np.transpose(g, None if axes is None else np.argsort([a % x.ndim for a in axes]))


op(np.transpose, transpose_rule, cases=[((2, 3, 4),), ((2, 3, 4), {"axes": (1, 2, 0)}), ((2, 3, 4), {"axes": (-1, 0, 1)}), ((),)])
op(np.swapaxes, lambda g, y, x, *, axis1, axis2: np.swapaxes(g, axis1, axis2), cases=[((2, 3, 4), {"axis1": 0, "axis2": -1})])
op(
    np.moveaxis,
    lambda g, y, x, *, source, destination: np.moveaxis(g, destination, source),
    cases=[((2, 3, 4), 0, -1), ((2, 3, 4), {"source": (0, 1), "destination": (-1, 0)})],
)


def rollaxis(a, axis, start=0):
    """Move an axis to stand before the one that is at `start`."""
    axis, start = axis % a.ndim, start + a.ndim if start < 0 else start
    return np.moveaxis(a, axis, start - 1 if axis < start else start)


compose(
    np.rollaxis,
    rollaxis,
    cases=[((2, 3, 4), 2), ((2, 3, 4), 0, 2), ((2, 3, 4), 0, 3), ((2, 3, 4), {"axis": -1, "start": -2})],
)
compose(np.matrix_transpose, lambda x, /: np.swapaxes(x, -1, -2), cases=[((3, 4),), ((2, 3, 4),)])

# --- joining ------------------------------------------------------------------------------


def arrays_of(sequence):
    """The members of a sequence, numbers and lists made arrays."""
    return [x if isinstance(x, Variable) else np.asarray(x) for x in sequence]


def concatenate_rule(g, y, *xs, axis=0):
    if axis is None:
        return [np.reshape(part, x.shape) for part, x in zip(np.split(g, np.cumsum([x.size for x in xs])[:-1]), xs)]
    return np.split(g, np.cumsum([x.shape[axis] for x in xs])[:-1], axis)


def stack_rule(g, y, *xs, axis=0):
    parts = np.moveaxis(g, axis, 0)
    return [parts[i] for i in range(len(xs))]


def bind_join(op, args, kwargs):
    """function([a, b, ...], axis, **kwargs): the members are the inputs. (NumPy before 2.4 tells no signature.)"""
    sequence, params = (
        (args[0], dict(zip(("axis", "out"), args[1:])) | kwargs)
        if args
        else (kwargs["arrays"], {k: v for k, v in kwargs.items() if k != "arrays"})
    )
    if params.pop("out", None) is not None:
        raise TypeError(f"np.{op.name}: out= would overwrite an array that a gradient may need; write y = np.{op.name}(...) instead")
    return arrays_of(sequence), params


for function, rule in ((np.concatenate, concatenate_rule), (np.stack, stack_rule)):
    op(
        function,
        rule,
        bind=bind_join,
        forward=lambda *xs, function=function, **params: function(xs, **params),
        reads=(),
        cases=[([(2, 3), (2, 3)],), ([(2, 3), (2, 3), (2, 3)], {"axis": -1}), ([(2, 3), (2, 3)], {"axis": 1})]
        + [([(2, 3), (4, 3), (0, 3)],), ([(2, 3), (2, 1)], -1), ([(2, 3), ()], {"axis": None})] * (function is np.concatenate),
    )


def vstack(tup, *, dtype=None, casting="same_kind"):
    return np.concatenate([np.atleast_2d(x) for x in tup], 0, dtype=dtype, casting=casting)


def hstack(tup, *, dtype=None, casting="same_kind"):
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


SPLITS = [((6, 2), 3), ((6, 2), [1, 4]), ((6, 2), [4, 1, 9, -1]), ((2, 6), {"indices_or_sections": 2, "axis": -1})]
op(np.split, split_rule, cases=SPLITS)
op(np.array_split, split_rule, cases=[*SPLITS, ((5, 2), 3)])
compose(
    np.hsplit,
    lambda ary, indices_or_sections: np.split(ary, indices_or_sections, min(1, ary.ndim - 1)),
    cases=[((6,), 2), ((2, 6), [1, 4])],
)
compose(np.vsplit, lambda ary, indices_or_sections: np.split(ary, indices_or_sections, 0), cases=[((6, 2), 2)])
compose(np.dsplit, lambda ary, indices_or_sections: np.split(ary, indices_or_sections, 2), cases=[((2, 1, 6), 2)])
if hasattr(np, "unstack"):  # NumPy 2.1
    op(np.unstack, lambda g, y, x, *, axis=0: np.stack(g, axis), cases=[((2, 3),), ((2, 3), {"axis": -1})])

# --- at least so many dimensions ------------------------------------------------------------


def at_least(extend):
    def function(*arys):
        made = tuple(extend(x) for x in arrays_of(arys))
        return made[0] if len(made) == 1 else made

    return function


DIMENSIONS = [((),), ((3,),), ((2, 3),), ((2, 3, 4),), ((3,), ())]
compose(np.atleast_1d, at_least(lambda x: x if x.ndim else np.reshape(x, 1)), cases=DIMENSIONS)
compose(np.atleast_2d, at_least(lambda x: x if x.ndim > 1 else np.reshape(x, (1, -1))), cases=DIMENSIONS)
compose(
    np.atleast_3d, at_least(lambda x: x if x.ndim > 2 else np.reshape(x, (*x.shape, 1) if x.ndim > 1 else (1, -1, 1))), cases=DIMENSIONS
)


def broadcast_arrays(*args, subok=False):
    xs = arrays_of(args)
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return tuple(np.broadcast_to(x, shape) for x in xs)


def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise ValueError(f"np.meshgrid: indexing={indexing!r}, expected 'xy' or 'ij'")
    xs = arrays_of(xi)
    order = list(range(len(xs)))
    if indexing == "xy":
        order[:2] = order[:2][::-1]
    grids = tuple(np.reshape(x, (1,) * i + (-1,) + (1,) * (len(xs) - 1 - i)) for x, i in zip(xs, order))
    return grids if sparse else broadcast_arrays(*grids)


compose(np.broadcast_arrays, broadcast_arrays, cases=[((3, 1), (4,)), ((3,), (), (2, 1))])
compose(
    np.meshgrid, meshgrid, cases=[((2,), (3,)), ((2,), (3,), {"indexing": "ij"}), ((2,), (3,), (4,), {"sparse": True}), ((2,), ()), ((3,),)]
)

# --- repeating ------------------------------------------------------------------------------


def repeat_rule(g, y, a, *, repeats, axis=None):
    shape, axis = ((a.size,), 0) if axis is None else (a.shape, axis % a.ndim)
    if np.size(repeats) == 1:
        split = np.reshape(g, (*shape[: axis + 1], np.asarray(repeats).item(), *shape[axis + 1 :]))
        return np.reshape(np.sum(split, axis + 1), a.shape)
    index = (EVERYTHING,) * axis + (np.repeat(np.arange(shape[axis]), repeats),)
    return np.reshape(scatter_add(g, index=index, shape=shape), a.shape)


op(
    np.repeat,
    repeat_rule,
    cases=[((2, 3), 2), ((2, 3), {"repeats": 3, "axis": 1}), ((2, 3), [1, 0, 2], -1), ((3,), 0), ((2, 2), [0, 1, 2, 3]), ((), 3)],
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
    axis = axis % arr.ndim
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
        ((4,), np.array([True, False, False, True]), (2,)),
    ],
)


def delete(arr, obj, axis=None):
    if axis is None:
        arr, axis = np.ravel(arr), 0
    return np.take(arr, np.delete(np.arange(arr.shape[axis]), obj), axis)


def compress(condition, a, axis=None, out=None):
    return np.take(a, np.flatnonzero(plain(condition)), axis)


compose(np.delete, delete, cases=[((4,), 1), ((2, 3), [0, -1], 1), ((2, 3), slice(0, 1), {"axis": 0}), ((2, 3), [1, 4])])
compose(np.compress, compress, cases=[(np.array([False, True]), (3, 4)), (np.array([True, False, True]), (3, 4), {"axis": 1})])
compose(np.extract, lambda condition, arr: np.ravel(arr)[np.flatnonzero(plain(condition))], cases=[(np.eye(3) > 0, (3, 3))])


def trim_zeros(filt, trim="fb", axis=None):
    """Without the zeros at the front ("f") and back ("b"), of all axes or of `axis`."""
    filt = arrays_of([filt])[0] if not isinstance(filt, list | tuple) else np.stack(filt)
    places = np.argwhere(plain(filt))
    axes = range(filt.ndim) if axis is None else [i % filt.ndim for i in np.atleast_1d(axis)]
    index = [EVERYTHING] * filt.ndim
    for i in axes:
        first, last = (places[:, i].min(), places[:, i].max()) if len(places) else (filt.shape[i], -1)
        index[i] = slice(first if "f" in trim.lower() else 0, last + 1 if "b" in trim.lower() else None)
    return filt[tuple(index)]


compose(np.trim_zeros, trim_zeros, cases=[((6,),)], domain=(0.5, 2.0))

# --- diagonals and triangles --------------------------------------------------------------------


def diagonal(a, offset=0, axis1=0, axis2=1):
    a = np.moveaxis(a, (axis1, axis2), (0, 1))
    length = max(0, min(a.shape[0] + min(offset, 0), a.shape[1] - max(offset, 0)))
    along = np.arange(length)
    return np.moveaxis(a[along + max(-offset, 0), along + max(offset, 0)], 0, -1)


def diag(v, k=0):
    if v.ndim != 1:
        if v.ndim != 2:
            raise ValueError(f"np.diag: the input has {v.ndim} dimensions, expected 1 or 2; see np.diagonal")
        return np.diagonal(v, k)
    along, n = np.arange(v.size), v.size + abs(k)
    return scatter_add(v, index=(along + max(-k, 0), along + max(k, 0)), shape=(n, n))


compose(
    np.diagonal, diagonal, cases=[((3, 3),), ((3, 4), 1), ((4, 3), {"offset": -2}), ((2, 3, 4), {"axis1": -1, "axis2": 1}), ((2, 2), 5)]
)
compose(np.diag, diag, cases=[((3,),), ((3,), {"k": -1}), ((3, 4), 1), ((0,), 1)])
compose(np.diagflat, lambda v, k=0: np.diag(np.ravel(v), k), cases=[((2, 2),), ((2,), {"k": 1})])
TRIANGLES = [((3, 4),), ((3, 4), 1), ((2, 3, 3), {"k": -1}), ((3,),)]
op(np.tril, lambda g, y, m, *, k=0: np.tril(g, k), cases=TRIANGLES)  # a row stands for all rows: the walk sums back
op(np.triu, lambda g, y, m, *, k=0: np.triu(g, k), cases=TRIANGLES)

# --- turning ----------------------------------------------------------------------------------

op(np.flip, lambda g, y, x, *, axis=None: np.flip(g, axis), cases=[((2, 3),), ((2, 3), {"axis": -1}), ((2, 3, 4), {"axis": (0, 2)}), ((),)])
compose(np.flipud, lambda m: np.flip(m, 0), cases=[((2, 3),)])
compose(np.fliplr, lambda m: np.flip(m, 1), cases=[((2, 3),)])
op(
    np.roll,
    lambda g, y, x, *, shift, axis=None: np.roll(g, np.negative(shift), axis),
    cases=[
        ((2, 3), 2),
        ((2, 3), {"shift": -1, "axis": -1}),
        ((2, 3), {"shift": (1, 2), "axis": (0, 1)}),
        ((2, 3), {"shift": 1, "axis": (0, 1)}),
    ],
)
op(
    np.rot90,
    lambda g, y, m, *, k=1, axes=(0, 1): np.rot90(g, -k, axes),
    cases=[((2, 3),), ((2, 3), 2), ((2, 3, 4), {"k": -1, "axes": (2, 0)})],
)

# --- constants ----------------------------------------------------------------------------------

constant(np.shape, np.ndim, np.size, np.zeros_like, np.ones_like, np.empty_like, np.full_like)


def full_like(a, fill_value, *args, **kwargs):
    if isinstance(fill_value, Variable):
        raise TypeError("np.full_like: the fill value is a Tensor and would lose its gradient; write np.broadcast_to(t, a.shape)")
    return call_plain(np.full_like, a, fill_value, *args, **kwargs)


table[np.full_like] = full_like
