"""Exporters of plugins: what one says about itself, and the way that every export goes: write, check, and then keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.config import fields_of, from_dict
from mamba_slm.core.errors import UnknownNameError
from mamba_slm.core.output import new_output
from mamba_slm.core.plugins import find_plugin, load_plugin, require_plugin_type
from mamba_slm.core.values import parse_at
from mamba_slm.model.checkpoint import resolve_model_folder

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """An exporter without settings."""


@dataclass(frozen=True, kw_only=True)
class ExporterPlugin:
    """A format. The name of the entry point is that of the format."""

    write: Callable[[Path, Path, Any, Say], None]
    """Model folder, an empty folder to fill, settings, where to talk. Raises errors of `mamba_slm.core.errors`."""
    check: Callable[[Path, Path, Any], str]
    """Model folder, the filled folder, settings: opens the result with the other side's code, compares it with the
    model (`mamba_slm.load_model`), and says in a line what was measured. Raises `CheckFailedError`: nothing is kept."""
    settings: type[Any] = NoSettings
    """A frozen dataclass whose fields have defaults and docstrings: --option NAME=VALUE."""


@dataclass(frozen=True, kw_only=True)
class PluginExport:
    """What was written."""

    out: Path
    files: Mapping[str, int]
    """Name, from `out` on, to bytes."""
    checked: str
    """What the check measured."""
    plugin: str
    """Distribution and version."""


def export_with_plugin(
    name: str, model: Path | str, out: Path, *, options: Mapping[str, str], overwrite: bool = False, say: Say
) -> PluginExport:
    """Write a model in the format of a plugin, and keep it only when its check passed.

    Args:
        options: texts of settings by name.

    Raises:
        UnknownNameError: no such format or option.
        PluginError: the plugin does not load, or is no exporter.
        CheckFailedError: what was written is not the model; nothing is left.
        DataError, UsageError, DiskFullError: no model, or `out` is taken or does not fit.
    """
    exporter = load_plugin("exporters", name)
    plugin = find_plugin("exporters", name)
    assert plugin is not None
    require_plugin_type(plugin, exporter, ExporterPlugin)
    types = {setting.name: setting.type for setting in fields_of(exporter.settings)}
    for key in options:
        if key not in types:
            raise UnknownNameError(f"option of {name}", key, types)
    values = {key: parse_at(types[key], text, f"--option {key}") for key, text in options.items()}
    settings = from_dict(exporter.settings, values, where=f"options of {name}")
    folder = resolve_model_folder(model)
    with new_output(out, needed_bytes=0, overwrite=overwrite) as work:
        exporter.write(folder, work, settings, say)
        checked = exporter.check(folder, work, settings)
        files = {
            path.relative_to(work).as_posix(): path.stat().st_size for path in sorted(work.rglob("*")) if path.is_file()
        }
    return PluginExport(out=out, files=files, checked=checked, plugin=str(plugin))
