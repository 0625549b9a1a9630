"""Tokenizers and shards small enough to make for every test."""

from pathlib import Path

import numpy as np
import pytest

from mamba_slm.data.shards import ShardWriter, TokenShards
from mamba_slm.text.train_tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer of bytes only."""
    return train_tokenizer(["x"], vocab_size=260)


@pytest.fixture
def write_shards(tmp_path):
    """Write documents of the given lengths, every token of all of them different, and open the folder."""

    def write(name: str, lengths: list[int], *, first_token: int = 10, **settings) -> TokenShards:
        settings = {"tokenizer_fingerprint": "t", "vocab_size": 1 << 20, **settings}
        with ShardWriter(Path(tmp_path) / name, **settings) as writer:
            for length in lengths:
                writer.append(np.arange(first_token, first_token + length), text_bytes=3 * length)
                first_token += length
        return TokenShards.open(tmp_path / name)

    return write
