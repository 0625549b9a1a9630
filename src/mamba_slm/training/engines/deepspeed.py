"""DeepSpeed's ZeRO: AdamW works on float32 shares, and every process keeps its share of what a stage cuts.

| stage | cut into shares | kept whole on every process |
|---|---|---|
| 1 | moments and the float32 copy of the weights that AdamW works on | weights, gradients |
| 2 | gradients, too | weights |
| 3 | weights, too; each is collected when it is computed with | small parameters: norms, A_log, D, dt_bias |

DeepSpeed averages gradients and clips them; the loss is scaled as for DDP, and the learning rate is the trainer's. All
weights stay float32: bf16 is `torch_autocast`, in which matrices travel (and are summed up) in bf16. Checkpoints are
ours, of whole tensors, so that any engine continues; DeepSpeed's own files are never written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mamba_slm.core.errors import ConfigError, SetupError
from mamba_slm.core.optional import require
from mamba_slm.training.engines.deepspeed_settings import deepspeed_settings
from mamba_slm.training.engines.together import TogetherEngine
from mamba_slm.training.optim import require_state_of
from mamba_slm.training.pieces import shapes_of

STEP = "step"
"""AdamW's counter, one for all parameters."""


class DeepspeedEngine(TogetherEngine):
    """`deepspeed.initialize` over the model; under stage 3 only the first process need have its weights."""

    name = "deepspeed"

    def prepare(self) -> None:
        device_type = torch.device(self.device).type
        settings = deepspeed_settings(
            self.config, self.model.config, processes=self.world.size, device_type=device_type
        )
        self.stage: int = settings["zero_optimization"]["stage"]
        self.holds_all = self.stage < 3
        self.passes = settings["train_micro_batch_size_per_gpu"]
        self.library = library(device_type)
        os.environ.setdefault("LOCAL_RANK", str(self.world.place.local_rank))  # which DeepSpeed reads
        self.optimizer = self.new_optimizer()  # before sharding, as decay depends on shapes
        with self.world.watched():
            self.library.init_distributed(dist_init_required=False)  # it joins the group of processes that is there
            if self.stage == 3:
                share_parameters(self.model, self.library, settings, self.world.is_first)
                put_in_place(self.optimizer, self.model)
            self.engine, *_ = self.library.initialize(
                model=self.loss_of, optimizer=self.optimizer, config=settings, dist_init_required=False
            )
        found = self.engine.dp_world_size
        if found != self.world.size:
            raise SetupError(f"DeepSpeed sees {found} processes of {self.world.size}, and each would train alone")
        self.loss_of, self.zero = self.engine, self.engine.optimizer

    @property
    def rows_at_once(self) -> int:
        return self.passes

    def forget_gradients(self) -> None:
        """DeepSpeed does so after every update."""

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss, scale_wrt_gas=False)

    @contextlib.contextmanager
    def synchronized(self, is_last: bool) -> Iterator[None]:
        self.engine.set_gradient_accumulation_boundary(is_last)
        yield

    def clip(self) -> float:
        """The norm; DeepSpeed clips in its step."""
        norms = self.zero._get_norm_groups() if self.stage == 3 else [self.zero.scaled_global_norm()]
        norm = torch.stack([torch.as_tensor(norm, dtype=torch.float32).cpu() for norm in norms])
        return torch.where(norm < 0, torch.nan, norm).norm().item()  # a negative one stands for one that is not finite

    def update_weights(self) -> None:
        with self.world.watched():
            self.engine.step()

    def weights(self) -> dict[str, Tensor]:
        named = dict(self.model.named_parameters())
        if self.stage < 3:
            return {name: on_cpu(tensor) for name, tensor in named.items()} if self.world.is_first else {}
        return self.gathered({name: (parameter, None) for name, parameter in named.items()})

    def moments(self) -> dict[str, Tensor]:
        states = [self.optimizer.state.get(share, {}) for share in self.flat_shares()]
        if not all(states):
            return {}
        self.link_states()
        keys = sorted(states[0].keys() - {STEP})
        named = self.model.named_parameters()
        found = self.gathered({f"{name}/{key}": (parameter, key) for name, parameter in named for key in keys})
        if self.world.is_first:
            found |= {f"{name}/{STEP}": on_cpu(states[0][STEP]) for name, _ in self.model.named_parameters()}
        return found

    def gathered(self, wanted: Mapping[str, tuple[nn.Parameter, str | None]]) -> dict[str, Tensor]:
        """Whole tensors in the first process, one after the other: of a parameter, or of its state under a key."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        tensors = {}
        with self.world.watched():
            for name, (parameter, key) in wanted.items():
                whole = (
                    safe_get_full_fp32_param(parameter)
                    if key is None
                    else safe_get_full_optimizer_state(parameter, key)
                )
                assert whole is not None
                if self.world.is_first:
                    tensors[name] = on_cpu(whole)
        return tensors

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        named = dict(self.model.named_parameters())
        require_same_model(named, weights, moments)
        require_state_of(self.optimizer, moments)
        steps = {float(moments[name]) for name in moments if name.endswith(f"/{STEP}")}
        if len(steps) > 1:
            raise ConfigError("the parameters took different numbers of steps, and DeepSpeed counts one for all")
        keys = {name.rpartition("/")[2] for name in moments} - {STEP}
        with torch.no_grad():
            for name, parameter in named.items():
                self.put_weight(parameter, weights[name])
            self.zero.refresh_fp32_params()
            self.make_states(keys, steps)
            for name, parameter in named.items():
                for key in sorted(keys):
                    self.put_moment(parameter, moments[f"{name}/{key}"], key)

    def put_weight(self, parameter: nn.Parameter, whole: Tensor) -> None:
        """Replace a weight, or what this process has of it; nothing is sent."""
        if self.stage < 3:
            parameter.copy_(whole)
            return
        parameter.ds_tensor.copy_(share_of(parameter, whole))  # type: ignore[attr-defined]
        if parameter.data.shape == whole.shape:  # small, and kept whole
            parameter.data.copy_(whole)

    def put_moment(self, parameter: nn.Parameter, whole: Tensor, key: str) -> None:
        """Fill what this process has of the state of a parameter; nothing is sent."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if self.stage < 3:
            safe_set_full_optimizer_state(parameter, whole.to(self.device), key)
        else:
            safe_set_local_optimizer_state(parameter, share_of(parameter, whole), key)

    def make_states(self, keys: set[str], steps: set[float]) -> None:
        """Give the optimiser the state that its first step would make, so that it can be filled."""
        self.optimizer.state.clear()
        if not keys:
            return
        for share in self.flat_shares():
            self.optimizer.state[share] = {key: torch.zeros_like(share).detach() for key in sorted(keys)}
            self.optimizer.state[share][STEP] = torch.tensor(max(steps), device=share.device)
        self.link_states()

    def link_states(self) -> None:
        """Let DeepSpeed find the state of a parameter; by itself it does so when one of several groups has a state."""
        if self.stage < 3:
            self.zero._hp_optimizer_states_linked = False
            self.zero._lazy_init_hp_params_optimizer_state()

    def shares(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.model.named_parameters():
            yield name, parameter.ds_tensor if self.stage == 3 else parameter  # type: ignore[attr-defined]

    def flat_shares(self) -> list[Tensor]:
        """The flat float32 tensors that the optimiser of this process works on."""
        return self.zero.fp32_partitioned_groups_flat if self.stage == 3 else self.zero.single_partition_of_fp32_groups

    def bytes_held(self) -> dict[str, int]:
        weights, cut = [*self.flat_shares()], self.stage == 3
        for parameter in self.model.parameters():
            weights += [parameter.ds_tensor] if cut else [parameter]  # type: ignore[attr-defined]
            weights += [parameter] if cut and parameter.ds_persist else []  # type: ignore[attr-defined]
        state = [value for entry in self.optimizer.state.values() for value in entry.values()]
        return {"weights": bytes_of(weights), "moments": bytes_of(state)}


def library(device_type: str) -> ModuleType:
    """DeepSpeed for this kind of device, speaking on stderr and of warnings only.

    Raises:
        MissingDependencyError: it is not installed.
        SetupError: it has been told to use another kind of device, with which each process would train alone.
    """
    wanted = os.environ.setdefault("DS_ACCELERATOR", device_type)
    module = require("deepspeed", extra="scale", purpose="--engine deepspeed")
    found = module.accelerator.get_accelerator().device_name()
    if found != device_type:
        raise SetupError(
            f"DeepSpeed computes on {found}, and this run on {device_type} (DS_ACCELERATOR is {wanted})",
            hint=f"unset DS_ACCELERATOR, or set it to {device_type}",
        )
    if device_type == "cpu":  # compiled for minutes, and a process that waits in it never learns that another died
        module.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    old_names = (
        ".*(all_gather_into_tensor|reduce_scatter_tensor).* is deprecated"  # which DeepSpeed calls in every step
    )
    warnings.filterwarnings("ignore", message=old_names, category=FutureWarning)
    logger = logging.getLogger("DeepSpeed")
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)  # stdout is for results
    return module


