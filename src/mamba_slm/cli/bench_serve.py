"""`mamba-slm bench serve`: a server under load."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.units import parse_count, parse_seconds
from mamba_slm.core.values import parse_float

if TYPE_CHECKING:
    from mamba_slm.evaluation.load.settings import LoadSettings

EPILOG = """\
MODEL is served by a `mamba-slm serve` of its own, on a free port, with the flags in --serve-flags; --url measures any
server with OpenAI's API instead. Requests stream. Each --concurrency keeps so many under way; each --rate lets so many
arrive in a second whatever became of those before, at random as people do (--arrivals fixed: at equal distances).

Prompts are made up of common words, a number of tokens long that the server counts itself; --shared-prefix is the share
that all of them begin with, which a server with a prefix cache reads once. --vocab-size sends token ids instead, whose
number is exact. --dataset takes JSON lines with `prompt`, or `messages` with --endpoint chat, and optionally
`max_tokens`. The seed decides all of it: two servers get the same requests.

ttft: to the first token; itl: between events of a stream; tpot: per token behind the first; e2e: to the end. Each level
warms up before it counts; failed requests are counted by kind. Exit code 1 where a level had no answer at all.

examples:
  mamba-slm bench serve runs/quickstart
  mamba-slm bench serve runs/quickstart --serve-flags "--weights int8 --max-running 16" --concurrency 1,16 --json
  mamba-slm bench serve --url http://127.0.0.1:8000/v1 --prompt-tokens 512 --output-tokens 64-256 --shared-prefix 50%
  mamba-slm bench serve --url http://127.0.0.1:8000/v1 --rate 2,4,8 --requests 200 --out load.json --svg load.svg
  mamba-slm bench serve --url http://127.0.0.1:8000/v1 --endpoint chat --dataset conversations.jsonl --allow-end
"""


def counts(text: str) -> tuple[int, ...]:
    """A list of counts separated by commas; `none`: an empty one."""
    return () if text == "none" else tuple(parse_count(word.strip()) for word in text.split(",") if word.strip())


def rates(text: str) -> tuple[float, ...]:
    """A list of numbers separated by commas."""
    return tuple(parse_float(word.strip()) for word in text.split(",") if word.strip())


def span(text: str) -> tuple[int, int]:
    """A count, or a range of two.

    >>> span("128"), span("64-1k")
    ((128, 128), (64, 1000))
    """
    least, _, most = text.partition("-")
    return parse_count(least), parse_count(most or least)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm bench serve`."""
    parser.description = "A server under load: latency of tokens by percentiles, tokens/s, errors."
    parser.epilog = EPILOG
    server = parser.add_argument_group("server")
    server.add_argument(
        "model", metavar="MODEL", nargs="?", help="run, checkpoint or model folder to serve and measure"
    )
    server.add_argument("--serve-flags", default="", metavar="FLAGS", help="of `mamba-slm serve` for it, in one word")
    server.add_argument("--url", metavar="URL", help="measure this server instead, up to and with /v1")
    server.add_argument("--name", metavar="NAME", help="of the model in the API; default the first that it lists")
    server.add_argument("--api-key-env", metavar="NAME", help="environment variable with the server's key")
    load = parser.add_argument_group("load")
    load.add_argument(
        "--concurrency", type=counts, metavar="N,N", help="requests under way, default 1,4,16,64; with --rate none"
    )
    load.add_argument("--rate", type=rates, default=(), metavar="X,X", help="requests that arrive in a second")
    load.add_argument(
        "--arrivals", choices=("poisson", "fixed"), default="poisson", help="of a rate: at random (default) or even"
    )
    load.add_argument(
        "--requests", type=parse_count, metavar="N", help="counted at each level; default 4 x concurrency, at least 16"
    )
    load.add_argument(
        "--warmup", type=parse_count, metavar="N", help="not counted before them, default one each, at most 16"
    )
    load.add_argument(
        "--timeout", type=parse_seconds, default=600.0, metavar="TIME", help="of a request, default 600 s"
    )
    prompts = parser.add_argument_group("requests")
    prompts.add_argument(
        "--endpoint", choices=("completions", "chat"), default="completions", help="default completions"
    )
    prompts.add_argument(
        "--prompt-tokens", type=span, default=(128, 128), metavar="N[-N]", help="of made-up prompts, default 128"
    )
    prompts.add_argument("--output-tokens", type=span, default=(64, 64), metavar="N[-N]", help="to make, default 64")
    prompts.add_argument("--allow-end", action="store_true", help="do not send ignore_eos: answers may be shorter")
    prompts.add_argument(
        "--shared-prefix", type=parse_float, default=0.0, metavar="SHARE", help="of prompts, from their beginning"
    )
    prompts.add_argument("--vocab-size", type=parse_count, metavar="N", help="prompts are token ids below this")
    prompts.add_argument("--dataset", type=Path, metavar="FILE", help="JSON lines with prompts instead")
    prompts.add_argument("--seed", type=parse_count, default=0, metavar="N", help="of prompts and arrivals, default 0")
    results = parser.add_argument_group("results")
    results.add_argument("--out", type=Path, metavar="FILE", help="write them as JSON, again after every level")
    results.add_argument("--svg", type=Path, metavar="FILE", help="write latency against throughput as a picture")
    results.add_argument("--json", action="store_true", help="as JSON on stdout instead of the table")


