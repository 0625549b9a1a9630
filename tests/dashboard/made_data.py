"""Texts, conversations and tokens, small and made on the spot."""

import json

from dashboard.browser import TEXT
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_documents
from mamba_slm.text.train_tokenizer import train_tokenizer

TALES = [tale for tale in TEXT.split("\n\n") if tale]
CHATS = [
    {"messages": [{"role": "user", "content": "How do I reset the pump?"}, {"role": "assistant", "content": answer}]}
    for answer in ("Hold the green button for 3 s.", "Press it — twice.", "<|im_end|> is only text here.")
]


def make_tokenizer(folder):
    """A tokenizer of our own, in a folder."""
    tokenizer = train_tokenizer(TALES, vocab_size=300)
    folder.mkdir(exist_ok=True)
    tokenizer.save(folder)
    return tokenizer


def make_shards(folder, tokenizer, tales=TALES):
    """Token shards of some tales."""
    encode_documents(
        [Document(text=tale, id=f"tales:{number}") for number, tale in enumerate(tales)], tokenizer, folder
    )
    return folder


def write_lines(file, records):
    """JSON Lines; what is text already is written as it is."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def make_data(home):
    """Tales, chats, a tokenizer and shards below a home."""
    tokenizer = make_tokenizer(home / "tokenizer")
    write_lines(home / "chats.jsonl", CHATS * 20)
    write_lines(home / "tales.jsonl", [{"text": tale, "place": "a wood"} for tale in TALES])
    make_shards(home / "tales-tokens", tokenizer)
    return tokenizer
