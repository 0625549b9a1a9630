"""The licences of the pinned packages, by their installed metadata: python deploy/package/licences.py [FILE]."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COPYLEFT = re.compile(r"\b[AL]?GPL|MPL|EPL|Mozilla|General Public|EUPL|CDDL", re.IGNORECASE)
HEAD = """\
# Licences of the dependencies

Every package of `constraints.txt`, with the licence that its own metadata states. The page is written by
`deploy/package/licences.py`. It is no legal advice. A plain installation needs few of these; what only tests use is
here, too. **Copyleft** in the last column means: read the licence before you pass on a program that contains it.
PyQt6 (GPL, or a commercial licence) comes with the extra `window` only. Builds of PyTorch for NVIDIA
GPUs bring CUDA libraries under NVIDIA's licence, which are not in this list.

| package | version | licence | |
|---|---|---|---|
"""


def licence_of(found: importlib.metadata.PackageMetadata) -> str:
    """What the metadata say, in one line: the expression, else the classifiers, else the first line of the text."""
    if expression := found.get("License-Expression"):
        return expression
    classifiers = [line for line in found.get_all("Classifier") or () if line.startswith("License ::")]
    names = [line.rpartition(" :: ")[2] for line in classifiers]
    names = [name for name in names if name != "OSI Approved"]
    text = (found.get("License") or "").strip().partition("\n")[0][:60]
    return ", ".join(names) or text or "not stated"


def page() -> str:
    """The Markdown page."""
    rows = []
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        if not version:
            continue
        try:
            licence = licence_of(importlib.metadata.metadata(name)).replace("|", "/")
        except importlib.metadata.PackageNotFoundError:
            licence = "not installed where this page was written"
        rows.append(f"| {name} | {version} | {licence} | {'**copyleft**' if COPYLEFT.search(licence) else ''} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "docs/reference/licences.md").write_text(
        page(), encoding="utf-8"
    )
