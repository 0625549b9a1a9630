"""What a server's job says besides its address: its model, its file of keys, the requests in its log, how to ask it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mamba_slm.dashboard.reading.facts import log_tail
from mamba_slm.dashboard.reading.servers import PRINTED, ModelServer, log_head
from mamba_slm.runs.jobs import Job

MOST_REQUESTS = 25
SHOWN = ("time", "status", "method", "path", "seconds", "prompt_tokens", "new_tokens", "key", "id")
NO_TEMPLATE = "no chat template in the model folder"


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag in a command; the last one counts.

    >>> value_of(["mamba-slm", "serve", "m", "--port", "1", "--port=2"], "--port")
    '2'
    """
    found = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def keys_file(job: Job) -> Path | None:
    """The file of keys that a server was started with."""
    found = value_of(job.words, "--api-keys")
    return None if found is None else Path(job.folder) / found


def facts_of_server(server: ModelServer) -> dict[str, Any]:
    """For the page: what its list shows of a server, and what its log says at the beginning."""
    head = log_head(server.job.log_file)
    printed = PRINTED.search(head)
    keys = keys_file(server.job)
    return {
        **server.row(),
        "name": printed[1] if printed else value_of(server.job.words, "--name"),
        "created": server.job.created,
        "keys": None if keys is None else str(keys),
        "chats": NO_TEMPLATE not in head,
        "said": [line for line in head[: printed.start() if printed else None].splitlines() if line.strip()][:12],
    }


def requests_of(path: Path) -> list[dict[str, Any]]:
    """The last requests in a server's log, newest first; those of `--log json`, which a job's server writes."""
    found = []
    for line in reversed(log_tail(path).splitlines()):
        if not line.startswith("{"):
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and row.get("event") == "request" and row.get("path") != "/metrics":
            found.append({name: row.get(name) for name in SHOWN})
            if len(found) == MOST_REQUESTS:
                break
    return found


def snippets(facts: dict[str, Any]) -> dict[str, str]:
    """How to ask a server from elsewhere: for a terminal, and for Python with OpenAI's client."""
    base, name = f"{facts['address']}/v1".replace("//0.0.0.0:", "//localhost:"), str(facts["name"])
    message = [{"role": "user", "content": "Hello!"}]
    asked = {"messages": message} if facts["chats"] else {"prompt": "Once upon a time"}
    body = json.dumps({"model": name, **asked, "max_tokens": 64}, ensure_ascii=False)
    path = "chat/completions" if facts["chats"] else "completions"
    key = ' -H "Authorization: Bearer $KEY"' if facts["keys"] else ""
    curl = f"curl {base}/{path} -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"
    call = "chat.completions" if facts["chats"] else "completions"
    given = f"messages={json.dumps(message, ensure_ascii=False)}" if facts["chats"] else 'prompt="Once upon a time"'
    said = "message.content" if facts["chats"] else "text"
    secret = 'os.environ["KEY"]' if facts["keys"] else '"none"'
    python = [
        *(["import os"] if facts["keys"] else []),
        "from openai import OpenAI",
        "",
        f"client = OpenAI(base_url={json.dumps(base)}, api_key={secret})",
        f"answer = client.{call}.create(",
        f"    model={json.dumps(name, ensure_ascii=False)}, {given}, max_tokens=64",
        ")",
        f"print(answer.choices[0].{said})",
    ]
    return {"curl": curl, "python": "\n".join(python)}
