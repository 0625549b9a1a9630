"""What engines of several processes have in common: each its own rows, and gradients averaged between them.

Libraries add gradients up and divide by the number of processes. Each process therefore divides its sum of losses by
the targets of *all* rows over the number of processes, so that the result is the gradient of the mean loss of all rows,
as one process would have it.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod

from torch import Tensor

from mamba_slm.data.loader import Batch
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.gradients import accumulate, require_targets


class TogetherEngine(Engine):
    """A step of several processes; what happens to the gradients is up to the library behind it."""

    def compute_gradients(self, batch: Batch) -> tuple[float, float]:
        self.forget_gradients()
        (targets,) = self.world.sum(batch.num_targets)
        require_targets(targets)
        with self.world.watched():
            mine = accumulate(
                self.loss_of,
                batch,
                rows_at_once=self.rows_at_once,
                precision=self.precision,
                device=self.device,
                divisor=targets / self.world.size,
                backward=self.backward,
                pass_of=self.synchronized,
            )
            norm = self.clip()
        (total,) = self.world.sum(mine)
        return total / targets, norm

    @property
    def rows_at_once(self) -> int:
        """Rows of one pass."""
        return self.config.rows_at_once

    def forget_gradients(self) -> None:
        """Begin a step without gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """The backward pass of a micro-batch."""
        loss.backward()

    @abstractmethod
    def synchronized(self, is_last: bool) -> contextlib.AbstractContextManager:
        """The passes of a micro-batch: gradients travel in the batch's last one only, where the library can wait."""

    @abstractmethod
    def clip(self) -> float:
        """Clip the averaged gradients, now or in the update; the norm of all of them before."""
