"""What a plugin's sublayer says about itself without torch: letter, settings, matrices, what it remembers.

Everything that is worked out from a config alone (parameters, FLOPs, bytes, adapters, quantization) comes from here;
the mixer itself (`model/plugin_mixer.py`) is imported when a model is built. docs/plugins.md has an example.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mamba_slm.core.config import from_dict
from mamba_slm.core.errors import ConfigError
from mamba_slm.core.plugins import (
    Plugin,
    PluginError,
    find_plugin,
    load_plugin,
    missing_plugin,
    plugin_names,
    require_plugin_type,
)
from mamba_slm.model.pattern import OWN_LETTERS, plugin_letters_in

if TYPE_CHECKING:
    from mamba_slm.model.config import ModelConfig

MATRIX_NAMES = ("in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")
"""What matrices may be called: by these names adapters, quantization and optimisers find them."""

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """A sublayer that has nothing to set beside the model's own config."""


@dataclass(frozen=True, kw_only=True)
class StateTensor:
    """One tensor of what a sublayer remembers of a text; zeros before the first token."""

    shape: tuple[int, ...]
    """Of one row, the batch axis left out. It does not grow with the text."""
    is_float32: bool = False
    """Whether it is float32 whatever the weights are; else it has the dtype of keys and values."""

    @property
    def num_values(self) -> int:
        """Numbers in one row."""
        return math.prod(self.shape)


def no_flops(config: ModelConfig, settings: Any) -> float:
    """For a sublayer whose work is its matrices."""
    return 0.0


def no_state(config: ModelConfig, settings: Any) -> Mapping[str, StateTensor]:
    """For a sublayer that remembers nothing."""
    return {}


@dataclass(frozen=True, kw_only=True)
class SublayerPlugin(Generic[S]):
    """A letter of the pattern language. Every function takes the model's config and the sublayer's own settings."""

    letter: str
    """One letter of A-Z or a-z that is not ours; also the name of the entry point."""
    name: str
    """In words, for tables: "RG-LRU"."""
    mixer: str
    """"package.module:Class" of a `PluginMixer`."""
    first_projection: str
    """The matrix that reads the norm, whose dtype the norm writes."""
    matrices: Callable[[ModelConfig, S], Mapping[str, tuple[int, int]]]
    """(outputs, inputs) of every matrix by its attribute; names from `MATRIX_NAMES`."""
    other_parameters: Callable[[ModelConfig, S], int]
    """Parameters beside the matrices and the norm before the sublayer."""
    saved_values: Callable[[ModelConfig, S], float]
    """Numbers that the backward pass keeps per token, the norm's included, in float32; the conformance kit counts."""
    other_flops: Callable[[ModelConfig, S], float] = no_flops
    """Forward, per token, beside the 2 per weight of the matrices; a multiply-add counts as two."""
    state: Callable[[ModelConfig, S], Mapping[str, StateTensor]] = no_state
    """What it remembers between calls."""
    settings: type[Any] = NoSettings
    """A frozen dataclass whose fields all have defaults and docstrings."""
    check: Callable[[ModelConfig, S], None] = lambda config, settings: None
    """Raises `ConfigError` where the settings do not fit the model."""

    def __post_init__(self) -> None:
        if not is_free_letter(self.letter):
            raise ConfigError(f"{self.letter!r} cannot be a plugin's letter", hint=LETTER_HINT)
        missing = [f.name for f in dataclasses.fields(self.settings) if has_no_default(f)]
        if missing:
            raise ConfigError(f"setting {missing[0]!r} of sublayer {self.letter!r} has no default")

    def settings_from(self, given: Mapping[str, Any]) -> S:
        """The settings with the defaults for what is not given.

        Raises:
            ConfigError: an unknown setting, or a value of the wrong type.
        """
        return from_dict(self.settings, given, where=f"sublayer {self.letter}")


LETTER_HINT = f"one letter of A-Z or a-z that is not among {OWN_LETTERS}"


def has_no_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a field of a dataclass must be given."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def is_free_letter(letter: str) -> bool:
    """Whether a plugin may have this letter."""
    return len(letter) == 1 and letter.isascii() and letter.isalpha() and letter not in OWN_LETTERS


