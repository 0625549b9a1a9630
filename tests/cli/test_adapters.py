"""`mamba-slm adapters`, and `--adapter` of the commands that take a model."""

import json
import shutil

import pytest
import torch

from finetuning.adapters.small_adapters import logits, save_trained
from mamba_slm.cli.main import main
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.generation.loading import load
from mamba_slm.generation.runtime import RuntimeSettings
from mamba_slm.model.adapter_choice import AdapterChoice, resolve_adapted
from mamba_slm.model.checkpoint import load_model
from model.hf_models import random_tokens


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A base model, an adapter folder, and a run directory that holds nothing but an adapter."""
    folder = tmp_path_factory.mktemp("adapters")
    models = {
        "one": save_trained(folder / "one", folder / "base", LoraSettings(rank=2, full=("A_log", "D"))),
        "run": save_trained(
            folder / "run/adapter", folder / "base", LoraSettings(rank=4, targets=("in_proj",)), seed=2
        ),
    }
    return folder, models


def told(capsys, *words):
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out


@torch.no_grad()
def our_logits(folder):
    return load_model(folder)(random_tokens(2, 17, seed=9))


def test_the_list_says_what_each_adapter_is(places, capsys):
    folder, _ = places
    rows = json.loads(told(capsys, "adapters", "list", folder, "--json"))
    assert [(row["adapter"], row["rank"]) for row in rows] == [(f"{folder}/one", 2), (f"{folder}/run/adapter", 4)]
    assert rows[0]["in_full"] == "A_log D"
    assert rows[1]["targets"] == "in_proj"
    assert rows[0]["base"] == str(folder / "base")
    assert "LoRA" in told(capsys, "adapters", "list", folder)
    assert told(capsys, "adapters", "list", folder / "base") == ""


def test_a_model_with_its_adapter_is_written_as_one_model(places, capsys, tmp_path):
    folder, models = places
    told(capsys, "adapters", "merge", folder / "run", "--into", "base", "--out", tmp_path / "merged")
    torch.testing.assert_close(our_logits(tmp_path / "merged"), logits(models["run"]), rtol=1e-5, atol=1e-5)
    assert (tmp_path / "merged/tokenizer.json").read_bytes() == (folder / "base/tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "merged/config.json").read_text())["architectures"] == ["HybridSlmForCausalLM"]
    told(capsys, "adapters", "merge", folder / "one", "--into", folder / "base", "--out", tmp_path / "half",
         "--dtype", "bfloat16", "--json")  # fmt: skip
    error = (our_logits(tmp_path / "half") - logits(models["one"])).abs().max() / logits(models["one"]).abs().max()
    assert 0 < error < 0.02
    assert main(["adapters", "merge", str(folder / "one"), "--into", "base", "--out", str(tmp_path / "half")]) == 2


@pytest.mark.slow
def test_generate_takes_adapters_and_runs_that_are_adapters(places, capsys):
    folder, _ = places

    def text(model, *words):
        return told(capsys, "generate", model, "def", *words, "--max-new-tokens", 8, "--temperature", 0)

    plain, alone = text(folder / "base"), text(folder / "run")
    assert text(folder / "base", "--adapter", folder / "run") == alone != plain
    assert text(folder / "run/adapter") == alone
    assert text(folder / "base", "--adapter", f"{folder / 'run'}=0") == plain
    both = text(folder / "run", "--adapter", folder / "one")
    assert both == text(folder / "base", "--adapter", folder / "one", "--adapter", folder / "run")
    assert text(folder / "run", "--weights", "int8") is not None


def test_a_run_that_is_an_adapter_is_its_base_with_it(places):
    folder, models = places
    loaded = load(folder / "run", runtime="torch", settings=RuntimeSettings(device="cpu"))
    with torch.no_grad():
        found = loaded.runtime.model(random_tokens(2, 17, seed=9))
    torch.testing.assert_close(found, logits(models["run"]), rtol=1e-5, atol=1e-5)
    assert loaded.weights_folder is None and loaded.folder == folder / "base"
    assert f"{folder}/base + {folder}/run/adapter" in loaded.reason
    rounded = load(folder / "run", runtime="torch", settings=RuntimeSettings(device="cpu", weights="int8"))
    with torch.no_grad():
        error = (rounded.runtime.model(random_tokens(2, 17, seed=9)) - found).abs().max() / found.abs().max()
    assert 0 < error < 0.1
    own = folder / "run/adapter/tokenizer.json"
    shutil.copy(folder / "base/tokenizer.json", own)  # as with a template that brought tokens of its own
    try:
        assert load(folder / "run", runtime="torch", settings=RuntimeSettings(device="cpu")).folder == own.parent
    finally:
        own.unlink()


def test_weights_and_several_adapters_add_up(places):
    folder, _ = places
    base = load_model(folder / "base").state_dict()

    def weights(*choices):
        settings = RuntimeSettings(adapters=tuple(AdapterChoice.parse(text) for text in choices), device="cpu")
        return load(folder / "base", runtime="torch", settings=settings).runtime.model.state_dict()

    one, run = weights(f"{folder}/one"), weights(f"{folder}/run")
    both, half = weights(f"{folder}/one", f"{folder}/run=-2"), weights(f"{folder}/one=0.5")
    for name, value in base.items():
        torch.testing.assert_close(half[name], (value + one[name]) / 2, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(both[name], one[name] - 2 * (run[name] - value), rtol=1e-5, atol=1e-5)


def test_an_adapter_whose_base_has_moved_says_so_and_how_to_go_on(places, capsys, tmp_path):
    folder, _ = places
    shutil.copytree(folder / "base", tmp_path / "base")
    shutil.copytree(folder / "run", tmp_path / "run")
    described = tmp_path / "run/adapter/mamba_slm_adapter.json"
    content = json.loads(described.read_text())
    described.write_text(json.dumps(content | {"base_path": str(tmp_path / "gone"), "base_path_from_here": "gone"}))
    assert main(["generate", str(tmp_path / "run"), "a"]) == 5
    assert f"MODEL --adapter {tmp_path}/run/adapter" in capsys.readouterr().err
    assert main(["bench", str(tmp_path / "run")]) == 5
    assert f"adapters merge {tmp_path}/run --into base" in capsys.readouterr().err
    found = resolve_adapted(tmp_path / "base", (AdapterChoice(folder=tmp_path / "run"),))
    assert found.adapters[0].folder == tmp_path / "run/adapter"


def test_an_adapter_and_its_base_may_move_together(places, tmp_path):
    folder, _ = places
    shutil.copytree(folder, tmp_path / "elsewhere")
    for name in ("one", "run/adapter"):
        described = tmp_path / "elsewhere" / name / "mamba_slm_adapter.json"
        content = json.loads(described.read_text()) | {"base_path": str(tmp_path / "gone")}
        described.write_text(json.dumps(content))
        assert resolve_adapted(tmp_path / "elsewhere" / name).base == tmp_path / "elsewhere/base"


def test_the_wrong_model_and_other_nonsense_are_refused(places, capsys, tmp_path):
    folder, _ = places
    from mamba_slm.model.checkpoint import save_model
    from small_models import small_tokenizer, varied_model

    (tmp_path / "other").mkdir()
    save_model(varied_model(seed=7), tmp_path / "other")
    small_tokenizer().save(tmp_path / "other")
    assert main(["generate", str(tmp_path / "other"), "a", "--adapter", str(folder / "one")]) == 1
    assert "belongs to another model" in capsys.readouterr().err
    assert main(["generate", str(folder / "base"), "a", "--adapter", f"{folder}/one=lots"]) == 2
    assert main(["generate", str(folder / "base"), "a", "--adapter", str(tmp_path)]) == 5
    merge = ["adapters", "merge", str(folder / "one"), "--out", str(tmp_path / "x")]
    assert main([*merge, "--dtype", "float32"]) == 2
    assert main([*merge, "--into", "base", "--how", "svd"]) == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_model_is_quantized_and_exported_with_its_adapter(places, capsys, tmp_path):
    folder, models = places
    told(capsys, "export", "hf", folder / "run", "--out", tmp_path / "hf")
    assert (tmp_path / "hf/model.safetensors").is_file()
    told(capsys, "quantize", folder / "base", "--adapter", folder / "run", "--to", "int8", "--out", tmp_path / "int8",
         "--no-speed")  # fmt: skip
    error = (our_logits(tmp_path / "int8") - logits(models["run"])).abs().max() / logits(models["run"]).abs().max()
    assert error < 0.2
    assert main(["generate", str(tmp_path / "int8"), "a", "--adapter", str(folder / "run")]) == 2
    assert "quantized" in capsys.readouterr().err
