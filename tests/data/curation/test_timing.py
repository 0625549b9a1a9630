import gzip
import json
from pathlib import Path

import pytest

from data.curation.prose import good_prose, write_jsonl
from mamba_slm.data.curation.config import CurateConfig, parse_inputs
from mamba_slm.data.curation.curate import DEFAULT_OPTIONS, curate
from mamba_slm.data.curation.plan import plan_of
from mamba_slm.data.curation.timing import Timing, estimate


@pytest.fixture
def texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = good_prose(60)
    return [good[n % 60] + f" It was the visit number {n}." for n in range(3000)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_the_size_of_a_large_file_is_estimated_from_its_beginning(texts, suffix):
    content = "".join(json.dumps({"text": text, "number": n}) + "\n" for n, text in enumerate(texts)).encode()
    Path(f"a{suffix}").write_bytes(content if suffix == ".jsonl" else gzip.compress(content))
    found = estimate(plan_of(parse_inputs([f"a{suffix}"], "web"), CurateConfig(), DEFAULT_OPTIONS), 2)
    true_bytes = sum(len(text.encode()) for text in texts)
    assert found.text_bytes == pytest.approx(true_bytes, rel=0.5)
    assert found.documents == pytest.approx(3000, rel=0.5) and found.sampled_documents < 3000
    assert "of intermediate files" in str(found)


def test_a_small_input_is_measured_as_a_whole(texts):
    write_jsonl(Path("a.jsonl"), texts[:100])
    found = estimate(plan_of(parse_inputs(["a.jsonl"], "web"), CurateConfig(), DEFAULT_OPTIONS), 1)
    assert found.text_bytes == pytest.approx(sum(len(text.encode()) for text in texts[:100]))
    assert found.documents == pytest.approx(100)


def test_what_was_planned_and_what_came_are_shown_side_by_side(texts):
    write_jsonl(Path("a.jsonl"), texts[:100])
    timing = curate(["a.jsonl"], "out", kind="web").timing
    assert timing.text_bytes == sum(len(text.encode()) for text in texts[:100]) and not timing.is_resumed
    assert {"signals", "reading", "duplicates", "writing"} <= timing.core_seconds.keys()
    assert Timing.from_dict(json.loads(json.dumps(timing.to_dict()))) == timing
    assert "estimated" in str(timing) and "tokens/s per core" in str(timing)
