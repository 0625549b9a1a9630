"""Documents that hold questions of benchmarks are found, those that do not are left alone."""

import bz2
import csv
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.curation.contamination.config import ContaminationConfig
from mamba_slm.data.curation.contamination.index import FORMAT_VERSION, BenchmarkIndex
from mamba_slm.data.curation.contamination.runs import RunCollector, pieces_of, runs_of
from mamba_slm.data.curation.phrases.definition import words_of

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")

DUCKS = (
    "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends "
    "every day with four. How much does she make every day at the farmers' market?"
)
ROOF = "A man is sitting on a roof and starts pulling up roofing"
ORDINARY = "Nothing in this text was ever asked by anybody who wanted to know what a model had learned from the web."


@pytest.fixture
def benchmarks(tmp_path):
    """Two small benchmarks in a folder."""
    folder = tmp_path / "questions"
    (folder / "ducks").mkdir(parents=True)
    (folder / "ducks" / "test.jsonl").write_text(json.dumps({"question": DUCKS, "answer": "18"}) + "\n")
    (folder / "roof.json").write_text(json.dumps([{"ctx": "Hello you"}, {"ctx": ROOF, "label": 3}]))
    return folder


@pytest.fixture
def index(benchmarks):
    return BenchmarkIndex.build([benchmarks])


def rule(index, text):
    (removed,) = index.removed([text])
    return removed and removed.rule


def test_a_question_is_found_in_other_case_and_punctuation_and_named(index):
    shouted = f"{ORDINARY}\n\n{DUCKS.upper().replace('.', ' —')}\n{ORDINARY}"
    found = index.removed([ORDINARY, shouted, "", f"so {ROOF.replace(' ', '   ')} again"])
    assert [removed and removed.rule for removed in found] == [
        *(None, "contamination.ducks", None, "contamination.roof"),
    ]
    assert str(found[1]) == "contamination.ducks: 100% of ducks/test.jsonl:1, from word 22 on"
    assert "roof.json:2" in found[3].detail


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(index):
    words = words_of(DUCKS)
    for start in range(len(words) - 12):
        assert rule(index, f"so {' '.join(words[start : start + 13])} yes") == "contamination.ducks"
        assert rule(index, f"so {' '.join(words[start : start + 12])} yes") is None


def test_a_share_of_a_question_may_be_asked_for(benchmarks):
    index = BenchmarkIndex.build([benchmarks], ContaminationConfig(min_share=0.5))
    words = DUCKS.split()
    assert rule(index, " ".join(words[:20])) is None
    assert rule(index, " ".join(words[:26])) == "contamination.ducks"


def test_a_short_question_is_looked_for_as_a_whole_and_a_very_short_one_with_its_answers(tmp_path):
    file = tmp_path / "small.jsonl"
    file.write_text('{"question": "Who wrote Emma?", "choices": ["Jane Austen, in eighteen fifteen", "Byron"]}\n')
    index = BenchmarkIndex.build([file])
    assert rule(index, "who wrote Emma? Jane Austen in eighteen fifteen.") == "contamination.small"
    assert rule(index, "who wrote Emma? Not me. Jane Austen in eighteen fifteen.") is None
    assert rule(index, "who wrote Emma? Byron!") is None


def test_background_is_not_looked_for(tmp_path):
    passage = " ".join(f"word{i}" for i in range(40))
    records = [
        {"question": "is the passage a part of the question", "passage": passage},
        {"query": f"Passage: {passage}\nQuestion: is the passage in the same field as the question?\nAnswer:"},
    ]
    (tmp_path / "boolq.jsonl").write_text("\n".join(map(json.dumps, records)))
    index = BenchmarkIndex.build([tmp_path])
    assert rule(index, passage) is None
    assert rule(index, "so: is the passage a part of the question?") == "contamination.boolq"
    assert rule(index, "is the passage in the same field as the question") == "contamination.boolq"


def test_what_many_questions_say_and_rows_of_numbers_give_nothing_away(tmp_path):
    manner = "which of the following statements about the history of science is true in the opinion of the author"
    lines = [{"question": f"{manner} {'abcdefghijklmnop'[i] * 3} end of it"} for i in range(12)]
    lines += [{"question": " ".join(map(str, range(40)))}, {"question": "a b c d e f g h i j k l m n o p q"}]
    (tmp_path / "exam.jsonl").write_text("\n".join(map(json.dumps, lines)))
    index = BenchmarkIndex.build([tmp_path])
    assert rule(index, manner) is None
    assert rule(index, f"{manner} ccc end of it") == "contamination.exam"
    assert rule(index, " ".join(map(str, range(30)))) is None
    assert rule(index, "a b c d e f g h i j k l m n") is None


