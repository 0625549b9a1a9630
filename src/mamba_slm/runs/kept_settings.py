"""config.yaml of a run, which may come from elsewhere: a short file must not become a long one while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, MambaSlmError
from mamba_slm.core.yaml_files import load_yaml

MOST_BYTES = 4 << 20
MOST_VALUES = 100_000


def read_settings(path: Path) -> Mapping[str, Any]:
    """The settings of a run.

    Raises:
        MambaSlmError: see `load_yaml`; or the file is too long, or names a part of it so often that nobody could read
            all of it.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
        if data is None or (b"&" in data and count_values(data) > MOST_VALUES):
            raise DataError(f"{path} holds more settings than anybody wrote")
        return load_yaml(path)
    except MambaSlmError:
        raise
    except (ValueError, RecursionError) as error:  # thousands of brackets in each other; a number of as many digits
        raise DataError(f"{path} cannot be read: {type(error).__name__}") from error


def count_values(data: bytes) -> int:
    """How many values a text of YAML has when every part that it names again is written out; 0 where it is none."""
    import yaml

    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return 0  # the reader says what is wrong
    known: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in known:
            known[id(node)] = 0  # what contains itself is refused by the reader
            held = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [part for each in held for part in (each if isinstance(each, tuple) else (each,))]
            known[id(node)] = 1 + sum(map(size, parts))
        return known[id(node)]

    return size(root) if root is not None else 0
