"""A server's application over a model of a few thousand parameters: what it says about itself is the reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mamba_slm.serving.adapters.loaded import LoadedAdapter
    from mamba_slm.serving.api.service import Service

CONTEXT_TOKENS = 128


@contextmanager
def small_service() -> Iterator[Service]:
    """A service with everything that a server may have: adapters by name, and a cache on the disk. Nothing runs."""
    from mamba_slm.generation.runtime import TorchRuntime
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.model.init import build_model
    from mamba_slm.serving.adapters.store import AdapterSettings, AdapterStore
    from mamba_slm.serving.api.service import ServedModel, Service
    from mamba_slm.serving.cache.disk.disk_cache import DiskCacheSettings
    from mamba_slm.serving.engine.opening import open_engine
    from mamba_slm.serving.engine.settings import EngineSettings
    from mamba_slm.serving.engine.thread import Engine
    from mamba_slm.text.train_tokenizer import train_tokenizer

    sizes = ModelConfig(
        pattern="M-*-", vocab_size=260, hidden_size=32, num_heads=2, num_kv_heads=1, feed_forward_size=48,
        state_size=8, ssm_head_dim=16, chunk_size=8, max_context_tokens=CONTEXT_TOKENS,
    )  # fmt: skip
    settings = EngineSettings(max_running=2, kv_tokens=4 * CONTEXT_TOKENS, step_tokens=16)
    tokenizer = train_tokenizer(["text"], vocab_size=260)
    with TemporaryDirectory() as folder:
        (Path(folder) / "adapters").mkdir()
        core = open_engine(TorchRuntime(build_model(sizes).eval()), settings, tokenizer=tokenizer)
        core.keeper.keep_on_disk(DiskCacheSettings(folder=Path(folder) / "states"), "reference", say=print)
        model = ServedModel(name="NAME", tokenizer=tokenizer, context_tokens=CONTEXT_TOKENS, template="", created=0)
        adapters = AdapterStore(AdapterSettings(folder=Path(folder) / "adapters"), read=nothing)
        yield Service(engine=Engine(core), model=model, adapters=adapters)


def nothing(name: str, folder: Path) -> LoadedAdapter:
    """No adapter is ever read."""
    raise AssertionError(f"{name} in {folder}")
