"""Nothing is answered to who does not know the token, comes under a foreign name, or from a foreign page."""

import re

import pytest
from starlette.routing import Match
from starlette.websockets import WebSocketDisconnect

from dashboard.made_runs import TOKEN, client_of, make_run
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.access import POLICY
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.tokens import cookie_name, kept_token

RUN = "/api/runs/0/20260401-nano"
GETS = [
    "/",
    "/runs",
    "/train",
    "/chat",
    "/serve",
    "/api/serve",
    "/api/serve/0/000001",
    "/system",
    "/api/system",
    "/api/system/brief",
    "/api/chat/models",
    "/evaluate",
    "/api/evaluations",
    "/api/home",
    "/api/compare?run=0/x",
    "/runs/0/20260401-nano",
    "/runs/0/20260401-nano/report",
    "/api/runs",
    "/api/jobs",
    "/api/files",
    "/data",
    "/data/inspect",
    "/data/mix",
    "/data/tokenize",
    "/data/curate",
    "/api/data/curation?path=x",
    "/api/data/removed?path=x",
    "/api/data/library",
    "/api/data/documents?path=x",
    "/models",
    "/api/models",
    "/api/models/one?model=20260401-nano",
    "/api/models/outcome/0/000001",
    "/api/jobs/0/000001",
    "/jobs/0/000001",
    "/assets/x/page.css",
    "/nothing/here",
]
GETS += [f"{RUN}/{what}" for what in ("series", "live?after=0.0.0", "samples", "events", "checkpoints", "log")]
POSTS = [f"{RUN}/{what}" for what in ("stop", "resume", "notes")]
POSTS += [f"/api/chat/{what}" for what in ("serve", "end", "look", "answer")]
POSTS += [
    "/api/upload",
    "/api/data/count",
    "/api/data/tokenize/plan",
    "/api/data/tokenize/start",
    "/api/data/curate/plan",
    "/api/data/curate/start",
    "/api/data/mix",
    "/api/data/mix/write",
    "/api/data/download",
]
GETS += [f"/api/evaluations/{what}?at=0/x/results.json" for what in ("one", "differences", "answers")]
POSTS += ["/api/models/plan", "/api/models/start"]
POSTS += ["/api/train/plan", "/api/train/start"]
POSTS += ["/api/evaluate/plan", "/api/evaluate/start", "/api/evaluate/resume", "/api/quick"]
POSTS += ["/api/serve/plan", "/api/serve/start", "/api/serve/elsewhere", "/api/serve/0/000001/key"]
POSTS += ["/api/system/doctor"]
POSTS += [f"/api/keys/{what}" for what in ("list", "add", "remove")]
GETS += ["/rate", "/api/rate/sets", "/api/rate/0/talk?rater=me", "/api/rate/0/talk/export?format=dpo"]
GETS += ["/tune", "/api/tune/known"]
POSTS += [f"/api/tune/{what}" for what in ("plan", "look", "start")]
POSTS += [f"/api/rate/{what}" for what in ("plan", "begin", "0/talk/choose", "0/talk/undo", "0/talk/add")]
POSTS += [f"/api/jobs/0/000001/{what}" for what in ("cancel", "end")]


@pytest.fixture
def home(tmp_path):
    make_run(tmp_path)
    return tmp_path


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{cookie_name(TOKEN)}=wrong"}])
def test_every_route_is_401_without_the_right_token(home, headers):
    client = client_of(home, signed_in=False)
    assert {client.get(path, headers=headers).status_code for path in GETS} == {401}
    own = {"Origin": "http://localhost:8888"} | headers
    assert {client.post(path, json={}, headers=own).status_code for path in POSTS} == {401}


def test_every_route_of_the_application_is_among_those_asked_here(home):
    asked = [("GET", path.partition("?")[0]) for path in GETS] + [("POST", path) for path in POSTS]
    for route in client_of(home).app.app.routes:
        scopes = [{"type": "http", "path": path, "method": method} for method, path in asked]
        assert any(route.matches(scope)[0] is Match.FULL for scope in scopes), route.path


def test_a_wrong_token_in_the_address_is_401_and_says_so(home):
    answer = client_of(home, signed_in=False).get("/?token=wrong", headers={"Accept": "text/html"})
    assert answer.status_code == 401
    assert "not the token" in answer.text
    assert "set-cookie" not in answer.headers


def test_the_address_with_the_token_becomes_a_cookie_that_scripts_cannot_read(home):
    client = client_of(home, signed_in=False)
    answer = client.get(f"/runs?token={TOKEN}&x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?x=1")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and TOKEN not in cookie
    assert client.get("/runs").status_code == 200


