import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import UsageError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter
from mamba_slm.runs.report import render_html, render_report, write_html, write_report
from mamba_slm.runs.report_page import NAVIGATION, code_spans, data_block
from mamba_slm.runs.report_page_tables import SettingsFacts
from mamba_slm.runs.status import Status, write_status
from promises.documents import our_commands, parse
from runs.page_reader import Page

FIXTURE = Path(__file__).parent / "fixtures" / "version-1"
PARTS = ["run.json", "config.yaml", "data.json", "status.json", "metrics.jsonl", "samples.jsonl", "evaluation.json"]
HOSTILE = "</script></pre><script>alert(1)</script><img src=x onerror=alert(2)>'\"&amp;{{ 7 * 7 }}\x1b[2J\u202e"
"""Ends elements, runs code, fetches, expands templates, steers terminals, turns text around."""


@pytest.fixture
def finished(tmp_path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(FIXTURE, tmp_path / "20260401-nano")))


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def page_of(run, **options):
    """The page, after what holds for every page has been checked."""
    page = Page(render_html(run, **options))
    assert not page.errors
    assert len(page.ids) == len(set(page.ids))
    anchors = [value for value in page.values("href") if value.startswith("#")]
    pointers = [word for name in ("aria-labelledby", "for") for value in page.values(name) for word in value.split()]
    assert {anchor[1:] for anchor in anchors} | set(pointers) <= set(page.ids)
    return page


def append(path, rows):
    with MetricsWriter(path):  # cuts off the half-written last line of the fixture
        pass
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def append_train_rows(run, steps, **values):
    rows = [{"kind": "train", "step": step, "tokens": 100 * step, "seconds": step / 10, **values} for step in steps]
    append(run.metrics_file, rows)


def test_the_page_has_every_section_and_chart(finished):
    page = page_of(finished)
    assert {identity for identity, _ in NAVIGATION} <= set(page.ids)
    assert page.values("role").count("img") == 7  # five charts, and the layers twice
    charts = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "class") and value == "chart"]
    assert len(charts) == page.tags.count("desc") == 5
    text = page.visible()
    assert "Loss: 7.717 at step 1" in text and "Validation loss 3.371 at step 40" in text
    assert "median 4.26k, MFU 21.8%" in text
    assert all(fact in text for fact in ("1.583", "beats 3 of 4 baselines", "✓ 26.7% better", "612,304 bytes"))


def test_the_page_fetches_nothing_and_its_policy_allows_only_its_own_script_and_style(finished):
    page = page_of(finished)
    assert page.requests() == []
    assert not [value for value in page.values("href") if not value.startswith("#")]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|<base|http-equiv=\"refresh", page.text)
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    (style,) = page.inside["style"]
    script = page.inside["script"][-1]
    for kind, content in (("style", style), ("script", script)):
        fingerprint = b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{fingerprint}';" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert not [name for _, name, _ in page.attributes if name == "style" or name.startswith("on")]


