"""The Tensor: a NumPy array that remembers where it came from."""

import operator
from typing import Any, Never

from tinygrad_notes import core
from tinygrad_notes.core import FREED, PICK, Leaf, Variable, table, walk
from tinygrad_notes.registry import apply, binary, refused

import numpy as np

NO_CONVERSION = (
    "a Tensor would become a plain array here and lose its gradient. To join Tensors use np.stack or np.concatenate; to fill "
    "an array build a list and np.stack it, or np.broadcast_to(t, shape); for A.dot(t) write A @ t; for a random draw "
    "reparameterise (mean + std * rng.normal(size=...)); for a function outside NumPy, or a plot, pass t.value"
)
FROM_PYTORCH = {  # what its readers write: what to write here, where NumPy has no function of that name
    "detach": "stop_gradient(t)", "requires_grad_": "Tensor(x)", "numpy": "t.value", "data": "t.value", "view": "t.reshape(...)",
    "permute": "t.transpose(...)", "numel": "t.size", "unsqueeze": "np.expand_dims(t, axis)", "expand": "np.broadcast_to(t, shape)",
    "to": "t.astype(dtype)", "float": "t.astype(np.float32)", "dim": "t.ndim", "clone": "t.copy()", "clamp": "t.clip(min, max)",
    "where": "np.where(mask, t, x)", "masked_fill": "np.where(mask, x, t)", "mm": "t @ x", "norm": "np.linalg.norm(t)",
}  # fmt: skip


