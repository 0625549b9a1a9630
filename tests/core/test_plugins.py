"""Plugins are found without being imported, loaded when used, and harm nobody who does not use them."""

import subprocess
import sys

import pytest

from mamba_slm.core import plugins
from mamba_slm.core.errors import UnknownNameError
from mamba_slm.core.plugins import PluginError
from plugin_folders import install


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_names_are_found_without_an_import_and_the_object_is_loaded_on_use(folder):
    install(folder, "their-samplers", {"samplers": {"theirs": "their_module_a:Thing.inner"}},
            their_module_a="class Thing:\n    inner = 5\n")  # fmt: skip
    assert plugins.plugin_names("samplers", own=["greedy"]) == ["theirs"]
    assert "their_module_a" not in sys.modules
    assert plugins.load_plugin("samplers", "theirs") == 5
    assert "their_module_a" in sys.modules
    assert str(plugins.find_plugin("samplers", "theirs")) == "their-samplers 1.0"


def test_two_distributions_with_one_name_are_an_error_that_names_both(folder):
    install(folder, "one", {"tasks": {"quiz": "one:task"}})
    install(folder, "two", {"tasks": {"quiz": "two:task", "other": "two:other"}}, two="other = 1\n")
    with pytest.raises(PluginError, match=r"'quiz' comes from one 1\.0 and from two 1\.0") as raised:
        plugins.find_plugin("tasks", "quiz")
    assert raised.value.exit_code == 3 and raised.value.hint == "keep one of them: pip uninstall two"
    assert plugins.load_plugin("tasks", "other") == 1, "their other names still work"


@pytest.mark.parametrize("source", ["raise RuntimeError('no')\n", "import no_such_package\n", "other = 1\n"])
def test_a_broken_plugin_is_an_error_with_its_distribution_where_it_is_used_only(folder, source):
    module = f"broken_{abs(hash(source))}"
    install(folder, "broken-one", {"readers": {".x": f"{module}:read"}}, **{module: source})
    assert plugins.plugin_names("readers") == [".x"]
    with pytest.raises(PluginError, match=r"the plugin broken-one 1.0 \(readers '.x'\) does not load"):
        plugins.load_plugin("readers", ".x")


def test_an_unknown_name_mentions_what_is_installed(folder):
    install(folder, "their-formats", {"exporters": {"mlx": "their_formats:export"}})
    with pytest.raises(UnknownNameError, match="unknown exporter 'mlxx'; did you mean 'mlx'") as raised:
        plugins.load_plugin("exporters", "mlxx", own=["hf"])
    assert raised.value.hint == "known: hf, mlx; plugins: mlx (their-formats 1.0)"


def test_they_can_be_turned_off(folder, monkeypatch):
    install(folder, "their-formats", {"exporters": {"mlx": "their_formats:export"}})
    monkeypatch.setenv("MAMBA_SLM_PLUGINS", "0")
    assert plugins.all_plugins() == ()
    with pytest.raises(UnknownNameError) as raised:
        plugins.load_plugin("exporters", "mlx", own=["hf"])
    assert "turned off" in str(raised.value.hint)


def test_no_help_imports_a_plugin_nor_fails_because_of_one(folder):
    kinds = {kind: {"X": "exploding_plugin:it"} for kind in plugins.PLUGIN_KINDS}
    install(folder, "exploding", kinds, exploding_plugin="raise SystemExit('imported')\n")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom mamba_slm.cli.main import main, COMMANDS\n"
        "for words in (['--help'], ['export', '--help'], ['eval', '--help'], ['generate', '--help'],"
        " ['models', 'list']):"
        " assert main(words) == 0\n"
        "assert 'exploding_plugin' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
