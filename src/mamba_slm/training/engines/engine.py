"""An engine holds the weights of a run on its processes and takes optimiser steps; one trainer drives all of them.

This one is the plain case, one process that holds everything; the others change what they must.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mamba_slm.data.loader import Batch
from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.world import World
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients
from mamba_slm.training.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors, require_optimizer
from mamba_slm.training.precision import Precision


class SummedLoss(torch.nn.Module):
    """The model with the sum of losses as its `forward`, which is what libraries hook into."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor) -> Tensor:
        """[b t] inputs, targets and document ids to a scalar in nats."""
        return self.model.loss_sum(inputs, targets, document_ids=documents).total


class Engine:
    """One process that holds the whole model.

    Args:
        model: float32, on its device; the same weights in every process of a world, or on "meta" except in the first.
        config: of the run.
        precision: of the forward pass.
        device: of this process.
        world: the processes that train together.
    """

    name = "plain"
    holds_all = True
    """Whether every process has the whole model at hand."""

    def __init__(self, model: LanguageModel, config: TrainConfig, precision: Precision, device: str, world: World):
        self.model, self.config, self.precision, self.device, self.world = model, config, precision, device, world
        self.loss_of: torch.nn.Module = SummedLoss(model)
        self.prepare()

    def prepare(self) -> None:
        """Make the optimiser; an engine that distributes the model does so here."""
        self.optimizer = self.new_optimizer()

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the settings over what this process holds of the model."""
        config = self.config
        require_optimizer(config.optimizer, engine=self.name)
        return build_optimizer(
            self.model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2),
            epsilon=config.epsilon,
            name=config.optimizer,
        )

    def set_learning_rate(self, learning_rate: float) -> None:
        """Of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def compute_gradients(self, batch: Batch) -> tuple[float, float]:
        """From this process's rows to the mean loss of all rows, and the norm of the gradients before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = accumulate_gradients(
            self.model,
            batch,
            rows_at_once=self.config.rows_at_once,
            precision=self.precision,
            device=self.device,
        )
        self.precision.scaler.unscale_(self.optimizer)
        return loss, clip_gradients(self.model.parameters(), self.config.clip_norm)

    def update_weights(self) -> None:
        """Take the optimiser step; under fp16 an overflow skips it and halves the loss scale."""
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor) -> Tensor:
        """The sum of losses without gradients, in step with the other processes where they share the model."""
        return self.loss_of(inputs, targets, documents)

    def shares(self) -> Iterator[tuple[str, Tensor]]:
        """What this process holds of every trained parameter between steps, by name."""
        for group in self.optimizer.param_groups:
            yield from zip(group["names"], map(local_part, group["params"]), strict=True)

    def weights(self) -> dict[str, Tensor]:
        """The whole model by parameter name, in the first process; the others help, and get nothing."""
        return self.model.state_dict() if self.world.is_first else {}

    def moments(self) -> dict[str, Tensor]:
        """The whole optimiser state as `PARAMETER/KEY`, in the first process; the others help, and get nothing."""
        return optimizer_tensors(self.optimizer) if self.world.is_first else {}

    def held(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Weights and optimiser state as this process has them, whole or distributed; nothing is sent or copied."""
        return self.model.state_dict(), optimizer_tensors(self.optimizer)

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Continue from what `weights` and `moments` gave, under any engine and number of processes.

        Every process calls this with all of both, which it need not read whole where they are stored.

        Raises:
            RuntimeError, ConfigError: they belong to another model.
        """
        self.model.load_state_dict(weights)
        load_optimizer_tensors(self.optimizer, dict(moments))

    def bytes_held(self) -> dict[str, int]:
        """Bytes of weights and of moments that this process keeps between steps."""
        parameters = list(self.model.parameters())
        state = [value for entry in self.optimizer.state.values() for value in entry.values()]
        tensors = [value for value in state if isinstance(value, Tensor)]
        return {"weights": sum(map(bytes_here, parameters)), "moments": sum(map(bytes_here, tensors))}


def bytes_here(tensor: Tensor) -> int:
    """Bytes of the part of a tensor that lies in this process."""
    return local_part(tensor).numel() * tensor.element_size()


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process; all of one that is not distributed."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[operator]


def clip_limit(clip_norm: float) -> float:
    """The largest norm that gradients may have; 0 means any."""
    return clip_norm if clip_norm > 0 else math.inf
