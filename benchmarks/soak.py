"""A server under mixed load for a long time: does its memory stay flat, and is every answer right?

python benchmarks/soak.py MODEL --minutes 30 --out benchmarks/results/soak.json
python benchmarks/soak.py MODEL --minutes 1 --clients 4       a quick look

Clients send every kind of request one after the other: streamed and whole, aborted, several answers, stop strings, JSON
schemas, function calls, conversations, beginnings that others have, requests that make no sense. Resident memory, open
files and threads of the server are read every few seconds. Exit code 6 where an answer was wrong, the server died, or
memory left the band behind the warm-up, in which caches fill.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _soak_requests import Client, UnexpectedError

from mamba_slm.cli.bench_settings import about_this_run
from mamba_slm.cli.console import table
from mamba_slm.core.files import write_json_atomic, write_text_atomic
from mamba_slm.evaluation.load.connection import Address, BrokenAnswerError, Connections
from mamba_slm.evaluation.load.own_server import OwnServer, own_server
from mamba_slm.evaluation.long_context.picture import picture
from mamba_slm.model.checkpoint import resolve_model_folder
from mamba_slm.text.chat import CHATML_TEMPLATE

BAND = 0.03
"""Of resident memory around its median, behind the warm-up."""
DEFAULT_FLAGS = "--max-running 16 --prefix-cache-bytes 128Mi --kv-tokens 32k"
KEPT_PROBLEMS = 20
MORE_FILES = 4
"""Than at the start, which may stay open."""


def with_template(model: str, folder: Path) -> Path:
    """The model folder; with a chat template, a copy, where it has none."""
    found = resolve_model_folder(Path(model))
    if (found / "chat_template.jinja").is_file():
        return found
    copied = folder / "model"
    copied.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(found / name, copied / name)
    (copied / "chat_template.jinja").write_text(CHATML_TEMPLATE, encoding="utf-8")
    return copied


def reading(pid: int) -> dict[str, int]:
    """Resident bytes, threads and open files of a process. Linux."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {
        "resident_bytes": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def open_files(pid: int) -> dict[str, int]:
    """What its open files are: sockets, files by name, how many of each."""
    kinds = Counter[str]()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds[os.readlink(entry).partition(":[")[0]] += 1
    return dict(kinds)


async def soak(server: OwnServer, *, clients: int, seconds: float, every: float, seed: int) -> dict[str, Any]:
    """Let the clients ask until the time is over; what was seen meanwhile."""
    address = Address.of(server.url)
    people = [
        Client(number=number, connections=Connections(address), source=random.Random(f"{seed}/{number}"))
        for number in range(clients)
    ]
    problems, failures = Counter[str](), []
    begun = time.monotonic()

    def is_over() -> bool:
        return time.monotonic() - begun >= seconds or server.process.poll() is not None

    async def ask(client: Client) -> None:
        while not is_over():
            try:
                await client.one()
            except (UnexpectedError, BrokenAnswerError, OSError, ValueError, KeyError, TypeError) as error:
                problems[type(error).__name__] += 1
                if len(failures) < KEPT_PROBLEMS:
                    failures.append(f"{time.monotonic() - begun:.0f} s: {type(error).__name__}: {str(error)[:300]}")
        client.connections.close()

    samples: list[dict[str, Any]] = []

    async def watch() -> None:
        while not is_over():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it died; said below
                asked = sum(sum(client.counts.values()) for client in people)
                samples.append({"seconds": time.monotonic() - begun, "asked": asked, **reading(server.pid)})
                print(line_of(samples[-1]), file=sys.stderr, flush=True)
            await asyncio.sleep(every)

    before = await emptied(server, address)
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(ask(client) for client in people))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    died = server.process.poll()
    return {
        "seconds": time.monotonic() - begun,
        "exit_code": died,
        "kinds": dict(sum((Counter(client.counts) for client in people), Counter())),
        "new_tokens": sum(client.tokens for client in people),
        "same_again": sorted(sum((Counter(client.canaries) for client in people), Counter()).values(), reverse=True),
        "problems": dict(problems),
        "first_problems": failures,
        "before": before,
        "samples": samples,
        "after": None
        if died is not None
        else await emptied(server, address, most_files=before["open_files"] + MORE_FILES),
    }


