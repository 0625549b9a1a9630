"""Promises of the table that a fine-tuning ends with."""

import json
import re

from mamba_slm.cli.changes_shown import say_changes
from mamba_slm.runs.before_after import mean_change, write_changes


def test_a_run_says_what_it_changed_and_one_without_measures_nothing(tmp_path, capsys):
    say_changes(tmp_path)
    write_changes(tmp_path, [])
    say_changes(tmp_path)
    assert capsys.readouterr().err == ""
    write_changes(tmp_path, [mean_change("reward", [0.0, 0.5, 0.5], [1.0, 1.5, 1.6], unit="")])
    say_changes(tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "+1.033 [+0.968, +1.099]  better" in err
    scores = [{"step": step, "task": "piqa", "metric": "acc", "score": 0.6 - step / 100, "stderr": 0.01, "questions": 9}
              for step in (0, 10)]  # fmt: skip
    (tmp_path / "benchmarks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    say_changes(tmp_path)
    err = capsys.readouterr().err
    assert "reward" in err
    assert re.search(r"piqa \(acc\) +9 +60.0% +50.0% +-10.0% \[-12.8, -7.2\]  worse", err)
