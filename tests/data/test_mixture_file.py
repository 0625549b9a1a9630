import pytest

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError
from mamba_slm.data.mixture_file import (
    MixtureChange,
    MixturePlan,
    MixtureSource,
    is_mixture_file,
    read_mixture_file,
    write_mixture_file,
)

FULL = """\
mixture: 1
sources:
  web: {path: web-tokens, weight: 0.7}
  code:
    path: ../code-tokens
    weight: 0.3
changes:
  - {from_tokens: 10B, weights: {web: 0.2, code: 80%}}
"""


def write(folder, text, name="mixture.yaml"):
    (folder / name).write_text(text)
    return folder / name


def test_a_file_says_sources_weights_and_changes(tmp_path):
    plan = read_mixture_file(write(tmp_path, FULL))
    assert plan == MixturePlan(
        sources={
            "web": MixtureSource(path=str(tmp_path / "web-tokens"), weight=0.7),
            "code": MixtureSource(path=str(tmp_path / "../code-tokens"), weight=0.3),
        },
        changes=(MixtureChange(from_tokens=10_000_000_000, weights={"web": 0.2, "code": 0.8}),),
    )


def test_what_is_written_is_read_again_from_wherever_it_lies(tmp_path):
    plan = MixturePlan(
        sources={"a": MixtureSource(path=str(tmp_path / "tokens" / "a")), "ü": MixtureSource(path=str(tmp_path / "b"))},
        temperature=2.5,
        changes=(MixtureChange(from_tokens=100, weights={"a": 1.0}),),
    )
    file = tmp_path / "settings" / "mixture.yaml"
    write_mixture_file(file, plan)
    assert "../tokens/a" in file.read_text()
    again = read_mixture_file(file)
    assert (again.temperature, again.changes) == (2.5, plan.changes)
    assert [(tmp_path / source.path).resolve() for source in again.sources.values()] == [
        (tmp_path / source.path).resolve() for source in plan.sources.values()
    ]
    with pytest.raises(DataError, match="exists already"):
        write_mixture_file(file, plan)


def test_only_a_yaml_file_that_says_so_is_a_mixture(tmp_path):
    assert is_mixture_file(write(tmp_path, FULL))
    assert not is_mixture_file(write(tmp_path, FULL, "mixture.txt"))
    assert not is_mixture_file(write(tmp_path, "sources: {}", "other.yaml"))
    assert not is_mixture_file(write(tmp_path, "just: [a text", "broken.yaml"))
    assert not is_mixture_file(write(tmp_path, FULL + "# x\n" * 300_000, "text.yaml"))
    assert not is_mixture_file(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("mixture: 2", DataError, "format version 2"),
        ("mixture: 1", ConfigError, "'sources' is missing"),
        ("mixture: 1\nsources: {}", ConfigError, "needs sources"),
        ("mixture: 1\nsources:\n  a: {pat: x}", UnknownNameError, r"yaml:3.*unknown setting 'pat'"),
        ("mixture: 1\nsources:\n  a: text", ConfigError, "yaml:3.*expected settings"),
        ("mixture: 1\nsources:\n  a: {path: x, weight: much}", ConfigError, "yaml:3.*'much' is not a number"),
        ("mixture: 1\nsources: {a: {path: x}}\ntemprature: 2", UnknownNameError, r"yaml:3.*did you mean 'temperature'"),
        ("mixture: 1\nsources: {a: {path: x}}\nchanges: [{from_tokens: 5}]", ConfigError, "'weights' is missing"),
        ("mixture: 1\nsources: {a: {path: x}}\nchanges: 5", ConfigError, "yaml:3"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_mixture_file(write(tmp_path, text))
