"""Which tensors a GGUF of architecture `granitehybrid` has, and how each is made of ours and turned back.

Names, shapes and transformations were read in llama.cpp (src/models/granite-hybrid.cpp at 0c1e57098). Shapes are in the
order of numpy; GGUF stores them reversed. A layer without a feed-forward gets one of zeros, which adds nothing.

Letters: v vocabulary, d width, f feed-forward, i inner size, c convolution channels, h heads, g groups, k taps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.export.portable import VOCABULARY_MULTIPLE, with_tensors
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import MAMBA
from mamba_slm.model.portability import LLAMA_CPP, portability_issues
from mamba_slm.model.stack import LanguageModel

ABSENT_FEED_FORWARD = 256
"""Inner width of the feed-forwards of zeros where the whole model has none of its own."""

Array = npt.NDArray[np.float32]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class LayoutTensor:
    """One tensor of the file."""

    name: str
    """In the file."""
    shape: tuple[int, ...]
    """Rows first; the last axis is contiguous and is what block formats cut."""
    sources: tuple[str, ...]
    """Names of our tensors that it is made of; empty for a tensor of a feed-forward that the model does not have."""
    is_matrix: bool
    """Matrices may be quantized; all else stays float32."""
    make: Callable[[Tensors], Array]
    """From our tensors, by their names, to the values in the file."""
    choose: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Of a matrix: which rows of its one source, in which order. What lies beside the rows is taken likewise."""


def require_exportable(config: ModelConfig) -> None:
    """Refuse what llama.cpp's `granitehybrid` does not compute.

    Raises:
        ConfigError: names the setting, its value and the reason.
    """
    for issue in portability_issues(config):
        if issue.effect == "lost" and LLAMA_CPP in issue.runtimes:
            raise ConfigError(
                f"{issue.field} {issue.value} cannot be written as GGUF",
                hint=f"llama.cpp computes this architecture only otherwise: {issue.reason}",
            )
    for count, kind in ((config.num_mamba, "Mamba-2"), (config.num_attention, "attention")):
        if count == 0:
            raise ConfigError(
                f"pattern {config.pattern} has no {kind} layer and cannot be written as GGUF",
                hint="llama.cpp's granitehybrid stops with a failed assertion unless a model has layers of both kinds",
            )
    if config.vocab_size % VOCABULARY_MULTIPLE:
        raise ConfigError(
            f"vocab_size {config.vocab_size} is not a multiple of {VOCABULARY_MULTIPLE}",
            hint="--pad-vocabulary adds tokens that do not exist, with embeddings of zeros",
        )


def with_padded_vocabulary(model: LanguageModel) -> LanguageModel:
    """The model with rows of zeros up to the next vocabulary that can be written; itself where there is nothing to add.

    The new tokens have the logit 0: they can be sampled, if rarely.
    """
    config = model.config
    missing = -config.vocab_size % VOCABULARY_MULTIPLE
    if not missing:
        return model
    padded = {
        name: F.pad(tensor, (0, 0, 0, missing)) if name in ("embedding.weight", "lm_head.weight") else tensor
        for name, tensor in model.state_dict().items()
    }
    return with_tensors(replace(config, vocab_size=config.vocab_size + missing), padded)


def layers_of(pattern: str) -> list[tuple[str, int, int | None]]:
    """Kind and sublayer of every mixer, and the sublayer of the feed-forward after it, if there is one.

    >>> layers_of("MM*-")
    [('M', 0, None), ('M', 1, None), ('*', 2, 3)]
    """
    found = []
    for match in re.finditer(r"([M*])(-?)", pattern):
        found.append((match[1], match.start(), match.start() + 1 if match[2] else None))
    return found


def feed_forward_size(config: ModelConfig) -> int:
    """The one inner width that the file has for all feed-forwards."""
    return config.feed_forward_size if config.num_feed_forward else ABSENT_FEED_FORWARD


def absent_feed_forward_parameters(config: ModelConfig) -> int:
    """Parameters of the feed-forwards of zeros; each costs two operations per token."""
    absent = config.num_layers - config.num_feed_forward
    return absent * 3 * feed_forward_size(config) * config.hidden_size


def layout(config: ModelConfig) -> Iterator[LayoutTensor]:
    """Every tensor of the file, in the order of the layers."""
    yield matrix("token_embd.weight", "embedding.weight", config.vocab_size, config.hidden_size)
    for number, (kind, mixer, feed_forward) in enumerate(layers_of(config.pattern)):
        block, ours = f"blk.{number}", f"sublayers.{mixer}"
        yield plain(f"{block}.attn_norm.weight", f"{ours}.norm.weight", config.hidden_size)
        yield from (mamba_tensors if kind == MAMBA else attention_tensors)(config, block, f"{ours}.mixer")
        yield from feed_forward_tensors(config, block, feed_forward)
    yield plain("output_norm.weight", "final_norm.weight", config.hidden_size)
    if not config.tie_embeddings:
        yield matrix("output.weight", "lm_head.weight", config.vocab_size, config.hidden_size)


