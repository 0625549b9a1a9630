"""What other distributions add: names found through their entry points, loaded when they are used.

    [project.entry-points."mamba_slm.sublayers"]
    R = "package.module:object"

Finding reads the metadata of installed distributions and imports nothing. A plugin is imported when its name is used,
so one that is broken harms nobody else. Nothing is ever installed, and no file of a model or a run names code: it names
a letter, and what the user installed under that letter is taken. MAMBA_SLM_PLUGINS=0 turns all of them off.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mamba_slm.core.errors import ConfigError, SetupError, UnknownNameError

PluginKind = Literal["sublayers", "samplers", "tasks", "readers", "exporters"]
PLUGIN_KINDS: tuple[PluginKind, ...] = ("sublayers", "samplers", "tasks", "readers", "exporters")
PLUGIN_SWITCH = "MAMBA_SLM_PLUGINS"


class PluginError(SetupError):
    """A plugin that is installed cannot be used: it does not load, is not what it should be, or shares its name."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One entry point."""

    kind: PluginKind
    name: str
    """A letter, a sampler, a task, a suffix or a format."""
    target: str
    """"module:object", as the distribution declares it."""
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the object.

        Raises:
            PluginError: that fails, whatever the reason; names the distribution.
        """
        module, _, attributes = self.target.partition(":")
        try:
            return functools.reduce(getattr, attributes.split("."), importlib.import_module(module.strip()))
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"the plugin {self} ({self.kind} {self.name!r}) does not load: {type(error).__name__}: {error}",
                hint=f"mend it, or remove it: pip uninstall {self.distribution}",
            ) from error


def plugins_are_on() -> bool:
    """Whether plugins are looked for at all."""
    return os.environ.get(PLUGIN_SWITCH) != "0"


def all_plugins() -> tuple[Plugin, ...]:
    """Every plugin of every kind that is installed, by kind and name; none where they are turned off."""
    return scan_plugins(tuple(sys.path)) if plugins_are_on() else ()


@functools.lru_cache(maxsize=4)
def scan_plugins(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Read the metadata of every distribution on the path once per process."""
    import importlib.metadata

    found = []
    for kind in PLUGIN_KINDS:
        for entry in importlib.metadata.entry_points(group=f"mamba_slm.{kind}"):
            name = (entry.dist.metadata["Name"], entry.dist.version) if entry.dist else ("unknown", "")
            found.append(Plugin(kind=kind, name=entry.name, target=entry.value, distribution=name[0], version=name[1]))
    return tuple(sorted(found, key=lambda plugin: (PLUGIN_KINDS.index(plugin.kind), plugin.name, plugin.distribution)))


def plugin_names(kind: PluginKind, *, own: Iterable[str] = ()) -> list[str]:
    """The names that plugins add to `own`, sorted; what we have under a name stays ours."""
    return sorted({plugin.name for plugin in all_plugins() if plugin.kind == kind} - set(own))


def find_plugin(kind: PluginKind, name: str) -> Plugin | None:
    """The plugin of this name, or None.

    Raises:
        PluginError: several distributions have it.
    """
    found = [plugin for plugin in all_plugins() if plugin.kind == kind and plugin.name == name]
    if len(found) > 1:
        raise PluginError(
            f"{kind} {name!r} comes from {' and from '.join(map(str, found))}",
            hint=f"keep one of them: pip uninstall {found[-1].distribution}",
        )
    return found[0] if found else None


def load_plugin(kind: PluginKind, name: str, *, own: Iterable[str] = ()) -> Any:
    """The object of a name.

    Raises:
        UnknownNameError: no plugin has it; names the nearest of `own` and of what is installed.
        PluginError: it does not load, or several have it.
    """
    plugin = find_plugin(kind, name)
    if plugin is None:
        known = [*own, *plugin_names(kind, own=own)]
        raise UnknownNameError(
            kind[:-1], name, known, hint=f"known: {', '.join(known) or 'none'}; {installed_plugins_text(kind)}"
        )
    return plugin.load()


def installed_plugins_text(kind: PluginKind) -> str:
    """What is installed of a kind, for a hint: `plugins: R (mamba-slm-rg-lru 0.1.0)`.

    >>> installed_plugins_text("exporters") if plugins_are_on() and not all_plugins() else "plugins: none are installed"
    'plugins: none are installed'
    """
    if not plugins_are_on():
        return f"plugins are turned off ({PLUGIN_SWITCH}=0)"
    found = [f"{plugin.name} ({plugin})" for plugin in all_plugins() if plugin.kind == kind]
    return f"plugins: {', '.join(found)}" if found else "plugins: none are installed"


def require_plugin_type(plugin: Plugin, found: Any, wanted: type) -> Any:
    """The loaded object, if it is of the type that plugins of its kind are.

    Raises:
        PluginError: it is not.
    """
    if not isinstance(found, wanted):
        raise PluginError(
            f"the plugin {plugin} ({plugin.kind} {plugin.name!r}) is a {type(found).__name__}, not a {wanted.__name__}",
            hint=f"docs/plugins.md says what its authors must provide; to do without it: pip uninstall "
            f"{plugin.distribution}",
        )
    return found


def missing_plugin(what: str, distribution: str, version: str) -> ConfigError:
    """The error for something that a file names and nobody has installed."""
    off = "" if plugins_are_on() else f" (plugins are turned off: {PLUGIN_SWITCH}=0)"
    return ConfigError(
        f"{what} comes from the plugin {distribution} {version}, which is not installed{off}",
        hint=f"if you trust it: pip install {distribution}=={version}"
        if plugins_are_on()
        else f"leave {PLUGIN_SWITCH}=0 out",
    )
