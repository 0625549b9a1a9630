"""Programs earn their reward by running, where they can do no harm."""

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.finetuning.rewards.code import Code, program_that_checks
from mamba_slm.finetuning.rewards.rollout import Rollout
from mamba_slm.tasks.sandbox.limits import SandboxLimits

TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"


def rollout(completion="", **settings):
    return Rollout(messages=(), completion=completion, num_tokens=1, finished=True, **settings)


def test_a_program_that_passes_its_tests_is_rewarded_and_one_that_leaves_early_is_not():
    good = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    wrong = "```python\ndef add(a, b):\n    return a - b\n```"
    leaves = "```python\nimport os\nos._exit(0)\n```"
    answers = [good, wrong, leaves, good]
    reward = Code(SandboxLimits(timeout_seconds=120), workers=2)
    found = reward.score([rollout(answer, fields={"tests": TESTS}) for answer in answers])
    assert found == [1.0, 0.0, 0.0, 1.0]


def test_tests_are_read_as_the_benchmarks_write_them():
    mbpp = rollout(fields={"test_list": ["assert f(1) == 1", "assert f(2) == 2"], "test_setup_code": "import math"})
    assert program_that_checks(mbpp) == "import math\nassert f(1) == 1\nassert f(2) == 2"
    humaneval = rollout(fields={"test": "def check(f):\n    assert f(1)", "entry_point": "go"})
    assert program_that_checks(humaneval).endswith("check(go)")
    assert program_that_checks(rollout(answer="assert True")) == "assert True"


def test_prompts_without_tests_are_refused_before_anything_runs():
    with pytest.raises(DataError, match="1 of 1 have none, such as line 3"):
        Code().check([rollout(origin="line 3")])
