"""Starting is quick because nothing is loaded that is not needed: causes, never times."""

import json
import subprocess
import sys

import pytest

from small_models import save_small_model

NEW_MODULES = """
import json, sys
before = set(sys.modules)
import mamba_slm
print(json.dumps(sorted(set(sys.modules) - before)))
"""

GENERATE = """
import json, sys
from mamba_slm.cli.main import main
code = main(["generate", sys.argv[1], "x = ", "--max-new-tokens", "1", "--quiet"])
print(json.dumps([code, sorted(sys.modules)]))
"""

SLOW_TO_LOAD = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy", "transformers", "onnx")
"""Half a second and more; nothing of it is needed to generate."""


def last_line(program, *words):
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_brings_no_third_package_and_no_finder_of_files():
    new = last_line(NEW_MODULES)
    assert "mamba_slm.core.after_import" in new
    ours = {name for name in new if name.startswith("mamba_slm")}
    assert len(ours) <= 3, ours
    others = {name.partition(".")[0] for name in new} - {"mamba_slm"}
    assert others <= set(sys.stdlib_module_names) | {"_operator"}
    assert not others & {"pathlib", "tempfile", "zipfile", "inspect", "dataclasses", "subprocess", "json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "small", max_context_tokens=64)


def test_the_first_token_of_a_model_loads_no_compiler_and_no_other_library(folder):
    code, loaded = last_line(GENERATE, str(folder))
    assert code == 0
    assert "torch" in loaded
    assert not set(SLOW_TO_LOAD) & set(loaded)
