"""The examination as a user sees it: sections, costs, commands that mend, exit codes, JSON, 80 columns."""

import json
import subprocess
import sys

import pytest

from mamba_slm.cli import doctor
from mamba_slm.cli.examination import machine
from mamba_slm.cli.examination.check import SECTIONS, Check, Status
from mamba_slm.cli.examination.examine import examine, examine_briefly
from mamba_slm.cli.examination.kernels import ALLOWED_GRADIENTS_ERROR, ALLOWED_VALUES_ERROR
from mamba_slm.cli.main import main
from mamba_slm.core.errors import SetupError
from mamba_slm.tasks.sandbox import proof

PROGRAM = [sys.executable, "-c", "import sys; from mamba_slm.cli.main import main; sys.exit(main())", "doctor"]
FIELDS = {"section", "name", "status", "text", "cost", "hint", "measured", "about_speed"}


@pytest.fixture(scope="module")
def measured():
    """The answer of `mamba-slm doctor --json` in a process of its own."""
    done = subprocess.run([*PROGRAM, "--json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def named(answer, section, name):
    (found,) = [check for check in answer["checks"] if (check["section"], check["name"]) == (section, name)]
    return found


def test_this_machine_is_ready_and_every_section_is_there(measured):
    assert measured["ok"] is True
    assert measured["summary"].startswith("ready")
    sections = [check["section"] for check in measured["checks"]]
    assert list(dict.fromkeys(sections)) == list(SECTIONS), "in this order, each in one piece"
    assert all(set(check) == FIELDS for check in measured["checks"])


def test_names_are_unique_in_their_section(measured):
    names = [(check["section"], check["name"]) for check in measured["checks"]]
    assert len(names) == len(set(names))


def test_whatever_is_noted_has_a_cost_that_is_measured_or_says_why_not(measured):
    for check in measured["checks"]:
        assert check["status"] == "ok" or check["cost"], check


def test_every_kernel_is_tested_and_timed_beside_its_definition(measured):
    for name in ("scan recompute", "scan chunked", "convolution", "norm", "gated norm", "loss", "attention"):
        kernel = named(measured, "kernels", name)
        assert kernel["status"] == "ok"
        assert 0 <= kernel["measured"]["values_error"] <= ALLOWED_VALUES_ERROR
        assert 0 <= kernel["measured"]["gradients_error"] <= ALLOWED_GRADIENTS_ERROR
        assert kernel["measured"]["times_as_fast_as_definition"] > 0
        assert "as fast as the definition" in kernel["text"]


def test_speeds_of_now_are_in_the_answer(measured):
    products = named(measured, "speed", "products")
    assert products["measured"]["fp32_flops_per_second"] > 1e6, "per second, and not in billions"
    assert "measured now" in products["text"]
    assert named(measured, "speed", "precision")["measured"]["bf16_times_as_fast_in_step"] > 0
    assert 0 < named(measured, "speed", "sharing")["measured"]["share_of_cores"] <= 1


def test_without_measuring_nothing_is_timed_and_no_package_is_imported_on_trial(monkeypatch):
    monkeypatch.setattr(proof, "proven_walls", lambda: "namespaces")  # its probe is a process, and times nothing
    monkeypatch.setattr(subprocess, "Popen", None)  # starting any other program would fail
    monkeypatch.setattr(machine, "output_of", lambda *command: None)
    checks = examine("none")
    assert not [check for check in checks if check.section == "speed"]
    assert not [key for check in checks for key in check.measured if "fast" in key or "seconds" in key]
    assert [check for check in checks if "correct to" in check.text], "the self-test runs always"


def test_the_text_fits_80_columns_and_has_no_colours_in_a_pipe():
    done = subprocess.run([*PROGRAM, "--measure", "none"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in SECTIONS] == [name for name in SECTIONS if name != "speed"]
    assert not [line for line in lines if len(line) > 80 and " it: " not in line], "commands alone may be longer"
    assert "\033" not in done.stdout
    behind = max(place for place, line in enumerate(lines) if line.startswith(" " * 19) or line in SECTIONS)
    assert [line for line in lines[behind:] if line.startswith("ready")], "at the end, wrapped where notes are many"


def test_no_measure_and_measure_exclude_each_other(capsys):
    assert main(["doctor", "--no-measure", "--measure", "thorough"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_something_missing_exits_3_and_shows_what_mends_it(capsys, monkeypatch):
    monkeypatch.setattr(machine, "MIN_DISK_BYTES", 1 << 62)
    monkeypatch.setattr(machine, "COMFORTABLE_DISK_BYTES", 1 << 62)
    assert main(["doctor", "--no-measure"]) == 3
    out = capsys.readouterr().out
    assert "✗ disk" in out
    assert "cost: the quick start does not fit" in out
    assert "mend it: free some space, or export MAMBA_SLM_HOME=" in out
    assert out.splitlines()[-1] == "not ready: disk (machine) must be mended first"


def test_the_quick_start_stops_where_something_is_missing(monkeypatch, tmp_path):
    from mamba_slm.cli.quickstart import examine_machine

    monkeypatch.setattr(machine, "MIN_MEMORY_BYTES", 1 << 62)
    monkeypatch.setattr(machine, "COMFORTABLE_MEMORY_BYTES", 1 << 62)
    with pytest.raises(SetupError, match="memory"):
        examine_machine()


def test_the_brief_examination_is_what_a_run_needs():
    names = [check.name for check in examine_briefly()]
    assert {"python", "packages", "torch", "processor", "memory", "disk", "gpu", "products"} <= set(names)
    assert "scan recompute" not in names, "kernels are named only where they are wrong"


def check(name, *, status: Status = "ok", about_speed=False, text="text", cost="", hint="", section="settings"):
    return Check(
        section=section, name=name, status=status, text=text, about_speed=about_speed, cost=cost, hint=hint
    )  # fmt: skip


@pytest.mark.parametrize(
    ("checks", "line"),
    [
        ([check("a")], "ready; nothing is missing"),
        (
            [check("a", status="note", about_speed=True), check("b")],
            "ready; 1 thing would make it faster: a (settings)",
        ),
        (
            [check("a", status="note", about_speed=True), check("b", status="note"), check("c", status="note")],
            "ready; 1 thing would make it faster: a (settings); 2 things can be added: b (settings), c (settings)",
        ),
        (
            [check("a", status="note"), check("b", status="missing")],
            "not ready: b (settings) must be mended first",
        ),
    ],
)
def test_the_last_line_says_whether_it_is_ready_and_what_would_help(checks, line):
    assert doctor.summary(checks) == line


def test_neighbours_that_say_the_same_share_a_line_unless_each_has_a_command():
    same = [check("a", text="absent"), check("b", text="absent"), check("c", text="there")]
    first, second = doctor.alike(same)
    assert list(doctor.lines_of(first, 80)) == ["  ✓ absent         a, b"]
    assert len(second) == 1
    assert len(doctor.alike([check("a", hint="pip install a"), check("b", hint="pip install b")])) == 2


def test_long_texts_wrap_under_themselves_and_commands_stay_whole():
    command = "pip install " + "x" * 90
    lines = list(
        doctor.lines_of([check("a", status="note", text="word " * 30, cost="much " * 30, hint=command)], 80)
    )  # fmt: skip
    assert lines[0].startswith("  ⚠ a              word")
    assert all(line.startswith(" " * 19) for line in lines[1:])
    assert lines[-1] == " " * 19 + "mend it: " + command
    assert all(len(line) <= 80 for line in lines[:-1])
