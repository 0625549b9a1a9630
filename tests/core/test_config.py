import argparse
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.config import (
    add_flags,
    fields_of,
    flags_given,
    from_dict,
    load_yaml,
    parse_value,
    resolve,
    to_dict,
)
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.core.units import parse_seconds
from mamba_slm.core.values import coerce


@dataclass(frozen=True, kw_only=True)
class Optim:
    learning_rate: float = 1e-3
    """Peak learning rate."""

    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the tests configure."""

    batch_tokens: int = 8192
    """Tokens per optimiser step,
    over all rows (50% may be padding)."""

    schedule: Literal["cosine", "wsd"] = "cosine"
    compile: bool = False
    data: tuple[str, ...] = ()
    out: Path | None = None
    max_steps: int | None = None
    micro_batch: int | Literal["auto"] = "auto"
    limit: Annotated[float | None, parse_seconds] = None
    optim: Optim = Optim(learning_rate=5e-4)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.batch_tokens < 1:
            raise ConfigError(f"batch_tokens must be positive, got {self.batch_tokens}")


@dataclass(frozen=True, kw_only=True)
class Needs:
    name: str


def test_fields_carry_type_default_documentation_and_choices():
    fields = {field.name: field for field in fields_of(Run)}
    assert list(fields) == [field.name for field in dataclasses.fields(Run)]
    assert fields["batch_tokens"].doc == "Tokens per optimiser step, over all rows (50% may be padding)."
    assert fields["batch_tokens"].default == 8192
    assert fields["schedule"].choices == ("cosine", "wsd")
    assert fields["compile"].doc == ""
    assert fields_of(Needs)[0].default is dataclasses.MISSING
    with pytest.raises(ConfigError, match="not a dataclass"):
        fields_of(int)


@given(
    st.builds(
        Run,
        batch_tokens=st.integers(1, 10**12),
        schedule=st.sampled_from(["cosine", "wsd"]),
        compile=st.booleans(),
        data=st.lists(st.text()).map(tuple),
        out=st.none() | st.just(Path("a/b")),
        max_steps=st.none() | st.integers(0, 10**9),
        micro_batch=st.just("auto") | st.integers(1, 64),
        optim=st.builds(Optim, learning_rate=st.floats(0, 1), betas=st.tuples(st.floats(0, 1), st.floats(0, 1))),
        extra=st.dictionaries(st.text(), st.integers() | st.text()),
    )
)
def test_to_dict_and_from_dict_are_inverse_through_json(config):
    assert from_dict(Run, json.loads(json.dumps(to_dict(config)))) == config


def test_unknown_keys_name_the_nearest_setting():
    with pytest.raises(
        UnknownNameError, match=r"settings: unknown setting 'batch_tokns'; did you mean 'batch_tokens'?"
    ):
        from_dict(Run, {"batch_tokns": 3})
    with pytest.raises(
        UnknownNameError, match=r"optim: unknown setting 'leraning_rate'; did you mean 'learning_rate'?"
    ):
        from_dict(Run, {"optim": {"leraning_rate": 3}}, where="here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_tokens": True}, "settings: batch_tokens: expected a whole number, got True"),
        ({"batch_tokens": 1.5}, "batch_tokens: expected a whole number"),
        ({"batch_tokens": "many"}, "batch_tokens: 'many' is not a count"),
        ({"compile": "yes"}, "compile: expected true or false, got 'yes'"),
        ({"schedule": "cosin"}, "schedule: unknown value 'cosin'; did you mean 'cosine'"),
        ({"optim": {"betas": [0.9]}}, "betas: expected 2 values, got 1"),
        ({"optim": {"learning_rate": float("nan")}}, "learning_rate: expected a finite number"),
        ({"optim": 3}, "optim: expected Optim, got 3"),
        ({"data": 3}, "data: expected a list of text, got 3"),
        ({"micro_batch": "atuo"}, "micro_batch: expected a whole number or auto, got 'atuo'"),
        ({"max_steps": [1]}, r"max_steps: expected a whole number, got \[1\]"),
        ({"batch_tokens": 0}, "batch_tokens must be positive"),
    ],
)
def test_a_wrong_value_is_refused_by_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Run, settings)


def test_a_missing_required_setting_names_its_flag():
    with pytest.raises(ConfigError, match="setting 'name' is missing") as caught:
        from_dict(Needs, {})
    assert "--name" in caught.value.hint
    with pytest.raises(ConfigError, match="expected settings"):
        from_dict(Needs, ["name"])


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "512k", 512_000),
        (int, "64Ki", 65_536),
        (float, "3e-4", 3e-4),
        (float, "50%", 0.5),
        (float, "2k", 2000.0),
        (bool, "on", True),
        (bool, "0", False),
        (str, "512k", "512k"),
        (Path, "a/b", Path("a/b")),
        (int | None, "none", None),
        (int | None, "3", 3),
        (int | str, "3", 3),
        (int | str, "x", "x"),
        (int | Literal["auto"], "auto", "auto"),
        (Literal[1, 2], "2", 2),
        (tuple[float, float], "0.9, 0.95", (0.9, 0.95)),
        (tuple[int, ...], "1,2,3", (1, 2, 3)),
        (tuple[str, ...], "Hello, world", ("Hello, world",)),
        (Annotated[float, parse_seconds], "1h30m", 5400.0),
    ],
)
def test_values_are_read_the_way_people_write_them(hint, text, value):
    read = parse_value(hint, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("hint", "text"),
    [(int, "1.5"), (float, "nan"), (float, "inf"), (float, "fast"), (bool, "maybe"), (Literal["a"], "b"), (dict, "a")],
)
def test_text_that_is_no_value_is_refused(hint, text):
    with pytest.raises(ConfigError):
        parse_value(hint, text)


def test_later_layers_win_and_every_setting_knows_its_origin(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("batch_tokens: 16k\noptim:\n  betas: [0.8, 0.9]\nschedule: wsd\n")
    config, origins = resolve(
        Run, [("preset", {"batch_tokens": 1}), ("config", load_yaml(file)), ("flags", {"schedule": "cosine"})]
    )
    assert config == Run(batch_tokens=16_000, optim=Optim(learning_rate=5e-4, betas=(0.8, 0.9)))
    assert origins["batch_tokens"] == "config"
    assert origins["schedule"] == "flags"
    assert origins["optim.betas"] == "config"
    assert origins["optim.learning_rate"] == "default"
    assert origins["out"] == "default"
    assert resolve(Run, [])[0] == Run()


def test_numbers_that_yaml_reads_as_text_are_still_numbers(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("limit: 30m\nmax_steps: 2k\noptim: {learning_rate: 3e-4}\nmax-steps: 5\n")
    config, _ = resolve(Run, [("config", load_yaml(file))])
    assert (config.limit, config.max_steps, config.optim.learning_rate) == (1800.0, 5, 3e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_tokens: 1\nleraning: 2\n", "run.yaml:2: unknown setting 'leraning'"),
        ("optim:\n  learning_rte: 2\n", "run.yaml:2: unknown setting 'learning_rte'; did you mean 'learning_rate'"),
        ("a: 1\n\nschedule: cosin\n", "run.yaml:1: unknown setting 'a'"),
        ("compile: 3\n", "run.yaml:1: compile: expected true or false"),
    ],
)
def test_a_wrong_setting_in_a_file_is_reported_with_file_and_line(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve(Run, [("config", load_yaml(file))])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\nb: 2\n", r"run.yaml:\d: not valid YAML"),
        (b"a: 1\na: 2\n", "run.yaml:2: 'a' is set twice"),
        (b"- 1\n", "expected settings"),
        (b"a: \xff\n", "not UTF-8"),
        (b"a: &x [*x]\n", "contains itself"),
        (b"a: !!python/object:os.system {}\n", "run.yaml:1: the tag .* is not allowed"),
        (b"a: !mine [1]\n", "run.yaml:1: the tag !mine is not allowed"),
    ],
)
def test_a_broken_file_is_reported_with_its_place(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_yaml(file)


def test_an_absent_file_or_a_folder_is_an_error_and_an_empty_file_is_no_setting(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_yaml(tmp_path / "empty.yaml") == {}


def flags(*words):
    parser = argparse.ArgumentParser()
    add_flags(parser, Run, skip=("extra",))
    return flags_given(parser.parse_args(words), Run)


def test_only_the_flags_given_become_a_layer():
    assert flags() == {}
    given_flags = flags(
        *("--batch-tokens", "4k", "--no-compile", "--data", "a", "--data", "b,c", "--max-steps", "none"),
        *("--optim.learning-rate", "1e-4", "--schedule", "wsd", "--limit", "2m"),
    )
    assert given_flags == {
        "batch_tokens": 4000,
        "compile": False,
        "data": ("a", "b,c"),
        "max_steps": None,
        "optim": {"learning_rate": 1e-4},
        "schedule": "wsd",
        "limit": 120.0,
    }
    config, origins = resolve(Run, [("flags", given_flags)])
    assert config.data == ("a", "b,c")
    assert origins["optim.learning_rate"] == "flags"


def test_a_wrong_flag_value_names_the_flag():
    with pytest.raises(ConfigError, match="--schedule: unknown value 'wds'; did you mean 'wsd'"):
        flags("--schedule", "wds")
    with pytest.raises(ConfigError, match="--batch-tokens: 'x' is not a count"):
        flags("--batch-tokens", "x")


def test_help_shows_documentation_defaults_and_choices():
    parser = argparse.ArgumentParser()
    add_flags(parser, Run, skip=("extra", "optim"))
    text = " ".join(parser.format_help().split())
    assert "Tokens per optimiser step, over all rows (50% may be padding). (default: 8192)" in text
    assert "--schedule cosine|wsd" in text
    assert "--micro-batch N|auto" in text
    assert "--optim" not in text
    parser = argparse.ArgumentParser()
    add_flags(parser, Needs)
    assert "(required)" in parser.format_help()


@pytest.mark.parametrize(("text", "value"), [("true", True), ("no", False), ("none", None)])
def test_a_switch_that_may_be_unset_is_read_from_text(text, value):
    assert parse_value(bool | None, text) is value


def test_a_mapping_is_read_whichever_of_its_two_names_the_setting_has():
    given = {"S": {"window": "4k"}}
    for hint in (dict[str, dict[str, int]], Mapping[str, Mapping[str, int]]):
        assert coerce(hint, given, "letters") == {"S": {"window": 4000}}
