"""The wheel with each extra alone does what the extra is for, and has nothing of the others.

Here environments are linked together from the distributions of `.venv`, exactly those that the metadata of the wheel
asks for, so nothing is fetched. `make extras` lets pip install them from the package index instead
(MAMBA_SLM_EXTRAS=pip).
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployed import REPOSITORY, copy_of_sources
from small_models import save_small_model

pytestmark = pytest.mark.slow
TOOLS = REPOSITORY / ".venv-package" / "bin"
USES = {
    "data": "from mamba_slm.cli.main import main; import zstandard, fastokens, isal, orjson, sentencepiece, tiktoken\n"
    "open('x.jsonl.zst', 'wb').write(zstandard.compress(b'{\"text\": \"a b\"}\\n'))\n"
    "exit(main(['data', 'inspect', 'x.jsonl.zst']))",
    "cloud": "from mamba_slm.data import storage; import fsspec, gcsfs, s3fs",
    "ray": "import ray; from mamba_slm.data.engine import ray_cluster; ray.remote(lambda: 1)",
    "scale": "from mamba_slm.core.optional import require; require('deepspeed', extra='scale', purpose='x')",
    "track": "from torch.utils.tensorboard import SummaryWriter as w; w('logs').close(); import wandb, trackio",
    "bnb": "import torch; from mamba_slm.training.adamw8bit import *; import bitsandbytes",
    "grammar": "import llguidance; from mamba_slm.generation.strategies import constraints",
    "scores": "import sacrebleu, rouge_score.rouge_scorer; from mamba_slm.evaluation import generations",
    "eval": "import lm_eval.evaluator, sacrebleu; from mamba_slm.evaluation.harness import tasks",
    "qat": "import torchao.quantization",
    "hf": "import mamba_slm; from transformers import AutoModelForCausalLM as a; a.from_pretrained('model')",
    "finetune": "import mamba_slm.finetuning.trainer, mamba_slm.finetuning.adapters.proof, trl",
    "dashboard": "import mamba_slm.dashboard.server, mamba_slm.dashboard.talking",
    "window": "import os; os.environ['QT_QPA_PLATFORM'] = 'offscreen'; import PyQt6.QtCore, mamba_slm.dashboard.server",
    "serve": "import mamba_slm.serving.api.server, mamba_slm.serving.metrics.exposition",
    "gguf": "from mamba_slm.cli.main import main; exit(main(['export', 'gguf', 'model', '--out', 'x.gguf']))",
    "onnx": "from mamba_slm.cli.main import main; exit(main(['export', 'onnx', 'model', '--out', 'x-onnx']))",
    "gpu": "import triton; import mamba_slm.ops.triton.norm",
}
"""Extra -> what is done with it, in a folder that holds `model`."""
SIGNS = {
    "data": "isal", "cloud": "gcsfs", "ray": "ray", "scale": "deepspeed", "track": "trackio", "bnb": "bitsandbytes",
    "grammar": "llguidance", "scores": "sacrebleu", "eval": "lm_eval", "qat": "torchao", "hf": "transformers",
    "finetune": "trl", "window": "PyQt6", "serve": "fastapi", "gguf": "gguf", "onnx": "onnxruntime", "gpu": "triton",
}  # fmt: skip
"""Extra -> a module that a plain installation has not."""
PROVIDED = {"gpu"}
"""Extras whose module other builds of torch bring along."""


def closure(*requirements: str) -> set[str]:
    """Names of all distributions that these need, by the metadata of what is installed here."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in one.extras or {""}:
            if (name, extra) in found or (one.marker and not one.marker.evaluate({"extra": ""})):
                continue
            found |= {(name, extra), (name, "")}
            for line in importlib.metadata.requires(name) or ():
                inner = Requirement(line)
                if inner.marker is None or any(inner.marker.evaluate({"extra": given}) for given in (extra, "")):
                    inner.marker = None
                    waiting.append(inner)
    return {name for name, _ in found}


