"""Each source of a mixture by itself: its loss, and how often it was read."""

import itertools

import pytest

from mamba_slm.data.loader import BatchLoader, validation_batches
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.shards import ShardWriter
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.text.train_tokenizer import train_tokenizer
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.prepare import prepare_data
from mamba_slm.training.reports import SourceReport, ValidationReport
from mamba_slm.training.run import train
from mamba_slm.training.source_watch import SourceWatch, described


@pytest.fixture
def texts(tmp_path):
    """Two text sources; the second says the same line again and again."""
    folder = tmp_path / "texts"
    for name in ("prose", "drill"):
        (folder / name).mkdir(parents=True)
    for i in range(60):
        words = " ".join(f"word{(i * j) % 97}" for j in range(1, 60))
        (folder / "prose" / f"{i}.txt").write_text(words)
        (folder / "drill" / f"{i}.txt").write_text("one two three four. " * 20)
    return folder


def settings(texts, **changes):
    return TrainConfig(
        **{
            "pattern": "M-", "vocab_size": 300, "context_tokens": 32, "batch_tokens": 256, "max_steps": 20,
            "data": (f"prose={texts / 'prose'}:3", f"drill={texts / 'drill'}:1"), "validate_every_steps": 10,
            "validation_share": 0.2, "device": "cpu", "precision": "fp32", "kernels": "torch", "learning_rate": 1e-2,
            **changes,
        }
    )  # fmt: skip


def test_a_run_over_two_sources_validates_on_each_and_counts_their_epochs(tmp_path, texts):
    said = []
    train(settings(texts), run=tmp_path / "run", say=said.append)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl", kind="validation")
    assert [set(row["sources"]) for row in rows] == [{"prose", "drill"}] * 2
    last = rows[-1]["sources"]
    assert last["drill"]["loss"] < last["prose"]["loss"]  # one of them is easy
    assert min(part["loss"] for part in last.values()) < rows[-1]["loss"] < max(part["loss"] for part in last.values())
    assert all(part["bits_per_byte"] > 0 for part in last.values())
    first = rows[0]["sources"]
    assert all(last[name]["epochs"] == pytest.approx(2 * first[name]["epochs"], rel=0.1) for name in first)
    assert any("prose: loss " in line and "drill: loss " in line for line in said)


def test_watching_sources_changes_no_training_loss(tmp_path, texts, monkeypatch):
    def losses(name):
        train(settings(texts), run=tmp_path / name, say=lambda text: None)
        return [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl", kind="train")]

    watched = losses("watched")
    monkeypatch.setattr("mamba_slm.training.run.watch_sources", lambda *arguments: None)
    assert losses("plain") == watched
    assert all("sources" not in row for row in read_metrics(tmp_path / "plain" / "metrics.jsonl", kind="validation"))


def test_shards_with_held_out_documents_beside_them_are_sources_of_their_own(tmp_path):
    tokenizer = train_tokenizer(["a text"], vocab_size=264)
    tokenizer.save(tmp_path)
    for name, part, count in itertools.product("abc", ("train", "validation"), (5,)):
        if (name, part) != ("c", "validation"):
            facts = {"tokenizer_fingerprint": tokenizer.fingerprint, "vocab_size": 264}
            with ShardWriter(tmp_path / name / part, **facts) as writer:
                for _ in range(count):
                    writer.append([0, 1, 2, 3], text_bytes=3)
    words = [f"{name}={tmp_path / name}" for name in "abc"]
    options = {"vocab_size": 264, "tokenizer": str(tmp_path / "tokenizer.json"), "say": lambda text: None}
    prepared = prepare_data(words, RunDirectory.create(tmp_path / "run"), **options)
    own = {name: shards.folder for name, shards in prepared.validation_by_source.items()}
    assert own == {name: tmp_path / name / "validation" for name in "ab"}
    alone = prepare_data(words[:1], RunDirectory.create(tmp_path / "alone"), **options)
    assert not alone.validation_by_source


def test_what_a_source_reports_is_what_validating_on_it_gives(train_shards, validation_shards):
    mixture = Mixture([("numbers", train_shards, None)], context_tokens=32)
    loader = BatchLoader(mixture, batch_rows=4)
    watch = SourceWatch(
        epochs=lambda: mixture.epochs(loader.sample),
        held_out={"numbers": lambda: validation_batches(validation_shards, context_tokens=32, batch_rows=4)},
    )
    for _ in itertools.islice(loader, 5):
        pass
    seen = []
    reports = watch.reports(lambda batches: (float(len(seen.extend(batches) or seen)), 0.5))
    assert reports["numbers"].epochs == pytest.approx(20 / mixture.num_rows)
    assert reports["numbers"].loss == len(seen) > 0
    stopped = watch.reports(lambda batches: None)["numbers"]
    assert stopped.loss is None and stopped.row() == {"epochs": stopped.epochs}
    assert SourceWatch().reports(lambda batches: None) == {}


def test_one_source_is_described_by_the_run_itself():
    one = {"a": SourceReport(epochs=1.0, loss=2.0, bits_per_byte=1.0)}
    assert described(one) == ""
    assert described({**one, "b": SourceReport(epochs=0.5)}) == "a: loss 2.000, read 1.00 times; b: read 0.50 times"
    report = ValidationReport(step=1, tokens=2, loss=2.0, bits_per_byte=None, is_best=True)
    assert "sources" not in report.row()
