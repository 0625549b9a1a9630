"""A tokenizer that is trained once for the tests of this folder."""

import pytest

from mamba_slm.text.train_tokenizer import train_tokenizer

PROSE = "The quick brown fox doesn't jump over 12345 lazy dogs.\n\ndef fox(jump):\n        return jump + 1\n" * 20


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([PROSE], vocab_size=300)
