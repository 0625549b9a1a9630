"""Guessing ahead in the engine: what is guessed for which request, and how much of it pays.

A wrong guess costs its reading. With R requests in a step of `fixed` + R `per token` seconds a token is worth
fixed / R + per token, and a guess costs one `per token` and what guessing took: the more requests run, the likelier a
guess must be. So a request gets as many guesses as are likely enough, by how often its guesses were right; none where
not even the first one is, but now and then a trial, less and less often.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.runtime import Runtime
from mamba_slm.generation.speculative.decode import Draws
from mamba_slm.generation.speculative.proposals import DraftModel, Proposer, Source
from mamba_slm.serving.engine.checking import Checker, checker_of
from mamba_slm.serving.engine.executor import Executor
from mamba_slm.serving.engine.settings import EngineSettings
from mamba_slm.serving.engine.task import Task
from mamba_slm.serving.memory.pool import Pool

FIRST_REST, LONGEST_REST = 8, 64
"""Tokens that are made between two trials."""

FORGETS = 0.9
"""What earlier guesses count after each check."""

TIMED_TOKENS = 8
"""Guesses whose reading is timed."""

LEAST_ROUNDS, MOST_ROUNDS, TIMING_SECONDS = 3, 40, 0.5
"""How often, and how long, unless a model takes longer for the least."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of a step."""

    fixed_seconds: float
    """Reading the weights."""
    token_seconds: float
    """More for each token."""
    guess_seconds: float = 0.0
    """Making one guess."""

    def price(self, requests: int) -> float:
        """How likely a guess must be right to be worth its reading where so many requests run.

        >>> costs = Costs(fixed_seconds=9, token_seconds=1)
        >>> costs.price(1), costs.price(9)
        (0.1, 0.5)
        """
        return (self.token_seconds + self.guess_seconds) / (self.fixed_seconds / requests + self.token_seconds)


class Odds:
    """How likely the next guess of one request is right; at first, more likely than not.

    >>> odds = Odds()
    >>> odds.ask(0.5, 8)
    2
    >>> for _ in range(20):
    ...     odds.told(guessed=4, right=4)
    >>> odds.ask(0.5, 8)
    8
    """

    def __init__(self) -> None:
        self._right, self._wrong = 3.0, 1.0
        self._rest, self._rested = FIRST_REST, 0

    @property
    def likely(self) -> float:
        """0 to 1."""
        return self._right / (self._right + self._wrong)

    def ask(self, price: float, most: int) -> int:
        """Guesses that are worth more than `price`; called once per step."""
        likely = self.likely
        if likely >= 1:
            return most if price < 1 else 0
        count = most if price <= 0 else max(0, math.floor(math.log(min(price, 1.0)) / math.log(likely)))
        if count:
            return min(count, most)
        self._rested += 1
        if self._rested <= self._rest:
            return 0
        self._rested, self._rest = 0, min(2 * self._rest, LONGEST_REST)
        return 1

    def told(self, *, guessed: int, right: int) -> None:
        """How the last guesses went."""
        self._right = FORGETS * self._right + right
        self._wrong = FORGETS * self._wrong + (right < guessed)
        if right == guessed:
            self._rest = FIRST_REST


@dataclass
class Guessed:
    """About one request."""

    proposer: Proposer
    text: list[int]
    """Prompt and new tokens, as far as the proposer has seen them."""
    odds: Odds = field(default_factory=Odds)


