import datetime
import json

from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.curation.records import kept_line, lines_file, record_of, removed_line, to_json
from mamba_slm.data.curation.verdict import Removed


def test_metadata_of_any_kind_become_json():
    values = {"day": datetime.date(2026, 1, 2), "raw": b"\xff", 3: 4, "big": 1 << 70, "not a number": float("nan")}
    for key, value in values.items():
        assert json.loads(to_json({key: value, "text": "é"}))["text"] == "é"
    assert json.loads(to_json({"id": "lone \ud800"})) == {"id": "lone ?"}


def test_a_line_is_one_json_object_with_every_field():
    record = record_of("a:1", "web", {"url": "https://x"})
    assert json.loads(kept_line(b'Zeile\n"zwei"', record)) == {
        "text": 'Zeile\n"zwei"', "id": "a:1", "source": "web", "metadata": {"url": "https://x"},
    }  # fmt: skip
    removed = Removed(rule="signals.min_words", value=3, threshold=50, detail="at least")
    for text in (None, b"so short"):
        row = json.loads(removed_line(record, removed, text))
        assert row["removed"] == {"rule": "signals.min_words", "value": 3, "threshold": 50, "detail": "at least"}
        assert row.get("text") == (None if text is None else "so short")
        assert kept_line(b"x", record).count(b"\n") == 1


def test_lines_can_be_added_to_a_file(tmp_path):
    path = tmp_path / "lines.jsonl.zst"
    for mode, line in (("wb", b"one\n"), ("ab", b"two\n")):
        with lines_file(path, mode) as file:
            file.write(line)
    with open_bytes(path) as lines:
        assert lines.read() == b"one\ntwo\n"
