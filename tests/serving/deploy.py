"""What `deploy/` holds, changed where a test must: ports, folders, and how long is waited."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
METRIC = re.compile(r"\b(?:vllm|mamba_slm):[a-z_0-9]+|\b(?:http|process)_[a-z_0-9]+")
MAIN = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr info;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/mamba-slm.conf;
}}
"""


def program(name: str) -> str:
    """Its path; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports of loopback that nobody listens at, and that the kernel gives to nobody else meanwhile.

    A socket that is bound and does not listen keeps a port from whoever asks for any free one, and from connections;
    not from a server that asks for this one with SO_REUSEADDR, as nginx, Prometheus and we do.
    """
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]


def nginx_folder(folder: Path, *, port: int, instances: Iterable[int]) -> Path:
    """The configuration of nginx, over these ports; its main file."""
    conf = (DEPLOY / "nginx" / "mamba-slm.conf").read_text(encoding="utf-8")
    conf = replaced(conf, "listen 8080;", f"listen 127.0.0.1:{port};")
    conf = replaced(conf, "/var/log/nginx/mamba-slm.log", f"{folder}/access.log")
    (folder / "mamba-slm.conf").write_text(conf, encoding="utf-8")
    lines = (DEPLOY / "nginx" / "mamba-slm-instances.conf").read_text(encoding="utf-8").splitlines()
    servers = [line for line in lines if line.startswith("server ")]
    text = "\n".join(
        re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{instance}", line)
        for line, instance in zip(servers, instances, strict=True)
    )
    (folder / "mamba-slm-instances.conf").write_text(text + "\n", encoding="utf-8")
    main = folder / "nginx.conf"
    main.write_text(MAIN.format(folder=folder, user="user root;" if os.getuid() == 0 else ""), encoding="utf-8")
    return main


def prometheus_folder(folder: Path, *, instances: Iterable[int]) -> Path:
    """The configuration of Prometheus, over these ports, which looks often and waits no longer to warn.

    A server that does not answer until it is looked at again counts as down, which a busy machine must not make of it.
    """
    conf = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in instances)
    conf = re.sub(r"targets: \[\"127\.0\.0\.1:8001\".*\]", f"targets: [{targets}]", conf)
    conf = replaced(conf, "evaluation_interval: 15s", "evaluation_interval: 1s")
    conf = replaced(conf, "scrape_interval: 15s", "scrape_interval: 5s\n  scrape_timeout: 5s")
    (folder / "prometheus.yml").write_text(conf, encoding="utf-8")
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    (folder / "alerts.yml").write_text(replaced(alerts, "for: 30s", "for: 1s"), encoding="utf-8")
    return folder / "prometheus.yml"


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not there once"
    return text.replace(old, new)


def dashboard_queries() -> dict[str, str]:
    """Of our dashboard, by panel and legend, with all its variables set to anything."""
    dashboard = json.loads((DEPLOY / "grafana" / "mamba-slm.json").read_text(encoding="utf-8"))
    queries = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            queries[f"{panel['title']}: {target['legendFormat']}"] = with_variables(target["expr"])
    return queries


def with_variables(query: str) -> str:
    """A query as Grafana sends it."""
    values = {"$__rate_interval": "20s", "$job": "mamba-slm", "$model": ".*", "$instance": ".*"}
    for name, value in values.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


@contextlib.contextmanager
def running(command: list[str], *, log: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended at the end; what it said is in a file."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **settings)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve_command(model: Path, port: int, *flags: str) -> list[str]:
    """One instance."""
    return [
        sys.executable,
        "-m",
        "mamba_slm.cli.main",
        "serve",
        str(model),
        "--port",
        str(port),
        "--name",
        "small",
        *flags,
    ]
