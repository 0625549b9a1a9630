"""What is public exists, is documented, and changes on purpose only."""

import inspect
import json
import re
import subprocess
import sys

import pytest

import mamba_slm
from mamba_slm.core.public_api import GROUPS, HOMES, load
from promises.documents import REPOSITORY
from promises.public_names import FROZEN, signatures

PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOMES)
def test_a_public_name_is_where_the_list_says_and_says_what_it_is_for(name):
    thing = load(name)
    assert thing.__module__ == HOMES[name], "the list names the module that defines it"
    doc = inspect.getdoc(thing) or ""
    assert doc and not doc.startswith(f"{name}("), "a docstring of its own, not the one that dataclasses make"


def test_no_name_stands_in_two_groups():
    assert sum(len(names) for names in GROUPS.values()) == len(HOMES)


def test_the_signatures_are_the_frozen_ones():
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert signatures() == frozen, (
        "a public signature changed. If that is meant: docs/deprecation.md says what a change needs, and "
        "`python tests/promises/public_names.py` freezes the new one"
    )


def test_the_page_lists_every_public_name_in_its_group_and_nothing_else():
    for group, names in GROUPS.items():
        section = PAGE.partition(f"\n### {group.capitalize()}\n")[2].partition("\n#")[0]
        assert section, f"docs/api.md has no section {group.capitalize()!r}"
        listed = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| .", section, flags=re.MULTILINE))
        assert listed == names


def test_the_package_itself_gives_the_names_that_people_expect():
    ours = [name for name in mamba_slm.__all__ if not name.startswith("__")]
    for name in ours:
        assert getattr(mamba_slm, name) is load(name)
    assert set(ours) <= set(dir(mamba_slm))
    with pytest.raises(AttributeError, match="no attribute 'bild_model'"):
        mamba_slm.bild_model  # noqa: B018


def test_importing_the_package_and_asking_for_a_config_loads_no_torch():
    program = (
        "import sys, mamba_slm\n"
        "assert 'dataclasses' not in sys.modules\n"
        "mamba_slm.ModelConfig, mamba_slm.preset, mamba_slm.TrainConfig, mamba_slm.MambaSlmError\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_page_names_every_environment_variable_and_every_exit_code():
    sources = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "src").rglob("*.py"))
    named = set(re.findall(r"\bMAMBA_SLM_[A-Z_]+\b", sources))
    named -= {"MAMBA_SLM_RANKS"}  # a word that processes of one job exchange
    assert named == set(re.findall(r"^\| `(MAMBA_SLM_[A-Z_]+)", PAGE, flags=re.MULTILINE))
    from mamba_slm.core.errors import MambaSlmError

    codes, waiting = {0}, [MambaSlmError]
    while waiting:
        error = waiting.pop()
        codes.add(error.exit_code)
        waiting += [child for child in error.__subclasses__() if child.__module__.startswith("mamba_slm.")]
    table = PAGE.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    assert codes == {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