def test_the_redirection_never_leads_elsewhere(home):
    answer = client_of(home, signed_in=False).get(f"http://localhost:8888//evil.example/%5cx?token={TOKEN}")
    assert answer.headers["location"].startswith("/evil.example/")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.nip.io:8888", "[::1].evil"])
def test_a_foreign_host_name_is_refused_whatever_the_token(home, host):
    answer = client_of(home).get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "--allowed-host" in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8888", "[::1]:8888", "hub.example.org"])
def test_our_own_names_are_answered(home, host):
    assert client_of(home, allowed_hosts=("hub.example.org",)).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:3000"},  # another program of this machine: the cookie would be sent
        {"Origin": "null"},
        {"Origin": "http://[bad"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_what_a_foreign_page_sends_is_refused(home, headers):
    client = client_of(home)
    assert {client.get(path, headers=headers).status_code for path in GETS} == {403}
    assert {client.post(path, json={}, headers=headers).status_code for path in POSTS} == {403}


def test_another_port_of_an_allowed_proxy_is_refused(home):
    client = client_of(home, allowed_hosts=("hub.example.org",))
    other = {"Origin": "https://hub.example.org:9000", "Sec-Fetch-Site": "same-site"}
    own = {"Origin": "https://hub.example.org", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/runs", headers=other).status_code == 403
    assert client.get("/api/runs", headers=own).status_code == 200


def test_a_link_from_elsewhere_may_open_a_page_and_change_nothing(home):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    client = client_of(home)
    assert client.get("/runs", headers=link).status_code == 200
    assert client.post(f"{RUN}/stop", json={}, headers=link | {"Origin": "http://evil.example"}).status_code == 403


def test_who_changes_something_with_a_cookie_must_say_from_where(home):
    client = client_of(home, signed_in=False)
    client.get(f"/?token={TOKEN}")
    assert client.post(f"{RUN}/stop", json={}).status_code == 403
    assert client.post(f"{RUN}/stop", json={}, headers={"Origin": "http://localhost:8888"}).status_code == 200


def test_a_form_of_another_kind_than_json_is_refused(home):
    own = {"Origin": "http://localhost:8888", "Content-Type": "text/plain"}
    assert client_of(home).post(f"{RUN}/stop", content="{}", headers=own).status_code == 400


def test_websockets_are_refused(home):
    client = client_of(home)
    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/api/runs"):
        pass
    assert closed.value.code == 1008


def test_an_oversized_body_is_refused(home):
    own = {"Origin": "http://localhost:8888", "Content-Type": "application/json"}
    assert client_of(home).post(f"{RUN}/stop", content=b" " * (5 * 2**20), headers=own).status_code == 413
    pieces = (b" " * 2**20 for _ in range(6))  # says no length
    assert client_of(home).post(f"{RUN}/stop", content=pieces, headers=own).status_code == 413


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/runs", f"{RUN}/log"])
def test_every_answer_has_the_policy_without_exceptions(home, path):
    headers = client_of(home).get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_pages_hold_no_inline_script_style_or_foreign_address(home):
    client = client_of(home)
    for path in ("/", "/runs", "/runs/0/20260401-nano"):
        text = client.get(path).text
        assert "<style" not in text and " style=" not in text
        assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
        assert "<script>" not in text and not re.search(r"\son\w+=", text)


@pytest.mark.parametrize("prefix", ["", "/user/ada/proxy/8888"])
def test_behind_a_proxy_it_works_whether_the_proxy_strips_its_path_or_not(home, prefix):
    root = "/user/ada/proxy/8888"
    client = client_of(home, signed_in=False, root_path=root)
    answer = client.get(f"{prefix}/runs?token={TOKEN}")
    assert answer.headers["location"] == f"{root}/runs"
    assert f"path={root}" in answer.headers["set-cookie"].lower()
    page = client_of(home, root_path=root).get(f"{prefix}/runs").text
    assert f'href="{root}/runs"' in page
    assert 'href="/runs' not in page


def test_the_token_is_kept_for_its_owner_only_and_comes_again(tmp_path):
    token = kept_token(tmp_path)
    file = tmp_path / ".dashboard" / "token"
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept_token(tmp_path) == token
    assert kept_token(tmp_path, is_new=True) != token
    file.chmod(0o644)
    exposed = file.read_text().strip()
    assert kept_token(tmp_path) != exposed, "somebody else could have read it"


@pytest.mark.parametrize("settings", [{"token": "short"}, {"token": "with space in between"}, {"root_path": "x"}])
def test_settings_that_cannot_work_are_refused(tmp_path, settings):
    with pytest.raises(ConfigError):
        DashboardConfig(**{"homes": (tmp_path,), "token": TOKEN, **settings})