class Tensor(Variable):
    """A variable: use it wherever NumPy takes an array, then ask `gradients` for derivatives.

    value: an array (shared, not copied), number or list of real floating-point numbers.
    name: shown in errors and in the repr. An ndarray is a constant; only Tensors have gradients.
    """

    __slots__ = ()

    def __init__(self, value: Any, name: str | None = None):
        if isinstance(value, Variable):
            raise TypeError("Tensor: the value is a Tensor already; use it as it is, or Tensor(t.value) for a new leaf")
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError("Tensor: a masked array would lose its mask; pass value.filled(x), and the mask where it is needed")
        value = np.asarray(value)
        if value.dtype.kind != "f":
            raise TypeError(
                f"Tensor: values of dtype {value.dtype} have no gradient; keep an array for constants, or convert: Tensor(np.asarray(x, np.float32))"
            )
        self.value: np.ndarray = value
        self.node = Leaf(value.shape, value.dtype, name)

    # --- what it is ---------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def itemsize(self) -> int:
        return self.value.itemsize

    @property
    def nbytes(self) -> int:
        return self.value.nbytes

    @property
    def is_leaf(self) -> bool:
        """Whether this is a variable, rather than the result of an operation."""
        return isinstance(self.node, Leaf)

    @property
    def grad(self) -> np.ndarray | None:
        """What the last `backward()` left on this leaf."""
        return self.node.grad if isinstance(self.node, Leaf) else None

    def item(self, *index: Any) -> float:
        """The value of a Tensor with one element (or of the element at `index`), as a Python float without gradient."""
        return self.value.item(*index)

    def tolist(self) -> Any:
        return self.value.tolist()

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __contains__(self, x) -> bool:
        return bool(np.any(self == x))

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError("iteration over a Tensor without dimensions; its number is t.item()")
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        node = self.node
        if isinstance(node, Leaf):
            origin = f"leaf {node.name}" if node.name else "leaf"
        else:
            if node.op is PICK and node.parents is not FREED:
                node = node.parents[0]
            origin = f"from {node.op if isinstance(node.op, str) else node.op.name}"
        values = np.array2string(self.value, separator=", ", prefix="Tensor(", threshold=20, edgeitems=3)
        return f"Tensor({values}, shape={self.shape}, {self.dtype}, {origin})"

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self.value)
        if self.size != 1:
            raise TypeError(f"format {spec!r} needs one number, but the Tensor has shape {self.shape}; format its elements one by one")
        return format(self.value.item(), spec)

    # --- what it is not: conversions that would lose the gradient, and mutation ----------

    def __array__(self, dtype=None, copy=None) -> Never:
        raise TypeError(NO_CONVERSION)

    def __float__(self) -> Never:
        raise TypeError(
            "float(t), math.f(t) and array[i] = t would lose the gradient; use t.item() for the number, np.f for math.f, np.stack of a list for filling"
        )

    __int__ = __index__ = __complex__ = __float__

    def __setitem__(self, index, v) -> Never:
        raise TypeError(
            "t[index] = v: a Tensor cannot be changed in place; use at(t)[index].set(v), np.where(mask, v, t), or np.stack of a list of rows"
        )

    def __deepcopy__(self, memo) -> "Tensor":
        if not isinstance(self.node, Leaf):
            raise TypeError(
                "deepcopy: this Tensor is the result of an operation, and a copy would lose its gradient; copy t.value, or pass t.value to a plot"
            )
        return Tensor(self.value.copy(), self.node.name)

    def __copy__(self) -> "Tensor":
        return self.__deepcopy__({})

    def __reduce_ex__(self, protocol) -> Never:
        raise TypeError("a Tensor cannot be pickled; save arrays with tinygrad_notes.saving, or t.value")

    def _refuse_in_place(self, *args, **kwargs) -> Never:
        raise TypeError(
            "a Tensor cannot be changed in place (fill, put, sort, partition, resize); use the function that returns a new one: np.sort, np.partition, np.resize, np.where"
        )

    fill = put = sort = partition = resize = itemset = _refuse_in_place

    # --- arithmetic ----------------------------------------------------------------------

    def __add__(self, other):
        return binary(table[np.add], self, other)

    def __radd__(self, other):
        return binary(table[np.add], other, self)

    def __sub__(self, other):
        return binary(table[np.subtract], self, other)

    def __rsub__(self, other):
        return binary(table[np.subtract], other, self)

    def __mul__(self, other):
        return binary(table[np.multiply], self, other)

    def __rmul__(self, other):
        return binary(table[np.multiply], other, self)

    def __truediv__(self, other):
        return binary(table[np.divide], self, other)

    def __rtruediv__(self, other):
        return binary(table[np.divide], other, self)

    def __matmul__(self, other):
        return binary(table[np.matmul], self, other)

    def __rmatmul__(self, other):
        return binary(table[np.matmul], other, self)

    def __neg__(self):
        return apply(table[np.negative], (self,))

    def __pos__(self):
        return np.positive(self)

    def __abs__(self):
        return np.absolute(self)

    def __pow__(self, other):
        if type(other) is int and other == 2:  # as ndarray does
            return apply(table[np.square], (self,))
        return binary(table[np.power], self, other)

    def __rpow__(self, other):
        return binary(table[np.power], other, self)

    def __mod__(self, other):
        return np.remainder(self, other)

    def __rmod__(self, other):
        return np.remainder(other, self)

    def __floordiv__(self, other):
        return np.floor_divide(self, other)

    def __rfloordiv__(self, other):
        return np.floor_divide(other, self)

    def __divmod__(self, other):
        return np.divmod(self, other)

    def __rdivmod__(self, other):
        return np.divmod(other, self)

    # Comparisons give plain arrays of bool: constants. An elementwise == is what rules need.
    def __eq__(self, other):
        return np.equal(self, other)

    def __ne__(self, other):
        return np.not_equal(self, other)

    def __lt__(self, other):
        return np.less(self, other)

    def __le__(self, other):
        return np.less_equal(self, other)

    def __gt__(self, other):
        return np.greater(self, other)

    def __ge__(self, other):
        return np.greater_equal(self, other)

    __hash__ = object.__hash__

    def __getitem__(self, index):
        return apply(table[operator.getitem], (self,), {"index": index})

    # --- an ndarray's methods -------------------------------------------------------------

    @property
    def T(self):
        return np.transpose(self)

    @property
    def mT(self):
        return table[np.swapaxes](self, -1, -2)

    @property
    def real(self):
        return self

    @property
    def flat(self):
        return self.ravel()  # iterated and indexed like ndarray.flat

    def astype(self, dtype, **kwargs):
        return table["astype"](self, dtype=dtype, **kwargs)

    def copy(self, order: Any = "C"):
        return np.copy(self, order)

    def conj(self):
        return self

    conjugate = conj

    def reshape(self, *shape, order: Any = "C", **kwargs):
        return table[np.reshape](self, shape[0] if len(shape) == 1 else shape, order=order, **kwargs)

    def transpose(self, *axes):
        return table[np.transpose](self, axes[0] if len(axes) == 1 else axes or None)

    def swapaxes(self, axis1, axis2):
        return table[np.swapaxes](self, axis1, axis2)

    def ravel(self, order: Any = "C"):
        return table[np.ravel](self, order=order)

    flatten = ravel

    def squeeze(self, axis=None):
        return table[np.squeeze](self, axis=axis)

    def repeat(self, repeats, axis=None):
        return np.repeat(self, repeats, axis=axis)

    def take(self, indices, axis=None, out=None, mode: Any = "raise"):
        return np.take(self, indices, axis, out, mode)

    def compress(self, condition, axis=None, out=None):
        return np.compress(condition, self, axis, out)

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return np.diagonal(self, offset, axis1, axis2)

    def trace(self, offset=0, axis1=0, axis2=1, dtype=None, out=None):
        return np.trace(self, offset, axis1, axis2, dtype, out)

    def dot(self, b, out=None):
        return np.dot(self, b, out)

    def clip(self, min=None, max=None, out=None):
        return np.clip(self, min, max, out)

    def round(self, decimals=0, out=None):
        return np.round(self, decimals, out)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False, **kwargs):
        return table[np.sum](self, axis, dtype, out, keepdims, **kwargs)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False, **kwargs):
        return table[np.mean](self, axis, dtype, out, keepdims, **kwargs)

    def prod(self, axis=None, dtype=None, out=None, keepdims=False, **kwargs):
        return np.prod(self, axis, dtype, out, keepdims, **kwargs)

    def max(self, axis=None, out=None, keepdims=False, **kwargs):
        return table[np.max](self, axis, out, keepdims, **kwargs)

    def min(self, axis=None, out=None, keepdims=False, **kwargs):
        return table[np.min](self, axis, out, keepdims, **kwargs)

    def var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, **kwargs):
        return table[np.var](self, axis, dtype, out, ddof, keepdims, **kwargs)

    def std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False, **kwargs):
        return table[np.std](self, axis, dtype, out, ddof, keepdims, **kwargs)

    def cumsum(self, axis=None, dtype=None, out=None):
        return np.cumsum(self, axis, dtype, out)

    def cumprod(self, axis=None, dtype=None, out=None):
        return np.cumprod(self, axis, dtype, out)

    def searchsorted(self, v, side: Any = "left", sorter=None):
        return np.searchsorted(self, v, side, sorter)

    # Places and truth values have no gradient: arrays.
    def argmax(self, *args, **kwargs):
        return self.value.argmax(*args, **kwargs)

    def argmin(self, *args, **kwargs):
        return self.value.argmin(*args, **kwargs)

    def argsort(self, *args, **kwargs):
        return self.value.argsort(*args, **kwargs)

    def argpartition(self, *args, **kwargs):
        return self.value.argpartition(*args, **kwargs)

    def nonzero(self):
        return self.value.nonzero()

    def all(self, *args, **kwargs):
        return self.value.all(*args, **kwargs)

    def any(self, *args, **kwargs):
        return self.value.any(*args, **kwargs)

    def __getattr__(self, name: str) -> Never:
        function, way = vars(np).get(name), FROM_PYTORCH.get(name)
        if way is None and callable(function) and function in table and function not in refused:
            way = f"np.{name}(t)" if getattr(function, "nin", 2) == 1 else f"np.{name}(t, ...)"
        known = f"; its array has one: t.value.{name}" if hasattr(np.ndarray, name) and not name.startswith("__") else ""
        raise AttributeError(f"a Tensor has no attribute {name!r}{f'; write {way}' if way else known}")

    # --- gradients, for readers from PyTorch ---------------------------------------------

    def backward(self) -> None:
        """Set `.grad` on every leaf that this number depends on: overwritten, never added to."""
        if self.size != 1:
            raise ValueError(f"backward: the Tensor has shape {self.shape}, expected one number; use t.sum().backward(), or vjp")
        leaves: list[Any] = []
        seen, stack = {self.node}, [self.node]
        while stack:
            node = stack.pop()
            if isinstance(node, Leaf):
                leaves.append(node)
            elif node.parents is not FREED:  # a freed node is refused below, by the walk
                new = [p for p in node.parents if p is not None and p not in seen]
                seen.update(new)
                stack += new
        found = walk({self.node: np.ones_like(self.value)}, leaves)
        for leaf in leaves:
            leaf.grad = found[leaf]


core.tensor_class = Tensor
