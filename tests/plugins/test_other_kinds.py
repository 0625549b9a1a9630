"""A sampler, a reader and an exporter of a plugin do their work in the commands, and are refused by name."""

import json
import re
from pathlib import Path

import pytest
import torch

from mamba_slm.cli.main import main
from mamba_slm.core.errors import CheckFailedError, ConfigError, UnknownNameError
from mamba_slm.core.plugins import PluginError
from mamba_slm.data.readers import read_documents
from mamba_slm.export.plugin import export_with_plugin
from mamba_slm.generation.named_samplers import named_sampler, with_named
from mamba_slm.generation.sampling import Sampler
from plugin_folders import install
from small_models import save_small_model

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
ENTRIES = {
    "samplers": {"top_sigma": "plugins_of_the_page:TopSigma", "wrong": "plugins_of_the_page:Path"},
    "readers": {".srt": "plugins_of_the_page:read_subtitles"},
    "exporters": {"numpy": "plugins_of_the_page:NUMPY", "forgetful": "plugins_of_the_page:FORGETFUL"},
}
FORGETFUL = """
def write_zeros(model, out, settings, say):
    weights = mamba_slm.load_model(model).state_dict()
    np.savez(out / "weights.npz", **{name: 0 * tensor.numpy() for name, tensor in weights.items()})


FORGETFUL = ExporterPlugin(write=write_zeros, check=check)
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The examples of docs/plugins.md as an installed package."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    wanted = [block for block in blocks if re.search(r"class TopSigma|def read_subtitles|NUMPY = ", block)]
    assert len(wanted) == 3
    source = "\n".join([*wanted, FORGETFUL])
    monkeypatch.syspath_prepend(install(tmp_path / "site", "of-the-page", ENTRIES, plugins_of_the_page=source))
    return tmp_path


def test_a_sampler_is_read_with_its_settings_and_filters(page):
    sampler = with_named(Sampler.from_settings(temperature=1.0), ["top_sigma:n=0.5"])
    assert sampler.filters[-1].n == 0.5
    assert sampler.filtered(torch.tensor([[0.0, 1.0, 5.0]])).isfinite().tolist() == [[False, False, True]]
    with pytest.raises(UnknownNameError, match="setting of sampler top_sigma 'm'"):
        named_sampler("top_sigma:m=1")
    with pytest.raises(ConfigError, match=r"--sampler top_sigma: n: 'x' is not a number"):
        named_sampler("top_sigma:n=x")
    with pytest.raises(UnknownNameError, match="did you mean 'top_sigma'") as raised:
        named_sampler("top_sigm")
    assert "of-the-page 1.0" in str(raised.value.hint)
    with pytest.raises(PluginError, match="is no dataclass with filter or process"):
        named_sampler("wrong")


def test_a_reader_is_found_by_its_suffix_in_folders_too(page):
    texts = page / "texts"
    texts.mkdir()
    (texts / "film.srt").write_text("1\n00:00:01 --> 00:00:02\nGood evening.\n\n2\n00:00:03 --> 00:00:04\nWho is it?\n")
    (texts / "notes.txt").write_text("a note\n")
    found = {document.id: document.text for document in read_documents(texts)}
    assert found == {"film.srt": "Good evening.\nWho is it?", "notes.txt": "a note\n"}


def test_an_exporter_writes_what_passes_its_check_and_nothing_else(page, capsys):
    model = save_small_model(page / "model")
    assert main(["export", "numpy", str(model), "--out", str(page / "out"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["plugin"] == "of-the-page 1.0" and "equal to the last bit" in shown["checked"]
    assert list(shown["files"]) == ["weights.npz"] and (page / "out" / "weights.npz").stat().st_size > 1000
    with pytest.raises(CheckFailedError, match="differs in the file"):
        export_with_plugin("forgetful", model, page / "zeros", options={}, say=print)
    assert not (page / "zeros").exists()
    with pytest.raises(UnknownNameError, match="option of numpy 'x'"):
        export_with_plugin("numpy", model, page / "more", options={"x": "1"}, say=print)


def test_generate_takes_a_sampler_by_name(page, capsys):
    model = save_small_model(page / "model", max_context_tokens=64)
    words = ["generate", str(model), "x", "--max-new-tokens", "4", "--seed", "1", "--runtime", "torch", "--quiet"]
    assert main([*words, "--sampler", "top_sigma:n=0"]) == 0
    drawn = capsys.readouterr().out
    assert main([*words, "--temperature", "0"]) == 0
    assert capsys.readouterr().out == drawn, "within 0 deviations of the largest logit there is one token"
    assert main([*words, "--sampler", "nothing"]) == 2
    assert "unknown sampler 'nothing'" in capsys.readouterr().err
