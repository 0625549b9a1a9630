"""`benchmarks/packing.py` measures three ways to the same loss. Nothing here is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from small_models import save_small_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "packing.py"


@pytest.mark.slow
def test_every_way_has_a_row_and_packed_rows_waste_no_place(tmp_path):
    model, data, out = (
        save_small_model(tmp_path / "model", max_context_tokens=200),
        tmp_path / "talk.jsonl",
        tmp_path / "out.json",
    )
    answers = ["Water. " * length for length in (1, 9, 2, 7, 3)]
    data.write_text("".join(json.dumps({"prompt": "?", "completion": text}) + "\n" for text in answers), "utf-8")
    flags = ("--examples", "5", "--batch", "2", "--row-tokens", "200", "--rounds", "1", "--out", str(out))
    subprocess.run([sys.executable, str(SCRIPT), str(model), str(data), *flags], check=True, capture_output=True)
    rows = {row["way"]: row for row in json.loads(out.read_text())["rows"]}
    assert list(rows) == ["padded", "padded by length", "packed"]
    assert rows["packed"]["places_per_token"] == 1 < rows["padded by length"]["places_per_token"]
    assert rows["padded"]["times_as_fast"] == 1
