"""Small tensors that an adapter trains in full: a value for each adapter and one of the base, switched like LoRA.

peft can only swap whole modules (`modules_to_save`), and A_log, D, dt_bias and the convolution belong to a module that
holds the large matrices as well. `FullTensors` is a part of that module which peft switches with everything else; the
module itself sees nothing but its parameter, which is at any moment the one of the active adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from mamba_slm.core.errors import UsageError
from mamba_slm.core.optional import require
from mamba_slm.model.kept_float32 import HALF_TYPES

peft_utils: Any = require("peft.utils", extra="finetune", purpose="adapters")

CHILD = "trained_in_full"
"""Under which name it is a part of the module."""


class FullTensors(peft_utils.AuxiliaryTrainingWrapper):
    """The trained parameters of one module, by adapter. They stay float32 whatever the rest is cast to."""

    adapter_layer_names = ("values",)
    other_param_names = ("base",)

    def __init__(self, owner: nn.Module):
        nn.Module.__init__(self)  # and not that of the base class, which wraps a module to call it
        self.owners = (owner,)  # in a tuple, so that the owner is no part of its part
        self.base = nn.ParameterDict()
        self.values = nn.ModuleDict()
        self._adapters: set[str] = set()
        self._active_adapter: list[str] = []
        self._disable_adapters = False

    def __getattr__(self, name: str) -> Any:
        return nn.Module.__getattr__(self, name)  # there is no wrapped module to ask

    @property
    def owner(self) -> nn.Module:
        """The module whose parameters these are."""
        return self.owners[0]

    def add(self, adapter: str, names: Sequence[str]) -> None:
        """Begin to train these parameters of the owner for an adapter, from the base's values."""
        for name in names:
            if name not in self.base:
                self.base[name] = self.owner._parameters[name]
        trained = {name: nn.Parameter(self.base[name].detach().clone()) for name in names}
        self.values[adapter] = nn.ParameterDict(trained)
        self._adapters.add(adapter)

    def show(self) -> None:
        """Let the owner have the parameters of the active adapter, or those of the base."""
        shown: dict[str, nn.Parameter] = dict(self.base.items())
        if not self._disable_adapters:
            for adapter in self._active_adapter:
                shown |= dict(self.values[adapter].items())  # type: ignore[operator, arg-type]
        for name, parameter in shown.items():
            self.owner._parameters[name] = parameter

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter active: its values are the owner's, and are trained unless `inference_mode`."""
        known = self.check_set_adapter(adapter_names)
        self._active_adapter = [] if known is None else [known]
        self.values.requires_grad_(False)
        for name in self._active_adapter:
            self.values[name].requires_grad_(not inference_mode)
        self.show()

    def check_set_adapter(self, adapter_name: str | list[str]) -> str | None:
        """The adapter of these that can be set here; None means the base.

        Raises:
            UsageError: several of them have values here.
        """
        wanted = [adapter_name] if isinstance(adapter_name, str) else adapter_name
        known = [name for name in wanted if name in self._adapters]
        if len(known) > 1:
            raise UsageError(
                f"adapters {', '.join(known)} each have values of their own for the same tensors, so only one of them "
                "can be active",
                hint="combine them first: mamba-slm adapters merge",
            )
        return known[0] if known else None

    def enable_adapters(self, enabled: bool) -> None:
        """Show the base's values, or again those of the active adapter."""
        self._disable_adapters = not enabled
        self.show()

    def delete_adapter(self, adapter_name: str, new_active_adapters: list[str] | None) -> None:
        """Forget an adapter's values."""
        if adapter_name in self._adapters:
            self._adapters.remove(adapter_name)
            del self.values[adapter_name]
        self.set_adapter(new_active_adapters or [])

    def adapter_state_dict(self, adapter_name: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        """An adapter's values by the names of the owner's parameters."""
        return {name: state_dict[key] for name, key in self.adapter_state_dict_load_map(adapter_name).items()}

    def adapter_state_dict_load_map(self, adapter_name: str) -> dict[str, str]:
        """Name in a file -> name in this module's state dict."""
        if adapter_name not in self._adapters:
            return {}
        names = dict(self.values[adapter_name].items())  # type: ignore[operator, arg-type]
        return {name: f"values.{adapter_name}.{name}" for name in names}

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Leave the owner with the active values, or the base's, and nothing of this."""
        if not merge:
            self._active_adapter = []
        elif adapter_names is not None:
            self._active_adapter = [name for name in adapter_names if name in self._adapters]
        self.show()
        return Emptied()

    def _get_available_adapters(self) -> set[str]:
        return set(self._adapters)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FullTensors:
        def without_rounding(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return tensor.to(changed.device) if changed.dtype in HALF_TYPES else changed

        return super()._apply(without_rounding, recurse)  # type: ignore[return-value]


class Emptied(nn.Module):
    """What is left of `FullTensors` after merging: nothing that computes or is stored."""


def train_in_full(model: nn.Module, endings: Sequence[str], adapter: str) -> list[str]:
    """Train the parameters with these name endings in full for an adapter; returns their names.

    Args:
        endings: such as "A_log" or "norm.weight": the last parts of a parameter's name.
    """
    found = []
    owners: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        if any(name == ending or name.endswith(f".{ending}") for ending in endings) and CHILD not in name:
            owners.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
            found.append(name)
    for path, names in owners.items():
        owner = model.get_submodule(path)
        if not isinstance(getattr(owner, CHILD, None), FullTensors):
            setattr(owner, CHILD, FullTensors(owner))
        part = getattr(owner, CHILD)
        assert isinstance(part, FullTensors)
        part.add(adapter, names)
    return found
