"""Flags of `mamba-slm serve` that say who may ask for what, and what is logged."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.serving.api.guard.settings import GuardSettings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Groups "access", "limits" and "log"."""
    group = parser.add_argument_group("access")
    group.add_argument(
        "--api-keys", metavar="FILE", type=Path, help="only who has a key of this file may ask; see mamba-slm api-keys"
    )
    group.add_argument(
        "--insecure-no-keys", action="store_true", help="let everybody who reaches --host use the model without a key"
    )
    group.add_argument(
        "--allowed-hosts",
        metavar="NAME,NAME",
        type=names,
        default=(),
        help="names by which clients may call this server, besides IP addresses, localhost and this machine's own; "
        "*.NAME: all below it; *: all",
    )
    group.add_argument(
        "--cors", metavar="ORIGIN,ORIGIN", type=names, default=(), help="origins whose web pages may use the API"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--requests-per-minute",
        metavar="N",
        type=parse_count,
        help="of each key without a limit of its own; without keys, of each client address; default: no limit",
    )
    limits.add_argument(
        "--tokens-per-minute", metavar="N", type=parse_count, help="likewise; prompts and answers count alike"
    )
    limits.add_argument(
        "--max-body", metavar="BYTES", type=parse_count, default=4 * 2**20, help="of a request, default 4Mi"
    )
    limits.add_argument(
        "--max-requests", metavar="N", type=parse_count, default=2048, help="in progress at once, default 2,048"
    )
    limits.add_argument(
        "--max-connections", metavar="N", type=parse_count, default=4096, help="open at once, default 4,096"
    )
    limits.add_argument(
        "--request-seconds", metavar="N", type=parse_count, default=3600, help="for one request, default 3,600"
    )
    limits.add_argument(
        "--drain-delay-seconds",
        metavar="N",
        type=parse_count,
        default=0,
        help="after SIGTERM, how long /ready says 503 before new requests are refused, default 0",
    )
    log = parser.add_argument_group("log")
    log.add_argument(
        "--log",
        choices=("auto", "text", "json", "none"),
        default="auto",
        help="a line on stderr for every request; auto: text on a terminal, else json; never text of prompts",
    )
    log.add_argument(
        "--log-prompts", action="store_true", help="put the bodies of requests into the log: what people wrote"
    )


def names(text: str) -> tuple[str, ...]:
    """A list separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def is_open_to_all(args: argparse.Namespace) -> bool:
    """Whether others than this machine reach the server and need no key, which the user must have said.

    Raises:
        UsageError: nobody said so.
    """
    from mamba_slm.serving.api.guard.caller import is_loopback

    if is_loopback(args.host) or args.api_keys is not None:
        return False
    if not args.insecure_no_keys:
        raise UsageError(
            f"--host {args.host} lets others reach this server, and nobody would need a key",
            hint="make a key with mamba-slm api-keys add NAME and give --api-keys api-keys.json, or, where "
            "everybody who can connect may use it, --insecure-no-keys",
        )
    return True


def settings(args: argparse.Namespace) -> GuardSettings:
    """What the flags say; how requests are logged is said once.

    Raises:
        UsageError: the server could be reached from elsewhere and would have no keys.
        DataError: the file of keys cannot be used.
    """
    from mamba_slm.serving.api.guard.caller import is_loopback
    from mamba_slm.serving.api.guard.keys import read_keys
    from mamba_slm.serving.api.guard.settings import GuardSettings

    if is_open_to_all(args):
        console.say(f"warning: everybody who can reach {args.host} may use this model (--insecure-no-keys)")
    if args.api_keys is not None:
        console.say(f"keys: {len(read_keys(args.api_keys))} in {args.api_keys}")
    log = args.log
    if log == "auto":
        is_terminal = sys.stderr.isatty()
        log = "text" if is_terminal else "json"
        console.say(f"log={log} ({'a terminal' if is_terminal else 'no terminal'})")
    if args.log_prompts:
        log = "json" if log == "none" else log
        console.say("WARNING: --log-prompts writes what people ask into the log, word for word")
    hosts = args.allowed_hosts if is_loopback(args.host) else (*args.allowed_hosts, args.host)
    return GuardSettings(
        allowed_hosts=hosts,
        api_keys=args.api_keys,
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        max_body_bytes=args.max_body,
        max_buffered_bytes=max(16 * args.max_body, 2**28),
        max_requests=args.max_requests,
        max_connections=args.max_connections,
        request_seconds=args.request_seconds,
        cors=args.cors,
        log=log,
        log_prompts=args.log_prompts,
    )
