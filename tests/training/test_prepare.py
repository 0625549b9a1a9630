import json
import shutil

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.text.train_tokenizer import train_tokenizer
from mamba_slm.training.data_arguments import parse_source, parse_sources
from mamba_slm.training.prepare import describe_sources, prepare_data

LINE = "one line of text that is much like the others, number {}\n"


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "run")


@pytest.fixture
def folder(tmp_path):
    """60 small files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text(LINE.format(number) * (1 + number % 3))
    return folder


@pytest.fixture
def book(tmp_path):
    """One file."""
    path = tmp_path / "book.txt"
    path.write_text("".join(map(LINE.format, range(200))))
    return path


def prepared(run, *data, **options):
    options = {"vocab_size": 280, "say": lambda line: None, **options}
    return prepare_data([str(path) for path in data], run, **options)


def texts_of(shards, tokenizer):
    return [tokenizer.decode(shards.document(i).tolist()) for i in range(shards.num_documents)]


def test_a_source_may_have_a_name_and_a_weight(tmp_path, folder):
    assert parse_source(str(folder)).name == "texts"
    named = parse_source(f"code={folder}:2.5")
    assert (named.name, named.path, named.weight) == ("code", folder, 2.5)
    assert parse_source(f"code={folder}").weight is None
    odd = tmp_path / "a=b:3"
    odd.write_text("text")
    assert parse_source(str(odd)).path == odd


@pytest.mark.parametrize("argument", ["x={}:0", "x={}:-1", "x={}:nan", "={}"])
def test_a_source_that_makes_no_sense_is_refused(argument, folder):
    with pytest.raises(ConfigError):
        parse_source(argument.format(folder))


def test_text_is_read_as_the_options_say_and_what_is_skipped_is_said_once(run, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    rows = [json.dumps({"body": LINE.format(number)}) for number in range(60)]
    (folder / "a.jsonl").write_text("\n".join([*rows[:30], "broken", *rows[30:]]))
    (folder / "b.txt").write_text("not wanted")
    said = []
    reading = ReadOptions(pattern="*.jsonl", text_key="body", on_error="skip")
    found = prepared(run, folder, reading=reading, validation_share=0, say=said.append)
    assert found.sources[0][1].num_documents == 60
    problems = [line for line in said if "could not be read" in line]
    assert len(problems) == 1 and "a.jsonl:31 is not valid JSON" in problems[0]
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no key 'text'"):
        prepared(run, folder, reading=ReadOptions(pattern="*.jsonl"))


def test_a_path_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"nowhere\.txt does not exist"):
        parse_source("x=nowhere.txt:2")
    with pytest.raises(ConfigError, match="no training data"):
        parse_sources([])


def test_two_sources_of_one_name_are_refused(folder):
    with pytest.raises(ConfigError, match="two sources are called 'texts'"):
        parse_sources([str(folder), str(folder)])


def test_a_folder_is_split_by_document_and_nothing_is_lost_or_in_both_parts(run, folder):
    data = prepared(run, folder, validation_share=0.2)
    train = texts_of(data.sources[0][1], data.tokenizer)
    held_out = texts_of(data.validation, data.tokenizer)
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(path.read_text() for path in folder.iterdir())
    assert 0.05 < len(held_out) / 60 < 0.5


def test_of_a_single_file_the_end_is_held_out(run, book):
    data = prepared(run, book, validation_share=0.1)
    (train,), (held_out,) = texts_of(data.sources[0][1], data.tokenizer), texts_of(data.validation, data.tokenizer)
    assert train + held_out == book.read_text()
    assert 0.08 < len(held_out) / len(book.read_text()) < 0.12
    assert train.endswith("\n")


def test_without_a_share_nothing_is_held_out(run, book):
    assert prepared(run, book, validation_share=0.0).validation is None


def test_validation_text_may_be_given(run, book, folder):
    data = prepared(run, book, validation=str(folder))
    assert data.validation.num_documents == 60
    assert texts_of(data.sources[0][1], data.tokenizer) == [book.read_text()]


def test_a_tokenizer_is_trained_on_the_training_part_and_kept_with_the_run(run, book):
    data = prepared(run, book, vocab_size=300)
    assert data.tokenizer.vocab_size == 300
    assert data.tokenizer_file == run.tokenizer_file
    record = json.loads(run.data_file.read_text())
    assert record["tokenizer"]["fingerprint"] == data.tokenizer.fingerprint
    assert record["sources"][0]["path"] == str(book)
    assert record["sources"][0]["tokens"] == data.num_tokens
    assert record["held_out"]["documents"] == 1
    assert "book" in describe_sources(data)


def test_a_given_tokenizer_is_used(run, book, tmp_path):
    tokenizer = train_tokenizer([book.read_text()], vocab_size=270)
    tokenizer.save(tmp_path / "tokenizer")
    data = prepared(run, book, tokenizer=str(tmp_path / "tokenizer"))
    assert data.tokenizer.fingerprint == tokenizer.fingerprint


def test_a_vocabulary_of_another_form_becomes_the_runs_tokenizer_json(run, book, tmp_path):
    letters = [*sorted(set(book.read_text()) - {"\n", " "}), "Ċ", "Ġ"]
    ids = {letter: id for id, letter in enumerate([*letters, "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    data = prepared(run, book, tokenizer=str(tmp_path / "vocab.json"))
    assert json.loads(run.tokenizer_file.read_text())["model"]["type"] == "BPE"
    assert "".join(texts_of(data.sources[0][1], data.tokenizer)) in book.read_text()


def test_a_second_call_uses_what_the_first_one_made(run, folder):
    first = prepared(run, folder)
    said = []
    second = prepared(run, folder, say=said.append)
    assert said == []
    assert second.sources[0][1].fingerprint == first.sources[0][1].fingerprint


def test_shards_of_another_text_are_not_taken_for_these(run, folder, book):
    prepared(run, f"same={folder}")
    data = prepared(run, f"same={book}")
    assert book.read_text().startswith(texts_of(data.sources[0][1], data.tokenizer)[0])


def test_shards_are_opened_where_they_are_with_what_lies_beside_them(tmp_path, run, folder):
    made = prepared(run, folder, validation_share=0.2)
    tokens = tmp_path / "tokens"
    shutil.copytree(made.sources[0][1].folder, tokens / "train")
    shutil.copytree(made.validation.folder, tokens / "validation")
    shutil.copyfile(run.tokenizer_file, tokens / "tokenizer.json")
    other = RunDirectory.create(tmp_path / "other")
    data = prepared(other, tokens)
    assert data.sources[0][1].folder == tokens / "train"
    assert data.validation.folder == tokens / "validation"
    assert other.tokenizer_file.read_bytes() == run.tokenizer_file.read_bytes()
    assert not (other.path / "data").exists()


def test_shards_alone_train_without_validation_and_say_so(tmp_path, run, folder):
    made = prepared(run, folder)
    tokens = tmp_path / "tokens"
    shutil.copytree(made.sources[0][1].folder, tokens)
    said = []
    other = RunDirectory.create(tmp_path / "other")
    data = prepared(other, tokens, tokenizer=str(run.tokenizer_file), say=said.append)
    assert data.validation is None
    assert any("no validation" in line for line in said)
    with pytest.raises(DataError, match=r"no tokenizer\.json beside the shards"):
        prepared(RunDirectory.create(tmp_path / "third"), tokens)


def test_shards_of_another_tokenizer_are_refused(tmp_path, run, folder, book):
    made = prepared(run, folder)
    train_tokenizer([book.read_text()], vocab_size=270).save(tmp_path / "tokenizer")
    other = RunDirectory.create(tmp_path / "other")
    with pytest.raises(DataError, match="another tokenizer"):
        prepared(other, made.sources[0][1].folder, tokenizer=str(tmp_path / "tokenizer"))


def test_an_empty_corpus_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("")
    for path in (tmp_path / "empty", tmp_path / "empty.txt"):
        with pytest.raises(DataError):
            prepared(run, path)


def test_a_corpus_too_small_for_the_vocabulary_is_refused_with_one_that_fits(run, tmp_path):
    (tmp_path / "few.txt").write_text("a few words\n")
    with pytest.raises(DataError) as refused:
        prepared(run, tmp_path / "few.txt", vocab_size=4096)
    assert "--vocab-size" in refused.value.hint
