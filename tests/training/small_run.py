"""A model of 20k parameters, settings that train it in a second, and documents whose next token is predictable."""

import numpy as np

from mamba_slm.data.shards import ShardWriter, TokenShards
from mamba_slm.model.config import ModelConfig
from mamba_slm.training.config import TrainConfig

TINY = ModelConfig(
    pattern="M-*-",
    vocab_size=64,
    hidden_size=32,
    num_heads=2,
    num_kv_heads=1,
    feed_forward_size=48,
    state_size=16,
    ssm_head_dim=16,
    chunk_size=16,
    max_context_tokens=128,
)
SETTINGS = TrainConfig(
    context_tokens=32,
    batch_tokens=128,
    max_steps=12,
    learning_rate=1e-2,
    precision="fp32",
    device="cpu",
    save_every_steps=4,
    validate_every_steps=4,
    sample_every_steps=4,
    keep_last=2,
    log_every_steps=4,
)


def write_documents(folder, *, count, seed):
    """Documents that count upwards in threes from a random start: easy to learn, and no two alike."""
    random = np.random.default_rng(seed)
    with ShardWriter(folder, tokenizer_fingerprint="test", vocab_size=TINY.vocab_size) as writer:
        for _ in range(count):
            length, start = random.integers(5, 60), random.integers(0, 60)
            writer.append([0, *(4 + (start + 3 * np.arange(length)) % 60), 0], text_bytes=int(length))
    return TokenShards.open(folder)
