"""The config of transformers for our model folders: the same `config.json`, read by both."""

from __future__ import annotations

from typing import Any, ClassVar

from mamba_slm.core.errors import MissingDependencyError
from mamba_slm.model.config import MODEL_FORMAT_VERSION, ModelConfig
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD

try:
    from transformers.configuration_utils import PreTrainedConfig
except ImportError as error:
    raise MissingDependencyError(
        f"the model as one of transformers needs transformers, which could not be imported: {error}",
        hint="pip install 'mamba-slm[hf]'",
    ) from error

MODEL_TYPE = "mamba_slm"
SMALLEST = ModelConfig(
    pattern="M-*-", vocab_size=256, hidden_size=64, num_heads=1, num_kv_heads=1, feed_forward_size=128, state_size=16
)
"""What a config without settings means: transformers makes one to find out what the defaults are."""


class HybridSlmConfig(PreTrainedConfig):
    """Holds the settings of `ModelConfig` under `model`; what transformers' tools look for are views of them.

    The name has no "mamba" in it on purpose: transformers' `generate` takes every class called so for a model without
    keys and values, and then hands the cache over under another name.
    """

    model_type: ClassVar[str] = MODEL_TYPE
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    auto_map: ClassVar[dict[str, str]] = {}  # TRL reads it, set or not

    format_version: int = MODEL_FORMAT_VERSION
    model: dict[str, Any] | None = None
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.model = (SMALLEST if self.model is None else ModelConfig(**self.model)).stored()
        super().__post_init__(**kwargs)
        register_models()

    @classmethod
    def from_architecture(cls, architecture: ModelConfig, **kwargs: Any) -> HybridSlmConfig:
        """The config of a model of ours; further arguments as for any config of transformers."""
        return cls(model=architecture.stored(), **kwargs)

    @property
    def architecture(self) -> ModelConfig:
        """The settings as our own config.

        Raises:
            ConfigError: they contradict each other.
        """
        assert self.model is not None
        return ModelConfig(**self.model)

    @property
    def vocab_size(self) -> int:
        return self.architecture.vocab_size

    @vocab_size.setter
    def vocab_size(self, size: int) -> None:
        self.model = (self.model or {}) | {"vocab_size": size}

    @property
    def hidden_size(self) -> int:
        return self.architecture.hidden_size

    @property
    def intermediate_size(self) -> int:
        return self.architecture.feed_forward_size

    @property
    def num_hidden_layers(self) -> int:
        return self.architecture.num_layers

    @property
    def num_attention_heads(self) -> int:
        return self.architecture.num_heads

    @property
    def num_key_value_heads(self) -> int:
        return self.architecture.num_kv_heads

    @property
    def head_dim(self) -> int:
        return self.architecture.head_dim

    @property
    def max_position_embeddings(self) -> int:
        return self.architecture.max_context_tokens

    @property
    def rms_norm_eps(self) -> float:
        return self.architecture.norm_eps

    @property
    def tie_word_embeddings(self) -> bool:
        return self.architecture.tie_embeddings

    @tie_word_embeddings.setter
    def tie_word_embeddings(self, tied: bool) -> None:
        self.model = (self.model or {}) | {"tie_embeddings": tied}

    @property
    def layer_types(self) -> list[str]:
        """One per token mixer, in transformers' words; its caches have one layer for each."""
        mixers = self.architecture.pattern.replace(FEED_FORWARD, "")
        return ["full_attention" if mixer == ATTENTION else "linear_attention" for mixer in mixers]


def register_models() -> None:
    """Make the Auto classes know the models. Here, and not where the config class is registered: by the time that
    somebody makes a config, transformers has finished importing itself, which the models need."""
    import mamba_slm.model.hf  # noqa: F401
