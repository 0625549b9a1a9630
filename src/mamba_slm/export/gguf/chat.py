"""What a GGUF and an Ollama Modelfile say about conversations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mamba_slm.core.errors import DataError
from mamba_slm.text.chat import CHATML_TEMPLATE, Message, render_chat_text
from mamba_slm.text.tokenizer import IM_END, Tokenizer

GENERATION_TAG = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
SYSTEM: Message = {"role": "system", "content": "Be brief."}
QUESTION: Message = {"role": "user", "content": "How deep is it?"}
ANSWER: Message = {"role": "assistant", "content": "Nobody knows."}
CONVERSATIONS: tuple[tuple[Sequence[Message], bool], ...] = (
    ([QUESTION], True),
    ([QUESTION, ANSWER], False),
    ([SYSTEM, QUESTION, ANSWER, QUESTION], True),
)
"""Messages, and whether the answer is opened: what two templates must render alike to count as the same."""
OLLAMA_CHATML = '''\
TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
'''
OLLAMA_PLAIN = 'TEMPLATE """{{ .Prompt }}"""\n'


def without_generation_tags(template: str) -> str:
    """The template without `{% generation %}`, which only training reads and llama.cpp does not know.

    The tags become an `if` that is always true, so that the white space around them is treated as before.
    """

    def plain(tag: re.Match[str]) -> str:
        return f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}"

    return GENERATION_TAG.sub(plain, template)


def rendered(template: str, tokenizer: Tokenizer) -> list[str | None]:
    """`CONVERSATIONS` through a template; None for one that it refuses."""
    names = {
        key: tokenizer.token_text(id) or ""
        for key, id in (("bos_token", tokenizer.bos_id), ("eos_token", tokenizer.eos_id))
    }
    texts: list[str | None] = []
    for messages, open_answer in CONVERSATIONS:
        try:
            texts.append(render_chat_text(messages, add_generation_prompt=open_answer, template=template, **names))
        except DataError:
            texts.append(None)
    return texts


def begins_with_bos(template: str | None, tokenizer: Tokenizer) -> bool:
    """Whether a prompt begins with the token that begins a document: always, unless a chat template leaves it out."""
    if template is None:
        return True
    bos = tokenizer.token_text(tokenizer.bos_id) or ""
    return any(text is not None and text.startswith(bos) for text in rendered(template, tokenizer))


def is_chatml(template: str, tokenizer: Tokenizer) -> bool:
    """Whether the template says the same as ours."""
    return rendered(template, tokenizer) == rendered(CHATML_TEMPLATE, tokenizer)


def modelfile(file_name: str, tokenizer: Tokenizer, template: str | None, *, max_tokens: int) -> str:
    """The text of a Modelfile for `ollama create`.

    ChatML is written out. Of another template Ollama knows the usual ones by the GGUF's own copy.
    """
    lines = [f"FROM ./{file_name}\n"]
    if template is None:
        lines.append(OLLAMA_PLAIN)
    elif is_chatml(template, tokenizer):
        lines.append(OLLAMA_CHATML)
    else:
        lines.append("# the chat template is not ChatML: Ollama takes the one inside the GGUF, if it knows it\n")
    lines.append(f"PARAMETER num_ctx {max_tokens}\n")
    ends = (tokenizer.first_id_of([IM_END]) if template is not None else None, tokenizer.eos_id)
    lines += [f'PARAMETER stop "{tokenizer.token_text(id)}"\n' for id in ends if id is not None]
    return "".join(lines)
