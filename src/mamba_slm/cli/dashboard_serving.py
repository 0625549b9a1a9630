"""What the dashboard asks about servers: whether the command would begin, and who has keys. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def check_server(words: Sequence[str]) -> None:
    """Look at the words of `mamba-slm serve` as the command does before it loads the model.

    Args:
        words: after `mamba-slm serve`.

    Raises:
        MambaSlmError: it would refuse them.
    """
    from mamba_slm.cli.main import load_command
    from mamba_slm.cli.serve_guard import is_open_to_all
    from mamba_slm.core.errors import UsageError
    from mamba_slm.core.listening import listen
    from mamba_slm.serving.api.guard.keys import read_keys

    _, parser = load_command("serve")
    args = parser.parse_args(list(words))
    if not Path(args.model).exists():
        raise UsageError(f"there is no {args.model}", hint=f"paths begin in {Path.cwd()}")
    is_open_to_all(args)
    if args.api_keys is not None:
        read_keys(no_pipe(args.api_keys))
    listen(args.host, args.port).close()  # last: it is the only one that touches the machine


def api_keys(words: Sequence[str]) -> Any:
    """Do what `mamba-slm api-keys …` does.

    Args:
        words: after `mamba-slm api-keys`.

    Returns: see `cli.api_keys.perform`.

    Raises:
        MambaSlmError: as the command.
    """
    from mamba_slm.cli.api_keys import perform
    from mamba_slm.cli.main import load_command

    _, parser = load_command("api-keys")
    args = parser.parse_args(list(words))
    no_pipe(args.file)
    return perform(args)


def no_pipe(path: Path) -> Path:
    """The path of a file that is there or is to be made.

    Raises:
        UsageError: it is something else, such as a pipe, from which reading could last for ever.
    """
    from mamba_slm.core.errors import UsageError

    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")
    return path
