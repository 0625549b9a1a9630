"""Promises of instances behind nginx, with Prometheus beside them, all of them real; one is killed under load."""

import contextlib
import subprocess
import threading
import time
from collections import Counter

import httpx
import openai
import pytest

from serving.deploy import (
    DEPLOY,
    dashboard_queries,
    free_ports,
    nginx_folder,
    program,
    prometheus_folder,
    running,
    serve_command,
    with_variables,
)
from small_models import save_small_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # whoever ran this file alone would have five minutes
PATIENCE_SECONDS = 300
STREAMS, WHOLE = 12, 24
STREAM_TOKENS, WHOLE_TOKENS = 1000, 120
PROMPTS = ("def first(values):\n", "import os\n", "class Naïve:\n    ")
VLLM_QUERIES = (
    'histogram_quantile(0.99, sum by(le) (rate(vllm:e2e_request_latency_seconds_bucket{model_name="small"}[20s])))',
    'rate(vllm:prompt_tokens_total{model_name="small"}[20s])',
    'vllm:kv_cache_usage_perc{model_name="small"}',
    'sum by(finished_reason) (increase(vllm:request_success_total{model_name="small"}[20s]))',
    'sum(rate(vllm:time_to_first_token_seconds_bucket{job=~"mamba-slm", le="1.0"}[20s]))',
    "max by (model_name, instance) ((time() - process_start_time_seconds) * on (job, instance) group_left (model_name)"
    " group by (job, instance, model_name) (vllm:num_requests_running))",
)
"""Of each form that vLLM's dashboards use, with their variables set."""


