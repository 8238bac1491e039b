"""Memory for gradients, from which an optimizer takes them without a copy."""

from typing import Any

from tinygrad_notes.optim.optimizer import Chunk, Optimizer

import numpy as np


class Inbox:
    """Whoever computes gradients writes them here, and calls `step`: those of a chunk lie side by side, as its parameters do."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        values = optimizer.values
        self.arrays = {path: np.zeros(value.shape, value.dtype) for path, value in values.items()}

        def is_whole(chunk: Chunk) -> bool:
            """Whether its gradients are put together, and none of them is needed as a whole elsewhere: a large one reaches over several chunks."""
            return len(chunk.pieces) > 1 and all(stop - start == values[path].size for path, start, stop in chunk.pieces)

        for chunk in filter(is_whole, optimizer.chunks):
            for path, _, part in chunk.parts(chunk.gathered):
                self.arrays[path] = part.reshape(values[path].shape)
        pieces = optimizer.pieces({path: g.reshape(-1) for path, g in self.arrays.items()})
        self.pieces = [[chunk.gathered] if is_whole(chunk) else parts for chunk, parts in zip(optimizer.chunks, pieces)]

    def places(self, grads: Any) -> list[np.ndarray]:
        """Where each of these gradients belongs, which come in the structure of the optimizer's params; raises as its `step` does."""
        return [self.arrays[path] for path in self.optimizer.checked(grads)]

    def step(self, lr: float | None = None) -> None:
        """The optimizer's step, by what lies here: `places` has checked all but the numbers. The optimizer's own `step` may write here, too."""
        self.optimizer.apply(self.pieces, lr)
