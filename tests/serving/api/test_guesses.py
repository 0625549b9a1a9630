"""Guessing ahead as clients see it: they do not, but for a field that switches it off."""

from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.speculative.proposals import DraftModel
from mamba_slm.serving.engine.checking import checker_of
from mamba_slm.serving.engine.guessing import Costs, Guessing
from mamba_slm.serving.engine.observer import Observer
from serving.servers import Served


class Counting(Observer):
    drafted = 0

    def guessed(self, *, drafted, accepted):
        self.drafted += drafted


def test_answers_stay_as_they_are_and_a_request_may_have_no_guesses():
    served = Served(context_tokens=96)
    try:
        core, runtime = served.cores.core, TorchRuntime(served.model)
        expected = served.complete(max_tokens=12).json()["choices"][0]["text"]
        core.observer = Counting()
        checker = checker_of(served.cores.executor, served.cores.pool)
        core.guessing = Guessing(DraftModel(runtime=runtime), runtime, checker, Costs(fixed_seconds=1, token_seconds=0))
        assert served.complete(max_tokens=12, speculative=False).json()["choices"][0]["text"] == expected
        assert core.observer.drafted == 0
        whole = served.complete(max_tokens=12).json()
        assert whole["choices"][0]["text"] == expected and whole["usage"]["completion_tokens"] == 12
        assert core.observer.drafted > 0
        stopped = served.complete(max_tokens=12, stop=expected[3:5]).json()["choices"][0]
        assert stopped["text"] == expected[: expected.index(expected[3:5])] and stopped["finish_reason"] == "stop"
    finally:
        served.close()