def share_parameters(model: nn.Module, library: ModuleType, settings: dict[str, Any], is_first: bool) -> None:
    """Cut the parameters of every module into shares, one module after the other.

    Only the first process need have the weights; in the others, those of one module at a time exist.
    """
    for module in model.modules():
        if not module._parameters:
            continue
        if not is_first and any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            module.to_empty(device="cpu", recurse=False)
        library.zero.Init(module=OwnParameters(module), config_dict_or_path=settings, mem_efficient_linear=False)


class OwnParameters(nn.Module):
    """A module's own parameters without those of the modules in it."""

    def __init__(self, module: nn.Module):
        super().__init__()
        for name, parameter in module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)


def put_in_place(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Give the optimiser the parameters that have taken the place of those on "meta"."""
    named = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [named[name] for name in group["names"]]


def require_same_model(named: Mapping[str, Any], weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
    """Refuse the checkpoint of another model, in every process alike."""
    expected = {name: tuple(getattr(parameter, "ds_shape", parameter.shape)) for name, parameter in named.items()}
    found = shapes_of(weights)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ConfigError(f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'absent')}")
    unknown = sorted({name.rpartition("/")[0] for name in moments} - named.keys())
    if unknown:
        raise ConfigError(f"the optimiser state has no parameter for {unknown[0]!r}")


def share_of(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    """What this process has of a parameter under stage 3: as many values as the others, the last of them zeros."""
    share = torch.zeros(parameter.ds_tensor.ds_numel, dtype=whole.dtype)  # type: ignore[attr-defined]
    begin = parameter.ds_zero_partition_rank * len(share)  # type: ignore[attr-defined]
    values = whole.flatten()[begin : begin + len(share)]
    share[: len(values)] = values
    return share.to(parameter.device)


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy that shares memory with nothing."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def bytes_of(tensors: list[Tensor]) -> int:
    """Bytes of the memory behind tensors, each piece counted once."""
    pieces = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(pieces.values())
