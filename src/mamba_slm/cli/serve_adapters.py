"""The flags of `serve` for adapters that requests name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import DataError, UnknownNameError, UsageError
from mamba_slm.core.units import format_bytes, parse_count

if TYPE_CHECKING:
    from mamba_slm.generation.loading import LoadedModel
    from mamba_slm.serving.adapters.loaded import LoadedAdapter
    from mamba_slm.serving.adapters.store import AdapterStore
    from mamba_slm.serving.model_files import ModelFiles


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Where they are, and how much memory they may take."""
    group = parser.add_argument_group("adapters by name")
    group.add_argument(
        "--adapter-dir",
        type=Path,
        metavar="DIR",
        help="offer every adapter in this directory beside the model, by the name of its folder: requests with that "
        "name as their model use it, together with others in one batch (--adapter merges one into the model instead)",
    )
    group.add_argument(
        "--preload-adapter",
        action="append",
        default=[],
        metavar="NAME",
        help="read it at the start, not with the first request for it; repeat it for several",
    )
    group.add_argument(
        "--adapter-bytes",
        type=parse_count,
        default=2**30,
        metavar="N",
        help="memory for adapters, default 1Gi; what was not used for longest goes",
    )


def open_store(
    args: argparse.Namespace, loaded: LoadedModel, model_name: str, files: ModelFiles
) -> AdapterStore | None:
    """What --adapter-dir offers; None without it.

    Args:
        files: of the model, which must not have changed when an adapter is read.

    Raises:
        UsageError: adapters cannot be told to belong to this model.
        DataError: no such directory, or an adapter with the name of the model.
    """
    if args.adapter_dir is None:
        if args.preload_adapter:
            raise UsageError("--preload-adapter names an adapter in --adapter-dir", hint="add --adapter-dir DIR")
        return None
    from mamba_slm.generation.runtime import TorchRuntime
    from mamba_slm.model.fingerprint import fingerprint_of_folder
    from mamba_slm.model.quantized import quantization_of
    from mamba_slm.serving.adapters.loaded import load
    from mamba_slm.serving.adapters.store import AdapterSettings, AdapterStore

    runtime = loaded.runtime
    if not isinstance(runtime, TorchRuntime):
        raise UsageError(
            f"adapters by name are run by PyTorch, and this model by {runtime.description}",
            hint="serve the model folder that it was exported from, or export it with its adapter merged",
        )
    if loaded.adapted is not None:
        raise UsageError(
            f"an adapter of {args.adapter_dir} belongs to the base model, and {loaded.adapted} is another one",
            hint="leave out --adapter, or merge both: mamba-slm adapters merge",
        )
    if quantization_of(loaded.folder) is not None:
        raise UsageError(
            f"{loaded.folder} is quantized, so nobody can tell which adapters belong to it",
            hint="serve the model that it was made from, with --weights to round it while it is read",
        )
    base, tokenizer, model = fingerprint_of_folder(loaded.folder), loaded.tokenizer.fingerprint, runtime.model

    def read(name: str, folder: Path) -> LoadedAdapter:
        files.require_unchanged()
        return load(name, folder, model, base_fingerprint=base, tokenizer_fingerprint=tokenizer)

    store = AdapterStore(AdapterSettings(folder=args.adapter_dir, max_bytes=args.adapter_bytes), read, say=console.say)
    if model_name in store.names:
        raise DataError(f"{args.adapter_dir} has an adapter that is called {model_name}, as the model", hint="--name")
    for name in args.preload_adapter:
        try:
            store.get(name)
        except UnknownNameError as error:
            raise DataError(
                f"--preload-adapter {name}: {args.adapter_dir} has no such adapter", hint=error.hint
            ) from error
    offered = ", ".join(store.names) or "none yet"
    console.say(f"adapters by name, up to {format_bytes(args.adapter_bytes)} of them in memory: {offered}")
    return store
