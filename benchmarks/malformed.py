"""What a server does with thousands of requests that nobody should send: answers, memory, descriptors.

python benchmarks/malformed.py runs/quickstart --out malformed.json          10,000 requests, seed 0
python benchmarks/malformed.py runs/quickstart --requests 500                a quick look

The server is a process of its own. Every answer must be well-formed, the same good request must have the same answer
before, during and after, and descriptors must be at the end what they were after the first tenth. Good requests come
first, which fill what fills up to a limit (see `warm_up`); then memory is read ten times, each time after some seconds
without requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _malformed import Attack, attacks, whole

from mamba_slm.runs.machine import hardware_summary
from mamba_slm.runs.record import source_commit

GOOD = whole("/v1/completions", b'{"prompt": "def f(", "max_tokens": 4, "temperature": 0, "cache_prompt": false}')
ANSWERED = {"plain", "half_close", "slowly"}
"""Ways whose senders wait for an answer."""
PATIENCE_SECONDS = 120.0
SLOW_PAUSE_SECONDS = 0.05
UNREAD_SECONDS = 2.0
IDLE_SECONDS = 12.0
"""Longer than the engine waits before it gives freed memory back."""


@dataclass
class Outcome:
    """Of one run."""

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By kind of request; `closed` where the connection was closed without an answer."""
    broken: list[str] = field(default_factory=list)
    """Answers that are not well-formed, or are missing; internal errors."""
    good: int = 0
    good_answers: set[str] = field(default_factory=set)
    """Texts of the same good request: one."""
    slowest_good_seconds: float = 0.0
    samples: list[dict[str, float]] = field(default_factory=list)


def problem_of(raw: bytes) -> str | None:
    """What is wrong with an answer; None: nothing."""
    head, gap, body = raw.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
    if not gap or status is None:
        return "no HTTP"
    if b"transfer-encoding: chunked" in head.lower():
        parts, rest = [], body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            parts.append(rest[:count])
            rest = rest[count + 2 :]
        body = b"".join(parts)
    if int(status[1]) == 500:
        return "internal error"
    if int(status[1]) < 400:
        return None
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {int(status[1])} without an error in JSON"
    message = error if isinstance(error, str) else error.get("message")
    return None if isinstance(message, str) and message else "an error without a message"


async def send(attack: Attack, port: int, outcome: Outcome, idle: list[asyncio.StreamWriter]) -> None:
    """Send one, and judge what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    raw = b""
    reading = asyncio.ensure_future(reader.read(-1)) if attack.way in ANSWERED else None
    try:
        if attack.way == "idle":
            idle.append(writer)
            outcome.statuses[attack.kind]["opened"] += 1
            return
        if attack.way == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        for number, piece in enumerate(attack.pieces):
            slow = attack.way == "slowly" and number == len(attack.pieces) - 1
            for part in [piece[at : at + 1] for at in range(len(piece))] if slow else [piece]:
                if reading is not None and reading.done():
                    break  # answered already
                writer.write(part)
                await writer.drain()
                if slow:
                    await asyncio.sleep(SLOW_PAUSE_SECONDS)
        if attack.way == "half_close":
            writer.write_eof()
        if reading is not None:
            raw = await asyncio.wait_for(reading, PATIENCE_SECONDS)
        elif attack.way == "unread":
            await asyncio.sleep(UNREAD_SECONDS)
    except (ConnectionResetError, BrokenPipeError):
        raw = b""
    except TimeoutError:
        outcome.broken.append(f"{attack.kind}: no end within {PATIENCE_SECONDS:g} s: {attack.pieces[0][:200]!r}")
    finally:
        if reading is not None:
            reading.cancel()
        if attack.way != "idle":
            writer.close()
    status = raw[9:12].decode("latin-1") or ("closed" if attack.way in ANSWERED else "left")
    outcome.statuses[attack.kind][status] += 1
    if attack.way in ANSWERED:
        problem = problem_of(raw) if raw else "closed without an answer"
        if problem is not None:
            outcome.broken.append(f"{attack.kind}: {problem}: {attack.pieces[0][:300]!r} -> {raw[:300]!r}")


async def ask_good(port: int, outcome: Outcome) -> None:
    """A request that must always be answered, and always alike."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GOOD)
    raw = await asyncio.wait_for(reader.read(-1), PATIENCE_SECONDS)
    writer.close()
    outcome.slowest_good_seconds = max(outcome.slowest_good_seconds, time.monotonic() - started)
    outcome.good += 1
    body = raw.partition(b"\r\n\r\n")[2]
    outcome.good_answers.add(json.loads(body)["choices"][0]["text"] if raw[9:12] == b"200" else raw[:300].decode())


async def warm_up(port: int, *, prompts: int, at_once: int) -> None:
    """Fill what fills up to a limit, with good requests.

    A token after prompts of 1, 2, … words one after the other (kernels of oneDNN) and many at once (room for keys and
    values); ten times as many texts of rare letters (the automata that each thread keeps of the tokenizer's patterns).
    """
    rng, free = random.Random(0), asyncio.Semaphore(at_once)

    async def ask(path: str, content: dict[str, Any]) -> None:
        async with free:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(whole(path, json.dumps(content).encode()))
            raw = await reader.read(-1)
            writer.close()
        if raw[9:12] != b"200":
            raise RuntimeError(f"a good request was refused: {raw[:300]!r}")

    def completion(words: int) -> dict[str, Any]:
        return {"prompt": "a " * words, "max_tokens": 1}

    for words in range(1, prompts + 1):
        await ask("/v1/completions", completion(words))
    await asyncio.gather(*(ask("/v1/completions", completion(words)) for words in range(1, prompts + 1)))
    texts = ("".join(chr(rng.randrange(1, 0x3000)) for _ in range(60)) for _ in range(10 * prompts))
    await asyncio.gather(*(ask("/tokenize", {"prompt": text}) for text in texts))


