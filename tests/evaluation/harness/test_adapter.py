"""Promises of the interface to lm-evaluation-harness."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.evaluation.harness.adapter import HarnessModel
from mamba_slm.evaluation.harness.answers import AnswerStore
from mamba_slm.evaluation.harness.generating import GenerationSettings, Generator
from mamba_slm.evaluation.harness.scoring import Scorer
from mamba_slm.generation.runtime import TorchRuntime
from small_models import small_tokenizer, varied_model

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@dataclass
class Question:
    args: tuple
    task_name: str | None = "some"
    doc_id: int | None = 0


@pytest.fixture
def harness_model(tmp_path):
    def make(context: int = 64, **more) -> HarnessModel:
        model, tokenizer = varied_model(max_context_tokens=context), small_tokenizer()
        store = AnswerStore(tmp_path / "answers.jsonl", about={}, resume=False)
        return HarnessModel(Scorer(model), Generator(TorchRuntime(model), tokenizer), tokenizer, store, **more)

    return make


def test_spaces_at_the_end_of_a_context_go_to_the_continuation(harness_model):
    model = harness_model()
    request = model.request("def f(a): ", "return a")
    assert request.context[0] == small_tokenizer().bos_id  # which the tokenizer adds by itself
    assert small_tokenizer().decode(request.context) == "def f(a):"
    assert small_tokenizer().decode(request.continuation) == " return a"
    assert request == model.request("def f(a):", " return a")


def test_an_empty_context_is_the_token_that_begins_a_document(harness_model):
    model = harness_model(add_bos=True)
    request = model.request("", "return")
    assert request.context == (small_tokenizer().bos_id,)
    assert small_tokenizer().decode(request.continuation) == "return"
    assert model.encode("def").count(small_tokenizer().bos_id) == 1


def test_a_text_is_scored_whole_and_its_windows_do_not_overlap(harness_model):
    text = "def window(text):\n    return text"
    model = harness_model()
    ids = model.encode(text)
    inputs = torch.tensor([[small_tokenizer().bos_id, *ids]])
    with torch.no_grad():
        logprobs = model.scorer.model(inputs[:, :-1])[0].log_softmax(-1)
    (found,) = model.loglikelihood_rolling([Question((text,))])
    assert found == pytest.approx(float(logprobs.gather(1, inputs[0, 1:, None]).sum()), rel=1e-5)
    read = model.scorer.tokens.plain
    assert model.loglikelihood_rolling([Question((text,))]) == [found]
    assert model.scorer.tokens.plain == read == len(ids)


def test_prompts_that_begin_alike_are_continued_as_each_alone(harness_model):
    model = harness_model(context=96)
    tokenizer = small_tokenizer()
    shared = "def functools_partial(function, *arguments):\n    return "
    prompts = [tokenizer.encode(shared + end) for end in ("function", "arguments[0]", "None", "self.")]
    settings = GenerationSettings(max_new_tokens=12, stops=("\n\n",))
    together = model.generator.generate(prompts, settings)
    assert together == [model.generator.generate([prompt], settings)[0] for prompt in prompts]
    assert all("\n\n" not in text for text in together)


def test_a_setting_of_generation_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="num_beams"):
        GenerationSettings.from_harness({"until": ["\n"], "num_beams": 4})
    greedy = GenerationSettings.from_harness({"until": "\n", "do_sample": False, "temperature": 0.7, "max_gen_toks": 9})
    assert (greedy.temperature, greedy.max_new_tokens, greedy.stops) == (0.0, 9, ("\n",))


def test_a_chat_template_makes_the_prompt_and_its_special_tokens_are_read(harness_model):
    model = harness_model(chat_template=TEMPLATE)
    text = model.apply_chat_template([{"role": "user", "content": "hello"}])
    begin = [small_tokenizer().bos_id, small_tokenizer().special_id("<|im_start|>")]
    assert model.encode(text)[:2] == begin
    assert model.encode(text, add_special_tokens=False)[:1] == begin[1:]
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "The answer is"}]
    assert model.apply_chat_template(history, add_generation_prompt=False).endswith("The answer is")
