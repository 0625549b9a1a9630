"""The pages in a real browser, on real runs."""

import base64
import json
import shutil
import time
from pathlib import Path

import pytest

from dashboard.browser import (
    PATIENCE_SECONDS,
    SIZES,
    TWO_FRAMES,
    Visit,
    artefacts,
    dashboard,
    held,
    last_job,
    train_words,
    until,
)
from dashboard.made_runs import EVIL, append, make_run, train_row
from mamba_slm.dashboard.reading.sets import find_set
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.lock import live_owner
from mamba_slm.runs.status import observed_state

pytestmark = pytest.mark.slow
RUN = "/runs/0/20260401-nano"
PAGES = {
    "home": "/",
    "data": "/data",
    "inspect": "/data/inspect#path=text.txt&tokenizer=20260401-nano&view=tokens",
    "mix": "/data/mix",
    "curate": "/data/curate",
    "tokenize": "/data/tokenize",
    "runs": "/runs#run=0/20260401-nano&run=0/20260402-nano",
    "run": RUN,
    "train": "/train",
    "tune": "/tune#model=20260401-nano&data=talk.jsonl",
    "models": "/models#model=20260401-nano",
    "chat": "/chat",
    "serve": "/serve",
    "evaluate": "/evaluate#show=0/evaluations/first/results.json&beside=0/evaluations/second/results.json",
    "rate": "/rate",
    "system": "/system",
}
READY = {
    "home": "document.querySelectorAll('#results .card').length >= 2",
    "data": "Boolean(window.dataState?.library)",
    "mix": "Boolean(window.mixState)",
    "tokenize": "Boolean(window.tokenizeState?.plan)",
    "curate": "document.querySelector('#problem')?.textContent.includes('nothing to curate')",
    "inspect": "Boolean(window.inspectState?.page?.rows.length)",
    "runs": "document.querySelectorAll('#rows tr').length >= 2 && document.querySelectorAll('#legend li').length === 2",
    "train": "Boolean(window.trainState?.plan)",
    "tune": "Boolean(window.tuneState?.example)",
    "models": "Boolean(window.modelsState?.shown && window.makeState?.plan)",
    "chat": "Boolean(window.chatState?.models.runs.length)",
    "serve": "Boolean(window.serveState?.servers && serveState.plan)",
    "evaluate": "document.querySelectorAll('#answer-list .card').length > 0",
    "rate": "Boolean(window.rateState?.now?.shown)",
    "system": "window.systemState?.points.length > 1 && document.querySelectorAll('#rows tr').length > 0",
    "run": "Boolean(window.runState?.versions.log && document.querySelector('#chart-loss').chart.drawn)",
}
SERIOUS = ("serious", "critical")


