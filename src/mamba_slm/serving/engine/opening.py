"""An engine for a model that was loaded: how much memory it gets, and what computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import Runtime, TorchRuntime
from mamba_slm.generation.speculative.proposals import Source
from mamba_slm.generation.stream import TokenBytes
from mamba_slm.model.pattern import require_own_letters
from mamba_slm.serving.adapters.executor import with_adapters
from mamba_slm.serving.adapters.store import AdapterStore
from mamba_slm.serving.engine.core import EngineCore
from mamba_slm.serving.engine.executor import CompiledExecutor, Executor, TorchExecutor
from mamba_slm.serving.engine.guessing import open_guessing
from mamba_slm.serving.engine.settings import EngineSettings
from mamba_slm.serving.memory.pool import Pool


def open_engine(
    runtime: Runtime[Any],
    settings: EngineSettings,
    *,
    tokenizer: TokenBytes | None = None,
    clock: Callable[[], float] = time.monotonic,
    adapters: AdapterStore | None = None,
    guesses: Source | None = None,
) -> EngineCore:
    """An engine over a runtime of PyTorch, compiled or not, with quantized weights or not, or of ONNX Runtime.

    Args:
        adapters: that requests may use by name.
        guesses: who guesses tokens ahead.

    Raises:
        UsageError: another runtime, or one that cannot run adapters.
        ConfigError: `kv_tokens` do not hold the model's context, or guesses that do not go with it.
    """
    executor, pool = open_executor(runtime, settings)
    guessing = None if guesses is None else open_guessing(guesses, runtime, executor, pool, settings)
    if adapters is not None:
        executor = with_adapters(executor, adapters)
    core = EngineCore(executor, pool, settings, tokenizer=tokenizer, clock=clock)
    core.adapters, core.guessing = adapters or core.adapters, guessing
    return core


def open_executor(runtime: Runtime[Any], settings: EngineSettings) -> tuple[Executor, Pool]:
    """What computes, and the memory that it computes in.

    Raises:
        UsageError: a runtime without an executor.
        ConfigError: the sublayer of a plugin, which slots do not hold.
        ConfigError: `kv_tokens` do not hold the model's context.
    """
    require_own_letters(runtime.config.pattern, "the server")
    config, size, alike = runtime.config, settings.block_tokens, settings.batch_invariant
    longest = -(-config.max_context_tokens // size)
    wanted = -(-settings.kv_tokens // size)
    blocks = min(wanted, 2 * settings.max_running * longest)  # twice: running requests, and as much in the cache
    if not isinstance(runtime, TorchRuntime):
        from mamba_slm.generation.onnx_runtime import OnnxRuntime
        from mamba_slm.serving.engine.onnx_executor import OnnxExecutor
        from mamba_slm.serving.memory.onnx_pool import OnnxPool

        if not isinstance(runtime, OnnxRuntime):
            raise UsageError(f"the engine cannot run {runtime.description}", hint="use --runtime torch")
        onnx_pool = OnnxPool(config, slots=settings.max_running, blocks=blocks, block_tokens=size)
        return OnnxExecutor(runtime, onnx_pool, is_batch_invariant=alike), onnx_pool
    pool = Pool(
        config,
        slots=settings.max_running,
        blocks=blocks,
        block_tokens=size,
        device=runtime.device,
        dtype=runtime.model.embedding.weight.dtype,
    )
    if isinstance(runtime, CompiledRuntime):
        return CompiledExecutor(runtime, pool, is_batch_invariant=alike), pool
    return TorchExecutor(runtime.model, pool, is_batch_invariant=alike), pool
