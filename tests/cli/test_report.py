import json
import shutil
from pathlib import Path

import pytest

from mamba_slm.cli.main import main

FIXTURE = Path(__file__).parents[1] / "runs" / "fixtures" / "version-1"


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "20260401-nano"))


def test_the_card_is_written_into_the_run_and_its_path_printed(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.md'}\n"
    assert (run / "report.md").read_text(encoding="utf-8").startswith("# 20260401-nano")


def test_stdout_prints_the_card_and_writes_nothing(run, capsys):
    assert main(["report", str(run), "--stdout"]) == 0
    assert capsys.readouterr().out.startswith("# 20260401-nano")
    assert not (run / "report.md").exists()


def test_json_holds_the_card(run, capsys):
    assert main(["report", str(run), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["markdown"].startswith("# 20260401-nano")
    assert content["run"] == str(run)


def test_a_name_is_looked_up_in_the_home(run, capsys, tmp_path):
    assert main(["report", "20260401-nano", "--home", str(tmp_path)]) == 0


def test_a_wrong_name_gets_the_nearest(run, capsys, tmp_path):
    assert main(["report", "20260401-nan", "--home", str(tmp_path)]) == 2
    assert "did you mean '20260401-nano'" in capsys.readouterr().err
