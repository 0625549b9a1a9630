"""An engine over the small model with adapters by name, and the same adapters merged."""

from __future__ import annotations

import copy
from functools import partial

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.adapter import merge
from mamba_slm.model.adapter_choice import AdapterChoice
from mamba_slm.model.fingerprint import fingerprint
from mamba_slm.serving.adapters.executor import with_adapters
from mamba_slm.serving.adapters.loaded import load
from mamba_slm.serving.adapters.store import AdapterSettings, AdapterStore
from mamba_slm.serving.engine.checking import checker_of
from mamba_slm.serving.engine.executor import CompiledExecutor, TorchExecutor
from mamba_slm.serving.engine.guessing import Costs, Guessing
from serving.engines import Engine


def store_of(model, folder, *, base_fingerprint=None, **settings):
    """A store over a directory of adapters."""
    base_fingerprint = base_fingerprint or fingerprint(model.config, model.state_dict())
    read = partial(load, model=model, base_fingerprint=base_fingerprint)
    return AdapterStore(AdapterSettings(folder=folder, **settings), lambda name, path: read(name, path))


FREE = Costs(fixed_seconds=1.0, token_seconds=0.0)


def adapted_engine(model, store, *, compiled=False, guesses=None, **settings):
    """As `Engine`; the hooks of adapters stay on the model. `guesses` are made whatever they cost."""
    guessing = []

    def executor(model, pool, *, is_batch_invariant):
        runtime = CompiledRuntime(model) if compiled else TorchRuntime(model)
        if compiled:
            plain = CompiledExecutor(runtime, pool, is_batch_invariant=is_batch_invariant)
        else:
            plain = TorchExecutor(model, pool, is_batch_invariant=is_batch_invariant)
        if guesses is not None:
            guessing.append(Guessing(guesses, runtime, checker_of(plain, pool), FREE))
        return with_adapters(plain, store)

    engine = Engine(model, executor=executor, **settings)
    engine.core.adapters = store
    engine.core.guessing = next(iter(guessing), None)
    return engine


def merged(model, folder):
    """A copy of a model, which has no hooks, with an adapter in its weights."""
    alone = copy.deepcopy(model)
    merge(alone, [AdapterChoice(folder=folder)])
    return alone
