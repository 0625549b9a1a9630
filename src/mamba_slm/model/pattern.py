"""The layer pattern: one character per residual sublayer, nearest the embedding first.

    M  Mamba-2 mixer        *  causal self-attention        -  SwiGLU feed-forward

Plugins add letters (`model/sublayer_plugin.py`); their sublayers count as token mixers.

The alphabet is Megatron-LM's and Nemotron-H's, so a pattern can be pasted from their configs. A number repeats
the sublayer before it: ``M3*`` is ``MMM*``.

A *layer* is a token mixer (``M`` or ``*``) together with the feed-forward that may follow it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.plugins import find_plugin, installed_plugins_text, plugin_names

MAMBA, ATTENTION, FEED_FORWARD = "M", "*", "-"
OWN_LETTERS = MAMBA + ATTENTION + FEED_FORWARD
ALPHABET_HINT = "use M (mamba2), * (attention) and - (swiglu); digits repeat the sublayer before them, as in 'M3*'"
PLACEMENTS = ("early-mid-top", "even", "top")
Layout = Literal["portable", "classic"]
LAYOUTS: tuple[Layout, ...] = ("portable", "classic")
DEFAULT_ATTENTION_SHARE = 0.35


def expand_pattern(pattern: str) -> str:
    """Write every repeat out in full. Configs always store this form.

    >>> expand_pattern("M3*")
    'MMM*'
    >>> expand_pattern("M-x-")
    Traceback (most recent call last):
    ...
    mamba_slm.core.errors.ConfigError: layer pattern 'M-x-' has an unknown sublayer 'x' at position 2

    Raises:
        ConfigError: an unknown character (with its position), or nothing at all.
    """
    expanded, end = [], 0
    for run in re.finditer(r"([M*A-Za-z-])([1-9]\d*)?", pattern):
        if run.start() != end or not (run[1] in OWN_LETTERS or is_plugin_letter(run[1])):
            break
        expanded.append(run[1] * int(run[2] or 1))
        end = run.end()
    if end != len(pattern):
        raise ConfigError(
            f"layer pattern {pattern!r} has an unknown sublayer {pattern[end]!r} at position {end}",
            hint=alphabet_hint(),
        )
    if not expanded:
        raise ConfigError("layer pattern is empty", hint="the smallest useful pattern is 'M-'")
    return "".join(expanded)


def is_plugin_letter(letter: str) -> bool:
    """Whether a plugin is installed under this letter; nothing is imported.

    Raises:
        PluginError: several are.
    """
    return find_plugin("sublayers", letter) is not None


def alphabet_hint() -> str:
    """The letters that there are, those of plugins included."""
    plugins = f"; {installed_plugins_text('sublayers')}" if plugin_names("sublayers") else ""
    return ALPHABET_HINT + plugins


RUNS_ALL = "train, finetune, generate, chat and eval run it with PyTorch"


def require_own_letters(pattern: str, what: str, *, hint: str = RUNS_ALL) -> None:
    """Raise ConfigError where `what` knows the letters M, * and - alone."""
    letters = plugin_letters_in(pattern)
    if letters:
        raise ConfigError(
            f"{what} knows the sublayers M, * and -, and not {', '.join(letters)} of a plugin",
            hint=hint,
        )


def plugin_letters_in(pattern: str) -> list[str]:
    """The letters of an expanded pattern that come from plugins, each once.

    >>> plugin_letters_in("M-*-")
    []
    """
    return list(dict.fromkeys(letter for letter in pattern if letter not in OWN_LETTERS))


def mixers(pattern: str) -> str:
    """The token mixers of a pattern, without feed-forwards: one character per layer.

    >>> mixers("M-M-*-")
    'MM*'
    """
    return expand_pattern(pattern).replace(FEED_FORWARD, "")


def is_portable_pattern(pattern: str) -> bool:
    """Whether every mixer is followed by exactly one feed-forward, as HF `GraniteMoeHybrid` needs.

    >>> is_portable_pattern("M-*-"), is_portable_pattern("MM*-")
    (True, False)
    """
    return re.fullmatch(r"([M*]-)+", expand_pattern(pattern)) is not None


def num_attention_layers(num_layers: int, attention_share: float = DEFAULT_ATTENTION_SHARE) -> int:
    """How many of `num_layers` hold attention: max(1, floor(share * L + 0.5)), and none for a share of 0.

    >>> num_attention_layers(24), num_attention_layers(2), num_attention_layers(24, 0.0)
    (8, 1, 0)
    """
    if not 0 <= attention_share <= 1:
        raise ConfigError(f"attention share must lie in [0, 1], got {attention_share}")
    if attention_share == 0:
        return 0
    return max(1, int(attention_share * num_layers + 0.5))


def attention_layers(
    num_layers: int,
    *,
    attention_share: float = DEFAULT_ATTENTION_SHARE,
    placement: str | Sequence[int] = "early-mid-top",
) -> tuple[int, ...]:
    """Indices of the layers that hold attention, counted from 0 at the embedding.

    `early-mid-top` puts two early (1 and 2), three at the top and spreads the others between them. It needs at least
    15 layers and 5 attention layers; below that, and for `even`, they are spread at floor((k + 0.5) * L / n). `top`
    takes the last n. A list of indices, or "1,2,11" as text, is taken as it is.

    >>> attention_layers(24)
    (1, 2, 6, 11, 16, 21, 22, 23)
    >>> attention_layers(12)
    (1, 4, 7, 10)

    Raises:
        ConfigError: an unknown placement, or an index outside the layers.
    """
    if num_layers < 1:
        raise ConfigError(f"a model needs at least one layer, got {num_layers}")
    if not isinstance(placement, str) or re.fullmatch(r"[\d,\s]+", placement):
        given = re.findall(r"\d+", placement) if isinstance(placement, str) else placement
        chosen = sorted({int(index) for index in given})
        if chosen and not (chosen[0] >= 0 and chosen[-1] < num_layers):
            raise ConfigError(
                f"attention layers {chosen} lie outside the {num_layers} layers of the model",
                hint=f"layers are counted from 0 to {num_layers - 1}",
            )
        return tuple(chosen)
    if placement not in PLACEMENTS:
        raise UnknownNameError("placement", placement, PLACEMENTS, hint="or give a list of layers, such as 1,2,11,23")
    n = num_attention_layers(num_layers, attention_share)
    if placement == "top":
        return tuple(range(num_layers - n, num_layers))
    if placement == "even" or num_layers < 15 or not 5 <= n < num_layers:
        return tuple(int((k + 0.5) * num_layers / n) for k in range(n))
    middle = n - 5
    spread = (2 + k * (num_layers - 5) // (middle + 1) for k in range(1, middle + 1))
    return (1, 2, *spread, num_layers - 3, num_layers - 2, num_layers - 1)


def build_pattern(num_layers: int, attention: Sequence[int], *, layout: Layout = "portable") -> str:
    """The pattern of `num_layers` layers with attention at the given indices.

    `portable` follows every mixer with a feed-forward; `classic` only attention.

    >>> build_pattern(3, [1]), build_pattern(3, [1], layout="classic")
    ('M-*-M-', 'M*-M')

    Raises:
        ConfigError: an unknown layout.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    mamba = MAMBA + FEED_FORWARD if layout == "portable" else MAMBA
    return "".join(ATTENTION + FEED_FORWARD if layer in attention else mamba for layer in range(num_layers))