def mamba_tensors(config: ModelConfig, block: str, ours: str) -> Iterator[LayoutTensor]:
    """The Mamba-2 mixer of one layer. Rows of ssm_in are z, x, B, C, dt on both sides."""
    d, i, c, h, g = (
        config.hidden_size,
        config.inner_size,
        config.conv_size,
        config.num_ssm_heads,
        config.num_groups,
    )
    yield matrix(f"{block}.ssm_in.weight", f"{ours}.in_proj.weight", config.in_proj_size, d)
    yield plain(f"{block}.ssm_conv1d.weight", f"{ours}.conv_weight", c, config.conv_kernel)
    yield plain(f"{block}.ssm_conv1d.bias", f"{ours}.conv_bias", c)
    yield plain(f"{block}.ssm_dt.bias", f"{ours}.dt_bias", h)
    yield made(f"{block}.ssm_a", (h, 1), (f"{ours}.A_log",), decay_rates)
    yield plain(f"{block}.ssm_d", f"{ours}.D", h, 1)
    yield plain(f"{block}.ssm_norm.weight", f"{ours}.norm.weight", g, i // g)
    yield matrix(f"{block}.ssm_out.weight", f"{ours}.out_proj.weight", d, i)


def attention_tensors(config: ModelConfig, block: str, ours: str) -> Iterator[LayoutTensor]:
    """The attention of one layer. Rows of queries and keys change their order within each head."""
    d, kv = config.hidden_size, config.num_kv_heads * config.head_dim
    for name, source, rows, heads in (
        ("attn_q", "q_proj", d, config.num_heads),
        ("attn_k", "k_proj", kv, config.num_kv_heads),
    ):
        yield made(
            f"{block}.{name}.weight",
            (rows, d),
            (f"{ours}.{source}.weight",),
            lambda tensor, heads=heads: pairs_adjacent(tensor, heads),
            is_matrix=True,
        )
    yield matrix(f"{block}.attn_v.weight", f"{ours}.v_proj.weight", kv, d)
    yield matrix(f"{block}.attn_output.weight", f"{ours}.o_proj.weight", d, d)


def feed_forward_tensors(config: ModelConfig, block: str, sublayer: int | None) -> Iterator[LayoutTensor]:
    """The feed-forward of one layer, of zeros where the model has none."""
    d, f = config.hidden_size, feed_forward_size(config)
    if sublayer is None:
        yield made(f"{block}.ffn_norm.weight", (d,), (), lambda: torch.ones(d))
        for name, rows, columns in (("gate", f, d), ("up", f, d), ("down", d, f)):
            yield made(
                f"{block}.ffn_{name}.weight",
                (rows, columns),
                (),
                lambda rows=rows, columns=columns: torch.zeros(rows, columns),
                is_matrix=True,
            )
        return
    ours = f"sublayers.{sublayer}"
    yield plain(f"{block}.ffn_norm.weight", f"{ours}.norm.weight", d)
    both = (f"{ours}.mixer.gate_up_proj.weight",)
    yield made(f"{block}.ffn_gate.weight", (f, d), both, lambda tensor: tensor[:f], is_matrix=True)
    yield made(f"{block}.ffn_up.weight", (f, d), both, lambda tensor: tensor[f:], is_matrix=True)
    yield matrix(f"{block}.ffn_down.weight", f"{ours}.mixer.down_proj.weight", d, f)


def made(
    name: str, shape: tuple[int, ...], sources: tuple[str, ...], make: Callable[..., Tensor], *, is_matrix: bool = False
) -> LayoutTensor:
    """A tensor of the file computed from `sources`."""

    def array(tensors: Tensors) -> Array:
        values = make(*(tensors[source].detach().float() for source in sources))
        return np.ascontiguousarray(values.reshape(shape).numpy())

    return LayoutTensor(name=name, shape=shape, sources=sources, is_matrix=is_matrix, make=array, choose=make)


def plain(name: str, source: str, *shape: int) -> LayoutTensor:
    """A tensor that only changes its name and axes of size 1, and stays float32."""
    return made(name, shape, (source,), lambda tensor: tensor)


def matrix(name: str, source: str, *shape: int) -> LayoutTensor:
    """A matrix that only changes its name."""
    return made(name, shape, (source,), lambda tensor: tensor, is_matrix=True)


def decay_rates(a_log: Tensor) -> Tensor:
    """A = -exp(A_log), which is what the file holds."""
    return -a_log.exp()


def pairs_adjacent(weight: Tensor, heads: int) -> Tensor:
    """Reorder the rows of each head so that the two channels that rotate together, r and r + half, become neighbours.

    Our rotation pairs channels as HF's Llama does; that of `granitehybrid` pairs neighbours.
    """
    rows, columns = weight.shape
    if rows // heads % 2:  # only without rotary positions, where any order of channels is the same
        return weight
    return weight.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def pairs_apart(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `pairs_adjacent`."""
    rows, columns = weight.shape
    if rows // heads % 2:
        return weight
    return weight.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def our_tensors(stored: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our tensors from those of a file; the config has a feed-forward in every layer.

    Args:
        stored: float32 tensors of the file by name, in the shapes of `layout`.

    Raises:
        DataError: a tensor is missing, unknown or mis-shaped; names the first.
    """
    expected = {tensor.name: tensor.shape for tensor in layout(config)}
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            raise DataError(
                f"the tensors do not fit the keys: {name} is {found.get(name, 'missing')}, expected "
                f"{expected.get(name, 'absent')}"
            )
    ours: dict[str, Tensor] = {}
    shapes = our_shapes(config)
    for tensor in layout(config):
        value = stored[tensor.name]
        if tensor.name.endswith(".ffn_gate.weight"):
            value = torch.cat([value, stored[tensor.name.replace("gate", "up")]])
        elif tensor.name.endswith(".ffn_up.weight"):
            continue
        elif tensor.name.endswith(".ssm_a"):
            value = (-value).log()
        elif tensor.name.endswith(".attn_q.weight"):
            value = pairs_apart(value, config.num_heads)
        elif tensor.name.endswith(".attn_k.weight"):
            value = pairs_apart(value, config.num_kv_heads)
        (name,) = tensor.sources
        ours[name] = value.reshape(shapes[name])
    return ours


def our_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of our own tensors."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in LanguageModel(config).state_dict().items()}