def until(found, *, seconds=PATIENCE_SECONDS):
    """What a function returns as soon as it returns something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError(f"{found.__name__} did not happen in {seconds} seconds")


class Instances:
    """Three servers, nginx and Prometheus."""

    def __init__(self, folder, ports, nginx_port, prometheus_port, processes):
        self.folder, self.ports, self.processes = folder, ports, processes
        self.url = f"http://127.0.0.1:{nginx_port}"
        self.prometheus = f"http://127.0.0.1:{prometheus_port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=600)
        self.http = httpx.Client(timeout=PATIENCE_SECONDS)

    def health(self, number):
        try:
            return self.http.get(f"http://127.0.0.1:{self.ports[number]}/health").json()
        except httpx.TransportError:
            return None

    def ask_prometheus(self, query):
        return (
            self.http.get(f"{self.prometheus}/api/v1/query", params={"query": query})
            .raise_for_status()
            .json()["data"]["result"]
        )

    def finished(self):
        """Requests that each instance has finished."""
        counts = []
        for port in self.ports:
            lines = self.http.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
            counts.append(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success")))
        return counts


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """Of all tests here, which kill ever more of them."""
    tmp_path = tmp_path_factory.mktemp("instances")
    nginx, prometheus = program("nginx"), program("prometheus")
    model = save_small_model(tmp_path / "model", max_context_tokens=4096)
    flags = ["--runtime", "torch", "--max-running", "8", "--drain-seconds", "600"]
    with contextlib.ExitStack() as opened:
        *ports, nginx_port, prometheus_port = opened.enter_context(free_ports(5))
        conf = nginx_folder(tmp_path, port=nginx_port, instances=ports)
        watch = prometheus_folder(tmp_path, instances=ports)
        logs = [tmp_path / f"serve-{port}.log" for port in ports]
        processes = []
        opened.enter_context(running([nginx, "-p", str(tmp_path), "-c", str(conf)], log=tmp_path / "nginx.log"))
        listen = f"--web.listen-address=127.0.0.1:{prometheus_port}"
        watching = [prometheus, f"--config.file={watch}", f"--storage.tsdb.path={tmp_path}/tsdb", listen]
        opened.enter_context(running(watching, log=tmp_path / "prometheus.log"))
        found = Instances(tmp_path, ports, nginx_port, prometheus_port, processes)
        opened.callback(found.http.close)

        def all_are_ready():
            ended = [log.read_text() for log, one in zip(logs, processes, strict=False) if one.poll() is not None]
            assert not ended, ended[0]
            return all(found.health(number) for number in range(len(processes)))

        for port, log in zip(ports, logs, strict=True):  # the first compiles what the others then find
            processes.append(opened.enter_context(running(serve_command(model, port, *flags), log=log)))
            if len(processes) != 2:
                until(all_are_ready, seconds=600)
        yield found


class Asker(threading.Thread):
    """One client that does not try again."""

    def __init__(self, client, number, *, stream):
        super().__init__(daemon=True)
        self.client, self.number, self.stream = client, number, stream
        self.begun, self.outcome, self.error, self.tokens = threading.Event(), None, None, 0
        self.start()

    def run(self):
        tokens = STREAM_TOKENS if self.stream else WHOLE_TOKENS
        try:
            answer = self.client.completions.create(
                model="small", prompt=PROMPTS[self.number % 3] + "x" * self.number, max_tokens=tokens, temperature=0,
                stream=self.stream, extra_body={"ignore_eos": True},
            )  # fmt: skip
            if not self.stream:
                self.tokens, self.outcome = answer.usage.completion_tokens, answer.choices[0].finish_reason
                return
            for chunk in answer:
                self.begun.set()
                self.outcome = chunk.choices[0].finish_reason
        except Exception as error:
            self.error = error


def test_conversations_stay_with_one_instance_and_what_is_not_public_is_refused(instances):
    for session in ("ada", "grace"):
        before = instances.finished()
        cached = []
        for turn in range(4):
            answer = instances.client.completions.create(
                model="small", prompt=f"{session} says: " + "tell me more, please. " * (turn + 4), max_tokens=3,
                extra_headers={"X-Session-Id": session},
            )  # fmt: skip
            cached.append(answer.usage.prompt_tokens_details.cached_tokens)
        assert all(cached[1:]), cached
        after = instances.finished()
        assert sorted(now - then for now, then in zip(after, before, strict=True)) == [0, 0, 4]

    with httpx.Client(base_url=instances.url, timeout=PATIENCE_SECONDS) as http:
        for path in ("/metrics", "/v1/load_lora_adapter"):
            refused = http.get(path)
            assert refused.status_code == 403 and refused.json()["error"]["message"]
        assert http.get("/v1/models", headers={"X-Request-Id": "mine-1"}).headers.get_list("X-Request-Id") == ["mine-1"]
        made = http.get("/v1/models", headers={"X-Request-Id": "no good\tone"}).headers.get_list("X-Request-Id")
        assert len(made) == 1 and len(made[0]) == 32
        large = http.post("/v1/completions", content=b"x" * (17 << 20))
        assert large.status_code == 413 and large.json()["error"]["code"] == "request_too_large"
    log = (instances.folder / "access.log").read_text()
    assert "id=mine-1" in log and "tell me more" not in log


def test_one_of_three_killed_under_load_loses_no_request_that_had_not_begun(instances):
    streams = [Asker(instances.client, number, stream=True) for number in range(STREAMS)]
    for stream in streams:
        assert stream.begun.wait(PATIENCE_SECONDS)
    whole = [Asker(instances.client, number, stream=False) for number in range(WHOLE)]

    def all_are_in():
        loads = [instances.health(number) for number in range(3)]
        return loads[0]["waiting"] > 0 and sum(load["running"] + load["waiting"] for load in loads) >= STREAMS + 6

    until(all_are_in)
    instances.processes[0].kill()
    for asker in [*streams, *whole]:
        asker.join(PATIENCE_SECONDS)
        assert not asker.is_alive()

    assert [(asker.error, asker.tokens, asker.outcome) for asker in whole] == [(None, WHOLE_TOKENS, "length")] * WHOLE
    broken = [stream for stream in streams if stream.error is not None]
    assert Counter(stream.outcome for stream in streams if stream.error is None) == {"length": STREAMS - len(broken)}
    assert 1 <= len(broken) <= STREAMS // 3 + 1  # those that had begun there, by the fewest connections
    for stream in broken:  # no stream just ends as if that were all
        assert isinstance(stream.error, openai.APIConnectionError | httpx.RemoteProtocolError), stream.error
        assert stream.outcome is None
    again = [Asker(instances.client, number, stream=False) for number in range(6)]
    for asker in again:
        asker.join(PATIENCE_SECONDS)
    assert [(asker.error, asker.outcome) for asker in again] == [(None, "length")] * 6

    down, *others = (f"127.0.0.1:{port}" for port in instances.ports)

    def the_alert_fires_for_it_alone():
        alerts = instances.http.get(f"{instances.prometheus}/api/v1/alerts").json()["data"]["alerts"]
        fired = [(one["labels"]["alertname"], one["labels"]["instance"]) for one in alerts if one["state"] == "firing"]
        return fired == [("MambaSlmDown", down)]

    def the_others_are_up():
        up = {one["metric"]["instance"]: one["value"][1] for one in instances.ask_prometheus("up")}
        return up == {down: "0"} | dict.fromkeys(others, "1")

    until(the_alert_fires_for_it_alone)
    until(the_others_are_up)
    for query in VLLM_QUERIES:  # a rate is one of two looks
        until(lambda query=query: instances.ask_prometheus(query))
    for name, query in dashboard_queries().items():  # some have nothing to show, all are understood
        instances.ask_prometheus(query)
        assert name
    rate = with_variables("sum(rate(vllm:generation_tokens_total[$__rate_interval]))")
    until(lambda: instances.ask_prometheus(rate))


def test_one_that_is_told_to_stop_finishes_what_it_has_and_loses_nothing(instances):
    askers = [Asker(instances.client, number, stream=number % 2 == 0) for number in range(12)]
    for asker in askers[::2]:
        assert asker.begun.wait(PATIENCE_SECONDS)
    instances.processes[2].terminate()
    while instances.processes[2].poll() is None:  # others come while it drains
        askers.append(Asker(instances.client, len(askers), stream=False))
        askers[-1].join(PATIENCE_SECONDS)
    for asker in askers:
        asker.join(PATIENCE_SECONDS)
    assert [(asker.error, asker.outcome) for asker in askers] == [(None, "length")] * len(askers)
    assert instances.processes[2].returncode == 0


def test_when_nobody_is_left_nginx_says_so_in_the_form_of_the_api(instances):
    for process in instances.processes:
        process.kill()
        process.wait()
    nobody = instances.http.get(f"{instances.url}/v1/models")
    assert (
        nobody.status_code == 503 and nobody.headers["Retry-After"] and nobody.json()["error"]["code"] == "unavailable"
    )


def test_the_programs_accept_their_configurations(tmp_path):
    folder = DEPLOY / "prometheus"
    with free_ports(1) as (port,):  # which `nginx -t` opens, too
        conf = nginx_folder(tmp_path, port=port, instances=(1, 2, 3))
        for command in (
            [program("nginx"), "-t", "-p", str(tmp_path), "-c", str(conf)],
            [program("promtool"), "check", "config", str(folder / "prometheus.yml")],
            [program("promtool"), "test", "rules", str(folder / "alerts_test.yml")],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
            assert done.returncode == 0, done.stdout + done.stderr
