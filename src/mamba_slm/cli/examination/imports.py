"""Whether packages that are installed can be imported: tried in another process, which may crash."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

TIMEOUT_SECONDS = 300.0  # of all together, from a cold disk and on a busy machine
PROGRAM = """
import importlib, os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what packages print is no answer
for module in sys.argv[1:]:
    print("trying", module, sep="\\t", file=answer, flush=True)
    try:
        importlib.import_module(module)
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        print("failed", module, f"{type(error).__name__}: {text[0]}", sep="\\t", file=answer, flush=True)
print("done", file=answer, flush=True)
"""


def broken_imports(modules: Mapping[str, str]) -> dict[str, str]:
    """Package -> why importing its module fails, for those that fail; a crash of the interpreter is a reason, too.

    Args:
        modules: package -> module.
    """
    packages = {module: package for package, module in modules.items()}
    left, broken = list(packages), {}
    while left:
        reached, failures, end = try_imports(left)
        broken |= {packages[module]: why for module, why in failures.items()}
        if end is None:
            break
        broken[packages[reached]] = end
        left = left[left.index(reached) + 1 :]
    return broken


def try_imports(modules: list[str]) -> tuple[str, dict[str, str], str | None]:
    """Import one after the other in one process.

    Returns:
        The module that was tried last, the errors by module, and how the process ended before its time (None: it did
        not).
    """
    # -P: a folder in the current directory must not pass for a package of the same name
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, *modules], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        text, _ = child.communicate(timeout=TIMEOUT_SECONDS)
        end = f"the interpreter ends with code {child.returncode}"
        if child.returncode < 0:
            end = f"the interpreter crashes (signal {-child.returncode})"
    except subprocess.TimeoutExpired:
        child.kill()
        text, _ = child.communicate()
        end = f"not done after {TIMEOUT_SECONDS:.0f} seconds"
    rows = [line.split("\t") for line in text.splitlines()]
    reached = next((row[1] for row in reversed(rows) if row[0] == "trying"), modules[0])
    failures = {row[1]: row[2] for row in rows if row[0] == "failed"}
    return reached, failures, None if rows and rows[-1][0] == "done" else end
