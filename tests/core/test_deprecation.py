"""What is deprecated warns once, says what takes its place, works as before, and goes when it said."""

import argparse
import ast
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import mamba_slm
from mamba_slm.core import deprecation
from mamba_slm.core.config import add_flags, flags_given, from_dict, resolve
from mamba_slm.core.deprecation import MambaSlmDeprecationWarning, Renamed, deprecated, warn_deprecated

SOURCES = Path(mamba_slm.__file__).parent


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Two settings that had other names."""

    deprecated_settings: ClassVar = {
        "batch": Renamed(to="batch_tokens", ends="9.0"),
        "fast": Renamed(to="kernels", ends="9.0"),
    }

    batch_tokens: int = 8
    """Tokens."""
    kernels: bool = True
    """Whether."""


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(deprecation, "SAID", set())


def test_a_function_warns_once_at_the_line_that_calls_it_and_does_what_it_did():
    @deprecated(use="twice", ends="9.0")
    def double(x):
        """Two of it."""
        return 2 * x

    with pytest.warns(
        MambaSlmDeprecationWarning, match=r"double is deprecated and ends in version 9.0; use twice"
    ) as w:
        assert double(3) == 6
    assert w[0].filename == __file__
    assert double(4) == 8  # warnings are errors here: a second one would raise
    assert double.__doc__ == "Two of it."


def test_an_old_key_of_a_config_sets_the_new_setting():
    with pytest.warns(MambaSlmDeprecationWarning, match=r"setting 'batch' is deprecated .* use 'batch_tokens'"):
        assert from_dict(Settings, {"batch": "1k"}) == Settings(batch_tokens=1000)
    config, origins = resolve(Settings, [("a.yaml", {"batch": 5})])
    assert config.batch_tokens == 5 and origins == {"batch_tokens": "a.yaml", "kernels": "default"}


def test_an_old_flag_sets_the_new_setting_and_no_help_shows_it():
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    assert "--batch " not in parser.format_help() and "--fast" not in parser.format_help()
    with pytest.warns(MambaSlmDeprecationWarning, match="--batch is deprecated .* use --batch-tokens"):
        args = parser.parse_args(["--batch", "1k"])
    assert flags_given(args, Settings) == {"batch_tokens": 1000}
    with pytest.warns(MambaSlmDeprecationWarning, match="--no-fast is deprecated .* use --no-kernels"):
        args = parser.parse_args(["--no-fast"])
    assert flags_given(args, Settings) == {"kernels": False}


def test_a_command_shows_it_as_one_line_of_talk():
    program = (
        "import warnings, sys\nfrom mamba_slm.cli.main import main\nmain(['--version'])\n"
        "from mamba_slm.core.deprecation import warn_deprecated\n"
        "for _ in range(2): warn_deprecated('--fast', use='--kernels', ends='9.0')\n"
        "warnings.warn('not ours')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second, *_ = done.stderr.splitlines()
    assert first == "warning: --fast is deprecated and ends in version 9.0; use --kernels"
    assert second == "<string>:6: UserWarning: not ours"


def test_our_warnings_are_errors_in_these_tests():
    with pytest.raises(MambaSlmDeprecationWarning):
        warn_deprecated("this", use="that", ends="9.0")


def test_nothing_outlives_the_version_in_which_it_ends():
    version = tuple(map(int, mamba_slm.__version__.split(".")[:2]))
    for path in SOURCES.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "ends=" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.keyword) and node.arg == "ends" and isinstance(node.value, ast.Constant):
                ends = tuple(map(int, node.value.value.split(".")[:2]))
                assert version < ends, f"{path}:{node.lineno} ends in {node.value.value}: take it away"


def test_the_default_filter_of_python_shows_the_warning():
    assert issubclass(MambaSlmDeprecationWarning, FutureWarning)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        warn_deprecated("a", use="b", ends="9.0")
    assert len(seen) == 1