async def emptied(server: OwnServer, address: Address, *, most_files: float = math.inf) -> dict[str, Any]:
    """What is left when nobody asks any more: nothing runs, and what connections held is given back.

    Args:
        most_files: waits for so few open files as long as for requests that still run, a minute.
    """
    connections, load = Connections(address), {}
    for _ in range(600):
        answer, writer = await connections.send("GET", "/health")
        load = json.loads(await answer.body())
        connections.give_back(answer, writer)
        if load["running"] == load["waiting"] == 0 and reading(server.pid)["open_files"] <= most_files:
            break
        await asyncio.sleep(0.1)
    connections.close()
    await asyncio.sleep(1)
    return {
        "running": load["running"],
        "waiting": load["waiting"],
        **reading(server.pid),
        "kinds": open_files(server.pid),
    }


def verdict(found: dict[str, Any], *, warmup_seconds: float) -> dict[str, Any]:
    """Whether memory was flat, and everything right."""
    counted = [sample for sample in found["samples"] if sample["seconds"] >= warmup_seconds]
    resident = sorted(sample["resident_bytes"] for sample in counted)
    median = resident[len(resident) // 2] if resident else 0
    largest = max((abs(each / median - 1) for each in resident), default=None)
    thirds = [counted[: len(counted) // 3], counted[-(len(counted) // 3) or None :]]
    means = [sum(sample["resident_bytes"] for sample in part) / max(1, len(part)) for part in thirds]
    after = found["after"]
    return {
        "warmup_seconds": warmup_seconds,
        "median_resident_bytes": median,
        "largest_deviation": largest,
        "last_third_over_first": means[1] / means[0] - 1 if means[0] else None,
        "open_files": min_max(counted, "open_files"),
        "threads": min_max(counted, "threads"),
        "is_flat": largest is not None and largest <= BAND,
        "is_right": not found["problems"] and found["exit_code"] is None,
        "is_given_back": after is not None and not after["running"] and not after["waiting"]
        and after["open_files"] <= found["before"]["open_files"] + MORE_FILES,
    }  # fmt: skip


def min_max(samples: list[dict[str, Any]], name: str) -> list[int]:
    """The least and the most."""
    values = [sample[name] for sample in samples]
    return [min(values, default=0), max(values, default=0)]


def memory_picture(found: dict[str, Any]) -> str:
    """Resident memory over time, as SVG."""
    points = [(sample["seconds"] / 60, float(sample["resident_bytes"])) for sample in found["samples"]]
    return picture(
        {"resident memory of the server": points},
        title=f"{found['settings']['clients']} clients, {found['samples'][-1]['asked']:,} requests",
        x_label="minutes",
        y_label="memory",
        y_unit="bytes",
        from_zero=True,
    )


def line_of(sample: dict[str, Any]) -> str:
    """A reading in a line."""
    memory = f"{sample['resident_bytes'] / 2**20:,.1f} MiB"
    held = f"{sample['open_files']} files, {sample['threads']} threads"
    return f"{sample['seconds'] / 60:5.1f} min: {memory}, {held}, {sample['asked']:,} requests"


def main(argv: list[str] | None = None) -> int:
    """Soak, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run, checkpoint or model folder")
    parser.add_argument("--minutes", type=float, default=30.0, help="default 30")
    parser.add_argument("--warmup-minutes", type=float, help="default a sixth of the whole")
    parser.add_argument("--clients", type=int, default=32, help="default 32")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between readings, default 5")
    parser.add_argument("--serve-flags", default=DEFAULT_FLAGS, help=f"default {DEFAULT_FLAGS!r}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw resident memory over time")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = with_template(args.model, Path(place))
        with own_server(str(folder), [*args.serve_flags.split(), "--name", "soaked"]) as server:
            print(*server.said, sep="\n", file=sys.stderr)
            found = asyncio.run(
                soak(server, clients=args.clients, seconds=60 * args.minutes, every=args.every, seed=args.seed)
            )
    warmup = 60 * (args.minutes / 6 if args.warmup_minutes is None else args.warmup_minutes)
    settings = {"minutes": args.minutes, "clients": args.clients, "serve_flags": args.serve_flags, "seed": args.seed}
    results = {**about_this_run(), "settings": settings, **found, "verdict": verdict(found, warmup_seconds=warmup)}
    results["last_words"] = list(server.said)[-1:]
    results["server_exit_code"] = server.process.returncode
    if args.out is not None:
        write_json_atomic(args.out, results)
    if args.svg is not None:
        write_text_atomic(args.svg, memory_picture(results))
    print(table(["requests", "count"], [[kind, f"{n:,}"] for kind, n in found["kinds"].items()], right=["count"]))
    for name, value in results["verdict"].items():
        print(f"{name}: {value}")
    for line in [*found["first_problems"], *results["last_words"]]:
        print(line)
    judged = results["verdict"]
    return 0 if judged["is_flat"] and judged["is_right"] and judged["is_given_back"] else 6


if __name__ == "__main__":
    sys.exit(main())
