"""Our server beside llama.cpp's: the same weights in INT8 and Q8_0, the same requests, in turns, in one run.

python benchmarks/serving.py --llama-server llama-server --out benchmarks/results/serving.json
python benchmarks/serving.py --model nano --rounds 1 --requests 4        a quick look at ours alone

`make llama-server` builds llama-server into build/llama.cpp/bin, from the llama.cpp in the source distribution of
llama-cpp-python, in about ten minutes.

Requests are made-up token ids of the same seed, answered greedily up to a length. Each level is measured in rounds,
ours and theirs in turns; what is compared is the median over the rounds of the ratio within a round. CPU seconds of the
server processes stand beside wall time: other programs on the machine disturb them less.

Then reuse: a prompt is read, and prompts follow that leave it at several places and end with new tokens; how long each
takes to its first token, beside one whose beginning nobody has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _serving_model import write_models
from _serving_servers import Contender, llama_cpp, ours
from _serving_tables import level_header, level_rows, reuse_header, reuse_rows

from mamba_slm.cli.bench_settings import about_this_run
from mamba_slm.cli.console import table
from mamba_slm.core.files import write_json_atomic
from mamba_slm.evaluation.bench.processes import BusyElsewhere
from mamba_slm.evaluation.load.connection import Address, Connections
from mamba_slm.evaluation.load.drive import run_level
from mamba_slm.evaluation.load.prompts import SyntheticPrompts
from mamba_slm.evaluation.load.sample import ask
from mamba_slm.evaluation.load.settings import Level, LoadSettings
from mamba_slm.evaluation.load.summary import summary
from mamba_slm.model.presets import preset

SLOTS, CONTEXT = 16, 4096
TARGETS = {"total_tokens_per_second": 1.5, "ttft_p95": 0.7, "branch": 5.0}
"""Of ours over theirs: tokens/s at 16 at once at least, first token at most; and how many times as fast as cold."""


def measured_level(contender: Contender, settings: LoadSettings, level: Level, *, round_number: int) -> dict[str, Any]:
    """One level of one round, with what it cost the server; every round has prompts of its own."""
    prompts = SyntheticPrompts(settings)

    async def run() -> list[Any]:
        connections = Connections(Address.of(contender.url))
        try:
            return await run_level(
                connections, settings, level, lambda name, number: prompts(f"{name}/round {round_number}", number)
            )
        finally:
            connections.close()

    busy, cpu = BusyElsewhere([contender.pid]), contender.cpu_seconds()
    figures = summary(asyncio.run(run()))
    return {**figures, "server_cpu_seconds": contender.cpu_seconds() - cpu, "busy_elsewhere_cores": busy.cores()}


def first_tokens(contender: Contender, prompts: list[list[int]]) -> list[tuple[float, float, int]]:
    """Of each prompt, one after the other: wall and CPU seconds to the first token, and how many tokens were reused."""

    async def run() -> list[tuple[float, float, int]]:
        connections = Connections(Address.of(contender.url))
        path, found = f"{connections.address.path}/completions", []
        for prompt in prompts:
            cpu, begun = contender.cpu_seconds(), time.perf_counter()
            body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": True}
            sample = await ask(connections, path, body, due=begun, timeout_seconds=600)
            assert sample.error is None, f"{contender.name}: {sample.error}"
            found.append((sample.whole_seconds, contender.cpu_seconds() - cpu, sample.cached_tokens))
        connections.close()
        return found

    return asyncio.run(run())


def reuse_prompts(vocab_size: int, *, tokens: int, new: int, seed: int) -> dict[str, list[int]]:
    """By name, in their order: a cold one first."""
    source = random.Random(seed)

    def words(count: int) -> list[int]:
        return [source.randrange(4, vocab_size) for _ in range(count)]

    whole = words(tokens)
    prompts = {"cold": whole}
    for share in (0.975, 0.75, 0.5, 0.25):
        at = round(tokens * share)
        prompts[f"branches at {at:,}, first time"] = [*whole[:at], *words(new)]
        prompts[f"branches at {at:,}, again"] = [*whole[:at], *words(new)]
    prompts["the same prompt"] = whole
    return prompts


def same_answers(contenders: list[Contender], vocab_size: int, *, seed: int) -> dict[str, Any]:
    """How far greedy answers agree: characters in common at the beginning, over all of ours."""

    async def run(contender: Contender) -> list[str]:
        connections, texts, source = Connections(Address.of(contender.url)), [], random.Random(seed)
        for _ in range(8):
            prompt = [source.randrange(4, vocab_size) for _ in range(64)]
            body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
            answer, writer = await connections.send("POST", f"{connections.address.path}/completions", body)
            texts.append(json.loads(await answer.body())["choices"][0]["text"])
            connections.give_back(answer, writer)
        connections.close()
        return texts

    pairs = list(zip(*(asyncio.run(run(contender)) for contender in contenders), strict=True))
    return {"prompts": len(pairs), "tokens": 8, "equal_answers": sum(mine == yours for mine, yours in pairs)}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write."""
    args = arguments(argv)
    config = preset(args.model)
    settings = LoadSettings(
        concurrency=tuple(args.concurrency),
        requests=args.requests,
        vocab_size=config.vocab_size,
        seed=args.seed,
        shared_share=args.shared_prefix,
        prompt_tokens=(args.prompt_tokens[0], args.prompt_tokens[1]),
        output_tokens=(args.output_tokens[0], args.output_tokens[1]),
    )
    with ExitStack() as stack:
        folder = args.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f"{args.model} with random weights, in INT8 and in Q8_0", file=sys.stderr)
        mine, yours = write_models(args.model, folder, seed=args.seed, context_tokens=CONTEXT)
        contenders = [
            stack.enter_context(
                ours(mine, threads=args.threads, slots=SLOTS, weights=args.weights, further=args.serve_flags.split())
            )
        ]
        if args.llama_server is not None:
            started = llama_cpp(
                args.llama_server,
                yours,
                threads=args.threads,
                slots=SLOTS,
                context_tokens=CONTEXT,
                log=folder / "llama.log",
            )
            contenders.append(stack.enter_context(started))
        results: dict[str, Any] = {
            **about_this_run(),
            "model": args.model,
            "threads": args.threads,
            "slots": SLOTS,
            "targets": TARGETS,
            "requests": {
                "prompt_tokens": settings.prompt_tokens,
                "output_tokens": settings.output_tokens,
                "shared_share": settings.shared_share,
                "seed": settings.seed,
            },
            "servers": {each.name: {"command": each.command, "version": each.version} for each in contenders},
            "levels": [],
            "reuse": [],
        }
        if len(contenders) > 1:
            results["same_answers"] = same_answers(contenders, config.vocab_size, seed=args.seed)
            print(f"equal answers: {results['same_answers']}", file=sys.stderr)
        for round_number in range(args.rounds):
            in_turn = contenders if round_number % 2 == 0 else contenders[::-1]
            for level in settings.levels:
                for contender in in_turn:
                    figures = measured_level(contender, settings, level, round_number=round_number)
                    named = {"round": round_number, "concurrency": level.concurrency, "server": contender.name}
                    results["levels"].append({**named, **figures})
                    print(line_of(results["levels"][-1]), file=sys.stderr)
            prompts = reuse_prompts(
                config.vocab_size, tokens=args.reuse_tokens, new=args.new_tokens, seed=args.seed + 1 + round_number
            )
            for contender in in_turn:
                found = first_tokens(contender, list(prompts.values()))
                for name, (wall, cpu, cached) in zip(prompts, found, strict=True):
                    results["reuse"].append(
                        {"round": round_number, "server": contender.name, "prompt": name, "seconds": wall,
                         "server_cpu_seconds": cpu, "cached_tokens": cached}
                    )  # fmt: skip
            if args.out is not None:
                write_json_atomic(args.out, results)
    for header, rows in ((level_header(), level_rows(results)), (reuse_header(results), reuse_rows(results))):
        print(table(header, rows, right=header[1:] if header[0] == "prompt" else header[:1] + header[2:]), end="\n\n")
    return 0


