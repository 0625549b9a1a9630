"""A letter of a plugin is a letter like ours: counted, built, stored, refused by name where it cannot be."""

import json
import sys
from pathlib import Path

import pytest
import torch

from mamba_slm.cli.main import main
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.plugins import PluginError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.model.checkpoint import load_config, load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.conformance import examine_sublayer, small_config
from mamba_slm.model.count import count_parameters, forward_flops_by_part, state_bytes
from mamba_slm.model.granite import granite_config
from mamba_slm.model.init import build_model
from mamba_slm.model.portability import RUNTIMES, lost_runtimes
from mamba_slm.model.presets import preset
from mamba_slm.training.plan import model_settings
from plugin_folders import install

EXAMPLE = Path(__file__).parents[2] / "examples" / "mamba-slm-rg-lru" / "src"
DISTRIBUTION = "mamba-slm-rg-lru"
ENTRY = {"sublayers": {"R": "mamba_slm_rg_lru.description:RG_LRU"}}

CARELESS = """
from mamba_slm_rg_lru.mixer import RealGatedRecurrence


class Careless(RealGatedRecurrence):
    def forward(self, u, context, state):
        import dataclasses
        return super().forward(u, dataclasses.replace(context, document_ids=None), state)
"""
DESCRIBED = """
import dataclasses
from mamba_slm_rg_lru.description import RG_LRU

CARELESS = dataclasses.replace(RG_LRU, letter="Q", mixer="careless_mixer:Careless", other_parameters=lambda c, s: 0)
OTHER = dataclasses.replace(RG_LRU, letter="Z")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return install(tmp_path / "site", DISTRIBUTION, ENTRY)


def test_a_pattern_takes_the_letter_and_counts_what_is_there(folder):
    config = preset("nano", pattern="R2-*-", vocab_size=512)
    assert config.pattern == "RR-*-" and config.num_layers == 3 and config.num_plugins == 2
    assert config.sublayer_settings == {"R": {"expand": 1, "conv_kernel": 4}}
    model = build_model(config)
    assert count_parameters(config).total == sum(parameter.numel() for parameter in model.parameters())
    d = config.hidden_size
    assert forward_flops_by_part(config, 64)["plugins"] == 2 * (2 * 5 * d * d + d * 20)
    assert state_bytes(config, 1000) - state_bytes(preset("nano", pattern="*", vocab_size=512), 1000) == 2 * (
        3 * d * 2 + 4 * d
    )
    assert lost_runtimes(config) == RUNTIMES


def test_without_the_plugin_the_letter_is_unknown_and_the_hint_lists_what_there_is(folder):
    with pytest.raises(ConfigError, match="unknown sublayer 'Q' at position 1") as raised:
        preset("nano", pattern="RQ-")
    assert "plugins: R (mamba-slm-rg-lru 1.0)" in str(raised.value.hint)


def test_a_model_folder_names_the_plugin_and_without_it_says_what_to_install(folder, tmp_path, monkeypatch):
    model = build_model(small_config("R", {"expand": 2}), seed=4)
    out = tmp_path / "model"
    out.mkdir()
    save_model(model, out)
    stored = json.loads((out / "config.json").read_text())
    assert stored["plugins"] == {"R": {"distribution": DISTRIBUTION, "version": "1.0"}}
    assert load_model(out).config == model.config
    monkeypatch.setenv("MAMBA_SLM_PLUGINS", "0")
    with pytest.raises(ConfigError, match=r"sublayer 'R' comes from the plugin mamba-slm-rg-lru 1\.0, .*turned off"):
        load_config(out)
    monkeypatch.delenv("MAMBA_SLM_PLUGINS")
    sys.path.remove(str(folder))
    with pytest.raises(ConfigError, match="which is not installed") as raised:
        load_config(out)
    assert raised.value.hint == "if you trust it: pip install mamba-slm-rg-lru==1.0"
    other = install(tmp_path / "other", "another-package", ENTRY)
    monkeypatch.syspath_prepend(other)
    with pytest.raises(PluginError, match=r"comes from the plugin mamba-slm-rg-lru 1\.0; here another-package 1\.0"):
        load_config(out)


def test_a_model_of_ours_is_stored_as_before(tmp_path):
    save_model(build_model(preset("nano", vocab_size=64), seed=1), tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert "plugins" not in stored and "sublayer_settings" not in stored["model"]


def test_settings_are_given_by_letter_and_checked(folder):
    found = model_settings(("R.expand=2", "position=nope", "R.conv-kernel=3"))
    assert found == {"position": "nope", "sublayer_settings": {"R": {"expand": 2, "conv_kernel": 3}}}
    with pytest.raises(UnknownNameError, match="did you mean 'expand'"):
        model_settings(("R.expnd=2",))


def test_what_cannot_run_it_says_so(folder):
    config = small_config("R")
    with pytest.raises(ConfigError, match="GraniteMoeHybrid knows the sublayers M, "):
        granite_config(config)
    with pytest.raises(Exception, match="no formula for the sublayer R of a plugin"):
        CompiledRuntime(build_model(config))


def test_the_kit_finds_a_sublayer_that_mixes_documents_and_counts_wrongly(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    entry = {"sublayers": {"Q": "careless_description:CARELESS", "Y": "careless_description:OTHER"}}
    site = install(tmp_path, "careless", entry, careless_mixer=CARELESS, careless_description=DESCRIBED)
    monkeypatch.syspath_prepend(site)
    broken = {finding.promise for finding in examine_sublayer("Q") if not finding.is_kept}
    assert broken == {"parameters are counted exactly", "packed into one row", "gradients packed"}
    with pytest.raises(PluginError, match="offers the letter 'Y' and calls itself 'Z'"):
        ModelConfig(**{**small_config("Q").stored(), "pattern": "Y-", "sublayer_settings": {}})


def test_doctor_lists_plugins_and_examines_their_sublayers(folder, capsys, monkeypatch):
    install(folder.parent / "b", "broken-task", {"tasks": {"quiz": "no_such_module:task"}})
    monkeypatch.syspath_prepend(folder.parent / "b")
    assert main(["doctor", "--plugins", "--json"]) == 3
    shown = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in shown["plugins"]}
    assert rows["R"]["loads"] and len(rows["R"]["findings"]) > 15
    assert all(finding["is_kept"] for finding in rows["R"]["findings"])
    assert not rows["quiz"]["loads"] and "broken-task 1.0" in rows["quiz"]["text"]


def test_a_state_of_it_goes_through_a_file(folder, tmp_path):
    from mamba_slm.generation.runtime import TorchRuntime
    from mamba_slm.generation.states.files import load_state, save_state
    from mamba_slm.generation.states.fingerprint import fingerprint_of

    model = build_model(small_config("R"), seed=5)
    runtime, state, text = TorchRuntime(model), model.new_state(1), torch.arange(1, 9)[None]
    with torch.no_grad():
        model(text, state=state)
        save_state(tmp_path / "state", state, fingerprint_of(runtime))
        loaded = load_state(tmp_path / "state", runtime, fingerprint_of(runtime)).state
        assert model(text, state=loaded).equal(model(text, state=state))
