"""Answers begin where generation begins, and what cannot be learned from is counted and never silent."""

from dataclasses import dataclass

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.data.conversations.example import Labelled, Preference
from mamba_slm.finetuning.alignment.collate import LabelledCollator, PairCollator, labelled_rows, pair_row
from mamba_slm.finetuning.alignment.encoded import (
    EncodedAnswer,
    EncodedLabelled,
    encode_answer,
    encode_labelled,
    encode_pairs,
)
from mamba_slm.text.chat import render_chat
from small_models import small_tokenizer

UNMARKED = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def message(role, content):
    return {"role": role, "content": content}


def asked(text="What is a lake?"):
    return (message("user", text),)


def answered(text):
    return (message("assistant", text),)


def preference(chosen="Water.", rejected="Fire.", origin="p.jsonl, line 1", **settings):
    return Preference(asked(**settings), answered(chosen), answered(rejected), origin)


def test_an_answer_begins_where_the_model_will_begin_to_answer():
    tokenizer = small_tokenizer()
    found = encode_answer(asked(), answered("Water."), tokenizer)
    prompt = render_chat(asked(), tokenizer, add_generation_prompt=True).ids
    assert list(found.prompt) == prompt
    assert tokenizer.decode(found.completion, skip_special=False) == "Water.<|im_end|>"
    assert all(found.trained)


def test_of_a_dialogue_only_the_answers_are_trained():
    completion = (*answered("Water."), message("user", "And a sea?"), *answered("More."))
    found = encode_answer(asked(), completion, small_tokenizer())
    trained = [token for token, is_trained in zip(found.completion, found.trained, strict=True) if is_trained]
    assert small_tokenizer().decode(trained, skip_special=False) == "Water.<|im_end|>More.<|im_end|>"


def test_a_template_without_marks_trains_the_whole_last_answer_and_nothing_else():
    found = encode_answer(asked(), answered("Water."), small_tokenizer(), template=UNMARKED)
    assert small_tokenizer().decode(found.completion) == " Water.\n"
    assert all(found.trained)
    several = (*answered("Water."), message("user", "And?"), *answered("More."))
    with pytest.raises(DataError, match="template that marks"):
        encode_answer(asked(), several, small_tokenizer(), template=UNMARKED)


def test_what_teaches_nothing_is_counted_with_its_place():
    found = encode_pairs(
        [preference(), preference(rejected="Water.", origin="line 2"), preference(chosen=" ", origin="line 3")],
        small_tokenizer(), context_tokens=100,
    )  # fmt: skip
    assert len(found.items) == 1
    assert found.unusable == (("line 2", "both answers are the same"), ("line 3", "the answer is empty"))
    assert str(found) == "1 usable, 2 unusable, such as line 2: both answers are the same"


def test_longer_ones_are_dropped_cut_or_refused_as_asked():
    long = preference(chosen="Water. " * 30)
    tokenizer, asked_tokens = small_tokenizer(), len(encode_answer(asked(), answered("x"), small_tokenizer()).prompt)
    settings = {"context_tokens": asked_tokens + 20}
    assert encode_pairs([long, preference()], tokenizer, **settings).dropped == 1
    cut = encode_pairs([long], tokenizer, too_long="cut", **settings)
    assert (cut.cut, len(cut.items[0].chosen.tokens)) == (1, asked_tokens + 20)
    with pytest.raises(DataError, match="line 1 has"):
        encode_pairs([long], tokenizer, too_long="refuse", **settings)
    no_room = encode_pairs([long], tokenizer, too_long="cut", context_tokens=asked_tokens)
    assert (no_room.dropped, no_room.items) == (1, ())


def test_a_pair_becomes_two_rows_of_one_batch_padded_on_the_right():
    pair = encode_pairs([preference(chosen="Water, and a lot of it.")], small_tokenizer(), context_tokens=100).items[0]
    batch = PairCollator(pad_id=1)([pair_row(pair)])
    assert batch["input_ids"].shape[0] == 2
    for row, answer in enumerate((pair.chosen, pair.rejected)):
        count = len(answer.tokens)
        assert batch["input_ids"][row, :count].tolist() == list(answer.tokens)
        assert batch["attention_mask"][row].tolist() == [1] * count + [0] * (batch["input_ids"].shape[1] - count)
        assert batch["completion_mask"][row].sum() == len(answer.completion)


@dataclass
class Numbered:
    """Answers that one can tell apart."""

    count: int

    def items(self):
        return [
            EncodedLabelled(
                answer=EncodedAnswer(prompt=(10 + n,), completion=(100 + n,), trained=(True,)), is_good=True, origin=""
            )
            for n in range(self.count)
        ]


@pytest.mark.parametrize("count", [2, 4, 5, 6, 7])
def test_the_mismatched_answers_of_a_batch_are_its_own_and_none_is_its_match(count):
    rows = labelled_rows(Numbered(count).items(), rows_at_once=3, context_tokens=2)
    for begin in range(0, count, 3):
        batch = rows[begin : begin + 3]
        own = sorted(row["tokens"][1] for row in batch)
        others = sorted(row["other_tokens"][1] for row in batch)
        assert own == others or len(batch) == 1
    assert all(row["tokens"][1] != row["other_tokens"][1] for row in rows)
    assert all(row["tokens"][0] == row["other_tokens"][0] for row in rows)
    found = LabelledCollator(pad_id=1)(rows[:2])
    assert found["KL_input_ids"].shape == (2, 2)


def test_labelled_answers_keep_their_label():
    examples = [Labelled(asked(), answered("Water."), True, "line 1"), Labelled(asked(), answered("Fire."), False, "")]
    found = encode_labelled(examples, small_tokenizer(), context_tokens=100)
    assert [each.is_good for each in found.items] == [True, False]