def wheel_requirements(wheel: Path, extra: str = "") -> list[str]:
    """What the wheel asks for, plainly or with an extra; extras of its own are followed."""
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        lines = re.findall(r"^Requires-Dist: (.+)$", packed.read(name).decode(), re.MULTILINE)
    asked = []
    for line in lines:
        one = Requirement(line)
        if one.marker and not one.marker.evaluate({"extra": extra}):
            continue
        if extra and one.marker and one.marker.evaluate({"extra": ""}):
            continue
        if canonicalize_name(one.name) == "mamba-slm":
            asked += [inner for own in one.extras for inner in wheel_requirements(wheel, own)]
        else:
            one.marker = None
            asked.append(str(one))
    return asked


def link(names: set[str], site: Path) -> None:
    """Distributions of this environment into another one's folder of packages."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            target = site / file
            if any(parent.is_symlink() for parent in target.parents):
                continue
            source = Path(str(distribution.locate_file(file)))
            top = source.parents[len(file.parts) - 2] if len(file.parts) > 1 else source
            if len(file.parts) > 1 and ((top / "__init__.py").is_file() or top.name.endswith(".dist-info")):
                (site / file.parts[0]).symlink_to(top)
            elif source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)


def environment(folder: Path) -> Path:
    """An environment without anything; its folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def pip(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # or it finds the sources
    done = subprocess.run(
        [*command, *words], cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not (TOOLS / "python").is_file():
        pytest.skip("needs build: make package-tools")
    folder = tmp_path_factory.mktemp("dist")
    sources = copy_of_sources(tmp_path_factory.mktemp("sources"))
    script = sources / "deploy" / "package" / "build.py"
    done = subprocess.run([TOOLS / "python", script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory, wheel):
    """A plain installation of the wheel."""
    folder = tmp_path_factory.mktemp("base")
    site = environment(folder)
    if os.environ.get("MAMBA_SLM_EXTRAS") == "pip":
        pip(folder, "-c", "constraints.txt", str(wheel))
    else:
        link(closure(*wheel_requirements(wheel)), site)
        pip(folder, "--no-deps", str(wheel))
    return folder, site


def ran(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
    return subprocess.run([python, "-I", "-c", code], cwd=folder, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where everything runs: a model lies there."""
    folder = tmp_path_factory.mktemp("work")
    save_small_model(folder / "model", max_context_tokens=128)
    return folder


def test_the_plain_wheel_examines_itself_generates_and_names_the_extra_that_is_missing(base, folder):
    python = base[0] / "bin" / "python"
    own = subprocess.run([base[0] / "bin" / "mamba-slm", "models", "list"], capture_output=True, text=True, check=True)
    assert "nano" in own.stdout
    code = "from mamba_slm.cli.main import main; exit(main(['generate', 'model', 'a', '--max-new-tokens', '2']))"
    done = ran(python, code, folder)
    assert done.returncode == 0, done.stderr
    done = ran(python, "from mamba_slm.cli.main import main; exit(main(['serve', 'model']))", folder)
    assert done.returncode == 3 and "mamba-slm[serve]" in done.stderr


def test_the_plain_wheel_has_nothing_of_any_extra(base, folder):
    signs = [sign for extra, sign in SIGNS.items() if extra not in PROVIDED]
    code = f"import importlib.util as u; print([name for name in {signs!r} if u.find_spec(name)])"
    assert ran(base[0] / "bin" / "python", code, folder).stdout.strip() == "[]"


@pytest.mark.parametrize("extra", USES)
def test_an_extra_alone_is_enough_for_what_it_is_for(extra, base, wheel, folder, tmp_path):
    site = environment(tmp_path / "environment")
    (site / "base.pth").write_text(f"{base[1]}\n")
    asked = wheel_requirements(wheel, extra)
    assert asked
    if os.environ.get("MAMBA_SLM_EXTRAS") == "pip":
        pip(tmp_path / "environment", "-c", "constraints.txt", *asked)
    else:
        link(closure(*asked) - closure(*wheel_requirements(wheel)), site)
    done = ran(tmp_path / "environment" / "bin" / "python", USES[extra], folder)
    assert done.returncode == 0, done.stderr


def test_every_extra_for_users_is_tried():
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - {"dev", "docs"} == set(USES)
