"""Which settings fit into memory: the engine of several devices, rows at once, gradient checkpointing. No torch.

Everything is decided by the estimate, which is right within about 15%; so no more than `SHARE_TO_FILL` is filled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.core.units import format_bytes
from mamba_slm.model.config import ModelConfig
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.memory_estimate import MemoryEstimate, estimate_memory
from mamba_slm.training.spread import ENGINES_OF, Spread, why_not_shared

SHARE_TO_FILL = 0.9
"""Of a device's memory that an estimate may reach; the rest is for what it misses."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a run asks of one of its devices, as far as memory is concerned."""

    model: ModelConfig
    context_tokens: int
    rows_at_once: int
    rows_of_each: int
    """Rows of a step that one device gets."""

    precision: str
    gradient_checkpointing: bool
    spread: Spread
    on_gpu: bool
    kernels: Literal["native", "torch"] = "native"
    optimizer: str = "adamw"

    def memory(self) -> MemoryEstimate:
        """The estimate, by part."""
        return estimate_memory(
            self.model,
            context_tokens=self.context_tokens,
            rows_at_once=self.rows_at_once,
            precision=self.precision,
            gradient_checkpointing=self.gradient_checkpointing,
            spread=self.spread,
            on_gpu=self.on_gpu,
            kernels=self.kernels,
            optimizer=self.optimizer,
        )

    def fits(self, memory_bytes: int) -> bool:
        """Whether the estimate fills no more of a device than it may."""
        return self.memory().total <= SHARE_TO_FILL * memory_bytes


