"""Promises of the table that a fine-tuning ends with."""

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
