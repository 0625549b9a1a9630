"""What the documents say exists, parses and holds; what they must not say is absent."""

import re
import tomllib

import pytest

from mamba_slm.cli.main import COMMANDS, main
from promises.documents import REPOSITORY, documents, our_commands, parse, repository_files, shell_lines

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDERS = ("src", "tests", "docs", "benchmarks", "recipes", "deploy")
PLACES = "|".join(["/" + "work/", "/" + "root/", "/" + "home/\\w", "/" + "Users/\\w"])
REGISTRIES = "|".join(["pypi" + r"\.org", "python" + r"hosted\.org", "download" + r"\.pytorch\.org"])


def texts():
    for path in repository_files():
        try:
            yield path.relative_to(REPOSITORY), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary fixture


def names(path):
    return str(path.relative_to(REPOSITORY))


def readme():
    return (REPOSITORY / "README.md").read_text(encoding="utf-8")


def between(text, name):
    """What stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    found = re.search(rf"<!-- {name}:begin -->\n(.+?)<!-- {name}:end -->", text, flags=re.DOTALL)
    assert found, f"the markers of {name} are gone"
    return found[1]


def test_the_readme_shows_the_two_commands():
    lines = list(shell_lines(readme()))
    assert any(line.startswith("make quickstart") for line in lines)
    assert any(line.startswith("make test") for line in lines)


def test_the_readme_shows_a_transcript_of_the_quick_start():
    assert "$ make quickstart" in between(readme(), "transcript")


def test_the_table_of_sizes_in_the_readme_is_what_the_program_prints(capsys):
    assert main(["models", "list"]) == 0
    assert between(readme(), "sizes") == f"```text\n{capsys.readouterr().out}```\n", "paste `mamba-slm models list`"


def test_the_readme_lists_every_command():
    table = readme().partition("## Commands")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `mamba-slm (\S+)`", table, flags=re.MULTILINE) == list(COMMANDS)


def test_the_map_in_the_readme_has_every_folder_and_the_tour_six_files():
    text = readme()
    folders = set(re.findall(r"^\| `src/mamba_slm/(\w+)/`", text, flags=re.MULTILINE))
    assert folders == {path.parent.name for path in (REPOSITORY / "src" / "mamba_slm").glob("*/__init__.py")}
    assert len(re.findall(r"^\d\. `src/mamba_slm/\S+\.py`", text, flags=re.MULTILINE)) == 6


@pytest.mark.filterwarnings(
    "ignore:.*will be removed in v6:FutureWarning:transformers.modeling_utils"
)  # what PEFT calls there
@pytest.mark.parametrize("path", [path for path in documents() if path.name != "CONTRIBUTING.md"], ids=names)
def test_every_python_example_in_a_document_runs(path):  # those of CONTRIBUTING.md show style only
    for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, str(path), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("path", documents(), ids=names)
def test_every_mamba_slm_command_in_a_document_parses(path):
    for line in shell_lines(path.read_text(encoding="utf-8")):
        for words in our_commands(line):
            parse(words)


@pytest.mark.parametrize("path", documents(), ids=names)
def test_every_make_target_and_path_in_a_document_exists(path):
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for line in shell_lines(text):
        if match := re.match(r"make(?:\s+[A-Z_]+=\S+)*\s+([a-z-]+)", line):
            assert match[1] in targets, line
    for quoted in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", text):
        assert (REPOSITORY / quoted).exists(), f"{path.name} names {quoted}"
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_no_file_names_a_place_of_one_machine():
    own = ((path, text) for path, text in texts() if "fixtures" not in path.parts)  # fixtures hold invented places
    assert not [f"{path}: {found}" for path, text in own for found in re.findall(PLACES, text)]


def test_no_file_names_a_package_registry():
    found = [str(path) for path, text in texts() if re.search(REGISTRIES, text) and path.name != "LICENSE"]
    assert not found


def test_every_extra_that_is_named_exists():
    named = {
        (extra, str(path))
        for path, text in texts()
        for group in re.findall(r"mamba-slm\[([\w,]+)\]|extra=\"(\w+)\"", text)
        for extra in ",".join(filter(None, group)).split(",")
    }
    assert named, "hints name at least one extra"
    assert not {(extra, path) for extra, path in named if extra not in PROJECT["optional-dependencies"]}


def test_the_pins_cover_everything_that_an_installation_asks_for():
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    asked = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    for requirement in asked:
        name = re.match(r"[\w-]+", requirement)[0]
        assert name == "mamba-slm" or name in pinned, requirement
