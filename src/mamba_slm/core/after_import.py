"""Do something once another package has been imported, without importing it.

`import mamba_slm` runs this, so it imports next to nothing: finder and loader have the methods that Python calls, and
not the base classes of importlib.abc, which bring half of the standard library along.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def after_import(module: str, action: Callable[[], object]) -> None:
    """Call `action` right after `module` has been imported; now, if it has been already."""
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, OneModuleFinder(module, action))


class OneModuleFinder:
    """Finds one module the way it would be found anyway, and steps aside for good."""

    def __init__(self, module: str, action: Callable[[], object]):
        self.module, self.action = module, action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the module with its loader wrapped; None for every other module."""
        if fullname != self.module:
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = LoaderWithAction(spec.loader, self.action)
            spec.loader = loader
        return spec


class LoaderWithAction:
    """Another loader, and what to do when it has loaded."""

    def __init__(self, loader: Any, action: Callable[[], object]):
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader does; then the action."""
        spec = module.__spec__
        assert spec is not None
        module.__loader__ = spec.loader = self.loader  # tools that read a module's source ask its loader
        self.loader.exec_module(module)
        self.action()
