"""The look into the layers that a trainer takes around a step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from torch import Tensor

from mamba_slm.model.stack import LanguageModel
from mamba_slm.training.distributed.world import World
from mamba_slm.training.layers.memory_watch import DECAY_LIVES, PER_DECADE, STEP_SIZES, MemoryWatch, num_bins
from mamba_slm.training.layers.report import LayerReport, LogHistogram
from mamba_slm.training.layers.updates import Parts, part_of, sampled, squares


class LayerWatch:
    """Looks at the first step and every `every_steps`-th; at the others it does nothing.

    Args:
        model: the one that is trained.
        parts_here: what this process holds of every parameter; called before and after the update.
        every_steps: 0 means never.
        world: the processes that train together; all of them look at the same steps.
    """

    def __init__(self, model: LanguageModel, parts_here: Parts, *, every_steps: int, world: World):
        self.parts_here, self.every_steps, self.world = parts_here, every_steps, world
        self.pattern = model.config.pattern
        self.parts = list(dict.fromkeys(part_of(name, self.pattern) for name, _ in model.named_parameters()))
        self.memory = MemoryWatch(model)
        self.report: LayerReport | None = None
        """Of the step that was looked at last, until the next begins."""

    def is_due(self, step: int) -> bool:
        """Whether this step, counted from 1, is looked at."""
        return self.every_steps > 0 and (step == 1 or step % self.every_steps == 0)

    @contextlib.contextmanager
    def looking(self, step: int, *, tokens: int) -> Iterator[None]:
        """The block that computes the gradients of a step and takes it; then `report` says what was seen, if it is due.

        Called by all processes. `tokens` are those of the run with this step.
        """
        self.report = None
        if not self.is_due(step):
            yield
            return
        before = sampled(self.parts_here)
        with self.memory.counting():
            yield
        self.report = LayerReport(
            step=step,
            tokens=tokens,
            update_ratios=self.update_ratios(before),
            step_sizes=self.summed(self.memory.step_sizes, STEP_SIZES),
            decay_lives=self.summed(self.memory.decay_lives, DECAY_LIVES),
        )

    def update_ratios(self, before: dict[str, Tensor]) -> dict[str, float]:
        """‖Δw‖ / ‖w‖ by part; parts whose weights are all 0 are left out."""
        changed, weight = squares(before, self.parts_here, self.pattern, self.parts)
        sums = self.world.sum(*changed, *weight)  # where all hold the same, both grow alike
        pairs = zip(self.parts, sums[: len(self.parts)], sums[len(self.parts) :], strict=True)
        return {part: math.sqrt(change / size) for part, change, size in pairs if size > 0}

    def summed(self, counts: dict[str, Tensor], span: tuple[float, float]) -> dict[str, LogHistogram]:
        """The counts of all processes."""
        size = num_bins(span)
        flat = [count for name in self.memory.layers for count in counts[name].tolist()]
        numbers = self.world.sum(*flat) if flat else []
        return {
            name: LogHistogram(
                low=span[0], per_decade=PER_DECADE, counts=[int(n) for n in numbers[i * size : (i + 1) * size]]
            )
            for i, name in enumerate(self.memory.layers)
        }
