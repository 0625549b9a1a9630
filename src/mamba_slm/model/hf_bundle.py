"""The model as one Python file that needs torch and transformers only, for machines without this package.

The file is our own modules one after the other, without the imports between them: the same code, so the same function.
It travels in a model folder; transformers runs it when asked to with `trust_remote_code=True`, and never otherwise.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mamba_slm

ROOT = "mamba_slm.model.hf"
MODULE_NAME = "modeling_mamba_slm"
FILE_NAME = f"{MODULE_NAME}.py"
AUTO_MAP = {
    "AutoConfig": f"{MODULE_NAME}.HybridSlmConfig",
    "AutoModel": f"{MODULE_NAME}.HybridSlmModel",
    "AutoModelForCausalLM": f"{MODULE_NAME}.HybridSlmForCausalLM",
    "AutoModelForSequenceClassification": f"{MODULE_NAME}.HybridSlmForSequenceClassification",
}
"""The `auto_map` of config.json that leads transformers to the file."""
LAZY_NAME = re.compile(r"(mamba_slm\.[\w.]+):\w+")
LAZY_LOAD = "getattr(importlib.import_module(module), attribute)"  # core/registry.py
HEADER = f"""\
# mamba-slm {mamba_slm.__version__}: the whole model in one file, written by mamba_slm.model.hf_bundle from the modules
# of the package; change those. Licence: Apache-2.0.
from __future__ import annotations
"""


def modelling_source() -> str:
    """The text of the file.

    Raises:
        RuntimeError: two modules use one name for two things, or an import cannot be resolved in one file.
    """
    order: list[str] = []
    visit(ROOT, order, [])
    owners: dict[str, str] = {}
    for module in order:
        for name, meaning in names_of(module):
            if owners.setdefault(name, meaning) != meaning:
                raise RuntimeError(f"{name} means two things in one file: {owners[name]} and {meaning}")
    return "\n\n".join([HEADER, *(stripped_source(module) for module in order)]) + "\n"


def source_of(module: str) -> str:
    """The text of a module of ours."""
    return (Path(mamba_slm.__file__).parent / f"{module.replace('.', '/').removeprefix('mamba_slm/')}.py").read_text(
        encoding="utf-8"
    )


def visit(module: str, order: list[str], parents: list[str]) -> None:
    """Append a module to `order`, after everything it needs."""
    if module in order or module in parents:
        return
    for needed in modules_needed(module):
        visit(needed, order, [*parents, module])
    order.append(module)


def modules_needed(module: str) -> Iterator[str]:
    """Our modules that a module imports at its top, or names in a lazy table."""
    tree = ast.parse(source_of(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_ours(node) and node in tree.body:
            if any(alias.asname for alias in node.names):
                raise RuntimeError(f"{module} renames what it imports from {node.module}; one file cannot")
            yield str(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and LAZY_NAME.fullmatch(node.value):
            yield node.value.partition(":")[0]


def is_ours(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether the import is from this package."""
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return any(name.split(".")[0] == "mamba_slm" for name in names)


def names_of(module: str) -> Iterator[tuple[str, str]]:
    """The names that a module defines or imports from elsewhere, and what each of them means."""
    for node in ast.parse(source_of(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, f"{module}.{node.name}"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (part for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)):
                yield name.id, f"{module}.{name.id}"
        elif isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not is_ours(node):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def stripped_source(module: str) -> str:
    """A module without its docstring, without imports of this package, and with its lazy tables resolved here."""
    text = source_of(module)
    tree = ast.parse(text)
    lines = text.splitlines()
    removed: list[ast.stmt] = [tree.body[0]] if ast.get_docstring(tree) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            if future or is_ours(node):
                removed.append(node)
    for node in removed:
        assert node.end_lineno is not None
        for number in range(node.lineno - 1, node.end_lineno):
            lines[number] = ""
        if node not in tree.body:  # it may be all that a function does
            lines[node.lineno - 1] = f"{' ' * node.col_offset}pass"
    body = "\n".join(lines).replace(LAZY_LOAD, "globals()[attribute]")
    body = re.sub(r"\n{4,}", "\n\n\n", body).strip()
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return f"# {module.replace('.', '/')}.py\n# {summary}\n\n{body}\n"