def open_page(visit, name):
    visit.page.goto("about:blank")
    visit.go(PAGES[name])
    until(visit.page, READY[name])
    until(visit.page, TWO_FRAMES)
    return visit.page


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_is_clean_accessible_and_fits(browser, address, size, theme):
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, address, size=size, theme=theme)
    for name in PAGES:
        page = open_page(visit, name)
        page.screenshot(path=artefacts() / f"{name}-{size}-{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the screen"
        if size == "wide":
            continue
        # axe puts its script into the page through the debugger, which the policy of the page does not bind
        found = Axe().run(page).response["violations"]
        bad = [
            (each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found if each["impact"] in SERIOUS
        ]
        assert not bad, name
    visit.assert_clean()
    visit.context.close()


def test_the_contact_sheet_shows_every_page_in_every_size_and_theme(browser, address):
    shots = sorted(artefacts().glob("*-*-*.png"))
    if len(shots) < len(PAGES) * len(SIZES) * 2:
        pytest.skip("the pictures are made by the test above")
    figures = "".join(
        f"<figure><img src='data:image/png;base64,{base64.b64encode(shot.read_bytes()).decode()}'>"
        f"<figcaption>{shot.stem}</figcaption></figure>"
        for shot in shots
    )
    style = "body{display:grid;grid-template-columns:repeat(6,1fr);gap:12px} img{width:100%;border:1px solid #999}"
    context = browser.new_context(viewport={"width": 2400, "height": 1200})
    page = context.new_page()
    page.set_content(f"<style>{style}</style>{figures}")
    page.screenshot(path=artefacts() / "contact-sheet.png", full_page=True)
    context.close()


def test_the_curves_are_those_of_the_file_and_the_flip_book_begins_at_step_0(browser, address):
    visit = Visit(browser, address)
    page = open_page(visit, "run")
    assert page.evaluate("runState.series.step") == list(range(1, 41))
    assert page.locator("#state").inner_text() == "done"
    page.locator("#page").fill("0")
    assert page.locator("#page-step").inner_text() == "step 0"
    first = page.locator("#sample-text").inner_text()
    page.locator("#page-after").click()
    assert page.locator("#page-step").inner_text() == "step 10"
    assert page.locator("#sample-text").inner_text() != first
    page.locator("#chart-loss").click(position={"x": 60, "y": 80})
    assert page.locator("#page-step").inner_text() == "step 0", "a click on the curve shows the text of that step"
    page.locator("#checkpoint-rows button", has_text="chat").first.click()
    assert page.locator("#checkpoint-rows .command code").first.inner_text().startswith("mamba-slm chat ")
    visit.assert_clean()
    visit.context.close()


def test_zoom_asks_for_the_window_and_escape_comes_back(browser, address):
    visit = Visit(browser, address)
    page = open_page(visit, "run")
    box = page.locator("#chart-loss").bounding_box()
    page.mouse.move(box["x"] + 120, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.up()
    until(page, "runState.zoom && runState.series.step.length < 40")
    assert page.evaluate("runState.series.step.every(step => step >= runState.zoom[0] && step <= runState.zoom[1])")
    page.locator("#chart-loss").press("Escape")
    until(page, "!runState.zoom && runState.series.step.length === 40")
    visit.context.close()


def test_everything_on_a_run_is_reached_with_the_keyboard_alone(browser, address):
    visit = Visit(browser, address)
    page = open_page(visit, "run")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    until(page, "(document.activeElement.id || location.hash.slice(1)) === 'content'")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 20)"))
    for wanted in (
        "axis",
        "smoothing",
        "logarithmic",
        "chart-loss",
        "chart-mfu",
        "page-before",
        "page",
        "sample-text",
        "log-text",
    ):
        assert wanted in reached, wanted
    page.locator("#chart-loss").focus()
    page.keyboard.press("Home")
    assert "At 1:" in page.locator("#chart-loss").get_attribute("aria-label")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/")
    visit.context.close()


def test_many_rows_are_few_points_and_a_spike_is_still_seen(browser, tmp_path):
    run = make_run(tmp_path, steps=0)
    rows = [train_row(step) for step in range(1, 30_001)]
    rows[17_000]["loss"] = 99.0
    append(run, *rows)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = open_page(visit, "run")
        append(run, *map(train_row, range(30_001, 30_031)))
        until(page, "runState.series.count === 30030")
        assert page.evaluate("runState.series.loss.mean.length") <= 1200
        assert page.evaluate("Math.max(...runState.series.loss.high)") == 99
        visit.assert_clean()
        visit.context.close()


def test_names_and_samples_stay_text(browser, tmp_path):
    name = EVIL.replace("/", "∕")
    run = make_run(tmp_path, name, text=EVIL, config=f"a: {EVIL!r}\n", state="failed")
    make_run(tmp_path, "other")
    (run.path / "notes.json").write_text('{"note": "<img src=x onerror=alert(1)>", "tags": ["x"]}')
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        for path in ("/", "/runs"):
            page = visit.go(path)
            page.get_by_role("link", name=name).first.wait_for()
            assert "owned" not in page.title()
        page.get_by_role("link", name=name).click()
        until(page, READY["run"])
        assert EVIL in page.locator("#sample-text").inner_text()
        page.get_by_text("The batch").click()
        assert EVIL in page.locator("#event-list").inner_text()
        assert page.locator("main img, main script, main iframe").count() == 0
        visit.assert_clean()
        visit.context.close()


def test_runs_are_filtered_chosen_noted_and_the_address_shows_the_same_again(browser, tmp_path):
    for name, rate in (("alpha", 0.001), ("beta", 0.003)):
        make_run(tmp_path, name, config=f"train:\n  learning_rate: {rate}\n")
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/runs")
        page.locator("#rows tr").nth(1).wait_for()
        for name in ("alpha", "beta"):
            page.get_by_label(f"Choose {name}").check()
        page.get_by_role("cell", name="0.003").wait_for()
        assert page.locator("#legend li").all_inner_texts() == ["alpha", "beta"]
        assert page.evaluate("document.querySelector('#overlay-chart').chart.lines.map(line => line.x.length)") == [
            50,
            50,
        ]
        page.locator("#axis").select_option("tokens")
        until(page, "document.querySelector('#overlay-chart').chart.lines[0].x[0] === 512")
        page.get_by_label("Edit the notes of beta").click()
        page.get_by_label("Note", exact=True).fill("the better one")
        page.get_by_label("Tags").fill("best")
        page.get_by_role("button", name="Save").click()
        page.locator("[data-run='0/beta']", has_text="the better one").wait_for()
        page.locator("#filter").fill("state:failed")
        page.get_by_text("No run is like that.").wait_for()
        page.locator("#filter").fill("state:failed,done")
        assert page.locator("#rows tr").count() == 2
        page.locator("#filter").fill("tag:best loss<9")
        assert page.locator("#rows tr").count() == 1
        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        until(page, "document.querySelector('#overlay-chart').chart?.lines[0]?.x[0] === 512")
        assert page.locator("#filter").input_value() == "tag:best loss<9"
        visit.assert_clean()
        visit.context.close()


def test_what_was_typed_into_a_form_is_there_after_a_reload_and_a_link_comes_first(browser, address):
    visit = Visit(browser, address)
    for path, name in {"data/curate": "out", "data/tokenize": "out", "rate": "name"}.items():
        page = visit.go(path)
        page.locator(f"#form [name={name}]").fill("mine")
        page.reload()
        until(page, f"document.querySelector('#form [name={name}]').value === 'mine'")
    page = visit.go("data/curate")
    page.get_by_label("Keep the texts").uncheck()
    page.reload()
    until(page, "document.querySelector('#form [name=out]').value === 'mine'")
    assert not page.get_by_label("Keep the texts").is_checked()
    page.goto("about:blank")
    page = visit.go("data/tokenize#out=other")
    until(page, "document.querySelector('#form [name=out]').value === 'other'")
    visit.assert_clean()
    visit.context.close()


def owner_of(run):
    """The process that trains a run, once its state says so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while observed_state(RunDirectory(run)) != "running" or (owner := live_owner(run)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return owner


def test_a_training_is_planned_while_typing_started_queued_and_seen(browser, tmp_path):
    words = train_words(tmp_path, 20)
    settings = " ".join(word for word in words[5:] if word not in ("--max-steps", "20"))
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/train")
        page.get_by_text("no training data was given").wait_for()
        until(page, "document.querySelector('#plan-memory').textContent !== '–'")  # the estimate needs no data
        assert page.locator("#start").is_disabled()
        page.locator("[name=data]").fill("text.txt")
        page.get_by_label("How much").fill("20")
        page.get_by_label("Of what").select_option("steps")
        page.locator("[name=name]").fill("from-the-page")
        page.get_by_text("More settings").click()
        page.locator("[name=more]").fill("--learning-rat 1")
        page.get_by_text("unknown option '--learning-rat'").wait_for()
        assert page.locator("#command code").text_content() == "", "no command that the form does not say"
        page.locator("[name=more]").fill(settings)
        until(page, "!document.querySelector('#start').disabled && trainState.plan?.estimate.steps === 20")
        assert "--max-steps 20" in page.locator("#command code").inner_text()
        page.get_by_role("button", name="Start").click()
        with held(owner_of(tmp_path / "from-the-page").pid):
            page.locator("#jobs .state", has_text="running").wait_for()
            page.get_by_text("from-the-page runs now").wait_for()
            page.locator("[name=name]").fill("after-it")
            until(page, "trainState.plan?.name === 'after-it' && !document.querySelector('#enqueue').disabled")
            page.get_by_role("button", name="Add to the queue").click()
            page.locator("#jobs .state", has_text="waiting").wait_for()
            page.get_by_role("button", name="Take back").click()
            page.locator("#jobs .state", has_text="cancelled").wait_for()
        page.locator("#jobs .state", has_text="done").wait_for()
        page.get_by_role("link", name="from-the-page").click()
        until(page, "window.runState?.series?.step.length === 20")
        visit.assert_clean()
        visit.context.close()


def test_models_are_served_from_the_page_talk_beside_each_other_and_stay_text(browser, home, tmp_path):
    shutil.copytree(home / "20260401-nano", tmp_path / "20260401-nano")
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/chat")
        page.get_by_role("button", name="Serve it").click()
        page.locator("#choices .state", has_text="ready").wait_for()
        assert "mamba-slm serve" in page.locator("#choices").inner_text(), "the command is shown"
        served = page.evaluate("chatState.models.servers[0].address")
        page.get_by_text("A server at another address").click()
        page.get_by_label("Address").fill(served)
        page.get_by_role("button", name="Add").click()
        page.locator("#choices input:not(:disabled)").nth(1).check()
        assert page.evaluate("chatState.chosen.length") == 2
        page.locator("#max_tokens").fill("24")
        page.locator("#message-text").fill(f"Once there {EVIL}")
        page.locator("#message-text").press("Enter")
        done = "chatState.running.size === 0 && Object.keys(chatState.talks[0].turns[0]?.answers ?? {}).length === 2"
        until(page, f"{done} && Object.values(chatState.talks[0].turns[0].answers).every(each => each.tokens)")
        first, second = page.locator(".answer .text").all_inner_texts()
        assert first == second != "", "the same model with the same seed says the same"
        assert "no chat template" in page.locator("#panes").inner_text()
        assert "tokens/s" in page.locator(".answer").first.inner_text()
        assert page.locator("#panes img, #panes script").count() == 0 and "owned" not in page.title()

        page.get_by_role("button", name="Branch").click()
        assert page.evaluate("chatState.talks.length") == 2
        page.get_by_role("button", name="Retry").first.click()
        until(page, "chatState.running.size === 0")
        assert page.locator(".answer .text").first.inner_text() == first, "the same seed again"
        page.locator("#seed").fill("7")
        page.get_by_role("button", name="Retry").first.click()
        until(page, "chatState.running.size === 0")
        other = page.locator(".answer .text").first.inner_text()
        assert other != first
        page.get_by_text("3/3").wait_for()
        page.get_by_role("button", name="The answer before").click()
        assert page.locator(".answer .text").first.inner_text() == first, "a retry loses nothing"
        page.get_by_role("button", name="The answer after").click()
        page.get_by_role("button", name="▢ Better").first.click()
        page.get_by_role("button", name="✓ Better").wait_for()
        (pair,) = find_set((tmp_path,), 0, "chat").pairs()
        assert {answer.text for answer in pair.answers} == {first, other}
        page.get_by_role("button", name="Edit").click()
        assert page.locator("#message-text").input_value().startswith("Once there")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Export").click()
        assert waiting.value.suggested_filename == "conversation.json"
        page.locator("#which").select_option("1")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Export").click()
        kept = json.loads(waiting.value.path().read_text())
        assert kept["settings"] == {"temperature": 0.8, "top_p": 0.95, "max_tokens": 24, "seed": 7}
        page.locator("#seed").fill("1")
        page.locator("#import-file").set_input_files(waiting.value.path())
        until(page, "chatState.talks.length === 4 && chatState.now === 3")
        assert page.locator("#seed").input_value() == "7"
        assert page.evaluate("chatState.talks[3].turns") == page.evaluate("chatState.talks[1].turns")
        assert (
            page.locator(".answer .text").first.inner_text() == other and "3/3" in page.locator("#panes").inner_text()
        )
        for text in ("{", "[]", '{"turns": [{"text": 1}]}', '{"turns": [], "format_version": 9}'):
            page.locator("#import-file").set_input_files({"name": "x.json", "mimeType": "", "buffer": text.encode()})
            page.get_by_text("x.json cannot be read").wait_for()
            page.evaluate("document.querySelector('#message').textContent = ''")
        assert page.evaluate("chatState.talks.length") == 4

        worker = last_job(tmp_path).pid
        with held(
            int(Path(f"/proc/{worker}/task/{worker}/children").read_text())
        ):  # a short answer may be its whole one
            page.locator("#message-text").press("Enter")
            until(page, "chatState.running.size > 0")
            page.keyboard.press("Escape")
            until(page, "chatState.running.size === 0")
        page.reload()
        page.locator("#which option").nth(2).wait_for(state="attached")
        page.get_by_role("button", name="End the server").click()
        page.get_by_role("button", name="Serve it").wait_for()
        visit.assert_clean()
        visit.context.close()
