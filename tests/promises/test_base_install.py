"""A plain installation is enough to import every module."""

import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

IMPORT_ALL = """
import importlib, importlib.abc, pkgutil, sys, warnings

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {optional!r}:
            raise ImportError(f"{{name}} is not part of a plain installation")

sys.meta_path.insert(0, Absent())
warnings.simplefilter("error")
import mamba_slm
from mamba_slm.core.errors import MissingDependencyError
names = [module.name for module in pkgutil.walk_packages(mamba_slm.__path__, "mamba_slm.")]
for name in names:
    try:
        importlib.import_module(name)
        assert name not in {needing!r}, name
    except MissingDependencyError as error:
        assert {needing!r}[name] in error.hint, error
print(len(names))
"""


GPU_KERNELS = ("conv", "language", "loss", "norm", "ssd", "ssd_gradients", "ssd_kernels", "ssd_start", "swiglu")
NEEDING_AN_EXTRA = {f"mamba_slm.model.{name}": "[hf]" for name in ("hf", "hf_cache", "hf_config")} | {
    f"mamba_slm.ops.triton.{name}": "[gpu]" for name in GPU_KERNELS
}
NEEDING_AN_EXTRA |= {
    f"mamba_slm.finetuning.{name}": "[finetune]"
    for name in (
        "libraries",
        "trainer",
        "recorder",
        "adapters.proof",
        "adapters.full_tensors",
        "alignment.proof",
        "alignment.trainers",
        "alignment.reward_model",
    )
}
NEEDING_AN_EXTRA |= {"mamba_slm.finetuning.qlora.linear": "[bnb]"} | {
    f"mamba_slm.serving.api.{name}": "[serve]"
    for name in (
        "libraries",
        "app",
        "service",
        "prompts",
        "collecting",
        "streaming",
        "errors",
        "schemas",
        "server",
        "routes.models",
        "routes.completions",
        "routes.chat",
        "routes.responses",
        "responses.fields",
        "responses.items",
        "responses.bodies",
        "responses.described",
        "responses.asking",
        "responses.telling",
        "conversations",
        "answer_parts",
        "routes.health",
        "routes.tokens",
        "chat_answers",
        "guard.connections",
        "guard.install",
        "bodies.strict",
        "bodies.operations",
        "bodies.tokens",
        "bodies.tgi",
        "bodies.answers",
        "bodies.embeddings",
        "routes.embeddings",
        "routes.tgi",
        "generate_requests",
        "generate_answers",
        "tools.bodies",
        "tools.choice",
        "tools.grammar",
        "routes.adapters",
    )
}
NEEDING_AN_EXTRA |= {
    f"mamba_slm.serving.metrics.{name}": "[serve]"
    for name in ("libraries", "families", "vllm", "own", "http", "exposition")
}
ROUTES = sorted(path.stem for path in (REPOSITORY / "src/mamba_slm/dashboard/routes").glob("[!_]*.py"))
NEEDING_AN_EXTRA |= {f"mamba_slm.dashboard.window_{name}": "[window]" for name in ("library", "process")} | {
    f"mamba_slm.dashboard.{name}": "[dashboard]"
    for name in ("libraries", "access", "app", "server", "talking", "watching", *(f"routes.{name}" for name in ROUTES))
}
"""Modules that consist of another package's classes, and the extra that their error must name."""


def test_every_module_imports_with_the_base_installation():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = {
        "zstandard",
        "tensorboard",
        "transformers",
        "peft",
        "trl",
        "bitsandbytes",
        "fastapi",
        "starlette",
        "PyQt6",
        "uvicorn",
        "pydantic",
        "prometheus_client",
        "accelerate",
        "datasets",
        "gguf",
        "onnx",
        "onnxruntime",
        "onnxruntime_genai",
        "triton",
        "hypothesis",
        "pytest",
        "ruff",
        "pyright",
    }
    assert not optional & {line.partition(">")[0] for line in project["dependencies"]}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL.format(optional=optional, needing=NEEDING_AN_EXTRA)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
