"""The text of tools and of calls.

A chat template that knows tools writes them itself, and its model calls them as it was taught. Templates that do not
know them get the tools in the system message, in the words that Hermes and Qwen models learn from, and calls are

    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo"}}
    </tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TAG, END_TAG = "<tool_call>", "</tool_call>"
SYSTEM = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


@dataclass(frozen=True, kw_only=True)
class CallForm:
    """What a call looks like in the text of an answer."""

    before: str
    """Stands before the JSON of a call; empty: the answer is the JSON of one call."""
    after: str
    key: str
    """Of the arguments, beside "name"."""

    @property
    def head(self) -> str:
        """The tag that begins a call."""
        return self.before.strip()

    @property
    def foot(self) -> str:
        """The tag that ends it."""
        return self.after.strip()

    def call(self, name: str, arguments: str) -> str:
        """A call as text; `arguments` is JSON already."""
        return f'{self.before}{{"name": {json.dumps(name)}, "{self.key}": {arguments}}}{self.after}'


TAGGED = CallForm(before=f"{TAG}\n", after=f"\n{END_TAG}", key="arguments")
BARE = CallForm(before="", after="", key="parameters")
"""Of Llama 3's templates."""


def knows_tools(template: str) -> bool:
    """Whether a template writes tools: whether it reads the variable of this name."""
    return re.search(r"\{[%{][^}]*\btools\b", template) is not None


def form_of(template: str) -> CallForm:
    """How models with this template call functions."""
    return BARE if knows_tools(template) and TAG not in template and '"parameters"' in template else TAGGED


def system_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """What the system message says about tools where the template has no words for them."""
    return SYSTEM.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
