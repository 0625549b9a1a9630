"""FSDP2: each process keeps a share of every weight, gradient and moment, and collects a sublayer when it computes it.

One unit per sublayer, and one for what is around them (embedding, tied head, final norm). Under bf16 the matrices of a
sublayer form a unit of their own that travels in bf16; norms, convolutions and the SSM's A_log, D and dt_bias stay
float32 in theirs, as do all master weights. PyTorch's `fully_shard` averages gradients, so the loss is scaled as for
DDP.

| sharding | kept whole on every process | collected again in the backward pass | gradients travel |
|---|---|---|---|
| full | nothing | yes | after every micro-batch |
| grad_optimizer | weights, from forward to backward | no | after every micro-batch |
| none | everything | no | after the last micro-batch |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.model.rounded import RoundedProjection
from mamba_slm.training.engines.engine import clip_limit
from mamba_slm.training.engines.together import TogetherEngine
from mamba_slm.training.engines.whole import gathered, scatter_into
from mamba_slm.training.optim import optimizer_tensors, require_state_of
from mamba_slm.training.pieces import fill, own_part, shapes_of


class FsdpEngine(TogetherEngine):
    """`fully_shard` over a model whose weights the first process has, and the others need not."""

    name = "fsdp"
    holds_all = False

    def prepare(self) -> None:
        if self.precision.name == "fp16":
            raise ConfigError("fsdp has no loss scale for fp16", hint="use --precision bf16, or --engine ddp")
        initial = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        self.model.to("meta")
        device_type = torch.device(self.device).type
        self.mesh = mesh_of(device_type, self.world.size, self.config.sharding, self.config.shard_processes)
        with self.world.watched():
            self.shard(device_type)
            self.model.to_empty(device="cpu" if self.config.offload else self.device)
            scatter_into(dict(self.model.named_parameters()), initial)
        self.optimizer = self.new_optimizer()

    def shard(self, device_type: str) -> None:
        """Cut the model into units."""
        config = self.config
        offload = CPUOffloadPolicy(pin_memory=device_type == "cuda") if config.offload else OffloadPolicy()
        again = config.sharding == "full"
        plain = MixedPrecisionPolicy(cast_forward_inputs=False)
        low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for sublayer in self.model.sublayers:
            low_matrices: list[nn.Module] = [
                module
                for module in sublayer.modules()  # what is rounded to few bits is rounded from float32, as it will be
                if isinstance(module, nn.Linear) and not isinstance(module, RoundedProjection)
            ]
            if self.precision.name == "bf16" and low_matrices:
                fully_shard(
                    low_matrices, mesh=self.mesh, reshard_after_forward=again, mp_policy=low, offload_policy=offload
                )
            fully_shard(sublayer, mesh=self.mesh, reshard_after_forward=again, mp_policy=plain, offload_policy=offload)
        fully_shard(self.loss_of, mesh=self.mesh, reshard_after_forward=False, mp_policy=plain, offload_policy=offload)

    @contextlib.contextmanager
    def synchronized(self, is_last: bool) -> Iterator[None]:
        assert isinstance(self.loss_of, FSDPModule)
        shares = (
            self.config.sharding != "none"
        )  # gradients summed over micro-batches are shares, too, or nothing is won
        self.loss_of.set_requires_gradient_sync(is_last or shares)
        self.loss_of.set_requires_all_reduce(is_last)
        self.loss_of.set_is_last_backward(is_last)
        yield

    def clip(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_limit(self.config.clip_norm))
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()

    def update_weights(self) -> None:
        self.optimizer.step()

    def put_away(self) -> None:
        """Keep shares only: a pass without a backward pass leaves the outer unit whole."""
        for module in self.loss_of.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def bytes_held(self) -> dict[str, int]:
        self.put_away()
        return super().bytes_held()

    def weights(self) -> dict[str, Tensor]:
        self.put_away()
        with self.world.watched():
            return gathered(dict(self.model.named_parameters()), is_first=self.world.is_first)

    def moments(self) -> dict[str, Tensor]:
        with self.world.watched():
            return gathered(optimizer_tensors(self.optimizer), is_first=self.world.is_first)

    def held(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        self.put_away()
        return dict(self.model.named_parameters()), optimizer_tensors(self.optimizer)

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        require_state_of(self.optimizer, moments)
        left, shapes = set(moments), shapes_of(moments)
        self.put_away()
        fill(dict(self.model.named_parameters()), weights)
        for group in self.optimizer.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                keys = sorted(key for key in left if key.rpartition("/")[0] == name)
                if keys:
                    self.optimizer.state[parameter] = {
                        key.rpartition("/")[2]: like(parameter, moments, key, shapes[key]) for key in keys
                    }
                left.difference_update(keys)
        if left:
            raise ConfigError(f"the optimiser state has no parameter for {sorted(left)[0]!r}")


def like(parameter: Tensor, moments: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    """A moment laid out as its parameter; a counter of steps as it is."""
    if not isinstance(parameter, DTensor) or shape != tuple(parameter.shape):
        return moments[key].clone()
    value = torch.zeros_like(parameter)
    assert isinstance(value, DTensor)
    value.to_local().copy_(own_part(moments, key, parameter))
    return value


def mesh_of(device_type: str, size: int, sharding: str, shard_processes: int | None) -> DeviceMesh:
    """Which processes share the shards of one copy of the model.

    Raises:
        ConfigError: the processes cannot be dealt to groups of that size.
    """
    group = 1 if sharding == "none" else shard_processes or size
    if group > size or size % group:
        fitting = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)
        raise ConfigError(
            f"{size} processes cannot form groups of {group}", hint=f"use --shard-processes with one of {fitting}"
        )
    if group == size:
        return init_device_mesh(device_type, (size,), mesh_dim_names=("shard",))
    return init_device_mesh(device_type, (size // group, group), mesh_dim_names=("replicate", "shard"))
