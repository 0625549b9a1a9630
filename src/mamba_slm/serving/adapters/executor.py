"""An executor whose sequences use different adapters.

Adapters of matrices share the calls of the model with each other and with the base: those of PyTorch by hooks
(`rows.AdapterRows`), those of the compiled step by tables (`generation/compiled/deltas.py`). One with small tensors of
its own (`own_tensors.with_own`) has calls of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch
from torch import Tensor

from mamba_slm.core.errors import UsageError
from mamba_slm.generation.compiled.deltas import Deltas
from mamba_slm.serving.adapters.loaded import LoadedAdapter
from mamba_slm.serving.adapters.own_tensors import with_own
from mamba_slm.serving.adapters.rows import AdapterRows
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.engine.executor import CompiledExecutor, Executor, Read, ReadPiece, TorchExecutor
from mamba_slm.serving.memory.pool import Sequence


class AdaptedExecutor:
    """Sends each sequence to the executor that has its weights."""

    def __init__(self, base: TorchExecutor, loaded: Callable[[str], LoadedAdapter]):
        """
        Args:
            base: runs sequences without an adapter, and those whose adapters only change products; the hooks of
                adapters are put onto its model.
            loaded: the adapter of a key.
        """
        self.config, self.description = base.config, f"{base.description}, adapters by name"
        self.rows = AdapterRows(base.model, loaded)
        self._base, self._loaded = base, loaded
        self._own: dict[str, TorchExecutor] = {}
        base.rows_use, base.takes = self.rows.using, lambda key: self._executor(key) is base
        if isinstance(base, CompiledExecutor):
            base.deltas_use = self._deltas

    def read(self, pieces: Rows[ReadPiece]) -> list[Read]:
        """See `Executor.read`."""
        reads: dict[int, Read] = {}
        for executor, places in self._groups([piece.sequence for piece in pieces]):
            reads |= zip(places, executor.read([pieces[place] for place in places]), strict=True)
        return [reads[place] for place in range(len(pieces))]

    def step(self, sequences: Rows[Sequence], tokens: Rows[int]) -> Tensor:
        """See `Executor.step`."""
        groups = self._groups(sequences)
        if len(groups) == 1:
            return groups[0][0].step(sequences, tokens)
        logits = None
        for executor, places in groups:
            found = executor.step([sequences[place] for place in places], [tokens[place] for place in places])
            if logits is None:
                logits = found.new_empty(len(sequences), found.shape[1])
            logits[torch.tensor(places, device=found.device)] = found
        assert logits is not None
        return logits

    def forget(self, key: str) -> None:
        """Drop what was made for an adapter that is to go."""
        self._own.pop(key, None)
        self.rows.forget(key)

    def _groups(self, sequences: Rows[Sequence]) -> list[tuple[Executor, list[int]]]:
        """Who runs which of the sequences."""
        groups: dict[int, tuple[Executor, list[int]]] = {}
        for place, sequence in enumerate(sequences):
            executor = self._executor(sequence.adapter)
            groups.setdefault(id(executor), (executor, []))[1].append(place)
        return list(groups.values())

    def _executor(self, key: str) -> Executor:
        """Who has the weights for an adapter."""
        adapter = self._loaded(key) if key else None
        if adapter is None or not adapter.full:
            return self._base
        if key not in self._own:
            self._own[key] = self._base.with_model(with_own(self._base.model, adapter.full))
        return self._own[key]

    def _deltas(self, keys: Rows[str]) -> tuple[Deltas, Tensor] | None:
        """What the compiled step is to add for rows with these adapters, and which of it to each row."""
        combination = self.rows.combination(keys)
        deltas = combination and combination.deltas(self.config)
        return (deltas, combination.numbers(keys)) if combination and deltas else None


def with_adapters(executor: Executor, store: AdapterStore) -> AdaptedExecutor:
    """The same executor for sequences with and without adapters of a store.

    Raises:
        UsageError: it does not run by PyTorch.
    """
    if not isinstance(executor, TorchExecutor):
        raise UsageError(
            f"adapters by name are run by PyTorch, and this model by {executor.description}",
            hint="use --runtime torch or compiled with the model folder, or export the model with its adapter merged",
        )
    adapted = AdaptedExecutor(executor, store.by_key)
    store.on_engine = adapted.forget
    return adapted
