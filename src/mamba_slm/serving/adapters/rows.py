"""Different adapters for the rows of one call of a model.

The matrices A of all adapters of a call lie below each other, and the B side by side: two products serve all rows, and
between them a row keeps the ranks of its own adapter only. Ranks are few, so what is multiplied by zero costs less than
a product for each adapter.

Letters: b rows, t tokens of each, R ranks of all adapters of a call, i inputs, o outputs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mamba_slm.generation.compiled.deltas import Deltas
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.matrices import EMBEDDING, HEAD, matrix_names
from mamba_slm.model.stack import LanguageModel
from mamba_slm.ops.linear import linear
from mamba_slm.serving.adapters.loaded import LoadedAdapter

MOST_COMBINATIONS = 8
"""Of adapters whose matrices are kept side by side: the one in use, and those in use before."""


@dataclass(frozen=True, kw_only=True)
class Combined:
    """The changes that some adapters make to one matrix."""

    A: Tensor
    """[R i]"""
    B: Tensor
    """[o R]"""
    ranks: tuple[int, ...]
    """Of each adapter, in order; they sum to R."""
    ratios: Tensor | None
    """[adapters + 1, o], the last ones; None: no adapter has any."""


class Combination:
    """Some adapters together.

    Args:
        changes: by the name of the module.
    """

    def __init__(self, keys: tuple[str, ...], changes: dict[str, Combined]):
        self.keys, self.changes = keys, changes
        self._deltas: Deltas | None = None

    def deltas(self, config: ModelConfig) -> Deltas | None:
        """The changes as the compiled step reads them, made once; None where there are none."""
        if self._deltas is None and self.changes:
            self._deltas = Deltas(config, self.changes)
        return self._deltas

    def numbers(self, keys: Sequence[str]) -> Tensor:
        """[b] the place of each key in `keys`; the number of all for the base."""
        of = {key: number for number, key in enumerate(self.keys)}
        return torch.tensor([of.get(key, len(of)) for key in keys])


class Call:
    """Which rows of one call use which adapter."""

    def __init__(self, combination: Combination, keys: Sequence[str]):
        self.combination = combination
        self.rows = combination.numbers(keys)
        self.is_one = len(combination.keys) == 1 and all(keys)
        self._masks: dict[tuple[tuple[int, ...], torch.device, torch.dtype], Tensor] = {}

    def mask(self, ranks: tuple[int, ...], like: Tensor) -> Tensor:
        """[b 1 R] 1 where a rank belongs to the adapter of the row, else 0."""
        at = (ranks, like.device, like.dtype)
        if at not in self._masks:
            owner = torch.arange(len(ranks)).repeat_interleave(torch.tensor(ranks))
            self._masks[at] = (self.rows[:, None, None] == owner).to(like.device, like.dtype)
        return self._masks[at]


class AdapterRows:
    """Adds what adapters change to the products of a model, in the calls that say so and nowhere else.

    Calls of other threads, which say nothing, run the base model.
    """

    def __init__(self, model: LanguageModel, loaded: Callable[[str], LoadedAdapter]):
        """
        Args:
            loaded: the adapter of a key; those of running calls must be there.
        """
        self._loaded = loaded
        self._now = threading.local()
        self._combinations: OrderedDict[tuple[str, ...], Combination] = OrderedDict()
        for name in matrix_names(model.config):
            if name not in (EMBEDDING, HEAD):
                model.get_submodule(name).register_forward_hook(partial(self._add, name))

    @contextmanager
    def using(self, keys: Sequence[str]) -> Iterator[None]:
        """Let row r of the model's calls within use adapter keys[r]; "" is the base."""
        combination = self.combination(keys)
        if combination is None:
            yield
            return
        self._now.call = Call(combination, keys)
        try:
            yield
        finally:
            self._now.call = None

    def combination(self, keys: Sequence[str]) -> Combination | None:
        """The adapters that rows with these keys use; None: all of them are of the base."""
        used = tuple(sorted({key for key in keys if key}))
        return self._combined(used) if used else None

    def forget(self, key: str) -> None:
        """Drop what was put together with an adapter that is to go."""
        for keys in [keys for keys in self._combinations if key in keys]:
            del self._combinations[keys]

    def _add(self, name: str, module: object, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Add to the output [b t o] of a module what the adapters make of its input [b t i]."""
        call: Call | None = getattr(self._now, "call", None)
        if call is None or name not in call.combination.changes:
            return
        change, x = call.combination.changes[name], inputs[0]
        assert x.shape[0] == len(call.rows), "adapters are told apart by rows"
        narrow = linear(x, change.A)
        if not call.is_one:
            narrow = narrow * call.mask(change.ranks, narrow)
        output += linear(narrow, change.B)
        if change.ratios is not None:
            output *= change.ratios[call.rows.to(output.device)][:, None]

    def _combined(self, keys: tuple[str, ...]) -> Combination:
        """The adapters together; kept, as the next steps mostly have the same."""
        if keys not in self._combinations:
            self._combinations[keys] = combine([self._loaded(key) for key in keys])
            while len(self._combinations) > MOST_COMBINATIONS:
                self._combinations.popitem(last=False)
        self._combinations.move_to_end(keys)
        return self._combinations[keys]


def combine(adapters: Sequence[LoadedAdapter]) -> Combination:
    """Adapters side by side; where one does not change a matrix, it has no ranks there."""
    names = {name for adapter in adapters for name in adapter.changes}
    changes: dict[str, Combined] = {}
    for name in names:
        found = [adapter.changes.get(name) for adapter in adapters]
        there = [change for change in found if change is not None]
        ratios = None
        if any(change.ratio is not None for change in there):
            one = torch.ones_like(there[0].B[:, 0])
            given = [one if change is None or change.ratio is None else change.ratio for change in found]
            ratios = torch.stack([*given, one])
        changes[name] = Combined(
            A=there[0].A if len(there) == 1 else torch.cat([change.A for change in there]),
            B=there[0].B if len(there) == 1 else torch.cat([change.B for change in there], dim=1),
            ranks=tuple(0 if change is None else change.A.shape[0] for change in found),
            ratios=ratios,
        )
    return Combination(tuple(adapter.key for adapter in adapters), changes)
