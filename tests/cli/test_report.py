import json
import shutil
from pathlib import Path

import pytest

from mamba_slm.cli.main import main

FIXTURE = Path(__file__).parents[1] / "runs" / "fixtures" / "version-1"


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "20260401-nano"))


def test_the_cards_are_written_into_the_run_and_their_paths_printed(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.md'}\n{run / 'report.html'}\n"
    assert (run / "report.md").read_text(encoding="utf-8").startswith("# 20260401-nano")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "What differs from the defaults" in page


@pytest.mark.parametrize("chosen, written", [("markdown", {"report.md"}), ("html", {"report.html"})])
def test_one_format_is_enough(run, capsys, chosen, written):
    assert main(["report", str(run), "--format", chosen]) == 0
    assert {path.name for path in run.glob("report.*")} == written


@pytest.mark.parametrize(
    "name, options, begins",
    [
        ("card.html", [], "<!doctype"),
        ("card.md", [], "# "),
        ("card", [], "# "),
        ("card", ["--format", "html"], "<!doctype"),
    ],
)
def test_a_card_goes_where_it_is_wanted_in_the_format_of_the_name(run, tmp_path, capsys, name, options, begins):
    out = tmp_path / "elsewhere" / name
    assert main(["report", str(run), "--out", str(out), *options]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text(encoding="utf-8").startswith(begins)
    assert not list(run.glob("report.*"))


def test_the_page_can_be_printed(run, capsys):
    assert main(["report", str(run), "--format", "html", "--stdout"]) == 0
    assert capsys.readouterr().out.endswith("</html>")
    assert not list(run.glob("report.*"))


def test_a_file_and_stdout_together_are_refused(run, capsys):
    assert main(["report", str(run), "--out", "x.md", "--stdout"]) == 2
    assert "hint: leave one of them out" in capsys.readouterr().err


def test_stdout_prints_the_card_and_writes_nothing(run, capsys):
    assert main(["report", str(run), "--stdout"]) == 0
    assert capsys.readouterr().out.startswith("# 20260401-nano")
    assert not (run / "report.md").exists()


def test_json_holds_the_card(run, capsys):
    assert main(["report", str(run), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["markdown"].startswith("# 20260401-nano")
    assert content["run"] == str(run) and content["page"] == str(run / "report.html")


def test_a_name_is_looked_up_in_the_home(run, capsys, tmp_path):
    assert main(["report", "20260401-nano", "--home", str(tmp_path)]) == 0


def test_a_wrong_name_gets_the_nearest(run, capsys, tmp_path):
    assert main(["report", "20260401-nan", "--home", str(tmp_path)]) == 2
    assert "did you mean '20260401-nano'" in capsys.readouterr().err
