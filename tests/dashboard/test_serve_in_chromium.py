"""A real server of a real model, from the page: started, asked, watched, stopped."""

import json
import shutil
import subprocess

import pytest

from dashboard.browser import Visit, dashboard, until

pytestmark = pytest.mark.slow


@pytest.fixture
def own_home(home, tmp_path):
    """A home with a run, in a folder whose name has a space."""
    shutil.copytree(home / "20260401-nano", tmp_path / "my runs" / "20260401-nano")
    return tmp_path / "my runs"


def test_a_server_with_keys_is_started_asked_watched_and_stopped(browser, own_home):
    with dashboard(own_home) as (_, address):
        visit = Visit(browser, address)
        page = visit.go(f"/serve#model={own_home / '20260401-nano'}")
        page.get_by_label("Name", exact=True).fill("ada")
        page.get_by_role("button", name="Add a key").click()
        page.locator("#new-key code", has_text="sk-mamba-").wait_for()
        key = page.locator("#new-key code").inner_text()
        page.locator("#key-rows tr", has_text="ada").wait_for()
        assert key not in page.locator("#key-rows").inner_text()

        page.get_by_text("More settings").click()
        page.locator("[name=host]").fill("0.0.0.0")
        page.get_by_text("nobody would need a key").wait_for()
        assert page.locator("#start").is_disabled()
        page.locator("[name=host]").fill("")
        page.locator("[name=api_keys]").fill("api-keys.json")
        page.locator("[name=port]").fill("0")
        page.locator("[name=max_running]").fill("4")
        until(page, "!document.querySelector('#start').disabled && serveState.plan.command.includes('--max-running 4')")
        page.get_by_role("button", name="Start", exact=True).click()
        until(page, "serveState.live.found?.server.state === 'ready'")
        page.get_by_role("button", name="Make a key for this page").click()
        until(page, "(window.seenGauges = serveState.live.found.gauges) !== null")
        gauges = page.evaluate("seenGauges")
        assert [name for name, value in gauges.items() if value is None] == ["disk_cache_bytes"]

        command = page.locator("#curl code").inner_text()
        for _ in range(3):
            done = subprocess.run(
                ["sh", "-c", command], env={"KEY": key, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
            )
            assert json.loads(done.stdout)["usage"]["completion_tokens"] > 0, done.stdout
        until(page, "serveState.live.found.start?.ended === 3 && serveState.live.found.requests.length === 3")
        until(
            page, "serveState.live.found.minute?.ended > 0"
        )  # of the last minute, which may be less on a slow machine
        assert page.locator("#figure-running").inner_text().endswith("of 4")
        assert page.locator("#figure-first_token").inner_text().startswith("≈")
        assert "ada" in page.locator("#requests tr").first.inner_text()
        assert key not in page.content().replace(page.locator("#new-key code").inner_text(), "", 1)

        page.reload()  # the address holds which server, the dashboard its last minutes
        until(page, "serveState.live.points.length > 2 && document.querySelector('#chart-load').chart.drawn")
        assert "server=0" in page.url and key not in page.content()

        served = page.evaluate("serveState.live.found.server.address")
        page.locator("#key-form [name=name]").fill("prometheus")
        page.locator("#key-form [name=role]").select_option("metrics")
        page.get_by_role("button", name="Add a key").click()
        page.locator("#key-rows tr", has_text="prometheus").wait_for()
        page.get_by_text("A server at another address").click()
        page.get_by_label("Address", exact=True).fill(served)
        page.get_by_label("Key", exact=True).fill(page.locator("#new-key code").inner_text())
        page.get_by_role("button", name="Watch it").click()
        until(page, "serveState.live.found?.server.at && serveState.live.found.gauges?.slots === 4")
        assert "sk-mamba" not in page.url and "at=http" in page.url

        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_text("does not answer").wait_for()
        page.get_by_role("button", name="Forget").click()
        page.get_by_text("No server runs").wait_for()
        assert page.locator("#cards code").inner_text() == f"mamba-slm serve '{own_home / '20260401-nano'}'"
        page.get_by_role("button", name="Remove the key of ada").click()
        page.locator("#key-rows tr", has_text="ada").wait_for(state="detached")

        page.goto("about:blank")
        visit.go("/serve#at=http://127.0.0.1:9")
        until(page, "serveState.servers && serveState.plan")
        assert page.get_by_label("Address", exact=True).input_value() == "http://127.0.0.1:9"
        assert page.evaluate("serveState.live.elsewhere.size") == 0, "a link lets nobody be asked"
        visit.assert_clean()
        visit.context.close()
