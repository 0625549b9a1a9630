"""Promises of the measured speed: both sides do the same work, in turns, and the first round does not count."""

import itertools

import torch

from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.quantization.speed import measure_speed
from small_models import varied_model


class Counting(TorchRuntime):
    """Remembers what it was asked, in an order shared with others."""

    def __init__(self, name, order):
        super().__init__(varied_model())
        self.name, self.order = name, order

    def next_logits(self, tokens, padding_mask, state):
        self.order.append((self.name, tokens.shape[1]))
        return super().next_logits(tokens, padding_mask, state)


def test_both_read_the_same_prompt_and_as_many_tokens_in_turns():
    order = []
    a, b = Counting("before", order), Counting("after", order)
    measure_speed(a, b, rounds=2, prompt_tokens=20, decode_tokens=3)
    turns = [(name, [size for _, size in group]) for name, group in itertools.groupby(order, key=lambda each: each[0])]
    assert turns == [("before", [20, 1, 1, 1]), ("after", [20, 1, 1, 1])] * 3


def test_the_rates_come_from_the_clock_without_the_first_round():
    ticks = iter([0, 900, 1000, 2000, 2900, 3000, 0, 1, 3, 5, 6, 7])
    speed = measure_speed(
        TorchRuntime(varied_model()), TorchRuntime(varied_model()), rounds=1, prompt_tokens=8, decode_tokens=4,
        clock=lambda: float(next(ticks)),
    )  # fmt: skip
    assert (speed.prefill_before, speed.decode_before, speed.prefill, speed.decode) == (8, 2, 8, 4)
    assert (speed.decode_ratio, speed.prefill_ratio) == (2, 1)


def test_a_short_context_shortens_the_work():
    model = varied_model(max_context_tokens=10)
    order = []
    runtime = Counting("both", order)
    runtime.model, runtime.config = model, model.config
    measure_speed(runtime, runtime, rounds=1)
    assert max(size for _, size in order) + 5 <= 10 and torch.isfinite(torch.tensor(len(order)))
