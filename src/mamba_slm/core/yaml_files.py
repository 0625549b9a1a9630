"""Read settings from YAML and remember the line of every key, so that an error can say file:line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError


class PlacedMapping(dict[str, Any]):
    """A dict that knows where each of its keys was written: key -> "file:line"."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, str] = {}


def load_yaml(path: str | Path) -> PlacedMapping:
    """Read a YAML file of settings (plain data only: tags are refused, aliases are allowed).

    Raises:
        ConfigError: the file is absent, not UTF-8, not YAML, not a mapping, names a key twice or contains itself;
            the message starts with file:line where there is one.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist", hint="check the path given to --config") from None
    except (IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", hint="save the file as UTF-8") from error

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        value = value_of(node, loader, path, ()) if node is not None else PlacedMapping()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from error
    finally:
        loader.dispose()
    if not isinstance(value, PlacedMapping):
        raise ConfigError(f"{path}: expected settings (name: value), got {type(value).__name__}")
    return value


def value_of(node: Any, loader: Any, path: Path, enclosing: tuple[int, ...]) -> Any:
    """The Python value of a YAML node; mappings as `PlacedMapping`."""
    import yaml

    place = f"{path}:{node.start_mark.line + 1}"
    if id(node) in enclosing:
        raise ConfigError(f"{place}: the value contains itself")
    enclosing = (*enclosing, id(node))
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        raise ConfigError(f"{place}: the tag {node.tag} is not allowed in settings", hint="write the plain value")
    if isinstance(node, yaml.SequenceNode):
        return [value_of(item, loader, path, enclosing) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    mapping = PlacedMapping()
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node))
        place = f"{path}:{key_node.start_mark.line + 1}"
        if key in mapping:
            raise ConfigError(f"{place}: {key!r} is set twice (first at {mapping.places[key]})")
        mapping[key] = value_of(value_node, loader, path, enclosing)
        mapping.places[key] = place
    return mapping
