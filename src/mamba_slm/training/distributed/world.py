"""The processes that train one model together, and what they tell each other.

Every method is called by all processes in the same order. In a world of one they cost nothing and change nothing.
Small messages travel through gloo on the CPU, whatever the device.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch

from mamba_slm.core.errors import ConfigError, MambaSlmError, RankLostError
from mamba_slm.core.units import format_seconds
from mamba_slm.training.distributed.meeting import FailedElsewhereError, meet
from mamba_slm.training.distributed.place import Place
from mamba_slm.training.distributed.reach import unreachable, wait_until_reachable

T = TypeVar("T")
MESSAGE_BYTES = 512
"""Of an answer that travels in one piece; a longer one needs a second."""
NETWORK_WORDS = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "broken pipe", "store")


class World:
    """A place, with the means to talk; `alone()` and `join()` make one.

    Args:
        place: which of how many processes this is.
        device_type: of the model: gradients on GPUs travel through NCCL.
        timeout_seconds: how long to wait for the others, before one counts as lost.
    """

    def __init__(self, place: Place, *, device_type: str = "cpu", timeout_seconds: float = 600.0):
        self.place, self.device_type, self.timeout_seconds = place, device_type, timeout_seconds
        self.rank, self.size = place.rank, place.size
        self.store: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process decides, speaks and writes."""
        return self.rank == 0

    @property
    def device(self) -> str:
        """Where this process computes."""
        return f"cuda:{self.place.local_rank}" if self.device_type == "cuda" else "cpu"

    def sum(self, *values: float) -> list[float]:
        """Each value added up over all processes, in float64."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        with self.watched():
            torch.distributed.all_reduce(numbers)
        return numbers.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it holds in at least one process."""
        return self.sum(float(flag))[0] > 0

    def agree(self, decide: Callable[[], T]) -> T:
        """What process 0 decides, as JSON, in every process.

        Raises:
            FailedElsewhereError: `decide` raised in process 0, where that error goes on.
        """
        if self.size == 1:
            return decide()
        if not self.is_first:
            answer = json.loads(self.broadcast(b""))
            if "failed" in answer:
                raise FailedElsewhereError(answer["failed"])
            return answer["value"]
        try:
            value = decide()
        except Exception as error:
            message = error.message if isinstance(error, MambaSlmError) else f"{type(error).__name__}: {error}"
            self.broadcast(json.dumps({"failed": message}).encode())
            raise
        self.broadcast(json.dumps({"value": value}).encode())
        return value

    def broadcast(self, content: bytes) -> bytes:
        """The bytes that process 0 holds."""
        message = torch.zeros(MESSAGE_BYTES + 8, dtype=torch.uint8)
        if self.is_first:
            message[:8] = torch.tensor(list(len(content).to_bytes(8, "little")), dtype=torch.uint8)
            message[8 : 8 + min(MESSAGE_BYTES, len(content))] = bytes_tensor(content[:MESSAGE_BYTES])
        with self.watched():
            torch.distributed.broadcast(message, src=0)
            length = int.from_bytes(bytes(message[:8].tolist()), "little")
            head = bytes(message[8 : 8 + min(MESSAGE_BYTES, length)].tolist())
            if length <= MESSAGE_BYTES:
                return head
            rest = bytes_tensor(content[MESSAGE_BYTES:]) if self.is_first else torch.empty(0, dtype=torch.uint8)
            if not self.is_first:
                rest = torch.empty(length - MESSAGE_BYTES, dtype=torch.uint8)
            torch.distributed.broadcast(rest, src=0)
        return head + rest.numpy().tobytes()

    def gather(self, value: Any) -> list[Any]:
        """The JSON-able value of every process, in all of them; meant for rare and small things."""
        if self.size == 1:
            return [value]
        text = json.dumps(value).encode()
        with self.watched():
            lengths = torch.zeros(self.size, dtype=torch.int64)
            lengths[self.rank] = len(text)
            torch.distributed.all_reduce(lengths)
            pieces = [torch.empty(int(lengths.max()), dtype=torch.uint8) for _ in range(self.size)]
            padded = torch.zeros(int(lengths.max()), dtype=torch.uint8)
            padded[: len(text)] = bytes_tensor(text)
            torch.distributed.all_gather(pieces, padded)
        return [
            json.loads(piece[: int(length)].numpy().tobytes()) for piece, length in zip(pieces, lengths, strict=True)
        ]

    def tell(self, name: str, answer: dict[str, Any]) -> None:
        """Leave an answer for `hear`; nobody waits here."""
        if self.size > 1:
            self.store.set(name, json.dumps(answer))

    def hear(self, name: str) -> Any:
        """What the first process told under this name, however long it takes, such as preparing data.

        Raises:
            FailedElsewhereError: it told a failure.
            RankLostError: it is gone.
        """
        answer = json.loads(self.wait_for(name))
        if "failed" in answer:
            raise FailedElsewhereError(answer["failed"])
        return answer["value"]

    def wait_for(self, name: str) -> bytes:
        """What process 0 puts into the store under this name, however long that takes."""
        while True:
            try:
                self.store.wait([name], timedelta(seconds=20))
                return self.store.get(name)
            except torch.distributed.DistNetworkError as error:
                raise RankLostError(
                    f"process {self.rank} of {self.size}: process 0 is gone before training began",
                    hint="its own message says why",
                ) from error
            except torch.distributed.DistStoreError:  # not yet
                continue

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turn what torch says when another process is gone or silent into a `RankLostError`."""
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if self.size == 1 or not any(word in text.lower() for word in NETWORK_WORDS):
                raise
            how_long = format_seconds(self.timeout_seconds)
            silent = "timed out" in text.lower() or "timeout" in text.lower()
            what = f"hangs: nothing from it for {how_long}" if silent else "is gone: it closed its connection"
            raise RankLostError(
                f"process {self.rank} of {self.size}: another process of this job {what} ({first_line(text)})",
                hint="look at what the other processes said; then go on from the last checkpoint with --resume",
            ) from error

    def close(self) -> None:
        """Leave the world."""
        if self.store is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
            self.store = None


def bytes_tensor(content: bytes) -> torch.Tensor:
    """Bytes as a tensor of their own."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def first_line(text: str) -> str:
    """The first line of a message, cut short."""
    return (text.strip().splitlines() or [""])[0][:160]


