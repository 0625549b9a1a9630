"""What others say about the files of deploy/: the schemas of compose and of Kubernetes, linters, systemd."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deployed import COMPOSE, DEPLOY, DOCKERFILES, MANIFESTS, REPOSITORY, SLURM, UNIT

pytestmark = pytest.mark.slow
TOOLS = REPOSITORY / ".venv-package" / "bin"


def passes(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tool(name):
    """A program of `make package-tools`."""
    if not (TOOLS / name).is_file():
        pytest.skip(f"needs {name}: make package-tools")
    return TOOLS / name


def test_compose_files_follow_the_schema_of_compose():
    files = [*COMPOSE.parent.glob("c*.yaml"), DEPLOY / "vllm" / "compose.yaml"]
    assert len(files) == 3
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files)


def test_manifests_follow_the_schemas_of_kubernetes():
    said = passes(tool("kubernetes-validate"), "--strict", *MANIFESTS, DEPLOY / "vllm" / "kubernetes.yaml")
    assert said.count("passed for resource") >= 10


def test_a_manifest_with_a_field_in_the_wrong_place_is_found(tmp_path):
    """So that the test above can fail."""
    text = (DEPLOY / "kubernetes" / "serve.yaml").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("readOnlyRootFilesystem: true", "readonlyRootFilesystem: true"))
    done = subprocess.run([tool("kubernetes-validate"), "--strict", wrong], capture_output=True, check=False)
    assert done.returncode != 0


def test_container_files_and_scripts_please_their_linters():
    passes(tool("hadolint"), *DOCKERFILES)
    passes(tool("shellcheck"), *SLURM, DEPLOY / "vllm" / "slurm.sbatch", REPOSITORY / ".ci" / "run")


def test_the_unit_is_one_that_systemd_understands_and_leaves_little_open(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/mamba-slm/bin/mamba-slm", str(Path("/bin/true"))))
    said = passes(analyze, "verify", unit)
    assert UNIT.name not in said, said
    passes(analyze, "security", "--offline=true", "--threshold=20", unit)