def test_all_forms_of_benchmarks_are_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def question(name):
        return f"a question that was published as {name} must be found in every document that has it"

    folder = tmp_path / "forms"
    (folder / "saved" / "test").mkdir(parents=True)
    with (folder / "with_names.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "answer"], [question("table with names"), "1"]])
    with (folder / "without_names.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([[question("table without names"), "1"], ["more", "2"]])
    (folder / "list.json").write_text(json.dumps([{"text": question("list")}]))
    (folder / "answers.json").write_text(json.dumps({"question": "Is?", "targets": {question("key"): 1}}))
    (folder / "lines.txt.bz2").write_bytes(bz2.compress(f"3\n{question('line')}\n".encode()))
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(json.dumps({"prompt": question("packed")}).encode()))
    table = pyarrow.table({"goal": [question("rows")]})
    parquet.write_table(table, folder / "rows.parquet")
    (folder / "saved" / "test" / "dataset_info.json").write_text('{"dataset_name": "by_datasets"}')
    with pyarrow.ipc.new_stream(folder / "saved" / "test" / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(pyarrow.table({"goal": [question("saved folder")]}))
    (folder / "LICENSE").write_text(question("licence"))
    index = BenchmarkIndex.build([folder])
    named = {
        "table with names": "with_names",
        "table without names": "without_names",
        "list": "list",
        "key": "answers",
        "line": "lines",
        "packed": "packed",
        "rows": "rows",
        "saved folder": "by_datasets",
        "licence": None,
    }
    found = index.removed([f"He said: {question(name)}" for name in named])
    assert [removed and removed.rule for removed in found] == [
        name and f"contamination.{name}" for name in named.values()
    ]


def test_a_saved_index_finds_the_same_and_has_the_same_fingerprint(index, benchmarks, tmp_path):
    index.save(tmp_path / "index")
    loaded = BenchmarkIndex.load(tmp_path / "index")
    texts = [ORDINARY, DUCKS, ROOF]
    assert loaded.removed(texts) == index.removed(texts)
    assert loaded.fingerprint == index.fingerprint and loaded.files == index.files
    other = BenchmarkIndex.build([benchmarks / "roof.json", benchmarks])
    again = BenchmarkIndex.build([benchmarks, benchmarks / "roof.json"])
    assert other.fingerprint == again.fingerprint != index.fingerprint
    assert BenchmarkIndex.build([benchmarks], ContaminationConfig(min_share=0.1)).fingerprint != index.fingerprint


def test_questions_that_come_again_are_counted_once(benchmarks):
    (benchmarks / "zzz.json").write_text((benchmarks / "roof.json").read_text())
    files = {file.name: file for file in BenchmarkIndex.build([benchmarks]).files}
    assert (files["roof.json"].questions, files["roof.json"].too_short, files["roof.json"].repeated) == (2, 1, 0)
    assert (files["zzz.json"].questions, files["zzz.json"].too_short, files["zzz.json"].repeated) == (2, 1, 1)


def test_what_is_no_index_is_refused_with_a_way_out(index, tmp_path):
    file = tmp_path / "index"
    content = index.to_bytes()
    newer = content.replace(f'"format_version": {FORMAT_VERSION}'.encode(), b'"format_version": 99')
    for wrong, message in (
        (b"", "no index"),
        (b"\x80\x81", "no index"),
        (content[:-40], "no index"),
        (content.split(b"\n")[0] + b"\n", "no index"),
        (newer, "format 99"),
    ):
        file.write_bytes(wrong)
        with pytest.raises(DataError, match=message) as failure:
            BenchmarkIndex.load(file)
        assert "build it again" in str(failure.value.hint)
    with pytest.raises(DataError, match="cannot read"):
        BenchmarkIndex.load(tmp_path / "nothing")


def test_benchmarks_without_anything_to_look_for_are_refused(tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        BenchmarkIndex.build([tmp_path / "nowhere"])
    (tmp_path / "LICENSE").write_text("free")
    with pytest.raises(DataError, match="holds no benchmark"):
        BenchmarkIndex.build([tmp_path])
    (tmp_path / "short.jsonl").write_text('{"question": "Why?"}\n')
    with pytest.raises(DataError, match="no question has 8 words"):
        BenchmarkIndex.build([tmp_path])
    (tmp_path / "short.jsonl").write_text('{"question": "Why?"\n')
    with pytest.raises(DataError, match=r"short\.jsonl:1 is not valid JSON"):
        BenchmarkIndex.build([tmp_path])


@pytest.mark.parametrize("wrong", [{"min_words": 14}, {"ngram_words": 17}, {"min_share": 1.1}, {"max_questions": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError):
        ContaminationConfig(**wrong)


small = ContaminationConfig(ngram_words=4, min_words=2, min_distinct_share=0.5, max_questions=3)
texts = st.lists(st.sampled_from(["aa", "bb", "cc", "dd", "1", "x", "漢"]), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(texts, min_size=1, max_size=3), min_size=1, max_size=6), st.lists(texts, max_size=4))
def test_the_index_knows_exactly_the_runs_of_the_definition(tmp_path_factory, questions, documents):
    folder = tmp_path_factory.mktemp("runs")
    lines = [json.dumps({"question": texts[0], "choices": texts[1:]}) for texts in questions]
    (folder / "exam.jsonl").write_text("\n".join(lines))
    distinct = {repr(pieces): pieces for texts in questions if (pieces := pieces_of(readable(texts), small))}
    runs = [set().union(*(runs_of(words, small) for words in pieces)) for pieces in distinct.values()]
    wanted = {run for run in set().union(*runs) if sum(run in own for own in runs) <= small.max_questions}
    if not wanted:
        with pytest.raises(DataError):
            BenchmarkIndex.build([folder], small)
        return
    index = BenchmarkIndex.build([folder], small)
    assert len(index.arrays["hashes"]) == len(wanted)
    for document, removed in zip(documents, index.removed(documents), strict=True):
        words = words_of(document)
        held = {run for run in wanted for i in range(len(words)) if tuple(words[i : i + len(run)]) == run}
        assert (removed is not None) == bool(held)


def readable(texts):
    """As `texts_of`: what has no space could be an identifier."""
    return [text for text in texts if " " in text or not text.isascii()]


def test_runs_as_hashes_are_those_of_the_definition():
    words = words_of(DUCKS) * 3
    collector = RunCollector(ContaminationConfig())
    collector.add(0, [words, words[:9]])
    config = ContaminationConfig()
    assert len(set(collector.runs()[0].tolist())) == len(runs_of(words, config) | runs_of(words[:9], config))


def test_a_build_that_is_killed_leaves_no_file(benchmarks, tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from mamba_slm.core import files;"
        "from mamba_slm.data.curation.contamination.index import BenchmarkIndex;"
        f"index = BenchmarkIndex.build([Path({str(benchmarks)!r})]);"
        "os.replace = lambda *_: os.kill(os.getpid(), 9);"
        f"index.save(Path({str(tmp_path / 'index')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=600).returncode == -9
    assert not (tmp_path / "index").exists()


@needs_data
def test_real_questions_are_found_wherever_they_are_put():
    benchmark = SHARED / "benchmarks" / "gsm8k" / "test.jsonl"
    index = BenchmarkIndex.build([benchmark])
    story = (SHARED / "corpora" / "tinystories" / "valid_head.txt").read_text(encoding="utf-8")
    questions = [json.loads(line)["question"] for line in benchmark.read_text(encoding="utf-8").splitlines()]
    chance = random.Random(6)
    planted = []
    for question in questions[:300]:
        place = chance.randrange(2000)
        planted.append(f"{story[:place]}\n{question.replace(', ', ' , ').swapcase()}\n{story[place:4000]}")
    found = index.removed(planted)
    named = [removed and removed.detail.split(",")[0].rsplit(" ", 1)[1] for removed in found]
    assert named == [f"test.jsonl:{number}" for number in range(1, 301)]
    assert index.removed([story]) == [None]


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_of_ordinary_documents_at_most_one_in_a_hundred_is_taken_for_a_benchmark():
    index = BenchmarkIndex.build([SHARED / "benchmarks"])
    assert {file.benchmark for file in index.files} >= {"gsm8k", "hellaswag", "mmlu", "ai2_arc", "truthfulqa"}
    texts = []
    for path in sorted((SHARED / "corpora" / "c4").glob("olmo*.json.gz")):
        texts += [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    wikitext = (SHARED / "corpora" / "wikitext-2" / "test.txt").read_text(encoding="utf-8")
    texts += [article for article in wikitext.split("\n \n = ") if len(article) > 1000]
    assert len(texts) > 1000
    found = [removed for removed in index.removed(texts) if removed]
    assert len(found) <= len(texts) / 100, found
