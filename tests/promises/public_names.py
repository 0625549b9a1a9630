"""The signatures of all public names, as `public_api.json` holds them.

    python tests/promises/public_names.py

writes that file anew: run it when a public signature changes on purpose, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from mamba_slm.core.public_api import GROUPS, load

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
FROZEN = Path(__file__).with_name("public_api.json")


def signatures() -> dict[str, dict[str, Any]]:
    """Group -> name -> signature; of a class also those of its public methods and its properties."""
    return {group: {name: described(load(name)) for name in names} for group, names in GROUPS.items()}


def described(thing: Any) -> Any:
    """A function as its signature, a class as that of its constructor and its public members."""
    if not inspect.isclass(thing):
        return signature_of(thing)
    members = {}
    for name, member in vars(thing).items():
        if name.startswith("_"):
            continue
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if isinstance(member, property):
            members[name] = "property"
        elif inspect.isfunction(member):
            members[name] = signature_of(member)
    return {"constructor": signature_of(thing), **members}


def signature_of(thing: Any) -> str:
    """Parameters with annotations and defaults, and the result, in a form that does not depend on Python's version.

    >>> signature_of(lambda a, *, b=1: None)
    '(a, *, b = 1)'
    """
    parts = []
    kinds = inspect.Parameter
    previous = None
    signature = inspect.signature(thing)
    for parameter in signature.parameters.values():
        if parameter.kind is kinds.KEYWORD_ONLY and previous not in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL):
            parts.append("*")
        stars = {kinds.VAR_POSITIONAL: "*", kinds.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        text = stars + parameter.name
        if parameter.annotation is not kinds.empty:
            text += f": {annotated(parameter.annotation)}"
        if parameter.default is not kinds.empty:
            default = parameter.default
            text += " = " + ("<function>" if inspect.isroutine(default) else ADDRESS.sub("", repr(default)))
        parts.append(text)
        previous = parameter.kind
    result = signature.return_annotation
    end = "" if result in (inspect.Signature.empty, None) else f" -> {annotated(result)}"
    return f"({', '.join(parts)}){end}"


def annotated(annotation: Any) -> str:
    """An annotation as it stands in the source."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(signatures(), indent=1) + "\n", encoding="utf-8")
