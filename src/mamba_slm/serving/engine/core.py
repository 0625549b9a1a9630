"""The engine without a thread: requests go in, `step` runs all of them a little further, answers come out.

A step is planned by the scheduler, a pure function, and then carried out: states are moved out of and into slots, every
running request makes a token in one call of the model, and pieces of prompts are read in another. States are kept for
later prompts on the way (`serving.cache`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, ConfigError, MambaSlmError
from mamba_slm.generation.prefill import check_prompts
from mamba_slm.generation.stream import TokenBytes
from mamba_slm.model.count import forward_flops_per_token
from mamba_slm.serving.cache.prefix_cache import PrefixCache
from mamba_slm.serving.engine.choosing import choose
from mamba_slm.serving.engine.drawn import Drawn
from mamba_slm.serving.engine.executor import Executor, ReadPiece
from mamba_slm.serving.engine.followers import leader_of
from mamba_slm.serving.engine.guessing import Guessing
from mamba_slm.serving.engine.holds import Holds
from mamba_slm.serving.engine.keeping import Keeper
from mamba_slm.serving.engine.load import Load, load_of
from mamba_slm.serving.engine.observer import Observer, StepCounts
from mamba_slm.serving.engine.request import Deliver, EngineRequest, Failure
from mamba_slm.serving.engine.room import Room
from mamba_slm.serving.engine.settings import INVARIANT_PIECE_TOKENS, EngineSettings
from mamba_slm.serving.engine.task import Task
from mamba_slm.serving.memory.pool import Pool
from mamba_slm.serving.scheduler.job import Limits
from mamba_slm.serving.scheduler.plan import plan

MOST_TENANTS = 10_000
"""Whose tokens are counted; beyond them, those who ask for nothing now are forgotten. Anybody can name new ones."""


class QueueFullError(ConfigError):
    """As many requests wait as may."""


class EngineCore:
    """All requests of one model; used by one thread."""

    def __init__(
        self,
        executor: Executor,
        pool: Pool,
        settings: EngineSettings,
        *,
        tokenizer: TokenBytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            tokenizer: makes text of tokens and finds stop strings; None: answers have no text.
            clock: seconds; only differences count.
        """
        self.settings, self.config = settings, executor.config
        self._executor, self._pool, self._tokenizer, self._clock = executor, pool, tokenizer, clock
        self._limits = Limits(
            slots=settings.max_running,
            block_tokens=pool.block_tokens,
            step_tokens=settings.step_tokens,
            ageing_seconds=settings.ageing_seconds,
        )
        self.cache = PrefixCache(
            settings.cache,
            memory=pool.blocks,
            block_bytes=pool.block_bytes,
            flops=lambda tokens: tokens * forward_flops_per_token(executor.config, max(tokens, 1)),
            drop=pool.drop,  # type: ignore[arg-type]
        )
        self._room = Room(pool, self.cache, self._limits)
        self.keeper = Keeper(self.cache, pool, settings)
        """Puts states into the cache; set its `disk` before the first request."""
        self._tasks: dict[int, Task] = {}
        self._served: Counter[str] = Counter()
        self._next_number = 0
        self.suspensions = 0
        """States that were moved out of their slots so far."""
        self.observer = Observer()
        """Told what happens; set it before the first request."""
        self.adapters = Holds()
        """Told which adapters are in use; set it before the first request."""
        self.guessing: Guessing | None = None
        """Who guesses tokens ahead; set it before the first request."""
        self.decoded_tokens = self.read_tokens = 0
        """That the model computed so far: newest ones of running requests, and those of prompts."""

    @property
    def num_running(self) -> int:
        """Requests with a slot."""
        return sum(task.sequence is not None for task in self._tasks.values())

    @property
    def num_waiting(self) -> int:
        """Requests without one."""
        return len(self._tasks) - self.num_running

    @property
    def num_blocks(self) -> int:
        """Of keys and values, whoever holds them."""
        return self._pool.blocks.count

    @property
    def state_bytes(self) -> int:
        """What Mamba layers remember of one text."""
        return self._pool.state_bytes

    @property
    def kv_usage(self) -> float:
        """Share of the blocks that running requests hold, 0 to 1; those that only the cache holds can be had."""
        blocks = self._pool.blocks
        return (blocks.count - blocks.num_free - self.cache.reclaimable_blocks()) / blocks.count

    def load(self) -> Load:
        """How busy it is now."""
        return load_of(self._tasks.values(), kv_usage=self.kv_usage)

    def submit(self, request: EngineRequest, deliver: Deliver) -> int:
        """Take a request; its number, for `cancel`.

        Raises:
            ConfigError: a prompt that the model cannot continue, or a stop string that is empty.
            QueueFullError: as many wait as may.
        """
        check_prompts(self.config, [request.prompt], earlier_tokens=[0], max_new_tokens=request.max_new_tokens)
        if self.num_waiting >= self.settings.max_waiting:
            raise QueueFullError(
                f"{self.num_waiting} requests are waiting, which is as many as may", hint="try again later"
            )
        self.observer.queued(request)
        number, self._next_number = self._next_number, self._next_number + 1
        task = Task.of(
            number,
            request,
            deliver,
            now=self._clock(),
            tokenizer=self._tokenizer,
            context_tokens=self.config.max_context_tokens,
            vocab_size=self.config.vocab_size,
            device=self._pool.device,
        )
        self.adapters.hold(request.adapter)
        self._tasks[number] = task
        return number

    def cancel(self, number: int) -> None:
        """Forget a request and free what it holds; nothing where it is done already."""
        task = self._tasks.get(number)
        if task is not None:
            self._forget(task)
            self.observer.cancelled(task.request, total_seconds=self._clock() - task.submitted)

    def _forget(self, task: Task) -> None:
        del self._tasks[task.number]
        if task.sequence is not None:
            self._pool.close(task.sequence)
        self.adapters.release(task.request.adapter)

    def _fail(self, task: Task, error: MambaSlmError) -> None:
        self._forget(task)
        self.observer.failed(task.request, error, total_seconds=self._clock() - task.submitted)
        task.deliver(Failure(error))

    def fail_all(self, error: MambaSlmError) -> None:
        """End all requests with an error."""
        for task in list(self._tasks.values()):
            self._fail(task, error)

    def step(self) -> bool:
        """Run every request as far as the scheduler says; whether there was anything to do."""
        if not self._tasks:
            return False
        now = self._clock()
        decoded, read = self.decoded_tokens, self.read_tokens
        waiting = [task for task in self._tasks.values() if task.sequence is None and task.parked is None]
        for task in waiting:
            task.waits_for = leader_of(task, self._tasks.values())
        if len(self._served) > MOST_TENANTS:
            here = {task.request.tenant for task in self._tasks.values()}
            self._served = Counter({tenant: self._served[tenant] for tenant in here})
        jobs = [task.job() for task in self._tasks.values()]
        free = self._room.blocks_for(jobs)
        made = plan(jobs, free_blocks=free, limits=self._limits, now=now, served=self._served)
        for number in made.suspend:
            self._suspend(self._tasks[number])
        for number in made.start:
            self._start(self._tasks[number], now)
        spare = self._limits.step_tokens - len(made.decode) - sum(count for _, count in made.read)
        self._decode([self._tasks[number] for number in made.decode], spare)
        self._read([(self._tasks[number], count) for number, count in made.read if number in self._tasks])
        self.observer.stepped(
            StepCounts(
                decoded_tokens=self.decoded_tokens - decoded,
                read_tokens=self.read_tokens - read,
                seconds=self._clock() - now,
            )
        )
        return True

    def _suspend(self, task: Task) -> None:
        assert task.sequence is not None
        task.parked, task.sequence = self._pool.park(task.sequence), None
        task.suspensions += 1
        self.suspensions += 1
        self.observer.suspended(task.request)

    def _start(self, task: Task, now: float) -> None:
        """Give a slot to a request: with its own state, with one of the cache, or empty."""
        if task.parked is not None:
            task.sequence = self._room.unpark(task.parked)
            if task.sequence is not None:
                task.parked, task.sequence.adapter = None, task.request.adapter
                self.observer.resumed(task.request)
            return
        request = task.request
        found = self.cache.find(
            request.namespace,
            request.prompt,
            enabled=request.use_cache,
            usable=self.keeper.usable(len(request.prompt)),
        )
        task.sequence = self._room.open(found, len(request.prompt))
        at = task.sequence.num_tokens
        task.sequence.adapter = request.adapter
        task.started, task.at, task.cached = now, at, at
        self.observer.started(request, queued_seconds=now - task.submitted, cached_tokens=at)
        self.keeper.plan_cuts(task, found.branch)
        if not task.unread:
            assert found.entry is not None
            assert isinstance(found.entry.logits, Tensor)
            self._take([task], found.entry.logits[None])

    def _decode(self, tasks: list[Task], spare: int) -> None:
        """One token of every task that has one to feed, and more where they are guessed; `spare` guesses at most."""
        ready = sorted(
            (task for task in tasks if task.sequence is not None and self._room.grow(task.sequence, 1)),
            key=lambda task: task.sequence.slot if task.sequence is not None else 0,  # neighbours need no copy
        )
        guesses = self.guessing.propose(ready, spare=spare, pool=self._pool) if self.guessing and ready else {}
        checker = self.guessing.checker if self.guessing and guesses else None
        checked = [task for task in ready if checker and checker.takes(task.request.adapter)]
        stepped = [task for task in ready if task not in checked]
        if stepped:
            logits = self._executor.step(
                [task.sequence for task in stepped if task.sequence is not None], [task.made[-1] for task in stepped]
            )
            self.decoded_tokens += len(stepped)
            self._take(stepped, logits)
        if checked:
            self._check({task: guesses.get(task, []) for task in checked})

    def _check(self, guesses: dict[Task, list[int]]) -> None:
        """The next token of every task, and those behind it as far as they were guessed."""
        assert self.guessing is not None
        tasks, checker = list(guesses), self.guessing.checker
        for task, guessed in guesses.items():
            grown = task.sequence is not None and self._pool.grow(task.sequence, 1 + len(guessed))
            assert grown, "guesses were given blocks"
        logits = checker.check(
            [task.sequence for task in tasks if task.sequence is not None],
            [[task.made[-1], *guessed] for task, guessed in guesses.items()],
        )
        drawn: dict[Task, Drawn] = {task: Drawn(task.latest) for task in tasks}
        rows, going = dict(zip(tasks, logits, strict=True)), tasks
        for place in range(1 + max(map(len, guesses.values()))):
            self._draw(going, torch.stack([rows[task][place] for task in going]), drawn)
            going = [task for task in going if drawn[task].is_as_guessed(guesses[task], place)]
            if not going:
                break
        counts = [max(len(drawn[task].pieces), 1) for task in tasks]
        checker.keep(counts)
        self.decoded_tokens += sum(counts)
        for task, count in zip(tasks, counts, strict=True):
            if guessed := len(guesses[task]):
                right = count - 1 + drawn[task].is_as_guessed(guesses[task], count - 1)
                self.guessing.told(task, guessed=guessed, right=right)
                self.observer.guessed(drafted=guessed, accepted=right)
        self._tell(drawn)

    def _read(self, wanted: list[tuple[Task, int]]) -> None:
        """Up to so many more tokens of prompts, keeping states on the way; first tokens where nothing is left.

        All in one call of the model; in batch-invariant mode one by one, in pieces that are the same whatever else is
        read, so that it may be more than was planned.
        """
        ends = {task: min(task.at + count, len(task.request.prompt)) for task, count in wanted}
        while reading := [task for task, end in ends.items() if task.sequence is not None and task.at < end]:
            stops = {task: ends[task] for task in reading}
            if self.settings.batch_invariant:
                task, every = reading[0], INVARIANT_PIECE_TOKENS
                stops = {task: min(task.at - task.at % every + every, len(task.request.prompt))}
            for task, stop in list(stops.items()):
                if task.sequence is None or not self._room.grow(task.sequence, stop - task.at):
                    del stops[task], ends[task]
            if stops:
                self._read_once(stops)

    def _read_once(self, stops: dict[Task, int]) -> None:
        """One call that reads every task up to its stop."""
        inner = {task: self.keeper.inner_cuts(task, stop) for task, stop in stops.items()}
        pieces = [
            ReadPiece(
                sequence=task.sequence,
                tokens=task.request.prompt[task.at : stop],
                keep_after=[cut - task.at for cut in inner[task]],
            )
            for task, stop in stops.items()
            if task.sequence is not None
        ]
        done: list[tuple[Task, Tensor]] = []
        for (task, stop), read in zip(stops.items(), self._executor.read(pieces), strict=True):
            self._served[task.request.tenant] += stop - task.at
            self.read_tokens += stop - task.at
            task.at = stop
            self.keeper.keep(task, inner[task], read)
            if not task.unread:
                done.append((task, read.logits))
        if done:
            self._take([task for task, _ in done], torch.stack([logits for _, logits in done]))

    def _take(self, tasks: list[Task], logits: Tensor) -> None:
        """Draw the next token of each from its row of [b v], and tell."""
        drawn = {task: Drawn(task.latest) for task in tasks}
        self._draw(tasks, logits, drawn)
        self._tell(drawn)

    def _draw(self, tasks: list[Task], logits: Tensor, drawn: dict[Task, Drawn]) -> None:
        """Draw one more token of each from its row of [b v]."""
        choices = choose(logits, [task.row for task in tasks], one_by_one=self.settings.batch_invariant)
        now = self._clock()
        for task, choice in zip(tasks, choices, strict=True):
            if isinstance(choice, MambaSlmError):
                drawn[task].error = choice
            else:
                self._served[task.request.tenant] += 1
                drawn[task].pieces.append(task.take(choice, now))

    def _tell(self, drawn: dict[Task, Drawn]) -> None:
        """End what has come to its end, and deliver."""
        firsts: list[float] = []
        gaps: list[float] = []
        for task, each in drawn.items():
            if task.latest is not None and each.pieces:
                if each.before is None:
                    firsts.append(task.latest - task.submitted)
                else:
                    gaps.append(task.latest - each.before)
            last = each.pieces[-1] if each.pieces else None
            if last is not None and last.finish_reason is not None and last.usage is not None:
                self.keeper.keep_end(task)
                self._forget(task)
                self.observer.finished(task.request, last.usage, last.finish_reason)
        self.observer.delivered(
            sum(len(each.pieces) for each in drawn.values()), first_seconds=firsts, gap_seconds=gaps
        )
        for task, each in drawn.items():
            for piece in each.pieces:
                task.deliver(piece)
            if each.error is not None:
                self._fail(task, each.error)


def not_finished(error: Exception) -> CheckFailedError:
    """What a request is told when the engine itself failed."""
    return CheckFailedError(
        f"the engine failed: {type(error).__name__}: {error}", hint="this is a bug of the server; its log says more"
    )
