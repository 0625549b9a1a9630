"""The report card of a run in the browser: the one that this package makes, in a sandbox."""

import pytest

from dashboard.browser import Visit, dashboard, until
from dashboard.made_runs import EVIL, client_of, make_run
from mamba_slm.runs.report import render_html
from mamba_slm.training.report_cards import explain_settings

REPORT = "/runs/0/20260401-nano/report"


def test_the_report_is_that_of_the_command_in_a_sandbox_that_knows_two_hashes_and_nothing_else(tmp_path):
    run = make_run(tmp_path)
    answer = client_of(tmp_path).get(REPORT)
    assert answer.text == render_html(run.path, explain=explain_settings)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;") and "default-src 'none'" in policy
    assert "unsafe" not in policy and "same-origin" not in policy and "connect-src" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert not run.page_file.exists(), "looking writes nothing"


def test_a_report_that_lies_in_the_folder_is_not_shown(tmp_path):
    run = make_run(tmp_path)
    run.page_file.write_text("<h1>planted</h1>")
    assert "planted" not in client_of(tmp_path).get(REPORT).text


def test_a_run_leads_to_its_report_whatever_its_name(tmp_path):
    make_run(tmp_path, "a&b #1?")
    client = client_of(tmp_path)
    assert 'href="/runs/0/a%26b%20%231%3F/report"' in client.get("/runs/0/a%26b%20%231%3F").text
    assert client.get("/runs/0/a%26b%20%231%3F/report").status_code == 200
    assert client.get("/runs/0/none/report").status_code == 404


@pytest.mark.slow
def test_the_report_works_and_can_neither_ask_the_dashboard_nor_be_owned(browser, tmp_path):
    make_run(tmp_path, text=EVIL)
    with dashboard(tmp_path) as (_, address):
        visit = Visit(browser, address)
        page = visit.go("/runs/0/20260401-nano")
        page.get_by_role("link", name="Report card").click()
        until(page, "location.pathname.endsWith('/report') && document.readyState === 'complete'")
        assert page.locator("h1").is_visible() and "owned" not in page.title()
        assert page.evaluate("window.origin") == "null"
        assert page.evaluate("fetch('/api/runs').then(() => 'answered', () => 'refused')") == "refused"
        assert page.evaluate("(() => { try { return document.cookie } catch (error) { return error.name } })()") == (
            "SecurityError"
        )
        assert page.evaluate("document.querySelector('.scrubber').hidden") is False, "its own script runs"
        visit.context.close()
