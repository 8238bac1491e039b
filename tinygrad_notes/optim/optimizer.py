"""What all optimizers share: parameters in flat memory, checked gradients, a step that is applied wholly or not at all."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from tinygrad_notes.binding import check_value, map_structure
from tinygrad_notes.core import Leaf, describe
from tinygrad_notes.interrupts import uninterrupted
from tinygrad_notes.tensor import Tensor
from tinygrad_notes.threads import for_each
from tinygrad_notes.tree import own

import numpy as np

CHUNK = 2**18  # elements updated at a time: few enough for the cache, and so many that two threads seldom meet at the interpreter
COST_OF_A_LOOK, COST_OF_AN_UPDATE = 20, 120  # of one element, in multiply-adds of a matrix product

Decay = Callable[[str, Tensor], bool] | Mapping[str, bool]


class Chunk(NamedTuple):
    """A piece of flat memory that is updated at once; all arrays have one dimension and one length."""

    p: np.ndarray  # the parameters, in place
    moments: list[np.ndarray]
    scratch: list[np.ndarray]
    gathered: np.ndarray  # where the gradients of several small parameters are put together; empty where there is one
    decay: float
    pieces: list[tuple[str, int, int]]  # (path, start, stop) of the gradients

    def parts(self, flat: np.ndarray) -> Iterator[tuple[str, int, np.ndarray]]:
        """(path, start, part) for each piece, of an array in which they lie one after the other."""
        begin = 0
        for path, start, stop in self.pieces:
            yield path, start, flat[begin : begin + stop - start]
            begin += stop - start


class Optimizer:
    """A rule that updates parameters in place, given their gradients.

    params: a Tensor, or lists, tuples and dicts of Tensors (leaves), mostly `parameters(model)`.
    lr: the learning rate, unless `step` is given another one. weight_decay: its strength, for the
    parameters that `decay` chooses: all of them (as in PyTorch) if it is None; those for which
    decay(path, tensor) is true; or those of a dict path -> bool. The usual choice for a
    transformer spares biases, gains and other vectors: `decay=lambda path, t: t.ndim >= 2`.

    The leaves' values move into flat buffers (see `tree.own`): the arrays that they were made from
    are never written. A subclass gives `moments`, the names of the arrays that it keeps for every
    parameter, and `update`.
    """

    moments: tuple[str, ...] = ()

    def __init__(self, params: Any, *, lr: float, weight_decay: float = 0.0, decay: Decay | None = None):
        self._name = type(self).__name__
        self.lr = self._at_least_zero("lr", lr)
        self.weight_decay = self._at_least_zero("weight_decay", weight_decay)
        self.steps = 0  # how many steps were taken
        self.leaves: dict[str, Tensor] = self._flatten(params, "params")
        self._check_leaves()
        groups = {path: self.weight_decay if self._decays(path, decay) else 0.0 for path in self.leaves}
        # Parameters with one decay lie side by side, so that few large chunks cover them.
        own(self.leaves[path] for path in sorted(groups, key=lambda path: -groups[path]))
        self.values = {path: t.value for path, t in self.leaves.items()}
        self._nodes = [cast(Leaf, t.node) for t in self.leaves.values()]
        self._memory = {id(value.base) for value in self.values.values()}  # the flat buffers
        self._size = sum(t.size for t in self.leaves.values())
        self._moments: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.moments}
        self.chunks: list[Chunk] = []
        self._scratch: dict[tuple[np.dtype, int], list[np.ndarray]] = {}
        for run in self._runs(groups):
            self._plan(run, groups[run[0]])
        for name, planned in self._moments.items():  # in the order of params, and with those of empty parameters
            self._moments[name] = {path: planned[path] if t.size else np.zeros(t.shape, t.dtype) for path, t in self.leaves.items()}

    def update(self, p: np.ndarray, g: np.ndarray, lr: float, decay: float, moments: list[np.ndarray], scratch: list[np.ndarray]) -> None:
        """Update one chunk of parameters p and their moments in place, given the gradient g, which stays as it is.

        scratch: two arrays of the same size. `self.steps` counts this step already, so it is t = 1, 2, ...
        """
        raise NotImplementedError(f"{self._name} has no update rule; define update(self, p, g, lr, decay, moments, scratch)")

    def step(self, grads: Any, lr: float | None = None) -> None:
        """Update every parameter. grads: arrays in the structure of `params`; lr: the learning rate of this step.

        Raises, with nothing changed: ValueError for other names or shapes, TypeError for another
        dtype, FloatingPointError for a gradient that is not finite, RuntimeError for a parameter that
        was given another array. Ctrl-C waits for the end of the step. Graphs that read the parameters
        before are stale afterwards, and a walk over them raises. Only a rule of your own that raises leaves a step half done.
        """
        self.apply(self.pieces(self.checked(grads)), lr)

    def apply(self, pieces: list[list[np.ndarray]], lr: float | None) -> None:
        """The part of a step that looks at numbers: for each chunk, the gradients of its pieces, each (n,), or all of them in one array.

        Raises FloatingPointError, with nothing changed, for one that is not finite.
        """
        rate = self.lr if lr is None else self._at_least_zero("lr", lr)
        gradients: list[Any] = [None] * len(self.chunks)

        def gather(i):
            parts = pieces[i]
            gradients[i] = parts[0] if len(parts) == 1 else np.concatenate(parts, out=self.chunks[i].gathered)
            return all_finite(gradients[i])

        def update(i):
            p, moments, scratch, _, decay, _ = self.chunks[i]
            self.update(p, gradients[i], rate, decay, moments, scratch)

        with np.errstate(all="ignore"):  # a warning turned into an error would stop halfway
            if not all(self._for_each_chunk(gather, COST_OF_A_LOOK)):
                self._refuse_not_finite(gradients)
            with uninterrupted():
                self.steps += 1
                try:
                    self._for_each_chunk(update, COST_OF_AN_UPDATE)
                finally:
                    for node in self._nodes:
                        node.touch()

    def state_dict(self) -> dict[str, Any]:
        """Copies: {"steps": int, moment's name: {path: array}}. Learning rate and other settings are the program's."""
        return {
            "steps": self.steps,
            **{name: {path: np.array(m) for path, m in by_path.items()} for name, by_path in self._moments.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. Checked first: on an error (ValueError) nothing has changed."""
        self.check_state(state)
        with uninterrupted():
            self.steps = state["steps"]
            for name, by_path in self._moments.items():
                for path, m in by_path.items():
                    m[...] = state[name][path]

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise ValueError if `load_state_dict` would."""
        if not isinstance(state, Mapping):
            raise ValueError(f"{self._name}: the state is {describe(state)}, expected what state_dict gives")
        if set(state) != {"steps", *self.moments}:
            raise ValueError(
                f"{self._name}: the state has {sorted(state)}, expected {sorted(['steps', *self.moments])}; load it into the kind of optimizer that made it"
            )
        if type(state["steps"]) is not int or state["steps"] < 0:
            raise ValueError(f"{self._name}: steps is {state['steps']!r}, expected an int of at least 0")
        for name, by_path in self._moments.items():
            self._check_names(f"the state's {name}", state[name])
            for path, m in by_path.items():
                new = state[name][path]
                if not isinstance(new, np.ndarray | np.generic) or (new.shape, new.dtype.newbyteorder("=")) != (m.shape, m.dtype):
                    raise ValueError(
                        f"{self._name}: the state's {name} of {path} is {describe(new)}, expected an array {m.shape} {m.dtype}"
                    )

    # --- checks ---------------------------------------------------------------------------

    def _at_least_zero(self, name: str, x: float) -> float:
        try:
            fits = math.isfinite(x) and x >= 0
        except TypeError:
            raise TypeError(f"{self._name}: {name} is {describe(x)}, expected a number of at least 0") from None
        if not fits:
            raise ValueError(f"{self._name}: {name} is {x}, expected a finite number of at least 0")
        return float(x)

    def _fraction(self, name: str, x: float) -> float:
        return fraction(self._name, name, x)

    def _betas(self, betas: Any) -> tuple[float, float]:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise TypeError(f"{self._name}: betas is {describe(betas)}, expected a pair of numbers, such as (0.9, 0.99)") from None
        return self._fraction("betas[0]", beta1), self._fraction("betas[1]", beta2)

    def _flatten(self, structure: Any, what: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def collect(x, path):
            if path in found:
                raise ValueError(f"{self._name}: {what} has two members with the path {path!r}; give one another name")
            found[path] = x

        map_structure(collect, structure)
        return found

    def _check_leaves(self) -> None:
        if not self.leaves:
            raise ValueError(f"{self._name}: params has no Tensor in it, so nothing would be trained; expected parameters(model)")
        first: dict[int, str] = {}
        for path, t in self.leaves.items():
            if not isinstance(t, Tensor) or not isinstance(t.node, Leaf):
                came = "the result of an operation" if isinstance(t, Tensor) else describe(t)
                raise TypeError(
                    f"{self._name}: params{path and '.' + path} is {came}, expected a Tensor that is a leaf; an array is a constant, see tree.parameters"
                )
            check_value(f"{self._name}: params{path and '.' + path}", t)
            if t.dtype.itemsize < 4:
                raise TypeError(
                    f"{self._name}: params{path and '.' + path} is {t.dtype}, which cannot hold small updates; keep parameters in float32"
                )
            if id(t) in first:
                raise ValueError(
                    f"{self._name}: params.{path} is params.{first[id(t)]} again; give a tied parameter once, as tree.parameters does"
                )
            first[id(t)] = path

    def _decays(self, path: str, decay: Decay | None) -> bool:
        if decay is None:
            return True
        if callable(decay):
            return bool(decay(path, self.leaves[path]))
        self._check_names("decay", decay)
        return bool(decay[path])

    def _check_names(self, what: str, given: Any) -> None:
        if not isinstance(given, Mapping):
            raise ValueError(f"{self._name}: {what} is {describe(given)}, expected a dict with the names of params")
        if given.keys() != self.leaves.keys():
            missing, unexpected = (sorted(a - b)[:8] for a, b in [(self.leaves.keys(), given.keys()), (given.keys(), self.leaves.keys())])
            raise ValueError(f"{self._name}: {what} lacks {missing} and has unexpected {unexpected}; its names must be those of params")

    def checked(self, grads: Any) -> dict[str, np.ndarray]:
        """The gradients by path, each with one dimension; raises what `step` raises before it looks at numbers."""
        given = grads if type(grads) is dict and grads.keys() == self.leaves.keys() else self._flatten(grads, "grads")
        self._check_names("grads", given)
        self.check_values()
        flat = {}
        for path, value in self.values.items():
            g = given[path]
            if not isinstance(g, (np.ndarray, np.generic)):
                raise TypeError(
                    f"{self._gradient(path)} is {describe(g)}, expected an array {value.shape} {value.dtype}; call gradients without create_graph"
                )
            if g.shape != value.shape:
                raise ValueError(f"{self._gradient(path)} has shape {g.shape}, expected {value.shape}")
            if g.dtype != value.dtype:
                raise TypeError(
                    f"{self._gradient(path)} has dtype {g.dtype}, expected {value.dtype}; convert it with .astype({value.dtype})"
                )
            if id(g.base) in self._memory or id(g) in self._memory:  # the update would change it
                g = g.copy()
            flat[path] = g.reshape(-1)
        return flat

    def check_values(self) -> None:
        """RuntimeError for a parameter whose array is not the one that is updated."""
        for (path, value), t in zip(self.values.items(), self.leaves.values()):
            if t.value is not value:
                raise RuntimeError(
                    f"{self._name}: {path or 'the parameter'} was given another array since the optimizer was made; write into it, t.value[...] = x, or make the optimizer anew"
                )

    def _for_each_chunk(self, work: Callable[[int], Any], cost: int) -> list[Any]:
        """work(i) for each chunk, first of even i: two threads, where it is much, take every other one each, so that no scratch is used by both."""
        n = len(self.chunks)
        if n == 1:
            return [work(0)]
        halves = for_each([range(0, n, 2), range(1, n, 2)], lambda part: [work(i) for i in part], cost * self._size)
        return [result for half in halves for result in half]

    def pieces(self, flat: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
        """The gradients of each chunk."""
        return [[flat[path][start:stop] for path, start, stop in chunk.pieces] for chunk in self.chunks]

    def _refuse_not_finite(self, gradients: list[np.ndarray]) -> None:
        for chunk, g in zip(self.chunks, gradients):
            for path, start, part in chunk.parts(g):
                if not np.isfinite(part).all():
                    bad, shape = int(np.flatnonzero(~np.isfinite(part))[0]), self.leaves[path].shape
                    index = tuple(map(int, np.unravel_index(start + bad, shape)))
                    raise FloatingPointError(
                        f"{self._gradient(path)} {shape} is {part[bad]} at {index}; no parameter was changed; check.anomaly() names the op that made it"
                    )

    def _gradient(self, path: str) -> str:
        return f"{self._name}: the gradient of {path or 'the parameter'}"

    # --- memory ---------------------------------------------------------------------------

    def _runs(self, groups: dict[str, float]) -> list[list[str]]:
        """The paths of non-empty leaves, in runs that are adjacent in memory and decay alike."""
        runs: list[list[str]] = []
        end, last = -1, None
        for address, path in sorted((t.value.ctypes.data, path) for path, t in self.leaves.items() if t.size):
            value = self.values[path]
            if address < end:
                raise ValueError(
                    f"{self._name}: params.{path} shares memory with params.{runs[-1][-1]}; tie them by one Tensor, or copy: Tensor(t.value)"
                )
            if address == end and last == (id(value.base), groups[path]):
                runs[-1].append(path)
            else:
                runs.append([path])
            end, last = address + value.nbytes, (id(value.base), groups[path])
        return runs

    def _plan(self, run: list[str], decay: float) -> None:
        """Cover one run of parameters with chunks, and make its moments."""
        values = [self.values[path] for path in run]
        flat, dtype = cast(np.ndarray, values[0].base), values[0].dtype
        start = (values[0].ctypes.data - flat.ctypes.data) // dtype.itemsize
        size = sum(v.size for v in values)
        p, moments = flat[start : start + size], [np.zeros(size, dtype) for _ in self.moments]
        pieces, begin, end = [], 0, 0

        def close():
            nonlocal pieces, begin
            if pieces:
                part = slice(begin, end)
                parity = len(self.chunks) % 2  # see _for_each_chunk
                if (dtype, parity) not in self._scratch:
                    self._scratch[dtype, parity] = [np.empty(CHUNK, dtype) for _ in range(2)]
                others = [s[: end - begin] for s in self._scratch[dtype, parity]]
                gathered = np.empty(end - begin if len(pieces) > 1 else 0, dtype)
                self.chunks.append(Chunk(p[part], [m[part] for m in moments], others, gathered, decay, pieces))
                pieces, begin = [], end

        for path, value in zip(run, values):
            for name, m in zip(self.moments, moments):
                self._moments[name][path] = m[end : end + value.size].reshape(value.shape)
            if end - begin + value.size > CHUNK:
                close()
            for first in range(0, value.size, CHUNK):  # a large parameter fills chunks of its own, and its gradient is used where it is
                if value.size > CHUNK:
                    close()
                stop = min(first + CHUNK, value.size)
                pieces.append((path, first, stop))
                end += stop - first
        close()


def fraction(owner: str, name: str, x: float) -> float:
    """x as a float, or an error unless 0 <= x < 1."""
    try:
        fits = 0 <= x < 1
    except TypeError:
        raise TypeError(f"{owner}: {name} is {describe(x)}, expected a number from 0 up to, but not including, 1") from None
    if not fits:
        raise ValueError(f"{owner}: {name} is {x}, expected a number from 0 up to, but not including, 1")
    return float(x)


def all_finite(x: np.ndarray) -> bool:
    """Whether a one-dimensional array has neither infinities nor NaN. Call it where overflow is no error."""
    # A sum of squares is finite only if all are; where it overflows, ask each element.
    return math.isfinite(x.dot(x)) or bool(np.isfinite(x).all())
