"""The implementations that are compared, each as its users run it: read a sequence, decode, take a training step.

Letters: b sequences (1 in training and prefill), t time, v vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mamba_slm.core.allocator import keep_freed_memory
from mamba_slm.core.errors import UsageError
from mamba_slm.data.loader import Batch
from mamba_slm.evaluation.bench.in_runtime import InRuntime
from mamba_slm.evaluation.bench.names import ATTENTION, GRANITE, LLAMA, OURS_IN_ANY_FORM, VARIANTS, precision_of
from mamba_slm.evaluation.bench.sizes import llama_of_equal_size
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.checkpoint import dtype_of, load_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.huge_pages import move_to_huge_pages
from mamba_slm.model.init import build_model
from mamba_slm.model.packed import PackedModel, nearest_model
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.model.quantization import PLANS
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.loss import IGNORE_INDEX
from mamba_slm.ops.native.start import start_native_kernels
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.precision import DTYPES, Precision

OPTIMIZER = {"learning_rate": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.95), "epsilon": 1e-8}
CLIP_NORM = 1.0


class Contender(Protocol):
    """One implementation with its weights loaded."""

    settings: dict[str, Any]
    """How it runs; printed and stored."""

    parameters: int

    def prepare_training(self, precision: str) -> None:
        """Make the optimiser; autocast in bf16."""
        ...

    def train_step(self, tokens: Tensor) -> tuple[float, float]:
        """Gradients of the mean loss over [1 t] tokens, clipping, AdamW; the loss and the gradient norm before it."""
        ...

    def prefill(self, tokens: Tensor) -> None:
        """Read [1 t] tokens into a new state and choose the next token."""
        ...

    def last_logits(self, tokens: Tensor, one_by_one: int) -> Tensor:
        """[b v] after [b t] tokens, the last `one_by_one` of which are read one at a time as in decoding.

        Keeps what is known before the last of these, for `decode` to go on from there every time.
        """
        ...

    def decode(self, new_tokens: int) -> float:
        """Seconds for `new_tokens` greedy tokens behind `last_logits`, from when the first of the answer is known."""
        ...

    def kept_bytes(self) -> int | None:
        """Memory of what `last_logits` keeps for all sequences; None where it is not known."""
        ...


def named_config(model: str, context_tokens: int | None = None) -> ModelConfig:
    """The config of a preset, or of a model folder.

    Args:
        context_tokens: of a preset whose own context is shorter: positions are rotary, so that its weights and its
            speed do not depend on it.

    Raises:
        DataError: neither.
    """
    from mamba_slm.model.checkpoint import load_config, resolve_model_folder

    if model not in SIZES:
        return load_config(resolve_model_folder(Path(model)))
    config = preset(model)
    return replace(config, max_context_tokens=max(config.max_context_tokens, context_tokens or 0))


def named_model(model: str, seed: int, context_tokens: int | None = None) -> LanguageModel:
    """A preset with random weights, or a model folder, in float32; see `named_config`."""
    return build_model(named_config(model, context_tokens), seed=seed) if model in SIZES else load_model(model)


def build_contender(
    name: str,
    model: str,
    *,
    seed: int,
    precision: str,
    context_tokens: int | None = None,
    compiled: bool = False,
    inference: bool = True,
) -> Contender:
    """The contender with the weights of `model` (llama, attention: random ones), in the given dtype or its own."""
    precision = precision_of(name, precision)
    if name in OURS_IN_ANY_FORM:
        if name == ATTENTION:
            built = build_model(llama_of_equal_size(named_config(model, context_tokens)), seed=seed)
        else:
            built = named_model(model, seed, context_tokens)
        weights = name.rpartition("-")[2] if name in VARIANTS else precision
        return Ours(built, weights=weights, compiled=compiled, inference=inference)
    from mamba_slm.evaluation.bench.peers import granite, llama

    if name == GRANITE:
        return granite(named_model(model, seed, context_tokens), precision=precision)
    assert name == LLAMA
    return llama(llama_of_equal_size(named_config(model, context_tokens)), precision=precision)


class Ours(InRuntime):
    """This package: the functions that its trainer and its `generate` call.

    Decoding is that of `--runtime compiled`, or of `--runtime torch` where `compiled` is False.
    """

    def __init__(self, model: LanguageModel, *, weights: str, compiled: bool = False, inference: bool = True):
        """`weights` are fp32, bf16, or a name in `PLANS`; `model` is used up."""
        kernels = start_native_kernels()
        self.weight_bytes: int | None = None
        if isinstance(model, PackedModel):
            if weights != "fp32":
                raise UsageError(f"the model is quantized, so its weights cannot be {weights}", hint="give --ours none")
            self.weight_bytes = model.num_bytes
        elif weights in PLANS:
            model = packed = nearest_model(model, PLANS[weights])
            self.weight_bytes = packed.num_bytes
        elif DTYPES[weights] != torch.float32:
            cast = {name: tensor.to(dtype_of(name, DTYPES[weights])) for name, tensor in model.state_dict().items()}
            model.load_state_dict(cast, assign=True)
        self.model = model
        if inference and weights not in PLANS:  # as `generation.loading` does; packed ones are there
            move_to_huge_pages(model)
        self.runtime = CompiledRuntime(model) if compiled else TorchRuntime(model)
        self.parameters = count_parameters(model.config).total
        self.settings: dict[str, Any] = {
            "train": "accumulate_gradients, clip_gradients, fused AdamW: the trainer's own functions; one document",
            "prefill": "stream_tokens, greedy, as `mamba-slm generate`",
            "decode": f"the same with --runtime {'compiled' if compiled else 'torch'}",
            "kernels": str(kernels).removeprefix("kernels: "),
            "pattern": model.config.pattern,
            "feed_forward_size": model.config.feed_forward_size,
        }

    def prepare_training(self, precision: str) -> None:
        if isinstance(self.model, PackedModel):
            raise UsageError("training needs a model in floating point", hint="leave train out of --tasks")
        self.arithmetic = Precision(precision, "cpu")  # type: ignore[arg-type]
        self.optimizer = build_optimizer(self.model.train(), **OPTIMIZER)
        keep_freed_memory()  # as the trainer does

    def train_step(self, tokens: Tensor) -> tuple[float, float]:
        self.optimizer.zero_grad(set_to_none=True)
        loss = accumulate_gradients(
            self.model, one_document(tokens), rows_at_once=1, precision=self.arithmetic, device="cpu"
        )
        norm = clip_gradients(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return loss, norm


def one_document(tokens: Tensor) -> Batch:
    """[1 t] tokens as the batch that the trainer would make of one document; after the last token nothing follows."""
    targets = torch.full_like(tokens, IGNORE_INDEX)
    targets[:, :-1] = tokens[:, 1:]
    documents = torch.zeros_like(tokens, dtype=torch.int32)
    return Batch(inputs=tokens.numpy(), targets=targets.numpy(), document_ids=documents.numpy())