class Guessing:
    """For all requests of an engine."""

    def __init__(self, source: Source, target: Runtime[Any], checker: Checker, costs: Costs):
        """
        Raises:
            ConfigError: guesses that make no sense to `target`.
        """
        source.start(target)
        self.checker, self.costs = checker, costs
        self._source, self._target = source, target
        costs_ms = f"{1e3 * costs.fixed_seconds:.2g} ms and {1e3 * costs.token_seconds:.2g} ms per token"
        self.description = (
            f"up to {source.most} tokens are guessed ahead where that pays: a step takes {costs_ms} (measured), so a "
            f"guess must be right {costs.price(1):.0%} of the time beside no other request, {costs.price(16):.0%} "
            "beside 15"
        )
        """For the user."""
        self._of: WeakKeyDictionary[Task, Guessed] = WeakKeyDictionary()

    def propose(self, tasks: Rows[Task], *, spare: int, pool: Pool) -> dict[Task, list[int]]:
        """Guesses of what follows the newest token, for those that have some.

        Args:
            tasks: all that make a token in this step.
            spare: tokens that may be read besides these.
            pool: whose free blocks, one for each task left out, may be had by guesses.
        """
        spare = min(spare, self.checker.most_tokens - len(tasks))
        price = self.costs.price(len(tasks))
        free = pool.blocks.num_free - len(tasks)
        guesses: dict[Task, list[int]] = {}
        for task in tasks:
            request, sequence = task.request, task.sequence
            if not request.guess or sequence is None or not self.checker.takes(request.adapter):
                continue
            known = self._known(task)
            left = min(request.max_new_tokens, task.room) - len(task.made) - 1
            most = min(known.odds.ask(price, self._source.most), spare, left)
            if most < 1:
                continue
            found = known.proposer.propose(
                known.text, most, Draws(request.sampler, task.row.generator, task.row.history)
            )
            blocks = -(-(sequence.num_tokens + 1 + len(found)) // pool.block_tokens) - len(sequence.blocks)
            if found and blocks <= max(free, 0):
                guesses[task] = found
                free -= max(blocks, 0)
                spare -= len(found)
        return guesses

    def told(self, task: Task, *, guessed: int, right: int) -> None:
        """How the guesses for a request went."""
        self._of[task].odds.told(guessed=guessed, right=right)

    def _known(self, task: Task) -> Guessed:
        """With the request's newest tokens."""
        known = self._of.get(task)
        if known is None:
            known = self._of[task] = Guessed(self._source.start(self._target), list(task.request.prompt))
        known.text += task.made[len(known.text) - len(task.request.prompt) :]
        return known


def open_guessing(
    source: Source, runtime: Runtime[Any], executor: Executor, pool: Pool, settings: EngineSettings
) -> Guessing:
    """Guesses for an engine over `executor`, which is timed a little.

    Raises:
        ConfigError: what computes cannot take tokens back, guesses make no sense to the model, or tokens must not
            depend on others by a bit, which how many guesses there are does.
    """
    if settings.batch_invariant:
        raise ConfigError(
            "how many tokens are guessed depends on what else runs, and in batch-invariant mode nothing may",
            hint="leave out --batch-invariant, or --draft and --prompt-lookup",
        )
    checker = checker_of(executor, pool)
    source.start(runtime)
    return Guessing(source, runtime, checker, measured_costs(checker, pool, source))


def measured_costs(checker: Checker, pool: Pool, source: Source) -> Costs:
    """The shortest times of calls with one token and with several, taken in turns; leaves the pool as it was."""
    calls: list[Callable[[], float]] = [partial(read_once, checker, pool, count) for count in (1, 1 + TIMED_TOKENS)]
    if isinstance(source, DraftModel):
        state, token = source.runtime.new_state(1), torch.tensor([[0]], device=source.runtime.device)
        calls.append(lambda: float(source.runtime.next_logits(token, None, state)[0, 0]))
    clock = time.process_time if pool.device.type == "cpu" else time.perf_counter  # others may use the processor, too
    best, began, rounds = [math.inf] * len(calls), time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() - began < TIMING_SECONDS):
        for place, call in enumerate(calls):
            started = clock()
            call()
            best[place] = min(best[place], clock() - started)
        rounds += 1
    one, several, *guess = best
    per_token = max((several - one) / TIMED_TOKENS, 1e-9)
    return Costs(
        fixed_seconds=max(one - per_token, 0.0), token_seconds=per_token, guess_seconds=guess[0] if guess else 0.0
    )


def read_once(checker: Checker, pool: Pool, count: int) -> float:
    """So many tokens at once, in a sequence that is closed again; a logit, for which a GPU must have finished."""
    sequence = pool.open()
    if sequence is None or not pool.grow(sequence, count):
        raise ConfigError("an engine that serves already cannot be timed", hint="open a new one")
    (logits,) = checker.check([sequence], [[0] * count])
    checker.keep([1])
    pool.close(sequence)
    return float(logits[0, 0])
