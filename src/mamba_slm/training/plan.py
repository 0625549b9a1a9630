"""From settings to what will be trained: the model's config, a run length, the estimate. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from mamba_slm.core.config import fields_of, parse_value
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.presets import preset
from mamba_slm.model.sublayer_plugin import plugin_letters, sublayer_plugin
from mamba_slm.training.config import TrainConfig


def model_config_for(config: TrainConfig, *, vocab_size: int | None = None) -> ModelConfig:
    """The model that the settings describe.

    Args:
        vocab_size: rows of the embedding, from the tokenizer; None takes `config.vocab_size` or the preset's.

    Raises:
        UnknownNameError: no such preset or model setting; names the nearest.
        ConfigError: sizes do not fit together, or a row is longer than the model's context.
    """
    if config.initial is not None:
        model = initial_config(config)
        require_context(config, model)
        return model
    placement: Any = config.placement
    if placement is not None and placement[:1].isdigit():
        placement = [parse_value(int, number) for number in placement.split(",")]
    model = preset(
        config.model,
        layout=config.layout,
        vocab_size=vocab_size or config.vocab_size,
        attention_share=config.attention_share,
        placement=placement,
        pattern=config.pattern,
        **model_settings(config.model_settings),
    )
    require_context(config, model)
    return model


def initial_config(config: TrainConfig) -> ModelConfig:
    """The config of the model to begin with, changed by `model_settings`. Loads torch.

    Raises:
        ConfigError: a setting that cannot hold beside its weights.
    """
    from mamba_slm.model.checkpoint import load_config, resolve_model_folder
    from mamba_slm.model.quantized import require_float

    for name in ("layout", "pattern", "attention_share", "placement", "vocab_size"):
        if getattr(config, name) is not None:
            raise ConfigError(
                f"{name} is given, but {config.initial} has its own, which its weights fit",
                hint=f"leave --{name.replace('_', '-')} out",
            )
    require_float(str(config.initial), purpose="training")
    return dataclasses.replace(
        load_config(resolve_model_folder(str(config.initial))), **model_settings(config.model_settings)
    )


def model_settings(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Read FIELD=VALUE pairs for `ModelConfig`; LETTER.FIELD=VALUE is a setting of a plugin's sublayer.

    >>> model_settings(("position=nope", "expand=1"))
    {'position': 'nope', 'expand': 1}

    Raises:
        ConfigError: not of that form, or the value has the wrong type.
        UnknownNameError: the model has no such setting.
    """
    settings_of_letters: dict[str, dict[str, Any]] = {}
    types = {setting.name: setting.type for setting in fields_of(ModelConfig)}
    read = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is not FIELD=VALUE", hint="for example --model-settings position=nope")
        name = name.strip().replace("-", "_")
        letter, dot, own_name = name.partition(".")
        if dot and letter in plugin_letters():
            own_types = {setting.name: setting.type for setting in fields_of(sublayer_plugin(letter).settings)}
            if own_name not in own_types:
                raise UnknownNameError(f"setting of sublayer {letter}", own_name, own_types)
            settings_of_letters.setdefault(letter, {})[own_name] = parse_value(own_types[own_name], value.strip())
            continue
        if name not in types:
            raise UnknownNameError("model setting", name, types)
        read[name] = parse_value(types[name], value.strip())
    return read | ({"sublayer_settings": settings_of_letters} if settings_of_letters else {})


def require_context(config: TrainConfig, model: ModelConfig) -> None:
    """Raise ConfigError if rows are longer than the model's context."""
    if config.context_tokens > model.max_context_tokens:
        raise ConfigError(
            f"context_tokens ({config.context_tokens}) is more than the model's context ({model.max_context_tokens})",
            hint=f"use --context-tokens {model.max_context_tokens}, or make a model for more: "
            f"--model-settings max_context_tokens={config.context_tokens}",
        )


def with_run_length(config: TrainConfig, *, corpus_tokens: int) -> tuple[TrainConfig, str | None]:
    """Give a run without a limit the length of one pass over the data; also the reason, None when a limit is given."""
    if config.has_limit:
        return config, None
    tokens = max(1, corpus_tokens // config.batch_tokens) * config.batch_tokens
    return dataclasses.replace(config, max_tokens=tokens), f"max_tokens={tokens:,} (automatic: one pass over the data)"
