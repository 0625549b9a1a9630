"""The flags of `serve` for states of prompts that outlive the server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes, parse_count

if TYPE_CHECKING:
    from mamba_slm.generation.loading import LoadedModel
    from mamba_slm.serving.engine.core import EngineCore
    from mamba_slm.serving.model_files import ModelFiles


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Where they are kept, and how many."""
    group = parser.add_argument_group("prefix cache on the disk")
    group.add_argument(
        "--prefix-cache-dir",
        type=Path,
        metavar="DIR",
        help="keep the states of prompts, answers and messages here, too, for a server that is started again; as "
        "private as the prompts: mode 0700, bound to the model, its precision, runtime and tokenizer, and to the salt "
        "of a request",
    )
    group.add_argument(
        "--prefix-cache-disk-bytes",
        type=parse_count,
        default=4 * 2**30,
        metavar="N",
        help="of all files in DIR, default 4Gi; what was not used for longest goes",
    )


def open_disk_cache(args: argparse.Namespace, loaded: LoadedModel, core: EngineCore, files: ModelFiles) -> None:
    """Give the engine a cache on the disk, where one was asked for.

    Args:
        files: of the model, which must not have changed since they were read.

    Raises:
        CheckpointError: they have.
        UsageError: with --prefix-cache-bytes 0.
        DataError: others can read or change the folder.
    """
    if args.prefix_cache_dir is None:
        return
    if not args.prefix_cache_bytes:
        raise UsageError(
            "--prefix-cache-dir keeps what the prefix cache in memory keeps, and --prefix-cache-bytes 0 keeps nothing",
            hint="leave out one of them",
        )
    from mamba_slm.generation.states.fingerprint import fingerprint_of
    from mamba_slm.serving.cache.disk.disk_cache import DiskCacheSettings

    found = fingerprint_of(loaded.runtime, tokenizer=loaded.tokenizer, folder=loaded.weights_folder)
    files.require_unchanged()
    settings = DiskCacheSettings(folder=args.prefix_cache_dir, max_bytes=args.prefix_cache_disk_bytes)
    identity = found.digest + ("-invariant" if args.batch_invariant else "")  # others' states differ in their last bits
    disk = core.keeper.keep_on_disk(settings, identity, say=console.say)
    console.say(
        f"prefix cache on the disk: {len(disk.files):,} states of this model in {args.prefix_cache_dir}, "
        f"{format_bytes(disk.files.num_bytes)} of {format_bytes(settings.max_bytes)} used"
    )
