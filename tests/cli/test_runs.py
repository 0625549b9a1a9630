import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from mamba_slm.cli.main import COMMANDS, main
from mamba_slm.runs.lock import RunLock
from mamba_slm.runs.record import RunRecord, write_record
from mamba_slm.runs.status import Status, write_status

RUNS_TESTS = Path(__file__).parents[1] / "runs"
FIXTURE = RUNS_TESTS / "fixtures" / "version-1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home-of-runs"
    monkeypatch.setenv("MAMBA_SLM_HOME", str(home))
    for name in ("20260401-nano", "20260401-nano-2"):
        shutil.copytree(FIXTURE, home / name)
    config = home / "20260401-nano-2" / "config.yaml"
    config.write_text(config.read_text().replace("seed: 7", "seed: 8"))
    return home


@pytest.fixture
def owned(home):
    """A run with a second process as its owner."""
    run = home / "20260401-nano"
    write_status(run / "status.json", Status(state="running", step=40))
    command = [sys.executable, RUNS_TESTS / "owner_process.py", run]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "owned\n"
        yield process
        process.kill()


def json_of(capsys):
    return json.loads(capsys.readouterr().out)


def test_every_run_is_one_line_on_stdout(home, capsys):
    assert main(["runs", "list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run", "kind", "state"]
    assert [line.split()[0] for line in lines] == ["20260401-nano", "20260401-nano-2"]
    assert "1.583" in lines[0]


def test_the_list_for_programs_has_numbers(home, capsys):
    assert main(["runs", "list", "--json"]) == 0
    first = json_of(capsys)[0]
    assert (first["name"], first["state"]) == ("20260401-nano", "done")
    assert (first["tokens"], first["bits_per_byte"]) == (327680, 1.583)


@pytest.mark.parametrize("flags, out", [([], ""), (["--json"], "[]\n")])
def test_an_empty_home_is_no_error_and_says_how_to_start(tmp_path, capsys, flags, out):
    assert main(["runs", "list", "--home", str(tmp_path), *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out == out
    assert flags or "mamba-slm quickstart" in captured.err


def test_show_tells_results_baselines_and_what_to_type_next(home, capsys):
    assert main(["runs", "show", "20260401-nano"]) == 0
    captured = capsys.readouterr()
    assert "1.510 bits per byte  Witten-Bell" in captured.out
    assert "best step-00000040" in captured.out
    assert "mamba-slm report" in captured.err


def test_show_for_programs_has_curve_evaluation_and_problems(home, capsys):
    (home / "20260401-nano" / "data.json").unlink()
    assert main(["runs", "show", "20260401-nano", "--json"]) == 0
    content = json_of(capsys)
    assert len(content["curve"]) == 40
    assert [row["step"] for row in content["validation"]] == [20, 40]
    assert content["evaluation"][0] == {"name": "model", "bits_per_byte": 1.583}
    assert content["checkpoints"] == ["step-00000040"]
    assert content["problems"] == ["`data.json` is missing"]
    assert content["owner"] is None


def test_show_names_the_owner_of_a_running_run(home, owned, capsys):
    assert main(["runs", "show", "20260401-nano"]) == 0
    captured = capsys.readouterr()
    assert f"process {owned.pid}" in captured.out
    assert "running" in captured.out
    assert "mamba-slm runs stop" in captured.err


def test_a_crashed_run_is_shown_as_crashed_with_how_to_go_on(home, capsys):
    write_status(home / "20260401-nano" / "status.json", Status(state="running", step=40))
    assert main(["runs", "show", "20260401-nano"]) == 0
    captured = capsys.readouterr()
    assert "crashed" in captured.out
    assert "mamba-slm runs resume" in captured.err


def test_compare_shows_only_the_settings_that_differ(home, capsys):
    assert main(["runs", "compare", "20260401-nano", "20260401-nano-2"]) == 0
    out = capsys.readouterr().out
    assert "train.seed" in out
    assert "hidden_size" not in out
    assert main(["runs", "compare", "20260401-nano", "20260401-nano-2", "--json"]) == 0
    assert json_of(capsys)["settings"] == {"train.seed": [7, 8]}


def test_compare_of_equal_runs_says_so(home, capsys):
    assert main(["runs", "compare", "20260401-nano", "20260401-nano"]) == 0
    assert "no setting differs" in capsys.readouterr().out


def test_compare_needs_two_runs(home, capsys):
    assert main(["runs", "compare", "20260401-nano"]) == 2
    assert "two runs" in capsys.readouterr().err


def test_stop_interrupts_the_owner_and_waits_until_it_is_gone(home, owned, capsys):
    assert main(["runs", "stop", "20260401-nano", "--wait", "300s"]) == 0
    assert f"asked: process {owned.pid}" in capsys.readouterr().err
    assert owned.wait(300) == 0
    assert not (home / "20260401-nano" / "lock.json").exists()


def test_stopping_a_run_nobody_owns_is_no_error(home, capsys):
    assert main(["runs", "stop", "20260401-nano", "--json"]) == 0
    assert json_of(capsys) == {"run": str(home / "20260401-nano"), "asked": "idle", "state": "done"}


def test_an_owner_that_does_not_stop_is_told_with_what_to_do(home, capsys):
    run = home / "20260401-nano"
    command = [sys.executable, RUNS_TESTS / "owner_process.py", run, "ignore"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "owned\n"
        try:
            assert main(["runs", "stop", str(run), "--wait", "0.2"]) == 1
            assert "--again" in capsys.readouterr().err
            assert main(["runs", "stop", str(run), "--wait", "0"]) == 0
            captured = capsys.readouterr()
            assert "asked before: process" in captured.err
            assert "stopping" in captured.out
            assert main(["runs", "stop", str(run), "--wait", "0", "--again"]) == 0
            assert "end without saving" in capsys.readouterr().err
        finally:
            process.kill()


@pytest.fixture
def interrupted(home, monkeypatch):
    """A stopped run whose recorded command is `mamba-slm probe`, and the words that command was given."""
    run, given = home / "20260401-nano", []
    write_record(run / "run.json", RunRecord.new(id="x", kind="train", command=["mamba-slm", "probe", "--seed", "7"]))
    write_status(run / "status.json", Status(state="stopped", step=40))
    module = types.ModuleType("probe_command")

    def configure(parser):
        parser.add_argument("--seed")
        parser.add_argument("--resume")

    def run_probe(args):
        given.append((args.seed, args.resume, Path.cwd()))
        return 5

    vars(module).update(configure=configure, run=run_probe)
    monkeypatch.setitem(sys.modules, "probe_command", module)
    monkeypatch.setitem(COMMANDS, "probe", ("probe_command", "for tests"))
    return run, given


def test_resume_runs_the_recorded_command_where_it_was_started(interrupted, monkeypatch, tmp_path, capsys):
    run, given = interrupted
    started_in = Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "resume", str(run)]) == 5
    assert given == [("7", str(run), started_in)]


def test_resume_can_print_the_command_instead(interrupted, capsys):
    run, given = interrupted
    assert main(["runs", "resume", str(run), "--print"]) == 0
    assert capsys.readouterr().out == f"mamba-slm probe --seed 7 --resume {run}\n"
    assert given == []


def test_a_command_whose_folder_is_gone_is_not_run_elsewhere(interrupted, capsys):
    run, given = interrupted
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "working_directory": "/nonexistent/place"}))
    assert main(["runs", "resume", str(run)]) == 2
    assert "/nonexistent/place" in capsys.readouterr().err
    assert given == []