def sample(pid: int) -> dict[str, float]:
    """What a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    found = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}  # type: ignore[index]
    return {"rss_bytes": found["VmRSS"] * 1024, "descriptors": descriptors, "threads": found["Threads"]}


async def settled(pid: int, port: int, outcome: Outcome, idle_seconds: float) -> dict[str, float]:
    """A sample once connections of before have ended, as far as they do, and the server has been idle for a while."""
    for _ in range(2000 if outcome.samples else 200):  # the first has nothing to come down to
        await ask_good(port, outcome)
        now = sample(pid)
        if outcome.samples and now["descriptors"] <= outcome.samples[0]["descriptors"]:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(idle_seconds)
    return sample(pid)


async def run(
    made: list[Attack], *, pid: int, port: int, at_once: int, idle_seconds: float, warm_up_prompts: int
) -> Outcome:
    """Send all of them, some at once, in ten parts with a sample behind each."""
    outcome, free = Outcome(), asyncio.Semaphore(at_once)
    await ask_good(port, outcome)
    await warm_up(port, prompts=warm_up_prompts, at_once=at_once)
    outcome.samples.append(await settled(pid, port, outcome, idle_seconds))
    print(f"warm: {outcome.samples[-1]}", file=sys.stderr, flush=True)
    part = -(-len(made) // 10)

    async def bounded(attack: Attack, idle: list[asyncio.StreamWriter]) -> None:
        async with free:
            await send(attack, port, outcome, idle)

    for begin in range(0, len(made), part):
        idle: list[asyncio.StreamWriter] = []
        working = asyncio.gather(*(bounded(attack, idle) for attack in made[begin : begin + part]))
        while not working.done():
            await ask_good(port, outcome)
            await asyncio.wait({working}, timeout=0.5)
        await working
        for writer in idle:
            writer.close()
        outcome.samples.append(await settled(pid, port, outcome, idle_seconds))
        print(f"{min(begin + part, len(made)):,} sent, {outcome.samples[-1]}", file=sys.stderr, flush=True)
    return outcome


def main(argv: list[str] | None = None) -> int:
    """Run, print a table, exit 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what to serve")
    parser.add_argument("--requests", type=int, default=10_000, help="default 10,000")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--at-once", type=int, default=64, help="senders, default 64; idle ones besides")
    parser.add_argument(
        "--warm-up-prompts",
        type=int,
        default=600,
        help="good prompts before it, the last of so many words, default 600",
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=IDLE_SECONDS, help=f"before memory is read, default {IDLE_SECONDS:g}"
    )
    parser.add_argument("--flags", default="", help="of mamba-slm serve, as one text")
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    args = parser.parse_args(argv)
    command = [sys.executable, "-m", "mamba_slm.cli.main", "serve", args.model, "--port", "0", "--log", "json"]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen([*command, *args.flags.split()], stderr=log) as server:
        try:
            while (found := re.search(r"at http://127\.0\.0\.1:(\d+)/v1", read(log))) is None:
                if server.poll() is not None:
                    print(read(log), file=sys.stderr)
                    return 3
                time.sleep(0.1)
            made = attacks(args.requests, seed=args.seed)
            started = time.monotonic()
            working = run(
                made,
                pid=server.pid,
                port=int(found[1]),
                at_once=args.at_once,
                idle_seconds=args.idle_seconds,
                warm_up_prompts=args.warm_up_prompts,
            )
            outcome = asyncio.run(working)
            seconds = time.monotonic() - started
        finally:
            server.terminate()
        code = server.wait()
        tracebacks = read(log).count("Traceback")
    return report(outcome, args, seconds=seconds, code=code, tracebacks=tracebacks)


def read(log: Any) -> str:
    """All that was written so far."""
    log.seek(0)
    return log.read()


def report(outcome: Outcome, args: argparse.Namespace, *, seconds: float, code: int, tracebacks: int) -> int:
    """Print and write the figures; 1 where something is wrong."""
    warm, first, last = outcome.samples[0], outcome.samples[1], outcome.samples[-1]
    figures = {
        "requests": args.requests,
        "seed": args.seed,
        "statuses": {kind: dict(sorted(counts.items())) for kind, counts in sorted(outcome.statuses.items())},
        "broken": outcome.broken[:50],
        "num_broken": len(outcome.broken),
        "tracebacks_in_the_log": tracebacks,
        "exit_code": code,
        "good_requests": outcome.good,
        "good_answers": len(outcome.good_answers),
        "slowest_good_seconds": round(outcome.slowest_good_seconds, 3),
        "rss_growth": round(last["rss_bytes"] / warm["rss_bytes"] - 1, 4),
        "rss_growth_after_the_first_tenth": round(last["rss_bytes"] / first["rss_bytes"] - 1, 4),
        "descriptors_growth": last["descriptors"] - first["descriptors"],
        "samples": outcome.samples,
        "seconds": round(seconds, 1),
        "commit": source_commit(),
        "hardware": hardware_summary(),
    }
    print(json.dumps({name: value for name, value in figures.items() if name != "samples"}, indent=2))
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")
    is_good = not outcome.broken and not tracebacks and code == 0 and len(outcome.good_answers) == 1
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
