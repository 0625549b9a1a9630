"""Folders may import only downwards. Edit ALLOWED when the design changes, not to silence a failure."""

import ast
import functools
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src" / "mamba_slm"
BASE = {"core"}
ALLOWED = {
    "core": set(),
    "runs": BASE,
    "text": BASE,
    "ops": BASE,
    "model": BASE | {"ops"},
    "data": BASE | {"text", "runs"},
    "tasks": BASE | {"text", "data"},
    "generation": BASE | {"ops", "model", "text"},
    "training": BASE | {"ops", "model", "data", "text", "runs"},
    "quantization": BASE | {"ops", "model", "data", "text", "runs", "generation"},
    "evaluation": BASE | {"ops", "model", "data", "text", "runs", "tasks", "generation", "training"},
    "finetuning": BASE | {"ops", "model", "data", "text", "runs", "tasks", "generation", "quantization", "training"},
    "export": BASE | {"ops", "model", "text", "runs", "quantization"},
    "serving": BASE | {"ops", "model", "text", "quantization", "generation"},
    "dashboard": BASE | {"runs", "text", "model", "data", "training"},
}
ALLOWED["cli"] = set(ALLOWED)

HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "safetensors",
    "tensorboard",
    "zstandard",
    "jinja2",
    "yaml",
    "tqdm",
}
LIGHT_FOLDERS = ("core", "runs", "cli")
LIGHT_FILES = (
    *("model/__init__.py", "model/pattern.py", "model/config.py", "model/presets.py", "model/count.py"),
    *("training/__init__.py", "training/config.py", "training/schedule.py", "training/estimate.py"),
    *("data/__init__.py", "text/__init__.py", "evaluation/__init__.py", "generation/__init__.py", "ops/__init__.py"),
    *("quantization/__init__.py", "quantization/config.py", "quantization/plan.py"),
)
NO_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "manager"}


@functools.cache
def parsed(path):
    """The tree of a file, which several tests walk."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path, *, top_level_only=False):
    """Yield (line, dotted name) for every import; lazy and TYPE_CHECKING ones too unless `top_level_only`."""
    tree = parsed(path)
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def violations(root):
    for path in sorted(root.rglob("*.py")):
        folder = path.relative_to(root).parts[0]
        if folder == "__init__.py":
            continue
        if folder not in ALLOWED:
            yield f"{path.relative_to(root)}: {folder} is not in ALLOWED"
            continue
        for line, name in imports(path):
            package, _, rest = name.partition(".")
            target = rest.split(".")[0]
            is_folder = package == root.name and target and (root / target).is_dir()
            if is_folder and target != folder and target not in ALLOWED[folder]:
                yield f"{path.relative_to(root)}:{line} imports {target}; {folder} may import {sorted(ALLOWED[folder])}"


def test_folders_import_only_downwards():
    assert not list(violations(SOURCES))


def test_the_rule_sees_lazy_imports_and_unlisted_folders(tmp_path):
    root = tmp_path / "mamba_slm"
    for folder in ("core", "model", "drawer"):
        (root / folder).mkdir(parents=True)
    (root / "core" / "a.py").write_text("def f():\n    from mamba_slm.model import config\n")
    (root / "drawer" / "b.py").write_text("")
    (root / "model" / "c.py").write_text("import mamba_slm.core.errors\n")
    found = list(violations(root))
    assert len(found) == 2
    assert found[0].startswith("core/a.py:2 imports model")
    assert found[1].startswith("drawer/b.py: drawer is not in ALLOWED")


def test_allowed_imports_have_no_cycle():
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        ready = {folder for folder, below in ALLOWED.items() if folder not in done and below <= done}
        assert ready, f"import cycle among {sorted(set(ALLOWED) - done)}"
        done |= ready


def test_light_modules_import_nothing_heavy_at_the_top():
    paths = [path for folder in LIGHT_FOLDERS for path in sorted((SOURCES / folder).rglob("*.py"))]
    found = [
        f"{path.relative_to(SOURCES)}:{line} imports {name}"
        for path in [*paths, *(SOURCES / name for name in LIGHT_FILES)]
        for line, name in imports(path, top_level_only=True)
        if name.split(".")[0] in HEAVY
    ]
    assert not found


def test_the_core_and_the_runs_never_import_torch():
    found = [
        f"{path.relative_to(SOURCES)}:{line} imports {name}"
        for folder in ("core", "runs")
        for path in sorted((SOURCES / folder).rglob("*.py"))
        for line, name in imports(path)
        if name.split(".")[0] in ("torch", "transformers", "tokenizers")
    ]
    assert not found


def wrong_with(path):
    """What a file lacks, or what its name must not be."""
    tree = parsed(path)
    if not ast.get_docstring(tree):
        yield "a module says in its first line what it is for"
    if bad := NO_NAMES & set(path.relative_to(SOURCES).with_suffix("").parts):
        yield f"{bad} says nothing"
    if path.name == "__init__.py" and path.parent != SOURCES and len(tree.body) != 1:
        yield "a folder's __init__ is its docstring only"


def test_every_file_has_a_docstring_and_a_name_that_says_something():
    paths = sorted(SOURCES.rglob("*.py"))
    assert len(paths) > 500
    assert not [f"{path.relative_to(SOURCES)}: {wrong}" for path in paths for wrong in wrong_with(path)]
