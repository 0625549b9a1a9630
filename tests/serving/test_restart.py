"""What a server keeps when it is killed, and what it does when its files change under it; as real processes."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from mamba_slm.model.checkpoint import save_model
from serving.adapters.adapter_folders import write_adapter
from small_models import save_small_model, varied_model

PROMPT = "def combine(values, start): " * 12
CONTEXT = 2048


def ask(url, path="/v1/completions", **body):
    """Status and answer; (0, None) where the server has gone."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url + path, data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] == b"{" else text.decode()
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except (OSError, http.client.HTTPException):  # the latter where an answer broke off
        return 0, None


class Process:
    """`mamba-slm serve` in a process of its own."""

    def __init__(self, folder, *flags):
        command = [sys.executable, "-m", "mamba_slm.cli.main", "serve", str(folder), "--port", "0"]
        self.process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"serving \S+ at (http://127.0.0.1:\d+)/v1", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(self.said))
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop(signal.SIGTERM)

    def stop(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()


def greedy(url, prompt=PROMPT, **more):
    status, answer = ask(url, model="", prompt=prompt, max_tokens=6, temperature=0, logprobs=2, **more)
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"], answer["usage"]


@pytest.mark.slow
def test_after_kill_9_under_load_the_next_server_goes_on_from_the_states_on_the_disk(tmp_path):
    folder, cache = save_small_model(tmp_path / "small", max_context_tokens=CONTEXT), tmp_path / "cache"
    flags = ("--runtime", "torch", "--prefix-cache-dir", str(cache))
    first = Process(folder, *flags)
    try:
        expected = greedy(first.url)
        prompt_tokens = expected[2]["prompt_tokens"]
        while not list(cache.glob(f"*/{prompt_tokens}-*")):  # it is written behind the answer
            assert ask(first.url, "/health")[0] == 200
        stop = threading.Event()

        def load(number):
            done = 0
            while not stop.is_set() and ask(first.url, prompt=f"{number} {done} {PROMPT}", max_tokens=40)[0]:
                done += 1

        askers = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for asker in askers:
            asker.start()
        written = len(list(cache.glob("*/*.safetensors")))
        while len(list(cache.glob("*/*.safetensors"))) < written + 6:  # the disk is busy
            assert ask(first.url, "/health")[0] == 200
    finally:
        first.stop(signal.SIGKILL)
    stop.set()
    for asker in askers:
        asker.join()
    assert {path.stat().st_mode & 0o777 for path in cache.rglob("*") if path.is_file()} == {0o600}
    with Process(folder, *flags) as second:
        text, logprobs, usage = greedy(second.url)
        assert (text, logprobs) == expected[:2]
        assert usage["prompt_tokens_details"]["cached_tokens"] == prompt_tokens
        assert greedy(second.url, cache_salt="somebody else")[2]["prompt_tokens_details"]["cached_tokens"] == 0
    assert re.search(r"on the disk: \d+ states written, 1 restored", second.said[-1])
    save_model(varied_model(max_context_tokens=CONTEXT, seed=9), folder)
    with Process(folder, *flags) as other:  # states of the model before are not for this one
        text, _, usage = greedy(other.url)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0 and "0 states of this model" in "".join(other.said)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "compiled"])
def test_a_model_file_that_is_cut_short_or_replaced_changes_no_answer_and_is_refused_where_it_would_be_read(
    tmp_path, runtime
):
    folder = save_small_model(tmp_path / "small", max_context_tokens=CONTEXT)
    base = varied_model(max_context_tokens=CONTEXT)
    for seed, name in enumerate(("poems", "stories")):
        write_adapter(tmp_path / "adapters" / name, base, seed=seed)
    flags = ("--adapter-dir", str(tmp_path / "adapters"), "--preload-adapter", "poems", "--runtime", runtime)
    with Process(folder, *flags) as server:
        assert ask(server.url, "/ready")[0] == 200
        expected = greedy(server.url, cache_prompt=False)[:2]
        adapted = ask(server.url, model="poems", prompt=PROMPT, max_tokens=6, temperature=0, cache_prompt=False)[1][
            "choices"
        ]
        assert adapted[0]["text"] != expected[0]
        whole = (folder / "model.safetensors").read_bytes()
        with (folder / "model.safetensors").open("r+b") as file:
            file.truncate(1000)
        assert greedy(server.url, cache_prompt=False)[:2] == expected
        again = ask(server.url, model="poems", prompt=PROMPT, max_tokens=6, temperature=0, cache_prompt=False)[1]
        assert again["choices"] == adapted
        status, ready = ask(server.url, "/ready")
        assert status == 503 and "are not those that this server runs" in ready["reason"]
        status, refused = ask(server.url, "/v1/load_lora_adapter", lora_name="stories", load_inplace=True)
        assert status == 409 and "start the server again" in refused["error"]["message"]
        (folder / "model.safetensors").write_bytes(whole)
        assert ask(server.url, "/ready")[0] == 200
        assert ask(server.url, "/v1/load_lora_adapter", lora_name="stories")[0] == 200
        (tmp_path / "adapters" / "stories" / "adapter_model.safetensors").write_bytes(b"gone")
        assert ask(server.url, model="stories", prompt=PROMPT, max_tokens=6)[0] == 200
