"""GRPO: prompts of a step, answers from our own generation, rewards, and TRL's update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import ConfigError
from mamba_slm.finetuning.alignment.config import AlignConfig
from mamba_slm.finetuning.alignment.data import EncodedPrompt, PreparedAlignment
from mamba_slm.finetuning.alignment.rollouts import Drawn, draw
from mamba_slm.finetuning.alignment.setup import (
    arguments_of,
    arithmetic_of,
    hf_tokenizer,
    optimizer_and_schedule,
    without_known_warnings,
)
from mamba_slm.finetuning.recording import OpenedRun
from mamba_slm.finetuning.rewards.named import reward_named
from mamba_slm.finetuning.rewards.rollout import Reward, Rollout
from mamba_slm.finetuning.step_plan import StepPlan
from mamba_slm.runs.metrics import MetricsWriter
from mamba_slm.text.tokenizer import IM_END, Tokenizer

Say = Callable[[str], None]
ROLLOUTS_FILE = "rollouts.jsonl"


def rewards_of(config: AlignConfig) -> list[Reward]:
    """The rewards that are asked for.

    Raises:
        ConfigError: none is; UnknownNameError and others: see `reward_named`.
    """
    if not config.reward:
        raise ConfigError("grpo needs something to reward", hint="--reward math, or --reward FILE.py:FUNCTION")
    found: list[Reward] = []
    for text in config.reward:
        if looks_like_model(text):
            from mamba_slm.finetuning.alignment.reward_model import ModelReward

            found.append(ModelReward(text, device=config.device))
        else:
            found.append(reward_named(text))
    return found


def looks_like_model(text: str) -> bool:
    """Whether a reward is the path of a run or a model folder."""
    return Path(text).is_dir()


def end_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens that end an answer."""
    turn = tokenizer.first_id_of([IM_END])
    return tuple(dict.fromkeys(id for id in (turn, tokenizer.eos_id) if id is not None))


def rollout_of(prompt: EncodedPrompt, drawn: Drawn, tokenizer: Tokenizer) -> Rollout:
    """An answer as rewards look at it."""
    return Rollout(
        messages=tuple(prompt.prompt.messages),
        completion=tokenizer.decode(drawn.tokens),
        num_tokens=len(drawn.tokens),
        finished=drawn.finished,
        answer=prompt.prompt.answer,
        fields=prompt.prompt.fields,
        origin=prompt.prompt.origin,
    )


def empty_rollouts(prompts: Sequence[EncodedPrompt], tokenizer: Tokenizer) -> list[Rollout]:
    """Prompts without an answer, for `Reward.check`."""
    return [rollout_of(prompt, Drawn(tokens=(), finished=True), tokenizer) for prompt in prompts]


def room_for_answers(prepared: PreparedAlignment, config: AlignConfig, say: Say) -> int:
    """Most tokens of an answer: as asked for, or what the longest prompt leaves of the context."""
    longest = max(len(prompt.tokens) for prompt in (*prepared.prompts, *prepared.held_out_prompts))
    room = prepared.context_tokens - longest
    if room < config.max_new_tokens:
        say(f"answers have at most {room} tokens: the longest prompt has {longest} of {prepared.context_tokens}")
    return min(room, config.max_new_tokens)


