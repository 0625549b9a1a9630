"""The template of a tuned model, and the tokens that it needs."""

import pytest

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.finetuning.template import choose_template
from mamba_slm.text.chat import CHATML_TEMPLATE, render_chat
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.text.vocabularies.opening import FILE_NAME
from small_models import small_tokenizer

EXCHANGE = [{"role": "user", "content": "<|end|>"}, {"role": "assistant", "content": "Hello!"}]
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def test_a_model_is_tuned_with_its_own_template(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(PHI.replace("<|end|>", "<|im_end|>"), encoding="utf-8")
    chosen = choose_template(tmp_path, small_tokenizer())
    assert chosen.text == PHI.replace("<|end|>", "<|im_end|>")
    assert f"the model's own, from {tmp_path}" in str(chosen)


def test_a_model_without_a_template_gets_chatml(tmp_path):
    chosen = choose_template(tmp_path, small_tokenizer())
    assert (chosen.text, chosen.added_tokens) == (CHATML_TEMPLATE, ())
    assert chosen.tokenizer is small_tokenizer()
    assert str(chosen) == "chat template: ChatML, for the model has none"
    (tmp_path / "chat_template.jinja").write_text(PHI, encoding="utf-8")
    assert choose_template(tmp_path, small_tokenizer(), "chatml").text == CHATML_TEMPLATE


def test_a_template_from_a_file_brings_its_tokens_along(tmp_path):
    file = tmp_path / "phi.jinja"
    file.write_text(PHI, encoding="utf-8")
    own = small_tokenizer()
    chosen = choose_template(tmp_path, own, str(file))
    assert chosen.added_tokens == ("<|user|>", "<|end|>", "<|assistant|>")
    assert chosen.tokenizer.vocab_size == own.vocab_size + 3
    assert own.first_id_of(["<|end|>"]) is None, "a copy"
    chosen.save(tmp_path)
    saved = Tokenizer.load(tmp_path)
    assert saved.fingerprint == chosen.tokenizer.fingerprint
    assert (tmp_path / FILE_NAME).is_file()
    again = choose_template(tmp_path, saved)
    assert (again.text, again.added_tokens) == (PHI, ())
    rendered = render_chat(EXCHANGE, saved, template=PHI, find_answers=True)
    assert rendered.ids.count(saved.special_id("<|end|>")) == 2, "what a user types stays plain"
    assert saved.decode(saved.encode("Hello <|end|>")) == "Hello <|end|>"


@pytest.mark.parametrize(
    ("name", "content", "error", "what"),
    [
        ("chatlm", None, ConfigError, "there is no chat template 'chatlm'"),
        ("a.jinja", b"{% for %}", DataError, "the chat template has a mistake in line 1"),
        ("a.jinja", b"\xff", DataError, "cannot be read"),
        ("a.jinja", b"x" * 200_000, DataError, "has 200000 characters"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path, name, content, error, what):
    if content is not None:
        (tmp_path / name).write_bytes(content)
        name = str(tmp_path / name)
    with pytest.raises(error, match=what):
        choose_template(tmp_path, small_tokenizer(), name)


PUBLISHED = {
    "Llama 3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        ["Hello!<|eot_id|>", "Bye.<|eot_id|>"],
    ),
    "Mistral": (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% endif %}{% endfor %}",
        ["Hello!<|endoftext|>", " Bye.<|endoftext|>"],
    ),
    "Zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
        "eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + "
        "eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
        "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        ["Hello!<|endoftext|>", " Bye.<|endoftext|>"],
    ),
    "Qwen 2.5": (
        "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{%- endif %}"
        "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content"
        " + '<|im_end|>' + '\n' "
        "}}"
        "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
        ["Hello!<|im_end|>", " Bye.<|im_end|>"],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_answers_are_found_in_published_templates(tmp_path, name):
    template, answers = PUBLISHED[name]
    file = tmp_path / "t.jinja"
    file.write_text(template, encoding="utf-8")
    chosen = choose_template(tmp_path, small_tokenizer(), str(file))
    talk = [*EXCHANGE, {"role": "user", "content": "Go"}, {"role": "assistant", "content": " Bye."}]
    found = render_chat(talk, chosen.tokenizer, template=chosen.text, find_answers=True)
    runs = "".join(
        chosen.tokenizer.decode([token], skip_special=False) if learned else "\n"
        for token, learned in zip(found.ids, found.loss_mask, strict=True)
    )
    assert [run.strip("\n") for run in runs.split("\n") if run.strip("\n")] == answers