def alone() -> World:
    """The world of a single process."""
    return World(Place())


def join(place: Place, *, device_type: str, timeout_seconds: float) -> World:
    """Meet the other processes.

    Raises:
        ConfigError: this torch cannot talk between processes, or they do not belong together.
        RankLostError: process 0 cannot be reached, or others did not come in time; says which.
        FailedElsewhereError: process 0 says that the processes do not belong together.
    """
    world = World(place, device_type=device_type, timeout_seconds=timeout_seconds)
    if not torch.distributed.is_available():
        raise ConfigError("this build of torch has no torch.distributed", hint="use one process")
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    timeout = timedelta(seconds=timeout_seconds)
    listens = place.rank == 0 and not place.has_agent
    if not listens:
        wait_until_reachable(place, timeout_seconds=timeout_seconds)
    try:
        store = TCPStore(place.address, place.port, is_master=listens, timeout=timeout, wait_for_workers=False)
    except (RuntimeError, ValueError) as error:
        raise unreachable(place, timeout_seconds, first_line(str(error))) from error
    world.store = PrefixStore(f"mamba-slm/{place.attempt}", store)
    meet(world, timeout)
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    device = torch.device("cuda", place.local_rank) if device_type == "cuda" else None
    with world.watched():
        torch.distributed.init_process_group(
            backend, store=world.store, rank=place.rank, world_size=place.size, timeout=timeout, device_id=device
        )
    return world
