"""The matrices of a model by name, and the parts that they belong to. No torch."""

from __future__ import annotations

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.pattern import ATTENTION, FEED_FORWARD, MAMBA
from mamba_slm.model.sublayer_plugin import plugins_of

EMBEDDING, HEAD = "embedding", "lm_head"
PARTS = (
    *("in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj"),
    *("gate_up_proj", "down_proj", "embedding", "head"),
)
"""Kinds of matrices. A tied head is the embedding."""


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every matrix, in the order of their use; the embedding counts its rows as outputs.

    The name is that of the module: its weight in a state dict is called `NAME.weight`.
    """
    c = config
    kv_size = c.num_kv_heads * c.head_dim
    mamba = {"in_proj": (c.in_proj_size, c.hidden_size), "out_proj": (c.hidden_size, c.inner_size)}
    attention = {
        "q_proj": (c.hidden_size, c.hidden_size),
        "k_proj": (kv_size, c.hidden_size),
        "v_proj": (kv_size, c.hidden_size),
        "o_proj": (c.hidden_size, c.hidden_size),
    }
    feed_forward = {
        "gate_up_proj": (2 * c.feed_forward_size, c.hidden_size),
        "down_proj": (c.hidden_size, c.feed_forward_size),
    }
    letters = {MAMBA: mamba, ATTENTION: attention, FEED_FORWARD: feed_forward}
    for letter, (plugin, settings) in plugins_of(c).items():
        letters[letter] = dict(plugin.matrices(c, settings))
    shapes = {EMBEDDING: (c.vocab_size, c.hidden_size)}
    for index, kind in enumerate(c.pattern):
        shapes |= {f"sublayers.{index}.mixer.{name}": shape for name, shape in letters[kind].items()}
    if not c.tie_embeddings:
        shapes[HEAD] = (c.vocab_size, c.hidden_size)
    return shapes


def matrix_names(config: ModelConfig) -> list[str]:
    """Names of all matrices, in the order of their use."""
    return list(matrix_shapes(config))


def part_of(matrix_name: str) -> str:
    """Its part: `in_proj` of `sublayers.3.mixer.in_proj`, `head` of `lm_head`."""
    last = matrix_name.rsplit(".", maxsplit=1)[-1]
    return "head" if last == HEAD else last
