"""What the files of deploy/ say agrees with the program, with each other, and with what a careful operator wants."""

import os
import re
import subprocess

import pytest
import yaml

from deployed import (
    COMPOSE,
    DEPLOY,
    DOCKERFILES,
    MANIFESTS,
    REPOSITORY,
    SLURM,
    UNIT,
    commands,
    compose_services,
    containers,
    documents,
    seconds,
)
from promises.documents import parse

OURS = [(name, words) for name, words in commands() if words[0] == "serve"]


@pytest.mark.parametrize(
    ("where", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_that_is_started_parses(where, words):
    parse(words)


@pytest.mark.parametrize(("where", "words"), OURS, ids=[name for name, _ in OURS])
def test_whatever_others_can_reach_asks_for_a_key(where, words):
    assert any(word.startswith("--api-keys") for word in words)
    assert not any(word.startswith("--insecure-no-keys") for word in words)


def test_a_server_is_killed_only_after_its_own_time_to_drain_is_over():
    for service in compose_services().values():
        if str(service["image"]).startswith("mamba-slm:"):
            assert int(service["stop_grace_period"].removesuffix("s")) > seconds(service["command"], "--drain-seconds")
    for name, pod, container in containers():
        if container.get("args", [""])[0] == "serve":
            words = container["args"]
            drain = seconds(words, "--drain-delay-seconds") + seconds(words, "--drain-seconds")
            assert pod["terminationGracePeriodSeconds"] > drain > 0, name
    unit = UNIT.read_text(encoding="utf-8")
    assert int(re.search(r"^TimeoutStopSec=(\d+)", unit, re.M)[1]) > seconds(unit.split(), "--drain-seconds") > 0
    serving = (DEPLOY / "slurm" / "serve.sbatch").read_text(encoding="utf-8")
    drain = seconds(serving.split(), "--drain-delay-seconds") + seconds(serving.split(), "--drain-seconds")
    assert int(re.search(r"--signal=TERM@(\d+)", serving)[1]) > drain > 0


def test_containers_have_no_rights_to_spare_and_nothing_to_write_to_but_what_they_mount():
    for name, service in compose_services().items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    for name, pod, container in containers():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["allowPrivilegeEscalation"] is False and pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False and "memory" in container["resources"]["limits"], name
    for path in DOCKERFILES:
        assert re.findall(r"^USER (\S+)", path.read_text(encoding="utf-8"), re.M)[-1] == "10001"


def test_the_compose_file_opens_ports_to_this_machine_alone_and_gives_servers_no_way_out():
    ports = [port for service in compose_services().values() for port in service.get("ports", ())]
    assert ports and all("127.0.0.1:" in port for port in ports)
    networks = documents(COMPOSE)[0]["networks"]
    for service in compose_services().values():
        if str(service["image"]).startswith("mamba-slm:"):
            assert list(service["networks"]) == ["inside"] and networks["inside"]["internal"]


def test_nginx_and_prometheus_ask_the_servers_that_the_compose_file_starts():
    servers = {name: one for name, one in compose_services().items() if str(one["image"]).startswith("mamba-slm:")}
    addresses = {one["networks"]["inside"]["ipv4_address"] for one in servers.values()}
    instances = (COMPOSE.parent / "instances.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"^server ([\d.]+):8000 ", instances, re.M)) == addresses
    (job,) = documents(COMPOSE.parent / "prometheus.yml")[0]["scrape_configs"]
    assert {target.removesuffix(":8000") for target in job["static_configs"][0]["targets"]} == set(servers)
    for one in servers.values():
        (names,) = [word for word in one["command"] if word.startswith("--allowed-hosts=")]
        assert set(names.removeprefix("--allowed-hosts=").split(",")) == set(servers)
        nginx = compose_services()["nginx"]["networks"]["inside"]["ipv4_address"]
        assert one["environment"]["FORWARDED_ALLOW_IPS"] == nginx


def test_every_file_that_is_mounted_or_built_from_is_in_the_repository():
    for service in compose_services().values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("../"):
                assert (COMPOSE.parent / source).is_file() or (COMPOSE.parent / source).is_dir(), source
    for path in DOCKERFILES:
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", path.read_text(encoding="utf-8"), re.M):
            for name in line.split():
                assert (REPOSITORY / name).exists(), name
                assert f"!{name}" in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split(), name


def test_a_secret_is_in_no_image_and_no_history():
    ignored = (COMPOSE.parent / ".gitignore").read_text(encoding="utf-8").split()
    assert {".env", "secrets/", "state/"} <= set(ignored)
    for path in DOCKERFILES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^(ARG|ENV)\s.*(TOKEN|PASSWORD|SECRET|KEY)", text, re.M | re.I)
        assert "type=secret,id=pip" in text


def test_selectors_find_the_pods_that_they_are_meant_for():
    resources = [one for path in MANIFESTS for one in documents(path)]
    (deployment,) = [one for one in resources if one["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    found = [one for one in resources if one["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy")]
    assert len(found) == 3
    for one in found:
        selector = one["spec"].get("podSelector", one["spec"].get("selector"))
        assert selector.get("matchLabels", selector).items() <= labels.items(), one["kind"]


@pytest.mark.parametrize("path", SLURM, ids=lambda path: path.stem)
def test_the_templates_of_slurm_are_valid_bash(path):
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("task", range(5))
def test_each_task_of_the_array_takes_its_own_pair_of_model_and_benchmark(tmp_path, task):
    program = tmp_path / "mamba-slm"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", str(DEPLOY / "slurm" / "evaluate.sbatch"), str(tmp_path), "arc_easy piqa", "runs/a b", "runs/c"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if task == 4:
        assert done.returncode == 2 and "nothing to do" in done.stderr
        return
    words = done.stdout.splitlines()
    model, benchmark = ["runs/a b", "runs/c"][task // 2], ["arc_easy", "piqa"][task % 2]
    assert words[:5] == ["--offline", "eval", model, "--benchmarks", benchmark]
    assert words[words.index("--out") + 1] == f"{tmp_path}/{model.removeprefix('runs/')}/{benchmark}"


def test_the_datasource_of_the_compose_file_is_the_one_of_the_dashboard_with_another_address():
    ours = yaml.safe_load((COMPOSE.parent / "grafana-datasource.yaml").read_text(encoding="utf-8"))
    plain = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8"))
    plain["datasources"][0]["url"] = "http://prometheus:9090"
    assert ours == plain
