"""The same model as a `GraniteMoeHybridForCausalLM` of transformers without experts: config, and tensors both ways.

Neither transformers nor torch is imported: configs are plain dicts and tensors are only reshaped, so gradients flow
through. What the other side cannot hold is refused with the name of the setting, never turned into another function.
The keys and their defaults were read in transformers 5.23, the rules about spelling in the sources of the runtimes
that `portability` names. `granite_import` reads a config back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mamba_slm.core.errors import CheckpointError, ConfigError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, MAMBA, is_portable_pattern, require_own_letters
from mamba_slm.model.portability import TRANSFORMERS, architecture_issues

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE, ARCHITECTURE = "granitemoehybrid", "GraniteMoeHybridForCausalLM"
PAIR_HINT = "GraniteMoeHybrid has one feed-forward after each mixer, as in M-*-"
NO_TIME_STEP_LIMIT = 65504.0
"""Upper limit of dt that never acts. Infinity is not JSON, without the key MLX clamps at 100, and a limit above the
largest float16 makes transformers fail when the model runs in float16."""


def granite_config(config: ModelConfig) -> dict[str, Any]:
    """The config.json of the same model, every key spelled as all runtimes read it.

    Token ids are null: transformers would otherwise take 1 and 2 for the beginning and the end of a text.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model; names the setting.
    """
    require_expressible(config)
    kinds = [kind for kind in config.pattern if kind in (MAMBA, ATTENTION)]
    theta, rope = rope_of(config)
    return {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": len(kinds),
        "layer_types": ["mamba" if kind == MAMBA else "attention" for kind in kinds],
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_multiplier": config.head_dim**-0.5,
        "position_embedding_type": config.position,
        "rope_theta": theta,
        "rope_parameters": rope,
        "max_position_embeddings": config.max_context_tokens,
        "intermediate_size": config.feed_forward_size,
        "shared_intermediate_size": config.feed_forward_size,
        "hidden_act": "silu",
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "output_router_logits": False,
        "mamba_n_heads": config.num_ssm_heads,
        "mamba_d_head": config.ssm_head_dim,
        "mamba_d_state": config.state_size,
        "mamba_n_groups": config.num_groups,
        "mamba_d_conv": config.conv_kernel,
        "mamba_expand": config.expand,
        "mamba_chunk_size": config.chunk_size,
        "mamba_conv_bias": True,
        "mamba_proj_bias": False,
        "time_step_limit": [0.0, NO_TIME_STEP_LIMIT],
        "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "logits_scaling": 1.0,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "use_cache": True,
    }


LLAMA3_FACTORS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""`ops.rope.LLAMA3_TURNS`, which cannot be imported without torch, as transformers spells them."""


def require_expressible(config: ModelConfig) -> None:
    """Raise ConfigError, naming the setting, unless a GraniteMoeHybrid computes the same function."""
    require_own_letters(config.pattern, "a GraniteMoeHybrid")
    if not is_portable_pattern(config.pattern):
        raise ConfigError(f"pattern {config.pattern} does not fit into a GraniteMoeHybrid", hint=PAIR_HINT)
    for issue in architecture_issues(config):
        if TRANSFORMERS in issue.runtimes:
            raise ConfigError(f"{issue.field} {issue.value} does not fit into a GraniteMoeHybrid", hint=issue.reason)


def rope_of(config: ModelConfig) -> tuple[float, dict[str, Any]]:
    """`rope_theta` and `rope_parameters`. NTK scaling is plain rotation with a larger theta.

    Raises:
        ConfigError: yarn with a context so short, or a theta so small, that the two formulas part.
    """
    theta, factor = config.rope_theta, config.rope_scaling_factor
    scaling = config.rope_scaling if config.position == "rope" else "none"
    if scaling == "ntk":
        theta *= factor ** (config.head_dim / (config.head_dim - 2))
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if scaling == "linear":
        rope |= {"rope_type": "linear", "factor": factor}
    if scaling == "llama3":
        original = round(config.max_context_tokens / factor)
        rope |= {"rope_type": "llama3", "factor": factor, "original_max_position_embeddings": original}
        rope |= LLAMA3_FACTORS
    if scaling == "yarn":
        original = round(config.max_context_tokens / factor)
        rope |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        if not yarn_is_regular(config.head_dim, theta, original):
            raise ConfigError(
                f"rope_scaling yarn over an original context of {original} tokens with rope_theta {theta:g} does not "
                "fit into a GraniteMoeHybrid",
                hint="its ramp between the frequencies would run backwards; use ntk or linear",
            )
    return theta, rope


def yarn_is_regular(head_dim: int, theta: float, original_context_tokens: int) -> bool:
    """Whether yarn's ramp ends at or after its start. Where it does not, transformers turns it round and we do not."""
    if original_context_tokens < 1:
        return False
    slowest, fastest = (
        head_dim * math.log(original_context_tokens / (rotations * 2 * math.pi)) / (2 * math.log(theta))
        for rotations in (1, 32)
    )
    return min(math.ceil(slowest), head_dim - 1) >= max(math.floor(fastest), 0)


