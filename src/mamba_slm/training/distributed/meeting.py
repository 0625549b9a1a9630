"""The first thing processes do together: see that all have come, and that they belong together.

Each leaves a card in the store of process 0, which looks at all of them and tells its verdict to the others. So a
wrong count, a number given twice or another version ends the job at once, with a reason, and not in the first message
that two processes read differently.
"""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from mamba_slm import __version__
from mamba_slm.core.errors import ConfigError, RankLostError
from mamba_slm.core.units import format_seconds

if TYPE_CHECKING:
    from mamba_slm.training.distributed.world import World

VERDICT = "verdict"
SAME_ADDRESS = "start every process with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE"
MUST_BE_EQUAL = ("mamba-slm", "torch", "Python")
"""What processes of one job may not differ in: they would build other models, or read messages differently."""


class FailedElsewhereError(RankLostError):
    """Process 0 failed, and says why itself; the others only end."""


def versions_here() -> dict[str, str]:
    """Versions of this process by name; Python's without its last number, which changes nothing that is sent."""
    return {
        "mamba-slm": __version__,
        "torch": str(torch.__version__),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def meet(world: World, timeout: timedelta, *, versions: Mapping[str, str] | None = None) -> None:
    """Wait until every process has come, and agree to begin.

    Args:
        versions: of this process, by name; None looks.

    Raises:
        RankLostError: names the processes that did not come.
        ConfigError: they do not belong together; in process 0 and where a number is given twice.
        FailedElsewhereError: process 0 says so.
    """
    store, rank, size = world.store, world.rank, world.size
    if store.add(f"number/{rank}", 1) > 1:
        raise ConfigError(
            f"two processes of this job have RANK {rank}; this one is on {socket.gethostname()}",
            hint="give each machine its own --node-rank, or start them all with torchrun's c10d rendezvous",
        )
    versions = versions_here() if versions is None else versions
    card = {"size": size, "host": socket.gethostname(), "versions": dict(versions)}
    store.set(f"here/{rank}", json.dumps(card))
    if not world.is_first:
        hear_verdict(world, timeout)
        return
    try:
        store.wait([f"here/{other}" for other in range(size)], timeout)
    except RuntimeError as error:
        lost = absent(world)
        store.set(VERDICT, lost.message)
        raise lost from error
    cards = [json.loads(store.get(f"here/{other}")) for other in range(size)]
    objection = objection_to(cards)
    store.set(VERDICT, objection.message if objection else "")
    if objection:
        raise objection


def hear_verdict(world: World, timeout: timedelta) -> None:
    """Wait for what process 0 says.

    Raises:
        FailedElsewhereError: it refuses.
        RankLostError: it says nothing.
    """
    try:
        world.store.wait([VERDICT], timeout)
        verdict = world.store.get(VERDICT).decode()
    except RuntimeError as error:
        raise absent(world) from error
    if verdict:
        raise FailedElsewhereError(verdict)


def absent(world: World) -> RankLostError:
    """Who did not come, as an error."""
    try:
        missing = [rank for rank in range(world.size) if not world.store.check([f"here/{rank}"])]
    except RuntimeError:  # process 0 has given up and taken the store with it
        missing = [0]
    others = ", ".join(map(str, missing or [0]))
    return RankLostError(
        f"process {world.rank} of {world.size} waited {format_seconds(world.timeout_seconds)} at "
        f"{world.place.address}:{world.place.port}, and process {others} did not come",
        hint=SAME_ADDRESS,
    )


def objection_to(cards: Sequence[Mapping[str, Any]]) -> ConfigError | None:
    """Why these processes cannot work together, or None.

    Args:
        cards: size, host and versions of each process, by its number.
    """
    first = cards[0]
    for rank, card in enumerate(cards):
        if card["size"] != first["size"]:
            return ConfigError(
                f"process 0 on {first['host']} has WORLD_SIZE {first['size']}, and process {rank} on {card['host']} "
                f"has {card['size']}",
                hint=SAME_ADDRESS,
            )
    for name in MUST_BE_EQUAL:
        wanted = first["versions"].get(name)
        others = [rank for rank, card in enumerate(cards) if card["versions"].get(name) != wanted]
        if others:
            card = cards[others[0]]
            return ConfigError(
                f"process 0 on {first['host']} runs {name} {wanted}, and process {', '.join(map(str, others[:8]))} "
                f"{name} {card['versions'].get(name)} (on {card['host']})",
                hint="install the same on every machine, or use one environment on a shared disk",
            )
    return None
