"""Everything that defines a model's function, apart from its weights. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA, OWN_LETTERS, expand_pattern, plugin_letters_in

MODEL_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and choices of one model. `pattern` is stored expanded."""

    pattern: str
    """One character per residual sublayer: M Mamba-2, * attention, - SwiGLU."""

    vocab_size: int
    """Rows of the embedding."""

    hidden_size: int
    """Width of the residual stream."""

    num_heads: int
    """Query heads of an attention sublayer."""

    num_kv_heads: int
    """Key and value heads; divides num_heads."""

    feed_forward_size: int
    """Inner width of a SwiGLU feed-forward."""

    state_size: int = 128
    """Width n of the SSM state per head channel."""

    ssm_head_dim: int = 64
    """Channels p of one SSM head."""

    expand: int = 2
    """Inner width of the Mamba-2 mixer as a multiple of hidden_size."""

    conv_kernel: int = 4
    """Taps of the causal depthwise convolution."""

    num_groups: int = 1
    """Groups g that share B and C; 1 is the only value every runtime agrees about."""

    chunk_size: int = 256
    """Tokens per chunk of the scan. The result does not depend on it mathematically; in bf16 its last bits do."""

    max_context_tokens: int = 8192
    """Longest sequence the model was made for."""

    position: Literal["rope", "nope", "alibi", "learned"] = "rope"
    """How attention knows positions. `alibi` and `learned` are not portable."""

    rope_theta: float = 500_000.0
    """Base of the rotary frequencies."""

    rope_scaling: Literal["none", "linear", "ntk", "yarn", "llama3"] = "none"
    """How rotary positions are stretched beyond the length the model was trained with."""

    rope_scaling_factor: float = 1.0
    """max_context_tokens over the length the model was trained with; used unless rope_scaling is none."""

    attention_window: int = 0
    """A token attends to this many latest tokens, itself included; 0 means all."""

    tie_embeddings: bool = True
    """Use the embedding matrix as the output head."""

    norm_eps: float = 1e-5
    """Added to the mean square in every RMSNorm."""

    sublayer_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Settings of plugins' sublayers, by letter; those of letters that the pattern has not are dropped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", expand_pattern(self.pattern))
        positive = (
            "vocab_size hidden_size num_heads num_kv_heads feed_forward_size state_size ssm_head_dim expand "
            "conv_kernel num_groups chunk_size max_context_tokens"
        )
        for name in positive.split():
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.require_multiple("hidden_size", self.hidden_size, "num_heads", self.num_heads)
        self.require_multiple("num_heads", self.num_heads, "num_kv_heads", self.num_kv_heads)
        self.require_multiple("expand * hidden_size", self.inner_size, "ssm_head_dim", self.ssm_head_dim)
        self.require_multiple("the number of SSM heads", self.num_ssm_heads, "num_groups", self.num_groups)
        for name in ("position", "rope_scaling"):
            choices = get_args(get_type_hints(ModelConfig)[name])
            if getattr(self, name) not in choices:
                raise UnknownNameError(name, str(getattr(self, name)), choices)
        if self.conv_kernel < 2:
            raise ConfigError(f"conv_kernel must be at least 2, got {self.conv_kernel}")
        if self.position == "rope" and self.head_dim % 2:
            raise ConfigError(
                f"rotary positions need an even head size, got hidden_size / num_heads = {self.head_dim}",
                hint="choose another num_heads, or --position nope",
            )
        self.complete_sublayer_settings()
        if self.rope_scaling != "none" and self.rope_scaling_factor <= 1:
            raise ConfigError(f"rope_scaling_factor must be above 1 with rope_scaling, got {self.rope_scaling_factor}")
        if self.attention_window < 0:
            raise ConfigError(f"attention_window must be 0 (all) or positive, got {self.attention_window}")

    def complete_sublayer_settings(self) -> None:
        """Write out the settings of plugins' sublayers, and let each plugin check that they fit the model."""
        if not plugin_letters_in(self.pattern):
            object.__setattr__(self, "sublayer_settings", {})
            return
        from mamba_slm.model.sublayer_plugin import complete_settings, plugins_of

        object.__setattr__(self, "sublayer_settings", complete_settings(self.pattern, self.sublayer_settings))
        for plugin, settings in plugins_of(self).values():
            plugin.check(self, settings)

    def stored(self) -> dict[str, Any]:
        """All settings as files and digests hold them: those of plugins only where there are any."""
        values = asdict(self)
        if not self.sublayer_settings:
            del values["sublayer_settings"]
        return values

    def require_multiple(self, what: str, value: int, of: str, divisor: int) -> None:
        """Raise ConfigError unless `divisor` divides `value`."""
        if value % divisor:
            raise ConfigError(f"{what} ({value}) must be a multiple of {of} ({divisor})")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def inner_size(self) -> int:
        """Width of the Mamba-2 mixer inside: expand * hidden_size."""
        return self.expand * self.hidden_size

    @property
    def num_ssm_heads(self) -> int:
        """Heads h of the Mamba-2 mixer."""
        return self.inner_size // self.ssm_head_dim

    @property
    def conv_size(self) -> int:
        """Channels of the convolution: x, B and C together."""
        return self.inner_size + 2 * self.num_groups * self.state_size

    @property
    def in_proj_size(self) -> int:
        """Outputs of the Mamba-2 input projection: z, x, B, C, dt."""
        return self.inner_size + self.conv_size + self.num_ssm_heads

    @property
    def num_layers(self) -> int:
        """Token mixers in the pattern."""
        return self.num_mamba + self.num_attention + self.num_plugins

    @property
    def num_mamba(self) -> int:
        """Mamba-2 sublayers in the pattern."""
        return self.pattern.count(MAMBA)

    @property
    def num_attention(self) -> int:
        """Attention sublayers in the pattern."""
        return self.pattern.count(ATTENTION)

    @property
    def num_plugins(self) -> int:
        """Sublayers of plugins in the pattern."""
        return sum(letter not in OWN_LETTERS for letter in self.pattern)

    @property
    def num_feed_forward(self) -> int:
        """SwiGLU sublayers in the pattern."""
        return self.pattern.count(FEED_FORWARD)
