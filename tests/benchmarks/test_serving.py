"""The comparison of servers and the soak: what they make of what they measured, and that they run. Nothing is timed."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from small_models import save_small_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def run(script, *arguments, code=0):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_made_up_vocabulary_has_as_many_tokens_as_the_model_and_each_has_a_text(scripts):
    from _serving_model import made_up_tokenizer

    tokenizer = made_up_tokenizer(700, seed=3)
    assert tokenizer.vocab_size == 700
    assert all(tokenizer.decode([token], skip_special=False) for token in range(700))
    assert made_up_tokenizer(700, seed=3).encode("bara") == tokenizer.encode("bara")


def level(server, number, tokens):
    spread = {"p50": 1.0, "p95": 2.0}
    figures = {"total_tokens_per_second": tokens, "new_tokens_per_second": 1.0, "prompt_tokens": 5, "new_tokens": 5}
    times = {"ttft": spread, "itl": spread, "e2e": spread, "server_cpu_seconds": 2.0}
    return {"round": number, "server": server, "concurrency": 16, **figures, **times}


def test_ratios_are_medians_of_those_within_a_round_so_that_a_slow_round_counts_on_both_sides(scripts):
    from _serving_tables import level_rows, reuse_rows

    speeds = [(30.0, 10.0), (2.0, 1.0), (200.0, 50.0)]
    levels = [
        level(name, number, speed)
        for number, pair in enumerate(speeds)
        for name, speed in zip(("ours", "llama.cpp"), pair, strict=True)
    ]
    reuse = [
        {"round": 0, "server": name, "prompt": prompt, "seconds": seconds, "cached_tokens": 7}
        for name, own in (("ours", (8.0, 1.0)), ("llama.cpp", (9.0, 3.0)))
        for prompt, seconds in zip(("cold", "branches"), own, strict=True)
    ]
    results = {"servers": {"ours": {}, "llama.cpp": {}}, "levels": levels, "reuse": reuse}
    assert [row[1:3] for row in level_rows(results)] == [
        ["ours", "30.0"],
        ["llama.cpp", "10.0"],
        ["ours/theirs", "3.00"],
    ]
    assert reuse_rows(results)[1] == ["branches", "7", "1,000", "8.0", "7", "3,000", "3.0", "0.33"]


def soaked(resident, *, problems=None, files=14):
    samples = [
        {"seconds": float(at), "resident_bytes": each, "open_files": 40, "threads": 5}
        for at, each in enumerate(resident)
    ]
    after = {"running": 0, "waiting": 0, "open_files": files}
    return {
        "samples": samples, "before": {"open_files": 14}, "after": after, "exit_code": None, "problems": problems or {},
    }  # fmt: skip


def test_memory_is_flat_where_it_stays_within_three_percent_behind_the_warm_up(scripts):
    from soak import verdict

    flat = verdict(soaked([10, 50, *[100] * 9, 102]), warmup_seconds=2)
    assert flat["is_flat"] and flat["is_right"] and flat["is_given_back"]
    assert flat["largest_deviation"] == pytest.approx(0.02)
    assert not verdict(soaked([100] * 9 + [104]), warmup_seconds=0)["is_flat"]
    assert not verdict(soaked([100], problems={"UnexpectedError": 1}), warmup_seconds=0)["is_right"]
    assert not verdict(soaked([100], files=30), warmup_seconds=0)["is_given_back"]
    assert not verdict(soaked([100] * 3), warmup_seconds=9)["is_flat"]


def test_every_kind_of_request_is_drawn(scripts):
    from _soak_requests import KINDS

    weights = [weight for weight, _ in KINDS.values()]
    assert set(random.Random(0).choices(list(KINDS), weights=weights, k=500)) == set(KINDS)


@pytest.mark.slow
def test_ours_alone_is_measured_and_written(tmp_path):
    out = tmp_path / "serving.json"
    flags = ["--model", "nano", "--threads", 1, "--rounds", 1, "--requests", 3, "--concurrency", 2]
    lengths = ["--prompt-tokens", 8, 16, "--output-tokens", 4, 8, "--reuse-tokens", 200, "--new-tokens", 10]
    printed = run("serving.py", *flags, *lengths, "--out", out, "--serve-flags=--runtime torch")
    results = json.loads(out.read_text())
    assert {"command", "versions", "hardware", "source", "servers", "requests", "levels", "reuse"} <= set(results)
    (measured,) = results["levels"]
    assert (measured["answered"], measured["errors"]) == (3, {})
    assert measured["server_cpu_seconds"] > 0
    assert "branches at 100, again" in printed
    assert {row["prompt"]: row["cached_tokens"] for row in results["reuse"]}["branches at 100, again"] > 0


@pytest.mark.slow
def test_a_server_under_mixed_load_answers_rightly_and_gives_everything_back(tmp_path):
    folder, out = save_small_model(tmp_path / "small", max_context_tokens=1024), tmp_path / "soak.json"
    flags = "--serve-flags=--max-running 3 --prefix-cache-bytes 1Mi --kv-tokens 4096 --runtime torch"
    command = [sys.executable, str(BENCHMARKS / "soak.py"), str(folder), "--minutes", "1", "--clients", "6"]
    done = subprocess.run([*command, flags, "--out", str(out)], capture_output=True, text=True, check=False)
    results = json.loads(out.read_text())
    judged = results["verdict"]
    assert judged["is_right"], results["first_problems"]
    assert judged["is_given_back"], (results["before"], results["after"])
    assert results["server_exit_code"] == 0, results["last_words"]
    assert done.returncode == (0 if judged["is_flat"] else 6)
    assert len(results["kinds"]) > 6
