"""What stands behind # in an address names a set or a server, and leads no page to ask anything else."""

import pytest

from dashboard.browser import Visit, until

pytestmark = pytest.mark.slow
ODD = ("..\\jobs\\0\\000001\\end?/x", "../jobs/0/000001", "begin?/x", "..%2Fjobs%2F0")


def test_an_address_from_elsewhere_lets_a_page_ask_nothing_but_its_own(browser, address):
    for place, ready in (("rate#set", "rateState.sets.length > 0"), ("serve#server", "serveState.servers !== null")):
        for odd in ODD:
            visit = Visit(browser, address)
            until(visit.go(f"/{place}={odd}"), ready)
            asked = [url for url in visit.requested if "/api/" in url]
            assert asked and not [url for url in asked if "/jobs/0" in url or "begin" in url], odd
            visit.context.close()
