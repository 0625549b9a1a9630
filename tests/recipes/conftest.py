"""The recipes' shell, and data small enough for their whole way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from data_hub import Hub
from mamba_slm.core.files import write_json_atomic
from recipes.forked_commands import write_program

REPOSITORY = Path(__file__).parents[2]
RECIPES = REPOSITORY / "recipes"


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Runs recipes in a folder of its own."""

    folder: Path
    environment: dict[str, str]

    def run(self, recipe: str, *arguments: str, expect: int = 0, **settings: object) -> subprocess.CompletedProcess:
        """A recipe with these settings; all that it printed."""
        done = subprocess.run(
            ["bash", str(RECIPES / recipe), *arguments],
            cwd=self.folder,
            env={**self.environment, **{name: str(value) for name, value in settings.items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, f"{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def shell(tmp_path_factory) -> Iterator[Shell]:
    """With a `mamba-slm` that has torch loaded already."""
    folder = tmp_path_factory.mktemp("recipes")
    address = folder / "commands.socket"
    write_program(folder / "bin", address)
    environment = {
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        **{
            name: os.environ[name]
            for name in ("MAMBA_SLM_CACHE", "PYTHONPATH", "OMP_WAIT_POLICY")
            if name in os.environ
        },
    }
    program = [sys.executable, str(Path(__file__).with_name("forked_commands.py")), str(address)]
    with subprocess.Popen(program, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True) as commands:
        assert commands.stdout is not None and commands.stdout.readline() == "ready\n"
        yield Shell(folder=folder, environment=environment)
        commands.kill()


def write_texts(folder: Path, texts: list[str]) -> Path:
    """A text file for each."""
    folder.mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def pages() -> list[str]:
    """The pages of Python's own manual that every installation has: English, some of them long."""
    return [text for text in topics.values() if len(text) > 1500]


@pytest.fixture(scope="session")
def sources(shell, pages) -> Iterator[dict[str, object]]:
    """Settings with which a recipe downloads from a hub on this machine: three sources of a third of the pages each."""
    hub = Hub()
    names = ("tea", "harbours", "clocks")
    described = {}
    for number, name in enumerate(names):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in pages[number :: len(names)])
        hub.files[f"{name}/part.jsonl"] = lines.encode()
        described[name] = {
            "title": name,
            "kind": "docs",
            "licence": "PSF",
            "hub": "me/data",
            "files": f"{name}/*.jsonl",
        }
    write_json_atomic(shell.folder / "sources.yaml", described)
    yield {"HF_ENDPOINT": hub.url, "MORE_SOURCES": "sources.yaml", "DROP": "0", "HELD_OUT": "0.3"}
    hub.close()