def settings_of(args: argparse.Namespace) -> LoadSettings:
    """The load that the flags describe."""
    from mamba_slm.evaluation.load.settings import LoadSettings

    concurrency = args.concurrency
    if concurrency is None:
        concurrency = () if args.rate else LoadSettings().concurrency
    return LoadSettings(
        concurrency=concurrency,
        rates=args.rate,
        arrivals=args.arrivals,
        requests=args.requests,
        warmup=args.warmup,
        endpoint=args.endpoint,
        prompt_tokens=args.prompt_tokens,
        output_tokens=args.output_tokens,
        may_end=args.allow_end,
        shared_share=args.shared_prefix,
        vocab_size=args.vocab_size,
        dataset=args.dataset,
        timeout_seconds=args.timeout,
        seed=args.seed,
    )


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        UsageError: neither or both of MODEL and --url.
        InterruptedRunError: Ctrl-C; what was measured is shown and kept.
    """
    from mamba_slm.cli.bench_settings import about_this_run
    from mamba_slm.core.errors import InterruptedRunError
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.evaluation.load.measure import measure_load

    settings, headers = settings_of(args), headers_of(args)
    results: dict[str, Any] = {}

    def save(so_far: dict[str, Any]) -> None:
        results.update(so_far)
        if args.out is not None:
            write_json_atomic(args.out, so_far)

    try:
        with server_of(args) as url:
            measure_load(
                url, settings, model=args.name, headers=headers, about=about_this_run(), say=console.say, save=save
            )
    except KeyboardInterrupt:
        where = f"; they are in {args.out}" if results and args.out is not None else ""
        measured = f"{len(results.get('levels', []))} levels were measured{where}"
        raise InterruptedRunError(f"interrupted: {measured}") from None
    finally:
        if results:
            show(results, as_json=args.json, svg=args.svg)
    return 0 if all(level["answered"] for level in results["levels"]) else 1


def headers_of(args: argparse.Namespace) -> dict[str, str]:
    """Of every request.

    Raises:
        UsageError: the variable for the key is not set.
    """
    from mamba_slm.core.errors import UsageError

    if args.api_key_env is None:
        return {}
    if not (key := os.environ.get(args.api_key_env)):
        raise UsageError(f"the environment variable {args.api_key_env} is not set", hint="it is to hold the key")
    return {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def server_of(args: argparse.Namespace) -> Iterator[str]:
    """Where the server is that is measured; one of our own lives as long as the context."""
    from mamba_slm.core.errors import UsageError
    from mamba_slm.evaluation.load.own_server import own_server

    if (args.model is None) == (args.url is None):
        raise UsageError(
            "what is to be measured? either MODEL or --url", hint="mamba-slm bench serve --url http://127.0.0.1:8000/v1"
        )
    if args.url is not None:
        if args.serve_flags:
            raise UsageError("--serve-flags are for a server that is started here, not for --url")
        yield args.url
        return
    with own_server(args.model, shlex.split(args.serve_flags)) as server:
        for line in server.said:
            console.say(line)
        yield server.url


def show(results: dict[str, Any], *, as_json: bool, svg: Path | None) -> None:
    """The results on stdout; what to know about them on stderr."""
    from mamba_slm.core.files import write_text_atomic
    from mamba_slm.evaluation.load import table

    if as_json:
        console.print_json(results)
    else:
        print(console.table(table.HEADER, list(table.table_rows(results)), right=table.RIGHT), flush=True)
        console.say(table.EXPLANATION)
        console.say(table.client_in_words(results))
    for remark in table.remarks(results):
        console.say(f"{console.coloured('warning:', 'yellow')} {remark}")
    if svg is not None:
        drawn = table.load_picture(results)
        if drawn is None:
            console.say(f"{svg} is not written: a picture needs two levels that were answered")
        else:
            write_text_atomic(svg, drawn)
