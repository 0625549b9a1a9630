"""Plugins: which are installed, and whether they load."""

from __future__ import annotations

from typing import Any

from mamba_slm.cli.examination.check import Check
from mamba_slm.core.errors import MambaSlmError
from mamba_slm.core.plugins import PLUGIN_SWITCH, Plugin, all_plugins, find_plugin, plugins_are_on


def plugin_checks() -> list[Check]:
    """One check for each, or one that says there is none; what does not load is a note: nothing else needs it."""
    if not plugins_are_on():
        return [Check(section="plugins", name="plugins", text=f"turned off by {PLUGIN_SWITCH}=0")]
    checks = [plugin_check(plugin) for plugin in all_plugins()]
    return checks or [Check(section="plugins", name="plugins", text="none are installed")]


def plugin_check(plugin: Plugin) -> Check:
    """Import one plugin, and look whether it is what its kind must be."""
    name = f"{plugin.kind.removesuffix('s')} {plugin.name}"
    try:
        if plugin.name in own_names(plugin):
            return Check(
                section="plugins", name=name, status="note", text=f"{plugin}: never used, {plugin.name} is our own name"
            )
        find_plugin(plugin.kind, plugin.name)
        require_usable(plugin)
    except MambaSlmError as error:
        return Check(
            section="plugins",
            name=name,
            status="note",
            text=error.message,
            cost="nothing here: only what uses it fails",
            hint=error.hint or "",
        )
    return Check(section="plugins", name=name, text=str(plugin))


def own_names(plugin: Plugin) -> Any:
    """The names of its kind that are ours."""
    if plugin.kind == "sublayers":
        from mamba_slm.model.pattern import OWN_LETTERS

        return OWN_LETTERS
    if plugin.kind == "exporters":
        from mamba_slm.cli.export import FORMATS

        return FORMATS
    if plugin.kind == "readers":
        from mamba_slm.data.folders import KNOWN_SUFFIXES

        return KNOWN_SUFFIXES
    from mamba_slm.evaluation.harness.names import EXTRAS, THE_TEN

    return (*THE_TEN, *EXTRAS) if plugin.kind == "tasks" else ()


def require_usable(plugin: Plugin) -> None:
    """Raise PluginError where the object is not what its kind must be."""
    if plugin.kind == "sublayers":
        from mamba_slm.model.sublayer_plugin import loaded

        loaded(plugin)
    elif plugin.kind == "samplers":
        from mamba_slm.generation.named_samplers import sampler_class

        sampler_class(plugin.name)
    else:
        plugin.load()
