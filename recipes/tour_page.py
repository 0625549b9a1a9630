"""The tour as a page of the documentation: `python recipes/tour_page.py`, or with `--execute` after running it anew.

Executing keeps what cells print and draw, and drops what libraries say on stderr, which names places of the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOK = Path(__file__).with_name("tour.ipynb")
PAGE = Path(__file__).parents[1] / "docs" / "guides" / "tour.md"
SVG = "image/svg+xml"


def execute(notebook: Any, folder: Path) -> Any:
    """The notebook with new outputs; a cell that fails raises `nbclient.exceptions.CellExecutionError`."""
    from nbclient import NotebookClient

    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    return notebook


def page(notebook: Any) -> dict[str, str]:
    """Name of each file beside the page, and the page itself, with its text."""
    files: dict[str, str] = {}
    parts = ["<!-- made from recipes/tour.ipynb by `make docs` -->"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace("](README.md)", "](../../recipes/README.md)"))
            continue
        parts.append(f"```python3\n{cell.source}\n```")  # not `python`, which is run block by block
        for output in cell.outputs:
            if "text" in output:
                parts.append(f"```text\n{output.text.rstrip()}\n```")
            elif SVG in output.get("data", {}):
                name = f"tour-{len(files) + 1}.svg"
                files[name] = output.data[SVG].rstrip() + "\n"
                parts.append(f"![{title_of(files[name])}]({name})")
    files[PAGE.name] = "\n\n".join(parts) + "\n"
    return files


def title_of(drawing: str) -> str:
    """What a picture is called."""
    return drawing.partition('<title id="title">')[2].partition("</title>")[0]


def main() -> None:
    """Write the page, and with `--execute` the notebook first."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if "--execute" in sys.argv:
        nbformat.write(execute(notebook, NOTEBOOK.parent), NOTEBOOK)
    for name, content in page(notebook).items():
        PAGE.with_name(name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
