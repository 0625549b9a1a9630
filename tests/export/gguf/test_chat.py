"""Promises about conversations: the template in a GGUF renders as ours, and the Modelfile says the same."""

import pytest

from mamba_slm.export.gguf.chat import (
    CONVERSATIONS,
    begins_with_bos,
    is_chatml,
    modelfile,
    rendered,
    without_generation_tags,
)
from mamba_slm.text.chat import CHATML_TEMPLATE
from small_models import small_tokenizer

TOKENIZER = small_tokenizer()
LLAMA_LIKE = "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
ONE_LINE_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize(
    "template",
    [
        CHATML_TEMPLATE,
        "a {%- generation -%}  {{ messages[0].content }} {%- endgeneration %}\nb",
        "{% for m in messages %}\n  {% generation %}\n{{ m.content }}\n  {% endgeneration %}\n{% endfor %}",
        LLAMA_LIKE,
    ],
)
def test_without_its_generation_tags_a_template_renders_the_same(template):
    plain = without_generation_tags(template)
    assert "generation %}" not in plain.replace("add_generation_prompt %}", "")
    assert rendered(plain, TOKENIZER) == rendered(template, TOKENIZER)
    assert all(rendered(template, TOKENIZER))


def test_only_a_template_that_leaves_it_out_takes_the_first_token_of_a_prompt_away():
    assert begins_with_bos(None, TOKENIZER)
    assert begins_with_bos(LLAMA_LIKE, TOKENIZER)
    assert not begins_with_bos(CHATML_TEMPLATE, TOKENIZER)


def test_chatml_is_known_by_what_it_renders():
    assert is_chatml(CHATML_TEMPLATE, TOKENIZER)
    assert is_chatml(ONE_LINE_CHATML, TOKENIZER)
    assert not is_chatml(LLAMA_LIKE, TOKENIZER)
    assert not is_chatml("{{ raise_exception('no') }}", TOKENIZER)
    assert len(rendered(CHATML_TEMPLATE, TOKENIZER)) == len(CONVERSATIONS)


def test_the_modelfile_says_where_the_file_is_how_to_talk_and_when_to_stop():
    text = modelfile("x.gguf", TOKENIZER, CHATML_TEMPLATE, max_tokens=512)
    assert text == (
        "FROM ./x.gguf\n"
        'TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}\n'
        "{{ .Content }}<|im_end|>\n"
        "{{ end }}<|im_start|>assistant\n"
        '"""\n'
        "PARAMETER num_ctx 512\n"
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
    )


def test_the_modelfile_of_a_model_that_only_continues_text_sends_the_prompt_alone():
    text = modelfile("x.gguf", TOKENIZER, None, max_tokens=48)
    assert 'TEMPLATE """{{ .Prompt }}"""\n' in text
    assert "im_end" not in text
    other = modelfile("x.gguf", TOKENIZER, LLAMA_LIKE, max_tokens=48)
    assert "TEMPLATE" not in other
    assert "# the chat template is not ChatML" in other
