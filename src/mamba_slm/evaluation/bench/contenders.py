"""The implementations that are compared, each as its users run it: read a sequence, decode, take a training step.

Letters: b batch (1 here), t time, v vocabulary.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mamba_slm.core.allocator import keep_freed_memory
from mamba_slm.core.errors import CheckFailedError
from mamba_slm.core.optional import require
from mamba_slm.data.loader import Batch
from mamba_slm.evaluation.bench.cells import GRANITE, LLAMA, OURS, PLAIN, llama_of_equal_size
from mamba_slm.evaluation.bench.in_runtime import InRuntime
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.checkpoint import dtype_of, load_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.granite import granite_config, to_granite_tensors
from mamba_slm.model.huge_pages import move_to_huge_pages
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import SIZES, preset
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.loss import IGNORE_INDEX
from mamba_slm.training.gradients import accumulate_gradients, clip_gradients
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.precision import DTYPES, Precision

OPTIMIZER = {"learning_rate": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.95), "epsilon": 1e-8}
CLIP_NORM = 1.0
HF_PURPOSE = "comparing with transformers"


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
        """[v] after [1 t] tokens, the last `one_by_one` of which are read one at a time as in decoding.

        Keeps what is known before the last of these, for `decode` to go on from there every time.
        """
        ...

    def decode(self, new_tokens: int) -> float:
        """Seconds for `new_tokens` greedy tokens behind `last_logits`, from when the first of the answer is known."""
        ...


def named_config(model: str) -> ModelConfig:
    """The config of a preset, or of a model folder.

    Raises:
        DataError: neither.
    """
    from mamba_slm.model.checkpoint import load_config, resolve_model_folder

    return preset(model) if model in SIZES else load_config(resolve_model_folder(Path(model)))


def named_model(model: str, seed: int) -> LanguageModel:
    """A preset with random weights, or a model folder, in float32."""
    return build_model(preset(model), seed=seed) if model in SIZES else load_model(model)


def build_contender(
    name: str, model: str, *, seed: int, precision: str, compiled: bool = False, inference: bool = True
) -> Contender:
    """The contender with the weights of `model` (llama: random ones) in the given dtype."""
    if name in (OURS, PLAIN):
        return Ours(named_model(model, seed), dtype=DTYPES[precision], compiled=compiled, inference=inference)
    if name == GRANITE:
        source = named_model(model, seed)
        return Transformers(granite_config(source.config), source, precision=precision)
    assert name == LLAMA
    return Transformers(llama_settings(llama_of_equal_size(named_config(model))), None, precision=precision)


class Ours(InRuntime):
    """This package: the functions that its trainer and its `generate` call.

    Decoding is that of `--runtime compiled`, or of `--runtime torch` where `compiled` is False.
    """

    def __init__(self, model: LanguageModel, *, dtype: torch.dtype, compiled: bool = False, inference: bool = True):
        if dtype != torch.float32:
            cast = {name: tensor.to(dtype_of(name, dtype)) for name, tensor in model.state_dict().items()}
            model.load_state_dict(cast, assign=True)
        self.model = model
        if inference:  # as `generation.loading` does
            move_to_huge_pages(model)
        self.runtime = CompiledRuntime(model) if compiled else TorchRuntime(model)
        self.parameters = count_parameters(model.config).total
        self.settings: dict[str, Any] = {
            "train": "accumulate_gradients, clip_gradients, fused AdamW: the trainer's own functions; one document",
            "prefill": "stream_tokens, greedy, as `mamba-slm generate`",
            "decode": f"the same with --runtime {'compiled' if compiled else 'torch'}",
            "pattern": model.config.pattern,
        }

    def prepare_training(self, precision: str) -> None:
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


class Transformers:
    """A causal language model of transformers, called as its documentation says."""

    def __init__(self, config: dict[str, Any], source: LanguageModel | None, *, precision: str):
        """Build it from a config.json; `source` gives a GraniteMoeHybrid its weights."""
        transformers = require("transformers", extra="hf", purpose=HF_PURPOSE)
        transformers.logging.set_verbosity_error()  # it says that its CUDA kernels are absent
        settings = {"attn_implementation": "sdpa"}
        own = transformers.AutoConfig.for_model(**config)
        self.model: nn.Module = transformers.AutoModelForCausalLM.from_config(own, dtype=torch.float32, **settings)
        if source is not None:
            given = to_granite_tensors(source.state_dict(), source.config)
            left = self.model.load_state_dict(given, strict=False)
            missing = [name for name in left.missing_keys if name != "lm_head.weight"]
            if missing or left.unexpected_keys:
                raise CheckFailedError(f"weights do not fit {type(self.model).__name__}: {missing}, {left}")
            self.model.tie_weights()  # type: ignore[operator]
        self.model.to(DTYPES[precision]).eval()
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        shape = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        self.settings = {
            "class": f"transformers.{type(self.model).__name__}",
            "version": transformers.__version__,
            **settings,
            "train": "train(), use_cache=False, its own loss (labels=), clip_grad_norm_, fused AdamW",
            "inference": "eval(), use_cache=True, logits_to_keep=1, greedy by argmax, torch.inference_mode",
            **{name: config[name] for name in shape},
        }

    def prepare_training(self, precision: str) -> None:
        self.arithmetic = Precision(precision, "cpu")  # type: ignore[arg-type]
        self.optimizer = build_optimizer(self.model.train(), **OPTIMIZER)

    def train_step(self, tokens: Tensor) -> tuple[float, float]:
        self.optimizer.zero_grad(set_to_none=True)
        with self.arithmetic.autocast():
            loss = self.model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        norm = clip_gradients(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return loss.item(), norm

    def read(self, tokens: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Logits [v] after [1 t] tokens, and the cache that holds them; a given cache is continued."""
        out = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1], out.past_key_values

    @torch.inference_mode()
    def prefill(self, tokens: Tensor) -> None:
        self.read(tokens)[0].argmax().item()

    @torch.inference_mode()
    def last_logits(self, tokens: Tensor, one_by_one: int) -> Tensor:
        together = tokens.shape[1] - one_by_one
        logits, cache = self.read(tokens[:, :together])
        for position in range(together, tokens.shape[1]):
            self.cache, self.last = copy.deepcopy(cache), tokens[:, position : position + 1]
            logits, cache = self.read(self.last, cache)
        return logits.float()

    @torch.inference_mode()
    def decode(self, new_tokens: int) -> float:
        logits, cache = self.read(self.last, copy.deepcopy(self.cache))
        token = logits.argmax().view(1, 1)
        start = time.perf_counter()
        for _ in range(new_tokens):
            logits, cache = self.read(token, cache)
            token = logits.argmax().view(1, 1)
        return time.perf_counter() - start


def llama_settings(config: ModelConfig) -> dict[str, Any]:
    """config.json of a Llama of these sizes."""
    return {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.feed_forward_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "max_position_embeddings": config.max_context_tokens,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
