"""Adapters on a model: peft's LoRA on its matrices, its small tensors in full."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mamba_slm.core.errors import ConfigError, UsageError
from mamba_slm.core.optional import require
from mamba_slm.finetuning.adapters.settings import MODULE_NAMES, LoraSettings
from mamba_slm.model.config import ModelConfig

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

DEFAULT_NAME = "default"
PURPOSE = "LoRA"


def attach(model: nn.Module, settings: LoraSettings, name: str = DEFAULT_NAME, *, trainable: bool = True) -> PeftModel:
    """Give a model an adapter that changes nothing yet, and make it the active one.

    Args:
        model: one of transformers made of ours (`HybridSlmForCausalLM` or the classifier), or a `PeftModel` of it,
            which gets a further adapter.
        name: of the adapter; without dots.
        trainable: whether its parameters, and no others, require gradients.

    Raises:
        MissingDependencyError: no peft.
        ConfigError: no part of the model is a target, or a target cannot have an adapter there.
        UsageError: the name is taken.
    """
    peft = require("peft", extra="finetune", purpose=PURPOSE)
    require_usable(name)
    known: Any = model if isinstance(model, peft.PeftModel) else None
    base = model if known is None else known.get_base_model()
    config = lora_config(base, settings)
    with without_known_warnings():
        if known is None:
            adapted: Any = peft.get_peft_model(base, config, adapter_name=name)
        elif name in known.peft_config:
            raise UsageError(f"there is an adapter {name!r} already", hint="choose another name")
        else:
            known.add_adapter(name, config)
            adapted = known
    if settings.full:
        from mamba_slm.finetuning.adapters.full_tensors import train_in_full

        train_in_full(base, settings.full_endings, name)
    if settings.in_proj_slices:
        keep_to_slices(base, settings.in_proj_slices, name)
    make_active(adapted, name, trainable=trainable)
    return adapted


def require_usable(name: str) -> None:
    """Raise UsageError for a name that peft would take for a part of the names of parameters."""
    if "." in name or name in "lora_":
        raise UsageError(
            f"an adapter cannot be called {name!r}", hint='give it a name without dots that is no part of "lora_"'
        )


@contextlib.contextmanager
def without_known_warnings() -> Iterator[None]:
    """Around calls of peft that make adapters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def make_active(model: PeftModel, name: str, *, trainable: bool = False) -> None:
    """Switch to an adapter; the others wait with their values.

    Raises:
        UsageError: no adapter of this name.
    """
    if name not in model.peft_config:
        raise UsageError(f"there is no adapter {name!r}", hint=f"there are: {', '.join(model.peft_config)}")
    model.set_adapter(name, inference_mode=not trainable)


def lora_config(model: nn.Module, settings: LoraSettings, *, base_path: str | None = None) -> LoraConfig:
    """The settings in peft's words, for this model.

    Raises:
        ConfigError: as `attach`.
    """
    peft = require("peft", extra="finetune", purpose=PURPOSE)
    modules = target_modules(model, settings.target_names)
    if settings.dora and (filled := [name for name, module in model.named_modules() if is_filled_up(module)]):
        raise ConfigError(
            f"DoRA needs the norms of a matrix's own rows, and GPUs' kernels of 4 bits want {len(filled)} matrices of "
            f"this model with rows of zeros, {filled[0]} first",
            hint="leave --dora out, or use --method lora",
        )
    is_classifier = not hasattr(model, "lm_head")
    return peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=modules,
        modules_to_save=["score"] if is_classifier else None,
        task_type=peft.TaskType.SEQ_CLS if is_classifier else peft.TaskType.CAUSAL_LM,
        base_model_name_or_path=base_path,
    )


def is_filled_up(module: nn.Module) -> bool:
    """Whether it is a 4-bit matrix that stands for fewer rows than it holds."""
    return getattr(module, "is_padded", False)


def target_modules(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The module names of targets, of those that the model has.

    Raises:
        ConfigError: it has none of them, or a tied head or embedding is among them.
    """
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    wanted = [MODULE_NAMES.get(name, name) for name in names]
    architecture = architecture_of(model)
    for name in names:
        if name in MODULE_NAMES and architecture.tie_embeddings:
            raise ConfigError(
                f"the model's head is its embedding, so an adapter on the {name} alone could not be merged",
                hint="leave head and embedding out of the targets",
            )
    found = [name for name in wanted if name in there]
    if not found:
        raise ConfigError(
            f"no part of the model is called {' or '.join(names)}: its pattern is {architecture.pattern}",
            hint="leave out targets for an adapter on every matrix",
        )
    return found


def architecture_of(model: nn.Module) -> ModelConfig:
    """The settings of a model of transformers made of ours.

    Raises:
        UsageError: it is none.
    """
    found = getattr(getattr(model, "config", None), "architecture", None)
    if not isinstance(found, ModelConfig):
        raise UsageError(
            f"adapters want a model of ours as one of transformers, and not a {type(model).__name__}",
            hint="HybridSlmForCausalLM.from_language_model(model)",
        )
    return found


def keep_to_slices(model: nn.Module, slices: Sequence[str], adapter: str) -> None:
    """Let an adapter of in_proj change only these rows: the others of its B begin at zero and get no gradient."""
    rows = slice_mask(architecture_of(model), slices)
    for name, module in model.named_modules():
        if name.endswith("in_proj") and hasattr(module, "lora_B"):
            weight: nn.Parameter = module.lora_B[adapter].weight  # type: ignore[index]
            weight.register_hook(lambda gradient: gradient * rows.to(gradient.device, gradient.dtype))


def slice_mask(config: ModelConfig, slices: Sequence[str]) -> Tensor:
    """[rows of in_proj, 1] with 1 in the named slices and 0 elsewhere."""
    state = config.num_groups * config.state_size
    sizes = {"z": config.inner_size, "x": config.inner_size, "B": state, "C": state, "dt": config.num_ssm_heads}
    parts = [torch.full((size, 1), float(name in slices)) for name, size in sizes.items()]
    return torch.cat(parts)