class Rollouts:
    """Draws answers for TRL and scores them; keeps every one in RUN/rollouts.jsonl."""

    def __init__(
        self, config: AlignConfig, prepared: PreparedAlignment, rewards: Sequence[Reward], *, file: Path, say: Say
    ):
        self.config, self.prepared, self.rewards, self.file, self.say = config, prepared, list(rewards), file, say
        self.tokenizer = prepared.template.tokenizer
        self.max_new_tokens = room_for_answers(prepared, config, say)
        self.end_ids = end_ids(self.tokenizer)
        self.step = 0
        self.drawn: list[Rollout] = []
        self.scores: list[list[float]] = []

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Answers to prompts, which are numbers of `prepared.prompts`, each as often as its group is large."""
        numbers, group = [int(prompt) for prompt in prompts], self.config.group
        asked = [self.prepared.prompts[number] for number in numbers[::group]]
        assert numbers == [number for number in numbers[::group] for _ in range(group)]
        self.step = trainer.state.global_step + 1
        if self.step == 1 or not self.file.exists():
            self.file.write_text("", encoding="utf-8")
        with arithmetic_of(self.config):
            groups = self.draw(trainer.model, asked, seed=self.config.seed + 1_000_003 * self.step)
        answers = [answer for answers in groups for answer in answers]
        self.drawn = [
            rollout_of(self.prepared.prompts[number], answer, self.tokenizer)
            for number, answer in zip(numbers, answers, strict=True)
        ]
        return {
            "prompt_ids": [list(self.prepared.prompts[number].tokens) for number in numbers],
            "completion_ids": [list(answer.tokens) for answer in answers],
            "logprobs": None,
        }

    def draw(self, model: Any, prompts: Sequence[EncodedPrompt], *, seed: int) -> list[list[Drawn]]:
        """A group of answers to each prompt."""
        return draw(
            model,
            [prompt.tokens for prompt in prompts],
            samples=self.config.group,
            max_new_tokens=self.max_new_tokens,
            end_ids=self.end_ids,
            temperature=self.config.temperature,
            seed=seed,
        )

    def scorers(self) -> list[Callable[..., list[float]]]:
        """The rewards as TRL calls them, one after the other, for the answers that were drawn last."""
        return [self.scorer(reward, is_last=reward is self.rewards[-1]) for reward in self.rewards]

    def scorer(self, reward: Reward, *, is_last: bool) -> Callable[..., list[float]]:
        """One of them."""

        def score(completions: Sequence[str], **_others: Any) -> list[float]:
            assert len(completions) == len(self.drawn)
            self.scores.append(reward.score(self.drawn))
            found = self.scores[-1]
            if is_last:
                self.keep()
            return found

        score.__name__ = reward.name
        return score

    def keep(self) -> None:
        """Write down what was drawn and what it was worth, and show some of it."""
        scores, self.scores = self.scores, []
        names = [reward.name for reward in self.rewards]
        shown = self.config.show_rollouts if self.step % self.config.log_every_steps == 0 or self.step == 1 else 0
        with MetricsWriter(self.file) as writer:
            for number, rollout in enumerate(self.drawn):
                rewards = {name: found[number] for name, found in zip(names, scores, strict=True)}
                writer.append(
                    {
                        "step": self.step, "origin": rollout.origin, "prompt": rollout.prompt,
                        "completion": rollout.completion, "tokens": rollout.num_tokens, "finished": rollout.finished,
                        "rewards": rewards,
                    }
                )  # fmt: skip
                if number < shown:
                    worth = ", ".join(f"{name} {value:g}" for name, value in rewards.items())
                    self.say(f"rollout ({worth}): {rollout.prompt[-60:]!r} → {rollout.completion[:160]!r}")


def score_all(rollouts: Sequence[Rollout], rewards: Sequence[Reward], weights: Sequence[float]) -> list[float]:
    """The weighted sum of the rewards of each answer."""
    total = [0.0] * len(rollouts)
    for reward, weight in zip(rewards, weights or [1.0] * len(rewards), strict=True):
        for number, value in enumerate(reward.score(rollouts)):
            total[number] += weight * value
    return total


def make_group_trainer(
    opened: OpenedRun,
    model: Any,
    config: AlignConfig,
    plan: StepPlan,
    prepared: PreparedAlignment,
    rollouts: Rollouts,
    *,
    peak_rate: float,
    callbacks: Sequence[Any],
) -> Any:
    """TRL's GRPO with our answers and rewards; a reference is held in memory only where beta asks for one in full."""
    from datasets import Dataset

    with without_known_warnings():
        from trl.trainer.grpo_config import GRPOConfig

        from mamba_slm.finetuning.alignment.trainers import RolloutTrainer

        args = GRPOConfig(
            **arguments_of(opened, config, plan, include_num_input_tokens_seen="no"),  # TRL counts them itself
            num_generations=config.group,
            max_completion_length=rollouts.max_new_tokens,
            temperature=config.temperature,
            epsilon=config.clip,
            num_iterations=config.updates,
            scale_rewards="group" if config.scale_rewards else "none",
            reward_weights=list(config.reward_weights) or None,
            beta=0.0,
        )
        trainer = RolloutTrainer(
            model,
            args=args,
            beta=config.chosen_beta,
            reference=frozen_copy(model) if config.chosen_beta and config.method == "full" else None,
            reward_funcs=rollouts.scorers(),
            rollout_func=rollouts,
            train_dataset=Dataset.from_list([{"prompt": str(number)} for number in range(len(prepared.prompts))]),
            processing_class=hf_tokenizer(rollouts.tokenizer),
            optimizers=optimizer_and_schedule(opened, model, config, plan, peak_rate),
            callbacks=list(callbacks),
        )
    return trainer


def frozen_copy(model: Any) -> Any:
    """The model as it is now, for a reference that is asked about every new answer."""
    copied = copy.deepcopy(model).eval()
    return copied.requires_grad_(False)
