import json

import pytest

from evaluation.scores.evaluations import evaluation
from mamba_slm.cli.main import main
from mamba_slm.evaluation.results import write_evaluation


@pytest.fixture
def folders(tmp_path):
    found = []
    for name, scores in (("before", [1] * 10 + [0] * 90), ("after", [1] * 40 + [0] * 60)):
        (tmp_path / name).mkdir()
        write_evaluation(tmp_path / name, evaluation(f"models/{name}", piqa=scores, boolq=scores[::-1]))
        found.append(str(tmp_path / name))
    return found


def test_two_results_are_compared_in_a_table_as_json_and_on_a_page(folders, tmp_path, capsys):
    assert main(["eval", "compare", *folders]) == 0
    out, err = capsys.readouterr()
    assert "+30.00% ± 9.03%" in out and "better" in out
    assert "first: models/before; second: models/after" in err

    page = tmp_path / "difference.html"
    assert main(["eval", "compare", *folders, "--json", "--html", str(page)]) == 0
    (piqa, boolq) = json.loads(capsys.readouterr().out)["differences"]
    assert piqa["difference"] == pytest.approx(0.3) and piqa["verdict"] == boolq["verdict"] == "better"
    assert piqa["interval"][0] < 0.3 < piqa["interval"][1]
    assert "better" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["compare", "one"], "takes two results, got 1", "eval compare eval-before eval-after"),
        (["model", "other"], "takes one model", "eval compare A B"),
        (["model", "--html", "a.html"], "belongs to compare", "report.html"),
        (["model", "--fail-below", "-1%"], "needs a --baseline", "earlier results"),
        (["compare", "nowhere", "nowhere"], "cannot be read", "mamba-slm eval MODEL"),
        (["model", "--baseline", "a", "--fail-below", "much"], "no share", ""),
    ],
)
def test_what_does_not_go_together_is_refused(words, message, hint, capsys):
    assert main(["eval", *words]) in (2, 5)
    err = capsys.readouterr().err
    assert message in err and hint in err
