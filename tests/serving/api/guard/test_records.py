"""Promises of request ids and the log."""

import asyncio
import json
import logging
import queue
import threading

import pytest

from mamba_slm.serving.api.guard.keys import add_key
from mamba_slm.serving.api.guard.log_writer import MOST_LINES, LogWriter
from mamba_slm.serving.api.guard.records import send_library_logs
from serving.api.guard.servers import Small


def post(small, path="/v1/echo", **more):
    async def asked():
        async with small.http() as http:
            return await http.post(path, **more)

    return asyncio.run(asked())


def test_an_id_comes_back_and_one_is_made_where_none_or_a_bad_one_came():
    small = Small(log="json")
    given = post(small, headers={"X-Request-Id": "abc-1.2"})
    assert given.headers["X-Request-Id"] == "abc-1.2" == given.json()["id"] == json.loads(small.lines[-1])["id"]
    for bad in ("", "x" * 129, 'a"b', "a b", "ä"):
        answer = post(small, headers=[(b"x-request-id", bad.encode())])
        assert answer.headers["X-Request-Id"].startswith("req-")
    assert post(small, headers={"Host": "evil.example"}).headers["X-Request-Id"]


def test_a_line_says_who_asked_for_what_and_holds_no_prompt_query_or_key(tmp_path):
    key = add_key(tmp_path / "keys.json", "alice")
    small = Small(log="json", api_keys=tmp_path / "keys.json")
    secret = "a secret prompt"
    post(small, f"/v1/echo?{secret}", content=secret, headers={"Authorization": f"Bearer {key}"})
    said = json.loads(small.lines[-1])
    assert (said["event"], said["status"], said["path"], said["key"]) == ("request", 200, "/v1/echo", "alice")
    assert (said["prompt_tokens"], said["new_tokens"]) == (len(secret), 1)
    assert "secret" not in small.lines[-1] and key[20:] not in small.lines[-1]


def test_prompts_are_logged_only_on_demand():
    small = Small(log="json", log_prompts=True)
    post(small, content="a prompt")
    assert json.loads(small.lines[-1])["body"] == "a prompt"


def test_a_line_of_text_is_one_line_whatever_the_path():
    small = Small(log="text")
    post(small, "/v1/a%0Ab%1b[31m")
    assert len(small.lines) == 1 and small.lines[0].isprintable() and " 404 POST /v1/a\\x0ab" in small.lines[0]


def test_health_is_not_logged_and_nothing_is_with_none():
    small = Small(log="json")

    async def asked():
        async with small.http() as http:
            await http.get("/health")

    asyncio.run(asked())
    silent = Small(log="none")
    post(silent)
    assert small.lines == [] == silent.lines


@pytest.mark.parametrize("form", ["none", "text", "json"])
def test_what_nobody_expected_is_a_well_formed_error_and_its_place_is_in_the_log(form):
    small = Small(log=form)
    answer = post(small, "/v1/broken")
    assert answer.status_code == 500 and answer.headers["X-Request-Id"] in answer.json()["error"]["message"]
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in small.lines[0] and answer.headers["X-Request-Id"] in small.lines[0]


def test_a_log_that_cannot_be_written_holds_up_nobody():
    written, go_on = [], threading.Event()
    began = threading.Event()

    def slow(line):
        began.set()
        go_on.wait()
        written.append(line)

    log = LogWriter(slow)
    log("first")
    began.wait()
    for number in range(MOST_LINES + 5):
        log(str(number))
    go_on.set()
    log.close(seconds=60)
    assert written[0] == "first" and len(written) == MOST_LINES + 2
    assert "5 lines were dropped" in written[1]


def test_warnings_of_libraries_are_lines_of_the_log():
    lines = queue.SimpleQueue()
    before = [
        (logger, logger.handlers, logger.propagate) for logger in map(logging.getLogger, ("uvicorn.error", "asyncio"))
    ]
    try:
        send_library_logs(lines.put, form="json")
        logging.getLogger("uvicorn.error").warning("something %s", "odd")
        assert json.loads(lines.get())["message"] == "something odd"
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


def test_a_disk_that_is_full_for_a_while_loses_lines_and_not_the_log():
    written, is_full = [], True

    def write(line):
        if is_full:
            raise OSError(28, "No space left on device")
        written.append(line)

    log = LogWriter(write)
    log("lost")
    while not log._dropped:
        pass
    is_full = False
    log("kept")
    log.close(seconds=60)
    assert written == ["kept", "1 lines were dropped here: they could not be written, or not fast enough"]
