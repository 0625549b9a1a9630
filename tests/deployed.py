"""What `deploy/` starts: the words of every `mamba-slm` in its files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from promises.documents import repository_files

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "deploy"
DOCKERFILES = sorted((DEPLOY / "container").glob("*.Dockerfile"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "compose" / "compose.yaml"
SLURM = sorted((DEPLOY / "slurm").glob("*.sbatch"))
UNIT = DEPLOY / "systemd" / "mamba-slm.service"


def with_variables(text: str) -> str:
    """`${NAME:-default}` as its default and `${NAME}` as 1: what parses wherever a value is wanted."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+(:\?[^}]*)?\}|\$\w+", "1", text)


def documents(path: Path) -> list[dict[str, Any]]:
    """Those of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def compose_services() -> dict[str, dict[str, Any]]:
    """Of the compose file, with its anchors merged."""
    return documents(COMPOSE)[0]["services"]


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name of the resource, its pod, its container) of every container in the manifests."""
    for path in MANIFESTS:
        for resource in documents(path):
            spec = resource.get("spec", {})
            pod = spec.get("template", {}).get("spec") or (spec if "containers" in spec else None)
            if pod is None:
                continue
            for container in pod["containers"]:
                yield resource["metadata"]["name"], pod, container


def commands() -> Iterator[tuple[str, list[str]]]:
    """(where, words after `mamba-slm`) of everything that deploy/ starts."""
    for path in DOCKERFILES:
        yield path.name, json.loads(re.findall(r"^CMD (\[.*\])$", path.read_text(encoding="utf-8"), re.MULTILINE)[-1])
    for name, service in compose_services().items():
        if str(service["image"]).startswith("mamba-slm:"):
            yield f"compose {name}", [with_variables(str(word)) for word in service["command"]]
    for name, _, container in containers():
        if "args" in container:
            yield f"kubernetes {name}", [str(word) for word in container["args"]]
    started = re.search(r"^ExecStart=\S+/mamba-slm (.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert started
    yield UNIT.name, shlex.split(with_variables(started[1]))
    for path in SLURM:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        (line,) = re.findall(
            r"^(?:srun|exec|  exec \"\$@\"').*\bmamba-slm ((?:--offline )?(?:train|serve|eval) .*)$", text, re.M
        )
        line = re.sub(r"\"\$\{\w+\[@\]\}\"|\"\$@\"", "", line)
        line = re.sub(r"\"?\$\(hostname(?: -s)?\)\"?", "host", line)
        yield path.name, [word for word in shlex.split(with_variables(line)) if word != "--offline"]


def copy_of_sources(folder: Path) -> Path:
    """What git has, elsewhere: other times, another order of files.

    Setuptools writes into the folder that it builds, which other tests read meanwhile.
    """
    for path in reversed(repository_files()):
        name = path.relative_to(REPOSITORY)
        if name.parts[0] in ("src", "deploy", "tests") or len(name.parts) == 1:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
    return folder


def seconds(words: list[str], flag: str) -> int:
    """The value of a flag, 0 where it is not given."""
    joined = " ".join(words)
    found = re.search(rf"{flag}[= ](\d+)", joined)
    return int(found[1]) if found else 0
