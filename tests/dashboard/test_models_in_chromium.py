"""A model is looked at, exported and quantized from its page, and each result says how near it is."""

import shutil

import pytest

from dashboard.browser import Visit, dashboard, until

pytestmark = pytest.mark.slow
SHOWN = "window.modelsState?.shown"


def test_a_run_becomes_a_gguf_and_int8_and_their_parity_is_shown(browser, home, tmp_path):
    shutil.copytree(home / "20260401-nano", tmp_path / "20260401-nano")
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/runs/0/20260401-nano")
        page.locator("#checkpoint-rows").get_by_role("link", name="Export").first.click()
        until(page, f"{SHOWN}?.kind === 'checkpoint' && makeState.plan")
        assert page.get_by_label("Export", exact=True).is_checked()
        page.locator("#lineage b", has_text="trained from the beginning").wait_for()
        page.locator("#found-rows").get_by_role("button", name="20260401-nano").click()
        until(page, f"{SHOWN}?.kind === 'run' && makeState.plan?.out === 'exported/20260401-nano.gguf'")
        assert page.locator("#layer-map .layer").all_inner_texts() == ["M", "A", "M"]
        assert page.locator("#memory-rows tr").count() == 4
        until(page, "document.querySelector('#memory-chart').chart.lines[0].mean.length === 65")
        page.locator("#problem", has_text="300 is no multiple of 8").wait_for()
        assert page.locator("#start").is_disabled()
        page.get_by_label("fill the vocabulary up").check()
        until(page, "!document.querySelector('#start').disabled && makeState.plan.command.includes('--pad-vocabulary')")
        page.get_by_role("button", name="Start").click()
        page.locator("#jobs .card", has_text="export").wait_for()
        page.get_by_label("Quantize", exact=True).check()
        page.get_by_text("More settings").click()
        page.get_by_label("Measured alone").select_option("none")
        until(page, "makeState.plan?.command?.includes('--sensitivity none') && makeState.plan.size.parts.length > 4")
        page.get_by_role("button", name="Add to the queue").click()
        page.locator("[name=out]").fill("another")
        page.locator("#jobs .outcome", has_text="read back").wait_for()
        page.locator("#jobs .outcome", has_text="same token").wait_for()
        page.locator("#found-rows").get_by_role("button", name="models/20260401-nano-int8").wait_for()
        assert page.locator("[name=out]").input_value() == "another", "a job that ends leaves the form alone"

        page.locator("#jobs").get_by_role("button", name="models/20260401-nano-int8").click()
        until(page, f"{SHOWN}?.kind === 'quantized'")
        assert "perplexity" in page.locator("#checks").inner_text()
        assert "one standard error" in page.locator("#checks").inner_text()
        assert "quantized to int8" in page.locator("#lineage").inner_text()
        page.locator("#found-rows").get_by_role("button", name="exported/20260401-nano.gguf").click()
        until(page, f"{SHOWN}?.kind === 'GGUF' && {SHOWN}.pattern === 'M-*-M-' && {SHOWN}.settings.vocab_size === 304")
        assert "largest logit error" in page.locator("#checks").inner_text()
        assert page.locator("[name=other]").input_value() == "exported/20260401-nano.gguf"
        assert page.locator("[name=model]").input_value() == "20260401-nano", "the command compares it with its origin"
        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        until(page, f"{SHOWN}?.kind === 'GGUF'")
        visit.assert_clean()
        visit.context.close()


def test_a_size_is_looked_at_and_taken_to_training_with_the_keyboard(browser, home, address):
    visit = Visit(browser, address)
    page = visit.go("/models#preset=125M")
    until(page, f"{SHOWN}?.name === '125M'")
    page.get_by_label("Layout").select_option("classic")
    until(page, f"!{SHOWN}?.pattern.endsWith('M-')")
    page.get_by_label("Pattern").fill("M11*")
    until(page, f"{SHOWN}?.pattern === 'MMMMMMMMMMM*'")
    page.get_by_label("Pattern").fill("Mx")
    page.locator("#what-if-of", has_text="unknown sublayer 'x'").wait_for()
    visit.problems.clear()  # the browser reports the refusal, too
    page.get_by_label("Pattern").fill("")
    page.get_by_label("Layout").select_option("")
    until(page, f"{SHOWN}?.pattern.endsWith('M-') && {SHOWN}.layers.length === 12")
    assert page.locator("#origin").is_hidden() and page.locator("#layer-map .layer").count() == 12
    until(page, "document.querySelector('#memory-chart').chart.area")
    page.locator("#memory-chart").focus()
    page.keyboard.press("End")
    assert "At 131k tokens" in page.locator("#memory-chart").get_attribute("aria-label")
    page.locator("#filter").fill("nothing like it")
    page.get_by_text("No model is like that.").wait_for()
    page.get_by_role("link", name="Train this size").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/train#preset=125M")
    until(page, "Boolean(window.trainState?.plan)")
    assert page.locator("[name=preset]").input_value() == "125M"
    visit.assert_clean()
    visit.context.close()