def demand_of(
    config: TrainConfig, model: ModelConfig, spread: Spread, *, precision: str | None = None, on_gpu: bool = False
) -> Demand:
    """What a run with these settings asks of each of its devices.

    Args:
        precision: where the settings leave it open.
    """
    rows = max(1, config.rows_per_step // spread.processes)
    return Demand(
        model=model,
        context_tokens=config.context_tokens,
        rows_at_once=min(config.rows_at_once, rows),
        rows_of_each=rows,
        precision=precision or config.precision,
        gradient_checkpointing=config.gradient_checkpointing,
        spread=spread,
        on_gpu=on_gpu,
        kernels="torch" if config.kernels == "torch" else "native",
        optimizer=config.optimizer,
    )


def with_fitting_engine(demand: Demand, memory_bytes: int | None) -> tuple[Demand, str]:
    """With what `auto` takes for several devices, and why: ddp where a whole model fits, else fsdp, if possible."""
    if demand.spread.processes == 1:
        return replace(demand, spread=Spread()), "one process"
    whole = replace(demand, spread=replace(demand.spread, engine="ddp", offload=False))
    shared = replace(demand, spread=replace(demand.spread, engine="fsdp"))
    needs = format_bytes(whole.memory().total)
    if memory_bytes is None:
        return whole, "the memory of a device is unknown; fsdp needs less"
    if whole.fits(memory_bytes):
        return whole, f"{needs} for a whole model on each device, which has {format_bytes(memory_bytes)}"
    too_large = f"a whole model on each device would need {needs} of {format_bytes(memory_bytes)}"
    reason = why_not_shared(demand.optimizer, demand.precision)
    if reason:
        return whole, f"{too_large}, and {reason}"
    return shared, f"{too_large}, so it is shared out"


def smaller(demand: Demand) -> Demand | None:
    """The next way to need less: half the rows, then gradient checkpointing; None after one row with it."""
    if demand.rows_at_once > 1:
        return replace(demand, rows_at_once=demand.rows_at_once // 2)
    if not demand.gradient_checkpointing:
        return replace(demand, gradient_checkpointing=True)
    return None


def fitted(demand: Demand, memory_bytes: int) -> Demand:
    """What `--auto-fit` begins with: fewer rows at once where they do not fit, then gradient checkpointing, too.

    Fewer rows cost little time, computing activations again a third.

    Raises:
        OutOfMemoryError: not even one row with gradient checkpointing fits; names the largest part and other ways.
    """
    wanted = demand
    while not demand.fits(memory_bytes):
        less = smaller(demand)
        if less is None:
            name, size = demand.memory().largest
            raise OutOfMemoryError(
                f"not even one row with gradient checkpointing fits into {format_bytes(memory_bytes)}: "
                f"{format_bytes(demand.memory().total)} are needed, {format_bytes(size)} of them for {name}",
                hint=hint_for(wanted, memory_bytes),
            )
        demand = less
    if demand.gradient_checkpointing and not wanted.gradient_checkpointing:  # which leaves room for more rows
        for rows in range(wanted.rows_at_once, 0, -1):
            more = replace(demand, rows_at_once=rows)
            if more.fits(memory_bytes):
                return more
    return demand


def flags(wanted: Demand, now: Demand) -> str:
    """The flags of `train` that lead from one to the other."""
    words = []
    if now.precision != wanted.precision:
        words.append(f"--precision {now.precision}")
    if now.rows_at_once != wanted.rows_at_once:
        words.append(f"--micro-batch-rows {now.rows_at_once}")
    if now.gradient_checkpointing and not wanted.gradient_checkpointing:
        words.append("--gradient-checkpointing")
    if now.optimizer != wanted.optimizer:
        words.append(f"--optimizer {now.optimizer}")
    if now.context_tokens != wanted.context_tokens:
        words.append(f"--context-tokens {now.context_tokens}")
    spread = now.spread
    if spread != wanted.spread:
        words.append(f"--engine {spread.engine}")
        if spread.engine == "deepspeed":
            words.append(f"--zero-stage {spread.zero_stage}")
        if spread.offload and not wanted.spread.offload:
            words.append("--offload")
    return " ".join(words)


def candidates(demand: Demand) -> list[Demand]:
    """Ways to need less, the cheapest first."""
    rows = [n for n in (demand.rows_at_once // 2, 1) if 0 < n < demand.rows_at_once]
    again = replace(demand, gradient_checkpointing=True)
    found = [replace(demand, rows_at_once=n) for n in dict.fromkeys(rows)]
    if not demand.gradient_checkpointing:
        found += [again, replace(again, rows_at_once=1)]
    spread = demand.spread
    of_shared = "fp32" if demand.precision == "fp16" else demand.precision  # fsdp has no loss scale
    can_share = spread.processes > 1 and "fsdp" in ENGINES_OF[demand.optimizer]
    if can_share and spread.engine in ("plain", "ddp"):
        shared = replace(demand, spread=replace(spread, engine="fsdp"), precision=of_shared)
        found += [shared, replace(shared, rows_at_once=1, gradient_checkpointing=True)]
    if can_share and demand.on_gpu and not spread.offload:
        offloaded = replace(spread, engine="fsdp", offload=True)
        found.append(replace(again, rows_at_once=1, spread=offloaded, precision=of_shared))
    if demand.optimizer == "adamw":
        found.append(replace(again, rows_at_once=1, optimizer="muon"))
    if demand.context_tokens > 256:
        found.append(replace(again, rows_at_once=1, context_tokens=demand.context_tokens // 2))
    return found


def hint_for(demand: Demand, memory_bytes: int | None) -> str:
    """The flags that would fit into a device; where none would, or its memory is unknown, those that need least."""
    ways = {flags(demand, way): way for way in candidates(demand)}
    ways.pop("", None)
    if memory_bytes is not None and demand.fits(memory_bytes):  # others use the memory, too, or the estimate is wrong
        return "what fits by the estimate did not; try " + listed(ways)
    fitting = {words: way for words, way in ways.items() if memory_bytes is not None and way.fits(memory_bytes)}
    if fitting:
        return "these fit: " + listed(fitting)
    least = min(ways, key=lambda words: ways[words].memory().total, default=None)
    if least is None:
        return "use a smaller model, or more memory"
    return f"nothing fits by flags alone; least needs {listed({least: ways[least]})}; use a smaller model, more devices"


def listed(ways: dict[str, Demand]) -> str:
    """Up to three of them, with what each needs."""
    return ", or ".join(f"{words} ({format_bytes(way.memory().total)})" for words, way in list(ways.items())[:3])