def test_the_page_depends_on_the_folder_alone(finished):
    program = "import sys; from mamba_slm.runs import report; sys.stdout.write(report.render_html(sys.argv[1]))"
    environment = {"PATH": "/usr/bin", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
    other = subprocess.run(
        [sys.executable, "-c", program, finished], capture_output=True, check=True, env=environment, cwd="/"
    )
    assert other.stdout.decode("utf-8") == render_html(finished)


def test_writing_the_cards_does_not_change_the_next_ones(finished):
    first = [write(finished).read_bytes() for write in (write_html, write_report)]
    assert [write(finished).read_bytes() for write in (write_html, write_report)] == first
    assert finished.page_file.name == "report.html"


def test_nothing_from_the_run_becomes_markup(finished):
    with MetricsWriter(finished.samples_file) as writer:
        writer.append({"step": 60, "tokens": 1, "prompt": HOSTILE, "text": HOSTILE})
    with MetricsWriter(finished.events_file) as writer:
        writer.append({"step": 40, "kind": HOSTILE, "message": HOSTILE})
    edit_json(finished.status_file, state="failed", message=HOSTILE)
    record = json.loads(finished.record_file.read_text())
    hardware = {**record["hardware"], "processor": HOSTILE}
    edit_json(
        finished.record_file, id=HOSTILE, command=["mamba-slm", HOSTILE], versions={HOSTILE: HOSTILE},
        hardware=hardware, git={"commit": HOSTILE}, estimate={"how": HOSTILE, "memory": {HOSTILE: 5}},
    )  # fmt: skip
    edit_json(finished.data_file, sources=[{"name": HOSTILE, "path": HOSTILE, "licence": HOSTILE, "tokens": 5}])
    finished.evaluation_file.write_text(json.dumps([{"name": HOSTILE, "bits_per_byte": 1.5, "how": HOSTILE}]))
    finished.config_file.write_text(json.dumps({"model": {HOSTILE: HOSTILE}, "train": {HOSTILE: [HOSTILE]}}))
    (finished.path / "<img src=x onerror=alert(3)>").write_text("")

    explain = lambda config: SettingsFacts(defaults_of=HOSTILE, parameters={HOSTILE: 5})  # noqa: E731
    page = page_of(finished, explain=explain)
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "\x1b" not in page.text and "\u202e" not in page.text
    assert page.visible().count("{{ 7 * 7 }}") > 20
    assert json.loads(page.inside["script"][0])["charts"]


def test_secrets_and_home_folders_do_not_reach_either_card(finished):
    home = "/" + "home"  # in pieces: no file of the repository names a folder of one machine
    words = ["mamba-slm", "train", "--hf-token", "abc", "--data", f"{home}/ada/my notes"]
    edit_json(finished.record_file, command=words)
    edit_json(finished.data_file, sources=[{"name": "notes", "path": "https://ada:pass@host/notes"}])
    edit_json(finished.status_file, state="failed", message=f"{home}/ada/notes: hf_abcdefghijklmnopqrstu refused")
    for card in (render_html(finished), render_report(finished)):
        card = html.unescape(card)
        assert "mamba-slm train --hf-token '<hidden>' --data ~/'my notes'" in card
        assert not re.search(r"ada\b|pass@|hf_abc|/home/", card)


@pytest.mark.parametrize("missing", PARTS)
def test_a_run_that_lost_a_file_has_a_page_that_says_so(finished, missing):
    (finished.path / missing).unlink()
    assert f"<code>{missing}</code> is missing" in page_of(finished).text


@pytest.mark.parametrize("kept", ["run.json", "status.json", "metrics.jsonl"])
def test_one_file_is_enough_for_a_page(finished, kept):
    for name in PARTS:
        if name != kept:
            (finished.path / name).unlink()
    page = page_of(finished)
    assert page.text.count("is missing</li>") == len(PARTS) - 1


def test_a_run_that_has_only_begun_has_a_page(run):
    write_status(run.status_file, Status(state="running", heartbeat=1775000000.0))
    text = page_of(run).visible()
    for said in ("not finished: at step 0", "No step is recorded yet.", "None were taken yet.", "Not evaluated"):
        assert said in text


def test_one_step_is_enough_for_charts(run):
    append_train_rows(run, [1], loss=5.0, learning_rate=0.0)
    page = page_of(run)
    assert page.tags.count("desc") == 2
    assert all("M" in value for tag, name, value in page.attributes if (tag, name) == ("path", "d") and value)


def test_a_nan_is_marked_and_leaves_a_gap_in_the_curve(finished):
    append_train_rows(finished, [41], loss=None)
    append_train_rows(finished, range(42, 45), loss=3.0)
    page = page_of(finished)
    assert "the loss was not finite at step 41" in page.visible()
    raw = re.search(r'<path class="raw" d="([^"]+)"', page.text)[1]
    assert raw.count("M") == 2 and "nan" not in raw.lower()


def test_a_plan_that_was_missed_is_said_in_words_and_a_limit_is_no_prediction(finished):
    finished.config_file.write_text("train: {max_minutes: 1.5}\n")
    record = json.loads(finished.record_file.read_text())
    edit_json(finished.record_file, result={**record["result"], "tokens": 163_840, "memory_bytes": 3_000_000_000})
    text = page_of(finished).visible()
    assert "a limit that was set, not a prediction" in text
    assert "50% less than planned" in text and "3.0 times the plan" in text


def test_what_differs_from_the_defaults_is_told_apart(finished):
    facts = SettingsFacts(
        defaults={"model.hidden_size": 128, "train.seed": 0}, defaults_of="preset nano",
        parameters={"embedding": 300, "feed_forward": 100}, context_memory=((2048, 10, 40),),
    )  # fmt: skip
    page = page_of(finished, explain=lambda config: facts)
    table = page.text.partition('id="settings-caption"')[2].partition("</table>")[0]
    assert "train.seed</th><td>7</td><td>0</td>" in table and "hidden_size" not in table
    assert "75.0%" in page.visible() and 'width="25.00%"' in page.text


def test_every_command_on_the_page_parses(finished):
    edit_json(finished.record_file, kind="train", command=["mamba-slm", "train", "nano", "--data", "my notes.txt"])
    edit_json(finished.status_file, state="stopped")
    (finished.path / "model").mkdir()
    page = page_of(finished)
    commands = [code for code in page.inside["code"] if code.startswith("mamba-slm")]
    assert [command.split()[1] for command in commands] == ["train", "train", "runs", "chat", "report"]
    for command in commands:
        for words in our_commands(command):
            parse(words)


def test_a_long_run_keeps_a_small_page_on_which_no_spike_is_lost(finished):
    rows = []
    for step in range(41, 100_001):
        row = {"kind": "train", "step": step, "tokens": 8192 * step, "seconds": 1.3 * step, "loss": 2 + 1 / step}
        row |= {"learning_rate": 1e-3 / step, "grad_norm": 1 + step % 7 / 10, "tokens_per_second": 6000.0 + step % 100}
        rows.append(row | {"mfu": row["tokens_per_second"] / 3e4, "memory_bytes": 10**9 + step})
    rows[77_000]["loss"] += 1
    append(finished.metrics_file, rows)
    text = '<"&">' * 500
    samples = (
        {"step": step, "prompt": prompt, "text": text} for step in range(60, 100_000, 50) for prompt in "abcdefgh"
    )
    append(finished.samples_file, samples)
    page = page_of(finished)
    assert len(page.text.encode()) < 400_000
    numbers = json.loads(page.inside["script"][0])
    assert all(len(curve["mean"]) <= 360 for curve in numbers["charts"].values())
    assert max(numbers["charts"]["loss"]["high"][2:]) > 3 > max(numbers["charts"]["loss"]["mean"][2:])
    assert "sampled steps" in page.visible() and "6 of 10 prompts" in page.visible()


def test_a_folder_without_a_run_has_no_page(tmp_path):
    with pytest.raises(UsageError, match="no run"):
        render_html(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**400) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def paths_of(value, path=()):
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(draw=st.data())
def test_whatever_a_value_in_a_file_is_there_is_a_sound_page(finished, draw):
    path = finished.path / draw.draw(st.sampled_from([*PARTS, "events.jsonl"]))
    original = path.read_text()
    lines = []
    if path.suffix == ".jsonl":
        *lines, last = [line for line in original.splitlines() if line.endswith("}")]
        value = json.loads(last)
    elif path.suffix == ".json":
        value = json.loads(original)
    else:
        import yaml

        value = yaml.safe_load(original)
    places = [place for place in paths_of(value) if place and place[-1] != "format_version"]
    place, new = draw.draw(st.sampled_from(places)), draw.draw(JSON)
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = new
    try:
        path.write_text("\n".join([*lines, json.dumps(value)]) + "\n")
        page_of(finished)
    finally:
        path.write_text(original)


def test_numbers_for_the_script_cannot_end_their_element():
    text = data_block({"a": "</script><!--&"})
    assert not set("<>&") & set(text) and json.loads(text) == {"a": "</script><!--&"}


def test_backticks_become_code_after_escaping():
    assert code_spans("`<b>` & `x`") == "<code>&lt;b&gt;</code> &amp; <code>x</code>"