@dataclass(frozen=True, kw_only=True)
class TensorPair:
    """One tensor under both names; the shapes differ in axes of size 1 at most."""

    ours: str
    our_shape: tuple[int, ...]
    granite: str
    granite_shape: tuple[int, ...]


def tensor_pairs(config: ModelConfig) -> Iterator[TensorPair]:
    """Every tensor of the model under both names, in the order of the layers.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model; names the setting.
    """
    require_expressible(config)
    d, f, kv = config.hidden_size, config.feed_forward_size, config.num_kv_heads * config.head_dim
    c, h, i, k = config.conv_size, config.num_ssm_heads, config.inner_size, config.conv_kernel

    def pair(ours: str, granite: str, *shape: int, theirs: tuple[int, ...] | None = None) -> TensorPair:
        return TensorPair(ours=ours, our_shape=shape, granite=granite, granite_shape=theirs or shape)

    yield pair("embedding.weight", "model.embed_tokens.weight", config.vocab_size, d)
    for layer, kind in enumerate(config.pattern[::2]):
        ours, granite = f"sublayers.{2 * layer}", f"model.layers.{layer}"
        yield pair(f"{ours}.norm.weight", f"{granite}.input_layernorm.weight", d)
        if kind == MAMBA:
            ours, mixer = f"{ours}.mixer", f"{granite}.mamba"
            yield pair(f"{ours}.in_proj.weight", f"{mixer}.in_proj.weight", config.in_proj_size, d)
            yield pair(f"{ours}.conv_weight", f"{mixer}.conv1d.weight", c, k, theirs=(c, 1, k))
            yield pair(f"{ours}.conv_bias", f"{mixer}.conv1d.bias", c)
            for name in ("A_log", "D", "dt_bias"):
                yield pair(f"{ours}.{name}", f"{mixer}.{name}", h)
            yield pair(f"{ours}.norm.weight", f"{mixer}.norm.weight", i)
            yield pair(f"{ours}.out_proj.weight", f"{mixer}.out_proj.weight", d, i)
        else:
            for name, size in (("q_proj", d), ("k_proj", kv), ("v_proj", kv), ("o_proj", d)):
                yield pair(f"{ours}.mixer.{name}.weight", f"{granite}.self_attn.{name}.weight", size, d)
        ours = f"sublayers.{2 * layer + 1}"
        yield pair(f"{ours}.norm.weight", f"{granite}.post_attention_layernorm.weight", d)
        yield pair(f"{ours}.mixer.gate_up_proj.weight", f"{granite}.shared_mlp.input_linear.weight", 2 * f, d)
        yield pair(f"{ours}.mixer.down_proj.weight", f"{granite}.shared_mlp.output_linear.weight", d, f)
    yield pair("final_norm.weight", "model.norm.weight", d)
    if not config.tie_embeddings:
        yield pair("lm_head.weight", "lm_head.weight", config.vocab_size, d)


def to_granite_tensors(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our tensors under GraniteMoeHybrid's names and shapes, as views: gradients flow back. A tied head is left out.

    Args:
        tensors: all of them, by the names of `LanguageModel.state_dict` or `named_parameters`.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model; names the setting.
        CheckpointError: a tensor is missing, unknown or mis-shaped; names the first.
    """
    pairs = list(tensor_pairs(config))
    require_tensors(tensors, {pair.ours: pair.our_shape for pair in pairs})
    return {pair.granite: tensors[pair.ours].reshape(pair.granite_shape) for pair in pairs}


def from_granite_tensors(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The way back, as views. A head beside a tied embedding is accepted where both are equal.

    Raises:
        ConfigError: a GraniteMoeHybrid cannot hold this model; names the setting.
        CheckpointError: a tensor is missing, unknown or mis-shaped (names the first), or a tied head differs.
    """
    head = tensors.get("lm_head.weight")
    if head is not None and config.tie_embeddings:
        embedding = tensors.get("model.embed_tokens.weight")
        if embedding is not None and (head.shape != embedding.shape or not head.equal(embedding)):
            raise CheckpointError("lm_head.weight differs from model.embed_tokens.weight, which the config ties")
        tensors = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    pairs = list(tensor_pairs(config))
    require_tensors(tensors, {pair.granite: pair.granite_shape for pair in pairs})
    return {pair.ours: tensors[pair.granite].reshape(pair.our_shape) for pair in pairs}


def require_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError, naming the first, unless names and shapes are the expected ones."""
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            raise CheckpointError(
                f"the tensors do not fit the config: {name} is {found.get(name, 'missing')}, expected "
                f"{expected.get(name, 'absent')}"
            )
