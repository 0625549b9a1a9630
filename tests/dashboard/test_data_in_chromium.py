"""From a file to its tokens and the loss mask, in a real browser."""

import pytest

from dashboard.browser import SIZES, Visit, artefacts, dashboard, until
from dashboard.made_data import CHATS, TALES, make_data, make_shards, write_lines
from data.curation.prose import good_prose

pytestmark = pytest.mark.slow


def axe(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


def test_a_conversation_is_found_and_shown_with_what_is_learned_of_it(browser, tmp_path):
    make_data(tmp_path)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/data")
        until(page, "document.querySelectorAll('#found tr').length >= 3")
        page.get_by_role("row", name="chats.jsonl").get_by_role("link", name="inspect").click()
        until(page, "window.inspectState?.page?.kind === 'conversations'")
        assert page.locator(".turn").first.inner_text().endswith("How do I reset the pump?")

        page.locator("[name=tokenizer]").fill("tokenizer")
        page.locator("[name=search]").fill("green button")
        page.keyboard.press("Enter")
        page.get_by_label("What is learned").check()
        found = "inspectState.page.rows.at(-1)?.number === 12"  # of those that hold the words, not of all with tokens
        until(page, f"{found} && document.querySelectorAll('#rows .token.learned').length > 0")
        learned = page.evaluate(
            "[...document.querySelectorAll('#rows li:first-child .learned')].map(each => each.textContent).join('')"
        )
        assert learned == "Hold the green button for 3 s.<|im_end|>"
        assert page.locator("#rows li h3").all_inner_texts() == [
            f"{number + 1} · chats.jsonl, line {number + 1}" for number in range(0, 15, len(CHATS))
        ]
        assert not axe(page)
        page.screenshot(path=artefacts() / "mask-laptop.png", full_page=True)
        page.get_by_role("button", name="Further").click()
        until(page, "inspectState.page.rows[0].number === 15")
        shared = page.url
        page.goto("about:blank")
        page.goto(shared)
        until(page, "window.inspectState?.page?.rows[0].number === 15")
        assert page.locator(".token.learned").first.is_visible(), "an address shows what one saw"

        page.get_by_role("button", name="Find documents like number 16").click()
        until(page, "inspectState.page?.rows[0].similarity > 0.5 && !document.getElementById('like').hidden")
        assert "similarity 1.00" in page.locator("#rows li").first.inner_text()
        page.get_by_role("button", name="Show all").click()
        until(page, "inspectState.page?.rows[0].similarity === null")

        page.get_by_role("button", name="Count it").click()
        until(page, "document.querySelector('#jobs .state')?.dataset.state === 'done'")
        page.locator("[name=path]").fill("tales-tokens")
        page.locator("[name=search]").fill("")
        page.keyboard.press("Enter")
        until(page, f"inspectState.page?.count === {len(TALES)}")
        page.get_by_label("Tokens", exact=True).check()
        width, height = SIZES["phone"]
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=artefacts() / "tokens-phone.png", full_page=True)
        visit.assert_clean()
        visit.context.close()


def test_a_mixture_is_weighed_with_sliders_and_trained_with(browser, tmp_path):
    make_shards(tmp_path / "few", make_data(tmp_path), TALES[:9])
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/data/mix#add=tales-tokens&add=few&tokens=20k&context_tokens=64&tokenizer=tokenizer")
        until(page, "mixState.plan?.sources?.length === 2")
        assert page.locator("#rows tr").all_inner_texts()[0].count("50.0%") == 1
        assert "few is read" in page.locator("#warnings").inner_text()
        page.get_by_label("Weight of tales", exact=True).focus()
        for _ in range(3):
            page.keyboard.press("PageUp")
        page.get_by_label("Weight of few, exactly").fill("0.5")
        until(page, "mixState.plan?.sources?.find(each => each.name === 'tales').share > 0.98")
        assert page.locator("#first-rows > li").count() == 20
        assert "Once there was a" in page.locator("#first-rows > li").first.inner_text()
        assert not axe(page)
        page.screenshot(path=artefacts() / "mix-laptop.png", full_page=True)
        width, height = SIZES["phone"]
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=artefacts() / "mix-phone.png")

        page.locator("[name=out]").fill("both.yaml")
        page.get_by_role("button", name="Write").click()
        until(page, "document.querySelector('#jobs .state')?.dataset.state === 'done'")
        assert "few" in (tmp_path / "both.yaml").read_text()
        page.locator("#train").click()
        until(page, "window.trainState?.plan?.settings?.data?.length === 2")
        plan = page.evaluate("trainState.plan")
        assert (plan["problem"], plan["settings"]["context_tokens"], plan["settings"]["max_tokens"]) == (
            None,
            64,
            20_000,
        )
        visit.assert_clean()
        visit.context.close()


def test_text_is_curated_and_what_went_is_read(browser, tmp_path):
    long = good_prose(20, kind="books")
    write_lines(tmp_path / "tales.jsonl", [{"text": text} for text in (*long, *long[:4], "too short")])
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/data/curate#inputs=tales.jsonl")
        page.locator("[name=kind]").select_option("books")
        page.locator("[name=out]").fill("curated")
        page.get_by_text("More settings").click()
        page.locator("[name=workers]").fill("1")
        until(page, "document.querySelector('#command code').textContent.endsWith('--workers=1 --keep-rejects')")
        page.get_by_role("button", name="Start").click()
        until(page, "document.querySelector('#jobs .state')?.dataset.state === 'done'")
        page.get_by_role("button", name="see what came of it").click()
        until(page, "curateState.found?.read.documents === 25")
        page.get_by_role("button", name="Read what duplicates.exact removed").click()
        every = "[...document.querySelectorAll('#removed-rows li')]"
        until(page, f"{every}.length && {every}.every(row => row.textContent.includes('duplicates.exact: of '))")
        assert {each.inner_text() for each in page.locator("#removed-rows pre").all()} <= set(long)
        assert not axe(page)
        page.screenshot(path=artefacts() / "curate-laptop.png", full_page=True)
        width, height = SIZES["phone"]
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.assert_clean()
        visit.context.close()


def test_text_becomes_tokens_with_a_tokenizer_of_its_own(browser, tmp_path):
    write_lines(tmp_path / "tales.jsonl", [{"text": tale} for tale in TALES])
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/data")
        page.get_by_role("row", name="tales.jsonl").get_by_role("link", name="tokenize").click()
        page.locator("[name=out]").fill("tales")
        page.get_by_text("More settings").click()
        page.locator("[name=vocab_size]").fill("300")
        until(page, "tokenizeState.plan?.commands.length === 2")
        page.get_by_role("button", name="Start").click()
        until(page, "document.querySelectorAll('#jobs .state[data-state=done]').length === 2")
        page.screenshot(path=artefacts() / "tokenize-laptop.png", full_page=True)
        page.locator("#jobs").get_by_role("link", name="inspect").click()
        until(page, "document.querySelectorAll('#rows .token').length > 10")
        assert page.locator("#rows li").first.inner_text().count("Once there was a") == 1
        page.goto("about:blank")
        visit.go("/data")
        until(page, "dataState.library?.found.some(each => each.kind === 'token shards' && each.documents > 100)")
        assert page.get_by_role("row", name="tales", exact=False).filter(has_text="documents held out").count() == 1
        visit.assert_clean()
        visit.context.close()
