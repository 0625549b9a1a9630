"""Every process holds the whole model and its own rows; gradients are averaged while the last backward pass runs."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from mamba_slm.training.engines.together import TogetherEngine
from mamba_slm.training.gradients import clip_gradients


class DdpEngine(TogetherEngine):
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

    def synchronized(self, is_last: bool) -> contextlib.AbstractContextManager:
        assert isinstance(self.loss_of, DistributedDataParallel)
        return contextlib.nullcontext() if is_last else self.loss_of.no_sync()

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor) -> Tensor:
        assert isinstance(self.loss_of, DistributedDataParallel)
        return self.loss_of.module(inputs, targets, documents)

    def clip(self) -> float:
        self.precision.scaler.unscale_(self.optimizer)
        return clip_gradients(self.model.parameters(), self.config.clip_norm)
