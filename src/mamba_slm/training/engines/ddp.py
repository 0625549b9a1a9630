"""Every process holds the whole model and its own rows; gradients are averaged while the last backward pass runs.

PyTorch's DistributedDataParallel adds up and divides by the number of processes. Each process therefore divides its sum
of losses by the targets of *all* rows over the number of processes, so that the result is the gradient of the mean loss
of all rows, as one process would have it.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mamba_slm.data.loader import Batch
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.gradients import accumulate, clip_gradients, require_targets


class DdpEngine(Engine):
    """DistributedDataParallel over a model that every process holds."""

    name = "ddp"

    def prepare(self) -> None:
        super().prepare()
        with self.world.watched():
            self.loss_of = DistributedDataParallel(
                self.loss_of,
                device_ids=[torch.device(self.device)] if self.device.startswith("cuda") else None,
                gradient_as_bucket_view=True,
            )

    def compute_gradients(self, batch: Batch) -> tuple[float, float]:
        self.optimizer.zero_grad(set_to_none=True)
        (targets,) = self.world.sum(batch.num_targets)
        require_targets(targets)
        with self.world.watched():
            mine = accumulate(
                self.loss_of,
                batch,
                rows_at_once=self.config.rows_at_once,
                precision=self.precision,
                device=self.device,
                divisor=targets / self.world.size,
                pass_of=self.synchronized,
            )
        (total,) = self.world.sum(mine)
        self.precision.scaler.unscale_(self.optimizer)
        return total / targets, self.clip()

    def synchronized(self, is_last: bool) -> contextlib.AbstractContextManager:
        """The passes of a micro-batch: gradients travel in the batch's last one only."""
        assert isinstance(self.loss_of, DistributedDataParallel)
        return contextlib.nullcontext() if is_last else self.loss_of.no_sync()

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor) -> Tensor:
        assert isinstance(self.loss_of, DistributedDataParallel)
        return self.loss_of.module(inputs, targets, documents)

    def clip(self) -> float:
        """Clip the averaged gradients, which every process has; the norm before."""
        return clip_gradients(self.model.parameters(), self.config.clip_norm)
