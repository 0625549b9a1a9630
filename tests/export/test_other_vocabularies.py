"""Models with a sentencepiece vocabulary: exported where it can be said, refused where it cannot."""

import io

import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.export.gguf.vocabulary import vocabulary_of
from mamba_slm.export.hf.export import export_hf
from mamba_slm.generation.stream import TokenDecoder
from mamba_slm.text.chat import render_chat
from mamba_slm.text.tokenizer import Tokenizer
from small_models import VOCAB_SIZE, save_small_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
MESSAGES = [{"role": "user", "content": "Is </s> a word?"}, {"role": "assistant", "content": "No, 語 is."}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog and the other fox"] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE - 8,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=9,
    )
    file = tmp_path_factory.mktemp("spm") / "tokenizer.model"
    file.write_bytes(model.getvalue())
    return Tokenizer.load(file)


def test_transformers_reads_the_exported_tokenizer_as_we_do(tokenizer, tmp_path):
    model = save_small_model(tmp_path / "model")
    tokenizer.save(model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    export_hf(model, tmp_path / "out")  # compares ids, text and a conversation, and keeps nothing that differs
    assert Tokenizer.load(tmp_path / "out").fingerprint == tokenizer.fingerprint


def test_a_gguf_that_could_not_hold_the_tokenizer_is_refused_with_a_way_out(tokenizer):
    with pytest.raises(DataError, match="this one is sentencepiece with byte fallback") as caught:
        vocabulary_of(tokenizer, VOCAB_SIZE)
    assert "export hf" in caught.value.hint


def test_a_conversation_keeps_user_text_from_being_special_and_masks_the_answer(tokenizer):
    chat = render_chat(MESSAGES, tokenizer, template=TEMPLATE)
    assert chat.ids.count(tokenizer.eos_id) == chat.ids.count(tokenizer.bos_id) == 1
    answer = [id for id, is_answer in zip(chat.ids, chat.loss_mask, strict=True) if is_answer]
    assert tokenizer.decode(answer) == "No, 語 is." and answer[-1] == tokenizer.eos_id
    assert "".join(tokenizer.token_bytes(id).decode("latin-1") for id in answer[:2]) == "No"  # no space before it


def test_text_streams_as_it_is_decoded_at_once(tokenizer):
    text = "the fox 語 and\n  the dog 😀"
    decoder = TokenDecoder(tokenizer)
    streamed = "".join(map(decoder.push, tokenizer.encode(text))) + decoder.finish()
    assert streamed == tokenizer.alphabet.prefix.decode() + text
