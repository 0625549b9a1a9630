"""An engine for a model that was loaded: how much memory it gets, and what computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import Runtime, TorchRuntime
from mamba_slm.generation.stream import TokenBytes
from mamba_slm.serving.engine.core import EngineCore
from mamba_slm.serving.engine.executor import CompiledExecutor, Executor, TorchExecutor
from mamba_slm.serving.engine.settings import EngineSettings
from mamba_slm.serving.memory.pool import Pool


def open_engine(
    runtime: Runtime[Any],
    settings: EngineSettings,
    *,
    tokenizer: TokenBytes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> EngineCore:
    """An engine over a runtime of PyTorch, compiled or not, with quantized weights or not.

    Raises:
        UsageError: a runtime that has no PyTorch model.
        ConfigError: `kv_tokens` do not hold the model's context.
    """
    if not isinstance(runtime, TorchRuntime):
        raise UsageError(
            f"the engine runs models by PyTorch, this one is run by {runtime.description}",
            hint="serve the model folder from which it was exported",
        )
    config, size = runtime.config, settings.block_tokens
    longest = -(-config.max_context_tokens // size)
    wanted = -(-settings.kv_tokens // size)
    pool = Pool(
        config,
        slots=settings.max_running,
        blocks=min(wanted, 2 * settings.max_running * longest),  # twice: running requests, and as much in the cache
        block_tokens=size,
        device=runtime.device,
        dtype=runtime.model.embedding.weight.dtype,
    )
    executor: Executor
    if isinstance(runtime, CompiledRuntime):
        executor = CompiledExecutor(runtime, pool, is_batch_invariant=settings.batch_invariant)
    else:
        executor = TorchExecutor(runtime.model, pool, is_batch_invariant=settings.batch_invariant)
    return EngineCore(executor, pool, settings, tokenizer=tokenizer, clock=clock)
