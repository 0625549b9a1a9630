import json

import pytest

from mamba_slm.cli.main import main
from mamba_slm.model.presets import SIZES

INTERFACE = {"name", "parameters", "layers", "hidden_size", "num_heads", "num_kv_heads", "bf16_bytes", "pattern"}
PUBLISHED = {"1.3B": 1.44e9, "2.7B": 2.56e9, "6.7B": 5.96e9, "13B": 10.66e9}


def answer(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_the_list_has_every_preset_with_what_programs_rely_on(capsys):
    rows = json.loads(answer(capsys, "models", "list", "--json"))
    assert [row["name"] for row in rows] == list(SIZES)
    assert all(set(row) >= INTERFACE for row in rows)
    assert {row["name"]: row["layout"] for row in rows} == {name: size.layout for name, size in SIZES.items()}


@pytest.mark.parametrize("layout", ["portable", "classic"])
def test_the_published_sizes_are_listed_within_one_percent(capsys, layout):
    rows = {row["name"]: row for row in json.loads(answer(capsys, "models", "list", "--layout", layout, "--json"))}
    assert {row["layout"] for row in rows.values()} == {layout}
    if layout == "portable":
        for name, parameters in PUBLISHED.items():
            assert rows[name]["parameters"] == pytest.approx(parameters, rel=0.01)
            assert rows[name]["bf16_bytes"] == 2 * rows[name]["parameters"]


def test_the_table_for_people_shows_the_same_numbers(capsys):
    lines = answer(capsys, "models", "list").splitlines()
    assert lines[0].split()[:4] == ["name", "parameters", "BF16", "layers"]
    assert [line.split()[0] for line in lines[1:]] == list(SIZES)
    (row,) = [line for line in lines if line.startswith("1.3B ")]
    assert row.split()[:5] == ["1.3B", "1.44B", "2.68", "GiB", "24"]


def test_describe_shows_layers_parts_and_memory_against_the_attention_only_twin(capsys):
    text = answer(capsys, "models", "describe", "1.3B")
    assert "layer map    M**MMM*MMMM*MMMM*MMMM***" in text
    assert "attention at 1, 2, 6, 11, 16, 21, 22, 23" in text
    described = json.loads(answer(capsys, "models", "describe", "1.3B", "--json"))
    assert sum(described["parameters_by_part"].values()) == described["parameters"]
    rows = described["conversation_memory"]
    assert [row["context_tokens"] for row in rows] == [2048, 8192, 32768, 131072]
    assert all(row["bytes"] < row["attention_only_bytes"] for row in rows)
    # 24 attention layers, keys and values, 4 heads of 128, 2 bytes
    assert rows[0]["attention_only_bytes"] == 24 * 2 * 4 * 128 * 2 * 2048


def test_the_options_of_describe_change_the_model(capsys):
    def described(*words):
        return json.loads(answer(capsys, "models", "describe", "nano", "--json", *words))

    assert described("--pattern", "M3*-")["pattern"] == "MMM*-"
    assert described("--attention-share", "50%", "--placement", "even")["attention_at"] == [0, 2]
    assert described("--placement", "0,1")["attention_at"] == [0, 1]
    assert described("--layout", "classic")["portable"] is False
    assert described("--layout", "classic")["portability_issues"][0]["field"] == "pattern"
    assert described("--vocab-size", "8Ki")["vocab_size"] == 8192
    assert [row["context_tokens"] for row in described("--context", "5,1k")["conversation_memory"]] == [5, 1000]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["describe", "nanp"], "unknown preset 'nanp'; did you mean 'nano'?"),
        (["describe", "nano", "--pattern", "M-x"], "unknown sublayer 'x' at position 2"),
        (["describe", "nano", "--pattern", "M-", "--placement", "even"], "--pattern says itself where attention is"),
        (["describe", "nano", "--placement", "topp"], "unknown placement 'topp'; did you mean 'top'?"),
        (["describe", "nano", "--context", "2k,x"], "'x' is not a count"),
        (["list", "--layout", "clasic"], "did you mean 'classic'?"),
    ],
)
def test_a_wrong_word_is_a_usage_error_that_says_what_is_meant(capsys, words, message):
    assert main(["models", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