def plugin_letters() -> list[str]:
    """The letters that are installed; nothing is imported."""
    return [name for name in plugin_names("sublayers", own=OWN_LETTERS) if is_free_letter(name)]


def sublayer_plugin(letter: str) -> SublayerPlugin[Any]:
    """What is installed under a letter.

    Raises:
        UnknownNameError: nothing is.
        PluginError: it does not load, is no `SublayerPlugin`, has another letter inside, or shares its letter.
    """
    found = find_plugin("sublayers", letter)
    return loaded(found) if found is not None else load_plugin("sublayers", letter, own=OWN_LETTERS)


@functools.cache
def loaded(found: Plugin) -> SublayerPlugin[Any]:
    """The object behind an entry point, checked."""
    described = require_plugin_type(found, found.load(), SublayerPlugin)
    if described.letter != found.name:
        raise PluginError(f"the plugin {found} offers the letter {found.name!r} and calls itself {described.letter!r}")
    return described


def plugins_of(config: ModelConfig) -> dict[str, tuple[SublayerPlugin[Any], Any]]:
    """The plugins' letters in a pattern, each with its description and its settings; empty for a model of ours."""
    return {
        letter: (found := sublayer_plugin(letter), found.settings_from(config.sublayer_settings.get(letter, {})))
        for letter in plugin_letters_in(config.pattern)
    }


def complete_settings(pattern: str, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """All settings of the plugins' letters in a pattern, defaults written out; those of other letters are dropped."""
    letters = plugin_letters_in(pattern)
    found = {letter: sublayer_plugin(letter).settings_from(given.get(letter, {})) for letter in letters}
    return {letter: dataclasses.asdict(settings) for letter, settings in found.items()}


def origin_of(letters: Iterable[str]) -> dict[str, dict[str, str]]:
    """Letter -> distribution and version, as config.json holds it."""
    found = {letter: find_plugin("sublayers", letter) for letter in letters}
    return {k: {"distribution": p.distribution, "version": p.version} for k, p in found.items() if p is not None}


def require_origin(pattern: str, origins: Mapping[str, Mapping[str, str]], *, where: str) -> None:
    """Raise unless what is installed under the letters of a stored pattern is what the model was made with.

    Args:
        pattern: from a file, perhaps with letters that nobody knows here.
        origins: from the same file, as `origin_of` wrote it.
        where: the file.

    Raises:
        ConfigError: a letter's plugin is not installed; the hint has the line for pip.
        PluginError: another distribution has the letter here.
    """
    for letter in dict.fromkeys(pattern):
        if letter in OWN_LETTERS or letter not in origins:
            continue
        made_with = origins[letter]
        name, version = str(made_with.get("distribution")), str(made_with.get("version"))
        found = find_plugin("sublayers", letter)
        if found is None:
            raise missing_plugin(f"{where}: sublayer {letter!r}", name, version)
        if found.distribution != name:
            raise PluginError(
                f"{where}: sublayer {letter!r} comes from the plugin {name} {version}; here {found} has that letter",
                hint=f"pip uninstall {found.distribution}, and if you trust it: pip install {name}=={version}",
            )


def parameters_of(config: ModelConfig, letter: str) -> int:
    """One sublayer with its norm."""
    found, settings = plugins_of(config)[letter]
    matrices = sum(outputs * inputs for outputs, inputs in found.matrices(config, settings).values())
    return config.hidden_size + matrices + found.other_parameters(config, settings)


def flops_of(config: ModelConfig, letter: str) -> float:
    """One sublayer, forward, per token."""
    found, settings = plugins_of(config)[letter]
    matrices = sum(outputs * inputs for outputs, inputs in found.matrices(config, settings).values())
    return 2 * matrices + found.other_flops(config, settings)


def state_bytes_of(config: ModelConfig, letter: str, *, cache_bytes: int) -> int:
    """What one sublayer remembers of a conversation."""
    found, settings = plugins_of(config)[letter]
    tensors = found.state(config, settings).values()
    return sum(tensor.num_values * (4 if tensor.is_float32 else cache_bytes) for tensor in tensors)
