"""transformers' models as contenders, called as its documentation says.

Letters: b sequences, t time, v vocabulary.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.core.optional import require
from mamba_slm.evaluation.bench.contenders import CLIP_NORM, OPTIMIZER
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.granite import granite_config, to_granite_tensors
from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.gradients import clip_gradients
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.precision import DTYPES, Precision

HF_PURPOSE = "comparing with transformers"


def granite(source: LanguageModel, *, precision: str) -> Transformers:
    """Its GraniteMoeHybrid with the weights of `source`."""
    return Transformers(granite_config(source.config), source, precision=precision)


def llama(config: ModelConfig, *, precision: str) -> Transformers:
    """Its Llama of these sizes, with random weights."""
    return Transformers(llama_settings(config), None, precision=precision)


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
        """Logits [b v] after [b t] tokens, and the cache that holds them; a given cache is continued."""
        out = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1], out.past_key_values

    @torch.inference_mode()
    def prefill(self, tokens: Tensor) -> None:
        self.read(tokens)[0].argmax(dim=-1).tolist()

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
        token = logits.argmax(dim=-1)[:, None]
        start = time.perf_counter()
        for _ in range(new_tokens):
            logits, cache = self.read(token, cache)
            token = logits.argmax(dim=-1)[:, None]
        return time.perf_counter() - start

    def kept_bytes(self) -> int | None:
        return bytes_within(self.cache, set())


def bytes_within(thing: Any, seen: set[int]) -> int:
    """Bytes of the tensors in the attributes, lists and dicts of a thing, each memory counted once in `seen`."""
    if isinstance(thing, Tensor):
        storage = thing.untyped_storage()
        is_new = storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        return storage.nbytes() if is_new else 0
    if isinstance(thing, dict):
        return sum(bytes_within(each, seen) for each in thing.values())
    if isinstance(thing, list | tuple):
        return sum(bytes_within(each, seen) for each in thing)
    return bytes_within(vars(thing), seen) if "Layer" in type(thing).__name__ or "Cache" in type(thing).__name__ else 0


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