def line_of(row: dict[str, Any]) -> str:
    """A measured level in a line."""
    speed = f"{row['total_tokens_per_second']:,.0f} tokens/s"
    spent = f"{row['server_cpu_seconds']:.1f} CPU s in {row['seconds']:.1f} s"
    first = f"first token p95 {1e3 * row['ttft']['p95']:,.0f} ms" if row["ttft"] else "no answer"
    wrong = f", errors {row['errors']}" if row["errors"] else ""
    return f"round {row['round']}, {row['concurrency']} at once, {row['server']}: {speed}, {spent}, {first}{wrong}"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", type=Path, metavar="FILE", help="without it ours alone")
    parser.add_argument("--model", default="60M", help="preset, default 60M")
    parser.add_argument("--models", type=Path, metavar="DIR", help="keep the models there for the next time")
    parser.add_argument("--weights", default="int8", help="of ours, default int8")
    parser.add_argument("--serve-flags", default="", help="further flags of `mamba-slm serve`")
    parser.add_argument("--threads", type=int, default=2, help="of each server, default 2")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16], help="default 1 4 16")
    parser.add_argument("--requests", type=int, help="in a level, default four times the concurrency, at least 16")
    parser.add_argument("--prompt-tokens", type=int, nargs=2, default=[64, 256], help="least and most, default 64 256")
    parser.add_argument("--output-tokens", type=int, nargs=2, default=[64, 128], help="least and most, default 64 128")
    parser.add_argument("--shared-prefix", type=float, default=0.0, help="share of prompts, default 0")
    parser.add_argument("--reuse-tokens", type=int, default=2000, help="of the prompt that is left, default 2,000")
    parser.add_argument("--new-tokens", type=int, default=50, help="behind a branch, default 50")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON, again after every round")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
