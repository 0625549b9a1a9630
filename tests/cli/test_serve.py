"""`mamba-slm serve` as a process: it says where it listens, answers, and lets requests finish when told to stop."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from mamba_slm.cli.main import main
from small_models import save_small_model


def asked(url, body):
    request = urllib.request.Request(
        f"{url}/completions", json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=600)


def post(url, body):
    with asked(url, body) as answer:
        return json.load(answer)


def get(url):
    with urllib.request.urlopen(url, timeout=600) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_a_server_answers_and_on_sigterm_finishes_what_it_has_begun(tmp_path):
    folder = save_small_model(tmp_path / "small", max_context_tokens=4096)
    flags = ["--port", "0", "--runtime", "torch", "--drain-seconds", "600"]
    command = [sys.executable, "-m", "mamba_slm.cli.main", "serve", str(folder), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said, talk, url = [], process.stderr, ""
        for line in talk:
            said.append(line)
            if found := re.search(r"serving small at (http://127.0.0.1:\d+/v1)", line):
                url = found[1]
                break
        assert url, said
        reader = threading.Thread(target=lambda: said.extend(talk))
        reader.start()
        greedy = {"prompt": "def", "temperature": 0, "max_tokens": 3}
        first, again = post(url, greedy), post(url, greedy)
        assert first["choices"] == again["choices"] and first["usage"]["completion_tokens"] == 3
        health = get(f"{url.removesuffix('/v1')}/health")
        assert '"status":"ok"' in health and '"running":0' in health
        long = {"prompt": "import", "max_tokens": 400, "ignore_eos": True, "stream": True}
        with asked(url, {**long, "stream_options": {"include_usage": True}}) as answer:
            begun = answer.readline()
            process.send_signal(signal.SIGTERM)
            streamed = (begun + answer.read()).decode()
        reader.join()
        assert process.wait() == 0
    assert '"completion_tokens": 400' in streamed and streamed.endswith("data: [DONE]\n\n")
    assert re.search(r"prefix cache: 1\S* GiB, about", "".join(said)) and "stopped; prefix cache: " in said[-1]


def test_what_cannot_be_served_is_said_before_a_port_is_taken(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "nothing")]) == 5
    assert "nothing" in capsys.readouterr().err
    folder = save_small_model(tmp_path / "small", max_context_tokens=256)
    assert main(["serve", str(folder), "--kv-tokens", "8", "--runtime", "torch"]) == 2
    assert "more memory for keys and values" in capsys.readouterr().err
    assert main(["serve", str(folder), "--step-tokens", "8", "--runtime", "torch"]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(folder), "--port", port, "--runtime", "torch"]) == 3
    assert f"cannot listen at 127.0.0.1:{port}" in capsys.readouterr().err
