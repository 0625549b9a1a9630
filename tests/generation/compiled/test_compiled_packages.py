"""Compiled regions: machine code that is right, kept for the next time, and never mistaken for another."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from mamba_slm.core.compiler import cache_folder, cxx_compiler
from mamba_slm.core.errors import SetupError
from mamba_slm.generation.compiled.packages import open_package, package_path
from mamba_slm.generation.compiled.regions import Region
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.state import FIRST_CAPACITY
from small_models import save_small_model, varied_model
from tolerances import error_between, tolerance_of

CONFIG = varied_model().config


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def head_arguments(*, vocab_size=40, dtype=torch.float32):
    return [torch.zeros(1, 32), torch.ones(32), torch.zeros(vocab_size, 32, dtype=dtype)]


def test_the_name_of_a_package_depends_on_shapes_dtypes_threads_and_settings(own_cache):
    region = Region("h", CONFIG)
    path = package_path(region, head_arguments())
    assert path.parent == own_cache / "compiled"
    assert path == package_path(region, head_arguments())
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        other_threads = package_path(region, head_arguments())
    finally:
        torch.set_num_threads(threads)
    others = [
        other_threads,
        package_path(region, head_arguments(vocab_size=48)),
        package_path(region, head_arguments(dtype=torch.bfloat16)),
        package_path(Region("h", ModelConfig(**{**vars(CONFIG), "norm_eps": 1e-6})), head_arguments()),
        package_path(Region("-", CONFIG), head_arguments()),
    ]
    assert len({path, *others}) == 6


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("MAMBA_SLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mamba-slm"
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"


def test_without_a_compiler_the_error_says_what_to_do(own_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SetupError, match=r"C\+\+ compiler") as failure:
        open_package(Region("h", CONFIG), head_arguments(), on_compile=print)
    assert "g++" in failure.value.hint
    assert not own_cache.exists()


def test_a_cache_that_cannot_be_written_and_a_damaged_package_say_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="could not be compiled into") as failure:
        open_package(Region("h", CONFIG), head_arguments(), on_compile=lambda letters: None)
    assert "MAMBA_SLM_CACHE" in failure.value.hint
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "cache"))
    path = package_path(Region("h", CONFIG), head_arguments())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of a package")
    with pytest.raises(SetupError, match="cannot be loaded") as failure:
        open_package(Region("h", CONFIG), head_arguments(), on_compile=lambda letters: None)
    assert f"rm {path}" in failure.value.hint


@pytest.mark.slow
@pytest.mark.skipif(cxx_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_model_gives_the_logits_of_the_plain_one_and_is_compiled_once(own_cache, dtype):
    model = varied_model(max_context_tokens=128).to(dtype).eval()
    compiled: list[str] = []
    runtime, plain = CompiledRuntime(model, on_compile=compiled.append), TorchRuntime(model)
    assert compiled == ["M-", "q", "o-", "h"]
    states = [runtime.new_state(1), plain.new_state(1)]
    for state in states:
        plain.next_logits(torch.arange(50)[None], None, state)
    for token in range(30):  # over the first growth of the cache
        found, expected = (
            each.next_logits(torch.tensor([[token]]), None, state)
            for each, state in zip((runtime, plain), states, strict=True)
        )
        assert error_between(found, expected) <= tolerance_of("model", dtype).values
    assert states[0].layers[2].keys.shape[2] > FIRST_CAPACITY
    CompiledRuntime(varied_model(max_context_tokens=128, seed=5).to(dtype).eval(), on_compile=compiled.append)
    assert len(compiled) == 4, "another model of the same size needs no compiler"
    assert sorted(path.suffix for path in (own_cache / "compiled").iterdir()) == [".pt2"] * 4


@pytest.mark.slow
@pytest.mark.skipif(cxx_compiler() is None, reason="needs a C++ compiler")
def test_the_command_says_that_it_compiles_and_prints_the_same_text(tmp_path):
    folder = save_small_model(tmp_path / "model")
    command = [
        shutil.which("mamba-slm") or sys.executable,
        *([] if shutil.which("mamba-slm") else ["-m", "mamba_slm.cli.main"]),
    ]
    settings = {**os.environ, "MAMBA_SLM_CACHE": str(tmp_path / "cache")}

    def run(*extra):
        words = [*command, "generate", str(folder), "def ", "--temperature", "0", "--max-new-tokens", "20", *extra]
        return subprocess.run(words, capture_output=True, text=True, env=settings, check=True)

    plain, first, again = run(), run("--runtime", "compiled"), run("--runtime", "compiled")
    assert first.stdout == again.stdout == plain.stdout
    assert "compiling" in first.stderr and "compiling" not in again.stderr
