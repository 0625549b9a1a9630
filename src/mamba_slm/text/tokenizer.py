"""One tokenizer interface over the `tokenizers` library, for vocabularies from which any text comes back.

Our own tokenizers hold four special tokens first (`SPECIAL_TOKENS`); `<|endoftext|>` is both the begin and the end of a
document. Tokenizers of other projects load too, in the forms of `vocabularies.opening`: byte-level BPE (GPT-2,
GPT-NeoX, Llama 3, Qwen, SmolLM, tiktoken's encodings) and sentencepiece with byte fallback (Llama 2, Mistral). Their
special tokens are found by name. Whatever the form, `save` writes a tokenizer.json.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from mamba_slm.core.errors import DataError
from mamba_slm.core.files import write_bytes_atomic
from mamba_slm.text.alphabet import Alphabet, alphabet_of, parts_of, what_gets_lost, without_prefix
from mamba_slm.text.vocabularies.opening import FILE_NAME, find_vocabulary, read_vocabulary

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
PAD = "<|pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END, PAD)
"""The special tokens of a tokenizer trained here, in the order of their ids from 0."""

BOS_NAMES = ("<|begin_of_text|>", "<s>", "<bos>", END_OF_TEXT)
EOS_NAMES = ("<|end_of_text|>", "</s>", "<eos>", END_OF_TEXT)
PAD_NAMES = (PAD, "<pad>", "<|padding|>", "<|finetune_right_pad_id|>")


class UnknownAlphabetError(DataError):
    """The vocabulary's entries do not stand for bytes in a way that is known, so that text would get lost."""


class Tokenizer:
    """Text to token ids and back, without ever reading a special token out of user text.

    Wraps a `tokenizers.Tokenizer`, which it takes over: padding, truncation and special-token parsing are switched off.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # "<|im_end|>" typed by a user is nine ordinary characters, not a token
        self.backend = backend
        parts = parts_of(backend)
        alphabet = alphabet_of(backend, parts)
        if alphabet is None:
            raise UnknownAlphabetError("text would not survive this tokenizer: it is neither byte-level nor falls back")
        self.alphabet: Alphabet = alphabet
        """What kind of tokenizer it is, and what its entries stand for."""
        self.losses: tuple[str, ...] = what_gets_lost(parts)
        """What of a text does not come back, in sentences; mostly nothing."""
        added = backend.get_added_tokens_decoder()
        self.special_ids: frozenset[int] = frozenset(id for id, token in added.items() if token.special)
        """Ids of all special tokens."""
        self.vocab_size: int = 1 + max(backend.get_vocab(with_added_tokens=True).values())
        """Number of rows that an embedding needs: the largest id + 1."""

        eos = self.first_id_of(EOS_NAMES)
        bos = self.first_id_of(BOS_NAMES)
        if eos is None and bos is None:
            raise DataError(
                "the tokenizer has no token that marks the end of a document",
                hint=f"it needs one of {', '.join(EOS_NAMES)}; train one with: mamba-slm data train-tokenizer",
            )
        self.eos_id: int = eos if eos is not None else bos  # type: ignore[assignment]
        """Ends every document."""
        self.bos_id: int = bos if bos is not None else eos  # type: ignore[assignment]
        """Begins every document; the same token as `eos_id` in tokenizers trained here."""
        pad = self.first_id_of(PAD_NAMES)
        self.pad_id: int = self.eos_id if pad is None else pad
        """Fills batches of unequal lengths; `eos_id` where the tokenizer has no token for it."""

    def first_id_of(self, names: Sequence[str]) -> int | None:
        """Id of the first special token among `names` that the vocabulary has, else None."""
        ids = (self.backend.token_to_id(name) for name in names)
        return next((id for id in ids if id is not None and id in self.special_ids), None)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a vocabulary: a file of any form in `vocabularies.opening`, or the one inside a folder.

        Raises:
            DataError: no such file, not a tokenizer, or of a kind from which text would not come back.
        """
        file = find_vocabulary(path)
        try:
            return cls(read_vocabulary(file))
        except UnknownAlphabetError as error:
            raise DataError(
                f"{file} is not a byte-level BPE tokenizer, nor sentencepiece with byte fallback",
                hint="one of them is needed so that any text survives encoding; GPT-2's and Llama's are such",
            ) from error

    def save(self, folder: Path | str) -> Path:
        """Write `folder`/tokenizer.json atomically and return its path."""
        file = Path(folder) / FILE_NAME
        write_bytes_atomic(file, self.backend.to_str(pretty=True).encode())
        return file

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of `text` without begin or end tokens; special tokens inside the text become plain characters.

        Args:
            text: any.
            continues: the text goes on where other text ended, without a special token in between: no space is put
                before it, as sentencepiece does at a beginning. Means nothing for byte-level tokenizers.
        """
        backend = self.without_prefix if continues and self.alphabet.prefix else self.backend
        return backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of the ids; bytes that do not form a character become U+FFFD. Ids without a token are left out."""
        return self.backend.decode([int(id) for id in ids], skip_special_tokens=skip_special)

    def special_id(self, name: str) -> int:
        """Id of the special token called `name`.

        Raises:
            DataError: the tokenizer has no such special token.
        """
        id = self.first_id_of([name])
        if id is None:
            raise DataError(
                f"the tokenizer has no special token {name}",
                hint="use a tokenizer from: mamba-slm data train-tokenizer",
            )
        return id

    def token_text(self, id: int) -> str | None:
        """The vocabulary entry as stored (byte-level letters such as `Ġthe`), or None where no token has this id."""
        return self.backend.id_to_token(id)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that this token stands for; a special token stands for its own name, an unused id for nothing."""
        text = self.token_text(id)
        if text is None:
            return b""
        if id in self.backend.get_added_tokens_decoder():
            return text.encode()
        return self.alphabet.bytes_of(text)

    def token_byte_lengths(self) -> list[int]:
        """Bytes of text behind each id, 0 for special tokens: what bits per byte needs, `vocab_size` numbers."""
        entries = {id: text for text, id in self.backend.get_vocab(with_added_tokens=True).items()}
        added = self.backend.get_added_tokens_decoder()
        lengths = [0] * self.vocab_size
        for id, text in entries.items():
            if id not in added:
                lengths[id] = len(self.alphabet.bytes_of(text))
            elif id not in self.special_ids:
                lengths[id] = len(text.encode())
        return lengths

    @functools.cached_property
    def without_prefix(self) -> tokenizers.Tokenizer:
        """The tokenizer that puts nothing before a text."""
        backend = tokenizers.Tokenizer.from_str(json.dumps(without_prefix(json.loads(self.backend.to_str()))))
        backend.encode_special_tokens = True
        return backend

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal for equal tokenizers, whatever the layout of their files."""
        canonical = json.dumps(json.loads(self.backend.to_str()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint={self.fingerprint[:12]})"
