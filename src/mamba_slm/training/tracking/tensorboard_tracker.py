"""TensorBoard: event files under RUN/tensorboard."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.core.optional import require
from mamba_slm.training.tracking.tracker import TrackedRun, Tracker


class TensorBoardTracker(Tracker):
    """Needs the extra `track`. A resumed run hides what it had logged after its checkpoint, and logs it again."""

    name = "tensorboard"
    writer: Any = None

    def open(self, run: TrackedRun, *, step: int) -> str:
        require("tensorboard", extra="track", purpose="logging to TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard"
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self.first_step = step
        return f"{folder}; see it with: tensorboard --logdir {folder}"

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def log_histogram(self, name: str, counts: Sequence[float], edges: Sequence[float], *, step: int) -> None:
        total = sum(counts)
        if not total:
            return
        middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
        self.writer.add_histogram_raw(
            name,
            min=edges[0],
            max=edges[-1],
            num=total,
            sum=sum(count * middle for count, middle in zip(counts, middles, strict=True)),
            sum_squares=sum(count * middle**2 for count, middle in zip(counts, middles, strict=True)),
            bucket_limits=list(edges[1:]),
            bucket_counts=list(counts),
            global_step=step,
        )

    def flush(self) -> None:
        self.writer.flush()

    def close(self, *, ended_well: bool) -> None:
        self.writer.close()
