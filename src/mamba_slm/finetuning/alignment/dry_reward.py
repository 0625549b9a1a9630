"""What rewards say about a model before any training: whether there is anything to learn from."""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.data import prepare_alignment
from mamba_slm.finetuning.alignment.group_training import Rollouts, empty_rollouts, rewards_of, rollout_of
from mamba_slm.finetuning.alignment.setup import arithmetic_of
from mamba_slm.finetuning.opened_model import load, with_room_for
from mamba_slm.finetuning.start import start_folder
from mamba_slm.model.checkpoint import load_config
from mamba_slm.training.precision import choose_device, choose_precision


@dataclass(frozen=True)
class DryRewards:
    """Answers and what they are worth."""

    rows: tuple[dict[str, Any], ...]
    """`prompt`, `completion`, `tokens`, `finished`, `rewards` by name, `total`."""

    group: int

    @property
    def useful_groups(self) -> float:
        """Share of the groups whose answers are not all worth the same: only from these GRPO learns."""
        totals = [row["total"] for row in self.rows]
        groups = [totals[begin : begin + self.group] for begin in range(0, len(totals), self.group)]
        return sum(len(set(each)) > 1 for each in groups) / max(1, len(groups))

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"answers": list(self.rows), "useful_groups": self.useful_groups, "rewards": self.summary()}

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation of each reward."""
        names = self.rows[0]["rewards"] if self.rows else {}
        columns = {name: [row["rewards"][name] for row in self.rows] for name in names}
        return {
            name: {"mean": statistics.fmean(values), "deviation": statistics.pstdev(values)}
            for name, values in columns.items()
        }

    def __str__(self) -> str:
        """For people."""
        lines = [
            f"{name}: mean {found['mean']:.3f}, standard deviation {found['deviation']:.3f}"
            for name, found in self.summary().items()
        ]
        ended = sum(row["finished"] for row in self.rows)
        lines.append(f"{ended} of {len(self.rows)} answers ended by themselves")
        lines.append(f"{self.useful_groups:.0%} of the groups of {self.group} have answers of different worth")
        if self.useful_groups == 0:
            lines.append("grpo would learn nothing: give an easier reward, other prompts, or a larger --group")
        return "\n".join(lines)


def dry_rewards(config: AlignConfig, *, answers: int, say: Callable[[str], None]) -> DryRewards:
    """Draw about so many answers to the first prompts, and score them; leaves nothing on disk.

    Raises: see `alignment.run.align`.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device.value)
    config = dataclasses.replace(config, device=device.value, precision=precision.value)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name, arithmetic_of(config):
        scratch = Path(name)
        folder = start_folder(config.model, scratch, say)
        limit = load_config(folder).max_context_tokens
        prepared = prepare_alignment(config, folder, max_context_tokens=limit, say=say)
        prompts = prepared.prompts[: math.ceil(answers / config.group)]
        rewards = rewards_of(config)
        tokenizer = prepared.template.tokenizer
        for reward in rewards:
            reward.check(empty_rollouts(prompts, tokenizer))
        settings: Any = config  # which has the same fields as a fine-tuning's
        model = load(settings, with_room_for(prepared.template, folder, scratch, say))
        rollouts = Rollouts(config, prepared, rewards, file=scratch / "rollouts.jsonl", say=say)
        groups = rollouts.draw(model, prompts, seed=config.seed)
    drawn = [
        rollout_of(prompt, answer, tokenizer) for prompt, each in zip(prompts, groups, strict=True) for answer in each
    ]
    scores = {reward.name: reward.score(drawn) for reward in rewards}
    weights = dict(zip(scores, config.reward_weights or [1.0] * len(scores), strict=True))
    rows = []
    for number, one in enumerate(drawn):
        worth = {name: found[number] for name, found in scores.items()}
        total = sum(weights[name] * value for name, value in worth.items())
        rows.append(
            {
                "prompt": one.prompt, "completion": one.completion, "tokens": one.num_tokens,
                "finished": one.finished, "rewards": worth, "total": total,
            }
        )  # fmt: skip
    return DryRewards(tuple(rows), config.group)
