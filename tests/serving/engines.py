"""Engines over the small model, for tests."""

from __future__ import annotations

from collections import defaultdict

import torch

from mamba_slm.generation.sampling import Sampler
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.core import EngineCore
from mamba_slm.serving.engine.executor import TorchExecutor
from mamba_slm.serving.engine.request import EngineRequest, Failure
from mamba_slm.serving.engine.settings import EngineSettings
from mamba_slm.serving.memory.pool import Pool

GREEDY = Sampler.greedy()


class Clock:
    """Seconds that pass when somebody says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """A core, and everything that it answered by request."""

    def __init__(self, model, *, tokenizer=None, blocks=None, executor=TorchExecutor, **settings):
        settings = {
            "max_running": 4,
            "block_tokens": 8,
            "step_tokens": 24,
            "cache": CacheSettings(every=8, min_tokens=4),
        } | settings
        self.settings = EngineSettings(**settings)
        size = self.settings.block_tokens
        self.pool = Pool(
            model.config,
            slots=self.settings.max_running,
            blocks=blocks or 4 * self.settings.max_running * -(-model.config.max_context_tokens // size),
            block_tokens=size,
            device=torch.device("cpu"),
            dtype=model.embedding.weight.dtype,
        )
        self.clock = Clock()
        self.executor = executor(model, self.pool, is_batch_invariant=self.settings.batch_invariant)
        self.core = EngineCore(self.executor, self.pool, self.settings, tokenizer=tokenizer, clock=self.clock)
        self.answers = defaultdict(list)

    def submit(self, prompt, max_new_tokens=8, **settings):
        request = EngineRequest(prompt=tuple(prompt), max_new_tokens=max_new_tokens, **settings)
        answers = []
        number = self.core.submit(request, answers.append)
        self.answers[number] = answers
        return number

    def run(self, steps=10_000):
        """Until nothing is left to do."""
        for _ in range(steps):
            self.clock.now += 0.01
            if not self.core.step():
                return
        raise AssertionError("the engine does not come to an end")

    def tokens(self, number):
        assert not any(isinstance(answer, Failure) for answer in self.answers[number]), self.answers[number]
        return [answer.token for answer in self.answers[number]]

    def text(self, number):
        return "".join(answer.text for answer in self.answers[number])

    def last(self, number):
        return self.answers[number][-1]

    def ask(self, prompt, max_new_tokens=8, **settings):
        number = self.submit(prompt, max_new_tokens, **settings)
        self.run()
        return self.tokens(number)


def random_prompts(lengths, *, vocab_size=320, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, vocab_size, (length,), generator=generator).tolist() for length in lengths]
