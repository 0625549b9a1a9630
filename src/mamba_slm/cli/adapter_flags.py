"""`--adapter FOLDER[=WEIGHT]`: a model with adapters, for commands that run it and for those that convert it."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console

if TYPE_CHECKING:
    from mamba_slm.model.adapter_choice import AdapterChoice


def add_adapter_flag(parser: argparse._ActionsContainer) -> None:
    """The flag, which may be given several times."""
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="FOLDER[=WEIGHT]",
        help="add an adapter to the model's weights, 1 as it was trained, or a share of it; repeat it for several",
    )


def adapter_choices(args: argparse.Namespace) -> tuple[AdapterChoice, ...]:
    """The adapters that were asked for."""
    if not args.adapter:
        return ()
    from mamba_slm.model.adapter_choice import AdapterChoice

    return tuple(AdapterChoice.parse(text) for text in args.adapter)


@contextlib.contextmanager
def whole_model(args: argparse.Namespace) -> Iterator[str]:
    """A path to `args.model` with its adapters, for commands that read model folders: the model's own path where it has
    none, else a folder that is written for the time being and has the name of the model."""
    from mamba_slm.model.adapter_choice import resolve_adapted

    choices = adapter_choices(args)
    with contextlib.ExitStack() as stack:
        adapted = resolve_adapted(args.model, choices)
        if not adapted.adapters:
            yield args.model
            return
        from mamba_slm.model.adapter import write_merged
        from mamba_slm.training.publishing import complete_for_transformers

        console.say(f"merging {adapted}")
        around = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mamba-slm-merged-")))
        folder = around / Path(args.model).resolve().name
        write_merged(adapted, folder, complete=complete_for_transformers)
        yield str(folder)
