"""A reward says what it promises, refuses data that it cannot judge, and cannot be talked into a point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError, UnknownNameError, UsageError
from mamba_slm.finetuning.rewards.form import Form, Length
from mamba_slm.finetuning.rewards.math_answer import MathAnswer, final_answer, is_right, value_of
from mamba_slm.finetuning.rewards.named import reward_named
from mamba_slm.finetuning.rewards.rollout import Rollout


def rollout(completion="", **settings):
    settings = {"messages": ({"role": "user", "content": "How many?"},), "num_tokens": 1, "finished": True} | settings
    return Rollout(completion=completion, **settings)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("3 and 4 make 7.\n#### 7", "She has 3 + 4 = <<3+4=7>>7.\n#### 7"),
        ("so \\boxed{1{,}000}? no: \\boxed{1,000}", "1000"),
        ("The answer is $18.50.", "#### 18.5"),
        ("x = \\boxed{\\frac{2}{4}}", "0.5"),
        ("it is 1/2", "\\boxed{0.50}"),
        ("answer: -3", "-3"),
        ("\\boxed{x + 1}", "\\boxed{x+1}"),
        ("answer is 50%", "50"),
    ],
)
def test_the_same_answer_written_otherwise_is_right(completion, answer):
    assert is_right(completion, answer)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("1 2 3 4 5 6 7 8", "#### 7"),  # many numbers, only the last one counts
        ("#### 7 is what I first thought.\n#### 8", "7"),
        ("", "7"),
        ("I do not know", "7"),
        ("\\boxed{", "7"),
        ("1/0", "7"),
        ("70", "7"),
        ("0.7", "7"),
    ],
)
def test_another_answer_or_none_is_wrong(completion, answer):
    assert not is_right(completion, answer)


@given(st.integers(-(10**9), 10**9))
def test_every_whole_number_is_found_however_it_is_marked(number):
    for text in (f"#### {number}", f"\\boxed{{{number:,}}}", f"The answer is {number}.", f"That makes {number}"):
        found = final_answer(text)
        assert found is not None and value_of(found) == number


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader_of_answers(text):
    assert MathAnswer().score([rollout(text, answer="3")])[0] in (0.0, 1.0)


def test_math_names_the_prompt_that_has_no_answer():
    with pytest.raises(DataError, match=r"1 of 2 have none, such as p.jsonl, line 2"):
        MathAnswer().check([rollout(answer="4"), rollout(origin="p.jsonl, line 2")])


def test_a_format_must_match_the_whole_answer():
    good = "<think>two\nlines</think>\n<answer>4</answer>"
    form = Form()
    assert form.score([rollout(good), rollout(f"{good} and more"), rollout("<think>4</think>")]) == [1.0, 0.0, 0.0]
    twice = "<think>a</think><think>b</think><answer>4</answer>"
    assert form.score([rollout(twice)]) == [0.0]


@given(st.integers(1, 500), st.integers(0, 2000))
def test_the_reward_for_length_is_highest_at_the_target(target, tokens):
    found, top = Length(target).score([rollout(num_tokens=tokens), rollout(num_tokens=target)])
    assert top == 1.0
    assert 0.0 <= found <= 1.0
    assert (found == 1.0) == (tokens == target)


def test_a_function_in_a_file_gets_what_it_names(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def kind(prompt, completion, answer):\n    return (answer in completion) + len(prompt) / 100\n")
    reward = reward_named(f"{file}:kind")
    assert reward.name == "kind"
    assert reward.score([rollout("it is 4", answer="4"), rollout("no", answer="4")]) == [1.09, 0.09]


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("def f(reply):\n    return 1\n", UnknownNameError, "reply"),
        ("def ff(prompt):\n    return 1\n", UnknownNameError, "did you mean 'ff'"),
        ("def f(prompt):\n    return 'good'\n", UsageError, "no finite number"),
        ("def f(prompt):\n    return float('nan')\n", UsageError, "no finite number"),
        ("def f(prompt):\n    return {}[prompt]\n", UsageError, "raised KeyError"),
        ("def f(prompt:\n", UsageError, "could not be run"),
    ],
)
def test_a_function_that_cannot_work_is_refused_with_its_reason(tmp_path, body, error, said):
    file = tmp_path / "mine.py"
    file.write_text(body)
    with pytest.raises(error, match=said):
        reward_named(f"{file}:f").score([rollout("x")])


@pytest.mark.parametrize(
    ("text", "error"),
    [("maths", UnknownNameError), ("length", ConfigError), ("length=0", ConfigError), ("math=3", ConfigError),
     ("format=[", ConfigError), ("nowhere.py:f", UsageError)],
)  # fmt: skip
def test_what_names_no_reward_is_refused(text, error):
    with pytest.raises(error):
        reward_named(text)
