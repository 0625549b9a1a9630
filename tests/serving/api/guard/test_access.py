"""Promises of hosts, keys and limits, asked without sockets."""

import asyncio

import pytest

from mamba_slm.serving.api.guard.keys import add_key, remove_key
from serving.api.guard.servers import Small


def ask(small, method, path, *, client=("127.0.0.1", 5), **more):
    async def asked():
        async with small.http(client) as http:
            return await http.request(method, path, **more)

    return asyncio.run(asked())


def post(small, path="/v1/echo", *, key=None, headers=(), **more):
    headers = dict(headers) | ({"Authorization": f"Bearer {key}"} if key else {})
    return ask(small, "POST", path, headers=headers, **more)


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys.json"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b", "[::1"]
)
def test_another_host_is_refused_with_what_would_allow_it(host):
    answer = post(Small(), headers={"Host": host})
    assert answer.status_code == 403 and "--allowed-hosts" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8000", "10.1.2.3", "ai.lab", "x.y.z"]
)
def test_loopback_addresses_and_allowed_names_are_answered(host):
    assert post(Small(allowed_hosts=("ai.lab", "*.y.z")), headers={"Host": host}).status_code == 200


def test_two_hosts_are_one_too_many():
    headers = [("Host", "localhost"), ("Host", "localhost")]
    answer = ask(Small(), "POST", "/v1/echo", headers=headers)
    assert answer.status_code == 400


def test_without_a_key_nothing_but_health_is_answered(keys):
    add_key(keys, "alice")
    small = Small(api_keys=keys)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}, {"X-API-Key": "wrong"}):
        answer = post(small, headers=headers)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "wrong" not in answer.text
    assert ask(small, "GET", "/docs").status_code == 401 and ask(small, "GET", "/metrics").status_code == 401
    assert ask(small, "GET", "/health").status_code == 200


def test_a_key_lets_in_and_names_its_tenant(keys):
    key = add_key(keys, "alice")
    small = Small(api_keys=keys)
    assert post(small, key=key).json()["tenant"] == "alice"
    assert post(small, headers={"X-API-Key": key}).json()["tenant"] == "alice"
    remove_key(keys, "alice")
    assert post(small, key=key).status_code == 401
    assert post(Small()).json()["tenant"] == "nobody"


def test_roles_open_what_they_are_for(keys):
    user, admin, metrics = (add_key(keys, role, role=role) for role in ("user", "admin", "metrics"))
    small = Small(api_keys=keys)
    assert [post(small, "/v1/admin", key=key).status_code for key in (user, admin, metrics)] == [403, 200, 403]
    read = [
        ask(small, "GET", "/metrics", headers={"Authorization": f"Bearer {key}"}).status_code
        for key in (user, admin, metrics)
    ]
    assert read == [403, 200, 200]
    assert post(small, key=metrics).status_code == 403


def test_without_keys_only_this_machine_is_admin():
    assert post(Small(), "/v1/admin").status_code == 200
    assert post(Small(), "/v1/admin", client=("::1", 5)).status_code == 200
    assert post(Small(), "/v1/admin", client=("10.0.0.7", 5)).status_code == 403


def test_requests_beyond_the_limit_of_a_key_are_told_when_to_come_back(keys):
    alice, bob = add_key(keys, "alice", requests_per_minute=2), add_key(keys, "bob")
    small = Small(api_keys=keys, requests_per_minute=50)
    first, second, third = (post(small, key=alice) for _ in range(3))
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert 1 <= int(third.headers["Retry-After"]) <= 30
    assert third.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert post(small, key=bob).headers["x-ratelimit-limit-requests"] == "50"


def test_tokens_are_counted_as_they_are_used(keys):
    key = add_key(keys, "alice", tokens_per_minute=100)
    small = Small(api_keys=keys)
    assert post(small, key=key, content=b"x" * 999).status_code == 200  # nobody knew before how much it would be
    refused = post(small, key=key, content=b"x")
    assert refused.status_code == 429 and refused.json()["error"]["type"] == "tokens"
    assert 240 <= int(refused.headers["Retry-After"]) <= 541  # 900 are owed, and one must be there; time has passed


def test_without_keys_each_address_has_its_limit():
    small = Small(requests_per_minute=1)
    assert post(small).status_code == 200 and post(small).status_code == 429
    assert post(small, client=("10.0.0.7", 5)).status_code == 200


def test_pages_of_other_origins_may_not_ask_unless_they_were_allowed():
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    refused = ask(Small(), "OPTIONS", "/v1/echo", headers=headers)
    assert "access-control-allow-origin" not in refused.headers
    small = Small(cors=("https://page.example",))
    assert ask(small, "OPTIONS", "/v1/echo", headers=headers).headers["access-control-allow-origin"] == (
        "https://page.example"
    )
    other = headers | {"Origin": "https://other.example"}
    assert "access-control-allow-origin" not in ask(small, "OPTIONS", "/v1/echo", headers=other).headers
