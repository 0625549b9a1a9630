import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.sources.source import find_source, load_sources


def test_the_table_names_every_source_of_the_published_mixture_and_more():
    sources = load_sources()
    shares = {name: source.mixture_percent for name, source in sources.items() if source.mixture_percent}
    assert shares == {
        "c4": 30, "pile": 25, "starcoder": 15, "books3": 10,
        "wikipedia": 5, "arxiv": 5, "openwebtext": 5, "stackexchange": 5,
    }  # fmt: skip
    assert {"redpajama", "wikitext", "tinystories", "fineweb-edu", "gutenberg"} <= set(sources)
    assert [name for name, source in sources.items() if source.access == "gated"] == ["starcoder"]
    assert [name for name, source in sources.items() if source.access == "withdrawn"] == ["books3"]
    assert sources["books3"].instead in sources


def test_every_source_asks_for_data_files_and_says_what_one_may_do():
    for source in load_sources().values():
        assert source.licence and source.title
        if source.hub is not None:
            for pattern in source.files.split(","):
                assert pattern.endswith((".parquet", ".jsonl", ".json.gz", ".jsonl.gz", ".jsonl.zst")), source.name


def test_tokens_of_a_file_follow_from_its_size_and_format():
    sources = load_sources()
    assert sources["c4"].tokens_in("en/c4-train.0.json.gz", 196) == 100
    assert sources["gutenberg"].tokens_in("data/en-0.parquet", 250) == 100
    assert sources["redpajama"].tokens_in("x.jsonl", 430) == 100


def test_a_file_of_the_user_adds_sources_and_replaces_some(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "mine:\n  title: Mine\n  kind: chat\n  licence: MIT\n  hub: me/mine\n  files: '*.jsonl'\n"
        "c4:\n  title: C4 elsewhere\n  kind: web\n  licence: ODC-BY\n  hub: me/c4\n"
    )
    sources = load_sources(file)
    assert sources["mine"].kind == "chat" and sources["c4"].hub == "me/c4" and "pile" in sources


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("kind: web, licence: x", "mine.yaml:1.*title"),
        ("title: a, kind: web, licence: x", "has no hub"),
        ("title: a, kind: poems, licence: x, hub: a/b", "kind"),
        ("title: a, kind: web, licence: x, hub: ab", "hub must be OWNER/NAME, not 'ab'"),
        ("title: a, kind: web, licence: x, hub: a/b, files: load.py", "asks for scripts, which are never run"),
        ("title: a, kind: web, licence: x, hub: a/b, token: 3", "did you mean 'tokens'"),
        ("title: a, kind: web, licence: x, hub: a/b, bytes_per_token: 0", "bytes_per_token must be positive"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, entry, message):
    file = tmp_path / "mine.yaml"
    file.write_text(f"mine: {{{entry}}}\n")
    with pytest.raises(ConfigError, match=message):
        load_sources(file)
    file.write_text("mine: 3\n")
    with pytest.raises(ConfigError, match="must have settings"):
        load_sources(file)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean 'wikitext'"):
        find_source(load_sources(), "wikitxt")


def test_a_source_prints_itself():
    text = str(load_sources()["starcoder"])
    assert "access   gated" in text and "tokens   about 250B" in text and "text in  content" in text
