"""Whatever a record holds under the fields that mean something, it is read or named, and never an accident."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_slm.data.conversations.example import Unusable
from mamba_slm.data.conversations.forms import ANSWERS, INPUTS, INSTRUCTION, LISTS, PROMPTS, SYSTEMS
from mamba_slm.data.conversations.preferences import CHOSEN, KTO, LABEL, PREFERENCES, REJECTED
from mamba_slm.data.conversations.prompts import PROMPT
from mamba_slm.data.conversations.read import CONVERSATION_FORMS, LABELLED_FORMS

WORDS = st.sampled_from(
    ["", "hi", "user", "assistant", "gpt", "function_call", "\n\nHuman: a\n\nAssistant: b", "\ud83d"]
)
FIELDS = st.sampled_from(
    [
        *(
            *LISTS,
            *PROMPTS,
            *ANSWERS,
            *INPUTS,
            *SYSTEMS,
            INSTRUCTION,
            CHOSEN,
            REJECTED,
            LABEL,
            "history",
            "tools",
            "data",
        ),
        *("text", "replies", "rank", "role", "from", "content", "value", "tool_calls", "function", "arguments", "type"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(FIELDS, VALUES, min_size=1, max_size=5)
FORMS = [*CONVERSATION_FORMS.values(), *PREFERENCES.values(), *LABELLED_FORMS.values(), KTO, PROMPT]


@settings(max_examples=300, derandomize=True)
@given(RECORDS)
def test_a_record_is_read_or_unusable(record):
    for form in FORMS:
        sign = form.told_by(record)
        assert sign is None or isinstance(sign, str)
        try:
            examples = form.read(record, "here")
        except Unusable as problem:
            assert problem.kind and problem.what
        else:
            assert all(example.origin == "here" for example in examples)