def test_a_running_run_is_not_resumed(interrupted, capsys):
    run, given = interrupted
    with RunLock(run):
        assert main(["runs", "resume", str(run)]) == 1
    assert given == []


def test_a_missing_subcommand_lists_them(capsys):
    assert main(["runs"]) == 2
    assert "list, show, compare, stop, resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["runs", "list"], ["runs", "show", str(FIXTURE)], ["report", str(FIXTURE), "--stdout"]]
)
def test_reading_runs_imports_nothing_heavy(words):
    program = (
        "import sys; from mamba_slm.cli.main import main; main(sys.argv[1:])\n"
        "heavy = ('torch', 'numpy', 'transformers', 'tokenizers')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert finished.stderr.splitlines()[-1] == "[]"


def test_deleting_shows_first_and_deletes_when_told(home, capsys):
    assert main(["runs", "delete", "20260401-nano"]) == 0
    shown = capsys.readouterr()
    assert "20260401-nano" in shown.out and "add --yes" in shown.err
    assert main(["runs", "delete", "20260401-nano", "--yes", "--json"]) == 0
    [gone] = json_of(capsys)["runs"]
    assert gone["size_bytes"] > 0
    assert [entry.name for entry in home.iterdir()] == ["20260401-nano-2"]


def test_runs_that_ended_before_their_first_step_are_said_and_deleted_together(home, capsys):
    for name in ("a", "b"):
        (home / name).mkdir()
        write_status(home / name / "status.json", Status(state="failed", step=0))
    assert main(["runs", "list"]) == 0
    assert "2 ended before the first step" in capsys.readouterr().err
    assert main(["runs", "delete", "--empty", "--yes"]) == 0
    assert sorted(entry.name for entry in home.iterdir()) == ["20260401-nano", "20260401-nano-2"]
    assert main(["runs", "list"]) == 0
    assert "before the first step" not in capsys.readouterr().err


def test_a_run_that_another_was_made_from_is_deleted_with_it_or_anyway(home, capsys):
    base = home / "20260401-nano"
    (home / "20260401-nano-2" / "config.yaml").write_text(f"finetune:\n  model: {base}\n")
    assert main(["runs", "delete", "20260401-nano", "--yes"]) == 2
    assert "made from" in (said := capsys.readouterr().err) and "20260401-nano-2" in said
    assert base.is_dir()
    assert main(["runs", "delete", "20260401-nano", "20260401-nano-2"]) == 0
    assert main(["runs", "delete", "20260401-nano", "--yes", "--anyway"]) == 0
    assert not base.exists()


def test_nothing_is_deleted_when_one_of_several_is_owned(home, owned, capsys):
    assert main(["runs", "delete", "20260401-nano-2", "20260401-nano", "--yes"]) != 0
    assert "runs stop" in capsys.readouterr().err
    assert (home / "20260401-nano-2").is_dir()


def test_nothing_is_deleted_when_one_of_several_is_a_link(home, tmp_path, capsys):
    (home / "linked").symlink_to(home / "20260401-nano")
    assert main(["runs", "delete", "20260401-nano-2", "linked", "--yes"]) == 2
    assert "is a link" in capsys.readouterr().err
    assert (home / "20260401-nano-2").is_dir() and (home / "linked").is_symlink()


def test_what_is_gone_already_is_named_when_a_later_one_fails(home, capsys):
    outer, inner = home / "20260401-nano", home / "20260401-nano" / "inner"
    shutil.copytree(FIXTURE, inner)
    assert main(["runs", "delete", str(outer), str(inner), "--yes"]) != 0  # the second went with the first
    assert f"deleted before this: {outer}" in capsys.readouterr().err
    assert [entry.name for entry in home.iterdir()] == ["20260401-nano-2"]


@pytest.mark.parametrize("words", [[], ["20260401-nano", "--empty"]])
def test_deleting_wants_names_or_the_empty_ones(home, words, capsys):
    assert main(["runs", "delete", *words, "--yes"]) == 2
    assert "which runs?" in capsys.readouterr().err
