import json

import pytest

from mamba_slm.cli.main import main

SMALL = ["--pattern", "M-*-", "--vocab-size", "300", "--context-tokens", "64", "--batch-tokens", "256"]
SMALL += ["--kernels", "torch", "--device", "cpu"]


def test_a_run_that_is_right_can_start(capsys):
    assert main(["doctor", "--json", "--train", "nano", *SMALL]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    assert {finding["status"] for finding in answer["findings"]} == {"ok"}


def test_a_run_whose_rows_cannot_be_dealt_must_not_start(capsys):
    assert main(["doctor", "--train", "nano", *SMALL, "--nproc", "3"]) == 6
    out = capsys.readouterr().out
    assert "✗ sharding" in out and "must not start: sharding" in out
    assert "mend it: use --batch-tokens" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nano", "--leraning-rate", "1"], "did you mean '--learning-rate'"),
        (["nanp"], "did you mean 'nano'"),
        (["nano", "--resume", "r"], "--resume"),
    ],
)
def test_what_train_refuses_is_refused(capsys, words, says):
    assert main(["doctor", "--train", *words]) == 2
    assert says in capsys.readouterr().err
